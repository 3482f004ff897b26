//! The server's side of the classic protocol as orchestrator 3.2.6 has it (go/agent/agent_dao.go, go/http/agents_api.go): agents
//! register, are polled, and are driven through a seed by one sequential procedure that is lost when the server ends.

use super::go_client::GoClient;
use super::seed::Seed;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::TcpStream;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// How long the server waits where; the defaults are its own but for `poll`.
#[derive(Clone, Copy)]
pub struct Times {
    /// Between two polls for the end of the copy: 30 s in the server.
    pub poll: Duration,
    /// `SeedWaitSecondsBeforeSend`
    pub before_send: Duration,
    /// How often mysql-du is compared; more than 10 equal values in all fail a seed.
    pub round: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            poll: Duration::from_millis(500),
            before_send: Duration::from_secs(2),
            round: Duration::from_secs(30),
        }
    }
}

/// A row of table `host_agent`.
#[derive(Clone)]
struct Row {
    port: u16,
    token: String,
    registrations: usize,
}

/// What the nine information calls say of an agent; a failed or unreadable one leaves the zero value, as in Go.
#[derive(Debug, Default)]
pub struct AgentPage {
    pub local_hosts: Vec<String>,
    pub hosts: Vec<String>,
    pub volumes: Vec<Value>,
    pub mount: Value,
    pub mysql_running: bool,
    pub mysql_port: i64,
    pub mysql_disk_usage: i64,
    pub free: i64,
    pub error_log: Vec<String>,
    /// What orchestrator logs of failed calls.
    pub errors: Vec<String>,
}

impl AgentPage {
    pub fn is_mounted(&self) -> bool {
        self.mount["IsMounted"] == true
    }

    /// Expected size of the copy.
    pub fn size(&self) -> i64 {
        self.mount["MySQLDiskUsage"].as_i64().unwrap_or_default()
    }

    /// Path of each volume, in order.
    pub fn paths(&self) -> Vec<&str> {
        let paths = self.volumes.iter().map(|v| v["Path"].as_str());
        paths.map(Option::unwrap_or_default).collect()
    }
}

/// One node, with its table of agents.
#[derive(Clone)]
pub struct Orchestrator(Arc<Node>);

struct Node {
    server: Arc<tiny_http::Server>,
    port: u16,
    rows: Mutex<BTreeMap<String, Row>>,
    client: GoClient,
    /// Requests of agents, `GET /api/agent-ping`.
    requests: Mutex<Vec<String>>,
}

impl Orchestrator {
    pub fn start() -> Self {
        let server = Arc::new(tiny_http::Server::http("127.0.0.1:0").expect("the agents port"));
        let node = Arc::new(Node {
            port: server.server_addr().to_ip().expect("address").port(),
            rows: Mutex::default(),
            client: GoClient::default(),
            requests: Mutex::default(),
            server: Arc::clone(&server),
        });
        let weak = Arc::downgrade(&node);
        std::thread::spawn(move || {
            while let Ok(request) = server.recv() {
                let Some(node) = weak.upgrade() else { return };
                let path = request.url().to_string();
                let line = format!("{} {path}", request.method());
                node.requests.lock().expect("requests").push(line);
                let (status, body) = match request.method() {
                    tiny_http::Method::Get => node.answer(&path),
                    _ => not_found(),
                };
                let response = tiny_http::Response::from_string(body).with_status_code(status);
                let _ = request.respond(response); // an agent that has been killed
                if path.starts_with("/api/submit-agent/") {
                    let host = path.split('/').nth(3).unwrap_or_default().to_string();
                    std::thread::spawn(move || Orchestrator(node).page(&host));
                }
            }
        });
        Self(node)
    }

    /// Of the agents' listener.
    pub fn port(&self) -> u16 {
        self.0.port
    }

    /// Lines such as `GET /api/agent-ping`.
    pub fn requests(&self) -> Vec<String> {
        self.0.requests.lock().expect("requests").clone()
    }

    /// How often a host has registered.
    pub fn registrations(&self, host: &str) -> usize {
        self.0.rows().get(host).map_or(0, |r| r.registrations)
    }

    pub fn token(&self, host: &str) -> String {
        self.0.rows()[host].token.clone()
    }

    /// Calls that were sent twice because a used connection closed without an answer.
    pub fn resent(&self) -> Vec<String> {
        self.0.client.resent()
    }

    /// `executeAgentCommand`: the body, whatever the status.
    pub fn call(&self, host: &str, command: &str) -> Result<Vec<u8>, String> {
        let row = self.0.rows().get(host).cloned();
        let row = row.ok_or("sql: no rows in result set")?;
        let joint = if command.contains('?') { '&' } else { '?' };
        let target = format!("/api/{command}{joint}token={}", row.token);
        self.0.client.get(host, row.port, &target)
    }

    /// The same, its result as JSON; anything else is an error.
    pub fn json<T: DeserializeOwned>(&self, host: &str, command: &str) -> Result<T, String> {
        let body = self.call(host, command)?;
        serde_json::from_slice(&body)
            .map_err(|e| format!("{e}: {}", String::from_utf8_lossy(&body)))
    }

    /// True only if that is what the body says.
    pub fn says_true(&self, host: &str, command: &str) -> bool {
        self.json(host, command) == Ok(true)
    }

    /// `GetAgent`: the nine information calls in the server's order.
    pub fn page(&self, host: &str) -> AgentPage {
        let mut page = AgentPage::default();
        let errors = &mut page.errors;
        page.local_hosts = self.read(host, "available-snapshots-local", errors);
        page.hosts = self.read(host, "available-snapshots", errors);
        page.volumes = self.read(host, "lvs-snapshots", errors);
        page.mount = self.read(host, "mount", errors);
        page.mysql_running = self.read(host, "mysql-status", errors);
        page.mysql_port = self.read(host, "mysql-port", errors);
        page.mysql_disk_usage = self.read(host, "mysql-du", errors);
        page.free = self.read(host, "mysql-datadir-available-space", errors);
        page.error_log = self.read(host, "mysql-error-log-tail", errors);
        page
    }

    fn read<T: DeserializeOwned + Default>(
        &self,
        host: &str,
        command: &str,
        errors: &mut Vec<String>,
    ) -> T {
        let got = self.json::<Option<T>>(host, command); // null is the zero value
        got.unwrap_or_else(|e| {
            errors.push(format!("{command}: {e}"));
            None
        })
        .unwrap_or_default()
    }

    /// One attempt to read a MySQL instance: whether it sends a greeting.
    pub fn discover(&self, host: &str, mysql_port: i64) -> bool {
        let port = u16::try_from(mysql_port).unwrap_or_default();
        let Ok(mut stream) = TcpStream::connect((host, port)) else {
            return false;
        };
        let limit = Some(Duration::from_secs(5));
        stream.set_read_timeout(limit).expect("socket");
        matches!(std::io::Read::read(&mut stream, &mut [0; 5]), Ok(5))
    }

    /// `/api/agent-seed/TARGET/SOURCE` with this id: the procedure in a thread of its own.
    pub fn seed(&self, id: i64, target: &str, source: &str) -> Arc<Seed> {
        let seed = Arc::new(Seed::new(self.clone(), id, target, source));
        seed.start();
        seed
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.server.unblock();
    }
}

impl Node {
    fn rows(&self) -> MutexGuard<'_, BTreeMap<String, Row>> {
        self.rows.lock().expect("rows")
    }

    fn answer(&self, path: &str) -> (u16, String) {
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        match segments[..] {
            ["api", "submit-agent", host, port, token] => {
                let mut rows = self.rows();
                let registrations = 1 + rows.get(host).map_or(0, |r| r.registrations);
                let row = Row {
                    port: port.parse().expect("the agent's port"),
                    token: token.into(),
                    registrations,
                };
                rows.insert(host.into(), row);
                (200, format!("{host:?}"))
            }
            ["api", "agent-ping"] => (200, "\"OK\"".into()),
            ["api", "agents-hosts"] => {
                let hosts: Vec<String> = self.rows().keys().cloned().collect();
                (200, serde_json::to_string(&hosts).expect("JSON"))
            }
            _ => not_found(),
        }
    }
}

fn not_found() -> (u16, String) {
    (404, "404 page not found\n".into())
}

//! An agent: the real binary, with a configuration of its own.

use super::server::{AGENT_PASSWORD, Database};
use super::{Scratch, binary, free_port, path_with, wait_for};
use orchestrator_agent::tls::{self, Files};
use serde_json::Value;
use std::fmt::Write as _;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub struct Agent {
    child: Option<Child>,
    pub address: String,
    pub port: u16,
    pub hostname: String,
    pub dir: PathBuf,
    path: String,
    program: PathBuf,
    environment: Vec<(&'static str, String)>,
    scheme: &'static str,
    http: ureq::Agent,
    _scratch: Scratch,
}

/// What to change in the usual configuration: `(section, "key = value")`; and directories to put before PATH.
#[derive(Default, Clone)]
pub struct Changes {
    pub lines: Vec<(&'static str, String)>,
    pub path_first: Option<PathBuf>,
    /// agents-port of the orchestrator; a closed port if zero.
    pub agents_port: u16,
    /// Another build of the program.
    pub program: Option<PathBuf>,
    /// More environment variables.
    pub environment: Vec<(&'static str, String)>,
}

/// Over HTTPS it believes anybody: the tests of certificates are elsewhere.
fn client(secure: bool, kept: usize) -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(20)))
        .http_status_as_error(false)
        .max_idle_connections(kept);
    let files = Files {
        skip_verify: true,
        ..Files::default()
    };
    let tls = secure.then(|| tls::outgoing(&files).expect("TLS"));
    tls::http_client(config.build(), tls)
}

impl Agent {
    /// The usual agent beside `db`, ready to answer.
    pub fn start(db: &impl Database) -> Self {
        Self::start_with(db, &Changes::default())
    }

    pub fn start_with(db: &impl Database, changes: &Changes) -> Self {
        let scratch = Scratch::new("agent");
        let dir = scratch.0.clone();
        let port = free_port(db.host());
        let hostname = format!("host-{port}.test");
        std::fs::create_dir_all(dir.join("backup")).expect("backup-dir");
        std::fs::write(
            dir.join("agent.conf"),
            configuration(&dir, port, &hostname, db, changes),
        )
        .expect("configuration");
        let mut path = path_with(&db.tool_dir());
        if let Some(first) = &changes.path_first {
            path = format!("{}:{path}", first.display());
        }
        let secure = changes.lines.iter().any(|l| l.1 == "use-ssl = true");
        let mut agent = Self {
            scheme: if secure { "https" } else { "http" },
            child: None,
            address: db.host().into(),
            port,
            hostname,
            dir,
            path,
            environment: changes.environment.clone(),
            program: changes.program.clone().unwrap_or_else(|| binary().into()),
            http: client(secure, 3),
            _scratch: scratch,
        };
        agent.launch();
        agent.wait_ready();
        agent
    }

    /// Starts the process; [`Agent::wait_ready`] is the caller's.
    pub fn launch(&mut self) {
        let out = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.join("stdout"))
            .expect("stdout file");
        let child = Command::new(&self.program)
            .arg("--config")
            .arg(self.dir.join("agent.conf"))
            .envs(self.environment.iter().map(|(n, v)| (n, v)))
            .env("PATH", &self.path)
            .stdin(Stdio::null())
            .stdout(out.try_clone().expect("stdout file"))
            .stderr(out)
            .spawn()
            .expect("the agent starts");
        self.child = Some(child);
    }

    pub fn wait_ready(&self) {
        self.wait_ready_for(Duration::from_secs(20));
    }

    /// The same, of an agent that may have to stop a server first.
    pub fn wait_ready_for(&self, limit: Duration) {
        wait_for("the agent answers", limit, || {
            self.http
                .get(self.url("/api/get-agent-info"))
                .call()
                .ok()
                .map(drop)
        });
    }

    /// Until each look has been had once: what is not known soon is answered as the last known.
    pub fn wait_looked(&self, running: bool) {
        wait_for("the first looks", Duration::from_secs(30), || {
            let data = self.json("/api/get-agent-data");
            let methods = |key| data[key].as_object().is_some_and(|m| !m.is_empty());
            (data["MySQLRunning"] == running
                && data["MySQLDatadirDiskUsed"].as_u64() > Some(0)
                && (methods("AvailiableSeedMethods") || methods("UnavailableSeedMethods")))
            .then_some(())
        });
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("running").id()
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}://{}:{}{path}", self.scheme, self.address, self.port)
    }

    /// The token as written to token-hint-file.
    pub fn token(&self) -> String {
        std::fs::read_to_string(self.dir.join("token")).expect("token-hint-file")
    }

    /// From now on each call has a connection of its own: one that is kept is closed first at the cap on connections, perhaps at
    /// the moment of the next call.
    pub fn keep_no_connection(&mut self) {
        self.http = client(self.scheme == "https", 0);
    }

    /// GET without a token: status and body.
    pub fn get(&self, path: &str) -> (u16, String) {
        let mut answer = self
            .http
            .get(self.url(path))
            .call()
            .unwrap_or_else(|e| panic!("GET {path}: {e}"));
        (
            answer.status().as_u16(),
            answer.body_mut().read_to_string().expect("body"),
        )
    }

    /// GET with the token: status and body, or why there is no answer.
    pub fn try_call(&self, path: &str) -> Result<(u16, String), String> {
        let fail = |e: ureq::Error| format!("{path}: {e}");
        let url = self.url(&format!("{path}?token={}", self.token()));
        let mut answer = self.http.get(url).call().map_err(fail)?;
        let body = answer.body_mut().read_to_string().map_err(fail)?;
        Ok((answer.status().as_u16(), body))
    }

    /// GET with the token: status and body.
    pub fn call(&self, path: &str) -> (u16, String) {
        let joint = if path.contains('?') { '&' } else { '?' };
        self.get(&format!("{path}{joint}token={}", self.token()))
    }

    /// GET with the token that must answer 200 with JSON.
    pub fn json(&self, path: &str) -> Value {
        let (status, body) = self.call(path);
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap_or_else(|e| panic!("{path}: {e}: {body}"))
    }

    /// GET with the token that must answer the error envelope; its Message.
    pub fn error(&self, path: &str) -> String {
        let (status, body) = self.call(path);
        assert_eq!(status, 500, "{path}: {body}");
        let v: Value =
            serde_json::from_str(&body).unwrap_or_else(|e| panic!("{path}: {e}: {body}"));
        assert_eq!(
            (v["Code"].as_str(), &v["Details"]),
            (Some("ERROR"), &Value::Null),
            "{body}"
        );
        v["Message"].as_str().expect("Message").to_string()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("stdout")).unwrap_or_default()
    }

    /// `kill -9`, reaped.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("kill");
            child.wait().expect("wait");
        }
    }

    /// SIGTERM; how long it took to end, and its exit code.
    pub fn terminate(&mut self) -> (Duration, Option<i32>) {
        let mut child = self.child.take().expect("running");
        let begin = Instant::now();
        Command::new("kill")
            .args(["-TERM", &child.id().to_string()])
            .status()
            .expect("kill");
        let status = wait_for("the agent ends", Duration::from_secs(30), || {
            child.try_wait().expect("wait")
        });
        assert_eq!(status.signal(), None, "ended by itself");
        (begin.elapsed(), status.code())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let told: Vec<&str> = log.lines().filter(|l| !l.contains(" -> 200, ")).collect(); // polls are not of interest
            eprintln!("--- log of {} ---\n{}", self.hostname, told.join("\n"));
        }
        if self.child.is_some() {
            Command::new("kill")
                .args(["-TERM", &self.pid().to_string()])
                .status()
                .expect("kill");
            let begin = Instant::now();
            let mut child = self.child.take().expect("running");
            while child.try_wait().ok().flatten().is_none() {
                if begin.elapsed() > Duration::from_secs(15) {
                    let _ = child.kill();
                    let _ = child.wait();
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

fn configuration(
    dir: &std::path::Path,
    port: u16,
    hostname: &str,
    db: &impl Database,
    changes: &Changes,
) -> String {
    let agents_port = if changes.agents_port == 0 {
        1
    } else {
        changes.agents_port
    };
    let q = |s: String| format!("{s:?}");
    let mut sections: Vec<(&str, Vec<String>)> = vec![
        (
            "common",
            vec![
                format!("port = {port}"),
                format!("listen-address = {:?}", db.host()),
                format!("hostname = {hostname:?}"),
                format!("backup-dir = {:?}", dir.join("backup")),
                format!("state-dir = {:?}", dir.join("state")),
                format!("token-hint-file = {:?}", dir.join("token")),
                "http-timeout = \"2s\"".into(),
                // Many tests hold a dump by a lock.
                "source-lock-timeout = \"1h\"".into(),
            ],
        ),
        (
            "orchestrator",
            vec![
                "url = \"http://127.0.0.1\"".into(),
                format!("agents-port = {agents_port}"),
            ],
        ),
        (
            "logging",
            vec!["file = \"\"".into(), "level = \"debug\"".into()],
        ),
        (
            "mysql",
            vec![
                format!("host = {:?}", db.host()),
                format!("port = {}", db.port()),
                "user = \"agent\"".into(),
                format!("password = {AGENT_PASSWORD:?}"),
                format!("service-status-command = {}", q(db.service("status"))),
                format!("service-start-command = {}", q(db.service("start"))),
                format!("service-stop-command = {}", q(db.service("stop"))),
            ],
        ),
    ];
    for (section, line) in &changes.lines {
        let key = line
            .split('=')
            .next()
            .unwrap_or_default()
            .trim()
            .to_string();
        let lines = match sections.iter_mut().find(|s| s.0 == *section) {
            Some(s) => &mut s.1,
            None => {
                sections.push((section, Vec::new()));
                &mut sections.last_mut().expect("just pushed").1
            }
        };
        lines.retain(|l| l.split('=').next().unwrap_or_default().trim() != key);
        lines.push(line.clone());
    }
    let mut text = String::new();
    for (section, lines) in sections {
        writeln!(text, "[{section}]\n{}", lines.join("\n")).expect("string");
    }
    text
}

//! The front against real sockets: requests, limits and hostile clients. `faults` has a test for each way in which
//! tiny_http 0.12 fails when it faces the network itself.

mod faults;
mod hostile;
mod http;
mod load;
mod streams;

use super::*;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::AtomicUsize;
use std::thread;
use std::time::Instant;

/// A directory for the sockets that is removed with the server.
struct Rig {
    server: Option<Server>,
    dir: PathBuf,
    address: SocketAddr,
}

impl Rig {
    fn new(change: impl FnOnce(&mut Settings)) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("http-test-{}-{n}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let mut settings = Settings {
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            max_connections: 64,
            max_per_address: 10_000,
            socket_dir: dir.clone(),
            spool_dir: dir.clone(),
            allowed: Box::new(|_| true),
            tls: None,
            limits: Limits::default(),
        };
        change(&mut settings);
        let server = Server::open(settings, Arc::new(route)).unwrap();
        let address = server.local_addrs()[0];
        Self {
            server: Some(server),
            dir,
            address,
        }
    }

    fn client(&self) -> Client {
        Client::new(self.address)
    }

    /// Connections that have reached the front.
    fn arrived(&self) -> usize {
        let shared = &self.server.as_ref().unwrap().shared;
        shared.arrived.load(Ordering::Relaxed) as usize
    }

    /// Waits until so many connections have reached the front.
    fn wait_arrived(&self, connections: usize) {
        let start = Instant::now();
        while self.arrived() < connections {
            assert!(
                start.elapsed() < millis(5000),
                "{} of {connections} arrived",
                self.arrived()
            );
            thread::sleep(millis(5));
        }
        assert_eq!(self.arrived(), connections);
    }

    /// Closes the server and returns how long that took.
    fn close(&mut self, grace: Duration) -> Duration {
        let start = Instant::now();
        self.server.take().unwrap().close(grace);
        start.elapsed()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        drop(self.server.take());
        std::fs::remove_dir(&self.dir).expect("the server has left its directory empty");
    }
}

/// `/echo` shows the request; `/signal` has an address for when the server is busy; `/sleep/N` and `/slow/N` take N ms, and so does `/info/N`, a reserved call; `/bytes/N`
/// answers N bytes; `/panic` panics; `/spool/N` takes N bytes of body in a file; see `streams` for `/stream`.
fn route(request: &Request) -> Plan {
    let (what, number) = request.path[1..]
        .split_once('/')
        .unwrap_or((&request.path[1..], "0"));
    let (what, number) = (what.to_string(), number.parse().unwrap_or_default());
    Plan {
        reserved: what == "info",
        spool: (what == "spool").then_some(number),
        busy: (what == "signal").then_some("agent-error:busy"),
        ..Plan::new(move |request| handle(&what, number, request))
    }
}

fn handle(what: &str, number: u64, request: Request) -> Response {
    let body = match request.body {
        RequestBody::Bytes(ref bytes) => bytes.clone(),
        RequestBody::File(ref file) => {
            let mut bytes = Vec::new();
            (&*file).read_to_end(&mut bytes).unwrap();
            bytes
        }
    };
    let text = |body: &[u8]| Response::new(200, "text/plain", body);
    match what {
        "echo" => {
            let token = request.header("x-TOKEN").unwrap_or("-");
            let body = String::from_utf8_lossy(&body);
            let (method, path, query) = (&request.method, &request.path, &request.query);
            text(format!("{method}|{path}|{query}|{token}|{body}").as_bytes())
        }
        "sleep" | "slow" | "info" => {
            thread::sleep(millis(number));
            text(b"slept")
        }
        "bytes" => text(&vec![b'b'; number as usize]),
        "length" | "spool" => text(body.len().to_string().as_bytes()),
        "headers" => {
            let headers = [
                ("X-Good", "yes"),
                ("X-Bad", "a\r\nX-Evil: 1"),
                ("Content-Length", "1"),
            ];
            Response {
                headers: headers.map(|(n, v)| (n.into(), v.into())).to_vec(),
                ..text(b"headers")
            }
        }
        "wrong" => Response {
            wrong_token: true,
            ..text(b"wrong token")
        },
        "panic" => panic!("a handler panics on purpose"),
        "stream" => streams::response(number, &request.query),
        _ => text(b"ok"),
    }
}

/// An HTTP client that sends exactly what a test gives it.
struct Client(BufReader<TcpStream>);

/// A response: status line and headers, and the body by Content-Length.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Client {
    fn new(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        Self(BufReader::new(socket))
    }

    fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.0.get_mut().write_all(bytes.as_ref()).unwrap();
        self
    }

    fn get(&mut self, target: &str) -> Answer {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n"))
            .answer()
    }

    /// The status, or `None` where the connection ends without a response.
    fn try_get(&mut self, target: &str) -> Option<u16> {
        let request = format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n");
        self.0.get_mut().write_all(request.as_bytes()).ok()?;
        let mut line = String::new();
        self.0.read_line(&mut line).ok()?;
        line.get(9..12)?.parse().ok()
    }

    fn head(&mut self) -> (u16, String, usize) {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(
                self.0.read_line(&mut head).unwrap(),
                0,
                "closed after {head:?}"
            );
        }
        let length = head
            .lines()
            .find_map(|l| l.strip_prefix("Content-Length: "))
            .map(|l| l.parse().unwrap());
        (head[9..12].parse().unwrap(), head, length.unwrap_or(0))
    }

    fn answer(&mut self) -> Answer {
        let (status, head, length) = self.head();
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        Answer {
            status,
            head,
            body: String::from_utf8(body).unwrap(),
        }
    }

    /// True if the front closes the connection without another byte.
    fn is_closed(&mut self) -> bool {
        match self.0.read(&mut [0]) {
            Ok(n) => n == 0,
            Err(e) => e.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// An ignored test of `module` in a process of its own, since it counts, or uses up, what a process has.
fn alone(module: &str, test: &str, prefix: &str) -> Command {
    let this = std::env::current_exe().unwrap();
    let module = module.split_once("::").unwrap().1;
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("{prefix} exec \"$0\" \"$@\"")])
        .arg(this)
        .args(["--exact", &format!("{module}::{test}")])
        .args(["--ignored", "--nocapture", "--test-threads=1"]);
    command
}

fn passes_alone(module: &str, test: &str, prefix: &str) {
    let out = alone(module, test, prefix).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(
        out.status.success() && text.contains("1 passed"),
        "{text}{errors}"
    );
}

/// Numbers of open descriptors and of threads of this process.
fn descriptors_and_threads() -> (usize, usize) {
    let entries = |dir| std::fs::read_dir(dir).unwrap().count();
    (entries("/proc/self/fd"), entries("/proc/self/task"))
}

/// Memory in use by this process, in kB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let number = line.unwrap().trim().trim_end_matches(" kB");
    number.parse().unwrap()
}

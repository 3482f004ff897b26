//! The gate against real sockets. What each test proves is one of the faults of platform-notes section 2, or P9 of the
//! design.

mod faults;
mod http;
mod load;

use super::*;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// A directory for the sockets that is removed with the gate.
struct Rig {
    gate: Option<Gate>,
    dir: PathBuf,
    address: SocketAddr,
}

impl Rig {
    fn new(change: impl FnOnce(&mut Settings)) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("gate-test-{}-{n}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let mut settings = Settings {
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            max_connections: 64,
            max_per_address: 10_000,
            free_strikes: 0,
            socket_dir: dir.clone(),
            allowed: Vec::new(),
            tls: None,
            limits: Limits::default(),
        };
        change(&mut settings);
        let gate =
            Gate::open(settings, Arc::new(handler), |r| r.path.starts_with("/slow")).unwrap();
        let address = gate.local_addrs()[0];
        Self {
            gate: Some(gate),
            dir,
            address,
        }
    }

    fn client(&self) -> Client {
        Client::new(self.address)
    }

    /// Closes the gate and returns how long that took.
    fn close(&mut self, grace: Duration) -> Duration {
        let start = Instant::now();
        self.gate.take().unwrap().close(grace);
        start.elapsed()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        drop(self.gate.take());
        std::fs::remove_dir(&self.dir).expect("the gate has left its directory empty");
    }
}

/// `/echo` shows the request; `/sleep/N` and `/slow/N` take N ms; `/bytes/N` answers N bytes; `/panic` panics.
fn handler(request: &Request) -> Response {
    let (what, number) = request.path[1..]
        .split_once('/')
        .unwrap_or((&request.path[1..], "0"));
    let number: usize = number.parse().unwrap_or_default();
    let mut headers = Vec::new();
    let body = match what {
        "echo" => {
            let token = request.header("x-TOKEN").unwrap_or("-");
            let body = String::from_utf8_lossy(&request.body);
            format!(
                "{}|{}|{}|{token}|{body}",
                request.method, request.path, request.query
            )
            .into_bytes()
        }
        "sleep" | "slow" => {
            thread::sleep(Duration::from_millis(number as u64));
            b"slept".to_vec()
        }
        "bytes" => vec![b'b'; number],
        "length" => request.body.len().to_string().into_bytes(),
        "headers" => {
            for (name, value) in [
                ("X-Good", "yes"),
                ("X-Bad", "a\r\nX-Evil: 1"),
                ("Content-Length", "1"),
            ] {
                headers.push((name.to_string(), value.to_string()));
            }
            b"headers".to_vec()
        }
        "panic" => panic!("a handler panics on purpose"),
        _ => b"ok".to_vec(),
    };
    Response {
        status: 200,
        content_type: "text/plain",
        body,
        headers,
    }
}

/// An HTTP client that sends exactly what it is told.
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

    /// True if the gate closes the connection without another byte.
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

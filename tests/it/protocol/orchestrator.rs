//! The orchestrator's agents port: records requests whole, and can be stopped and started on its port.

use crate::support::{free_port, wait_for};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

#[derive(Debug, Clone)]
pub struct Seen {
    pub at: Instant,
    /// Request line and headers.
    pub head: String,
    pub body: String,
}

impl Seen {
    pub fn is_registration(&self) -> bool {
        self.head
            .starts_with("POST /api/register-agent HTTP/1.1\r\n")
    }

    /// A registration by the classic protocol.
    pub fn is_submission(&self) -> bool {
        self.head.starts_with("GET /api/submit-agent/")
    }

    /// The token of a registration by either protocol.
    pub fn token(&self) -> String {
        if self.is_submission() {
            let path = self.head.split(' ').nth(1).expect("a path");
            return path.rsplit('/').next().expect("the token").to_string();
        }
        let body: serde_json::Value = serde_json::from_str(&self.body).expect("JSON");
        body["Token"].as_str().expect("Token").to_string()
    }

    pub fn is_ping(&self) -> bool {
        self.head.starts_with("GET /api/agent-ping HTTP/1.1\r\n")
    }
}

/// Given the request and how many registrations of its protocol came before: status and body of the answer to a registration.
pub type Answers = Arc<dyn Fn(&Seen, usize) -> (u16, String) + Send + Sync>;

pub struct Orchestrator {
    pub port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
    answers: Answers,
    running: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
}

impl Orchestrator {
    /// Not started yet: nobody listens on its port.
    pub fn new(answers: impl Fn(&Seen, usize) -> (u16, String) + Send + Sync + 'static) -> Self {
        Self {
            port: free_port("127.0.0.1"),
            seen: Arc::default(),
            answers: Arc::new(answers),
            running: None,
        }
    }

    /// One that registers everybody, by v2.
    pub fn welcoming() -> Self {
        Self::new(|seen, _| v2(seen))
    }

    /// The same by the classic protocol.
    pub fn classic() -> Self {
        Self::new(|seen, _| classic(seen))
    }

    /// Another process on its port.
    pub fn restart_as(&mut self, answer: fn(&Seen) -> (u16, String)) {
        self.stop();
        self.answers = Arc::new(move |seen, _| answer(seen));
        self.start();
    }

    pub fn start(&mut self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).expect("the agents port");
        let stop = Arc::new(AtomicBool::new(false));
        let (seen, answers, told) = (
            Arc::clone(&self.seen),
            Arc::clone(&self.answers),
            Arc::clone(&stop),
        );
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if told.load(Ordering::SeqCst) {
                    return;
                }
                serve(stream.expect("accept"), &seen, &answers);
            }
        });
        self.running = Some((stop, thread));
    }

    pub fn stop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            stop.store(true, Ordering::SeqCst);
            let _ = TcpStream::connect(("127.0.0.1", self.port));
            thread.join().expect("its thread");
        }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("seen").clone()
    }

    pub fn registrations(&self) -> Vec<Seen> {
        self.seen()
            .into_iter()
            .filter(Seen::is_registration)
            .collect()
    }

    pub fn submissions(&self) -> Vec<Seen> {
        self.seen()
            .into_iter()
            .filter(Seen::is_submission)
            .collect()
    }

    pub fn pings(&self) -> Vec<Seen> {
        self.seen().into_iter().filter(Seen::is_ping).collect()
    }

    pub fn wait_registrations(&self, n: usize, limit: Duration) -> Vec<Seen> {
        wait_for(&format!("registration {n}"), limit, || {
            Some(self.registrations()).filter(|r| r.len() >= n)
        })
    }
}

/// What an orchestrator of protocol v2 answers to a registration.
pub fn v2(seen: &Seen) -> (u16, String) {
    answer(seen.is_registration())
}

/// The same in the classic protocol.
pub fn classic(seen: &Seen) -> (u16, String) {
    answer(seen.is_submission())
}

fn answer(known: bool) -> (u16, String) {
    if known {
        (200, "\"db7.test\"".into())
    } else {
        (404, "404 page not found\n".into())
    }
}

impl Drop for Orchestrator {
    fn drop(&mut self) {
        self.stop();
    }
}

fn serve(mut stream: TcpStream, seen: &Mutex<Vec<Seen>>, answers: &Answers) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let Some(request) = read(&mut stream) else {
        return;
    };
    let count = |like: fn(&Seen) -> bool| {
        let seen = seen.lock().expect("seen");
        seen.iter().filter(|s| like(s)).count()
    };
    let (status, body) = if request.is_registration() {
        answers(&request, count(Seen::is_registration))
    } else if request.is_submission() {
        answers(&request, count(Seen::is_submission))
    } else {
        (200, "\"OK\"".into())
    };
    seen.lock().expect("seen").push(request);
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all((head + &body).as_bytes());
}

fn read(stream: &mut TcpStream) -> Option<Seen> {
    let at = Instant::now();
    let mut bytes = Vec::new();
    let mut one = [0; 1];
    while !bytes.ends_with(b"\r\n\r\n") {
        if stream.read(&mut one).ok()? == 0 {
            return None;
        }
        bytes.push(one[0]);
    }
    let head = String::from_utf8(bytes).expect("ASCII head");
    let length = head
        .lines()
        .find_map(|l| {
            l.to_ascii_lowercase()
                .strip_prefix("content-length: ")?
                .trim()
                .parse()
                .ok()
        })
        .unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some(Seen {
        at,
        head,
        body: String::from_utf8(body).expect("UTF-8 body"),
    })
}

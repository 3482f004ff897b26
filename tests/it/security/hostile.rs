//! Requests that abort, leak in or hold up an unguarded server, against the real program.

use crate::support::lone::{Lone, descriptors_and_threads};
use crate::support::wire::raw;
use crate::support::{assert_prompt, wait_for};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

fn resident(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("alive");
    let line = text
        .lines()
        .find_map(|l| l.strip_prefix("VmRSS:"))
        .expect("VmRSS");
    line.split_whitespace()
        .next()
        .and_then(|n| n.parse().ok())
        .expect("kB")
}

/// Stops the agent: how many connections it has counted.
fn arrived(agent: &mut Lone) -> usize {
    let pid = agent.pid().to_string();
    let killed = std::process::Command::new("kill").arg(pid).status();
    assert!(killed.expect("kill").success());
    wait_for("the agent ends", Duration::from_secs(15), || agent.alive());
    counted(&agent.log())
}

/// The connections that an agent has counted, by the log of its stop.
pub(super) fn counted(log: &str) -> usize {
    let line = log.split("http: closed after ").nth(1).expect("stopped");
    let number = line.split(' ').next().expect("a number");
    number.parse().expect("a number")
}

fn good_request_is_quick(agent: &Lone) {
    let begin = Instant::now();
    assert_eq!(agent.get("/api/get-agent-info").status, 200);
    assert_prompt(vec![begin.elapsed()]);
}

/// The guards of the agent's numbers: what there was at rest.
fn comes_to_rest(agent: &Lone, before: (usize, usize)) {
    wait_for(
        &format!("descriptors and threads are {before:?} again"),
        Duration::from_secs(20),
        || {
            let now = descriptors_and_threads(agent.pid());
            (now.0 <= before.0 && now.1 <= before.1).then_some(())
        },
    );
}

#[test]
fn malformed_requests_leave_no_trace() {
    let mut agent = Lone::new().start();
    for _ in 0..10 {
        agent.get("/api/get-agent-info"); // all that is made once is made
        agent.json("/api/get-agent-data");
    }
    std::thread::sleep(Duration::from_millis(300));
    let (before, memory) = (descriptors_and_threads(agent.pid()), resident(agent.pid()));
    let token = agent.token();
    let long = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
        "y".repeat(200 << 10)
    );
    let many = format!(
        "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
        "X: y\r\n".repeat(2000)
    );
    let target = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(100 << 10));
    let post = format!("POST /api/apply-relaylog-contents?token={token} HTTP/1.1\r\nHost: a\r\n");
    let with = |more: &str| format!("{post}{more}\r\n");
    // Its body may have any length for which there is room.
    let bounded = |more: &str| with(more).replace("apply-relaylog-contents", "get-agent-data");
    let requests: Vec<(String, u16)> = vec![
        (bounded("Content-Length: 100000000000\r\n"), 413),
        (bounded("Content-Length: 9223372036854775809\r\n"), 413),
        (
            bounded("Content-Length: 99999999999999999999999999\r\n"),
            413,
        ),
        (with("Content-Length: 1000000000000000\r\n"), 500),
        (with("Content-Length: 9223372036854775809\r\n"), 500),
        (with("Content-Length: 99999999999999999999999999\r\n"), 413),
        (with("Content-Length: -3\r\n"), 400),
        (with("Content-Length: +5\r\n"), 400),
        (with("Content-Length: 5\r\nContent-Length: 5\r\n"), 400),
        (with("Content-Length: 2, 2\r\n"), 400),
        (
            with("Transfer-Encoding: chunked\r\n") + "5\r\nhello\r\n0\r\n\r\n",
            501,
        ),
        (
            with("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n")
                + "0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n",
            501,
        ),
        (with("Transfer-Encoding: identity\r\n"), 501),
        (with("Expect: the-impossible\r\nContent-Length: 1\r\n"), 417),
        (
            "GET /api/get-agent-info HTTP/2.0\r\nHost: a\r\n\r\n".into(),
            505,
        ),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), 505),
        (long, 431),
        (many, 431),
        (target, 431),
        ("GET / HTTP/1.1\r\n\r\n".into(), 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".into(), 400),
        ("GET / HTTP/1.1\nHost: a\n\n".into(), 400),
        ("GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n".into(), 400),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n".into(), 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: \u{e9}\r\n\r\n".into(), 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n".into(), 400),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n".into(), 400),
        ("GET /\r\nHost: a\r\n\r\n".into(), 400),
        ("\u{16}\u{3}\u{1}\u{2}\0\u{1}".into(), 400), // a TLS hello
    ];
    for round in 0..20 {
        for (request, status) in &requests {
            let head: String = request.chars().take(90).collect();
            let answer = raw("127.0.0.1", agent.port, request.as_bytes());
            // A refused head is closed while the rest of it may be on its way: then the answer may be lost to a reset.
            let lost = answer.is_none() && request.len() > 16 << 10;
            assert!(
                lost || answer.as_ref().is_some_and(|a| a.status == *status),
                "round {round}: {head:?}: {answer:?}"
            );
        }
        good_request_is_quick(&agent);
    }
    assert!(agent.alive().is_none(), "alive");
    comes_to_rest(&agent, before);
    let grown = resident(agent.pid()).saturating_sub(memory);
    println!(
        "{} hostile requests: {memory} kB resident, {grown} kB more afterwards",
        requests.len() * 20
    );
    assert!(grown < 8 << 10, "{grown} kB more than before");
    assert!(!agent.log().contains("panicked"), "{}", agent.log());
    assert_eq!(arrived(&mut agent), 20 + 20 * (requests.len() + 1));
}

/// Slow, silent and unfinished ones.
#[test]
fn slow_requests_delay_no_one() {
    let mut agent = Lone::new().start();
    for _ in 0..5 {
        agent.json("/api/get-agent-data");
    }
    std::thread::sleep(Duration::from_millis(300));
    let before = descriptors_and_threads(agent.pid());
    let connect = |bytes: &[u8]| {
        let mut stream = TcpStream::connect(("127.0.0.1", agent.port)).expect("accepts");
        stream.write_all(bytes).expect("sent");
        stream
    };
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(connect(b""));
        held.push(connect(b"GET /api/get-ag"));
        held.push(connect(b"POST /api/apply-relaylog-contents HTTP/1.1\r\nHost: a\r\nContent-Length: 2000\r\n\r\nhalf"));
        held.push(connect(
            b"GET /api/get-agent-info HTTP/1.1\r\nHost: a\r\n\r\n",
        )); // keeps the connection, reads nothing
    }
    let times = (0..10).map(|_| {
        good_request_is_quick(&agent);
        let begin = Instant::now();
        agent.json("/api/get-agent-data");
        begin.elapsed()
    });
    assert_prompt(times.collect());
    // More connections than it holds, and pipelined requests that no one reads.
    for _ in 0..200 {
        held.push(connect(b""));
    }
    good_request_is_quick(&agent);
    let mut flood = TcpStream::connect(("127.0.0.1", agent.port)).expect("accepts");
    flood
        .set_write_timeout(Some(Duration::from_millis(500)))
        .expect("timeout");
    let batch = b"GET /api/get-agent-info HTTP/1.1\r\nHost: a\r\n\r\n".repeat(500);
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(2) && flood.write_all(&batch).is_ok() {}
    good_request_is_quick(&agent);
    let memory = resident(agent.pid());
    let (_, threads) = descriptors_and_threads(agent.pid());
    println!("under load: {memory} kB resident, {threads} threads");
    assert!(threads < before.1 + 140, "{threads} threads");
    assert!(memory < 64 << 10, "{memory} kB resident");
    drop(flood);
    drop(held);
    assert!(agent.alive().is_none());
    comes_to_rest(&agent, before);
    assert_eq!(arrived(&mut agent), 5 + 32 + 20 + 200 + 3);
}

/// A head that comes in drops is cut after its 10 s, and nobody is told anything but 408 or a close.
#[test]
fn a_dripping_head_is_cut() {
    let agent = Lone::new().start();
    let mut slow = TcpStream::connect(("127.0.0.1", agent.port)).expect("accepts");
    slow.set_read_timeout(Some(Duration::from_millis(200)))
        .expect("timeout");
    let begin = Instant::now();
    let mut head = b"GET /api/get-agent-info HTTP/1.1\r\nHost: a\r\nX: "
        .iter()
        .chain(std::iter::repeat(&b'y'));
    let mut got = Vec::new();
    loop {
        assert!(begin.elapsed() < Duration::from_secs(40), "not cut");
        if slow.write_all(&[*head.next().expect("endless")]).is_err() {
            break;
        }
        let mut buf = [0; 256];
        match slow.read(&mut buf) {
            Ok(0) => break,
            Ok(n) => got.extend_from_slice(&buf[..n]),
            Err(e)
                if matches!(
                    e.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                ) => {}
            Err(_) => break,
        }
    }
    assert!(
        begin.elapsed() > Duration::from_secs(8),
        "{:?}",
        begin.elapsed()
    );
    let text = String::from_utf8_lossy(&got);
    assert!(
        text.is_empty() || text.starts_with("HTTP/1.1 408 "),
        "{text}"
    );
    good_request_is_quick(&agent);
}

//! Load while a seed runs: ten thousand requests over 64 connections, half of them malformed, slow or oversized, against the
//! target's agent. The seed completes, good requests are answered within a second, memory stays small, nothing is left.

use super::ALONE;
use crate::support::agent::{Agent, Changes};
use crate::support::built;
use crate::support::lone::descriptors_and_threads;
use crate::support::mariadb::MariadbKind;
use crate::support::pair::{Pair, servers};
use crate::support::{assert_prompt, wait_for};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const REQUESTS: usize = 10_000;
const CONNECTIONS: usize = 64;

/// What became of the requests of one client.
#[derive(Default)]
struct Tally {
    /// Times of good ones.
    good: Vec<Duration>,
    /// Good ones without the answer that they must get.
    wrong: Vec<String>,
    refused: usize,
    closed: usize,
}

/// `VmRSS` or `VmHWM`, in kB.
fn memory(pid: u32, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("alive");
    let line = text
        .lines()
        .find_map(|l| l.strip_prefix(name))
        .expect("known");
    let number = line.trim_start_matches(':').split_whitespace().next();
    number.and_then(|n| n.parse().ok()).expect("kB")
}

/// Sends a request and reads the answer to its end; its status, 0 if the connection was closed without one.
fn exchange(stream: &mut TcpStream, request: &[u8], pause: Option<Duration>) -> u16 {
    let chunk = if pause.is_some() { 9 } else { request.len() };
    for part in request.chunks(chunk) {
        if stream.write_all(part).is_err() {
            break; // it may have answered and closed already
        }
        if let Some(pause) = pause {
            std::thread::sleep(pause);
        }
    }
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => answer.extend_from_slice(&buffer[..n]),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    let text = String::from_utf8_lossy(&answer);
    text.split(' ')
        .nth(1)
        .and_then(|s| s.parse().ok())
        .unwrap_or(0)
}

/// The good request of this number and the status it must get.
fn good(n: usize, token: &str) -> (String, u16) {
    let (method, path, status) = match n % 6 {
        0 => ("GET", "/api/get-agent-info".to_string(), 200),
        1 => ("GET", format!("/api/get-agent-data?token={token}"), 200),
        2 => (
            "GET",
            format!("/api/seed-stage-state/1/Prepare?token={token}"),
            200,
        ),
        3 => ("HEAD", "/api/get-agent-info".to_string(), 200),
        4 => ("GET", "/api/nowhere".to_string(), 404),
        _ => ("GET", "/api/get-agent-data?token=wrong".to_string(), 500),
    };
    (
        format!("{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"),
        status,
    )
}

/// The bad request of this number, and the pause between its pieces if it is a slow one.
fn bad(n: usize) -> (String, Option<Duration>) {
    let slow = Some(Duration::from_millis(25));
    match n % 8 {
        0 => ("\u{1}\u{2}\u{3} nonsense\r\n\r\n".into(), None),
        1 => (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(100 << 10)), None),
        2 => ("POST /api/x HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n".into(), None),
        3 => ("POST /api/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n".into(), None),
        4 => ("GET /api/get-agent-info HTTP/1.1\r\nHost: a\r\nX-Slow: 0123456789012345678901234567890123456789\r\n\r\n".into(), slow),
        5 => (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "z".repeat(64 << 10)), None),
        6 => ("GET /api/get-agent-info HTTP/1.1\r\nHost".into(), None), // and then silence
        _ => ("POST /api/x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello".into(), None),
    }
}

fn client(agent: &Agent, token: &str, next: &AtomicUsize) -> Tally {
    let mut tally = Tally::default();
    loop {
        let n = next.fetch_add(1, Ordering::Relaxed);
        if n >= REQUESTS {
            return tally;
        }
        let begin = Instant::now();
        let mut stream = TcpStream::connect((agent.address.as_str(), agent.port)).expect("connect");
        let patience = if n.is_multiple_of(2) {
            Duration::from_secs(20)
        } else {
            Duration::from_millis(300)
        };
        stream.set_read_timeout(Some(patience)).expect("timeout");
        if n.is_multiple_of(2) {
            let (request, wanted) = good(n / 2, token);
            let status = exchange(&mut stream, request.as_bytes(), None);
            tally.good.push(begin.elapsed());
            if status != wanted {
                tally.wrong.push(format!(
                    "{status}, not {wanted}: {}",
                    request.lines().next().unwrap_or_default()
                ));
            }
        } else {
            let (request, pause) = bad(n / 2);
            match exchange(&mut stream, request.as_bytes(), pause) {
                0 => tally.closed += 1,
                _ => tally.refused += 1,
            }
        }
    }
}

#[test]
fn ten_thousand_requests_during_a_seed() {
    let program = built::program();
    let _alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    let (source_db, target_db) = servers::<MariadbKind>("", "");
    source_db.sql("CREATE DATABASE shop");
    for table in ["a", "b", "c"] {
        source_db.sql(&format!(
            "CREATE TABLE shop.{table} (id INT PRIMARY KEY, t VARCHAR(300), KEY (t)) ENGINE=InnoDB AS \
             SELECT seq AS id, CONCAT(SHA2(seq, 512), SHA2(seq + 1, 512)) AS t FROM mysql.seq_1_to_250000"
        ));
    }
    let changes = Changes {
        program: Some(program),
        ..Changes::default()
    };
    let mut pair = Pair::beside(
        source_db,
        target_db,
        "Mysqldump",
        &Changes::default(),
        &changes,
    );
    pair.target.keep_no_connection();
    let Pair {
        target,
        source_db,
        target_db,
        ..
    } = &pair;
    let player = pair.seed(1);
    player.prepare();
    for _ in 0..10 {
        target.json("/api/get-agent-data"); // all that is made once is made
    }
    // At rest: what a single answer takes for a moment is not counted, nor the threads that tiny_http keeps for some
    // seconds after a busy moment.
    let samples = (0..160).map(|_| {
        std::thread::sleep(Duration::from_millis(50));
        descriptors_and_threads(target.pid())
    });
    let before = samples.min().expect("samples");
    let token = target.token();

    let next = AtomicUsize::new(0);
    let (mut total, mut in_flight) = (Tally::default(), String::new());
    let mut peak = 0;
    // The load waits for this session until most requests have been made.
    target_db.sql("CREATE DATABASE shop");
    target_db.sql("CREATE TABLE shop.c (old_column INT) ENGINE=InnoDB");
    let mut hold = Some(target_db.hold("shop.c"));
    player.start_backup();
    std::thread::scope(|scope| {
        let seed = scope.spawn(|| {
            player.must_complete(target, "Backup");
            player.restore();
            next.load(Ordering::Relaxed)
        });
        let clients: Vec<_> = (0..CONNECTIONS)
            .map(|_| scope.spawn(|| client(target, &token, &next)))
            .collect();
        let begin = Instant::now();
        while clients.iter().any(|c| !c.is_finished()) {
            peak = peak.max(memory(target.pid(), "VmRSS"));
            if next.load(Ordering::Relaxed) >= REQUESTS * 3 / 4 {
                hold = None;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        drop(hold);
        let took = begin.elapsed();
        for c in clients {
            let mut tally = c.join().expect("a client");
            total.good.append(&mut tally.good);
            total.wrong.append(&mut tally.wrong);
            total.refused += tally.refused;
            total.closed += tally.closed;
        }
        let at_end = seed.join().expect("the seed completes");
        in_flight = format!(
            "{REQUESTS} requests in {took:.1?}; {} of them while the seed ran",
            at_end.min(REQUESTS)
        );
        assert!(
            at_end >= REQUESTS / 2,
            "most of it was during the seed: {at_end}"
        );
    });
    player.cleanup();
    assert_eq!(target_db.checksums(), source_db.checksums());

    total.good.sort();
    let at = |share: f64| total.good[((total.good.len() - 1) as f64 * share) as usize];
    println!(
        "{in_flight}; good {} (median {:.1?}, 99 % {:.1?}, longest {:.1?}), bad answered {}, bad closed {}; \
         VmRSS at most {peak} kB, VmHWM {} kB; descriptors and threads before {before:?}",
        total.good.len(),
        at(0.5),
        at(0.99),
        at(1.0),
        total.refused,
        total.closed,
        memory(target.pid(), "VmHWM"),
    );
    let wrong: std::collections::BTreeSet<_> = total.wrong.iter().collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert_prompt(total.good.clone());
    assert!(memory(target.pid(), "VmHWM") < 20 << 10, "P9");
    let after = wait_for(
        "no more descriptors and threads than before", // tiny_http may have ended some of its idle threads meanwhile
        Duration::from_secs(30),
        || {
            let now = descriptors_and_threads(target.pid());
            (now.0 <= before.0 && now.1 <= before.1).then_some(now)
        },
    );
    println!("descriptors and threads after {after:?}");
}

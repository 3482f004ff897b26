//! All at once, for a bounded time, against an agent whose seed runs, and against one that serves HTTPS. A good client is
//! answered within a second throughout; afterwards there is no descriptor, no thread and no memory more than before.

use super::hostile::counted;
use crate::support::agent::{Agent, Changes};
use crate::support::built;
use crate::support::certificates::Certificates;
use crate::support::lone::descriptors_and_threads;
use crate::support::mariadb::{Mariadb, MariadbKind};
use crate::support::player::Player;
use crate::support::{assert_prompt, project, wait_for};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Mutated requests that reach the agent.
const REQUESTS: usize = 100_000;
/// Mutated handshakes that reach the agent.
const HELLOS: usize = 10_000;
const ATTACKERS: usize = 4;
/// Idle connections at a time.
const IDLE: usize = 5_000;

/// xorshift: the same requests in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below.max(1) as u64) as usize
    }
}

fn files(kind: &str) -> Vec<Vec<u8>> {
    let dir = project().join("tests/fuzz/seeds").join(kind);
    let entries = std::fs::read_dir(dir).expect("seeds").flatten();
    let read = |e: std::fs::DirEntry| std::fs::read(e.path()).expect("a seed");
    let mut found: Vec<Vec<u8>> = entries.map(read).collect();
    found.sort();
    found
}

/// A copy of one of `seeds`, changed in a few places.
fn mutated(dice: &mut Dice, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = seeds[dice.roll(seeds.len())].clone();
    for _ in 0..dice.roll(5) {
        let at = dice.roll(bytes.len());
        match dice.roll(5) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << dice.roll(8),
            1 => bytes.insert(at, dice.roll(256) as u8),
            2 => bytes.truncate(at),
            3 => bytes.extend_from_within(at..),
            _ => bytes.extend((0..dice.roll(2000)).map(|_| dice.roll(256) as u8)),
        }
    }
    bytes
}

/// Sends bytes and reads the answer, or does not. False: there is no connection, because the backlog is full.
fn shoot(target: (&str, u16), bytes: &[u8], how: usize) -> bool {
    let Ok(mut stream) = TcpStream::connect(target) else {
        std::thread::sleep(Duration::from_millis(20));
        return false;
    };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
    let _ = stream.set_write_timeout(Some(Duration::from_secs(2)));
    let _ = stream.write_all(bytes);
    match how % 4 {
        0 => {} // gone at once
        _ => {
            let _ = stream.shutdown(Shutdown::Write);
            let _ = stream.read_to_end(&mut Vec::new());
        }
    }
    true
}

/// Holds [`IDLE`] connections, in a process of its own for the sake of its descriptors.
fn idle(address: &str, port: u16) -> Child {
    let script = format!(
        "ulimit -n {}; for ((i = 0; i < {IDLE}; i++)); do exec {{fd}}<>/dev/tcp/{address}/{port} || exit 1; done; echo held; sleep 600",
        IDLE + 100
    );
    let mut command = Command::new("bash");
    command.arg("-c").arg(script).stdin(Stdio::null());
    command.stdout(Stdio::piped()).spawn().expect("bash")
}

fn held(child: &mut Child) {
    let mut word = [0; 5];
    let out = child.stdout.as_mut().expect("stdout");
    out.read_exact(&mut word).expect("all are open");
    assert_eq!(&word, b"held\n");
}

fn end(mut child: Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// Drips one byte a moment until it is cut off or the storm is over.
fn drip(target: (&str, u16), begin: &[u8], over: &AtomicBool) {
    let Ok(mut stream) = TcpStream::connect(target) else {
        return;
    };
    let _ = stream.set_write_timeout(Some(Duration::from_secs(1)));
    if stream.write_all(begin).is_err() {
        return;
    }
    while !over.load(Ordering::Relaxed) && stream.write_all(b"x").is_ok() {
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// Asks for the same again and again and reads nothing.
fn glut(target: (&str, u16), over: &AtomicBool) {
    let batch = b"GET /api/get-agent-info HTTP/1.1\r\nHost: a\r\n\r\n".repeat(500);
    while !over.load(Ordering::Relaxed) {
        let Ok(mut stream) = TcpStream::connect(target) else {
            continue;
        };
        let _ = stream.set_write_timeout(Some(Duration::from_millis(300)));
        while !over.load(Ordering::Relaxed) && stream.write_all(&batch).is_ok() {}
        std::thread::sleep(Duration::from_millis(100));
    }
}

struct Rest {
    counts: (usize, usize),
}

impl Rest {
    fn of(agent: &mut Agent) -> Self {
        agent.keep_no_connection();
        for _ in 0..10 {
            agent.json("/api/get-agent-data");
        }
        std::thread::sleep(Duration::from_secs(1));
        Self {
            counts: descriptors_and_threads(agent.pid()),
        }
    }

    /// Waits until it is so again, and stops the agent, which must have counted so many `connections`.
    fn again(&self, agent: &mut Agent, connections: usize, words: &str) {
        let pid = agent.pid();
        let now = wait_for(
            "descriptors and threads as before",
            Duration::from_secs(60),
            || {
                let now = descriptors_and_threads(pid);
                (now.0 <= self.counts.0 && now.1 <= self.counts.1).then_some(now)
            },
        );
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("alive");
        let peak = status
            .lines()
            .find_map(|l| l.strip_prefix("VmHWM:"))
            .expect("VmHWM");
        let peak: u64 = peak.trim().trim_end_matches(" kB").parse().expect("kB");
        println!(
            "{words}; descriptors and threads {:?} before, {now:?} after; {peak} kB at most",
            self.counts
        );
        assert!(peak < 64 << 10, "{peak} kB");
        agent.terminate();
        let log = agent.log();
        assert!(!log.contains("panicked"), "{log}");
        let counted = counted(&log);
        println!("{counted} connections counted, of which at least {connections} were hostile");
        assert!(counted >= connections, "{counted} of {connections}");
    }
}

/// Good requests until `over`; the longest time for one.
fn good(agent: &Agent, over: &AtomicBool) -> (usize, Duration) {
    let mut times = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let begin = Instant::now();
        let (status, body) = agent.call("/api/get-agent-data");
        assert_eq!(status, 200, "{body}");
        times.push(begin.elapsed());
        std::thread::sleep(Duration::from_millis(50));
    }
    let (n, longest) = (times.len(), times.iter().max().copied());
    assert_prompt(times);
    (n, longest.unwrap_or_default())
}

/// Sets `over` however its thread ends.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_seed_goes_on_in_a_storm() {
    let source_db = Mariadb::start("127.0.0.1", "");
    let target_db = Mariadb::start("127.0.0.2", "");
    source_db.sql("CREATE DATABASE shop");
    source_db.sql("CREATE TABLE shop.t ENGINE=InnoDB AS SELECT seq AS id, SHA2(seq, 512) AS t FROM mysql.seq_1_to_200000");
    let source = Agent::start(&source_db);
    // No delays here, or the flood of bad tokens would be a trickle.
    let lines = vec![
        ("common", "failed-token-delay = \"0s\"".into()),
        ("logging", "level = \"info\"".into()),
    ];
    let mut target = Agent::start_with(
        &target_db,
        &Changes {
            lines,
            program: Some(built::program()),
            ..Changes::default()
        },
    );
    let rest = Rest::of(&mut target);
    let at = (target.address.as_str(), target.port);
    let seeds = files("request");
    let (over, sent) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut idlers = idle(at.0, at.1);
    held(&mut idlers);
    let player = Player::<MariadbKind> {
        id: 1,
        method: "Mysqldump",
        target: &target,
        source: &source,
        target_db: &target_db,
        source_db: &source_db,
    };
    let (seeded, (asked, longest)) = std::thread::scope(|scope| {
        for n in 0..ATTACKERS {
            let (seeds, sent, over) = (&seeds, &sent, &over);
            scope.spawn(move || {
                let mut dice = Dice(0x9e37_79b9 + n as u64);
                while !over.load(Ordering::Relaxed) && sent.load(Ordering::Relaxed) < REQUESTS {
                    let bytes = mutated(&mut dice, seeds);
                    if shoot(at, &bytes, dice.roll(4)) {
                        sent.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        for begin in [&b"GET /api/get-ag"[..], b"POST /api/apply-relaylog-contents HTTP/1.1\r\nHost: a\r\nContent-Length: 2000\r\n\r\nhalf"] {
            for _ in 0..8 {
                let over = &over;
                scope.spawn(move || {
                    while !over.load(Ordering::Relaxed) {
                        drip(at, begin, over);
                    }
                });
            }
        }
        scope.spawn(|| glut(at, &over));
        scope.spawn(|| {
            let guess = b"GET /api/get-agent-data?token=guess HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
            while !over.load(Ordering::Relaxed) {
                shoot(at, guess, 1);
            }
        });
        let asking = scope.spawn(|| {
            let _over = Over(&over); // if it fails
            good(&target, &over)
        });
        let _over = Over(&over);
        let mut seeded = 0;
        let begin = Instant::now();
        while sent.load(Ordering::Relaxed) < REQUESTS && !over.load(Ordering::Relaxed) {
            let player = Player {
                id: seeded + 1,
                ..player
            };
            player.prepare();
            player.backup();
            player.restore();
            player.cleanup();
            seeded += 1;
            assert!(
                begin.elapsed() < Duration::from_secs(900),
                "too slow: {sent:?}"
            );
        }
        drop(_over);
        (seeded, asking.join().expect("good answers"))
    });
    end(idlers);
    assert!(seeded > 0);
    assert_eq!(target_db.value("SELECT COUNT(*) FROM shop.t"), "200000");
    rest.again(&mut target, REQUESTS + IDLE, &format!("{REQUESTS} mutated requests, {IDLE} idle connections, {seeded} seeds meanwhile; {asked} good answers, the longest after {longest:?}"));
}

#[test]
fn handshakes_that_never_end() {
    let db = Mariadb::start("127.0.0.1", "");
    let made = Certificates::make("storm");
    let mut lines = vec![
        ("common", "use-ssl = true".to_string()),
        ("logging", "level = \"info\"".into()),
    ];
    for key in ["ssl-cert-file", "ssl-private-key-file"] {
        lines.push(("common", format!("{key} = {:?}", made.0.join("a.pem"))));
    }
    let mut agent = Agent::start_with(
        &db,
        &Changes {
            lines,
            program: Some(built::program()),
            ..Changes::default()
        },
    );
    agent.json("/api/get-agent-data");
    let rest = Rest::of(&mut agent);
    let at = (agent.address.as_str(), agent.port);
    let mut idlers = idle(at.0, at.1);
    held(&mut idlers);
    // A ClientHello of TLS 1.2 without extensions, as far as it goes.
    let mut hello = b"\x16\x03\x01\x00\x2d\x01\x00\x00\x29\x03\x03".to_vec();
    hello.extend([7; 32]);
    hello.extend(b"\x00\x00\x02\xc0\x2f\x01\x00");
    let seeds = [
        hello.clone(),
        b"GET / HTTP/1.0\r\n\r\n".to_vec(),
        vec![0x16; 300],
        vec![],
    ];
    let over = AtomicBool::new(false);
    let (asked, longest) = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let _over = Over(&over);
            good(&agent, &over)
        });
        for _ in 0..40 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    drip(at, &hello[..20], &over);
                }
            });
        }
        let shooters: Vec<_> = (0..ATTACKERS)
            .map(|n| {
                let (seeds, over) = (&seeds, &over);
                scope.spawn(move || {
                    let mut dice = Dice(77 + n as u64);
                    let mut sent = 0;
                    while sent < HELLOS / ATTACKERS && !over.load(Ordering::Relaxed) {
                        let hello = mutated(&mut dice, seeds);
                        sent += usize::from(shoot(at, &hello, dice.roll(4)));
                    }
                })
            })
            .collect();
        let begin = Instant::now();
        for shooter in shooters {
            shooter.join().expect("shot");
        }
        // Longer than a handshake may take.
        while begin.elapsed() < Duration::from_secs(12) && !over.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(50));
        }
        drop(Over(&over));
        asking.join().expect("good answers")
    });
    end(idlers);
    rest.again(&mut agent, HELLOS + IDLE, &format!("{HELLOS} mutated handshakes, {IDLE} idle connections; {asked} good answers over HTTPS, the longest after {longest:?}"));
}

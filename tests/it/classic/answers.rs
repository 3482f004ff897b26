//! The forms of answers: errors as redirects, and the bodies of slow actions.

use crate::support::lone::Lone;
use crate::support::wire::{Answer, JSON};
use crate::support::{processes_with, wait_for};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const GO: (&str, &str) = ("User-Agent", "Go-http-client/1.1");
const CURL: (&str, &str) = ("User-Agent", "curl/8.5.0");

fn classic() -> Lone {
    let mut agent = Lone::new();
    agent.with("orchestrator", "protocol = \"classic\"");
    agent
}

/// Calls with a token as a client does.
fn call(agent: &Lone, path: &str, token: &str, client: (&str, &str)) -> Answer {
    let joint = if path.contains('?') { '&' } else { '?' };
    agent.ask("GET", &format!("{path}{joint}token={token}"), &[client])
}

fn reason(answer: &Answer) -> String {
    assert_eq!(answer.status, 302, "{answer:?}");
    let location = answer.header("Location");
    let text = location.strip_prefix("agent-error:").expect("its scheme");
    assert!(
        text.bytes().all(|b| b.is_ascii_graphic() || b == b' '),
        "{text}"
    );
    text.to_string()
}

#[test]
fn errors_are_redirects_for_the_client_of_a_classic_orchestrator_only() {
    let mut agent = classic();
    agent
        .with(
            "mysql",
            "service-stop-command = \"echo 'Access \\\"denied\\\"' >&2; exit 4\"",
        )
        .with(
            "mysql",
            "service-start-command = \"no-such-systemctl start mysqld\"",
        );
    let agent = agent.start();
    let token = agent.token();
    for (path, text) in [
        (
            "/api/mysql-stop",
            "mysql.service-stop-command: error: command 'echo': exit status 4, stderr: Access 'denied'",
        ),
        ("/api/custom-commands/none", "none : Command not found"),
        (
            "/api/create-snapshot",
            "no LVM snapshot is created: lvm.create-snapshot-command is not set",
        ),
        ("/api/du?path=x", "du: path = 'x' is not an absolute path"),
    ] {
        let answer = call(&agent, path, &token, GO);
        assert_eq!(reason(&answer), text, "{path}");
        assert!(!format!("{answer:?}").contains(&token));
        assert!(!call(&agent, path, &token, CURL).message().is_empty());
    }
    let failed = reason(&call(&agent, "/api/mysql-start/", &token, GO));
    assert!(
        failed.starts_with("mysql.service-start-command") && failed.contains("no-such-systemctl"),
        "{failed}"
    );
    let mut silent = classic();
    silent.with("classic", "signal-errors = false");
    let silent = silent.start();
    let answer = call(&silent, "/api/create-snapshot", &silent.token(), GO);
    assert!(answer.message().contains("lvm.create-snapshot-command"));
    let mut v2 = Lone::new();
    v2.with("orchestrator", "protocol = \"v2\"");
    let v2 = v2.start();
    let answer = call(&v2, "/api/create-snapshot", &v2.token(), GO);
    assert!(answer.message().contains("lvm.create-snapshot-command"));
}

/// Only what changes the host, and a fixed text.
#[test]
fn a_wrong_token() {
    let mut agent = classic();
    agent.with("mysql", "service-stop-command = \"touch $0.stopped\"");
    let agent = agent.start();
    for path in [
        "/api/mysql-start",
        "/api/mysql-stop/",
        "/api/create-snapshot",
        "/api/removelv?lv=x",
        "/api/custom-commands/x",
    ] {
        let begin = Instant::now();
        assert_eq!(
            reason(&call(&agent, path, "wrong", GO)),
            "invalid token",
            "{path}"
        );
        assert!(begin.elapsed() >= Duration::from_millis(350), "delayed");
        assert_eq!(call(&agent, path, "wrong", CURL).message(), "Invalid token");
        assert_eq!(agent.ask("GET", path, &[CURL]).message(), "Invalid token");
    }
    for path in ["/api/mysql-du", "/api/lvs-snapshots", "/api/mysql-status"] {
        assert_eq!(
            call(&agent, path, "wrong", GO).message(),
            "Invalid token",
            "{path}"
        );
    }
    assert!(!agent.log().contains("to be stopped"), "{}", agent.log());
    let mut v2 = Lone::new();
    v2.with("orchestrator", "protocol = \"v2\"");
    let answer = call(&v2.start(), "/api/mysql-start", "wrong", GO);
    assert_eq!(answer.message(), "Invalid token");
}

/// All that comes on a connection, with the time of each piece, and how it ends.
fn pieces(agent: &Lone, version: &str, path: &str) -> (Vec<(Duration, String)>, bool) {
    let mut stream = TcpStream::connect(("127.0.0.1", agent.port)).expect("connects");
    let limit = Some(Duration::from_secs(70));
    stream.set_read_timeout(limit).expect("timeout");
    let begin = Instant::now();
    write!(
        stream,
        "GET {path}?token={} HTTP/{version}\r\nHost: a\r\nUser-Agent: Go-http-client/1.1\r\n\r\n",
        agent.token()
    )
    .expect("request");
    let mut all: Vec<(Duration, String)> = Vec::new();
    let mut piece = [0; 4096];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return (all, true),
            Ok(n) => {
                let text = String::from_utf8_lossy(&piece[..n]).into_owned();
                all.push((begin.elapsed(), text));
                if all.last().is_some_and(|p| p.1.ends_with("0\r\n\r\n")) {
                    return (all, true);
                }
            }
            Err(e) if e.kind() == ErrorKind::ConnectionReset => return (all, false),
            Err(e) => panic!("{e} after {all:?}"),
        }
    }
}

/// The head after 40 s, spaces after it, and the value; or the end of the connection without the last chunk.
#[test]
fn an_action_that_takes_longer_than_a_client_waits_for_the_head() {
    let mut agent = classic();
    agent
        .with("custom-commands.good", "cmd = 'sleep 53.4; echo done'")
        .with(
            "custom-commands.bad",
            "cmd = 'sleep 53.3; echo no room >&2; exit 3'",
        );
    let agent = agent.start();
    let text =
        |pieces: &[(Duration, String)]| -> String { pieces.iter().map(|p| p.1.as_str()).collect() };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (good, _) = pieces(&agent, "1.1", "/api/custom-commands/good");
            let at = good[0].0;
            assert!((39..45).contains(&at.as_secs()), "{at:?}");
            let all = text(&good);
            assert!(all.contains(&format!("Content-Type: {JSON}\r\n")), "{all}");
            assert!(all.contains("Transfer-Encoding: chunked\r\n"), "{all}");
            let body = "1\r\n \r\n2f\r\n{\"Code\":\"OK\",\"Message\":\"done\\n\",\"Details\":null}\r\n0\r\n\r\n";
            assert!(all.ends_with(body), "{all}");
        });
        scope.spawn(|| {
            let (bad, _) = pieces(&agent, "1.1", "/api/custom-commands/bad");
            let all = text(&bad);
            assert!(all.starts_with("HTTP/1.1 200 OK\r\n"), "{all}");
            assert!(all.ends_with("\r\n\r\n1\r\n \r\n"), "no last chunk: {all}");
        });
        scope.spawn(|| {
            let (old, _) = pieces(&agent, "1.0", "/api/custom-commands/good");
            let all = text(&old);
            assert!(
                !all.contains("chunked") && all.ends_with("\"Details\":null}"),
                "{all}"
            );
        });
        scope.spawn(|| {
            let (old, ended) = pieces(&agent, "1.0", "/api/custom-commands/bad");
            assert!(!ended, "a reset is all that HTTP/1.0 has for it: {old:?}");
        });
        scope.spawn(|| {
            let path = format!("/api/custom-commands/good?token={}", agent.token());
            let begin = Instant::now();
            let head = send_head(&agent, &path);
            assert!(
                head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"),
                "{head}"
            );
            assert!(begin.elapsed() < Duration::from_secs(50));
        });
    });
    let log = agent.log();
    assert!(
        log.contains("was cut short") && log.contains("no room"),
        "{log}"
    );
    let reasons = log
        .lines()
        .filter(|line| line.contains("/api/custom-commands/bad: "));
    let reasons = reasons.filter(|line| line.contains("no room") && !line.contains("http: "));
    assert_eq!(reasons.count(), 2, "{log}");
    assert!(!log.contains(&agent.token()));
}

fn send_head(agent: &Lone, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", agent.port)).expect("connects");
    let limit = Some(Duration::from_secs(70));
    stream.set_read_timeout(limit).expect("timeout");
    write!(
        stream,
        "HEAD {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    )
    .expect("request");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("a complete answer");
    text
}

/// What was begun goes on when its client has gone.
#[test]
fn an_action_outlives_its_client() {
    let mut agent = classic();
    let made = agent.dir.join("made");
    let line = format!("cmd = 'sleep 2.71; touch {}'", made.display());
    agent.with("custom-commands.make", line);
    let agent = agent.start();
    let mut stream = TcpStream::connect(("127.0.0.1", agent.port)).expect("connects");
    let path = format!("/api/custom-commands/make?token={}", agent.token());
    write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").expect("request");
    wait_for("it runs", Duration::from_secs(20), || {
        (!processes_with("sleep 2.71").is_empty()).then_some(())
    });
    drop(stream);
    wait_for("it ends", Duration::from_secs(20), || {
        made.exists().then_some(())
    });
}

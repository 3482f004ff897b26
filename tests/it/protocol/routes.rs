//! Paths, methods and forms of answers, all without a MySQL.

use super::orchestrator::Orchestrator;
use crate::support::lone::Lone;
use crate::support::wait_for;
use crate::support::wire::{JSON, TEXT};
use std::time::Duration;

const NOT_FOUND: &str = "404 page not found\n";
const GO_TEXT: &str = "text/plain; charset=utf-8"; // in lower case: Go's own 404

#[test]
fn paths_and_methods() {
    let agent = Lone::new().start();
    let info = format!(
        "{{\"Hostname\":\"db7.test\",\"Port\":{},\"Token\":\"\",\"MySQLPort\":1}}",
        agent.port
    );
    for path in [
        "/api/get-agent-info",
        "/api/get-agent-info/",
        "/api/get-agent-info?x=y",
        "/api/get%2Dagent%2Dinfo",
        "/%61pi/get-agent-info/",
    ] {
        agent.get(path).is(200, JSON, &info);
    }
    let unknown = [
        "/",
        "/api",
        "/api/",
        "/api/get-agent-info//",
        "//api/get-agent-info",
        "/api/Get-Agent-Info",
        "/api/get-agent-info/x",
        "/get-agent-info",
        "/api/prepare",
        "/api/prepare/1/Mysqldump",
        "/api/prepare/1/Mysqldump/Target/x",
        "/api/backup/1/Mysqldump/a%2Fb/3306", // one segment each, of the decoded path
        "/api/%zz",
        "/api/get-agent-data%00",
        "/debug/pprof",
        "/debug/pprof/heap",
        "/etc/passwd",
        "/../../etc/passwd",
        "/api/apply-relaylog-contents", // a POST route
    ];
    for path in unknown {
        agent.call(path).is(404, GO_TEXT, NOT_FOUND);
    }
    for path in [
        "/api/get-agent-info",
        "/api/get-agent-data",
        "/api/status",
        "/api/prepare/1/Mysqldump/Target",
        "/api/abort-seed-stage/1/Prepare",
    ] {
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
            let target = format!("{path}?token={}", agent.token());
            agent
                .ask(method, &target, &[("Content-Length", "0")])
                .is(404, GO_TEXT, NOT_FOUND);
        }
    }
    agent.call("/api/active-seed").is(
        200,
        JSON,
        "{\"SeedID\":0,\"SeedStatus\":\"Running\",\"Method\":\"ClonePlugin\",\"Side\":\"Target\",\"Stage\":\"Prepare\",\"StagesDetails\":null}",
    );
}

/// HEAD is routed to the GET handler: its status and headers, no body.
#[test]
fn head_is_get_without_a_body() {
    let agent = Lone::new().start();
    let token = agent.token();
    for path in [
        "/api/get-agent-info",
        &format!("/api/active-seed?token={token}"),
        "/api/status",
        "/api/active-seed",
        "/nowhere",
    ] {
        let get = agent.get(path);
        let head = agent.ask("HEAD", path, &[]);
        let of = |a: &crate::support::wire::Answer| {
            (
                a.status,
                a.header("Content-Type").to_string(),
                a.header("Content-Length").to_string(),
            )
        };
        assert_eq!(of(&head), of(&get), "{path}");
        assert_eq!(head.body, "", "{path}");
        assert_eq!(
            get.header("Content-Length"),
            get.body.len().to_string(),
            "{path}"
        );
    }
}

/// HTTP/1.0, many requests on one connection, and compression offered: plain answers are equally fine.
#[test]
fn connections() {
    use std::io::{Read, Write};
    let agent = Lone::new().start();
    let old = crate::support::wire::raw(
        "127.0.0.1",
        agent.port,
        b"GET /api/get-agent-info HTTP/1.0\r\n\r\n",
    )
    .expect("an answer");
    assert_eq!((old.status, old.header("Content-Type")), (200, JSON));
    let zipped = agent.ask("GET", "/api/get-agent-info", &[("Accept-Encoding", "gzip")]);
    assert!(
        zipped.header("Content-Encoding").is_empty() && zipped.body.starts_with("{\"Hostname\"")
    );

    let mut kept = std::net::TcpStream::connect(("127.0.0.1", agent.port)).expect("connects");
    kept.set_read_timeout(Some(Duration::from_secs(5)))
        .expect("timeout");
    for _ in 0..3 {
        kept.write_all(b"GET /api/get-agent-info HTTP/1.1\r\nHost: a\r\n\r\n")
            .expect("still open");
        let mut got = Vec::new();
        while !got.ends_with(b"\"MySQLPort\":1}") {
            let mut buf = [0; 512];
            let n = kept.read(&mut buf).expect("an answer");
            assert!(n > 0, "closed after {:?}", String::from_utf8_lossy(&got));
            got.extend_from_slice(&buf[..n]);
        }
    }
}

/// BAD before the first answer of the orchestrator, OK after it, BAD again when the last is older than status-bad-seconds.
#[test]
fn status_follows_the_orchestrator() {
    let mut orchestrator = Orchestrator::welcoming();
    let mut agent = Lone::new();
    agent
        .with(
            "orchestrator",
            format!("agents-port = {}", orchestrator.port),
        )
        .with("common", "poll-interval = \"300ms\"")
        .with("common", "status-bad-seconds = \"1500ms\"");
    let agent = agent.start();
    let until = |status: u16, body: &str| {
        wait_for(body, Duration::from_secs(10), || {
            (agent.get("/api/status").status == status).then_some(())
        });
        agent.get("/api/status").is(status, JSON, body);
    };
    agent.get("/api/status").is(500, JSON, "\"BAD\"");
    orchestrator.start();
    until(200, "\"OK\"");
    orchestrator.stop();
    until(500, "\"BAD\"");
    orchestrator.start();
    until(200, "\"OK\"");
}

/// `status-endpoint` adds a place.
#[test]
fn status_is_served_at_two_places() {
    let mut orchestrator = Orchestrator::welcoming();
    orchestrator.start();
    let mut agent = Lone::new();
    agent
        .with(
            "orchestrator",
            format!("agents-port = {}", orchestrator.port),
        )
        .with("common", "status-endpoint = \"/health/agent\"");
    let agent = agent.start();
    wait_for("the agent is registered", Duration::from_secs(10), || {
        (agent.get("/health/agent").status == 200).then_some(())
    });
    agent.get("/health/agent").is(200, JSON, "\"OK\"");
    agent.get("/health/agent/").is(200, JSON, "\"OK\"");
    agent.get("/api/status").is(200, JSON, "\"OK\"");
}

/// Calls that cannot work on this host answer an error that orchestrator understands, never a 404.
#[test]
fn calls_that_cannot_work_say_why() {
    let agent = Lone::new().start();
    for path in ["/api/removelv?lv=/dev/vg/snap", "/api/create-snapshot"] {
        let text = agent.call(path).message();
        assert!(text.contains("LVM"), "{path}: {text}");
    }
    let text = agent.call("/api/mountlv?lv=/dev/vg/snap").message();
    assert_eq!(
        text,
        "/dev/vg/snap is not a snapshot of this host; available snapshots: none"
    );
    let logs = [
        "/api/mysql-relay-log-index-file",
        "/api/mysql-relay-log-files",
        "/api/mysql-relay-log-end-coordinates",
        "/api/mysql-relaylog-contents-tail/relay.000002/4",
        "/api/mysql-binlog-contents?binlog=b.000001&start=4",
        "/api/mysql-binlog-binary-contents?binlog=b.000001",
    ];
    for path in logs {
        let text = agent.call(path).message();
        assert!(text.contains("MySQL does not answer"), "{path}: {text}");
    }
    let target = format!("/api/apply-relaylog-contents?token={}", agent.token());
    let text = agent
        .ask("POST", &target, &[("Content-Length", "0")])
        .message();
    assert!(
        text.contains("not base64 of gzip"),
        "nothing is applied: {text}"
    );
    assert_eq!(
        agent
            .call("/api/abort-seed-stage/1/Prepare")
            .header("Content-Type"),
        JSON
    );
    assert_ne!(JSON, TEXT);
}

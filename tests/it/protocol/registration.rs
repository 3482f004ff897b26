//! Registration and heartbeat.

use super::orchestrator::{Orchestrator, classic, v2};
use crate::support::agent::{Agent, Changes};
use crate::support::lone::{Lone, end_of};
use crate::support::mariadb::Mariadb;
use crate::support::wait_for;
use crate::support::wire::{self, Answer};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(8);
const REFUSAL: &str = "{\"Code\":\"ERROR\",\"Message\":\"Unable to get agent data: dial tcp: refused\",\"Details\":null}";

fn agent_for(orchestrator: &Orchestrator, lines: &[&str]) -> Lone {
    let mut agent = Lone::new();
    agent.with(
        "orchestrator",
        format!("agents-port = {}", orchestrator.port),
    );
    for line in lines {
        agent.with("common", *line);
    }
    agent.start()
}

/// Orchestrator calls back before it answers, and stores what it gets: it must be all there.
#[test]
fn the_call_back_works_at_the_moment_of_the_registration() {
    let db = Mariadb::start("127.0.0.1", "");
    db.sql("CREATE DATABASE shop");
    db.sql("CREATE TABLE shop.t (n INT) ENGINE=InnoDB");
    let called: Arc<Mutex<Vec<Answer>>> = Arc::default();
    let record = Arc::clone(&called);
    let mut orchestrator = Orchestrator::new(move |request, _| {
        let v: serde_json::Value = serde_json::from_str(&request.body).expect("JSON");
        let (port, token) = (
            v["Port"].as_u64().expect("port") as u16,
            v["Token"].as_str().expect("token"),
        );
        record.lock().expect("record").push(wire::ask(
            "127.0.0.1",
            port,
            "GET",
            &format!("/api/get-agent-data?token={token}"),
            &[],
        ));
        (200, format!("{}", v["Hostname"]))
    });
    orchestrator.start();
    let agent = Agent::start_with(
        &db,
        &Changes {
            agents_port: orchestrator.port,
            ..Changes::default()
        },
    );
    let seen = orchestrator.wait_registrations(1, SOON);
    let body = format!(
        "{{\"Hostname\":\"{}\",\"Port\":{},\"Token\":\"{}\",\"MySQLPort\":{}}}",
        agent.hostname,
        agent.port,
        agent.token(),
        db.port
    );
    assert_eq!(seen[0].body, body, "1.1");
    assert!(
        seen[0]
            .head
            .to_ascii_lowercase()
            .contains("\r\ncontent-type: application/json\r\n"),
        "{}",
        seen[0].head
    );
    let answers = called.lock().expect("record").clone();
    let data: serde_json::Value = serde_json::from_str(&answers[0].body).expect("JSON");
    assert_eq!(answers[0].status, 200);
    assert_eq!(data["MySQLRunning"], true, "{data}");
    assert_eq!(
        data["MySQLDatabases"]["shop"]["Engines"],
        serde_json::json!(["InnoDB"]),
        "{data}"
    );
    assert!(
        data["AvailiableSeedMethods"]["Mysqldump"].is_object(),
        "{data}"
    );
    assert!(
        data["MySQLDatadirDiskUsed"].as_u64() > Some(1_000_000),
        "{data}"
    );
    wait_for("the agent knows that it is registered", SOON, || {
        (agent.get("/api/status").0 == 200).then_some(())
    });
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(orchestrator.registrations().len(), 1, "once");
}

/// The answer to a refused registration has status 200 as well.
#[test]
fn a_refusal_is_tried_again_soon() {
    let mut orchestrator = Orchestrator::new(|_, n| match n {
        0 => (200, REFUSAL.into()),
        1 => (500, "\"db7.test\"".into()),
        2 => (200, "not JSON".into()),
        _ => (200, "\"db7.test\"".into()),
    });
    orchestrator.start();
    let agent = agent_for(&orchestrator, &["poll-interval = \"1h\""]);
    let seen = orchestrator.wait_registrations(4, Duration::from_secs(60));
    assert!(
        seen.iter().all(|s| s.body == seen[0].body),
        "the same token: {seen:?}"
    );
    let gaps: Vec<Duration> = seen.windows(2).map(|w| w[1].at - w[0].at).collect();
    for (gap, seconds) in gaps.iter().zip([1, 2, 4]) {
        let expected = Duration::from_secs(seconds);
        assert!(
            *gap >= expected - Duration::from_millis(100)
                && *gap < expected + Duration::from_secs(10),
            "{gaps:?}"
        );
    }
    wait_for("registered", SOON, || {
        (agent.get("/api/status").status == 200).then_some(())
    });
    let log = agent.log();
    assert!(
        log.contains("Unable to get agent data: dial tcp: refused")
            && log.contains("registered with"),
        "{log}"
    );
}

/// What is not the agents' port of an orchestrator may answer pings as well.
#[test]
fn an_answer_to_a_ping_is_no_contact_without_a_registration() {
    let mut orchestrator = Orchestrator::new(|seen, n| match n {
        0..3 => (404, "404 page not found\n".into()),
        _ => v2(seen),
    });
    orchestrator.start();
    let agent = agent_for(&orchestrator, &["poll-interval = \"200ms\""]);
    orchestrator.wait_registrations(2, SOON);
    let pings = orchestrator.pings().len();
    wait_for("pings are answered", SOON, || {
        (orchestrator.pings().len() > pings).then_some(())
    });
    assert_eq!(
        agent.get("/api/status").status,
        500,
        "pings alone are no contact"
    );
    let data = agent.json("/api/get-agent-data");
    let contact = &data["Orchestrators"][format!("http://127.0.0.1:{}", orchestrator.port)];
    assert_eq!(contact["Registered"], false, "{contact}");
    let why = contact["Error"].as_str().expect("Error");
    assert!(
        why.contains("status 404 to /api/register-agent") && why.contains("AgentsServerPort"),
        "{why}"
    );
    let mut command = std::process::Command::new(&agent.program);
    command.arg("status").arg("--config").arg(agent.file());
    let (_, out, _) = end_of(command);
    assert!(
        out.contains(": not registered: ") && !out.contains(", registered with orchestrator"),
        "{out}"
    );
    orchestrator.wait_registrations(4, Duration::from_secs(30));
    wait_for("registered", SOON, || {
        (agent.get("/api/status").status == 200).then_some(())
    });
}

/// Pings every poll-interval without parameters, registrations every resubmit-agent-interval.
#[test]
fn intervals() {
    let mut orchestrator = Orchestrator::welcoming();
    orchestrator.start();
    let _agent = agent_for(
        &orchestrator,
        &[
            "poll-interval = \"500ms\"",
            "resubmit-agent-interval = \"2s\"",
        ],
    );
    let registrations = orchestrator.wait_registrations(3, Duration::from_secs(60));
    for pair in registrations.windows(2) {
        let gap = pair[1].at - pair[0].at;
        assert!(
            gap > Duration::from_millis(1800) && gap < Duration::from_secs(10),
            "{gap:?}"
        );
    }
    let pings = orchestrator.pings();
    let span = registrations[2].at - registrations[0].at;
    let most = span.as_secs_f64() * 2.0 + 3.0;
    assert!(
        pings.len() >= 6 && pings.len() as f64 <= most,
        "about two a second: {} in {span:?}",
        pings.len()
    );
    for pair in pings.windows(2) {
        let gap = pair[1].at - pair[0].at;
        assert!(
            gap > Duration::from_millis(400) && gap < Duration::from_secs(5),
            "{gap:?}"
        );
    }
    let token =
        serde_json::from_str::<serde_json::Value>(&registrations[0].body).expect("JSON")["Token"]
            .to_string();
    assert!(
        pings
            .iter()
            .all(|p| p.body.is_empty() && !p.head.contains(token.trim_matches('"'))),
        "no token"
    );
}

#[test]
fn an_orchestrator_that_comes_late_goes_and_comes_back() {
    let mut orchestrator = Orchestrator::welcoming();
    let agent = agent_for(&orchestrator, &["poll-interval = \"500ms\""]);
    wait_for("a failed attempt", SOON, || {
        agent
            .log()
            .contains("check orchestrator.url and agents-port")
            .then_some(())
    });
    agent.json("/api/get-agent-data");
    orchestrator.start();
    orchestrator.wait_registrations(1, SOON);
    let pings = orchestrator.pings().len();
    wait_for("pings", SOON, || {
        (orchestrator.pings().len() > pings + 1).then_some(())
    });
    assert_eq!(orchestrator.registrations().len(), 1);
    // Another process on its place does not know the token.
    orchestrator.stop();
    let silent = orchestrator.pings().len();
    std::thread::sleep(Duration::from_millis(1200));
    assert_eq!(orchestrator.pings().len(), silent);
    orchestrator.start();
    orchestrator.wait_registrations(2, SOON);
    agent.json("/api/get-agent-data");
}

/// A slow orchestrator delays nobody, and the agent ends at once all the same.
#[test]
fn a_silent_orchestrator_holds_nothing_up() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("listener");
    let mut agent = Lone::new();
    agent
        .with(
            "orchestrator",
            format!(
                "agents-port = {}",
                silent.local_addr().expect("address").port()
            ),
        )
        .with("common", "http-timeout = \"30s\"");
    let mut agent = agent.start();
    let (_held, _) = silent.accept().expect("the registration");
    let begin = Instant::now();
    agent.json("/api/get-agent-data");
    assert!(
        begin.elapsed() < Duration::from_secs(10),
        "{:?}",
        begin.elapsed()
    );
    let begin = Instant::now();
    std::process::Command::new("kill")
        .arg(agent.pid().to_string())
        .status()
        .expect("kill");
    let status = wait_for("the agent ends", Duration::from_secs(20), || agent.alive());
    assert_eq!(status.code(), Some(0));
    assert!(
        begin.elapsed() < Duration::from_secs(8),
        "{:?}",
        begin.elapsed()
    );
}

/// orchestrator.url may be a list: each is registered with.
#[test]
fn several_orchestrators() {
    let mut orchestrator = Orchestrator::welcoming();
    orchestrator.start();
    let mut agent = Lone::new();
    agent
        .with(
            "orchestrator",
            format!("agents-port = {}", orchestrator.port),
        )
        .with(
            "orchestrator",
            "url = [\"http://127.0.0.1\", \"localhost\"]",
        );
    let _agent = agent.start();
    let seen = orchestrator.wait_registrations(2, SOON);
    assert_ne!(seen[0].token(), seen[1].token(), "each url has its own");
    let without = |i: usize| seen[i].body.replace(&seen[i].token(), "");
    assert_eq!(without(0), without(1));
    let host = |i: usize| {
        seen[i]
            .head
            .to_ascii_lowercase()
            .contains(&format!("host: localhost:{}", orchestrator.port))
    };
    assert!(host(0) != host(1), "{seen:?}");
}

fn contact(agent: &Lone, orchestrator: &Orchestrator) -> serde_json::Value {
    let url = format!("http://127.0.0.1:{}", orchestrator.port);
    agent.json("/api/get-agent-data")["Orchestrators"][url].clone()
}

/// Until this protocol is in use and the agent registered; since when.
#[track_caller]
fn wait_in_use(agent: &Lone, orchestrator: &Orchestrator, protocol: &str) -> String {
    let limit = Duration::from_secs(30);
    let contact = wait_for(&format!("{protocol} is in use"), limit, || {
        let found = contact(agent, orchestrator);
        (found["Protocol"] == protocol && found["Registered"] == true).then_some(found)
    });
    let since = contact["Since"].as_str().expect("Since").to_string();
    assert!(wire::is_rfc3339(&since), "{since}");
    since
}

/// orchestrator 3.2.6 and its forks: registration by GET, everything in the path; it calls back before the agent has the answer.
#[test]
fn an_orchestrator_of_the_classic_protocol() {
    let called: Arc<Mutex<Vec<Answer>>> = Arc::default();
    let (record, port) = (Arc::clone(&called), Arc::new(Mutex::new(0)));
    let port_of_agent = Arc::clone(&port);
    let mut orchestrator = Orchestrator::new(move |seen, _| {
        if seen.is_submission() {
            let target = format!("/api/mysql-start?token={}", seen.token());
            let port = *port_of_agent.lock().expect("port");
            let go = [("User-Agent", "Go-http-client/1.1")];
            let answer = wire::ask("127.0.0.1", port, "GET", &target, &go);
            record.lock().expect("record").push(answer);
        }
        classic(seen)
    });
    let mut agent = Lone::new();
    *port.lock().expect("port") = agent.port;
    agent
        .with(
            "orchestrator",
            format!("agents-port = {}", orchestrator.port),
        )
        .with("mysql", "service-start-command = \"false\"")
        .with("common", "poll-interval = \"300ms\"")
        .with("common", "resubmit-agent-interval = \"1s\"");
    orchestrator.start();
    let agent = agent.start();
    let since = wait_in_use(&agent, &orchestrator, "classic");
    let path = format!(
        "GET /api/submit-agent/db7.test/{}/{} HTTP/1.1\r\n",
        agent.port,
        agent.token()
    );
    let submissions = wait_for("it registers again", SOON, || {
        Some(orchestrator.submissions()).filter(|s| s.len() > 2)
    });
    assert!(submissions.iter().all(|s| s.head.starts_with(&path)));
    assert!(submissions.iter().all(|s| s.body.is_empty()));
    let tried = orchestrator.registrations();
    assert!(tried.len() >= submissions.len(), "v2 is tried each time");
    let called = called.lock().expect("record").clone();
    assert!(called.len() >= submissions.len());
    for answer in called.iter() {
        let reason = answer.header("Location");
        assert_eq!(answer.status, 302, "{answer:?}");
        assert!(reason.starts_with("agent-error:"), "{reason}");
    }
    assert_eq!(wait_in_use(&agent, &orchestrator, "classic"), since);
    assert!(!orchestrator.pings().is_empty());
    let status = agent.get("/api/status");
    status.is(200, wire::JSON, "\"OK\"");
    let url = format!("http://127.0.0.1:{}", orchestrator.port);
    let text = format!("{url} classic since {since}; registered");
    assert_eq!(status.header("Orchestrator-Agent-Contact"), text);
    let mut command = std::process::Command::new(&agent.program);
    command.arg("status").arg("--config").arg(agent.file());
    let (_, out, _) = end_of(command);
    let line = format!(" {url}: classic since {since}; registered\n");
    assert!(out.contains(&line), "{out}");
    let log = agent.log();
    assert!(log.contains("by the agent protocol classic"), "{log}");
    assert!(!log.contains(&agent.token()), "{log}");
}

/// At once to v2, and back after three answers of 404.
#[test]
fn an_orchestrator_that_comes_back_with_the_other_protocol() {
    let mut orchestrator = Orchestrator::classic();
    orchestrator.start();
    let agent = agent_for(&orchestrator, &["poll-interval = \"200ms\""]);
    wait_in_use(&agent, &orchestrator, "classic");
    orchestrator.stop();
    wait_for("a ping fails", SOON, || {
        let found = contact(&agent, &orchestrator);
        found["Error"]
            .as_str()
            .is_some_and(|e| e.starts_with("ping: "))
            .then_some(())
    });
    orchestrator.restart_as(v2);
    wait_in_use(&agent, &orchestrator, "v2");
    assert!(agent.log().contains("v2 from now on, classic before"));

    orchestrator.stop();
    wait_for("a ping fails", SOON, || {
        let found = contact(&agent, &orchestrator);
        let error = found["Error"].as_str().is_some_and(|e| !e.is_empty());
        error.then_some(())
    });
    let (before, asked) = (
        orchestrator.submissions().len(),
        orchestrator.registrations().len(),
    );
    orchestrator.restart_as(classic);
    wait_in_use(&agent, &orchestrator, "classic");
    assert_eq!(orchestrator.submissions().len(), before + 1);
    assert_eq!(orchestrator.registrations().len(), asked + 3);
    assert_eq!(agent.get("/api/status").status, 200);
}

/// orchestrator of v2 expects status 500 for the token of an agent that was restarted, one of the classic protocol a redirect.
#[test]
fn a_wrong_token_by_the_protocol_in_use() {
    let mut orchestrator = Orchestrator::welcoming();
    let agent = agent_for(&orchestrator, &["poll-interval = \"200ms\""]);
    let ask = |call: &str| {
        let go = [("User-Agent", "Go-http-client/1.1")];
        let path = format!("/api/{call}?token={}", "0".repeat(64));
        agent.ask("GET", &path, &go).status
    };
    let of_both = ["mysql-start", "mysql-stop", "custom-commands/x"];
    let statuses = || of_both.map(ask);
    assert_eq!(statuses(), [302; 3], "not known yet");
    orchestrator.start();
    wait_in_use(&agent, &orchestrator, "v2");
    assert_eq!(statuses(), [500; 3]);
    assert_eq!(ask("umount"), 302, "of the classic protocol only");
}

/// Only what is configured is called.
#[test]
fn a_configured_protocol() {
    for (protocol, mut orchestrator) in [
        ("v2", Orchestrator::classic()),
        ("classic", Orchestrator::welcoming()),
    ] {
        orchestrator.start();
        let mut agent = Lone::new();
        let line = format!("agents-port = {}", orchestrator.port);
        let agent = agent.with("orchestrator", line);
        agent.with("orchestrator", format!("protocol = \"{protocol}\""));
        let agent = std::mem::replace(agent, Lone::new()).start();
        let seen = wait_for("three registrations", SOON, || {
            let seen = orchestrator.seen();
            let calls = seen.into_iter().filter(|s| !s.is_ping());
            Some(calls.collect::<Vec<_>>()).filter(|s| s.len() > 2)
        });
        let is_v2 = protocol == "v2";
        assert!(seen.iter().all(|s| s.is_registration() == is_v2));
        agent.get("/api/status").is(500, wire::JSON, "\"BAD\"");
        let why = contact(&agent, &orchestrator)["Error"].to_string();
        assert!(why.contains("orchestrator.protocol"), "{why}");
        orchestrator.restart_as(if is_v2 { v2 } else { classic });
        wait_in_use(&agent, &orchestrator, protocol);
    }
}

/// Nodes of orchestrator/raft, in the middle of an upgrade: each with a token of its own, which selects the protocol of the answer.
#[test]
fn a_mixed_fleet() {
    let mut all = [
        Orchestrator::classic(),
        Orchestrator::welcoming(),
        Orchestrator::welcoming(),
    ];
    let urls = all
        .each_ref()
        .map(|o| format!("\"http://127.0.0.1:{}\"", o.port));
    let mut agent = Lone::new();
    agent
        .with("orchestrator", format!("url = [{}]", urls.join(", ")))
        .with("mysql", "service-start-command = \"false\"")
        .with("common", "poll-interval = \"300ms\"");
    all[0].start();
    all[1].start();
    let agent = agent.start();
    wait_in_use(&agent, &all[0], "classic");
    wait_in_use(&agent, &all[1], "v2");
    let down = contact(&agent, &all[2]);
    assert_eq!(
        (&down["Registered"], &down["Protocol"]),
        (&false.into(), &"".into())
    );
    let status = agent.get("/api/status");
    assert_eq!(status.status, 200, "one of them is enough");
    let contacts = status.headers.iter();
    let contacts = contacts.filter(|(n, _)| n == "Orchestrator-Agent-Contact");
    assert_eq!(contacts.count(), 3, "{status:?}");

    let tokens = [
        all[0].submissions()[0].token(),
        all[1].registrations()[0].token(),
    ];
    assert_eq!(tokens[0], agent.token(), "the first url's");
    assert_ne!(tokens[0], tokens[1]);
    let ask = |path: &str, token: &str| {
        let go = [("User-Agent", "Go-http-client/1.1")];
        agent.ask("GET", &format!("{path}?token={token}"), &go)
    };
    for token in &tokens {
        assert_eq!(
            ask("/api/get-agent-data", token).status,
            200,
            "v2 is always served"
        );
    }
    assert_eq!(ask("/api/mysql-start", &tokens[0]).status, 302);
    ask("/api/mysql-start", &tokens[1]).message();
    for wrong in ["", &tokens[0][..63]] {
        assert_ne!(ask("/api/get-agent-data", wrong).status, 200);
    }

    // Each by itself: pings for all that answer, and a registration for the one that comes.
    for orchestrator in &all[..2] {
        let before = orchestrator.pings().len();
        wait_for("a ping", SOON, || {
            (orchestrator.pings().len() > before).then_some(())
        });
    }
    all[0].stop();
    all[2].start();
    wait_in_use(&agent, &all[2], "v2");
    let token = all[2].registrations()[0].token();
    assert!(!tokens.contains(&token));
    assert_eq!(ask("/api/get-agent-data", &token).status, 200);
    assert_eq!(agent.get("/api/status").status, 200);
    assert_eq!(contact(&agent, &all[0])["Protocol"], "classic", "as it was");
}

/// The protocol stays while calls for the seed come, and for seed-orphan-timeout after the last one.
#[test]
fn a_seed_keeps_the_protocol() {
    let mut orchestrator = Orchestrator::welcoming();
    orchestrator.start();
    let agent = agent_for(
        &orchestrator,
        &[
            "resubmit-agent-interval = \"500ms\"",
            "seed-orphan-timeout = \"3s\"",
        ],
    );
    wait_in_use(&agent, &orchestrator, "v2");
    // Without MySQL it fails, and remains the current seed, whose controller may try again.
    assert_eq!(agent.call("/api/prepare/5/Mysqldump/Target").status, 202);
    let before = orchestrator.registrations().len();
    orchestrator.restart_as(classic);
    wait_for("four registrations by v2", Duration::from_secs(60), || {
        agent.call("/api/seed-stage-state/5/Prepare");
        (orchestrator.registrations().len() >= before + 4).then_some(())
    });
    assert!(orchestrator.submissions().is_empty());
    let found = contact(&agent, &orchestrator);
    assert_eq!(found["Protocol"], "v2", "{found}");
    assert!(
        found["Error"]
            .as_str()
            .is_some_and(|e| e.contains("the current seed requires")),
        "{found}"
    );
    wait_in_use(&agent, &orchestrator, "classic");
}

/// A classic seed begins on its source with mountlv, and ends with umount.
#[test]
fn a_mounted_snapshot_keeps_the_classic_protocol() {
    let db = Mariadb::start("127.0.0.1", "");
    let mut orchestrator = Orchestrator::classic();
    orchestrator.start();
    let lines = ["resubmit-agent-interval", "poll-interval"];
    let agent = Agent::start_with(
        &db,
        &Changes {
            agents_port: orchestrator.port,
            lines: Vec::from(lines.map(|key| ("common", format!("{key} = \"300ms\"")))),
            ..Changes::default()
        },
    );
    let url = format!("http://127.0.0.1:{}", orchestrator.port);
    let contact = || agent.json("/api/get-agent-data")["Orchestrators"][&url].clone();
    let in_use = |protocol: &str| {
        wait_for(protocol, Duration::from_secs(30), || {
            let found = contact();
            (found["Protocol"] == protocol && found["Registered"] == true).then_some(())
        });
    };
    in_use("classic");
    agent.wait_looked(true);
    let (status, body) = agent.call("/api/mountlv?lv=/orchestrator-agent/Mysqldump");
    assert_eq!(status, 200, "{body}");
    orchestrator.restart_as(v2);
    let before = orchestrator.submissions().len();
    wait_for("two refusals", Duration::from_secs(30), || {
        (orchestrator.submissions().len() >= before + 2).then_some(())
    });
    let asked = orchestrator.registrations().len();
    let found = contact();
    assert_eq!(found["Protocol"], "classic", "{found}");
    assert_eq!(agent.call("/api/umount").0, 200);
    in_use("v2");
    assert!(orchestrator.registrations().len() > asked);
}

//! What the pages of the server show of an agent, calls by hand, and agents that have servers of both protocols.

use crate::support::agent::{Agent, Changes};
use crate::support::classic::hosts::{Hosts, SOURCE, Setup, TARGET};
use crate::support::classic::orchestrator::Orchestrator;
use crate::support::classic::seed::decoded;
use crate::support::mariadb::MariadbKind;
use crate::support::registry::Registry;
use crate::support::server::Server;
use crate::support::wire::{self, JSON};
use crate::support::{free_port, wait_for};
use serde_json::Value;
use std::time::Duration;

/// All methods that can be used are offered, in the configured order of preference; nothing else is shown that a page cannot use.
#[test]
fn volumes_are_methods_in_order_of_preference() {
    let preferred = ["Mysqldump", "Mydumper", "Xtrabackup"];
    let setup = Setup::by("Mysqldump")
        .on_both("classic", &format!("seed-method = {preferred:?}"))
        .on_both("xtrabackup", "enabled = true")
        .on_both("mydumper", "enabled = true");
    let hosts = Hosts::<MariadbKind>::start(&setup);
    let wanted = preferred.map(|m| format!("/orchestrator-agent/{m}"));
    wait_for("all three", Duration::from_secs(30), || {
        (hosts.page(SOURCE).paths() == wanted).then_some(())
    });
    let page = hosts.page(SOURCE);
    for (volume, method) in page.volumes.iter().zip(preferred) {
        assert!(
            volume["Name"].as_str().expect("Name").contains(method),
            "{volume}"
        );
        assert!(volume["GroupName"].is_string(), "{volume}");
        assert_eq!(volume["IsSnapshot"], true, "{volume}");
        assert!(volume["SnapshotPercent"].is_number(), "{volume}");
    }
    assert!(!page.is_mounted() && page.size() == 0, "{:?}", page.mount);
    // Hosts that can be a source: those that orchestrator lists, without this one.
    for (host, other) in [(SOURCE, TARGET), (TARGET, SOURCE)] {
        let page = wait_for("the other host", Duration::from_secs(60), || {
            Some(hosts.page(host)).filter(|p| !p.hosts.is_empty())
        });
        assert_eq!(page.errors, [""; 0]);
        assert_eq!(
            (page.local_hosts, page.hosts),
            (vec![other.into()], vec![other.into()])
        );
        assert!(page.free > 0 && !page.error_log.is_empty());
    }
}

/// Each answer to the server is a redirect with the reason, and each to anyone else an error.
#[test]
fn calls_out_of_order_are_refused_with_a_reason() {
    let hosts = Hosts::<MariadbKind>::start(&Setup::by("Xtrabackup"));
    let refused = |command: &str| {
        let text = hosts.orchestrator.call(TARGET, command).expect_err(command);
        let reason = text
            .strip_prefix("Get \"agent-error:")
            .unwrap_or_else(|| panic!("{command}: {text}"));
        let reason = decoded(reason.split('"').next().unwrap_or_default());
        assert!(
            reason.is_ascii() && reason.len() <= 150,
            "{command}: {reason}"
        );
        println!("{command}: {reason}");
        reason
    };
    for (command, word) in [
        ("delete-mysql-datadir", "running"),
        ("post-copy/?sourceHost=127.0.0.1", "seed"),
        ("mountlv", "MountLV"),
        ("mountlv?lv=/dev/vg0/snap", "/dev/vg0/snap"),
        (
            "removelv?lv=/orchestrator-agent/Xtrabackup",
            "virtual snapshot",
        ),
        ("receive-mysql-seed-data/first", "'first'"),
        ("send-mysql-seed-data/127.0.0.2/first", "'first'"),
        ("abort-seed/first", "'first'"),
        ("send-mysql-seed-data/127.0.0.2/1", "mount"),
    ] {
        let reason = refused(command);
        assert!(reason.contains(word), "{command}: {reason}");
    }
    hosts.old_data("mine");
    refused("post-copy/?sourceHost=127.0.0.1");
    hosts.assert_old_data("mine");
    // A person with curl.
    let token = hosts.orchestrator.token(TARGET);
    let ask = |agent: &str| {
        let target = format!("/api/delete-mysql-datadir?token={token}");
        wire::ask(
            TARGET,
            hosts.target.port,
            "GET",
            &target,
            &[("User-Agent", agent)],
        )
    };
    assert!(ask("curl/7.88.1").message().contains("running"));
    assert_eq!(ask("Go-http-client/1.1").status, 302);
    hosts.assert_released("calls out of order");
    assert_eq!(hosts.target_db.value("SELECT v FROM precious.t"), "mine");
}

/// A wrong token learns nothing.
#[test]
fn a_wrong_token_is_a_redirect_with_a_fixed_text() {
    let hosts = Hosts::<MariadbKind>::start(&Setup::by("Xtrabackup"));
    for command in [
        "delete-mysql-datadir",
        "mountlv?lv=/orchestrator-agent/Xtrabackup",
        "post-copy/?sourceHost=127.0.0.1",
        "umount",
        "mysql-stop",
        "receive-mysql-seed-data/1",
    ] {
        let joint = if command.contains('?') { '&' } else { '?' };
        let target = format!("/api/{command}{joint}token={}", "0".repeat(64));
        let go = [("User-Agent", "Go-http-client/1.1")];
        let answer = wire::ask(TARGET, hosts.target.port, "GET", &target, &go);
        assert_eq!(answer.status, 302, "{command}: {answer:?}");
        assert_eq!(
            answer.header("Location"),
            "agent-error:invalid token",
            "{command}"
        );
    }
    assert!(hosts.page(TARGET).mysql_running);
}

/// "auto": v2 is tried first, and what has no such endpoint is classic.
#[test]
fn registration_goes_from_v2_to_classic() {
    let hosts = Hosts::<MariadbKind>::start(&Setup::by("Mysqldump"));
    let requests = hosts.orchestrator.requests();
    let of_target = format!("GET /api/submit-agent/{TARGET}/{}/", hosts.target.port);
    let classic = requests.iter().position(|r| r.starts_with(&of_target));
    let classic = classic.unwrap_or_else(|| panic!("{requests:#?}"));
    let before = &requests[..classic];
    assert!(
        before.iter().any(|r| r == "POST /api/register-agent"),
        "{requests:#?}"
    );
    let token = hosts.orchestrator.token(TARGET);
    assert!(token.len() == 64 && token.chars().all(|c| c.is_ascii_hexdigit()));
}

/// One agent with an orchestrator of each protocol: a token for each, and the forms of its answers.
#[test]
fn servers_of_both_protocols() {
    let classic = Orchestrator::start();
    let v2 = Registry::start(|_, _| "\"OK\"".into());
    let db = Server::<MariadbKind>::start(TARGET, "");
    let urls = format!(
        "url = [\"http://127.0.0.1:{}\", \"http://127.0.0.1:{}\"]",
        classic.port(),
        v2.port
    );
    let lines = vec![
        ("orchestrator", urls),
        ("common", format!("hostname = {TARGET:?}")),
        ("common", format!("seed-port = {}", free_port(TARGET))),
    ];
    let agent = Agent::start_with(
        &db,
        &Changes {
            lines,
            ..Changes::default()
        },
    );
    wait_for("the classic registration", Duration::from_secs(30), || {
        (classic.registrations(TARGET) > 0).then_some(())
    });
    let (path, body) = v2
        .requests
        .recv_timeout(Duration::from_secs(30))
        .expect("registration");
    assert_eq!(path, "/api/register-agent");
    let token = body["Token"].as_str().expect("Token").to_string();
    assert_ne!(token, classic.token(TARGET));
    let ask = |path: &str, token: &str| {
        let target = format!("{path}?token={token}");
        let answer = wire::ask(TARGET, agent.port, "GET", &target, &[]);
        assert_eq!(
            (answer.status, answer.header("Content-Type")),
            (200, JSON),
            "{path}"
        );
        serde_json::from_str::<Value>(&answer.body).expect("JSON")
    };
    let classic_token = classic.token(TARGET);
    let tail = "/api/mysql-error-log-tail";
    assert!(ask(tail, &classic_token).is_array());
    assert!(ask(tail, &token).is_string());
    for token in [&token, &classic_token] {
        assert!(ask("/api/get-agent-data", token)["MountPoint"].is_object());
        assert_eq!(ask("/api/mysql-status", token), true);
    }
}

/// A v2 seed between agents that a classic server has registered, and then a classic one.
#[test]
fn a_v2_seed_with_the_same_agents() {
    let hosts = Hosts::<MariadbKind>::start(&Setup::by("Mysqldump"));
    let player = crate::support::player::Player {
        id: 1,
        method: "Mysqldump",
        target: &hosts.target,
        source: &hosts.source,
        target_db: &hosts.target_db,
        source_db: &hosts.source_db,
    };
    player.prepare();
    player.backup();
    player.restore();
    player.cleanup();
    hosts.target_db.sql("SELECT COUNT(*) FROM shop.items");
    hosts.old_data("between");
    hosts.seed(2).must_succeed();
    hosts.assert_copied();
    hosts.assert_released("v2, then classic");
}

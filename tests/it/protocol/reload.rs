//! SIGHUP: what changes while the agent runs, what needs a restart, and that nothing else happens.

use super::orchestrator::Orchestrator;
use crate::support::agent::Changes;
use crate::support::lone::Lone;
use crate::support::pair::Pair;
use crate::support::wait_for;
use std::time::Duration;

/// Writes the configuration, sends the signal, and waits until it has been worked on; what the log says of it.
fn reload(agent: &Lone) -> String {
    agent.write();
    again(agent)
}

fn again(agent: &Lone) -> String {
    let before = agent.log().len();
    let sent = std::process::Command::new("kill")
        .args(["-HUP", &agent.pid().to_string()])
        .status();
    assert!(sent.expect("kill").success());
    wait_for("the reload is over", Duration::from_secs(10), || {
        let log = agent.log();
        let new = log.get(before..).unwrap_or_default();
        let over = new.contains("SIGHUP: done")
            || new.contains("stay as they are") && new.contains("opened again");
        // At level error nothing is said of success.
        over.then(|| new.to_string())
    })
}

#[test]
fn level_commands_and_intervals_change_at_once() {
    let mut orchestrator = Orchestrator::welcoming();
    orchestrator.start();
    let mut agent = Lone::new();
    agent
        .with(
            "orchestrator",
            format!("agents-port = {}", orchestrator.port),
        )
        .with("custom-commands.old", "cmd = \"echo old\"")
        .with("custom-commands.kept", "cmd = \"echo before\"")
        .with("common", "poll-interval = \"1h\"");
    let mut agent = agent.start();
    orchestrator.wait_registrations(1, Duration::from_secs(20));
    assert_eq!(agent.call("/api/custom-commands/old").status, 200);
    assert!(orchestrator.pings().is_empty());
    let token = agent.token();

    agent
        .without("custom-commands.old", "cmd")
        .with("custom-commands.kept", "cmd = \"echo after\"")
        .with("custom-commands.new", "cmd = \"echo new\"")
        .with("common", "poll-interval = \"1s\"")
        .with("logging", "level = \"info\"");
    let told = reload(&agent);
    assert!(!told.contains("need a restart"), "{told}");
    assert!(
        agent
            .call("/api/custom-commands/kept")
            .body
            .contains("after")
    );
    assert!(agent.call("/api/custom-commands/new").body.contains("new"));
    assert!(
        agent
            .call("/api/custom-commands/old")
            .body
            .contains("Command not found")
    );
    let data = agent.json("/api/get-agent-data");
    assert_eq!(data["AgentCommands"], serde_json::json!(["kept", "new"]));
    wait_for(
        "pings come every second now",
        Duration::from_secs(20),
        || (orchestrator.pings().len() >= 3).then_some(()),
    );
    assert_eq!(
        agent.token(),
        token,
        "it is the same process with the same token"
    );
    assert_eq!(
        orchestrator.registrations().len(),
        1,
        "other pings are no reason to register"
    );
    // Both ways, and for registrations as well.
    agent
        .with("common", "poll-interval = \"1h\"")
        .with("common", "resubmit-agent-interval = \"500ms\"");
    reload(&agent);
    orchestrator.wait_registrations(4, Duration::from_secs(20));
    agent.with("common", "resubmit-agent-interval = \"1h\"");
    reload(&agent);
    let calm = orchestrator.seen().len();
    std::thread::sleep(Duration::from_millis(2500));
    let seen = orchestrator.seen().len();
    assert!(
        seen <= calm + 1,
        "one call may be under way: {calm}, {seen}"
    );
    let at = agent.log().len();
    agent.get("/api/get-agent-info");
    assert!(
        !agent.log()[at..].contains("[DEBUG]"),
        "debug lines are gone"
    );
    agent.with("logging", "level = \"debug\"");
    reload(&agent);
    let at = agent.log().len();
    agent.get("/api/get-agent-info");
    wait_for("debug lines are back", Duration::from_secs(5), || {
        agent.log()[at..].contains("[DEBUG]").then_some(())
    });
    assert_eq!(agent.alive(), None);
}

#[test]
fn other_keys_are_named_and_wait_for_a_restart() {
    let mut agent = Lone::new().start();
    agent
        .with("mysql", "password = \"another-s3cret\"")
        .with("common", "max-connections = 7")
        // The same as before in other words: no change.
        .with("common", "command-timeout = \"600s\"")
        .with("mysqldump", "addtional-opts = [\"--single-transaction\", \"--quick\", \"--routines\", \"--events\", \"--triggers\", \"--hex-blob\"]");
    let told = reload(&agent);
    assert!(
        told.contains("need a restart of the agent: common.max-connections, mysql.password\n"),
        "{told}"
    );
    assert!(!told.contains("s3cret"), "{told}");
    assert_eq!(agent.get("/api/get-agent-info").status, 200);
}

#[test]
fn a_file_that_cannot_be_used_changes_nothing() {
    let mut agent = Lone::new();
    agent.with("custom-commands.kept", "cmd = \"echo kept\"");
    let agent = agent.start();
    for (text, named) in [
        ("[common\nport = 1", "line 1"),
        ("[common]\npoll-interval = \"soon\"", "poll-interval"),
        ("[common]\nport = \"x\"", "port"),
    ] {
        std::fs::write(agent.file(), text).expect("file");
        let told = again(&agent);
        assert!(
            told.contains("[ERROR]") && told.contains(named) && told.contains("stay as they are"),
            "{told}"
        );
    }
    std::fs::remove_file(agent.file()).expect("it was there");
    assert!(again(&agent).contains("create it from the sample"));
    assert!(
        agent
            .call("/api/custom-commands/kept")
            .body
            .contains("kept")
    );
}

/// The log may get another name, or none.
#[test]
fn the_log_file_changes_its_name() {
    let mut agent = Lone::new().start();
    let (one, two) = (agent.dir.join("one.log"), agent.dir.join("two.log"));
    let text = |file: &std::path::Path| std::fs::read_to_string(file).unwrap_or_default();
    agent.with("logging", format!("file = {one:?}"));
    reload(&agent);
    assert!(text(&one).contains("opened again"));
    agent.with("logging", format!("file = {two:?}"));
    reload(&agent);
    assert!(text(&two).contains("opened again"));
    let ended = text(&one);
    agent.with("logging", "file = \"/no/such/dir/log\"");
    let told = reload(&agent);
    assert!(
        told.contains("Unable to open log file") && told.contains("/no/such/dir/log"),
        "{told}"
    );
    assert!(text(&two).contains("the old one stays in use"));
    assert_eq!(text(&one), ended);
    // The last name that could be used goes on to be used, also when the next file is wrong and logrotate has moved the log.
    std::fs::rename(&two, agent.dir.join("two.log.1")).expect("rotate");
    std::fs::write(agent.file(), "[common").expect("file");
    again(&agent);
    assert!(text(&two).contains("opened again"), "{}", text(&two));
}

/// http-timeout counts for the next call: this orchestrator never answers.
#[test]
fn http_timeout() {
    let port = crate::support::free_port("127.0.0.1");
    let mut agent = Lone::new();
    agent
        .with("orchestrator", format!("agents-port = {port}"))
        .with("common", "http-timeout = \"1h\"");
    let mut agent = agent.start();
    wait_for("a refused attempt", Duration::from_secs(20), || {
        agent.log().contains("next attempt in").then_some(())
    });
    agent.with("common", "http-timeout = \"500ms\"");
    reload(&agent);
    let silent = std::net::TcpListener::bind(("127.0.0.1", port)).expect("the port again");
    wait_for("the call is given up", Duration::from_secs(60), || {
        agent.log().contains("timeout").then_some(())
    });
    drop(silent);
}

/// A stage at work and a request at work go on, with what they began with.
#[test]
fn during_a_stage_and_a_request() {
    let line = "cmd = \"echo begun > $FILE; while [ -e $FILE ]; do sleep 0.1; done; echo ended\"";
    let scratch = crate::support::Scratch::new("reload");
    let file = scratch.0.join("at-work");
    let changes = Changes {
        lines: vec![(
            "custom-commands.slow",
            line.replace("$FILE", &file.display().to_string()),
        )],
        ..Changes::default()
    };
    let pair = Pair::start_with("", "", &changes);
    let hold = pair.held_dump(1);
    let conf = pair.target.dir.join("agent.conf");
    let before = std::fs::read_to_string(&conf).expect("configuration");
    let (kept, _) = before.split_once("[custom-commands.slow]").expect("last");
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| pair.target.call("/api/custom-commands/slow"));
        wait_for("the command runs", Duration::from_secs(20), || {
            file.exists().then_some(())
        });
        let after = kept.replace(
            "[common]\n",
            "[common]\npoll-interval = \"2s\"\nseed-orphan-timeout = \"1h\"\n",
        );
        std::fs::write(&conf, after).expect("configuration");
        let sent = std::process::Command::new("kill")
            .args(["-HUP", &pair.target.pid().to_string()])
            .status();
        assert!(sent.expect("kill").success());
        wait_for("the reload is over", Duration::from_secs(20), || {
            pair.target.log().contains("SIGHUP: done").then_some(())
        });
        let log = pair.target.log();
        assert!(
            log.contains("need a restart of the agent: common.seed-orphan-timeout"),
            "{log}"
        );
        assert_eq!(
            pair.target.error("/api/custom-commands/slow"),
            "slow : Command not found"
        );
        let (status, details) = pair.state(1, "Backup");
        assert_eq!(status, "Running", "{details}");
        std::fs::remove_file(&file).expect("it was there");
        let (status, body) = slow.join().expect("an answer");
        assert!(status == 200 && body.contains("ended"), "{status} {body}");
    });
    drop(hold);
    let seed = pair.seed(1);
    let state = seed.poll(&pair.target, "Backup");
    assert_eq!(state["Status"], "Completed", "{state}");
    seed.restore();
    seed.cleanup();
    pair.assert_seeded();
}

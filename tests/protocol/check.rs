//! `check-config`: what an operator is told before the agent is started, or when something does not work.

use super::lone::{Lone, end_of};
use super::support::agent::{Agent, Changes};
use super::support::mariadb::{AGENT_PASSWORD, Mariadb};
use super::support::{binary, free_port, tool_path};
use serde_json::Value;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command
        .args(args)
        .env("PATH", tool_path())
        .stdin(Stdio::null());
    command
}

/// Exit code and the JSON document; nothing secret may be in it.
fn checked(file: &Path) -> (i32, Value) {
    let file = file.display().to_string();
    let (code, out, err) = end_of(command(&["check-config", "--config", &file, "--json"]));
    assert_eq!(err, "");
    for secret in [AGENT_PASSWORD, "lone-s3cret-pw", "geheim"] {
        assert!(!out.contains(secret), "{out}");
    }
    let document: Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"));
    let count = |level| {
        let all = document["Findings"].as_array().expect("Findings");
        all.iter().filter(|f| f["Level"] == level).count()
    };
    assert_eq!(document["Errors"], count("error"));
    assert_eq!(document["Warnings"], count("warning"));
    (code.expect("not killed"), document)
}

/// The one finding about `subject` whose text or remedy holds `word`, as its level.
#[track_caller]
fn level<'a>(document: &'a Value, subject: &str, word: &str) -> &'a str {
    let all = document["Findings"].as_array().expect("Findings");
    let holds = |f: &Value, key: &str| f[key].as_str().is_some_and(|t| t.contains(word));
    let found = all
        .iter()
        .find(|f| f["Subject"] == subject && (holds(f, "Text") || holds(f, "Remedy")));
    let found = found.unwrap_or_else(|| panic!("no {subject} with {word}: {document:#}"));
    found["Level"].as_str().expect("Level")
}

fn private(file: &Path) {
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).expect("chmod");
}

#[test]
fn a_host_that_is_ready_and_one_whose_account_is_not() {
    let db = Mariadb::start("127.0.0.1", "");
    let orchestrator = TcpListener::bind("127.0.0.1:0").expect("a port");
    let changes = Changes {
        lines: vec![
            ("common", "hostname = \"127.0.0.1\"".into()),
            ("common", format!("seed-port = {}", free_port("127.0.0.1"))),
        ],
        agents_port: orchestrator.local_addr().expect("bound").port(),
        ..Changes::default()
    };
    let agent = Agent::start_with(&db, &changes);
    let file = agent.dir.join("agent.conf");
    private(&file);
    let (code, d) = checked(&file);
    assert_eq!(
        (code, &d["Errors"], &d["Warnings"]),
        (0, &0.into(), &0.into()),
        "{d:#}"
    );
    for (subject, word) in [
        ("mysql.host", "MariaDB 10."),
        ("mysql.user", "has all"),
        ("mysql.user", "loopback"),
        ("log_bin", "writes a binary log"),
        ("common.port", "held by the running agent 127.0.0.1"),
        ("common.seed-port", "free"),
        ("common.backup-dir", "is writable"),
        ("common.state-dir", "is writable"),
        ("common.hostname", "resolves to 127.0.0.1"),
        ("orchestrator.url", "accepts connections"),
        ("mysql.service-status-command", "says that MySQL runs"),
        ("mysql.service-stop-command", "not run"),
        ("mysqldump.enabled", "can be used"),
    ] {
        assert_eq!(level(&d, subject, word), "ok", "{subject}");
    }
    let name = format!("-config={}", file.display());
    let (code, table, _) = end_of(command(&["check-config", &name]));
    assert_eq!(code, Some(0));
    assert!(table.ends_with("\n0 errors, 0 warnings\n"), "{table}");

    db.unlogged("REVOKE SUPER, RELOAD, SLAVE MONITOR ON *.* FROM 'agent'@'%'");
    db.unlogged("RENAME USER 'agent'@'%' TO 'agent'@'127.0.0.1'");
    let (code, d) = checked(&file);
    assert_eq!((code, &d["Errors"]), (1, &1.into()), "{d:#}");
    assert_eq!(
        level(&d, "mysql.user", "lacks RELOAD, SLAVE MONITOR, SUPER"),
        "error"
    );
    let remedy = "GRANT RELOAD, SLAVE MONITOR, SUPER ON *.* TO `agent`@`127.0.0.1`";
    assert_eq!(level(&d, "mysql.user", remedy), "error");
    // Before 11.0 SUPER holds SLAVE MONITOR; RELOAD it never held.
    db.unlogged("GRANT SUPER ON *.* TO 'agent'@'127.0.0.1'");
    let (_, d) = checked(&file);
    assert_eq!(level(&d, "mysql.user", "GRANT RELOAD ON"), "error");

    // The login that works is that of an account without a name, not of one that the load keeps usable.
    db.unlogged("RENAME USER 'agent'@'127.0.0.1' TO 'agent'@'10.%'");
    db.unlogged(&format!(
        "CREATE USER ''@'127.0.0.1' IDENTIFIED BY '{AGENT_PASSWORD}'"
    ));
    db.unlogged("GRANT SELECT ON *.* TO ''@'127.0.0.1'");
    let text = std::fs::read_to_string(&file).expect("configuration");
    let (_, d) = checked(&file);
    assert_eq!(
        level(&d, "mysql.user", "no account 'agent' may log in"),
        "error"
    );

    // Inside the datadir that the server names, which the configuration does not.
    let inside = db.datadir().join("backup");
    std::fs::create_dir(&inside).expect("directory");
    let changed = text.replace(
        &format!("backup-dir = {:?}", agent.dir.join("backup")),
        &format!("backup-dir = {inside:?}"),
    );
    assert_ne!(text, changed);
    std::fs::write(&file, changed).expect("configuration");
    let (_, d) = checked(&file);
    std::fs::remove_dir(&inside).expect("nothing was left in it");
    assert_eq!(
        level(&d, "common.backup-dir", "is inside the datadir"),
        "error"
    );
}

#[test]
fn a_server_without_binary_log_and_a_wrong_password() {
    let db = Mariadb::start("127.0.0.1", "skip-log-bin");
    let mut host = Lone::new();
    let other = host.dir.join("other");
    host.with("common", "hostname = \"127.0.0.1\"")
        .with("mysql", format!("port = {}", db.port))
        .with("mysql", format!("password = {AGENT_PASSWORD:?}"))
        .with("mysql", format!("datadir = {other:?}"));
    host.write();
    let (code, d) = checked(&host.file());
    assert_eq!(code, 1);
    assert_eq!(level(&d, "log_bin", "no binary log"), "warning");
    assert_eq!(
        level(&d, "mysql.datadir", "the server's datadir is"),
        "error"
    );
    assert_eq!(
        level(&d, "mysql.service-status-command", "but it answers"),
        "error"
    );
    assert_eq!(level(&d, "common.port", "no agent runs here"), "ok");
    assert_eq!(level(&d, "common.state-dir", "will create it"), "ok");
    assert!(!host.dir.join("state").exists(), "check-config only looks");

    host.with("mysql", "password = \"geheim\"");
    host.write();
    let (_, d) = checked(&host.file());
    assert_eq!(level(&d, "mysql.host", "ERROR 1045"), "error");
}

#[test]
fn all_that_can_be_wrong_without_mysql() {
    let mut host = Lone::new();
    let stranger = TcpListener::bind(("127.0.0.1", host.port)).expect("free");
    let lost = host.dir.join("lost");
    host.with("common", "hostname = \"no-such-host.invalid\"")
        .with("common", format!("backup-dir = {:?}", lost.join("b")))
        .with("common", format!("token-hint-file = {:?}", lost.join("t")))
        .with("common", "prot = 7")
        .with("logging", format!("file = {:?}", lost.join("log")))
        .with("mysql", "service-status-command = \"exit 3\"")
        .with(
            "mysql",
            "service-start-command = \"X=1 no-such-tool-7 start | cat\"",
        )
        .with(
            "mysqldump",
            "additional-opts = [\"--quick\", \"--password=geheim\"]",
        )
        .with("xtrabackup", "enabled = true");
    host.write();
    std::fs::set_permissions(host.file(), std::fs::Permissions::from_mode(0o644)).expect("chmod");
    let (code, d) = checked(&host.file());
    assert_eq!(code, 1);
    let file = host.file().display().to_string();
    for (subject, word, expected) in [
        (file.as_str(), "prot", "warning"),
        (file.as_str(), "chmod o-r", "warning"),
        ("mysql.host", "check that it runs", "error"),
        ("common.port", "another program", "error"),
        ("common.backup-dir", "cannot be written to", "error"),
        ("common.token-hint-file", "cannot be written", "warning"),
        ("common.hostname", "does not resolve", "warning"),
        ("common.seed-secret", "is empty", "warning"),
        ("logging.file", "cannot be opened", "error"),
        ("orchestrator.url", "cannot be reached", "warning"),
        ("mysql.service-status-command", "does not run", "warning"),
        ("mysql.service-start-command", "no-such-tool-7", "error"),
        (
            "mysqldump.mysqldump-addtional-opts",
            "--password",
            "warning",
        ),
    ] {
        assert_eq!(level(&d, subject, word), expected, "{subject}");
    }
    drop(stranger);
    // Only what is there is checked; a file that cannot be used is the only finding.
    host.with("mysql", "user = \"\"");
    host.write();
    let (code, d) = checked(&host.file());
    assert_eq!(
        (code, &d["Errors"], &d["Warnings"]),
        (1, &1.into(), &0.into())
    );
    assert_eq!(level(&d, &file, "mysql user not specified"), "error");
}

/// DESIGN 6: a combination that cannot work is a finding.
#[test]
fn sudo_that_cannot_work() {
    let mut host = Lone::new();
    let sudo = host.dir.join("sudo");
    std::fs::write(
        &sudo,
        "#!/bin/sh\necho 'a password is required' >&2\nexit 1\n",
    )
    .expect("script");
    std::fs::set_permissions(&sudo, std::fs::Permissions::from_mode(0o755)).expect("chmod");
    host.with("common", "exec-with-sudo = true")
        .with("common", "sudo-user = \"no-such-user-7\"")
        .with("mysql", "service-start-command = \"true && true\"");
    host.write();
    let file = host.file().display().to_string();
    let mut command = command(&["check-config", "--json", "--config", &file]);
    command.env("PATH", format!("{}:{}", host.dir.display(), tool_path()));
    let (code, out, _) = end_of(command);
    let d: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(code, Some(1));
    assert_eq!(
        level(&d, "common.exec-with-sudo", "a password is required"),
        "error"
    );
    assert_eq!(level(&d, "common.sudo-user", "no such user"), "error");
    assert_eq!(
        level(&d, "mysql.service-start-command", "sudo sh -c"),
        "warning"
    );
}

#[test]
fn arguments() {
    for command_name in ["check-config", "status"] {
        for wrong in [
            &["--config"][..],
            &["--config="],
            &["--json=1"],
            &["x"],
            &["--all"],
        ] {
            let (code, out, err) = end_of(command(&[&[command_name], wrong].concat()));
            assert_eq!((code, out.as_str()), (Some(2), ""), "{wrong:?}");
            assert!(err.contains("usage: orchestrator-agent"), "{err}");
        }
        let (code, out, _) = end_of(command(&[command_name, "--help"]));
        assert_eq!(code, Some(0));
        assert!(out.contains(command_name), "{out}");
        let (code, ..) = end_of(command(&[command_name, "--config", "/no/such/file"]));
        assert_eq!(code, Some(1));
    }
}

//! `check-config`: what an operator is told before the agent is started, or when something does not work.

use super::orchestrator::Orchestrator;
use crate::support::agent::{Agent, Changes};
use crate::support::lone::{Lone, end_of};
use crate::support::mariadb::{AGENT_PASSWORD, Mariadb};
use crate::support::{binary, free_port, tool_path, wait_for};
use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder};
use serde_json::Value;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

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
pub fn level<'a>(document: &'a Value, subject: &str, word: &str) -> &'a str {
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
    let mut orchestrator = Orchestrator::classic();
    orchestrator.start();
    let changes = Changes {
        lines: vec![
            ("common", "hostname = \"127.0.0.1\"".into()),
            ("common", format!("seed-port = {}", free_port("127.0.0.1"))),
        ],
        agents_port: orchestrator.port,
        ..Changes::default()
    };
    let agent = Agent::start_with(&db, &changes);
    let file = agent.dir.join("agent.conf");
    private(&file);
    wait_for("the agent is registered", Duration::from_secs(20), || {
        (agent.get("/api/status").0 == 200).then_some(())
    });
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
        ("orchestrator.url", "running agent: classic since 20"),
        ("mysql.service-status-command", "reports that MySQL runs"),
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
        .with("common", "resubmit-agent-interval = \"6h\"")
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
        ("mysql.host", "check that it is running", "error"),
        ("common.port", "another program", "error"),
        ("common.backup-dir", "cannot be written to", "error"),
        ("common.token-hint-file", "cannot be written", "warning"),
        ("common.hostname", "does not resolve", "warning"),
        ("common.seed-secret", "is empty", "warning"),
        ("logging.file", "cannot be opened", "error"),
        ("orchestrator.url", "cannot be reached", "warning"),
        (
            "common.resubmit-agent-interval",
            "UnseenAgentForgetHours",
            "warning",
        ),
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
    // Of a file that cannot be used nothing but the file itself is checked.
    host.with("mysql", "user = \"\"");
    host.write();
    let (code, d) = checked(&host.file());
    assert_eq!(
        (code, &d["Errors"], &d["Warnings"]),
        (1, &1.into(), &2.into())
    );
    assert_eq!(level(&d, &file, "mysql user not specified"), "error");
    assert_eq!(level(&d, &file, "chmod o-r"), "warning");
    assert_eq!(level(&d, &file, "prot"), "warning");
}

/// A stand-in for sudo that knows the rules in the file `rules` beside it, one command a line, and answers `-l` as sudo 1.9.13 does:
/// nothing and status 1 for what no rule permits.
fn stand_in_for_sudo(dir: &Path, rules: &str) {
    let text = "#!/bin/sh\n\
        rules=$(dirname \"$0\")/rules\n\
        [ \"$1\" = -n ] || exit 9; shift\n\
        list=; if [ \"$1\" = -l ]; then list=1; shift; fi\n\
        [ $# = 0 ] && exec cat \"$rules\"\n\
        [ \"$1\" = -- ] && shift\n\
        grep -qxF -- \"$(basename \"$1\") $2\" \"$rules\" || grep -qxF -- \"$(basename \"$1\")\" \"$rules\" || {\n\
          [ $list ] || echo 'sudo: a password is required' >&2\n\
          exit 1\n\
        }\n\
        [ $list ] && exit 0\n\
        exec \"$@\"\n";
    let file = dir.join("sudo");
    std::fs::write(&file, text).expect("script");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).expect("chmod");
    std::fs::write(dir.join("rules"), rules).expect("rules");
}

/// Each command that no rule permits is found, and nothing else is wrong then.
#[test]
fn what_sudo_does_not_permit_is_found_by_name() {
    let all = [
        "service-x status",
        "service-x start",
        "service-x stop",
        "mariadb-dump",
        "mariadb",
    ];
    let mut host = Lone::new();
    let tool = host.dir.join("service-x");
    std::fs::write(&tool, "#!/bin/sh\nexit 1\n").expect("script");
    std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).expect("chmod");
    host.with("common", "exec-with-sudo = true");
    for word in ["status", "start", "stop"] {
        host.with(
            "mysql",
            format!("service-{word}-command = \"service-x {word}\""),
        );
    }
    host.write();
    let file = host.file().display().to_string();
    let check = || {
        let mut command = command(&["check-config", "--json", "--config", &file]);
        command.env("PATH", format!("{}:{}", host.dir.display(), tool_path()));
        let (_, out, err) = end_of(command);
        serde_json::from_str::<Value>(&out).unwrap_or_else(|e| panic!("{e}: {out}{err}"))
    };
    stand_in_for_sudo(&host.dir, &all.join("\n"));
    let d = check();
    assert_eq!(level(&d, "common.exec-with-sudo", "has rules"), "ok");
    for subject in [
        "mysql.service-start-command",
        "mysql.service-stop-command",
        "mysqldump.enabled",
    ] {
        assert_eq!(level(&d, subject, ""), "ok", "{subject}");
    }
    for (missing, subject) in [
        ("service-x status", "mysql.service-status-command"),
        ("service-x start", "mysql.service-start-command"),
        ("service-x stop", "mysql.service-stop-command"),
        ("mariadb-dump", "mysqldump.enabled"),
        ("mariadb", "mysqldump.enabled"),
    ] {
        let rules: Vec<&str> = all.into_iter().filter(|r| *r != missing).collect();
        stand_in_for_sudo(&host.dir, &rules.join("\n"));
        let d = check();
        assert_eq!(
            level(&d, subject, "no rule in sudoers permits it"),
            "error",
            "{missing}"
        );
        assert_eq!(level(&d, subject, missing), "error");
        assert_eq!(
            d["Findings"]
                .as_array()
                .expect("Findings")
                .iter()
                .filter(|f| { f["Text"].as_str().is_some_and(|t| t.contains("sudoers")) })
                .count(),
            1,
            "{d:#}"
        );
    }
}

/// A server that answers with an error is not told to be started; the account's own remedy is named.
#[test]
fn what_is_wrong_with_the_account() {
    let db = Mariadb::start("127.0.0.1", "extra_max_connections=1");
    let mut host = Lone::new();
    host.with("common", "hostname = \"127.0.0.1\"")
        .with("mysql", format!("port = {}", db.port))
        .with("mysql", format!("password = {AGENT_PASSWORD:?}"))
        .with("mysql", "service-status-command = \"true\"");
    host.write();
    for (wrong, code, remedy, right) in [
        (
            "ALTER USER agent@'%' ACCOUNT LOCK",
            4151,
            "ACCOUNT UNLOCK",
            "ALTER USER agent@'%' ACCOUNT UNLOCK".to_string(),
        ),
        (
            "ALTER USER agent@'%' PASSWORD EXPIRE",
            1820,
            "its password has expired",
            format!("ALTER USER agent@'%' IDENTIFIED BY '{AGENT_PASSWORD}'"),
        ),
        (
            "ALTER USER agent@'%' IDENTIFIED VIA unix_socket",
            1698,
            "by unix_socket",
            format!("ALTER USER agent@'%' IDENTIFIED BY '{AGENT_PASSWORD}'"),
        ),
        (
            "SET GLOBAL max_password_errors = 1",
            4150,
            "FLUSH PRIVILEGES",
            "FLUSH PRIVILEGES".to_string(),
        ),
        (
            "RENAME USER agent@'%' TO agent@'10.1.2.3'",
            1045,
            "check mysql.user",
            "RENAME USER agent@'10.1.2.3' TO agent@'%'".to_string(),
        ),
    ] {
        db.unlogged(wrong);
        if code == 4150 {
            let wrong_password = OptsBuilder::new()
                .ip_or_hostname(Some("127.0.0.1"))
                .tcp_port(db.port)
                .user(Some("agent"))
                .pass(Some("geheim"));
            assert!(Conn::new(wrong_password).is_err());
        }
        let (exit, d) = checked(&host.file());
        assert_eq!(exit, 1);
        assert_eq!(
            level(&d, "mysql.host", &format!("ERROR {code} ")),
            "error",
            "{wrong}"
        );
        assert_eq!(level(&d, "mysql.host", remedy), "error", "{wrong}");
        assert_eq!(
            level(&d, "mysql.host", "MySQL runs and answers"),
            "error",
            "{wrong}"
        );
        assert_eq!(
            level(
                &d,
                "mysql.service-status-command",
                "reports that MySQL runs"
            ),
            "ok",
            "{wrong}"
        );
        db.unlogged(&right);
        let (_, d) = checked(&host.file());
        assert_eq!(level(&d, "mysql.host", "answers at"), "ok", "{right}");
    }
    // More sessions than the server takes; the agent's account may have the one in reserve.
    db.sql("SET GLOBAL max_connections = 10");
    let agents = || {
        let login = OptsBuilder::new()
            .ip_or_hostname(Some("127.0.0.1"))
            .tcp_port(db.port)
            .user(Some("agent"))
            .pass(Some(AGENT_PASSWORD));
        Conn::new(login).ok()
    };
    // The server may still be ending connections of the checks before, and each of them would leave room for another one.
    let mut root = db.root();
    let mut held: Vec<Conn> = Vec::new();
    wait_for("the limit is reached", Duration::from_secs(20), || {
        held.extend(std::iter::from_fn(agents).take(30));
        let count = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = 'agent'";
        let open: Option<usize> = root.query_first(count).expect("process list");
        (open == Some(held.len()) && agents().is_none()).then_some(())
    });
    let (_, d) = checked(&host.file());
    assert_eq!(level(&d, "mysql.host", "raise max_connections"), "error");
}

/// A tool that is there and cannot run, or is of the other family, is found before a seed needs it.
#[test]
fn tools_that_cannot_work() {
    let mut host = Lone::new();
    host.write();
    let bin = host.dir.join("bin");
    std::fs::create_dir(&bin).expect("directory");
    let put = |name: &str, text: &str| {
        let file = bin.join(name);
        std::fs::write(&file, format!("#!/bin/sh\n{text}\n")).expect("script");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).expect("chmod");
    };
    host.with("mysqldump", "enabled = true").write();
    for (tool, text, wanted) in [
        (
            "mariadb-dump",
            "echo 'error while loading shared libraries: libssl.so.1.1' >&2; exit 127",
            "exit status: 127, stderr: error while loading shared libraries: libssl.so.1.1",
        ),
        (
            "mariadb-dump",
            "echo 'mysqldump  Ver 9.7.4 for Linux on x86_64'",
            "is MySQL's, and the server is MariaDB",
        ),
        (
            "mariadb",
            "echo 'cannot open shared object file' >&2; exit 127",
            "cannot open shared object file",
        ),
    ] {
        put(tool, text);
        let file = host.file().display().to_string();
        let mut command = command(&["check-config", "--json", "--config", &file]);
        command.env("PATH", format!("{}:{}", bin.display(), tool_path()));
        let (_, out, _) = end_of(command);
        let d: Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!(level(&d, "mysqldump.enabled", wanted), "error", "{tool}");
        std::fs::remove_file(bin.join(tool)).expect("remove");
    }
}

/// A combination that cannot work is a finding.
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
        level(&d, "mysql.service-start-command", "sudo /bin/sh -c"),
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

/// Which protocol would be used, without an agent and with one that has no registration.
#[test]
fn the_protocol_of_each_orchestrator() {
    let mut orchestrator = Orchestrator::new(|_, _| (404, String::new()));
    orchestrator.start();
    let mut host = Lone::new();
    let port = format!("agents-port = {}", orchestrator.port);
    host.with("orchestrator", port);
    host.write();
    for (protocol, word) in [
        ("auto", ": v2, or classic if it answers 404"),
        ("v2", "orchestrator.protocol: v2"),
        ("classic", "orchestrator.protocol: classic"),
    ] {
        host.with("orchestrator", format!("protocol = \"{protocol}\""));
        host.write();
        let (_, d) = checked(&host.file());
        assert_eq!(level(&d, "orchestrator.url", word), "ok");
    }
    assert!(
        orchestrator.seen().iter().all(|s| s.is_ping()),
        "nothing else is called"
    );
    let host = host.start();
    wait_for("a refusal", Duration::from_secs(20), || {
        host.log().contains("next attempt").then_some(())
    });
    let (_, d) = checked(&host.file());
    assert_eq!(
        level(
            &d,
            "orchestrator.url",
            "the running agent is not registered"
        ),
        "warning"
    );
}

//! What keeps the agent from starting: exit code 1, and one text on standard error that names file, key and remedy.

use crate::support::lone::{Lone, end_of};
use crate::support::{binary, wait_for};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

/// It ends with 1 and says all of this on standard error.
fn refuses(agent: &Lone, words: &[&str]) {
    let (code, _, stderr) = agent.refused();
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.starts_with("orchestrator-agent: "), "{stderr}");
    for word in words {
        assert!(stderr.contains(word), "{word:?} is missing in: {stderr}");
    }
    assert!(!stderr.contains("s3cret"), "{stderr}");
    let of_the_file = stderr.contains("agent.conf");
    assert!(
        !of_the_file || !agent.dir.join("state").exists() && !agent.dir.join("token").exists(),
        "before anything is written"
    );
}

fn plain(args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(binary());
    command.args(args).current_dir("/");
    end_of(command)
}

#[test]
fn arguments() {
    for word in ["-version", "--version"] {
        let (code, stdout, stderr) = plain(&[word]);
        assert_eq!((code, stderr.as_str()), (Some(0), ""));
        assert_eq!(
            stdout,
            format!("orchestrator-agent {}\n", env!("CARGO_PKG_VERSION"))
        );
    }
    for word in ["--help", "-help", "-h"] {
        let (code, stdout, stderr) = plain(&[word]);
        assert_eq!((code, stderr.as_str()), (Some(0), ""));
        assert!(
            stdout.starts_with("usage: orchestrator-agent ") && stdout.contains("exit codes:"),
            "{stdout}"
        );
    }
    for args in [
        &["--bogus"][..],
        &["bogus"],
        &["--config"],
        &["-config"],
        &["serve", "x"],
        &["--version=1"],
    ] {
        let (code, stdout, stderr) = plain(args);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{args:?}");
        assert!(
            stderr.contains("usage: orchestrator-agent"),
            "{args:?}: {stderr}"
        );
    }
}

#[test]
fn all_spellings_of_the_configuration_file() {
    let missing = "/no/such/agent.conf";
    for args in [
        &["--config", missing][..],
        &["-config", missing],
        &["--config=/no/such/agent.conf"],
        &["serve", "-config", missing],
    ] {
        let (code, stdout, stderr) = plain(args);
        assert_eq!((code, stdout.as_str()), (Some(1), ""), "{args:?}: {stderr}");
        assert!(
            stderr.contains(missing) && stderr.contains("--config"),
            "{stderr}"
        );
    }
}

#[test]
fn files_that_cannot_be_read() {
    let lone = Lone::new();
    lone.write();
    let (code, _, stderr) = plain(&["--config", lone.dir.to_str().expect("UTF-8")]);
    assert!(
        code == Some(1) && stderr.contains(lone.dir.to_str().expect("UTF-8")),
        "a directory: {stderr}"
    );
    std::fs::write(lone.file(), b"[common]\nport = 1\n# \xff\n").expect("file");
    let (code, _, stderr) = plain(&["--config", lone.file().to_str().expect("UTF-8")]);
    assert!(
        code == Some(1) && stderr.contains("line 3 is not UTF-8"),
        "{stderr}"
    );
    for (text, words) in [
        ("[common\nport = 1\n", ["line 1", "invalid TOML"]),
        (
            "[common]\nport = 3002\nport = 3003\n",
            ["line 3", "invalid TOML"],
        ),
    ] {
        std::fs::write(lone.file(), text).expect("file");
        let (code, _, stderr) = plain(&["--config", lone.file().to_str().expect("UTF-8")]);
        assert_eq!(code, Some(1));
        assert!(
            words.iter().all(|w| stderr.contains(w)) && stderr.contains("agent.conf"),
            "{stderr}"
        );
    }
    // A file that its user may not read. Root may read all: then the agent is started as somebody else.
    lone.write();
    std::fs::set_permissions(lone.file(), std::fs::Permissions::from_mode(0o000)).expect("chmod");
    let root = std::fs::read(lone.file()).is_ok();
    let mut command = Command::new(if root { "setpriv" } else { binary() });
    // Its own directories may be closed to that user as well: a copy where everybody comes.
    let open = std::env::temp_dir().join(format!("orchestrator-agent-test-{}", std::process::id()));
    std::fs::create_dir_all(&open).expect("directory");
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o755)).expect("chmod");
    let file = open.join("agent.conf");
    std::fs::copy(binary(), open.join("agent")).expect("copy");
    std::fs::write(&file, "[common]\n").expect("file");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o000)).expect("chmod");
    if root {
        command
            .args(["--reuid", "64203", "--regid", "64203", "--clear-groups"])
            .arg(open.join("agent"));
    }
    command.arg("--config").arg(&file).current_dir("/");
    let (code, _, stderr) = end_of(command);
    std::fs::remove_dir_all(&open).expect("removed");
    assert_eq!(code, Some(1), "{stderr}");
    assert!(
        stderr.contains(file.to_str().expect("UTF-8"))
            && stderr.contains("ermission denied")
            && stderr.contains("chown or chmod"),
        "{stderr}"
    );
}

#[test]
fn missing_and_invalid_values() {
    let file = |a: &Lone| a.file().display().to_string();
    for (section, key, words) in [
        (
            "common",
            "backup-dir",
            ["backup-dir not specified", "common.backup-dir"],
        ),
        (
            "orchestrator",
            "url",
            ["orchestrator url not specified", "orchestrator.url"],
        ),
        ("mysql", "user", ["mysql user not specified", "mysql.user"]),
        (
            "mysql",
            "password",
            ["mysql password not specified", "mysql.password"],
        ),
    ] {
        let mut agent = Lone::new();
        agent.without(section, key);
        refuses(&agent, &[&file(&agent), words[0], words[1]]);
    }
    for (section, line, words) in [
        ("common", "port = 70000", ["common.port = 70000", "65535"]),
        (
            "common",
            "port = \"3002\"",
            ["common.port", "without quotes"],
        ),
        (
            "common",
            "poll-interval = 60",
            ["common.poll-interval = 60", "\"60s\""],
        ),
        (
            "common",
            "poll-interval = \"soon\"",
            ["common.poll-interval", "soon"],
        ),
        (
            "common",
            "http-timeout = \"0s\"",
            ["common.http-timeout", "positive"],
        ),
        (
            "common",
            "backup-dir = \"relative\"",
            ["common.backup-dir", "absolute"],
        ),
        (
            "common",
            "listen-address = \"db7.test\"",
            ["common.listen-address", "IP address"],
        ),
        (
            "common",
            "token-http-header = \"X Token\"",
            ["common.token-http-header", "letters"],
        ),
        (
            "common",
            "allowed-clients = [\"10.0.0.0/33\"]",
            ["allowed-clients", "10.0.0.0/33"],
        ),
        (
            "orchestrator",
            "url = \"http://o.test:http\"",
            ["orchestrator.url", "port is not a number"],
        ),
        (
            "orchestrator",
            "url = \"http://o.test/x?y\"",
            ["orchestrator.url", "path"],
        ),
        (
            "mysql",
            "password = 12345678",
            ["mysql.password", "value not shown"],
        ),
        (
            "lvm",
            "enabled = true",
            [
                "lvm is enabled but create-snapshot-command is not specified",
                "lvm.enabled = false",
            ],
        ),
        (
            "logging",
            "file = \"/no/such/dir/agent.log\"",
            [
                "Unable to open log file",
                "logging.file = \"/no/such/dir/agent.log\"",
            ],
        ),
    ] {
        let mut agent = Lone::new();
        agent.with(section, line);
        refuses(&agent, &words);
    }
    let mut agent = Lone::new();
    let inside = format!("datadir = {:?}", agent.dir);
    agent.with("mysql", inside);
    refuses(&agent, &["common.backup-dir", "is inside mysql.datadir"]);
}

/// Starting without the protection that was asked for would be worse than not starting.
#[test]
fn settings_that_are_not_obeyed_stop_the_start() {
    let mut agent = Lone::new();
    agent.with("common", "use-ssl = true");
    refuses(
        &agent,
        &["use-ssl is true but ssl-cert-file is not specified"],
    );
    for (lines, key) in [
        (
            &[
                ("lvm", "socat-use-ssl = true"),
                ("lvm", "socat-ssl-cert-file = \"/etc/c.pem\""),
            ][..],
            "lvm.socat-use-ssl",
        ),
        (&[("logging", "format = \"json\"")], "logging.format"),
    ] {
        let mut agent = Lone::new();
        for (section, line) in lines {
            agent.with(section, *line);
        }
        refuses(&agent, &[key, "is not available in this version: set "]);
    }
}

#[test]
fn an_unknown_key_is_named_with_the_nearest_one() {
    let mut agent = Lone::new();
    agent
        .with("common", "backupdir = \"/b\"")
        .with("mysql", "pasword = \"typo-s3cret\"")
        .with("mysqldumper", "enabled = true");
    let agent = agent.start();
    let log = agent.log();
    let line = |word: &str| {
        log.lines()
            .find(|l| l.contains(word))
            .unwrap_or_else(|| panic!("{word}: {log}"))
            .to_string()
    };
    assert!(
        line("unknown key common.backupdir").contains("backup-dir"),
        "{log}"
    );
    assert!(
        line("unknown key mysql.pasword").contains("mysql.password")
            || line("unknown key mysql.pasword").contains("\"password\""),
        "{log}"
    );
    assert!(
        line("unknown section [mysqldumper]").contains("WARN"),
        "{log}"
    );
    assert!(!log.contains("s3cret"), "{log}");
}

#[test]
fn one_agent_a_state_directory_and_a_port() {
    let mut first = Lone::new().start();
    // Another port, the same state-dir.
    let mut second = Lone::new();
    let state = first.dir.join("state");
    second.with("common", format!("state-dir = {state:?}"));
    refuses(
        &second,
        &[
            "another agent runs",
            "common.state-dir",
            state.to_str().expect("UTF-8"),
        ],
    );
    // Another state-dir, the same port.
    let mut third = Lone::new();
    third.with("common", format!("port = {}", first.port));
    let (code, _, stderr) = third.refused();
    assert_eq!(code, Some(1), "{stderr}");
    let port = first.port.to_string();
    assert!(
        stderr.contains(&port) && stderr.contains("common.port") && stderr.contains("in use"),
        "{stderr}"
    );
    first.json("/api/get-agent-data");
    // The one that refused has not taken the running one's token or record.
    let token = first.token();
    assert_eq!(first.call("/api/active-seed").status, 200, "{token}");
    // Killed, not stopped: the next start is free.
    std::process::Command::new("kill")
        .args(["-9", &first.pid().to_string()])
        .status()
        .expect("kill");
    wait_for("it is gone", Duration::from_secs(5), || first.alive());
    first.launch();
    first.wait_ready();
    first.json("/api/get-agent-data");
}

/// A child that a stopped agent was about to start holds the lock of the state directory a little longer than the agent: the
/// next start, as of `systemctl restart`, waits for it.
#[test]
fn a_lock_that_is_about_to_go_is_waited_for() {
    let mut agent = Lone::new();
    std::fs::create_dir(agent.dir.join("state")).expect("state-dir");
    let lock = std::fs::File::create(agent.dir.join("state/lock")).expect("lock");
    lock.try_lock().expect("free");
    agent.launch();
    std::thread::sleep(Duration::from_millis(100));
    assert!(agent.alive().is_none(), "{}", agent.log());
    lock.unlock().expect("unlocked");
    agent.wait_ready();
}

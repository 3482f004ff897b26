//! A host of the Go agent of the classic protocol: its configuration, the flags of its unit file and its init script's way to start it go
//! on working.

use super::check::level;
use crate::support::classic::orchestrator::Orchestrator;
use crate::support::lone::end_of;
use crate::support::{Scratch, binary, free_port, project, wait_for};
use orchestrator_agent::sys::host::kernel_hostname;
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);

/// `conf/orchestrator-agent.conf.json` of the Go agent, but for the ports.
const SAMPLE: &str = r#"{
    "SnapshotMountPoint": "/tmp",
    "AgentsServer": "http://localhost",
    "AgentsServerPort": ":3001",
    "ContinuousPollSeconds" : 60,
    "ResubmitAgentIntervalMinutes": 60,
    "CreateSnapshotCommand": "echo 'no action'",
    "AvailableLocalSnapshotHostsCommand": "echo 127.0.0.1",
    "AvailableSnapshotHostsCommand": "echo localhost\n127.0.0.1",
    "SnapshotVolumesFilter": "-my-snapshot-",
    "MySQLDatadirCommand": "echo '~/tmp'",
    "MySQLPortCommand": "echo '3306'",
    "MySQLDeleteDatadirContentCommand": "echo 'will not do'",
    "MySQLServiceStopCommand":      "/etc/init.d/mysqld stop",
    "MySQLServiceStartCommand":     "/etc/init.d/mysqld start",
    "MySQLServiceStatusCommand":    "/etc/init.d/mysqld status",
    "ReceiveSeedDataCommand":       "echo 'not implemented here'",
    "SendSeedDataCommand":          "echo 'not implemented here'",
    "PostCopyCommand":              "echo 'post copy'",
    "HTTPPort": 3002,
    "HTTPAuthUser": "",
    "HTTPAuthPassword": "",
    "UseSSL": false,
    "SSLCertFile": "",
    "SSLPrivateKeyFile": "",
    "HttpTimeoutSeconds": 10,
    "ExecWithSudo": false,
    "CustomCommands": {
        "true": "/bin/true"
    },
    "TokenHintFile": ""
}"#;

struct Host {
    dir: PathBuf,
    child: Child,
    _scratch: Scratch,
}

impl Host {
    /// An agent with these arguments, started in a directory with these files. It has a /var/lib of its own, where the state is that no
    /// key of JSON can move.
    fn start(files: &[(&str, &str)], args: &[&str]) -> Self {
        let scratch = Scratch::new("classic");
        let dir = scratch.0.clone();
        std::fs::create_dir_all(dir.join("conf")).expect("conf");
        for path in [&dir, &dir.join("conf")] {
            mode(path, 0o755);
        }
        for (name, text) in files {
            put(&dir.join(name), text);
        }
        let out = std::fs::File::create(dir.join("stdout")).expect("log");
        let child = Command::new("unshare")
            .args(["-m", "sh", "-c"])
            .arg("mount -t tmpfs none /var/lib && cd \"$1\" && shift && exec \"$@\"")
            .arg("sh")
            .arg(&dir)
            .arg(binary())
            .args(args)
            .stdin(Stdio::null())
            .stdout(out.try_clone().expect("log"))
            .stderr(out)
            .spawn()
            .expect("unshare (needs root)");
        Self {
            dir,
            child,
            _scratch: scratch,
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("stdout")).unwrap_or_default()
    }

    fn wait_log(&self, text: &str) {
        let seen = || self.log().contains(text).then_some(());
        wait_for(&format!("{text} in the log"), SOON, seen);
    }

    /// SIGHUP, until its last line, `end`, is in the log.
    fn reload(&self, end: &str) {
        let before = self.log().matches(end).count();
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-HUP", &pid]).status();
        assert!(sent.expect("kill").success());
        wait_for("the reload", SOON, || {
            (self.log().matches(end).count() > before).then_some(())
        });
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of the agent ---\n{}", self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("chmod");
}

fn put(path: &Path, text: &str) {
    std::fs::write(path, text).expect("a file of the test");
    mode(path, 0o644);
}

/// The sample for this agents port and an own port that is free.
fn sample(agents_port: u16) -> (String, u16) {
    let port = free_port("127.0.0.1");
    let text = SAMPLE.replace("\":3001\"", &format!("\":{agents_port}\""));
    (
        text.replace("\"HTTPPort\": 3002", &format!("\"HTTPPort\": {port}")),
        port,
    )
}

fn wait_registered(orchestrator: &Orchestrator, host: &str) {
    wait_for("the registration", SOON, || {
        (orchestrator.registrations(host) > 0).then_some(())
    });
}

#[test]
fn a_go_agents_sample_file_and_unit_work_unchanged() {
    let (orchestrator, name) = (Orchestrator::start(), kernel_hostname());
    let (text, port) = sample(orchestrator.port());
    let args = ["-config", "old.conf", "-debug", "-stack=true"];
    let host = Host::start(&[("old.conf", &text)], &args);
    wait_registered(&orchestrator, &name);
    let ours = format!("GET /api/submit-agent/{name}/{port}/");
    let requests = orchestrator.requests();
    assert!(
        requests.iter().any(|r| r.starts_with(&ours)),
        "{requests:?}"
    );
    let log = host.log();
    for text in [
        "configuration: old.conf",
        "-stack has no effect",
        "mysql.user is empty: only operators' commands are run",
    ] {
        assert!(log.contains(text), "{text}: {log}");
    }
    assert!(
        !log.contains("configuration: unknown") && !log.contains("is ignored"),
        "{log}"
    );
    let done: Value = orchestrator
        .json(&name, "custom-commands/true")
        .expect("its command");
    assert_eq!(done["Code"], "OK", "{done}");
    // Every information call is answered: what its own commands cannot tell, by a reason.
    let page = orchestrator.page(&name);
    assert_eq!(page.local_hosts, ["127.0.0.1"]);
    assert_eq!((page.mysql_running, page.mysql_port), (false, 3306));
    assert!(page.volumes.is_empty() && page.mount["IsMounted"] == false);
    for error in &page.errors {
        let (call, why) = error.split_once(": ").expect("a call");
        let without_data = [
            "available-snapshots", // its second line is not a command
            "mysql-du",
            "mysql-datadir-available-space",
            "mysql-error-log-tail",
        ];
        assert!(
            without_data.contains(&call) && why.contains("agent-error:"),
            "{error}"
        );
    }
}

/// The Go agent's init script starts it in its own directory, without naming a file.
#[test]
fn files_of_the_working_directory_are_read_in_order_and_again_by_sighup() {
    for place in [
        "/etc/orchestrator-agent.conf",
        "/etc/orchestrator-agent.conf.json",
    ] {
        assert!(
            !Path::new(place).exists(),
            "{place} is in the way of this test"
        );
    }
    let (orchestrator, name) = (Orchestrator::start(), kernel_hostname());
    let (text, _) = sample(orchestrator.port());
    let (below, beside) = (
        "conf/orchestrator-agent.conf.json",
        "orchestrator-agent.conf.json",
    );
    let port = free_port("127.0.0.1");
    let scratch = Scratch::new("datadir");
    std::fs::write(scratch.0.join("ibdata1"), vec![1; 1 << 20]).expect("data");
    let own = |command: &str| {
        format!(
            "{{\"httpport\": {port}, \"CustomCommands\": {{\"own\": \"echo {command}\"}}, \"MySQLDatadirCommand\": \"echo {}\", \
             \"AvailableSnapshotHostsCommand\": \"echo db1; [[ b < c ]] && echo db2\", \"MySQLServiceStatusCommand\": \"true\"}}",
            scratch.0.display()
        )
    };
    let host = Host::start(&[(below, &text), (beside, &own("one"))], &["--verbose"]);
    wait_registered(&orchestrator, &name);
    assert!(
        host.log()
            .contains(&format!("configuration: {below}, {beside}"))
    );
    let ours = format!("GET /api/submit-agent/{name}/{port}/");
    assert!(orchestrator.requests().iter().any(|r| r.starts_with(&ours)));
    let page = orchestrator.page(&name);
    assert_eq!(page.hosts, ["db1", "db2"], "by bash");
    assert!(page.mysql_running && page.mysql_disk_usage >= 1 << 20 && page.free > 1 << 20);
    let output = |command: &str| {
        let done: Value = orchestrator.json(&name, command).expect("JSON");
        done["Message"]
            .as_str()
            .unwrap_or_default()
            .trim()
            .to_string()
    };
    assert_eq!(output("custom-commands/own"), "one");
    assert_eq!(output("custom-commands/true"), "");
    put(&host.dir.join(beside), &own("two"));
    host.reload("SIGHUP: done");
    assert_eq!(output("custom-commands/own"), "two");
    // A fault changes nothing.
    put(&host.dir.join(beside), "{\"HTTPPort\": \"x\"}");
    host.reload("SIGHUP: all settings stay as they are");
    assert_eq!(output("custom-commands/own"), "two");
    host.wait_log(&format!(
        "{beside}: HTTPPort = \"x\": expected a whole number"
    ));
    // A file that others can write to is not read.
    put(&host.dir.join(beside), &own("three"));
    mode(&host.dir.join(beside), 0o666);
    host.reload("SIGHUP: done");
    host.wait_log(&format!(
        "{beside} is ignored: {beside} can be written to by other users"
    ));
    let gone = orchestrator.call(&name, "custom-commands/own");
    let why = gone.expect_err("its command is gone");
    assert!(why.contains("Command not found"), "{why}");
}

#[test]
fn convert_config_prints_what_the_agent_uses() {
    let scratch = Scratch::new("convert");
    let dir = &scratch.0;
    let (old, new) = (dir.join("old.json"), dir.join("new.conf"));
    put(&old, &sample(1).0);
    let run = |args: &[&str]| {
        let mut command = Command::new(binary());
        command.args(args).stdin(Stdio::null());
        end_of(command)
    };
    let (old_name, new_name) = (old.display().to_string(), new.display().to_string());
    let (code, toml, err) = run(&["convert-config", &old_name]);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{toml}");
    assert!(
        toml.starts_with("# Converted from ") && toml.contains("0640"),
        "{toml}"
    );
    std::fs::write(&new, &toml).expect("new.conf");
    mode(&new, 0o640);
    let checked = |file: &str| {
        let (_, out, err) = run(&["check-config", "--config", file, "--json"]);
        assert_eq!(err, "");
        let document: Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"));
        document
    };
    let (of_old, of_new) = (checked(&old_name), checked(&new_name));
    assert_eq!(
        level(&of_old, &old_name, "of a classic agent; convert-config"),
        "ok"
    );
    assert_eq!(level(&of_new, &new_name, "is a valid configuration"), "ok");
    for document in [&of_old, &of_new] {
        for (subject, word, wanted) in [
            (
                "mysql.user",
                "only operators' commands and the method LVM",
                "warning",
            ),
            ("classic.mysql-port-command", "prints 3306", "ok"),
            (
                "classic.mysql-datadir-command",
                "which is not a directory",
                "warning",
            ),
            ("classic.receive-seed-data-command", "do not use it", "ok"),
        ] {
            assert_eq!(level(document, subject, word), wanted, "{subject}");
        }
    }
    assert_eq!(of_old["Errors"], of_new["Errors"]);
    put(&old, "{\"AgentsServer\": 5, \"HTTPPort\": -1}");
    let (code, toml, err) = run(&["convert-config", &old_name]);
    assert_eq!((code, toml.as_str()), (Some(1), ""));
    assert_eq!(err.lines().count(), 2, "{err}");
    assert!(
        err.contains("old.json: AgentsServer = 5: expected a string in quotes"),
        "{err}"
    );
    for args in [
        &["convert-config"][..],
        &["convert-config", "--json", &old_name],
    ] {
        assert_eq!(run(args).0, Some(2), "{args:?}");
    }
}

/// With the places of one host changed.
#[test]
fn the_init_script_starts_reloads_and_stops() {
    let scratch = Scratch::new("init");
    let dir = &scratch.0;
    mode(dir, 0o755);
    let quoted = |name: &str| format!("{:?}", dir.join(name));
    let config = format!(
        "{{\"AgentsServer\": \"http://127.0.0.1:1\", \"HTTPPort\": {}, \"common\": {{\"state-dir\": {}}}}}",
        free_port("127.0.0.1"),
        quoted("state")
    );
    put(&dir.join("agent.json"), &config);
    let original = project().join("contrib/orchestrator-agent.init");
    let mut text = std::fs::read_to_string(original).expect("the script");
    for (name, old, value) in [
        ("DAEMON", "/usr/bin/$NAME", format!("{:?}", binary())),
        ("DAEMON_ARGS", "", "\"-config agent.json\"".into()),
        ("WORKING_DIR", "/", quoted("")),
        ("PIDFILE", "/var/run/$NAME.pid", quoted("pid")),
        ("LOG", "/dev/null", quoted("log")),
    ] {
        let line = format!("\n{name}={old}\n");
        assert!(text.contains(&line), "{line}");
        text = text.replace(&line, &format!("\n{name}={value}\n"));
    }
    let script = dir.join("script");
    std::fs::write(&script, text).expect("a copy");
    let run = |action: &str| {
        let mut command = Command::new("sh");
        command.arg(&script).arg(action).stdin(Stdio::null());
        // Not of the agent: it would keep a pipe open.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.status().expect("sh").code()
    };
    let log = || std::fs::read_to_string(dir.join("log")).unwrap_or_default();
    assert_eq!(run("status"), Some(3));
    assert_eq!(
        (run("start"), run("status"), run("start")),
        (Some(0), Some(0), Some(0))
    );
    wait_for("the agent listens", SOON, || {
        log().contains("listening on").then_some(())
    });
    assert_eq!(run("reload"), Some(0));
    wait_for("the reload", SOON, || {
        log().contains("SIGHUP: done").then_some(())
    });
    assert_eq!(
        (run("stop"), run("status"), run("stop")),
        (Some(0), Some(3), Some(0))
    );
    assert!(
        log().contains("stopping") && log().trim_end().ends_with("stopped"),
        "{}",
        log()
    );
    assert_eq!(log().matches(" starts").count(), 1, "{}", log());
    put(&dir.join("agent.json"), "{}");
    assert_eq!((run("start"), run("status")), (Some(1), Some(3)));
}

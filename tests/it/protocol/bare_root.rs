//! The agent in a directory root that holds its program and nothing else: no /dev, no /proc, no shell, no tools. The static build needs
//! no libraries; this one's are copied.

use super::check::level;
use crate::support::lone::{Lone, end_of};
use crate::support::wire;
use crate::support::{binary, wait_for};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Copies the program and what its loader needs.
fn fill(root: &Path) {
    std::fs::copy(binary(), root.join("agent")).expect("program");
    let out = Command::new("ldd").arg(binary()).output().expect("ldd");
    let text = String::from_utf8(out.stdout).expect("text");
    for library in text.split_whitespace().filter(|w| w.starts_with('/')) {
        let place = root.join(library.trim_start_matches('/'));
        std::fs::create_dir_all(place.parent().expect("directory")).expect("directory");
        std::fs::copy(library, place).expect("library");
    }
}

fn within(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("chroot");
    command
        .arg(root)
        .arg("/agent")
        .args(arguments)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command.stdin(Stdio::null());
    command
}

#[test]
fn it_starts_and_check_config_says_what_is_missing() {
    let mut host = Lone::new();
    for line in [
        "backup-dir = \"/backup\"",
        "state-dir = \"/state\"",
        "token-hint-file = \"/token\"",
    ] {
        host.with("common", line);
    }
    host.write();
    fill(&host.dir);

    let out = std::fs::File::create(host.dir.join("stdout")).expect("log");
    let mut agent = within(&host.dir, &["--config", "/agent.conf"])
        .stdout(out.try_clone().expect("log"))
        .stderr(out)
        .spawn()
        .expect("chroot");
    wait_for("the agent listens", Duration::from_secs(20), || {
        let ended = agent.try_wait().expect("wait");
        assert!(ended.is_none(), "{ended:?}: {}", host.log());
        host.log().contains("listening on").then_some(())
    });
    assert_eq!(host.token().len(), 64, "random without a device");
    let answer = wire::ask("127.0.0.1", host.port, "GET", "/api/get-agent-info", &[]);
    assert_eq!(answer.status, 200);
    let data = host.json("/api/get-agent-data");
    assert_eq!(data["MySQLRunning"], false, "{data}");
    agent.kill().expect("kill");
    agent.wait().expect("wait");

    let (code, out, err) = end_of(within(
        &host.dir,
        &["check-config", "--json", "--config", "/agent.conf"],
    ));
    assert_eq!((code, err.as_str()), (Some(1), ""), "{out}");
    let d: Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"));
    assert_eq!(
        level(
            &d,
            "/bin/sh",
            "no service, snapshot or custom command can run"
        ),
        "error"
    );
    assert_eq!(level(&d, "mysqldump.enabled", "not found in PATH"), "error");
    for f in d["Findings"].as_array().expect("Findings") {
        assert!(!out.contains("see the error"), "{out}");
        assert!(
            f["Level"] == "ok" || f["Remedy"] != "" || f["Subject"] == "/agent.conf",
            "no remedy: {f}"
        );
    }
}

//! What the agent reports of a data directory: disk use, schemas, an unfinished swap, old data, settings that cannot work.

use crate::support::agent::{Agent, Changes};
use crate::support::mariadb::Mariadb;
use crate::support::{binary, free_port, wait_for};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const NAME: &str = "#sql-orchestrator-agent";

pub fn changes() -> Changes {
    let line = |section, text: &str| (section, text.to_string());
    Changes {
        lines: vec![
            ("common", format!("seed-port = {}", free_port("127.0.0.1"))),
            line("xtrabackup", "enabled = true"),
        ],
        ..Changes::default()
    }
}

pub fn command(db: &Mariadb, word: &str, file: &Path) -> Value {
    use crate::support::server::Database;
    let out = Command::new(binary())
        .args([word, "--json", "--config"])
        .arg(file)
        .env("PATH", crate::support::path_with(&db.tool_dir()))
        .output()
        .expect("the program");
    serde_json::from_slice(&out.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&out.stdout)))
}

/// The findings about `subject` as `level text -> remedy`.
pub fn findings(document: &Value, subject: &str) -> String {
    let all = document["Findings"].as_array().expect("Findings");
    let of = all.iter().filter(|f| f["Subject"] == subject);
    of.map(|f| format!("{} {} -> {}\n", f["Level"], f["Text"], f["Remedy"]))
        .collect()
}

#[test]
fn staged_and_old_data_are_no_data_of_the_server() {
    let db = Mariadb::start("127.0.0.1", "");
    db.sql("CREATE DATABASE shop");
    let old = db.datadir().join(NAME).join("5/old/shop");
    std::fs::create_dir_all(&old).expect("old data");
    std::fs::create_dir_all(db.datadir().join(".orchestrator-agent")).expect("of another family");
    std::fs::write(old.join("t.ibd"), vec![1; 300 << 20]).expect("old data");
    let agent = Agent::start_with(&db, &changes());
    agent.wait_looked(true);
    let data = agent.json("/api/get-agent-data");
    let names: Vec<&String> = data["MySQLDatabases"]
        .as_object()
        .expect("object")
        .keys()
        .collect();
    assert_eq!(names, ["shop"]);
    let used = data["MySQLDatadirDiskUsed"].as_u64().expect("bytes");
    assert!((1 << 20..300 << 20).contains(&used), "{used}");
    // `status` and check-config find it once the data directory is known without asking MySQL.
    let file = agent.dir.join("agent.conf");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    let text = std::fs::read_to_string(&file).expect("configuration");
    let known = text.replace("[mysql]", &format!("[mysql]\ndatadir = {:?}", db.datadir()));
    std::fs::write(&file, known).expect("configuration");
    let status = command(&db, "status", &file);
    let found = &status["OldData"][0];
    assert!(
        found["Path"].as_str().expect("Path").ends_with("5/old"),
        "{status}"
    );
    assert!(found["Bytes"].as_u64().expect("Bytes") >= 300 << 20);
    assert_eq!(status["UnfinishedSwap"], Value::Null);
    let kept = findings(&command(&db, "check-config", &file), "mysql.keep-old-data");
    assert!(
        kept.contains("warning") && kept.contains("300.") && kept.contains("5/old"),
        "{kept}"
    );
}

/// Where the state directory is damaged it is not known what is where: MySQL is not started, and the agent reports why.
#[test]
fn a_broken_journal_keeps_mysql_from_being_started_and_is_reported() {
    let db = Mariadb::start("127.0.0.1", "");
    let mut agent = Agent::start_with(&db, &changes());
    agent.json("/api/mysql-stop");
    agent.kill();
    std::fs::write(agent.dir.join("state/datadir-swap.json"), "{").expect("journal");
    agent.launch();
    agent.wait_ready();
    let e = agent.error("/api/mysql-start");
    assert!(
        e.contains("MySQL is not started") && e.contains("recovery.md"),
        "{e}"
    );
    assert_eq!(agent.json("/api/get-agent-data")["MySQLRunning"], false);
    assert!(agent.log().contains("datadir-swap.json"));
    let file = agent.dir.join("agent.conf");
    let found = findings(&command(&db, "check-config", &file), "common.state-dir");
    assert!(
        found.contains("error") && found.contains("datadir-swap.json"),
        "{found}"
    );
    let status = command(&db, "status", &file);
    assert!(
        status["Notes"].to_string().contains("datadir-swap.json"),
        "{status}"
    );
    // As contrib/doc/recovery.md says.
    std::fs::remove_file(agent.dir.join("state/datadir-swap.json")).expect("by hand");
    agent.json("/api/mysql-start");
    assert_eq!(db.value("SELECT 1"), "1");
}

#[test]
fn settings_that_cannot_work_are_findings_with_a_remedy() {
    let db = Mariadb::start("127.0.0.1", "");
    let agent = Agent::start_with(&db, &changes());
    let file = agent.dir.join("agent.conf");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    let text = std::fs::read_to_string(&file).expect("configuration");
    let check = |mysql: &str, subject: &str, words: &[&str]| {
        let changed = text.replace("[mysql]", &format!("[mysql]\n{mysql}"));
        std::fs::write(&file, changed).expect("configuration");
        let found = findings(&command(&db, "check-config", &file), subject);
        for word in words {
            assert!(found.contains(word), "{mysql}: {word}: {found}");
        }
    };
    check(
        "",
        "mysql.datadir",
        &["ok", "a copy is test-started with", "mariadbd"],
    );
    check("", "mysql.staging-dir", &["ok", NAME]);
    check("", "mysql.datadir-swap", &["room for a second copy"]);
    check(
        "datadir-swap = \"never\"",
        "mysql.datadir-swap",
        &["warning", "deletes the old data"],
    );
    check(
        "staging-dir = \"/dev/shm/.x\"",
        "mysql.staging-dir",
        &["not on the file system", "leave the setting empty"],
    );
    let inside = db.datadir().join("x");
    check(
        &format!("staging-dir = {inside:?}"),
        "mysql.staging-dir",
        &["inside the data directory"],
    );
    let lost = agent.dir.join("no/where");
    check(
        &format!("staging-dir = {lost:?}"),
        "mysql.staging-dir",
        &["error", "cannot be written to", "create it"],
    );
    check(
        "defaults-file = \"/no/such.cnf\"",
        "mysql.defaults-file",
        &["error", "/no/such.cnf"],
    );
    let other = agent.dir.join("other.cnf");
    std::fs::write(
        &other,
        format!("[mysqld]\ndatadir={}\n", agent.dir.display()),
    )
    .expect("my.cnf");
    check(
        &format!("defaults-file = {other:?}"),
        "mysql.defaults-file",
        &["error", "but the server's is"],
    );
    check(
        &format!("defaults-file = {:?}", db.dir.join("my.cnf")),
        "mysql.defaults-file",
        &["ok", "names the server's"],
    );
    let all = text.replace("service-stop-command", "#");
    std::fs::write(&file, all).expect("configuration");
    let stop = findings(
        &command(&db, "check-config", &file),
        "mysql.service-stop-command",
    );
    assert!(
        stop.contains("systemctl") || stop.contains("its program was found"),
        "{stop}"
    );

    // A user that may not access the data.
    let as_other = |line: &str| {
        std::fs::write(&file, text.replace("[mysql]", &format!("[mysql]\n{line}")))
            .expect("configuration");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).expect("chmod");
        let out = Command::new("setpriv")
            .args([
                "--reuid",
                "64299",
                "--regid",
                "64299",
                "--clear-groups",
                "--inh-caps=-all",
            ])
            .arg(binary())
            .args(["check-config", "--json", "--config"])
            .arg(&file)
            .env("PATH", crate::support::tool_path())
            .output()
            .expect("setpriv (needs root)");
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let document: Value = serde_json::from_str(&text)
            .unwrap_or_else(|e| panic!("{e}: {text} {}", String::from_utf8_lossy(&out.stderr)));
        findings(&document, "mysql.datadir")
    };
    let denied = as_other("");
    assert!(
        denied.contains("Permission denied") && denied.contains("physical seeds"),
        "{denied}"
    );

    // MySQL down, and nothing known of it.
    db.down();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    let _ = std::fs::remove_file(agent.dir.join("state/datadir.json"));
    check(
        "",
        "mysql.datadir",
        &["error", "MySQL is down", "mysql.defaults-file"],
    );
    wait_for("up", Duration::from_secs(60), || {
        db.up();
        Some(())
    });
}

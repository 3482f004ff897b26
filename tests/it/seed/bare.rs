//! Raw streams, as the Go agents exchange them by socat: taken and sent where accept-raw-streams allows it, else refused with a
//! clear text. The real socat, mariadb-backup and mbstream stand for the Go agent.

use crate::support::agent::{Agent, Changes};
use crate::support::mariadb::{Mariadb, MariadbKind};
use crate::support::player::Player;
use crate::support::server::{AGENT_PASSWORD, Database, Kind};
use crate::support::{Scratch, free_port, wait_for};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Duration;

fn changes(seed_port: u16, raw: bool) -> Changes {
    Changes {
        lines: vec![
            ("common", format!("seed-port = {seed_port}")),
            ("common", format!("accept-raw-streams = {raw}")),
            ("xtrabackup", "enabled = true".into()),
        ],
        ..Changes::default()
    }
}

fn tools() -> PathBuf {
    MariadbKind::rig().join(MariadbKind::TOOLS)
}

fn source() -> Mariadb {
    let db = Mariadb::start("127.0.0.1", "");
    db.sql("CREATE DATABASE shop");
    db.sql("CREATE TABLE shop.items ENGINE=InnoDB AS SELECT seq AS id, SHA2(seq, 512) AS t FROM mysql.seq_1_to_20000");
    db
}

/// What a Go agent does on the source.
fn send(db: &Mariadb, seed_port: u16) -> bool {
    let tools = tools();
    // Not in the command line, unlike a Go agent's: other tests look for it there.
    let account = Scratch::new("account");
    let file = account.0.join("my.cnf");
    let text = format!("[mariadb-backup]\nuser=agent\npassword={AGENT_PASSWORD}\n");
    std::fs::write(&file, text).expect("option file");
    let private = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(&file, private).expect("mode");
    let line = format!(
        "set -o pipefail; '{0}/mariadb-backup' --defaults-file='{3}' --backup --stream=xbstream --target-dir=./ --datadir='{1}' \
         --host=127.0.0.1 --port={2} 2>/dev/null | '{0}/socat' -u - TCP:127.0.0.2:{seed_port}",
        tools.display(),
        db.datadir().display(),
        db.port(),
        file.display()
    );
    let status = Command::new("bash").args(["-c", &line]).status();
    status.expect("bash").success()
}

fn state(agent: &Agent, id: i64, stage: &str) -> Value {
    wait_for(stage, Duration::from_secs(60), || {
        let state = agent.json(&format!("/api/seed-stage-state/{id}/{stage}"));
        (state["Status"] != "Running").then_some(state)
    })
}

#[test]
fn what_socat_sends_is_received_where_it_is_allowed() {
    let source_db = source();
    let target_db = Mariadb::start("127.0.0.2", "");
    let port = free_port("127.0.0.2");
    let target = Agent::start_with(&target_db, &changes(port, true));
    Player::start(&target, "/api/prepare/1/Xtrabackup/Target");
    assert_eq!(state(&target, 1, "Prepare")["Status"], "Completed");
    assert!(send(&source_db, port));
    assert_eq!(state(&target, 1, "Backup")["Status"], "Completed");
    Player::start(&target, "/api/restore/1/Xtrabackup");
    let restored = state(&target, 1, "Restore");
    assert_eq!(restored["Status"], "Completed", "{restored}");
    let rows = "SELECT CONCAT(COUNT(*), ' ', SUM(CRC32(t))) FROM shop.items";
    assert_eq!(target_db.value(rows), source_db.value(rows));
    assert!(
        target.log().contains("raw stream"),
        "the log says what is lost"
    );
}

#[test]
fn and_turned_away_where_it_is_not() {
    let source_db = source();
    let target_db = Mariadb::start("127.0.0.2", "");
    let port = free_port("127.0.0.2");
    let target = Agent::start_with(&target_db, &changes(port, false));
    Player::start(&target, "/api/prepare/1/Xtrabackup/Target");
    assert_eq!(state(&target, 1, "Prepare")["Status"], "Completed");
    send(&source_db, port); // it may well see nothing of this
    wait_for("it is turned away", Duration::from_secs(20), || {
        target
            .log()
            .contains("accept-raw-streams = true")
            .then_some(())
    });
    let waiting = target.json("/api/seed-stage-state/1/Backup");
    assert_eq!(
        waiting["Status"], "Running",
        "the true source may still come"
    );
}

/// What a Go agent does on the target.
fn receiver(seed_port: u16, dir: &Scratch) -> Child {
    let tools = tools();
    Command::new(tools.join("socat"))
        .arg("-u")
        .arg(format!(
            "TCP-LISTEN:{seed_port},bind=127.0.0.2,reuseaddr,fork"
        ))
        .arg(format!(
            "EXEC:{} -x -C {}",
            tools.join("mbstream").display(),
            dir.0.display()
        ))
        .spawn()
        .expect("socat")
}

#[test]
fn what_we_send_is_taken_by_socat_where_it_is_allowed() {
    let source_db = source();
    for raw in [true, false] {
        let port = free_port("127.0.0.2");
        let source = Agent::start_with(&source_db, &changes(port, raw));
        let dir = Scratch::new("socat");
        let mut socat = receiver(port, &dir);
        Player::start(&source, "/api/prepare/1/Xtrabackup/Source");
        assert_eq!(state(&source, 1, "Prepare")["Status"], "Completed");
        Player::start(
            &source,
            &format!("/api/backup/1/Xtrabackup/127.0.0.2/{}", source_db.port()),
        );
        let sent = state(&source, 1, "Backup");
        let details = sent["Details"].as_str().expect("Details");
        if raw {
            assert_eq!(sent["Status"], "Completed", "{sent}");
            assert!(details.contains("raw stream"), "{details}");
            let all = [
                "xtrabackup_info",
                "xtrabackup_checkpoints",
                "shop/items.ibd",
            ];
            wait_for("all of it is there", Duration::from_secs(20), || {
                all.iter().all(|f| dir.0.join(f).exists()).then_some(())
            });
        } else {
            assert_eq!(sent["Status"], "Error", "{sent}");
            assert!(details.contains("accept-raw-streams = true"), "{details}");
            assert!(!dir.0.join("ibdata1").exists());
        }
        socat.kill().expect("kill");
        socat.wait().expect("wait");
    }
}

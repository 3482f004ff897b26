//! Sources that cannot be one: each is refused before anything on the target is touched, with the reason.

use crate::support::agent::{Agent, Changes};
use crate::support::mariadb::{Mariadb, REPL_PASSWORD};
use crate::support::pair::{Pair, state_of};
use crate::support::player::Player;
use crate::support::wait_for;
use std::time::{Duration, Instant};

/// Details of the Error in which a stage of `agent` ends.
fn fails(agent: &Agent, id: i64, stage: &str) -> String {
    wait_for(&format!("{stage} fails"), Duration::from_secs(120), || {
        let (status, text) = state_of(agent, id, stage);
        assert_ne!(status, "Completed", "{text}");
        (status == "Error").then_some(text)
    })
}

/// Prepare of the target and Backup from `host`:`port`, which fails; its Details.
fn backup_from(pair: &Pair, id: i64, host: &str, port: u16) -> String {
    Player::start(&pair.target, &format!("/api/prepare/{id}/Mysqldump/Target"));
    pair.seed(id).must_complete(&pair.target, "Prepare");
    Player::start(
        &pair.target,
        &format!("/api/backup/{id}/Mysqldump/{host}/{port}"),
    );
    let text = fails(&pair.target, id, "Backup");
    pair.assert_alive();
    pair.assert_unchanged();
    text
}

/// Makes `db` a replica of `of`, from the latter's present place on.
pub fn replicate(db: &Mariadb, of: &Mariadb) {
    let place = of.value("SELECT @@gtid_binlog_pos");
    db.sql("RESET MASTER");
    db.sql(&format!("SET GLOBAL gtid_slave_pos = '{place}'"));
    db.sql(&format!(
        "CHANGE MASTER TO MASTER_HOST = '{}', MASTER_PORT = {}, MASTER_USER = 'repl', MASTER_PASSWORD = '{REPL_PASSWORD}', \
         MASTER_USE_GTID = slave_pos",
        of.host, of.port
    ));
    db.sql("START SLAVE");
    wait_for("replication runs", Duration::from_secs(20), || {
        (db.replica_status("Slave_IO_Running") == "Yes").then_some(())
    });
}

#[test]
fn that_does_not_answer() {
    let pair = Pair::start();
    let text = backup_from(&pair, 1, "127.0.0.1", 1);
    assert!(
        text.contains("source 127.0.0.1:1") && text.contains("Connection refused"),
        "{text}"
    );
    let text = backup_from(&pair, 2, "no-such-host.invalid", 3306);
    assert!(text.contains("source no-such-host.invalid:3306"), "{text}");

    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("listener");
    let port = silent.local_addr().expect("address").port();
    let begin = Instant::now();
    let text = backup_from(&pair, 3, "127.0.0.1", port);
    assert!(
        begin.elapsed() < Duration::from_secs(45),
        "took {:?}",
        begin.elapsed()
    );
    assert!(text.contains(&format!("source 127.0.0.1:{port}")), "{text}");
    drop(silent);
    pair.must_seed(4);
}

#[test]
fn that_is_the_target_itself() {
    let pair = Pair::start();
    let (host, port) = (pair.target_db.host.clone(), pair.target_db.port);
    let text = backup_from(&pair, 1, &host, port);
    assert!(
        text.contains("same server_id") && text.contains(&port.to_string()),
        "{text}"
    );
    pair.must_seed(2);
}

#[test]
fn that_writes_no_binary_log() {
    let pair = Pair::start_with("skip_log_bin", "", &Changes::default());
    Player::start(&pair.source, "/api/prepare/1/Mysqldump/Source");
    let text = fails(&pair.source, 1, "Prepare");
    assert!(
        text.contains("log_bin") && text.contains("my.cnf"),
        "{text}"
    );
    // Whoever goes on without looking at the source's Prepare gets no further.
    let text = backup_from(&pair, 1, &pair.source_db.host, pair.source_db.port);
    assert!(
        text.contains("log_bin")
            && text.contains(&format!("source 127.0.0.1:{}", pair.source_db.port)),
        "{text}"
    );
}

#[test]
fn that_is_a_replica_without_log_slave_updates() {
    let first = Mariadb::start("127.0.0.1", "");
    let pair = Pair::start_with("skip_log_slave_updates", "", &Changes::default());
    pair.source_db.sql("DROP EVENT shop.tick"); // it writes errant transactions
    replicate(&pair.source_db, &first);
    Player::start(&pair.source, "/api/prepare/1/Mysqldump/Source");
    let text = fails(&pair.source, 1, "Prepare");
    assert!(
        text.contains("log_slave_updates") && text.contains("replica of 127.0.0.1"),
        "{text}"
    );
    let text = backup_from(&pair, 1, &pair.source_db.host, pair.source_db.port);
    assert!(text.contains("log_slave_updates"), "{text}");
    pair.source_db.sql("STOP SLAVE");
    pair.source_db.sql("RESET SLAVE ALL");
    pair.must_seed(2);
}

/// The source's accounts become the target's: without one for the target's own host the agent would be locked out.
#[test]
fn whose_account_serves_a_foreign_host_only() {
    let pair = Pair::start_with("bind_address=0.0.0.0", "", &Changes::default());
    let here = std::net::UdpSocket::bind("0.0.0.0:0").and_then(|s| {
        s.connect("192.0.2.1:9")?; // sends nothing, only chooses the address
        s.local_addr()
    });
    let here = here
        .expect("this test needs an address that is not a loopback one")
        .ip()
        .to_string();
    let db = &pair.source_db;
    db.unlogged(&format!("RENAME USER agent@'%' TO agent@'{here}'"));
    let text = backup_from(&pair, 1, &here, db.port);
    assert!(
        text.contains("'agent'@'localhost'") && text.contains(&format!("'agent'@'{here}'")),
        "{text}"
    );
    // No login at all.
    let text = backup_from(&pair, 2, &db.host, db.port);
    assert!(text.contains("1130") || text.contains("1045"), "{text}");
    assert!(
        text.contains("mysql.user = \"agent\""),
        "names the setting: {text}"
    );
    // An account for the loopback with another password is no use.
    db.unlogged("CREATE USER agent@localhost IDENTIFIED BY 'something-else'");
    let text = backup_from(&pair, 3, &here, db.port);
    assert!(text.contains("another password"), "{text}");
    assert!(!text.contains("something-else"));
    db.unlogged("DROP USER agent@localhost");
    db.unlogged(&format!("RENAME USER agent@'{here}' TO agent@'%'"));
    pair.must_seed(4);
}

/// It goes away in the middle.
#[test]
fn that_dies_during_the_dump() {
    let pair = Pair::start();
    let hold = pair.held_dump(1);
    pair.source_db.kill();
    drop(hold);
    let text = fails(&pair.target, 1, "Backup");
    assert!(
        text.contains("mariadb-dump") && text.contains("exit status"),
        "{text}"
    );
    pair.assert_unchanged();
    pair.source_db.up();
    pair.must_seed(2);
}

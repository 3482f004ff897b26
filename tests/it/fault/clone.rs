//! What goes wrong in a seed by CLONE: aborted, killed and refused.

use crate::support::agent::Changes;
use crate::support::mysqld::{Mysqld, MysqldKind};
use crate::support::pair::Pair;
use crate::support::player::Player;
use crate::support::server::AGENT_PASSWORD;
use crate::support::{processes_with, wait_for};
use std::process::Command;
use std::time::Duration;

const PLUGIN: &str = "plugin_load_add=mysql_clone.so\n";

/// At 20 MiB a second the 2 GB of [`in_the_middle`] take long enough to be met in the middle for sure.
fn changes(setting: &str) -> Changes {
    Changes {
        lines: vec![
            ("clone_plugin", "enabled = true".into()),
            ("clone_plugin", "clone-autotune-concurrency = false".into()),
            ("clone_plugin", "clone-max-concurrency = 1".into()),
            ("clone_plugin", "clone-max-data-bandwidth = 20".into()),
            ("clone_plugin", "clone-max-network-bandwidth = 300".into()),
            ("mysql", format!("datadir-swap = {setting:?}")),
        ],
        ..Changes::default()
    }
}

fn pair(cnf: &str, setting: &str) -> Pair<MysqldKind> {
    let changes = changes(setting);
    let pair = Pair::<MysqldKind>::with(cnf, cnf, &changes, &changes);
    for db in [&pair.source_db, &pair.target_db] {
        db.unlogged("GRANT BACKUP_ADMIN, CLONE_ADMIN ON *.* TO 'agent'@'%'");
    }
    pair
}

fn clone(pair: &Pair<MysqldKind>, id: i64) -> Player<'_, MysqldKind> {
    Player {
        method: "ClonePlugin",
        ..pair.seed(id)
    }
}

/// The variables as a target had them, and what is persisted there.
fn settings(db: &Mysqld) -> Vec<String> {
    let mut all = db.sql(
        "SELECT CONCAT(VARIABLE_NAME, '=', VARIABLE_VALUE) FROM performance_schema.global_variables \
         WHERE VARIABLE_NAME LIKE 'clone%' OR VARIABLE_NAME IN ('event_scheduler', 'read_only', 'super_read_only') ORDER BY 1",
    );
    all.extend(db.sql("SELECT VARIABLE_NAME FROM performance_schema.persisted_variables"));
    all
}

/// A CLONE of more than 2 GB that is in the middle of its files.
fn in_the_middle(pair: &Pair<MysqldKind>, setting: &str) {
    pair.source_db
        .sql("CREATE TABLE shop.large (id INT PRIMARY KEY) AUTOEXTEND_SIZE = 2G");
    let seed = clone(pair, 1);
    seed.prepare();
    seed.start_backup();
    wait_for("files are copied", Duration::from_secs(60), || {
        let state = pair.target.json("/api/seed-stage-state/1/Backup");
        assert_eq!(state["Status"], "Running", "{state}");
        let (bytes, total) = (&state["Progress"]["Bytes"], &state["Progress"]["Total"]);
        let enough = bytes.as_u64() > Some(50 << 20) && total.as_u64() > Some(2 << 30);
        let told = state["Details"]
            .as_str()
            .is_some_and(|d| d.contains("FILE COPY"));
        (enough && told).then_some(())
    });
    let bandwidth = "SELECT CONCAT_WS(' ', @@clone_max_data_bandwidth, @@clone_max_network_bandwidth, @@clone_autotune_concurrency)";
    if setting == "never" {
        assert_eq!(
            pair.target_db.value(bandwidth),
            "20 300 0",
            "the settings are restored"
        );
    }
}

/// What is left of the CLONE of seed 1, which did not come to its end, and a second seed, whose first Restores end as `ended` does it.
fn afterwards(
    pair: &mut Pair<MysqldKind>,
    setting: &str,
    before: &[String],
    ended: impl FnOnce(&mut Pair<MysqldKind>),
) {
    let staging = pair.target_db.datadir().join(".orchestrator-agent");
    wait_for("the private server ends", Duration::from_secs(10), || {
        processes_with(&staging.display().to_string())
            .is_empty()
            .then_some(())
    });
    pair.assert_nothing_left();
    wait_for(
        "the settings are as before",
        Duration::from_secs(30),
        || (settings(&pair.target_db) == before).then_some(()),
    );
    let state = pair.target.json("/api/seed-stage-state/1/Backup");
    let details = state["Details"].as_str().expect("Details");
    assert_eq!(state["Status"], "Error", "{state}");
    match setting {
        "never" => {
            assert_eq!(state["TargetData"], "Partial", "{state}");
            assert!(
                details.contains(
                    "The old data were deleted and the new ones are not complete: do not use them; "
                ),
                "{details}"
            );
            assert!(
                pair.target_db
                    .sql("SHOW DATABASES LIKE 'precious'")
                    .is_empty()
            );
        }
        _ => {
            assert_eq!(state["TargetData"], "Unchanged", "{state}");
            assert!(!details.contains("partial"), "{details}");
            pair.assert_unchanged();
        }
    }
    pair.source_db.sql("DROP TABLE shop.large");
    clone(pair, 2).prepare();
    clone(pair, 2).backup();
    if setting != "never" {
        ended(pair);
    }
    let second = clone(pair, 2);
    second.restore();
    second.cleanup();
    pair.assert_seeded();
    assert_eq!(settings(&pair.target_db), before, "as before");
}

/// Restore may be called again after an abort, also of the private server that ends the CLONE's own recovery.
fn aborted_restores(pair: &mut Pair<MysqldKind>) {
    let seed = clone(pair, 2);
    for (n, moments) in [
        &["Starting a private server", "Preparing the copy"][..],
        &[
            "Preparing the copy",
            "Swapping",
            "Stopping MySQL",
            "Moving the",
        ],
    ]
    .into_iter()
    .enumerate()
    {
        seed.start_restore();
        wait_for(moments[0], Duration::from_secs(60), || {
            let (status, details) = pair.state(seed.id, "Restore");
            assert_eq!(status, "Running", "{details}");
            moments.iter().any(|m| details.contains(m)).then_some(())
        });
        let (status, _) = pair
            .target
            .call(&format!("/api/abort-seed-stage/{}/Restore", seed.id));
        assert_eq!(status, 200);
        pair.must_fail(seed.id, "Restore");
        // What it may have to undo goes on after that.
        wait_for("the stage has ended", Duration::from_secs(120), || {
            let log = pair.target.log();
            (log.matches("Restore ended: aborted").count() > n).then_some(())
        });
    }
    pair.assert_unchanged();
}

/// Restore may be called again after a SIGKILL of the target's agent at any of these moments; until then the old data are in place.
fn killed_restores(pair: &mut Pair<MysqldKind>) {
    let mut rolled_back = 0;
    for moment in ["private server", "Stopping MySQL", "Starting MySQL"] {
        clone(pair, 2).start_restore();
        wait_for(moment, Duration::from_secs(60), || {
            let (status, details) = pair.state(2, "Restore");
            assert_eq!(status, "Running", "{moment}: {details}");
            details.contains(moment).then_some(())
        });
        pair.target.kill();
        pair.target.launch();
        pair.target.wait_ready_for(Duration::from_secs(180));
        let state = pair.target.json("/api/seed-stage-state/2/Restore");
        println!("{moment}: {state}");
        assert_eq!(state["Status"], "Error", "{moment}: {state}");
        assert_eq!(state["TargetData"], "Unchanged", "{moment}: {state}");
        let details = state["Details"].as_str().expect("Details");
        assert!(
            details.contains("the agent ended while it ran"),
            "{moment}: {details}"
        );
        // A stop command of the killed agent may still be at work before.
        if moment != "private server" {
            rolled_back += 1;
        }
        wait_for("MySQL runs", Duration::from_secs(60), || {
            let log = pair.target.log();
            (log.matches("MySQL runs on the old data again").count() >= rolled_back).then_some(())
        });
        pair.assert_unchanged();
    }
}

fn aborted(setting: &str) {
    let mut pair = pair(PLUGIN, setting);
    let before = settings(&pair.target_db);
    in_the_middle(&pair, setting);
    let (status, body) = pair.target.call("/api/abort-seed-stage/1/Backup");
    assert_eq!((status, body.as_str()), (200, "killed"));
    afterwards(&mut pair, setting, &before, aborted_restores);
}

#[test]
fn aborted_in_place() {
    aborted("never");
}

#[test]
fn aborted_staged() {
    aborted("auto");
}

/// The source keeps what it sends to a server that is suddenly gone, for five minutes, unless it is told not to.
#[test]
fn the_private_server_is_killed() {
    let mut pair = pair(PLUGIN, "auto");
    let before = settings(&pair.target_db);
    in_the_middle(&pair, "auto");
    let staging = pair.target_db.datadir().join(".orchestrator-agent");
    let servers = processes_with(&staging.display().to_string());
    assert!(!servers.is_empty());
    for (pid, _) in servers {
        Command::new("kill")
            .args(["-9", &pid.to_string()])
            .status()
            .expect("kill");
    }
    let details = pair.must_fail(1, "Backup");
    assert!(details.contains("CLONE from 127.0.0.1:"), "{details}");
    afterwards(&mut pair, "auto", &before, aborted_restores);
}

/// kill -9 of the target's agent: its CLONE runs on, until the next agent ends it.
fn killed(setting: &str) {
    let mut pair = pair(PLUGIN, setting);
    let before = settings(&pair.target_db);
    in_the_middle(&pair, setting);
    pair.target.kill();
    assert!(!pair.source_db.connections_of("agent").is_empty());
    pair.target.launch();
    pair.target.wait_ready();
    wait_for("the settings are put back", Duration::from_secs(30), || {
        (settings(&pair.target_db) == before).then_some(())
    });
    let (_, details) = pair.state(1, "Backup");
    assert!(
        details.contains("Backup was interrupted: the agent ended while it ran"),
        "{details}"
    );
    afterwards(&mut pair, setting, &before, killed_restores);
}

#[test]
fn agent_killed_in_place() {
    killed("never");
}

#[test]
fn agent_killed_staged() {
    killed("auto");
}

/// What is known before anything is touched, by the two agents' Prepare and by the target's Backup. Both servers get the plugin
/// from their agents.
#[test]
fn refusals() {
    let pair = pair("", "never");
    let source = &pair.source_db;
    let mut id = 0;
    let mut backup_fails = |spoil: &dyn Fn(), part: &[&str], mend: &dyn Fn()| {
        id += 1;
        let seed = clone(&pair, id);
        seed.prepare();
        spoil();
        seed.start_backup();
        let details = pair.must_fail(id, "Backup");
        for part in part {
            assert!(details.contains(part), "{part}: {details}");
        }
        assert!(!details.contains(AGENT_PASSWORD), "{details}");
        let state = pair
            .target
            .json(&format!("/api/seed-stage-state/{id}/Backup"));
        assert_eq!(state["TargetData"], "Unchanged", "{state}");
        pair.assert_unchanged();
        mend();
    };
    let sql = |statement: &'static str| move || source.unlogged(statement);
    let who = format!("source 127.0.0.1:{}", source.port);
    backup_fails(
        &sql("CREATE TABLE shop.heap (id INT) ENGINE=MyISAM"),
        &[&who, "bring them empty: `shop`.`heap` (MyISAM)"],
        &|| {},
    );
    Player::start(&pair.source, "/api/prepare/90/ClonePlugin/Source");
    let (status, details) = wait_for("Prepare ends", Duration::from_secs(30), || {
        let state = crate::support::pair::state_of(&pair.source, 90, "Prepare");
        (state.0 != "Running").then_some(state)
    });
    assert_eq!(status, "Error");
    assert!(details.contains("`shop`.`heap` (MyISAM)"), "{details}");
    source.unlogged("DROP TABLE shop.heap");
    backup_fails(
        &sql("UNINSTALL PLUGIN clone"),
        &[
            "the clone plugin is not active on source",
            "INSTALL PLUGIN clone SONAME",
        ],
        &|| {},
    );
    backup_fails(
        &sql("REVOKE BACKUP_ADMIN ON *.* FROM 'agent'@'%'"),
        &["lacks BACKUP_ADMIN on source", "GRANT BACKUP_ADMIN ON *.*"],
        &sql("GRANT BACKUP_ADMIN ON *.* TO 'agent'@'%'"),
    );
    backup_fails(
        &|| {
            source.unlogged("ALTER USER 'agent'@'%' IDENTIFIED BY 'another one'");
        },
        &[&who, "ERROR 1045", "mysql.password"],
        &|| {
            source.unlogged(&format!(
                "ALTER USER 'agent'@'%' IDENTIFIED BY '{AGENT_PASSWORD}'"
            ));
        },
    );
    backup_fails(
        &|| source.down(),
        &[&who, "check that it is running"],
        &|| source.up(),
    );
}

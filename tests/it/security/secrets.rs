//! Secrets never leave memory except in files of mode 0600.

use crate::support::agent::{Agent, Changes};
use crate::support::fake::Fakes;
use crate::support::mariadb::{AGENT_PASSWORD, Mariadb, MariadbKind, REPL_PASSWORD};
use crate::support::mysqld::MysqldKind;
use crate::support::pair::{Pair, servers};
use crate::support::player::Player;
use crate::support::server::Kind;
use crate::support::wire;
use crate::support::witness::Witness;
use crate::support::{processes_with, wait_for};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

fn data(db: &Mariadb) {
    db.sql("CREATE DATABASE shop");
    db.sql("CREATE TABLE shop.filler ENGINE=InnoDB AS SELECT seq AS id, SHA2(seq, 512) AS t FROM mysql.seq_1_to_100000");
}

/// The witness must see what there is to see, or its silence would prove nothing.
#[test]
fn the_witness_is_not_blind() {
    let dir = crate::support::Scratch::new("witness");
    let secret = "a-known-s3cret-of-this-test";
    std::fs::write(dir.0.join("seeds.json"), format!("x{secret}y")).expect("file");
    let witness = Witness::start(vec![secret.into()], vec![dir.0.clone()]);
    let argument = Command::new("sleep")
        .args(["600", "0"])
        .env("X", "1")
        .arg0_secret(secret)
        .spawn();
    let environment = Command::new("sleep")
        .arg("600")
        .env("PASSWORD", secret)
        .spawn();
    wait_for("it has looked", Duration::from_secs(60), || {
        (witness.rounds() > 20).then_some(())
    });
    for child in [argument, environment] {
        let mut child = child.expect("sleep");
        child.kill().expect("kill");
        child.wait().expect("wait");
    }
    let seen = witness.stop();
    assert!(
        seen.leaks.iter().any(|l| l.ends_with("argument")),
        "{seen:?}"
    );
    assert!(
        seen.leaks.contains("process sleep: environment"),
        "{seen:?}"
    );
    assert_eq!(seen.bad_files.len(), 1, "{seen:?}");
}

trait Arg0 {
    fn arg0_secret(&mut self, secret: &str) -> &mut Self;
}

impl Arg0 for Command {
    fn arg0_secret(&mut self, secret: &str) -> &mut Self {
        std::os::unix::process::CommandExt::arg0(self, format!("sleep {secret}"))
    }
}

#[test]
fn a_whole_seed_shows_no_secret_to_anybody() {
    let (source_db, target_db) = servers::<MariadbKind>("", "");
    data(&source_db);
    let fakes = Fakes::new();
    for tool in ["mariadb-dump", "mariadb"] {
        fakes.put(tool, "sleep 1; exec \"$REAL\" \"$@\""); // long enough to be seen
    }
    let changes = Changes {
        path_first: Some(fakes.dir.clone()),
        ..Changes::default()
    };
    let pair = Pair::beside(
        source_db,
        target_db,
        "Mysqldump",
        &Changes::default(),
        &changes,
    );
    let Pair {
        source,
        target,
        source_db,
        target_db,
        ..
    } = &pair;
    let secrets = vec![AGENT_PASSWORD.to_string(), source.token(), target.token()];
    let witness = Witness::start(
        secrets.clone(),
        vec![source.dir.clone(), target.dir.clone()],
    );
    let player = pair.seed(1);
    let mut answers = Vec::new();
    player.prepare();
    player.backup();
    answers.push(target.call("/api/active-seed").1);
    player.restore();
    player.connect(true);
    answers.push(target.call("/api/get-metadata/1/Mysqldump").1);
    player.cleanup();
    for agent in [source, target] {
        for path in [
            "/api/active-seed",
            "/api/get-agent-data",
            "/api/get-agent-info",
            "/api/mysql-error-log-tail",
            "/api/seed-stage-state/1/Prepare",
            "/api/seed-stage-state/1/Backup",
            "/api/seed-stage-state/1/Restore",
            "/api/custom-commands/x",
            "/api/prepare/x/y/z",
            "/api/umount",
            "/nowhere",
        ] {
            answers.push(agent.call(path).1);
        }
    }
    let seen = witness.stop();
    let none = std::collections::BTreeSet::new();
    assert_eq!(seen.leaks, none);
    assert_eq!(seen.bad_files, std::collections::BTreeSet::new());
    for tool in ["mariadb-dump", "mariadb "] {
        assert!(
            seen.tools
                .iter()
                .any(|l| l.contains(tool) && l.contains(".cnf")),
            "{tool} was not seen: {:?}",
            seen.tools
        );
    }
    assert!(
        !seen.option_files.is_empty() && !seen.dumps.is_empty(),
        "{seen:?}"
    );
    for (file, bits, above) in &seen.option_files {
        assert_eq!((*bits, *above), (0o600, 0o700), "{}", file.display());
        assert!(!file.exists(), "gone with its tool");
    }
    for (file, bits) in &seen.dumps {
        assert_eq!(*bits, 0o600, "{}", file.display());
    }
    for agent in [source, target] {
        let state = std::fs::metadata(agent.dir.join("state")).expect("state-dir");
        assert_eq!(
            state.permissions().mode() & 0o077,
            0,
            "state-dir is the agent's alone"
        );
        assert!(
            agent.log().contains("[DEBUG]"),
            "the log was as talkative as it can be"
        );
        answers.push(agent.log());
        answers
            .push(std::fs::read_to_string(agent.dir.join("state/seeds.json")).expect("the record"));
    }
    for secret in secrets.iter().map(String::as_str).chain([REPL_PASSWORD]) {
        assert!(answers.iter().all(|a| !a.contains(secret)), "{secret}");
    }
    assert_eq!(target_db.checksums(), source_db.checksums());
}

/// Errors are the likeliest place for a secret to slip out.
#[test]
fn failures_show_no_secret_either() {
    let (source_db, target_db) = servers::<MariadbKind>("", "");
    data(&source_db);
    let lines = vec![(
        "custom-commands.env",
        "cmd = \"env; cat /proc/$PPID/environ /proc/$PPID/cmdline | tr '\\\\0' ' '; false\""
            .to_string(),
    )];
    let target = Agent::start_with(
        &target_db,
        &Changes {
            lines,
            ..Changes::default()
        },
    );
    let token = target.token();
    target.json("/api/get-agent-data");
    let call = |path: &str| {
        let (status, body) = target.call(path);
        assert!(
            !body.contains(AGENT_PASSWORD) && !body.contains(&token),
            "{path}: {body}"
        );
        (status, body)
    };
    let end = |stage: &str| {
        wait_for(stage, Duration::from_secs(60), || {
            let (_, body) = call(&format!("/api/seed-stage-state/1/{stage}"));
            (!body.contains("\"Running\"")).then_some(body)
        })
    };
    call("/api/prepare/1/Mysqldump/Target");
    assert!(end("Prepare").contains("Completed"));
    source_db.unlogged("ALTER USER 'agent'@'%' IDENTIFIED BY 'another'");
    call(&format!(
        "/api/backup/1/Mysqldump/{}/{}",
        source_db.host, source_db.port
    ));
    let body = end("Backup");
    assert!(
        body.contains("1045") && body.contains("mysql.password"),
        "it says what is wrong: {body}"
    );
    target_db.unlogged("ALTER USER 'agent'@'%' IDENTIFIED BY 'another'");
    call("/api/prepare/1/Mysqldump/Target");
    assert!(end("Prepare").contains("1045"));
    call("/api/get-agent-data");
    let (status, _) = call("/api/custom-commands/env"); // an operator's command gets nothing of ours
    assert_eq!(status, 500);
    let ask =
        |target_path: &str| wire::ask(&target.address, target.port, "GET", target_path, &[]).body;
    // With the mistakes that people make by hand.
    for path in [
        "/api/nowhere?token=",
        "/api/get-agent-data&token=",
        "/api/get-agent-data%3Ftoken=",
        "/api/get-agent-data/token=",
        "/token=",
    ] {
        assert!(!ask(&format!("{path}{token}")).contains(&token));
    }
    let log = target.log();
    assert!(!log.contains(AGENT_PASSWORD), "{log}");
    let lines: Vec<&str> = log.lines().filter(|l| l.contains(&token)).collect();
    assert!(
        lines.is_empty(),
        "the token in an address is never logged: {lines:?}"
    );
}

/// An account may hold whatever a shell, an option file, a URL or SQL trips over.
fn odd_accounts<K: Kind>() {
    let (source_db, target_db) = servers::<K>("", "");
    source_db.sql("CREATE DATABASE shop");
    source_db.sql("CREATE TABLE shop.t AS SELECT 1 AS a");
    let user = "o'd\"d;$u `x`#\u{e9}\\";
    let sql = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
    for db in [&source_db, &target_db] {
        db.unlogged(&format!("RENAME USER 'agent'@'%' TO {}@'%'", sql(user)));
    }
    for (id, password) in [
        (1, "q'uo\"te\\back#hash ;semi $HOME `id` |pipe> =x"),
        (2, " lead and trail \t"),
        (3, "Zoë\u{1f600}\u{6771}\\n\\\\\""),
        (4, "[client]!%^&*()_+-={}|:<>?,./~"),
    ] {
        for db in [&source_db, &target_db] {
            db.unlogged(&format!(
                "ALTER USER {}@'%' IDENTIFIED BY {}",
                sql(user),
                sql(password)
            ));
        }
        let lines = vec![
            ("mysql", format!("password = {password:?}")),
            ("mysql", format!("user = {user:?}")),
        ];
        let changes = Changes {
            lines,
            ..Changes::default()
        };
        let source = Agent::start_with(&source_db, &changes);
        let target = Agent::start_with(&target_db, &changes);
        let dirs = vec![source.dir.clone(), target.dir.clone()];
        let witness = Witness::start(vec![password.to_string()], dirs);
        let player = Player {
            id,
            method: "Mysqldump",
            target: &target,
            source: &source,
            target_db: &target_db,
            source_db: &source_db,
        };
        player.prepare();
        player.backup();
        player.restore();
        player.cleanup();
        let seen = witness.stop();
        assert!(
            seen.leaks.is_empty() && seen.bad_files.is_empty(),
            "{seen:?}"
        );
        assert!(!source.log().contains(password) && !target.log().contains(password));
        assert_eq!(target_db.checksums(), source_db.checksums());
        target_db.sql("DROP DATABASE shop");
        let dumps = target.dir.join("backup").display().to_string();
        assert!(processes_with(&dumps).is_empty());
    }
}

#[test]
fn odd_accounts_on_mariadb() {
    odd_accounts::<MariadbKind>();
}

#[test]
fn odd_accounts_on_mysql() {
    odd_accounts::<MysqldKind>();
}

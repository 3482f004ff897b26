//! What can go wrong in a physical seed, and what is left then: one row for each cause and each way to make room, but for some of
//! the third way. With room for two copies the target ends with its old data serving; else with nothing but the guard at the top of
//! its data directory, a server that refuses to start on it, and mysql-start refused with the reason. The next seed succeeds.

use crate::support::agent::{Agent, Changes};
use crate::support::fake::Fakes;
use crate::support::mariadb::Mariadb;
use crate::support::pair::Pair;
use crate::support::player::{Player, TICK};
use crate::support::tmpfs::Tmpfs;
use crate::support::{binary, clean_seed_now, free_port, processes_with, wait_for};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// How room is made on the target.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Room {
    /// datadir-swap = "auto", two copies fit.
    Auto,
    /// The same, they do not.
    AutoWithout,
    /// datadir-swap = "never".
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Cause {
    SenderKilled,
    ReceiverKilled,
    SourceAgentKilled,
    TargetAgentKilled,
    LinkCut,
    Blackhole,
    ByteFlipped,
    DiskFull,
    ToolFailsBefore,
    ToolFailsIn,
    ToolFailsAfter,
    PrepareFails,
    AgentKilledPreparing,
    AgentKilledInTrial,
    StopFailsOnce,
    MysqlDoesNotStart,
    AgentKilledStopping,
    AgentKilledStarting,
    AbortedInBackup,
    AbortedInRestore,
    MysqldRestarts,
    StartedBySomebody,
}

use Cause::*;

const CAUSES: [Cause; 22] = [
    SenderKilled,
    ReceiverKilled,
    SourceAgentKilled,
    TargetAgentKilled,
    LinkCut,
    Blackhole,
    ByteFlipped,
    DiskFull,
    ToolFailsBefore,
    ToolFailsIn,
    ToolFailsAfter,
    PrepareFails,
    AgentKilledPreparing,
    AgentKilledInTrial,
    StopFailsOnce,
    MysqlDoesNotStart,
    AgentKilledStopping,
    AgentKilledStarting,
    AbortedInBackup,
    AbortedInRestore,
    MysqldRestarts,
    StartedBySomebody,
];

/// Dropped in this order.
struct Rig {
    room: Room,
    pair: Pair,
    on_source: Fakes,
    on_target: Fakes,
    disk: Tmpfs,
    filler: Option<PathBuf>,
    seed_port: u16,
    /// While this file is there, the next start of MySQL fails.
    no_start: PathBuf,
    /// The same of its stop.
    no_stop: PathBuf,
    seeds: i64,
}

impl Rig {
    fn new(room: Room) -> Self {
        let source_db = Mariadb::start("127.0.0.1", "");
        let mut disk = None;
        let target_db =
            Mariadb::start_on("127.0.0.2", "", |dir| disk = Some(Tmpfs::over(dir, 700)));
        for statement in [
            "CREATE DATABASE shop",
            "CREATE TABLE shop.items ENGINE=InnoDB AS SELECT seq AS id, SHA2(seq, 512) AS t FROM mysql.seq_1_to_80000",
        ] {
            source_db.sql(statement);
        }
        let (on_source, on_target) = (Fakes::new(), Fakes::new());
        let seed_port = free_port("127.0.0.2");
        let no_start = on_target.dir.join("no-start");
        let no_stop = on_target.dir.join("no-stop");
        // No tool may need a directory for temporary files that was not checked.
        let program = on_target.dir.join("agent");
        std::fs::write(
            &program,
            format!(
                "#!/bin/sh\nTMPDIR=/nonexistent exec '{}' \"$@\"\n",
                binary()
            ),
        )
        .expect("script");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("mode");
        let swap = if room == Room::Never { "never" } else { "auto" };
        let changes = |db: &Mariadb, fakes: &Fakes| Changes {
            lines: vec![
                ("common", format!("seed-port = {seed_port}")),
                ("common", "seed-idle-timeout = \"5s\"".into()),
                // Somebody who starts MySQL again and again is not waited for longer than that.
                ("common", "command-timeout = \"45s\"".into()),
                ("common", "seed-rate-limit = 15000000".into()),
                ("xtrabackup", "enabled = true".into()),
                ("mysql", format!("datadir-swap = {swap:?}")),
                (
                    "mysql",
                    format!(
                        "service-start-command = {:?}",
                        format!(
                            "if test -e '{0}'; then rm '{0}'; echo it does not start >&2; exit 1; fi; sleep 0.5; {1}",
                            no_start.display(),
                            db.service("start")
                        )
                    ),
                ),
                (
                    "mysql",
                    format!(
                        "service-stop-command = {:?}",
                        format!(
                            "if test -e '{0}'; then rm '{0}'; echo it does not stop >&2; exit 1; fi; {1}",
                            no_stop.display(),
                            db.service("stop")
                        )
                    ),
                ),
            ],
            path_first: Some(fakes.dir.clone()),
            program: Some(program.clone()),
            ..Changes::default()
        };
        let of_source = changes(&source_db, &on_source);
        let of_target = changes(&target_db, &on_target);
        Self {
            room,
            pair: Pair::beside(source_db, target_db, "Xtrabackup", &of_source, &of_target),
            on_source,
            on_target,
            disk: disk.expect("mounted"),
            filler: None,
            seed_port,
            no_start,
            no_stop,
            seeds: 0,
        }
    }

    fn player(&self) -> Player<'_> {
        self.pair.seed(self.seeds)
    }

    /// Old data, and as much room as this way is to have.
    fn begin(&mut self, cause: Cause) {
        self.seeds += 1;
        self.pair
            .target_db
            .sql("CREATE DATABASE IF NOT EXISTS precious");
        self.pair.target_db.sql(&format!(
            "CREATE OR REPLACE TABLE precious.t ENGINE=InnoDB AS SELECT '{cause:?}' AS v"
        ));
        if self.room == Room::AutoWithout {
            // Enough together with what the old data take, too little beside them.
            self.pair.target_db.sql("CREATE OR REPLACE TABLE precious.more ENGINE=InnoDB AS SELECT SHA2(seq, 512) AS t FROM mysql.seq_1_to_400000");
            self.filler = Some(self.disk.fill(45 << 20));
        }
        match cause {
            // Two copies fit, and the rest is filled in no time.
            DiskFull if self.room == Room::Auto => {
                self.filler = Some(self.disk.fill(250 << 20));
            }
            ToolFailsBefore => self
                .on_source
                .put("mariadb-backup", "echo broken >&2; exit 3"),
            ToolFailsIn => self.on_source.put(
                "mariadb-backup",
                "\"$REAL\" \"$@\" | head -c 8000000; echo broken >&2; exit 3",
            ),
            ToolFailsAfter => self.on_source.put(
                "mariadb-backup",
                "\"$REAL\" \"$@\"; echo broken >&2; exit 3",
            ),
            PrepareFails => self
                .on_target
                .put("mariadb-backup", "echo broken >&2; exit 3"),
            // In the middle of its work, and then the agent.
            AgentKilledPreparing => self.on_target.put(
                "mariadb-backup",
                "\"$REAL\" \"$@\" & p=$!; sleep 0.05; kill -9 $p; sleep 60",
            ),
            _ => {}
        }
    }

    /// Through here bytes go that are to be tampered with.
    fn proxy(&self, mut tamper: impl FnMut(u64, &mut [u8]) -> bool + Send + 'static) {
        let listener = TcpListener::bind(("127.0.0.3", self.seed_port)).expect("proxy");
        let port = self.seed_port;
        std::thread::spawn(move || {
            let mut sender = listener.accept().expect("the source comes").0;
            drop(listener);
            let mut receiver = TcpStream::connect(("127.0.0.2", port)).expect("the target listens");
            let (mut back, mut forth) = (
                receiver.try_clone().expect("clone"),
                sender.try_clone().expect("clone"),
            );
            std::thread::spawn(move || std::io::copy(&mut back, &mut forth));
            let (mut place, mut buffer) = (0, [0; 65536]);
            while let Ok(n) = sender.read(&mut buffer) {
                if n == 0
                    || !tamper(place, &mut buffer[..n])
                    || receiver.write_all(&buffer[..n]).is_err()
                {
                    break;
                }
                place += n as u64;
            }
            let _ = receiver.shutdown(Shutdown::Both);
            let _ = sender.shutdown(Shutdown::Both);
        });
    }

    fn start_backup(&self, host: &str) {
        let (id, port) = (self.seeds, self.pair.source_db.port);
        Player::start(
            &self.pair.source,
            &format!("/api/backup/{id}/Xtrabackup/{host}/{port}"),
        );
    }

    /// Until some megabytes have passed.
    fn wait_for_flow(&self) {
        let id = self.seeds;
        wait_for("bytes flow", Duration::from_secs(60), || {
            let state = self
                .pair
                .source
                .json(&format!("/api/seed-stage-state/{id}/Backup"));
            assert_eq!(state["Status"], "Running", "{state}");
            (state["Progress"]["Bytes"].as_u64() > Some(6_000_000)).then_some(())
        });
    }

    fn kill_process(&self, words: [&str; 2]) {
        let found: Vec<u32> = processes_with(words[0])
            .into_iter()
            .filter(|(_, line)| line.contains(words[1]))
            .map(|p| p.0)
            .collect();
        assert!(!found.is_empty(), "{words:?}");
        for pid in found {
            let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
        }
    }

    /// The seed with its fault; what was seen.
    fn fault(&mut self, cause: Cause) -> String {
        let id = self.seeds;
        self.player().prepare();
        match cause {
            LinkCut => self.proxy(|place, _| place < 5_000_000),
            Blackhole => self.proxy(|place, _| {
                if place > 5_000_000 {
                    std::thread::sleep(Duration::from_secs(8));
                }
                true
            }),
            ByteFlipped => self.proxy(|place, bytes| {
                if (place..place + bytes.len() as u64).contains(&5_000_000) {
                    bytes[(5_000_000 - place) as usize] ^= 1;
                }
                true
            }),
            _ => {}
        }
        let host = match cause {
            LinkCut | Blackhole | ByteFlipped => "127.0.0.3",
            _ => "127.0.0.2",
        };
        self.start_backup(host);
        match cause {
            SenderKilled | ReceiverKilled | SourceAgentKilled | TargetAgentKilled | DiskFull
            | AbortedInBackup | MysqldRestarts => self.wait_for_flow(),
            _ => {}
        }
        match cause {
            SenderKilled => {
                let conf = self.pair.source.dir.join("state").display().to_string();
                self.kill_process(["--stream=xbstream", &conf]);
            }
            ReceiverKilled => {
                let datadir = self.pair.target_db.datadir().display().to_string();
                self.kill_process(["mbstream", &datadir]);
            }
            SourceAgentKilled => {
                self.pair.source.kill();
                self.pair.source.launch();
                self.pair.source.wait_ready();
            }
            TargetAgentKilled => {
                self.pair.target.kill();
                self.pair.target.launch();
                self.pair.target.wait_ready();
            }
            DiskFull => {
                let filler = self.disk.fill_more();
                let state = self.end(&self.pair.source, "Backup");
                std::fs::remove_file(filler).expect("filler");
                return told(&state, "Error");
            }
            AbortedInBackup => {
                for agent in [&self.pair.target, &self.pair.source] {
                    assert_eq!(
                        agent.call(&format!("/api/abort-seed-stage/{id}/Backup")).0,
                        200
                    );
                }
            }
            MysqldRestarts => {
                self.pair.target_db.kill();
                // With the old data wiped it cannot start.
                assert_eq!(self.pair.target_db.try_up(), self.room == Room::Auto);
            }
            _ => {}
        }
        let state = self.end(&self.pair.source, "Backup");
        let in_restore = matches!(
            cause,
            PrepareFails
                | AgentKilledPreparing
                | AgentKilledInTrial
                | StopFailsOnce
                | MysqlDoesNotStart
                | AgentKilledStopping
                | AgentKilledStarting
                | AbortedInRestore
                | MysqldRestarts
                | StartedBySomebody
        );
        if !in_restore {
            return told(&state, "Error");
        }
        assert_eq!(state["Status"], "Completed", "{state}");
        self.player().start_restore();
        match cause {
            MysqlDoesNotStart => std::fs::write(&self.no_start, "").expect("flag"),
            StopFailsOnce => std::fs::write(&self.no_stop, "").expect("flag"),
            AgentKilledPreparing | AgentKilledInTrial | AgentKilledStopping
            | AgentKilledStarting | AbortedInRestore | StartedBySomebody => {
                let word = match cause {
                    AgentKilledPreparing => "xtrabackup prepare",
                    AgentKilledInTrial => "private server",
                    AgentKilledStarting => "Starting MySQL",
                    // A wipe has stopped it long ago.
                    _ if self.room != Room::Auto => "private server",
                    _ => "Stopping MySQL",
                };
                self.wait_for_details(word);
            }
            _ => {}
        }
        match cause {
            AgentKilledPreparing => {
                std::thread::sleep(Duration::from_millis(200)); // until the tool was killed
                self.pair.target.kill();
                self.pair.target.launch();
                self.pair.target.wait_ready();
            }
            AgentKilledInTrial | AgentKilledStopping | AgentKilledStarting => {
                self.pair.target.kill();
                self.pair.target.launch();
                // A MariaDB that is told to stop while it starts may hang; the rig kills it after 20 s.
                self.pair.target.wait_ready_for(Duration::from_secs(180));
            }
            AbortedInRestore => {
                assert_eq!(
                    self.pair
                        .target
                        .call(&format!("/api/abort-seed-stage/{id}/Restore"))
                        .0,
                    200
                );
            }
            StartedBySomebody => {
                self.pair.target_db.try_up();
            }
            _ => {}
        }
        let state = self.end(&self.pair.target, "Restore");
        match cause {
            MysqldRestarts => told(&state, "Completed"),
            // Whose start came first decides: the seed goes through, or its stop of MySQL does not.
            StartedBySomebody if state["Status"] == "Completed" => told(&state, "Completed"),
            _ => told(&state, "Error"),
        }
    }

    fn wait_for_details(&self, word: &str) {
        let id = self.seeds;
        wait_for(word, Duration::from_secs(60), || {
            let state = self
                .pair
                .target
                .json(&format!("/api/seed-stage-state/{id}/Restore"));
            if state["Status"] != "Running" {
                return Some(()); // it was quicker; the row says what was seen
            }
            state["Details"]
                .as_str()
                .expect("Details")
                .contains(word)
                .then_some(())
        });
    }

    /// The state of a stage that is over.
    fn end(&self, agent: &Agent, stage: &str) -> Value {
        let id = self.seeds;
        wait_for(stage, Duration::from_secs(180), || {
            let state = agent.json(&format!("/api/seed-stage-state/{id}/{stage}"));
            std::thread::sleep(TICK);
            (state["Status"] != "Running").then_some(state)
        })
    }

    /// Undoes what `begin` has put in the way.
    fn mend(&mut self, cause: Cause) {
        match cause {
            ToolFailsBefore | ToolFailsIn | ToolFailsAfter => {
                self.on_source.remove("mariadb-backup")
            }
            PrepareFails | AgentKilledPreparing => self.on_target.remove("mariadb-backup"),
            _ => {}
        }
        let _ = std::fs::remove_file(&self.no_stop);
        let _ = std::fs::remove_file(&self.no_start);
        if let Some(filler) = self.filler.take() {
            std::fs::remove_file(filler).expect("filler");
        }
    }

    /// Nobody of ours works any more, on either side, and the port is free.
    fn assert_quiet(&self, row: &str) {
        wait_for(
            &format!("{row}: nothing runs"),
            Duration::from_secs(15),
            || {
                let datadir = self.pair.target_db.datadir().display().to_string();
                let tools = processes_with("mbstream")
                    .into_iter()
                    .filter(|p| p.1.contains(&datadir))
                    .count()
                    + processes_with(&self.pair.source.dir.join("state").display().to_string())
                        .into_iter()
                        .filter(|p| p.1.contains("--backup"))
                        .count();
                let state = self
                    .pair
                    .target
                    .call(&format!("/api/seed-stage-state/{}/Backup", self.seeds))
                    .1;
                let free = !state.contains("Running")
                    && TcpListener::bind(("127.0.0.2", self.seed_port)).is_ok();
                (tools == 0 && free).then_some(())
            },
        );
    }

    /// What the target is left with.
    fn assert_left(&self, cause: Cause, row: &str) -> &'static str {
        let id = self.seeds;
        let stage = if self
            .pair
            .target
            .call(&format!("/api/seed-stage-state/{id}/Restore"))
            .0
            == 200
        {
            "Restore"
        } else {
            "Prepare"
        };
        let data = self
            .pair
            .target
            .json(&format!("/api/seed-stage-state/{id}/{stage}"))["TargetData"]
            .clone();
        if self.room == Room::Auto {
            wait_for(
                &format!("{row}: the old server answers"),
                Duration::from_secs(60),
                || self.pair.target_db.try_up().then_some(()),
            );
            assert_eq!(
                self.pair.target_db.value("SELECT v FROM precious.t"),
                format!("{cause:?}"),
                "{row}"
            );
            assert_eq!(data, "Unchanged", "{row}");
            let (status, body) = self.pair.target.call("/api/mysql-start");
            assert_eq!(status, 200, "{row}: {body}");
            return "the old data serve";
        }
        let names: Vec<String> = std::fs::read_dir(self.pair.target_db.datadir())
            .expect("datadir")
            .flatten()
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .collect();
        assert!(
            names
                .iter()
                .all(|n| n == "ibdata1" || n.starts_with("#sql-orchestrator-agent")),
            "{row}: {names:?}"
        );
        assert!(
            self.pair.target_db.datadir().join("ibdata1").is_dir(),
            "{row}: the guard"
        );
        assert!(
            !self.pair.target_db.try_up(),
            "{row}: no server starts on it"
        );
        assert_eq!(data, "Partial", "{row}");
        let refused = self.pair.target.error("/api/mysql-start");
        assert!(
            refused.contains("were deleted for seed"),
            "{row}: {refused}"
        );
        "the guard alone, no server starts"
    }

    /// The last seed has gone through.
    fn is_seeded(&self) -> bool {
        let path = format!("/api/seed-stage-state/{}/Restore", self.seeds);
        self.pair.target.call(&path).1.contains("\"Completed\"")
    }

    /// The same Restore again goes through, from wherever it was interrupted.
    fn restore_again(&mut self, row: &str) {
        let player = self.player();
        player.restore();
        player.cleanup();
        self.assert_copied(row);
    }

    /// The next seed goes through.
    fn second_seed(&mut self, row: &str) {
        self.seeds += 1;
        let player = self.player();
        player.prepare();
        player.backup();
        player.restore();
        player.cleanup();
        self.assert_copied(row);
    }

    fn assert_copied(&self, row: &str) {
        let rows = "SELECT CONCAT(COUNT(*), ' ', SUM(CRC32(t))) FROM shop.items";
        assert_eq!(
            self.pair.target_db.value(rows),
            self.pair.source_db.value(rows),
            "{row}"
        );
        assert!(
            self.pair
                .target_db
                .sql("SHOW DATABASES LIKE 'precious'")
                .is_empty(),
            "{row}"
        );
    }
}

fn told(state: &Value, status: &str) -> String {
    assert_eq!(state["Status"], status, "{state}");
    let details = state["Details"].as_str().expect("Details");
    details
        .lines()
        .next()
        .unwrap_or_default()
        .chars()
        .take(150)
        .collect()
}

/// All causes, one after the other, on the same two hosts.
fn table(room: Room, causes: &[Cause]) {
    let mut rig = Rig::new(room);
    for (n, cause) in causes.iter().copied().enumerate() {
        let row = format!("{cause:?}, {room:?}");
        rig.begin(cause);
        let seen = rig.fault(cause);
        rig.assert_quiet(&row);
        let left = match cause {
            MysqldRestarts | StartedBySomebody if rig.is_seeded() => {
                rig.player().cleanup();
                "the new data serve"
            }
            _ => rig.assert_left(cause, &row),
        };
        let over = rig.is_seeded();
        rig.mend(cause);
        match cause {
            PrepareFails | AgentKilledPreparing | AgentKilledInTrial | StopFailsOnce
            | MysqlDoesNotStart | AgentKilledStopping | AgentKilledStarting
                if !over =>
            {
                rig.restore_again(&row);
            }
            // The old data serve, so that the seed of the next row is the next seed.
            _ if room == Room::Auto && !clean_seed_now(n, causes.len()) => {}
            _ => rig.second_seed(&row),
        }
        println!("| {row} | {left} | {seen} |");
    }
}

#[test]
fn with_room_for_two_copies() {
    table(Room::Auto, &CAUSES);
}

#[test]
fn without_room_for_two_copies() {
    // MySQL is stopped before the copy comes, so that nothing stops it in Restore.
    let causes: Vec<Cause> = CAUSES.into_iter().filter(|c| *c != StopFailsOnce).collect();
    table(Room::AutoWithout, &causes);
}

#[test]
fn with_the_old_data_wiped_first() {
    // The way is that of no room, but for who decides on it: a few of them.
    let causes = [
        TargetAgentKilled,
        LinkCut,
        ToolFailsAfter,
        MysqlDoesNotStart,
        AgentKilledStarting,
        StartedBySomebody,
    ];
    table(Room::Never, &causes);
}

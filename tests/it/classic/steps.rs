//! What goes wrong at each step of a seed: the reason in the state that the server shows, nothing held by either agent a minute
//! later, and a target whose data serve.

use crate::support::classic::hosts::{Family, Hosts, SOURCE, Setup, TARGET};
use crate::support::classic::seed::Faults;
use crate::support::mariadb::MariadbKind;
use crate::support::{Scratch, wait_for};
use std::cell::{Cell, RefCell};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Duration;

/// What serves on the target afterwards.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Left {
    Old,
    New,
}

struct Row {
    name: &'static str,
    faults: Faults,
    /// Called before the seed and with each action of the server.
    at: fn(&Table, &str),
    /// Beginning of the action that shows the error.
    fails_at: &'static str,
    /// In the error.
    reason: &'static str,
    left: Left,
}

/// Dropped in this order.
struct Table {
    hosts: RefCell<Hosts<MariadbKind>>,
    /// While this file is there, MySQL of the target does not start.
    no_start: PathBuf,
    _flags: Scratch,
    port: RefCell<Option<TcpListener>>,
    reader: RefCell<Option<Child>>,
    done: Cell<bool>,
    is_source_killed: Cell<bool>,
}

const BEFORE: &str = "before";
const MOUNT: &str = "Mounting logical volume";
const ERASE: &str = "Erasing MySQL data";
const RECEIVE: &str = "127.0.0.2 will now receive data";
const WAIT: &str = "Waiting 2 seconds";
const COPIED: &str = "Copied ";
const POST_COPY: &str = "Executing post-copy command";
const UMOUNT: &str = "127.0.0.1 will now unmount";
const START: &str = "Starting MySQL on target";

fn never(_: &Table, _: &str) {}

impl Table {
    fn new() -> Self {
        let flags = Scratch::new("flags");
        let no_start = flags.0.join("no-start");
        let (source_db, target_db) = crate::support::pair::servers::<MariadbKind>("", "");
        let start = format!(
            "if test -e '{}'; then echo it does not start >&2; exit 1; fi; {}",
            no_start.display(),
            target_db.service("start")
        );
        let setup = Setup::by("Xtrabackup")
            .on_both("common", "seed-orphan-timeout = \"10s\"")
            .on_both("common", "seed-idle-timeout = \"5s\"")
            .on_both("common", "seed-first-byte-timeout = \"10s\"")
            .on_source("common", "seed-rate-limit = 10000000")
            .on_target("mysql", format!("service-start-command = {start:?}"));
        Self {
            hosts: RefCell::new(Hosts::between(&setup, (source_db, target_db))),
            no_start,
            _flags: flags,
            port: RefCell::default(),
            reader: RefCell::default(),
            done: Cell::default(),
            is_source_killed: Cell::default(),
        }
    }

    /// True once in a row, when the action begins so.
    fn once(&self, action: &str, begin: &str) -> bool {
        action.starts_with(begin) && !self.done.replace(true)
    }

    fn row(&self, id: i64, row: &Row) {
        self.done.set(false);
        (row.at)(self, BEFORE);
        self.hosts.borrow().old_data(row.name);
        let mut seed = self.hosts.borrow().new_seed(id);
        seed.faults = row.faults.clone();
        seed.run(|action| (row.at)(self, action));
        let failed = seed.must_fail();
        println!("| {} | {} | {} |", row.name, failed.action, failed.reason());
        assert!(
            failed.action.starts_with(row.fails_at),
            "{}: {failed:?}",
            row.name
        );
        let reason = failed.reason();
        assert!(reason.contains(row.reason), "{}: {reason}", row.name);
        let secret = self.hosts.borrow().orchestrator.token(TARGET);
        assert!(!reason.contains(&secret), "{}: {reason}", row.name);
        self.undo();
        let hosts = self.hosts.borrow();
        hosts.assert_released(row.name);
        match row.left {
            Left::Old => hosts.assert_old_data(row.name),
            Left::New => {
                let started = hosts.orchestrator.json::<bool>(TARGET, "mysql-start");
                assert_eq!(started, Ok(true), "{}", row.name);
                hosts.assert_copied();
                wait_for(row.name, Duration::from_secs(30), || {
                    let io = hosts.target_db.replica_status("Slave_IO_Running");
                    (io == "Yes").then_some(())
                });
                hosts.assert_replica("Yes");
                for statement in MariadbKind::NO_REPLICA {
                    hosts.target_db.sql(statement);
                }
                hosts.target_db.unlogged("DROP DATABASE shop");
            }
        }
    }

    fn undo(&self) {
        let _ = std::fs::remove_file(&self.no_start);
        self.port.take();
        if let Some(mut reader) = self.reader.take() {
            let _ = reader.kill();
            let _ = reader.wait();
        }
        if self.is_source_killed.take() {
            let mut hosts = self.hosts.borrow_mut();
            let before = hosts.orchestrator.registrations(SOURCE);
            hosts.source.launch();
            hosts.wait_registered(SOURCE, before + 1);
        }
        let hosts = self.hosts.borrow();
        if !hosts.is_up(&hosts.source_db) {
            hosts.source_db.up();
        }
    }
}

/// Rows of one table share two hosts.
fn table(rows: &[Row]) {
    let table = Table::new();
    for (n, row) in rows.iter().enumerate() {
        table.row(n as i64 + 1, row);
    }
    // After all of them the next seed goes through.
    let hosts = table.hosts.borrow();
    hosts.old_data("the last");
    hosts.seed(100).must_succeed();
    hosts.assert_copied();
    hosts.assert_released("the last");
}

/// A reader of the target's binary log, as a replica is, before the target is stopped.
fn with_a_replica(table: &Table, action: &str) {
    if !table.once(action, BEFORE) {
        return;
    }
    let hosts = table.hosts.borrow();
    *table.reader.borrow_mut() = Some(hosts.replica_of_target());
}

/// Restarts the target's agent, while its MySQL is down.
fn restart_target(table: &Table) {
    let mut hosts = table.hosts.borrow_mut();
    let before = hosts.orchestrator.registrations(TARGET);
    hosts.target.kill();
    hosts.target.launch();
    hosts.wait_registered(TARGET, before + 1);
}

/// With nothing done to the seed, and the old data afterwards.
fn row(name: &'static str, fails_at: &'static str, reason: &'static str) -> Row {
    Row {
        name,
        faults: Faults::default(),
        at: never,
        fails_at,
        reason,
        left: Left::Old,
    }
}

/// The target waits for as long as a Prepare of the source may take.
#[test]
fn no_way_to_the_target() {
    table(&[Row {
        faults: Faults {
            send_to: Some("127.0.0.9"),
            ..Faults::default()
        },
        ..row(
            "send to a host that does not listen",
            POST_COPY,
            "no source has connected",
        )
    }]);
}

#[test]
fn before_the_copy() {
    table(&[
        Row {
            faults: Faults {
                volume: Some("/orchestrator-agent/Mydumper"),
                ..Faults::default()
            },
            ..row(
                "mountlv of a method that is not available",
                MOUNT,
                "Mydumper",
            )
        },
        Row {
            at: |t, action| {
                if action.starts_with(ERASE) {
                    t.hosts.borrow().target_db.up();
                }
            },
            ..row("delete while MySQL runs", ERASE, "running")
        },
        Row {
            at: with_a_replica,
            ..row("delete on a server with replicas", ERASE, "replicas")
        },
        Row {
            at: |t, action| {
                with_a_replica(t, action);
                if action.starts_with(ERASE) {
                    restart_target(t);
                }
            },
            ..row(
                "delete on a server that had replicas before the agent was restarted",
                ERASE,
                "had replicas when it was last up (127.0.0.",
            )
        },
        Row {
            at: |t, action| {
                if action.starts_with(RECEIVE) {
                    let port = t.hosts.borrow().seed_port;
                    let taken = TcpListener::bind((TARGET, port)).expect("the seed port");
                    *t.port.borrow_mut() = Some(taken);
                }
            },
            ..row("receive on a port in use", POST_COPY, "port")
        },
        Row {
            faults: Faults {
                skip: &["delete-mysql-datadir"],
                ..Faults::default()
            },
            ..row("receive without delete", POST_COPY, "delete-mysql-datadir")
        },
        Row {
            faults: Faults {
                skip: &["mountlv"],
                ..Faults::default()
            },
            ..row("send without mountlv", POST_COPY, "mount")
        },
        Row {
            at: |t, action| {
                if action.starts_with(WAIT) {
                    t.hosts.borrow().source_db.down();
                }
            },
            ..row(
                "send while the MySQL of the source is down",
                POST_COPY,
                "source 127.0.0.1: ",
            )
        },
    ]);
}

#[test]
fn from_the_copy_on() {
    table(&[
        Row {
            at: |t, action| {
                if t.once(action, COPIED) {
                    let state = t.hosts.borrow().source.dir.join("state");
                    let state = state.display().to_string();
                    let pid = t.hosts.borrow().wait_tool(["--stream=xbstream", &state]);
                    kill(pid);
                }
            },
            ..row("copy whose tool is killed", POST_COPY, "mariadb-backup")
        },
        Row {
            at: |t, action| {
                if t.once(action, COPIED) {
                    let state = t.hosts.borrow().source.dir.join("state");
                    let state = state.display().to_string();
                    t.hosts.borrow().wait_tool(["--stream=xbstream", &state]);
                    t.hosts.borrow().source_db.kill();
                }
            },
            ..row("copy whose source ends", POST_COPY, "the source failed")
        },
        Row {
            at: |t, action| {
                if t.once(action, COPIED) {
                    let got = t
                        .hosts
                        .borrow()
                        .orchestrator
                        .call(TARGET, "post-copy/?sourceHost=127.0.0.1");
                    let text = got.expect_err("the copy is not complete");
                    assert!(
                        text.contains("agent-error:") && text.contains("complete"),
                        "{text}"
                    );
                }
                if action.starts_with(POST_COPY) {
                    std::fs::write(&t.no_start, "").expect("flag");
                }
            },
            ..row("post-copy whose start of MySQL fails", POST_COPY, "start")
        },
        Row {
            at: |t, action| {
                if action.starts_with(POST_COPY) {
                    t.hosts.borrow().target_db.up();
                }
            },
            ..row("post-copy while MySQL runs", POST_COPY, "a server works in")
        },
        Row {
            at: |t, action| {
                if action.starts_with(UMOUNT) {
                    t.hosts.borrow_mut().source.kill();
                    t.is_source_killed.set(true);
                }
            },
            left: Left::New,
            ..row(
                "umount by an agent that is gone",
                UMOUNT,
                "connection refused",
            )
        },
        Row {
            at: |t, action| {
                if action.starts_with(START) {
                    let hosts = t.hosts.borrow();
                    hosts.target_db.down();
                    std::fs::write(&t.no_start, "").expect("flag");
                }
            },
            left: Left::New,
            ..row("mysql-start whose command fails", START, "start")
        },
        // The seed before it is done, and this agent knows of no other.
        Row {
            faults: Faults {
                skip: &["receive-mysql-seed-data"],
                ..Faults::default()
            },
            ..row("receive that never arrives", POST_COPY, "not")
        },
    ]);
}

fn kill(pid: u32) {
    let done = Command::new("kill").args(["-9", &pid.to_string()]).status();
    assert!(done.expect("kill").success(), "{pid}");
}

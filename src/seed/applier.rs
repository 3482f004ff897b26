//! The applier of this host's replica while another program (`seed --verify`) stops it: its state is recorded before, and is restored when
//! that program releases it, when its last call was [`LEASE`] ago, or when the agent starts.
//!
//! The record is `applier.json` in `state-dir`. The other program runs the statements that stop the applier; this module only restores.

use crate::config;
use crate::datadir::journal::write_json;
use crate::error::{Error, Result};
use crate::mysql::applier::{Channel as Now, applier};
use crate::mysql::{Endpoint, Server, connect, control, grants};
use crate::sys::file::{if_there, remove_if_there};
use crate::sys::thread::lock;
use mysql::Conn;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The record's name in `state-dir`.
const RECORD: &str = "applier.json";
/// How long after the last call the applier is restored.
pub(crate) const LEASE: Duration = Duration::from_secs(20);
/// How often it is started until it remains as it was.
const STARTS: u32 = 5;
/// How long after a start its state is read again.
const STEADY: Duration = Duration::from_millis(500);
/// For each connect, statement and answer: STOP REPLICA waits for the transaction that is being applied.
const TIMEOUT: Duration = Duration::from_secs(50);

/// The applier's state before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Before {
    seed: i64,
    /// The thread that reads from the source ran.
    io: bool,
    /// The thread that applies ran.
    sql: bool,
    /// Its delay in seconds.
    pub(crate) delay: u64,
}

pub(crate) struct Applier {
    record: PathBuf,
    mysql: config::Mysql,
    state: Mutex<State>,
}

/// Of what was held last.
#[derive(Default)]
enum State {
    #[default]
    Released,
    /// To be restored from this moment on.
    Held(Before, Instant),
    /// Restored because the lease had expired. The other program may still run and continue.
    Lapsed(Before),
}

impl Applier {
    /// With what an earlier agent has written in `dir`, which is to be restored at once.
    pub(crate) fn open(dir: &Path, mysql: &config::Mysql) -> Self {
        let record = dir.join(RECORD);
        let text = if_there(std::fs::read(&record)).map_err(|e| e.to_string());
        let before = text.and_then(|text| {
            let before = text.map(|text| serde_json::from_slice::<Before>(&text));
            before.transpose().map_err(|e| e.to_string())
        });
        let state = match before {
            Ok(None) => State::Released,
            Ok(Some(before)) => State::Held(before, Instant::now()),
            Err(e) => {
                log::error!(
                    "{}: {e}; check that replication runs as it should (SHOW REPLICA STATUS)",
                    record.display()
                );
                State::Released
            }
        };
        Self {
            record,
            mysql: mysql.clone(),
            state: Mutex::new(state),
        }
    }

    /// Records the applier's state, if it runs and the account could restore it, or extends the lease of the same seed. Nothing is
    /// changed in MySQL.
    pub(crate) fn hold(&self, seed: i64) -> Result<Before> {
        let mut state = lock(&self.state);
        let before = match &*state {
            State::Held(before, _) if before.seed == seed => *before,
            State::Held(..) => {
                return Err(Error::transient(
                    "the applier was stopped by another seed, which will restart it soon",
                ));
            }
            State::Lapsed(before) if before.seed == seed => self.written(*before)?,
            _ => self.written(self.running(seed)?)?,
        };
        *state = State::Held(before, Instant::now() + LEASE);
        Ok(before)
    }

    fn written(&self, before: Before) -> Result<Before> {
        write_json(&self.record, &before).map(|()| before)
    }

    /// The applier's state, if it runs.
    fn running(&self, seed: i64) -> Result<Before> {
        let (mut conn, server) = self.connect()?;
        let now = applier(&mut conn, server)?
            .ok_or_else(|| Error::permanent("this server has no replication channel"))?;
        if !now.sql || !now.io {
            return Err(Error::permanent(
                "replication is not running on this server; start it (START REPLICA)",
            ));
        }
        let (_, held) = grants::held(&mut conn, server)?;
        let needed = [server.replica_privilege().to_string()].into();
        if let [name, ..] = grants::missing(server, &needed, &held).as_slice() {
            return Err(Error::permanent(format!(
                "mysql.user = \"{}\" lacks {name} on this server and could not restart the applier; grant it",
                self.mysql.user
            )));
        }
        Ok(Before {
            seed,
            io: now.io,
            sql: now.sql,
            delay: now.delay,
        })
    }

    /// Restores the applier now; after an error of the server the record is kept and it is tried again later. Without a record there is
    /// nothing to do, unless the lease of this seed, the `current` one, has expired before.
    pub(crate) fn release(&self, seed: i64, current: Option<i64>) -> Result<()> {
        let mut state = lock(&self.state);
        let before = match *state {
            State::Held(before, _) => Some(before),
            State::Lapsed(before) => Some(before).filter(|_| current == Some(seed)),
            State::Released => None,
        };
        let Some(before) = before.filter(|b| b.seed == seed) else {
            return Ok(());
        };
        self.restore(before, false)?;
        *state = State::Released;
        remove_if_there(&self.record)
    }

    /// As [`Applier::release`], if the lease has expired. If a newer seed has begun since (`current`), its controller decides about the
    /// replication of this server, and the record is dropped.
    pub(crate) fn restore_expired(&self, current: Option<i64>) -> Result<()> {
        let mut state = lock(&self.state);
        let before = match *state {
            State::Held(before, until) if Instant::now() >= until => before,
            _ => return Ok(()),
        };
        let seed = before.seed;
        if current == Some(seed) {
            // A STOP of the other program may still wait for a transaction; another STOP waits for that one.
            self.restore(before, true)?;
            log::warn!(
                "seed {seed}: its verification did not release the applier; replication runs as before"
            );
            *state = State::Lapsed(before);
        } else {
            log::warn!(
                "seed {seed}: its verification did not release the applier; a newer seed has begun, and replication is left as it is"
            );
            *state = State::Released;
        }
        remove_if_there(&self.record)
    }

    fn connect(&self) -> Result<(Conn, Server)> {
        let mut conn = connect(&Endpoint::local(&self.mysql), TIMEOUT)?;
        let server = Server::ask(&mut conn)?;
        Ok((conn, server))
    }

    /// `restart`: even if it seems to be as it was.
    fn restore(&self, before: Before, mut restart: bool) -> Result<()> {
        let (mut conn, server) = self.connect()?;
        let seed = before.seed;
        for start in 0.. {
            let Some(now) = applier(&mut conn, server)? else {
                log::warn!("seed {seed}: the replication channel is gone; nothing to restore");
                return Ok(());
            };
            if is_restored(before, &now) && !restart {
                break;
            }
            if start > 0
                && let Some(text) = own_error(before, &now)
            {
                log::warn!(
                    "seed {seed}: replication was started as before its verification, and has stopped: {text}"
                );
                break;
            }
            if start >= STARTS {
                return Err(Error::transient(format!(
                    "the applier does not remain as it was: reading {}, applying {}, delay {} s, Until_Condition {}",
                    now.io, now.sql, now.delay, now.until
                )));
            }
            for statement in statements(server, before, &now) {
                control::execute(&mut conn, &statement)?;
            }
            restart = false;
            std::thread::sleep(STEADY);
        }
        Ok(())
    }
}

/// A running thread may still have an end (UNTIL), which only stopping it takes away.
fn is_restored(before: Before, now: &Now) -> bool {
    now.delay == before.delay && !now.has_end() && now.sql == before.sql && now.io == before.io
}

/// Why a thread that was started does not run.
fn own_error(before: Before, now: &Now) -> Option<String> {
    let stopped = [
        (before.sql && !now.sql, &now.error),
        (before.io && !now.io, &now.io_error),
    ];
    stopped
        .into_iter()
        .find(|(stopped, error)| *stopped && error.0 != 0)
        .map(|(_, (code, text))| format!("error {code}: {text}"))
}

/// What makes the applier as it was.
fn statements(server: Server, before: Before, now: &Now) -> Vec<String> {
    let mut list = vec![server.stop_applier(true)];
    if now.delay != before.delay {
        list.push(server.set_delay(before.delay));
    }
    match (before.io, before.sql) {
        // By one statement: UNTIL master_gtid_pos is forgotten by MariaDB only when the SQL thread is started, and an I/O thread
        // that is started before that ends there too, without an error.
        (true, true) => list.push(server.start_replica("")),
        (true, false) => list.push(server.start_receiver("")),
        (false, true) => list.push(server.start_applier()),
        (false, false) => {}
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_changed_is_restored() {
        let before = Before {
            seed: 7,
            io: true,
            sql: true,
            delay: 9,
        };
        let state = |io, sql, delay, until: &str| Now {
            io,
            sql,
            delay,
            until: until.into(),
            ..Now::default()
        };
        let maria = Server::parse("10.11.6-MariaDB", "").unwrap();
        let mysql = Server::parse("9.7.4", "").unwrap();
        let as_before = state(true, true, 9, "None");
        assert!(is_restored(before, &as_before));
        for changed in [
            state(true, true, 9, "Gtid"),
            state(false, true, 9, "None"),
            state(true, false, 9, ""),
            state(true, true, 0, "None"),
        ] {
            assert!(!is_restored(before, &changed), "{changed:?}");
        }
        assert_eq!(
            statements(maria, before, &state(false, false, 9, "Gtid")),
            ["STOP SLAVE", "START SLAVE"]
        );
        let until = state(true, true, 0, "SQL_AFTER_GTIDS");
        assert_eq!(
            statements(mysql, before, &until),
            [
                "STOP REPLICA SQL_THREAD FOR CHANNEL ''",
                "CHANGE REPLICATION SOURCE TO SOURCE_DELAY = 9 FOR CHANNEL ''",
                "START REPLICA FOR CHANNEL ''"
            ]
        );
        let finished = state(true, true, 9, "SQL_AFTER_GTIDS");
        assert_eq!(statements(mysql, before, &finished).len(), 2);
        let failed = Now {
            error: (1062, "Duplicate entry".into()),
            io_error: (1236, "no such binary log".into()),
            ..state(true, false, 9, "None")
        };
        assert_eq!(
            own_error(before, &failed).as_deref(),
            Some("error 1062: Duplicate entry")
        );
        assert_eq!(own_error(before, &as_before), None);
    }
}

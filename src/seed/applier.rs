//! The applier of this host's replica while another program (`seed --verify`) stops it: its state is recorded before, and is restored when
//! that program releases it, when its last call was [`LEASE`] ago, or when the agent starts.
//!
//! The record is `applier.json` in `state-dir`. The other program runs the statements that stop the applier; this module only restores.

use crate::config;
use crate::datadir::journal::write_json;
use crate::error::{Error, Result};
use crate::mysql::applier::{Applier as State, applier};
use crate::mysql::{Endpoint, Server, connect, control, grants};
use crate::sys::thread::lock;
use mysql::Conn;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The record's name in `state-dir`.
const RECORD: &str = "applier.json";
/// How long after the last call the applier is restored.
pub const LEASE: Duration = Duration::from_secs(20);
/// How often it is started until it remains as it was.
const STARTS: u32 = 5;
/// How long after a start its state is read again.
const STEADY: Duration = Duration::from_millis(500);
/// For each connect, statement and answer: STOP REPLICA waits for the transaction that is being applied.
const TIMEOUT: Duration = Duration::from_secs(50);

/// The applier's state before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// The seed for which it is held.
    pub seed: i64,
    /// The thread that reads from the source ran.
    pub io: bool,
    /// The thread that applies ran.
    pub sql: bool,
    /// Its delay in seconds.
    pub delay: u64,
}

struct Held {
    before: Before,
    /// Restored from then on.
    until: Instant,
}

/// The applier of the local server.
pub struct Applier {
    dir: PathBuf,
    mysql: config::Mysql,
    state: Mutex<Holding>,
}

#[derive(Default)]
struct Holding {
    held: Option<Held>,
    /// What was restored because its lease had expired. The other program may still run and continue.
    lapsed: Option<Before>,
}

impl Applier {
    /// With what an earlier agent has written in `dir`, which is to be restored at once.
    pub fn open(dir: &Path, mysql: &config::Mysql) -> Self {
        let path = dir.join(RECORD);
        let before = match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|e| e.to_string()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e.to_string()),
        };
        let before: Option<Before> = before.unwrap_or_else(|e| {
            log::error!(
                "{}: {e}; check that replication runs as it should (SHOW REPLICA STATUS)",
                path.display()
            );
            None
        });
        Self {
            dir: dir.to_path_buf(),
            mysql: mysql.clone(),
            state: Mutex::new(Holding {
                held: before.map(|before| Held {
                    before,
                    until: Instant::now(),
                }),
                lapsed: None,
            }),
        }
    }

    /// Records the applier's state, or extends the lease of the same seed. Nothing is changed in MySQL.
    ///
    /// # Errors
    /// If there is no replication, it does not run, the account may not restore it, or the record cannot be written.
    pub fn hold(&self, seed: i64) -> Result<Before> {
        let mut state = lock(&self.state);
        if let Some(h) = state.held.as_mut().filter(|h| h.before.seed == seed) {
            h.until = Instant::now() + LEASE;
            return Ok(h.before.clone());
        }
        if state.held.is_some() {
            return Err(Error::transient(
                "the applier is held by another seed and will be restored soon",
            ));
        }
        let before = match state.lapsed.clone().filter(|b| b.seed == seed) {
            Some(lapsed) => lapsed,
            None => self.running(seed)?,
        };
        write_json(&self.path(), &before)?;
        *state = Holding {
            held: Some(Held {
                before: before.clone(),
                until: Instant::now() + LEASE,
            }),
            lapsed: None,
        };
        Ok(before)
    }

    /// The applier's state, if it runs.
    fn running(&self, seed: i64) -> Result<Before> {
        let (mut conn, server) = self.connect()?;
        let now = applier(&mut conn, server)?
            .ok_or_else(|| Error::permanent("this server has no replication channel"))?;
        if !now.sql || !now.io {
            return Err(Error::permanent(
                "replication of this server does not run; start it (START REPLICA)",
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

    /// Restores the applier now. Without a record there is nothing to do, unless the lease of this seed, the `current` one, has
    /// expired before.
    ///
    /// # Errors
    /// The server's; the record is kept and it is tried again later.
    pub fn release(&self, seed: i64, current: Option<i64>) -> Result<()> {
        let mut state = lock(&self.state);
        match &*state {
            Holding { held: Some(h), .. } if h.before.seed == seed => {
                self.restore(&h.before, false)?;
            }
            Holding {
                held: None,
                lapsed: Some(before),
            } if before.seed == seed && current == Some(seed) => self.restore(before, false)?,
            _ => return Ok(()),
        }
        *state = Holding::default();
        self.forget()
    }

    /// Restores it if the lease has expired. If a newer seed has begun since (`current`), its controller decides about the
    /// replication of this server, and the record is dropped.
    ///
    /// # Errors
    /// As [`Applier::release`].
    pub fn restore_expired(&self, current: Option<i64>) -> Result<()> {
        let mut state = lock(&self.state);
        let Some(h) = state.held.as_ref().filter(|h| Instant::now() >= h.until) else {
            return Ok(());
        };
        let before = h.before.clone();
        let restored = current == Some(before.seed);
        let outcome = if restored {
            // A STOP of the other program may still wait for a transaction; another STOP waits for that one.
            self.restore(&before, true)?;
            "replication runs as before"
        } else {
            "a newer seed has begun, and replication is left as it is"
        };
        log::warn!(
            "seed {}: its verification did not release the applier; {outcome}",
            before.seed
        );
        *state = Holding {
            held: None,
            lapsed: restored.then_some(before),
        };
        self.forget()
    }

    fn connect(&self) -> Result<(Conn, Server)> {
        let mut conn = connect(&Endpoint::local(&self.mysql), TIMEOUT)?;
        let server = Server::ask(&mut conn)?;
        Ok((conn, server))
    }

    /// `restart`: even if it seems to be as it was.
    fn restore(&self, before: &Before, mut restart: bool) -> Result<()> {
        let (mut conn, server) = self.connect()?;
        for start in 0.. {
            let Some(now) = applier(&mut conn, server)? else {
                log::warn!(
                    "seed {}: the replication channel is gone; nothing to restore",
                    before.seed
                );
                return Ok(());
            };
            if is_restored(before, &now) && !restart {
                break;
            }
            if start > 0
                && let Some(text) = own_error(before, &now)
            {
                log::warn!(
                    "seed {}: replication was started as before its verification, and has stopped: {text}",
                    before.seed
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

    fn path(&self) -> PathBuf {
        self.dir.join(RECORD)
    }

    fn forget(&self) -> Result<()> {
        let path = self.path();
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io(path.display(), &e))
            }
            _ => Ok(()),
        }
    }
}

/// A running thread may still have an end (UNTIL), which only stopping it takes away.
fn is_restored(before: &Before, now: &State) -> bool {
    now.delay == before.delay && !now.has_end() && now.sql == before.sql && now.io == before.io
}

/// Why a thread that was started does not run.
fn own_error(before: &Before, now: &State) -> Option<String> {
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
fn statements(server: Server, before: &Before, now: &State) -> Vec<String> {
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
        let state = |io, sql, delay, until: &str| State {
            io,
            sql,
            delay,
            until: until.into(),
            ..State::default()
        };
        let maria = Server::parse("10.11.6-MariaDB", "").unwrap();
        let mysql = Server::parse("9.7.4", "").unwrap();
        let as_before = state(true, true, 9, "None");
        assert!(is_restored(&before, &as_before));
        for changed in [
            state(true, true, 9, "Gtid"),
            state(false, true, 9, "None"),
            state(true, false, 9, ""),
            state(true, true, 0, "None"),
        ] {
            assert!(!is_restored(&before, &changed), "{changed:?}");
        }
        assert_eq!(
            statements(maria, &before, &state(false, false, 9, "Gtid")),
            ["STOP SLAVE", "START SLAVE"]
        );
        let until = state(true, true, 0, "SQL_AFTER_GTIDS");
        assert_eq!(
            statements(mysql, &before, &until),
            [
                "STOP REPLICA SQL_THREAD FOR CHANNEL ''",
                "CHANGE REPLICATION SOURCE TO SOURCE_DELAY = 9 FOR CHANNEL ''",
                "START REPLICA FOR CHANNEL ''"
            ]
        );
        let finished = state(true, true, 9, "SQL_AFTER_GTIDS");
        assert_eq!(statements(mysql, &before, &finished).len(), 2);
        let failed = State {
            error: (1062, "Duplicate entry".into()),
            io_error: (1236, "no such binary log".into()),
            ..state(true, false, 9, "None")
        };
        assert_eq!(
            own_error(&before, &failed).as_deref(),
            Some("error 1062: Duplicate entry")
        );
        assert_eq!(own_error(&before, &as_before), None);
    }
}

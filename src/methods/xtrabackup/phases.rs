//! Where a backup tool's last phase begins and ends, by the lines of its standard error.
//!
//! While the tool holds these locks the source's writes wait, so that from the first of these lines on its output must be taken as
//! fast as it comes. Lines that announce a lock which stops no write are not here: `LOCK INSTANCE FOR BACKUP` of xtrabackup 8.0 and
//! later (DDL only, for the complete copy) and `BACKUP STAGE START` of MariaDB.

use super::messages::{
    self,
    Meaning::{Locks, Released, Staged},
};
use crate::mysql::Server;
use crate::sys::thread::lock;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Follows the tool's lines. All clones are the same one.
#[derive(Clone)]
pub(super) struct Phases(Arc<Mutex<State>>);

struct State {
    tool: Server,
    staged: bool,
    since: Option<Instant>,
    held: Option<Duration>,
}

/// What has just begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Locks,
    Released,
}

impl Phases {
    /// Of a tool made for this server.
    pub(super) fn of(tool: Server) -> Self {
        Self(Arc::new(Mutex::new(State {
            tool,
            staged: false,
            since: None,
            held: None,
        })))
    }

    /// Hears one line; what begins with it, each once.
    pub(super) fn hear(&self, line: &str) -> Option<Step> {
        let mut s = lock(&self.0);
        match messages::meaning(line, s.tool, s.staged)? {
            Staged => {
                s.staged = true;
                None
            }
            Locks if s.since.is_none() => {
                s.since = Some(Instant::now());
                Some(Step::Locks)
            }
            Released if s.held.is_none() => {
                s.held = Some(s.since?.elapsed());
                Some(Step::Released)
            }
            Locks | Released => None,
        }
    }

    /// How long the locks were held, when the tool has ended; `None` if it has announced none.
    pub(super) fn held(&self) -> Option<Duration> {
        let s = lock(&self.0);
        s.held.or_else(|| s.since.map(|since| since.elapsed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of the line with which each step begins.
    fn steps(version: &str, lines: &[&str]) -> (Option<usize>, Option<usize>) {
        let phases = Phases::of(Server::parse(version, "").unwrap());
        let heard: Vec<_> = lines.iter().map(|l| phases.hear(l)).collect();
        let at = |step| heard.iter().position(|h| *h == Some(step));
        assert_eq!(
            phases.held().is_some(),
            at(Step::Locks).is_some(),
            "{version}"
        );
        assert!(heard.iter().flatten().count() <= 2, "each once");
        (at(Step::Locks), at(Step::Released))
    }

    #[test]
    fn the_last_phase_of_each_tool() {
        // (tool's server, its lines, locks from, until)
        for (version, lines, locks, released) in [
            (
                "10.11.19-MariaDB",
                &[
                    "[00] 2026-11-27 04:45:52 Starting BACKUP STAGE START",
                    "[00] 2026-11-27 04:45:52 Acquiring BACKUP LOCKS...",
                    "[00] 2026-11-27 04:45:52 Acquired locks for BACKUP STAGE START",
                    "[00] 2026-11-27 04:45:53 Starting BACKUP STAGE FLUSH",
                    "[00] 2026-11-27 04:45:53 Copied file ./shop/my.MYD for table `shop`.`my`, 14400000 bytes",
                    "[00] 2026-11-27 04:45:53 Started BACKUP STAGE BLOCK_DDL",
                    "[00] 2026-11-27 04:45:53 Acquired locks for BACKUP STAGE BLOCK_DDL",
                    "[00] 2026-11-27 04:45:53 Starting BACKUP STAGE BLOCK_COMMIT",
                    "[00] 2026-11-27 04:45:54 Executing BACKUP STAGE END",
                    "[00] 2026-11-27 04:45:54 All tables unlocked",
                    "[00] 2026-11-27 04:45:54 completed OK!",
                ][..],
                Some(3),
                Some(9),
            ),
            (
                "10.6.4-MariaDB",
                &[
                    "[00] 2026-11-27 04:45:52 Streaming ibdata1",
                    "[00] 2026-11-27 04:45:52 Acquiring BACKUP LOCKS...",
                    "[00] 2026-11-27 04:45:53 Starting to backup non-InnoDB tables and files",
                    "[00] 2026-11-27 04:45:54 Executing BACKUP STAGE END",
                    "[00] 2026-11-27 04:45:54 All tables unlocked",
                ],
                Some(1),
                Some(4),
            ),
            (
                "10.3.39-MariaDB",
                &[
                    "Executing FLUSH NO_WRITE_TO_BINLOG TABLES...",
                    "Executing FLUSH TABLES WITH READ LOCK...",
                    "Executing FLUSH NO_WRITE_TO_BINLOG ENGINE LOGS...",
                    "Executing UNLOCK TABLES",
                    "All tables unlocked",
                ],
                Some(0),
                Some(4),
            ),
            (
                "8.0.36",
                &[
                    "2026-01-26T12:00:00.0-00:00 0 [Note] [MY-011825] [Xtrabackup] Executing LOCK INSTANCE FOR BACKUP ...",
                    "2026-01-26T12:00:00.0-00:00 0 [Note] [MY-011825] [Xtrabackup] Executing LOCK TABLES FOR BACKUP ...",
                    "2026-01-26T12:00:01.0-00:00 1 [Note] [MY-011825] [Xtrabackup] Streaming ./ibdata1",
                    "2026-01-26T12:00:09.0-00:00 0 [Note] [MY-011825] [Xtrabackup] Executing FLUSH NO_WRITE_TO_BINLOG TABLES...",
                    "2026-01-26T12:00:09.0-00:00 0 [Note] [MY-011825] [Xtrabackup] Executing FLUSH TABLES WITH READ LOCK...",
                    "2026-01-26T12:00:09.0-00:00 0 [Note] [MY-011825] [Xtrabackup] Executing FLUSH NO_WRITE_TO_BINLOG BINARY LOGS",
                    "2026-01-26T12:00:10.0-00:00 0 [Note] [MY-011825] [Xtrabackup] Executing UNLOCK TABLES",
                    "2026-01-26T12:00:10.0-00:00 0 [Note] [MY-011825] [Xtrabackup] All tables unlocked",
                ],
                Some(3),
                Some(7),
            ),
            (
                "5.7.44",
                &[
                    "Executing LOCK TABLES FOR BACKUP...",
                    "Executing LOCK BINLOG FOR BACKUP...",
                    "All tables unlocked",
                ],
                Some(0),
                Some(2),
            ),
            ("9.7.1", &["completed OK!"], None, None),
        ] {
            assert_eq!(steps(version, lines), (locks, released), "{version}");
        }
    }
}

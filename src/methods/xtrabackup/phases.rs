//! Where a backup tool's last phase begins and ends: the lines of its standard error, by tool and version.
//!
//! While the tool holds these locks the source's writes wait, so that from the first of these lines on its output must be taken as
//! fast as it comes. Lines that announce a lock which stops no write are not here: `LOCK INSTANCE FOR BACKUP` of xtrabackup 8.0 and
//! later (DDL only, for the complete copy) and `BACKUP STAGE START` of MariaDB.

use crate::mysql::{Flavour, Server, Version};
use crate::sys::thread::lock;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What a line means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// The stages of BACKUP STAGE are taken one by one: [`Row::only_unstaged`] rows do not count.
    Staged,
    /// The last phase has begun.
    Locks,
    /// Its locks are released.
    Released,
}

/// A line that contains `text`, of tools from one version up to another.
struct Row {
    flavour: Flavour,
    from: Version,
    below: Version,
    text: &'static str,
    meaning: Meaning,
    only_unstaged: bool,
}

const FIRST: Version = Version(0, 0, 0);
const LAST: Version = Version(u32::MAX, 0, 0);

const fn row(
    flavour: Flavour,
    from: Version,
    below: Version,
    text: &'static str,
    meaning: Meaning,
) -> Row {
    Row {
        flavour,
        from,
        below,
        text,
        meaning,
        only_unstaged: false,
    }
}

use Flavour::{MariaDb, MySql};
use Meaning::{Locks, Released, Staged};

/// The table. MariaDB: recorded of mariadb-backup 10.11.19; rows below 10.11 by its source (extra/mariabackup/backup_mysql.cc). MySQL:
/// by Percona's source (storage/innobase/xtrabackup/src/backup_mysql.cc) and logs that users have published.
const ROWS: &[Row] = &[
    row(MariaDb, FIRST, LAST, "Starting BACKUP STAGE START", Staged),
    // Writes to tables without transactions wait from here on, and they are all copied now; DDL from BLOCK_DDL on, commits from
    // BLOCK_COMMIT on.
    row(MariaDb, FIRST, LAST, "Starting BACKUP STAGE FLUSH", Locks),
    row(MariaDb, FIRST, LAST, "BACKUP STAGE BLOCK_DDL", Locks),
    row(MariaDb, FIRST, LAST, "BACKUP STAGE BLOCK_COMMIT", Locks),
    // Without single stages: START to BLOCK_COMMIT in one step, after the copy of InnoDB.
    Row {
        only_unstaged: true,
        ..row(MariaDb, FIRST, LAST, "Acquiring BACKUP LOCKS", Locks)
    },
    // mariadb-backup up to 10.3.
    row(
        MariaDb,
        FIRST,
        Version(10, 4, 0),
        "Executing FLUSH NO_WRITE_TO_BINLOG TABLES",
        Locks,
    ),
    row(
        MariaDb,
        FIRST,
        Version(10, 4, 0),
        "Executing FLUSH TABLES WITH READ LOCK",
        Locks,
    ),
    // xtrabackup 2.4: after the copy of InnoDB. Since 8.0 it is taken at the start where --lock-ddl is on.
    row(
        MySql,
        FIRST,
        Version(8, 0, 0),
        "Executing LOCK TABLES FOR BACKUP",
        Locks,
    ),
    row(
        MySql,
        FIRST,
        LAST,
        "Executing FLUSH NO_WRITE_TO_BINLOG TABLES",
        Locks,
    ),
    row(
        MySql,
        FIRST,
        LAST,
        "Executing FLUSH TABLES WITH READ LOCK",
        Locks,
    ),
    row(
        MySql,
        FIRST,
        LAST,
        "Executing LOCK BINLOG FOR BACKUP",
        Locks,
    ),
    // xtrabackup 8.0 and later with InnoDB tables only: no lock but LOCK INSTANCE; what follows is short.
    row(
        MySql,
        Version(8, 0, 0),
        LAST,
        "Executing FLUSH NO_WRITE_TO_BINLOG BINARY LOGS",
        Locks,
    ),
    row(MariaDb, FIRST, LAST, "All tables unlocked", Released),
    row(MySql, FIRST, LAST, "All tables unlocked", Released),
];

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
        let row = ROWS.iter().find(|r| {
            r.flavour == s.tool.flavour
                && (r.from..r.below).contains(&s.tool.version)
                && line.contains(r.text)
                && !(r.only_unstaged && s.staged)
        })?;
        match row.meaning {
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

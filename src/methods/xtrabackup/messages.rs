//! What mariadb-backup and xtrabackup write to their standard error, as far as it is searched; and by it the tool's last phase.
//!
//! While the tool holds its locks the source's writes wait, so that from the first of these lines on its output must be taken as fast as
//! it comes. Lines that announce a lock which stops no write are not here: `LOCK INSTANCE FOR BACKUP` of xtrabackup 8.0 and later (DDL
//! only, for the complete copy) and `BACKUP STAGE START` of MariaDB.

use crate::mysql::{Flavour, Server, Version};
use Flavour::{MariaDb, MySql};
use Meaning::{Locks, LocksUnlessStaged, Released, Staged};
use std::ops::Range;
use std::time::{Duration, Instant};

/// What a line means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The stages of BACKUP STAGE are taken one by one.
    Staged,
    /// The last phase has begun.
    Locks,
    LocksUnlessStaged,
    /// Its locks are released.
    Released,
}

const ANY: Range<Version> = Version(0, 0, 0)..Version(u32::MAX, 0, 0);
const UP_TO_10_3: Range<Version> = Version(0, 0, 0)..Version(10, 4, 0);
const UP_TO_5_7: Range<Version> = Version(0, 0, 0)..Version(8, 0, 0);
const SINCE_8_0: Range<Version> = Version(8, 0, 0)..Version(u32::MAX, 0, 0);

/// What a line that contains the text means, of tools for these servers. MariaDB: recorded of mariadb-backup 10.11.19; rows below 10.11 by
/// its source (extra/mariabackup/backup_mysql.cc). MySQL: by Percona's source (storage/innobase/xtrabackup/src/backup_mysql.cc) and logs
/// that users have published.
#[rustfmt::skip]
const ROWS: &[(Flavour, Range<Version>, &str, Meaning)] = &[
    (MariaDb, ANY, "Starting BACKUP STAGE START", Staged),
    // Writes to tables without transactions wait from here on, and they are all copied now; DDL from BLOCK_DDL on, commits from
    // BLOCK_COMMIT on.
    (MariaDb, ANY, "Starting BACKUP STAGE FLUSH", Locks),
    (MariaDb, ANY, "BACKUP STAGE BLOCK_DDL", Locks),
    (MariaDb, ANY, "BACKUP STAGE BLOCK_COMMIT", Locks),
    // Without single stages: START to BLOCK_COMMIT in one step, after the copy of InnoDB.
    (MariaDb, ANY, "Acquiring BACKUP LOCKS", LocksUnlessStaged),
    (MariaDb, UP_TO_10_3, "Executing FLUSH NO_WRITE_TO_BINLOG TABLES", Locks),
    (MariaDb, UP_TO_10_3, "Executing FLUSH TABLES WITH READ LOCK", Locks),
    // xtrabackup 2.4: after the copy of InnoDB. Since 8.0 it is taken at the start where --lock-ddl is on.
    (MySql, UP_TO_5_7, "Executing LOCK TABLES FOR BACKUP", Locks),
    (MySql, ANY, "Executing FLUSH NO_WRITE_TO_BINLOG TABLES", Locks),
    (MySql, ANY, "Executing FLUSH TABLES WITH READ LOCK", Locks),
    (MySql, ANY, "Executing LOCK BINLOG FOR BACKUP", Locks),
    // xtrabackup 8.0 and later with InnoDB tables only: no lock but LOCK INSTANCE; what follows is short.
    (MySql, SINCE_8_0, "Executing FLUSH NO_WRITE_TO_BINLOG BINARY LOGS", Locks),
    (MariaDb, ANY, "All tables unlocked", Released),
    (MySql, ANY, "All tables unlocked", Released),
];

/// Follows the lines of a tool.
pub(super) struct Phases {
    /// The server that it is made for.
    tool: Server,
    staged: bool,
    since: Option<Instant>,
    held: Option<Duration>,
}

impl Phases {
    pub(super) fn of(tool: Server) -> Self {
        Self {
            tool,
            staged: false,
            since: None,
            held: None,
        }
    }

    /// [`Locks`] or [`Released`], if that begins with this line, each once.
    pub(super) fn line(&mut self, line: &str) -> Option<Meaning> {
        let (_, _, _, meaning) = ROWS.iter().find(|(flavour, versions, text, _)| {
            *flavour == self.tool.flavour
                && versions.contains(&self.tool.version)
                && line.contains(text)
        })?;
        match meaning {
            Staged => self.staged = true,
            LocksUnlessStaged if self.staged => {}
            Locks | LocksUnlessStaged if self.since.is_none() => {
                self.since = Some(Instant::now());
                return Some(Locks);
            }
            Released if self.held.is_none() => {
                self.held = Some(self.since?.elapsed());
                return Some(Released);
            }
            _ => {}
        }
        None
    }

    /// How long the locks were held, when the tool has ended; `None` if it has announced none.
    pub(super) fn held(&self) -> Option<Duration> {
        self.held
            .or_else(|| self.since.map(|since| since.elapsed()))
    }
}

/// True if the tool ran into the limit of open files (EMFILE is 24 on Linux): by the C library's text, and as InnoDB and mysys number it
/// in mariadb-backup 10.11.19 and xtrabackup 2.4 to 8.4.
pub(super) fn is_open_files(stderr: &str) -> bool {
    let texts = [
        "Too many open files",
        "errno: 24",
        "Errcode: 24",
        "OS errno 24",
        "error number 24",
    ];
    texts.iter().any(|t| stderr.contains(t))
}

/// The last lines without those that name each file that went well (mariadb-backup 10.11.19, xtrabackup 2.4 to 8.4): the cause would be
/// lost among them.
pub(super) fn last_lines(stderr: &str) -> String {
    const NOISE: [&str; 4] = ["<STDOUT>", "...done", ">> log scanned up to", "Streaming "];
    let shown =
        |l: &&str| l.to_lowercase().contains("error") || !NOISE.iter().any(|n| l.contains(n));
    let lines: Vec<&str> = stderr.lines().filter(shown).collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}

/// The newest log sequence number in a tool's standard error.
pub(super) fn newest_lsn(stderr: &str) -> Option<u64> {
    let after = |mark: &str| {
        let at = stderr.rfind(mark)? + mark.len();
        let rest = stderr[at..].trim_start_matches([' ', '=', ':']);
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
        digits.parse::<u64>().ok()
    };
    ["LSN", "log sequence number", "lsn"]
        .into_iter()
        .filter_map(after)
        .max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_open_files_is_named() {
        assert!(is_open_files(
            "InnoDB: Operating system error number 24 in a file operation"
        ));
        assert!(!is_open_files("completed OK!"));
    }

    #[test]
    fn of_thousands_of_files_only_the_one_with_the_error_is_named() {
        let mut text =
            "[01] 2026-11-21 Streaming ./shop/t1.ibd to <STDOUT>\n[01] 2026-11-21        ...done\n"
                .repeat(500);
        text += "[01] 2026-11-21 Error: cannot copy shop/t2.ibd to <STDOUT>\n[00] >> log scanned up to (47)\nfailed\n";
        assert_eq!(
            last_lines(&text),
            "[01] 2026-11-21 Error: cannot copy shop/t2.ibd to <STDOUT>\nfailed"
        );
    }

    #[test]
    fn log_sequence_numbers() {
        assert_eq!(
            newest_lsn(
                "InnoDB: Starting crash recovery from checkpoint LSN=44878\nInnoDB: Parsed redo log up to LSN=50000; to recover"
            ),
            Some(50000)
        );
        assert_eq!(
            newest_lsn("Doing recovery: scanned up to log sequence number 24064123 (62%)"),
            Some(24_064_123)
        );
        assert_eq!(newest_lsn("completed OK!"), None);
    }

    /// The number of the line with which each step begins.
    fn steps(version: &str, lines: &[&str]) -> (Option<usize>, Option<usize>) {
        let mut phases = Phases::of(Server::parse(version, "").unwrap());
        let begun: Vec<_> = lines.iter().map(|l| phases.line(l)).collect();
        let at = |step| begun.iter().position(|h| *h == Some(step));
        assert_eq!(phases.held().is_some(), at(Locks).is_some(), "{version}");
        assert!(begun.iter().flatten().count() <= 2, "each once");
        (at(Locks), at(Released))
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

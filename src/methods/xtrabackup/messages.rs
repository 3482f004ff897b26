//! What mariadb-backup and xtrabackup write to their standard error, as far as it is searched.

use crate::mysql::{Flavour, Server, Version};

/// What a line means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
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

/// What a line of `tool` means; `staged`: [`Meaning::Staged`] has come before.
pub(super) fn meaning(line: &str, tool: Server, staged: bool) -> Option<Meaning> {
    let row = ROWS.iter().find(|r| {
        r.flavour == tool.flavour
            && (r.from..r.below).contains(&tool.version)
            && line.contains(r.text)
            && !(r.only_unstaged && staged)
    })?;
    Some(row.meaning)
}

/// True if the tool ran into the limit of open files (EMFILE is 24 on Linux): by the C library's text, and as InnoDB and mysys number it
/// in mariadb-backup 10.11.19 and xtrabackup 2.4 to 8.4.
pub(super) fn is_open_files(stderr: &str) -> bool {
    const TEXTS: [&str; 5] = [
        "Too many open files",
        "errno: 24",
        "Errcode: 24",
        "OS errno 24",
        "error number 24",
    ];
    TEXTS.iter().any(|t| stderr.contains(t))
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
}

//! What kind of server it is, and the statements and tool names that follow from that. Chosen by flavour and version, never by trial.

use super::query;
use crate::error::{Error, Result};
use mysql::Conn;
use std::fmt;
use std::path::{Path, PathBuf};

/// The two families. They never mix in a seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Flavour {
    /// MySQL, Percona Server and other true forks.
    MySql,
    /// MariaDB
    MariaDb,
}

impl fmt::Display for Flavour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MySql => "MySQL",
            Self::MariaDb => "MariaDB",
        })
    }
}

/// Major, minor, patch; compared as numbers, because 9.7 < 26.7.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub struct Version(pub u32, pub u32, pub u32);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// Major, minor, patch.
type Since = (u32, u32, u32);

/// A server's flavour and version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Server {
    /// Family.
    pub flavour: Flavour,
    /// Version number.
    pub version: Version,
}

impl Server {
    /// Queries the server.
    pub fn ask(conn: &mut Conn) -> Result<Self> {
        let text: Option<(String, String)> =
            query::first(conn, "SELECT VERSION(), @@version_comment")?;
        let (version, comment) = text.unwrap_or_default();
        Self::parse(&version, &comment)
    }

    /// From `VERSION()` and `@@version_comment`.
    pub fn parse(version: &str, comment: &str) -> Result<Self> {
        let (flavour, digits) = if version.contains("MariaDB") || comment.contains("MariaDB") {
            // Old replication-compatible versions read 5.5.5-10.11.6-MariaDB.
            let digits = version.strip_prefix("5.5.5-").unwrap_or(version);
            (Flavour::MariaDb, digits)
        } else {
            (Flavour::MySql, version)
        };
        let mut parts = digits
            .split(|c: char| !c.is_ascii_digit())
            .map(|p| p.parse::<u32>().ok());
        let mut next = || parts.next().flatten();
        let (Some(major), Some(minor), patch) = (next(), next(), next()) else {
            return Err(Error::permanent(format!(
                "cannot read a server version out of \"{version}\""
            )));
        };
        let version = Version(major, minor, patch.unwrap_or(0));
        Ok(Self { flavour, version })
    }

    /// MySQL from this version on.
    pub(crate) fn mysql_from(self, major: u32, minor: u32, patch: u32) -> bool {
        self.flavour == Flavour::MySql && self.version >= Version(major, minor, patch)
    }

    /// MariaDB from this version on.
    pub(crate) fn maria_from(self, major: u32, minor: u32, patch: u32) -> bool {
        self.flavour == Flavour::MariaDb && self.version >= Version(major, minor, patch)
    }

    /// The `new` word for MySQL from this version on, else the `old` one.
    pub(super) fn word(self, since: Since, new: &'static str, old: &'static str) -> &'static str {
        let (major, minor, patch) = since;
        let is_new = self.mysql_from(major, minor, patch);
        if is_new { new } else { old }
    }

    /// Binary log file and position.
    pub(crate) fn binlog_status(self) -> &'static str {
        self.word((8, 4, 0), "SHOW BINARY LOG STATUS", "SHOW MASTER STATUS")
    }

    /// Empties the binary log and the executed GTID set.
    pub(crate) fn reset_binlog(self) -> &'static str {
        self.word((8, 4, 0), "RESET BINARY LOGS AND GTIDS", "RESET MASTER")
    }

    /// The word of the replica statements: SHOW/START/STOP/RESET ...
    pub(crate) fn replica(self) -> &'static str {
        self.word((8, 0, 22), "REPLICA", "SLAVE")
    }

    /// `SOURCE` or `MASTER`, as the options of a channel begin.
    pub(crate) fn source_word(self) -> &'static str {
        self.word((8, 0, 23), "SOURCE", "MASTER")
    }

    /// Name of the variable that keeps channels from starting with the server.
    pub(crate) fn skip_replica_start(self) -> &'static str {
        self.word((8, 0, 26), "skip_replica_start", "skip_slave_start")
    }

    /// Name of the variable by which a replica writes what it applies into its own binary log.
    pub(crate) fn log_replica_updates(self) -> &'static str {
        self.word((8, 0, 26), "log_replica_updates", "log_slave_updates")
    }

    /// All replication channels or connections, one a row.
    pub(crate) fn replica_status(self) -> &'static str {
        match self.flavour {
            Flavour::MariaDb => "SHOW ALL SLAVES STATUS",
            Flavour::MySql => self.word((8, 0, 22), "SHOW REPLICA STATUS", "SHOW SLAVE STATUS"),
        }
    }

    /// Columns of the replica status: IO thread, SQL thread, source's host, lag.
    pub(super) fn replica_columns(self) -> [&'static str; 4] {
        #[rustfmt::skip]
        let (old, new) = (
            ["Slave_IO_Running", "Slave_SQL_Running", "Master_Host", "Seconds_Behind_Master"],
            ["Replica_IO_Running", "Replica_SQL_Running", "Source_Host", "Seconds_Behind_Source"],
        );
        let is_new = self.mysql_from(8, 0, 22);
        if is_new { new } else { old }
    }

    /// The table of all events. On MariaDB information_schema.EVENTS is error 1577 where the scheduler is disabled.
    pub(super) fn events(self) -> &'static str {
        match self.flavour {
            Flavour::MariaDb => "mysql.event",
            Flavour::MySql => "information_schema.EVENTS",
        }
    }

    /// The clause that keeps an event of the source from running on its replica.
    pub(crate) fn disable_event(self) -> &'static str {
        self.word((8, 4, 0), "DISABLE ON REPLICA", "DISABLE ON SLAVE")
    }

    /// The dump option that writes coordinates as a comment; MariaDB knows only the old word.
    pub(crate) fn coordinates_option(self) -> &'static str {
        self.word((8, 0, 26), "--source-data=2", "--master-data=2")
    }
}

impl Flavour {
    /// Names of the dump tool, best first.
    pub(crate) fn dump_tools(self) -> &'static [&'static str] {
        match self {
            Self::MariaDb => &["mariadb-dump", "mysqldump"],
            Self::MySql => &["mysqldump"],
        }
    }

    /// Names of the tool that prints binary logs, best first.
    pub(crate) fn binlog_tools(self) -> &'static [&'static str] {
        match self {
            Self::MariaDb => &["mariadb-binlog", "mysqlbinlog"],
            Self::MySql => &["mysqlbinlog"],
        }
    }

    /// Names of the command-line client, best first.
    pub(crate) fn client_tools(self) -> &'static [&'static str] {
        match self {
            Self::MariaDb => &["mariadb", "mysql"],
            Self::MySql => &["mysql"],
        }
    }
}

/// The directory with the plugin mysql_native_password, next to `program`, for a server on which accounts may have it: the clients of
/// MySQL 9 know mysql_native_password as a plugin only, and look for that where they were built for (2059). `None` where there
/// is no such plugin: most clients have it built in.
pub(crate) fn old_logins(program: &Path, server: Server) -> Option<PathBuf> {
    if server.flavour != Flavour::MySql || server.version >= Version(9, 0, 0) {
        return None;
    }
    let real = std::fs::canonicalize(program).ok()?;
    let prefix = real.parent()?.parent()?;
    ["lib/mysql/plugin", "lib64/mysql/plugin", "lib/plugin"]
        .iter()
        .map(|dir| prefix.join(dir))
        .find(|dir| dir.join("mysql_native_password.so").is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(v: &str) -> Server {
        Server::parse(v, "").unwrap()
    }

    #[test]
    fn versions_compare_as_numbers_and_flavours_are_told_apart() {
        assert!(s("26.7.0").version > s("9.7.4").version);
        assert_eq!(
            s("10.11.19-MariaDB-0+deb12u1-log").flavour,
            Flavour::MariaDb
        );
        assert_eq!(s("5.5.5-10.11.6-MariaDB").version, Version(10, 11, 6));
        assert_eq!(s("8.0.36-28").version, Version(8, 0, 36));
        assert_eq!(
            Server::parse("11.4.2", "mariadb.org binary distribution, MariaDB")
                .unwrap()
                .flavour,
            Flavour::MariaDb
        );
        assert!(Server::parse("unknown", "").is_err());
    }

    #[test]
    fn the_old_login_is_looked_for_next_to_the_client() {
        let dir = std::env::temp_dir().join(format!("oa-plugins-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("bin")).unwrap();
        std::fs::create_dir_all(dir.join("lib64/mysql/plugin")).unwrap();
        let program = dir.join("bin/mysqldump");
        std::fs::write(&program, "").unwrap();
        let old = s("5.6.24");
        assert_eq!(old_logins(&program, old), None);
        std::fs::write(dir.join("lib64/mysql/plugin/mysql_native_password.so"), "").unwrap();
        let found = old_logins(&program, old).unwrap();
        assert!(found.ends_with("lib64/mysql/plugin"), "{found:?}");
        for other in ["9.7.4", "10.11.19-MariaDB"] {
            assert_eq!(old_logins(&program, s(other)), None);
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn statements_by_flavour_and_version() {
        let table = [
            (
                "5.6.24",
                "RESET MASTER",
                "SHOW MASTER STATUS",
                "SLAVE",
                "SHOW SLAVE STATUS",
                "--master-data=2",
            ),
            (
                "8.0.21",
                "RESET MASTER",
                "SHOW MASTER STATUS",
                "SLAVE",
                "SHOW SLAVE STATUS",
                "--master-data=2",
            ),
            (
                "8.0.36",
                "RESET MASTER",
                "SHOW MASTER STATUS",
                "REPLICA",
                "SHOW REPLICA STATUS",
                "--source-data=2",
            ),
            (
                "8.4.0",
                "RESET BINARY LOGS AND GTIDS",
                "SHOW BINARY LOG STATUS",
                "REPLICA",
                "SHOW REPLICA STATUS",
                "--source-data=2",
            ),
            (
                "26.7.0",
                "RESET BINARY LOGS AND GTIDS",
                "SHOW BINARY LOG STATUS",
                "REPLICA",
                "SHOW REPLICA STATUS",
                "--source-data=2",
            ),
            (
                "10.11.19-MariaDB",
                "RESET MASTER",
                "SHOW MASTER STATUS",
                "SLAVE",
                "SHOW ALL SLAVES STATUS",
                "--master-data=2",
            ),
            (
                "12.3.2-MariaDB",
                "RESET MASTER",
                "SHOW MASTER STATUS",
                "SLAVE",
                "SHOW ALL SLAVES STATUS",
                "--master-data=2",
            ),
        ];
        for (v, reset, status, word, replica, option) in table {
            let x = s(v);
            assert_eq!(
                (
                    x.reset_binlog(),
                    x.binlog_status(),
                    x.replica(),
                    x.replica_status(),
                    x.coordinates_option()
                ),
                (reset, status, word, replica, option),
                "{v}"
            );
        }
    }
}

//! What kind of server it is, and the one table of statements and tool names that follows from that. Chosen by flavour and
//! version, never by trial.

use super::query;
use crate::error::{Error, Result};
use mysql::Conn;
use std::fmt;

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

/// A server's flavour and version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Server {
    /// Family.
    pub flavour: Flavour,
    /// Version number.
    pub version: Version,
}

impl Server {
    /// Asks the server.
    ///
    /// # Errors
    /// If the query fails or the answer is no version.
    pub fn ask(conn: &mut Conn) -> Result<Self> {
        let text: Option<(String, String)> =
            query::first(conn, "SELECT VERSION(), @@version_comment")?;
        let (version, comment) = text.unwrap_or_default();
        Self::parse(&version, &comment)
    }

    /// From `VERSION()` and `@@version_comment`.
    ///
    /// # Errors
    /// If there is no version number.
    pub fn parse(version: &str, comment: &str) -> Result<Self> {
        let maria = version.contains("MariaDB") || comment.contains("MariaDB");
        // Old replication-compatible versions read 5.5.5-10.11.6-MariaDB.
        let digits = if maria {
            version.strip_prefix("5.5.5-").unwrap_or(version)
        } else {
            version
        };
        let mut parts = digits
            .split(|c: char| !c.is_ascii_digit())
            .map(|p| p.parse::<u32>().ok());
        let mut next = || parts.next().flatten();
        match (next(), next(), next()) {
            (Some(a), Some(b), c) => Ok(Self {
                flavour: if maria {
                    Flavour::MariaDb
                } else {
                    Flavour::MySql
                },
                version: Version(a, b, c.unwrap_or(0)),
            }),
            _ => Err(Error::permanent(format!(
                "cannot read a server version out of \"{version}\""
            ))),
        }
    }

    /// MySQL from this version on.
    pub(super) fn mysql_from(self, major: u32, minor: u32, patch: u32) -> bool {
        self.flavour == Flavour::MySql && self.version >= Version(major, minor, patch)
    }

    /// Binary log file and position.
    pub(crate) fn binlog_status(self) -> &'static str {
        if self.mysql_from(8, 4, 0) {
            "SHOW BINARY LOG STATUS"
        } else {
            "SHOW MASTER STATUS"
        }
    }

    /// Empties the binary log and the executed GTID set.
    pub(crate) fn reset_binlog(self) -> &'static str {
        if self.mysql_from(8, 4, 0) {
            "RESET BINARY LOGS AND GTIDS"
        } else {
            "RESET MASTER"
        }
    }

    /// The word of the replica statements: SHOW/START/STOP/RESET ...
    pub(crate) fn replica(self) -> &'static str {
        if self.mysql_from(8, 0, 22) {
            "REPLICA"
        } else {
            "SLAVE"
        }
    }

    /// All replication channels or connections, one a row.
    pub(crate) fn replica_status(self) -> &'static str {
        match self.flavour {
            Flavour::MariaDb => "SHOW ALL SLAVES STATUS",
            Flavour::MySql if self.version >= Version(8, 0, 22) => "SHOW REPLICA STATUS",
            Flavour::MySql => "SHOW SLAVE STATUS",
        }
    }

    /// Columns of the replica status: IO thread, SQL thread, source's host, lag.
    pub(crate) fn replica_columns(self) -> [&'static str; 4] {
        if self.mysql_from(8, 0, 22) {
            [
                "Replica_IO_Running",
                "Replica_SQL_Running",
                "Source_Host",
                "Seconds_Behind_Source",
            ]
        } else {
            [
                "Slave_IO_Running",
                "Slave_SQL_Running",
                "Master_Host",
                "Seconds_Behind_Master",
            ]
        }
    }

    /// The clause that keeps an event of the source from running on its replica.
    pub(crate) fn disable_event(self) -> &'static str {
        if self.mysql_from(8, 4, 0) {
            "DISABLE ON REPLICA"
        } else {
            "DISABLE ON SLAVE"
        }
    }

    /// Names of the dump tool, best first.
    pub(crate) fn dump_tools(self) -> &'static [&'static str] {
        dump_tools(self.flavour)
    }

    /// Names of the command-line client, best first.
    pub(crate) fn client_tools(self) -> &'static [&'static str] {
        client_tools(self.flavour)
    }

    /// The dump option that writes coordinates as a comment; MariaDB knows only the old word.
    pub(crate) fn coordinates_option(self) -> &'static str {
        if self.mysql_from(8, 0, 26) {
            "--source-data=2"
        } else {
            "--master-data=2"
        }
    }
}

/// Names of the dump tool by flavour, best first.
pub(crate) fn dump_tools(flavour: Flavour) -> &'static [&'static str] {
    match flavour {
        Flavour::MariaDb => &["mariadb-dump", "mysqldump"],
        Flavour::MySql => &["mysqldump"],
    }
}

/// Names of the command-line client by flavour, best first.
pub(crate) fn client_tools(flavour: Flavour) -> &'static [&'static str] {
    match flavour {
        Flavour::MariaDb => &["mariadb", "mysql"],
        Flavour::MySql => &["mysql"],
    }
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

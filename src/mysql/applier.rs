//! The statements for the applier (SQL thread) of a replica's default channel, and what is known of its state. MySQL's
//! statements are right from 5.6 on, MariaDB's from 10.2.3 (`MASTER_DELAY`).

use super::{Flavour, Server, Version, failure, quote_text};
use crate::error::Result;
use mysql::prelude::Queryable;
use mysql::{Conn, Row};

/// The default channel as `SHOW REPLICA STATUS` (MariaDB: `SHOW ALL SLAVES STATUS`) shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applier {
    /// The thread that reads from the source is not stopped.
    pub io: bool,
    /// The thread that applies is not stopped.
    pub sql: bool,
    /// `SOURCE_DELAY`, `MASTER_DELAY`, in seconds.
    pub delay: u64,
    /// `Until_Condition`: `None` while it has no end.
    pub until: String,
    /// The applier's last error, number and text; 0 = none.
    pub error: (u32, String),
    /// The reader's last error.
    pub io_error: (u32, String),
    /// Seconds behind the source; `None` while it is unknown.
    pub lag: Option<u64>,
    /// Binary log and position on the source up to which events are applied.
    pub applied: (String, u64),
    /// MariaDB: replicates by GTID. MySQL: uses auto-position.
    pub by_gtid: bool,
}

/// A point in the source's history at which an applier is to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Point {
    /// MySQL's executed set, MariaDB's position by domain.
    Gtid(String),
    /// Binary log and position.
    Position(String, u64),
}

impl Applier {
    /// True if it was started with UNTIL. A reached end stays in the status until the next start.
    pub fn has_end(&self) -> bool {
        !self.until.is_empty() && self.until != "None"
    }
}

impl std::fmt::Display for Point {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Gtid(set) => write!(f, "GTID {set}"),
            Self::Position(file, position) => write!(f, "{file}:{position}"),
        }
    }
}

impl Server {
    fn is_mysql(self) -> bool {
        self.flavour == Flavour::MySql
    }

    /// `STOP REPLICA SQL_THREAD FOR CHANNEL ''` and the like.
    fn on_thread(self, verb: &str, thread: &str, tail: &str) -> String {
        let channel = match self.is_mysql() && self.version >= Version(5, 7, 6) {
            true => " FOR CHANNEL ''",
            false => "",
        };
        format!("{verb} {}{thread}{tail}{channel}", self.replica())
    }

    /// Stops the applier. MariaDB sets neither a delay nor a GTID to stop at while the other thread runs (errors 1198 and
    /// 1254), so `both` are stopped there where it is needed.
    pub fn stop_applier(self, both: bool) -> String {
        match both && !self.is_mysql() {
            true => self.on_thread("STOP", "", ""),
            false => self.on_thread("STOP", " SQL_THREAD", ""),
        }
    }

    /// Starts the applier, without an end.
    pub fn start_applier(self) -> String {
        self.on_thread("START", " SQL_THREAD", "")
    }

    /// Starts the thread that reads from the source.
    pub fn start_reader(self) -> String {
        self.on_thread("START", " IO_THREAD", "")
    }

    /// Starts an applier that stops right after `point`; on MariaDB with GTID the reader too, which must be stopped.
    pub fn start_until(self, point: &Point) -> String {
        match (point, self.is_mysql()) {
            (Point::Gtid(set), true) => {
                let tail = format!(" UNTIL SQL_AFTER_GTIDS = {}", quote_text(set));
                self.on_thread("START", " SQL_THREAD", &tail)
            }
            (Point::Gtid(list), false) => {
                let tail = format!(" UNTIL master_gtid_pos = {}", quote_text(list));
                self.on_thread("START", "", &tail)
            }
            (Point::Position(file, position), _) => {
                let word = match self.is_mysql() && self.version >= Version(8, 0, 23) {
                    true => "SOURCE",
                    false => "MASTER",
                };
                let file = quote_text(file);
                let tail = format!(" UNTIL {word}_LOG_FILE = {file}, {word}_LOG_POS = {position}");
                self.on_thread("START", " SQL_THREAD", &tail)
            }
        }
    }

    /// Sets the delay, in seconds; what else the channel has stays.
    pub fn set_delay(self, seconds: u64) -> String {
        match self.is_mysql() {
            true if self.version >= Version(8, 0, 23) => {
                format!("CHANGE REPLICATION SOURCE TO SOURCE_DELAY = {seconds} FOR CHANNEL ''")
            }
            true if self.version >= Version(5, 7, 6) => {
                format!("CHANGE MASTER TO MASTER_DELAY = {seconds} FOR CHANNEL ''")
            }
            _ => format!("CHANGE MASTER TO MASTER_DELAY = {seconds}"),
        }
    }
}

/// The default channel's state; `None` if there is no such channel.
///
/// # Errors
/// The server's, for example without REPLICATION CLIENT (SLAVE MONITOR).
pub fn applier(conn: &mut Conn, server: Server) -> Result<Option<Applier>> {
    let rows: Vec<Row> = conn
        .query(server.replica_status())
        .map_err(|e| failure("this connection", "", &e))?;
    Ok(rows.iter().find_map(|row| of_row(row, server)))
}

fn of_row(row: &Row, server: Server) -> Option<Applier> {
    let text = |column: &str| {
        row.get_opt::<String, _>(column)
            .and_then(std::result::Result::ok)
            .unwrap_or_default()
    };
    let number = |column: &str| text(column).parse::<u64>().unwrap_or(0);
    let code = |column: &str| text(column).parse::<u32>().unwrap_or(0);
    let name = match server.flavour {
        Flavour::MariaDb => "Connection_name",
        Flavour::MySql => "Channel_Name",
    };
    if !text(name).is_empty() {
        return None;
    }
    let [io, sql, host, lag] = server.replica_columns();
    let word = host.trim_end_matches("_Host"); // Master, Source
    Some(Applier {
        io: text(io) != "No",
        sql: text(sql) != "No",
        delay: number("SQL_Delay"),
        until: text("Until_Condition"),
        error: (code("Last_SQL_Errno"), text("Last_SQL_Error")),
        io_error: (code("Last_IO_Errno"), text("Last_IO_Error")),
        lag: text(lag).parse().ok(),
        applied: (
            text(&format!("Relay_{word}_Log_File")),
            number(&format!("Exec_{word}_Log_Pos")),
        ),
        by_gtid: match server.flavour {
            Flavour::MariaDb => text("Using_Gtid") != "No",
            Flavour::MySql => text("Auto_Position") == "1",
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_by_version() {
        let s = |version: &str| Server::parse(version, "").unwrap();
        let gtid = Point::Gtid("0-1-7".into());
        let position = Point::Position("b'in.1".into(), 4);
        let maria = s("10.11.6-MariaDB");
        for (version, both, stop) in [
            ("10.11.6-MariaDB", false, "STOP SLAVE SQL_THREAD"),
            ("10.11.6-MariaDB", true, "STOP SLAVE"),
            ("5.6.24", true, "STOP SLAVE SQL_THREAD"),
            ("8.0.21", true, "STOP SLAVE SQL_THREAD FOR CHANNEL ''"),
            ("9.7.4", true, "STOP REPLICA SQL_THREAD FOR CHANNEL ''"),
        ] {
            assert_eq!(s(version).stop_applier(both), stop);
        }
        assert_eq!(
            maria.start_until(&gtid),
            "START SLAVE UNTIL master_gtid_pos = '0-1-7'"
        );
        assert_eq!(
            maria.start_until(&position),
            "START SLAVE SQL_THREAD UNTIL MASTER_LOG_FILE = 'b''in.1', MASTER_LOG_POS = 4"
        );
        assert_eq!(
            s("8.0.22").start_until(&position),
            "START REPLICA SQL_THREAD UNTIL MASTER_LOG_FILE = 'b''in.1', MASTER_LOG_POS = 4 FOR CHANNEL ''"
        );
        assert_eq!(
            s("8.4.0").start_until(&gtid),
            "START REPLICA SQL_THREAD UNTIL SQL_AFTER_GTIDS = '0-1-7' FOR CHANNEL ''"
        );
        assert_eq!(
            s("8.4.0").set_delay(9),
            "CHANGE REPLICATION SOURCE TO SOURCE_DELAY = 9 FOR CHANNEL ''"
        );
        assert_eq!(maria.set_delay(0), "CHANGE MASTER TO MASTER_DELAY = 0");
        assert_eq!(
            s("9.7.4").start_reader(),
            "START REPLICA IO_THREAD FOR CHANNEL ''"
        );
    }
}

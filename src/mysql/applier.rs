//! The applier (SQL thread) of a replica's default channel: its statements and its state.

use super::{Flavour, Server, query, quote_text};
use crate::error::Result;
use mysql::{Conn, Row};

/// A channel (MariaDB: connection) as `SHOW REPLICA STATUS` (MariaDB: `SHOW ALL SLAVES STATUS`) shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Channel {
    /// The default one's is empty.
    pub(crate) name: String,
    /// Host and port that it replicates from.
    pub(crate) source: (String, u16),
    /// State of the thread that reads from the source: `Yes`, `No`, `Connecting`, `Preparing`.
    pub(crate) io_state: String,
    /// State of the thread that applies: `Yes`, `No`.
    pub(crate) sql_state: String,
    /// The thread that reads from the source is not stopped.
    pub(crate) io: bool,
    /// The thread that applies is not stopped.
    pub(crate) sql: bool,
    /// In seconds.
    pub(crate) delay: u64,
    /// `Until_Condition`: `None` while it has no end.
    pub(crate) until: String,
    /// The last errors of applier and receiver, number and text; 0 = none.
    pub(crate) error: (u32, String),
    pub(crate) io_error: (u32, String),
    /// Seconds behind the source; `None` while it is unknown.
    pub(crate) lag: Option<u64>,
    /// Binary log and position on the source up to which events are applied.
    pub(crate) applied: (String, u64),
    /// MariaDB: replicates by GTID. MySQL: uses auto-position.
    pub(crate) by_gtid: bool,
}

/// A point in the source's history at which an applier is to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Point {
    /// MySQL's executed set, MariaDB's position by domain.
    Gtid(String),
    /// Binary log and position.
    Position(String, u64),
}

impl Channel {
    /// True if it was started with UNTIL. A reached end stays in the status until the next start.
    pub(crate) fn has_end(&self) -> bool {
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
    /// Stops the applier. MariaDB sets neither a delay nor a GTID to stop at while the other thread runs (errors 1198 and
    /// 1254), so `both` are stopped there where it is needed.
    pub(crate) fn stop_applier(self, both: bool) -> String {
        if both && self.flavour == Flavour::MariaDb {
            self.stop_replica("")
        } else {
            self.replica_statement("STOP", "", " SQL_THREAD")
        }
    }

    pub(crate) fn start_applier(self) -> String {
        self.replica_statement("START", "", " SQL_THREAD")
    }

    /// Starts an applier that stops right after `point`; on MariaDB with GTID the receiver too, which must be stopped.
    pub(crate) fn start_until(self, point: &Point) -> String {
        let tail = match (point, self.flavour) {
            (Point::Gtid(set), Flavour::MySql) => {
                format!(" SQL_THREAD UNTIL SQL_AFTER_GTIDS = {}", quote_text(set))
            }
            (Point::Gtid(list), Flavour::MariaDb) => {
                format!(" UNTIL master_gtid_pos = {}", quote_text(list))
            }
            (Point::Position(file, position), _) => {
                let (word, file) = (self.source_word(), quote_text(file));
                format!(" SQL_THREAD UNTIL {word}_LOG_FILE = {file}, {word}_LOG_POS = {position}")
            }
        };
        self.replica_statement("START", "", &tail)
    }

    /// Sets the delay, in seconds; what else the channel has stays.
    pub(crate) fn set_delay(self, seconds: u64) -> String {
        let option = format!("{}_DELAY = {seconds}", self.source_word());
        self.change_channel("", &option)
    }
}

/// The default channel's state; `None` if the server has no such channel. Needs REPLICATION CLIENT (SLAVE MONITOR).
pub(crate) fn applier(conn: &mut Conn, server: Server) -> Result<Option<Channel>> {
    let mut all = channels(conn, server)?.into_iter();
    Ok(all.find(|c| c.name.is_empty()))
}

/// All channels, with the same errors.
pub(crate) fn channels(conn: &mut Conn, server: Server) -> Result<Vec<Channel>> {
    let rows: Vec<Row> = query::rows(conn, server.replica_status())?;
    Ok(rows.iter().map(|row| of_row(row, server)).collect())
}

fn of_row(row: &Row, server: Server) -> Channel {
    let text = |column: &str| query::text(row, column);
    let number = |column: &str| text(column).parse::<u64>().unwrap_or(0);
    let code = |column: &str| text(column).parse::<u32>().unwrap_or(0);
    let [io, sql, host, lag] = server.replica_columns().map(text);
    let word = server.replica_columns()[2].trim_end_matches("_Host"); // Master, Source
    let (name, by_gtid) = match server.flavour {
        Flavour::MariaDb => ("Connection_name", text("Using_Gtid") != "No"),
        Flavour::MySql => ("Channel_Name", text("Auto_Position") == "1"),
    };
    Channel {
        name: text(name),
        source: (host, text(&format!("{word}_Port")).parse().unwrap_or(0)),
        io: io != "No",
        sql: sql != "No",
        io_state: io,
        sql_state: sql,
        delay: number("SQL_Delay"),
        until: text("Until_Condition"),
        error: (code("Last_SQL_Errno"), text("Last_SQL_Error")),
        io_error: (code("Last_IO_Errno"), text("Last_IO_Error")),
        lag: lag.parse().ok(),
        applied: (
            text(&format!("Relay_{word}_Log_File")),
            number(&format!("Exec_{word}_Log_Pos")),
        ),
        by_gtid,
    }
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
            s("9.7.4").start_receiver(""),
            "START REPLICA IO_THREAD FOR CHANNEL ''"
        );
    }
}

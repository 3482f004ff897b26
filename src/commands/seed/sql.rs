//! The connections of `seed` to the two servers.

use super::options::Login;
use crate::config::Secret;
use crate::coordinates::gtid::GtidSet;
use crate::error::{Cause, Error, MysqlError, Result};
use crate::mysql::channel::Columns;
use crate::mysql::{
    Endpoint, Flavour, Server, cause, connect, info, lock_wait_timeout, locks, quote_text,
};
use mysql::prelude::{ColumnIndex, Queryable};
use mysql::{Conn, Row};
use std::time::{Duration, Instant};

/// For each connect, statement and answer.
const TIMEOUT: Duration = Duration::from_secs(60);
/// `lock_wait_timeout` in seconds where something is changed.
const LOCK_WAIT: u64 = 50;
/// What took longer may have waited for a lock.
const LONG: Duration = Duration::from_secs(2);
/// For the session that queries whose lock it was.
const HOLDER_TIMEOUT: Duration = Duration::from_secs(10);
/// ER_LOCK_WAIT_TIMEOUT
const LOCK_WAIT_TIMEOUT: u16 = 1205;
/// The source does not have the binary log that the target requests; 13114 is what MySQL 8.0 and later make of 1236.
pub(crate) const BINLOG_GONE: [u32; 2] = [1236, 13114];
/// Longer statements are shown in messages by their first characters.
const SHOWN: (usize, usize) = (300, 60);

/// A connection to the source or the target.
pub(crate) struct Db {
    conn: Conn,
    at: Endpoint,
    name: String,
    /// How long a statement waits for a lock whose holder is then named in the error, in seconds; `None`: it is not named.
    lock_wait: Option<u64>,
    pub(crate) server: Server,
}

/// A statement; its password is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Statement {
    text: String,
    /// As a literal.
    password: Secret,
}

/// One row of the replica status: a channel (MariaDB: connection).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Channel {
    /// The default one's is empty.
    pub(crate) name: String,
    /// Host and port that it replicates from.
    pub(crate) source: (String, u16),
    /// State of the thread that reads from the source: `Yes`, `No`, `Connecting`, `Preparing`.
    pub(crate) io: String,
    /// State of the thread that applies: `Yes`, `No`.
    pub(crate) sql: String,
    /// Last error of the reading thread, number and text; 0 = none.
    pub(crate) io_error: (u32, String),
    /// Last error of the applying thread.
    pub(crate) sql_error: (u32, String),
    /// Seconds behind; `None` while it does not replicate.
    pub(crate) lag: Option<u64>,
    /// `No`, `Slave_Pos` or `Current_Pos` on MariaDB, else empty.
    pub(crate) using_gtid: String,
}

impl Statement {
    /// `text` holds the password of `login`.
    pub(crate) fn new(text: impl Into<String>, login: Option<&Login>) -> Self {
        let password = login.map(|l| Secret::new(quote_text(l.password.reveal())));
        Self {
            text: text.into(),
            password: password.unwrap_or_default(),
        }
    }

    fn hide(&self, text: &str) -> String {
        if self.password.is_empty() {
            text.to_string()
        } else {
            text.replace(self.password.reveal(), "(password)")
        }
    }

    #[cfg(test)]
    pub(super) fn reveal(&self) -> &str {
        &self.text
    }
}

impl std::fmt::Debug for Statement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.hide(&self.text))
    }
}

impl Channel {
    /// True if one of its threads is not stopped.
    pub(crate) fn runs(&self) -> bool {
        self.io != "No" || self.sql != "No"
    }
}

impl Db {
    /// Connects. `side` is `source` or `target`, for messages.
    pub(crate) fn open(side: &str, host: &str, port: u16, login: &Login) -> Result<Self> {
        let mut this = Self::open_for_queries(side, host, port, login)?;
        this.run(&format!("SET SESSION lock_wait_timeout = {LOCK_WAIT}"))?;
        this.lock_wait = Some(LOCK_WAIT);
        Ok(this)
    }

    /// The same for queries only, which wait no longer than a few seconds for a lock.
    pub(crate) fn open_for_queries(
        side: &str,
        host: &str,
        port: u16,
        login: &Login,
    ) -> Result<Self> {
        let this = Self::open_for(side, host, port, login, TIMEOUT)?;
        Ok(Self {
            lock_wait: Some(lock_wait_timeout(TIMEOUT)),
            ..this
        })
    }

    /// The same with another deadline for each answer. Errors do not name the holders of locks.
    pub(crate) fn open_for(
        side: &str,
        host: &str,
        port: u16,
        login: &Login,
        timeout: Duration,
    ) -> Result<Self> {
        let at = Endpoint {
            host: host.into(),
            port,
            socket: String::new(),
            user: login.user.clone(),
            password: login.password.clone(),
        };
        let name = format!("{side}'s MySQL {}", at.name());
        Self::at(name, at, timeout.max(TIMEOUT))
    }

    /// Another session on the same server.
    pub(crate) fn another(&self) -> Result<Self> {
        Self::at(self.name.clone(), self.at.clone(), TIMEOUT)
    }

    fn at(name: String, at: Endpoint, timeout: Duration) -> Result<Self> {
        let mut conn = connect(&at, timeout).map_err(|e| e.of_seed_command(&name))?;
        let server = Server::ask(&mut conn).map_err(|e| e.of_seed_command(&name))?;
        Ok(Self {
            conn,
            at,
            name,
            lock_wait: None,
            server,
        })
    }

    /// The server, and its number of this session.
    pub(crate) fn handle(&self) -> (Endpoint, u32) {
        (self.at.clone(), self.conn.connection_id())
    }

    /// Queries with one of the functions of [`crate::mysql`].
    pub(crate) fn query<T>(
        &mut self,
        by: impl FnOnce(&mut Conn, Server) -> Result<T>,
    ) -> Result<T> {
        let begin = Instant::now();
        let answer = by(&mut self.conn, self.server).map_err(|e| e.of_seed_command(&self.name));
        let seconds = begin.elapsed().as_secs();
        match answer {
            answer if begin.elapsed() < LONG => answer,
            Err(e) if e.is_transient() => Err(e.noted(self.lock_holders(seconds))),
            // MariaDB leaves out of information_schema.TABLES what it could not open.
            Ok(_) if self.has_waited()? => Err(Error::transient(format!(
                "{}: not all tables could be examined; {}",
                self.name,
                self.lock_holders(seconds)
            ))),
            other => other,
        }
    }

    /// True if the last query has a warning that it gave up waiting for a lock.
    fn has_waited(&mut self) -> Result<bool> {
        if self.conn.warnings() == 0 {
            return Ok(false);
        }
        let warnings = self.rows("SHOW WARNINGS")?;
        Ok(warnings
            .iter()
            .any(|w| w.get(1).is_some_and(|c| c.parse() == Ok(LOCK_WAIT_TIMEOUT))))
    }

    /// Whose lock a query seems to have waited for, queried in another session.
    fn lock_holders(&self, seconds: u64) -> String {
        let holders = connect(&self.at, HOLDER_TIMEOUT)
            .map(|mut conn| locks::holders(&mut conn, self.server))
            .unwrap_or_default();
        let which = match holders.as_str() {
            "" => "SHOW PROCESSLIST there shows what it waits for",
            holders => holders,
        };
        format!("it did not answer within {seconds} s; a metadata lock may be in the way: {which}")
    }

    /// A global variable, empty if there is none of this name.
    pub(crate) fn global(&mut self, name: &str) -> Result<String> {
        let value = self.query(|conn, _| info::global(conn, name))?;
        Ok(value.unwrap_or_default())
    }

    /// Executes a statement without a result.
    pub(crate) fn run(&mut self, statement: &str) -> Result<()> {
        self.run_with_password(&Statement::new(statement, None))
    }

    /// The same; its password appears neither in an error nor, if the account may prevent it, in the general query log.
    pub(crate) fn run_with_password(&mut self, statement: &Statement) -> Result<()> {
        if !statement.password.is_empty() && self.logs_passwords()? {
            // Needs SUPER; preflight has warned where the account lacks it.
            let _ = self.conn.query_drop("SET SESSION sql_log_off = 1");
        }
        self.conn
            .query_drop(&statement.text)
            .map_err(|e| self.failed(statement, &e))
    }

    /// Whether a password in a statement would be written to a log: MariaDB's general query log has CHANGE MASTER as it is; MySQL
    /// replaces passwords (manual, Passwords and Logging).
    pub(crate) fn logs_passwords(&mut self) -> Result<bool> {
        Ok(self.server.flavour == Flavour::MariaDb && self.global("general_log")? == "ON")
    }

    fn select(&mut self, query: &str) -> Result<Vec<Row>> {
        let rows = self.conn.query(query);
        rows.map_err(|e| self.failed(&Statement::new(query, None), &e))
    }

    /// All columns of a query; NULL as an empty text.
    pub(crate) fn rows(&mut self, query: &str) -> Result<Vec<Vec<String>>> {
        let rows = self.select(query)?;
        let all = |row: &Row| (0..row.len()).map(|i| text(row, i)).collect();
        Ok(rows.iter().map(all).collect())
    }

    /// The first row; empty if there is none.
    pub(crate) fn row(&mut self, query: &str) -> Result<Vec<String>> {
        Ok(self.rows(query)?.into_iter().next().unwrap_or_default())
    }

    /// The first column.
    pub(crate) fn column(&mut self, query: &str) -> Result<Vec<String>> {
        Ok(self.select(query)?.iter().map(|r| text(r, 0)).collect())
    }

    /// The first column of the first row.
    pub(crate) fn value(&mut self, query: &str) -> Result<String> {
        Ok(self.column(query)?.into_iter().next().unwrap_or_default())
    }

    /// All channels. Needs SLAVE MONITOR (MySQL: REPLICATION CLIENT).
    pub(crate) fn channels(&mut self) -> Result<Vec<Channel>> {
        let [io, sql, host, lag] = self.server.replica_columns();
        let port = host.replace("Host", "Port");
        let name = match self.server.flavour {
            Flavour::MariaDb => "Connection_name",
            Flavour::MySql => "Channel_Name",
        };
        let rows = self.select(self.server.replica_status())?;
        let channel = |row: &Row| {
            let number = |column: &str| text(row, column).parse::<u32>().unwrap_or(0);
            Channel {
                name: text(row, name),
                source: (
                    text(row, host),
                    text(row, port.as_str()).parse().unwrap_or(0),
                ),
                io: text(row, io),
                sql: text(row, sql),
                io_error: (number("Last_IO_Errno"), text(row, "Last_IO_Error")),
                sql_error: (number("Last_SQL_Errno"), text(row, "Last_SQL_Error")),
                lag: text(row, lag).parse().ok(),
                using_gtid: text(row, "Using_Gtid"),
            }
        };
        Ok(rows.iter().map(channel).collect())
    }

    /// The default channel of a target that was connected.
    pub(crate) fn default_channel(&mut self) -> Result<Channel> {
        let found = self.channels()?.into_iter().find(|c| c.name.is_empty());
        found.ok_or_else(|| {
            let text = "the target's replication has disappeared: another session has reset it";
            Error::permanent(text)
        })
    }

    /// What the server reports of its default channel: the replica status, and on MySQL performance_schema's tables of its
    /// configuration; empty if it has none.
    pub(crate) fn channel_columns(&mut self) -> Result<Columns> {
        let name = match self.server.flavour {
            Flavour::MariaDb => "connection_name",
            Flavour::MySql => "channel_name",
        };
        let mut queries = vec![self.server.replica_status()];
        if self.server.has_channels() {
            queries.push("SELECT * FROM performance_schema.replication_connection_configuration");
            queries.push("SELECT * FROM performance_schema.replication_applier_configuration");
        } else if self.server.flavour == Flavour::MySql {
            queries.push(
                "SELECT VARIABLE_VALUE AS slave_heartbeat_period FROM information_schema.GLOBAL_STATUS \
                 WHERE VARIABLE_NAME = 'SLAVE_HEARTBEAT_PERIOD'",
            );
        }
        let mut out = Columns::new();
        for query in queries {
            let rows = self.select(query)?;
            let of_row = |row: &Row| -> Columns {
                let columns = row.columns_ref().iter().enumerate();
                columns
                    .filter_map(|(i, column)| {
                        let value = row.get_opt::<Option<String>, _>(i)?.ok()??;
                        Some((column.name_str().to_lowercase(), value))
                    })
                    .collect()
            };
            let default = rows.iter().map(of_row).find(|c| {
                let named = c.get(name);
                named.is_none_or(String::is_empty)
            });
            out.extend(default.unwrap_or_default());
        }
        Ok(out)
    }

    /// The transactions that a MySQL server has executed. Not by SHOW VARIABLES, which cuts long values.
    pub(crate) fn gtid_executed(&mut self) -> Result<GtidSet> {
        let found = self.value("SELECT @@GLOBAL.gtid_executed")?;
        GtidSet::parse(&found).map_err(|e| e.context(&self.name))
    }

    /// The GTIDs of MariaDB's binary log that come from the server itself, with commas between them.
    pub(crate) fn own_in_binlog(&mut self) -> Result<String> {
        let row = self.row("SELECT @@GLOBAL.gtid_binlog_state, @@GLOBAL.server_id")?;
        let text = |i: usize| row.get(i).map_or("", String::as_str);
        Ok(own_in_binlog(text(0), text(1)))
    }

    /// True if the session's account may use the replica's statements.
    pub(crate) fn may_replicate(&mut self) -> Result<bool> {
        self.may(&["SUPER", self.server.replica_privilege()])
    }

    /// True if the session's account has one of the privileges globally, or all of them.
    pub(crate) fn may(&mut self, privileges: &[&str]) -> Result<bool> {
        let grants = self.column("SHOW GRANTS")?;
        Ok(grants.iter().any(|g| grants_one(g, privileges)))
    }

    fn failed(&self, statement: &Statement, e: &mysql::Error) -> Error {
        let mut cause = cause(e);
        if let Cause::Server { message, .. }
        | Cause::InitConnect { message, .. }
        | Cause::Unreachable(message) = &mut cause
        {
            *message = statement.hide(message);
        }
        let waited = match &cause {
            Cause::Server { code, .. } if *code == LOCK_WAIT_TIMEOUT => self.lock_wait,
            Cause::Timeout => self.lock_wait.map(|_| TIMEOUT.as_secs()),
            _ => None,
        };
        let mut purpose = format!("{statement:?}");
        if purpose.chars().count() > SHOWN.0 {
            purpose = purpose.chars().take(SHOWN.1).collect::<String>() + " ...";
        }
        let error = Error::Mysql(Box::new(MysqlError {
            purpose,
            cause,
            ..MysqlError::default()
        }))
        .of_seed_command(&self.name);
        match waited {
            Some(seconds) => error.noted(self.lock_holders(seconds)),
            None => error,
        }
    }
}

/// A column as a text; NULL, and a column that does not exist, as an empty one.
fn text(row: &Row, column: impl ColumnIndex) -> String {
    let bytes: Option<Vec<u8>> = row.get_opt(column).and_then(std::result::Result::ok);
    String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
}

/// A GTID is domain-server-sequence.
fn own_in_binlog(state: &str, server_id: &str) -> String {
    let all = state.split(',').map(str::trim);
    let own: Vec<&str> = all
        .filter(|gtid| gtid.split('-').nth(1) == Some(server_id))
        .collect();
    own.join(", ")
}

/// `GRANT a, b ON *.* TO ...` holds one of the privileges.
pub(super) fn grants_one(grant: &str, privileges: &[&str]) -> bool {
    let Some((list, _)) = grant
        .strip_prefix("GRANT ")
        .and_then(|g| g.split_once(" ON *.* TO "))
    else {
        return false;
    };
    list.split(',')
        .map(str::trim)
        .any(|p| p == "ALL PRIVILEGES" || privileges.contains(&p))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_never_shows_its_password() {
        let login = Login {
            user: "r".into(),
            password: Secret::new("ge'heim"),
        };
        let text = "CHANGE MASTER TO MASTER_USER='r', MASTER_PASSWORD='ge''heim'";
        let s = Statement::new(text, Some(&login));
        assert_eq!(
            format!("{s:?}"),
            "CHANGE MASTER TO MASTER_USER='r', MASTER_PASSWORD=(password)"
        );
        assert_eq!(
            s.hide("near 'ge''heim' at line 1"),
            "near (password) at line 1"
        );
        assert_eq!(
            format!("{:?}", Statement::new("STOP SLAVE", None)),
            "STOP SLAVE"
        );
    }

    #[test]
    fn transactions_of_a_mariadb_targets_own() {
        assert_eq!(own_in_binlog("", "2"), "");
        assert_eq!(own_in_binlog("0-1-22,1-12-5", "2"), "");
        assert_eq!(own_in_binlog("0-1-22,0-2-23,3-2-1", "2"), "0-2-23, 3-2-1");
    }

    #[test]
    fn privileges_are_read_from_grants() {
        let wanted = ["SUPER", "REPLICATION SLAVE ADMIN"];
        assert!(grants_one(
            "GRANT SELECT, REPLICATION SLAVE ADMIN ON *.* TO `o`@`%` IDENTIFIED BY PASSWORD '*1'",
            &wanted
        ));
        assert!(grants_one(
            "GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost` WITH GRANT OPTION",
            &wanted
        ));
        assert!(!grants_one(
            "GRANT ALL PRIVILEGES ON `shop`.* TO `o`@`%`",
            &wanted
        ));
        assert!(grants_one(
            "GRANT SYSTEM_USER,REPLICATION_SLAVE_ADMIN ON *.* TO `o`@`%`",
            &["SUPER", "REPLICATION_SLAVE_ADMIN"]
        ));
        assert!(!grants_one(
            "GRANT REPLICATION SLAVE ON *.* TO `o`@`%`",
            &wanted
        ));
    }

    #[test]
    fn errors_speak_of_options() {
        let login = Login {
            user: "orc".into(),
            password: Secret::new("geheim"),
        };
        let free = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let e = Db::open("target", "127.0.0.1", free, &login).err().unwrap();
        assert!(e.is_transient());
        let text = e.to_string();
        assert!(
            text.starts_with(&format!("target's MySQL 127.0.0.1:{free}: ")),
            "{text}"
        );
        assert!(
            text.ends_with("check that it runs and can be reached from here"),
            "{text}"
        );
    }
}

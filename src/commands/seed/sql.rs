//! The conductor's own connections to the two servers.

use super::options::Login;
use crate::config::Secret;
use crate::coordinates::gtid::GtidSet;
use crate::error::{Cause, Error, MysqlError, Result};
use crate::mysql::channel::Columns;
use crate::mysql::{Endpoint, Flavour, Server, cause, connect, info, lock_wait_timeout, locks};
use mysql::prelude::Queryable;
use mysql::{Conn, Row};
use std::time::{Duration, Instant};

/// For each connect, statement and answer.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Seconds for a lock where something is changed.
const PATIENCE: u64 = 50;
/// What took longer may have waited for a lock.
const LONG: Duration = Duration::from_secs(2);
/// For the session that looks up whose lock it was.
const LOOK_UP: Duration = Duration::from_secs(10);
/// ER_LOCK_WAIT_TIMEOUT
const LOCK_WAIT: u16 = 1205;

/// A connection to the source or the target.
pub struct Db {
    conn: Conn,
    at: Endpoint,
    name: String,
    /// Seconds that a statement waits for a lock.
    patience: u64,
    /// What it is.
    pub server: Server,
}

/// A statement; its password is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Statement {
    text: String,
    secret: Secret,
}

/// One row of the replica status: a channel (MariaDB: connection).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Channel {
    /// Its name; the default one's is empty.
    pub name: String,
    /// Where it replicates from.
    pub source: (String, u16),
    /// State of the thread that reads from the source: `Yes`, `No`, `Connecting`, `Preparing`.
    pub io: String,
    /// State of the thread that applies: `Yes`, `No`.
    pub sql: String,
    /// Last error of the reading thread, number and text; 0 = none.
    pub io_error: (u32, String),
    /// Last error of the applying thread.
    pub sql_error: (u32, String),
    /// Seconds behind; `None` while it does not replicate.
    pub lag: Option<u64>,
    /// `No`, `Slave_Pos` or `Current_Pos` on MariaDB, else empty.
    pub using_gtid: String,
}

impl Statement {
    /// Without a password.
    pub fn plain(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            secret: Secret::default(),
        }
    }

    /// With one in it, as written in the text.
    pub fn with_secret(text: impl Into<String>, secret: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            secret: Secret::new(secret),
        }
    }

    fn hide(&self, text: &str) -> String {
        if self.secret.is_empty() {
            text.to_string()
        } else {
            text.replace(self.secret.reveal(), "(password)")
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
    pub fn runs(&self) -> bool {
        self.io != "No" || self.sql != "No"
    }
}

impl Db {
    /// Connects and asks what the server is. `side` is `source` or `target`, for messages.
    ///
    /// # Errors
    /// With the server's name and the option to look at.
    pub fn open(side: &str, host: &str, port: u16, login: &Login) -> Result<Self> {
        let mut this = Self::impatient(side, host, port, login)?;
        this.run(&Statement::plain(format!(
            "SET SESSION lock_wait_timeout = {PATIENCE}"
        )))?;
        this.patience = PATIENCE;
        Ok(this)
    }

    /// The same for questions only: they wait no longer than a few seconds for a lock.
    ///
    /// # Errors
    /// As [`Db::open`].
    pub fn impatient(side: &str, host: &str, port: u16, login: &Login) -> Result<Self> {
        let (user, password) = (login.user.clone(), login.password.clone());
        let at = Endpoint {
            host: host.into(),
            port,
            socket: String::new(),
            user,
            password,
        };
        let name = format!("{side}'s MySQL {}", at.name());
        let mut conn = connect(&at, TIMEOUT).map_err(|e| e.of_seed_command(&name))?;
        let server = Server::ask(&mut conn).map_err(|e| e.of_seed_command(&name))?;
        Ok(Self {
            conn,
            at,
            name,
            patience: lock_wait_timeout(TIMEOUT),
            server,
        })
    }

    /// Asks with one of the functions of [`info`].
    ///
    /// # Errors
    /// The server's.
    pub fn ask<T>(&mut self, question: impl FnOnce(&mut Conn, Server) -> Result<T>) -> Result<T> {
        let begin = Instant::now();
        let answer = question(&mut self.conn, self.server);
        if begin.elapsed() < LONG {
            return answer.map_err(|e| e.of_seed_command(&self.name));
        }
        let seconds = begin.elapsed().as_secs();
        match answer {
            Err(e) if e.is_transient() => {
                Err(e.of_seed_command(&self.name).noted(self.blocked(seconds)))
            }
            // MariaDB leaves out of information_schema.TABLES what it could not open.
            Ok(_) if self.has_waited()? => Err(Error::transient(format!(
                "{}: not all tables could be examined; {}",
                self.name,
                self.blocked(seconds)
            ))),
            other => other.map_err(|e| e.of_seed_command(&self.name)),
        }
    }

    /// True if the last query has a warning that a lock was not to be had.
    fn has_waited(&mut self) -> Result<bool> {
        if self.conn.warnings() == 0 {
            return Ok(false);
        }
        let warnings = self.rows("SHOW WARNINGS")?;
        Ok(warnings
            .iter()
            .any(|w| w.get(1).is_some_and(|c| c.parse() == Ok(LOCK_WAIT))))
    }

    /// Whose lock a query seems to have waited for, asked of the server by a session of its own.
    fn blocked(&self, seconds: u64) -> String {
        let holders =
            connect(&self.at, LOOK_UP).map(|mut conn| locks::holders(&mut conn, self.server));
        let holders = holders.unwrap_or_default();
        let which = match holders.as_str() {
            "" => "SHOW PROCESSLIST there shows what it waits for",
            holders => holders,
        };
        format!("it did not answer within {seconds} s; a metadata lock may be in the way: {which}")
    }

    /// A global variable, empty if there is none of this name.
    ///
    /// # Errors
    /// The server's.
    pub fn global(&mut self, name: &str) -> Result<String> {
        Ok(self
            .ask(|conn, _| info::global(conn, name))?
            .unwrap_or_default())
    }

    /// Runs a statement without a result.
    ///
    /// # Errors
    /// The server's, with the statement, without its password.
    pub fn run(&mut self, statement: &Statement) -> Result<()> {
        if !statement.secret.is_empty() && self.logs_passwords()? {
            // Needs SUPER; preflight has warned where the account lacks it.
            let _ = self.conn.query_drop("SET SESSION sql_log_off = 1");
        }
        self.conn
            .query_drop(&statement.text)
            .map_err(|e| self.failed(statement, &e))
    }

    /// Whether a password in a statement would be written to a log: MariaDB's general query log has CHANGE MASTER as it is; MySQL
    /// replaces passwords (manual, Passwords and Logging).
    ///
    /// # Errors
    /// The server's.
    pub fn logs_passwords(&mut self) -> Result<bool> {
        Ok(self.server.flavour == Flavour::MariaDb && self.global("general_log")? == "ON")
    }

    /// The first column of a query.
    ///
    /// # Errors
    /// The server's.
    pub fn column(&mut self, query: &str) -> Result<Vec<String>> {
        let rows: std::result::Result<Vec<Row>, _> = self.conn.query(query);
        let rows = rows.map_err(|e| self.failed(&Statement::plain(query), &e))?;
        Ok(rows
            .iter()
            .map(|r| {
                r.get_opt::<String, _>(0)
                    .and_then(std::result::Result::ok)
                    .unwrap_or_default()
            })
            .collect())
    }

    /// All columns of a query; NULL as an empty text.
    ///
    /// # Errors
    /// The server's.
    pub fn rows(&mut self, query: &str) -> Result<Vec<Vec<String>>> {
        let rows: std::result::Result<Vec<Row>, _> = self.conn.query(query);
        let rows = rows.map_err(|e| self.failed(&Statement::plain(query), &e))?;
        let text = |row: &Row, i| {
            let value = row.get_opt::<Option<String>, _>(i);
            value.and_then(|v| v.ok().flatten()).unwrap_or_default()
        };
        let all = |row: &Row| (0..row.len()).map(|i| text(row, i)).collect();
        Ok(rows.iter().map(all).collect())
    }

    /// All channels.
    ///
    /// # Errors
    /// The server's, for example without SLAVE MONITOR (REPLICATION CLIENT).
    pub fn channels(&mut self) -> Result<Vec<Channel>> {
        let query = self.server.replica_status();
        let [io, sql, host, lag] = self.server.replica_columns();
        let port = host.replace("Host", "Port");
        let name = match self.server.flavour {
            Flavour::MariaDb => "Connection_name",
            Flavour::MySql => "Channel_Name",
        };
        let rows: std::result::Result<Vec<Row>, _> = self.conn.query(query);
        let rows = rows.map_err(|e| self.failed(&Statement::plain(query), &e))?;
        Ok(rows
            .iter()
            .map(|row| {
                let text = |column: &str| {
                    row.get_opt::<String, _>(column)
                        .and_then(std::result::Result::ok)
                        .unwrap_or_default()
                };
                let number = |column: &str| text(column).parse::<u32>().unwrap_or(0);
                Channel {
                    name: text(name),
                    source: (text(host), text(&port).parse().unwrap_or(0)),
                    io: text(io),
                    sql: text(sql),
                    io_error: (number("Last_IO_Errno"), text("Last_IO_Error")),
                    sql_error: (number("Last_SQL_Errno"), text("Last_SQL_Error")),
                    lag: text(lag).parse().ok(),
                    using_gtid: text("Using_Gtid"),
                }
            })
            .collect())
    }

    /// What the server tells of its default channel: the replica status, and on MySQL performance_schema's tables of its
    /// configuration; empty if it has none.
    ///
    /// # Errors
    /// The server's.
    pub fn channel_columns(&mut self) -> Result<Columns> {
        let name = match self.server.flavour {
            Flavour::MariaDb => "connection_name",
            Flavour::MySql => "channel_name",
        };
        let mut out = Columns::new();
        let mut queries = vec![self.server.replica_status().to_string()];
        if self.server.has_channels() {
            for table in ["connection", "applier"] {
                queries.push(format!(
                    "SELECT * FROM performance_schema.replication_{table}_configuration"
                ));
            }
        }
        if self.server.flavour == Flavour::MySql && !self.server.has_channels() {
            queries.push(
                "SELECT VARIABLE_VALUE AS slave_heartbeat_period FROM information_schema.GLOBAL_STATUS \
                 WHERE VARIABLE_NAME = 'SLAVE_HEARTBEAT_PERIOD'"
                    .into(),
            );
        }
        for query in queries {
            let rows: std::result::Result<Vec<Row>, _> = self.conn.query(&query);
            let rows = rows.map_err(|e| self.failed(&Statement::plain(&query), &e))?;
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
    ///
    /// # Errors
    /// The server's, or if the answer is no GTID set.
    pub fn gtid_executed(&mut self) -> Result<GtidSet> {
        let found = self.column("SELECT @@GLOBAL.gtid_executed")?;
        GtidSet::parse(&found.concat()).map_err(|e| e.context(&self.name))
    }

    /// True if the session's account may use the replica's statements.
    ///
    /// # Errors
    /// The server's.
    pub fn may_replicate(&mut self) -> Result<bool> {
        self.may(&["SUPER", self.server.replica_privilege()])
    }

    /// True if the session's account has one of the privileges globally, or all of them.
    ///
    /// # Errors
    /// The server's.
    pub fn may(&mut self, privileges: &[&str]) -> Result<bool> {
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
            Cause::Server { code, .. } if *code == LOCK_WAIT => Some(self.patience),
            Cause::Timeout => Some(TIMEOUT.as_secs()),
            _ => None,
        };
        let refused = matches!(e, mysql::Error::MySqlError(_));
        let error = Error::Mysql(Box::new(MysqlError {
            purpose: format!("{statement:?}"),
            cause,
            ..MysqlError::default()
        }))
        .of_seed_command(&self.name);
        let error = match waited {
            Some(seconds) => error.noted(self.blocked(seconds)),
            None => error,
        };
        // `seed` does not repeat a statement that the server has refused.
        if refused { error.lasting() } else { error }
    }
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
        let s = Statement::with_secret(
            "CHANGE MASTER TO MASTER_USER='r', MASTER_PASSWORD='ge''heim'",
            "'ge''heim'",
        );
        assert_eq!(
            format!("{s:?}"),
            "CHANGE MASTER TO MASTER_USER='r', MASTER_PASSWORD=(password)"
        );
        assert_eq!(
            s.hide("near 'ge''heim' at line 1"),
            "near (password) at line 1"
        );
        assert_eq!(
            format!("{:?}", Statement::plain("STOP SLAVE")),
            "STOP SLAVE"
        );
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

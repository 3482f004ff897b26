//! The connections of `seed` to the two servers.

use super::options::Login;
use crate::coordinates::gtid::GtidSet;
use crate::error::{Error, Result};
use crate::mysql::applier::{self, Channel};
use crate::mysql::channel::Columns;
use crate::mysql::query::text;
use crate::mysql::{Endpoint, Flavour, Server, connect, grants, info, replica};
use crate::sys::Inserted;
use mysql::prelude::Queryable;
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

pub(crate) struct Db {
    conn: Conn,
    at: Endpoint,
    name: String,
    /// An error after a wait for a lock names those who hold one.
    names_holders: bool,
    pub(crate) server: Server,
}

impl Db {
    /// Connects. `side` is `source` or `target`, for messages.
    pub(crate) fn open(side: &str, host: &str, port: u16, login: &Login) -> Result<Self> {
        let mut this = Self::open_reader(side, host, port, login)?;
        this.run(&format!("SET SESSION lock_wait_timeout = {LOCK_WAIT}"))?;
        Ok(this)
    }

    /// The same for queries only, which wait no longer than a few seconds for a lock.
    pub(crate) fn open_reader(side: &str, host: &str, port: u16, login: &Login) -> Result<Self> {
        let mut this = Self::open_for(side, host, port, login, TIMEOUT)?;
        this.names_holders = true;
        Ok(this)
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
        Self::at(
            format!("{side}'s MySQL {}", at.name()),
            at,
            timeout.max(TIMEOUT),
        )
    }

    pub(crate) fn another(&self) -> Result<Self> {
        Self::at(self.name.clone(), self.at.clone(), TIMEOUT)
    }

    fn at(name: String, at: Endpoint, timeout: Duration) -> Result<Self> {
        let opened = connect(&at, timeout).and_then(|mut conn| Ok((Server::ask(&mut conn)?, conn)));
        let (server, conn) = opened.map_err(|e| e.of_seed_command(&name))?;
        Ok(Self {
            conn,
            at,
            name,
            names_holders: false,
            server,
        })
    }

    /// The server, and its number of this session.
    pub(crate) fn handle(&self) -> (Endpoint, u32) {
        (self.at.clone(), self.conn.connection_id())
    }

    /// Queries with one of the functions of [`crate::mysql`], or another function of the connection.
    pub(crate) fn query<T>(
        &mut self,
        by: impl FnOnce(&mut Conn, Server) -> Result<T>,
    ) -> Result<T> {
        let begin = Instant::now();
        let answer = by(&mut self.conn, self.server).map_err(|e| e.of_seed_command(&self.name));
        if !self.names_holders || begin.elapsed() < LONG {
            return answer;
        }
        let error = match answer {
            Err(e) if e.is_transient() => e,
            // MariaDB leaves out of information_schema.TABLES what it could not open.
            Ok(_) if self.has_waited()? => {
                Error::transient("not all tables could be examined").context(&self.name)
            }
            other => return other,
        };
        Err(match self.lock_holders(begin.elapsed().as_secs()) {
            Some(holders) => error.noted(holders),
            None => error,
        })
    }

    /// True if the last query has a warning that it gave up waiting for a lock.
    fn has_waited(&mut self) -> Result<bool> {
        let code = LOCK_WAIT_TIMEOUT.to_string();
        let given_up = |w: &Vec<String>| w.get(1) == Some(&code);
        Ok(self.conn.warnings() > 0 && self.rows("SHOW WARNINGS")?.iter().any(given_up))
    }

    /// Whose lock a query seems to have waited for, queried in another session; `None` if the server does not answer it.
    fn lock_holders(&self, seconds: u64) -> Option<String> {
        let mut conn = connect(&self.at, HOLDER_TIMEOUT).ok()?;
        let holders = info::lock_holders(&mut conn, self.server);
        let which = match holders.as_str() {
            "" => "SHOW PROCESSLIST there shows what it waits for",
            holders => holders,
        };
        let text =
            format!("it did not answer within {seconds} s; it may be waiting for a metadata lock");
        Some(format!("{text}: {which}"))
    }

    /// A global variable, empty if there is none of this name.
    pub(crate) fn global(&mut self, name: &str) -> Result<String> {
        let value = self.query(|conn, _| info::global(conn, name))?;
        Ok(value.unwrap_or_default())
    }

    pub(crate) fn run(&mut self, statement: &str) -> Result<()> {
        self.run_with_password(statement, None)
    }

    /// As [`replica::run_with_password`].
    pub(crate) fn run_with_password(
        &mut self,
        statement: &str,
        login: Option<&Login>,
    ) -> Result<()> {
        let password = login.map(|l| &l.password);
        self.query(|conn, server| replica::run_with_password(conn, server, statement, password))
    }

    /// As [`replica::logs_passwords`].
    pub(crate) fn logs_passwords(&mut self) -> Result<bool> {
        self.query(replica::logs_passwords)
    }

    fn select(&mut self, query: &str) -> Result<Vec<Row>> {
        self.query(|conn, _| {
            conn.query(query)
                .map_err(|e| replica::failed(query, None, &e))
        })
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

    pub(crate) fn column(&mut self, query: &str) -> Result<Vec<String>> {
        Ok(self.select(query)?.iter().map(|r| text(r, 0)).collect())
    }

    /// The first column of the first row.
    pub(crate) fn value(&mut self, query: &str) -> Result<String> {
        Ok(self.column(query)?.into_iter().next().unwrap_or_default())
    }

    pub(crate) fn default_channel(&mut self) -> Result<Channel> {
        let gone = "the target's replication has disappeared: another session has reset it";
        let found = self.query(applier::applier)?;
        found.ok_or_else(|| Error::permanent(gone))
    }

    /// What the server reports of its default channel: the replica status, and on MySQL performance_schema's tables of its
    /// configuration; empty if it has none.
    pub(crate) fn channel_columns(&mut self) -> Result<Columns> {
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
        let of_row = |row: &Row| -> Columns {
            let columns = row.columns_ref().iter().enumerate();
            let with_value = columns.filter_map(|(i, column)| {
                let value = row.get_opt::<Option<String>, _>(i)?.ok()??;
                Some((column.name_str().to_lowercase(), value))
            });
            with_value.inserted()
        };
        let is_default = |c: &Columns| {
            let mut names = ["connection_name", "channel_name"].iter();
            names.all(|n| c.get(*n).is_none_or(String::is_empty))
        };
        let mut out = Columns::new();
        for query in queries {
            let rows = self.select(query)?;
            out.extend(rows.iter().map(of_row).find(is_default).unwrap_or_default());
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
        self.may(self.server.replica_privilege())
    }

    /// True if the session's account has the privilege globally.
    pub(crate) fn may(&mut self, privilege: &str) -> Result<bool> {
        let (_, rows) = self.query(grants::held)?;
        Ok(gives(self.server, &rows, privilege))
    }
}

/// A GTID is domain-server-sequence.
fn own_in_binlog(state: &str, server_id: &str) -> String {
    let all = state.split(',').map(str::trim);
    let own = all.filter(|gtid| gtid.split('-').nth(1) == Some(server_id));
    own.collect::<Vec<_>>().join(", ")
}

/// True if rows of SHOW GRANTS give the privilege globally.
pub(super) fn gives(server: Server, rows: &[String], privilege: &str) -> bool {
    grants::missing(server, &[privilege.to_string()].into(), rows).is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    #[test]
    fn transactions_of_a_mariadb_targets_own() {
        assert_eq!(own_in_binlog("", "2"), "");
        assert_eq!(own_in_binlog("0-1-22,1-12-5", "2"), "");
        assert_eq!(own_in_binlog("0-1-22,0-2-23,3-2-1", "2"), "0-2-23, 3-2-1");
    }

    #[test]
    fn privileges_are_read_from_grants() {
        let one = |version, row: &str, privilege| {
            gives(
                Server::parse(version, "").unwrap(),
                &[row.into()],
                privilege,
            )
        };
        let maria = |row| one("10.11.6-MariaDB", row, "REPLICATION SLAVE ADMIN");
        assert!(maria(
            "GRANT SELECT, REPLICATION SLAVE ADMIN ON *.* TO `o`@`%` IDENTIFIED BY PASSWORD '*1'"
        ));
        assert!(maria(
            "GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost` WITH GRANT OPTION"
        ));
        assert!(maria("GRANT SUPER ON *.* TO `o`@`%`"));
        assert!(!maria("GRANT ALL PRIVILEGES ON `shop`.* TO `o`@`%`"));
        assert!(!maria("GRANT REPLICATION SLAVE ON *.* TO `o`@`%`"));
        assert!(one(
            "9.7.4",
            "GRANT SYSTEM_USER,REPLICATION_SLAVE_ADMIN ON *.* TO `o`@`%`",
            "REPLICATION_SLAVE_ADMIN"
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
            text.ends_with("check that it is running and can be reached from here"),
            "{text}"
        );
    }
}

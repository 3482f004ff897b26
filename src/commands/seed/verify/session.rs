//! A session for comparing data: the same settings on both servers, statements that can be ended from another session.

use crate::commands::seed::options::Login;
use crate::error::{Error, MysqlError, Result};
use crate::mysql::applier::{Applier, applier};
use crate::mysql::{Endpoint, Flavour, Server, Version, cause, connect};
use crate::process::Cancel;
use crossbeam_channel::{RecvTimeoutError, bounded, select};
use mysql::prelude::Queryable;
use mysql::{Conn, Row};
use std::time::{Duration, Instant};

/// For connects and for all statements but checksums.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How long a statement that was ended by KILL may take to end.
const ENDING: Duration = Duration::from_secs(30);

/// A session and what is needed to open another one.
pub struct Session {
    conn: Conn,
    at: Endpoint,
    name: String,
    /// What the server is.
    pub server: Server,
}

impl Session {
    /// Connects. `side` is `source` or `target`, for messages; `longest` bounds each answer.
    ///
    /// # Errors
    /// The server's.
    pub fn open(
        side: &str,
        host: &str,
        port: u16,
        login: &Login,
        longest: Duration,
    ) -> Result<Self> {
        let at = Endpoint {
            host: host.into(),
            port,
            socket: String::new(),
            user: login.user.clone(),
            password: login.password.clone(),
        };
        Self::at(side, at, longest.max(TIMEOUT) + ENDING)
    }

    /// Another session on the same server for short statements.
    ///
    /// # Errors
    /// The server's.
    pub fn another(&self) -> Result<Self> {
        Self::at("", self.at.clone(), TIMEOUT).map(|mut s| {
            s.name.clone_from(&self.name);
            s
        })
    }

    fn at(side: &str, at: Endpoint, timeout: Duration) -> Result<Self> {
        let name = format!("{side}'s MySQL {}", at.name());
        let mut conn = connect(&at, timeout).map_err(|e| e.of_seed_command(&name))?;
        let server = Server::ask(&mut conn).map_err(|e| e.of_seed_command(&name))?;
        Ok(Self {
            conn,
            at,
            name,
            server,
        })
    }

    /// Gives the session the settings on which the text of values, and so checksums, depend, and those that would end it or
    /// its statements early.
    ///
    /// # Errors
    /// The server's.
    pub fn prepare(&mut self) -> Result<()> {
        self.run("SET NAMES utf8mb4")?;
        self.run("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")?;
        for setting in settings(self.server) {
            self.run(&format!("SET SESSION {setting}"))?;
        }
        Ok(())
    }

    /// The server's number of this session.
    pub fn id(&self) -> u32 {
        self.conn.connection_id()
    }

    /// Runs a statement without a result.
    ///
    /// # Errors
    /// The server's.
    pub fn run(&mut self, statement: &str) -> Result<()> {
        let done = self.conn.query_drop(statement);
        done.map_err(|e| self.fault(statement, &e))
    }

    /// The rows of a query.
    ///
    /// # Errors
    /// The server's.
    pub fn rows(&mut self, query: &str) -> Result<Vec<Row>> {
        let rows = self.conn.query(query);
        rows.map_err(|e| self.fault(query, &e))
    }

    /// The first row as texts; NULL is empty, and so is a row that does not exist.
    ///
    /// # Errors
    /// The server's.
    pub fn row(&mut self, query: &str) -> Result<Vec<String>> {
        let rows = self.rows(query)?;
        Ok(rows.first().map(texts).unwrap_or_default())
    }

    /// The first column of the first row.
    ///
    /// # Errors
    /// The server's.
    pub fn value(&mut self, query: &str) -> Result<String> {
        Ok(self.row(query)?.into_iter().next().unwrap_or_default())
    }

    /// State of the replica's default channel.
    ///
    /// # Errors
    /// The server's, or if there is no such channel.
    pub fn applier(&mut self) -> Result<Applier> {
        applier(&mut self.conn, self.server)
            .map_err(|e| e.of_seed_command(&self.name))?
            .ok_or_else(|| {
                Error::permanent(format!("{}: the replication channel is gone", self.name))
            })
    }

    fn fault(&self, statement: &str, e: &mysql::Error) -> Error {
        Error::Mysql(Box::new(MysqlError {
            purpose: statement.chars().take(60).collect(),
            cause: cause(e),
            ..MysqlError::default()
        }))
        .of_seed_command(&self.name)
    }
}

/// A row's columns as texts.
pub fn texts(row: &Row) -> Vec<String> {
    (0..row.len())
        .map(|i| {
            let bytes: Option<Vec<u8>> = row.get_opt(i).and_then(std::result::Result::ok);
            String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
        })
        .collect()
}

fn settings(server: Server) -> Vec<&'static str> {
    let mut list = vec![
        "time_zone = '+00:00'",
        // DEFAULT is the global value, and a SELECT without a row, or with some, is no error.
        "sql_select_limit = 18446744073709551615",
        "max_join_size = 18446744073709551615",
        // After max_join_size, which resets it.
        "sql_big_selects = 1",
        "sql_safe_updates = 0",
        // The other server may take much longer for the same rows.
        "wait_timeout = 86400",
        // A statement that waits for a metadata lock is repeated later.
        "lock_wait_timeout = 5",
    ];
    match server.flavour {
        Flavour::MariaDb => list.extend([
            "max_statement_time = 0",
            "idle_transaction_timeout = 0",
            "idle_readonly_transaction_timeout = 0",
            "system_versioning_asof = DEFAULT",
            "old_mode = ''",
        ]),
        Flavour::MySql => {
            if server.version >= Version(5, 7, 8) {
                list.push("max_execution_time = 0");
            }
            if server.version >= Version(8, 0, 30) {
                // OFF hides generated primary keys from the list of columns.
                list.push("show_gipk_in_create_table_and_information_schema = 1");
            }
        }
    }
    list
}

/// Runs `work`, and ends the statements of `sessions` (endpoint and number) when the user cancels or `deadline` has come.
/// The statements then fail with error 1317 or another of the server's.
pub fn interruptible<T>(
    sessions: &[(&Endpoint, u32)],
    deadline: Instant,
    cancel: &Cancel,
    work: impl FnOnce() -> T,
) -> T {
    let (done, finished) = bounded::<()>(0);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            select! {
                recv(finished) -> _ => return,
                recv(cancel.signal()) -> _ => {}
                default(deadline.saturating_duration_since(Instant::now())) => {}
            }
            // Again and again: between two statements the server forgets it.
            while let Err(RecvTimeoutError::Timeout) =
                finished.recv_timeout(Duration::from_millis(300))
            {
                for (at, id) in sessions {
                    // A server that cannot be reached ends the statement by its timeout.
                    if let Ok(mut conn) = connect(at, Duration::from_secs(3)) {
                        let _ = conn.query_drop(format!("KILL QUERY {id}"));
                    }
                }
            }
        });
        let result = work();
        drop(done);
        result
    })
}

impl Session {
    /// For [`interruptible`].
    pub fn handle(&self) -> (Endpoint, u32) {
        (self.at.clone(), self.id())
    }
}

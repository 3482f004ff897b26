//! One way to connect, with deadlines on everything and errors that name the setting.

use super::messages;
use crate::config;
use crate::error::{Cause, Error, MysqlError, Result};
use mysql::{Conn, Opts, OptsBuilder};
use std::time::Duration;

/// Where a server is and who logs in.
#[derive(Debug, Clone, Default)]
pub struct Endpoint {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Unix socket, used instead of host and port if not empty.
    pub socket: String,
    /// Account name.
    pub user: String,
    /// Its password.
    pub password: config::Secret,
}

impl Endpoint {
    /// The local server of `[mysql]`.
    pub fn local(c: &config::Mysql) -> Self {
        Self {
            host: c.host.clone(),
            port: c.port,
            socket: c.socket.clone(),
            user: c.user.clone(),
            password: c.password.clone(),
        }
    }

    /// Another server with the same account, as the dump tools use it.
    pub fn remote(c: &config::Mysql, host: &str, port: u16) -> Self {
        Self {
            host: host.into(),
            port,
            socket: String::new(),
            ..Self::local(c)
        }
    }

    /// An error of this server, or of the connection to it.
    pub(crate) fn failure(&self, e: &mysql::Error) -> Error {
        Error::Mysql(Box::new(MysqlError {
            server: self.name(),
            tcp: self.socket.is_empty(),
            user: self.user.clone(),
            cause: cause(e),
            ..MysqlError::default()
        }))
    }

    /// For messages: `host:port` or the socket's path.
    pub fn name(&self) -> String {
        if self.socket.is_empty() {
            format!("{}:{}", self.host, self.port)
        } else {
            self.socket.clone()
        }
    }
}

/// Sessions with a deadline of at most this only read; longer ones change data.
const READ_DEADLINE: Duration = Duration::from_secs(60);
/// Seconds that a read waits for a lock. information_schema.TABLES of MariaDB waits so long for each table that is locked.
const READ_LOCK_WAIT: u64 = 3;
/// The largest value of lock_wait_timeout.
const MAX_LOCK_WAIT: u64 = 31_536_000;

/// What our own statements need to mean the same on each server, whatever its global values are. All versions have these variables, and
/// none of them needs a privilege. MySQL runs `/*!50708`, MariaDB `/*M!100101` (manuals, "Comments").
const OWN_SESSION: &str = "SET SESSION sql_mode = '', autocommit = 1, completion_type = 0, sql_select_limit = 18446744073709551615, \
     max_join_size = 18446744073709551615, sql_big_selects = 1, sql_auto_is_null = 0, sql_safe_updates = 0, group_concat_max_len = 1048576, \
     wait_timeout = 2147483, character_set_client = utf8mb4, character_set_results = utf8mb4, collation_connection = utf8mb4_general_ci \
     /*!50708 , max_execution_time = 0 */ /*M!100101 , max_statement_time = 0 */";

/// Connects. `timeout` bounds the TCP connect (at most 10 s are used for it) and every read and write after it. The session begins
/// with [`OWN_SESSION`], stops waiting for a lock before that (see [`lock_wait_timeout`]), and may write.
pub fn connect(to: &Endpoint, timeout: Duration) -> Result<Conn> {
    open(to, timeout).map_err(|e| to.failure(&e))
}

/// What a session must have set before it can read its variables at all, by name.
pub(crate) const READABLE: [&str; 5] = [
    "sql_select_limit",
    "max_join_size",
    "sql_big_selects",
    "max_execution_time",
    "max_statement_time",
];
const READABLE_SESSION: &str = "SET SESSION sql_select_limit = 18446744073709551615, max_join_size = 18446744073709551615, sql_big_selects = 1 \
     /*!50708 , max_execution_time = 0 */ /*M!100101 , max_statement_time = 0 */";

/// The same, with the session as the server makes it for any client, but for [`READABLE`].
pub(crate) fn connect_plain(to: &Endpoint, timeout: Duration) -> Result<Conn> {
    open_with(to, timeout, &[READABLE_SESSION]).map_err(|e| to.failure(&e))
}

/// Whether a server answers at all: Ok with the login's error if it answered with one, as a live server does to a wrong
/// password (1045) or with too many connections (1040). The error is transient: no server answers.
pub(crate) fn answers(to: &Endpoint, timeout: Duration) -> Result<Option<Error>> {
    match open(to, timeout) {
        Ok(_) => Ok(None),
        Err(e @ mysql::Error::MySqlError(_)) => Ok(Some(to.failure(&e))),
        Err(e) => Err(to.failure(&e)),
    }
}

fn open(to: &Endpoint, timeout: Duration) -> mysql::Result<Conn> {
    let seconds = lock_wait_timeout(timeout);
    let wait = format!("SET SESSION lock_wait_timeout = {seconds}");
    let init = [OWN_SESSION, &wait, "SET SESSION TRANSACTION READ WRITE"];
    open_with(to, timeout, &init)
}

/// lock_wait_timeout in seconds for a session whose statements have this deadline: the server's own error must come before the
/// connection is given up.
fn lock_wait_timeout(deadline: Duration) -> u64 {
    let seconds = deadline.as_secs().saturating_sub(1);
    let reads = deadline <= READ_DEADLINE;
    seconds.clamp(1, if reads { READ_LOCK_WAIT } else { MAX_LOCK_WAIT })
}

fn open_with(to: &Endpoint, timeout: Duration, init: &[&str]) -> mysql::Result<Conn> {
    let mut b = OptsBuilder::new()
        .user(Some(&to.user))
        .pass(Some(to.password.reveal()))
        .prefer_socket(false)
        .tcp_connect_timeout(Some(timeout.min(Duration::from_secs(10))))
        .read_timeout(Some(timeout))
        .write_timeout(Some(timeout))
        .init(init.to_vec());
    b = if to.socket.is_empty() {
        b.ip_or_hostname(Some(&to.host)).tcp_port(to.port)
    } else {
        b.socket(Some(&to.socket))
    };
    Conn::new(Opts::from(b))
}

/// An error of the server, or of the connection to it. `server` and `user` are for the message; `user` is the account that logs
/// in, empty in an open session.
pub(crate) fn failure(server: &str, user: &str, e: &mysql::Error) -> Error {
    Error::Mysql(Box::new(MysqlError {
        server: server.into(),
        user: user.into(),
        cause: cause(e),
        ..MysqlError::default()
    }))
}

pub(crate) fn cause(e: &mysql::Error) -> Cause {
    match e {
        mysql::Error::MySqlError(m) => {
            let (code, state, message) = (m.code, m.state.clone(), m.message.clone());
            Cause::Server {
                init_connect: messages::is_init_connect(code, &message),
                code,
                state,
                message,
            }
        }
        e if timed_out(e) => Cause::Timeout,
        other => Cause::Unreachable(plain(&other.to_string())),
    }
}

/// True if a deadline of the connection has passed (`Resource temporarily unavailable` on Linux), also while a packet was awaited.
fn timed_out(e: &mysql::Error) -> bool {
    use std::io::ErrorKind::{TimedOut, WouldBlock};
    let cause = match e {
        mysql::Error::IoError(e) => Some(e),
        mysql::Error::CodecError(e) => {
            std::error::Error::source(e).and_then(|cause| cause.downcast_ref::<std::io::Error>())
        }
        _ => None,
    };
    cause.is_some_and(|e| matches!(e.kind(), TimedOut | WouldBlock))
}

/// Without the driver's own wrapping, and in ASCII.
fn plain(text: &str) -> String {
    let inner = text.split_once("{ ").map(|(_, inner)| inner);
    let text = inner.and_then(|t| t.strip_suffix(" }")).unwrap_or(text);
    text.replace(|c: char| !c.is_ascii() || c.is_ascii_control(), "?")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn at(port: u16) -> Endpoint {
        let password = config::Secret::new("geheim");
        Endpoint {
            host: "127.0.0.1".into(),
            port,
            socket: String::new(),
            user: "u".into(),
            password,
        }
    }

    #[test]
    fn the_server_answers_before_the_connection_is_given_up() {
        let of = |s| lock_wait_timeout(Duration::from_secs(s));
        assert_eq!([1, 2, 5, 60, 61, 600].map(of), [1, 1, 3, 3, 60, 599]);
        assert_eq!(of(u64::MAX), MAX_LOCK_WAIT);
    }

    #[test]
    fn a_dead_or_silent_server_is_a_transient_error_in_time() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = silent.local_addr().unwrap().port();
        let begin = Instant::now();
        let e = connect(&at(port), Duration::from_millis(300)).unwrap_err();
        assert!(begin.elapsed() < Duration::from_secs(3));
        assert!(e.is_transient());
        drop(silent);
        let e = connect(&at(port), Duration::from_secs(3)).unwrap_err();
        assert!(
            e.to_string().contains("mysql.port") && !e.to_string().contains("geheim"),
            "{e}"
        );
    }
}

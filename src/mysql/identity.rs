//! The check that two connections lead to one server. Names and numbers do not show it: cloned machines have one server_uuid, a fleet has
//! one port and one datadir, and a forwarder may choose another server for each connection. A user lock does: it exists in one server
//! only.

use super::{Endpoint, Session, connect, failure, query, quote_text};
use crate::error::{Error, OnPath, Result};
use crate::sys::Inserted;
use crate::sys::thread::{lock, spawn_with_stack};
use ::mysql::Conn;
use ::mysql::prelude::Queryable;
use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What an [assignment](Identity::assignment) gives to `completion_type` in a session on another server. It repeats the value in error 1231
/// (MySQL 5.6 to 9.7, MariaDB 10.11), so this is found in what a tool writes.
const MARKER: &str = "orchestrator-agent: not the expected server";
/// For each answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often the connection is used: firewalls forget a connection that is idle, usually after some minutes.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// A connection to a server that holds a user lock with a random name, as long as this value exists.
pub struct Identity {
    server: String,
    user: String,
    id: u64,
    condition: String,
    conn: Arc<Mutex<Conn>>,
    _ends: Sender<()>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({}, connection {})", self.server, self.id)
    }
}

impl Identity {
    /// Connects to `to` and takes the lock. A server that supports none (MariaDB in a Galera cluster; Percona XtraDB Cluster with
    /// pxc_strict_mode = ENFORCING) is known by this connection itself, see [`Identity::by_session`].
    pub fn hold(to: &Endpoint) -> Result<Self> {
        let mut conn = Self::open(to)?;
        let random = crate::sys::host::random_hex(16).on("/dev/urandom")?;
        let lock = quote_text(&format!("oa_{random}"));
        let locked = conn.query_first::<Option<u64>, _>(format!("SELECT GET_LOCK({lock}, 0)"));
        let condition = match locked {
            Ok(Some(Some(1))) => {
                format!("IS_USED_LOCK({lock}) <=> {}", connection_id(&mut conn)?)
            }
            Ok(_) => {
                return Err(Error::transient(format!(
                    "MySQL at {} did not give the agent a user lock (GET_LOCK)",
                    to.name()
                )));
            }
            Err(::mysql::Error::MySqlError(e)) => {
                log::info!("MySQL at {} has no user locks: {}", to.name(), e.message);
                by_session(&mut conn)?
            }
            Err(e) => return Err(to.failure(&e)),
        };
        Self::keep(to, conn, condition)
    }

    /// Connects to `to`, to be known by what its process list has of this connection: number, account, client host and port.
    pub fn by_session(to: &Endpoint) -> Result<Self> {
        let mut conn = Self::open(to)?;
        let condition = by_session(&mut conn)?;
        Self::keep(to, conn, condition)
    }

    fn open(to: &Endpoint) -> Result<Conn> {
        let mut conn = connect(to, TIMEOUT)?;
        conn.query_drop("SET SESSION wait_timeout = 31536000")
            .map_err(|e| to.failure(&e))?;
        Ok(conn)
    }

    fn keep(to: &Endpoint, mut conn: Conn, condition: String) -> Result<Self> {
        let id = connection_id(&mut conn)?;
        let conn = Arc::new(Mutex::new(conn));
        let (ends, ended) = bounded::<()>(0);
        let kept = Arc::clone(&conn);
        let body = move || {
            while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(KEEP_ALIVE) {
                if lock(&kept).query_drop("DO 1").is_err() {
                    return; // [`Identity::check`] reports it
                }
            }
        };
        spawn_with_stack("identity", 256 << 10, body)?;
        Ok(Self {
            server: to.name(),
            user: to.user.clone(),
            id,
            condition,
            conn,
            _ends: ends,
        })
    }

    /// For messages: where the server is.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// An assignment for SET that changes nothing in a session of this server, and fails in a session of any other (error 1231).
    /// It leaves `completion_type` at `NO_CHAIN`, without which COMMIT means another thing.
    pub fn assignment(&self) -> String {
        format!(
            "completion_type = IF({}, 'NO_CHAIN', {})",
            self.condition,
            quote_text(MARKER)
        )
    }

    fn failed(&self, e: &::mysql::Error) -> Error {
        failure(&self.server, &self.user, e)
    }

    /// Checks that `other`, a connection of our own, is to the same server. Permanent: it is not.
    pub fn verify(&self, other: &mut Conn) -> Result<()> {
        let holds = other.query_first::<Option<u64>, _>(format!("SELECT {}", self.condition));
        if holds.map_err(|e| self.failed(&e))?.flatten() == Some(1) {
            return Ok(());
        }
        Err(self.not_seen("a second connection of the agent"))
    }

    /// Checks that the connection is alive and holds the lock. Transient: it was killed, or the server was restarted or cannot be
    /// reached.
    pub fn check(&self) -> Result<()> {
        let (condition, id) = (&self.condition, self.id);
        let select = format!("SELECT {condition} AND CONNECTION_ID() = {id}");
        match lock(&self.conn).query_first::<Option<u64>, _>(select) {
            Ok(Some(Some(1))) => Ok(()),
            Ok(_) => Err(self.lost("it does not hold its user lock any more")),
            Err(e) => Err(self.lost(&self.failed(&e).to_string())),
        }
    }

    fn lost(&self, why: &str) -> Error {
        Error::transient(format!(
            "the agent's own connection to MySQL at {}, with which its tools compare theirs, has ended ({why}): MySQL was restarted, \
             or the connection was killed; run a new seed once MySQL stays up",
            self.server
        ))
    }

    /// The error of `tool` as it is to be shown: if the server's answer to [`Identity::assignment`] is in its standard error, it has
    /// reached another server.
    pub fn explain(&self, tool: &str, error: Error) -> Error {
        if error.tool_stderr().is_some_and(|s| s.contains(MARKER)) {
            return self.not_seen(tool);
        }
        error
    }

    /// The error of a client whose session is not on this server.
    pub fn not_seen(&self, client: &str) -> Error {
        let another = || {
            Error::permanent(format!(
                "{client} reached another server than MySQL at {}, and was ended before its first statement: check that this address \
                 leads to one server only (host name, port forwarder, load balancer, mysql.socket and mysql.port), and that no option of \
                 the tool names another one",
                self.server
            ))
        };
        self.check().err().unwrap_or_else(another)
    }

    /// The error of a tool that ended before its session was seen.
    pub fn ended_unseen(&self, tool: &str) -> Error {
        Error::transient(format!(
            "{tool} ended before its session was seen in MySQL at {}, so it is not known which server it read: run a new seed",
            self.server
        ))
    }

    /// The sessions of this account in the server, by connection number; without this one, which is returned apart.
    pub fn sessions(&self) -> Result<(Session, BTreeMap<u64, Session>)> {
        let select = format!(
            "SELECT ID, HOST FROM information_schema.PROCESSLIST WHERE USER = {}",
            quote_text(&self.user)
        );
        let rows = lock(&self.conn).query::<(u64, String), _>(select);
        let rows = rows.map_err(|e| self.lost(&self.failed(&e).to_string()))?;
        let session = |(id, host): (u64, String)| (id, Session::parse(&host));
        let mut all: BTreeMap<u64, Session> = rows.into_iter().map(session).inserted();
        let own = all.remove(&self.id);
        let own = own.ok_or_else(|| self.lost("it is not in the process list"))?;
        Ok((own, all))
    }
}

/// Checks that mysql.socket and mysql.port of one configuration are one server's: orchestrator and other agents know the port only. Where the
/// port does not answer or rejects the login, it is compared with the server's own variable.
pub fn one_server(settings: &crate::config::Mysql) -> Result<()> {
    if settings.socket.is_empty() {
        return Ok(());
    }
    let by_port = Endpoint::remote(settings, &settings.host, settings.port);
    let by_socket = Endpoint::local(settings);
    let same = match connect(&by_port, TIMEOUT) {
        Ok(mut other) => {
            let identity = Identity::hold(&by_socket)?;
            let same = identity.verify(&mut other).is_ok();
            identity.check()?;
            same
        }
        Err(e) => {
            log::debug!("mysql.port is compared with the variable port only: {e}");
            let mut conn = connect(&by_socket, TIMEOUT)?;
            let found: Option<(u64, u64)> = conn
                .query_first("SELECT @@port, @@skip_networking")
                .map_err(|e| by_socket.failure(&e))?;
            found.is_none_or(|(port, off)| off == 1 || port == u64::from(settings.port))
        }
    };
    if same {
        return Ok(());
    }
    Err(Error::permanent(format!(
        "mysql.socket = \"{}\" and mysql.host, mysql.port = {} lead to two servers: set both to the server of this agent",
        settings.socket,
        by_port.name()
    )))
}

fn connection_id(conn: &mut Conn) -> Result<u64> {
    let id = query::first(conn, "SELECT CONNECTION_ID()")?;
    id.ok_or_else(|| Error::transient("the server did not return the number of the connection"))
}

/// A condition that is true on the server of `conn` while `conn` lives.
fn by_session(conn: &mut Conn) -> Result<String> {
    type Row = (u64, String, String, String);
    const PLACE: &str = "CONCAT_WS(' ', @@hostname, @@port, @@datadir, @@pid_file)";
    let select = format!(
        "SELECT ID, USER, HOST, {PLACE} FROM information_schema.PROCESSLIST WHERE ID = CONNECTION_ID()"
    );
    let row = query::first::<Row>(conn, select)?;
    let (id, user, host, place) =
        row.ok_or_else(|| Error::transient("this connection is not in the process list"))?;
    let [user, host, place] = [user, host, place].map(|text| quote_text(&text));
    Ok(format!(
        "((SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE ID = {id} AND USER = {user} AND HOST = {host}) = 1 AND {PLACE} = {place})"
    ))
}

/// What distinguishes a server from others, as far as it reports it itself; kept in the record, because a lock does not outlive the agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Fingerprint {
    /// server_uuid; empty on MariaDB.
    pub uuid: String,
    /// hostname, port, datadir, pid_file and server_id, one a line.
    pub place: String,
    /// When it was started, in seconds of its own clock.
    pub started: u64,
    /// Its own clock when it was queried.
    pub asked: u64,
}

/// Uptime and clock are rounded to seconds, each on its own.
const ROUNDING: u64 = 2;

impl Fingerprint {
    /// Queries the server.
    pub fn of(conn: &mut Conn) -> Result<Self> {
        let place: Option<String> = query::first(
            conn,
            "SELECT CONCAT_WS('\\n', @@hostname, @@port, @@datadir, @@pid_file, @@server_id)",
        )?;
        let uuid = super::info::global(conn, "server_uuid")?.unwrap_or_default();
        let uptime: Option<(String, u64)> = query::first(conn, "SHOW GLOBAL STATUS LIKE 'Uptime'")?;
        let asked: u64 = query::first(conn, "SELECT UNIX_TIMESTAMP()")?.unwrap_or(0);
        Ok(Self {
            uuid,
            place: place.unwrap_or_default(),
            started: asked.saturating_sub(uptime.map_or(0, |u| u.1)),
            asked,
        })
    }

    /// True for the same run of the same server.
    pub fn is_same_run(&self, other: &Self) -> bool {
        self.uuid == other.uuid
            && self.place == other.place
            && self.started.abs_diff(other.started) <= ROUNDING
    }

    /// Why `later` is another server; `None` if it may be the same one, perhaps restarted meanwhile.
    pub fn differs(&self, later: &Self) -> Option<String> {
        if self.uuid != later.uuid {
            let (was, is) = (&self.uuid, &later.uuid);
            return Some(format!("its server_uuid is {is}, not {was}"));
        }
        let names = ["hostname", "port", "datadir", "pid_file", "server_id"];
        let values = self.place.lines().zip(later.place.lines());
        for (name, (was, is)) in names.into_iter().zip(values) {
            if was != is {
                return Some(format!("its {name} is {is}, not {was}"));
            }
        }
        if later.started + ROUNDING >= self.asked || self.is_same_run(later) {
            return None; // restarted since, or not
        }
        let seconds = self.started.abs_diff(later.started);
        let when = if later.started < self.started {
            "earlier"
        } else {
            "later, before the server was queried"
        };
        Some(format!("it was started {seconds} s {when}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_server_is_known_by_what_it_says() {
        let seen = Fingerprint {
            uuid: "u".into(),
            place: "h\n3306\n/d/\n/p\n7".into(),
            started: 1000,
            asked: 5000,
        };
        let later = |change: fn(&mut Fingerprint)| {
            let mut other = Fingerprint {
                asked: 9000,
                ..seen.clone()
            };
            change(&mut other);
            seen.differs(&other)
        };
        assert_eq!(later(|_| {}), None);
        assert_eq!(later(|f| f.started = 1002), None, "rounded");
        assert_eq!(later(|f| f.started = 6000), None, "restarted");
        for (change, word) in [
            (
                (|f| f.uuid = "v".into()) as fn(&mut Fingerprint),
                "server_uuid",
            ),
            (|f| f.place = "g\n3306\n/d/\n/p\n7".into(), "hostname"),
            (|f| f.place = "h\n3306\n/e/\n/p\n7".into(), "datadir"),
            (|f| f.place = "h\n3306\n/d/\n/p\n8".into(), "server_id"),
            (|f| f.started = 900, "earlier"),
            (|f| f.started = 3000, "later"),
        ] {
            let why = later(change).unwrap();
            assert!(why.contains(word), "{why}");
        }
        let mut same = seen.clone();
        same.started = 999;
        assert!(seen.is_same_run(&same));
        same.started = 6000;
        assert!(!seen.is_same_run(&same));
    }
}

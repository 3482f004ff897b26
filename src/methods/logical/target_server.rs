//! The running server of a target: what it must be for a load of the source's dump, what a load changes in it, and how that is restored
//! on every path.

use crate::config;
use crate::contents::xa;
use crate::coordinates::Coordinates;
use crate::coordinates::gtid::GtidSet;
use crate::error::{Error, Result};
use crate::methods::state::LogicalState;
use crate::mysql::profile::Purpose;
use crate::mysql::{
    Endpoint, Fingerprint, Flavour, Identity, Restore, Server, connect, control, info, query,
    quote_name, quote_text, settings,
};
use crate::seed::record::{Load, Seed};
use crate::seed::stage::Context;
use crate::sys::thread::spawn;
use crossbeam_channel::{RecvTimeoutError, bounded, select};
use mysql::Conn;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// For statements of a load: FLUSH PRIVILEGES and RESET MASTER may wait for locks, but not for ever.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(600);
/// For queries; enough for a server with thousands of tables.
pub(in crate::methods) const QUERY_TIMEOUT: Duration = Duration::from_secs(20);
/// For a login: a server that hangs is found out sooner.
pub(super) const LOGIN_TIMEOUT: Duration = Duration::from_secs(10);

/// The local server, over a connection that is opened before the load and keeps its privileges while the load replaces
/// the accounts.
pub(crate) struct TargetServer {
    pub(in crate::methods) conn: Conn,
    pub(in crate::methods) server: Server,
    settings: config::Mysql,
    /// The server's `NOW()` when its load began: what is older then is not of the source.
    began: String,
}

impl TargetServer {
    /// Connects to the local server, to load it.
    pub(in crate::methods) fn open(settings: &config::Mysql) -> Result<Self> {
        drop(connect(&Endpoint::local(settings), LOGIN_TIMEOUT)?);
        Self::open_for(settings, STATEMENT_TIMEOUT)
    }

    /// Connects to the local server; each of its answers may take `timeout`.
    pub(in crate::methods) fn open_for(
        settings: &config::Mysql,
        timeout: Duration,
    ) -> Result<Self> {
        let mut conn = connect(&Endpoint::local(settings), timeout)?;
        let server = Server::ask(&mut conn)?;
        Ok(Self {
            conn,
            server,
            settings: settings.clone(),
            began: String::new(),
        })
    }

    /// The value of a global variable, empty if it is unknown.
    pub(in crate::methods) fn variable(&mut self, name: &str) -> Result<String> {
        Ok(info::global(&mut self.conn, name)?.unwrap_or_default())
    }

    /// What identifies this server to the tools of a load, when it is the one that Prepare has checked.
    pub(in crate::methods) fn identity(
        &mut self,
        prepared: Option<&Fingerprint>,
    ) -> Result<Arc<Identity>> {
        let endpoint = Endpoint::local(&self.settings);
        let now = Fingerprint::of(&mut self.conn)?;
        if let Some(why) = prepared.and_then(|p| p.differs(&now)) {
            return Err(Error::permanent(format!(
                "MySQL at {} is another server than the one that Prepare checked ({why}), and nothing was changed there: check \
                 that mysql.host, mysql.port and mysql.socket point to one server only (host name, port forwarder), then call prepare again",
                endpoint.name()
            )));
        }
        let identity = Identity::hold(&endpoint)?;
        identity.verify(&mut self.conn)?;
        Ok(Arc::new(identity))
    }

    /// Refuses a source whose events, general tablespaces or engines (of `schemas`) this server cannot take: a dump does not bring them.
    pub(in crate::methods) fn refuse_missing(
        &mut self,
        source: &mut Conn,
        server: Server,
        schemas: &BTreeMap<String, info::Schema>,
    ) -> Result<()> {
        let events = info::events(source, server)?;
        // It takes no statement on them (error 1577) if it was disabled at the server's start.
        if events > 0
            && self
                .variable("event_scheduler")?
                .eq_ignore_ascii_case("DISABLED")
        {
            return Err(Error::permanent(format!(
                "the source has {events} events, and this server cannot take them, not even disabled ones, with event_scheduler = \
                 DISABLED: set event_scheduler = OFF in its my.cnf and restart it"
            )));
        }
        let refuse = |missing: Vec<String>, of: &str, remedy: &str| {
            if missing.is_empty() {
                return Ok(());
            }
            let names = missing.join(", ");
            Err(Error::permanent(format!(
                "the source has {of}: {names}; {remedy}"
            )))
        };
        let own = info::general_tablespaces(&mut self.conn, self.server)?;
        let missing = info::general_tablespaces(source, server)?;
        refuse(
            missing.difference(&own).cloned().collect(),
            "general tablespaces, which a dump does not make (error 3510)",
            "create them here (CREATE TABLESPACE) or move their tables out of them",
        )?;
        // Tables would become those of other engines, or stop the load.
        let missing = info::missing_engines(&mut self.conn, schemas)?;
        refuse(
            missing.into_iter().collect(),
            "tables of engines that this server lacks",
            "install them here, or convert the tables",
        )
    }

    /// Puts the accounts in force that have been loaded.
    pub(in crate::methods) fn flush_privileges(&mut self) -> Result<()> {
        control::execute(&mut self.conn, "FLUSH PRIVILEGES")
    }

    /// Prepares the server for a load. The record holds what must be restored before any setting is changed, and
    /// "load incomplete" before the first statement that touches data. May be called again after a failed load.
    pub(super) fn begin(&mut self, ctx: &Context) -> Result<()> {
        xa::refuse_prepared_on_target(&mut self.conn)?;
        let of_source = ctx.state::<LogicalState>()?.source_variables;
        settings::apply(&mut self.conn, self.server, Purpose::Load, &of_source)?;
        // A session as the tools' is tried before anything is changed.
        settings::session_init(&Endpoint::local(&self.settings), Purpose::Load, &of_source)?;
        let mut present = control::to_restore(&mut self.conn, &of_source)?;
        if self.settings.load_without_redo_log && control::has_redo_log(&mut self.conn)? {
            present.push(Restore::RedoLog);
        }
        ctx.begin_load()?;
        ctx.update(|seed| seed.pending_restore.extend(present))?;
        ctx.cancel().check()?;
        control::relax(&mut self.conn, &ctx.seed()?.pending_restore, &of_source)?;
        ctx.cancel().check()?;
        self.reset_binlog()?;
        self.began =
            query::first(&mut self.conn, "SELECT CAST(NOW() AS CHAR)")?.unwrap_or_default();
        ctx.update(Seed::begin_replacing)
    }

    /// A MariaDB server without a binary log has nothing to reset, and RESET is an error there (1186).
    fn reset_binlog(&mut self) -> Result<()> {
        if self.server.flavour == Flavour::MariaDb && !info::is_on(&mut self.conn, "log_bin")? {
            return Ok(());
        }
        control::execute(&mut self.conn, self.server.reset_binlog())
    }

    /// What follows a load that has succeeded: events are disabled, the GTID state is set and verified. Settings are restored, and the
    /// accounts put in force, by [`TargetServer::restore_settings_soon`].
    pub(super) fn complete(&mut self, ctx: &Context, coordinates: &Coordinates) -> Result<String> {
        let mut note = String::new();
        if self.settings.disable_events_on_target {
            let n = control::disable_events(&mut self.conn, self.server)?;
            note = format!("{n} events disabled");
        }
        ctx.cancel().check()?;
        match self.server.flavour {
            Flavour::MariaDb => {
                // In this order: errors 1947 and 1948 otherwise. A loaded mysql.gtid_slave_pos is on disk only.
                self.reset_binlog()?;
                let position = coordinates.gtid_slave_pos.as_deref().unwrap_or("");
                let set = format!("SET GLOBAL gtid_slave_pos = {}", quote_text(position));
                control::execute(&mut self.conn, &set)?;
            }
            // The dump itself has set gtid_purged, and another RESET would lose it.
            Flavour::MySql => self.verify_gtid_set(&coordinates.gtid_executed)?,
        }
        control::enable_redo_log(&mut self.conn, &ctx.seed()?.pending_restore)?;
        // What the relaxed setting has left to the kernel goes to the disk before the stage is completed.
        control::execute(&mut self.conn, "FLUSH ENGINE LOGS")?;
        ctx.cancel().check()?;
        Ok(note)
    }

    /// Gives a MySQL server the GTID set of a dump that does not set it itself, before [`TargetServer::complete`].
    pub(in crate::methods) fn adopt_gtid_set(&mut self, set: &str) -> Result<()> {
        if self.server.flavour == Flavour::MariaDb || set.is_empty() {
            return Ok(());
        }
        self.reset_binlog()?;
        let statement = format!("SET GLOBAL gtid_purged = {}", quote_text(set));
        control::execute(&mut self.conn, &statement)
    }

    /// Checks that the executed set is exactly the dump's, if that has one.
    fn verify_gtid_set(&mut self, of_dump: &str) -> Result<()> {
        if of_dump.is_empty() {
            return Ok(());
        }
        let executed = GtidSet::parse(&self.variable("gtid_executed")?)?;
        if executed == GtidSet::parse(of_dump)? {
            return Ok(());
        }
        Err(Error::permanent(format!(
            "gtid_executed is {executed} after the load and not the dump's {of_dump}: something else writes to this server"
        )))
    }

    /// Does `work` with this server; a cancellation of the stage meanwhile ends the statement that runs, which may wait for
    /// a lock: the error is the server's "interrupted" then.
    pub(in crate::methods) fn interruptible<T>(
        &mut self,
        ctx: &Context,
        work: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        let endpoint = Endpoint::local(&self.settings);
        let id = self.conn.connection_id();
        let (done, finished) = bounded::<()>(0);
        let cancel = ctx.cancel().clone();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                select! {
                    recv(finished) -> _ => return,
                    recv(cancel.signal()) -> _ => {}
                }
                // Again and again: between two statements the server forgets it.
                while let Err(RecvTimeoutError::Timeout) =
                    finished.recv_timeout(Duration::from_millis(300))
                {
                    let end = connect(&endpoint, Duration::from_secs(3))
                        .and_then(|mut c| control::execute(&mut c, &format!("KILL QUERY {id}")));
                    if let Err(e) = end {
                        log::warn!("cannot end our statement on the target: {e}");
                    }
                }
            });
            let result = work(self);
            drop(done);
            result
        })
    }

    /// What the source does not have: schemas, and tables in its schemas. With `drop-extra-schemas` both are dropped.
    /// Returns a line for each kind.
    pub(super) fn extras(&mut self, of_source: &[String]) -> Result<Vec<String>> {
        let own = info::schemas(&mut self.conn, self.server)?;
        let schemas = own.into_keys().filter(|name| !of_source.contains(name));
        let schemas = schemas.map(|s| (format!("DATABASE {}", quote_name(&s)), s));
        let tables = info::tables_older_than(&mut self.conn, &self.began, of_source)?;
        let tables = tables.into_iter().map(|(s, t)| {
            let quoted = format!("TABLE {}.{}", quote_name(&s), quote_name(&t));
            (quoted, format!("{s}.{t}"))
        });
        let kinds: [(&str, Vec<(String, String)>); 2] =
            [("schemas", schemas.collect()), ("tables", tables.collect())];
        let mut lines = Vec::new();
        for (kind, extras) in kinds {
            if extras.is_empty() {
                continue;
            }
            let mut done = "kept";
            if self.settings.drop_extra_schemas {
                // A table may be referred to by another one that goes as well.
                control::execute(&mut self.conn, "SET SESSION foreign_key_checks = 0")?;
                for (quoted, _) in &extras {
                    control::execute(&mut self.conn, &format!("DROP {quoted}"))?;
                }
                done = "dropped";
            }
            let names: Vec<&str> = extras.iter().map(|(_, name)| name.as_str()).collect();
            let text = format!("{kind} that the source does not have were {done}");
            log::warn!("{text}: {}", names.join(", "));
            let first = names[..names.len().min(20)].join(" ");
            lines.push(format!("{} {text}: {first}", names.len()));
        }
        Ok(lines)
    }

    /// Restores the recorded settings. After a load that has failed, events are disabled first, or the
    /// scheduler would run the source's events here. After an error they stay in the record and are tried again.
    pub(in crate::methods) fn restore_settings(&mut self, seed: &Seed) -> Result<()> {
        if seed.pending_restore.is_empty() {
            return Ok(());
        }
        // A client that holds a lock must not hold up the end of a stage; it is tried again later.
        control::execute(&mut self.conn, "SET SESSION lock_wait_timeout = 3")?;
        control::binlog_off(&mut self.conn)?;
        if seed.load == Load::Partial && self.settings.disable_events_on_target {
            control::disable_events(&mut self.conn, self.server)?;
        }
        control::restore(&mut self.conn, &seed.pending_restore)
    }

    /// The same, given up after eight seconds if the server does not answer; it is tried again later. After a
    /// complete load the source's accounts come into force as the last thing: with them MySQL takes the privileges of
    /// this session.
    pub(super) fn restore_settings_soon(mut self, seed: &Seed, is_complete: bool) -> Result<()> {
        let seed = seed.clone();
        let (tx, done) = bounded(1);
        let body = move || {
            let mut result = self.restore_settings(&seed);
            if is_complete && result.is_ok() {
                result = self.flush_privileges();
            }
            let _ = tx.send(result); // no one waits any more: fine
        };
        spawn("restore-settings", body)?;
        done.recv_timeout(Duration::from_secs(8))
            .unwrap_or_else(|_| Err(Error::transient("MySQL does not answer")))
    }
}

//! What every logical load does to the running server of a target (DESIGN 4a): its part is checked, it is made ready, and
//! everything is put back on every path.

use super::children;
use super::contents;
use super::definitions::{self, Kept};
use super::server_state;
use super::settings::{self, session_init};
use super::state::LogicalState;
use crate::compatibility::{self, ServerInfo};
use crate::config;
use crate::coordinates::Coordinates;
use crate::coordinates::gtid::GtidSet;
use crate::error::{Error, Result};
use crate::mysql::catalogue::Catalogue;
use crate::mysql::profile::Purpose;
use crate::mysql::{
    Endpoint, Fingerprint, Flavour, Identity, Restore, Server, connect, control, failure, info,
    quote_name, quote_text,
};
use crate::seed::record::{Load, Seed};
use crate::seed::stage::Context;
use crate::sys::thread::spawn;
use crossbeam_channel::{RecvTimeoutError, bounded, select};
use mysql::Conn;
use mysql::prelude::Queryable;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// For statements of our own: FLUSH PRIVILEGES and RESET MASTER may wait for locks, but not for ever.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(600);

/// The local server, over a connection that is opened before the load and keeps its privileges while the load replaces
/// the accounts.
pub struct TargetServer {
    conn: Conn,
    /// What it is.
    pub server: Server,
    settings: config::Mysql,
    /// The server's `NOW()` when its load began: what is older then is not of the source.
    began: String,
}

/// For questions; enough for a server with thousands of tables.
pub const QUESTIONS: Duration = Duration::from_secs(20);

impl TargetServer {
    /// Connects to the local server, to load it.
    ///
    /// # Errors
    /// If it cannot be reached or refuses the account.
    pub fn open(settings: &config::Mysql) -> Result<Self> {
        // A server that hangs is found out soon, before the patience that statements get.
        drop(connect(
            &Endpoint::local(settings),
            Duration::from_secs(10),
        )?);
        Self::open_for(settings, STATEMENT_TIMEOUT)
    }

    /// Connects to the local server; each of its answers may take `timeout`.
    ///
    /// # Errors
    /// If it cannot be reached or refuses the account.
    pub fn open_for(settings: &config::Mysql, timeout: Duration) -> Result<Self> {
        let mut conn = connect(&Endpoint::local(settings), timeout)?;
        let server = Server::ask(&mut conn)?;
        Ok(Self {
            conn,
            server,
            settings: settings.clone(),
            began: String::new(),
        })
    }

    /// Which server it is.
    ///
    /// # Errors
    /// If a query fails.
    pub fn fingerprint(&mut self) -> Result<Fingerprint> {
        Fingerprint::of(&mut self.conn)
    }

    /// What identifies this server to the tools of a load, when it is the one that Prepare has checked.
    ///
    /// # Errors
    /// Permanent: it is another one. Those of [`Identity::hold`].
    pub fn identity(&mut self, prepared: Option<&Fingerprint>) -> Result<Arc<Identity>> {
        let endpoint = Endpoint::local(&self.settings);
        let now = self.fingerprint()?;
        if let Some(why) = prepared.and_then(|p| p.differs(&now)) {
            return Err(Error::permanent(format!(
                "MySQL at {} is another server than the one that Prepare checked ({why}), and nothing was changed there: check \
                 that mysql.host, mysql.port and mysql.socket lead to one server only (host name, port forwarder), then call prepare again",
                endpoint.name()
            )));
        }
        let identity = Identity::hold(&endpoint)?;
        identity.verify(&mut self.conn)?;
        Ok(Arc::new(identity))
    }

    /// As [`compatibility::check_target_role`].
    ///
    /// # Errors
    /// As there; if a query fails.
    pub fn check_role(&mut self) -> Result<()> {
        compatibility::check_target_role(&mut self.conn, self.server)
    }

    /// What decides whether it can become a replica of a source.
    ///
    /// # Errors
    /// If the query fails.
    pub(crate) fn compatibility(&mut self) -> Result<ServerInfo> {
        ServerInfo::query(&mut self.conn, self.server)
    }

    /// As [`server_state::none_prepared_here`].
    ///
    /// # Errors
    /// As there.
    pub fn check_prepared(&mut self) -> Result<()> {
        server_state::none_prepared_here(&mut self.conn)
    }

    /// Refuses events for a server whose scheduler was disabled at its start: it takes no statement on them (error 1577).
    ///
    /// # Errors
    /// Permanent, with the remedy.
    pub fn check_events(&mut self, of_source: u64) -> Result<()> {
        let scheduler = info::global(&mut self.conn, "event_scheduler")?.unwrap_or_default();
        if of_source == 0 || !scheduler.eq_ignore_ascii_case("DISABLED") {
            return Ok(());
        }
        Err(Error::permanent(format!(
            "the source has {of_source} events, and this server cannot take them, not even disabled ones, with event_scheduler = \
             DISABLED: set event_scheduler = OFF in its my.cnf and restart it"
        )))
    }

    /// Refuses tables of engines that this server does not have: they would become other engines, or stop the load.
    ///
    /// # Errors
    /// Permanent, with the engines.
    pub fn check_engines(&mut self, of_source: &BTreeMap<String, info::Schema>) -> Result<()> {
        let missing = info::missing_engines(&mut self.conn, of_source)?;
        if missing.is_empty() {
            return Ok(());
        }
        Err(Error::permanent(format!(
            "the source has tables of engines that this server lacks: {}; install them here, or convert the tables",
            missing.into_iter().collect::<Vec<_>>().join(", ")
        )))
    }

    /// Refuses general tablespaces that this server does not have: a dump does not make them (error 3510 in mid-load).
    ///
    /// # Errors
    /// Permanent, with their names.
    pub fn check_tablespaces(&mut self, of_source: &BTreeSet<String>) -> Result<()> {
        let own = info::general_tablespaces(&mut self.conn, self.server)?;
        let missing: Vec<&str> = of_source.difference(&own).map(String::as_str).collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(Error::permanent(format!(
            "the source has general tablespaces, which a dump does not make: {}; create them here (CREATE TABLESPACE) or move \
             their tables out of them",
            missing.join(", ")
        )))
    }

    /// What decides what it can take.
    ///
    /// # Errors
    /// If a query fails.
    pub fn contents(&mut self, source: &contents::Source) -> Result<contents::Target> {
        contents::Target::ask(&mut self.conn, self.server, source)
    }

    /// Refuses what [`definitions::name_in_the_way`] finds.
    ///
    /// # Errors
    /// Permanent, with the table.
    pub fn check_names(&mut self, of_source: &Catalogue) -> Result<()> {
        match definitions::name_in_the_way(&mut self.conn, self.server, of_source)? {
            None => Ok(()),
            Some(text) => Err(Error::permanent(text)),
        }
    }

    /// As [`definitions::ready`] and [`children::drop_replaced`], to be called after [`TargetServer::begin`].
    ///
    /// # Errors
    /// As there.
    pub fn ready(&mut self, kept: &Kept) -> Result<()> {
        definitions::ready(&mut self.conn, self.server, kept)?;
        children::drop_replaced(&mut self.conn, self.server, &kept.equal)
    }

    /// As [`definitions::read_only`], the last of a load.
    ///
    /// # Errors
    /// As there.
    pub fn read_only_schemas(&mut self, kept: &Kept) -> Result<()> {
        definitions::read_only(&mut self.conn, kept)
    }

    /// Puts the accounts in force that have been loaded.
    ///
    /// # Errors
    /// If the server refuses.
    pub fn flush_privileges(&mut self) -> Result<()> {
        control::execute(&mut self.conn, "FLUSH PRIVILEGES")
    }

    /// Table and column of all base tables in schema `mysql`.
    ///
    /// # Errors
    /// If the query fails.
    pub fn columns_of_server(&mut self) -> Result<BTreeSet<(String, String)>> {
        let query = "SELECT c.TABLE_NAME, c.COLUMN_NAME FROM information_schema.COLUMNS c JOIN information_schema.TABLES t \
                     USING (TABLE_SCHEMA, TABLE_NAME) WHERE c.TABLE_SCHEMA = 'mysql' AND t.TABLE_TYPE = 'BASE TABLE'";
        let rows: Vec<(String, String)> = self
            .conn
            .query(query)
            .map_err(|e| failure("this connection", "", &e))?;
        Ok(rows.into_iter().collect())
    }

    /// Bytes of its own tables.
    ///
    /// # Errors
    /// If a query fails.
    pub fn own_bytes(&mut self) -> Result<u64> {
        let schemas = info::schemas(&mut self.conn, self.server)?;
        Ok(schemas.values().map(|s| s.size).sum())
    }

    /// Values of global variables, empty for unknown ones.
    ///
    /// # Errors
    /// If a query fails.
    pub fn variables<const N: usize>(&mut self, names: [&str; N]) -> Result<[String; N]> {
        let mut values = [const { String::new() }; N];
        for (value, name) in values.iter_mut().zip(names) {
            *value = info::global(&mut self.conn, name)?.unwrap_or_default();
        }
        Ok(values)
    }

    /// Makes the server ready to be loaded. The record holds what must be restored before any setting is changed, and says
    /// "load incomplete" before the first statement that touches data. May be called again after a failed load.
    ///
    /// # Errors
    /// If the server refuses, or the record cannot be written.
    pub fn begin(&mut self, ctx: &Context) -> Result<()> {
        self.check_prepared()?;
        let of_source = ctx.state::<LogicalState>()?.source_variables;
        settings::apply(&mut self.conn, self.server, Purpose::Load, &of_source)?;
        // A session as the tools' is tried before anything is changed.
        session_init(&Endpoint::local(&self.settings), Purpose::Load, &of_source)?;
        let mut present = control::to_restore(&mut self.conn, &of_source)?;
        if self.settings.load_without_redo_log && control::has_redo_log(&mut self.conn)? {
            present.push(Restore::RedoLog);
        }
        ctx.update(|seed| seed.pending_restore.extend(present))?;
        ctx.cancel().check()?;
        control::relax(&mut self.conn, &ctx.seed()?.pending_restore, &of_source)?;
        ctx.cancel().check()?;
        self.reset_binlog()?;
        let now: Option<String> = self
            .conn
            .query_first("SELECT CAST(NOW() AS CHAR)")
            .map_err(|e| failure("this connection", "", &e))?;
        self.began = now.unwrap_or_default();
        ctx.update(Seed::begin_replacing)
    }

    /// A MariaDB server without a binary log has nothing to reset, and says so by an error (1186).
    fn reset_binlog(&mut self) -> Result<()> {
        if self.server.flavour == Flavour::MariaDb && !info::is_on(&mut self.conn, "log_bin")? {
            return Ok(());
        }
        control::execute(&mut self.conn, self.server.reset_binlog())
    }

    /// What follows a load that went through: events off, GTID state set and proven. Settings are put back, and the accounts
    /// put in force, by [`TargetServer::restore_settings_soon`].
    ///
    /// # Errors
    /// If the server refuses, or its executed GTID set is not the dump's.
    pub fn complete(&mut self, ctx: &Context, coordinates: &Coordinates) -> Result<String> {
        let mut notes = String::new();
        if self.settings.disable_events_on_target {
            let n = control::disable_events(&mut self.conn, self.server)?;
            notes = format!("{n} events disabled");
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
            Flavour::MySql => self.prove_gtid_set(&coordinates.gtid_executed)?,
        }
        control::enable_redo_log(&mut self.conn, &ctx.seed()?.pending_restore)?;
        // What the relaxed setting has left to the kernel goes to the disk before anybody is told that it is there.
        control::execute(&mut self.conn, "FLUSH ENGINE LOGS")?;
        ctx.cancel().check()?;
        Ok(notes)
    }

    /// Gives a MySQL server the GTID set of a dump that does not set it itself, before [`TargetServer::complete`].
    ///
    /// # Errors
    /// If the server refuses.
    pub fn adopt_gtid_set(&mut self, set: &str) -> Result<()> {
        if self.server.flavour == Flavour::MariaDb || set.is_empty() {
            return Ok(());
        }
        self.reset_binlog()?;
        let statement = format!("SET GLOBAL gtid_purged = {}", quote_text(set));
        control::execute(&mut self.conn, &statement)
    }

    /// That the executed set is the dump's, no more and no less. A dump without one says nothing.
    fn prove_gtid_set(&mut self, of_dump: &str) -> Result<()> {
        if of_dump.is_empty() {
            return Ok(());
        }
        let [executed] = self.variables(["gtid_executed"])?;
        let executed = GtidSet::parse(&executed)?;
        if executed == GtidSet::parse(of_dump)? {
            return Ok(());
        }
        Err(Error::permanent(format!(
            "gtid_executed is {executed} after the load and not the dump's {of_dump}: something else writes to this server"
        )))
    }

    /// Does `work` with this server; a cancellation of the stage meanwhile ends the statement that runs, which may wait for
    /// a lock.
    ///
    /// # Errors
    /// The work's own; the server's "interrupted" after a cancellation.
    pub fn interruptible<T>(
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

    /// A new login with the configured account.
    ///
    /// # Errors
    /// Permanent: the accounts are the source's now, and the agent's is not among them.
    pub fn prove_login(settings: &config::Mysql) -> Result<()> {
        connect(&Endpoint::local(settings), Duration::from_secs(10)).map(drop).map_err(|e| {
            Error::permanent(format!(
                "the data are loaded, but the accounts are the source's now and mysql.user = \"{}\" cannot log in any more \
                 ({e}); create this account on the source for this host",
                settings.user
            ))
        })
    }

    /// What the source does not have: schemas, and tables in its schemas. With `drop-extra-schemas` both are dropped.
    /// Returns a line for each kind.
    ///
    /// # Errors
    /// If a query fails.
    pub fn extras(&mut self, of_source: &[String]) -> Result<Vec<String>> {
        let own = info::schemas(&mut self.conn, self.server)?;
        let schemas = own.into_keys().filter(|name| !of_source.contains(name));
        let schemas = schemas.map(|s| (format!("DROP DATABASE {}", quote_name(&s)), s));
        let tables = info::tables_older_than(&mut self.conn, &self.began, of_source)?;
        let tables = tables.into_iter().map(|(s, t)| {
            (
                format!("DROP TABLE {}.{}", quote_name(&s), quote_name(&t)),
                format!("{s}.{t}"),
            )
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
                for (statement, _) in &extras {
                    control::execute(&mut self.conn, statement)?;
                }
                done = "dropped";
            }
            let names: Vec<&str> = extras.iter().map(|(_, name)| name.as_str()).collect();
            log::warn!(
                "{kind} that the source does not have were {done}: {}",
                names.join(", ")
            );
            lines.push(format!(
                "{} {kind} that the source does not have were {done}: {}",
                names.len(),
                names[..names.len().min(20)].join(" ")
            ));
        }
        Ok(lines)
    }

    /// Restores the recorded settings. After a load that did not go through, events are disabled first, or the
    /// scheduler would run the source's events here.
    ///
    /// # Errors
    /// If the server refuses; the settings stay in the record and are tried again.
    pub fn restore_settings(&mut self, seed: &Seed) -> Result<()> {
        if seed.pending_restore.is_empty() {
            return Ok(());
        }
        // A client that holds a lock must not hold up the end of a stage; it is tried again later.
        control::execute(&mut self.conn, "SET SESSION lock_wait_timeout = 3")?;
        control::binlog_off(&mut self.conn)?;
        if seed.load == Load::Incomplete && self.settings.disable_events_on_target {
            control::disable_events(&mut self.conn, self.server)?;
        }
        control::restore(&mut self.conn, &seed.pending_restore)
    }

    /// The same, given up after eight seconds if the server does not answer; it is tried again later. After a
    /// `whole` load the source's accounts come into force as the last thing: with them MySQL takes the privileges of
    /// this session.
    ///
    /// # Errors
    /// If the server refuses or does not answer.
    pub fn restore_settings_soon(mut self, seed: &Seed, whole: bool) -> Result<()> {
        let seed = seed.clone();
        let (tx, done) = bounded(1);
        let body = move || {
            let result = self.restore_settings(&seed).and_then(|()| match whole {
                true => control::execute(&mut self.conn, "FLUSH PRIVILEGES"),
                false => Ok(()),
            });
            let _ = tx.send(result); // nobody waits any more: fine
        };
        spawn("restore-settings", body)?;
        done.recv_timeout(Duration::from_secs(8))
            .unwrap_or_else(|_| Err(Error::transient("MySQL does not answer")))
    }
}

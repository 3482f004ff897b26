//! What a load changes in the running server of a target, and how that is restored on every path.

use super::definitions::kept::Kept;
use super::definitions::prepare;
use crate::contents::foreign_keys;
use crate::contents::target_server::TargetServer;
use crate::coordinates::Coordinates;
use crate::coordinates::gtid::GtidSet;
use crate::error::{Error, Result};
use crate::methods::state::LogicalState;
use crate::mysql::profile::Purpose;
use crate::mysql::{
    Endpoint, Flavour, Restore, connect, control, info, query, quote_name, quote_text, settings,
};
use crate::seed::record::{Load, Seed};
use crate::seed::stage::Context;
use crate::sys::thread::spawn;
use crossbeam_channel::{RecvTimeoutError, bounded, select};
use std::collections::BTreeSet;
use std::time::Duration;

impl TargetServer {
    /// As [`prepare::prepare`] and [`foreign_keys::drop_replaced`], to be called after [`TargetServer::begin`].
    pub(super) fn prepare_for(&mut self, kept: &Kept) -> Result<()> {
        prepare::prepare(&mut self.conn, self.server, kept)?;
        foreign_keys::drop_replaced(&mut self.conn, self.server, &kept.equal)
    }

    /// As [`prepare::make_read_only`], the last of a load.
    pub(super) fn make_read_only(&mut self, kept: &Kept) -> Result<()> {
        prepare::make_read_only(&mut self.conn, kept)
    }

    /// Puts the accounts in force that have been loaded.
    pub(crate) fn flush_privileges(&mut self) -> Result<()> {
        control::execute(&mut self.conn, "FLUSH PRIVILEGES")
    }

    /// Table and column of all base tables in schema `mysql`.
    pub(crate) fn columns_of_server(&mut self) -> Result<BTreeSet<(String, String)>> {
        let rows: Vec<(String, String)> = query::rows(
            &mut self.conn,
            "SELECT c.TABLE_NAME, c.COLUMN_NAME FROM information_schema.COLUMNS c JOIN information_schema.TABLES t \
             USING (TABLE_SCHEMA, TABLE_NAME) WHERE c.TABLE_SCHEMA = 'mysql' AND t.TABLE_TYPE = 'BASE TABLE'",
        )?;
        Ok(rows.into_iter().collect())
    }

    /// Prepares the server for a load. The record holds what must be restored before any setting is changed, and
    /// "load incomplete" before the first statement that touches data. May be called again after a failed load.
    ///
    /// # Errors
    /// If the server refuses, or the record cannot be written.
    pub(crate) fn begin(&mut self, ctx: &Context) -> Result<()> {
        self.check_prepared()?;
        let of_source = ctx.state::<LogicalState>()?.source_variables;
        settings::apply(&mut self.conn, self.server, Purpose::Load, &of_source)?;
        // A session as the tools' is tried before anything is changed.
        settings::session_init(&Endpoint::local(&self.settings), Purpose::Load, &of_source)?;
        let mut present = control::to_restore(&mut self.conn, &of_source)?;
        if self.settings.load_without_redo_log && control::has_redo_log(&mut self.conn)? {
            present.push(Restore::RedoLog);
        }
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
    ///
    /// # Errors
    /// If the server refuses, or its executed GTID set is not the dump's.
    pub(crate) fn complete(&mut self, ctx: &Context, coordinates: &Coordinates) -> Result<String> {
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
            Flavour::MySql => self.verify_gtid_set(&coordinates.gtid_executed)?,
        }
        control::enable_redo_log(&mut self.conn, &ctx.seed()?.pending_restore)?;
        // What the relaxed setting has left to the kernel goes to the disk before the stage is completed.
        control::execute(&mut self.conn, "FLUSH ENGINE LOGS")?;
        ctx.cancel().check()?;
        Ok(notes)
    }

    /// Gives a MySQL server the GTID set of a dump that does not set it itself, before [`TargetServer::complete`].
    pub(crate) fn adopt_gtid_set(&mut self, set: &str) -> Result<()> {
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
    pub(crate) fn interruptible<T>(
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
    pub(crate) fn extras(&mut self, of_source: &[String]) -> Result<Vec<String>> {
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

    /// Restores the recorded settings. After a load that has failed, events are disabled first, or the
    /// scheduler would run the source's events here.
    ///
    /// # Errors
    /// If the server refuses; the settings stay in the record and are tried again.
    pub(crate) fn restore_settings(&mut self, seed: &Seed) -> Result<()> {
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
    ///
    /// # Errors
    /// If the server refuses or does not answer.
    pub(crate) fn restore_settings_soon(mut self, seed: &Seed, is_complete: bool) -> Result<()> {
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

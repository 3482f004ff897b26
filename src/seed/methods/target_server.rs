//! What every logical load does to the running server of a target (DESIGN 4a): its part is checked, it is made ready, and
//! everything is put back on every path.

use crate::config;
use crate::error::{Error, Result};
use crate::mysql::{Endpoint, Flavour, Server, connect, control, info, quote_name, quote_text};
use crate::seed::context::Context;
use crate::seed::coordinates::Coordinates;
use crate::seed::record::{Load, Seed};
use crossbeam_channel::{bounded, select};
use mysql::Conn;
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
}

impl TargetServer {
    /// Connects to the local server.
    ///
    /// # Errors
    /// If it cannot be reached or refuses the account.
    pub fn open(settings: &config::Mysql) -> Result<Self> {
        let endpoint = Endpoint::local(settings);
        // A server that hangs is found out soon, before the patience that statements get.
        drop(connect(&endpoint, Duration::from_secs(10))?);
        let mut conn = connect(&endpoint, STATEMENT_TIMEOUT)?;
        // A load takes hours, during which this connection is idle.
        control::execute(&mut conn, "SET SESSION wait_timeout = 2147483")?;
        let server = Server::ask(&mut conn)?;
        Ok(Self {
            conn,
            server,
            settings: settings.clone(),
        })
    }

    /// Refuses a server whose data must not be replaced (P1): one that replicates, has replicas, or belongs to a cluster.
    ///
    /// # Errors
    /// Permanent, with the part it plays.
    pub fn check_role(&mut self) -> Result<()> {
        let role = info::role(&mut self.conn, self.server)?;
        let word = self.server.replica();
        if let Some(cluster) = role.cluster {
            return Err(Error::permanent(format!(
                "this server is a {cluster}: it cannot be a target"
            )));
        }
        if let Some((source, true)) = role.source {
            return Err(Error::permanent(format!(
                "this server replicates from {source}: STOP {word} and RESET {word} ALL before it is made a target"
            )));
        }
        if !role.replicas.is_empty() {
            return Err(Error::permanent(format!(
                "this server has replicas or other readers of its binary log ({}): move them away before it is made a target",
                role.replicas.join(", ")
            )));
        }
        Ok(())
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

    /// Its datadir, server_id and version, for checks.
    ///
    /// # Errors
    /// If a query fails.
    pub fn facts(&mut self) -> Result<(String, String)> {
        let datadir = info::global(&mut self.conn, "datadir")?.unwrap_or_default();
        Ok((
            datadir,
            info::global(&mut self.conn, "server_id")?.unwrap_or_default(),
        ))
    }

    /// Makes the server ready to be loaded. Before the first statement that changes it, the record says "load
    /// incomplete" and which settings must be put back. May be called again after a failed load.
    ///
    /// # Errors
    /// If the server refuses, or the record cannot be written.
    pub fn begin(&mut self, ctx: &Context) -> Result<()> {
        control::binlog_off(&mut self.conn)?;
        let present = control::to_put_back(&mut self.conn)?;
        ctx.update(|seed| {
            seed.load = Load::Incomplete;
            for (name, value) in present {
                // What an interrupted load owes is the true value; what is set now is the load's.
                seed.put_back.entry(name).or_insert(value);
            }
        })?;
        control::relax(&mut self.conn, &ctx.seed()?.put_back)?;
        control::execute(&mut self.conn, self.server.reset_binlog())
    }

    /// What follows a load that went through: events off, accounts in force, GTID state set, and a login as proof. Settings
    /// are put back by [`TargetServer::put_back`].
    ///
    /// # Errors
    /// If the server refuses, or the agent's account does not exist among the source's accounts.
    pub fn complete(&mut self, coordinates: &Coordinates) -> Result<String> {
        let mut notes = String::new();
        if self.settings.disable_events_on_target {
            let n = control::disable_events(&mut self.conn, self.server)?;
            notes = format!("{n} events disabled");
        }
        control::execute(&mut self.conn, "FLUSH PRIVILEGES")?;
        if self.server.flavour == Flavour::MariaDb {
            // In this order: errors 1947 and 1948 otherwise. A loaded mysql.gtid_slave_pos is on disk only.
            control::execute(&mut self.conn, self.server.reset_binlog())?;
            let position = coordinates.gtid_slave_pos.as_deref().unwrap_or("");
            control::execute(
                &mut self.conn,
                &format!("SET GLOBAL gtid_slave_pos = {}", quote_text(position)),
            )?;
        }
        Ok(notes)
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
                    recv(finished) -> _ => {}
                    recv(cancel.signal()) -> _ => {
                        let end = connect(&endpoint, Duration::from_secs(5))
                            .and_then(|mut c| control::execute(&mut c, &format!("KILL QUERY {id}")));
                        if let Err(e) = end {
                            log::warn!("cannot end our statement on the target: {e}");
                        }
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
    pub fn prove_login(&self) -> Result<()> {
        connect(&Endpoint::local(&self.settings), Duration::from_secs(10)).map(drop).map_err(|e| {
            Error::permanent(format!(
                "the data are loaded, but the accounts are the source's now and mysql.user = \"{}\" cannot log in any more \
                 ({e}); create this account on the source for this host",
                self.settings.user
            ))
        })
    }

    /// Schemas of this server that the source does not have. With `drop-extra-schemas` they are dropped.
    ///
    /// # Errors
    /// If a query fails.
    pub fn extra_schemas(&mut self, of_source: &[String]) -> Result<Vec<String>> {
        let own = info::schemas(&mut self.conn, self.server)?;
        let extra: Vec<String> = own
            .into_keys()
            .filter(|name| !of_source.contains(name))
            .collect();
        if self.settings.drop_extra_schemas {
            for name in &extra {
                control::execute(
                    &mut self.conn,
                    &format!("DROP DATABASE {}", quote_name(name)),
                )?;
                log::warn!(
                    "schema {name} dropped: the source does not have it (drop-extra-schemas)"
                );
            }
        } else if !extra.is_empty() {
            log::warn!(
                "schemas that the source does not have stay on this server: {}",
                extra.join(", ")
            );
        }
        Ok(extra)
    }

    /// Puts the recorded settings back. After a load that did not go through, events are disabled first, or the
    /// scheduler would run the source's events here.
    ///
    /// # Errors
    /// If the server refuses; the settings stay in the record and are tried again.
    pub fn put_back(&mut self, seed: &Seed) -> Result<()> {
        if seed.put_back.is_empty() {
            return Ok(());
        }
        control::binlog_off(&mut self.conn)?;
        if seed.load == Load::Incomplete && self.settings.disable_events_on_target {
            control::disable_events(&mut self.conn, self.server)?;
        }
        control::put_back(&mut self.conn, &seed.put_back)
    }

    /// Ends connections of the agent's account on this server by their ids.
    ///
    /// # Errors
    /// If the process list cannot be read.
    pub fn kill(&mut self, ids: &[u64]) -> Result<usize> {
        control::kill_connections(&mut self.conn, &self.settings.user, &[], ids)
    }
}

/// Calls `look`, which returns how many connections of ours are left on a server, until there are none, at most five
/// seconds: a server needs a moment to let go.
pub fn until_none(mut look: impl FnMut() -> Result<usize>) {
    for _ in 0..50 {
        match look() {
            Ok(0) => return,
            Ok(_) => std::thread::sleep(Duration::from_millis(100)),
            Err(e) => {
                log::warn!("cannot end our connections on the server: {e}");
                return;
            }
        }
    }
    log::error!("connections of ours still run on the server");
}

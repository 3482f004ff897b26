//! What is changed in the target's running server: the plugin and the variables of a CLONE, a CLONE in place with what keeps the source's
//! events and channels disabled, and what follows it: MySQL restarts with the copy, or is started, and is prepared for its replication.

use super::ClonePlugin;
use super::checks::{self, Donor};
use super::run::{self, End, Outcome, Wanted};
use crate::coordinates::Coordinates;
use crate::datadir::{self, DatadirInfo, Host};
use crate::error::{Error, Result};
use crate::methods::logical::target_server::TargetServer;
use crate::methods::state::{CloneMode, PhysicalState};
use crate::methods::swap_in::{self, KEPT, STATEMENT};
use crate::mysql::{Endpoint, Restore, Server, clone, connect, control, info};
use crate::process::Cancel;
use crate::seed::record::{Load, Seed};
use crate::seed::stage::Context;
use mysql::Conn;
use std::time::{Duration, Instant};

/// Deadline of queries while MySQL restarts, and of what restores its settings.
const QUERY: Duration = Duration::from_secs(5);
/// How often it is polled then.
const PAUSE: Duration = Duration::from_millis(300);
/// ER_ACCESS_DENIED_ERROR
const ACCESS_DENIED: u16 = 1045;

/// event_scheduler, unless it is DISABLED, which only a restart changes.
fn scheduler(conn: &mut Conn) -> Result<Option<String>> {
    let value = info::global(conn, "event_scheduler")?;
    Ok(value.filter(|v| !v.eq_ignore_ascii_case("DISABLED")))
}

/// For the record: the settings that keep statements out of the server.
fn read_only(conn: &mut Conn) -> Result<Vec<Restore>> {
    let mut out = Vec::new();
    for name in KEPT {
        out.extend(info::global(conn, name)?.map(|value| run::global(name, value)));
    }
    Ok(out)
}

/// `super_read_only` and `read_only` off; the record has their values.
fn writable(conn: &mut Conn) -> Result<()> {
    for name in KEPT.into_iter().rev() {
        if info::is_on(conn, name)? {
            control::execute(conn, &format!("SET GLOBAL {name} = OFF"))?;
        }
    }
    Ok(())
}

/// Adds to what must be restored. What is there already stays.
fn add_pending(ctx: &Context, present: Vec<Restore>) -> Result<()> {
    ctx.update(|s| s.pending_restore.extend(present))
}

/// Persists what keeps the source's events and channels from starting; it takes effect from the next start on.
fn persist(conn: &mut Conn, guard: &[(&str, &str)]) -> Result<()> {
    if !guard.is_empty() && !info::is_on(conn, "persisted_globals_load")? {
        return Err(Error::permanent(
            "persisted_globals_load = OFF: MySQL would run the source's events and channels when it restarts with the copy; remove \
             the setting, or set event_scheduler = OFF and skip_replica_start = ON in its my.cnf",
        ));
    }
    for (name, value) in guard {
        let (what, privilege) = if *name == "event_scheduler" {
            ("events", "SYSTEM_VARIABLES_ADMIN")
        } else {
            ("replication channels", "PERSIST_RO_VARIABLES_ADMIN")
        };
        control::persist(conn, name, Some(value)).map_err(|e| {
            e.context(format!(
                "the source's {what} would start when MySQL restarts with the copy: set {name} = {value} in this server's my.cnf, or \
                 grant {privilege} to mysql.user on both servers"
            ))
        })?;
    }
    Ok(())
}

impl ClonePlugin {
    /// What keeps the source's events and channels from starting: the server restarts on the copy of a CLONE in place before an agent can
    /// log in. These variables are persisted, which a CLONE does not change (MySQL 9.7). What that changes, and what a restart forgets, is
    /// added to `present`, for the record.
    fn guard(
        &self,
        conn: &mut Conn,
        donor: &Donor,
        present: &mut Vec<Restore>,
    ) -> Result<Vec<(&'static str, &'static str)>> {
        let mut guard = Vec::new();
        let skip = Server::ask(conn)?.skip_replica_start();
        if donor.replicates && !info::is_on(conn, skip)? {
            guard.push((skip, "ON"));
        }
        present.extend(read_only(conn)?);
        if let Some(value) = scheduler(conn)? {
            let name = "event_scheduler";
            if self.config.mysql.disable_events_on_target {
                guard.push((name, "OFF"));
            }
            present.push(run::global(name, value));
        }
        for (name, _) in &guard {
            present.push(control::persisted(conn, name)?);
        }
        Ok(guard)
    }

    /// Records what must be restored, then sets what a CLONE needs; with the donor of one in place also what that needs.
    pub(super) fn set_variables(
        &self,
        ctx: &Context,
        wanted: &Wanted,
        in_place: Option<&Donor>,
    ) -> Result<()> {
        let mut conn = connect(&Endpoint::local(&self.config.mysql), STATEMENT)?;
        control::binlog_off(&mut conn)?;
        let mut present = run::to_restore(&mut conn, wanted)?;
        let mut guard = Vec::new();
        if let Some(donor) = in_place {
            guard = self.guard(&mut conn, donor, &mut present)?;
        }
        add_pending(ctx, present)?;
        ctx.cancel().check()?;
        run::set(&mut conn, wanted)?;
        if in_place.is_some() {
            persist(&mut conn, &guard)?;
            // CLONE cannot delete the old data otherwise (1290).
            writable(&mut conn)?;
        }
        Ok(())
    }

    /// Installs the plugin where it is missing, also in a server that is read only (1290).
    pub(super) fn install(&self, ctx: &Context) -> Result<()> {
        let mut conn = connect(&Endpoint::local(&self.config.mysql), STATEMENT)?;
        if checks::is_active(&mut conn)? {
            return Ok(());
        }
        control::binlog_off(&mut conn)?;
        add_pending(ctx, read_only(&mut conn)?)?;
        let installed = writable(&mut conn).and_then(|()| checks::install(&mut conn));
        self.restore_now(ctx)?;
        installed
    }

    /// Restores what is pending, now.
    pub(super) fn restore_now(&self, ctx: &Context) -> Result<()> {
        let seed = ctx.seed()?;
        self.restore_pending(&seed)?;
        ctx.update(|s| s.pending_restore.clear())
    }

    /// Ends a CLONE that still runs, disables the events and channels of a copy in place, and restores the settings. May be repeated.
    pub(super) fn restore_pending(&self, seed: &Seed) -> Result<()> {
        if seed.pending_restore.is_empty() {
            return Ok(());
        }
        let mut conn = connect(&Endpoint::local(&self.config.mysql), QUERY)?;
        if let Some(connection) = seed.pending_restore.running_clone() {
            clone::end(&mut conn, connection)?;
        }
        let mode = seed.method_state::<PhysicalState>()?.cloning;
        let in_place = mode.is_some_and(|m| m != CloneMode::Staged);
        if in_place && seed.load == Load::Partial {
            if checks::is_active(&mut conn)? && clone::status(&mut conn)?.state == "In Progress" {
                return Err(Error::transient("MySQL is about to restart with the copy"));
            }
            self.disable_replication(&mut conn)?;
        }
        TargetServer::open(&self.config.mysql)?.restore_settings(seed)
    }

    /// Removes the source's channels and disables its events, which the guard has kept from starting.
    fn disable_replication(&self, conn: &mut Conn) -> Result<usize> {
        let server = Server::ask(conn)?;
        control::binlog_off(conn)?;
        writable(conn)?;
        control::execute(conn, &format!("STOP {}", server.replica()))?;
        control::execute(conn, &format!("RESET {} ALL", server.replica()))?;
        if self.config.mysql.disable_events_on_target {
            control::disable_events(conn, server)
        } else {
            Ok(0)
        }
    }

    /// Backup by a CLONE in place.
    pub(super) fn in_place(
        &self,
        ctx: &Context,
        seed: &Seed,
        donor: &Donor,
        wanted: &Wanted,
    ) -> Result<String> {
        let set = self.set_variables(ctx, wanted, Some(donor));
        let Outcome { end, began } = match set.and_then(|()| donor.is_unchanged()) {
            Ok(()) => self.replace(ctx, donor)?,
            Err(e) => Outcome::not_begun(e),
        };
        if !began {
            let was = seed.load;
            ctx.update_state(|seed, s: &mut PhysicalState| (s.cloning, seed.load) = (None, was))?;
        }
        let (mode, text) = match end {
            Ok(End::Done) => (CloneMode::InPlace, "restarts"),
            Ok(End::Down) => (CloneMode::InPlaceDown, "is down and is to be started"),
            Err(e) => {
                if let Err(e) = self.restore_now(ctx) {
                    log::error!("settings of MySQL are not restored yet: {e}");
                }
                return Err(if began {
                    e.noted("CLONE had deleted the old data of this server before")
                        .lasting()
                } else {
                    e
                });
            }
        };
        let noted = ctx.update_state(|_, s: &mut PhysicalState| s.cloning = Some(mode));
        if let Err(e) = noted.and_then(|()| ctx.cancel().check()) {
            if mode == CloneMode::InPlaceDown {
                self.start_if_down(ctx);
            }
            return Err(e);
        }
        Ok(format!(
            "Backup completed: cloned from {}. MySQL {text} with the copy",
            donor.at.name()
        ))
    }

    /// The CLONE itself, which replaces the data of the running server.
    fn replace(&self, ctx: &Context, donor: &Donor) -> Result<Outcome> {
        ctx.report("Running backup. Two copies do not fit: CLONE deletes the old data first");
        ctx.update_state(|seed, s: &mut PhysicalState| {
            s.cloning = Some(CloneMode::InPlace);
            seed.begin_replacing();
        })?;
        let on = Endpoint::local(&self.config.mysql);
        let mut outcome = self.run(ctx, &on, &donor.at, None);
        if outcome.end.is_ok()
            && let Err(e) = donor.is_unchanged()
        {
            log::error!(
                "seed {}: the source may be another server than before: {e}",
                ctx.seed_id()
            );
            outcome.end = Err(e);
        }
        Ok(outcome)
    }

    /// An abort came when CLONE was complete and MySQL had shut down: it is started, with the guard on.
    fn start_if_down(&self, ctx: &Context) {
        let host = Host::at_start(&self.config);
        let place = ctx.seed().and_then(|s| swap_in::staged(&s));
        let started =
            place.and_then(|(info, _)| datadir::start_and_wait(&host, &info, &Cancel::default()));
        if let Err(e) = started {
            log::error!("{e}");
        }
    }

    /// Restore after a CLONE in place. May be called again after an error.
    pub(super) fn restarted(
        &self,
        ctx: &Context,
        datadir: &DatadirInfo,
        is_down: bool,
    ) -> Result<String> {
        ctx.report("Running restore. Waiting for MySQL to start");
        let (mut conn, coordinates) = self.wait(ctx, datadir, is_down)?;
        ctx.cancel().check()?;
        ctx.report("Running restore. Setting GTID state");
        ctx.update(|s| s.coordinates = Some(coordinates.clone()))?;
        add_pending(ctx, read_only(&mut conn)?)?; // unless it is recorded already
        let events = self.disable_replication(&mut conn)?;
        swap_in::set_gtid_state(&mut conn, datadir.server, &coordinates)?;
        ctx.cancel().check()?;
        self.restore_now(ctx)?;
        ctx.update(|s| s.load = Load::Complete)?;
        Ok(format!(
            "Stage completed. MySQL was cloned in place, {events} events disabled"
        ))
    }

    /// Waits until MySQL runs on the copy, as long as `clone_plugin.restart-timeout`. One that no supervisor restarts is started as soon
    /// as it has ended; that may take as long as `mysql.boot-timeout`.
    fn wait(
        &self,
        ctx: &Context,
        datadir: &DatadirInfo,
        mut is_down: bool,
    ) -> Result<(Conn, Coordinates)> {
        let limit = self.config.clone_plugin.restart_timeout;
        let begin = Instant::now();
        loop {
            let last = match self.probe_copy() {
                Ok(Some(found)) => return Ok(found),
                Ok(None) => "it has not finished the CLONE".to_string(),
                Err(e) if e.is_permanent() => return Err(e),
                Err(e) => e.to_string(),
            };
            if is_down && !datadir::is_in_use(datadir)? {
                let host = Host::of_stage(&self.config, ctx);
                if let Some(e) = datadir::start_and_wait(&host, datadir, ctx.cancel())? {
                    return Err(self.login_rejected(&e));
                }
                is_down = false;
            }
            if !limit.is_zero() && begin.elapsed() > limit {
                return Err(Error::transient(format!(
                    "MySQL was not restarted with the copy within {}s (clone_plugin.restart-timeout): {last}; see its error log, start \
                     it and call restore again",
                    limit.as_secs()
                )));
            }
            if !ctx.cancel().sleep(PAUSE) {
                return Err(Error::cancelled());
            }
        }
    }

    /// A session with a server that runs on the copy, and the copy's coordinates; `None`: not yet.
    fn probe_copy(&self) -> Result<Option<(Conn, Coordinates)>> {
        let endpoint = Endpoint::local(&self.config.mysql);
        let mut conn = match connect(&endpoint, QUERY) {
            Err(e) if e.mysql_code() == Some(ACCESS_DENIED) => {
                return Err(self.login_rejected(&e));
            }
            // Such as 1053, server shutdown in progress.
            Err(e) => return Err(e.passing()),
            Ok(_) => connect(&endpoint, STATEMENT).map_err(Error::passing)?,
        };
        let mut status = clone::status(&mut conn);
        if matches!(&status, Err(e) if e.mysql_code() == Some(clone::NO_SUCH_TABLE)) {
            // The plugin was installed here and not loaded by the my.cnf of this host; the source's list of plugins has come.
            control::binlog_off(&mut conn)?;
            writable(&mut conn)?;
            checks::install(&mut conn)?;
            status = clone::status(&mut conn);
        }
        let status = status.map_err(Error::passing)?;
        match status.state.as_str() {
            "Completed" if status.recovered => {
                let found =
                    Coordinates::of_clone_status(&status.file, status.position, &status.gtid)?;
                Ok(Some((conn, found)))
            }
            "Failed" => Err(Error::permanent(format!(
                "MySQL has restarted and reports that the CLONE failed: {}",
                status.message
            ))),
            _ => Ok(None),
        }
    }

    fn login_rejected(&self, e: &Error) -> Error {
        Error::permanent(format!(
            "MySQL runs on the copy, but the accounts are the source's now and mysql.user = \"{}\" cannot log in any more ({e}); create \
             this account on the source for this host",
            self.config.mysql.user
        ))
    }
}

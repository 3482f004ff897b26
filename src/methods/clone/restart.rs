//! What follows a CLONE in place: MySQL restarts with the copy, or is started, and is made ready for its replication.

use super::target::{add_pending, writable};
use super::{ClonePlugin, checks, settings};
use crate::coordinates;
use crate::coordinates::Coordinates;
use crate::datadir;
use crate::datadir::{DatadirInfo, Host};
use crate::error::{Error, Result};
use crate::methods::swap_in;
use crate::methods::swap_in::STATEMENT;
use crate::mysql::{Endpoint, clone, connect, control};
use crate::process::Cancel;
use crate::seed::record::Load;
use crate::seed::stage::Context;
use mysql::Conn;
use std::time::{Duration, Instant};

/// For questions while MySQL restarts.
const LOOK: Duration = Duration::from_secs(5);
/// ER_ACCESS_DENIED_ERROR
const ACCESS_DENIED: u16 = 1045;
/// ER_NO_SUCH_TABLE
const NO_SUCH_TABLE: u16 = 1146;
/// How often it is asked then.
const PAUSE: Duration = Duration::from_millis(300);

impl ClonePlugin {
    /// Restore after a CLONE in place. May be called again after an error.
    pub(super) fn restarted(
        &self,
        ctx: &Context,
        facts: &DatadirInfo,
        is_down: bool,
    ) -> Result<String> {
        ctx.report("Running restore. Waiting for MySQL to start");
        let (mut conn, coordinates) = self.wait(ctx, facts, is_down)?;
        ctx.cancel().check()?;
        ctx.report("Running restore. Setting GTID state");
        ctx.update(|s| s.coordinates = Some(coordinates.clone()))?;
        add_pending(ctx, settings::read_only(&mut conn)?)?; // unless it is known already
        let events = self.disable_replication(&mut conn)?;
        swap_in::set_gtid_state(&mut conn, facts.server, &coordinates)?;
        ctx.cancel().check()?;
        self.restore_now(ctx)?;
        ctx.update(|s| s.load = Load::Whole)?;
        Ok(format!(
            "Stage completed. MySQL was cloned in place, {events} events disabled"
        ))
    }

    /// Waits until MySQL runs on the copy, as long as `clone_plugin.restart-timeout`. One that nobody restarts is started as soon as
    /// it has gone; that may take as long as `mysql.boot-timeout`.
    fn wait(
        &self,
        ctx: &Context,
        facts: &DatadirInfo,
        mut is_down: bool,
    ) -> Result<(Conn, Coordinates)> {
        let limit = self.config.clone_plugin.restart_timeout;
        let begin = Instant::now();
        loop {
            let last = match self.look_after_restart() {
                Ok(Some(found)) => return Ok(found),
                Ok(None) => "it has not finished the CLONE".to_string(),
                Err(e) if e.is_permanent() => return Err(e),
                Err(e) => e.to_string(),
            };
            if is_down && !datadir::stopped::is_in_use(facts)? {
                let host = Host::of_stage(&self.config, ctx);
                if let Some(e) = datadir::start_and_wait(&host, facts, ctx.cancel())? {
                    return Err(self.refused(&e));
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

    /// A session with a server that runs on the copy, and where that stands; `None`: not yet.
    fn look_after_restart(&self) -> Result<Option<(Conn, Coordinates)>> {
        let endpoint = Endpoint::local(&self.config.mysql);
        let mut conn = match connect(&endpoint, LOOK) {
            Err(e) if e.mysql_code() == Some(ACCESS_DENIED) => return Err(self.refused(&e)),
            // Such as 1053, server shutdown in progress.
            Err(e) => return Err(e.passing()),
            Ok(_) => connect(&endpoint, STATEMENT).map_err(Error::passing)?,
        };
        let mut asked = clone::status(&mut conn);
        if matches!(&asked, Err(e) if e.mysql_code() == Some(NO_SUCH_TABLE)) {
            // The plugin was installed here and not loaded by the my.cnf of this host; the source's list of plugins has come.
            control::binlog_off(&mut conn)?;
            writable(&mut conn)?;
            checks::install(&mut conn)?;
            asked = clone::status(&mut conn);
        }
        let status = asked.map_err(Error::passing)?;
        match status.state.as_str() {
            "Completed" if status.recovered => {
                let found = coordinates::clone::parse(&status.file, status.position, &status.gtid)?;
                Ok(Some((conn, found)))
            }
            "Failed" => Err(Error::permanent(format!(
                "MySQL has restarted and says that the CLONE failed: {}",
                status.message
            ))),
            _ => Ok(None),
        }
    }

    fn refused(&self, e: &Error) -> Error {
        Error::permanent(format!(
            "MySQL runs on the copy, but the accounts are the source's now and mysql.user = \"{}\" cannot log in any more ({e}); create \
             this account on the source for this host",
            self.config.mysql.user
        ))
    }

    /// An abort came when CLONE was through and MySQL had shut down: it is started, with the guards on.
    pub(super) fn not_left_down(&self, is_down: bool, ctx: &Context) {
        let Ok((facts, _)) = ctx.seed().and_then(|s| swap_in::staged(&s)) else {
            return;
        };
        let host = Host::at_start(&self.config);
        if is_down && let Err(e) = datadir::start_and_wait(&host, &facts, &Cancel::default()) {
            log::error!("{e}");
        }
    }
}

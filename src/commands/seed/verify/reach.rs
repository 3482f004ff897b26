//! Bringing the target's applier to the point of the source's snapshot, and restoring it.
//!
//! What the applier was like is recorded by the target's agent before anything is changed (`hold-applier`), and restored by it
//! (`release-applier`): also when this program is killed or its host is lost, once it has not called for `LeaseSeconds`.

use super::run::Run;
use super::snapshot::{self, BEGIN, applier};
use crate::commands::seed::sql::Db;
use crate::coordinates::gtid::{GtidSet, MariaDbGtidList};
use crate::error::{Error, Result, shortened};
use crate::mysql::Flavour;
use crate::mysql::applier::Point;
use crate::protocol::wire::HeldApplier;
use crossbeam_channel::{RecvTimeoutError, bounded};
use std::time::{Duration, Instant};

/// Between two calls that extend the lease.
const RENEWAL: Duration = Duration::from_secs(4);
/// Between two polls of the applier.
const POLL: Duration = Duration::from_millis(100);
/// A replica that is no more behind than this, in seconds, need not be waited for before its applier is stopped.
const NEAR: u64 = 5;
/// How long the applier may take to reach the point in any case.
const SHORTEST: Duration = Duration::from_secs(60);
/// How long the agent may take to answer to `release-applier`.
const RELEASE: Duration = Duration::from_secs(30);

/// Both servers' sessions show the same point.
pub(super) struct Reached {
    pub(super) point: Point,
    /// The longest time that writers of the source were blocked.
    pub(super) locked: Duration,
    /// How long the target's applier did not apply as usual.
    pub(super) stopped: Duration,
}

impl Run<'_> {
    /// Opens both snapshots at one point. The applier is as before when it returns.
    pub(super) fn reach(&mut self) -> Result<Reached> {
        // STOP and START REPLICA are no statements for a transaction.
        self.source.run("ROLLBACK")?;
        self.target.run("ROLLBACK")?;
        let id = self.options.seed_id;
        let path = format!("hold-applier/{id}");
        // They may have stopped replication, which would be the agent's answer.
        if let Some(own) = own_of_mariadb(&mut self.target)? {
            return Err(Error::permanent(own));
        }
        let what = "the target's agent cannot prepare its applier";
        let held: HeldApplier = self.agent.json(&path).map_err(|e| e.context(what))?;
        let (done, finished) = bounded::<()>(0);
        let agent = self.agent;
        let reached = std::thread::scope(|scope| {
            scope.spawn(move || {
                while finished.recv_timeout(RENEWAL) == Err(RecvTimeoutError::Timeout) {
                    // A lease that has ended is found out by the applier's state.
                    let _ = agent.call(&path);
                }
            });
            let reached = self
                .wait_until_near(held.delay)
                .and_then(|()| self.go_to_point(held.delay));
            drop(done);
            reached
        });
        // A statement without an answer may still be at work, a STOP for example that waits for a long transaction: the agent
        // restores the applier after it.
        if reached.is_err() && self.target.value("SELECT 1").is_err() {
            self.events.warn(&format!(
                "the target does not answer; its agent restores its applier within about {} s by itself",
                held.lease_seconds
            ));
        } else {
            self.release(held.lease_seconds);
        }
        reached
    }

    /// Called whatever has happened before.
    fn release(&self, lease: u64) {
        let begin = Instant::now();
        let path = format!("release-applier/{}", self.options.seed_id);
        loop {
            match self.agent.call(&path) {
                Ok(_) => return,
                Err(e) if e.is_transient() && begin.elapsed() < RELEASE => {
                    std::thread::sleep(Duration::from_millis(500));
                }
                Err(e) => {
                    return self.events.warn(&format!(
                        "{e}; the target's agent restores its applier within about {lease} s by itself"
                    ));
                }
            }
        }
    }

    /// The source's snapshot should not wait for a replica that is far behind.
    fn wait_until_near(&mut self, delay: u64) -> Result<()> {
        let begin = Instant::now();
        while delay == 0 && begin.elapsed() < self.options.verify_max_time {
            let now = applier(&mut self.target)?;
            if !now.sql || now.lag.is_some_and(|s| s <= NEAR) {
                break;
            }
            self.cancel.pause(Duration::from_secs(1))?;
        }
        Ok(())
    }

    fn go_to_point(&mut self, delay: u64) -> Result<Reached> {
        let server = self.target.server;
        let maria = server.flavour == Flavour::MariaDb;
        let by_gtid = if maria {
            applier(&mut self.target)?.by_gtid
        } else {
            let mode = |s: &mut Db| s.value("SELECT @@GLOBAL.gtid_mode");
            mode(&mut self.source)? == "ON" && mode(&mut self.target)? == "ON"
        };
        if self.options.connect_to.is_some() && !by_gtid {
            return Err(Error::permanent(
                "with --connect-to the point of the target is known only by GTIDs",
            ));
        }
        if !maria && !by_gtid {
            snapshot::wait_for_long_statements(&mut self.source, self.cancel)?;
        }
        let begin = Instant::now();
        let both = maria && (by_gtid || delay > 0);
        self.target.run(&server.stop_applier(both))?;
        if delay > 0 {
            self.target.run(&server.set_delay(0))?;
        }
        self.cancel.check()?;
        let snapshot = snapshot::take(&mut self.source, by_gtid, self.cancel)
            .map_err(|e| e.context("snapshot of the source"))?;
        let point = snapshot.point;
        if both && !by_gtid {
            self.target.run(&server.start_receiver(""))?;
        }
        self.target.run(&server.start_until(&point))?;
        let limit = self.options.verify_max_time.max(SHORTEST);
        self.wait_for_end(&point, Instant::now() + limit)?;
        self.target.run(BEGIN)?;
        // After the snapshot, so that nothing that it shows can be missing here.
        if applier(&mut self.target)?.sql {
            return Err(Error::transient(
                "the applier was started by another session meanwhile",
            ));
        }
        self.equals(&point)?;
        Ok(Reached {
            point,
            locked: snapshot.locked,
            stopped: begin.elapsed(),
        })
    }

    fn wait_for_end(&mut self, point: &Point, limit: Instant) -> Result<()> {
        loop {
            let now = applier(&mut self.target)?;
            if now.error.0 != 0 {
                return Err(Error::permanent(format!(
                    "the target's applier has stopped: Last_SQL_Error {}: {}",
                    now.error.0,
                    shortened(&now.error.1)
                )));
            }
            if !now.sql {
                return Ok(());
            }
            if !now.has_end() {
                // It was running, so START had no effect.
                return Err(Error::transient(
                    "the applier was started by another session meanwhile",
                ));
            }
            let (file, position) = now.applied;
            if Point::Position(file, position) == *point {
                // Nothing has been written since, so it would wait for the next event.
                self.target.run(&self.target.server.stop_applier(false))?;
                continue;
            }
            if !now.io && now.io_error.0 != 0 {
                return Err(Error::permanent(format!(
                    "the target does not read from its source any more: Last_IO_Error {}: {}",
                    now.io_error.0,
                    shortened(&now.io_error.1)
                )));
            }
            if Instant::now() >= limit {
                return Err(Error::permanent(format!(
                    "the target did not reach {point} in time; raise --verify-max-time"
                )));
            }
            self.cancel.pause(POLL)?;
        }
    }

    /// That what the target has executed is what the snapshot shows: no less and no more.
    fn equals(&mut self, point: &Point) -> Result<()> {
        let target = &mut self.target;
        if let Some(own) = own_of_mariadb(target)? {
            return Err(Error::permanent(own));
        }
        let (equal, at) = match (point, target.server.flavour) {
            (Point::Gtid(wanted), Flavour::MySql) => {
                let (have, wanted) = (target.gtid_executed()?, GtidSet::parse(wanted)?);
                let own = have.minus(&wanted);
                if !own.is_empty() && wanted.minus(&have).is_empty() {
                    return Err(Error::permanent(own_text(&own.to_string())));
                }
                (have == wanted, Point::Gtid(have.to_string()))
            }
            (Point::Gtid(wanted), Flavour::MariaDb) => {
                let have = target.value("SELECT @@GLOBAL.gtid_slave_pos")?;
                let wanted = MariaDbGtidList::parse(wanted)?;
                (MariaDbGtidList::parse(&have)? == wanted, Point::Gtid(have))
            }
            (Point::Position(..), _) => {
                let (file, position) = applier(target)?.applied;
                let have = Point::Position(file, position);
                (have == *point, have)
            }
        };
        if equal {
            return Ok(());
        }
        Err(Error::permanent(format!(
            "the target is at {}, and the snapshot of the source at {}",
            shortened(&at.to_string()),
            shortened(&point.to_string())
        )))
    }
}

fn own_text(own: &str) -> String {
    let own = shortened(own);
    format!(
        "the target has errant transactions ({own}): something writes to it; set read_only there"
    )
}

/// `None` for MySQL.
fn own_of_mariadb(target: &mut Db) -> Result<Option<String>> {
    if target.server.flavour == Flavour::MySql {
        return Ok(None);
    }
    let own = target.own_in_binlog()?;
    Ok((!own.is_empty()).then(|| own_text(&own)))
}

/// What the target has executed by itself, as far as GTIDs show it.
pub(super) fn own(source: &mut Db, target: &mut Db, point: &Point) -> Result<Option<String>> {
    if target.server.flavour == Flavour::MySql && matches!(point, Point::Gtid(_)) {
        let own = target.gtid_executed()?.minus(&source.gtid_executed()?);
        return Ok((!own.is_empty()).then(|| own_text(&own.to_string())));
    }
    own_of_mariadb(target)
}

//! Seeds. Parameters are checked in the order of the Go agent, whose messages are kept.

use super::{Api, reply};
use crate::error::{Error, Result};
use crate::http::Response;
use crate::protocol::wire::{ActiveSeed, HeldApplier, Metadata, Progress, StageState};
use crate::seed::applier::LEASE;
use crate::seed::engine::Started;
use crate::seed::record::{Load, Peer, Seed, StageRecord};
use crate::seed::{Method, Side, Stage, Status};
use crate::sys::Inserted;
use crate::sys::host::{is_host, rfc3339};
use std::time::{Duration, SystemTime};

/// A seed number.
pub(super) fn number(text: &str) -> Result<i64> {
    integer(text, "the seed id is a whole number")
}

/// Errors are those of Go's parser, which orchestrator's users know.
fn integer(text: &str, rule: &str) -> Result<i64> {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    text.parse::<i64>().map_err(|e| {
        let cause = match e.kind() {
            PosOverflow | NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        Error::permanent(format!(
            "strconv.ParseInt: parsing {text:?}: {cause}; {rule}"
        ))
    })
}

fn port(text: &str) -> Result<u16> {
    let rule = "the MySQL port is a number from 1 to 65535";
    let n = integer(text, rule)?;
    u16::try_from(n)
        .ok()
        .filter(|p| *p > 0)
        .ok_or_else(|| Error::permanent(format!("port {n}: {rule}")))
}

/// `found` by `name` among `all` values of `what`; the error is worded as the Go agent's.
fn known<T: ToString>(found: Option<T>, name: &str, what: &str, all: &[T]) -> Result<T> {
    found.ok_or_else(|| {
        let names: Vec<String> = all.iter().map(T::to_string).collect();
        let names = names.join(", ");
        Error::permanent(format!(
            "Seed {what} undefinded: {name:?} is not one of {names}"
        ))
    })
}

fn side(name: &str) -> Result<Side> {
    known(Side::parse(name), name, "side", Side::ALL)
}

fn stage(name: &str) -> Result<Stage> {
    known(Stage::parse(name), name, "stage", Stage::ALL)
}

impl Api {
    /// The method by its name, if it is available on this host or is that of seed `id`, which is in
    /// progress: what is wrong with it is then the stage's error.
    fn usable_method(&self, id: i64, name: &str) -> Result<Method> {
        let method = known(Method::parse(name), name, "method", Method::ALL)?;
        if self.engine.method_of(id) == Some(method) {
            return Ok(method);
        }
        let why = match self.monitor.method(method) {
            Some(Ok(())) => return Ok(method),
            Some(Err(why)) => why,
            // Not probed yet: the agent has just started, and MySQL hangs.
            None if self.engine.offers(method) => return Ok(method),
            None => format!(
                "{method} is not enabled; set enabled = true in its section of the configuration"
            ),
        };
        Err(Error::permanent(format!(
            "Seed method unavailiable on agent: {why}"
        )))
    }

    pub(super) fn prepare(&self, id: &str, method: &str, of_side: &str) -> Result<Response> {
        let id = number(id)?;
        let method = self.usable_method(id, method)?;
        let how = self.engine.prepare(id, method, side(of_side)?)?;
        Ok(started(Stage::Prepare, how))
    }

    pub(super) fn backup(
        &self,
        id: &str,
        method: &str,
        host: &str,
        mysql_port: &str,
    ) -> Result<Response> {
        let id = number(id)?;
        self.engine.expect_current(id, "start backup stage")?;
        let mysql_port = port(mysql_port)?;
        let method = self.usable_method(id, method)?;
        if !is_host(host) {
            return Err(Error::permanent(format!(
                "{host:?} is no host name or address"
            )));
        }
        let host = host.to_string();
        let how = self.engine.backup(id, method, Peer { host, mysql_port })?;
        Ok(started(Stage::Backup, how))
    }

    pub(super) fn restore(&self, id: &str, method: &str) -> Result<Response> {
        let id = number(id)?;
        self.engine.expect_current(id, "start restore stage")?;
        let how = self.engine.restore(id, self.usable_method(id, method)?)?;
        Ok(started(Stage::Restore, how))
    }

    pub(super) fn cleanup(&self, id: &str, method: &str, of_side: &str) -> Result<Response> {
        let id = number(id)?;
        self.engine.expect_current(id, "start cleanup stage")?;
        let method = self.usable_method(id, method)?;
        let how = self.engine.cleanup(id, method, side(of_side)?)?;
        Ok(started(Stage::Cleanup, how))
    }

    pub(super) fn metadata(&self, id: &str, method: &str) -> Result<Response> {
        let id = number(id)?;
        self.engine.expect_current(id, "get metadata for seed")?;
        let c = self.engine.metadata(id, self.usable_method(id, method)?)?;
        Ok(reply::json(&Metadata {
            log_file: c.log_file,
            log_pos: c.log_pos,
            gtid_executed: Some(c.gtid_executed),
            gtid_slave_pos: c.gtid_slave_pos,
        }))
    }

    pub(super) fn stage_state(&self, id: &str, stage_name: &str) -> Result<Response> {
        let (id, stage) = (number(id)?, stage(stage_name)?);
        let (seed, record, work) = self.engine.stage_state(id, stage)?;
        let (bytes, total) = work.as_ref().map_or((record.bytes, 0), |w| w.get());
        let mut state = self.state_of(id, stage, &record);
        if let Some(work) = work.filter(|_| record.status == Status::Running) {
            state.timestamp = rfc3339(work.timestamp());
        }
        state.progress = Some(Progress { bytes, total }).filter(|_| bytes + total > 0);
        if stage == Stage::Backup {
            state.source_lock_milliseconds = seed.source_lock_ms;
        }
        if seed.side == Side::Target {
            state.target_data = Some(seed.load);
            state.incomplete_since = seed.left_by.filter(|_| seed.load == Load::Partial);
        }
        Ok(reply::json(&state))
    }

    fn state_of(&self, seed_id: i64, stage: Stage, record: &StageRecord) -> StageState {
        let changed = SystemTime::UNIX_EPOCH + Duration::from_nanos(record.changed);
        StageState {
            seed_id,
            stage,
            hostname: self.hostname.clone(),
            timestamp: rfc3339(changed),
            status: record.status,
            details: record.details.clone(),
            progress: None,
            target_data: None,
            source_lock_milliseconds: None,
            incomplete_since: None,
        }
    }

    pub(super) fn abort(&self, id: &str, stage_name: &str) -> Result<Response> {
        let id = number(id)?;
        self.engine.expect_known(id)?;
        stage(stage_name)?;
        self.engine.abort(id)?;
        Ok(reply::text(200, "killed"))
    }

    pub(super) fn active_seed(&self) -> Response {
        let current = self.engine.current();
        let none = current.is_none();
        // As the Go agent answers before the first seed.
        let seed = current.unwrap_or_else(|| Seed::new(0, Method::ClonePlugin, Side::Target));
        let stages = seed.stages.iter();
        let stages = stages.map(|(s, record)| (s.number(), self.state_of(seed.id, *s, record)));
        reply::json(&ActiveSeed {
            seed_id: seed.id,
            seed_status: seed.overall(),
            method: seed.method,
            side: seed.side,
            stage: seed.stage,
            stages_details: (!none).then(|| stages.inserted()),
        })
    }

    /// Of `seed --verify`, which stops the applier of this host's replica for a while: records what the applier is like, or extends
    /// the lease. To be called again within `LeaseSeconds`.
    pub(super) fn hold_applier(&self, id: &str) -> Result<Response> {
        let id = number(id)?;
        self.engine.expect_current(id, "hold the applier")?;
        let current = self.engine.current().filter(|s| s.id == id);
        if !current.is_some_and(|s| {
            s.side == Side::Target && s.status(Stage::Restore) == Some(Status::Completed)
        }) {
            return Err(Error::permanent(format!(
                "seed {id} has not restored this server: its applier is not held"
            )));
        }
        Ok(reply::json(&HeldApplier {
            delay: self.applier.hold(id)?.delay,
            lease_seconds: LEASE.as_secs(),
        }))
    }

    pub(super) fn release_applier(&self, id: &str) -> Result<Response> {
        let current = self.engine.current().map(|s| s.id);
        self.applier.release(number(id)?, current)?;
        Ok(reply::json(&true))
    }
}

/// 202 for both: a repeated start call is not an error, and starts nothing.
fn started(stage: Stage, how: Started) -> Response {
    match how {
        Started::Now => reply::text(202, "Started"),
        Started::Already => reply::text(202, &format!("{stage} stage already started for seed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fail_in_gos_words() {
        assert!(
            number("abc")
                .unwrap_err()
                .to_string()
                .starts_with("strconv.ParseInt: parsing \"abc\": invalid syntax")
        );
        assert!(
            number("9223372036854775808")
                .unwrap_err()
                .to_string()
                .contains("value out of range")
        );
        assert_eq!(number("42").unwrap(), 42);
        assert!(port("0").is_err() && port("65536").is_err() && port("3306").unwrap() == 3306);
    }

    #[test]
    fn unknown_words_keep_the_misspelling() {
        assert!(
            side("target")
                .unwrap_err()
                .to_string()
                .starts_with("Seed side undefinded")
        );
        assert!(
            stage("Restart")
                .unwrap_err()
                .to_string()
                .starts_with("Seed stage undefinded")
        );
    }
}

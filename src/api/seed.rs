//! Seeds. Parameters are checked in the order of the Go agent, whose messages are kept.

use super::{Api, reply};
use crate::error::{Error, Result};
use crate::http::Response;
use crate::protocol::wire::{ActiveSeed, Metadata, Progress, StageState};
use crate::seed::engine::Started;
use crate::seed::record::{Peer, Seed};
use crate::seed::{Method, Side, Stage};
use crate::sys::host::rfc3339;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

/// A seed number.
///
/// # Errors
/// With the message of Go's parser, which orchestrator's users know.
pub(super) fn number(text: &str) -> Result<i64> {
    integer(text, "the seed id is a whole number")
}

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

fn names<T: std::fmt::Display>(all: &[T]) -> String {
    all.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}

fn side(name: &str) -> Result<Side> {
    Side::parse(name).ok_or_else(|| {
        Error::permanent(format!(
            "Seed side undefinded: {name:?} is not one of {}",
            names(Side::ALL)
        ))
    })
}

fn stage(name: &str) -> Result<Stage> {
    Stage::parse(name).ok_or_else(|| {
        Error::permanent(format!(
            "Seed stage undefinded: {name:?} is not one of {}",
            names(Stage::ALL)
        ))
    })
}

impl Api {
    /// The method by its name, if it is available on this host or is that of seed `id`, which is in
    /// progress: what is wrong with it is then the stage's error.
    fn usable_method(&self, id: i64, name: &str) -> Result<Method> {
        let method = Method::parse(name).ok_or_else(|| {
            Error::permanent(format!(
                "Seed method undefinded: {name:?} is not one of {}",
                names(Method::ALL)
            ))
        })?;
        if self.engine.method_of(id) == Some(method) {
            return Ok(method);
        }
        match self.monitor.method(method) {
            Some(Ok(())) => Ok(method),
            Some(Err(why)) => Err(Error::permanent(format!(
                "Seed method unavailiable on agent: {why}"
            ))),
            // Not probed yet: the agent has just started, and MySQL hangs.
            None if self.engine.offers(method) => Ok(method),
            None => Err(Error::permanent(format!(
                "Seed method unavailiable on agent: {method} is not enabled; set enabled = true in its section of the configuration"
            ))),
        }
    }

    pub(super) fn prepare(&self, id: &str, method: &str, of_side: &str) -> Result<Response> {
        let id = number(id)?;
        let method = self.usable_method(id, method)?;
        Ok(started(
            Stage::Prepare,
            self.engine.prepare(id, method, side(of_side)?)?,
        ))
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
        if host.is_empty()
            || host.starts_with('-')
            || !host
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || ".-_:".contains(c))
        {
            return Err(Error::permanent(format!(
                "{host:?} is no host name or address"
            )));
        }
        Ok(started(
            Stage::Backup,
            self.engine.backup(
                id,
                method,
                Peer {
                    host: host.to_string(),
                    mysql_port,
                },
            )?,
        ))
    }

    pub(super) fn restore(&self, id: &str, method: &str) -> Result<Response> {
        let id = number(id)?;
        self.engine.expect_current(id, "start restore stage")?;
        Ok(started(
            Stage::Restore,
            self.engine.restore(id, self.usable_method(id, method)?)?,
        ))
    }

    pub(super) fn cleanup(&self, id: &str, method: &str, of_side: &str) -> Result<Response> {
        let id = number(id)?;
        self.engine.expect_current(id, "start cleanup stage")?;
        let method = self.usable_method(id, method)?;
        Ok(started(
            Stage::Cleanup,
            self.engine.cleanup(id, method, side(of_side)?)?,
        ))
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
        let view = self.engine.stage_state(id, stage)?;
        Ok(reply::json(&StageState {
            seed_id: id,
            stage,
            hostname: self.hostname.clone(),
            timestamp: rfc3339(view.timestamp),
            status: view.status,
            details: view.details,
            progress: Some(Progress {
                bytes: view.bytes.0,
                total: view.bytes.1,
            })
            .filter(|b| b.bytes + b.total > 0),
            target_data: view.target_data,
            source_lock_milliseconds: view.source_lock_ms,
            incomplete_since: view.incomplete_since,
        }))
    }

    pub(super) fn abort(&self, id: &str, stage_name: &str) -> Result<Response> {
        let id = number(id)?;
        self.engine.expect_known(id)?;
        stage(stage_name)?;
        self.engine.abort(id)?;
        Ok(reply::text(200, "killed"))
    }

    pub(super) fn active_seed(&self) -> Response {
        let seed = self.engine.current();
        let never = || Seed::new(0, Method::ClonePlugin, Side::Target); // as the Go agent answers before the first seed
        let none = seed.is_none();
        let seed = seed.unwrap_or_else(never);
        let stages = seed.stages.iter().map(|(stage, s)| {
            let state = StageState {
                seed_id: seed.id,
                stage: *stage,
                hostname: self.hostname.clone(),
                timestamp: rfc3339(SystemTime::UNIX_EPOCH + Duration::from_nanos(s.changed)),
                status: s.status,
                details: s.details.clone(),
                progress: None,
                target_data: None,
                source_lock_milliseconds: None,
                incomplete_since: None,
            };
            (stage.number(), state)
        });
        let stages: BTreeMap<_, _> = stages.collect();
        let seed_status = seed.overall();
        reply::json(&ActiveSeed {
            seed_id: seed.id,
            seed_status,
            method: seed.method,
            side: seed.side,
            stage: seed.stage,
            stages_details: if none { None } else { Some(stages) },
        })
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

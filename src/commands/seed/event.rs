//! What a seed reports: everything that happens, once, to a [`Listener`]. These types are also the lines of `seed --json`:
//! contrib/doc/seed-json.md describes every event and field, and a test compares both. No field may carry a secret: texts of
//! agents and servers come here already scrubbed.

use crate::seed::{Method, Side, Stage, Status};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// Where events go: to people ([`super::terminal`]) or to programs ([`super::json`]). It cannot fail: an output that is gone
/// must not end a seed.
pub(crate) trait Listener: Send + Sync {
    fn report(&self, event: &Event);

    fn warn(&self, text: &str) {
        self.report(&Event::Warning { text });
    }
}

/// Seconds are numbers with fractions, sizes are bytes.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event<'a> {
    AgentsAwaited {
        listen: &'a [String],
        limit_seconds: f64,
    },
    AgentRegistered {
        side: Side,
        agent: &'a str,
        again: bool,
    },
    AgentIgnored {
        agent: &'a str,
    },
    Preflight {
        ok: bool,
        text: &'a str,
    },
    Method {
        method: Method,
        usable: bool,
        reasons: &'a [String],
    },
    SeedStarted {
        seed_id: i64,
        method: Method,
        source: &'a str,
        target: &'a str,
    },
    StageStarted {
        stage: Stage,
        side: Side,
    },
    StageProgress(StageProgress<'a>),
    StageCompleted {
        stage: Stage,
        side: Side,
        details: &'a str,
        bytes: u64,
        elapsed_seconds: f64,
    },
    StageFailed {
        stage: Stage,
        side: Side,
        details: &'a str,
        elapsed_seconds: f64,
    },
    ReplicationStopped {
        side: Side,
    },
    Coordinates {
        log_file: &'a str,
        log_pos: u64,
        gtid: Option<&'a str>,
    },
    ReplicationConnected {
        source_host: &'a str,
        source_port: u16,
        how: How,
        gtid: Option<&'a str>,
        log_file: Option<&'a str>,
        log_pos: Option<u64>,
        io_thread: &'a str,
        sql_thread: &'a str,
        lag_seconds: Option<u64>,
    },
    Verification {
        check: Check,
        verdict: Verdict,
        text: &'a str,
    },
    CompareStarted {
        sample: bool,
        max_time_seconds: f64,
    },
    ComparePoint {
        round: u32,
        point: &'a str,
        source_locked_seconds: f64,
        applier_stopped_seconds: f64,
    },
    CompareProgress {
        table: &'a str,
        tables_done: u64,
        tables: u64,
        bytes: u64,
        total: u64,
        elapsed_seconds: f64,
    },
    CompareCompleted {
        verdict: Verified,
        equal: u64,
        differing: &'a [String],
        not_compared: &'a [String],
        left_out: &'a [String],
        reasons: &'a [String],
        text: &'a str,
        elapsed_seconds: f64,
    },
    Hook {
        side: Side,
        text: &'a str,
    },
    Warning {
        text: &'a str,
    },
    Abort {
        stage: Stage,
        reason: End,
        text: &'a str,
    },
    AgentCleared {
        side: Side,
        stage: Stage,
        status: Status,
        details: &'a str,
    },
    /// A first signal was received. For people only: programs get `abort`.
    #[serde(skip)]
    Interrupting,
    Result(&'a Outcome),
}

#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct StageProgress<'a> {
    pub(crate) stage: Stage,
    pub(crate) side: Side,
    pub(crate) details: &'a str,
    pub(crate) bytes: u64,
    /// An estimate, which may be passed.
    pub(crate) total: Option<u64>,
    pub(crate) rate: Option<f64>,
    pub(crate) elapsed_seconds: f64,
    pub(crate) eta_seconds: Option<f64>,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum How {
    Gtid,
    Position,
}

/// A check of the connected target.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Check {
    Source,
    OwnTransactions,
    Events,
    ReadOnly,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    Ok,
    Warning,
    Error,
}

/// The result of `--verify`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verified {
    /// All tables with transactions are equal.
    Equal,
    Differs,
    /// None differs, and at least one could not be compared.
    NotCompared,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum End {
    #[default]
    Completed,
    /// `--dry-run` found nothing that prevents the seed.
    DryRun,
    Failed,
    Interrupted,
    WrongUsage,
    /// Done, but the data differ (`--verify`).
    Differs,
    /// Done, but the data could not be compared (`--verify`).
    NotCompared,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Target {
    #[default]
    Unchanged,
    /// Data unchanged; its replication is stopped.
    ReplicationStopped,
    /// Data unchanged; its replication was removed, at least in part.
    ReplicationGivenUp,
    /// Its data may be incomplete and must not be used.
    Partial,
    /// Data complete; its replication is not connected.
    Loaded,
    Replicating,
    Unknown,
}

/// The last event. Fields are empty or null as far as the seed did not reach them.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Outcome {
    pub(crate) status: End,
    pub(crate) exit_code: u8,
    pub(crate) error: Option<String>,
    pub(crate) target_state: Target,
    pub(crate) target_text: Option<String>,
    pub(crate) seed_id: Option<i64>,
    pub(crate) method: Option<Method>,
    pub(crate) bytes: Option<u64>,
    pub(crate) source_lock_seconds: Option<f64>,
    pub(crate) durations: BTreeMap<Stage, f64>,
    pub(crate) total_seconds: f64,
    /// `None` without `--verify`, or if it was not reached.
    pub(crate) verified: Option<Verified>,
}

impl Outcome {
    /// An end before the first stage.
    pub(crate) fn early(status: End, error: Option<String>) -> Self {
        Self::default().ended(status, Target::Unchanged, error)
    }

    /// The same with this end; the usage text lists the exit codes.
    pub(crate) fn ended(self, status: End, target_state: Target, error: Option<String>) -> Self {
        let exit_code = match status {
            End::Completed | End::DryRun => 0,
            End::Failed if target_state == Target::Unchanged => 1,
            End::WrongUsage => 2,
            End::Failed => 3,
            End::Differs => 4,
            End::NotCompared => 5,
            End::Interrupted => 130,
        };
        Self {
            status,
            exit_code,
            error,
            target_state,
            ..self
        }
    }

    /// True if all stages are done: what `error` then names are the checks after them.
    pub(crate) fn is_complete(&self) -> bool {
        self.target_text.is_none()
            && matches!(self.target_state, Target::Loaded | Target::Replicating)
    }
}

/// `Coordinates: binlog.000002:314, GTID 0-1-22`
pub(crate) fn coordinates(log_file: &str, log_pos: u64, gtid: Option<&str>) -> String {
    let gtid = gtid.map_or(String::new(), |g| format!(", GTID {g}"));
    format!("Coordinates: {log_file}:{log_pos}{gtid}")
}

/// Seconds with milliseconds.
pub(crate) fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::wire::Metadata;

    #[test]
    fn coordinates_in_words() {
        let text = |gtid_slave_pos: Option<&str>, gtid_executed: Option<&str>| {
            let m = Metadata {
                log_file: "b.1".into(),
                log_pos: 4,
                gtid_slave_pos: gtid_slave_pos.map(str::to_string),
                gtid_executed: gtid_executed.map(str::to_string),
            };
            coordinates(&m.log_file, m.log_pos, m.gtid())
        };
        assert_eq!(text(Some("0-1-2"), None), "Coordinates: b.1:4, GTID 0-1-2");
        for none in [None, Some("")] {
            assert_eq!(text(none, None), "Coordinates: b.1:4");
        }
        let set = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5";
        assert_eq!(
            text(Some(""), Some(set)),
            format!("Coordinates: b.1:4, GTID {set}")
        );
    }
}

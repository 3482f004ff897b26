//! What programs see of `seed --json`: one object a line. contrib/doc/seed-json.md describes every event and field, and a
//! test holds both against each other. No field may carry a secret: texts of agents and servers come here already scrubbed.

use crate::seed::{Method, Side, Stage, Status};
use crate::sys::host::rfc3339;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

#[cfg(test)]
mod tests;

/// One line but for its time. Seconds are numbers with fractions, sizes are bytes.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[allow(missing_docs)] // said in contrib/doc/seed-json.md
pub enum Event<'a> {
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
    StageProgress {
        stage: Stage,
        side: Side,
        details: &'a str,
        bytes: u64,
        total: Option<u64>,
        rate: Option<f64>,
        elapsed_seconds: f64,
        eta_seconds: Option<f64>,
    },
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
        reason: Reason,
        text: &'a str,
    },
    AgentCleared {
        side: Side,
        stage: Stage,
        status: Status,
        details: &'a str,
    },
    Result(&'a Outcome),
}

/// By which coordinates the target replicates.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum How {
    Gtid,
    Position,
}

/// What is looked at when replication runs.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Check {
    Source,
    OwnTransactions,
    Events,
    ReadOnly,
}

/// What came of it.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Verdict {
    Ok,
    Warning,
    Error,
}

/// What came of `--verify`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verified {
    /// All tables with transactions are equal.
    Equal,
    /// At least one differs.
    Differs,
    /// None differs, and at least one could not be compared.
    NotCompared,
}

/// Why a seed is given up.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Reason {
    Failed,
    Interrupted,
}

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// All is well.
    Completed,
    /// `--dry-run`: nothing was found that forbids the seed.
    DryRun,
    /// See the error.
    Failed,
    /// By a signal.
    Interrupted,
    /// The command line is wrong.
    WrongUsage,
    /// Done, but the data differ (`--verify`).
    Differs,
    /// Done, but the data could not be compared (`--verify`).
    NotCompared,
}

/// In what state the target is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// As it was.
    Untouched,
    /// Its data as they were; its replication is stopped.
    ReplicationStopped,
    /// Its data as they were; its replication is given up, at least in part.
    ReplicationGivenUp,
    /// Its data may be partial: nobody may use it.
    Partial,
    /// Its data are whole; its replication is not connected.
    Loaded,
    /// Its data are whole and its replication is connected.
    Replicating,
    /// The command left without looking.
    Unknown,
}

/// The last line. Fields are empty or null as far as the seed did not come to them.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs)]
pub struct Outcome {
    pub status: End,
    pub exit_code: u8,
    pub error: Option<String>,
    pub target_state: Target,
    pub target_text: Option<String>,
    pub seed_id: Option<i64>,
    pub method: Option<Method>,
    pub bytes: Option<u64>,
    pub source_lock_seconds: Option<f64>,
    /// Seconds by stage.
    pub durations: BTreeMap<Stage, f64>,
    pub total_seconds: f64,
    /// `None` without `--verify`, or if it did not come to it.
    pub verified: Option<Verified>,
}

impl Outcome {
    /// An end before the first stage.
    pub fn early(status: End, exit_code: u8, error: Option<String>) -> Self {
        Self {
            status,
            exit_code,
            error,
            target_state: Target::Untouched,
            target_text: None,
            seed_id: None,
            method: None,
            bytes: None,
            source_lock_seconds: None,
            durations: BTreeMap::new(),
            total_seconds: 0.0,
            verified: None,
        }
    }
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    #[serde(flatten)]
    event: &'a Event<'a>,
}

/// The line of an event that happens now, without a line end.
///
/// # Errors
/// None that these types can cause.
pub fn line(event: &Event) -> serde_json::Result<String> {
    serde_json::to_string(&Line {
        time: rfc3339(SystemTime::now()),
        event,
    })
}

/// Seconds with milliseconds.
pub fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}

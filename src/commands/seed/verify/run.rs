//! A comparison in progress.

use super::snapshot;
use super::tables::{Name, full};
use crate::commands::seed::event::{Event, Listener, Verified, seconds};
use crate::commands::seed::options::Options;
use crate::commands::seed::plan::Plan;
use crate::commands::seed::sql::Db;
use crate::error::{Error, Result, shortened};
use crate::mysql::applier::Point;
use crate::process::Cancel;
use crate::protocol::agent::AgentClient;
use std::collections::BTreeMap;
use std::time::Instant;

/// How many names a text gives.
const NAMED: usize = 10;

/// How far a table is.
#[derive(Default)]
pub(super) struct Progress {
    /// Estimated bytes.
    pub(super) bytes: u64,
    /// Share of it that is done.
    pub(super) share: f64,
    /// The first key that has not been compared.
    pub(super) next: Option<i128>,
    pub(super) tries: u32,
    /// What differs in its definition, as seen in the last round.
    pub(super) suspect: Option<String>,
}

/// A comparison in progress.
pub(super) struct Run<'a> {
    pub(super) options: &'a Options,
    pub(super) agent: &'a AgentClient,
    pub(super) events: &'a dyn Listener,
    pub(super) cancel: &'a Cancel,
    pub(super) source: Db,
    pub(super) target: Db,
    pub(super) begin: Instant,
    /// When the round has to end.
    pub(super) deadline: Instant,
    /// Of the last round.
    pub(super) point: Option<Point>,
    /// `tables` and `pending` are filled.
    pub(super) chosen: bool,
    /// Tables that are left, in their order.
    pub(super) pending: Vec<Name>,
    pub(super) tables: BTreeMap<Name, Progress>,
    pub(super) results: Results,
    /// When progress was reported last.
    pub(super) shown: Instant,
}

/// Tables by name, and why.
pub(super) type Reasons = BTreeMap<String, String>;

#[derive(Default)]
pub(super) struct Results {
    pub(super) equal: u64,
    pub(super) differing: Reasons,
    /// Tables that should have been compared and were not.
    pub(super) not_compared: Reasons,
    /// Tables that cannot be compared.
    pub(super) left_out: Reasons,
}

impl<'a> Run<'a> {
    pub(super) fn open(
        options: &'a Options,
        plan: &Plan,
        agent: &'a AgentClient,
        events: &'a dyn Listener,
        cancel: &'a Cancel,
    ) -> Result<Self> {
        let now = Instant::now();
        let (source, target) = (&options.source.host, &options.target.host);
        Ok(Self {
            source: snapshot::open("source", source, plan.source_port, options)?,
            target: snapshot::open("target", target, plan.target_port, options)?,
            options,
            agent,
            events,
            cancel,
            begin: now,
            deadline: now,
            point: None,
            chosen: false,
            pending: Vec::new(),
            tables: BTreeMap::new(),
            results: Results::default(),
            shown: now,
        })
    }

    /// Reports every `--poll` how far it is.
    pub(super) fn show(&mut self, name: &Name) {
        if self.shown.elapsed() < self.options.poll {
            return;
        }
        self.shown = Instant::now();
        let tables = self.tables.values();
        let done = tables.clone().map(|t| t.share * t.bytes as f64);
        self.events.report(&Event::CompareProgress {
            table: &full(name),
            tables_done: self.results.done(),
            tables: self.tables.len() as u64,
            bytes: done.sum::<f64>() as u64,
            total: tables.map(|t| t.bytes).sum(),
            elapsed_seconds: seconds(self.begin.elapsed()),
        });
    }
}

impl Results {
    /// How many tables are compared or given up.
    pub(super) fn done(&self) -> u64 {
        self.equal + (self.differing.len() + self.not_compared.len()) as u64
    }

    pub(super) fn verdict(&self, failed: Option<&Error>) -> Verified {
        if !self.differing.is_empty() {
            Verified::Differs
        } else if self.not_compared.is_empty() && failed.is_none() {
            Verified::Equal
        } else {
            Verified::NotCompared
        }
    }

    /// SCHEMA.TABLE and why, for each table that is not equal.
    pub(super) fn reasons(&self) -> Vec<String> {
        let all = [&self.differing, &self.not_compared, &self.left_out];
        all.into_iter()
            .flatten()
            .map(|(name, why)| format!("{name}: {why}"))
            .collect()
    }

    pub(super) fn summary(&self, failed: Option<&Error>) -> String {
        let equal = self.equal;
        let mut parts = vec![match (self.verdict(failed), failed) {
            (Verified::Equal, _) => format!("Verification: the data are equal in {equal} tables"),
            (Verified::Differs, _) => format!(
                "Verification: the data of {} tables DIFFER: {}; equal: {equal} tables; run a new seed",
                self.differing.len(),
                list(&self.differing)
            ),
            (Verified::NotCompared, failed) => {
                let why = failed.map_or(" completely".into(), |e| format!(": {e}"));
                format!("Verification: not compared{why}; equal: {equal} tables")
            }
        }];
        if !self.not_compared.is_empty() && (failed.is_none() || !self.differing.is_empty()) {
            parts.push(format!(
                "not compared: {} tables: {}",
                self.not_compared.len(),
                list(&self.not_compared)
            ));
        }
        if !self.left_out.is_empty() {
            parts.push(format!("left out: {}", list(&self.left_out)));
        }
        parts.join("; ")
    }
}

fn list(tables: &Reasons) -> String {
    let mut names: Vec<String> = tables
        .iter()
        .take(NAMED)
        .map(|(name, why)| format!("{name} ({})", shortened(why)))
        .collect();
    if tables.len() > NAMED {
        names.push(format!("and {} more", tables.len() - NAMED));
    }
    names.join(", ")
}

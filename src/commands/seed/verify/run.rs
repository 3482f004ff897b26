//! A comparison in progress.

use super::session;
use super::tables::{Name, full};
use crate::commands::seed::event::{Event, Listener, Verified, seconds};
use crate::commands::seed::options::Options;
use crate::commands::seed::plan::Plan;
use crate::commands::seed::sql::Db;
use crate::error::{Error, Result};
use crate::process::Cancel;
use crate::protocol::agent::AgentClient;
use crate::protocol::http_client::shortened;
use std::collections::BTreeMap;
use std::time::Instant;

/// How many names a text gives.
const NAMED: usize = 10;

/// How far a table is.
#[derive(Default)]
pub(crate) struct Progress {
    /// The first key that has not been compared.
    pub(crate) next: Option<i128>,
    pub(crate) tries: u32,
    /// What differs in its definition, as seen in the last round.
    pub(crate) suspect: Option<String>,
    /// Share of it that is done.
    pub(crate) share: f64,
}

pub(crate) struct Run<'a> {
    pub(crate) options: &'a Options,
    pub(crate) agent: &'a AgentClient,
    pub(crate) events: &'a dyn Listener,
    pub(crate) cancel: &'a Cancel,
    pub(crate) source: Db,
    pub(crate) target: Db,
    begin: Instant,
    /// Tables that are left, in their order.
    pub(crate) pending: Vec<Name>,
    pub(crate) state: BTreeMap<Name, Progress>,
    /// Estimated bytes of each table.
    pub(crate) sizes: BTreeMap<Name, u64>,
    pub(crate) results: Results,
    /// When progress was reported last.
    shown: Instant,
}

/// Tables by name, and why.
pub(crate) type Reasons = BTreeMap<String, String>;

#[derive(Default)]
pub(crate) struct Results {
    pub(crate) equal: u64,
    pub(crate) differing: Reasons,
    /// Tables that should have been compared and were not.
    pub(crate) not_compared: Reasons,
    /// Tables that cannot be compared.
    pub(crate) left_out: Reasons,
}

impl<'a> Run<'a> {
    pub(crate) fn open(
        options: &'a Options,
        plan: &Plan,
        agent: &'a AgentClient,
        events: &'a dyn Listener,
        cancel: &'a Cancel,
    ) -> Result<Self> {
        let now = Instant::now();
        let (source, target) = (&options.source.host, &options.target.host);
        Ok(Self {
            source: session::open("source", source, plan.source_port, options)?,
            target: session::open("target", target, plan.target_port, options)?,
            options,
            agent,
            events,
            cancel,
            begin: now,
            pending: Vec::new(),
            state: BTreeMap::new(),
            sizes: BTreeMap::new(),
            results: Results::default(),
            shown: now,
        })
    }

    /// Reports every `--poll` how far it is.
    pub(crate) fn show(&mut self, name: &Name) {
        if self.shown.elapsed() < self.options.poll {
            return;
        }
        self.shown = Instant::now();
        let share = |name| self.state.get(name).map_or(0.0, |s| s.share);
        let done = self.sizes.iter().map(|(n, size)| share(n) * *size as f64);
        self.events.report(&Event::CompareProgress {
            table: &full(name),
            tables_done: self.results.done(),
            tables: self.sizes.len() as u64,
            bytes: done.sum::<f64>() as u64,
            total: self.sizes.values().sum(),
            elapsed_seconds: seconds(self.begin.elapsed()),
        });
    }
}

impl Results {
    /// How many tables are compared or given up.
    pub(crate) fn done(&self) -> u64 {
        self.equal + (self.differing.len() + self.not_compared.len()) as u64
    }

    pub(crate) fn verdict(&self, failed: Option<&Error>) -> Verified {
        if !self.differing.is_empty() {
            Verified::Differs
        } else if self.not_compared.is_empty() && failed.is_none() {
            Verified::Equal
        } else {
            Verified::NotCompared
        }
    }

    /// SCHEMA.TABLE and why, for each table that is not equal.
    pub(crate) fn reasons(&self) -> Vec<String> {
        let all = [&self.differing, &self.not_compared, &self.left_out];
        all.into_iter()
            .flatten()
            .map(|(name, why)| format!("{name}: {why}"))
            .collect()
    }

    pub(crate) fn summary(&self, failed: Option<&Error>) -> String {
        let equal = self.equal;
        let mut parts = vec![match (self.verdict(failed), failed) {
            (Verified::Equal, _) => format!("Verification: the data are equal in {equal} tables"),
            (Verified::Differs, _) => format!(
                "Verification: the data of {} tables DIFFER: {}; equal: {equal} tables",
                self.differing.len(),
                list(&self.differing)
            ),
            (Verified::NotCompared, Some(e)) => {
                format!("Verification: not compared: {e}; equal: {equal} tables")
            }
            (Verified::NotCompared, None) => {
                format!("Verification: not compared completely; equal: {equal} tables")
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

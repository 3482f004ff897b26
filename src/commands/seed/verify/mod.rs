//! `--verify`: the data of source and target are compared after the seed, while the source is written to.
//!
//! A round: the target's applier is stopped, a consistent snapshot of the source is taken ([`snapshot`]), the applier runs until
//! exactly that point and stops, and the target's session takes a snapshot as well ([`reach`]). Then the applier is restored:
//! from there on both sessions see the same point for as long as they are open, and checksums of all tables are compared
//! ([`compare`]). After `--verify-max-time` both snapshots are given up, and the tables that are left are compared in another
//! round: a snapshot keeps old row versions in both servers.

mod compare;
mod reach;
mod run;
mod snapshot;
mod tables;

use super::event::{Event, Listener, Verified, seconds};
use super::options::Options;
use super::plan::Plan;
use crate::error::{Error, Result};
use crate::process::Cancel;
use crate::protocol::agent::AgentClient;
use compare::Found;
use run::{Reasons, Results, Run};
use std::collections::BTreeMap;
use std::time::Instant;
use tables::{Name, Table, full};

/// How often a table is tried again that another session changes or locks.
const TRIES: u32 = 5;
/// How often in a row a round may fail without having compared anything.
const FAILED_ROUNDS: u32 = 3;

pub(crate) struct Report {
    pub(crate) verdict: Verified,
    pub(crate) text: String,
}

/// Compares; an error only if it was cancelled. All else that keeps data from being compared is in the report.
pub(crate) fn run(
    options: &Options,
    plan: &Plan,
    agent: &AgentClient,
    events: &dyn Listener,
    cancel: &Cancel,
) -> Result<Report> {
    let begin = Instant::now();
    events.report(&Event::CompareStarted {
        sample: options.sample(),
        max_time_seconds: seconds(options.verify_max_time),
    });
    let (results, failed) = match Run::open(options, plan, agent, events, cancel) {
        Ok(mut run) => {
            let failed = run.rounds().err();
            if let Some(e) = &failed {
                let left = run.pending.iter().map(|name| (full(name), e.to_string()));
                run.results.not_compared.extend(left);
            }
            (run.results, failed)
        }
        Err(e) => (Results::default(), Some(e)),
    };
    if cancel.is_cancelled() {
        return Err(Error::cancelled());
    }
    let verdict = results.verdict(failed.as_ref());
    let text = results.summary(failed.as_ref());
    let names = |tables: &Reasons| -> Vec<String> { tables.keys().cloned().collect() };
    events.report(&Event::CompareCompleted {
        verdict,
        equal: results.equal,
        differing: &names(&results.differing),
        not_compared: &names(&results.not_compared),
        left_out: &names(&results.left_out),
        reasons: &results.reasons(),
        text: &text,
        elapsed_seconds: seconds(begin.elapsed()),
    });
    Ok(Report { verdict, text })
}

impl Run<'_> {
    /// All rounds, until no table is left.
    fn rounds(&mut self) -> Result<()> {
        let (mut round, mut failed) = (0, 0);
        while !self.chosen || !self.pending.is_empty() {
            self.cancel.check()?;
            round += 1;
            match self.round(round) {
                Ok(true) => failed = 0,
                Ok(false) => {}
                Err(e) if e.is_transient() && failed + 1 < FAILED_ROUNDS => {
                    failed += 1;
                    self.events
                        .warn(&format!("Verification: {e}; trying again"));
                    for session in [&mut self.source, &mut self.target] {
                        if session.value("SELECT 1").is_err() {
                            *session = session.another()?;
                            snapshot::prepare(session)?;
                        }
                    }
                }
                Err(e) => return Err(e),
            }
        }
        // A difference that the target's own transactions have made is not one of the copy.
        if !self.results.differing.is_empty()
            && let Some(point) = &self.point
            && let Some(own) = reach::own(&mut self.source, &mut self.target, point)?
        {
            let differing = std::mem::take(&mut self.results.differing);
            self.results.not_compared.extend(differing);
            return Err(Error::permanent(own));
        }
        Ok(())
    }

    /// One round. True if something was compared.
    fn round(&mut self, round: u32) -> Result<bool> {
        let reached = self.reach()?;
        self.events.report(&Event::ComparePoint {
            round,
            point: &reached.point.to_string(),
            source_locked_seconds: seconds(reached.locked),
            applier_stopped_seconds: seconds(reached.stopped),
        });
        self.point = Some(reached.point);
        self.deadline = Instant::now() + self.options.verify_max_time;
        let of_source = tables::all(&mut self.source)?;
        let of_target = tables::all(&mut self.target)?;
        if !self.chosen {
            self.choose(&of_source, &of_target);
        }
        let before = self.results.done();
        let pending = std::mem::take(&mut self.pending);
        let (mut later, mut done, mut failed) = (Vec::new(), 0, None);
        for name in &pending {
            if self.cancel.is_cancelled() || Instant::now() >= self.deadline {
                break;
            }
            match self.compare(name, of_source.get(name), of_target.get(name)) {
                Ok(found) => self.record(name, found, done == 0, &mut later),
                Err(e) => {
                    failed = Some(e);
                    break;
                }
            }
            self.show(name);
            done += 1;
        }
        later.extend_from_slice(&pending[done..]);
        self.pending = later;
        if let Some(e) = failed {
            return Err(e);
        }
        let _ = self.source.run("ROLLBACK");
        let _ = self.target.run("ROLLBACK");
        self.cancel.check()?;
        Ok(before != self.results.done())
    }

    /// What is to be compared.
    fn choose(&mut self, source: &BTreeMap<Name, Table>, target: &BTreeMap<Name, Table>) {
        self.chosen = true;
        for (name, table) in source {
            if table.unfit.is_empty() {
                self.pending.push(name.clone());
                self.tables.entry(name.clone()).or_default().bytes = table.bytes;
            } else {
                self.results
                    .left_out
                    .insert(full(name), table.unfit.clone());
            }
        }
        for name in target.keys().filter(|n| !source.contains_key(n)) {
            if source.keys().any(|n| n.0 == name.0) {
                let why = "the source has no such table";
                self.results.left_out.insert(full(name), why.into());
            }
        }
    }

    /// Records the result of a table. `was_first`: it had all of the round's time.
    fn record(&mut self, name: &Name, found: Found, was_first: bool, later: &mut Vec<Name>) {
        let results = &mut self.results;
        let table = self.tables.entry(name.clone()).or_default();
        match found {
            Found::Equal => results.equal += 1,
            Found::Gone => drop(self.tables.remove(name)),
            Found::Differs(why) => drop(results.differing.insert(full(name), why)),
            Found::NotCompared(why) => drop(results.not_compared.insert(full(name), why)),
            Found::LeftOut(why) => drop(results.left_out.insert(full(name), why)),
            Found::OutOfTime { progress: false } if was_first => {
                let why = "it takes longer than --verify-max-time".to_string();
                results.not_compared.insert(full(name), why);
            }
            Found::OutOfTime { .. } => later.insert(0, name.clone()),
            Found::Later(why) if table.tries + 1 >= TRIES => {
                results.not_compared.insert(full(name), why);
            }
            Found::Later(_) => {
                table.tries += 1;
                later.push(name.clone());
            }
        }
        if !later.contains(name)
            && let Some(table) = self.tables.get_mut(name)
        {
            table.share = 1.0;
        }
    }
}

//! `--verify`: the data of source and target are compared after the seed, while the source is written to.
//!
//! A round: the target's applier is stopped, a consistent snapshot of the source is taken ([`snapshot`]), the applier runs until
//! exactly that point and stops, and the target's session takes a snapshot as well ([`reach`]). Then the applier is restored:
//! from there on both sessions see the same point for as long as they are open, and checksums of all tables are compared
//! ([`compare`]). After `--verify-max-time` both snapshots are given up, and the tables that are left are compared in another
//! round: a snapshot keeps old row versions in both servers.

mod compare;
mod reach;
mod session;
mod snapshot;
mod tables;

use super::event::{Event, Listener, Verified, seconds};
use super::options::Options;
use super::preflight::Plan;
use crate::error::{Error, Result};
use crate::mysql::applier::Point;
use crate::process::Cancel;
use crate::protocol::agent::AgentClient;
use crate::protocol::http_client::shortened;
use session::Session;
use std::collections::BTreeMap;
use std::time::Instant;
use tables::{Name, Table, full};

/// How many names a text gives.
const NAMED: usize = 10;
/// How often a table is tried again that another session changes or locks.
const TRIES: u32 = 5;
/// How often in a row a round may fail without having compared anything.
const FAILED_ROUNDS: u32 = 3;

/// What came of it.
pub struct Report {
    /// In one word.
    pub verdict: Verified,
    /// The line for people.
    pub text: String,
}

/// How far a table is.
#[derive(Default)]
struct Progress {
    /// The first key that has not been compared.
    next: Option<i128>,
    tries: u32,
    /// What differs in its definition, as seen in the last round.
    suspect: Option<String>,
    /// Share of it that is done.
    share: f64,
}

struct Run<'a> {
    options: &'a Options,
    agent: &'a AgentClient,
    events: &'a dyn Listener,
    cancel: &'a Cancel,
    source: Session,
    target: Session,
    begin: Instant,
    /// Tables that are left, in their order.
    pending: Vec<Name>,
    state: BTreeMap<Name, Progress>,
    /// Estimated bytes of each table.
    sizes: BTreeMap<Name, u64>,
    equal: u64,
    differing: BTreeMap<String, String>,
    /// Tables that should have been compared, and why they were not.
    not_compared: BTreeMap<String, String>,
    /// Tables that cannot be compared, and why.
    left_out: BTreeMap<String, String>,
    /// When progress was reported last.
    shown: Instant,
}

/// Compares, and says what came of it.
///
/// # Errors
/// Cancelled. All else that keeps data from being compared is in the report.
pub fn run(
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
    let opened = Run::open(options, plan, agent, events, cancel);
    let (mut run, failed) = match opened {
        Ok(mut run) => {
            let failed = run.rounds().err();
            (Some(run), failed)
        }
        Err(e) => (None, Some(e)),
    };
    if cancel.is_cancelled() {
        return Err(Error::cancelled());
    }
    let none = BTreeMap::new();
    let (equal, differing, not_compared, left_out) = match &mut run {
        Some(r) => {
            if let Some(e) = &failed {
                for name in std::mem::take(&mut r.pending) {
                    r.not_compared.insert(full(&name), e.to_string());
                }
            }
            (r.equal, &r.differing, &r.not_compared, &r.left_out)
        }
        None => (0, &none, &none, &none),
    };
    let verdict = match (
        differing.is_empty(),
        not_compared.is_empty() && failed.is_none(),
    ) {
        (false, _) => Verified::Differs,
        (true, true) => Verified::Equal,
        (true, false) => Verified::NotCompared,
    };
    let names = |map: &BTreeMap<String, String>| -> Vec<String> { map.keys().cloned().collect() };
    let reasons: Vec<String> = [differing, not_compared, left_out]
        .iter()
        .flat_map(|m| m.iter().map(|(name, why)| format!("{name}: {why}")))
        .collect();
    let text = summary(
        verdict,
        equal,
        [differing, not_compared, left_out],
        failed.as_ref(),
    );
    events.report(&Event::CompareCompleted {
        verdict,
        equal,
        differing: &names(differing),
        not_compared: &names(not_compared),
        left_out: &names(left_out),
        reasons: &reasons,
        text: &text,
        elapsed_seconds: seconds(begin.elapsed()),
    });
    Ok(Report { verdict, text })
}

fn summary(
    verdict: Verified,
    equal: u64,
    [differing, not_compared, left_out]: [&BTreeMap<String, String>; 3],
    failed: Option<&Error>,
) -> String {
    let list = |map: &BTreeMap<String, String>| {
        let mut names: Vec<String> = map
            .iter()
            .take(NAMED)
            .map(|(name, why)| format!("{name} ({})", shortened(why)))
            .collect();
        if map.len() > NAMED {
            names.push(format!("and {} more", map.len() - NAMED));
        }
        names.join(", ")
    };
    let mut parts = vec![match verdict {
        Verified::Equal => format!("Verification: the data are equal in {equal} tables"),
        Verified::Differs => format!(
            "Verification: the data of {} tables DIFFER: {}; equal: {equal} tables",
            differing.len(),
            list(differing)
        ),
        Verified::NotCompared => match failed {
            Some(e) => format!("Verification: not compared: {e}; equal: {equal} tables"),
            None => format!("Verification: not compared completely; equal: {equal} tables"),
        },
    }];
    if !not_compared.is_empty() && (failed.is_none() || !differing.is_empty()) {
        parts.push(format!(
            "not compared: {} tables: {}",
            not_compared.len(),
            list(not_compared)
        ));
    }
    if !left_out.is_empty() {
        parts.push(format!("left out: {}", list(left_out)));
    }
    parts.join("; ")
}

impl<'a> Run<'a> {
    fn open(
        options: &'a Options,
        plan: &Plan,
        agent: &'a AgentClient,
        events: &'a dyn Listener,
        cancel: &'a Cancel,
    ) -> Result<Self> {
        let open = |side: &str, host: &str, port: u16| {
            let longest = options.verify_max_time;
            let mut session = Session::open(side, host, port, &options.mysql, longest)?;
            session.prepare()?;
            Ok::<_, Error>(session)
        };
        let now = Instant::now();
        Ok(Self {
            source: open("source", &options.source.host, plan.source_port)?,
            target: open("target", &options.target.host, plan.target_port)?,
            options,
            agent,
            events,
            cancel,
            begin: now,
            pending: Vec::new(),
            state: BTreeMap::new(),
            sizes: BTreeMap::new(),
            equal: 0,
            differing: BTreeMap::new(),
            not_compared: BTreeMap::new(),
            left_out: BTreeMap::new(),
            shown: now,
        })
    }

    /// All rounds.
    fn rounds(&mut self) -> Result<()> {
        let mut failed = 0;
        let mut first = true;
        let mut round = 0;
        let mut point = None;
        while first || !self.pending.is_empty() {
            self.cancel.check()?;
            round += 1;
            match self.round(round, first, &mut point) {
                Ok(progress) => {
                    first = false;
                    failed = if progress { 0 } else { failed };
                }
                Err(e) if e.is_transient() && failed + 1 < FAILED_ROUNDS => {
                    failed += 1;
                    self.events
                        .warn(&format!("Verification: {e}; trying again"));
                    for session in [&mut self.source, &mut self.target] {
                        if session.value("SELECT 1").is_err() {
                            *session = session.another()?;
                            session.prepare()?;
                        }
                    }
                }
                Err(e) => return Err(e),
            }
        }
        // A difference that the target's own transactions have made tells nothing of the copy.
        if !self.differing.is_empty()
            && let Some(point) = point
            && let Some(own) = reach::own(&mut self.source, &mut self.target, &point)?
        {
            let differing = std::mem::take(&mut self.differing);
            self.not_compared.extend(differing);
            return Err(Error::permanent(own));
        }
        Ok(())
    }

    /// One round. True if something was compared.
    fn round(&mut self, round: u32, first: bool, at: &mut Option<Point>) -> Result<bool> {
        let reached = self.reach()?;
        *at = Some(reached.point.clone());
        let place = reached.point.to_string();
        self.events.report(&Event::ComparePoint {
            round,
            point: &place,
            source_locked_seconds: seconds(reached.locked),
            applier_stopped_seconds: seconds(reached.stopped),
        });
        let deadline = Instant::now() + self.options.verify_max_time;
        let of_source = tables::all(&mut self.source)?;
        let of_target = tables::all(&mut self.target)?;
        if first {
            self.choose(&of_source, &of_target);
        }
        let pending = std::mem::take(&mut self.pending);
        let before = (self.equal, self.differing.len(), self.not_compared.len());
        let mut later = Vec::new();
        for (n, name) in pending.iter().enumerate() {
            if self.cancel.is_cancelled() || Instant::now() >= deadline {
                later.extend_from_slice(&pending[n..]);
                break;
            }
            let tables = (of_source.get(name), of_target.get(name));
            let found = match self.compare(name, tables, deadline) {
                Ok(found) => found,
                Err(e) => {
                    later.extend_from_slice(&pending[n..]);
                    self.pending = later;
                    return Err(e);
                }
            };
            self.take(name, found, n == 0, &mut later);
            self.show(name);
        }
        self.pending = later;
        let _ = self.source.run("ROLLBACK");
        let _ = self.target.run("ROLLBACK");
        self.cancel.check()?;
        Ok(before != (self.equal, self.differing.len(), self.not_compared.len()))
    }

    /// What is to be compared.
    fn choose(&mut self, source: &BTreeMap<Name, Table>, target: &BTreeMap<Name, Table>) {
        for (name, table) in source {
            if table.unfit.is_empty() {
                self.pending.push(name.clone());
                self.sizes.insert(name.clone(), table.bytes);
            } else {
                self.left_out.insert(full(name), table.unfit.clone());
            }
        }
        for name in target.keys().filter(|n| !source.contains_key(n)) {
            if source.keys().any(|n| n.0 == name.0) {
                self.left_out
                    .insert(full(name), "the source has no such table".into());
            }
        }
    }

    /// Books what came of a table. `was_first`: it had all of the round's time.
    fn take(&mut self, name: &Name, found: compare::Found, was_first: bool, later: &mut Vec<Name>) {
        use compare::Found;
        let state = self.state.entry(name.clone()).or_default();
        match found {
            Found::Equal => self.equal += 1,
            Found::Gone => drop(self.sizes.remove(name)),
            Found::Differs(why) => drop(self.differing.insert(full(name), why)),
            Found::NotCompared(why) => drop(self.not_compared.insert(full(name), why)),
            Found::LeftOut(why) => drop(self.left_out.insert(full(name), why)),
            Found::OutOfTime { progress } if was_first && !progress => {
                let why = "it takes longer than --verify-max-time".to_string();
                self.not_compared.insert(full(name), why);
            }
            Found::OutOfTime { .. } => later.insert(0, name.clone()),
            Found::Later(why) => {
                state.tries += 1;
                if state.tries >= TRIES {
                    self.not_compared.insert(full(name), why);
                } else {
                    later.push(name.clone());
                }
            }
        }
        if !later.contains(name) {
            self.state.entry(name.clone()).or_default().share = 1.0;
        }
    }

    /// Reports every `--poll` how far it is.
    fn show(&mut self, name: &Name) {
        if self.shown.elapsed() < self.options.poll {
            return;
        }
        self.shown = Instant::now();
        let share = |name| self.state.get(name).map_or(0.0, |s| s.share);
        let done = self.sizes.iter().map(|(n, size)| share(n) * *size as f64);
        self.events.report(&Event::CompareProgress {
            table: &full(name),
            tables_done: self.equal + (self.differing.len() + self.not_compared.len()) as u64,
            tables: self.sizes.len() as u64,
            bytes: done.sum::<f64>() as u64,
            total: self.sizes.values().sum(),
            elapsed_seconds: seconds(self.begin.elapsed()),
        });
    }
}

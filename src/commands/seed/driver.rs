//! The stages of a seed in their order. If one fails, the seed is aborted on both agents, and the state of the target is determined
//! and reported.

use super::event::{End, Event, Listener, Outcome, StageProgress, Target, Verified};
use super::event::{coordinates, seconds};
use super::options::Options;
use super::plan::Plan;
use super::registration::Agents;
use super::sql::Db;
use super::verify::{self, Report};
use crate::error::{Error, Result, shortened};
use crate::process::Cancel;
use crate::protocol::agent::AgentClient;
use crate::protocol::wire::{Metadata, Progress, StageState};
use crate::seed::record::{LeftBy, Load};
use crate::seed::{Method, Side, Stage, Status};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

mod replicate;
#[cfg(test)]
mod tests;

/// How long an agent may not answer: long enough for its restart and a new registration.
const AGENT_SILENCE: Duration = Duration::from_secs(60);
/// How long an agent may take to end a stage that was aborted, and to clean up after it.
const CLEARING: Duration = Duration::from_secs(30);
const RETRY_PAUSE: Duration = Duration::from_secs(2);
/// Over which time the rate of a stage is measured.
const WINDOW: Duration = Duration::from_secs(30);
/// A longer time is not an estimate any more: a thousand hours.
const LONGEST: f64 = 3_600_000.0;

pub(crate) struct Driver<'a> {
    options: &'a Options,
    plan: &'a Plan,
    agents: &'a Agents,
    events: &'a dyn Listener,
    cancel: &'a Cancel,
    stage: Stage,
    /// How far the target has been changed.
    target: Target,
    /// The agents that were called to do something.
    called: Vec<Side>,
    begin: Instant,
    /// Where the end of the stage was not reported yet, and since when it runs.
    open: Vec<(Side, Instant)>,
    /// What is known of it so far.
    outcome: Outcome,
    metadata: Option<Metadata>,
}

/// An agent on which a stage runs.
struct Host<'a> {
    side: Side,
    agent: &'a AgentClient,
    meter: Meter,
    silent_since: Option<Instant>,
}

impl<'a> Driver<'a> {
    /// The complete seed, from the first change on.
    pub(crate) fn run(
        options: &'a Options,
        plan: &'a Plan,
        agents: &'a Agents,
        events: &'a dyn Listener,
        cancel: &'a Cancel,
    ) -> Outcome {
        let mut this = Self {
            options,
            plan,
            agents,
            events,
            cancel,
            stage: Stage::Prepare,
            target: Target::Unchanged,
            called: Vec::new(),
            begin: Instant::now(),
            open: Vec::new(),
            outcome: Outcome {
                seed_id: Some(options.seed_id),
                method: Some(plan.method),
                ..Outcome::default()
            },
            metadata: None,
        };
        this.stages().unwrap_or_else(|e| this.fail(&e))
    }

    fn stages(&mut self) -> Result<Outcome> {
        let (id, method) = (self.options.seed_id, self.plan.method);
        let (source, target) = (&self.options.source.host, &self.options.target.host);
        self.events.report(&Event::SeedStarted {
            seed_id: id,
            method,
            source,
            target,
        });
        self.stop_replication()?;
        self.timed(Stage::Prepare, |this| {
            // The source is first: it has less to lose.
            this.start(Side::Source)?;
            this.start(Side::Target)?;
            this.follow(&[Side::Source, Side::Target])
        })?;
        // The side that copies gets the name of the other one, and always the source's port.
        let (side, peer) = match method.backup_side() {
            Side::Source => (Side::Source, target),
            Side::Target => (Side::Target, source),
        };
        let path = format!("backup/{id}/{method}/{peer}/{}", self.plan.source_port);
        self.run_stage(Stage::Backup, side, &path)?;
        self.remove_replication()?;
        let path = format!("restore/{id}/{method}");
        self.run_stage(Stage::Restore, Side::Target, &path)?;
        self.target = Target::Loaded;
        let failed_checks = self.timed(Stage::ConnectSlave, Self::connect)?;

        // From here on the seed has succeeded: what fails is worth a warning only.
        // Cleanup on both hosts, on each even if it fails on the other: a dump takes much space.
        self.timed(Stage::Cleanup, |this| {
            for side in [Side::Target, Side::Source] {
                if let Err(e) = this.start(side).and_then(|()| this.follow(&[side])) {
                    this.all_over(&e);
                    this.events.warn(&format!("Cleanup: {e}"));
                }
            }
            Ok(())
        })?;
        let report = self.verify(&failed_checks);
        self.run_hooks();
        Ok(self.completed(&failed_checks, report))
    }

    /// Does the work of a stage, and records how long it takes.
    fn timed<T>(&mut self, stage: Stage, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.stage = stage;
        let begin = Instant::now();
        let done = work(self)?;
        let time = seconds(begin.elapsed());
        self.outcome.durations.insert(stage, time);
        Ok(done)
    }

    fn verify(&self, failed_checks: &[String]) -> Option<Result<Report>> {
        self.options.verify?;
        if !failed_checks.is_empty() {
            self.events
                .warn("the data are not compared (--verify): the checks have failed");
            return None;
        }
        Some(verify::run(
            self.options,
            self.plan,
            &self.agents.target,
            self.events,
            self.cancel,
        ))
    }

    /// The operators' hooks on both hosts, which cannot change the outcome.
    fn run_hooks(&self) {
        let path = format!("post-seed-cmd/{}", self.options.seed_id);
        for side in [Side::Target, Side::Source] {
            match self.agent(side).call(&path) {
                Ok(body) => {
                    let answer: serde_json::Value =
                        serde_json::from_slice(body.as_bytes()).unwrap_or_default(); // `true` without a hook
                    if let Some(text) = answer["Message"].as_str() {
                        let text = &shortened(text);
                        self.events.report(&Event::Hook { side, text });
                    }
                }
                Err(e) => self.events.warn(&format!("post-seed-command: {e}")),
            }
        }
    }

    fn completed(&self, failed_checks: &[String], report: Option<Result<Report>>) -> Outcome {
        let (status, error) = match &report {
            _ if !failed_checks.is_empty() => {
                let text = format!(
                    "the target's data were copied and it replicates, but the checks have failed: {}",
                    failed_checks.join("; ")
                );
                (End::Failed, Some(text))
            }
            None => (End::Completed, None),
            Some(Ok(r)) => match r.verdict {
                Verified::Equal => (End::Completed, None),
                Verified::Differs => (End::Differs, Some(r.text.clone())),
                Verified::NotCompared => (End::NotCompared, Some(r.text.clone())),
            },
            Some(Err(e)) => {
                let text = format!("the seed is done, but its verification was interrupted ({e})");
                (End::Interrupted, Some(text))
            }
        };
        let state = if self.options.connect {
            Target::Replicating
        } else {
            Target::Loaded
        };
        Outcome {
            verified: report.and_then(Result::ok).map(|r| r.verdict),
            ..self.ended(status, state, error)
        }
    }

    fn ended(&self, status: End, state: Target, error: Option<String>) -> Outcome {
        Outcome {
            total_seconds: seconds(self.begin.elapsed()),
            ..self.outcome.clone().ended(status, state, error)
        }
    }

    fn open_target(&self) -> Result<Db> {
        let (host, port) = (&self.options.target.host, self.plan.target_port);
        Db::open("target", host, port, &self.options.mysql)
    }

    fn agent(&self, side: Side) -> &'a AgentClient {
        match side {
            Side::Source => &self.agents.source,
            Side::Target => &self.agents.target,
        }
    }

    fn run_stage(&mut self, stage: Stage, side: Side, path: &str) -> Result<()> {
        self.cancel.check()?;
        self.timed(stage, |this| {
            this.started(side);
            this.retry(|| this.agent(side).call(path))?;
            this.follow(&[side])
        })
    }

    /// Starts Prepare or Cleanup.
    fn start(&mut self, side: Side) -> Result<()> {
        self.started(side);
        self.called.push(side);
        let verb = self.stage.as_str().to_lowercase();
        let (id, method) = (self.options.seed_id, self.plan.method);
        let path = format!("{verb}/{id}/{method}/{side}");
        self.retry(|| self.agent(side).call(&path)).map(drop)
    }

    /// Repeats a call while its agent cannot be reached. All calls may be repeated.
    fn retry<T>(&self, call: impl Fn() -> Result<T>) -> Result<T> {
        let begin = Instant::now();
        loop {
            self.cancel.check()?;
            match call() {
                Err(e) if e.is_transient() && begin.elapsed() < AGENT_SILENCE => {
                    self.events.warn(&format!("{e}; trying again"));
                    self.cancel.sleep(RETRY_PAUSE);
                }
                other => return other,
            }
        }
    }

    /// Polls until the stage is over on all of `sides`.
    fn follow(&mut self, sides: &[Side]) -> Result<()> {
        let host = |side: &Side| Host {
            side: *side,
            agent: self.agent(*side),
            meter: Meter::new(),
            silent_since: None,
        };
        let mut hosts: Vec<Host> = sides.iter().map(host).collect();
        loop {
            for mut host in std::mem::take(&mut hosts) {
                self.cancel.check()?;
                if !self.poll(&mut host)? {
                    hosts.push(host);
                }
            }
            if hosts.is_empty() {
                return Ok(());
            }
            self.cancel.sleep(self.options.poll);
        }
    }

    /// True if the stage is over.
    fn poll(&mut self, host: &mut Host) -> Result<bool> {
        let state = match host.agent.stage_state(self.options.seed_id, self.stage) {
            Ok(state) => state,
            Err(e) if e.is_transient() => {
                let limit = AGENT_SILENCE.as_secs();
                let since = *host.silent_since.get_or_insert_with(|| {
                    self.events
                        .warn(&format!("{e}; trying again for {limit} s"));
                    Instant::now()
                });
                if since.elapsed() >= AGENT_SILENCE {
                    return Err(e.context(format!("no answer for {limit} s")));
                }
                return Ok(false);
            }
            Err(e) => return Err(e),
        };
        host.silent_since = None;
        match state.status {
            Status::Running => self.report_progress(host, &state),
            Status::Completed => {
                host.meter.add(state.progress.unwrap_or_default());
                let (known, most) = (&mut self.outcome, host.meter.most);
                known.bytes = known.bytes.max(Some(most).filter(|n| *n > 0));
                let lock = state.source_lock_milliseconds.map(|n| n as f64 / 1000.0);
                if lock > known.source_lock_seconds {
                    known.source_lock_seconds = lock;
                }
                self.over(host.side, &state.details, Some(most));
            }
            Status::Error => {
                self.over(host.side, &state.details, None);
                return Err(Error::permanent(shortened(&state.details)).context(host.agent.name()));
            }
        }
        Ok(state.status != Status::Running)
    }

    fn report_progress(&self, host: &mut Host, state: &StageState) {
        let done = state.progress.unwrap_or_default();
        let elapsed = host.meter.add(done);
        let rate = host.meter.rate();
        self.events.report(&Event::StageProgress(StageProgress {
            stage: self.stage,
            side: host.side,
            details: &shortened(&state.details),
            bytes: done.bytes,
            total: (done.total > 0).then_some(done.total),
            rate: rate.map(f64::round),
            elapsed_seconds: seconds(elapsed),
            eta_seconds: rate.and_then(|r| eta(done, r)).map(seconds),
        }));
    }

    fn started(&mut self, side: Side) {
        let stage = self.stage;
        self.events.report(&Event::StageStarted { stage, side });
        self.open.push((side, Instant::now()));
    }

    /// Reports the end of the stage: its bytes, or that it has failed.
    fn over(&mut self, side: Side, details: &str, bytes: Option<u64>) {
        let Some(at) = self.open.iter().position(|o| o.0 == side) else {
            return;
        };
        let elapsed_seconds = seconds(self.open.remove(at).1.elapsed());
        let (stage, details) = (self.stage, &shortened(details));
        self.events.report(&match bytes {
            Some(bytes) => Event::StageCompleted {
                stage,
                side,
                details,
                bytes,
                elapsed_seconds,
            },
            None => Event::StageFailed {
                stage,
                side,
                details,
                elapsed_seconds,
            },
        });
    }

    /// Reports that the stage has failed wherever it is in progress.
    fn all_over(&mut self, e: &Error) {
        for (side, _) in self.open.clone() {
            self.over(side, &e.to_string(), None);
        }
    }
}

/// A seed that has failed.
impl Driver<'_> {
    fn fail(&mut self, e: &Error) -> Outcome {
        let (status, how) = if e.is_cancelled() {
            (End::Interrupted, "interrupted".into())
        } else {
            (End::Failed, format!("failed: {e}"))
        };
        let stage = self.stage;
        let text = format!("{stage} {how}");
        self.all_over(e);
        self.events.report(&Event::Abort {
            stage,
            reason: status,
            text: &text,
        });
        for side in [Side::Target, Side::Source] {
            if self.called.contains(&side) {
                self.clear(side);
            }
        }
        let (state, target_text) = self.target_state(e);
        Outcome {
            target_text: Some(target_text),
            ..self.ended(status, state, Some(text))
        }
    }

    /// Aborts the stage on an agent, which then deletes its files of this seed.
    fn clear(&self, side: Side) {
        let (id, method) = (self.options.seed_id, self.plan.method);
        let agent = self.agent(side);
        // ConnectSlave is not a stage of an agent, and nothing runs there then.
        if self.stage != Stage::ConnectSlave {
            if let Err(e) = agent.call(&format!("abort-seed-stage/{id}/{}", self.stage)) {
                self.events.warn(&format!("abort: {e}"));
                return;
            }
            self.report_cleared(side, self.stage);
        }
        match agent.call(&format!("cleanup/{id}/{method}/{side}")) {
            Ok(_) => self.report_cleared(side, Stage::Cleanup),
            Err(e) => self.events.warn(&format!("cleanup: {e}")),
        }
    }

    /// Reports the state of a stage when it no longer runs; nothing if it was never begun, or does not end in time.
    fn report_cleared(&self, side: Side, stage: Stage) {
        let begin = Instant::now();
        while begin.elapsed() < CLEARING {
            match self.agent(side).stage_state(self.options.seed_id, stage) {
                Ok(s) if s.status != Status::Running => {
                    return self.events.report(&Event::AgentCleared {
                        side,
                        stage,
                        status: s.status,
                        details: &shortened(&s.details),
                    });
                }
                Err(e) if e.is_permanent() => return,
                _ => std::thread::sleep(Duration::from_millis(200)),
            }
        }
    }

    fn target_state(&self, e: &Error) -> (Target, String) {
        let mut state = self.target;
        let physical = self.plan.method.backup_to_datadir() && self.called.contains(&Side::Target);
        if physical && matches!(state, Target::Unchanged | Target::ReplicationStopped) {
            // Then only its agent knows how far it has been changed.
            let stage = match self.stage {
                Stage::Restore => Stage::Restore,
                _ => Stage::Prepare, // the only other one that the target has
            };
            match self.agents.target.stage_state(self.options.seed_id, stage) {
                Err(e) => return (Target::Unknown, format!("{UNKNOWN} ({e})")),
                Ok(now) => match now.target_data {
                    None => return (Target::Unknown, UNKNOWN.into()),
                    Some(Load::Unchanged) => {}
                    Some(Load::Complete) => state = Target::Loaded,
                    Some(Load::Partial) => {
                        return (Target::Partial, self.incomplete(now.incomplete_since, e));
                    }
                },
            }
        }
        let text = match state {
            Target::Unchanged if physical => "the target's data are as they were before the seed".into(),
            Target::Unchanged => "nothing on the target was changed".into(),
            Target::ReplicationStopped => match self.start_again() {
                Ok(()) => {
                    state = Target::Unchanged;
                    "the target's data are unchanged; its replication is as it was".into()
                }
                Err(e) => format!(
                    "the target's data are unchanged; its replication is stopped: start it again by hand ({e})"
                ),
            },
            Target::ReplicationGivenUp => {
                "the target's data are unchanged, but its replication was removed, at least in part: connect it again by hand, \
                 or seed the target"
                    .into()
            }
            Target::Partial => format!(
                "the target's data may be partial (see the error above) and its replication is not connected: do not use it; {}",
                advice(e)
            ),
            _ => {
                let at = self.metadata.as_ref().map_or(String::new(), |m| {
                    format!(". {}", coordinates(&m.log_file, m.log_pos, m.gtid()))
                });
                format!("the target's data are complete, but its replication is not connected{at}")
            }
        };
        (state, text)
    }

    /// What is left by this seed's physical method, or by the earlier seed `since`.
    fn incomplete(&self, since: Option<LeftBy>, e: &Error) -> String {
        let advice = advice(e);
        let Some(left) = since else {
            let server = match self.plan.method {
                Method::ClonePlugin => "its server may run, without schemas of its own",
                _ => "its server is kept from starting",
            };
            return format!(
                "the target's old data are gone and the new ones are not complete: {server}; {advice}"
            );
        };
        let state = match left.method {
            Method::Mysqldump | Method::Mydumper if !left.data_deleted => {
                "partial (its server may run)"
            }
            Method::ClonePlugin => "deleted (its server may run, without schemas of its own)",
            _ => "deleted (its server is kept from starting)",
        };
        format!(
            "this seed has not changed the target's data, which have been {state} since seed {} by {} was interrupted; {advice}",
            left.seed_id, left.method
        )
    }
}

const UNKNOWN: &str = "the target's agent does not report the state of its data: run `orchestrator-agent status` there";

/// A new seed fails again where the error is permanent.
fn advice(e: &Error) -> &'static str {
    if e.is_permanent() {
        "correct the cause of the error, then run a new seed"
    } else {
        "run a new seed"
    }
}

/// Rate and remaining time of a stage that runs.
struct Meter {
    begin: Instant,
    samples: VecDeque<(Duration, u64)>,
    most: u64,
}

impl Meter {
    fn new() -> Self {
        Self {
            begin: Instant::now(),
            samples: VecDeque::new(),
            most: 0,
        }
    }

    /// Takes what an agent reports now; returns the time since the beginning.
    fn add(&mut self, done: Progress) -> Duration {
        let now = self.begin.elapsed();
        self.sample(now, done);
        now
    }

    fn sample(&mut self, now: Duration, done: Progress) {
        self.most = self.most.max(done.bytes);
        self.samples.push_back((now, done.bytes));
        while self.samples.len() > 2 && now.saturating_sub(self.samples[0].0) > WINDOW {
            self.samples.pop_front();
        }
    }

    /// Bytes per second over the window; `None` while it is too short.
    fn rate(&self) -> Option<f64> {
        let ((t0, b0), (t1, b1)) = (self.samples.front()?, self.samples.back()?);
        rate(b1.saturating_sub(*b0), t1.saturating_sub(*t0))
    }
}

fn rate(bytes: u64, time: Duration) -> Option<f64> {
    (bytes > 0 && time >= Duration::from_millis(500)).then(|| bytes as f64 / time.as_secs_f64())
}

/// Time to the end; `None` if the total is unknown, or was passed: it is an estimate.
fn eta(done: Progress, rate: f64) -> Option<Duration> {
    let left = done.total.checked_sub(done.bytes).filter(|n| *n > 0)?;
    Some(Duration::from_secs_f64((left as f64 / rate).min(LONGEST)))
}

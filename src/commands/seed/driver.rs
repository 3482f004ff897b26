//! The stages of a seed in their order; `failure` is what happens when one fails.

use super::event::{End, Event, Listener, Outcome, StageProgress, Target, Verified, seconds};
use super::options::Options;
use super::plan::Plan;
use super::progress::{Meter, eta};
use super::registration::Agents;
use super::replicate::{self, Connected};
use super::sql::Db;
use super::verify::{self, Report};
use crate::error::{Error, Result};
use crate::process::Cancel;
use crate::protocol::agent::AgentClient;
use crate::protocol::http_client::shortened;
use crate::protocol::wire::{Metadata, StageState};
use crate::seed::{Side, Stage, Status};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

mod failure;
#[cfg(test)]
mod tests;

/// How long an agent may not answer: long enough for its restart and a new registration.
const AGENT_SILENCE: Duration = Duration::from_secs(60);
/// Between two attempts of a call.
const RETRY_PAUSE: Duration = Duration::from_secs(2);

/// How far the target has been changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reached {
    Nothing,
    ReplicationStopped,
    /// Its data are unchanged, but its old replication is being removed.
    ReplicationRemoved,
    /// Its data are being replaced.
    Loading,
    /// Its data are complete, its replication is not connected.
    Loaded,
}

pub(crate) struct Driver<'a> {
    options: &'a Options,
    plan: &'a Plan,
    agents: &'a Agents,
    events: &'a dyn Listener,
    cancel: &'a Cancel,
    stage: Stage,
    stage_begin: Instant,
    reached: Reached,
    /// The agents that were called to do something.
    called: Vec<Side>,
    begin: Instant,
    /// Seconds of the stages that are over.
    durations: BTreeMap<Stage, f64>,
    /// Stages whose end was not reported yet.
    open: Vec<(Stage, Side, Instant)>,
    bytes: u64,
    /// The longest time that the copy has blocked writes on the source.
    source_lock: Option<Duration>,
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
    pub(crate) fn new(
        options: &'a Options,
        plan: &'a Plan,
        agents: &'a Agents,
        events: &'a dyn Listener,
        cancel: &'a Cancel,
    ) -> Self {
        Self {
            options,
            plan,
            agents,
            events,
            cancel,
            stage: Stage::Prepare,
            stage_begin: Instant::now(),
            reached: Reached::Nothing,
            called: Vec::new(),
            begin: Instant::now(),
            durations: BTreeMap::new(),
            open: Vec::new(),
            bytes: 0,
            source_lock: None,
            metadata: None,
        }
    }

    /// The complete seed, from the first change on.
    pub(crate) fn run(mut self) -> Outcome {
        self.stages().unwrap_or_else(|e| self.fail(&e))
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
        self.enter(Stage::Prepare);
        // The source is first: it has less to lose.
        for side in [Side::Source, Side::Target] {
            self.start(side)?;
        }
        self.follow(&[Side::Source, Side::Target])?;
        self.leave();
        // The side that copies gets the name of the other one, and always the source's port.
        let side = method.backup_side();
        let peer = match side {
            Side::Source => target,
            Side::Target => source,
        };
        let path = format!("backup/{id}/{method}/{peer}/{}", self.plan.source_port);
        self.run_stage(Stage::Backup, side, &path)?;
        self.remove_replication()?;
        let path = format!("restore/{id}/{method}");
        self.run_stage(Stage::Restore, Side::Target, &path)?;
        self.reached = Reached::Loaded;
        let failed_checks = self.connect()?;

        // From here on the seed has succeeded: what fails is worth a warning only.
        self.cleanup();
        let report = self.verify(&failed_checks);
        self.run_hooks();
        Ok(self.completed(&failed_checks, report))
    }

    fn enter(&mut self, stage: Stage) {
        (self.stage, self.stage_begin) = (stage, Instant::now());
    }

    fn leave(&mut self) {
        let time = seconds(self.stage_begin.elapsed());
        self.durations.insert(self.stage, time);
    }

    fn stop_replication(&mut self) -> Result<()> {
        if self.plan.channels.is_empty() {
            return Ok(());
        }
        let mut target = self.open_target()?;
        self.reached = Reached::ReplicationStopped;
        replicate::stop_all(&mut target, &self.plan.channels)?;
        let side = Side::Target;
        self.events.report(&Event::ReplicationStopped { side });
        Ok(())
    }

    /// The last moment at which the target could go on with its old data. With a physical method its server serves them until
    /// the new ones are complete.
    fn remove_replication(&mut self) -> Result<()> {
        self.cancel.check()?;
        if self.plan.method.backup_to_datadir() {
            return Ok(());
        }
        if !self.plan.channels.is_empty() {
            // A channel that is connected again keeps its filters, which only the server knows.
            let keep = self.options.connect || self.options.replication.is_none();
            let mut target = self.open_target()?;
            self.reached = Reached::ReplicationRemoved;
            replicate::remove_all(&mut target, &self.plan.channels, keep)?;
        }
        self.reached = Reached::Loading;
        Ok(())
    }

    /// Connects replication if it is to be; returns the checks after it that have failed.
    fn connect(&mut self) -> Result<Vec<String>> {
        self.enter(Stage::ConnectSlave);
        self.started(Side::Target);
        let (id, method) = (self.options.seed_id, self.plan.method);
        let metadata = self.retry(|| self.agents.target.metadata(id, method))?;
        self.events.report(&Event::Coordinates {
            log_file: &metadata.log_file,
            log_pos: metadata.log_pos,
            gtid: metadata.gtid(),
        });
        let metadata = self.metadata.insert(metadata);
        let done = if self.options.connect {
            replicate::connect(self.options, self.plan, metadata, self.events, self.cancel)?
        } else {
            Connected {
                state: "Replication: not connected (--no-connect)".into(),
                failed_checks: Vec::new(),
            }
        };
        self.leave();
        self.over(Stage::ConnectSlave, Side::Target, &done.state, Ok(0));
        Ok(done.failed_checks)
    }

    /// Cleanup on both hosts, on each even if it fails on the other: a dump takes much space.
    fn cleanup(&mut self) {
        self.enter(Stage::Cleanup);
        for side in [Side::Target, Side::Source] {
            let done = self.start(side).and_then(|()| self.follow(&[side]));
            if let Err(e) = done {
                self.all_over(&e);
                self.events.warn(&format!("Cleanup: {e}"));
            }
        }
        self.leave();
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
        for side in [Side::Target, Side::Source] {
            let called = self
                .agent(side)
                .call(&format!("post-seed-cmd/{}", self.options.seed_id));
            match called {
                Ok(body) => {
                    let answer: serde_json::Value = serde_json::from_str(&body).unwrap_or_default(); // `true` without a hook
                    if let Some(text) = answer.get("Message").and_then(|m| m.as_str()) {
                        let text = &shortened(text);
                        self.events.report(&Event::Hook { side, text });
                    }
                }
                Err(e) => self.events.warn(&format!("post-seed-command: {e}")),
            }
        }
    }

    /// The outcome of a seed whose stages are all done.
    fn completed(&self, failed_checks: &[String], report: Option<Result<Report>>) -> Outcome {
        let (status, code, error) = match &report {
            _ if !failed_checks.is_empty() => {
                let text = format!(
                    "the target's data were copied and it replicates, but the checks have failed: {}",
                    failed_checks.join("; ")
                );
                (End::Failed, 3, Some(text))
            }
            None => (End::Completed, 0, None),
            Some(Ok(r)) => match r.verdict {
                Verified::Equal => (End::Completed, 0, None),
                Verified::Differs => (End::Differs, 4, Some(r.text.clone())),
                Verified::NotCompared => (End::NotCompared, 5, Some(r.text.clone())),
            },
            Some(Err(e)) => {
                let text = format!("the seed is done, but its verification was interrupted ({e})");
                (End::Interrupted, 130, Some(text))
            }
        };
        let state = if self.options.connect {
            Target::Replicating
        } else {
            Target::Loaded
        };
        Outcome {
            verified: report.and_then(Result::ok).map(|r| r.verdict),
            ..self.outcome(status, code, error, state)
        }
    }

    fn outcome(
        &self,
        status: End,
        exit_code: u8,
        error: Option<String>,
        target_state: Target,
    ) -> Outcome {
        Outcome {
            target_state,
            seed_id: Some(self.options.seed_id),
            method: Some(self.plan.method),
            bytes: (self.bytes > 0).then_some(self.bytes),
            source_lock_seconds: self.source_lock.map(seconds),
            durations: self.durations.clone(),
            total_seconds: seconds(self.begin.elapsed()),
            ..Outcome::early(status, exit_code, error)
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

    /// A stage on one host.
    fn run_stage(&mut self, stage: Stage, side: Side, path: &str) -> Result<()> {
        self.cancel.check()?;
        self.enter(stage);
        self.started(side);
        self.retry(|| self.agent(side).call(path))?;
        self.follow(&[side])?;
        self.leave();
        Ok(())
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
            if !self.cancel.sleep(self.options.poll) {
                return Err(Error::cancelled());
            }
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
                self.bytes = self.bytes.max(host.meter.most);
                let lock = state.source_lock_milliseconds.map(Duration::from_millis);
                self.source_lock = self.source_lock.max(lock);
                self.over(self.stage, host.side, &state.details, Ok(host.meter.most));
            }
            Status::Error => {
                self.over(self.stage, host.side, &state.details, Err(()));
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
        self.open.push((stage, side, Instant::now()));
    }

    /// Reports the end of a stage: its bytes, or that it has failed.
    fn over(
        &mut self,
        stage: Stage,
        side: Side,
        details: &str,
        outcome: std::result::Result<u64, ()>,
    ) {
        let Some(at) = self.open.iter().position(|o| (o.0, o.1) == (stage, side)) else {
            return;
        };
        let elapsed_seconds = seconds(self.open.remove(at).2.elapsed());
        let details = &shortened(details);
        self.events.report(&match outcome {
            Ok(bytes) => Event::StageCompleted {
                stage,
                side,
                details,
                bytes,
                elapsed_seconds,
            },
            Err(()) => Event::StageFailed {
                stage,
                side,
                details,
                elapsed_seconds,
            },
        });
    }

    /// Reports that all stages in progress have failed.
    fn all_over(&mut self, e: &Error) {
        for (stage, side, _) in self.open.clone() {
            self.over(stage, side, &e.to_string(), Err(()));
        }
    }
}

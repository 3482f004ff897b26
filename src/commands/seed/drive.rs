//! The stages of a seed in their order, and what is done when one fails (agent-api-v2 3.3).

use super::event::{End, Event, Outcome, Target, Verified};
use super::options::Options;
use super::preflight::Plan;
use super::progress::{Screen, Watch};
use super::replicate;
use super::sql::Db;
use super::tokens::Agents;
use super::verify::{self, Report};
use crate::error::{Error, Result};
use crate::process::Cancel;
use crate::protocol::agent::AgentClient;
use crate::protocol::http_client::shortened;
use crate::protocol::wire::Metadata;
use crate::seed::{Side, Stage, Status};
use std::time::{Duration, Instant};

mod fail;
mod tell;
#[cfg(test)]
mod tests;

use tell::coordinates;

/// How long an agent may be silent: long enough for its restart and a new registration.
const SILENCE: Duration = Duration::from_secs(60);
/// How far the target has been changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reached {
    /// Not at all.
    Nothing,
    /// Its replication was stopped.
    Paused,
    /// Its data are as they were, but its old replication is being given up.
    GivenUp,
    /// Its data are being replaced.
    Loading,
    /// Its data are whole, its replication is not connected.
    Loaded,
    /// It replicates, or need not.
    Connected,
}

/// One seed under way.
pub struct Drive<'a> {
    options: &'a Options,
    plan: &'a Plan,
    agents: &'a Agents,
    screen: &'a Screen,
    cancel: &'a Cancel,
    stage: Stage,
    reached: Reached,
    called: Vec<Side>,
    begin: Instant,
    times: Vec<(Stage, Duration)>,
    /// Stages that programs were told to have started, and not yet that they are over.
    open: Vec<(Stage, Side, Instant)>,
    bytes: u64,
    /// How long the source's writes were held up at most.
    source_lock: Option<Duration>,
    metadata: Option<Metadata>,
}

impl<'a> Drive<'a> {
    /// Nothing is done yet.
    pub fn new(
        options: &'a Options,
        plan: &'a Plan,
        agents: &'a Agents,
        screen: &'a Screen,
        cancel: &'a Cancel,
    ) -> Self {
        Self {
            options,
            plan,
            agents,
            screen,
            cancel,
            stage: Stage::Prepare,
            reached: Reached::Nothing,
            called: Vec::new(),
            begin: Instant::now(),
            times: Vec::new(),
            open: Vec::new(),
            bytes: 0,
            source_lock: None,
            metadata: None,
        }
    }

    /// The whole seed. People have been told everything when it returns.
    pub fn run(mut self) -> Outcome {
        match self.stages() {
            Ok((wrong, report)) => {
                let state = match self.options.connect {
                    true => Target::Replicating,
                    false => Target::Loaded,
                };
                if wrong.is_empty() {
                    return self.verified(report, state);
                }
                wrong.iter().for_each(|w| self.screen.error(w));
                let text =
                    "the target's data were copied and it replicates, but the checks have failed";
                self.screen.error(text);
                self.outcome(End::Failed, 3, Some(text.into()), state)
            }
            Err(e) => self.fail(&e),
        }
    }

    /// Returns what the checks after it have found wrong, and what came of `--verify`, an error if it was interrupted.
    fn stages(&mut self) -> Result<(Vec<String>, Option<Result<Report>>)> {
        let (id, method) = (self.options.seed_id, self.plan.method);
        let (source, target) = (&self.options.source.host, &self.options.target.host);
        self.screen.event(&Event::SeedStarted {
            seed_id: id,
            method,
            source,
            target,
        });
        self.screen
            .say(&format!("Seed {id}: {method} from {source} to {target}"));
        self.pause_replication()?;
        self.both(Stage::Prepare)?;
        // 8.17: whichever side copies is told the other's name, and always the source's port.
        let peer = match method.backup_side() {
            Side::Source => target,
            Side::Target => source,
        };
        let path = format!("backup/{id}/{method}/{peer}/{}", self.plan.source_port);
        self.one(Stage::Backup, method.backup_side(), &path)?;
        self.give_up_replication()?;
        let path = format!("restore/{id}/{method}");
        self.one(Stage::Restore, Side::Target, &path)?;
        self.reached = Reached::Loaded;

        self.stage = Stage::ConnectSlave;
        let begin = Instant::now();
        self.started(Stage::ConnectSlave, Side::Target);
        let metadata = self.patiently(|| self.agents.target.metadata(id, method))?;
        self.screen.event(&Event::Coordinates {
            log_file: &metadata.log_file,
            log_pos: metadata.log_pos,
            gtid: metadata.gtid(),
        });
        self.screen.say(&coordinates(&metadata));
        self.metadata = Some(metadata.clone());
        let mut line = "Replication: not connected (--no-connect)".to_string();
        let mut wrong = Vec::new();
        if self.options.connect {
            let done =
                replicate::connect(self.options, self.plan, &metadata, self.screen, self.cancel)?;
            (line, wrong) = (done.line, done.wrong);
        }
        self.reached = Reached::Connected;
        self.times.push((Stage::ConnectSlave, begin.elapsed()));
        self.over(Stage::ConnectSlave, Side::Target, &line, Ok(0));

        // From here on the seed has succeeded: what fails is worth a warning only.
        self.cleanup();
        let report = self.verify(&wrong);
        self.hooks();
        self.summary(&metadata, &line);
        Ok((wrong, report))
    }

    fn verify(&self, wrong: &[String]) -> Option<Result<Report>> {
        self.options.verify?;
        if !wrong.is_empty() {
            self.screen
                .warn("the data are not compared (--verify): the checks have failed");
            return None;
        }
        let target = &self.agents.target;
        Some(verify::run(
            self.options,
            self.plan,
            target,
            self.screen,
            self.cancel,
        ))
    }

    /// The end of a seed in which all else went well.
    fn verified(&self, report: Option<Result<Report>>, state: Target) -> Outcome {
        let (status, code, error, verified) = match report {
            None => (End::Completed, 0, None, None),
            Some(Ok(r)) => {
                let verified = Some(r.verdict);
                match r.verdict {
                    Verified::Equal => (End::Completed, 0, None, verified),
                    Verified::Differs => (End::Differs, 4, Some(r.text), verified),
                    Verified::NotCompared => (End::NotCompared, 5, Some(r.text), verified),
                }
            }
            Some(Err(e)) => {
                let text = format!("the seed is done, but its verification was interrupted ({e})");
                self.screen.error(&text);
                (End::Interrupted, 130, Some(text), None)
            }
        };
        Outcome {
            verified,
            ..self.outcome(status, code, error, state)
        }
    }

    /// True if the target's server serves its old data until the new ones are whole: its replication need not be given up.
    fn physical(&self) -> bool {
        self.plan.method.backup_to_datadir()
    }

    fn pause_replication(&mut self) -> Result<()> {
        if self.plan.channels.is_empty() {
            return Ok(());
        }
        let mut target = self.target()?;
        self.reached = Reached::Paused;
        replicate::pause(&mut target, &self.plan.channels)?;
        self.screen
            .event(&Event::ReplicationStopped { side: Side::Target });
        self.screen.say("Replication: stopped on the target");
        Ok(())
    }

    /// The last moment at which the target could go on with its old data.
    fn give_up_replication(&mut self) -> Result<()> {
        self.cancel.check()?;
        if self.physical() {
            return Ok(());
        }
        if !self.plan.channels.is_empty() {
            // A channel that is connected again keeps its filters, which only the server knows.
            let keep = self.options.connect || self.options.replication.is_none();
            let mut target = self.target()?;
            self.reached = Reached::GivenUp;
            replicate::give_up(&mut target, &self.plan.channels, keep)?;
        }
        self.reached = Reached::Loading;
        Ok(())
    }

    fn target(&self) -> Result<Db> {
        Db::open(
            "target",
            &self.options.target.host,
            self.plan.target_port,
            &self.options.mysql,
        )
    }

    fn agent(&self, side: Side) -> &'a AgentClient {
        if side == Side::Source {
            &self.agents.source
        } else {
            &self.agents.target
        }
    }

    /// Cleanup on both hosts, each whatever becomes of the other: a dump takes much room.
    fn cleanup(&mut self) {
        self.stage = Stage::Cleanup;
        let begin = Instant::now();
        for side in [Side::Target, Side::Source] {
            self.started(Stage::Cleanup, side);
            let done = self
                .call_stage(Stage::Cleanup, side)
                .and_then(|()| self.follow(Stage::Cleanup, vec![self.watched(side, true)]));
            if let Err(e) = done {
                self.all_over(&e);
                self.screen.warn(&format!("Cleanup: {e}"));
            }
        }
        self.times.push((Stage::Cleanup, begin.elapsed()));
    }

    fn call_stage(&mut self, stage: Stage, side: Side) -> Result<()> {
        self.called.push(side);
        let verb = stage.as_str().to_lowercase();
        let path = format!(
            "{verb}/{}/{}/{side}",
            self.options.seed_id, self.plan.method
        );
        self.patiently(|| self.agent(side).call(&path)).map(drop)
    }

    /// The agent of a side, and what follows the stage that runs there.
    fn watched(&self, side: Side, of_two: bool) -> (&'a AgentClient, Watch) {
        let label = match of_two {
            true => format!("{} {}", self.stage, side.as_str().to_lowercase()),
            false => self.stage.to_string(),
        };
        (self.agent(side), Watch::new(self.stage, side, label))
    }

    /// A stage on both hosts. The source is first: it has less to lose.
    fn both(&mut self, stage: Stage) -> Result<()> {
        self.stage = stage;
        let begin = Instant::now();
        for side in [Side::Source, Side::Target] {
            self.started(stage, side);
            self.call_stage(stage, side)?;
        }
        let both = [Side::Source, Side::Target].map(|side| self.watched(side, true));
        self.follow(stage, both.into())?;
        self.times.push((stage, begin.elapsed()));
        Ok(())
    }

    /// A stage on one host.
    fn one(&mut self, stage: Stage, side: Side, path: &str) -> Result<()> {
        self.cancel.check()?;
        self.stage = stage;
        let agent = self.agent(side);
        let begin = Instant::now();
        self.started(stage, side);
        self.patiently(|| agent.call(path))?;
        self.follow(stage, vec![self.watched(side, false)])?;
        self.times.push((stage, begin.elapsed()));
        Ok(())
    }

    /// Repeats a call while its agent cannot be reached. All calls may be repeated (agent-api-v2 8.6).
    fn patiently<T>(&self, call: impl Fn() -> Result<T>) -> Result<T> {
        let begin = Instant::now();
        loop {
            self.cancel.check()?;
            match call() {
                Err(e) if e.is_transient() && begin.elapsed() < SILENCE => {
                    self.screen.warn(&format!("{e}; trying again"));
                    self.cancel.sleep(Duration::from_secs(2));
                }
                other => return other,
            }
        }
    }

    /// Asks until the stage is over on all of `hosts`.
    fn follow(&mut self, stage: Stage, hosts: Vec<(&AgentClient, Watch)>) -> Result<()> {
        let mut hosts: Vec<(&AgentClient, Watch, Option<Instant>)> =
            hosts.into_iter().map(|(a, w)| (a, w, None)).collect();
        while !hosts.is_empty() {
            let mut next = Vec::new();
            for (agent, mut watch, silent) in hosts {
                self.cancel.check()?;
                let state = match agent.stage_state(self.options.seed_id, stage) {
                    Ok(state) => state,
                    Err(e) if e.is_transient() => {
                        let since = silent.unwrap_or_else(|| {
                            self.screen
                                .warn(&format!("{e}; trying again for {} s", SILENCE.as_secs()));
                            Instant::now()
                        });
                        if since.elapsed() >= SILENCE {
                            return Err(e.context(format!("no answer for {} s", SILENCE.as_secs())));
                        }
                        next.push((agent, watch, Some(since)));
                        continue;
                    }
                    Err(e) => return Err(e),
                };
                watch.update(self.screen, &state);
                match state.status {
                    Status::Running => next.push((agent, watch, None)),
                    Status::Completed => {
                        let bytes = watch.bytes();
                        self.bytes = self.bytes.max(bytes);
                        let lock = state.source_lock_milliseconds.map(Duration::from_millis);
                        self.source_lock = self.source_lock.max(lock);
                        self.over(stage, watch.side, &state.details, Ok(bytes));
                    }
                    Status::Error => {
                        self.over(stage, watch.side, &state.details, Err(()));
                        return Err(Error::permanent(format!(
                            "{}: {}",
                            agent.name(),
                            shortened(&state.details)
                        )));
                    }
                }
            }
            hosts = next;
            if !hosts.is_empty() && !self.cancel.sleep(self.options.poll) {
                return Err(Error::cancelled());
            }
        }
        Ok(())
    }

    /// The operators' hooks on both hosts. They come after the fact.
    fn hooks(&self) {
        for side in [Side::Target, Side::Source] {
            let agent = self.agent(side);
            match agent.call(&format!("post-seed-cmd/{}", self.options.seed_id)) {
                Ok(body) => {
                    let answer: serde_json::Value = serde_json::from_str(&body).unwrap_or_default(); // `true` without a hook
                    if let Some(text) = answer.get("Message").and_then(|m| m.as_str()) {
                        let text = &shortened(text);
                        self.screen.event(&Event::Hook { side, text });
                        self.screen
                            .say(&format!("Hook on the {}: {text}", agent.name()));
                    }
                }
                Err(e) => self.screen.warn(&format!("post-seed-command: {e}")),
            }
        }
    }
}

//! The stages of a seed in their order, and what is done when one fails (agent-api-v2 3.3).

use super::agent::{Agent, Metadata};
use super::options::Options;
use super::preflight::Plan;
use super::progress::{Screen, Watch, clock};
use super::replicate;
use super::sql::Db;
use super::tokens::Agents;
use crate::error::{Error, Kind, Result};
use crate::host::human_bytes;
use crate::process::Cancel;
use crate::seed::{Side, Stage, Status};
use serde_json::{Map, Value, json};
use std::time::{Duration, Instant};

mod fail;
#[cfg(test)]
mod tests;

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
    bytes: u64,
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
            bytes: 0,
            metadata: None,
        }
    }

    /// The whole seed; returns the exit code.
    pub fn run(mut self) -> u8 {
        match self.stages() {
            Ok(wrong) if wrong.is_empty() => 0,
            Ok(wrong) => {
                wrong.iter().for_each(|w| self.screen.error(w));
                self.screen.error(
                    "the target's data were copied and it replicates, but the checks have failed",
                );
                3
            }
            Err(e) => self.fail(&e),
        }
    }

    /// Returns what the checks after it have found wrong.
    fn stages(&mut self) -> Result<Vec<String>> {
        let (id, method) = (self.options.seed_id, self.plan.method);
        self.screen.say(&format!(
            "Seed {id}: {method} from {} to {}",
            self.options.source.host, self.options.target.host
        ));
        self.pause_replication()?;
        self.both(Stage::Prepare)?;
        self.one(
            Stage::Backup,
            &format!(
                "backup/{id}/{method}/{}/{}",
                self.options.source.host, self.plan.source_port
            ),
        )?;
        self.give_up_replication()?;
        self.one(Stage::Restore, &format!("restore/{id}/{method}"))?;
        self.reached = Reached::Loaded;

        self.stage = Stage::ConnectSlave;
        let begin = Instant::now();
        let metadata = self.patiently(|| self.agents.target.metadata(id, method))?;
        self.screen.tell(
            &coordinates(&metadata),
            "coordinates",
            json!({ "log_file": metadata.log_file, "log_pos": metadata.log_pos, "gtid": metadata.gtid() }),
        );
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

        // From here on the seed has succeeded: what fails is worth a warning only.
        self.cleanup();
        self.hooks();
        self.summary(&metadata, &line);
        Ok(wrong)
    }

    fn pause_replication(&mut self) -> Result<()> {
        if self.plan.channels.is_empty() {
            return Ok(());
        }
        let mut target = self.target()?;
        self.reached = Reached::Paused;
        replicate::pause(&mut target, &self.plan.channels)?;
        self.screen.say("Replication: stopped on the target");
        Ok(())
    }

    /// The last moment at which the target could go on with its old data.
    fn give_up_replication(&mut self) -> Result<()> {
        self.cancel.check()?;
        if !self.plan.channels.is_empty() {
            let keep = self.options.replication.is_none();
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

    fn agent(&self, side: Side) -> &'a Agent {
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
            let watch = Watch::new(format!("Cleanup {}", side.as_str().to_lowercase()));
            let done = self
                .call_stage(Stage::Cleanup, side)
                .and_then(|()| self.follow(Stage::Cleanup, vec![(self.agent(side), watch)]));
            if let Err(e) = done {
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

    /// A stage on both hosts. The source is first: it has less to lose.
    fn both(&mut self, stage: Stage) -> Result<()> {
        self.stage = stage;
        let begin = Instant::now();
        for side in [Side::Source, Side::Target] {
            self.call_stage(stage, side)?;
        }
        let both = vec![
            (
                self.agent(Side::Source),
                Watch::new(format!("{stage} source")),
            ),
            (
                self.agent(Side::Target),
                Watch::new(format!("{stage} target")),
            ),
        ];
        self.follow(stage, both)?;
        self.times.push((stage, begin.elapsed()));
        Ok(())
    }

    /// A stage on the target.
    fn one(&mut self, stage: Stage, path: &str) -> Result<()> {
        self.cancel.check()?;
        self.stage = stage;
        let target = self.agent(Side::Target);
        let watch = Watch::new(stage.as_str());
        let begin = Instant::now();
        self.patiently(|| target.call(path))?;
        self.follow(stage, vec![(target, watch)])?;
        self.times.push((stage, begin.elapsed()));
        Ok(())
    }

    /// Repeats a call while its agent cannot be reached. All calls may be repeated (agent-api-v2 8.6).
    fn patiently<T>(&self, call: impl Fn() -> Result<T>) -> Result<T> {
        let begin = Instant::now();
        loop {
            self.cancel.check()?;
            match call() {
                Err(e) if e.kind() == Kind::Transient && begin.elapsed() < SILENCE => {
                    self.screen.warn(&format!("{e}; trying again"));
                    self.cancel.sleep(Duration::from_secs(2));
                }
                other => return other,
            }
        }
    }

    /// Asks until the stage is over on all of `hosts`.
    fn follow(&mut self, stage: Stage, hosts: Vec<(&Agent, Watch)>) -> Result<()> {
        let mut hosts: Vec<(&Agent, Watch, Option<Instant>)> =
            hosts.into_iter().map(|(a, w)| (a, w, None)).collect();
        while !hosts.is_empty() {
            let mut next = Vec::new();
            for (agent, mut watch, silent) in hosts {
                self.cancel.check()?;
                let state = match agent.stage_state(self.options.seed_id, stage) {
                    Ok(state) => state,
                    Err(e) if e.kind() == Kind::Transient => {
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
                        self.bytes = self.bytes.max(watch.bytes()).max(bytes_in(&state.details))
                    }
                    Status::Error => {
                        return Err(Error::permanent(format!(
                            "{}: {}",
                            agent.name(),
                            super::agent::shortened(&state.details)
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
                        self.screen.say(&format!(
                            "Hook on the {}: {}",
                            agent.name(),
                            super::agent::shortened(text)
                        ));
                    }
                }
                Err(e) => self.screen.warn(&format!("post-seed-command: {e}")),
            }
        }
    }

    fn summary(&self, metadata: &Metadata, replication: &str) {
        if self.bytes > 0 {
            self.screen.say(&format!(
                "Bytes: {} ({})",
                self.bytes,
                human_bytes(self.bytes)
            ));
        }
        let seconds = |t: &Duration| (t.as_secs_f64() * 1000.0).round() / 1000.0;
        let durations: Map<String, Value> = self
            .times
            .iter()
            .map(|(stage, t)| (stage.to_string(), seconds(t).into()))
            .collect();
        self.screen.fact("durations_seconds", durations);
        self.screen
            .fact("total_seconds", seconds(&self.begin.elapsed()));
        self.screen.fact("bytes", self.bytes);
        self.screen.fact("method", self.plan.method.to_string());
        self.screen.fact("log_file", metadata.log_file.as_str());
        self.screen.fact("log_pos", metadata.log_pos);
        self.screen.fact("gtid", metadata.gtid());
        let times: Vec<String> = self
            .times
            .iter()
            .map(|(stage, t)| format!("{stage} {}", clock(*t)))
            .collect();
        self.screen.say(&format!(
            "Durations: {}, total {}",
            times.join(", "),
            clock(self.begin.elapsed())
        ));
        self.screen.say(&coordinates(metadata));
        self.screen.say(replication);
        self.screen
            .say(&format!("Seed {}: done", self.options.seed_id));
    }
}

/// `Coordinates: binlog.000002:314, GTID 0-1-22`
fn coordinates(m: &Metadata) -> String {
    let gtid = m.gtid().map_or(String::new(), |g| format!(", GTID {g}"));
    format!("Coordinates: {}:{}{gtid}", m.log_file, m.log_pos)
}

/// The number in `Dumped 4711 bytes`: a copy may be over before it was seen running.
fn bytes_in(details: &str) -> u64 {
    let before = details
        .split(" bytes")
        .next()
        .filter(|b| b.len() < details.len());
    before
        .and_then(|b| b.rsplit(' ').next()?.parse().ok())
        .unwrap_or(0)
}

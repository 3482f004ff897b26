//! The server's state machine, one step a tick, with its retries: what orchestrator does with agents that die.
//! Replication is not connected; of that stage only `get-metadata` is asked.

use super::agent::Agent;
use super::pair::Pair;
use super::server::Kind;
use serde_json::Value;
use std::time::{Duration, Instant};

/// `MaxRetriesForSeedStage`.
const MAX_RETRIES: u32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Prepare,
    Backup,
    Restore,
    Connect,
    Cleanup,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Scheduled,
    Running,
    Error,
    Completed,
    Failed,
}

pub struct Machine {
    pub id: i64,
    pub stage: Stage,
    pub status: Status,
    pub retries: u32,
    /// All retries of the seed.
    pub retried: u32,
    /// What the errors were.
    pub errors: Vec<String>,
    done: [bool; 2],
}

type Step = Result<(), String>;

impl Machine {
    pub fn new(id: i64) -> Self {
        Self {
            id,
            stage: Stage::Prepare,
            status: Status::Scheduled,
            retries: 0,
            retried: 0,
            errors: Vec::new(),
            done: [false; 2],
        }
    }

    pub fn is_over(&self) -> bool {
        matches!(self.status, Status::Completed | Status::Failed)
    }

    /// Ticks until the machine is about to start this stage.
    pub fn until<K: Kind>(&mut self, pair: &Pair<K>, stage: Stage) {
        self.ticks(pair, |m| m.stage == stage && m.status == Status::Scheduled);
        assert!(
            !self.is_over(),
            "{stage:?} is not reached: {:?}",
            self.errors
        );
    }

    /// Ticks to the end.
    pub fn finish<K: Kind>(&mut self, pair: &Pair<K>) {
        self.ticks(pair, |_| false);
    }

    fn ticks<K: Kind>(&mut self, pair: &Pair<K>, enough: impl Fn(&Self) -> bool) {
        let begin = Instant::now();
        while !enough(self) && !self.is_over() {
            assert!(
                begin.elapsed() < Duration::from_secs(120),
                "stuck: {:?}",
                self.errors
            );
            self.tick(pair);
            std::thread::sleep(Duration::from_millis(60));
        }
    }

    /// One step.
    pub fn tick<K: Kind>(&mut self, pair: &Pair<K>) {
        let step = match self.status {
            Status::Scheduled => self.begin(pair),
            Status::Running => self.poll(pair),
            Status::Error => {
                self.retry(pair);
                Ok(())
            }
            Status::Completed | Status::Failed => Ok(()),
        };
        if let Err(e) = step {
            self.errors.push(format!("{:?}: {e}", self.stage));
            self.status = Status::Error;
        }
    }

    fn begin<K: Kind>(&mut self, pair: &Pair<K>) -> Step {
        let (id, db) = (self.id, &pair.source_db);
        let (target, source) = (&pair.target, &pair.source);
        let started = |agent: &Agent, path: String| match agent.try_call(&path)? {
            (202, _) => Ok(()),
            (code, body) => Err(format!("{path}: {code} {body}")),
        };
        match self.stage {
            Stage::Prepare | Stage::Cleanup => {
                self.done = [false; 2];
                let word = if self.stage == Stage::Prepare {
                    "prepare"
                } else {
                    "cleanup"
                };
                started(target, format!("/api/{word}/{id}/Mysqldump/Target"))?;
                started(source, format!("/api/{word}/{id}/Mysqldump/Source"))?;
            }
            Stage::Backup => {
                let path = format!("/api/backup/{id}/Mysqldump/{}/{}", db.host, db.port);
                started(target, path)?;
            }
            Stage::Restore => started(target, format!("/api/restore/{id}/Mysqldump"))?,
            Stage::Connect => {}
        }
        self.status = Status::Running;
        Ok(())
    }

    fn poll<K: Kind>(&mut self, pair: &Pair<K>) -> Step {
        let agents = [&pair.target, &pair.source];
        match self.stage {
            Stage::Prepare | Stage::Cleanup => {
                for (n, agent) in agents
                    .iter()
                    .enumerate()
                    .filter(|(n, _)| !self.done[*n])
                    .collect::<Vec<_>>()
                {
                    self.done[n] = self.completed(agent)?;
                }
                if self.done != [true; 2] {
                    return Ok(());
                }
            }
            Stage::Backup | Stage::Restore => {
                for agent in agents {
                    ask(agent, "/api/get-agent-data")?;
                }
                if !self.completed(&pair.target)? {
                    return Ok(());
                }
            }
            Stage::Connect => {
                let meta = ask(
                    &pair.target,
                    &format!("/api/get-metadata/{}/Mysqldump", self.id),
                )?;
                if meta["LogFile"].as_str().is_none_or(str::is_empty) {
                    return Err(format!("no coordinates: {meta}"));
                }
            }
        }
        (self.stage, self.status) = match self.stage {
            Stage::Prepare => (Stage::Backup, Status::Scheduled),
            Stage::Backup => (Stage::Restore, Status::Scheduled),
            Stage::Restore => (Stage::Connect, Status::Scheduled),
            Stage::Connect => (Stage::Cleanup, Status::Scheduled),
            Stage::Cleanup => (Stage::Cleanup, Status::Completed),
        };
        if matches!(self.stage, Stage::Restore | Stage::Connect | Stage::Cleanup) {
            self.retries = 0;
        }
        Ok(())
    }

    fn completed(&self, agent: &Agent) -> Result<bool, String> {
        let state = self.state(agent)?;
        match state["Status"].as_str() {
            Some("Completed") => Ok(true),
            Some("Running") => Ok(false),
            _ => Err(format!("{} {}", state["Hostname"], state["Details"])),
        }
    }

    fn state(&self, agent: &Agent) -> Result<Value, String> {
        ask(
            agent,
            &format!("/api/seed-stage-state/{}/{:?}", self.id, self.stage),
        )
    }

    fn retry<K: Kind>(&mut self, pair: &Pair<K>) {
        if self.retries >= MAX_RETRIES {
            self.status = Status::Failed;
            return;
        }
        self.retries += 1;
        self.retried += 1;
        self.status = Status::Scheduled;
        match self.stage {
            Stage::Prepare | Stage::Cleanup => {
                for agent in [&pair.target, &pair.source] {
                    let running = self.state(agent).map(|s| s["Status"] == "Running");
                    let path = format!("/api/abort-seed-stage/{}/{:?}", self.id, self.stage);
                    let done = running.and_then(|r| {
                        if r {
                            agent.try_call(&path).map(drop)
                        } else {
                            Ok(())
                        }
                    });
                    if let Err(e) = done {
                        self.errors.push(e);
                        self.retries += 1;
                    }
                }
            }
            Stage::Backup => self.stage = Stage::Prepare,
            Stage::Restore | Stage::Connect => {}
        }
    }
}

fn ask(agent: &Agent, path: &str) -> Result<Value, String> {
    match agent.try_call(path)? {
        (200, body) => serde_json::from_str(&body).map_err(|e| format!("{path}: {e}")),
        (code, body) => Err(format!("{path}: {code} {body}")),
    }
}

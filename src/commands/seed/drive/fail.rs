//! A seed that did not go through: ending it on both agents, and saying truthfully what is left.

use super::{Drive, Reached, coordinates};
use crate::commands::seed::event::{End, Event, Outcome, Reason, Target};
use crate::commands::seed::replicate;
use crate::error::Error;
use crate::protocol::agent::AgentClient;
use crate::protocol::http_client::shortened;
use crate::seed::record::{LeftBy, Load};
use crate::seed::{Method, Side, Stage, Status};
use std::time::{Duration, Instant};

/// How long an agent may take to end a stage that was aborted, and to clean up after it.
const CLEARING: Duration = Duration::from_secs(30);

impl Drive<'_> {
    /// Aborts and clears up on both hosts, and says what state they are in.
    pub(super) fn fail(&mut self, e: &Error) -> Outcome {
        let interrupted = e.is_cancelled();
        let text = match interrupted {
            true => format!("{} interrupted", self.stage),
            false => format!("{} failed: {e}", self.stage),
        };
        self.all_over(e);
        self.screen.event(&Event::Abort {
            stage: self.stage,
            reason: match interrupted {
                true => Reason::Interrupted,
                false => Reason::Failed,
            },
            text: &text,
        });
        self.screen.error(&text);
        let before = self.called.clone();
        for side in [Side::Target, Side::Source]
            .into_iter()
            .filter(|s| before.contains(s))
        {
            self.clear(side);
        }
        let (state, words) = self.state(e);
        self.screen.error(&words);
        let (status, code) = match (interrupted, state) {
            (true, _) => (End::Interrupted, 130),
            (false, Target::Untouched) => (End::Failed, 1),
            (false, _) => (End::Failed, 3),
        };
        Outcome {
            target_text: Some(words),
            ..self.outcome(status, code, Some(text), state)
        }
    }

    /// Ends what an agent still does for this seed and lets it throw its files away.
    fn clear(&self, side: Side) {
        let (id, method) = (self.options.seed_id, self.plan.method);
        let agent = self.agent(side);
        // ConnectSlave is no stage of an agent, and nothing runs there then.
        if self.stage != Stage::ConnectSlave {
            if let Err(e) = agent.call(&format!("abort-seed-stage/{id}/{}", self.stage)) {
                self.screen.warn(&format!("abort: {e}"));
                return;
            }
            if let Some((status, details)) = settled(agent, id, self.stage) {
                self.cleared(side, self.stage, status, &details);
                self.screen.say(&format!(
                    "{}: {}: {status}: {details}",
                    agent.name(),
                    self.stage
                ));
            }
        }
        match agent.call(&format!("cleanup/{id}/{method}/{side}")) {
            Err(e) => self.screen.warn(&format!("cleanup: {e}")),
            Ok(_) => {
                let Some((status, details)) = settled(agent, id, Stage::Cleanup) else {
                    return;
                };
                self.cleared(side, Stage::Cleanup, status, &details);
                match status {
                    Status::Completed => self.screen.say(&format!("{}: cleaned up", agent.name())),
                    _ => self
                        .screen
                        .caution(&format!("{}: Cleanup: {status}: {details}", agent.name())),
                }
            }
        }
    }

    fn cleared(&self, side: Side, stage: Stage, status: Status, details: &str) {
        self.screen.event(&Event::AgentCleared {
            side,
            stage,
            status,
            details,
        });
    }

    /// In what state the target is, and in words.
    fn state(&self, e: &Error) -> (Target, String) {
        let at = self.metadata.as_ref();
        let at = at.map_or(String::new(), |m| format!(". {}", coordinates(m)));
        let (state, text) = match self.reached {
            Reached::Nothing | Reached::Paused
                if self.physical() && self.called.contains(&Side::Target) =>
            {
                return self.physical_state(e);
            }
            Reached::Nothing => (Target::Untouched, "nothing on the target was touched"),
            Reached::Paused => return self.resumed(),
            Reached::GivenUp => (
                Target::ReplicationGivenUp,
                "the target's data are untouched, but its replication is given up, at least in part: connect it again by hand, \
                 or seed the target",
            ),
            Reached::Loading => {
                let text = format!(
                    "the target's data may be partial (its agent's words above say more) and its replication is not connected: do not \
                     use it; {}",
                    advice(e)
                );
                return (Target::Partial, text);
            }
            Reached::Loaded => {
                let text = format!(
                    "the target's data are whole, but its replication is not connected{at}"
                );
                return (Target::Loaded, text);
            }
            Reached::Connected if self.options.connect => (
                Target::Replicating,
                "the target's data are whole and its replication is connected",
            ),
            Reached::Connected => (Target::Loaded, "the target's data are whole"),
        };
        (state, text.to_string())
    }

    /// The target's data are as they were: its replication goes on.
    fn resumed(&self) -> (Target, String) {
        let resumed = self
            .target()
            .and_then(|mut t| replicate::resume(&mut t, &self.plan.channels));
        match resumed {
            Ok(()) => (
                Target::Untouched,
                "the target's data are untouched; its replication is as it was".into(),
            ),
            Err(e) => (
                Target::ReplicationStopped,
                format!(
                    "the target's data are untouched; its replication is stopped: start it again by hand ({e})"
                ),
            ),
        }
    }

    /// What is left by this seed's physical method, or by an earlier seed, whose doing it then is.
    fn incomplete(&self, since: Option<LeftBy>, e: &Error) -> String {
        let Some(LeftBy { seed_id, method }) = since else {
            let server = match self.plan.method {
                Method::ClonePlugin => "its server may run, without schemas of its own",
                _ => "its server is kept from starting",
            };
            return format!(
                "the target's old data are gone and the new ones are not complete: {server}; {}",
                advice(e)
            );
        };
        let what = match method {
            Method::Mysqldump | Method::Mydumper => "partial (its server may run)",
            Method::ClonePlugin => "deleted (its server may run, without schemas of its own)",
            Method::Xtrabackup | Method::LVM => "deleted (its server is kept from starting)",
        };
        format!(
            "this seed has changed nothing of the target's data, which are {what} since seed {seed_id} by {method} was interrupted; {}",
            advice(e)
        )
    }

    /// The same while a physical method is at work, of which only the target's agent knows how far it came.
    fn physical_state(&self, e: &Error) -> (Target, String) {
        let stage = match self.stage {
            Stage::Restore => Stage::Restore,
            _ => Stage::Prepare, // the only other one that the target has
        };
        let asked = self.agents.target.stage_state(self.options.seed_id, stage);
        let (state, text) = match asked.as_ref().map(|s| s.target_data) {
            Ok(Some(Load::Untouched)) if self.reached == Reached::Paused => return self.resumed(),
            Ok(Some(Load::Untouched)) => (
                Target::Untouched,
                "the target's data are as they were before the seed",
            ),
            Ok(Some(Load::Incomplete)) => {
                let since = asked.as_ref().ok().and_then(|s| s.incomplete_since);
                return (Target::Partial, self.incomplete(since, e));
            }
            Ok(Some(Load::Whole)) => (
                Target::Loaded,
                "the target's data are whole, but its replication is not connected",
            ),
            Ok(None) | Err(_) => (
                Target::Unknown,
                "the target's agent does not say what has become of its data: run `orchestrator-agent status` there",
            ),
        };
        match asked {
            Err(e) => (state, format!("{text} ({e})")),
            Ok(_) => (state, text.to_string()),
        }
    }
}

/// What helps: a new seed fails again where its error is permanent.
fn advice(e: &Error) -> &'static str {
    if e.is_permanent() {
        "correct the cause of the error, then make a new seed"
    } else {
        "make a new seed"
    }
}

/// The state of a stage once it does not run any more; `None` if it was never begun, or is not over in time.
fn settled(agent: &AgentClient, id: i64, stage: Stage) -> Option<(Status, String)> {
    let begin = Instant::now();
    while begin.elapsed() < CLEARING {
        match agent.stage_state(id, stage) {
            Ok(s) if s.status != Status::Running => {
                return Some((s.status, shortened(&s.details)));
            }
            Err(e) if e.is_permanent() => return None,
            _ => std::thread::sleep(Duration::from_millis(200)),
        }
    }
    None
}

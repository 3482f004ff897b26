//! A seed that did not go through: ending it on both agents, and saying truthfully what is left.

use super::{Drive, Reached, coordinates};
use crate::conduct::agent::{Agent, shortened};
use crate::conduct::replicate;
use crate::error::{Error, Kind};
use crate::seed::{Side, Stage, Status};
use std::time::{Duration, Instant};

/// How long an agent may take to end a stage that was aborted, and to clean up after it.
const CLEARING: Duration = Duration::from_secs(30);

impl Drive<'_> {
    /// Aborts and clears up on both hosts, says what state they are in, and returns the exit code.
    pub(super) fn fail(&mut self, e: &Error) -> u8 {
        let interrupted = e.is_cancelled();
        match interrupted {
            true => self.screen.error(&format!("{} interrupted", self.stage)),
            false => self.screen.error(&format!("{} failed: {e}", self.stage)),
        }
        let before = self.called.clone();
        for side in [Side::Target, Side::Source]
            .into_iter()
            .filter(|s| before.contains(s))
        {
            self.clear(self.agent(side));
        }
        let untouched = self.say_state();
        match (interrupted, untouched) {
            (true, _) => 130,
            (false, true) => 1,
            (false, false) => 3,
        }
    }

    /// Ends what an agent still does for this seed and lets it throw its files away.
    fn clear(&self, agent: &Agent) {
        let (id, method) = (self.options.seed_id, self.plan.method);
        // ConnectSlave is no stage of an agent, and nothing runs there then.
        if self.stage != Stage::ConnectSlave {
            if let Err(e) = agent.call(&format!("abort-seed-stage/{id}/{}", self.stage)) {
                self.screen.warn(&format!("abort: {e}"));
                return;
            }
            if let Some((status, details)) = settled(agent, id, self.stage) {
                self.screen.say(&format!(
                    "{}: {}: {status}: {details}",
                    agent.name(),
                    self.stage
                ));
            }
        }
        match agent.call(&format!("cleanup/{id}/{method}/{}", agent.side)) {
            Err(e) => self.screen.warn(&format!("cleanup: {e}")),
            Ok(_) => match settled(agent, id, Stage::Cleanup) {
                Some((Status::Completed, _)) => {
                    self.screen.say(&format!("{}: cleaned up", agent.name()))
                }
                Some((status, details)) => self
                    .screen
                    .warn(&format!("{}: Cleanup: {status}: {details}", agent.name())),
                None => {}
            },
        }
    }

    /// True if the target is as it was.
    fn say_state(&self) -> bool {
        match self.reached {
            Reached::Nothing => {
                self.screen.error("nothing on the target was touched");
                true
            }
            Reached::Paused => match self
                .target()
                .and_then(|mut t| replicate::resume(&mut t, &self.plan.channels))
            {
                Ok(()) => {
                    self.screen
                        .error("the target's data are untouched; its replication is as it was");
                    true
                }
                Err(e) => {
                    self.screen.error(&format!("the target's data are untouched; its replication is stopped: start it again by hand ({e})"));
                    false
                }
            },
            Reached::GivenUp => {
                self.screen.error(
                    "the target's data are untouched, but its replication is given up, at least in part: connect it again by hand, \
                     or seed the target",
                );
                false
            }
            Reached::Loading => {
                self.screen.error(
                    "the target's data may be partial (its agent's words above say more) and its replication is not connected: \
                     make a new seed before anybody uses it",
                );
                false
            }
            Reached::Loaded => {
                let at = self
                    .metadata
                    .as_ref()
                    .map_or(String::new(), |m| format!(". {}", coordinates(m)));
                self.screen.error(&format!(
                    "the target's data are whole, but its replication is not connected{at}"
                ));
                false
            }
            Reached::Connected => {
                self.screen
                    .error("the target's data are whole and its replication is connected");
                false
            }
        }
    }
}

/// The state of a stage once it does not run any more; `None` if it was never begun, or is not over in time.
fn settled(agent: &Agent, id: i64, stage: Stage) -> Option<(Status, String)> {
    let begin = Instant::now();
    while begin.elapsed() < CLEARING {
        match agent.stage_state(id, stage) {
            Ok(s) if s.status != Status::Running => {
                return Some((s.status, shortened(&s.details)));
            }
            Err(e) if e.kind() == Kind::Permanent => return None,
            _ => std::thread::sleep(Duration::from_millis(200)),
        }
    }
    None
}

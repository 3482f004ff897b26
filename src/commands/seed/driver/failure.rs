//! A seed that has failed: it is aborted on both agents, and the state of the target is determined and reported.

use super::{Driver, Reached};
use crate::commands::seed::event::{End, Event, Outcome, Reason, Target, coordinates};
use crate::commands::seed::replicate;
use crate::error::Error;
use crate::protocol::http_client::shortened;
use crate::seed::record::{LeftBy, Load};
use crate::seed::{Method, Side, Stage, Status};
use std::time::{Duration, Instant};

/// How long an agent may take to end a stage that was aborted, and to clean up after it.
const CLEARING: Duration = Duration::from_secs(30);

impl Driver<'_> {
    pub(super) fn fail(&mut self, e: &Error) -> Outcome {
        let (reason, text) = if e.is_cancelled() {
            (Reason::Interrupted, format!("{} interrupted", self.stage))
        } else {
            (Reason::Failed, format!("{} failed: {e}", self.stage))
        };
        self.all_over(e);
        self.events.report(&Event::Abort {
            stage: self.stage,
            reason,
            text: &text,
        });
        for side in [Side::Target, Side::Source] {
            if self.called.contains(&side) {
                self.clear(side);
            }
        }
        let (state, target_text) = self.target_state(e);
        let (status, code) = match (reason, state) {
            (Reason::Interrupted, _) => (End::Interrupted, 130),
            (Reason::Failed, Target::Unchanged) => (End::Failed, 1),
            (Reason::Failed, _) => (End::Failed, 3),
        };
        Outcome {
            target_text: Some(target_text),
            ..self.outcome(status, code, Some(text), state)
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
        let physical = self.plan.method.backup_to_datadir() && self.called.contains(&Side::Target);
        match self.reached {
            Reached::Nothing | Reached::ReplicationStopped if physical => self.physical_state(e),
            Reached::Nothing => (
                Target::Unchanged,
                "nothing on the target was changed".into(),
            ),
            Reached::ReplicationStopped => self.start_replication_again(),
            Reached::ReplicationRemoved => (
                Target::ReplicationGivenUp,
                "the target's data are unchanged, but its replication was removed, at least in part: connect it again by hand, \
                 or seed the target"
                    .into(),
            ),
            Reached::Loading => (
                Target::Partial,
                format!(
                    "the target's data may be partial (see the error above) and its replication is not connected: \
                     do not use it; {}",
                    advice(e)
                ),
            ),
            Reached::Loaded => {
                let at = self.metadata.as_ref().map_or(String::new(), |m| {
                    format!(". {}", coordinates(&m.log_file, m.log_pos, m.gtid()))
                });
                (
                    Target::Loaded,
                    format!(
                        "the target's data are complete, but its replication is not connected{at}"
                    ),
                )
            }
        }
    }

    /// The target's data are unchanged.
    fn start_replication_again(&self) -> (Target, String) {
        let started = self
            .open_target()
            .and_then(|mut t| replicate::start_again(&mut t, &self.plan.channels));
        match started {
            Ok(()) => (
                Target::Unchanged,
                "the target's data are unchanged; its replication is as it was".into(),
            ),
            Err(e) => (
                Target::ReplicationStopped,
                format!(
                    "the target's data are unchanged; its replication is stopped: start it again by hand ({e})"
                ),
            ),
        }
    }

    /// With a physical method only the target's agent knows how far the target has been changed.
    fn physical_state(&self, e: &Error) -> (Target, String) {
        let stage = match self.stage {
            Stage::Restore => Stage::Restore,
            _ => Stage::Prepare, // the only other one that the target has
        };
        let state = match self.agents.target.stage_state(self.options.seed_id, stage) {
            Ok(state) => state,
            Err(e) => return (Target::Unknown, format!("{UNKNOWN} ({e})")),
        };
        match state.target_data {
            Some(Load::Unchanged) if self.reached == Reached::ReplicationStopped => {
                self.start_replication_again()
            }
            Some(Load::Unchanged) => (
                Target::Unchanged,
                "the target's data are as they were before the seed".into(),
            ),
            Some(Load::Partial) => (
                Target::Partial,
                self.incomplete(state.incomplete_since.as_ref(), e),
            ),
            Some(Load::Complete) => (
                Target::Loaded,
                "the target's data are complete, but its replication is not connected".into(),
            ),
            None => (Target::Unknown, UNKNOWN.into()),
        }
    }

    /// What is left by this seed's physical method, or by the earlier seed `since`.
    fn incomplete(&self, since: Option<&LeftBy>, e: &Error) -> String {
        let advice = advice(e);
        let Some(LeftBy { seed_id, method }) = since else {
            let server = match self.plan.method {
                Method::ClonePlugin => "its server may run, without schemas of its own",
                _ => "its server is kept from starting",
            };
            return format!(
                "the target's old data are gone and the new ones are not complete: {server}; {advice}"
            );
        };
        let state = match method {
            Method::Mysqldump | Method::Mydumper => "partial (its server may run)",
            Method::ClonePlugin => "deleted (its server may run, without schemas of its own)",
            Method::Xtrabackup | Method::LVM => "deleted (its server is kept from starting)",
        };
        format!(
            "this seed has changed nothing of the target's data, which are {state} since seed {seed_id} by {method} was \
             interrupted; {advice}"
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

//! What people and programs are told of a seed on its way and at its end.

use super::Drive;
use crate::commands::seed::event::{End, Event, Outcome, Target, seconds};
use crate::commands::seed::progress::clock;
use crate::error::Error;
use crate::protocol::http_client::shortened;
use crate::protocol::wire::Metadata;
use crate::seed::{Side, Stage};
use crate::sys::host::human_bytes;
use std::time::Instant;

impl Drive<'_> {
    pub(super) fn outcome(
        &self,
        status: End,
        exit_code: u8,
        error: Option<String>,
        state: Target,
    ) -> Outcome {
        Outcome {
            status,
            exit_code,
            error,
            target_state: state,
            target_text: None,
            seed_id: Some(self.options.seed_id),
            method: Some(self.plan.method),
            bytes: (self.bytes > 0).then_some(self.bytes),
            source_lock_seconds: self.source_lock.map(seconds),
            durations: self.times.iter().map(|(s, t)| (*s, seconds(*t))).collect(),
            total_seconds: seconds(self.begin.elapsed()),
            verified: None,
        }
    }

    /// Tells programs that a stage begins.
    pub(super) fn started(&mut self, stage: Stage, side: Side) {
        self.screen.event(&Event::StageStarted { stage, side });
        self.open.push((stage, side, Instant::now()));
    }

    /// Tells programs that a stage is over: its bytes, or the error.
    pub(super) fn over(
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
        self.screen.event(&match outcome {
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

    /// Tells programs that what has begun has come to nothing.
    pub(super) fn all_over(&mut self, e: &Error) {
        for (stage, side, _) in self.open.clone() {
            self.over(stage, side, &e.to_string(), Err(()));
        }
    }

    pub(super) fn summary(&self, metadata: &Metadata, replication: &str) {
        if self.bytes > 0 {
            self.screen.say(&format!(
                "Bytes: {} ({})",
                self.bytes,
                human_bytes(self.bytes)
            ));
        }
        if let Some(lock) = self.source_lock {
            let text = format!(
                "Writes on the source were held up for {:.2} s at most",
                lock.as_secs_f64()
            );
            self.screen.say(&text);
        }
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
pub(super) fn coordinates(m: &Metadata) -> String {
    let gtid = m.gtid().map_or(String::new(), |g| format!(", GTID {g}"));
    format!("Coordinates: {}:{}{gtid}", m.log_file, m.log_pos)
}

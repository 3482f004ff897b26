//! Events for people: plain lines, and on a terminal a bar below them.

use super::event::End;
use super::event::{
    Event, How, Listener, Outcome, StageProgress, Target, Verdict, Verified, coordinates,
};
use crate::protocol::http_client::shortened;
use crate::seed::{Side, Stage, Status};
use crate::sys::host::human_bytes;
use crate::sys::thread::lock;
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::sync::Mutex;

#[cfg(test)]
mod tests;

/// Work that goes on is a line at most this often, in seconds.
const LINE_EVERY: f64 = 5.0;
/// Cells of the bar.
const CELLS: usize = 10;
/// The stages in the order in which they are done.
const ORDER: [Stage; 5] = [
    Stage::Prepare,
    Stage::Backup,
    Stage::Restore,
    Stage::ConnectSlave,
    Stage::Cleanup,
];

pub(crate) struct Terminal {
    has_bar: bool,
    state: Mutex<State>,
}

struct State {
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    /// The last line on the terminal is a bar.
    bar: bool,
    /// The last line of each stage that runs: its text, and when it was written.
    running: BTreeMap<(Stage, Side), (String, f64)>,
    /// When the progress of a comparison was shown last.
    compared: f64,
}

#[derive(Debug, PartialEq, Eq)]
enum Line {
    Out(String),
    Warning(String),
    Error(String),
}

use Line::{Error, Out, Warning};

impl Terminal {
    /// Standard output and standard error.
    pub(crate) fn standard() -> Self {
        let (out, err) = (std::io::stdout(), std::io::stderr());
        Self::new(out.is_terminal(), Box::new(out), Box::new(err))
    }

    pub(super) fn new(
        has_bar: bool,
        out: Box<dyn Write + Send>,
        err: Box<dyn Write + Send>,
    ) -> Self {
        Self {
            has_bar,
            state: Mutex::new(State {
                out,
                err,
                bar: false,
                running: BTreeMap::new(),
                compared: 0.0,
            }),
        }
    }
}

impl Listener for Terminal {
    fn report(&self, event: &Event) {
        let mut state = lock(&self.state);
        match event {
            Event::StageProgress(p) => {
                if let Some(line) = state.running_line(p, !self.has_bar) {
                    state.write(&Out(line));
                }
                if self.has_bar {
                    state.draw(&bar(p));
                }
            }
            Event::CompareProgress {
                elapsed_seconds, ..
            } if elapsed_seconds - state.compared < LINE_EVERY => {}
            Event::CompareProgress {
                tables_done,
                tables,
                bytes,
                total,
                elapsed_seconds,
                ..
            } => {
                state.compared = *elapsed_seconds;
                state.write(&Out(format!(
                    "Verification: {tables_done} of {tables} tables, about {} of {}",
                    human_bytes(*bytes),
                    human_bytes(*total)
                )));
            }
            Event::Result(outcome) => of_result(outcome).iter().for_each(|l| state.write(l)),
            other => {
                let line = of_preflight(other)
                    .or_else(|| of_stages(other))
                    .or_else(|| of_verification(other));
                line.iter().for_each(|l| state.write(l));
            }
        }
    }
}

/// Writing may fail where the terminal is gone.
impl State {
    fn write(&mut self, line: &Line) {
        if std::mem::take(&mut self.bar) {
            let _ = write!(self.out, "\r\x1b[K");
        }
        let _ = match line {
            Out(text) => writeln!(self.out, "{text}"),
            Warning(text) => writeln!(self.err, "warning: {text}"),
            Error(text) => writeln!(self.err, "error: {text}"),
        };
        let _ = self.out.flush();
    }

    fn draw(&mut self, bar: &str) {
        self.bar = true;
        let _ = write!(self.out, "\r{bar}\x1b[K");
        let _ = self.out.flush();
    }

    /// A line where the agent's text has changed, and with `repeated` every [`LINE_EVERY`].
    fn running_line(&mut self, p: &StageProgress, repeated: bool) -> Option<String> {
        if let Some((text, at)) = self.running.get(&(p.stage, p.side))
            && text == p.details
            && !(repeated && p.elapsed_seconds - at >= LINE_EVERY)
        {
            return None;
        }
        let shown = (p.details.to_string(), p.elapsed_seconds);
        self.running.insert((p.stage, p.side), shown);
        let numbers = match numbers(p) {
            text if text.is_empty() => text,
            text => format!(" ({text})"),
        };
        let label = label(p.stage, p.side);
        Some(format!("{label}: Running: {}{numbers}", p.details))
    }
}

/// Before the first change.
fn of_preflight(event: &Event) -> Option<Line> {
    Some(match event {
        Event::AgentsAwaited {
            listen,
            limit_seconds,
        } => Out(format!(
            "Agents: waiting for registrations on {}, at most {limit_seconds}s",
            listen.join(", ")
        )),
        Event::AgentRegistered { side, agent, again } => Out(format!(
            "Agents: {} agent registered as {agent}{}",
            lower(*side),
            if *again {
                " again: it was restarted"
            } else {
                ""
            }
        )),
        Event::AgentIgnored { agent } => Out(format!(
            "Agents: {agent} registered, which is neither source nor target: ignored"
        )),
        Event::Preflight { ok: true, text } => Out(format!("Preflight: {text}")),
        Event::Preflight { ok: false, text } => Out(format!("Preflight: PROBLEM: {text}")),
        Event::Method {
            method,
            usable,
            reasons,
        } => Out(if *usable {
            format!("Preflight: method {method}: usable")
        } else {
            format!("Preflight: method {method}: {}", reasons.join("; "))
        }),
        _ => return None,
    })
}

/// The stages, and a failure.
fn of_stages(event: &Event) -> Option<Line> {
    Some(match event {
        Event::SeedStarted {
            seed_id,
            method,
            source,
            target,
        } => Out(format!(
            "Seed {seed_id}: {method} from {source} to {target}"
        )),
        Event::ReplicationStopped { side } => {
            Out(format!("Replication: stopped on the {}", lower(*side)))
        }
        Event::StageCompleted {
            stage: Stage::ConnectSlave,
            details,
            ..
        } => Out(details.to_string()),
        Event::StageCompleted {
            stage,
            side,
            details,
            ..
        } => Out(format!("{}: Completed: {details}", label(*stage, *side))),
        Event::Warning { text } => Warning(text.to_string()),
        Event::Interrupting => Error(
            "interrupted: ending the seed on both agents; a second signal leaves at once".into(),
        ),
        Event::Abort { text, .. } => Error(text.to_string()),
        Event::AgentCleared {
            side,
            stage,
            status,
            details,
        } => {
            let text = format!("{side} agent: {stage}: {status}: {details}");
            if (*stage, *status) == (Stage::Cleanup, Status::Error) {
                Warning(text)
            } else {
                Out(text)
            }
        }
        Event::Hook { side, text } => Out(format!("Hook on the {}: {text}", lower(*side))),
        _ => return None,
    })
}

/// Replication, its checks, and the comparison of the data. An error of a check is a part of the result.
fn of_verification(event: &Event) -> Option<Line> {
    Some(match event {
        Event::Coordinates {
            log_file,
            log_pos,
            gtid,
        } => Out(coordinates(log_file, *log_pos, *gtid)),
        Event::ReplicationConnected {
            source_host,
            source_port,
            how,
            gtid,
            log_file,
            log_pos,
            ..
        } => {
            let from = match (how, gtid) {
                (How::Gtid, Some(gtid)) if !gtid.is_empty() => format!("GTID {gtid}"),
                (How::Gtid, _) => "an empty GTID set".to_string(),
                (How::Position, _) => format!(
                    "{}:{}",
                    log_file.unwrap_or_default(),
                    log_pos.unwrap_or_default()
                ),
            };
            Out(format!(
                "Replication: from {source_host}:{source_port}, starting at {from}"
            ))
        }
        Event::Verification {
            verdict: Verdict::Warning,
            text,
            ..
        } => Warning(text.to_string()),
        Event::CompareStarted { .. } => {
            Out("Verification: comparing the data of source and target".into())
        }
        Event::ComparePoint {
            point,
            source_locked_seconds,
            applier_stopped_seconds,
            ..
        } => {
            let locked = match source_locked_seconds * 1000.0 {
                0.0 => String::new(),
                milliseconds => format!(", read lock on the source {milliseconds:.0} ms"),
            };
            Out(format!(
                "Verification: both at {} (applier stopped for {applier_stopped_seconds:.1} s{locked})",
                shortened(point)
            ))
        }
        Event::CompareCompleted { verdict, text, .. } => match verdict {
            Verified::Equal => Out(text.to_string()),
            Verified::Differs | Verified::NotCompared => Error(text.to_string()),
        },
        _ => return None,
    })
}

/// What no event before it has reported.
fn of_result(o: &Outcome) -> Vec<Line> {
    let mut lines = Vec::new();
    if o.is_complete() {
        if let Some(bytes) = o.bytes {
            lines.push(Out(format!("Bytes: {bytes} ({})", human_bytes(bytes))));
        }
        if let Some(lock) = o.source_lock_seconds {
            lines.push(Out(format!(
                "Writes on the source were blocked for at most {lock:.2} s"
            )));
        }
        let times: Vec<String> = ORDER
            .iter()
            .filter_map(|s| Some(format!("{s} {}", clock(*o.durations.get(s)?))))
            .collect();
        let total = clock(o.total_seconds);
        lines.push(Out(format!(
            "Durations: {}, total {total}",
            times.join(", ")
        )));
        if let Some(id) = o.seed_id {
            lines.push(Out(format!("Seed {id}: done")));
        }
    }
    match (o.status, &o.error, &o.target_text) {
        (End::DryRun, ..) => lines.push(Out(
            "Preflight: passed; nothing was changed (--dry-run)".into()
        )),
        // The error was reported by `abort`.
        (_, _, Some(target)) => lines.push(Error(target.clone())),
        // Reported by `compare_completed`.
        (End::Differs | End::NotCompared, ..) | (_, None, None) => {}
        (End::WrongUsage, Some(e), None) => lines.push(Error(format!(
            "{e}\n`orchestrator-agent seed --help` lists all options"
        ))),
        (_, Some(e), None) if o.target_state == Target::Unchanged => {
            lines.push(Error(format!("{e}; nothing on the target was changed")));
        }
        (_, Some(e), None) => lines.push(Error(e.clone())),
    }
    lines
}

fn lower(side: Side) -> String {
    side.as_str().to_lowercase()
}

/// Backup and Restore run on one host.
fn label(stage: Stage, side: Side) -> String {
    match stage {
        Stage::Backup | Stage::Restore => stage.to_string(),
        _ => format!("{stage} {}", lower(side)),
    }
}

/// `1.2 GiB of about 4.0 GiB, 30.1 MiB/s, ETA 1:35`, as far as known.
fn numbers(p: &StageProgress) -> String {
    let mut parts = Vec::new();
    match (p.bytes, p.total) {
        (0, None) => {}
        (n, None) => parts.push(human_bytes(n)),
        (n, Some(total)) => parts.push(format!(
            "{} of about {}",
            human_bytes(n),
            human_bytes(total)
        )),
    }
    if let Some(rate) = p.rate {
        parts.push(format!("{}/s", human_bytes(rate as u64)));
    }
    if let Some(eta) = p.eta_seconds {
        parts.push(format!("ETA {}", clock(eta)));
    }
    parts.join(", ")
}

/// One line for the bottom of a terminal, at most 79 columns.
fn bar(p: &StageProgress) -> String {
    let mut text = format!("{} {}", label(p.stage, p.side), clock(p.elapsed_seconds));
    if let Some(total) = p.total {
        let share = p.bytes.min(total) as f64 / total as f64;
        let full = (share * CELLS as f64) as usize;
        let percent = (share * 100.0) as u64;
        let (full, empty) = ("#".repeat(full), ".".repeat(CELLS - full));
        text.push_str(&format!(" [{full}{empty}] {percent}%"));
    }
    let numbers = numbers(p);
    if !numbers.is_empty() {
        text.push_str(&format!(" {numbers}"));
    }
    text.chars().take(79).collect()
}

/// `0:07`, `12:34`, `1:02:03`
fn clock(seconds: f64) -> String {
    let s = seconds as u64;
    if s < 3600 {
        format!("{}:{:02}", s / 60, s % 60)
    } else {
        format!("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
    }
}

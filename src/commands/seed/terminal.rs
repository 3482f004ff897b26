//! Events for people: plain lines, and on a terminal a bar below them.

use super::event::coordinates;
use super::event::{End, Event, How, Listener, Outcome, StageProgress, Target, Verdict, Verified};
use crate::error::shortened;
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
const CELLS: usize = 10;
/// The stages in the order in which they are done.
const ORDER: [Stage; 5] = [
    Stage::Prepare,
    Stage::Backup,
    Stage::Restore,
    Stage::ConnectSlave,
    Stage::Cleanup,
];

pub(crate) struct Terminal(Mutex<State>);

struct State {
    has_bar: bool,
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
    pub(crate) fn standard() -> Self {
        let (out, err) = (std::io::stdout(), std::io::stderr());
        Self::new(out.is_terminal(), Box::new(out), Box::new(err))
    }

    pub(super) fn new(
        has_bar: bool,
        out: Box<dyn Write + Send>,
        err: Box<dyn Write + Send>,
    ) -> Self {
        Self(Mutex::new(State {
            has_bar,
            out,
            err,
            bar: false,
            running: BTreeMap::new(),
            compared: 0.0,
        }))
    }
}

impl Listener for Terminal {
    fn report(&self, event: &Event) {
        let mut state = lock(&self.0);
        match event {
            Event::StageProgress(p) => {
                if let Some(line) = state.running_line(p) {
                    state.write(&Out(line));
                }
                if state.has_bar {
                    state.draw(&bar(p));
                }
            }
            Event::CompareProgress {
                tables_done,
                tables,
                bytes,
                total,
                elapsed_seconds,
                ..
            } => {
                if elapsed_seconds - state.compared >= LINE_EVERY {
                    state.compared = *elapsed_seconds;
                    let (bytes, total) = (human_bytes(*bytes), human_bytes(*total));
                    state.write(&Out(format!(
                        "Verification: {tables_done} of {tables} tables, about {bytes} of {total}"
                    )));
                }
            }
            Event::Result(outcome) => of_result(outcome).iter().for_each(|l| state.write(l)),
            other => {
                let text = || of_preflight(other).or_else(|| of_stages(other));
                let line = problem(other).or_else(|| text().map(Out));
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

    /// A line where the agent's text has changed, and without a bar every [`LINE_EVERY`].
    fn running_line(&mut self, p: &StageProgress) -> Option<String> {
        if let Some((text, at)) = self.running.get(&(p.stage, p.side))
            && text == p.details
            && (self.has_bar || p.elapsed_seconds - at < LINE_EVERY)
        {
            return None;
        }
        let shown = (p.details.to_string(), p.elapsed_seconds);
        self.running.insert((p.stage, p.side), shown);
        let (label, details) = (label(p.stage, p.side), p.details);
        Some(match numbers(p).as_str() {
            "" => format!("{label}: Running: {details}"),
            numbers => format!("{label}: Running: {details} ({numbers})"),
        })
    }
}

/// What is for standard error.
fn problem(event: &Event) -> Option<Line> {
    Some(match event {
        Event::Warning { text }
        | Event::Verification {
            verdict: Verdict::Warning,
            text,
            ..
        } => Warning(text.to_string()),
        Event::AgentCleared {
            stage: Stage::Cleanup,
            status: Status::Error,
            ..
        } => Warning(of_stages(event)?),
        Event::Abort { text, .. }
        | Event::CompareCompleted {
            verdict: Verified::Differs | Verified::NotCompared,
            text,
            ..
        } => Error(text.to_string()),
        Event::Interrupting => Error(
            "interrupted: ending the seed on both agents; a second signal leaves at once".into(),
        ),
        _ => return None,
    })
}

fn of_preflight(event: &Event) -> Option<String> {
    Some(match event {
        Event::AgentsAwaited {
            listen,
            limit_seconds,
        } => format!(
            "Agents: waiting for registrations on {}, at most {limit_seconds}s",
            listen.join(", ")
        ),
        Event::AgentRegistered { side, agent, again } => {
            let again = if *again {
                " again: it was restarted"
            } else {
                ""
            };
            format!(
                "Agents: {} agent registered as {agent}{again}",
                lower(*side)
            )
        }
        Event::AgentIgnored { agent } => {
            format!("Agents: {agent} registered, which is neither source nor target: ignored")
        }
        Event::Preflight { ok: true, text } => format!("Preflight: {text}"),
        Event::Preflight { ok: false, text } => format!("Preflight: PROBLEM: {text}"),
        Event::Method {
            method,
            usable: true,
            ..
        } => format!("Preflight: method {method}: usable"),
        Event::Method {
            method, reasons, ..
        } => format!("Preflight: method {method}: {}", reasons.join("; ")),
        _ => return None,
    })
}

/// The stages, replication, and the comparison of the data. An error of a check is a part of the result.
fn of_stages(event: &Event) -> Option<String> {
    Some(match event {
        Event::SeedStarted {
            seed_id,
            method,
            source,
            target,
        } => format!("Seed {seed_id}: {method} from {source} to {target}"),
        Event::ReplicationStopped { side } => {
            format!("Replication: stopped on the {}", lower(*side))
        }
        Event::StageCompleted {
            stage: Stage::ConnectSlave,
            details: text,
            ..
        }
        | Event::CompareCompleted { text, .. } => text.to_string(),
        Event::StageCompleted {
            stage,
            side,
            details,
            ..
        } => format!("{}: Completed: {details}", label(*stage, *side)),
        Event::AgentCleared {
            side,
            stage,
            status,
            details,
        } => format!("{side} agent: {stage}: {status}: {details}"),
        Event::Hook { side, text } => format!("Hook on the {}: {text}", lower(*side)),
        Event::Coordinates {
            log_file,
            log_pos,
            gtid,
        } => coordinates(log_file, *log_pos, *gtid),
        Event::CompareStarted { .. } => {
            "Verification: comparing the data of source and target".into()
        }
        other => return of_replication(other),
    })
}

fn of_replication(event: &Event) -> Option<String> {
    Some(match event {
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
                (How::Position, _) => format!("{}:{}", (*log_file)?, (*log_pos)?),
            };
            format!("Replication: from {source_host}:{source_port}, starting at {from}")
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
            format!(
                "Verification: both at {} (applier stopped for {applier_stopped_seconds:.1} s{locked})",
                shortened(point)
            )
        }
        _ => return None,
    })
}

/// What no event before it has reported.
fn of_result(o: &Outcome) -> Vec<Line> {
    let mut lines = Vec::new();
    if o.is_complete() {
        let bytes = o.bytes.map(|n| format!("Bytes: {n} ({})", human_bytes(n)));
        let blocked = |s| format!("Writes on the source were blocked for at most {s:.2} s");
        let time = |s| Some(format!("{s} {}", clock(*o.durations.get(s)?)));
        let times: Vec<String> = ORDER.iter().filter_map(time).collect();
        let (times, total) = (times.join(", "), clock(o.total_seconds));
        let all = [
            bytes,
            o.source_lock_seconds.map(blocked),
            Some(format!("Durations: {times}, total {total}")),
            o.seed_id.map(|id| format!("Seed {id}: done")),
        ];
        lines.extend(all.into_iter().flatten().map(Out));
    }
    lines.extend(match (o.status, &o.error, &o.target_text) {
        (End::DryRun, ..) => Some(Out(
            "Preflight: passed; nothing was changed (--dry-run)".into()
        )),
        // The error was reported by `abort`.
        (_, _, Some(target)) => Some(Error(target.clone())),
        // Reported by `compare_completed`.
        (End::Differs | End::NotCompared, ..) => None,
        (End::WrongUsage, Some(e), _) => Some(Error(format!(
            "{e}\n`orchestrator-agent seed --help` lists all options"
        ))),
        (_, Some(e), _) if o.target_state == Target::Unchanged => {
            Some(Error(format!("{e}; nothing on the target was changed")))
        }
        (_, e, _) => e.clone().map(Error),
    });
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
    let size = match (p.bytes, p.total) {
        (0, None) => None,
        (n, None) => Some(human_bytes(n)),
        (n, Some(total)) => Some(format!(
            "{} of about {}",
            human_bytes(n),
            human_bytes(total)
        )),
    };
    let rate = p.rate.map(|rate| format!("{}/s", human_bytes(rate as u64)));
    let eta = p.eta_seconds.map(|eta| format!("ETA {}", clock(eta)));
    let known: Vec<String> = [size, rate, eta].into_iter().flatten().collect();
    known.join(", ")
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

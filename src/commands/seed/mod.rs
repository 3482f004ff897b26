//! The `seed` command: a complete seed between two agents, from one shell, without an orchestrator.
//!
//! ```text
//! options -> registration -> preflight -> driver: Prepare, Backup, Restore, replicate, Cleanup, verify, hooks
//!            the agents      nothing is   agent: HTTP calls                 sql: statements
//!            are known       changed yet
//! ```
//! Each of them reports [`event`]s to one listener: `terminal` for people, `json` for programs.

mod driver;
mod event;
mod json;
mod options;
mod plan;
mod preflight;
mod registration;
mod sql;
mod terminal;
mod verify;

pub(crate) use options::USAGE;

use crate::error::{OnPath, Result};
use crate::process::Cancel;
use crate::sys::signal::{self, Order};
use crate::sys::thread::spawn;
use driver::Driver;
use event::{End, Event, Listener, Outcome, Target, seconds};
use json::JsonLines;
use options::Options;
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;
use terminal::Terminal;

/// Runs `orchestrator-agent seed` with the arguments after that word. Must be called before any thread is started, because
/// it blocks signals. The exit codes are in [`USAGE`].
pub(crate) fn run(args: &[OsString]) -> ExitCode {
    let has = |names: &[&str]| args.iter().any(|a| names.iter().any(|n| a == n));
    if has(&["--help", "-help", "-h"]) {
        let _ = std::io::stdout().write_all(USAGE.as_bytes()); // a reader that is gone
        return ExitCode::SUCCESS;
    }
    // Known before all else: programs learn of a wrong command line as well.
    let events: Arc<dyn Listener> = if has(&["--json", "-json"]) {
        Arc::new(JsonLines::default())
    } else {
        Arc::new(Terminal::standard())
    };
    let outcome = match options::parse(args) {
        Err(text) => Outcome::early(End::WrongUsage, Some(text)),
        Ok(Err(e)) => Outcome::early(End::Failed, Some(e.to_string())),
        Ok(Ok(options)) => seed(&options, &events),
    };
    events.report(&Event::Result(&outcome));
    ExitCode::from(outcome.exit_code)
}

fn seed(options: &Options, events: &Arc<dyn Listener>) -> Outcome {
    let begin = Instant::now();
    options.warnings.iter().for_each(|w| events.warn(w));
    let cancel = Cancel::default();
    let early = match run_seed(options, events, &cancel) {
        Ok(outcome) if outcome.status != End::DryRun => return outcome,
        Ok(passed) => passed,
        Err(e) if e.is_cancelled() => Outcome::early(End::Interrupted, Some("interrupted".into())),
        Err(e) => Outcome::early(End::Failed, Some(e.to_string())),
    };
    Outcome {
        seed_id: Some(options.seed_id),
        total_seconds: seconds(begin.elapsed()),
        ..early
    }
}

/// An error means that nothing was changed yet.
fn run_seed(options: &Options, events: &Arc<dyn Listener>, cancel: &Cancel) -> Result<Outcome> {
    handle_signals(events, cancel)?;
    let agents = registration::gather(options, events, cancel)?;
    let plan = preflight::check(options, &agents, events.as_ref())?;
    cancel.check()?;
    if options.dry_run {
        return Ok(Outcome {
            method: Some(plan.method),
            ..Outcome::early(End::DryRun, None)
        });
    }
    let events = events.as_ref();
    Ok(Driver::run(options, &plan, &agents, events, cancel))
}

/// The first TERM or INT cancels, which takes a moment; a second one ends the process at once.
fn handle_signals(events: &Arc<dyn Listener>, cancel: &Cancel) -> Result<()> {
    signal::block().on("cannot block signals")?;
    let (events, cancel) = (Arc::clone(events), cancel.clone());
    let handle = move || {
        loop {
            match signal::wait() {
                Ok(Order::Stop) if cancel.is_cancelled() => {
                    let text = "interrupted twice: `seed` has exited, the agents may still run the seed: check `status` on both";
                    let outcome = Outcome::default();
                    let outcome =
                        outcome.ended(End::Interrupted, Target::Unknown, Some(text.into()));
                    events.report(&Event::Result(&outcome));
                    std::process::exit(outcome.exit_code.into())
                }
                Ok(Order::Stop) => {
                    events.report(&Event::Interrupting);
                    cancel.cancel("interrupted");
                }
                Ok(Order::Reload) => {}
                Err(e) => return events.warn(&format!("signals are no longer handled: {e}")),
            }
        }
    };
    spawn("signal", handle).map(drop)
}

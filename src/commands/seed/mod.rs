//! The `seed` command: a whole seed between two agents, from one shell, without an orchestrator (DESIGN 8).
//!
//! ```text
//! options -> tokens -> preflight -> drive (Prepare, Backup, Restore) -> replicate -> drive (Cleanup, hooks, summary)
//!            agents    nothing is   agent: the HTTP calls                sql: statements
//!            known     changed yet  progress: what the user sees; event: what programs see
//! ```

mod drive;
mod event;
mod method;
mod options;
mod preflight;
mod progress;
mod replicate;
mod sql;
mod tokens;
mod verify;

pub use options::USAGE;

use crate::error::{Error, Result};
use crate::process::Cancel;
use crate::sys::signal;
use crate::sys::signal::Order;
use crate::sys::thread::spawn;
use event::{End, Event, Outcome, Target};
use options::Options;
use progress::Screen;
use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

const FAILED: u8 = 1;
const WRONG_USAGE: u8 = 2;
const INTERRUPTED: u8 = 130;

/// Runs `orchestrator-agent seed` with the arguments behind that word. Must be called before any thread is started, because
/// it blocks signals. The exit codes are in [`USAGE`].
pub fn run(args: &[OsString]) -> ExitCode {
    // Known before all else, because a wrong command line is told to programs as well.
    let json = args.iter().any(|a| a == "--json" || a == "-json");
    let screen = Arc::new(Screen::standard(json));
    if args
        .iter()
        .any(|a| a == "--help" || a == "-help" || a == "-h")
    {
        Screen::standard(false).say(USAGE.trim_end());
        return ExitCode::SUCCESS;
    }
    let outcome = match options::parse(args) {
        Err(text) => {
            screen.error(&format!(
                "{text}\n`orchestrator-agent seed --help` lists all options"
            ));
            Outcome::early(End::WrongUsage, WRONG_USAGE, Some(text))
        }
        Ok(Err(e)) => {
            screen.error(&e.to_string());
            Outcome::early(End::Failed, FAILED, Some(e.to_string()))
        }
        Ok(Ok(options)) => conduct(&options, &screen),
    };
    screen.event(&Event::Result(&outcome));
    ExitCode::from(outcome.exit_code)
}

fn conduct(options: &Options, screen: &Arc<Screen>) -> Outcome {
    let begin = Instant::now();
    options.warnings.iter().for_each(|w| screen.warn(w));
    let cancel = Cancel::default();
    let result = listen_to_signals(screen, &cancel).and_then(|()| seed(options, screen, &cancel));
    let early = match result {
        Ok(outcome) => return outcome,
        Err(e) if e.is_cancelled() => {
            screen.error("interrupted; nothing on the target was touched");
            Outcome::early(End::Interrupted, INTERRUPTED, Some("interrupted".into()))
        }
        Err(e) => {
            screen.error(&format!("{e}; nothing on the target was touched"));
            Outcome::early(End::Failed, FAILED, Some(e.to_string()))
        }
    };
    Outcome {
        seed_id: Some(options.seed_id),
        total_seconds: event::seconds(begin.elapsed()),
        ..early
    }
}

/// The seed itself. An error means that nothing was changed yet.
fn seed(options: &Options, screen: &Arc<Screen>, cancel: &Cancel) -> Result<Outcome> {
    let begin = Instant::now();
    let agents = tokens::gather(options, screen, cancel)?;
    let plan = preflight::check(options, &agents, screen)?;
    cancel.check()?;
    if options.dry_run {
        screen.say("Preflight: passed; nothing was changed (--dry-run)");
        return Ok(Outcome {
            seed_id: Some(options.seed_id),
            method: Some(plan.method),
            total_seconds: event::seconds(begin.elapsed()),
            ..Outcome::early(End::DryRun, 0, None)
        });
    }
    Ok(drive::Drive::new(options, &plan, &agents, screen, cancel).run())
}

/// The first TERM or INT cancels, which takes a moment; a second one leaves at once.
fn listen_to_signals(screen: &Arc<Screen>, cancel: &Cancel) -> Result<()> {
    signal::block().map_err(|e| Error::io("cannot block signals", &e))?;
    let (screen, cancel) = (Arc::clone(screen), cancel.clone());
    let listen = move || {
        loop {
            match signal::wait() {
                Ok(Order::Stop) if cancel.is_cancelled() => {
                    let text = "interrupted twice: left at once, the agents may still be at work";
                    let outcome =
                        Outcome::early(End::Interrupted, INTERRUPTED, Some(text.to_string()));
                    screen.event(&Event::Result(&Outcome {
                        target_state: Target::Unknown,
                        ..outcome
                    }));
                    std::process::exit(i32::from(INTERRUPTED))
                }
                Ok(Order::Stop) => {
                    screen.error(
                        "interrupted: ending the seed on both agents; once more to leave at once",
                    );
                    cancel.cancel("interrupted");
                }
                Ok(Order::Reload) => {}
                Err(e) => return screen.warn(&format!("signals are not heard any more: {e}")),
            }
        }
    };
    spawn("signal", listen).map(drop)
}

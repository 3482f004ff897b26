//! The `seed` command: a whole seed between two agents, from one shell, without an orchestrator (DESIGN 8).
//!
//! ```text
//! options -> tokens -> preflight -> drive (Prepare, Backup, Restore) -> replicate -> drive (Cleanup, hooks, summary)
//!            agents    nothing is   agent: the HTTP calls                sql: statements
//!            known     changed yet  progress: what the user sees
//! ```

mod agent;
mod drive;
mod method;
mod options;
mod preflight;
mod progress;
mod replicate;
mod sql;
mod tokens;

pub use options::USAGE;

use crate::error::{Error, Result};
use crate::process::Cancel;
use crate::system::signal::{self, Order};
use options::Options;
use progress::Screen;
use std::process::ExitCode;
use std::sync::Arc;

const FAILED: u8 = 1;
const WRONG_USAGE: u8 = 2;
const INTERRUPTED: u8 = 130;

/// Runs `orchestrator-agent seed` with the arguments behind that word. Must be called before any thread is started, because
/// it blocks signals. The exit codes are in [`USAGE`].
pub fn run(args: &[String]) -> ExitCode {
    let screen = Arc::new(Screen::standard(args.iter().any(|a| a == "--json")));
    if args.iter().any(|a| a == "--help" || a == "-h") {
        screen.say(USAGE.trim_end());
        return ExitCode::SUCCESS;
    }
    let code = match options::parse(args) {
        Err(text) => {
            screen.error(&format!(
                "{text}\n`orchestrator-agent seed --help` lists all options"
            ));
            WRONG_USAGE
        }
        Ok(Err(e)) => {
            screen.error(&e.to_string());
            FAILED
        }
        Ok(Ok(options)) => conduct(&options, &screen),
    };
    screen.result(code, meaning(code));
    ExitCode::from(code)
}

fn meaning(code: u8) -> &'static str {
    match code {
        0 => "done",
        FAILED => "failed, target untouched",
        WRONG_USAGE => "wrong command line",
        INTERRUPTED => "interrupted",
        _ => "failed",
    }
}

fn conduct(options: &Options, screen: &Arc<Screen>) -> u8 {
    options.warnings.iter().for_each(|w| screen.warn(w));
    let cancel = Cancel::default();
    let result = listen_to_signals(screen, &cancel).and_then(|()| seed(options, screen, &cancel));
    match result {
        Ok(code) => code,
        Err(e) if e.is_cancelled() => {
            screen.error("interrupted; nothing on the target was touched");
            INTERRUPTED
        }
        Err(e) => {
            screen.error(&format!("{e}; nothing on the target was touched"));
            FAILED
        }
    }
}

/// The seed itself. An error means that nothing was changed yet.
fn seed(options: &Options, screen: &Arc<Screen>, cancel: &Cancel) -> Result<u8> {
    screen.fact("seed_id", options.seed_id);
    screen.fact("source", options.source.host.as_str());
    screen.fact("target", options.target.host.as_str());
    screen.fact("dry_run", options.dry_run);
    let agents = tokens::gather(options, screen, cancel)?;
    let plan = preflight::check(options, &agents, screen)?;
    cancel.check()?;
    if options.dry_run {
        screen.say("Preflight: passed; nothing was changed (--dry-run)");
        return Ok(0);
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
    let thread = std::thread::Builder::new()
        .name("signal".into())
        .spawn(listen);
    thread
        .map(drop)
        .map_err(|e| Error::io("cannot start thread signal", &e))
}

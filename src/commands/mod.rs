//! Arguments, usage text, exit codes.

pub mod check_config;
pub mod seed;
pub mod status;

use crate::{config, daemon};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "\
usage: orchestrator-agent [serve] [--config FILE]     the daemon
       orchestrator-agent seed --source H --target H  a whole seed between two agents; `seed --help` tells more
       orchestrator-agent check-config [--config FILE] [--json]
                                                      is this host ready for the agent? prints every finding
       orchestrator-agent status [--config FILE] [--json]
                                                      what the agent on this host is doing
       orchestrator-agent --version

FILE is /etc/orchestrator-agent.conf unless named. -config FILE and -version work as well.
exit codes: 0 stopped in order, 1 failed (the reason is on standard error), 2 wrong arguments
check-config: 0 no error found, 1 errors found; status: 0 the agent answers, 1 it does not
";

/// Version as `-version` prints it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The program.
pub fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("check-config") => look(&args[1..], check_config::run),
        Some("status") => look(&args[1..], status::run),
        Some("seed") => seed::run(&args[1..]),
        Some("serve") => serve(&args[1..]),
        _ => serve(&args),
    }
}

fn serve(args: &[String]) -> ExitCode {
    let mut file = PathBuf::from(config::DEFAULT_PATH);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let (name, value) = arg
            .split_once('=')
            .map_or((arg.as_str(), None), |(n, v)| (n, Some(v)));
        match (name, value) {
            ("--config" | "-config", Some(v)) => file = v.into(),
            ("--config" | "-config", None) => match args.next() {
                Some(v) => file = v.into(),
                None => return usage("--config needs a file name"),
            },
            ("--version" | "-version", None) => {
                println!("orchestrator-agent {VERSION}");
                return ExitCode::SUCCESS;
            }
            ("--help" | "-help" | "-h", None) => {
                print!("{USAGE}");
                return ExitCode::SUCCESS;
            }
            _ => return usage(&format!("unknown argument {arg}")),
        }
    }
    match daemon::serve(&file) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("orchestrator-agent: {e}");
            ExitCode::FAILURE
        }
    }
}

/// A command that takes a configuration file and `--json`.
fn look(args: &[String], command: fn(&Path, bool) -> ExitCode) -> ExitCode {
    let mut file = PathBuf::from(config::DEFAULT_PATH);
    let mut json = false;
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let (name, value) = arg
            .split_once('=')
            .map_or((arg.as_str(), None), |(n, v)| (n, Some(v)));
        match (name, value) {
            ("--config" | "-config", given) => {
                match given.or_else(|| args.next().map(String::as_str)) {
                    Some(v) if !v.is_empty() => file = v.into(),
                    _ => return usage("--config needs a file name"),
                }
            }
            ("--json" | "-json", None) => json = true,
            ("--help" | "-help" | "-h", None) => {
                print!("{USAGE}");
                return ExitCode::SUCCESS;
            }
            _ => return usage(&format!("unknown argument {arg}")),
        }
    }
    command(&file, json)
}

fn usage(problem: &str) -> ExitCode {
    eprintln!("orchestrator-agent: {problem}\n{USAGE}");
    ExitCode::from(2)
}

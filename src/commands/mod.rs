//! Arguments, usage text, exit codes.

mod arguments;
pub(crate) mod check_config;
pub(crate) mod seed;
pub(crate) mod status;

use crate::sys::Inserted;
use crate::{config, daemon};
use arguments::Takes;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "\
usage: orchestrator-agent [serve] [--config FILE]     the daemon
       orchestrator-agent seed --source H --target H  a complete seed between two agents; see `seed --help`
       orchestrator-agent check-config [--config FILE] [--json]
                                                      is this host ready for the agent? prints every finding
       orchestrator-agent status [--config FILE] [--json]
                                                      what the agent on this host is doing
       orchestrator-agent --version

FILE is /etc/orchestrator-agent.conf unless named. -config FILE and -version work as well.
exit codes: 0 clean shutdown, 1 failed (the reason is on standard error), 2 wrong arguments
check-config: 0 no error found, 1 errors found; status: 0 the agent answers, 1 it does not
";

/// The program.
pub fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let (command, rest) = match args.split_first() {
        Some((first, rest)) => (first.to_str().unwrap_or_default(), rest),
        None => ("serve", &args[..]),
    };
    let done = match command {
        "check-config" => options(rest, "json").map(|(file, json)| check_config::run(&file, json)),
        "status" => options(rest, "json").map(|(file, json)| status::run(&file, json)),
        "seed" => Ok(seed::run(rest)),
        "serve" => serve(rest),
        _ => serve(&args),
    };
    done.unwrap_or_else(|code| code)
}

fn serve(args: &[OsString]) -> Result<ExitCode, ExitCode> {
    let (file, version) = options(args, "version")?;
    if version {
        println!("orchestrator-agent {}", crate::VERSION);
        return Ok(ExitCode::SUCCESS);
    }
    if let Err(e) = daemon::serve(&file) {
        for line in e.to_string().lines() {
            eprintln!("orchestrator-agent: {line}");
        }
        return Err(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// The configuration file, and whether the flag is given. With `--help` or wrong arguments the program is at its end.
fn options(args: &[OsString], flag: &'static str) -> Result<(PathBuf, bool), ExitCode> {
    let known = [
        ("config", Takes::Value),
        (flag, Takes::Nothing),
        ("help", Takes::Nothing),
    ];
    let given = arguments::parse(args, &known).map_err(|problem| usage(&problem))?;
    let given: BTreeMap<_, _> = given.into_iter().inserted();
    if given.contains_key("help") {
        print!("{USAGE}");
        return Err(ExitCode::SUCCESS);
    }
    let file = given.get("config").map_or(config::DEFAULT_PATH, |f| f);
    Ok((file.into(), given.contains_key(flag)))
}

fn usage(problem: &str) -> ExitCode {
    eprintln!("orchestrator-agent: {problem}\n{USAGE}");
    ExitCode::from(2)
}

//! Arguments, usage text, exit codes.

mod arguments;
pub(crate) mod check_config;
pub(crate) mod seed;
pub(crate) mod status;

use crate::sys::Inserted;
use crate::{config, daemon};
use arguments::Takes;
use log::LevelFilter;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "\
usage: orchestrator-agent [serve] [--config FILE] [--verbose] [--debug]
                                                      the daemon
       orchestrator-agent seed --source H --target H  a complete seed between two agents; see `seed --help`
       orchestrator-agent check-config [--config FILE] [--json]
                                                      is this host ready for the agent? prints every finding
       orchestrator-agent status [--config FILE] [--json]
                                                      what the agent on this host is doing
       orchestrator-agent convert-config FILE.json [FILE.json ...]
                                                      prints the TOML equivalent of a classic agent's configuration
       orchestrator-agent --version

FILE is /etc/orchestrator-agent.conf unless named; without it, the JSON files of a classic agent in their places.
--verbose logs at least at level info, --debug at level debug. -config FILE, -verbose, -debug, -stack and -version work as well.
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
        "check-config" => json(rest).map(|(file, json)| check_config::run(file.as_deref(), json)),
        "status" => json(rest).map(|(file, json)| status::run(file.as_deref(), json)),
        "convert-config" => convert_config(rest),
        "seed" => Ok(seed::run(rest)),
        "serve" => serve(rest),
        _ => serve(&args),
    };
    done.unwrap_or_else(|code| code)
}

fn serve(args: &[OsString]) -> Result<ExitCode, ExitCode> {
    const FLAGS: [&str; 4] = ["version", "verbose", "debug", "stack"];
    let given = options(args, &FLAGS)?;
    let has = |flag| is_set(&given, flag);
    if has("version")? {
        println!("orchestrator-agent {}", crate::VERSION);
        return Ok(ExitCode::SUCCESS);
    }
    let (verbose, debug) = (has("verbose")?, has("debug")?);
    let options = daemon::Options {
        file: file(&given),
        level: match (verbose, debug) {
            (_, true) => Some(LevelFilter::Debug),
            (true, false) => Some(LevelFilter::Info),
            (false, false) => None,
        },
        stack: has("stack")?,
    };
    if let Err(e) = daemon::serve(options) {
        report(&e.to_string());
        return Err(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// The configuration file if one is named, and whether the output is JSON.
fn json(args: &[OsString]) -> Result<(Option<PathBuf>, bool), ExitCode> {
    let given = options(args, &["json"])?;
    Ok((file(&given), is_set(&given, "json")?))
}

fn convert_config(args: &[OsString]) -> Result<ExitCode, ExitCode> {
    let is_option = |arg: &&OsString| arg.as_encoded_bytes().starts_with(b"-");
    let options_given: Vec<_> = args.iter().filter(is_option).cloned().collect();
    options(&options_given, &[])?;
    let files: Vec<PathBuf> = args.iter().map(PathBuf::from).collect();
    if files.is_empty() || !options_given.is_empty() {
        return Err(usage(
            "convert-config needs the names of JSON files and takes no option",
        ));
    }
    match config::convert(&files) {
        Ok((toml, warnings)) => {
            for warning in warnings {
                report(&warning);
            }
            let written = std::io::stdout().write_all(toml.as_bytes());
            written.map(|()| ExitCode::SUCCESS).map_err(|e| {
                report(&format!("standard output: {e}"));
                ExitCode::FAILURE
            })
        }
        Err(faults) => {
            report(&faults.to_string());
            Err(ExitCode::FAILURE)
        }
    }
}

fn report(text: &str) {
    for line in text.lines() {
        eprintln!("orchestrator-agent: {line}");
    }
}

/// Options to their values.
type Given = BTreeMap<&'static str, String>;

/// What is given of `--config`, `--help` and the flags. With `--help` or wrong arguments the program is at its end.
fn options(args: &[OsString], flags: &[&'static str]) -> Result<Given, ExitCode> {
    let mut known = vec![("config", Takes::Value), ("help", Takes::Nothing)];
    // Go's flags may have a value, as in -verbose=false.
    known.extend(flags.iter().map(|flag| (*flag, Takes::Optional)));
    let given = arguments::parse(args, &known).map_err(|problem| usage(&problem))?;
    let given: Given = given.into_iter().inserted();
    if given.contains_key("help") {
        print!("{USAGE}");
        return Err(ExitCode::SUCCESS);
    }
    Ok(given)
}

fn file(given: &Given) -> Option<PathBuf> {
    given.get("config").map(PathBuf::from)
}

fn is_set(given: &Given, flag: &str) -> Result<bool, ExitCode> {
    match given.get(flag).map(String::as_str) {
        None | Some("false") => Ok(false),
        Some("" | "true") => Ok(true),
        Some(other) => Err(usage(&format!(
            "--{flag}={other}: write --{flag} or --{flag}=false"
        ))),
    }
}

fn usage(problem: &str) -> ExitCode {
    eprintln!("orchestrator-agent: {problem}\n{USAGE}");
    ExitCode::from(2)
}

//! The one parser of command lines.

use crate::config::nearest;
use lexopt::{Arg, Error, Parser};
use std::ffi::OsString;

const COMMANDS: [&str; 5] = ["serve", "seed", "check-config", "status", "convert-config"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    Nothing,
    Value,
    /// Only as `--name=value`, and it may be missing.
    Optional,
}

/// The options of a command line in their order, with an empty value where there is none. An option is written `--name value` or
/// `--name=value`, or with one dash as for the Go agent; `-h` is `--help`.
///
/// # Errors
/// Names the argument that cannot be used, and the nearest option.
pub(crate) fn parse<A: Clone + Into<OsString>>(
    args: &[A],
    known: &[(&'static str, Takes)],
) -> Result<Vec<(&'static str, String)>, String> {
    let args = args.iter().cloned();
    let mut parser = Parser::from_args(args.map(|arg| two_dashes(arg.into(), known)));
    let mut given = Vec::new();
    while let Some(arg) = parser.next().map_err(|e| wording(&e))? {
        let name = match arg {
            Arg::Long(name) => name.to_string(),
            Arg::Short('h') => "help".to_string(),
            Arg::Short(other) => return Err(format!("-{other}: no such option")),
            Arg::Value(word) => {
                let word = word.to_string_lossy();
                let hint = match nearest(&word, COMMANDS.into_iter()) {
                    Some(command) => format!("did you mean {command}?"),
                    None => "options begin with --".into(),
                };
                return Err(format!("unknown argument {word}: {hint}"));
            }
        };
        let Some(&(name, takes)) = known.iter().find(|(n, _)| *n == name) else {
            let hint = nearest(&name, known.iter().map(|(n, _)| *n));
            let hint = hint.map_or(String::new(), |hint| format!("; did you mean --{hint}?"));
            return Err(format!("--{name}: no such option{hint}"));
        };
        let value = match takes {
            Takes::Nothing => None,
            Takes::Optional => parser.optional_value(),
            Takes::Value => Some(parser.value().map_err(|e| wording(&e))?),
        };
        let value = value.unwrap_or_default().into_string();
        let value = value.map_err(|value| format!("--{name}: {} is not UTF-8", value.display()))?;
        if takes == Takes::Value && value.is_empty() {
            return Err(format!("--{name} needs a value"));
        }
        given.push((name, value));
    }
    Ok(given)
}

fn wording(e: &Error) -> String {
    match e {
        Error::MissingValue { option } => {
            format!("{} needs a value", option.as_deref().unwrap_or("an option"))
        }
        Error::UnexpectedValue { option, .. } => format!("{option} takes no value"),
        other => other.to_string(),
    }
}

/// `-name` as `--name`, if it is an option.
fn two_dashes(arg: OsString, known: &[(&'static str, Takes)]) -> OsString {
    let name = arg.to_str().and_then(|arg| arg.strip_prefix('-'));
    let name = name.and_then(|rest| rest.split('=').next());
    if name.is_some_and(|name| known.iter().any(|(n, _)| *n == name)) {
        let mut long = OsString::from("-");
        long.push(arg);
        return long;
    }
    arg
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [(&str, Takes); 4] = [
        ("config", Takes::Value),
        ("json", Takes::Nothing),
        ("verify", Takes::Optional),
        ("help", Takes::Nothing),
    ];

    fn given(line: &str) -> Result<String, String> {
        let args: Vec<_> = line.split(' ').collect();
        let given = parse(&args, &KNOWN)?;
        Ok(given.iter().map(|(n, v)| format!("{n}={v};")).collect())
    }

    #[test]
    fn spellings() {
        for (line, options) in [
            ("--config a --json", "config=a;json=;"),
            ("--config=a=b", "config=a=b;"),
            ("-config a -json", "config=a;json=;"),
            ("-config=a", "config=a;"),
            ("--config --json", "config=--json;"),
            ("--config a --config b", "config=a;config=b;"),
            ("--verify --json", "verify=;json=;"),
            ("--verify=sample", "verify=sample;"),
            ("-h", "help=;"),
            ("-help", "help=;"),
        ] {
            assert_eq!(given(line).as_deref(), Ok(options), "{line}");
        }
    }

    #[test]
    fn mistakes() {
        for (line, text) in [
            (
                "--confg a",
                "--confg: no such option; did you mean --config?",
            ),
            (
                "--confg=a",
                "--confg: no such option; did you mean --config?",
            ),
            ("--something-else", "--something-else: no such option"),
            ("-x", "-x: no such option"),
            ("--config", "--config needs a value"),
            ("-config", "--config needs a value"),
            ("--config=", "--config needs a value"),
            ("--json=1", "--json takes no value"),
            ("--json=1 --config a", "--json takes no value"),
            ("sed", "unknown argument sed: did you mean seed?"),
            (
                "db1.example.com",
                "unknown argument db1.example.com: options begin with --",
            ),
            (
                "-- --json",
                "unknown argument --json: options begin with --",
            ),
        ] {
            assert_eq!(given(line), Err(text.to_string()), "{line}");
        }
    }

    #[test]
    fn bytes_that_are_no_text() {
        use std::os::unix::ffi::OsStringExt;
        let args = ["--config".into(), OsString::from_vec(b"\xff".to_vec())];
        assert!(parse(&args, &KNOWN).unwrap_err().contains("is not UTF-8"));
    }
}

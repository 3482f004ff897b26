//! The `check-config` command: is this host ready for the agent? Looks, and changes nothing that lasts: the only traces are
//! empty probe files, removed at once, and the runs of `service-status-command` and of commands that print where MySQL is.

#[macro_use]
mod findings;
mod classic;
mod commands;
mod files;
mod methods;
mod network;
mod server;

use crate::config;
use crate::process::Launcher;
use findings::{Finding, Findings, Level};
use serde::Serialize;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    findings: Vec<Finding>,
    errors: usize,
    warnings: usize,
}

impl Document {
    fn of(found: Findings) -> Self {
        Self {
            errors: found.count(Level::Error),
            warnings: found.count(Level::Warning),
            findings: found.list,
        }
    }
}

/// Checks the file and this host, and prints what it finds. Exit code 1 if there is an error among it, otherwise 0.
pub(crate) fn run(file: Option<&Path>, json: bool) -> ExitCode {
    let document = Document::of(check(file));
    let text = if json {
        serde_json::to_string_pretty(&document).map(|t| t + "\n")
    } else {
        Ok(table(&document))
    };
    let text = text.map_err(std::io::Error::from);
    match text.and_then(|text| std::io::stdout().write_all(text.as_bytes())) {
        Ok(()) if document.errors == 0 => return ExitCode::SUCCESS,
        Ok(()) => {}
        Err(e) => eprintln!("orchestrator-agent: standard output: {e}"),
    }
    ExitCode::FAILURE
}

fn check(file: Option<&Path>) -> Findings {
    let mut f = Findings::default();
    let loaded = match config::load(file) {
        Ok(loaded) => loaded,
        Err(faults) => {
            let name = &faults.file;
            for fault in &faults.errors {
                note!(f, Error, name => "{fault}");
            }
            if let Some(last) = f.list.last_mut() {
                last.remedy =
                    "correct this, then run check-config again: nothing else was checked".into();
            }
            for warning in &faults.warnings {
                note!(f, Warning, name => "{warning}");
            }
            return f;
        }
    };
    let name = &loaded.file;
    if loaded.is_json {
        note!(f, Ok, name => "is a valid configuration of a classic agent; convert-config prints it as TOML");
    } else {
        note!(f, Ok, name => "is a valid configuration");
    }
    for warning in &loaded.warnings {
        note!(f, Warning, name => "{warning}");
    }
    let config = Arc::new(loaded.config);
    let launcher = Launcher::new(&config.common);
    let server = server::check(&mut f, &config);
    files::check(&mut f, &config, &server, loaded.is_json);
    network::check(&mut f, &config);
    commands::check(&mut f, &config, &launcher, server.alive);
    classic::check(&mut f, &config, &launcher);
    methods::check(&mut f, &config, loaded.is_json);
    f
}

fn table(document: &Document) -> String {
    let width = |text: &str| text.chars().count();
    let wide = document.findings.iter().map(|f| width(&f.subject));
    let wide = wide.max().unwrap_or(0).min(40);
    let mut out = String::new();
    for f in &document.findings {
        let level = match f.level {
            Level::Error => "ERROR",
            Level::Warning => "warning",
            Level::Ok => "ok",
        };
        out += &format!("{level:<8} {:<wide$}  {}\n", f.subject, plain(&f.text));
        if !f.remedy.is_empty() {
            out += &format!("{:<8} {:<wide$}  -> {}\n", "", "", plain(&f.remedy));
        }
    }
    let s = |n: usize| if n == 1 { "" } else { "s" };
    let (e, w) = (document.errors, document.warnings);
    out + &format!("{e} error{}, {w} warning{}\n", s(e), s(w))
}

/// A text that may come from a server or a tool, for a terminal.
fn plain(text: &str) -> String {
    let visible = |c: char| if c.is_control() { ' ' } else { c };
    text.trim().chars().map(visible).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_counts_and_lets_no_control_character_through() {
        let mut f = Findings::default();
        note!(f, Ok, "common.port" => "free");
        note!(f, Error, "mysql.user" => "refused\u{1b}[2J"; "grant it");
        let text = table(&Document::of(f));
        assert_eq!(
            text,
            "ok       common.port  free\n\
             ERROR    mysql.user   refused [2J\n\
             \x20                     -> grant it\n\
             1 error, 0 warnings\n"
        );
    }

    #[test]
    fn a_file_that_is_not_there_is_one_error() {
        let f = check(Some(Path::new("/no/such/agent.conf")));
        assert_eq!((f.list.len(), f.count(Level::Error)), (1, 1));
        assert_eq!(f.list[0].subject, "/no/such/agent.conf");
    }

    #[test]
    fn all_faults_of_a_file_are_findings() {
        let file = std::env::temp_dir().join(format!("check-config-{}.conf", std::process::id()));
        std::fs::write(&file, "[common]\nport = 0\nprot = 1\nuse-ssl = 1\n").unwrap();
        let f = check(Some(&file));
        std::fs::remove_file(&file).unwrap();
        let name = file.display().to_string();
        let of_file = f.list.iter().filter(|f| f.subject == name).count();
        assert_eq!((of_file, f.list.len()), (8, 8), "{f:?}");
        assert_eq!((f.count(Level::Error), f.count(Level::Warning)), (6, 2));
        let told: Vec<_> = f.list.iter().filter(|f| !f.remedy.is_empty()).collect();
        assert!(told.len() == 1 && told[0].remedy.contains("nothing else was checked"));
    }
}

//! The `check-config` command: is this host ready for the agent? Looks, and changes nothing that lasts: the only traces are
//! empty probe files, removed at once, and the run of `service-status-command`.

mod commands;
mod datadir;
mod findings;
mod methods;
mod network;
mod places;
mod server;
mod tls;

use crate::config;
use crate::process::Launcher;
use findings::{Finding, Findings, Level};
use serde::Serialize;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Document<'a> {
    findings: &'a [Finding],
    errors: usize,
    warnings: usize,
}

/// Checks the file and this host, and prints what it finds. Exit code 1 if there is an error among it, otherwise 0.
pub(crate) fn run(file: &Path, json: bool) -> ExitCode {
    let findings = check(file);
    let document = Document {
        findings: &findings.list,
        errors: findings.count(Level::Error),
        warnings: findings.count(Level::Warning),
    };
    let failed = document.errors > 0;
    let text = if json {
        serde_json::to_string_pretty(&document).map(|t| t + "\n")
    } else {
        Ok(table(&document))
    };
    match text {
        Ok(text) => {
            if let Err(e) = std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes()) {
                eprintln!("orchestrator-agent: standard output: {e}");
                return ExitCode::FAILURE;
            }
        }
        Err(e) => {
            eprintln!("orchestrator-agent: cannot write the findings as JSON: {e}");
            return ExitCode::FAILURE;
        }
    }
    if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn check(file: &Path) -> Findings {
    let mut f = Findings::default();
    let name = file.display().to_string();
    let loaded = match config::load(file) {
        Ok(loaded) => loaded,
        Err(faults) => {
            for fault in &faults.errors {
                f.error(&name, fault, "");
            }
            if let Some(last) = f.list.last_mut() {
                last.remedy =
                    "correct this, then run check-config again: nothing else was checked".into();
            }
            faults.warnings.iter().for_each(|w| f.warning(&name, w, ""));
            return f;
        }
    };
    f.ok(&name, "is a valid configuration");
    for warning in &loaded.warnings {
        f.warning(&name, warning, "");
    }
    let config = Arc::new(loaded.config);
    let launcher = Launcher::new(&config.common);
    let server = server::check(&mut f, &config);
    places::check(&mut f, &config, &server);
    datadir::check(&mut f, &config, &server);
    network::check(&mut f, &config);
    tls::check(&mut f, &config);
    commands::check(&mut f, &config, &launcher, server.alive);
    methods::check(&mut f, &config);
    f
}

fn table(document: &Document) -> String {
    let width = |text: &str| text.chars().count();
    let wide = document.findings.iter().map(|f| width(&f.subject));
    let wide = wide.max().unwrap_or(0).min(40);
    let mut out = String::new();
    for f in document.findings {
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
        f.ok("common.port", "free");
        f.error("mysql.user", "refused\u{1b}[2J", "grant it");
        let text = table(&Document {
            findings: &f.list,
            errors: f.count(Level::Error),
            warnings: f.count(Level::Warning),
        });
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
        let f = check(Path::new("/no/such/agent.conf"));
        assert_eq!((f.list.len(), f.count(Level::Error)), (1, 1));
        assert_eq!(f.list[0].subject, "/no/such/agent.conf");
    }

    #[test]
    fn all_faults_of_a_file_are_findings() {
        let file = std::env::temp_dir().join(format!("check-config-{}.conf", std::process::id()));
        std::fs::write(&file, "[common]\nport = 0\nprot = 1\nuse-ssl = 1\n").unwrap();
        let f = check(&file);
        std::fs::remove_file(&file).unwrap();
        let name = file.display().to_string();
        let of_file = f.list.iter().filter(|f| f.subject == name).count();
        assert_eq!((of_file, f.list.len()), (8, 8), "{f:?}");
        assert_eq!((f.count(Level::Error), f.count(Level::Warning)), (6, 2));
        let told: Vec<_> = f.list.iter().filter(|f| !f.remedy.is_empty()).collect();
        assert!(told.len() == 1 && told[0].remedy.contains("nothing else was checked"));
    }
}

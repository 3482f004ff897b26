//! The server's own program: which it is, and what it says of itself.

use super::facts::Variables;
use crate::error::{Error, Result};
use crate::mysql::{Flavour, Server};
use crate::process::{Launcher, set_environment};
use crate::sys::proc::servers_in;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The running server's own program: by its process, by `basedir`, by PATH; of its version.
pub(super) fn find_program(of: &Variables, datadir: &Path, server: Server) -> Result<PathBuf> {
    let mut candidates: Vec<PathBuf> = Vec::new();
    for pid in servers_in(datadir) {
        if let Ok(exe) = std::fs::read_link(format!("/proc/{pid}/exe")) {
            let name = exe.to_string_lossy();
            // Replaced by an upgrade since its start.
            candidates.push(name.strip_suffix(" (deleted)").unwrap_or(&name).into());
        }
    }
    let names: &[&str] = match server.flavour {
        Flavour::MariaDb => &["mariadbd", "mysqld"],
        Flavour::MySql => &["mysqld"],
    };
    let basedir = Path::new(of.get("basedir").map_or("/usr", String::as_str));
    for dir in ["sbin", "bin", "libexec"] {
        candidates.extend(names.iter().map(|n| basedir.join(dir).join(n)));
    }
    candidates.extend(Launcher::default().find(names));
    let mut seen = Vec::new();
    for program in candidates {
        match version_of(&program) {
            Ok(found) if found == server => return Ok(program),
            Ok(found) => seen.push((program.canonicalize().unwrap_or(program), found)),
            Err(e) => log::debug!("{e}"),
        }
    }
    Err(none_fits(server, seen))
}

/// `seen`: programs of other versions by their canonical paths, an installed one under several names more than once.
fn none_fits(server: Server, mut seen: Vec<(PathBuf, Server)>) -> Error {
    seen.sort_by(|a, b| a.0.cmp(&b.0));
    seen.dedup_by(|a, b| a.0 == b.0);
    let running = format!("{} {}", server.flavour, server.version);
    let shown = |(program, found): &(PathBuf, Server)| {
        format!(
            "{} is {} {}",
            program.display(),
            found.flavour,
            found.version
        )
    };
    const WHY: &str =
        "a physical seed starts the server's own program on the copy before it is used";
    Error::permanent(match seen.as_slice() {
        [] => format!(
            "the program of the running server ({running}) was not found: {WHY}; put the directory of mysqld into the agent's PATH"
        ),
        [one] if one.1.flavour == server.flavour => format!(
            "the running server is {running}, but its program {}: the packages were upgraded since its start, and {WHY}; restart \
             MySQL",
            shown(one)
        ),
        all => format!(
            "no program of the running server's version ({running}) was found ({}): {WHY}; restart MySQL if its packages were \
             upgraded, else put the directory of its mysqld into the agent's PATH",
            all.iter().map(shown).collect::<Vec<_>>().join(", ")
        ),
    })
}

/// `mysqld  Ver 9.7.4-2 for Linux on x86_64 ((Debian))`
pub(super) fn version_of(program: &Path) -> Result<Server> {
    let text = output_of(program, &["--no-defaults", "--version"])?;
    let version = text
        .split_once("Ver ")
        .and_then(|(_, t)| t.split_whitespace().next());
    Server::parse(version.unwrap_or(&text), &text)
}

/// The variables that the program would run with: the table at the end of its help.
pub(super) fn help_of(program: &Path, defaults_file: &str) -> Result<Variables> {
    let file = format!("--defaults-file={defaults_file}");
    // It would open the index of its binary log otherwise.
    let mut args = vec![
        "--verbose",
        "--help",
        "--log-bin-index=/nonexistent/orchestrator-agent",
    ];
    if !defaults_file.is_empty() {
        args.insert(0, &file);
    }
    let help = output_of(program, &args).map_err(|e| match defaults_file {
        "" => e,
        set => e
            .context(format!("mysql.defaults-file = \"{set}\""))
            .about("mysql.defaults-file"),
    })?;
    Ok(variables_in(&help))
}

fn variables_in(help: &str) -> Variables {
    let table = help
        .lines()
        .skip_while(|l| !l.starts_with("Variables (--variable"));
    let mut of = Variables::new();
    for line in table
        .skip(1)
        .take_while(|l| !l.is_empty() || !l.starts_with("To see"))
    {
        if let Some((name, value)) = line.split_once(char::is_whitespace)
            && name.starts_with(|c: char| c.is_ascii_lowercase())
        {
            of.insert(name.replace('-', "_"), value.trim().to_string());
        }
    }
    of.remove("log_bin_index"); // ours
    of
}

fn output_of(program: &Path, args: &[&str]) -> Result<String> {
    let mut command = Command::new(program);
    set_environment(&mut command);
    let out = command
        .args(args)
        .stdin(std::process::Stdio::null())
        .output()
        .map_err(|e| Error::io(program.display(), &e))?;
    if out.status.success() {
        return Ok(String::from_utf8_lossy(&out.stdout).into_owned());
    }
    let why = String::from_utf8_lossy(&out.stderr);
    Err(Error::permanent(format!(
        "{} {}: {}, stderr: {}",
        program.display(),
        args.join(" "),
        out.status,
        why.lines().last().unwrap_or_default()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upgraded_program_is_named_once() {
        let server = |text: &str| Server::parse(text, text).unwrap();
        let (old, new) = (server("10.11.18-MariaDB"), server("10.11.19-MariaDB"));
        let of = |seen: &[(&str, Server)]| {
            let seen = seen.iter().map(|(p, s)| (PathBuf::from(p), *s)).collect();
            none_fits(old, seen).to_string()
        };
        let one = of(&[("/usr/sbin/mariadbd", new); 3]);
        assert_eq!(one.matches("/usr/sbin/mariadbd").count(), 1, "{one}");
        assert!(one.ends_with("; restart MySQL"), "{one}");
        let two = of(&[
            ("/usr/sbin/mariadbd", new),
            ("/opt/mysqld", server("9.7.4")),
        ]);
        assert!(
            two.contains("mariadbd is MariaDB 10.11.19")
                && two.contains("/opt/mysqld is MySQL 9.7.4"),
            "{two}"
        );
        assert!(of(&[]).contains("was not found"));
    }

    #[test]
    fn the_help_of_both_families_is_read() {
        let help = "mysqld  Ver 9.7.4\nUsage\n\nVariables (--variable-name=value)\nand boolean options {FALSE|TRUE}  Value (after reading options)\n\
                    ------------------------------------------------------------ -------------\n\
                    datadir                                                      /var/lib/my sql/\n\
                    innodb-data-home-dir                                         (No default value)\n\
                    log-bin-index                                                /nonexistent/orchestrator-agent\n\
                    a-very-long-name-that-is-longer-than-the-column-of-names-indeed 1\n\nTo see what values\n";
        let of = variables_in(help);
        assert_eq!(of["datadir"], "/var/lib/my sql/");
        assert_eq!(of["innodb_data_home_dir"], "(No default value)");
        assert!(!of.contains_key("log_bin_index"));
        assert!(of.keys().any(|k| k.starts_with("a_very_long")));
    }
}

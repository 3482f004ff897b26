//! sudo, and the operators' own commands. Of these only `service-status-command` is run.

use super::findings::{Findings, Level};
use crate::config::Config;
use crate::process::{
    Cancel, Credentials, Launcher, Login, SessionInit, has_grammar, run_operator_command,
};
use std::time::Duration;

/// For commands that ought to answer at once.
pub(super) const COMMAND_LIMIT: Duration = Duration::from_secs(30);

/// `answers`: MySQL answers, be it with an error.
pub(super) fn check(f: &mut Findings, config: &Config, launcher: &Launcher, answers: bool) {
    let shell = launcher.shell();
    if !shell.exists() {
        return note!(f, Error, shell.display() => "does not exist in this root directory: no service, snapshot or custom command can run, so \
            mysql-start, mysql-stop and physical seeds (Xtrabackup, ClonePlugin) fail, and MySQL counts as stopped";
            "run the agent in the host's own root directory, or install a shell there");
    }
    if launcher.sudo() {
        sudo(f, config, launcher);
    }
    let (m, lvm) = (&config.mysql, &config.lvm);
    let status = &m.service_status_command;
    const STATUS: &str = "mysql.service-status-command";
    if status.trim().is_empty() {
        note!(f, Ok, STATUS => "is empty: MySQL runs if it answers");
    } else if found(f, STATUS, status, launcher) {
        run_status(f, config, launcher, answers);
    }
    let (create, local, all) = (
        &lvm.create_snapshot_command,
        &lvm.available_local_snapshot_hosts_command,
        &lvm.available_snapshot_hosts_command,
    );
    let mut others = vec![
        (
            "mysql.service-start-command".into(),
            &m.service_start_command,
        ),
        ("mysql.service-stop-command".into(), &m.service_stop_command),
    ];
    if lvm.enabled {
        others.push(("lvm.create-snapshot-command".into(), create));
        others.push(("lvm.available-local-snapshot-hosts-command".into(), local));
        others.push(("lvm.available-snapshot-hosts-command".into(), all));
    }
    let custom = config.custom_commands.iter();
    others.extend(custom.map(|(name, line)| (format!("custom-commands.{name}"), line)));
    for (key, line) in others {
        if found(f, &key, line, launcher) {
            note!(f, Ok, key => "its program was found; it was not run");
        }
    }
}

fn sudo(f: &mut Findings, config: &Config, launcher: &Launcher) {
    const EXEC: &str = "common.exec-with-sudo";
    const KEY: &str = "common.sudo-user";
    match launcher.has_rules() {
        Ok(()) => note!(f, Ok, EXEC => "sudo has rules for this user without a password"),
        Err(e) => note!(f, Error, EXEC => "{e}";
            "install sudo, and let the agent's user run its tools with NOPASSWD in sudoers; or set exec-with-sudo = false"),
    }
    if launcher.sudo_user().is_empty() {
        return;
    }
    // The real thing, in a place of its own: tools must be able to read the password file that the agent writes for them.
    let place = [&config.common.state_dir, &config.common.backup_dir];
    let Some(place) = place.into_iter().find(|d| super::files::probe(d).is_ok()) else {
        return; // found and reported by the checks of files
    };
    let name = crate::sys::host::random_hex(8).unwrap_or_else(|_| std::process::id().to_string());
    let dir = place.join(format!(".orchestrator-agent-check-{name}"));
    let unused = Login {
        host: "",
        port: 0,
        socket: "",
        user: "",
        password: "",
        public_key: false,
        plugin_dir: None,
        server: None,
    };
    match Credentials::create(&dir, &unused, launcher, &SessionInit::default()) {
        Ok(_) => note!(f, Ok, KEY => "tools can read their password files"),
        Err(e) => note!(f, Error, KEY => "{e}";
            "set it to the user that the agent runs as, or leave it empty, for root"),
    }
    if let Err(e) = std::fs::remove_dir_all(&dir) {
        note!(f, Warning, KEY => "{}: {e}", dir.display(); "remove it by hand");
    }
}

fn run_status(f: &mut Findings, config: &Config, launcher: &Launcher, answers: bool) {
    const KEY: &str = "mysql.service-status-command";
    let limit = config.common.command_timeout.min(COMMAND_LIMIT);
    let line = &config.mysql.service_status_command;
    let out = match run_operator_command(line, launcher, limit, &Cancel::default()) {
        Ok(out) => out,
        Err(e) => return note!(f, Error, KEY => "{e}"; "correct the command"),
    };
    match (out.ok(), answers) {
        (true, true) => note!(f, Ok, KEY => "reports that MySQL runs"),
        (true, false) => note!(f, Warning, KEY => "reports that MySQL runs, but nothing answers";
            "the command may check another service than that of [mysql] host, port and socket"),
        (false, true) => note!(f, Error, KEY =>
            "reports that MySQL does not run, but it answers: orchestrator would see it as stopped";
            "correct the command: its exit status must be 0 while MySQL runs"),
        (false, false) => {
            note!(f, Warning, KEY => "reports that MySQL does not run"; "start MySQL")
        }
    }
}

/// Reports a program that is not there, and sudo's way with a line that is more than a plain pipeline.
pub(super) fn found(f: &mut Findings, key: &str, line: &str, launcher: &Launcher) -> bool {
    let before = f.count(Level::Error);
    if line.trim().is_empty() {
        note!(f, Error, key => "is empty"; "give it a command");
        return false;
    }
    if launcher.sudo() && has_grammar(line) {
        note!(f, Warning, key => "is more than a plain pipeline, so it runs as `sudo {} -c`", launcher.shell().display();
            "sudoers must allow that; or put the line into a script");
    }
    let Some(word) = first_word(line) else {
        return true; // the shell must run it to know its program
    };
    // The shell's own answer: it knows its builtins, and the agent's PATH.
    let ask = format!("command -v '{}'", word.replace('\'', "'\\''"));
    let plain = Launcher::default();
    match run_operator_command(&ask, &plain, COMMAND_LIMIT, &Cancel::default()) {
        Ok(out) if out.ok() => {
            if let Err(e) = launcher.permits_line(line) {
                note!(f, Error, key => "{e}"; "`visudo -f /etc/sudoers.d/orchestrator-agent`: USER ALL=(root) NOPASSWD: \
                    COMMAND, with the command's full path");
            }
        }
        Ok(_) => note!(f, Error, key => "{word} is not found in the agent's PATH";
            "install it, or give its absolute path"),
        Err(e) => note!(f, Error, key => "{e}";
            "the agent runs this command by common.shell: let its user execute that"),
    }
    f.count(Level::Error) == before
}

/// The program that a shell would run first, behind assignments such as `X='1 2'`; `None` where only a shell can tell.
fn first_word(line: &str) -> Option<String> {
    let (mut word, mut quote, mut begun) = (String::new(), None, false);
    let mut chars = line.trim_start().chars();
    loop {
        let next = chars.next();
        match (next, quote) {
            (None, Some(_)) => return None,
            (None, None) => return Some(word).filter(|w| begun && !is_assignment(w)),
            (Some(c), Some(q)) if c == q => quote = None,
            (Some('$' | '`' | '\\'), Some('"')) => return None,
            (Some(c), Some(_)) => word.push(c),
            (Some(c @ ('\'' | '"')), None) => (quote, begun) = (Some(c), true),
            (Some('\\'), None) => {
                word.push(chars.next()?);
                begun = true;
            }
            (Some(c), None) if c.is_whitespace() || ";|&<>".contains(c) => {
                if begun && !is_assignment(&word) {
                    return Some(word);
                }
                if !c.is_whitespace() {
                    return None;
                }
                (word, begun) = (String::new(), false);
            }
            (Some(c), None) if "$`(){}!*?[~#".contains(c) => return None,
            (Some(c), None) => {
                word.push(c);
                begun = true;
            }
        }
    }
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_of_a_line() {
        let of = |line| first_word(line).unwrap_or_else(|| "?".into());
        assert_eq!(of("systemctl check mysqld"), "systemctl");
        assert_eq!(
            of("  A='1 2' B=3 '/opt/my tools/x.sh' start"),
            "/opt/my tools/x.sh"
        );
        assert_eq!(of("pgrep mysqld>/dev/null"), "pgrep");
        assert_eq!(of("a\\ b c"), "a b");
        for line in ["$HOME/x", "( x )", "X=1", "\"$A\" b", "'open", "X=1; y", ""] {
            assert_eq!(of(line), "?", "{line}");
        }
    }

    #[test]
    fn builtins_are_found_and_missing_programs_named() {
        let mut f = Findings::default();
        let plain = Launcher::default();
        assert!(
            found(&mut f, "k", "test -e /", &plain)
                && found(&mut f, "k", "if true; then :; fi", &plain)
        );
        assert!(f.list.is_empty());
        assert!(
            !found(&mut f, "k", "X=1 no-such-tool-7 start", &plain)
                && !found(&mut f, "k", " ", &plain)
        );
        assert!(f.list[0].text.contains("no-such-tool-7"));
        assert_eq!(f.count(Level::Error), 2);
    }
}

//! The settings for orchestrators of the classic protocol.

use super::commands::{COMMAND_LIMIT, found};
use super::findings::Findings;
use crate::config::{Config, Secret};
use crate::methods::enabled;
use crate::process::{Cancel, Launcher, run_operator_command};
use crate::sys::host::expand_home;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

pub(super) fn check(f: &mut Findings, config: &Arc<Config>, launcher: &Launcher) {
    let c = &config.classic;
    preferences(f, config);
    if !c.replication_password_file.is_empty() {
        password(f, Path::new(&c.replication_password_file));
    }
    for (key, line, used) in [
        ("mysql-datadir-command", &c.mysql_datadir_command, true),
        ("mysql-port-command", &c.mysql_port_command, true),
        ("mysql-client-command", &c.mysql_client_command, true),
        (
            "delete-mysql-datadir-content-command",
            &c.delete_mysql_datadir_content_command,
            false,
        ),
        (
            "receive-seed-data-command",
            &c.receive_seed_data_command,
            false,
        ),
        ("send-seed-data-command", &c.send_seed_data_command, false),
        ("post-copy-command", &c.post_copy_command, false),
    ] {
        let key = format!("classic.{key}");
        if line.is_empty() || !found(f, &key, line, launcher) {
            continue;
        }
        if used {
            note!(f, Ok, key => "its program was found");
        } else {
            note!(f, Ok, key => "its program was found; the built-in seed methods do not use it");
        }
    }
    if config.mysql.user.is_empty() {
        without_account(f, config, launcher);
    }
}

/// Methods of `seed-method` that are not enabled.
fn preferences(f: &mut Findings, config: &Arc<Config>) {
    let enabled = enabled(config);
    let is_enabled = |name: &&&str| enabled.iter().any(|m| m.method().as_str() == **name);
    let preferred = &config.classic.seed_method;
    let missing: Vec<_> = preferred
        .iter()
        .filter(|name| !is_enabled(name))
        .copied()
        .collect();
    if !missing.is_empty() {
        note!(f, Warning, "classic.seed-method" => "{} cannot be used: not enabled", missing.join(", ");
            "enable the method in its own section, or remove it from the list");
    }
}

fn password(f: &mut Findings, file: &Path) {
    const KEY: &str = "classic.replication-password-file";
    let name = file.display();
    let wrong = match Secret::of_file(&name.to_string(), file) {
        Ok(password) if password.is_empty() => Some(format!("{name} is empty")),
        Ok(_) => None,
        Err(e) => Some(e.to_string()),
    };
    if let Some(wrong) = wrong {
        note!(f, Error, KEY => "{wrong}";
            "write the password of classic.replication-user to it, and let the agent's user read it");
    } else if std::fs::metadata(file).is_ok_and(|m| m.permissions().mode() & 0o004 != 0) {
        note!(f, Warning, KEY => "every user of this host can read {name}"; "chmod o-r {name}");
    } else {
        note!(f, Ok, KEY => "{name} can be read");
    }
}

/// What the commands print that stand for MySQL's own answers. The agent runs them often; they change nothing.
fn without_account(f: &mut Findings, config: &Config, launcher: &Launcher) {
    let c = &config.classic;
    let is_directory = |text: &str| {
        let path = expand_home(text);
        Path::new(&path).is_absolute() && Path::new(&path).is_dir()
    };
    let is_port = |text: &str| text.parse::<u16>().is_ok_and(|port| port > 0);
    for (key, line, what, fits) in [
        (
            "classic.mysql-datadir-command",
            &c.mysql_datadir_command,
            "a directory",
            &is_directory as &dyn Fn(&str) -> bool,
        ),
        (
            "classic.mysql-port-command",
            &c.mysql_port_command,
            "a port",
            &is_port,
        ),
    ] {
        if line.is_empty() {
            continue;
        }
        let out = run_operator_command(line, launcher, COMMAND_LIMIT, &Cancel::default());
        match out.and_then(|out| out.success()) {
            Ok(text) if fits(text.trim()) => note!(f, Ok, key => "prints {}", text.trim()),
            Ok(text) => {
                note!(f, Warning, key => "prints {:?}, which is not {what} of this host", text.trim();
                "correct the command")
            }
            Err(e) => note!(f, Warning, key => "{e}"; "correct the command"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::findings::Level;
    use super::*;

    #[test]
    fn a_password_file_holds_a_password_for_the_agent_only() {
        let file = std::env::temp_dir().join(format!("oa-password-{}", std::process::id()));
        let of = |text: &str, mode| {
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            let mut findings = Findings::default();
            password(&mut findings, &file);
            assert_eq!(findings.list.len(), 1);
            findings.list.remove(0)
        };
        assert_eq!(of("s3cret\n", 0o600).level, Level::Ok);
        assert_eq!(of("s3cret", 0o604).level, Level::Warning);
        for empty in ["", "\n"] {
            let found = of(empty, 0o600);
            assert_eq!(found.level, Level::Error);
            assert!(found.text.ends_with(" is empty"), "{}", found.text);
        }
        std::fs::remove_file(&file).unwrap();
        let mut findings = Findings::default();
        password(&mut findings, &file);
        assert_eq!(findings.list[0].level, Level::Error);
    }
}

//! Where a program is found and as whom it runs.

use crate::config::Common;
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Unless `common.shell` is another one.
const SHELL: &str = "/bin/sh";
/// Searched after those of PATH.
const MORE_DIRS: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// Variables of this process that its tools get as well. TZ: the zone of the times in a dump's comments and in logs. TMPDIR: where
/// this host has room. LD_LIBRARY_PATH: a tool that is installed in a place of its own does not start without it. Everything else
/// stays out, because it can lead a tool to another server, account or option file, or change what it writes: HOME (.my.cnf,
/// .mylogin.cnf), MYSQL_* and MARIADB_* (MYSQL_HOST, MYSQL_TCP_PORT, MYSQL_UNIX_PORT, MYSQL_PWD, MYSQL_HOME, MYSQL_GROUP_SUFFIX,
/// plugin directories; MySQL manual, "Environment Variables"), LANG and LC_*, LD_PRELOAD.
const PASSED: [&str; 3] = ["TZ", "TMPDIR", "LD_LIBRARY_PATH"];
/// Clients and servers of MySQL read the login path file behind each option file, `--defaults-file` included, unless this variable
/// names one that does not exist (mysql_config_editor; there is no option for it before MySQL 8.2). Nothing can exist below a device.
const LOGIN_FILE: (&str, &str) = ("MYSQL_TEST_LOGIN_FILE", "/dev/null/no-login-path");

#[derive(Debug, Clone, Default)]
pub(crate) struct Launcher {
    sudo: bool,
    sudo_user: String,
    /// Empty for [`SHELL`].
    shell: PathBuf,
}

impl Launcher {
    pub(crate) fn new(common: &Common) -> Self {
        Self {
            sudo: common.exec_with_sudo,
            sudo_user: common.sudo_user.clone(),
            shell: common.shell.clone(),
        }
    }

    pub(crate) fn sudo(&self) -> bool {
        self.sudo
    }

    /// That of operators' command lines.
    pub(crate) fn shell(&self) -> &Path {
        if self.shell.as_os_str().is_empty() {
            return Path::new(SHELL);
        }
        &self.shell
    }

    /// The same without sudo.
    pub(super) fn without_sudo(&self) -> Self {
        Self {
            shell: self.shell.clone(),
            ..Self::default()
        }
    }

    /// `sudo-user`, empty for root.
    pub(crate) fn sudo_user(&self) -> &str {
        &self.sudo_user
    }

    /// For tools that work on files of user `owner`: without sudo where this process may do all with them itself, as then
    /// what they write is not another user's.
    pub(crate) fn on_files_of(&self, owner: u32) -> Self {
        let me = crate::sys::process::effective_uid();
        if me == 0 || me == owner {
            return Self::default();
        }
        self.clone()
    }

    /// A command for a tool of MySQL, with sudo in front where configured. Its environment is that of [`set_environment`]; sudo replaces that by
    /// its own, with the HOME of the user that the tool runs as (env_reset in sudoers(5), the default), so there a login path file of
    /// that user is read.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut cmd = self.prefixed(program);
        set_environment(&mut cmd);
        cmd
    }

    /// A command for a program of the operator's, which gets the environment of this process.
    pub(crate) fn operators_command(&self, program: &Path) -> Command {
        let mut cmd = self.prefixed(program);
        cmd.env("PATH", search_path());
        cmd
    }

    /// `-n`: a password prompt is an error, not a hang. The program follows sudo's own options, as rules in sudoers name it.
    fn prefixed(&self, program: &Path) -> Command {
        if !self.sudo {
            return Command::new(program);
        }
        let mut cmd = Command::new("sudo");
        cmd.arg("-n");
        if !self.sudo_user.is_empty() {
            cmd.args(["-u", &self.sudo_user]);
        }
        cmd.arg("--").arg(program);
        cmd
    }

    /// The first of `names` that is an executable file in PATH or in the system's directories.
    pub(crate) fn find(&self, names: &[&str]) -> Result<PathBuf> {
        let path = search_path();
        for name in names {
            for dir in path.split(':').filter(|d| d.starts_with('/')) {
                let file = Path::new(dir).join(name);
                if is_executable(&file) {
                    return Ok(file);
                }
            }
        }
        Err(Error::permanent(format!(
            "{} not found in PATH ({path}); install it or put its directory into the agent's PATH",
            names.join(" or ")
        )))
    }
}

/// A program's own name, for messages.
pub(crate) fn program_name(program: &Path) -> String {
    let name = program.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// Gives `command` the environment of a tool, or of a server that this program starts itself, and nothing else.
pub(crate) fn set_environment(command: &mut Command) {
    let passed = PASSED.into_iter();
    let passed = passed.filter_map(|name| Some((name, std::env::var_os(name)?)));
    command.env_clear().envs(passed).env("PATH", search_path());
    command.env("LC_ALL", "C"); // their messages are read
    command.env(LOGIN_FILE.0, LOGIN_FILE.1);
}

/// PATH of this process with the system's directories behind it.
fn search_path() -> String {
    match std::env::var("PATH") {
        Ok(p) if !p.is_empty() => format!("{p}:{MORE_DIRS}"),
        _ => MORE_DIRS.to_string(),
    }
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(file).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_by_preference_and_names_what_is_missing() {
        let l = Launcher::default();
        assert!(l.find(&["no-such-tool", "sh"]).unwrap().ends_with("sh"));
        let e = l
            .find(&["no-such-tool", "nor-this"])
            .unwrap_err()
            .to_string();
        assert!(e.contains("no-such-tool or nor-this not found"), "{e}");
    }

    #[test]
    fn sudo_is_for_files_of_others_only() {
        let l = Launcher {
            sudo: true,
            sudo_user: String::new(),
            shell: PathBuf::new(),
        };
        let me = crate::sys::process::effective_uid();
        assert!(!l.on_files_of(me).sudo());
        assert_eq!(l.on_files_of(me + 1).sudo(), me != 0);
    }

    #[test]
    fn a_tool_gets_its_own_environment_and_a_command_of_the_operator_ours() {
        let names = |cmd: &Command| -> Vec<String> {
            let set = cmd.get_envs().filter(|(_, v)| v.is_some());
            set.map(|(n, _)| n.to_string_lossy().into_owned()).collect()
        };
        let tool = Launcher::default().command(Path::new("env"));
        for name in ["PATH", "LC_ALL", "MYSQL_TEST_LOGIN_FILE"] {
            assert!(names(&tool).iter().any(|n| n == name), "{name}");
        }
        let mut tool = tool;
        let seen = tool.env("OA_TEST", "1").output().unwrap().stdout;
        let seen = String::from_utf8(seen).unwrap();
        let allowed = ["PATH=", "LC_ALL=C", "MYSQL_TEST_LOGIN_FILE=", "OA_TEST=1"];
        for line in seen.lines() {
            let passed = PASSED.iter().any(|p| line.starts_with(&format!("{p}=")));
            assert!(
                passed || allowed.iter().any(|a| line.starts_with(a)),
                "{line}"
            );
        }
        assert!(!Path::new(LOGIN_FILE.1).exists());
        assert_eq!(
            names(&Launcher::default().operators_command(Path::new("env"))),
            ["PATH"]
        );
    }

    #[test]
    fn sudo_prefixes_the_program_itself() {
        let l = Launcher {
            sudo: true,
            sudo_user: "mysql".into(),
            shell: PathBuf::new(),
        };
        let c = l.command(Path::new("/usr/bin/mariadb-dump"));
        let argv: Vec<_> = c
            .get_args()
            .map(|a| a.to_string_lossy().into_owned())
            .collect();
        assert_eq!(c.get_program(), "sudo");
        assert_eq!(argv, ["-n", "-u", "mysql", "--", "/usr/bin/mariadb-dump"]);
    }
}

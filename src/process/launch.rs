//! Where a program is found and as whom it runs.

use crate::config::Common;
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Directories looked into behind those of PATH (agent-api-v2 section 6).
const MORE_DIRS: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// Builds commands as the configuration wants them run.
#[derive(Debug, Clone, Default)]
pub struct Launcher {
    sudo: bool,
    sudo_user: String,
}

impl Launcher {
    /// By `exec-with-sudo` and `sudo-user`.
    pub fn new(common: &Common) -> Self {
        Self {
            sudo: common.exec_with_sudo,
            sudo_user: common.sudo_user.clone(),
        }
    }

    /// True if programs are run through sudo.
    pub fn sudo(&self) -> bool {
        self.sudo
    }

    /// `sudo-user`, empty for root.
    pub fn sudo_user(&self) -> &str {
        &self.sudo_user
    }

    /// For tools that work on files of user `owner`: without sudo where this process may do all with them itself, as then
    /// what they write is not another user's.
    pub fn on_files_of(&self, owner: u32) -> Self {
        match crate::system::process::effective_uid() {
            0 => Self::default(),
            me if me == owner => Self::default(),
            _ => self.clone(),
        }
    }

    /// A command for `program`, with sudo in front where configured. `-n`: a password prompt is an error, not a hang.
    pub fn command(&self, program: &Path) -> Command {
        let mut cmd;
        if self.sudo {
            cmd = Command::new("sudo");
            cmd.arg("-n");
            if !self.sudo_user.is_empty() {
                cmd.args(["-u", &self.sudo_user]);
            }
            cmd.arg("--").arg(program);
        } else {
            cmd = Command::new(program);
        }
        cmd.env("PATH", search_path());
        cmd
    }

    /// The first of `names` that is an executable file in PATH or in the system's directories.
    ///
    /// # Errors
    /// Permanent: names what was looked for and where.
    pub fn find(&self, names: &[&str]) -> Result<PathBuf> {
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

/// PATH of this process with the system's directories behind it.
pub fn search_path() -> String {
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
        };
        let me = crate::system::process::effective_uid();
        assert!(!l.on_files_of(me).sudo());
        assert_eq!(l.on_files_of(me + 1).sudo(), me != 0);
    }

    #[test]
    fn sudo_prefixes_the_program_itself() {
        let l = Launcher {
            sudo: true,
            sudo_user: "mysql".into(),
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

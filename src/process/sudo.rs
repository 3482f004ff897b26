//! What sudo permits, asked before anything depends on it, and what a program says of its version.

use super::command::{has_grammar, members};
use super::{Cancel, Launcher, run_operator_command};
use crate::error::{Error, OnPath, Result};
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

/// sudo may ask a directory server for its rules.
const ANSWER: Duration = Duration::from_secs(30);

impl Launcher {
    /// That sudo, where it is used, runs `program` with these arguments. Nothing is run but `sudo -n -l`, which ends with 0 for a
    /// command that the rules permit (sudo(8)); sudo 1.9.13 prints nothing for one that they do not, and does not tell whether a
    /// password is needed where another rule of this user needs none.
    pub(crate) fn permits(&self, program: &Path, arguments: &[OsString]) -> Result<()> {
        if !self.sudo() {
            return Ok(());
        }
        let words: Vec<String> = std::iter::once(program.as_os_str())
            .chain(arguments.iter().map(OsString::as_os_str))
            .map(|w| quoted(&w.to_string_lossy()))
            .collect();
        self.listed(&words.join(" "), &program.display().to_string())
    }

    /// The same of an operator's command line: of each member of a plain pipeline, else of the shell that the line is given to.
    pub(crate) fn permits_line(&self, line: &str) -> Result<()> {
        if !self.sudo() {
            return Ok(());
        }
        if has_grammar(line) {
            let shell = self.shell().display();
            return self.listed(&format!("{shell} -c {}", quoted(line)), line);
        }
        members(line).try_for_each(|member| self.listed(member, member))
    }

    /// That sudo answers, and knows a command that needs no password.
    pub(crate) fn has_rules(&self) -> Result<()> {
        let plain = Self::default();
        let asked = run_operator_command("sudo -n -l", &plain, ANSWER, &Cancel::default())?;
        asked.success().map(drop)
    }

    /// `command`: words for a shell. `shown`: what it is, for the message.
    fn listed(&self, command: &str, shown: &str) -> Result<()> {
        let user = match self.sudo_user() {
            "" => String::new(),
            user => format!("-u {} ", quoted(user)),
        };
        let list = format!("sudo -n -l {user}-- {command}");
        let asked = run_operator_command(&list, &Self::default(), ANSWER, &Cancel::default())?;
        if asked.ok() {
            return Ok(());
        }
        let said = match asked.stderr().trim() {
            "" => "no rule in sudoers permits it",
            said => said,
        };
        Err(Error::permanent(format!(
            "sudo does not run `{shown}` for uid {} without a password ({said}): add a NOPASSWD rule for it to sudoers, or set \
             common.exec-with-sudo = false",
            crate::sys::process::effective_uid()
        )))
    }
}

fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// What `program --version` prints, on whichever of its two outputs. Never by sudo, which need not permit it.
pub(crate) fn version_text(program: &Path) -> Result<String> {
    let mut command = Launcher::default().command(program);
    let out = command.arg("--version").output().on(program)?;
    let errors = String::from_utf8_lossy(&out.stderr);
    if out.status.success() {
        return Ok(format!("{}{errors}", String::from_utf8_lossy(&out.stdout)));
    }
    let (program, status, errors) = (program.display(), out.status, errors.trim());
    let text = format!("{program} --version: {status}, stderr: {errors}");
    Err(Error::permanent(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_sudo_all_is_permitted_and_a_version_comes_with_the_reason_of_its_failure() {
        let plain = Launcher::default();
        assert!(plain.permits(Path::new("/no/such"), &[]).is_ok());
        assert!(plain.permits_line("no-such | x > y").is_ok());
        assert_eq!(quoted("a'b"), "'a'\\''b'");
        assert!(version_text(Path::new("/bin/sh")).is_err() || cfg!(not(target_env = "gnu")));
        let e = version_text(Path::new("/bin/false")).map(drop);
        assert!(e.is_ok() || e.unwrap_err().to_string().contains("exit status: 1"));
    }
}

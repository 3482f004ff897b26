//! Operators' own commands (service, snapshot, custom): run by `common.shell`, so that quotes, pipes and redirections mean what they mean
//! in a shell, with a deadline (`common.command-timeout`) and a bounded output.

use super::{Cancel, Exit, Launcher, Running};
use crate::error::{Error, Result, ToolFault};
use crate::sys::thread::{lock, spawn};
use crossbeam_channel::{bounded, select};
use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// At most this much of a command's standard output is kept, in bytes.
const STDOUT_LIMIT: usize = 1 << 20;

#[derive(Debug)]
pub(crate) struct Output {
    /// Standard output, at most 1 MiB.
    pub(crate) stdout: String,
    exit: Exit,
}

impl Output {
    pub(crate) fn success(self) -> Result<String> {
        self.exit.check()?;
        Ok(self.stdout)
    }

    pub(crate) fn stderr(&self) -> &str {
        &self.exit.stderr
    }

    pub(crate) fn ok(&self) -> bool {
        self.exit.status.success()
    }
}

/// The name that orchestrator knows this host by: the one that is set, else the output of `hostname -f`, else the kernel's.
pub(crate) fn host_name(set: &str) -> String {
    if !set.is_empty() {
        return set.into();
    }
    let limit = Duration::from_secs(5);
    let plain = Launcher::default();
    let full = run_operator_command("hostname -f", &plain, limit, &Cancel::default());
    let full = full.and_then(Output::success).unwrap_or_default();
    match full.trim() {
        "" => crate::sys::host::kernel_hostname(),
        name => name.into(),
    }
}

/// How a command line reaches its programs under sudo: a plain pipeline has each member prefixed, as sudoers rules
/// expect; anything with more grammar goes to one `sudo /bin/sh -c`.
fn build(line: &str, launcher: &Launcher) -> Command {
    let by_members = launcher.sudo() && !has_grammar(line);
    let (shell, text) = if by_members {
        (launcher.without_sudo(), prefix_members(line, launcher))
    } else {
        (launcher.clone(), line.to_string())
    };
    let mut cmd = shell.operators_command(launcher.shell());
    cmd.arg("-c").arg(text);
    cmd
}

/// True if the line holds more than words and single `|` outside quotes.
pub(crate) fn has_grammar(line: &str) -> bool {
    line.contains("||") || line.contains(|c| "\"'\\><&;$`(){}\n#~=".contains(c))
}

fn prefix_members(line: &str, launcher: &Launcher) -> String {
    let user = launcher.sudo_user();
    let sudo = if user.is_empty() {
        "sudo -n --".to_string()
    } else {
        format!("sudo -n -u '{}' --", user.replace('\'', ""))
    };
    let members: Vec<String> = members(line).map(|m| format!("{sudo} {m}")).collect();
    members.join(" | ")
}

pub(super) fn members(line: &str) -> impl Iterator<Item = &str> {
    line.split('|').map(str::trim)
}

/// Runs an operator's command line to its end. One that runs longer than `timeout` is killed with all its children, and is a
/// transient error; a command that fails is in the [`Output`].
pub(crate) fn run_operator_command(
    line: &str,
    launcher: &Launcher,
    timeout: Duration,
    cancel: &Cancel,
) -> Result<Output> {
    run_known_command(line, launcher, timeout, cancel, |_| {})
}

/// The same; `started` is given the command once it runs.
pub(crate) fn run_known_command(
    line: &str,
    launcher: &Launcher,
    timeout: Duration,
    cancel: &Cancel,
    started: impl FnOnce(&Running),
) -> Result<Output> {
    let name = line.split_whitespace().next();
    let name = name.ok_or_else(|| Error::permanent("the command is empty"))?;
    let mut cmd = build(line, launcher);
    // A server that a service command starts lives on with what it inherits.
    crate::sys::limits::restored_in(&mut cmd);
    run_to_end(cmd, name, timeout, cancel, started)
}

/// The same for a tool with its arguments, `name` in messages.
pub(crate) fn run_to_end(
    mut cmd: Command,
    name: &str,
    timeout: Duration,
    cancel: &Cancel,
    started: impl FnOnce(&Running),
) -> Result<Output> {
    cmd.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut tool = Running::start(&mut cmd, name)?;
    started(&tool);
    let text = Arc::new(Mutex::new(Vec::new()));
    let (closed_tx, closed) = bounded::<()>(0);
    if let Some(pipe) = tool.take_stdout() {
        let text = Arc::clone(&text);
        spawn("tool-stdout", move || {
            keep_head(pipe, &text);
            drop(closed_tx);
        })?;
    }
    select! {
        recv(tool.exited()) -> _ => {}
        recv(cancel.signal()) -> _ => {
            tool.end()?;
            return Err(Error::cancelled());
        }
        default(timeout) => {
            tool.end()?;
            return Err(Error::tool(name, ToolFault::Deadline(timeout), ""));
        }
    }
    let exit = tool.finish_leaving_children()?;
    // A server that the command started may hold the pipe for ever: take what is there.
    let _ = closed.recv_timeout(Duration::from_millis(500));
    let kept = lock(&text);
    Ok(Output {
        stdout: String::from_utf8_lossy(&kept).into_owned(),
        exit,
    })
}

/// Reads to the end, so that the command never blocks on a full pipe, and keeps the first [`STDOUT_LIMIT`] bytes.
fn keep_head(mut pipe: impl Read, text: &Mutex<Vec<u8>>) {
    let mut buf = [0u8; 4096];
    while let Ok(n) = pipe.read(&mut buf) {
        if n == 0 {
            return;
        }
        let mut t = lock(text);
        let room = STDOUT_LIMIT.saturating_sub(t.len()).min(n);
        t.extend_from_slice(&buf[..room]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn sh(line: &str) -> Result<Output> {
        run_operator_command(
            line,
            &Launcher::default(),
            Duration::from_secs(10),
            &Cancel::default(),
        )
    }

    #[test]
    fn by_another_shell() {
        let common = crate::config::Common {
            shell: "/bin/echo".into(),
            ..Default::default()
        };
        let (launcher, limit) = (Launcher::new(&common), Duration::from_secs(10));
        let out = run_operator_command("a | b", &launcher, limit, &Cancel::default());
        assert_eq!(out.unwrap().stdout, "-c a | b\n");
    }

    #[test]
    fn means_what_a_shell_means() {
        assert_eq!(
            sh("echo 'a|b' \"c > d\" | tr a-z A-Z")
                .unwrap()
                .success()
                .unwrap(),
            "A|B C > D\n"
        );
        assert_eq!(
            sh("X=1; echo $((X+1)) && printf %s ok")
                .unwrap()
                .success()
                .unwrap(),
            "2\nok"
        );
        let e = sh("echo oops >&2; exit 32")
            .unwrap()
            .success()
            .unwrap_err()
            .to_string();
        assert_eq!(e, "error: command \"echo\": exit status 32, stderr: oops\n");
        assert!(sh("  ").is_err());
    }

    #[test]
    fn has_a_deadline_and_a_bounded_answer() {
        let begin = Instant::now();
        let late = run_operator_command(
            "sleep 30 & wait",
            &Launcher::default(),
            Duration::from_millis(200),
            &Cancel::default(),
        );
        assert!(late.unwrap_err().to_string().contains("command-timeout"));
        assert!(begin.elapsed() < Duration::from_secs(5));
        let out = sh("head -c 3000000 /dev/zero").unwrap().success().unwrap();
        assert_eq!(out.len(), 1 << 20);
    }

    #[test]
    fn a_service_that_the_command_started_lives_on() {
        let begin = Instant::now();
        let out = sh("sleep 77.5 & echo started $!")
            .unwrap()
            .success()
            .unwrap();
        assert!(begin.elapsed() < Duration::from_secs(3));
        let pid: u32 = out.trim().rsplit(' ').next().unwrap().parse().unwrap();
        assert!(crate::sys::proc::ProcessId::of(pid).is_some());
        Command::new("kill").arg(pid.to_string()).status().unwrap();
    }

    #[test]
    fn sudo_goes_before_each_member_of_a_plain_pipeline() {
        let plain = Launcher::default();
        assert_eq!(
            prefix_members("lvs | grep snap", &plain),
            "sudo -n -- lvs | sudo -n -- grep snap"
        );
        assert!(
            has_grammar("a > b")
                && has_grammar("a || b")
                && has_grammar("echo $X")
                && !has_grammar("a -x | b")
        );
    }
}

//! One child process that leads a group of its own, from start to the end of its whole tree.

use crate::error::{Error, OnPath, Result, ToolFault};
use crate::sys::proc::ProcessId;
use crate::sys::process::{Priority, Signal, kill_group, set_group_priority, wait_unreaped};
use crate::sys::thread::{lock, spawn};
use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The end of a tool's standard error that is kept, in bytes.
const STDERR_TAIL: usize = 8 * 1024;
/// The beginning of a line of it that is reported, in bytes.
const STDERR_LINE: usize = 64 * 1024;
/// How long a tool may take to end after SIGTERM before it gets SIGKILL.
const TERM_TO_KILL: Duration = Duration::from_secs(2);
/// How long a standard error that a process outside the group holds open may delay the result.
const STDERR_CLOSE: Duration = Duration::from_millis(500);

/// How a tool ended.
#[derive(Debug)]
pub struct Exit {
    name: String,
    pub(crate) status: ExitStatus,
    /// The last 8 KiB of its standard error.
    pub(crate) stderr: String,
}

impl Exit {
    /// Ok only for exit status 0, else [`ToolFault::Exit`].
    pub(crate) fn check(&self) -> Result<()> {
        if self.status.success() {
            return Ok(());
        }
        let fault = ToolFault::Exit(self.status);
        Err(Error::tool(&self.name, fault, self.stderr.as_str()))
    }
}

/// A running child. Dropping it ends its whole group.
pub struct Running {
    name: String,
    child: Child,
    exited: Receiver<()>,
    stderr: Arc<Mutex<VecDeque<u8>>>,
    stderr_closed: Receiver<()>,
    reaped: bool,
}

impl Running {
    /// Starts `cmd` as leader of its own process group, its standard error kept as a tail. Standard input and output
    /// are as the caller set them.
    pub(crate) fn start(cmd: &mut Command, name: &str) -> Result<Self> {
        Self::start_with(cmd, name, |_| {})
    }

    /// The same; `on_line` gets each line of its standard error as it comes, of a long one the first 64 KiB.
    pub(crate) fn start_with(
        cmd: &mut Command,
        name: &str,
        on_line: impl FnMut(&str) + Send + 'static,
    ) -> Result<Self> {
        let spawned = cmd.process_group(0).stderr(Stdio::piped()).spawn();
        let mut child = spawned.map_err(|e| not_started(cmd.get_program().as_ref(), name, &e))?;
        let (pid, pipe) = (child.id(), child.stderr.take());
        let (closed_tx, stderr_closed) = bounded::<()>(0);
        let (exited_tx, exited) = bounded(1);
        // Dropped where a thread cannot be started, it ends the child.
        let this = Self {
            name: name.to_string(),
            child,
            exited,
            stderr: Arc::default(),
            stderr_closed,
            reaped: false,
        };
        if let Some(pipe) = pipe {
            let tail = Arc::clone(&this.stderr);
            spawn("tool-stderr", move || {
                keep_tail(pipe, &tail, on_line);
                drop(closed_tx);
            })?;
        }
        spawn("tool-exit", move || {
            if let Err(e) = wait_unreaped(pid) {
                log::error!("waiting for process {pid}: {e}");
            }
            let _ = exited_tx.send(()); // no one waits any more: fine
        })?;
        Ok(this)
    }

    pub(crate) fn id(&self) -> Option<ProcessId> {
        ProcessId::of(self.child.id())
    }

    pub(crate) fn group(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    pub(crate) fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    pub(crate) fn stderr(&self) -> String {
        let mut tail = lock(&self.stderr);
        String::from_utf8_lossy(tail.make_contiguous()).into_owned()
    }

    /// Ready once the tool itself has ended (it is not reaped yet).
    pub(crate) fn exited(&self) -> &Receiver<()> {
        &self.exited
    }

    /// True if the tool itself ends within `wait`, or has ended.
    pub(crate) fn has_ended(&self, wait: Duration) -> bool {
        self.exited.recv_timeout(wait) != Err(RecvTimeoutError::Timeout)
    }

    /// Takes the result of a tool that has ended, and ends what is left of its group.
    pub(crate) fn finish(mut self) -> Result<Exit> {
        self.signal(Signal::Kill); // grandchildren that outlive their leader, while the number is still ours
        self.reap()
    }

    /// Takes the result of a command that has ended and leaves alone what it started: a service command may well have
    /// put mysqld into its own group.
    pub(crate) fn finish_leaving_children(mut self) -> Result<Exit> {
        self.reap()
    }

    /// Ends the whole group: TERM, two seconds of grace, KILL; then reaps.
    pub(crate) fn end(mut self) -> Result<Exit> {
        self.stop();
        self.reap()
    }

    /// Ends the group; the leader stays a zombie until it is reaped, so the number is ours up to the last signal.
    fn stop(&mut self) {
        self.signal(Signal::Term);
        if !self.has_ended(TERM_TO_KILL) {
            self.signal(Signal::Kill);
            if !self.has_ended(TERM_TO_KILL) {
                let pid = self.child.id();
                log::error!("{} (process {pid}) does not end after SIGKILL", self.name);
            }
        }
        self.signal(Signal::Kill); // what is left of the group when its leader ended by itself
    }

    fn reap(&mut self) -> Result<Exit> {
        self.reaped = true;
        let status = self.child.wait().on(format!("status of {}", self.name))?;
        let _ = self.stderr_closed.recv_timeout(STDERR_CLOSE); // what came until now is kept
        Ok(Exit {
            name: self.name.clone(),
            status,
            stderr: self.stderr(),
        })
    }

    fn signal(&self, signal: Signal) {
        let Ok(pgid) = i32::try_from(self.child.id()) else {
            return;
        };
        if let Err(e) = signal_group(pgid, signal) {
            log::error!("cannot signal {} (group {pgid}): {e}", self.name);
        }
    }
}

/// Sets the priority of a process group; what cannot be set is logged: with sudo it is another user's.
pub(crate) fn set_priority(group: u32, priority: Priority) {
    let set = i32::try_from(group)
        .map_err(std::io::Error::other)
        .and_then(|group| set_group_priority(group, priority));
    if let Err(e) = set {
        log::debug!("priority {priority:?} of process group {group}: {e}");
    }
}

/// Signals a group. What sudo started an unprivileged agent may not signal, and SIGKILL for sudo alone would orphan the tool:
/// then it is done by `sudo -n kill`.
pub(crate) fn signal_group(pgid: i32, signal: Signal) -> std::io::Result<bool> {
    let result = kill_group(pgid, signal);
    if !matches!(&result, Err(e) if e.kind() == ErrorKind::PermissionDenied) {
        return result;
    }
    let name = match signal {
        Signal::Kill => "-KILL",
        Signal::Term => "-TERM",
    };
    let mut kill = Command::new("sudo");
    kill.args(["-n", "kill", name, "--", &format!("-{pgid}")]);
    if kill.output().is_ok_and(|out| out.status.success()) {
        return Ok(true);
    }
    let text = "not permitted, and `sudo -n kill` failed: allow kill in sudoers";
    Err(std::io::Error::other(text))
}

/// Ends the process group of a tool that an agent left behind when it was killed: TERM, after two seconds KILL.
pub(crate) fn end_orphans(tool: &ProcessId) {
    let Ok(pgid) = i32::try_from(tool.pid) else {
        return;
    };
    let begin = Instant::now();
    let mut signal = Signal::Term;
    while !tool.group_alive().is_empty() {
        log::warn!("ending process group {pgid}, which an agent that was killed had started");
        if let Err(e) = signal_group(pgid, signal) {
            log::error!("cannot end process group {pgid}: {e}");
            return;
        }
        if begin.elapsed() > Duration::from_secs(2) {
            signal = Signal::Kill;
        }
        if begin.elapsed() > Duration::from_secs(6) {
            log::error!("process group {pgid} does not end");
            return;
        }
        let pause = if signal == Signal::Kill { 50 } else { 250 };
        std::thread::sleep(Duration::from_millis(pause));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.reaped {
            self.stop();
            if let Err(e) = self.reap() {
                log::error!("{e}");
            }
        }
    }
}

/// The kernel names no file: ENOENT may mean the program, its interpreter, or /dev/null for its standard input.
fn not_started(program: &Path, name: &str, e: &std::io::Error) -> Error {
    let shown = program.display();
    let why = match e.kind() {
        ErrorKind::NotFound if !Path::new("/dev/null").exists() => {
            "/dev/null does not exist: create the device in the agent's root directory".to_string()
        }
        ErrorKind::NotFound if program.is_absolute() && !program.exists() => {
            format!("{shown} does not exist in the agent's root directory: install it there")
        }
        ErrorKind::NotFound if program.is_absolute() => {
            format!("the interpreter or loader that {shown} names does not exist: install it")
        }
        ErrorKind::NotFound => format!("{shown} is not in the agent's PATH: install it"),
        ErrorKind::PermissionDenied => format!(
            "{e}: the user that the agent runs as (uid {}) may not execute {shown}",
            crate::sys::process::effective_uid()
        ),
        _ => e.to_string(),
    };
    Error::permanent(format!("cannot start {name}: {why}"))
}

fn keep_tail(mut pipe: impl Read, tail: &Mutex<VecDeque<u8>>, mut on_line: impl FnMut(&str)) {
    let mut buf = [0u8; 4096];
    let mut line = Vec::new();
    while let Ok(n) = pipe.read(&mut buf) {
        if n == 0 {
            break;
        }
        let mut t = lock(tail);
        t.extend(&buf[..n]);
        let excess = t.len().saturating_sub(STDERR_TAIL);
        t.drain(..excess);
        drop(t);
        for byte in &buf[..n] {
            if *byte == b'\n' {
                on_line(&String::from_utf8_lossy(&line));
                line.clear();
            } else if line.len() < STDERR_LINE {
                line.push(*byte);
            }
        }
    }
    if !line.is_empty() {
        on_line(&String::from_utf8_lossy(&line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::proc::tests::until;

    fn sh(script: &str) -> Running {
        Running::start(Command::new("sh").args(["-c", script]), "sh").unwrap()
    }

    #[test]
    fn failure_has_status_and_a_bounded_stderr() {
        let r = sh("head -c 100000 /dev/zero | tr '\\0' x >&2; echo last words >&2; exit 3");
        r.exited().recv().unwrap();
        let exit = r.finish().unwrap();
        let text = exit.check().unwrap_err().to_string();
        assert!(
            text.starts_with("error: command \"sh\": exit status 3, stderr: x"),
            "{text}"
        );
        assert!(text.ends_with("last words\n") && exit.stderr.len() <= STDERR_TAIL);
    }

    #[test]
    fn each_line_is_reported() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&lines);
        let mut cmd = Command::new("sh");
        cmd.args([
            "-c",
            "seq 5000 >&2; head -c 70000 /dev/zero | tr '\\0' x >&2; echo >&2; printf end >&2",
        ]);
        let hear = move |line: &str| heard.lock().unwrap().push(line.to_string());
        let r = Running::start_with(&mut cmd, "sh", hear).unwrap();
        r.exited().recv().unwrap();
        r.finish().unwrap().check().unwrap();
        let lines = lines.lock().unwrap();
        assert_eq!(
            (lines.len(), lines[4999].as_str(), lines[5001].as_str()),
            (5002, "5000", "end")
        );
        assert_eq!(lines[5000].len(), STDERR_LINE);
    }

    #[test]
    fn ending_takes_the_grandchildren_along_even_when_they_ignore_term() {
        let r = sh(
            "trap '' TERM; (trap '' TERM; sleep 100) & echo ready >&2; while :; do sleep 1; done",
        );
        let id = r.id().unwrap();
        until(&id, |n| n >= 3); // both, and the first sleep: the traps are set
        assert!(!r.end().unwrap().status.success());
        until(&id, |n| n == 0);
    }

    #[test]
    fn a_leader_that_exits_does_not_leave_its_children() {
        let r = sh("sleep 100 & exit 0");
        let id = r.id().unwrap();
        r.exited().recv().unwrap();
        r.finish().unwrap().check().unwrap();
        until(&id, |n| n == 0);
    }

    #[test]
    fn drop_ends_the_group() {
        let r = sh("sleep 100");
        let id = r.id().unwrap();
        drop(r);
        until(&id, |n| n == 0);
        let e = Running::start(&mut Command::new("/no/such/tool"), "tool");
        let text = e.err().unwrap().to_string();
        assert!(
            text.contains("cannot start tool: /no/such/tool does not exist"),
            "{text}"
        );
        let e = Running::start(&mut Command::new("no-such-tool-7"), "tool");
        let text = e.err().unwrap().to_string();
        assert!(
            text.contains("no-such-tool-7 is not in the agent's PATH"),
            "{text}"
        );
        let e = Running::start(&mut Command::new("/proc/self/cmdline"), "tool");
        let text = e.err().unwrap().to_string();
        assert!(
            text.contains("may not execute /proc/self/cmdline"),
            "{text}"
        );
    }
}

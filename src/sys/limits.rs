//! The limit of open files (RLIMIT_NOFILE): that of this process, and that of what it starts.

use super::done;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::OnceLock;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OpenFiles {
    pub(crate) soft: u64,
    /// What an unprivileged process may raise it to; `u64::MAX` is no limit.
    pub(crate) hard: u64,
}

static AT_START: OnceLock<OpenFiles> = OnceLock::new();

pub(crate) fn open_files() -> io::Result<OpenFiles> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer is to a live rlimit structure that the call fills in.
    done(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    Ok(OpenFiles {
        soft: limit.rlim_cur,
        hard: limit.rlim_max,
    })
}

fn set(limits: OpenFiles) -> io::Result<()> {
    let limit = libc::rlimit {
        rlim_cur: limits.soft,
        rlim_max: limits.hard,
    };
    // SAFETY: the pointer is to a live rlimit structure that the call only reads.
    done(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })
}

/// Raises the soft limit of this process to its hard one. [`restored_in`] gives children what was there before. Returns the
/// limits from before.
pub(crate) fn raise_open_files() -> io::Result<OpenFiles> {
    let before = open_files()?;
    set(OpenFiles {
        soft: before.hard,
        ..before
    })?;
    Ok(*AT_START.get_or_init(|| before))
}

/// Makes `command` run with the limits that this process was started with: a server that a service command starts would
/// inherit the raised ones otherwise, and programs that use select(2) fail with descriptors above 1023.
pub(crate) fn restored_in(command: &mut Command) -> &mut Command {
    let Some(limits) = AT_START.get().copied() else {
        return command;
    };
    // SAFETY: the closure runs between fork and exec, where only async-signal-safe calls are allowed: it makes one system call
    // (setrlimit, with a copy of two integers), allocates nothing and takes no lock.
    unsafe { command.pre_exec(move || set(limits)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_child() -> String {
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -Sn; ulimit -Hn"]);
        let out = restored_in(&mut command).output().unwrap().stdout;
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_child_has_the_limits_from_before() {
        let before = of_child();
        let was = raise_open_files().unwrap();
        assert_eq!(open_files().unwrap().soft, was.hard);
        assert_eq!(of_child(), before);
    }
}

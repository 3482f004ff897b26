//! Process groups: signals to all members, priorities, and waiting without freeing the number.

use super::done;
use std::io;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    Term,
    Kill,
}

/// Sends a signal to every process of group `pgid`. Ok(false): there is no such group. A `pgid` below 2 is refused, because 0 and 1
/// would mean our own group or all processes.
pub(crate) fn kill_group(pgid: i32, signal: Signal) -> io::Result<bool> {
    if pgid < 2 {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let number = match signal {
        Signal::Term => libc::SIGTERM,
        Signal::Kill => libc::SIGKILL,
    };
    // SAFETY: kill takes two integers and touches no memory of ours.
    if unsafe { libc::kill(-pgid, number) } == 0 {
        return Ok(true);
    }
    if super::failed_with(libc::ESRCH) {
        Ok(false)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Blocks until the child `pid` has ended, and leaves it as a zombie: its process group number stays taken, so that a later
/// [`kill_group`] cannot hit other processes. The caller reaps it afterwards.
pub(crate) fn wait_unreaped(pid: u32) -> io::Result<()> {
    loop {
        let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
        // SAFETY: `info` is a valid place for one siginfo_t; the other arguments are integers.
        let rc = unsafe {
            libc::waitid(
                libc::P_PID,
                pid,
                info.as_mut_ptr(),
                libc::WEXITED | libc::WNOWAIT,
            )
        };
        if rc == 0 {
            return Ok(());
        }
        if !super::failed_with(libc::EINTR) {
            return Err(io::Error::last_os_error());
        }
    }
}

/// Gives the calling thread the lowest I/O priority (ioprio_set(2), class idle). Schedulers that know no priorities ignore it.
pub(crate) fn idle_io() -> io::Result<()> {
    const WHO_THREAD: libc::c_int = 1; // IOPRIO_WHO_PROCESS: a thread's number, 0 is the caller
    const CLASS_IDLE: libc::c_int = 3 << 13;
    // SAFETY: the call takes three integers and touches no memory of ours. No C library has a function for it.
    done(unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_THREAD, 0, CLASS_IDLE) })
}

/// CPU and I/O priority of a process group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Priority {
    /// nice 10, and the lowest level of the best-effort I/O class (7): after all others, but not starved by them.
    Low,
    /// nice 0, and the class that follows from it.
    Normal,
}

/// Sets the priority of all threads of group `pgid` (setpriority(2), ioprio_set(2)): EPERM for another user's processes, and without
/// CAP_SYS_NICE for [`Priority::Normal`]. A `pgid` below 2 is refused.
pub(crate) fn set_group_priority(pgid: i32, priority: Priority) -> io::Result<()> {
    const WHO_GROUP: libc::c_int = 2; // IOPRIO_WHO_PGRP
    let group = libc::id_t::try_from(pgid)
        .ok()
        .filter(|g| *g > 1)
        .ok_or(io::ErrorKind::InvalidInput)?;
    let (nice, io) = match priority {
        Priority::Low => (10, 2 << 13 | 7), // class best-effort
        Priority::Normal => (0, 0),         // class none
    };
    // SAFETY: both calls take integers and touch no memory of ours. No C library has a function for the second.
    unsafe {
        done(libc::setpriority(libc::PRIO_PGRP, group, nice))?;
        done(libc::syscall(libc::SYS_ioprio_set, WHO_GROUP, pgid, io))
    }
}

pub(crate) fn effective_uid() -> u32 {
    // SAFETY: geteuid has no arguments and cannot fail.
    unsafe { libc::geteuid() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;

    #[test]
    fn a_group_dies_with_its_grandchildren_and_keeps_its_number_until_reaped() {
        let mut c = std::process::Command::new("sh")
            .args(["-c", "sleep 60 & sleep 60"])
            .process_group(0)
            .spawn()
            .unwrap();
        let pgid = i32::try_from(c.id()).unwrap();
        assert!(kill_group(pgid, Signal::Kill).unwrap());
        wait_unreaped(c.id()).unwrap();
        assert!(!c.wait().unwrap().success());
        assert!(kill_group(1, Signal::Term).is_err());
        assert!(wait_unreaped(c.id()).is_err());
    }
}

//! Signals as data: blocked everywhere, taken by one thread.

use std::io;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// SIGTERM or SIGINT
    Stop,
    /// SIGHUP
    Reload,
}

fn the_set() -> libc::sigset_t {
    let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set; sigaddset works on that initialised set with valid signal numbers.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for s in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
            libc::sigaddset(set.as_mut_ptr(), s);
        }
        set.assume_init()
    }
}

/// Blocks TERM, INT and HUP in the calling thread and in all threads it starts later. Call it before any other thread
/// exists. Children of std::process start with an empty mask again.
pub(crate) fn block() -> io::Result<()> {
    let set = the_set();
    // SAFETY: `set` is an initialised sigset_t; the old mask is not asked for.
    let rc =
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
    if rc == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(rc))
    }
}

pub(crate) fn wait() -> io::Result<Order> {
    let set = the_set();
    let mut got: libc::c_int = 0;
    // SAFETY: both pointers are to live values of the right types.
    let rc = unsafe { libc::sigwait(&raw const set, &raw mut got) };
    match (rc, got) {
        (0, libc::SIGHUP) => Ok(Order::Reload),
        (0, _) => Ok(Order::Stop),
        _ => Err(io::Error::from_raw_os_error(rc)),
    }
}

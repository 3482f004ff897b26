//! The only home of `unsafe` and of libc. Every function here is safe to call and says why it is sound.

pub(crate) mod disk;
pub(crate) mod file;
pub mod host;
pub(crate) mod limits;
pub(crate) mod net;
pub mod pipe;
pub mod proc;
pub(crate) mod process;
pub(crate) mod signal;
pub(crate) mod thread;

use std::io;

/// What a call has returned that returns 0 for success, else -1 and errno.
fn done(rc: impl Into<i64>) -> io::Result<()> {
    if rc.into() == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// True if the last libc call of this thread failed with `code`.
fn failed_with(code: i32) -> bool {
    io::Error::last_os_error().raw_os_error() == Some(code)
}

/// Collects into a map or set item by item. `collect` sorts the items first, which is 5 KB of code for each type of them.
pub(crate) trait Inserted: Iterator + Sized {
    fn inserted<C: Default + Extend<Self::Item>>(self) -> C {
        let mut all = C::default();
        all.extend(self);
        all
    }
}

impl<I: Iterator> Inserted for I {}

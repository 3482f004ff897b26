//! The only home of `unsafe` and of libc. Every function here is safe to call and says why it is sound.

pub mod disk;
pub mod file;
pub mod host;
pub mod limits;
pub mod net;
pub mod pipe;
pub mod proc;
pub mod process;
pub mod random;
pub mod signal;
pub mod thread;
pub mod usage;

/// True if the last libc call of this thread failed with `code`.
fn failed_with(code: i32) -> bool {
    std::io::Error::last_os_error().raw_os_error() == Some(code)
}

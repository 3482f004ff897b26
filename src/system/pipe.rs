//! The size of a pipe.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Asks for room for `bytes` in a pipe (F_SETPIPE_SZ): fewer switches between its two ends. Returns the room that there is.
///
/// # Errors
/// EBADF for what is no pipe; EPERM beyond /proc/sys/fs/pipe-max-size, or once this user has too many large ones.
pub fn enlarge(pipe: BorrowedFd<'_>, bytes: usize) -> io::Result<usize> {
    let bytes = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    // SAFETY: the call takes integers only, and the descriptor is open because it is borrowed.
    let size = unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETPIPE_SZ, bytes) };
    usize::try_from(size).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_pipe_grows_and_a_file_does_not() {
        let (reader, _writer) = std::io::pipe().unwrap();
        assert!(enlarge(reader.as_fd(), 256 << 10).unwrap() >= 256 << 10);
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(enlarge(file.as_fd(), 1 << 20).is_err());
    }
}

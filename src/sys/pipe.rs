//! Calls for pipes that std does not have: their size, writes that do not wait, and splice(2).

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

/// From now on a write that would have to wait fails with EAGAIN. For both ends of a socket, for one end of a pipe; a file does
/// not change.
pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: both calls take integers only, and the descriptor is open because it is borrowed.
    let done = unsafe {
        let flags = libc::fcntl(fd.as_raw_fd(), libc::F_GETFL);
        if flags < 0 {
            flags
        } else {
            libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK)
        }
    };
    if done < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Moves at most `bytes` from `from` into the pipe `to`, in the kernel. Zero means the end of `from`. `from` is waited for as a read
/// waits for it, `to` is not.
/// EAGAIN: `from` had no byte within its timeout, or `to` had no room. EINVAL: neither is a pipe.
pub(crate) fn splice(from: BorrowedFd<'_>, to: BorrowedFd<'_>, bytes: usize) -> io::Result<usize> {
    let flags = libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK;
    let none = std::ptr::null_mut();
    // SAFETY: the null pointers say that neither end has an offset, the other arguments are integers, and both descriptors are
    // open because they are borrowed.
    let n = unsafe { libc::splice(from.as_raw_fd(), none, to.as_raw_fd(), none, bytes, flags) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
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

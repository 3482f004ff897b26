//! Space of a file system.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Space of the file system that holds a path, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Whole size.
    pub total: u64,
    /// What an unprivileged process may still write.
    pub available: u64,
}

/// Space of the file system that holds `path` (statvfs(3)).
///
/// # Errors
/// Whatever the system says: no such path, no permission.
pub fn space(path: &Path) -> io::Result<Space> {
    let c = CString::new(path.as_os_str().as_bytes())?;
    let mut out = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: `c` is a NUL-terminated string that outlives the call, `out` is a valid place for one struct.
    let rc = unsafe { libc::statvfs(c.as_ptr(), out.as_mut_ptr()) };
    if rc != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: statvfs returned 0, so it filled the struct.
    let v = unsafe { out.assume_init() };
    Ok(Space {
        total: v.f_blocks * v.f_frsize,
        available: v.f_bavail * v.f_frsize,
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn root_has_space_and_a_missing_path_is_an_error() {
        let s = super::space(std::path::Path::new("/")).unwrap();
        assert!(s.total > 0 && s.available <= s.total);
        assert!(super::space(std::path::Path::new("/no/such/dir")).is_err());
    }
}

//! Files that are replaced atomically and durably, renames that never replace anything, a lock as database servers take it, and
//! the security context of a file.

use super::done;
use crate::error::{OnPath, Result};
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Replaces `path`, or creates it, with a file of these bytes and this mode; it is on the disk when this returns. After a crash
/// it has the old content or the new one.
pub(crate) fn replace_durable(path: &Path, mode: u32, bytes: &[u8]) -> Result<()> {
    replace_atomic(path, mode, bytes)?;
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => sync_dir(dir),
        _ => sync_dir(Path::new(".")),
    }
}

/// The same without the sync of the directory, which may be one that only lets files be created: a crash may leave the old content.
pub(crate) fn replace_atomic(path: &Path, mode: u32, bytes: &[u8]) -> Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = Path::new(&temporary);
    // Left by a process that was killed. It may be a link that another user has made: it is never followed.
    remove_if_there(temporary)?;
    let created = create(temporary, mode, bytes);
    let replaced = created.and_then(|()| std::fs::rename(temporary, path).on(path));
    if replaced.is_err()
        && let Err(e) = remove_if_there(temporary)
    {
        log::warn!("cannot remove {e}");
    }
    replaced
}

/// Creates a file that does not exist yet, with these bytes on the disk. Its name is durable after [`sync_dir`].
pub(crate) fn create(path: &Path, mode: u32, bytes: &[u8]) -> Result<()> {
    let mut options = File::options();
    let created = options.write(true).create_new(true).mode(mode).open(path);
    let mut file = created.on(path)?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .on(path)
}

/// `None` for what does not exist.
pub(crate) fn if_there<T>(done: io::Result<T>) -> io::Result<Option<T>> {
    match done {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        done => done.map(Some),
    }
}

/// Removes a file, which may be missing.
pub(crate) fn remove_if_there(path: &Path) -> Result<()> {
    if_there(std::fs::remove_file(path)).on(path).map(drop)
}

/// Makes the names in a directory durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|d| d.sync_all()).on(dir)
}

/// Swaps two files or directories atomically (renameat2(2), RENAME_EXCHANGE). EINVAL: the file system cannot do it.
pub(crate) fn exchange(a: &Path, b: &Path) -> io::Result<()> {
    renameat2(a, b, libc::RENAME_EXCHANGE)
}

/// Renames, but fails where `to` exists (RENAME_NOREPLACE).
pub(crate) fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    renameat2(from, to, libc::RENAME_NOREPLACE)
}

fn renameat2(from: &Path, to: &Path, flags: libc::c_uint) -> io::Result<()> {
    let from = CString::new(from.as_os_str().as_bytes())?;
    let to = CString::new(to.as_os_str().as_bytes())?;
    // SAFETY: both strings are NUL-terminated and outlive the call; the other arguments are integers. By number, because not
    // every C library that we are linked with has the function.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_renameat2,
            libc::AT_FDCWD,
            from.as_ptr(),
            libc::AT_FDCWD,
            to.as_ptr(),
            flags,
        )
    };
    done(rc)
}

/// A file in `dir` that has no name (O_TMPFILE), for this process alone (0600): it is gone when it is closed, also by SIGKILL. Where
/// the file system has no such files it is made under a random name that is removed at once.
pub(crate) fn nameless(dir: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).mode(0o600);
    let opened = options.clone().custom_flags(libc::O_TMPFILE).open(dir);
    match opened {
        Err(e) if matches!(e.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR)) => {}
        other => return other,
    }
    let name = format!(".orchestrator-agent-{}", crate::sys::host::random_hex(8)?);
    let path = dir.join(name);
    let file = options.create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

/// Writes everything of the file system of `dir` to its disk (syncfs(2)). Since Linux 5.8 it also reports a write that failed since
/// `dir` was opened.
pub(crate) fn sync_file_system(dir: &File) -> io::Result<()> {
    // SAFETY: the call takes an integer only, and the descriptor is open because `dir` is borrowed.
    done(unsafe { libc::syncfs(dir.as_raw_fd()) })
}

/// Takes a write lock on the whole file, as InnoDB does on its system tablespace (fcntl(2)); false if another process has it. It
/// belongs to the open file (F_OFD_SETLK) and ends when `file` is closed, whatever else this process does with that file. `file`
/// must be open for writing.
pub(crate) fn try_lock(file: &File) -> io::Result<bool> {
    match fcntl_lock(file, libc::F_OFD_SETLK) {
        Ok(_) => Ok(true),
        Err(e) if matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
        Err(e) => Err(e),
    }
}

/// True if another open file has a lock on any part of this one, which must be open for writing. Takes none itself.
pub(crate) fn is_locked(file: &File) -> io::Result<bool> {
    let found = fcntl_lock(file, libc::F_OFD_GETLK)?;
    Ok(i32::from(found.l_type) != libc::F_UNLCK)
}

fn fcntl_lock(file: &File, command: libc::c_int) -> io::Result<libc::flock> {
    // SAFETY: all zero is a valid flock: offset and length 0 mean the whole file, and pid must be 0 for these commands.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    // SAFETY: the descriptor is open because `file` is borrowed; the pointer is to a live flock that the call may write.
    done(unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut lock) })?;
    Ok(lock)
}

const LABEL: &std::ffi::CStr = c"security.selinux";

/// The SELinux context of a file as stored with it; `None` where there is none.
pub(crate) fn label(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut value = vec![0u8; 4096];
    // SAFETY: both names are NUL-terminated and outlive the call; pointer and length describe `value`.
    let n = unsafe {
        libc::lgetxattr(
            path.as_ptr(),
            LABEL.as_ptr(),
            value.as_mut_ptr().cast(),
            value.len(),
        )
    };
    match usize::try_from(n) {
        Ok(n) => {
            value.truncate(n);
            Ok(Some(value))
        }
        Err(_) if super::failed_with(libc::ENODATA) || super::failed_with(libc::EOPNOTSUPP) => {
            Ok(None)
        }
        Err(_) => Err(io::Error::last_os_error()),
    }
}

pub(crate) fn set_label(path: &Path, value: &[u8]) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: both names are NUL-terminated and outlive the call; pointer and length describe `value`.
    let rc = unsafe {
        libc::lsetxattr(
            path.as_ptr(),
            LABEL.as_ptr(),
            value.as_ptr().cast(),
            value.len(),
            0,
        )
    };
    done(rc)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_with_its_mode_and_a_link_in_the_way_is_not_followed() {
        use std::os::unix::fs::MetadataExt;
        let d = std::env::temp_dir().join(format!("oa-replace-{}", std::process::id()));
        std::fs::create_dir_all(&d).unwrap();
        let (path, other) = (d.join("seeds.json"), d.join("other"));
        std::fs::write(&other, "other").unwrap();
        std::os::unix::fs::symlink(&other, d.join("seeds.json.new")).unwrap();
        for text in ["first", "second"] {
            replace_durable(&path, 0o600, text.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_to_string(&other).unwrap(), "other");
        assert_eq!(std::fs::read_dir(&d).unwrap().count(), 2);
        let e = create(&path, 0o600, b"x").unwrap_err().to_string();
        assert!(e.contains("seeds.json"), "{e}");
        std::fs::remove_dir_all(&d).unwrap();
        assert!(replace_durable(&path, 0o600, b"x").is_err() && sync_dir(&d).is_err());
    }

    #[test]
    fn names_are_exchanged_and_never_replaced() {
        let d = std::env::temp_dir().join(format!("oa-file-{}", std::process::id()));
        std::fs::create_dir_all(d.join("dir")).unwrap();
        std::fs::write(d.join("file"), "x").unwrap();
        exchange(&d.join("dir"), &d.join("file")).unwrap();
        assert!(d.join("file").is_dir() && d.join("dir").is_file());
        let e = rename_new(&d.join("dir"), &d.join("file")).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::AlreadyExists);
        rename_new(&d.join("dir"), &d.join("third")).unwrap();
        assert!(d.join("third").is_file());
        assert_eq!(
            exchange(&d.join("third"), &d.join("none"))
                .unwrap_err()
                .kind(),
            io::ErrorKind::NotFound
        );
        std::fs::remove_dir_all(&d).unwrap();
    }

    #[test]
    fn a_lock_is_exclusive_and_survives_another_close() {
        let path = std::env::temp_dir().join(format!("oa-lock-{}", std::process::id()));
        std::fs::write(&path, "x").unwrap();
        let open = || File::options().read(true).write(true).open(&path).unwrap();
        let (first, second) = (open(), open());
        assert!(try_lock(&first).unwrap());
        drop(open()); // would end a lock of the process
        assert!(!try_lock(&second).unwrap() && is_locked(&second).unwrap());
        assert!(!is_locked(&first).unwrap(), "its own");
        drop(first);
        assert!(!is_locked(&second).unwrap());
        assert!(try_lock(&second).unwrap());
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_file_without_a_context_has_none_and_a_missing_one_is_an_error() {
        assert!(label(Path::new("/no/such/file")).is_err());
        label(Path::new("/proc/self/comm")).unwrap(); // with SELinux there is one, without there is none
    }
}

//! Space of a file system, and disk use of a directory tree.

use super::done;
use std::collections::HashSet;
use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Space of the file system that holds a path, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Space {
    pub(crate) total: u64,
    /// What an unprivileged process may still write.
    pub(crate) available: u64,
}

/// Space of the file system that holds `path` (statvfs(3)).
pub(crate) fn space(path: &Path) -> io::Result<Space> {
    let c = CString::new(path.as_os_str().as_bytes())?;
    let mut out = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: `c` is a NUL-terminated string that outlives the call, `out` is a valid place for one struct.
    done(unsafe { libc::statvfs(c.as_ptr(), out.as_mut_ptr()) })?;
    // SAFETY: statvfs returned 0, so it filled the struct.
    let v = unsafe { out.assume_init() };
    Ok(Space {
        total: v.f_blocks * v.f_frsize,
        available: v.f_bavail * v.f_frsize,
    })
}

/// Sum of the apparent sizes of everything below and including `path`, in bytes, as `du -sb` counts: each inode once,
/// links not followed. What vanishes or cannot be read during the walk counts as nothing; an error is one of `path` itself.
pub(crate) fn usage(path: &Path) -> io::Result<u64> {
    usage_without(path, &[])
}

/// The same without the entries of `path` itself that have these names.
pub(crate) fn usage_without(path: &Path, names: &[&str]) -> io::Result<u64> {
    let mut total = std::fs::metadata(path)?.size();
    let mut linked = HashSet::new();
    let mut todo = vec![path.to_path_buf()];
    let mut first = true;
    while let Some(dir) = todo.pop() {
        let entries = match std::fs::read_dir(&dir) {
            Ok(e) => e,
            Err(e) if first => return Err(e),
            Err(_) => continue,
        };
        let is_top = std::mem::take(&mut first);
        for entry in entries.flatten() {
            if is_top && names.iter().any(|n| entry.file_name() == *n) {
                continue;
            }
            let Ok(meta) = entry.metadata() else { continue };
            if meta.nlink() > 1 && !meta.is_dir() && !linked.insert((meta.dev(), meta.ino())) {
                continue;
            }
            total += meta.size();
            if meta.is_dir() {
                todo.push(entry.path());
            }
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_has_space_and_a_missing_path_is_an_error() {
        let s = space(Path::new("/")).unwrap();
        assert!(s.total > 0 && s.available <= s.total);
        assert!(space(Path::new("/no/such/dir")).is_err());
    }

    #[test]
    fn counts_as_du_does() {
        let dir = std::env::temp_dir().join(format!("oa-du-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("a/b")).unwrap();
        std::fs::write(dir.join("a/one"), vec![0u8; 5000]).unwrap();
        std::fs::write(dir.join("a/b/two"), vec![0u8; 70_000]).unwrap();
        std::fs::hard_link(dir.join("a/one"), dir.join("again")).unwrap();
        std::os::unix::fs::symlink("/", dir.join("link")).unwrap();
        let du = std::process::Command::new("du")
            .arg("-sb")
            .arg(&dir)
            .output()
            .unwrap();
        let text = String::from_utf8(du.stdout).unwrap();
        let expected: u64 = text.split_whitespace().next().unwrap().parse().unwrap();
        assert_eq!(usage(&dir).unwrap(), expected);
        let less = usage_without(&dir, &["a", "two"]).unwrap();
        assert!(less < expected - 70_000 && less >= 5000, "{less}");
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(usage(&dir).is_err());
    }
}

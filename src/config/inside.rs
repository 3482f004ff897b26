//! Whether one directory is inside another: checked before anything is written near MySQL's data.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

/// True if `dir` is `datadir` or lies below it, by name or after following symbolic links. What does not exist yet
/// is compared by name below its nearest existing parent. An empty path is inside nothing and holds nothing.
pub(crate) fn inside(dir: &Path, datadir: &Path) -> bool {
    if dir.as_os_str().is_empty() || datadir.as_os_str().is_empty() {
        return false;
    }
    lexical(dir).starts_with(lexical(datadir)) || resolved(dir).starts_with(resolved(datadir))
}

/// The path without `.`, `..` and doubled slashes, by name only.
fn lexical(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                clean.pop();
            }
            other => clean.push(other),
        }
    }
    clean
}

/// The path with the symbolic links of its existing part followed.
fn resolved(path: &Path) -> PathBuf {
    let mut existing = path.to_path_buf();
    let mut missing: Vec<OsString> = Vec::new();
    loop {
        // An error means missing, or hidden from this user: then the parent decides.
        if let Ok(real) = existing.canonicalize() {
            let mut whole = real;
            whole.extend(missing.iter().rev());
            return lexical(&whole);
        }
        match (existing.components().next_back(), existing.parent()) {
            (Some(last), Some(parent)) => {
                missing.push(last.as_os_str().to_owned());
                existing = parent.to_path_buf();
            }
            _ => return lexical(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(dir: &str, datadir: &str) -> bool {
        inside(Path::new(dir), Path::new(datadir))
    }

    #[test]
    fn by_name() {
        assert!(check("/no/such/mysql", "/no/such/mysql"));
        assert!(check("/no/such/mysql/backup", "/no/such/mysql/"));
        assert!(check("/no/such//./mysql/x/../backup", "/no/such/mysql"));
        assert!(check("/no/such/other/../mysql/backup", "/no/such/mysql"));
        assert!(check("/anything", "/"));
    }

    #[test]
    fn neighbours_and_parents_are_outside() {
        assert!(!check("/no/such/mysql-backup", "/no/such/mysql"));
        assert!(!check("/no/such", "/no/such/mysql"));
        assert!(!check("/no/such/mysql/../backup", "/no/such/mysql"));
        assert!(!check("", "/no/such/mysql"));
        assert!(!check("/no/such/mysql", ""));
    }

    #[test]
    fn through_links() {
        let base = std::env::temp_dir().join(format!("inside-test-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&base);
        std::fs::create_dir_all(base.join("data/mysql")).unwrap();
        std::os::unix::fs::symlink(base.join("data/mysql"), base.join("link")).unwrap();
        assert!(inside(
            &base.join("link/new/backup"),
            &base.join("data/mysql")
        ));
        assert!(inside(&base.join("data/mysql/new"), &base.join("link")));
        assert!(!inside(&base.join("data/new"), &base.join("link")));
        std::fs::remove_dir_all(&base).unwrap();
    }
}

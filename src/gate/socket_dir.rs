//! The 0700 directory that keeps everybody else away from the doors' sockets.

use crate::error::{Error, Result};
use log::warn;
use std::fs::{self, DirBuilder};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Longest path of a unix socket on Linux: sun_path is 108 bytes with the NUL (unix(7)).
const SUN_PATH: usize = 107;
/// Room for `/status-18446744073709551615.sock`, the longest name in the directory.
const SOCKET_NAME: usize = 33;
const PREFIX: &str = "gate-";

/// A directory of mode 0700, removed with everything in it when dropped.
#[derive(Debug)]
pub(super) struct SocketDir(PathBuf);

impl SocketDir {
    /// Makes `gate-<pid>.<n>` in `parent`, or a directory with a random name in the system's temporary directory where
    /// the path would be too long for a socket. Directories in `parent` of processes that have died are removed.
    ///
    /// # Errors
    /// Names the directory and the setting (`state-dir`).
    pub(super) fn create(parent: &Path) -> Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let pid = std::process::id();
        remove_stale(parent);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("{PREFIX}{pid}.{n}"));
        if path.as_os_str().len() + SOCKET_NAME > SUN_PATH {
            return Self::temporary();
        }
        // Left behind by a dead process with our pid (in a container the agent may always be number 1): `n` is new
        // in this process, so the directory is nobody's.
        let made = match make(&path) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                remove(&path);
                make(&path)
            }
            made => made,
        };
        made.map_err(|e| {
            let path = path.display();
            Error::io(
                format!("cannot make {path} for the agent's sockets (state-dir in [common])"),
                &e,
            )
        })?;
        Ok(Self(path))
    }

    fn temporary() -> Result<Self> {
        let random = RandomState::new().hash_one(std::process::id());
        let path = std::env::temp_dir().join(format!("orchestrator-agent-{random:016x}"));
        make(&path).map_err(|e| {
            let path = path.display();
            Error::io(
                format!(
                    "cannot make {path} for the agent's sockets (state-dir is too long a path)"
                ),
                &e,
            )
        })?;
        Ok(Self(path))
    }

    /// Where the sockets go.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for SocketDir {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

/// mkdir(2) neither follows a symbolic link nor takes over what is there, so a success is a directory of our own.
fn make(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

fn remove(path: &Path) {
    if let Err(e) = fs::remove_dir_all(path) {
        warn!("gate: cannot remove {}: {e}", path.display());
    }
}

fn remove_stale(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else {
        return; // the attempt to make a directory in it says why
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(pid_of);
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            remove(&entry.path());
        }
    }
}

/// The process that made a directory of this name.
fn pid_of(name: &str) -> Option<u32> {
    let (pid, n) = name.strip_prefix(PREFIX)?.split_once('.')?;
    n.parse::<u64>().ok()?;
    pid.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn private_and_gone_after_use() {
        let parent = SocketDir::temporary().unwrap();
        let dir = SocketDir::create(parent.path()).unwrap();
        let path = dir.path().to_path_buf();
        assert!(path.starts_with(parent.path()));
        assert_eq!(mode(&path), 0o700);
        fs::write(path.join("all-0.sock"), "").unwrap();
        drop(dir);
        assert!(!path.exists());
    }

    #[test]
    fn too_long_a_parent_is_replaced_by_a_random_name() {
        let parent = SocketDir::temporary().unwrap();
        let long = parent.path().join("x".repeat(80));
        fs::create_dir(&long).unwrap();
        let dir = SocketDir::create(&long).unwrap();
        assert_eq!(dir.path().parent(), Some(std::env::temp_dir().as_path()));
        assert_eq!(mode(dir.path()), 0o700);
    }

    #[test]
    fn only_directories_of_the_dead_are_removed() {
        let parent = SocketDir::temporary().unwrap();
        // The kernel's highest pid is 2^22.
        for name in [
            "gate-4194305.0",
            "gate-1.0",
            "gate-x.0",
            "gate-4194305",
            "seed.json",
        ] {
            fs::create_dir(parent.path().join(name)).unwrap();
        }
        let _dir = SocketDir::create(parent.path()).unwrap();
        assert!(!parent.path().join("gate-4194305.0").exists());
        for name in ["gate-1.0", "gate-x.0", "gate-4194305", "seed.json"] {
            assert!(parent.path().join(name).exists(), "{name}");
        }
    }

    #[test]
    fn a_missing_parent_is_an_error_that_names_it() {
        let text = SocketDir::create(Path::new("/nonexistent"))
            .unwrap_err()
            .to_string();
        assert!(
            text.contains("/nonexistent/gate-") && text.contains("state-dir"),
            "{text}"
        );
    }
}

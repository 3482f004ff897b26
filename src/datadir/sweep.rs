//! Deletion in the background: in small steps, at the lowest I/O priority. A later Prepare waits for it, and it hurries then;
//! what an agent that has ended left is deleted by the next one.

use super::facts::Facts;
use super::journal::sync_dir;
use super::staging::{Staged, names_in};
use super::tidy::{self, TRASH};
use crate::error::{Error, Result};
use crate::process::Cancel;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// How many deletions are at work in this process.
static AT_WORK: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());
/// How many wait for them.
static WAITING: AtomicUsize = AtomicUsize::new(0);
/// How often who waits looks whether it was cancelled.
const LOOK: Duration = Duration::from_millis(200);

/// True while somebody waits for what is being deleted.
pub(super) fn in_haste() -> bool {
    WAITING.load(Ordering::Relaxed) > 0
}

/// Waits until nothing is being deleted any more.
///
/// # Errors
/// Cancelled.
pub(super) fn wait(cancel: &Cancel) -> Result<()> {
    WAITING.fetch_add(1, Ordering::Relaxed);
    let mut left = AT_WORK.0.lock().unwrap_or_else(PoisonError::into_inner);
    if *left > 0 {
        log::info!("waiting until what earlier seeds left is deleted");
    }
    let mut result = cancel.check();
    while *left > 0 && result.is_ok() {
        let waited = AT_WORK.1.wait_timeout(left, LOOK);
        left = waited.unwrap_or_else(PoisonError::into_inner).0;
        result = cancel.check();
    }
    WAITING.fetch_sub(1, Ordering::Relaxed);
    result
}

/// Ends a deletion on every path, also after a panic.
struct AtWork;

impl AtWork {
    fn begin() -> Self {
        *AT_WORK.0.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Self
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        *AT_WORK.0.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        AT_WORK.1.notify_all();
    }
}

/// Does `work`, a deletion, in a thread of its own; a failure is in the log, and the next Prepare deletes what is left.
pub fn in_background(work: impl FnOnce() -> Result<()> + Send + 'static) {
    let at_work = AtWork::begin();
    let body = move || {
        let _at_work = at_work;
        if let Err(e) = crate::sys::process::idle_io() {
            log::debug!("ioprio_set: {e}");
        }
        if let Err(e) = work() {
            log::warn!("{e}; the next Prepare deletes it");
        }
    };
    let thread = std::thread::Builder::new().name("delete".into());
    if let Err(e) = thread.spawn(body) {
        log::warn!("cannot start a thread: {e}; the next Prepare deletes what this seed left");
    }
}

/// Puts all that a seed left out of the way and deletes it in the background; and the directory above, if it is empty then. Not
/// while a swap is unfinished: the caller has looked at the journal. May be repeated.
///
/// # Errors
/// What cannot be renamed.
pub fn sweep(facts: &Facts, staged: &Staged) -> Result<()> {
    let mut dirs: Vec<PathBuf> = facts.outside.iter().map(|o| staged.aside(o)).collect();
    dirs.push(staged.dir.clone());
    let mut trash = Vec::new();
    for dir in dirs {
        if let Some(name) = tidy::to_trash(&dir)? {
            trash.push(name);
        }
    }
    let root = facts.staging.clone();
    if root.is_dir() {
        sync_dir(&root)?;
    }
    in_background(move || {
        for dir in trash {
            tidy::slowly(&dir, &Cancel::default())?;
        }
        remove_root(&root)
    });
    Ok(())
}

/// Removes the directory above those of seeds, if it is empty.
fn remove_root(root: &Path) -> Result<()> {
    match std::fs::remove_dir(root) {
        Err(e) if !matches!(e.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => {
            Err(Error::io(root.display(), &e))
        }
        _ => Ok(()),
    }
}

/// Goes on with what an agent that has ended did not finish, in the background: in the staging directories `roots`, and beside
/// logs that lie elsewhere.
pub fn resume(roots: Vec<PathBuf>, facts: Option<Facts>) {
    let beside = facts.into_iter().flat_map(|f| f.outside);
    let beside: Vec<PathBuf> = beside.map(|o| o.dir).collect();
    let mut found = Vec::new();
    for dir in roots.iter().chain(&beside) {
        let inner = roots.contains(dir).then(|| names_in(dir));
        let inner = inner.and_then(Result::ok).unwrap_or_default();
        let seeds = inner.iter().filter(|n| n.parse::<i64>().is_ok());
        let dirs = seeds.map(|n| dir.join(n)).chain([dir.clone()]);
        for dir in dirs.collect::<Vec<_>>() {
            let names = names_in(&dir).unwrap_or_default();
            found.extend(
                names
                    .iter()
                    .filter(|n| n.starts_with(TRASH))
                    .map(|n| dir.join(n)),
            );
        }
    }
    if found.is_empty() {
        return;
    }
    log::info!("going on with the deletion of what earlier seeds left: {found:?}");
    in_background(move || {
        for dir in found {
            tidy::slowly(&dir, &Cancel::default())?;
        }
        roots.iter().try_for_each(|r| remove_root(r))
    });
}

/// Old data below `roots`, kept for ever or until Cleanup: where, and how many bytes.
pub fn kept(roots: &[PathBuf]) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for root in roots {
        for name in names_in(root).unwrap_or_default() {
            let path = match name.parse::<i64>() {
                Ok(seed) => root.join(seed.to_string()).join("old"),
                Err(_) if name.starts_with(tidy::KEPT) => root.join(name),
                Err(_) => continue,
            };
            if names_in(&path).is_ok_and(|n| !n.is_empty()) {
                let bytes = crate::sys::usage::usage(&path).unwrap_or(0);
                found.push((path, bytes));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    /// One test: what is at work is counted for the whole process.
    #[test]
    fn a_prepare_waits_for_what_is_deleted_and_an_agents_rest_is_gone_on_with() {
        let d = std::env::temp_dir().join(format!("oa-sweep-{}", std::process::id()));
        let root = d.join(".root");
        let trash = root.join("7").join(format!("{TRASH}abc"));
        std::fs::create_dir_all(&trash).unwrap();
        std::fs::create_dir_all(root.join("kept-5")).unwrap();
        std::fs::write(root.join("kept-5/x"), vec![0; 5000]).unwrap();
        std::fs::create_dir_all(root.join("7/old")).unwrap(); // empty: not shown
        std::fs::write(root.join("7/live"), "x").unwrap();
        let big = File::create(trash.join("big.ibd")).unwrap();
        big.set_len(40 << 30).unwrap(); // sparse: 160 steps, 8 s with their pauses
        let begin = std::time::Instant::now();
        resume(vec![root.clone()], None);
        let cancelled = Cancel::default();
        cancelled.cancel("test");
        assert!(wait(&cancelled).unwrap_err().is_cancelled());
        wait(&Cancel::default()).unwrap();
        assert!(begin.elapsed() < Duration::from_secs(7), "in haste");
        assert!(!trash.exists() && root.join("7/live").exists());
        let kept = kept(std::slice::from_ref(&root));
        assert!(kept.len() == 1 && kept[0].0.ends_with("kept-5") && kept[0].1 >= 5000);
        resume(vec![root, d.join("none")], None);
        std::fs::remove_dir_all(&d).unwrap();
    }
}

//! Deleting what a seed left: at once, or in the background in small steps, so that a busy file system is not stopped by the
//! freeing of a huge file.

use super::facts::Facts;
use super::journal::sync_dir;
use super::staging::{Staged, names_in};
use crate::error::{Error, Result};
use crate::process::Cancel;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Old data that are kept for ever lie in `<staging>/kept-<seed>`.
pub(super) const KEPT: &str = "kept-";
/// What is being deleted.
pub(super) const TRASH: &str = ".orchestrator-agent-trash-";
/// A larger file is cut down by this much at a time.
const STEP: u64 = 256 << 20;
/// Pause after each step.
const PAUSE: Duration = Duration::from_millis(50);

/// Deletes the old data of a swap that is done, in small steps: for a thread in the background. What is not finished when the
/// agent ends, or when the next Prepare comes, that Prepare deletes. May be repeated.
///
/// # Errors
/// Cancelled; what cannot be deleted.
pub fn discard_old(facts: &Facts, staged: &Staged, cancel: &Cancel) -> Result<()> {
    for outside in &facts.outside {
        discard(&staged.aside(outside), cancel)?;
    }
    discard(&staged.old_dir(), cancel)
}

/// Deletes a staged copy that is of no use, in small steps: for a thread in the background, as [`discard_old`]. The staging
/// directory itself stays. May be repeated.
///
/// # Errors
/// What cannot be deleted.
pub fn discard_new(staged: &Staged) -> Result<()> {
    discard(&staged.new_dir(), &Cancel::default())
}

/// Deletes a directory under a name of its own: whoever makes a new one in its place meanwhile loses nothing.
fn discard(dir: &Path, cancel: &Cancel) -> Result<()> {
    match to_trash(dir)? {
        Some(trash) => slowly(&trash, cancel),
        None => Ok(()),
    }
}

/// Gives a directory that is to be deleted a name of its own, and returns that; `None` if there is no such directory.
pub(super) fn to_trash(dir: &Path) -> Result<Option<PathBuf>> {
    let name = crate::sys::host::random_hex(8)
        .map_err(|e| Error::io("random numbers of the kernel", &e))?;
    let trash = dir.with_file_name(format!("{TRASH}{name}"));
    match crate::sys::file::rename_new(dir, &trash) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io(dir.display(), &e)),
        Ok(()) => Ok(Some(trash)),
    }
}

/// Removes what an agent that was stopped had not deleted yet.
pub(super) fn remove_trash(facts: &Facts, staged: &Staged) -> Result<()> {
    let beside = facts.outside.iter().map(|o| o.dir.clone());
    for dir in beside.chain([staged.dir.clone(), facts.staging.clone()]) {
        for name in names_in(&dir)?.iter().filter(|n| n.starts_with(TRASH)) {
            remove_tree(&dir.join(name))?;
        }
    }
    Ok(())
}

/// Keeps the old data of a swap that is done (`keep-old-data = "forever"`) and returns where.
///
/// # Errors
/// If they cannot be renamed.
pub fn keep_old(facts: &Facts, staged: &Staged) -> Result<PathBuf> {
    let mut kept = facts.staging.join(format!("{KEPT}{}", staged.seed));
    for n in 1.. {
        match crate::sys::file::rename_new(&staged.old_dir(), &kept) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                kept = facts.staging.join(format!("{KEPT}{}.{n}", staged.seed));
            }
            done => {
                done.map_err(|e| Error::io(staged.old_dir().display(), &e))?;
                break;
            }
        }
    }
    sync_dir(&facts.staging)?;
    Ok(kept)
}

/// Removes what other seeds left.
pub(super) fn remove_others(facts: &Facts, own: &Staged) -> Result<()> {
    for name in names_in(&facts.staging)? {
        let path = facts.staging.join(&name);
        if path == own.dir || name.starts_with(KEPT) {
            continue;
        }
        // Only what is ours: in `mysql.staging-dir` there may be other things.
        if let Ok(seed) = name.parse() {
            let other = Staged { seed, dir: path };
            for outside in &facts.outside {
                remove_tree(&other.aside(outside))?;
            }
            remove_tree(&other.dir)?;
        }
    }
    Ok(())
}

/// Removes a file or directory; fine if it is not there, or goes meanwhile.
pub(super) fn remove_tree(path: &Path) -> Result<()> {
    // Again if another thread, which deletes here as well, was faster in the middle of it.
    for _ in 0..100 {
        let gone = match std::fs::symlink_metadata(path) {
            Ok(m) if m.is_dir() => std::fs::remove_dir_all(path),
            Ok(_) => std::fs::remove_file(path),
            Err(e) => Err(e),
        };
        match gone {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == ErrorKind::NotFound => {
                if !path.exists() {
                    return Ok(());
                }
            }
            Err(e) => return Err(Error::io(path.display(), &e)),
        }
    }
    Err(Error::transient(format!(
        "{} is being changed by somebody",
        path.display()
    )))
}

/// Removes a tree in small steps; fine if parts of it go meanwhile.
pub(super) fn slowly(path: &Path, cancel: &Cancel) -> Result<()> {
    let fine = |done: std::io::Result<()>| match done {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io(path.display(), &e)),
        _ => Ok(()),
    };
    let meta = match std::fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(e) => return fine(Err(e)),
    };
    if meta.is_dir() {
        let entries = match std::fs::read_dir(path) {
            Ok(entries) => entries,
            Err(e) => return fine(Err(e)),
        };
        for entry in entries.flatten() {
            slowly(&entry.path(), cancel)?;
        }
        return fine(std::fs::remove_dir(path));
    }
    if meta.is_file() && meta.len() > STEP {
        let mut left = meta.len();
        while left > STEP {
            left -= STEP;
            // Never made anew if another thread has removed it.
            match File::options().write(true).open(path) {
                Ok(file) => fine(file.set_len(left))?,
                Err(e) => return fine(Err(e)),
            }
            if super::sweep::in_haste() {
                cancel.check()?;
            } else if !cancel.sleep(PAUSE) {
                return Err(Error::cancelled());
            }
        }
    }
    cancel.check()?;
    fine(std::fs::remove_file(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_anew_meanwhile_is_not_deleted() {
        let d = std::env::temp_dir().join(format!("oa-discard-{}", std::process::id()));
        let old = d.join("old");
        std::fs::create_dir_all(&old).unwrap();
        File::create(old.join("ibdata1"))
            .unwrap()
            .set_len(6 * STEP)
            .unwrap(); // sparse
        let (of, end) = (old.clone(), Cancel::default());
        let cancel = end.clone();
        let thread = std::thread::spawn(move || discard(&of, &cancel));
        while old.exists() {
            std::thread::yield_now();
        }
        std::fs::create_dir(&old).unwrap();
        std::fs::write(old.join("ibdata1"), "new").unwrap();
        thread.join().unwrap().unwrap();
        assert_eq!(std::fs::read(old.join("ibdata1")).unwrap(), b"new");
        assert_eq!(names_in(&d).unwrap(), ["old"]);
        end.cancel("test");
        assert!(discard(&old, &end).unwrap_err().is_cancelled());
        assert!(names_in(&d).unwrap()[0].starts_with(TRASH));
        discard(&d.join("none"), &end).unwrap();
        std::fs::remove_dir_all(&d).unwrap();
    }

    #[test]
    fn large_files_go_in_steps_and_a_cancellation_stops_it() {
        let d = std::env::temp_dir().join(format!("oa-tidy-{}", std::process::id()));
        std::fs::create_dir_all(d.join("shop")).unwrap();
        let big = d.join("shop/big.ibd");
        File::create(&big).unwrap().set_len(5 * STEP).unwrap(); // sparse
        std::os::unix::fs::symlink("/etc", d.join("link")).unwrap();
        let cancelled = Cancel::default();
        cancelled.cancel("test");
        let e = slowly(&big, &cancelled).unwrap_err();
        assert!(e.is_cancelled());
        assert_eq!(std::fs::metadata(&big).unwrap().len(), 4 * STEP);
        let begin = std::time::Instant::now();
        slowly(&d, &Cancel::default()).unwrap();
        assert!(begin.elapsed() >= PAUSE * 3 && !d.exists());
        assert!(Path::new("/etc/passwd").exists());
        slowly(&d, &Cancel::default()).unwrap();
        remove_tree(&d).unwrap();
    }
}

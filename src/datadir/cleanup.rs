//! What Prepare and Cleanup of a physical seed do: whether two copies fit, an empty staging directory, and the deletion of what seeds
//! left: at once, or in the background in small steps at the lowest I/O priority, so that a busy file system is not stopped by the
//! freeing of a huge file. A later Prepare waits for it, and it does not pause then; what an agent that has ended left is deleted by
//! the next one.

use super::info::DatadirInfo;
use super::journal::{Journals, Phase};
use super::staging::{Staged, if_there, make_dir, names_in, rename_to_free};
use crate::config::DatadirSwap;
use crate::error::{Error, OnPath, Result};
use crate::process::Cancel;
use crate::sys::file::{exchange, rename_new, sync_dir};
use crate::sys::host::human_bytes;
use crate::sys::thread::{lock, spawn, unpoisoned};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

/// Old data that are kept for ever lie in `<staging>/kept-<seed>`.
const KEPT: &str = "kept-";
const TRASH: &str = ".orchestrator-agent-trash-";
/// A larger file is cut down by this many bytes at a time.
const STEP: u64 = 256 << 20;
const PAUSE: Duration = Duration::from_millis(50);
/// How often a Prepare that waits checks whether it was cancelled.
const POLL: Duration = Duration::from_millis(200);

/// How many deletions are running in this process.
static RUNNING: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());
/// How many Prepares wait for them.
static WAITING: AtomicUsize = AtomicUsize::new(0);

/// Waits until nothing is being deleted any more.
fn wait(cancel: &Cancel) -> Result<()> {
    WAITING.fetch_add(1, Ordering::Relaxed);
    let mut left = lock(&RUNNING.0);
    if *left > 0 {
        log::info!("waiting until what earlier seeds left is deleted");
    }
    let mut result = cancel.check();
    while *left > 0 && result.is_ok() {
        left = unpoisoned(RUNNING.1.wait_timeout(left, POLL)).0;
        result = cancel.check();
    }
    WAITING.fetch_sub(1, Ordering::Relaxed);
    result
}

/// Ends a deletion on every path, also after a panic.
struct Deletion;

impl Drop for Deletion {
    fn drop(&mut self) {
        *lock(&RUNNING.0) -= 1;
        RUNNING.1.notify_all();
    }
}

/// Does `work`, a deletion, in a thread of its own; a failure is logged, and the next Prepare deletes what is left.
fn in_background(work: impl FnOnce() -> Result<()> + Send + 'static) {
    *lock(&RUNNING.0) += 1;
    let deletion = Deletion;
    let body = move || {
        let _deletion = deletion;
        if let Err(e) = crate::sys::process::idle_io() {
            log::debug!("ioprio_set: {e}");
        }
        if let Err(e) = work() {
            log::warn!("{e}; the next Prepare deletes it");
        }
    };
    if let Err(e) = spawn("delete", body) {
        log::warn!("{e}; the next Prepare deletes what this seed left");
    }
}

/// Moves all that a seed left out of the way and deletes it in the background, and then the directory above, if it is empty. Not
/// while a swap is unfinished: the caller has checked the journal. May be repeated.
pub fn clean_up(info: &DatadirInfo, staged: &Staged) -> Result<()> {
    let mut trash = Vec::new();
    for dir in staged.all_aside(info).chain([staged.dir.clone()]) {
        trash.extend(to_trash(&dir)?);
    }
    if info.staging.is_dir() {
        sync_dir(&info.staging)?;
    }
    delete_in_background(trash, vec![info.staging.clone()]);
    Ok(())
}

/// Continues what an agent that has ended did not finish, in the background: in the staging directories `roots`, and next to logs
/// outside the data directory.
pub(crate) fn resume_cleanup(roots: Vec<PathBuf>, info: Option<DatadirInfo>) {
    let names = |dir: &Path| names_in(dir).unwrap_or_default();
    let mut dirs = roots.clone();
    for root in &roots {
        let seeds = names(root).into_iter().filter(|n| n.parse::<i64>().is_ok());
        dirs.extend(seeds.map(|n| root.join(n)));
    }
    dirs.extend(info.into_iter().flat_map(|i| i.outside).map(|o| o.dir));
    let mut found = Vec::new();
    for dir in dirs {
        let trash = names(&dir).into_iter().filter(|n| n.starts_with(TRASH));
        found.extend(trash.map(|n| dir.join(n)));
    }
    if !found.is_empty() {
        log::info!("continuing the deletion of what earlier seeds left: {found:?}");
        delete_in_background(found, roots);
    }
}

/// `roots` are removed at last, if they are empty.
fn delete_in_background(trash: Vec<PathBuf>, roots: Vec<PathBuf>) {
    in_background(move || {
        for dir in trash {
            delete_throttled(&dir, &Cancel::default(), &WAITING)?;
        }
        for root in roots {
            match std::fs::remove_dir(&root) {
                Err(e) if e.kind() == ErrorKind::DirectoryNotEmpty => {}
                done => drop(if_there(done).on(&root)?),
            }
        }
        Ok(())
    });
}

/// Old data below `roots`, kept for ever or until Cleanup: where, and how many bytes.
pub fn kept(roots: &[PathBuf]) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for root in roots {
        for name in names_in(root).unwrap_or_default() {
            let path = match name.parse::<i64>() {
                Ok(seed) => root.join(seed.to_string()).join("old"),
                Err(_) if name.starts_with(KEPT) => root.join(name),
                Err(_) => continue,
            };
            if names_in(&path).is_ok_and(|n| !n.is_empty()) {
                let bytes = crate::sys::disk::usage(&path).unwrap_or(0);
                found.push((path, bytes));
            }
        }
    }
    found
}

/// Deletes the old data of a completed swap in the background. What is not finished when the agent ends, the next one or the next
/// Prepare deletes. May be repeated.
pub(crate) fn delete_old(info: &DatadirInfo, staged: &Staged) {
    let dirs = staged.all_aside(info).chain([staged.old_dir()]);
    let dirs: Vec<PathBuf> = dirs.collect();
    in_background(move || dirs.iter().try_for_each(|d| delete(d, &Cancel::default())));
}

/// Deletes a staged copy that is of no use, as [`delete_old`]. The staging directory itself stays.
pub(crate) fn delete_new(staged: &Staged) {
    let dir = staged.new_dir();
    in_background(move || delete(&dir, &Cancel::default()));
}

/// Deletes a directory under a name of its own: one that is made in its place meanwhile is not touched.
fn delete(dir: &Path, cancel: &Cancel) -> Result<()> {
    to_trash(dir)?.map_or(Ok(()), |trash| delete_throttled(&trash, cancel, &WAITING))
}

/// Gives a directory that is to be deleted a name of its own, and returns that; `None` if there is no such directory.
fn to_trash(dir: &Path) -> Result<Option<PathBuf>> {
    let name = crate::sys::host::random_hex(8).on("random numbers of the kernel")?;
    let trash = dir.with_file_name(format!("{TRASH}{name}"));
    let renamed = if_there(rename_new(dir, &trash)).on(dir)?;
    Ok(renamed.map(|()| trash))
}

/// Removes what an agent that was stopped had not deleted yet.
fn remove_trash(info: &DatadirInfo, staged: &Staged) -> Result<()> {
    let logs = info.outside.iter().map(|o| o.dir.clone());
    for dir in logs.chain([staged.dir.clone(), info.staging.clone()]) {
        for name in names_in(&dir)?.iter().filter(|n| n.starts_with(TRASH)) {
            remove_tree(&dir.join(name))?;
        }
    }
    Ok(())
}

/// Keeps the old data of a completed swap (`keep-old-data = "forever"`) and returns where.
pub(crate) fn keep_old(info: &DatadirInfo, staged: &Staged) -> Result<PathBuf> {
    let kept = info.staging.join(format!("{KEPT}{}", staged.seed));
    let kept = rename_to_free(&staged.old_dir(), &kept)?;
    sync_dir(&info.staging)?;
    Ok(kept)
}

fn remove_others(info: &DatadirInfo, own: &Staged) -> Result<()> {
    for name in names_in(&info.staging)? {
        let dir = info.staging.join(&name);
        // Only what is ours: in `mysql.staging-dir` there may be other things.
        let Ok(seed) = name.parse() else { continue };
        if dir == own.dir {
            continue;
        }
        let other = Staged { seed, dir };
        for dir in other.all_aside(info).chain([other.dir.clone()]) {
            remove_tree(&dir)?;
        }
    }
    Ok(())
}

/// Removes a file or directory; fine if it does not exist, or is removed meanwhile.
pub(super) fn remove_tree(path: &Path) -> Result<()> {
    // Again if another thread, which deletes here as well, was faster in the middle of it.
    for _ in 0..100 {
        let removed = std::fs::symlink_metadata(path).and_then(|meta| {
            if meta.is_dir() {
                std::fs::remove_dir_all(path)
            } else {
                std::fs::remove_file(path)
            }
        });
        if if_there(removed).on(path)?.is_some() || !path.exists() {
            return Ok(());
        }
    }
    Err(Error::transient(format!(
        "{} is being changed by another process",
        path.display()
    )))
}

/// Removes a tree in small steps, without pauses while `waiting` is not 0; fine if parts of it are removed meanwhile.
fn delete_throttled(path: &Path, cancel: &Cancel, waiting: &AtomicUsize) -> Result<()> {
    let fine = |done: io::Result<()>| if_there(done).on(path).map(drop);
    let Some(meta) = if_there(std::fs::symlink_metadata(path)).on(path)? else {
        return Ok(());
    };
    if meta.is_dir() {
        let Some(entries) = if_there(std::fs::read_dir(path)).on(path)? else {
            return Ok(());
        };
        for entry in entries.flatten() {
            delete_throttled(&entry.path(), cancel, waiting)?;
        }
        return fine(std::fs::remove_dir(path));
    }
    if meta.is_file() && meta.len() > STEP {
        let mut left = meta.len();
        while left > STEP {
            left -= STEP;
            // Not made again if another thread has removed it.
            match File::options().write(true).open(path) {
                Ok(file) => fine(file.set_len(left))?,
                Err(e) => return fine(Err(e)),
            }
            if waiting.load(Ordering::Relaxed) > 0 {
                cancel.check()?;
            } else if !cancel.sleep(PAUSE) {
                return Err(Error::cancelled());
            }
        }
    }
    cancel.check()?;
    fine(std::fs::remove_file(path))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SwapMode {
    /// The old data stay until MySQL answers with the new ones.
    TwoCopies,
    /// The old data must be deleted before the copy is received.
    Wipe,
}

/// Two copies, the wipe, or a refusal (`mysql.datadir-swap`). `need`: bytes of the source's data, if they are known.
pub(crate) fn swap_mode(
    info: &DatadirInfo,
    need: Option<u64>,
    setting: DatadirSwap,
) -> Result<SwapMode> {
    let space = crate::sys::disk::space(&info.datadir).on(&info.datadir)?;
    decide(space.available, info.bytes, need, setting)
}

fn decide(free: u64, own: u64, need: Option<u64>, setting: DatadirSwap) -> Result<SwapMode> {
    // A tenth more: recovery writes redo logs, undo and temporary tablespaces into the copy.
    let need = need.map(|n| n + n / 10);
    let (n, why) = match (setting, need) {
        (_, Some(n)) if n > free.saturating_add(own) => {
            (n, "it does not fit even without the old data; make room")
        }
        (DatadirSwap::Never, _) => return Ok(SwapMode::Wipe),
        (_, Some(n)) if n <= free => return Ok(SwapMode::TwoCopies),
        (_, None) => return Ok(SwapMode::TwoCopies),
        (DatadirSwap::Auto, Some(_)) => return Ok(SwapMode::Wipe),
        (DatadirSwap::Always, Some(n)) => (
            n,
            "two copies do not fit and mysql.datadir-swap = \"always\"; make room, or set it to \"auto\", which deletes the old data \
             first",
        ),
    };
    let [needed, free, own] = [n, free, own].map(human_bytes);
    Err(Error::permanent(format!(
        "the copy needs {needed} on the file system of the data directory, {free} are free and the old data take {own}: {why}"
    )))
}

impl Staged {
    /// Makes the directory, empty. What earlier seeds left is removed first, or waited for where that is being done in the
    /// background; copies that are kept for ever stay. A target whose old data an earlier seed had to delete passes to this one.
    /// Refuses an unfinished swap and a file system without an atomic exchange of names. May be repeated.
    pub fn make(
        info: &DatadirInfo,
        seed: i64,
        journals: &Journals,
        cancel: &Cancel,
    ) -> Result<Self> {
        wait(cancel)?;
        let staged = Self::of(info, seed);
        let mut taken_over = None;
        if let Some(mut journal) = journals.read()? {
            match journal.phase {
                Phase::Done => journals.remove(&journal)?,
                Phase::Wiped => {
                    journal.seed = seed;
                    journal.info = info.clone();
                    taken_over = Some(journal);
                }
                // RolledBack: MySQL is being started; the next swap remembers that it is to run.
                _ => journal.check_finished()?,
            }
        }
        make_dir(&info.staging, info)?;
        make_dir(&staged.dir, info)?;
        if let Some(journal) = taken_over {
            journals.write(&journal)?; // before the other seed's directory, with the copy of it, is removed
        }
        remove_others(info, &staged)?;
        remove_trash(info, &staged)?;
        for dir in [
            staged.new_dir(),
            staged.old_dir(),
            staged.stray_dir(),
            staged.left_out_dir(),
            staged.work_dir(),
        ] {
            remove_tree(&dir)?;
            make_dir(&dir, info)?;
        }
        for aside in staged.all_aside(info) {
            remove_tree(&aside)?;
            for dir in [&aside, &aside.join("old"), &aside.join("new")] {
                make_dir(dir, info)?;
            }
        }
        let (a, b) = (staged.new_dir(), staged.old_dir());
        let exchanged = exchange(&a, &b).and_then(|()| exchange(&a, &b));
        exchanged.map_err(|e| {
            Error::permanent(format!(
                "the file system of {} cannot exchange two names atomically ({e}), which a swap of data directories needs: use the \
                 method Mysqldump",
                staged.dir.display()
            ))
        })?;
        sync_dir(&staged.dir)?;
        Ok(staged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_again_meanwhile_is_not_deleted() {
        let d = std::env::temp_dir().join(format!("oa-discard-{}", std::process::id()));
        let old = d.join("old");
        std::fs::create_dir_all(&old).unwrap();
        File::create(old.join("ibdata1"))
            .unwrap()
            .set_len(6 * STEP)
            .unwrap(); // sparse
        let (of, end) = (old.clone(), Cancel::default());
        let cancel = end.clone();
        let thread = std::thread::spawn(move || delete(&of, &cancel));
        while old.exists() {
            std::thread::yield_now();
        }
        std::fs::create_dir(&old).unwrap();
        std::fs::write(old.join("ibdata1"), "new").unwrap();
        thread.join().unwrap().unwrap();
        assert_eq!(std::fs::read(old.join("ibdata1")).unwrap(), b"new");
        assert_eq!(names_in(&d).unwrap(), ["old"]);
        end.cancel("test");
        assert!(delete(&old, &end).unwrap_err().is_cancelled());
        assert!(names_in(&d).unwrap()[0].starts_with(TRASH));
        delete(&d.join("none"), &end).unwrap();
        std::fs::remove_dir_all(&d).unwrap();
    }

    #[test]
    fn large_files_go_in_steps_and_a_cancellation_stops_it() {
        let d = std::env::temp_dir().join(format!("oa-steps-{}", std::process::id()));
        std::fs::create_dir_all(d.join("shop")).unwrap();
        let big = d.join("shop/big.ibd");
        File::create(&big).unwrap().set_len(5 * STEP).unwrap(); // sparse
        std::os::unix::fs::symlink("/etc", d.join("link")).unwrap();
        let cancelled = Cancel::default();
        cancelled.cancel("test");
        let none = AtomicUsize::new(0); // other tests wait
        let e = delete_throttled(&big, &cancelled, &none).unwrap_err();
        assert!(e.is_cancelled());
        assert_eq!(std::fs::metadata(&big).unwrap().len(), 4 * STEP);
        let begin = std::time::Instant::now();
        delete_throttled(&d, &Cancel::default(), &none).unwrap();
        assert!(begin.elapsed() >= PAUSE * 3 && !d.exists());
        assert!(Path::new("/etc/passwd").exists());
        delete_throttled(&d, &Cancel::default(), &none).unwrap();
        remove_tree(&d).unwrap();
    }

    /// One test: what is at work is counted for the whole process.
    #[test]
    fn a_prepare_waits_for_what_is_deleted_and_an_agents_rest_is_continued() {
        let d = std::env::temp_dir().join(format!("oa-cleanup-{}", std::process::id()));
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
        resume_cleanup(vec![root.clone()], None);
        let cancelled = Cancel::default();
        cancelled.cancel("test");
        assert!(wait(&cancelled).unwrap_err().is_cancelled());
        wait(&Cancel::default()).unwrap();
        assert!(begin.elapsed() < Duration::from_secs(7), "without pauses");
        assert!(!trash.exists() && root.join("7/live").exists());
        let kept = kept(std::slice::from_ref(&root));
        assert!(kept.len() == 1 && kept[0].0.ends_with("kept-5") && kept[0].1 >= 5000);
        resume_cleanup(vec![root, d.join("none")], None);
        std::fs::remove_dir_all(&d).unwrap();
    }

    #[test]
    fn two_copies_the_wipe_or_a_refusal() {
        use DatadirSwap::{Always, Auto, Never};
        // (free, own, need, setting) -> what
        for (free, own, need, setting, wanted) in [
            (200, 100, Some(100), Auto, Some(SwapMode::TwoCopies)),
            (105, 100, Some(100), Auto, Some(SwapMode::Wipe)), // a tenth more
            (105, 100, Some(100), Always, None),
            (200, 100, Some(100), Always, Some(SwapMode::TwoCopies)),
            (200, 100, Some(100), Never, Some(SwapMode::Wipe)),
            (5, 100, Some(100), Auto, None),
            (5, 100, Some(100), Never, None),
            (5, 100, None, Auto, Some(SwapMode::TwoCopies)),
            (5, 100, None, Never, Some(SwapMode::Wipe)),
        ] {
            let got = decide(free, own, need, setting);
            assert_eq!(
                got.clone().ok(),
                wanted,
                "{free} {own} {need:?} {setting:?}"
            );
            if let Err(e) = got {
                assert!(e.to_string().contains("make room"), "{e}");
            }
        }
        let e = decide(105, 100, Some(100), Always).unwrap_err().to_string();
        assert!(e.contains("mysql.datadir-swap = \"always\""), "{e}");
    }
}

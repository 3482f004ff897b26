//! Where a server's own CLONE writes a copy. It refuses a place inside its data directory (error 3632, links are followed), which
//! is where copies are staged: so it is given one beside that, on the same file system, from which the copy is renamed.

use super::facts::Facts;
use super::journal::sync_dir;
use super::staging::{Staged, make_dir};
use super::tidy;
use crate::error::{Error, Result};
use crate::system::file;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// In front of the data directory's name. Hidden: no server looks into it.
const BESIDE: &str = ".orchestrator-agent-clone-";
/// The copy in there.
const COPY: &str = "copy";

/// A place that does not exist in a directory of the server's account. What an earlier CLONE left there is deleted. May be
/// repeated. `staged` was made before.
///
/// # Errors
/// Permanent: there is no such place, with the remedy.
pub fn clone_place(facts: &Facts, staged: &Staged) -> Result<PathBuf> {
    if !facts.staging.starts_with(&facts.datadir) {
        let new = staged.new_dir();
        tidy::remove_tree(&new)?;
        return Ok(new);
    }
    let dir = beside(facts)?;
    let refuse = |why: &str| {
        Error::permanent(format!(
            "CLONE writes a second copy outside the data directory {} only, on the same file system, and {} {why}: set \
             mysql.staging-dir to a place on that file system that the server's account may write to",
            facts.datadir.display(),
            dir.display()
        ))
    };
    let device = |p: &Path| std::fs::metadata(p).map(|m| m.dev());
    let parent = dir.parent().unwrap_or(&dir);
    if !matches!((device(parent), device(&facts.datadir)), (Ok(a), Ok(b)) if a == b) {
        return Err(refuse("would be on another one"));
    }
    make_dir(&dir, facts).map_err(|e| refuse(&format!("cannot be made ({e})")))?;
    let copy = dir.join(COPY);
    tidy::remove_tree(&copy)?;
    Ok(copy)
}

/// Takes the whole copy from [`clone_place`] into the staging directory.
///
/// # Errors
/// If it cannot be renamed or written to the disk.
pub fn take_clone(facts: &Facts, staged: &Staged) -> Result<()> {
    let new = staged.new_dir();
    if facts.staging.starts_with(&facts.datadir) {
        let copy = beside(facts)?.join(COPY);
        tidy::remove_tree(&new)?;
        file::rename_new(&copy, &new).map_err(|e| Error::io(copy.display(), &e))?;
        discard_clone(facts)?;
    }
    sync_dir(&new)?;
    sync_dir(&staged.dir)
}

/// Deletes the place beside the data directory and what is in it. May be repeated.
///
/// # Errors
/// What cannot be deleted.
pub fn discard_clone(facts: &Facts) -> Result<()> {
    tidy::remove_tree(&beside(facts)?)
}

/// `<parent>/.orchestrator-agent-clone-<name>`
fn beside(facts: &Facts) -> Result<PathBuf> {
    let name = facts.datadir.file_name().map(|n| n.to_string_lossy());
    let name = name.ok_or_else(|| Error::permanent("the data directory has no name"))?;
    Ok(facts.datadir.with_file_name(format!("{BESIDE}{name}")))
}

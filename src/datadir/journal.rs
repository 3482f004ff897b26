//! The journal of a swap, which is also the marker: while it exists MySQL must not be started by us. It is written, durably,
//! before anything that it names is renamed; the truth is in `state-dir`, a copy lies in the staging directory.

use super::facts::Facts;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Name of the marker in `state-dir`, and of its copy in the staging directory.
pub const NAME: &str = "datadir-swap.json";

/// How far a swap is. Forward: `Stopping`, `Out`, `In`, `Entered`, `Done`; backward: `NewOut`, `OldIn`, `Back`; without room for two
/// copies: `Stopping`, `Out`, `Wiping`, `Wiped`, later `In`, `Entered`, `Done`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// MySQL is being stopped; nothing is renamed.
    Stopping,
    /// The guard takes the place of the system tablespace; `outgoing` goes to `old`.
    Out,
    /// `old` is being deleted: there is no way back.
    Wiping,
    /// There are no data; the guard keeps MySQL from making an empty server.
    Wiped,
    /// `incoming` goes from `new` into the data directory, behind the guard.
    In,
    /// All is in but the system tablespace, which is exchanged for the guard now; MySQL may run.
    Entered,
    /// Backward: everything but what stays goes out to `new` or `stray`, behind the guard.
    NewOut,
    /// Backward: `old` goes in, at last its system tablespace for the guard.
    OldIn,
    /// Backward: the old data are whole; MySQL ran before and is to be started again.
    Back,
    /// MySQL has answered with the new data; the old ones may be deleted.
    Done,
}

/// The journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// The seed that swaps.
    pub seed: i64,
    /// How far.
    pub phase: Phase,
    /// Of which data directory.
    pub facts: Facts,
    /// Whether MySQL ran before.
    pub was_running: bool,
    /// The old data are gone.
    pub wiped: bool,
    /// Names in the data directory that go to `old`.
    pub outgoing: Vec<String>,
    /// Names in `new` that go into the data directory.
    pub incoming: Vec<String>,
}

impl Journal {
    /// Why MySQL must not be started now.
    pub fn reason(&self) -> Option<String> {
        let dir = self.facts.datadir.display();
        let aside = self.staged().dir.join("old");
        match self.phase {
            Phase::Done | Phase::Back => None,
            Phase::Wiping | Phase::Wiped => Some(format!(
                "the old data of {dir} were deleted for seed {} because two copies do not fit, and no new ones are in place: make a \
                 new seed, or restore a backup there and remove {NAME} from common.state-dir",
                self.seed
            )),
            _ if self.wiped => Some(format!(
                "the data of seed {} are being put into {dir} (step {:?})",
                self.seed, self.phase
            )),
            Phase::Stopping => Some(format!(
                "MySQL is being stopped for seed {}, nothing of {dir} was touched yet: wait, or abort the seed",
                self.seed
            )),
            _ => Some(format!(
                "the content of {dir} is being swapped for the copy of seed {} (step {:?}), the old data are in {}: restart the \
                 agent, which puts them back, or do it by hand as the README says",
                self.seed,
                self.phase,
                aside.display()
            )),
        }
    }

    /// True while names in the data directory may be in disorder, or data are missing.
    pub fn is_unfinished(&self) -> bool {
        !matches!(self.phase, Phase::Done | Phase::Back)
    }

    /// Its staging directory.
    pub fn staged(&self) -> super::Staged {
        super::Staged::of(&self.facts, self.seed)
    }
}

/// Where journals are kept.
#[derive(Debug, Clone)]
pub struct Journals {
    state_dir: PathBuf,
}

impl Journals {
    /// In `common.state-dir`.
    pub fn new(state_dir: &Path) -> Self {
        Self {
            state_dir: state_dir.to_path_buf(),
        }
    }

    /// The journal of an unfinished swap.
    ///
    /// # Errors
    /// Permanent if it cannot be read or understood: then nobody knows what is where, and nothing may be renamed.
    pub fn read(&self) -> Result<Option<Journal>> {
        read_json(&self.state_dir.join(NAME))
    }

    /// True once old data may have been deleted for lack of room and no new ones are in place. A journal that cannot be read
    /// counts as such: nobody knows then.
    pub fn data_gone(&self) -> bool {
        match self.read() {
            Ok(journal) => journal.is_some_and(|j| {
                j.is_unfinished() && (j.wiped || matches!(j.phase, Phase::Wiping | Phase::Wiped))
            }),
            Err(e) => {
                log::error!("{e}");
                true
            }
        }
    }

    /// Gets a journal that was lost with `state-dir`, or cannot be read there, back from its copy in one of the staging
    /// directories `roots`. The copy is written after the journal and before anything that it names is renamed, so it is never
    /// behind what was done. True if there was one.
    ///
    /// # Errors
    /// If the copy cannot be written to `state-dir`.
    pub fn rescue(&self, roots: &[PathBuf]) -> Result<bool> {
        let path = self.state_dir.join(NAME);
        let broken = match self.read() {
            Ok(Some(_)) => return Ok(false),
            Ok(None) => false,
            Err(e) => {
                log::error!("{e}");
                true
            }
        };
        let Some(journal) = roots.iter().find_map(|root| copy_in(root)) else {
            return Ok(false);
        };
        if broken {
            let aside = path.with_extension("unreadable");
            std::fs::rename(&path, &aside).map_err(|e| Error::io(path.display(), &e))?;
        }
        log::warn!(
            "the journal of a swap was not in {}: its copy in {} is used",
            self.state_dir.display(),
            journal.staged().dir.display()
        );
        write_json(&path, &journal)?;
        Ok(true)
    }

    /// Writes it durably.
    ///
    /// # Errors
    /// If it cannot be written; then nothing of what it names may be renamed.
    pub fn write(&self, journal: &Journal) -> Result<()> {
        write_json(&self.state_dir.join(NAME), journal)?;
        let copy = journal.staged().dir.join(NAME);
        write_json(&copy, journal)
    }

    /// Removes it durably: the swap is over.
    ///
    /// # Errors
    /// If the marker cannot be removed.
    pub fn remove(&self, journal: &Journal) -> Result<()> {
        // The copy first: alone it would be taken for the journal of a lost `state-dir`.
        for dir in [&journal.staged().dir, &self.state_dir] {
            let path = dir.join(NAME);
            match std::fs::remove_file(&path) {
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                done => {
                    done.map_err(|e| Error::io(path.display(), &e))?;
                    sync_dir(dir)?;
                }
            }
        }
        Ok(())
    }
}

fn read_json(path: &Path) -> Result<Option<Journal>> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io(path.display(), &e)),
    };
    serde_json::from_slice(&text).map(Some).map_err(|e| {
        Error::permanent(format!(
            "{}: {e}; it says how far the swap of a data directory went: see the README on how to clear it by hand",
            path.display()
        ))
    })
}

/// The journal's copy in a staging directory below `root`, if it is one of this agent's and of this very place: whoever may
/// write into the data directory must not be able to tell an agent of root's what to rename.
fn copy_in(root: &Path) -> Option<Journal> {
    let mut found = None;
    for entry in std::fs::read_dir(root).ok()?.flatten() {
        let path = entry.path().join(NAME);
        let Ok(meta) = std::fs::symlink_metadata(&path) else {
            continue;
        };
        if !meta.is_file() || meta.uid() != crate::sys::process::effective_uid() {
            log::warn!("{} is not this agent's and is ignored", path.display());
            continue;
        }
        match read_json(&path) {
            Ok(Some(journal)) if journal.staged().dir == entry.path() => {
                if found.is_none() || journal.is_unfinished() {
                    found = Some(journal);
                }
            }
            Ok(_) => log::warn!("{} is of another place and is ignored", path.display()),
            Err(e) => log::error!("{e}"),
        }
    }
    found
}

/// Makes the names in a directory durable.
///
/// # Errors
/// If it cannot be opened or synced.
pub fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir)
        .and_then(|d| d.sync_all())
        .map_err(|e| Error::io(dir.display(), &e))
}

/// Replaces a file atomically and durably.
///
/// # Errors
/// If it cannot be written; the old one is then intact.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let fail = |e: &std::io::Error| Error::io(path.display(), e);
    let text = serde_json::to_vec_pretty(value)
        .map_err(|e| Error::permanent(format!("{}: {e}", path.display())))?;
    let temp = path.with_extension("new");
    // Made anew and by nobody else: the staging directory is the server's, and a link that lies there is not followed.
    match std::fs::remove_file(&temp) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(fail(&e)),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let mut file = options.open(&temp).map_err(|e| fail(&e))?;
    file.write_all(&text)
        .and_then(|()| file.sync_all())
        .map_err(|e| fail(&e))?;
    std::fs::rename(&temp, path).map_err(|e| fail(&e))?;
    path.parent().map_or(Ok(()), sync_dir)
}

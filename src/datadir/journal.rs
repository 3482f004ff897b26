//! The journal of a swap, which is also the marker: while it exists the agent must not start MySQL. It is written, durably, before
//! anything that it names is renamed; the original is in `state-dir`, a copy lies in the staging directory.
//!
//! `T` is the name of the system tablespace in the data directory (`ibdata1`), the guard an empty directory under that name,
//! behind which no server starts. `new`, `old` and `stray` are in the staging directory.
//!
//! | phase | what is on disk | what a restart of the agent does |
//! |---|---|---|
//! | `Stopping` | MySQL is being stopped; the old data are in place, nothing is renamed | removes the journal, starts MySQL |
//! | `MovingOldOut` | `T`, then `outgoing`, go to `old`; the guard is in the place of `T` before the first of `outgoing` goes | moves `old` back, starts MySQL |
//! | `Wiping` | all of `outgoing` were in `old`, which is being deleted; there is no way back | completes the deletion: `Wiped` |
//! | `Wiped` | there are no data, only the guard | nothing; MySQL is not started until a seed is complete |
//! | `MovingNewIn` | the guard; all old data are in `old` (or deleted); some of `incoming` are in place, others in `new` | moves the new data out, then the old ones back (or `Wiped`) |
//! | `Committed` | all of `incoming` are in place; `T` is the guard or, already exchanged, the new one; MySQL may run on it | stops MySQL, moves the new data out, then the old ones back (or `Wiped`) |
//! | `MovingNewOut` | going back: `T` of the new data is in `new`, the guard in its place; some names are in `new` or `stray` | the same |
//! | `MovingOldBack` | going back: the guard; some of `old` are in place; last, `T` of the old data is exchanged for it | moves the rest back, starts MySQL |
//! | `RolledBack` | the old data are complete; MySQL ran before | starts MySQL, then removes the journal |
//! | `Done` | MySQL has answered with the new data; `old` may be deleted | removes the journal |
//!
//! "Starts MySQL": if it ran before; in between the phase is `RolledBack`. With room for two copies a swap goes through `Stopping`,
//! `MovingOldOut`, `MovingNewIn`, `Committed`, `Done`; a wipe through `Stopping`, `MovingOldOut`, `Wiping`, `Wiped`, and the swap after
//! it through `MovingNewIn`, `Committed`, `Done`.

use super::info::DatadirInfo;
use super::staging::{Staged, if_there};
use crate::error::{Error, OnPath, Result};
use crate::sys::file;
use serde::{Deserialize, Serialize};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Name of the journal in `state-dir`, and of its copy in the staging directory.
pub const NAME: &str = "datadir-swap.json";

/// How far a swap is: the table above. The aliases are the names that earlier agents wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Phase {
    Stopping,
    #[serde(alias = "Out")]
    MovingOldOut,
    Wiping,
    Wiped,
    #[serde(alias = "In")]
    MovingNewIn,
    #[serde(alias = "Entered")]
    Committed,
    #[serde(alias = "NewOut")]
    MovingNewOut,
    #[serde(alias = "OldIn")]
    MovingOldBack,
    #[serde(alias = "Back")]
    RolledBack,
    Done,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Journal {
    /// The seed that swaps.
    pub(crate) seed: i64,
    pub(crate) phase: Phase,
    #[serde(alias = "facts")]
    pub(crate) info: DatadirInfo,
    /// Whether MySQL ran before.
    pub(crate) was_running: bool,
    /// The old data are deleted.
    pub(crate) wiped: bool,
    /// Names in the data directory that go to `old`.
    pub(crate) outgoing: Vec<String>,
    /// Names in `new` that go into the data directory.
    pub(crate) incoming: Vec<String>,
}

impl Journal {
    /// Why MySQL must not be started now.
    pub(crate) fn reason(&self) -> Option<String> {
        let (seed, phase, dir) = (self.seed, self.phase, self.info.datadir.display());
        match phase {
            Phase::Done | Phase::RolledBack => None,
            Phase::Wiping | Phase::Wiped => Some(format!(
                "the old data of {dir} were deleted for seed {seed} because two copies do not fit, and no new ones are in place: run \
                 a new seed, or restore a backup there and remove {NAME} from common.state-dir"
            )),
            _ if self.wiped => Some(format!(
                "the data of seed {seed} are being moved into {dir} (phase {phase:?})"
            )),
            Phase::Stopping => Some(format!(
                "MySQL is being stopped for seed {seed}, and nothing in {dir} was changed yet: wait, or abort the seed"
            )),
            _ => Some(format!(
                "the content of {dir} is being swapped for the copy of seed {seed} (phase {phase:?}), the old data are in {}: restart \
                 the agent, which moves them back, or do it by hand as contrib/doc/recovery.md describes",
                self.staged().old_dir().display()
            )),
        }
    }

    /// True while names in the data directory may be in disorder, or data are missing.
    pub(crate) fn is_unfinished(&self) -> bool {
        !matches!(self.phase, Phase::Done | Phase::RolledBack)
    }

    /// Refuses another swap while this one is unfinished.
    pub(super) fn check_finished(&self) -> Result<()> {
        self.reason().map_or(Ok(()), |r| Err(Error::permanent(r)))
    }

    pub(super) fn staged(&self) -> Staged {
        Staged::of(&self.info, self.seed)
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
        let state_dir = state_dir.to_path_buf();
        Self { state_dir }
    }

    /// The journal of the last swap, if it is not over. Permanent if it cannot be read or parsed: then it is not known what is
    /// where, and nothing may be renamed.
    pub(crate) fn read(&self) -> Result<Option<Journal>> {
        read_json(&self.state_dir.join(NAME))
    }

    /// True once old data may have been deleted for lack of room and no new ones are in place. A journal that cannot be read
    /// counts as such: it is not known then.
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

    /// Restores a journal that was lost with `state-dir`, or cannot be read there, from its copy in one of the staging directories
    /// `roots`. The copy is written after the journal and before anything that it names is renamed, so it is never behind what was
    /// done. True if there was one.
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
            std::fs::rename(&path, path.with_extension("unreadable")).on(&path)?;
        }
        log::warn!(
            "the journal of a swap was not in {}: its copy in {} is used",
            self.state_dir.display(),
            journal.staged().dir.display()
        );
        write_json(&path, &journal)?;
        Ok(true)
    }

    /// Writes it durably. After an error nothing of what it names may be renamed.
    pub(super) fn write(&self, journal: &Journal) -> Result<()> {
        write_json(&self.state_dir.join(NAME), journal)?;
        write_json(&journal.staged().dir.join(NAME), journal)
    }

    /// Removes it durably: the swap is over.
    pub(super) fn remove(&self, journal: &Journal) -> Result<()> {
        // The copy first: alone it would be taken for the journal of a lost `state-dir`.
        for dir in [&journal.staged().dir, &self.state_dir] {
            let path = dir.join(NAME);
            if if_there(std::fs::remove_file(&path)).on(&path)?.is_some() {
                file::sync_dir(dir)?;
            }
        }
        Ok(())
    }
}

fn read_json(path: &Path) -> Result<Option<Journal>> {
    let Some(text) = if_there(std::fs::read(path)).on(path)? else {
        return Ok(None);
    };
    serde_json::from_slice(&text).map(Some).map_err(|e| {
        Error::permanent(format!(
            "{}: {e}; it records how far the swap of a data directory is: see contrib/doc/recovery.md",
            path.display()
        ))
    })
}

/// The journal's copy in a staging directory below `root`, if it is this agent's and of this very place: an account that may write
/// into the data directory must not be able to make an agent of root's rename files.
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
            Ok(_) => log::warn!(
                "{} belongs to another directory and is ignored",
                path.display()
            ),
            Err(e) => log::error!("{e}"),
        }
    }
    found
}

/// Replaces a file of the agent's own atomically and durably.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_vec_pretty(value)
        .map_err(|e| Error::permanent(format!("{}: {e}", path.display())))?;
    file::replace_durable(path, 0o600, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An agent that was upgraded in mid-swap finds the one of its predecessor.
    #[test]
    fn a_journal_of_an_older_version_is_read() {
        let text = r##"{
            "seed": 7,
            "phase": "PHASE",
            "facts": {
                "datadir": "/var/lib/mysql",
                "server": {"flavour": "MariaDb", "version": [10, 11, 6]},
                "program": "/usr/sbin/mariadbd",
                "options": [["basedir", "/usr"]],
                "system_file": "ibdata1",
                "page_size": "16384",
                "lower_case": "0",
                "data_file_path": "ibdata1:12M:autoextend",
                "keep": ["db1.err"],
                "drop": ["db1.pid"],
                "dirs": ["tmp"],
                "outside": [{"dir": "/var/log/mysql", "base": "bin"}],
                "uid": 27,
                "gid": 27,
                "mode": 448,
                "bytes": 1000,
                "files": 10,
                "server_id": "1",
                "server_uuid": "",
                "staging": "/var/lib/mysql/#sql-orchestrator-agent"
            },
            "was_running": true,
            "wiped": false,
            "outgoing": ["mysql"],
            "incoming": ["shop"]
        }"##;
        for (name, phase) in [
            ("Stopping", Phase::Stopping),
            ("Out", Phase::MovingOldOut),
            ("Wiping", Phase::Wiping),
            ("Wiped", Phase::Wiped),
            ("In", Phase::MovingNewIn),
            ("Entered", Phase::Committed),
            ("NewOut", Phase::MovingNewOut),
            ("OldIn", Phase::MovingOldBack),
            ("Back", Phase::RolledBack),
            ("Done", Phase::Done),
        ] {
            let journal: Journal = serde_json::from_str(&text.replace("PHASE", name)).unwrap();
            assert_eq!(journal.phase, phase);
            assert_eq!((journal.seed, journal.was_running), (7, true));
            assert_eq!(journal.info.outside[0].base, "bin");
            assert_eq!(
                (&journal.outgoing[0][..], &journal.incoming[0][..]),
                ("mysql", "shop")
            );
            let again = serde_json::to_string(&journal).unwrap();
            assert_eq!(serde_json::from_str::<Journal>(&again).unwrap(), journal);
        }
    }
}

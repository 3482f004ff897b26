//! What Prepare of a physical seed does: whether two copies fit, and an empty staging directory.

use super::cleanup;
use super::info::DatadirInfo;
use super::journal::{Journals, Phase};
use super::staging::{Staged, make_dir};
use crate::config::DatadirSwap;
use crate::error::{Error, OnPath, Result};
use crate::process::Cancel;
use crate::sys::file;
use crate::sys::host::human_bytes;

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
    let refuse = |what: &str, n: u64| {
        Err(Error::permanent(format!(
            "the copy needs {} on the file system of the data directory, {} are free and the old data take {}: {what}",
            human_bytes(n),
            human_bytes(free),
            human_bytes(own)
        )))
    };
    match (setting, need) {
        (_, Some(n)) if n > free.saturating_add(own) => {
            refuse("it does not fit even without the old data; make room", n)
        }
        (DatadirSwap::Never, _) => Ok(SwapMode::Wipe),
        (_, Some(n)) if n <= free => Ok(SwapMode::TwoCopies),
        (_, None) => Ok(SwapMode::TwoCopies),
        (DatadirSwap::Auto, Some(_)) => Ok(SwapMode::Wipe),
        (DatadirSwap::Always, Some(n)) => refuse(
            "two copies do not fit and mysql.datadir-swap = \"always\"; make room, or set it to \"auto\", which deletes the old data \
             first",
            n,
        ),
    }
}

impl Staged {
    /// Makes the directory, empty. What earlier seeds left is removed first, or waited for where that is being done in the
    /// background; copies that are kept for ever stay. A target whose old data an earlier seed had to delete passes to this one.
    /// May be repeated.
    ///
    /// # Errors
    /// An unfinished swap; what cannot be made or removed; a file system without an atomic exchange of names; cancelled.
    pub fn make(
        info: &DatadirInfo,
        seed: i64,
        journals: &Journals,
        cancel: &Cancel,
    ) -> Result<Self> {
        cleanup::wait(cancel)?;
        let staged = Self::of(info, seed);
        let mut taken_over = None;
        if let Some(mut journal) = journals.read()? {
            match journal.phase {
                Phase::Done => journals.remove(&journal)?,
                Phase::RolledBack => {} // MySQL is being started; the next swap remembers that it is to run
                Phase::Wiped => {
                    journal.seed = seed;
                    journal.info = info.clone();
                    taken_over = Some(journal);
                }
                _ => return Err(Error::permanent(journal.reason().unwrap_or_default())),
            }
        }
        make_dir(&info.staging, info)?;
        make_dir(&staged.dir, info)?;
        if let Some(journal) = taken_over {
            journals.write(&journal)?; // before the other seed's directory, with the copy of it, is removed
        }
        cleanup::remove_others(info, &staged)?;
        cleanup::remove_trash(info, &staged)?;
        for dir in [
            staged.new_dir(),
            staged.old_dir(),
            staged.stray_dir(),
            staged.left_out_dir(),
            staged.work_dir(),
        ] {
            cleanup::remove_tree(&dir)?;
            make_dir(&dir, info)?;
        }
        for logs in &info.outside {
            let aside = staged.aside(logs);
            cleanup::remove_tree(&aside)?;
            for dir in [&aside, &aside.join("old"), &aside.join("new")] {
                make_dir(dir, info)?;
            }
        }
        staged.probe_exchange()?;
        file::sync_dir(&staged.dir)?;
        Ok(staged)
    }

    fn probe_exchange(&self) -> Result<()> {
        let (a, b) = (self.new_dir(), self.old_dir());
        file::exchange(&a, &b).and_then(|()| file::exchange(&a, &b)).map_err(|e| {
            Error::permanent(format!(
                "the file system of {} cannot exchange two names atomically ({e}), which a swap of data directories needs: use the \
                 method Mysqldump",
                self.dir.display()
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

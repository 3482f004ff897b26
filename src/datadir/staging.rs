//! The staging directory: where it is, what it holds, whose it is, and whether there is room for it.

use super::facts::{Facts, Outside};
use super::journal::{Journals, Phase, sync_dir};
use super::origin::Origin;
use super::tidy;
use crate::config::DatadirSwap;
use crate::error::{Error, Result};
use crate::process::Cancel;
use crate::sys::file;
use crate::sys::host::human_bytes;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};

/// The staging directory of one seed. It is a place only: making one of these touches nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staged {
    /// The seed.
    pub seed: i64,
    /// `<staging>/<seed>`
    pub dir: PathBuf,
}

/// What the room on the file system allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// The old data stay until the new ones are proven.
    TwoCopies,
    /// The old data must be deleted before the copy is received.
    Wipe,
}

/// Two copies, the wipe, or a refusal (`mysql.datadir-swap`). `need`: bytes of the source's data, if they are known.
///
/// # Errors
/// Permanent: too little room, with the setting.
pub fn room(facts: &Facts, need: Option<u64>, setting: DatadirSwap) -> Result<Room> {
    let space = crate::sys::disk::space(&facts.datadir);
    let space = space.map_err(|e| Error::io(facts.datadir.display(), &e))?;
    decide(space.available, facts.bytes, need, setting)
}

fn decide(free: u64, own: u64, need: Option<u64>, setting: DatadirSwap) -> Result<Room> {
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
        (DatadirSwap::Never, _) => Ok(Room::Wipe),
        (_, Some(n)) if n <= free => Ok(Room::TwoCopies),
        (_, None) => Ok(Room::TwoCopies),
        (DatadirSwap::Auto, Some(_)) => Ok(Room::Wipe),
        (DatadirSwap::Always, Some(n)) => refuse(
            "two copies do not fit and mysql.datadir-swap = \"always\"; make room, or set it to \"auto\", which deletes the old data \
             first",
            n,
        ),
    }
}

impl Staged {
    /// Where seed `seed` stages.
    pub fn of(facts: &Facts, seed: i64) -> Self {
        Self {
            seed,
            dir: facts.staging.join(seed.to_string()),
        }
    }

    /// The copy: what is received goes here.
    pub fn new_dir(&self) -> PathBuf {
        self.dir.join("new")
    }

    /// The old data, after the swap.
    pub fn old_dir(&self) -> PathBuf {
        self.dir.join("old")
    }

    /// What a server that was started in mid-swap has left.
    pub fn stray_dir(&self) -> PathBuf {
        self.dir.join("stray")
    }

    /// Parts of the copy that do not go into the data directory.
    pub fn left_out_dir(&self) -> PathBuf {
        self.dir.join("left-out")
    }

    /// Of the private server: socket, pid, log, temporary files.
    pub fn work_dir(&self) -> PathBuf {
        self.dir.join("work")
    }

    /// Where logs go that lie outside the data directory: `old` and `new` in there.
    pub fn aside(&self, outside: &Outside) -> PathBuf {
        outside
            .dir
            .join(format!(".orchestrator-agent-{}", self.seed))
    }

    /// Bytes for `MySQLDatadirDiskUsed` of a target until the swap: its own data as they were, and what was received so far.
    /// Costs a walk through the copy only, and grows while it comes in (agent-api-v2 8.15).
    pub fn disk_used(&self, facts: &Facts) -> u64 {
        facts.bytes + crate::sys::usage::usage(&self.new_dir()).unwrap_or(0)
    }

    /// Makes the directory, empty. What earlier seeds left is removed first, or waited for where that is being done in the
    /// background; copies that are kept for ever stay. A target whose old data an earlier seed had to delete goes over to this
    /// one. May be repeated.
    ///
    /// # Errors
    /// An unfinished swap; what cannot be made or removed; a file system without an atomic exchange of names; cancelled.
    pub fn make(facts: &Facts, seed: i64, journals: &Journals, cancel: &Cancel) -> Result<Self> {
        super::sweep::wait(cancel)?;
        let staged = Self::of(facts, seed);
        let mut taken_over = None;
        if let Some(mut journal) = journals.read()? {
            match journal.phase {
                Phase::Done => journals.remove(&journal)?,
                Phase::Back => {} // MySQL is being started; the next swap remembers that it is to run
                Phase::Wiped => {
                    journal.seed = seed;
                    journal.facts = facts.clone();
                    taken_over = Some(journal);
                }
                _ => return Err(Error::permanent(journal.reason().unwrap_or_default())),
            }
        }
        make_dir(&facts.staging, facts)?;
        make_dir(&staged.dir, facts)?;
        if let Some(journal) = taken_over {
            journals.write(&journal)?; // before the other seed's directory, with the copy of it, goes
        }
        tidy::remove_others(facts, &staged)?;
        tidy::remove_trash(facts, &staged)?;
        for dir in [
            staged.new_dir(),
            staged.old_dir(),
            staged.stray_dir(),
            staged.left_out_dir(),
            staged.work_dir(),
        ] {
            tidy::remove_tree(&dir)?;
            make_dir(&dir, facts)?;
        }
        for outside in &facts.outside {
            let aside = staged.aside(outside);
            tidy::remove_tree(&aside)?;
            for dir in [&aside, &aside.join("old"), &aside.join("new")] {
                make_dir(dir, facts)?;
            }
        }
        staged.probe_exchange()?;
        sync_dir(&staged.dir)?;
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

    /// Takes what does not come from the copy out of it ([`super::origin`]), and gives the rest to the owner of the data
    /// directory, with its security context. May be repeated.
    ///
    /// # Errors
    /// If something cannot be renamed or given away.
    pub fn settle(&self, facts: &Facts) -> Result<()> {
        let new = self.new_dir();
        for name in names_in(&new)? {
            let origin = facts.table().origin(&new, &name);
            if origin.map_err(|e| Error::io(new.join(&name).display(), &e))? != Origin::New {
                move_aside(&new, &name, &self.left_out_dir())?;
            }
        }
        let label = label_of(&facts.datadir)?;
        let mut todo = vec![new];
        while let Some(path) = todo.pop() {
            let meta = give(&path, facts, label.as_deref())?;
            if meta.is_dir() {
                let below = std::fs::read_dir(&path).map_err(|e| Error::io(path.display(), &e))?;
                for entry in below {
                    todo.push(entry.map_err(|e| Error::io(path.display(), &e))?.path());
                }
            }
        }
        Ok(())
    }
}

fn label_of(path: &Path) -> Result<Option<Vec<u8>>> {
    file::label(path).map_err(|e| Error::io(format!("context of {}", path.display()), &e))
}

/// Makes a directory that the server's account owns; fine if it is there.
pub(super) fn make_dir(path: &Path, facts: &Facts) -> Result<()> {
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(Error::io(path.display(), &e));
        }
        _ => {}
    }
    give(path, facts, label_of(&facts.datadir)?.as_deref()).map(drop)
}

/// Owner, security context, and at least the owner's own access, as the data directory has them.
fn give(path: &Path, facts: &Facts, label: Option<&[u8]>) -> Result<std::fs::Metadata> {
    let fail = |e: &std::io::Error| Error::io(path.display(), e);
    let meta = std::fs::symlink_metadata(path).map_err(|e| fail(&e))?;
    if (meta.uid(), meta.gid()) != (facts.uid, facts.gid) {
        let own_group = meta.uid() == facts.uid;
        // Who is not root cannot give a file away, and only its group may differ then, which does no harm.
        if let Err(e) = lchown(path, Some(facts.uid), Some(facts.gid))
            && !own_group
        {
            return Err(fail(&e));
        }
    }
    let access = if meta.is_dir() { 0o700 } else { 0o600 };
    if !meta.is_symlink() && meta.mode() & access != access {
        let mode = std::fs::Permissions::from_mode((meta.mode() & 0o7777) | access);
        std::fs::set_permissions(path, mode).map_err(|e| fail(&e))?;
    }
    if let Some(label) = label
        && label_of(path)?.as_deref() != Some(label)
    {
        file::set_label(path, label)
            .map_err(|e| Error::io(format!("context of {}", path.display()), &e))?;
    }
    Ok(meta)
}

/// Names in a directory, sorted.
///
/// # Errors
/// If it cannot be read, or a name is no UTF-8 text, which neither server nor journal could hold.
pub(super) fn names_in(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|e| Error::io(dir.display(), &e))? {
        let name = entry.map_err(|e| Error::io(dir.display(), &e))?.file_name();
        names.push(name.into_string().map_err(|n| {
            Error::permanent(format!(
                "{} holds a file whose name is no UTF-8 text: {}; rename or remove it",
                dir.display(),
                n.to_string_lossy()
            ))
        })?);
    }
    names.sort();
    Ok(names)
}

/// Moves `from/name` into `to`, under another name if that one is taken.
pub(super) fn move_aside(from: &Path, name: &str, to: &Path) -> Result<()> {
    let mut target = to.join(name);
    for n in 1.. {
        match file::rename_new(&from.join(name), &target) {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                target = to.join(format!("{name}.{n}"));
            }
            done => return done.map_err(|e| Error::io(from.join(name).display(), &e)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The context of the data directory goes over to what is staged. Only a privileged process may set one; without SELinux
    /// the kernel stores what it is given.
    #[test]
    fn owner_access_and_security_context_are_those_of_the_data_directory() {
        let d = std::env::temp_dir().join(format!("oa-give-{}", std::process::id()));
        let (datadir, copy) = (d.join("data"), d.join("copy"));
        std::fs::create_dir_all(&datadir).unwrap();
        std::fs::write(&copy, "x").unwrap();
        std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o040)).unwrap();
        let label = b"system_u:object_r:mysqld_db_t:s0\0";
        let root = crate::sys::process::effective_uid() == 0;
        assert_eq!(file::set_label(&datadir, label).is_ok(), root);
        let (uid, gid) = if root {
            (64_202, 64_203)
        } else {
            (
                copy.metadata().unwrap().uid(),
                copy.metadata().unwrap().gid(),
            )
        };
        let facts = Facts {
            datadir,
            uid,
            gid,
            ..Facts::for_test()
        };
        give(&copy, &facts, label_of(&facts.datadir).unwrap().as_deref()).unwrap();
        let meta = std::fs::metadata(&copy).unwrap();
        assert_eq!(
            (meta.uid(), meta.gid(), meta.mode() & 0o7777),
            (uid, gid, 0o640)
        );
        assert_eq!(label_of(&copy).unwrap(), root.then(|| label.to_vec()));
        std::fs::remove_dir_all(&d).unwrap();
    }

    #[test]
    fn two_copies_the_wipe_or_a_refusal() {
        use DatadirSwap::{Always, Auto, Never};
        // (free, own, need, setting) -> what
        for (free, own, need, setting, wanted) in [
            (200, 100, Some(100), Auto, Some(Room::TwoCopies)),
            (105, 100, Some(100), Auto, Some(Room::Wipe)), // a tenth more
            (105, 100, Some(100), Always, None),
            (200, 100, Some(100), Always, Some(Room::TwoCopies)),
            (200, 100, Some(100), Never, Some(Room::Wipe)),
            (5, 100, Some(100), Auto, None),
            (5, 100, Some(100), Never, None),
            (5, 100, None, Auto, Some(Room::TwoCopies)),
            (5, 100, None, Never, Some(Room::Wipe)),
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

//! The staging directory of a seed, and the file operations that staging, swap and cleanup share.

use super::file_policy::{FilePolicy, policy_of};
use super::info::{DatadirInfo, LogsElsewhere};
use crate::error::{Error, OnPath, Result};
use crate::sys::file;
pub(super) use crate::sys::file::if_there;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};

/// Names of our directories in a data directory, on MySQL and on MariaDB: to be left out of copies, disk use and schema lists.
pub const STAGING_NAMES: [&str; 2] = [".orchestrator-agent", "#sql-orchestrator-agent"];

/// The staging directory of one seed. It is a path only: making one of these changes nothing on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staged {
    /// The seed.
    pub seed: i64,
    /// `<staging>/<seed>`
    pub dir: PathBuf,
}

impl Staged {
    pub(crate) fn of(info: &DatadirInfo, seed: i64) -> Self {
        Self {
            seed,
            dir: info.staging.join(seed.to_string()),
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
    pub(super) fn stray_dir(&self) -> PathBuf {
        self.dir.join("stray")
    }

    /// Parts of the copy that do not go into the data directory.
    pub(super) fn left_out_dir(&self) -> PathBuf {
        self.dir.join("left-out")
    }

    /// Of the private server: socket, pid, log, temporary files.
    pub fn work_dir(&self) -> PathBuf {
        self.dir.join("work")
    }

    /// Where logs outside the data directory are moved: `old` and `new` in there.
    pub fn aside(&self, logs: &LogsElsewhere) -> PathBuf {
        logs.dir.join(format!(".orchestrator-agent-{}", self.seed))
    }

    pub(super) fn all_aside(&self, info: &DatadirInfo) -> impl Iterator<Item = PathBuf> {
        info.outside.iter().map(|logs| self.aside(logs))
    }

    /// Bytes for `MySQLDatadirDiskUsed` of a target until the swap: its own data as they were, and what was received so far.
    /// Walks through the copy only, and grows while it comes in.
    pub(crate) fn disk_used(&self, info: &DatadirInfo) -> u64 {
        info.bytes + crate::sys::disk::usage(&self.new_dir()).unwrap_or(0)
    }

    /// Takes what does not come from the copy out of it ([`super::file_policy`]), and gives the rest to the owner of the data
    /// directory, with its security context. May be repeated.
    pub fn adapt(&self, info: &DatadirInfo) -> Result<()> {
        let new = self.new_dir();
        for name in names_in(&new)? {
            if policy_of(info, &new, &name).on(new.join(&name))? != FilePolicy::TakeNew {
                move_aside(&new, &name, &self.left_out_dir())?;
            }
        }
        let label = label_of(&info.datadir)?;
        let mut todo = vec![new];
        while let Some(path) = todo.pop() {
            if give(&path, info, label.as_deref())?.is_dir() {
                for entry in std::fs::read_dir(&path).on(&path)? {
                    todo.push(entry.on(&path)?.path());
                }
            }
        }
        Ok(())
    }
}

fn label_of(path: &Path) -> Result<Option<Vec<u8>>> {
    file::label(path).on(format!("context of {}", path.display()))
}

/// Makes a directory that the server's account owns; fine if it is there.
pub(super) fn make_dir(path: &Path, info: &DatadirInfo) -> Result<()> {
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
        done => done.on(path)?,
    }
    give(path, info, label_of(&info.datadir)?.as_deref()).map(drop)
}

/// Owner, security context, and at least the owner's own access, as the data directory has them.
fn give(path: &Path, info: &DatadirInfo, label: Option<&[u8]>) -> Result<std::fs::Metadata> {
    let meta = std::fs::symlink_metadata(path).on(path)?;
    if (meta.uid(), meta.gid()) != (info.uid, info.gid) {
        let own_group = meta.uid() == info.uid;
        // Without root the owner cannot be changed, and only the group may differ then, which does no harm.
        let done = lchown(path, Some(info.uid), Some(info.gid));
        if !own_group {
            done.on(path)?;
        }
    }
    let access = if meta.is_dir() { 0o700 } else { 0o600 };
    if !meta.is_symlink() && meta.mode() & access != access {
        let mode = std::fs::Permissions::from_mode((meta.mode() & 0o7777) | access);
        std::fs::set_permissions(path, mode).on(path)?;
    }
    if let Some(label) = label
        && label_of(path)?.as_deref() != Some(label)
    {
        file::set_label(path, label).on(format!("context of {}", path.display()))?;
    }
    Ok(meta)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EntryKind {
    Missing,
    Dir,
    Other,
}

pub(super) fn kind(path: &Path) -> Result<EntryKind> {
    Ok(match if_there(std::fs::symlink_metadata(path)).on(path)? {
        None => EntryKind::Missing,
        Some(meta) if meta.is_dir() => EntryKind::Dir,
        Some(_) => EntryKind::Other,
    })
}

/// Names in a directory, sorted.
pub(super) fn names_in(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).on(dir)? {
        let name = entry.on(dir)?.file_name();
        names.push(name.into_string().map_err(|n| not_utf8(&dir.join(n)))?);
    }
    names.sort();
    Ok(names)
}

pub(super) fn not_utf8(path: &Path) -> Error {
    Error::permanent(format!(
        "the name of the file {} is not UTF-8: rename or remove it",
        path.display()
    ))
}

/// Moves `from/name` into `to`, under another name if that one is taken.
pub(super) fn move_aside(from: &Path, name: &str, to: &Path) -> Result<()> {
    rename_to_free(&from.join(name), &to.join(name)).map(drop)
}

/// Renames, with a number behind the new name if it is taken; returns the name.
pub(super) fn rename_to_free(from: &Path, to: &Path) -> Result<PathBuf> {
    let mut target = to.to_path_buf();
    let name = to.file_name().unwrap_or_default().to_string_lossy();
    for n in 1.. {
        match file::rename_new(from, &target) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                target.set_file_name(format!("{name}.{n}"));
            }
            done => {
                done.on(from)?;
                break;
            }
        }
    }
    Ok(target)
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
        let info = DatadirInfo {
            datadir,
            uid,
            gid,
            ..DatadirInfo::for_test()
        };
        give(&copy, &info, label_of(&info.datadir).unwrap().as_deref()).unwrap();
        let meta = std::fs::metadata(&copy).unwrap();
        assert_eq!(
            (meta.uid(), meta.gid(), meta.mode() & 0o7777),
            (uid, gid, 0o640)
        );
        assert_eq!(label_of(&copy).unwrap(), root.then(|| label.to_vec()));
        std::fs::remove_dir_all(&d).unwrap();
    }
}

//! The redo log of a staged copy, kept under a second name while `--prepare` runs.
//!
//! mariadb-backup 10.11 ends `--prepare` by deleting `ib_logfile0` and making a small one in its place. In between there is no redo
//! log, and no `--prepare` can run again ("File ./ib_logfile0 was not found"). All pages have been written at that moment, and the
//! old log, with its last checkpoint, is what the tool would find if it had been interrupted just before.

use crate::datadir::Staged;
use crate::error::{Error, Result};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Header of a redo log, and so the least that a usable one has, in bytes (10.8 and later).
const HEADER: u64 = 12 << 10;

/// Places of the redo log and of its second name. Both are on one file system.
pub(super) struct Redo {
    log: PathBuf,
    kept: PathBuf,
}

impl Redo {
    /// Of the copy in this staging directory. MySQL's tools have no such file in a copy that was not prepared yet, and nothing
    /// is kept then.
    pub(super) fn of(staged: &Staged) -> Self {
        Self::at(&staged.new_dir(), &staged.dir)
    }

    fn at(copy: &Path, beside: &Path) -> Self {
        Self {
            log: copy.join("ib_logfile0"),
            kept: beside.join("ib_logfile0.kept"),
        }
    }

    /// Gives it a second name.
    ///
    /// # Errors
    /// What the file system reports; a missing redo log is no error.
    pub(super) fn keep(&self) -> Result<()> {
        self.discard()?;
        match std::fs::hard_link(&self.log, &self.kept) {
            Err(e) if e.kind() != ErrorKind::NotFound => {
                Err(Error::io(format!("link to {}", self.log.display()), &e))
            }
            _ => Ok(()),
        }
    }

    /// After an interruption: puts the old redo log back, if the new one was not made yet, or not all of it.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn put_back(&self) -> Result<()> {
        let size = |path: &Path| match std::fs::metadata(path) {
            Ok(meta) => Ok(Some((meta.ino(), meta.len()))),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io(path.display(), &e)),
        };
        let Some((kept, _)) = size(&self.kept)? else {
            return Ok(());
        };
        match size(&self.log)? {
            Some((log, bytes)) if log == kept || bytes >= HEADER => return Ok(()),
            Some(_) => self.remove(&self.log)?,
            None => {}
        }
        std::fs::hard_link(&self.kept, &self.log)
            .map_err(|e| Error::io(format!("link to {}", self.kept.display()), &e))
    }

    /// Removes the second name.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn discard(&self) -> Result<()> {
        self.remove(&self.kept)
    }

    fn remove(&self, path: &Path) -> Result<()> {
        let gone = |e: &io::Error| e.kind() == ErrorKind::NotFound;
        match std::fs::remove_file(path) {
            Err(e) if !gone(&e) => Err(Error::io(path.display(), &e)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_log_comes_back_where_there_is_no_new_one() {
        let dir = std::env::temp_dir().join(format!("oa-redo-{}", std::process::id()));
        let new = dir.join("new");
        std::fs::create_dir_all(&new).unwrap();
        let (redo, log) = (Redo::at(&new, &dir), new.join("ib_logfile0"));
        redo.keep().unwrap(); // xtrabackup: there is none
        redo.put_back().unwrap();
        assert!(!log.exists());
        let old = vec![1; 20_000];
        // (the log after the interruption, what is there after put_back)
        let whole = vec![2; 12_304];
        for (left, wanted) in [
            (Some(old.clone()), &old),
            (None, &old),
            (Some(vec![]), &old),
            (Some(vec![2; 512]), &old),
            (Some(whole.clone()), &whole),
        ] {
            let _ = std::fs::remove_file(&log);
            std::fs::write(&log, &old).unwrap();
            redo.keep().unwrap();
            std::fs::remove_file(&log).unwrap();
            if let Some(left) = left {
                std::fs::write(&log, left).unwrap();
            }
            redo.put_back().unwrap();
            assert_eq!(&std::fs::read(&log).unwrap(), wanted);
        }
        redo.discard().unwrap();
        redo.discard().unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

//! The state directory and its lock.

use crate::config::{Common, Config};
use crate::error::{Error, OnPath, Result};
use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long the state directory may still be locked by an agent that has just ended: a child that it was about to start holds
/// the lock as well, until its exec.
const LOCK_TIMEOUT: Duration = Duration::from_secs(1);

/// `state-dir`, or a directory in `backup-dir` where the default place cannot be used.
pub(super) fn find(config: &Config) -> Result<PathBuf> {
    let usable = |dir: &Path| -> std::io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let probe = dir.join(".probe");
        std::fs::write(&probe, b"")?;
        std::fs::remove_file(probe)
    };
    let wanted = &config.common.state_dir;
    let other = config.common.backup_dir.join(".orchestrator-agent-state");
    let record = |dir: &Path| dir.join("seeds.json").exists();
    let Err(e) = usable(wanted) else {
        if !record(&other) || record(wanted) {
            return Ok(wanted.clone());
        }
        log::warn!(
            "the record of earlier seeds is in {}: it is used further; to use common.state-dir, move seeds.json to {} while the \
             agent is stopped",
            other.display(),
            wanted.display()
        );
        return usable(&other).map(|()| other.clone()).on(&other);
    };
    let setting = format!("common.state-dir = \"{}\"", wanted.display());
    // Where there is a record, starting without it would forget what earlier seeds left to do.
    if record(wanted) || usable(&other).is_err() {
        return Err(Error::io(format!("{setting} cannot be used"), &e));
    }
    log::warn!("{setting}: {e}; using {}", other.display());
    Ok(other)
}

/// A `backup-dir` below `state-dir`, as that of a JSON configuration, is made like it.
pub(super) fn create_backup_dir(common: &Common) -> Result<()> {
    let dir = &common.backup_dir;
    if !dir.starts_with(&common.state_dir) {
        return Ok(());
    }
    let created = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    created.on(format!("common.backup-dir = \"{}\"", dir.display()))
}

/// Two agents on one state directory would overwrite its record.
pub(super) fn lock(dir: &Path) -> Result<File> {
    let path = dir.join("lock");
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .on(path)?;
    let begin = Instant::now();
    while file.try_lock().is_err() {
        if begin.elapsed() > LOCK_TIMEOUT {
            return Err(Error::permanent(format!(
                "another agent runs with common.state-dir = \"{}\": stop it, or give this one its own",
                dir.display()
            )));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(file)
}

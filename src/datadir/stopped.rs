//! That no server runs in the data directory: the lock that every InnoDB server holds on its system tablespace file, and the
//! working directories of processes.

use super::info::DatadirInfo;
use super::staging::if_there;
use crate::error::{Error, OnPath, Result};
use crate::process::Cancel;
use crate::sys::file;
use crate::sys::proc::servers_in;
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

/// How often the lock is tried.
const POLL: Duration = Duration::from_millis(100);
/// How long a server that was started in mid-swap may take to find out that it cannot start.
const REFUSAL: Duration = Duration::from_secs(20);
/// How long a server that is just starting is waited for before it is stopped.
const START: Duration = Duration::from_secs(30);
/// How often a server that was started since is stopped again.
const AGAIN: u32 = 5;

/// The lock, held while data are renamed: a server started meanwhile does not get it. `None` inside: there is no such file.
pub(super) struct Lock(#[allow(dead_code)] Option<File>);

/// The file, if there is one: our guard is a directory.
fn open(path: &Path) -> Result<Option<File>> {
    match if_there(std::fs::symlink_metadata(path)).on(path)? {
        Some(meta) if meta.is_file() => {}
        _ => return Ok(None),
    }
    let file = File::options().read(true).write(true).open(path);
    file.map(Some).on(path)
}

fn lock_error(path: &Path, e: &std::io::Error) -> Error {
    Error::io(format!("lock of {}", path.display()), e)
}

/// True if a server runs in the data directory. Takes no lock: a server that starts at this moment is not disturbed.
pub(crate) fn is_in_use(info: &DatadirInfo) -> Result<bool> {
    let path = info.datadir.join(&info.system_file);
    let locked = match open(&path)? {
        Some(file) => file::is_locked(&file).map_err(|e| lock_error(&path, &e))?,
        None => false,
    };
    Ok(locked || !servers_in(&info.datadir).is_empty())
}

/// Waits a while for a server that is just starting: MariaDB 10.11 that is stopped at that moment may hang for ever, and with it
/// its service manager's stop command.
pub(super) fn wait_for_start(
    info: &DatadirInfo,
    answers: &dyn Fn() -> bool,
    cancel: &Cancel,
) -> Result<()> {
    let begin = Instant::now();
    while begin.elapsed() < START && !servers_in(&info.datadir).is_empty() && !answers() {
        cancel.check()?;
        cancel.sleep(POLL);
    }
    Ok(())
}

/// Stops the server and waits until none has used the data directory for `quiet` without a break (a service manager may start
/// a stopped server again at once), then takes the lock. A server that comes after that is stopped too, some times: a start
/// command that a killed agent has left behind may be at work.
///
/// # Errors
/// Those of `stop`; transient after `patience`; cancelled.
pub(super) fn stop_and_lock(
    info: &DatadirInfo,
    stop: &dyn Fn() -> Result<()>,
    quiet: Duration,
    patience: Duration,
    cancel: &Cancel,
) -> Result<Lock> {
    let path = info.datadir.join(&info.system_file);
    let mut stopped = servers_in(&info.datadir);
    stop()?;
    let (mut begin, mut again) = (Instant::now(), 0);
    let (mut free_since, mut was_free) = (None, false);
    loop {
        cancel.check()?;
        if is_in_use(info)? {
            free_since = None;
            let there = servers_in(&info.datadir);
            let new = was_free || there.iter().any(|pid| !stopped.contains(pid));
            if new && again < AGAIN {
                log::warn!("MySQL was started again: stopping it");
                (again, was_free, stopped) = (again + 1, false, there);
                stop()?;
                begin = Instant::now();
                continue;
            }
        } else {
            was_free = true;
            if free_since.get_or_insert_with(Instant::now).elapsed() >= quiet {
                let Some(file) = open(&path)? else {
                    return Ok(Lock(None));
                };
                if file::try_lock(&file).map_err(|e| lock_error(&path, &e))? {
                    return Ok(Lock(Some(file)));
                }
                free_since = None;
            }
        }
        if begin.elapsed() > patience + quiet {
            return Err(Error::transient(format!(
                "MySQL does not stay stopped: {} was in use again and again for {}s; check that mysql.service-stop-command stops \
                 the server of this data directory for good",
                path.display(),
                patience.as_secs()
            )));
        }
        cancel.sleep(POLL);
    }
}

/// Waits until no server's process works in the data directory. With the guard in place one that was started ends by itself;
/// one that had opened the system tablespace before waits for its lock, and must not be left alone with moved files.
pub(super) fn wait_until_unused(info: &DatadirInfo, cancel: &Cancel) -> Result<()> {
    let begin = Instant::now();
    loop {
        let there = servers_in(&info.datadir);
        let Some(pid) = there.first() else {
            return Ok(());
        };
        cancel.check()?;
        if begin.elapsed() > REFUSAL {
            return Err(Error::transient(format!(
                "a database server (process {pid}) was started in {} while its content was being swapped; keep MySQL stopped \
                 until the seed is done",
                info.datadir.display()
            )));
        }
        cancel.sleep(POLL);
    }
}

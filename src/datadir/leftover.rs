//! Processes of an earlier run on a copy that no record names. An agent that is killed in the moment between the start of a process
//! and its record leaves one: a server that goes on with a copy which the next run starts, or even swaps in.

use crate::error::{Error, Result};
use crate::process::signal_group;
use crate::sys::proc;
use crate::sys::process::Signal;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};
use std::time::{Duration, Instant};

/// How long they may take to end after SIGKILL.
const LIMIT: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(50);

/// Options whose value is the directory on which a private server or `xtrabackup --prepare` works.
const OPTIONS: [&[u8]; 2] = [b"--datadir=", b"--target-dir="];

/// Kills all that still works on a copy below the staging directory `root`. InnoDB takes no harm from that, and an interrupted
/// `--prepare` is in the record. Nothing of the present run may be at work there.
///
/// # Errors
/// If a process cannot be killed, or does not end: the copy must not be used meanwhile.
pub fn end(root: &Path) -> Result<()> {
    let begin = Instant::now();
    loop {
        let there = proc::groups_with(|argument| works_below(argument, root));
        let Some(first) = there.first() else {
            return Ok(());
        };
        if begin.elapsed() > LIMIT {
            return Err(Error::transient(format!(
                "process group {first} still works on a copy in {} and does not end after SIGKILL",
                root.display()
            )));
        }
        for group in there {
            log::warn!(
                "killing process group {group}, which an agent that was killed had started on a copy in {}",
                root.display()
            );
            signal_group(group, Signal::Kill).map_err(|e| {
                Error::permanent(format!(
                    "process group {group} works on a copy in {} and cannot be killed ({e}): end it",
                    root.display()
                ))
            })?;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Whether an argument names a copy that comes in, or the private server that makes it: not old data that are kept.
fn works_below(argument: &[u8], root: &Path) -> bool {
    let value = OPTIONS.iter().find_map(|o| argument.strip_prefix(*o));
    let below = value.and_then(|v| Path::new(OsStr::from_bytes(v)).strip_prefix(root).ok());
    let part = below.and_then(|b| b.components().nth(1));
    part.is_some_and(|p| {
        ["new", "helper"]
            .iter()
            .any(|n| p == Component::Normal(OsStr::new(n)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_copies_that_come_in() {
        let root = Path::new("/d/.orchestrator-agent");
        for (argument, wanted) in [
            ("--datadir=/d/.orchestrator-agent/7/new", true),
            ("--datadir=/d/.orchestrator-agent/7/new/", true),
            ("--datadir=/d/.orchestrator-agent/7/helper/data", true),
            ("--target-dir=/d/.orchestrator-agent/7/new", true),
            ("--datadir=/d/.orchestrator-agent/7/old", false),
            ("--datadir=/d/.orchestrator-agent/7", false),
            ("--datadir=/e/.orchestrator-agent/7/new", false),
            ("--datadir=/d", false),
            ("--tmpdir=/d/.orchestrator-agent/7/new", false),
            ("/d/.orchestrator-agent/7/new", false),
        ] {
            assert_eq!(works_below(argument.as_bytes(), root), wanted, "{argument}");
        }
    }
}

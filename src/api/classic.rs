//! The information endpoints of the classic protocol, each with one datum as a bare JSON value, as the Go agent and orchestrator 3.2.6
//! have them.

use super::call::Call;
use super::host::tail;
use super::probed::{Probed, Wait};
use super::volumes::SnapshotHosts;
use super::{Api, reply};
use crate::error::{Error, OnPath, Result};
use crate::http::Response;
use crate::process::{Output, run_operator_command};
use crate::protocol::wire::LogicalVolume;
use crate::sys::disk;
use crate::sys::thread::lock;
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Lines of the error log in an answer.
const LOG_LINES: usize = 20;
/// Trees whose size is remembered.
const TREES: usize = 16;
/// How long an answer waits for a walk through a tree: a client waits 60 s for the head of a response.
const WALK_LIMIT: Duration = Duration::from_secs(50);

/// Bytes, or why they are not known.
type Size = std::result::Result<u64, String>;

/// Sizes of the trees that were called for, the latest last. One walk through a tree at a time.
#[derive(Default)]
pub(crate) struct Trees(Mutex<VecDeque<(PathBuf, Arc<Probed<Size>>)>>);

impl Trees {
    /// As `du -sb` counts them.
    fn bytes_below(&self, path: &Path) -> Result<u64> {
        let tree = self.tree(path);
        let age = tree.age(Duration::ZERO);
        let size = tree.soon(age, Instant::now(), Wait::up_to(WALK_LIMIT));
        let late = || Err("counting takes long; repeat the call".to_string());
        let size = size.unwrap_or_else(late);
        size.map_err(|e| Error::permanent(e).context(format!("du {}", path.display())))
    }

    fn tree(&self, path: &Path) -> Arc<Probed<Size>> {
        let mut all = lock(&self.0);
        if let Some((_, tree)) = all.iter().find(|(p, _)| p == path) {
            return Arc::clone(tree);
        }
        let walked = path.to_path_buf();
        let tree = Probed::new("probe-du", move |_| {
            size(&walked).map_err(|e| e.to_string())
        });
        all.push_back((path.to_path_buf(), Arc::clone(&tree)));
        if all.len() > TREES {
            all.pop_front();
        }
        tree
    }
}

fn size(path: &Path) -> std::io::Result<u64> {
    let meta = std::fs::metadata(path)?;
    if meta.is_dir() {
        disk::usage(path)
    } else {
        Ok(meta.size())
    }
}

impl Api {
    pub(super) fn classic_hostname(&self) -> Response {
        reply::json(&self.hostname)
    }

    /// The last lines of the error log; one empty line where there is none, as the Go agent has it.
    pub(super) fn error_log_lines(&self) -> Result<Response> {
        let text = match self.error_log() {
            Ok(path) => match tail(&path, LOG_LINES) {
                Err(e) if e.kind() == ErrorKind::NotFound => String::new(),
                text => text.on(format!("error log {}", path.display()))?,
            },
            Err(e) => {
                log::debug!("mysql-error-log-tail: {e}");
                String::new()
            }
        };
        let lines: Vec<&str> = text.trim_matches('\n').split('\n').collect();
        Ok(reply::json(&lines))
    }

    pub(super) fn mysql_port(&self) -> Result<Response> {
        self.monitor.port(&self.config).map(|p| reply::json(&p))
    }

    pub(super) fn mysql_status(&self) -> Response {
        reply::json(&self.monitor.is_running())
    }

    pub(super) fn datadir_used(&self) -> Result<Response> {
        // During a seed it changes as long as that makes progress: orchestrator fails one whose disk use stays the same.
        let used = self.monitor.datadir_used()?;
        Ok(reply::json(&(used + self.classic.progress())))
    }

    pub(super) fn datadir_free(&self) -> Result<Response> {
        let mut free = self.monitor.datadir_free()?;
        if self.classic.counts_old_data_as_free() {
            free += self.monitor.datadir_used()?;
        }
        Ok(reply::json(&free))
    }

    /// Bytes below `path`, as `du -sb` counts them.
    pub(super) fn disk_usage(&self, path: &str) -> Result<Response> {
        if !path.starts_with('/') {
            let text = format!("du: path = {path:?} is not an absolute path");
            return Err(Error::permanent(text));
        }
        let bytes = self.trees.bytes_below(Path::new(path))?;
        Ok(reply::json(&bytes))
    }

    /// All, or those whose name contains `pattern`.
    pub(super) fn volumes(&self, pattern: &str) -> Result<Response> {
        let mut all = self.volumes.volumes()?;
        all.retain(|v| v.name.contains(pattern));
        Ok(reply::json(&all))
    }

    /// Those that `lv` names: by its path, its name, its group, or both with a slash between them; all if it is empty.
    pub(super) fn volume(&self, lv: &str) -> Result<Response> {
        let mut all = self.volumes.volumes()?;
        let is_named = |v: &LogicalVolume| {
            lv.is_empty()
                || [&v.path, &v.name, &v.group_name]
                    .into_iter()
                    .any(|n| n == lv)
                || lv
                    .strip_prefix(&v.group_name)
                    .and_then(|r| r.strip_prefix('/'))
                    == Some(&v.name)
        };
        all.retain(is_named);
        Ok(reply::json(&all))
    }

    pub(super) fn snapshot_hosts(&self, of: SnapshotHosts) -> Result<Response> {
        self.volumes.snapshot_hosts(of).map(|h| reply::json(&h))
    }

    pub(super) fn create_snapshot(&self, call: &Call) -> Result<Response> {
        const SETTING: &str = "lvm.create-snapshot-command";
        let line = self.config.lvm.create_snapshot_command.clone();
        if line.is_empty() {
            let text = format!("no LVM snapshot is created: {SETTING} is not set");
            return Err(Error::permanent(text).about(SETTING));
        }
        log::info!("a snapshot is created by request");
        let (launcher, stopping) = (self.launcher.clone(), self.stopping.clone());
        let limit = self.config.common.command_timeout;
        reply::slow(call, move || {
            let done = run_operator_command(&line, &launcher, limit, &stopping);
            let done = done.and_then(Output::success);
            done.map(|_| true).map_err(|e| e.context(SETTING))
        })
    }

    /// Volumes are removed by the method LVM, which is not enabled.
    pub(super) fn remove_volume(&self, call: &Call) -> Result<Response> {
        let lv = call.parameter("lv");
        let is_virtual = crate::classic::is_virtual(&lv);
        Err(Error::permanent(if is_virtual {
            format!("{lv} is a virtual snapshot: there is nothing to remove")
        } else {
            format!("{lv} is not removed: the seed method LVM is not enabled on this host")
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_trees_are_exact_for_small_ones_and_few_are_remembered() {
        let dir = std::env::temp_dir().join(format!("oa-trees-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let trees = Trees::default();
        let empty = trees.bytes_below(&dir).unwrap();
        std::fs::write(dir.join("file"), vec![0; 70_000]).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(trees.bytes_below(&dir).unwrap(), empty + 70_000);
        assert_eq!(trees.bytes_below(&dir.join("file")).unwrap(), 70_000);
        for n in 0..40 {
            let missing = dir.join(n.to_string());
            let text = trees.bytes_below(&missing).unwrap_err().to_string();
            assert!(
                text.starts_with(&format!("du {}", missing.display())),
                "{text}"
            );
        }
        assert_eq!(lock(&trees.0).len(), TREES);
        std::fs::remove_dir_all(dir).unwrap();
    }
}

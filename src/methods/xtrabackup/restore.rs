//! Restore on the target: the staged copy becomes the server's data.

use super::receive::{last_lsn, sync};
use super::{Xtrabackup, messages, tools};
use crate::datadir::{self, DatadirInfo, Host, Staged};
use crate::error::{Error, OnPath, Result};
use crate::methods::state::{Applied, PhysicalState};
use crate::methods::swap_in;
use crate::mysql::Flavour;
use crate::process::{Exit, Launcher, Running, program_name};
use crate::seed::stage::Context;
use crate::seed::types::{Stage, Status};
use crate::sys::file::{if_there, remove_if_there};
use crossbeam_channel::select;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// How often the tool's standard error is searched for a log sequence number.
const POLL: Duration = Duration::from_secs(1);

impl Xtrabackup {
    /// The complete stage. May be called again after an error or a restart of the agent, at whatever point the last run ended. When
    /// it returns Ok MySQL runs on the new data. After an error the old data are as they were, or the record says that they
    /// are gone.
    pub(super) fn swap_in(&self, ctx: &Context) -> Result<String> {
        ctx.report("Running restore");
        let seed = ctx.seed()?;
        let (info, staged) = swap_in::staged(&seed)?;
        let received = seed.status(Stage::Backup) == Some(Status::Completed);
        let coordinates = seed.coordinates.as_ref().filter(|_| received);
        let coordinates = coordinates
            .ok_or_else(|| Error::permanent("no complete copy was received: run a new seed"))?;
        let applied = seed.method_state::<PhysicalState>()?.applied;
        self.apply_log_once(ctx, &info, &staged, applied)?;
        let host = Host::of_stage(&self.config, ctx);
        let verified = datadir::trial_start(&info, &staged, &self.config.mysql, &host)?;
        swap_in::swap_in(&self.config, ctx, (&info, &staged), &verified, coordinates)
    }

    /// `--prepare`, unless the record says that it has completed: the trial start takes the tool's own files out of the copy, and
    /// without them the tool cannot run again.
    ///
    /// An interrupted `--prepare` of mariadb-backup is repeated. Measured with 10.11.19, SIGKILL at 30 points from the start of
    /// the tool to its end: the second run completes from each, but for the moment in which the tool replaces the redo log and
    /// there is none. For that moment the old redo log is kept under a second name. Percona gives no guarantee for xtrabackup
    /// (manual, "Prepare a full backup").
    fn apply_log_once(
        &self,
        ctx: &Context,
        info: &DatadirInfo,
        staged: &Staged,
        before: Applied,
    ) -> Result<()> {
        if before == Applied::Completed {
            log::info!("seed {}: the copy is prepared already", ctx.seed_id());
            return Ok(());
        }
        if before == Applied::Begun && info.server.flavour == Flavour::MySql {
            return Err(Error::permanent(
                "xtrabackup --prepare of this copy was interrupted, and a copy in that state cannot be relied on: run a new seed, which \
                 copies the source again",
            ));
        }
        datadir::end_leftovers(&info.staging)?;
        let tools = tools::find(&self.launcher, info.server.flavour)?;
        let redo = Redo::at(&staged.new_dir(), &staged.dir);
        match before {
            Applied::Begun => redo.restore()?,
            _ => redo.keep()?,
        }
        ctx.update_state(|_, s: &mut PhysicalState| s.applied = Applied::Begun)?;
        self.apply_log(ctx, &tools, staged).map_err(|e| match before {
            Applied::Begun if !e.is_cancelled() => Error::permanent(format!(
                "{e}. An earlier --prepare of this copy was interrupted: if this repeats itself, run a new seed, which copies the \
                 source again"
            )),
            _ => e,
        })?;
        sync(&staged.new_dir())?;
        ctx.update_state(|_, s: &mut PhysicalState| s.applied = Applied::Completed)?;
        redo.discard()
    }

    fn apply_log(&self, ctx: &Context, tools: &tools::Tools, staged: &Staged) -> Result<()> {
        ctx.report("Running xtrabackup prepare");
        let new = staged.new_dir();
        let scratch = staged.work_dir();
        std::fs::create_dir_all(&scratch).on(&scratch)?;
        let memory = tools::memory(crate::sys::host::memory_available());
        let argv = tools::prepare(&new, &scratch, memory, &self.options());
        let last = last_lsn(&new);
        let of = last.map_or(String::new(), |l| format!(" of {l}"));
        let mut reported = 0;
        let exit = self.work(ctx, &tools.backup, &new, argv, |stderr| {
            let lsn = messages::newest_lsn(stderr).unwrap_or(0);
            if lsn > reported {
                reported = lsn;
                ctx.report(&format!(
                    "Running xtrabackup prepare. Redo log up to {lsn}{of}"
                ));
            }
        })?;
        tools::check(exit)
    }

    /// Runs a tool on the copy, as this process, which has all rights there; `seen` gets its standard error every second.
    pub(super) fn work(
        &self,
        ctx: &Context,
        program: &Path,
        dir: &Path,
        argv: Vec<OsString>,
        mut seen: impl FnMut(&str),
    ) -> Result<Exit> {
        let mut command = Launcher::default().command(program);
        command
            .args(argv)
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let tool = Running::start(&mut command, &program_name(program))?;
        ctx.adopt(&tool)?;
        loop {
            select! {
                recv(tool.exited()) -> _ => return tool.finish(),
                recv(ctx.cancel().signal()) -> _ => {
                    tool.end()?;
                    return Err(Error::cancelled());
                }
                default(POLL) => seen(&tool.stderr()),
            }
        }
    }
}

/// Header of a redo log, and so the least that a usable one has, in bytes (10.8 and later).
const HEADER: u64 = 12 << 10;

/// The redo log of a staged copy, kept under a second name while `--prepare` runs.
///
/// mariadb-backup 10.11 ends `--prepare` by deleting `ib_logfile0` and making a small one in its place. In between there is no redo
/// log, and no `--prepare` can run again ("File ./ib_logfile0 was not found"). All pages have been written at that moment, and the
/// old log, with its last checkpoint, is what the tool would find if it had been interrupted just before.
struct Redo {
    log: PathBuf,
    kept: PathBuf,
}

impl Redo {
    /// MySQL's tools have no such file in a copy that was not prepared yet, and nothing is kept then.
    fn at(copy: &Path, staging: &Path) -> Self {
        Self {
            log: copy.join("ib_logfile0"),
            kept: staging.join("ib_logfile0.kept"),
        }
    }

    /// Gives it a second name, if there is one.
    fn keep(&self) -> Result<()> {
        self.discard()?;
        let linked = if_there(std::fs::hard_link(&self.log, &self.kept));
        let what = format!("link to {}", self.log.display());
        linked.on(what).map(drop)
    }

    /// After an interruption: restores the old redo log, if the new one was not made yet, or not all of it.
    fn restore(&self) -> Result<()> {
        let meta = |path: &Path| if_there(std::fs::metadata(path)).on(path);
        let Some(kept) = meta(&self.kept)? else {
            return Ok(());
        };
        match meta(&self.log)? {
            Some(log) if log.ino() == kept.ino() || log.len() >= HEADER => return Ok(()),
            Some(_) => remove_if_there(&self.log)?,
            None => {}
        }
        std::fs::hard_link(&self.kept, &self.log).on(format!("link to {}", self.kept.display()))
    }

    /// Removes the second name.
    fn discard(&self) -> Result<()> {
        remove_if_there(&self.kept)
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
        redo.restore().unwrap();
        assert!(!log.exists());
        let old = vec![1; 20_000];
        // (the log after the interruption, what is there after restore)
        let complete = vec![2; 12_304];
        for (left, wanted) in [
            (Some(old.clone()), &old),
            (None, &old),
            (Some(vec![]), &old),
            (Some(vec![2; 512]), &old),
            (Some(complete.clone()), &complete),
        ] {
            let _ = std::fs::remove_file(&log);
            std::fs::write(&log, &old).unwrap();
            redo.keep().unwrap();
            std::fs::remove_file(&log).unwrap();
            if let Some(left) = left {
                std::fs::write(&log, left).unwrap();
            }
            redo.restore().unwrap();
            assert_eq!(&std::fs::read(&log).unwrap(), wanted);
        }
        redo.discard().unwrap();
        redo.discard().unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

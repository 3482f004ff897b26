//! Restore on the target: the staged copy becomes the server's data.

use super::redo::Redo;
use super::{Xtrabackup, copy, options, tools};
use crate::datadir;
use crate::datadir::{DatadirInfo, Host, Staged};
use crate::error::{Error, Result};
use crate::methods::state::{Applied, PhysicalState};
use crate::methods::swap_in;
use crate::mysql::Flavour;
use crate::process::{Exit, Launcher, Running};
use crate::seed::stage::Context;
use crate::seed::types::{Stage, Status};
use crate::sys::file::sync_file_system;
use crossbeam_channel::select;
use std::ffi::OsString;
use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

/// How often the tool's words are looked at for a log sequence number.
const LOOK: Duration = Duration::from_secs(1);

impl Xtrabackup {
    /// The complete stage. May be called again after an error or a restart of the agent, at whatever point the last run ended. When
    /// it returns Ok MySQL runs on the new data. After an error the old data are as they were, or the record says that they
    /// are gone.
    pub(super) fn swap_in(&self, ctx: &Context) -> Result<String> {
        ctx.report("Running restore");
        let seed = ctx.seed()?;
        let (facts, staged) = swap_in::staged(&seed)?;
        let coordinates = seed
            .coordinates
            .clone()
            .filter(|_| seed.status(Stage::Backup) == Some(Status::Completed))
            .ok_or_else(|| Error::permanent("no complete copy was received: call prepare again"))?;
        let applied = seed.method_state::<PhysicalState>()?.applied;
        self.apply_log_once(ctx, &facts, &staged, applied)?;
        let host = Host::of_stage(&self.config, ctx);
        let proven = datadir::trial_start(&facts, &staged, &self.config.mysql, &host)?;
        swap_in::swap_in(&self.config, ctx, (&facts, &staged), &proven, &coordinates)
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
        facts: &DatadirInfo,
        staged: &Staged,
        before: Applied,
    ) -> Result<()> {
        if before == Applied::Completed {
            log::info!("seed {}: the copy is prepared already", ctx.seed_id());
            return Ok(());
        }
        if before == Applied::Begun && facts.server.flavour == Flavour::MySql {
            return Err(Error::permanent(
                "xtrabackup --prepare of this copy was interrupted, and a copy in that state cannot be relied on: make a new seed, which \
                 copies the source again",
            ));
        }
        datadir::end_leftovers(&facts.staging)?;
        let tools = tools::find(&self.launcher, facts.server.flavour)?;
        let redo = Redo::of(staged);
        match before {
            Applied::Begun => redo.put_back()?,
            _ => redo.keep()?,
        }
        ctx.update_state(|_, s: &mut PhysicalState| s.applied = Applied::Begun)?;
        self.apply_log(ctx, &tools, staged).map_err(|e| match before {
            Applied::Begun if !e.is_cancelled() => Error::permanent(format!(
                "{e}. An earlier --prepare of this copy was interrupted: if this repeats itself, make a new seed, which copies the \
                 source again"
            )),
            _ => e,
        })?;
        let dir = File::open(staged.new_dir()).and_then(|d| sync_file_system(&d));
        dir.map_err(|e| Error::io(format!("sync of {}", staged.new_dir().display()), &e))?;
        ctx.update_state(|_, s: &mut PhysicalState| s.applied = Applied::Completed)?;
        redo.discard()
    }

    /// `--prepare`.
    fn apply_log(&self, ctx: &Context, tools: &tools::Tools, staged: &Staged) -> Result<()> {
        ctx.report("Running xtrabackup prepare");
        let new = staged.new_dir();
        let scratch = staged.work_dir();
        std::fs::create_dir_all(&scratch).map_err(|e| Error::io(scratch.display(), &e))?;
        let memory = options::memory(crate::sys::host::memory_available());
        let argv = options::prepare(&new, &scratch, memory, &self.options());
        let last = copy::last_lsn(&new);
        let mut told = 0;
        let exit = self.work(ctx, &tools.backup, &new, argv, |words| {
            if let Some(lsn) = copy::spoken_lsn(words)
                && lsn > told
            {
                told = lsn;
                let of = last.map_or(String::new(), |l| format!(" of {l}"));
                ctx.report(&format!(
                    "Running xtrabackup prepare. Redo log up to {lsn}{of}"
                ));
            }
        })?;
        tools::check(exit)
    }

    /// Runs a tool on the copy, as this process, which may do all there; `look` sees its words now and then.
    pub(super) fn work(
        &self,
        ctx: &Context,
        program: &Path,
        dir: &Path,
        argv: Vec<OsString>,
        mut look: impl FnMut(&str),
    ) -> Result<Exit> {
        let mut command = Launcher::default().command(program);
        command
            .args(argv)
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let tool = Running::start(&mut command, &tools::name(program))?;
        ctx.adopt(&tool)?;
        loop {
            select! {
                recv(tool.exited()) -> _ => return tool.finish(),
                recv(ctx.cancel().signal()) -> _ => {
                    tool.end()?;
                    return Err(Error::cancelled());
                }
                default(LOOK) => look(&tool.stderr()),
            }
        }
    }
}

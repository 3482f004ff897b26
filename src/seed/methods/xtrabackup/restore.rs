//! Restore on the target: the staged copy becomes the server's data.

use super::{Xtrabackup, copy, options, tools};
use crate::error::{Error, Result};
use crate::process::{Exit, Launcher, Running};
use crate::seed::context::Context;
use crate::seed::datadir::{self, Host};
use crate::seed::methods::swap_in;
use crate::seed::vocabulary::{Stage, Status};
use crossbeam_channel::select;
use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

/// How often the tool's words are looked at for a log sequence number.
const LOOK: Duration = Duration::from_secs(1);

impl Xtrabackup {
    /// The whole stage. May be called again after an error: the staged copy is prepared anew, which does no harm. When it
    /// returns Ok MySQL runs on the new data. After an error the old data are as they were, or the record says that they
    /// are gone.
    pub(super) fn swap_in(&self, ctx: &Context) -> Result<String> {
        ctx.report("Running restore");
        let seed = ctx.seed()?;
        let (facts, staged) = swap_in::staged(&seed)?;
        let coordinates = seed
            .coordinates
            .clone()
            .filter(|_| seed.status(Stage::Backup) == Some(Status::Completed))
            .ok_or_else(|| Error::permanent("no whole copy was received: call prepare again"))?;
        let tools = tools::find(&self.launcher, facts.server.flavour)?;
        let new = staged.new_dir();
        self.apply_log(ctx, &tools, &new)?;
        let host = Host::of_stage(&self.config, ctx);
        let proven = datadir::proof_start(&facts, &staged, &self.config.mysql, &host)?;
        swap_in::swap_in(&self.config, ctx, (&facts, &staged), &proven, &coordinates)
    }

    /// `--prepare`.
    fn apply_log(&self, ctx: &Context, tools: &tools::Tools, new: &Path) -> Result<()> {
        ctx.report("Running xtrabackup prepare");
        let memory = options::memory(crate::host::memory_available());
        let argv = options::prepare(new, memory, &self.options());
        let last = copy::last_lsn(new);
        let mut told = 0;
        let exit = self.work(ctx, &tools.backup, new, argv, |words| {
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
                default(LOOK) => look(&tool.words()),
            }
        }
    }
}

//! The target's part of the Backup: it waits for the source, unpacks what that sends into the staging directory, and answers
//! when all of it is on the disk.

use super::tools::{Tools, name};
use super::{Xtrabackup, copy, options, tools};
use crate::compatibility::{self, CopyKind};
use crate::datadir;
use crate::datadir::{DatadirInfo, Host, Staged, SwapMode};
use crate::error::{Error, Result};
use crate::methods::state::{Applied, PhysicalState};
use crate::process::{Job, Launcher, Running, run};
use crate::seed::record::Seed;
use crate::seed::stage::Context;
use crate::stream::{Incoming, Listener};
use crate::sys::file::sync_file_system;
use crate::sys::thread::spawn;
use std::fs::File;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

/// How long a tool that has closed its standard input may take to end.
const LAST_WORDS: Duration = Duration::from_secs(2);

impl Xtrabackup {
    /// Once for each Prepare. When it returns Ok the copy is whole and on the disk, its coordinates are recorded, and the source
    /// was told so. After an error the staged rest is deleted in the background.
    pub(super) fn receive(
        &self,
        ctx: &Context,
        listener: Listener,
        facts: &DatadirInfo,
        staged: &Staged,
        tools: &Tools,
    ) -> Result<String> {
        let result = self.receive_from(ctx, listener, facts, staged, tools);
        if result.is_err() {
            datadir::delete_new(staged);
        }
        result
    }

    fn receive_from(
        &self,
        ctx: &Context,
        listener: Listener,
        facts: &DatadirInfo,
        staged: &Staged,
        tools: &Tools,
    ) -> Result<String> {
        ctx.report("Waiting for backup data");
        let mut incoming = listener.accept(ctx.cancel())?;
        drop(listener);
        let peer = incoming.peer();
        ctx.report(&format!("Receiving from {}", peer.ip()));
        let result = self.take(ctx, &mut incoming, facts, staged, tools);
        match result {
            Ok(bytes) => {
                incoming.acknowledge()?;
                Ok(format!("Received {bytes} bytes from {}", peer.ip()))
            }
            Err(e) => {
                // The source may be dead, or slow to listen: this host is free for the next seed meanwhile.
                let aborted = ctx.cancel().is_cancelled();
                let text = match aborted {
                    true => ctx.cancel().reason(),
                    false => e.to_string(),
                };
                let body = move || incoming.reject(&text, aborted);
                if let Err(e) = spawn("refuse", body) {
                    log::warn!("{e}; the source sees a reset");
                }
                Err(e)
            }
        }
    }

    fn take(
        &self,
        ctx: &Context,
        incoming: &mut Incoming,
        facts: &DatadirInfo,
        staged: &Staged,
        tools: &Tools,
    ) -> Result<u64> {
        let need = self.agree(incoming, facts)?;
        if let Some(bytes) = need {
            ctx.progress().expect(bytes);
        }
        match datadir::swap_mode(facts, need, self.config.mysql.datadir_swap)? {
            SwapMode::TwoCopies => {}
            SwapMode::Wipe => {
                log::warn!(
                    "seed {}: two copies do not fit on the file system of {}, or mysql.datadir-swap = \"never\": the old data are \
                     deleted before the new ones are received",
                    ctx.seed_id(),
                    facts.datadir.display()
                );
                let before = ctx.seed()?;
                ctx.update(Seed::begin_replacing)?;
                let host = Host::of_stage(&self.config, ctx);
                let journals = self.journals();
                if let Err(e) = datadir::wipe(&journals, facts, ctx.seed_id(), &host) {
                    if !journals.data_gone() {
                        ctx.update(|seed| {
                            (seed.load, seed.left_by) = (before.load, before.left_by)
                        })?;
                    }
                    return Err(e);
                }
            }
        }
        let bytes = self.unpack(ctx, incoming, staged, tools)?;
        let new = staged.new_dir();
        self.decompress(ctx, tools, &new)?;
        ctx.report(&format!("Received {bytes} bytes. Writing them to the disk"));
        copy::whole(&new)?;
        let coordinates = copy::coordinates(&new, facts.server.flavour)?;
        let dir = File::open(&new).and_then(|d| sync_file_system(&d));
        dir.map_err(|e| Error::io(format!("sync of {}", new.display()), &e))?;
        ctx.cancel().check()?;
        ctx.update_state(|seed, state: &mut PhysicalState| {
            seed.coordinates = Some(coordinates);
            state.applied = Applied::No;
        })?;
        Ok(bytes)
    }

    /// That the copy of this source can run here, and is not of this very server. Returns the bytes of its data; a bare stream
    /// says nothing.
    fn agree(&self, incoming: &Incoming, facts: &DatadirInfo) -> Result<Option<u64>> {
        if incoming.is_raw() {
            log::warn!("a bare stream: neither the source's version nor its size is known");
            return Ok(None);
        }
        let source: DatadirInfo = serde_json::from_slice(incoming.notes())
            .map_err(|e| Error::permanent(format!("cannot understand the source's hello: {e}")))?;
        compatibility::check(CopyKind::Files, &(&source).into(), &facts.into())?;
        Ok(Some(source.bytes))
    }

    fn unpack(
        &self,
        ctx: &Context,
        incoming: &mut Incoming,
        staged: &Staged,
        tools: &Tools,
    ) -> Result<u64> {
        let new = staged.new_dir();
        // Without sudo: Prepare has seen that this process may do all in the data directory.
        let mut command = Launcher::default().command(&tools.unpack);
        command
            .args(options::unpack(&new, &self.options()))
            .current_dir(&new)
            .stdin(Stdio::piped())
            .stdout(Stdio::null());
        let mut tool = Running::start(&mut command, &name(&tools.unpack))?;
        ctx.adopt(&tool)?;
        let stdin = tool
            .take_stdin()
            .ok_or_else(|| Error::permanent("internal: the tool's standard input is not a pipe"))?;
        let progress = Arc::clone(ctx.progress());
        let received = incoming.receive(stdin, ctx.cancel(), |n| progress.bytes(n));
        let bytes = match received {
            Ok(bytes) => bytes,
            Err(e) => {
                // A tool that has ended by itself knows why.
                let of_tool = e.is_tool_input();
                let ended = of_tool && tool.exited().recv_timeout(LAST_WORDS).is_ok();
                let exit = if ended { tool.finish() } else { tool.end() }?;
                return Err(tools::check(exit).err().filter(|_| of_tool).unwrap_or(e));
            }
        };
        // There is no limit on its work after the last byte.
        let job = Job {
            cancel: ctx.cancel(),
            before_kill: &|_| {},
        };
        let exit = run(tool, &job)?;
        tools::check(exit)?;
        Ok(bytes)
    }
}

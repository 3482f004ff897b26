//! The target's part of the Backup: it waits for the source, unpacks what that sends into the staging directory, and acknowledges it
//! when all of it is on the disk. Files that the operator's `--compress` has packed on the source are decompressed here: the coordinates
//! may be among them (seen with mariadb-backup 10.11).

use super::tools::Tools;
use super::{Xtrabackup, copy, options, tools};
use crate::compatibility::{self, CopyKind};
use crate::datadir;
use crate::datadir::{DatadirInfo, Host, Staged, SwapMode};
use crate::error::{Error, OnPath, Result};
use crate::methods::state::{Applied, PhysicalState};
use crate::mysql::{Flavour, Server, Version};
use crate::process::{Job, Launcher, Running, run};
use crate::seed::record::Seed;
use crate::seed::stage::Context;
use crate::stream::{Incoming, Listener};
use crate::sys::file::sync_file_system;
use crate::sys::thread::spawn;
use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

/// How long a tool that has closed its standard input may take to end.
const TOOL_END: Duration = Duration::from_secs(2);

impl Xtrabackup {
    /// Once for each Prepare. When it returns Ok the copy is complete and on the disk, its coordinates are recorded, and the source has the
    /// acknowledgement. After an error what is staged is deleted in the background.
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
                // The source may be dead, or slow to read: this host is free for the next seed meanwhile.
                let aborted = ctx.cancel().is_cancelled();
                let text = if aborted {
                    ctx.cancel().reason()
                } else {
                    e.to_string()
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
            SwapMode::Wipe => self.wipe(ctx, facts)?,
        }
        let bytes = self.unpack(ctx, incoming, staged, tools)?;
        let new = staged.new_dir();
        self.decompress(ctx, tools, &new)?;
        ctx.report(&format!("Received {bytes} bytes. Writing them to the disk"));
        copy::check_complete(&new)?;
        let coordinates = copy::coordinates(&new, facts.server.flavour)?;
        sync(&new)?;
        ctx.cancel().check()?;
        ctx.update_state(|seed, state: &mut PhysicalState| {
            seed.coordinates = Some(coordinates);
            state.applied = Applied::No;
        })?;
        Ok(bytes)
    }

    fn wipe(&self, ctx: &Context, facts: &DatadirInfo) -> Result<()> {
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
        let wiped = datadir::wipe(&journals, facts, ctx.seed_id(), &host);
        if wiped.is_err() && !journals.data_gone() {
            ctx.update(|seed| (seed.load, seed.left_by) = (before.load, before.left_by))?;
        }
        wiped.map(drop)
    }

    /// That the copy of this source can run here, and is not of this very server. Returns the bytes of its data; a raw stream does not
    /// hold them.
    fn agree(&self, incoming: &Incoming, facts: &DatadirInfo) -> Result<Option<u64>> {
        if incoming.is_raw() {
            log::warn!("a raw stream: neither the source's version nor its size is known");
            return Ok(None);
        }
        let source: DatadirInfo = serde_json::from_slice(incoming.notes())
            .map_err(|e| Error::permanent(format!("malformed handshake of the source: {e}")))?;
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
        // Without sudo: Prepare has checked that this process has all rights in the data directory.
        let mut command = Launcher::default().command(&tools.unpack);
        command
            .args(options::unpack(&new, &self.options()))
            .current_dir(&new)
            .stdin(Stdio::piped())
            .stdout(Stdio::null());
        let mut tool = Running::start(&mut command, &tools::name(&tools.unpack))?;
        ctx.adopt(&tool)?;
        let stdin = tool
            .take_stdin()
            .ok_or_else(|| Error::permanent("internal: the tool's standard input is not a pipe"))?;
        let progress = Arc::clone(ctx.progress());
        let received = incoming.receive(stdin, ctx.cancel(), |n| progress.bytes(n));
        let bytes = match received {
            Ok(bytes) => bytes,
            Err(e) => {
                // The cause is in the standard error of a tool that has ended by itself.
                let of_tool = e.is_tool_input();
                let ended = of_tool && tool.exited().recv_timeout(TOOL_END).is_ok();
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

    /// That this host can unpack what its own options pack: a source of the same fleet has the same.
    pub(super) fn can_decompress(&self, tools: &Tools) -> Result<()> {
        match unpacker(&self.config.xtrabackup.additional_opts, tools.version) {
            None => Ok(()),
            Some(program) => self.launcher.find(&[program]).map(drop).map_err(|e| {
                e.context(
                    "xtrabackup.xtrabackup-addtional-opts holds --compress, and xtrabackup.stream-compression would need no program",
                )
            }),
        }
    }

    /// Unpacks all that is packed in `new`, and removes the packed files.
    fn decompress(&self, ctx: &Context, tools: &Tools, new: &Path) -> Result<()> {
        let packed = copy::compressed(new)?;
        if packed.is_empty() {
            return Ok(());
        }
        ctx.report("Decompressing backup");
        let argv = options::decompress(new, &self.options());
        let exit = self.work(ctx, &tools.backup, new, argv, |_| {})?;
        tools::check(exit).map_err(|e| {
            Error::permanent(format!(
                "the copy was made with --compress and cannot be unpacked here ({e}): install the program that does it (qpress, lz4 \
                 or zstd), or use xtrabackup.stream-compression instead of --compress"
            ))
        })?;
        for path in packed {
            if !path.with_extension("").exists() {
                let text = format!("{} was not unpacked", path.display());
                return Err(Error::permanent(text));
            }
            remove_if_there(&path)?; // some versions remove it themselves
        }
        Ok(())
    }
}

/// The program that the tool calls to unpack what `--compress` packs; `None` without this option. `tool` is the server that the backup
/// tool is made for.
fn unpacker(options: &[String], tool: Server) -> Option<&'static str> {
    let option = options
        .iter()
        .find(|o| *o == "--compress" || o.starts_with("--compress="))?;
    match option.split_once('=').map(|(_, algorithm)| algorithm) {
        Some("lz4") => Some("lz4"),
        Some("zstd") => Some("zstd"),
        None if tool.flavour == Flavour::MySql && tool.version >= Version(8, 0, 34) => Some("zstd"),
        _ => Some("qpress"),
    }
}

pub(super) fn remove_if_there(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path.display(), &e)),
        _ => Ok(()),
    }
}

/// That all of a copy is on the disk.
pub(super) fn sync(dir: &Path) -> Result<()> {
    let synced = File::open(dir).and_then(|d| sync_file_system(&d));
    synced.on(format!("sync of {}", dir.display()))
}
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_follows_the_option_and_the_version() {
        let of = |option: &str, tool: &str| {
            let tool = Server::parse(tool, "").unwrap();
            unpacker(&["--parallel=4".into(), option.into()], tool)
        };
        assert_eq!(of("--compress", "10.11.19-MariaDB"), Some("qpress"));
        assert_eq!(of("--compress", "8.0.33"), Some("qpress"));
        assert_eq!(of("--compress", "8.0.35"), Some("zstd"));
        assert_eq!(of("--compress=lz4", "8.0.28"), Some("lz4"));
        assert_eq!(of("--compress=zstd", "9.7.1"), Some("zstd"));
        assert_eq!(of("--compress-threads=4", "9.7.1"), None);
    }
}

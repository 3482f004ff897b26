//! The target's part of the Backup: it waits for the source, unpacks what that sends into the staging directory, and acknowledges it
//! when all of it is on the disk. Files that the operator's `--compress` has packed on the source are decompressed here: the coordinates
//! may be among them (seen with mariadb-backup 10.11).

use super::Xtrabackup;
use super::tools::{self, Tools};
use crate::compatibility::{self, CopyKind};
use crate::coordinates::Coordinates;
use crate::coordinates::metadata::binlog_info;
use crate::datadir::{self, DatadirInfo, Staged, SwapMode};
use crate::error::{Error, OnPath, Result};
use crate::methods::state::{Applied, PhysicalState};
use crate::methods::swap_in;
use crate::mysql::{Flavour, Server, Version};
use crate::process::{Job, Launcher, Running, program_name, run};
use crate::seed::stage::{Context, Prepared};
use crate::seed::types::Side;
use crate::stream::{Incoming, Listener};
use crate::sys::file::{if_there, remove_if_there, sync_file_system};
use crate::sys::thread::spawn;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

/// How long a tool that has closed its standard input may take to end.
const TOOL_END: Duration = Duration::from_secs(2);
/// Prefixes of a copy's metadata files: of Percona and of MariaDB before 11.1; of MariaDB since 11.1.
const PREFIXES: [&str; 2] = ["xtrabackup", "mariadb_backup"];
/// What `--compress` appends: qpress, lz4, zstd.
const COMPRESSED: [&str; 3] = ["qp", "lz4", "zst"];

/// What Prepare has found and made on a target.
struct Target {
    method: Xtrabackup,
    info: DatadirInfo,
    staged: Staged,
    tools: Tools,
}

impl Target {
    /// Once for each Prepare. When it returns Ok the copy is complete and on the disk, its coordinates are recorded, and the source has the
    /// acknowledgement. After an error what is staged is deleted in the background.
    fn receive(&self, ctx: &Context, listener: Listener) -> Result<String> {
        let result = self.receive_from(ctx, listener);
        if result.is_err() {
            datadir::delete_new(&self.staged);
        }
        result
    }

    fn receive_from(&self, ctx: &Context, listener: Listener) -> Result<String> {
        ctx.report("Waiting for backup data");
        let mut incoming = listener.accept(ctx.cancel())?;
        drop(listener);
        let peer = incoming.peer().ip();
        ctx.report(&format!("Receiving from {peer}"));
        match self.take(ctx, &mut incoming) {
            Ok(bytes) => {
                incoming.acknowledge()?;
                Ok(format!("Received {bytes} bytes from {peer}"))
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

    fn take(&self, ctx: &Context, incoming: &mut Incoming) -> Result<u64> {
        let need = self.agree(incoming)?;
        if let Some(bytes) = need {
            ctx.progress().expect(bytes);
        }
        match datadir::swap_mode(&self.info, need, self.method.config.mysql.datadir_swap)? {
            SwapMode::TwoCopies => {}
            SwapMode::Wipe => swap_in::wipe(&self.method.config, ctx, &self.info)?,
        }
        let bytes = self.unpack(ctx, incoming)?;
        let new = self.staged.new_dir();
        self.decompress(ctx, &new)?;
        ctx.report(&format!("Received {bytes} bytes. Writing them to the disk"));
        check_complete(&new)?;
        let coordinates = coordinates(&new, self.info.server.flavour)?;
        sync(&new)?;
        ctx.cancel().check()?;
        ctx.update_state(|seed, state: &mut PhysicalState| {
            seed.coordinates = Some(coordinates);
            state.applied = Applied::No;
        })?;
        Ok(bytes)
    }

    /// That the copy of this source can run here, and is not of this very server. Returns the bytes of its data; a raw stream does not
    /// hold them.
    fn agree(&self, incoming: &Incoming) -> Result<Option<u64>> {
        if incoming.is_raw() {
            log::warn!("a raw stream: neither the source's version nor its size is known");
            return Ok(None);
        }
        let source: DatadirInfo = serde_json::from_slice(incoming.notes())
            .map_err(|e| Error::permanent(format!("malformed handshake of the source: {e}")))?;
        compatibility::check(CopyKind::Files, &(&source).into(), &(&self.info).into())?;
        Ok(Some(source.bytes))
    }

    fn unpack(&self, ctx: &Context, incoming: &mut Incoming) -> Result<u64> {
        let new = self.staged.new_dir();
        let program = &self.tools.unpack;
        // Without sudo: Prepare has checked that this process has all rights in the data directory.
        let mut command = Launcher::default().command(program);
        command
            .args(tools::unpack(&new, &self.method.options()))
            .current_dir(&new)
            .stdin(Stdio::piped())
            .stdout(Stdio::null());
        let mut tool = Running::start(&mut command, &program_name(program))?;
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

    /// Unpacks all that is packed in `new`, and removes the packed files.
    fn decompress(&self, ctx: &Context, new: &Path) -> Result<()> {
        let packed = compressed(new)?;
        if packed.is_empty() {
            return Ok(());
        }
        ctx.report("Decompressing backup");
        let argv = tools::decompress(new, &self.method.options());
        let exit = self
            .method
            .work(ctx, &self.tools.backup, new, argv, |_| {})?;
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

impl Xtrabackup {
    pub(super) fn prepare_target(&self, ctx: &Context) -> Result<Prepared> {
        ctx.report("Running prepare");
        let this = self.clone();
        let (info, tools) = ctx.interruptible(move || this.inspect(Side::Target))?;
        if ctx.seed()?.classic {
            swap_in::check_stopped(&info)?;
        }
        // The size of the source is in its handshake; what cannot fit in any case is refused at once.
        datadir::swap_mode(&info, None, self.config.mysql.datadir_swap)?;
        let staged = swap_in::stage(&self.config, ctx, &info)?;
        let listener = Listener::bind(self.stream(ctx.seed_id())?)?;
        let port = listener.address()?.port();
        let target = Target {
            method: self.clone(),
            info,
            staged,
            tools,
        };
        Ok(Prepared {
            text: format!("Prepare completed. Listening on port {port}. Waiting for backup data"),
            reception: Some(Box::new(move |ctx| target.receive(ctx, listener))),
        })
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

/// That all of a copy is on the disk.
pub(super) fn sync(dir: &Path) -> Result<()> {
    let synced = File::open(dir).and_then(|d| sync_file_system(&d));
    synced.on(format!("sync of {}", dir.display()))
}

/// The text of `xtrabackup_<name>` or `mariadb_backup_<name>`; `None` if there is neither.
fn read(dir: &Path, name: &str) -> Result<Option<String>> {
    for prefix in PREFIXES {
        let path = dir.join(format!("{prefix}_{name}"));
        let text = if_there(std::fs::read_to_string(&path)).on(path)?;
        if text.is_some() {
            return Ok(text);
        }
    }
    Ok(None)
}

/// The source's coordinates at the moment of the copy. On MariaDB the GTID is the position of a replica, never an executed set.
fn coordinates(dir: &Path, flavour: Flavour) -> Result<Coordinates> {
    let Some(text) = read(dir, "binlog_info")? else {
        return Err(Error::permanent(
            "the copy has no coordinates (xtrabackup_binlog_info): the source must run with log_bin, and the backup must complete",
        ));
    };
    let found = binlog_info(&text)?;
    let of_flavour = match flavour {
        Flavour::MariaDb => found.gtid_executed.is_empty(),
        Flavour::MySql => found.gtid_slave_pos.is_none(),
    };
    if of_flavour {
        return Ok(found);
    }
    Err(Error::permanent(format!(
        "the GTIDs in xtrabackup_binlog_info are not of {flavour}: {}",
        text.trim().chars().take(100).collect::<String>()
    )))
}

/// That the tool has completed: it writes this file last.
fn check_complete(dir: &Path) -> Result<()> {
    match read(dir, "checkpoints")? {
        Some(text) if text.contains("backup_type") => Ok(()),
        _ => Err(Error::permanent(
            "the copy has no xtrabackup_checkpoints: the backup did not complete",
        )),
    }
}

/// The last log sequence number that `--prepare` has to come to.
pub(super) fn last_lsn(dir: &Path) -> Option<u64> {
    let text = read(dir, "checkpoints").ok()??;
    text.lines().find_map(|l| {
        l.strip_prefix("last_lsn")?
            .trim_start_matches([' ', '='])
            .trim()
            .parse()
            .ok()
    })
}

fn compressed(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut todo = vec![dir.to_path_buf()];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(&dir).on(&dir)? {
            let entry = entry.on(&dir)?;
            let path = entry.path();
            let extension = path.extension().and_then(|e| e.to_str());
            if entry.file_type().on(&path)?.is_dir() {
                todo.push(path);
            } else if extension.is_some_and(|e| COMPRESSED.contains(&e)) {
                found.push(path);
            }
        }
    }
    Ok(found)
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

    fn dir(name: &str) -> PathBuf {
        let d = std::env::temp_dir().join(format!("oa-copy-{name}-{}", std::process::id()));
        std::fs::create_dir_all(d.join("shop")).unwrap();
        d
    }

    #[test]
    fn coordinates_under_both_names_and_of_the_right_family() {
        for name in ["xtrabackup_binlog_info", "mariadb_backup_binlog_info"] {
            let d = dir(name);
            assert!(
                coordinates(&d, Flavour::MariaDb)
                    .unwrap_err()
                    .to_string()
                    .contains("log_bin")
            );
            let write = |text: &str| std::fs::write(d.join(name), text).unwrap();
            write("binlog.000001\t1088\t0-5-5\n");
            let c = coordinates(&d, Flavour::MariaDb).unwrap();
            assert_eq!(
                (
                    c.log_pos,
                    c.gtid_slave_pos.as_deref(),
                    c.gtid_executed.as_str()
                ),
                (1088, Some("0-5-5"), "")
            );
            assert!(coordinates(&d, Flavour::MySql).is_err());
            write("binlog.000001\t1088\t\n");
            assert!(coordinates(&d, Flavour::MariaDb).is_ok());
            write(
                "binlog.000002\t157\t3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5,\n4e11fa47-71ca-11e1-9e33-c80aa9429562:1-7\n",
            );
            let c = coordinates(&d, Flavour::MySql).unwrap();
            assert!(c.gtid_executed.ends_with(":1-7"), "{c:?}");
            assert!(coordinates(&d, Flavour::MariaDb).is_err());
            write("");
            assert!(coordinates(&d, Flavour::MySql).is_err());
            std::fs::remove_dir_all(&d).unwrap();
        }
    }

    #[test]
    fn complete_copies_and_compressed_files() {
        let d = dir("complete");
        assert!(check_complete(&d).is_err());
        std::fs::write(
            d.join("mariadb_backup_checkpoints"),
            "backup_type = full-backuped\nfrom_lsn = 0\nto_lsn = 44894\nlast_lsn = 5005462\n",
        )
        .unwrap();
        check_complete(&d).unwrap();
        assert_eq!(last_lsn(&d), Some(5_005_462));
        std::fs::write(d.join("shop/t.ibd.qp"), "").unwrap();
        std::fs::write(d.join("ibdata1.zst"), "").unwrap();
        std::fs::write(d.join("shop/u.ibd"), "").unwrap();
        assert_eq!(compressed(&d).unwrap().len(), 2);
        std::fs::remove_dir_all(&d).unwrap();
    }
}

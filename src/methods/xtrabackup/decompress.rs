//! Copies that the operator's `--compress` has packed on the source, file by file: the coordinates as well, so this belongs to
//! the Backup (seen with mariadb-backup 10.11).

use super::tools::Tools;
use super::{Xtrabackup, copy, options, tools};
use crate::error::{Error, Result};
use crate::mysql::{Flavour, Server, Version};
use crate::seed::stage::Context;
use std::path::Path;

/// The program that the tool calls to unpack what `--compress` packs; `None` without this option. `tool` is what the backup tool
/// is made for (tool-compatibility 4).
pub fn unpacker(options: &[String], tool: Server) -> Option<&'static str> {
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

impl Xtrabackup {
    /// That this host can unpack what its own options pack: a source of the same fleet has the same.
    ///
    /// # Errors
    /// Permanent, with the program that is missing.
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

    /// Unpacks all that is packed in `new`, and removes the leftovers. Nothing to do is a success.
    ///
    /// # Errors
    /// The tool's; what was not unpacked.
    pub(super) fn decompress(&self, ctx: &Context, programs: &Tools, new: &Path) -> Result<()> {
        let packed = copy::compressed(new)?;
        if packed.is_empty() {
            return Ok(());
        }
        ctx.report("Decompressing backup");
        let argv = options::decompress(new, &self.options());
        let exit = self.work(ctx, &programs.backup, new, argv, |_| {})?;
        tools::check(exit).map_err(|e| {
            Error::permanent(format!(
                "the copy was made with --compress and cannot be unpacked here ({e}): install the program that does it (qpress, lz4 \
                 or zstd), or use xtrabackup.stream-compression instead of --compress"
            ))
        })?;
        for path in packed {
            if !path.with_extension("").exists() {
                return Err(Error::permanent(format!(
                    "{} was not unpacked",
                    path.display()
                )));
            }
            match std::fs::remove_file(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io(path.display(), &e));
                }
                _ => {} // some versions remove it themselves
            }
        }
        Ok(())
    }
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

//! The data directory, as far as physical seeds (Xtrabackup, LVM) and their settings need it.

use super::findings::{Findings, streams};
use super::server::ServerInfo;
use crate::config::Config;
use crate::datadir;
use crate::datadir::{DatadirInfo, Journals, Role, SwapMode};
use crate::sys::host::human_bytes;
use std::path::Path;

/// Descriptors that a process wants besides those for table files.
const SPARE: u64 = 1000;

/// All checks of the data directory.
pub(crate) fn check(f: &mut Findings, config: &Config, server: &ServerInfo) {
    match datadir::unfinished(&Journals::new(&config.common.state_dir)) {
        Ok(None) => {}
        Ok(Some(journal)) => f.error(
            "common.state-dir",
            format!(
                "a swap of the data directory is not finished: {}",
                journal.reason().unwrap_or_default()
            ),
            "contrib/doc/recovery.md describes the recovery from an interrupted swap",
        ),
        Err(e) => f.error(
            "common.state-dir",
            e.to_string(),
            "make this file readable for the user that the agent runs as; if it is damaged, contrib/doc/recovery.md describes the recovery from an interrupted swap",
        ),
    }
    for (path, bytes) in datadir::kept(&datadir::staging_roots(config)) {
        f.warning(
            "mysql.keep-old-data",
            format!("{} of old data lie in {}", human_bytes(bytes), path.display()),
            "delete them when you do not need them any more; Cleanup, or the next Prepare, does so if the setting is not \"forever\"",
        );
    }
    if !streams(config) {
        return;
    }
    match datadir::examine(config, Role::Target) {
        Ok(facts) => settings(f, config, &facts),
        Err(e) => {
            let subject = e.setting().unwrap_or("mysql.datadir");
            // A cluster node, for one, may be a source.
            if server.answers && datadir::examine(config, Role::Source).is_ok() {
                f.warning(
                    subject,
                    format!("this host can be no target of a physical seed: {e}"),
                    "correct this, or use it as a source only",
                );
            } else {
                f.error(
                    subject,
                    format!("physical seeds are not possible here: {e}"),
                    "correct this, or set the enabled keys of [xtrabackup] and [lvm] to false",
                );
            }
        }
    }
}

fn settings(f: &mut Findings, config: &Config, facts: &DatadirInfo) {
    let m = &config.mysql;
    f.ok(
        "mysql.datadir",
        format!(
            "{}: {} in {} files; a copy is proven with {}",
            facts.datadir.display(),
            human_bytes(facts.bytes),
            facts.files,
            facts.program.display()
        ),
    );
    staging(f, config, facts);
    if !m.defaults_file.is_empty() {
        const KEY: &str = "mysql.defaults-file";
        match datadir::datadir_of_settings(&facts.program, &m.defaults_file) {
            Err(e) => f.error(KEY, e.to_string(), "correct it, or leave it empty"),
            Ok(dir) if dir != facts.datadir => f.error(
                KEY,
                format!(
                    "{} names the data directory {}, but the server's is {}",
                    m.defaults_file,
                    dir.display(),
                    facts.datadir.display()
                ),
                "set it to the file that this server is started with, or leave it empty",
            ),
            Ok(_) => f.ok(
                KEY,
                format!("{} names the server's data directory", m.defaults_file),
            ),
        }
    }
    swap(f, config, facts);
    if let Some(limit) = open_files_limit().filter(|l| facts.files + SPARE > *l) {
        f.warning(
            "LimitNOFILE",
            format!(
                "a copy opens each table file, there are {} files, and this process may open {limit}",
                facts.files
            ),
            "LimitNOFILE=1000000 in the agent's unit (ulimit -n for this shell)",
        );
    }
}

fn staging(f: &mut Findings, config: &Config, facts: &DatadirInfo) {
    const KEY: &str = "mysql.staging-dir";
    let root = &facts.staging;
    if config.mysql.staging_dir.is_empty() {
        return f.ok(KEY, format!("copies are made ready in {}", root.display()));
    }
    // The agent makes the last directory of the path only.
    let parent = root.parent().unwrap_or(Path::new("/"));
    let place = if root.is_dir() { root } else { parent };
    match super::places::probe(place) {
        Ok(()) => f.ok(KEY, format!("copies are made ready in {}", root.display())),
        Err(e) => f.error(
            KEY,
            format!("{} cannot be written to: {e}", place.display()),
            "create it, owned by the user that the agent runs as; or leave the setting empty",
        ),
    }
}

/// Whether a copy of this host's own size fits next to it.
fn swap(f: &mut Findings, config: &Config, facts: &DatadirInfo) {
    const KEY: &str = "mysql.datadir-swap";
    match datadir::swap_mode(facts, Some(facts.bytes), config.mysql.datadir_swap) {
        Ok(SwapMode::TwoCopies) => f.ok(KEY, "there is room for a second copy of the data directory"),
        Ok(SwapMode::Wipe) => f.warning(
            KEY,
            "a seed of this size deletes the old data before it receives the new: a failure leaves this host without data",
            "make room for two copies and set it to \"auto\" or \"always\"",
        ),
        Err(e) => f.warning(
            KEY,
            e.to_string(),
            "make room on the file system of the data directory, or set mysql.datadir-swap = \"auto\"",
        ),
    }
}

/// What this process may raise its limit of open files to; `None` if it is unlimited or unknown.
fn open_files_limit() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = text
        .lines()
        .find_map(|l| l.strip_prefix("Max open files"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_limit_is_the_hard_one() {
        let limit = super::open_files_limit();
        assert!(limit.is_none_or(|l| l >= 256), "{limit:?}");
        let text = std::fs::read_to_string("/proc/self/limits").unwrap();
        assert!(
            text.contains("Max open files"),
            "or it would be unknown everywhere"
        );
    }
}

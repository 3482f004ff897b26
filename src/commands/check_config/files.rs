//! Directories and files that the agent writes to, and the data directory, as far as physical seeds (Xtrabackup, LVM) and their
//! settings need it.

use super::findings::{Findings, streams};
use super::server::ServerInfo;
use crate::config::{Config, inside};
use crate::datadir::{self, DatadirInfo, Journals, Role, SwapMode};
use crate::sys::disk;
use crate::sys::host::human_bytes;
use crate::sys::process::effective_uid;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Less than this is too little for the record of the seeds, in bytes.
const RECORD_ROOM: u64 = 16 << 20;
/// Descriptors that a process wants besides those for table files.
const SPARE: u64 = 1000;

/// `all`: as in [`super::methods::check`].
pub(super) fn check(f: &mut Findings, config: &Config, server: &ServerInfo, all: bool) {
    let backup_dir = &config.common.backup_dir;
    let state_dir = &config.common.state_dir;
    // The agent makes it there.
    let is_made = backup_dir.starts_with(state_dir) && !backup_dir.exists();
    if is_made {
        note!(f, Ok, "common.backup-dir" => "{} is not there yet; the agent will create it", backup_dir.display());
    }
    let backup_works = !is_made && backup(f, backup_dir, server.bytes);
    state(f, state_dir, backup_dir, backup_works);
    for (key, dir) in [
        ("common.backup-dir", backup_dir),
        ("common.state-dir", state_dir),
    ] {
        let datadir = server.datadir.as_deref().unwrap_or(Path::new(""));
        if inside(dir, datadir) {
            note!(f, Error, key => "{} is inside the datadir {}", dir.display(), datadir.display();
                "a seed replaces what is in there: choose a directory outside");
        }
    }
    log_file(f, &config.logging.file);
    hint_file(f, &config.common.token_hint_file);
    old_data(f, config);
    if streams(config) {
        data_directory(f, config, server, all);
    }
}

/// Creates an empty file in the directory and removes it.
pub(super) fn probe(dir: &Path) -> io::Result<()> {
    let file = dir.join(format!(".orchestrator-agent-probe-{}", std::process::id()));
    File::options().write(true).create_new(true).open(&file)?;
    std::fs::remove_file(&file)
}

/// True if the directory can be written to.
fn backup(f: &mut Findings, dir: &Path, bytes: Option<u64>) -> bool {
    const KEY: &str = "common.backup-dir";
    let (name, user) = (dir.display(), effective_uid());
    if let Err(e) = probe(dir) {
        let remedy = if e.kind() == io::ErrorKind::NotFound {
            "create it, owned by".into()
        } else {
            format!("let user {user} write to it, or run check-config as")
        };
        note!(f, Error, KEY => "{name} cannot be written to: {e}";
            "{remedy} the user that the agent runs as");
        return false;
    }
    owner(f, KEY, dir);
    let Some(space) = room(f, KEY, dir) else {
        return true;
    };
    let free = human_bytes(space.available);
    match bytes {
        // orchestrator requires 0.6 of the source's datadir to be free; less than half of the tables is never enough.
        Some(bytes) if space.available < bytes / 2 => note!(f, Warning, KEY =>
            "{name} has {free} free, too little for a dump of the {} of tables here", human_bytes(bytes);
            "make room, or choose a directory on a larger file system"),
        _ => note!(f, Ok, KEY => "{name} is writable, {free} of {} free", human_bytes(space.total)),
    }
    true
}

fn state(f: &mut Findings, dir: &Path, backup_dir: &Path, backup_works: bool) {
    const KEY: &str = "common.state-dir";
    let name = dir.display();
    // The agent makes it, with its parents.
    let existing = dir.ancestors().find(|p| p.exists()).unwrap_or(dir);
    if let Err(e) = probe(existing) {
        let text = format!("{name} cannot be written to: {}: {e}", existing.display());
        let remedy =
            "create it, owned by the user that the agent runs as, or run check-config as that user";
        if backup_works && !dir.join("seeds.json").exists() {
            let other = backup_dir.join(".orchestrator-agent-state");
            note!(f, Warning, KEY => "{text}; the agent will use {}", other.display(); "{remedy}");
        } else {
            note!(f, Error, KEY => "{text}"; "{remedy}");
        }
        return;
    }
    if existing == dir {
        owner(f, KEY, dir);
    }
    let Some(space) = room(f, KEY, existing) else {
        return;
    };
    let free = human_bytes(space.available);
    if space.available < RECORD_ROOM {
        note!(f, Warning, KEY => "{name} has only {free} free";
            "make room: seeds stop when their record cannot be written");
    } else if existing != dir {
        note!(f, Ok, KEY => "{name} is not there yet; the agent will create it");
    } else {
        note!(f, Ok, KEY => "{name} is writable, {free} of {} free", human_bytes(space.total));
    }
}

fn room(f: &mut Findings, key: &str, dir: &Path) -> Option<disk::Space> {
    match disk::space(dir) {
        Ok(space) => return Some(space),
        Err(e) => note!(f, Error, key => "free space of {}: {e}", dir.display();
            "let the user that the agent runs as enter each directory of this path (chmod +x)"),
    }
    None
}

/// Root may write everywhere, so its checks say nothing about the user that the agent runs as.
fn owner(f: &mut Findings, key: &str, dir: &Path) {
    let Ok(meta) = std::fs::metadata(dir) else {
        return; // the probe has just been in there
    };
    let (user, owner, name) = (effective_uid(), meta.uid(), dir.display());
    if owner != user {
        note!(f, Warning, key => "{name} belongs to user {owner}, and check-config runs as user {user}";
            "run check-config as the user that the agent runs as; if that is the owner, all is well");
    }
    if meta.mode() & 0o002 != 0 {
        note!(f, Warning, key => "every user of this host can write to {name}"; "chmod o-w {name}");
    }
}

fn log_file(f: &mut Findings, name: &str) {
    const KEY: &str = "logging.file";
    if name.is_empty() {
        return note!(f, Ok, KEY => "none: the log goes to standard output only");
    }
    let path = Path::new(name);
    let tried = if path.exists() {
        File::options().append(true).open(path).map(drop)
    } else {
        probe(parent(path))
    };
    match tried {
        Ok(()) => note!(f, Ok, KEY => "{name} can be written to"),
        Err(e) => note!(f, Error, KEY => "{name} cannot be opened for appending: {e}";
            "let the user that the agent runs as write it, or set logging.file = \"\" for standard output only"),
    }
}

fn hint_file(f: &mut Findings, name: &str) {
    const KEY: &str = "common.token-hint-file";
    if name.is_empty() {
        return note!(f, Ok, KEY => "none: `orchestrator-agent status` shows less without it");
    }
    // The agent writes a new file in the same directory, and renames it.
    match probe(parent(Path::new(name))) {
        Ok(()) => note!(f, Ok, KEY => "the directory of {name} is writable"),
        Err(e) => note!(f, Warning, KEY => "{name} cannot be written: its directory: {e}";
            "create the directory, or let the user that the agent runs as write to it"),
    }
}

fn parent(file: &Path) -> &Path {
    let parent = file.parent().filter(|p| !p.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// What swaps of the data directory have left.
fn old_data(f: &mut Findings, config: &Config) {
    match datadir::unfinished(&Journals::new(&config.common.state_dir)) {
        Ok(None) => {}
        Ok(Some(journal)) => note!(f, Error, "common.state-dir" =>
            "a swap of the data directory is not finished: {}", journal.reason().unwrap_or_default();
            "contrib/doc/recovery.md describes the recovery from an interrupted swap"),
        Err(e) => note!(f, Error, "common.state-dir" => "{e}";
            "make this file readable for the user that the agent runs as; if it is damaged, contrib/doc/recovery.md describes \
             the recovery from an interrupted swap"),
    }
    for (path, bytes) in datadir::kept(&datadir::staging_roots(config)) {
        note!(f, Warning, "mysql.keep-old-data" => "{} of old data lie in {}", human_bytes(bytes), path.display();
            "delete them when you do not need them any more; Cleanup, or the next Prepare, does so if the setting is not \"forever\"");
    }
}

fn data_directory(f: &mut Findings, config: &Config, server: &ServerInfo, all: bool) {
    let e = match datadir::examine(config, Role::Target) {
        Ok(found) => return settings(f, config, &found),
        Err(e) => e,
    };
    let subject = e.setting().unwrap_or("mysql.datadir");
    // A cluster node, for one, may be a source.
    if server.answers && datadir::examine(config, Role::Source).is_ok() {
        note!(f, Warning, subject => "this host cannot be the target of a physical seed: {e}";
            "correct this, or use it as a source only");
    } else if all {
        note!(f, Warning, subject => "physical seeds are not offered here: {e}"; "correct this, or do without them");
    } else {
        note!(f, Error, subject => "physical seeds are not possible here: {e}";
            "correct this, or set the enabled keys of [xtrabackup] and [lvm] to false");
    }
}

fn settings(f: &mut Findings, config: &Config, found: &DatadirInfo) {
    const KEY: &str = "mysql.defaults-file";
    let (datadir, files) = (found.datadir.display(), found.files);
    note!(f, Ok, "mysql.datadir" => "{datadir}: {} in {files} files; a copy is test-started with {}",
        human_bytes(found.bytes), found.program.display());
    staging(f, config, found);
    let name = &config.mysql.defaults_file;
    if !name.is_empty() {
        match datadir::datadir_of_settings(&found.program, name) {
            Err(e) => note!(f, Error, KEY => "{e}"; "correct it, or leave it empty"),
            Ok(dir) if dir != found.datadir => note!(f, Error, KEY =>
                "{name} names the data directory {}, but the server's is {datadir}", dir.display();
                "set it to the file that this server is started with, or leave it empty"),
            Ok(_) => note!(f, Ok, KEY => "{name} names the server's data directory"),
        }
    }
    swap(f, config, found);
    if let Some(limit) = open_files_limit().filter(|limit| files + SPARE > *limit) {
        note!(f, Warning, "LimitNOFILE" =>
            "a copy opens each table file, there are {files} files, and this process may open {limit}";
            "LimitNOFILE=1000000 in the agent's unit (ulimit -n for this shell)");
    }
}

fn staging(f: &mut Findings, config: &Config, found: &DatadirInfo) {
    const KEY: &str = "mysql.staging-dir";
    let root = &found.staging;
    // The agent makes the last directory of the path only.
    let parent = root.parent().unwrap_or(Path::new("/"));
    let place = if root.is_dir() { root } else { parent };
    let is_set = !config.mysql.staging_dir.is_empty();
    match if is_set { probe(place) } else { Ok(()) } {
        Ok(()) => note!(f, Ok, KEY => "copies are made ready in {}", root.display()),
        Err(e) => note!(f, Error, KEY => "{} cannot be written to: {e}", place.display();
            "create it, owned by the user that the agent runs as; or leave the setting empty"),
    }
}

/// Whether a copy of this host's own size fits next to it.
fn swap(f: &mut Findings, config: &Config, found: &DatadirInfo) {
    const KEY: &str = "mysql.datadir-swap";
    match datadir::swap_mode(found, Some(found.bytes), config.mysql.datadir_swap) {
        Ok(SwapMode::TwoCopies) => note!(f, Ok, KEY =>
            "there is room for a second copy of the data directory"),
        Ok(SwapMode::Wipe) => note!(f, Warning, KEY =>
            "a seed of this size deletes the old data before it receives the new: a failure leaves this host without data";
            "make room for two copies and set it to \"auto\" or \"always\""),
        Err(e) => note!(f, Warning, KEY => "{e}";
            "make room on the file system of the data directory, or set mysql.datadir-swap = \"auto\""),
    }
}

/// What this process may raise its limit of open files to; `None` if it is unlimited or unknown.
fn open_files_limit() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/limits").ok()?;
    let mut lines = text.lines();
    let line = lines.find_map(|l| l.strip_prefix("Max open files"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::check_config::findings::Level;

    #[test]
    fn an_absent_log_file_is_not_created_and_a_lost_directory_is_an_error() {
        let dir = std::env::temp_dir().join(format!("oa-places-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let mut f = Findings::default();
        log_file(&mut f, dir.join("agent.log").to_str().unwrap());
        log_file(&mut f, dir.join("no/agent.log").to_str().unwrap());
        state(&mut f, &dir.join("a/b"), &dir, true);
        let levels: Vec<Level> = f.list.iter().map(|x| x.level).collect();
        assert_eq!(levels, [Level::Ok, Level::Error, Level::Ok]);
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0);
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn the_limit_is_the_hard_one() {
        let limit = open_files_limit();
        assert!(limit.is_none_or(|l| l >= 256), "{limit:?}");
        let text = std::fs::read_to_string("/proc/self/limits").unwrap();
        assert!(
            text.contains("Max open files"),
            "or it would be unknown everywhere"
        );
    }
}

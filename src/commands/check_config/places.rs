//! Directories and files that the agent writes to.

use super::findings::Findings;
use super::server::ServerInfo;
use crate::config::{Config, inside};
use crate::sys::disk;
use crate::sys::host::human_bytes;
use crate::sys::process::effective_uid;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Less than this is too little for the record of the seeds, in bytes.
const RECORD_ROOM: u64 = 16 << 20;

pub(crate) fn check(f: &mut Findings, config: &Config, server: &ServerInfo) {
    let backup_dir = &config.common.backup_dir;
    let state_dir = &config.common.state_dir;
    let backup_works = backup(f, backup_dir, server.bytes);
    state(f, state_dir, backup_dir, backup_works);
    for (key, dir) in [
        ("common.backup-dir", backup_dir),
        ("common.state-dir", state_dir),
    ] {
        if let Some(datadir) = &server.datadir
            && inside(dir, datadir)
        {
            f.error(
                key,
                format!(
                    "{} is inside the datadir {}",
                    dir.display(),
                    datadir.display()
                ),
                "a seed replaces what is in there: choose a directory outside",
            );
        }
    }
    log_file(f, &config.logging.file);
    hint_file(f, &config.common.token_hint_file);
}

/// Creates an empty file in the directory and removes it.
pub(super) fn probe(dir: &Path) -> io::Result<()> {
    let file = dir.join(format!(".orchestrator-agent-probe-{}", std::process::id()));
    File::options().write(true).create_new(true).open(&file)?;
    std::fs::remove_file(&file)
}

fn backup(f: &mut Findings, dir: &Path, bytes: Option<u64>) -> bool {
    const KEY: &str = "common.backup-dir";
    let name = dir.display();
    let user = effective_uid();
    if let Err(e) = probe(dir) {
        let remedy = if e.kind() == io::ErrorKind::NotFound {
            "create it, owned by the user that the agent runs as".to_string()
        } else {
            format!(
                "let user {user} write to it, or run check-config as the user that the agent runs as"
            )
        };
        f.error(KEY, format!("{name} cannot be written to: {e}"), remedy);
        return false;
    }
    owner(f, KEY, dir);
    let Some(space) = room(f, KEY, dir) else {
        return true;
    };
    match bytes {
        // orchestrator requires 0.6 of the source's datadir to be free; less than half of the tables is never enough.
        Some(bytes) if space.available < bytes / 2 => f.warning(
            KEY,
            format!(
                "{name} has {} free, too little for a dump of the {} of tables here",
                human_bytes(space.available),
                human_bytes(bytes)
            ),
            "make room, or choose a directory on a larger file system",
        ),
        _ => f.ok(KEY, writable(dir, space)),
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
            let text = format!(
                "{text}; the agent will use {}",
                backup_dir.join(".orchestrator-agent-state").display()
            );
            f.warning(KEY, text, remedy);
        } else {
            f.error(KEY, text, remedy);
        }
        return;
    }
    if existing == dir {
        owner(f, KEY, dir);
    }
    match room(f, KEY, existing) {
        None => {}
        Some(space) if space.available < RECORD_ROOM => f.warning(
            KEY,
            format!("{name} has only {} free", human_bytes(space.available)),
            "make room: seeds stop when their record cannot be written",
        ),
        Some(_) if existing != dir => f.ok(
            KEY,
            format!("{name} is not there yet; the agent will create it"),
        ),
        Some(space) => f.ok(KEY, writable(dir, space)),
    }
}

fn writable(dir: &Path, space: disk::Space) -> String {
    format!(
        "{} is writable, {} of {} free",
        dir.display(),
        human_bytes(space.available),
        human_bytes(space.total)
    )
}

fn room(f: &mut Findings, key: &str, dir: &Path) -> Option<disk::Space> {
    match disk::space(dir) {
        Ok(space) => Some(space),
        Err(e) => {
            f.error(
                key,
                format!("free space of {}: {e}", dir.display()),
                "let the user that the agent runs as enter each directory of this path (chmod +x)",
            );
            None
        }
    }
}

/// Root may write everywhere, so its checks say nothing about the user that the agent runs as.
fn owner(f: &mut Findings, key: &str, dir: &Path) {
    let Ok(meta) = std::fs::metadata(dir) else {
        return; // the probe has just been in there
    };
    let (user, name) = (effective_uid(), dir.display());
    if meta.uid() != user {
        f.warning(
            key,
            format!("{name} belongs to user {}, and check-config runs as user {user}", meta.uid()),
            "run check-config as the user that the agent runs as; if that is the owner, all is well",
        );
    }
    if open_to_others(&meta) {
        f.warning(
            key,
            format!("every user of this host can write to {name}"),
            format!("chmod o-w {name}"),
        );
    }
}

fn open_to_others(meta: &Metadata) -> bool {
    meta.mode() & 0o002 != 0
}

fn log_file(f: &mut Findings, name: &str) {
    const KEY: &str = "logging.file";
    if name.is_empty() {
        return f.ok(KEY, "none: the log goes to standard output only");
    }
    let path = Path::new(name);
    let tried = if path.exists() {
        File::options().append(true).open(path).map(drop)
    } else {
        probe(parent(path))
    };
    match tried {
        Ok(()) => f.ok(KEY, format!("{name} can be written to")),
        Err(e) => f.error(
            KEY,
            format!("{name} cannot be opened for appending: {e}"),
            "let the user that the agent runs as write it, or set logging.file = \"\" for standard output only",
        ),
    }
}

fn hint_file(f: &mut Findings, name: &str) {
    const KEY: &str = "common.token-hint-file";
    if name.is_empty() {
        return f.ok(
            KEY,
            "none: `orchestrator-agent status` tells less without it",
        );
    }
    // The agent writes a new file in the same directory, and renames it.
    match probe(parent(Path::new(name))) {
        Ok(()) => f.ok(KEY, format!("the directory of {name} is writable")),
        Err(e) => f.warning(
            KEY,
            format!("{name} cannot be written: its directory: {e}"),
            "create the directory, or let the user that the agent runs as write to it",
        ),
    }
}

fn parent(file: &Path) -> &Path {
    file.parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
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
}

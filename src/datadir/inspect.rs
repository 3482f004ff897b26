//! Prepare's questions (DESIGN 4.1): to the running server, or, when it is down, to its program and settings; and to the
//! file system. Nothing here changes anything but the note of what was seen last.

use super::facts::{Facts, Variables};
use super::owner;
use super::program::{find_program, help_of, version_of};
use super::refuse::refuse_cluster;
use super::stopped;
use crate::config::{self, Config};
use crate::error::{Error, Result};
use crate::methods::contents::MOVE_BACK;
use crate::methods::target_server::{QUESTIONS, TargetServer};
use crate::mysql::{Endpoint, Flavour, Server, Version, connect, failure};
use crate::process::Launcher;
use crate::seed::types::Side;
use ::mysql::Conn;
use ::mysql::prelude::Queryable;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Name of the note in `state-dir`: the facts seen last, for a seed that begins while MySQL is down.
const NOTE: &str = "datadir.json";
/// How long a server that does not answer may still hold its files before it counts as one that hangs.
const LAST_MOMENTS: Duration = Duration::from_secs(3);

/// Looks at the local server and its data directory. On the target everything that a physical seed cannot follow is
/// refused, also the server's role; on the source what a physical copy would miss. MySQL may be down. May take as long as a
/// walk through the data directory.
///
/// # Errors
/// What is not as it must be, with the setting, its value and the remedy.
pub fn inspect(config: &Config, side: Side) -> Result<Facts> {
    if side == Side::Target
        && let Ok(_conn) = connect(&Endpoint::local(&config.mysql), QUESTIONS)
    {
        TargetServer::open_for(&config.mysql, QUESTIONS)?.check_role()?;
    }
    let facts = examine(config, side)?;
    note(config, &facts)?;
    Ok(facts)
}

/// [`inspect`] without a look at the server's part in replication, and without the note.
///
/// # Errors
/// As [`inspect`].
pub fn examine(config: &Config, side: Side) -> Result<Facts> {
    let endpoint = Endpoint::local(&config.mysql);
    let mut facts = match connect(&endpoint, QUESTIONS) {
        Ok(mut conn) => {
            crate::mysql::one_server(&config.mysql)?;
            let facts = ask_running(&mut conn, side)?;
            owner::check_running(&mut conn, &endpoint, &facts.datadir)?;
            facts
        }
        Err(e) if e.is_transient() => {
            let facts = ask_settings(config, side)?;
            // One that has just ended closes its files a little later than its socket.
            let begin = Instant::now();
            while stopped::is_in_use(&facts)? && begin.elapsed() < LAST_MOMENTS {
                std::thread::sleep(Duration::from_millis(50));
            }
            if stopped::is_in_use(&facts)? {
                return Err(Error::transient(format!(
                    "a server uses {} but does not answer: {e}",
                    facts.datadir.display()
                )));
            }
            facts
        }
        Err(e) => return Err(e),
    };
    look(&mut facts, &config.mysql)?;
    if side == Side::Target {
        may_rename(&facts)?;
    }
    Ok(facts)
}

/// Keeps what was seen for the day when MySQL is down.
fn note(config: &Config, facts: &Facts) -> Result<()> {
    let note = Note {
        seen: owner::Seen::now(&facts.datadir, &config.mysql)?,
        facts: facts.clone(),
    };
    super::journal::write_json(&config.common.state_dir.join(NOTE), &note)
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Note {
    seen: owner::Seen,
    facts: Facts,
}

fn read_note(config: &Config) -> Option<Note> {
    let text = std::fs::read(config.common.state_dir.join(NOTE)).ok()?;
    serde_json::from_slice(&text).ok()
}

/// The facts seen last of the server of `[mysql]` on this host; `None` without facts that this version understands.
pub fn last_seen(config: &Config) -> Option<Facts> {
    let note = read_note(config)?;
    let now = owner::Seen::now(&note.facts.datadir, &config.mysql).ok()?;
    match note.seen.differs(&now) {
        None => Some(note.facts),
        Some(why) => {
            let path = config.common.state_dir.join(NOTE);
            log::warn!("{} is not used: {why}", path.display());
            None
        }
    }
}

/// The data directory that `mysql.defaults-file` gives to `program`, for check-config.
///
/// # Errors
/// The program's own; no such directory.
pub fn datadir_of_settings(program: &Path, defaults_file: &str) -> Result<PathBuf> {
    let of = help_of(program, defaults_file)?;
    resolve(of.get("datadir").map_or("", String::as_str))
        .map_err(|e| e.context(format!("mysql.defaults-file = \"{defaults_file}\"")))
}

/// Where staging directories of this host may be, without asking MySQL: by the note, and by the settings.
pub fn staging_roots(config: &Config) -> Vec<PathBuf> {
    let last = last_seen(config);
    let mut datadirs: Vec<PathBuf> = last.iter().map(|f| f.datadir.clone()).collect();
    datadirs.extend(resolve(&config.mysql.datadir));
    let inside = datadirs
        .iter()
        .flat_map(|d| super::STAGING_NAMES.map(|n| d.join(n)));
    let mut roots: Vec<PathBuf> = inside.chain(last.map(|f| f.staging)).collect();
    if !config.mysql.staging_dir.is_empty() {
        roots.push(config.mysql.staging_dir.clone().into());
    }
    roots.retain(|r| r.is_dir());
    roots.sort();
    roots.dedup();
    roots
}

fn ask_running(conn: &mut Conn, side: Side) -> Result<Facts> {
    let server = Server::ask(conn)?;
    let fail = |e: &::mysql::Error| failure("this connection", "", e);
    let rows: Vec<(String, String)> = conn.query("SHOW GLOBAL VARIABLES").map_err(|e| fail(&e))?;
    let of: Variables = rows.into_iter().collect();
    if side == Side::Target {
        refuse_cluster(&of)?;
    }
    let datadir = resolve(of.get("datadir").map_or("", String::as_str))?;
    let program = find_program(&of, &datadir, server)?;
    let facts = Facts::from_variables(&of, server, &datadir, &program)?;
    let (sql, encrypted) = match server.flavour {
        Flavour::MariaDb => (
            "",
            "SELECT NAME FROM information_schema.INNODB_TABLESPACES_ENCRYPTION WHERE ENCRYPTION_SCHEME <> 0 LIMIT 1",
        ),
        // Also tablespaces elsewhere: MySQL 8.0 and later has no link file for them.
        Flavour::MySql if server.version >= Version(8, 0, 0) => (
            "SELECT FILE_NAME FROM information_schema.FILES WHERE FILE_TYPE IN ('TABLESPACE', 'UNDO LOG') AND ENGINE = 'InnoDB'",
            "SELECT NAME FROM information_schema.INNODB_TABLESPACES WHERE ENCRYPTION = 'Y' LIMIT 1",
        ),
        Flavour::MySql => ("", ""),
    };
    if !sql.is_empty() {
        let files: Vec<String> = conn.query(sql).map_err(|e| fail(&e))?;
        let elsewhere = |f: &&String| {
            f.starts_with("../") || (f.starts_with('/') && !Path::new(f).starts_with(&datadir))
        };
        if let Some(file) = files.iter().find(elsewhere) {
            return Err(elsewhere_error(Path::new(file), "the tablespace"));
        }
    }
    if !encrypted.is_empty() {
        let name: Option<String> = conn.query_first(encrypted).map_err(|e| fail(&e))?;
        if let Some(name) = name {
            return Err(Error::permanent(format!(
                "the tablespace {name} is encrypted, and the keys of one host are not those of another: decrypt it \
                 (ALTER TABLE ... ENCRYPTION='N', on MariaDB ENCRYPTED=NO), or use the method Mysqldump with a target that has keys of its own"
            )));
        }
    }
    Ok(facts)
}

/// What a server that is down would use, as its own program says it.
fn ask_settings(config: &Config, side: Side) -> Result<Facts> {
    let settings = &config.mysql;
    let last = last_seen(config);
    if settings.defaults_file.is_empty()
        && let Some(mut facts) = last.clone()
    {
        agrees(&facts, settings)?;
        if !settings.datadir.is_empty() && resolve(&settings.datadir)? != facts.datadir {
            return Err(Error::permanent(format!(
                "mysql.datadir = \"{}\", but MySQL was last seen in {}: start MySQL once, or set mysql.defaults-file to its my.cnf",
                settings.datadir,
                facts.datadir.display()
            )));
        }
        facts.datadir = resolve(&facts.datadir.to_string_lossy())?;
        facts.server = version_of(&facts.program)?; // upgraded since, perhaps
        return Ok(facts);
    }
    let last_datadir = last.map(|f| f.datadir);
    // Where the program is may be right although the rest of a note is not.
    let program = match read_note(config).map(|n| n.facts.program) {
        Some(program) if program.is_file() => program,
        _ => Launcher::new(&config.common).find(&["mariadbd", "mysqld"])?,
    };
    let server = version_of(&program)?;
    let mut of = help_of(&program, &settings.defaults_file)?;
    if side == Side::Target {
        refuse_cluster(&of)?;
    }
    let found = of.remove("datadir").unwrap_or_default();
    let resolved = resolve(&found);
    let place = resolved.as_deref().unwrap_or(Path::new("/"));
    // A note of the server itself is as good as its address.
    if !last_datadir.is_some_and(|d| resolved.as_ref().is_ok_and(|r| *r == d)) {
        owner::check_settings(&of, place, settings)?;
    }
    let datadir = resolved.map_err(|e| {
        e.context("MySQL is down, and its data directory must be known: start it once, or set mysql.defaults-file")
            .about("mysql.defaults-file")
    })?;
    if !settings.datadir.is_empty() && resolve(&settings.datadir)? != datadir {
        return Err(Error::permanent(format!(
            "MySQL is down, and mysql.datadir = \"{}\" is not the data directory that its option file names, {}: correct it, start MySQL \
             once, or set mysql.defaults-file to the option file that this server is started with",
            settings.datadir,
            datadir.display()
        )));
    }
    of.insert("datadir".into(), datadir.display().to_string());
    Facts::from_variables(&of, server, &datadir, &program)
}

/// That the option files in the default places, if they are those of this server, do not name another data directory than the one in
/// which it was seen: the server that is started next would not use what was swapped in.
fn agrees(seen: &Facts, settings: &config::Mysql) -> Result<()> {
    let Ok(of) = help_of(&seen.program, "") else {
        return Ok(()); // it does not read them, or it would not start
    };
    let named = of.get("datadir").map_or("", String::as_str);
    if owner::check_settings(&of, &seen.datadir, settings).is_err() {
        return Ok(());
    }
    match resolve(named) {
        Ok(named) if named != seen.datadir => Err(Error::permanent(format!(
            "MySQL is down; it was last seen in {}, and its option files now name {}: start it once, or set mysql.defaults-file to its \
             option file",
            seen.datadir.display(),
            named.display()
        ))
        .about("mysql.defaults-file")),
        _ => Ok(()),
    }
}

fn resolve(datadir: &str) -> Result<PathBuf> {
    let real = std::fs::canonicalize(datadir)
        .map_err(|e| Error::io(format!("data directory \"{datadir}\""), &e))?;
    if real.is_dir() && real.parent().is_some() {
        return Ok(real);
    }
    Err(Error::permanent(format!(
        "\"{datadir}\" is no data directory"
    )))
}

/// Fills in what the file system says, and refuses what lies elsewhere or cannot be renamed.
fn look(facts: &mut Facts, settings: &config::Mysql) -> Result<()> {
    let datadir = facts.datadir.clone();
    let meta = std::fs::metadata(&datadir).map_err(|e| Error::io(datadir.display(), &e))?;
    (facts.uid, facts.gid, facts.mode) = (meta.uid(), meta.gid(), meta.mode() & 0o7777);
    facts.staging = staging_root(&datadir, facts.server.flavour, &settings.staging_dir)?;
    for mount in crate::sys::host::mounts_below(&datadir) {
        if mount.file_name().is_some_and(|n| n != "lost+found") {
            return Err(Error::permanent(format!(
                "{} is a file system of its own inside the data directory and cannot be renamed: mount it elsewhere, or use the \
                 method Mysqldump",
                mount.display()
            )));
        }
    }
    (facts.bytes, facts.files) = survey(&datadir, &facts.staging)?;
    Ok(())
}

/// `.orchestrator-agent` or `#sql-orchestrator-agent` in the data directory, or `mysql.staging-dir`. MySQL refuses to start
/// when a directory that is not hidden holds tablespaces with ids of its own; MariaDB takes a hidden one for a schema, and
/// ignores `#sql-`: verified on MySQL 9.7.4 and MariaDB 10.11.19 (DESIGN 4.2).
pub fn staging_root(datadir: &Path, flavour: Flavour, setting: &str) -> Result<PathBuf> {
    let refuse = |why: &str| {
        Err(
            Error::permanent(format!("mysql.staging-dir = \"{setting}\" {why}"))
                .about("mysql.staging-dir"),
        )
    };
    if setting.is_empty() {
        return Ok(datadir.join(match flavour {
            Flavour::MySql => super::STAGING_NAMES[0],
            Flavour::MariaDb => super::STAGING_NAMES[1],
        }));
    }
    let root = Path::new(setting);
    let device = |p: &Path| std::fs::metadata(p).map(|m| m.dev());
    let existing = root.ancestors().find(|p| p.exists()).unwrap_or(root);
    if !matches!((device(existing), device(datadir)), (Ok(a), Ok(b)) if a == b) {
        return refuse(&format!(
            "is not on the file system of the data directory {}: choose a place on it, or leave the setting empty",
            datadir.display()
        ));
    }
    let real = std::fs::canonicalize(existing).unwrap_or_else(|_| existing.to_path_buf());
    if real.starts_with(datadir) {
        return refuse(
            "is inside the data directory: leave the setting empty for the agent's own place in there",
        );
    }
    let hidden = root
        .file_name()
        .is_some_and(|n| n.to_string_lossy().starts_with('.'));
    if flavour == Flavour::MySql && !hidden {
        return refuse(
            "must end in a name that begins with a dot, so that no MySQL server looks into it",
        );
    }
    Ok(root.to_path_buf())
}

/// Bytes of everything below `datadir`, `staging` left out, and the number of files. Refuses data that live elsewhere: symbolic links, and InnoDB's own
/// link files (`.isl`; MariaDB and MySQL 5.7).
fn survey(datadir: &Path, staging: &Path) -> Result<(u64, u64)> {
    let (mut bytes, mut files) = (0, 0);
    let mut todo = vec![datadir.to_path_buf()];
    while let Some(dir) = todo.pop() {
        let entries = match std::fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && dir != datadir => continue, // dropped meanwhile
            Err(e) if dir.ends_with("lost+found") => {
                log::debug!("{}: {e}", dir.display());
                continue;
            }
            Err(e) => return Err(Error::io(dir.display(), &e)),
        };
        for entry in entries.flatten() {
            let (path, Ok(meta)) = (entry.path(), entry.metadata()) else {
                continue;
            };
            if entry.file_name().to_str().is_none() {
                return Err(Error::permanent(format!(
                    "the data directory holds a file whose name is no UTF-8 text: {}; rename or remove it",
                    path.display()
                )));
            }
            let name = entry.file_name();
            let hidden =
                dir == datadir && name != ".rocksdb" && name.to_string_lossy().starts_with('.');
            if path == staging || hidden {
                continue;
            }
            if meta.is_symlink() {
                let to = std::fs::read_link(&path).unwrap_or_default();
                // A dead link, as a socket's or a log's may be, holds no data.
                if path.exists() {
                    return Err(elsewhere_error(
                        &path,
                        &format!("a symbolic link to {},", to.display()),
                    ));
                }
            } else if path.extension().is_some_and(|e| e == "isl") {
                return Err(elsewhere_error(&path, "the link file of a tablespace"));
            } else if meta.is_dir() {
                todo.push(path);
            }
            bytes += meta.size();
            files += u64::from(meta.is_file());
        }
    }
    Ok((bytes, files))
}

fn elsewhere_error(path: &Path, what: &str) -> Error {
    Error::permanent(format!(
        "{what} {} lies or points outside the data directory: a physical seed swaps the content of that directory only; use the \
         method Mysqldump, or {MOVE_BACK}",
        path.display()
    ))
}

/// This process must be able to rename what the server owns and to run a server as its owner.
fn may_rename(facts: &Facts) -> Result<()> {
    let me = crate::sys::process::effective_uid();
    if me == 0 || me == facts.uid {
        return Ok(());
    }
    Err(Error::permanent(format!(
        "the data directory {} belongs to user number {} and the agent runs as {me}: a physical seed needs the agent to run as that \
         user or as root (common.exec-with-sudo is for tools only)",
        facts.datadir.display(),
        facts.uid
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_staging_directories() {
        let d = std::env::temp_dir().join(format!("oa-names-{}", std::process::id()));
        let datadir = d.join("data");
        std::fs::create_dir_all(&datadir).unwrap();
        let root = |flavour, setting: &str| staging_root(&datadir, flavour, setting);
        assert!(
            root(Flavour::MySql, "")
                .unwrap()
                .ends_with("data/.orchestrator-agent")
        );
        assert!(
            root(Flavour::MariaDb, "")
                .unwrap()
                .ends_with("data/#sql-orchestrator-agent")
        );
        let beside = d.join("beside").display().to_string();
        assert!(root(Flavour::MariaDb, &beside).is_ok());
        assert!(
            root(Flavour::MySql, &beside)
                .unwrap_err()
                .to_string()
                .contains("dot")
        );
        assert!(root(Flavour::MySql, &d.join(".beside").display().to_string()).is_ok());
        let e = root(Flavour::MySql, "/proc/.x").unwrap_err().to_string();
        assert!(e.contains("file system of the data directory"), "{e}");
        let e = root(Flavour::MariaDb, &datadir.join("x").display().to_string()).unwrap_err();
        assert!(e.to_string().contains("inside the data directory"));
        std::fs::remove_dir_all(&d).unwrap();
    }

    #[test]
    fn data_that_live_elsewhere_are_refused() {
        let d = std::env::temp_dir().join(format!("oa-survey-{}", std::process::id()));
        std::fs::create_dir_all(d.join("shop")).unwrap();
        std::fs::create_dir_all(d.join("#sql-orchestrator-agent")).unwrap();
        std::fs::write(d.join("shop/t.ibd"), vec![0u8; 5000]).unwrap();
        std::fs::write(d.join("#sql-orchestrator-agent/big"), vec![0u8; 50_000]).unwrap();
        let survey = || survey(&d, &d.join("#sql-orchestrator-agent"));
        let (bytes, files) = survey().unwrap();
        assert_eq!(files, 1);
        assert!((5000..20_000).contains(&bytes), "{bytes}");
        std::fs::write(d.join("shop/u.isl"), "/fast/u.ibd").unwrap();
        assert!(survey().unwrap_err().to_string().contains("shop/u.isl"));
        std::fs::remove_file(d.join("shop/u.isl")).unwrap();
        std::os::unix::fs::symlink("/tmp", d.join("elsewhere")).unwrap();
        assert!(
            survey()
                .unwrap_err()
                .to_string()
                .contains("symbolic link to /tmp")
        );
        std::fs::remove_dir_all(&d).unwrap();
    }
}

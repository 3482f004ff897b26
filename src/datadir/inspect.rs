//! Prepare's inspection of a server and its data directory: by queries, or, when MySQL is down, by its program and settings; and in
//! the file system. Nothing here changes anything but the note of what was seen last.

use super::environment::is_in_use;
use super::info::{DatadirInfo, Plugin, Variables, refuse_cluster, value};
use super::note::{last_seen, read_note, valid_note, write_note};
use super::owner;
use super::staging::{STAGING_NAMES, not_utf8};
use crate::config::{self, Config};
use crate::error::{Error, OnPath, Result};
use crate::mysql::{Endpoint, Flavour, MOVE_BACK, Server, connect, info::role, one_server, query};
use crate::process::{Launcher, set_environment};
use crate::sys::Inserted;
use crate::sys::proc::servers_in;
use ::mysql::Conn;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Names of a server's program, MariaDB's first.
const PROGRAMS: [&str; 2] = ["mariadbd", "mysqld"];
/// For each query; enough for a server with thousands of tables.
const QUERY: Duration = Duration::from_secs(20);
/// How long a server that does not answer may still hold its files before it counts as one that hangs.
const LAST_MOMENTS: Duration = Duration::from_secs(3);

/// What the server is in a seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Its data are replaced.
    Target,
    /// Its data are copied.
    Source,
}

/// Inspects the local server and its data directory. On the target everything that a physical seed cannot follow is refused, also
/// the server's part in replication; on the source what a physical copy would miss. MySQL may be down. May take as long as a walk
/// through the data directory.
pub fn inspect(config: &Config, of: Role) -> Result<DatadirInfo> {
    if of == Role::Target
        && let Ok(mut conn) = connect(&Endpoint::local(&config.mysql), QUERY)
    {
        let server = Server::ask(&mut conn)?;
        role(&mut conn, server)?.check_target(server)?;
    }
    let info = examine(config, of)?;
    let refused = match of {
        Role::Target => None,
        Role::Source => {
            let before = read_note(config).filter(|n| n.info.datadir == info.datadir);
            before.and_then(|n| n.refused)
        }
    };
    write_note(config, info, refused)
}

/// Notes what a server that runs is, so that it can be the target of a seed that begins while it is down.
pub(crate) fn take_note(config: &Config) -> Result<()> {
    let mut conn = connect(&Endpoint::local(&config.mysql), QUERY)?;
    let (mut info, refused) = match of_running(config, &mut conn, Role::Target) {
        Ok(info) => (info, None),
        Err(e) if e.is_permanent() => {
            let info = of_running(config, &mut conn, Role::Source)?;
            (info, Some(e.to_string()))
        }
        Err(e) => return Err(e), // a timeout, say: no reason that lasts
    };
    add_files(&mut info, &config.mysql)?;
    write_note(config, info, refused).map(drop)
}

/// [`inspect`] without the server's part in replication, and without the note.
pub fn examine(config: &Config, of: Role) -> Result<DatadirInfo> {
    let endpoint = Endpoint::local(&config.mysql);
    let mut info = match connect(&endpoint, QUERY) {
        Ok(mut conn) => of_running(config, &mut conn, of)?,
        Err(e) if e.is_transient() => {
            let info = from_settings(config, of)?;
            // One that has just ended closes its files a little later than its socket.
            let begin = Instant::now();
            while is_in_use(&info)? {
                if begin.elapsed() >= LAST_MOMENTS {
                    return Err(Error::transient(format!(
                        "a server uses {} but does not answer: {e}",
                        info.datadir.display()
                    )));
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            info
        }
        Err(e) => return Err(e),
    };
    add_files(&mut info, &config.mysql)?;
    if of == Role::Target {
        may_rename(&info)?;
    }
    Ok(info)
}

fn of_running(config: &Config, conn: &mut Conn, of: Role) -> Result<DatadirInfo> {
    one_server(&config.mysql)?;
    let info = from_server(conn, of)?;
    owner::check_running(conn, &Endpoint::local(&config.mysql), &info.datadir)?;
    Ok(info)
}

/// The data directory that `mysql.defaults-file` gives to `program`, for check-config.
pub(crate) fn datadir_of_settings(program: &Path, defaults_file: &str) -> Result<PathBuf> {
    let of = help_of(program, defaults_file)?;
    resolve(value(&of, "datadir"))
        .map_err(|e| e.context(format!("mysql.defaults-file = \"{defaults_file}\"")))
}

/// What the option files say of a server that is down.
pub(crate) struct DownSettings {
    pub(crate) datadir: PathBuf,
    /// Relative to the data directory; empty if the option files name none.
    pub(crate) log_error: String,
}

/// What the server of `[mysql]` would use, by `mysql.defaults-file` or the option files in the default places, where these are that
/// server's: its port or socket is the one in there.
pub(crate) fn settings_when_down(config: &Config) -> Result<DownSettings> {
    let (_, variables) = program_and_settings(config)?;
    let datadir = resolve(value(&variables, "datadir"))?;
    owner::check_settings(&variables, &datadir, &config.mysql)?;
    Ok(DownSettings {
        datadir,
        log_error: value(&variables, "log_error").to_string(),
    })
}

/// Where staging directories of this host may be, by the note and the settings, without MySQL.
pub fn staging_roots(config: &Config) -> Vec<PathBuf> {
    let last = last_seen(config);
    let mut datadirs: Vec<PathBuf> = last.iter().map(|f| f.datadir.clone()).collect();
    datadirs.extend(resolve(&config.mysql.datadir));
    let inside = datadirs
        .iter()
        .flat_map(|d| STAGING_NAMES.map(|n| d.join(n)));
    let mut roots: Vec<PathBuf> = inside.chain(last.map(|f| f.staging)).collect();
    if !config.mysql.staging_dir.is_empty() {
        roots.push(config.mysql.staging_dir.clone().into());
    }
    roots.retain(|r| r.is_dir());
    roots.sort();
    roots.dedup();
    roots
}

/// From a server that is up.
fn from_server(conn: &mut Conn, of: Role) -> Result<DatadirInfo> {
    let server = Server::ask(conn)?;
    let rows: Vec<(String, String)> = query::rows(conn, "SHOW GLOBAL VARIABLES")?;
    let variables: Variables = rows.into_iter().collect();
    if of == Role::Target {
        refuse_cluster(&variables)?;
    }
    let datadir = resolve(value(&variables, "datadir"))?;
    let program = find_program(&variables, &datadir, server)?;
    let mut info = DatadirInfo::from_variables(&variables, server, &datadir, &program)?;
    info.plugins = plugins(conn)?;
    let encrypted = if server.flavour == Flavour::MariaDb {
        "SELECT NAME FROM information_schema.INNODB_TABLESPACES_ENCRYPTION WHERE ENCRYPTION_SCHEME <> 0 LIMIT 1"
    } else if server.mysql_from(8, 0, 0) {
        // Tablespaces elsewhere have no link file (.isl) in MySQL 8.0 and later.
        let files: Vec<String> = query::rows(
            conn,
            "SELECT FILE_NAME FROM information_schema.FILES WHERE FILE_TYPE IN ('TABLESPACE', 'UNDO LOG') AND ENGINE = 'InnoDB'",
        )?;
        let elsewhere = |f: &&String| {
            f.starts_with("../") || (f.starts_with('/') && !Path::new(f).starts_with(&datadir))
        };
        if let Some(file) = files.iter().find(elsewhere) {
            return Err(elsewhere_error(Path::new(file), "the tablespace"));
        }
        "SELECT NAME FROM information_schema.INNODB_TABLESPACES WHERE ENCRYPTION = 'Y' LIMIT 1"
    } else {
        return Ok(info);
    };
    let Some(name) = query::first::<String>(conn, encrypted)? else {
        return Ok(info);
    };
    Err(Error::permanent(format!(
        "the tablespace {name} is encrypted, and the keys of one host are not those of another: decrypt it \
         (ALTER TABLE ... ENCRYPTION='N', on MariaDB ENCRYPTED=NO), or use the method Mysqldump with a target that has keys of its own"
    )))
}

/// Those with which accounts log in and tables are read. ColumnStore, S3 and Spider keep data outside the data directory, where a
/// private server would change those of the real one.
fn plugins(conn: &mut Conn) -> Result<Vec<Plugin>> {
    let rows: Vec<(String, String)> = query::rows(
        conn,
        "SELECT PLUGIN_LIBRARY, PLUGIN_TYPE FROM information_schema.PLUGINS WHERE PLUGIN_STATUS = 'ACTIVE' AND PLUGIN_LIBRARY IS NOT NULL \
         AND PLUGIN_TYPE IN ('AUTHENTICATION', 'STORAGE ENGINE') \
         AND PLUGIN_LIBRARY NOT IN ('ha_columnstore.so', 'ha_s3.so', 'ha_spider.so') ORDER BY 1, 2",
    )?;
    let plugin = |(library, kind): (String, String)| Plugin {
        library,
        is_engine: kind == "STORAGE ENGINE",
    };
    Ok(rows.into_iter().map(plugin).collect())
}

/// What a server that is down would use, as its own program reports it.
fn from_settings(config: &Config, of: Role) -> Result<DatadirInfo> {
    let settings = &config.mysql;
    let last = valid_note(config);
    if let (Role::Target, Some(why)) = (of, last.as_ref().and_then(|n| n.refused.as_ref())) {
        return Err(Error::permanent(format!(
            "when MySQL was last up, it could not be a target: {why}; after a change start it once"
        )));
    }
    if settings.defaults_file.is_empty()
        && let Some(note) = &last
    {
        let mut info = note.info.clone();
        check_option_files(&info, settings)?;
        check_setting(settings, &info.datadir, "the one in which it was last seen")?;
        info.datadir = resolve(&info.datadir.to_string_lossy())?;
        info.server = version_of(&info.program)?; // upgraded since, perhaps
        return Ok(info);
    }
    let last_datadir = last.map(|n| n.info.datadir);
    let (program, variables) = program_and_settings(config)?;
    let server = version_of(&program)?;
    if of == Role::Target {
        refuse_cluster(&variables)?;
    }
    let resolved = resolve(value(&variables, "datadir"));
    let place = resolved.as_deref().unwrap_or(Path::new("/"));
    // A note of the server itself is as good as its address.
    if !last_datadir.is_some_and(|d| resolved.as_ref().is_ok_and(|r| *r == d)) {
        owner::check_settings(&variables, place, settings)?;
    }
    let datadir = resolved.map_err(|e| {
        e.context("MySQL is down, and its data directory must be known: start it once, or set mysql.defaults-file")
            .about("mysql.defaults-file")
    })?;
    let named = "the data directory that its option file names";
    check_setting(settings, &datadir, named)?;
    DatadirInfo::from_variables(&variables, server, &datadir, &program)
}

/// The server's program, and what it would use.
fn program_and_settings(config: &Config) -> Result<(PathBuf, Variables)> {
    // Where the program is may be right although the rest of a note is not.
    let program = match read_note(config).map(|n| n.info.program) {
        Some(program) if program.is_file() => program,
        _ => Launcher::new(&config.common).find(&PROGRAMS)?,
    };
    let variables = help_of(&program, &config.mysql.defaults_file)?;
    Ok((program, variables))
}

/// That mysql.datadir, where it is set, is the directory `found`, which is `what`.
fn check_setting(settings: &config::Mysql, found: &Path, what: &str) -> Result<()> {
    if settings.datadir.is_empty() || resolve(&settings.datadir)? == found {
        return Ok(());
    }
    Err(Error::permanent(format!(
        "MySQL is down, and mysql.datadir = \"{}\" is not {what}, {}: correct it, start MySQL once, or set mysql.defaults-file to the \
         option file that this server is started with",
        settings.datadir,
        found.display()
    )))
}

/// That the option files in the default places, if they are those of this server, do not name another data directory than the one in
/// which it was seen: the server that is started next would not use what was swapped in.
fn check_option_files(seen: &DatadirInfo, settings: &config::Mysql) -> Result<()> {
    let Ok(of) = help_of(&seen.program, "") else {
        return Ok(()); // the server does not read them, or it would not start
    };
    if owner::check_settings(&of, &seen.datadir, settings).is_err() {
        return Ok(());
    }
    match resolve(value(&of, "datadir")) {
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
    let real = std::fs::canonicalize(datadir).on(format!("data directory \"{datadir}\""))?;
    if real.is_dir() && real.parent().is_some() {
        return Ok(real);
    }
    let text = format!("\"{datadir}\" is not a data directory");
    Err(Error::permanent(text))
}

/// Adds what the file system shows, and refuses what lies elsewhere or cannot be renamed.
fn add_files(info: &mut DatadirInfo, settings: &config::Mysql) -> Result<()> {
    let datadir = info.datadir.clone();
    let meta = std::fs::metadata(&datadir).on(&datadir)?;
    (info.uid, info.gid, info.mode) = (meta.uid(), meta.gid(), meta.mode() & 0o7777);
    info.staging = staging_root(&datadir, info.server.flavour, &settings.staging_dir)?;
    for mount in crate::sys::host::mounts_below(&datadir) {
        if mount.file_name().is_some_and(|n| n != "lost+found") {
            return Err(Error::permanent(format!(
                "{} is a file system of its own inside the data directory and cannot be renamed: mount it elsewhere, or use the \
                 method Mysqldump",
                mount.display()
            )));
        }
    }
    (info.bytes, info.files) = survey(&datadir, &info.staging)?;
    Ok(())
}

/// `.orchestrator-agent` or `#sql-orchestrator-agent` in the data directory, or `mysql.staging-dir`. MySQL refuses to start
/// when a directory that is not hidden holds tablespaces with ids of its own; MariaDB takes a hidden one for a schema, and
/// ignores `#sql-`: verified on MySQL 9.7.4 and MariaDB 10.11.19.
fn staging_root(datadir: &Path, flavour: Flavour, setting: &str) -> Result<PathBuf> {
    let refuse = |why: &str| {
        let error = Error::permanent(format!("mysql.staging-dir = \"{setting}\" {why}"));
        Err(error.about("mysql.staging-dir"))
    };
    if setting.is_empty() {
        return Ok(datadir.join(match flavour {
            Flavour::MySql => STAGING_NAMES[0],
            Flavour::MariaDb => STAGING_NAMES[1],
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
            "is inside the data directory: leave the setting empty for the agent's own directory in there",
        );
    }
    let name = root.file_name().unwrap_or_default().to_string_lossy();
    if flavour == Flavour::MySql && !name.starts_with('.') {
        return refuse("must end in a name that begins with a dot, so that MySQL does not scan it");
    }
    Ok(root.to_path_buf())
}

/// Bytes of everything below `datadir`, without `staging`, and the number of files. Refuses data that are elsewhere: symbolic links,
/// and InnoDB's own link files (`.isl`; MariaDB and MySQL 5.7).
fn survey(datadir: &Path, staging: &Path) -> Result<(u64, u64)> {
    let (mut bytes, mut files) = (0, 0);
    let mut todo = vec![datadir.to_path_buf()];
    while let Some(dir) = todo.pop() {
        let entries = match std::fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound && dir != datadir => continue, // dropped meanwhile
            Err(e) if dir.ends_with("lost+found") => {
                log::debug!("{}: {e}", dir.display());
                continue;
            }
            Err(e) => return Err(e).on(&dir),
        };
        for entry in entries.flatten() {
            let (path, Ok(meta)) = (entry.path(), entry.metadata()) else {
                continue;
            };
            let name = entry.file_name();
            let name = name.to_str().ok_or_else(|| not_utf8(&path))?;
            let hidden = dir == datadir && name != ".rocksdb" && name.starts_with('.');
            if path == staging || hidden {
                continue;
            }
            if meta.is_symlink() {
                // A dead link, as a socket's or a log's may be, holds no data.
                if path.exists() {
                    let to = std::fs::read_link(&path).unwrap_or_default();
                    let link = format!("a symbolic link to {},", to.display());
                    return Err(elsewhere_error(&path, &link));
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
fn may_rename(info: &DatadirInfo) -> Result<()> {
    let me = crate::sys::process::effective_uid();
    if me == 0 || me == info.uid {
        return Ok(());
    }
    Err(Error::permanent(format!(
        "the data directory {} belongs to uid {} and the agent runs as uid {me}: a physical seed needs the agent to run as that user or \
         as root (common.exec-with-sudo is for tools only)",
        info.datadir.display(),
        info.uid
    )))
}

/// The running server's own program: by its process, by `basedir`, by PATH; of its version.
fn find_program(of: &Variables, datadir: &Path, server: Server) -> Result<PathBuf> {
    let mut candidates: Vec<PathBuf> = Vec::new();
    for pid in servers_in(datadir) {
        if let Ok(exe) = std::fs::read_link(format!("/proc/{pid}/exe")) {
            let name = exe.to_string_lossy();
            // Replaced by an upgrade since its start.
            candidates.push(name.strip_suffix(" (deleted)").unwrap_or(&name).into());
        }
    }
    let names = match server.flavour {
        Flavour::MariaDb => &PROGRAMS[..],
        Flavour::MySql => &PROGRAMS[1..],
    };
    let basedir = Path::new(of.get("basedir").map_or("/usr", String::as_str));
    for dir in ["sbin", "bin", "libexec"] {
        candidates.extend(names.iter().map(|n| basedir.join(dir).join(n)));
    }
    candidates.extend(Launcher::default().find(names));
    let mut seen = Vec::new();
    for program in candidates {
        match version_of(&program) {
            Ok(found) if found == server => return Ok(program),
            Ok(found) => seen.push((program.canonicalize().unwrap_or(program), found)),
            Err(e) => log::debug!("{e}"),
        }
    }
    Err(no_program(server, seen))
}

/// `seen`: programs of other versions by their canonical paths, an installed one under several names more than once.
fn no_program(server: Server, seen: Vec<(PathBuf, Server)>) -> Error {
    const WHY: &str =
        "a physical seed starts the server's own program on the copy before it is used";
    let seen: BTreeMap<_, _> = seen.into_iter().inserted();
    let seen: Vec<_> = seen.into_iter().collect();
    let running = format!("{} {}", server.flavour, server.version);
    let shown = |(program, found): &(PathBuf, Server)| {
        let Server { flavour, version } = found;
        format!("{} is {flavour} {version}", program.display())
    };
    Error::permanent(match seen.as_slice() {
        [] => format!(
            "the program of the running server ({running}) was not found: {WHY}; put the directory of mysqld into the agent's PATH"
        ),
        [one] if one.1.flavour == server.flavour => format!(
            "the running server is {running}, but its program {}: the packages were upgraded since its start, and {WHY}; restart \
             MySQL",
            shown(one)
        ),
        all => format!(
            "no program of the running server's version ({running}) was found ({}): {WHY}; restart MySQL if its packages were \
             upgraded, else put the directory of its mysqld into the agent's PATH",
            all.iter().map(shown).collect::<Vec<_>>().join(", ")
        ),
    })
}

/// `mysqld  Ver 9.7.4-2 for Linux on x86_64 ((Debian))`
fn version_of(program: &Path) -> Result<Server> {
    let text = output_of(program, &["--no-defaults", "--version"])?;
    let version = text.split_once("Ver ").map(|(_, version)| version);
    let version = version.and_then(|v| v.split_whitespace().next());
    Server::parse(version.unwrap_or(&text), &text)
}

/// The variables that the program would run with: the table at the end of its help.
fn help_of(program: &Path, defaults_file: &str) -> Result<Variables> {
    let file = format!("--defaults-file={defaults_file}");
    // It would open the index of its binary log otherwise.
    let mut args = vec![
        "--verbose",
        "--help",
        "--log-bin-index=/nonexistent/orchestrator-agent",
    ];
    if !defaults_file.is_empty() {
        args.insert(0, &file);
    }
    let help = output_of(program, &args).map_err(|e| match defaults_file {
        "" => e,
        set => e
            .context(format!("mysql.defaults-file = \"{set}\""))
            .about("mysql.defaults-file"),
    })?;
    Ok(variables_in(&help))
}

fn variables_in(help: &str) -> Variables {
    let mut table = help.lines();
    table.find(|l| l.starts_with("Variables (--variable"));
    let mut of = Variables::new();
    for line in table {
        if let Some((name, value)) = line.split_once(char::is_whitespace)
            && name.starts_with(|c: char| c.is_ascii_lowercase())
        {
            of.insert(name.replace('-', "_"), value.trim().to_string());
        }
    }
    of.remove("log_bin_index"); // ours
    of
}

fn output_of(program: &Path, args: &[&str]) -> Result<String> {
    let mut command = Command::new(program);
    set_environment(&mut command);
    command.args(args).stdin(Stdio::null());
    let out = command.output().on(program)?;
    if out.status.success() {
        return Ok(String::from_utf8_lossy(&out.stdout).into_owned());
    }
    let why = String::from_utf8_lossy(&out.stderr);
    Err(Error::permanent(format!(
        "{} {}: {}, stderr: {}",
        program.display(),
        args.join(" "),
        out.status,
        why.lines().last().unwrap_or_default()
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
    fn what_could_not_be_a_target_when_it_was_up_is_refused_while_it_is_down() {
        let d = std::env::temp_dir().join(format!("oa-note-{}", std::process::id()));
        let (datadir, mut config) = crate::datadir::note::tests::host(&d);
        let info = || DatadirInfo {
            datadir: std::fs::canonicalize(&datadir).unwrap(),
            ..DatadirInfo::for_test()
        };
        for file in ["/no/such/my.cnf", ""] {
            config.mysql.defaults_file = file.into();
            let of = |role| from_settings(&config, role).unwrap_err().to_string();
            write_note(&config, info(), Some("wsrep_on = ON: it is a node".into())).unwrap();
            let (target, source) = (of(Role::Target), of(Role::Source));
            assert!(
                target.contains("wsrep_on = ON: it is a node; after a change start it once"),
                "{file}: {target}"
            );
            assert!(source.contains("/bin/false"), "its version: {source}");
            assert_eq!(last_seen(&config), Some(info()));
            write_note(&config, info(), None).unwrap();
            assert_eq!(of(Role::Target), source);
        }
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

    #[test]
    fn an_upgraded_program_is_named_once() {
        let server = |text: &str| Server::parse(text, text).unwrap();
        let (old, new) = (server("10.11.18-MariaDB"), server("10.11.19-MariaDB"));
        let of = |seen: &[(&str, Server)]| {
            let seen = seen.iter().map(|(p, s)| (PathBuf::from(p), *s)).collect();
            no_program(old, seen).to_string()
        };
        let one = of(&[("/usr/sbin/mariadbd", new); 3]);
        assert_eq!(one.matches("/usr/sbin/mariadbd").count(), 1, "{one}");
        assert!(one.ends_with("; restart MySQL"), "{one}");
        let two = of(&[
            ("/usr/sbin/mariadbd", new),
            ("/opt/mysqld", server("9.7.4")),
        ]);
        assert!(
            two.contains("mariadbd is MariaDB 10.11.19")
                && two.contains("/opt/mysqld is MySQL 9.7.4"),
            "{two}"
        );
        assert!(of(&[]).contains("was not found"));
    }

    #[test]
    fn the_help_of_both_families_is_read() {
        let help = "mysqld  Ver 9.7.4\nUsage\n\nVariables (--variable-name=value)\nand boolean options {FALSE|TRUE}  Value (after reading options)\n\
                    ------------------------------------------------------------ -------------\n\
                    datadir                                                      /var/lib/my sql/\n\
                    innodb-data-home-dir                                         (No default value)\n\
                    log-bin-index                                                /nonexistent/orchestrator-agent\n\
                    a-very-long-name-that-is-longer-than-the-column-of-names-indeed 1\n\nTo see what values\n";
        let of = variables_in(help);
        assert_eq!(of["datadir"], "/var/lib/my sql/");
        assert_eq!(of["innodb_data_home_dir"], "(No default value)");
        assert!(!of.contains_key("log_bin_index"));
        assert!(of.keys().any(|k| k.starts_with("a_very_long")));
    }
}

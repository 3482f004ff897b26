//! Which programs, whether they fit the server, and their arguments. Percona's xtrabackup and mariadb-backup know the same words for what
//! is used here.

use super::messages;
use crate::error::{Error, Result};
use crate::methods::operators::{is, operators};
use crate::mysql::{Flavour, Server, Version};
use crate::process::{Exit, Launcher, version_text};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The two programs of one family.
#[derive(Debug, Clone)]
pub(super) struct Tools {
    /// Makes and prepares copies.
    pub(super) backup: PathBuf,
    /// Unpacks the stream.
    pub(super) unpack: PathBuf,
    /// The server that the first one is made for.
    pub(super) version: Server,
}

/// Finds them in PATH.
pub(super) fn find(launcher: &Launcher, flavour: Flavour) -> Result<Tools> {
    let (backup, unpack): (&[&str], &str) = match flavour {
        Flavour::MariaDb => (&["mariadb-backup", "mariabackup"], "mbstream"),
        Flavour::MySql => (&["xtrabackup"], "xbstream"),
    };
    let (backup, unpack) = (launcher.find(backup)?, launcher.find(&[unpack])?);
    let version = parse_version(&version_text(&backup)?)
        .map_err(|e| e.context(format!("{} --version", backup.display())))?;
    Ok(Tools {
        backup,
        unpack,
        version,
    })
}

/// `mariadb-backup based on MariaDB server 10.11.19-MariaDB debian-linux-gnu (x86_64)`,
/// `xtrabackup version 8.0.35-35 based on MySQL server 8.0.35 Linux (x86_64) (revision id: ...)`.
fn parse_version(text: &str) -> Result<Server> {
    let after = |mark: &str| text.split_once(mark).map(|(_, rest)| rest);
    let word = |rest: &str| rest.split_whitespace().next().unwrap_or("").to_string();
    match (after("MariaDB server "), after("xtrabackup version ")) {
        (Some(rest), _) => Server::parse(&word(rest), "MariaDB"),
        (None, Some(rest)) => Server::parse(&word(rest), ""),
        _ => {
            let line = text.lines().next().unwrap_or_default();
            let text = format!("cannot read a version out of \"{line}\"");
            Err(Error::permanent(text))
        }
    }
}

impl Tools {
    /// That the backup tool is for this server: of its family and series. Percona's 2.4 is for MySQL 5.x; one that is older
    /// than the server refuses it by itself.
    pub(super) fn fit(&self, server: Server) -> Result<()> {
        let (tool, s) = (self.version.version, server.version);
        let same_series = (tool.0, tool.1) == (s.0, s.1);
        let old =
            server.flavour == Flavour::MySql && s < Version(8, 0, 0) && (tool.0, tool.1) == (2, 4);
        if self.version.flavour == server.flavour && (same_series || old) {
            return Ok(());
        }
        Err(Error::permanent(format!(
            "{} is for {} {tool} and the server is {} {s}: install the backup tool of the server's series",
            self.backup.display(),
            self.version.flavour,
            server.flavour
        )))
    }
}

/// Ok for exit status 0; else an error with the end of the tool's standard error, and the setting of the service where the limit of open
/// files was the cause.
pub(super) fn check(mut exit: Exit) -> Result<()> {
    let open_files = messages::is_open_files(&exit.stderr);
    exit.stderr = messages::last_lines(&exit.stderr);
    exit.check().map_err(|e| {
        if open_files {
            e.noted("the tool needs one descriptor for each table file: raise LimitNOFILE of the agent's service (ulimit -n)")
        } else {
            e
        }
    })
}

/// Options that this program sets itself, and those that would send the copy or the login elsewhere.
#[rustfmt::skip]
const RESERVED: [&str; 31] = [
    "--host", "-h", "--user", "-u", "--port", "-P", "--password", "-p", "--socket", "-S", "--protocol",
    "--target-dir", "--tmpdir", "--datadir", "--decompress", "--backup", "--stream", "--prepare", "--copy-back", "--move-back",
    "--extra-lsndir", "--incremental", "--incremental-basedir", "--incremental-dir", "--incremental-lsn", "--apply-log-only", "--export",
    "--defaults-file", "--defaults-extra-file", "--no-defaults", "--login-path",
];

/// Options that leave a part of the source out: a seed must be complete.
#[rustfmt::skip]
const INCOMPLETE: [&str; 7] = [
    "--tables", "--tables-file", "--tables-exclude", "--databases", "--databases-file", "--databases-exclude", "--no-lock",
];

/// The operator's options, and those that were dropped.
pub(crate) fn kept(options: &[String]) -> (Vec<String>, Vec<&'static str>) {
    operators(options, &RESERVED)
}

/// The first option with which a copy would not be complete.
pub(super) fn incomplete(options: &[String]) -> Option<&'static str> {
    INCOMPLETE
        .into_iter()
        .find(|option| options.iter().any(|o| is(o, option)))
}

/// The value of an option that the operator has set, by either separator.
pub(super) fn value<'a>(options: &'a [String], name: &str) -> Option<&'a str> {
    options.iter().enumerate().find_map(|(i, o)| {
        if o == name {
            return options.get(i + 1).map(String::as_str);
        }
        o.strip_prefix(name)?.strip_prefix('=')
    })
}

fn set(name: &str, value: &Path) -> OsString {
    let mut option = OsString::from(format!("{name}="));
    option.push(value);
    option
}

/// Streams are made and unpacked in parallel.
fn threads() -> usize {
    crate::sys::host::cpus().clamp(1, 4)
}

/// `--backup` as a stream. `defaults` comes first, or the tool does not read it.
pub(super) fn backup(
    defaults: &Path,
    scratch: &Path,
    is_replica: bool,
    kept: &[String],
) -> Vec<OsString> {
    let mut argv = vec![
        set("--defaults-file", defaults),
        "--backup".into(),
        "--stream=xbstream".into(),
        set("--target-dir", scratch),
        set("--tmpdir", scratch),
    ];
    if is_replica && !kept.iter().any(|o| o == "--slave-info") {
        argv.push("--slave-info".into());
    }
    // Sessions with LOCK TABLES (MariaDB) and long queries (Percona) are waited for, in seconds, before the tool asks for a lock.
    if value(kept, "--ftwrl-wait-timeout").is_none()
        && value(kept, "--startup-wait-timeout").is_none()
    {
        let limit = crate::seed::source_lock::LONG_QUERIES.as_secs();
        argv.push(format!("--ftwrl-wait-timeout={limit}").into());
    }
    if value(kept, "--parallel").is_none() {
        argv.push(format!("--parallel={}", threads()).into());
    }
    argv.extend(kept.iter().map(OsString::from));
    argv
}

/// Unpacks a stream from standard input into `dir`.
pub(super) fn unpack(dir: &Path, kept: &[String]) -> Vec<OsString> {
    let threads = value(kept, "--parallel").map_or_else(threads, |n| n.parse().unwrap_or(1));
    vec![
        "-x".into(),
        format!("--parallel={threads}").into(),
        "-C".into(),
        dir.into(),
    ]
}

/// `--prepare` of the copy in `dir`, with temporary files in `scratch`. `memory` in bytes, for the redo log's pages.
pub(super) fn prepare(dir: &Path, scratch: &Path, memory: u64, kept: &[String]) -> Vec<OsString> {
    let memory = value(kept, "--use-memory").map_or(memory.to_string(), str::to_string);
    vec![
        "--no-defaults".into(),
        "--prepare".into(),
        set("--target-dir", dir),
        set("--tmpdir", scratch),
        format!("--use-memory={memory}").into(),
    ]
}

/// `--decompress` of a copy that was made with `--compress`.
pub(super) fn decompress(dir: &Path, kept: &[String]) -> Vec<OsString> {
    let threads = value(kept, "--parallel").unwrap_or("1");
    vec![
        "--no-defaults".into(),
        "--decompress".into(),
        format!("--parallel={threads}").into(),
        set("--target-dir", dir),
    ]
}

/// What the redo log may use: half of what is free, for MySQL may run on the host; at least the tools' own default.
pub(super) fn memory(available: u64) -> u64 {
    (available / 2).max(100 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(items: &[&str]) -> Vec<String> {
        items.iter().map(|s| s.to_string()).collect()
    }

    fn words(argv: Vec<OsString>) -> String {
        let argv: Vec<String> = argv.into_iter().map(|a| a.into_string().unwrap()).collect();
        argv.join(" ")
    }

    #[test]
    fn reserved_options_are_dropped_in_every_form() {
        let (kept, dropped) = kept(&list(&[
            "--parallel=4",
            "--password=geheim",
            "-pgeheim",
            "--host db9",
            "--target_dir=/x",
            "--compress",
            "--user",
            "root",
        ]));
        assert_eq!(kept, ["--parallel=4", "--compress"]);
        assert_eq!(
            dropped,
            ["--password", "-p", "--host", "--target-dir", "--user"]
        );
        assert_eq!(
            incomplete(&list(&["--parallel=4", "--databases_exclude=x"])),
            Some("--databases-exclude")
        );
        assert_eq!(incomplete(&list(&["--parallel=4"])), None);
    }

    #[test]
    fn argument_vectors() {
        let own = list(&["--parallel=3", "--compress=lz4"]);
        assert_eq!(
            words(backup(Path::new("/c"), Path::new("/b"), true, &own)),
            "--defaults-file=/c --backup --stream=xbstream --target-dir=/b --tmpdir=/b --slave-info --ftwrl-wait-timeout=300 --parallel=3 --compress=lz4"
        );
        assert_eq!(
            words(unpack(Path::new("/n"), &own)),
            "-x --parallel=3 -C /n"
        );
        assert_eq!(
            words(prepare(
                Path::new("/n"),
                Path::new("/w"),
                memory(1 << 30),
                &list(&[])
            )),
            "--no-defaults --prepare --target-dir=/n --tmpdir=/w --use-memory=536870912"
        );
        assert!(
            words(prepare(
                Path::new("/n"),
                Path::new("/w"),
                memory(0),
                &list(&["--use-memory", "2G"])
            ))
            .ends_with("=2G")
        );
        assert_eq!(
            words(decompress(Path::new("/n"), &own)),
            "--no-defaults --decompress --parallel=3 --target-dir=/n"
        );
        assert_eq!(memory(0), 100 << 20);
    }

    fn tools(text: &str) -> Tools {
        Tools {
            backup: "tool".into(),
            unpack: "stream".into(),
            version: parse_version(text).unwrap(),
        }
    }

    #[test]
    fn versions_as_the_tools_print_them() {
        let percona = tools(
            "2026-01-26T12:00:00.000000-00:00 0 [Note] [MY-011825] [Xtrabackup] recognized server arguments: --datadir=/var/lib/mysql\nxtrabackup version 8.0.35-35 based on MySQL server 8.0.35 Linux (x86_64) (revision id: c7e6c8b1)\n",
        );
        let maria = tools(
            "mariadb-backup based on MariaDB server 10.11.19-MariaDB debian-linux-gnu (x86_64)\n",
        );
        let old = tools(
            "xtrabackup version 2.4.29 based on MySQL server 5.7.44 Linux (x86_64) (revision id: 2e6c0951)\n",
        );
        for (tool, server, fits) in [
            (&percona, "8.0.36", true),
            (&percona, "8.4.0", false),
            (&percona, "10.11.19-MariaDB", false),
            (&maria, "10.11.4-MariaDB", true),
            (&maria, "10.6.4-MariaDB", false),
            (&maria, "8.0.36", false),
            (&old, "5.7.44", true),
            (&old, "5.6.24", true),
            (&old, "8.0.36", false),
        ] {
            let server = Server::parse(server, "").unwrap();
            assert_eq!(tool.fit(server).is_ok(), fits, "{tool:?} {server:?}");
        }
        assert!(parse_version("qpress 1.1").is_err());
    }
}

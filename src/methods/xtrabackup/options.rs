//! Argument vectors. Percona's xtrabackup and mariadb-backup know the same words for what is used here.

use crate::methods::operators::operators;
use std::ffi::OsString;
use std::path::Path;

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
    let separates = |c: char| c == '=' || c.is_whitespace();
    let name = |o: &String| {
        let name = o.trim().split(separates).next();
        name.unwrap_or_default().replace('_', "-")
    };
    let names: Vec<String> = options.iter().map(name).collect();
    INCOMPLETE
        .into_iter()
        .find(|i| names.iter().any(|n| n == i))
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
    let mut option = OsString::from(name);
    option.push("=");
    option.push(value);
    option
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
        argv.push(format!("--parallel={}", crate::sys::host::cpus().clamp(1, 4)).into());
    }
    argv.extend(kept.iter().map(OsString::from));
    argv
}

/// Unpacks a stream from standard input into `dir`.
pub(super) fn unpack(dir: &Path, kept: &[String]) -> Vec<OsString> {
    let threads = value(kept, "--parallel").map_or(crate::sys::host::cpus().clamp(1, 4), |n| {
        n.parse().unwrap_or(1)
    });
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
}

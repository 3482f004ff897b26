//! What of a data directory comes from where (DESIGN 4.6): one table with reasons.

use crate::mysql::Flavour;
use std::io::{self, Read};
use std::path::Path;

/// Where an entry of the new data directory comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The target's own stays where it is; the copy's is left out.
    Old,
    /// The copy's; the target's own goes aside with the old data.
    New,
    /// The target's own goes aside and the copy's is left out: the server makes a new one, or needs none.
    Neither,
}

/// A row: names at the top of the data directory, `*` for any characters.
#[derive(Debug)]
pub struct Rule {
    /// Pattern of the name. Most are for files only: a schema may be called keyring_of_x ([`NO_SCHEMA`]).
    pub name: &'static str,
    /// Only for this family.
    pub only: Option<Flavour>,
    /// Where it comes from.
    pub origin: Origin,
    /// Why.
    pub why: &'static str,
}

const fn both(name: &'static str, origin: Origin, why: &'static str) -> Rule {
    Rule {
        name,
        only: None,
        origin,
        why,
    }
}

const fn only(flavour: Flavour, name: &'static str, origin: Origin, why: &'static str) -> Rule {
    Rule {
        name,
        only: Some(flavour),
        origin,
        why,
    }
}

use Flavour::{MariaDb, MySql};
use Origin::{Neither, New, Old};

/// The table; the first row that fits counts, the last one fits everything.
pub const RULES: &[Rule] = &[
    both(".orchestrator-agent*", Old, "our staging directory"),
    both("#sql-orchestrator-agent*", Old, "our staging directory"),
    both("lost+found", Old, "belongs to the file system"),
    only(
        MySql,
        "mysqld-auto.cnf",
        Old,
        "SET PERSIST of this host; a foreign one gives the target the source's server_id",
    ),
    both("*.pem", Old, "certificates and keys of this host"),
    only(
        MySql,
        "mysqld.my",
        Old,
        "manifest of this host's components",
    ),
    both(
        "component_*",
        Old,
        "configuration and keyring files of this host's components",
    ),
    both("keyring*", Old, "this host's keyring"),
    both(
        "debian-*.flag",
        Old,
        "what Debian's packages know of this host",
    ),
    both("*.err", Old, "error log of this host"),
    both(
        "auto.cnf",
        Neither,
        "a new server UUID is right: two servers with one cannot replicate from each other",
    ),
    both("*.pid", Neither, "names a process that has ended"),
    both("*.sock", Neither, "a socket of a server that has ended"),
    both("*.sock.lock", Neither, "names a process that has ended"),
    both(
        "*.index",
        Neither,
        "index of binary or relay logs: a foreign one stops the start",
    ),
    both("*.~rec~", Neither, "register of binary logs being purged"),
    both(
        "*relay-bin*",
        Neither,
        "relay logs of a channel that the copy must not have",
    ),
    only(MariaDb, "*.idx", Neither, "GTID index of a binary log"),
    only(
        MariaDb,
        "*.state",
        Neither,
        "GTID state of the binary log: would merge errant GTIDs into the new server",
    ),
    both(
        "master.info",
        Neither,
        "replication of the old data or of the source",
    ),
    both(
        "master-*.info",
        Neither,
        "replication of the old data or of the source, by connection",
    ),
    both(
        "relay-log.info",
        Neither,
        "replication of the old data or of the source",
    ),
    both(
        "relay-log-*.info",
        Neither,
        "replication of the old data or of the source, by connection",
    ),
    only(
        MariaDb,
        "multi-master.info",
        Neither,
        "names of connections of the old data or of the source",
    ),
    both(
        "grastate.dat",
        Neither,
        "Galera's state: a target is no node",
    ),
    both(
        "gvwstate.dat",
        Neither,
        "Galera's state: a target is no node",
    ),
    both(
        "galera.cache",
        Neither,
        "Galera's state: a target is no node",
    ),
    both(
        "gcache.page.*",
        Neither,
        "Galera's state: a target is no node",
    ),
    both(
        "sst_in_progress",
        Neither,
        "Galera's state: a target is no node",
    ),
    both(
        "xtrabackup_*",
        Neither,
        "written by the backup tool, not by the server",
    ),
    both(
        "mariadb_backup_*",
        Neither,
        "written by the backup tool, not by the server",
    ),
    both(
        "backup-my.cnf",
        Neither,
        "written by the backup tool, not by the server",
    ),
    both(
        "innodb_status.*",
        Neither,
        "monitor output of a server that has ended",
    ),
    both("orchestrator-agent.lock", Neither, "mark of a Go agent"),
    both(".rocksdb", New, "data of MyRocks"),
    both(
        ".*",
        Old,
        "hidden files are no data: the directory is often the home of the account mysql",
    ),
    both("*", New, "data"),
];

/// True if `name` fits `pattern`, in which `*` stands for any characters.
fn fits(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, tail)) => name.strip_prefix(head).is_some_and(|rest| {
            (0..=rest.len()).any(|i| rest.is_char_boundary(i) && fits(tail, &rest[i..]))
        }),
    }
}

/// Names that cannot be those of a schema's directory: `.`, `+`, `-` and the `#` in front are encoded there (`@002d`).
const NO_SCHEMA: [&str; 5] = [
    ".rocksdb",
    ".*",
    "#sql-orchestrator-agent*",
    "lost+found",
    "*",
];

/// The row for the name of a file or directory.
pub fn rule(flavour: Flavour, name: &str, is_dir: bool) -> &'static Rule {
    let fits = |r: &&Rule| {
        r.only.is_none_or(|f| f == flavour)
            && (!is_dir || NO_SCHEMA.contains(&r.name))
            && fits(r.name, name)
    };
    RULES.iter().find(fits).unwrap_or(&RULES[RULES.len() - 1])
}

/// The table together with what the server's settings name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table<'a> {
    /// Family of the server.
    pub flavour: Flavour,
    /// Names of this host's logs: they stay.
    pub keep: &'a [String],
    /// Names of its pid file and socket: from neither.
    pub drop: &'a [String],
}

impl Table<'_> {
    /// Where the entry `name` of `dir`, a data directory or a copy of one, comes from. Binary and relay logs are known by
    /// their first bytes, because the source may call them as it likes.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn origin(&self, dir: &Path, name: &str) -> io::Result<Origin> {
        let kind = std::fs::symlink_metadata(dir.join(name))?.file_type();
        if !kind.is_dir() && self.keep.iter().any(|k| k == name) {
            return Ok(Old);
        }
        if !kind.is_dir() && self.drop.iter().any(|d| d == name) {
            return Ok(Neither);
        }
        let origin = rule(self.flavour, name, kind.is_dir()).origin;
        if origin == New && kind.is_file() && is_log(&dir.join(name))? {
            return Ok(Neither);
        }
        Ok(origin)
    }
}

/// True for a binary or relay log, plain (`fe bin`) or encrypted by MySQL (`fd bin`). Old logs beside new data would merge
/// errant GTIDs into the new server, and those of the source are not the target's.
fn is_log(path: &Path) -> io::Result<bool> {
    let mut head = [0u8; 4];
    let mut file = std::fs::File::open(path)?;
    match file.read_exact(&mut head) {
        Ok(()) => Ok(matches!(&head, b"\xfebin" | b"\xfdbin")),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests;

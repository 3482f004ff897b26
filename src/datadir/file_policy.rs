//! What a swap does with each file of the two data directories: one table with reasons.

use super::info::DatadirInfo;
use crate::mysql::Flavour;
use std::io::{self, Read};
use std::path::Path;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FilePolicy {
    /// The target's own stays where it is; the copy's is left out.
    KeepOld,
    /// The copy's is taken; the target's own is moved aside with the old data.
    TakeNew,
    /// The target's own is moved aside and the copy's is left out: the server makes a new one, or needs none.
    Drop,
}

use FilePolicy::{Drop, KeepOld, TakeNew};

const BOTH: Option<Flavour> = None;
const MYSQL: Option<Flavour> = Some(Flavour::MySql);
const MARIADB: Option<Flavour> = Some(Flavour::MariaDb);

/// Names at the top of a data directory, with spaces between them (`*` for any characters), the server family that has them, and
/// the policy. The first name that matches counts, the last one matches everything. Most are for files only: a schema may be called
/// keyring_of_x ([`NO_SCHEMA`]).
const RULES: &[(&str, Option<Flavour>, FilePolicy)] = &[
    // Our staging directories, and what belongs to the file system.
    (".orchestrator-agent*", BOTH, KeepOld),
    ("#sql-orchestrator-agent*", BOTH, KeepOld),
    ("lost+found", BOTH, KeepOld),
    // SET PERSIST of this host: the source's would give the target its server_id.
    ("mysqld-auto.cnf", MYSQL, KeepOld),
    // Certificates and keys of this host; manifest, configuration and keyring files of its components.
    ("*.pem", BOTH, KeepOld),
    ("mysqld.my", MYSQL, KeepOld),
    ("component_* keyring*", BOTH, KeepOld),
    // What Debian's packages have written about this host, and its error log.
    ("debian-*.flag *.err", BOTH, KeepOld),
    // Two servers with one UUID cannot replicate from each other: the server makes a new one.
    ("auto.cnf", BOTH, Drop),
    // Process and sockets of a server that has ended.
    ("*.pid *.sock *.sock.lock", BOTH, Drop),
    // Index of binary or relay logs (another server's stops the start), and the register of binary logs being purged.
    ("*.index *.~rec~", BOTH, Drop),
    // Relay logs of a channel that the copy must not have.
    ("*relay-bin*", BOTH, Drop),
    // GTID index and GTID state of binary logs: the state would merge errant GTIDs into the new server.
    ("*.idx *.state", MARIADB, Drop),
    // Replication of the old data or of the source, by connection.
    ("master.info master-*.info", BOTH, Drop),
    ("relay-log.info relay-log-*.info", BOTH, Drop),
    ("multi-master.info", MARIADB, Drop),
    // Galera's state: a target is not a node.
    ("grastate.dat gvwstate.dat galera.cache", BOTH, Drop),
    ("gcache.page.* sst_in_progress", BOTH, Drop),
    // Written by the backup tool, not by the server.
    ("xtrabackup_* mariadb_backup_* backup-my.cnf", BOTH, Drop),
    // Monitor output of a server that has ended, and the lock file of the agent written in Go.
    ("innodb_status.* orchestrator-agent.lock", BOTH, Drop),
    // Data of MyRocks.
    (".rocksdb", BOTH, TakeNew),
    // Hidden files are not data: the directory is often the home of the account mysql.
    (".*", BOTH, KeepOld),
    ("*", BOTH, TakeNew),
];

/// Names that cannot be those of a schema's directory: `.`, `+`, `-` and the `#` in front are encoded there (`@002d`).
const NO_SCHEMA: &str = ".rocksdb .* #sql-orchestrator-agent* lost+found *";

/// `*` in `pattern` stands for any characters.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, tail)) => name.strip_prefix(head).is_some_and(|rest| {
            (0..=rest.len()).any(|i| rest.is_char_boundary(i) && matches(tail, &rest[i..]))
        }),
    }
}

fn by_name(flavour: Flavour, name: &str, is_dir: bool) -> FilePolicy {
    let rule = RULES.iter().find(|(patterns, only, _)| {
        only.is_none_or(|f| f == flavour)
            && patterns
                .split(' ')
                .any(|p| (!is_dir || NO_SCHEMA.split(' ').any(|n| n == p)) && matches(p, name))
    });
    rule.map_or(TakeNew, |r| r.2)
}

/// What is done with the entry `name` of `dir`, a data directory or a copy of one: the table, together with what the server's
/// settings name. Binary and relay logs are known by their first bytes, because the source may call them as it likes.
pub(super) fn policy_of(info: &DatadirInfo, dir: &Path, name: &str) -> io::Result<FilePolicy> {
    let kind = std::fs::symlink_metadata(dir.join(name))?.file_type();
    if !kind.is_dir() && info.keep.iter().any(|k| k == name) {
        return Ok(KeepOld);
    }
    if !kind.is_dir() && info.drop.iter().any(|d| d == name) {
        return Ok(Drop);
    }
    let policy = by_name(info.server.flavour, name, kind.is_dir());
    if policy == TakeNew && kind.is_file() && is_log(&dir.join(name))? {
        return Ok(Drop);
    }
    Ok(policy)
}

/// True for a binary or relay log, plain (`fe bin`) or encrypted by MySQL (`fd bin`). Old logs together with new data would merge
/// errant GTIDs into the new server, and those of the source are not the target's.
fn is_log(path: &Path) -> io::Result<bool> {
    let mut head = [0u8; 4];
    match std::fs::File::open(path)?.read_exact(&mut head) {
        Ok(()) => Ok(matches!(&head, b"\xfebin" | b"\xfdbin")),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests;

//! What is known of a server's data directory, from its variables, and which of its settings a physical copy cannot follow. It is
//! kept in the record, so that every later stage works while MySQL is down, and is sent by the source of a seed.

use crate::error::{Error, Result};
use crate::mysql::{Flavour, Server};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

/// Variables of a server by name, as SHOW GLOBAL VARIABLES or `mysqld --verbose --help` print them (`-` made `_`).
pub(super) type Variables = BTreeMap<String, String>;

#[rustfmt::skip]
const TMPDIRS: [&str; 4] = ["tmpdir", "innodb_tmpdir", "slave_load_tmpdir", "replica_load_tmpdir"];
/// Directories of parts of the data.
#[rustfmt::skip]
const PLACES: [&str; 8] = [
    "innodb_data_home_dir", "innodb_log_group_home_dir", "innodb_undo_directory", "innodb_doublewrite_dir", "innodb_temp_tablespaces_dir",
    "aria_log_dir_path", "rocksdb_datadir", "tokudb_data_dir",
];
#[rustfmt::skip]
const ENCRYPTION: [&str; 5] = [
    "innodb_redo_log_encrypt", "innodb_undo_log_encrypt", "innodb_encrypt_log", "innodb_encrypt_tables", "aria_encrypt_tables",
];
/// Options with which a private server finds its parts and reads these files as the real one does; [`options`] adds some by version.
#[rustfmt::skip]
const OPTIONS: [&str; 7] = [
    "basedir", "plugin_dir", "lc_messages_dir", "character_sets_dir", "innodb_page_size", "innodb_data_file_path", "lower_case_table_names",
];
/// What decides how indexes and system tables are made, and no session can set: a server that executes a dump for the real one has the
/// same.
#[rustfmt::skip]
const LOAD_OPTIONS: [&str; 11] = [
    "character_set_server", "collation_server", "ft_min_word_len", "ft_max_word_len", "ft_stopword_file", "innodb_ft_min_token_size",
    "innodb_ft_max_token_size", "ngram_token_size", "aria_block_size", "explicit_defaults_for_timestamp", "ignore_db_dirs",
];

/// Binary or relay logs that the server keeps outside its data directory and that a swap moves aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogsElsewhere {
    /// Where they are.
    pub dir: PathBuf,
    /// Their names are this, or begin with this and a dot.
    pub base: String,
}

impl LogsElsewhere {
    pub(super) fn has(&self, name: &str) -> bool {
        name.strip_prefix(&self.base)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

/// A plugin that is active in a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Plugin {
    pub(super) library: String,
    /// A storage engine; else a way to log in.
    pub(super) is_engine: bool,
}

/// The data directory and what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatadirInfo {
    /// Symbolic links followed: what is renamed is inside, never the directory itself.
    pub datadir: PathBuf,
    pub(crate) server: Server,
    pub(crate) program: PathBuf,
    /// Options that a private server needs to find its parts and to read the files: name and value.
    pub options: Vec<(String, String)>,
    /// More of them for one that executes a dump.
    #[serde(default)]
    pub(super) load_options: Vec<(String, String)>,
    /// Of a server that was up: what a private one loads as well. Not engines whose data are elsewhere.
    #[serde(default)]
    pub(super) plugins: Vec<Plugin>,
    /// First file of innodb_data_file_path: the one that every InnoDB server locks and cannot start without.
    pub system_file: String,
    /// innodb_page_size in bytes.
    pub page_size: String,
    /// lower_case_table_names
    pub(crate) lower_case: String,
    /// innodb_data_file_path
    pub data_file_path: String,
    /// Logs of this host at the top of the data directory: they stay.
    pub(crate) keep: Vec<String>,
    /// Socket and pid file there, which no new server needs.
    pub(crate) drop: Vec<String>,
    /// Directories inside the data directory that settings name: the server does not make them.
    pub(crate) dirs: Vec<PathBuf>,
    /// Binary and relay logs elsewhere.
    pub outside: Vec<LogsElsewhere>,
    /// Owner of the data directory.
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mode: u32,
    /// Bytes in it when it was inspected, without our own directories.
    pub(crate) bytes: u64,
    /// Files in it then.
    #[serde(default)]
    pub files: u64,
    /// server_id
    #[serde(default)]
    pub server_id: String,
    /// server_uuid; empty on MariaDB, and where only the settings are known.
    #[serde(default)]
    pub(crate) server_uuid: String,
    /// gtid_mode; empty on MariaDB.
    #[serde(default)]
    pub(crate) gtid_mode: String,
    /// innodb_ft_server_stopword_table
    #[serde(default)]
    pub(crate) stopword_table: String,
    /// Where staging directories are made.
    pub staging: PathBuf,
}

/// A value, empty for unknown ones and for those that `--verbose --help` shows as unset.
pub(super) fn value<'a>(of: &'a Variables, name: &str) -> &'a str {
    match of.get(name).map(String::as_str) {
        None | Some("(No default value)" | "NULL") => "",
        Some(v) => v,
    }
}

impl DatadirInfo {
    /// One of the [`Self::options`]; `None` where the server does not report it.
    pub(crate) fn option(&self, name: &str) -> Option<&str> {
        let found = self.options.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The option for the size of the redo log, and that size in bytes.
    pub(super) fn redo_log_option(&self) -> Option<(&'static str, u64)> {
        let name = redo_log_option(self.server);
        Some((name, self.option(name)?.parse().ok()?))
    }

    /// Bytes of the redo log, at least.
    pub(crate) fn redo_log(&self) -> u64 {
        let files = if self.server.flavour == Flavour::MySql && !self.server.mysql_from(8, 0, 30) {
            2 // the default of innodb_log_files_in_group
        } else {
            1
        };
        self.redo_log_option()
            .map_or(0, |(_, bytes)| bytes.saturating_mul(files))
    }

    pub(super) fn tablespace(&self) -> PathBuf {
        self.datadir.join(&self.system_file)
    }

    /// From the variables of a server whose (resolved) data directory is `datadir`. Owner, size and staging directory are filled
    /// in from the file system later.
    pub(super) fn from_variables(
        of: &Variables,
        server: Server,
        datadir: &Path,
        program: &Path,
    ) -> Result<Self> {
        refuse_places(of, datadir)?;
        refuse_encryption(of)?;
        let text = |name: &str| value(of, name).to_string();
        let mut info = Self {
            datadir: datadir.to_path_buf(),
            server,
            program: program.to_path_buf(),
            options: options(of, server),
            load_options: values(of, &LOAD_OPTIONS),
            plugins: Vec::new(),
            system_file: system_file(value(of, "innodb_data_file_path"))?,
            page_size: text("innodb_page_size"),
            lower_case: text("lower_case_table_names"),
            data_file_path: text("innodb_data_file_path"),
            keep: Vec::new(),
            drop: Vec::new(),
            dirs: Vec::new(),
            outside: Vec::new(),
            uid: 0,
            gid: 0,
            mode: 0,
            bytes: 0,
            files: 0,
            server_id: text("server_id"),
            server_uuid: text("server_uuid"),
            gtid_mode: text("gtid_mode"),
            stopword_table: text("innodb_ft_server_stopword_table"),
            staging: PathBuf::new(),
        };
        for name in ["log_error", "general_log_file", "slow_query_log_file"] {
            let name = info.at_top(value(of, name));
            info.keep.extend(name);
        }
        for name in ["pid_file", "socket"] {
            let name = info.at_top(value(of, name));
            info.drop.extend(name);
        }
        info.add_directories(of);
        info.add_logs(of)?;
        Ok(info)
    }

    fn add_directories(&mut self, of: &Variables) {
        for dir in TMPDIRS.iter().flat_map(|name| value(of, name).split(':')) {
            self.needs(Path::new(dir));
        }
        // `ibtmp1:12M:autoextend` is made by each start, but not its directory.
        for file in value(of, "innodb_temp_data_file_path").split(';') {
            let file = Path::new(file.split(':').next().unwrap_or_default());
            if let Some(dir) = file.parent() {
                self.needs(dir);
            }
        }
    }

    fn add_logs(&mut self, of: &Variables) -> Result<()> {
        // `log_bin` is ON or OFF where a running server reports it, the base name in the output of `--help`.
        for (basename, log, index) in [
            ("log_bin_basename", "log_bin", "log_bin_index"),
            ("relay_log_basename", "relay_log", "relay_log_index"),
        ] {
            let base = match value(of, basename) {
                "" => value(of, log),
                base => base,
            };
            if matches!(base, "ON" | "OFF" | "1" | "0") {
                continue;
            }
            for file in [base, value(of, index)].iter().filter(|f| !f.is_empty()) {
                self.add_log(&self.datadir.join(file))?;
            }
        }
        Ok(())
    }

    /// A MySQL server about which nothing is known.
    #[cfg(test)]
    pub(crate) fn for_test() -> Self {
        let server = Server::parse("9.7.4", "").unwrap();
        let of = Variables::from([("innodb_data_file_path".into(), "ibdata1:12M".into())]);
        Self::from_variables(&of, server, Path::new("/no/such"), Path::new("/bin/false")).unwrap()
    }

    /// The name of a file that lies at the top of the data directory. The directory of one that lies deeper is needed.
    fn at_top(&mut self, file: &str) -> Option<String> {
        if file.is_empty() || file == "stderr" {
            return None;
        }
        let inside = inside(&self.datadir.join(file), &self.datadir)?;
        let mut parts = inside.iter();
        let name = parts.next()?.to_str()?;
        if parts.next().is_none() {
            return Some(name.to_string());
        }
        self.needs(inside.parent()?);
        None
    }

    /// A directory (also relative to the data directory) that must be there when the server starts, if it lies inside that.
    fn needs(&mut self, dir: &Path) {
        if let Some(inside) = inside(&self.datadir.join(dir), &self.datadir)
            && inside != Path::new("")
            && !self.dirs.contains(&inside)
        {
            self.dirs.push(inside);
        }
    }

    fn add_log(&mut self, file: &Path) -> Result<()> {
        let (Some(dir), Some(base)) = (file.parent(), file.file_name().and_then(|n| n.to_str()))
        else {
            return Err(Error::permanent(format!(
                "log_bin or relay_log = \"{}\" is not a file name: set it to a path",
                file.display()
            )));
        };
        if inside(dir, &self.datadir).is_some() {
            self.needs(dir);
            return Ok(());
        }
        // The default name of an index is covered by the base's dot.
        let logs = LogsElsewhere {
            dir: std::fs::canonicalize(dir).unwrap_or_else(|_| dir.to_path_buf()),
            base: base.to_string(),
        };
        let covered = |o: &LogsElsewhere| o.dir == logs.dir && o.has(&logs.base);
        if !self.outside.iter().any(covered) {
            self.outside.push(logs);
        }
        Ok(())
    }
}

/// `path` relative to `datadir`, by name or after following links; `None` if it is elsewhere.
fn inside(path: &Path, datadir: &Path) -> Option<PathBuf> {
    let strip = |p: &Path| p.strip_prefix(datadir).map(Path::to_path_buf).ok();
    let upward = path.components().any(|c| c == Component::ParentDir); // as in log_bin = ../logs/bin
    if let Some(found) = strip(path).filter(|_| !upward) {
        return Some(found);
    }
    if let Ok(real) = std::fs::canonicalize(path) {
        return strip(&real);
    }
    let parent = std::fs::canonicalize(path.parent()?).ok()?;
    strip(&parent.join(path.file_name()?))
}

/// The first file of innodb_data_file_path (`ibdata1:12M;ibdata2:50M:autoextend`).
fn system_file(path: &str) -> Result<String> {
    let refuse = |why: &str| {
        Error::permanent(format!(
            "innodb_data_file_path = \"{path}\": {why}; a physical seed needs plain file names there (ibdata1:12M:autoextend), or \
             use the method Mysqldump"
        ))
    };
    let files = path.split(';').map(|f| f.trim().split(':').next());
    let mut files = files.map(Option::unwrap_or_default);
    if files.clone().any(|f| f.contains('/')) {
        return Err(refuse("names a file in another directory"));
    }
    match files.next() {
        Some(first) if !first.is_empty() && !first.starts_with('.') => Ok(first.to_string()),
        _ => Err(refuse("names no file")),
    }
}

fn redo_log_option(server: Server) -> &'static str {
    if server.mysql_from(8, 0, 30) {
        "innodb_redo_log_capacity"
    } else {
        "innodb_log_file_size"
    }
}

fn options(of: &Variables, server: Server) -> Vec<(String, String)> {
    let mut names = OPTIONS.to_vec();
    // Otherwise the private server would make the redo log again in another size, and then the real one would.
    names.push(redo_log_option(server));
    if !server.mysql_from(8, 0, 0) {
        names.push("innodb_undo_tablespaces");
    }
    values(of, &names)
}

/// Those of `names` that have a value, with it. `(built-in)` is what the server shows for the list of stopwords that it is built with.
fn values(of: &Variables, names: &[&str]) -> Vec<(String, String)> {
    let option = |name: &&str| (name.to_string(), value(of, name).to_string());
    let all = names.iter().map(option);
    all.filter(|(_, value)| !value.is_empty() && value != "(built-in)")
        .collect()
}

/// Refuses settings that put parts of the data outside the data directory, where a swap of its content would tear them apart.
fn refuse_places(of: &Variables, datadir: &Path) -> Result<()> {
    for name in PLACES {
        let dir = value(of, name);
        let at = inside(&datadir.join(dir), datadir);
        // `./#innodb_temp/` and the like are the server's own and are made by it.
        let made = name == "innodb_temp_tablespaces_dir" || name == "rocksdb_datadir";
        if dir.is_empty() || at.as_deref() == Some(Path::new("")) || (at.is_some() && made) {
            continue;
        }
        return Err(Error::permanent(format!(
            "{name} = \"{dir}\" is not the data directory {}: a physical seed swaps the content of that directory only; remove \
             the setting and move its files, or use the method Mysqldump",
            datadir.display()
        )));
    }
    match value(of, "innodb_directories") {
        "" => Ok(()),
        more => Err(Error::permanent(format!(
            "innodb_directories = \"{more}\": tablespaces outside the data directory cannot be swapped; move them into it and \
             remove the setting, or use the method Mysqldump"
        ))),
    }
}

/// Refuses logs and tables that are encrypted by the server's settings: the keys of one host are not those of another.
fn refuse_encryption(of: &Variables) -> Result<()> {
    for name in ENCRYPTION {
        let set = value(of, name);
        let upper = set.to_ascii_uppercase();
        if !matches!(&*upper, "" | "OFF" | "0" | "FALSE") {
            return Err(Error::permanent(format!(
                "{name} = {set}: what is encrypted on one host cannot be read with the keys of another; set it to OFF and decrypt, \
                 or use the method Mysqldump"
            )));
        }
    }
    Ok(())
}

/// Refuses a target that is, or by its settings would be after its start, part of a cluster: that copies data by itself.
pub(super) fn refuse_cluster(of: &Variables) -> Result<()> {
    const GROUP: &str = "group_replication_group_name";
    let on = |name: &str| matches!(value(of, name), "ON" | "1" | "TRUE");
    let (name, what) = if on("wsrep_on") {
        ("wsrep_on", "a Galera cluster node")
    } else if !value(of, GROUP).is_empty() && on("group_replication_start_on_boot") {
        (GROUP, "a group replication member")
    } else {
        return Ok(());
    };
    Err(Error::permanent(format!(
        "{name} = {}: this server is {what}, which copies its data itself; take it out of the cluster first (remove the setting \
         from its my.cnf), or choose another target",
        value(of, name)
    )))
}

#[cfg(test)]
mod tests;

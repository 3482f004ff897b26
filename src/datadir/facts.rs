//! What is known of the local server's data directory, from its variables; kept in the record, so that every later stage
//! works while MySQL is down.

use super::origin::Table;
use super::refuse::{refuse_encryption, refuse_places};
use crate::error::{Error, Result};
use crate::mysql::{Flavour, Server, Version};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

/// Variables of a server by name, as SHOW GLOBAL VARIABLES or `mysqld --verbose --help` print them (`-` made `_`).
pub type Variables = BTreeMap<String, String>;

/// Files that the server keeps outside its data directory and that go aside in the swap: binary and relay logs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outside {
    /// Their directory.
    pub dir: PathBuf,
    /// Their names begin with this and a dot; or are exactly this.
    pub base: String,
}

/// The data directory and what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Symbolic links followed: what is renamed is inside, never the directory itself.
    pub datadir: PathBuf,
    /// Family and version.
    pub server: Server,
    /// The server's own program.
    pub program: PathBuf,
    /// Options that a private server needs to find its parts and to read the files: name and value.
    pub options: Vec<(String, String)>,
    /// First file of innodb_data_file_path: the one that every InnoDB server locks and cannot start without.
    pub system_file: String,
    /// innodb_page_size in bytes.
    pub page_size: String,
    /// lower_case_table_names
    pub lower_case: String,
    /// innodb_data_file_path
    pub data_file_path: String,
    /// Names at the top of the data directory that stay (logs of this host), and that no server needs (socket, pid file).
    pub keep: Vec<String>,
    /// See `keep`.
    pub drop: Vec<String>,
    /// Directories inside the data directory that settings name: the server does not make them.
    pub dirs: Vec<PathBuf>,
    /// Binary and relay logs elsewhere.
    pub outside: Vec<Outside>,
    /// Owner, group and mode of the data directory.
    pub uid: u32,
    /// See `uid`.
    pub gid: u32,
    /// See `uid`.
    pub mode: u32,
    /// Bytes in it when it was looked at, ours left out.
    pub bytes: u64,
    /// Files in it then.
    #[serde(default)]
    pub files: u64,
    /// server_id
    #[serde(default)]
    pub server_id: String,
    /// server_uuid; empty on MariaDB, and where only the settings are known.
    #[serde(default)]
    pub server_uuid: String,
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

impl Facts {
    /// The table of origins for this server.
    pub fn table(&self) -> Table<'_> {
        Table {
            flavour: self.server.flavour,
            keep: &self.keep,
            drop: &self.drop,
        }
    }

    /// From the variables of a server whose (resolved) data directory is `datadir`. Owner, size and staging directory are
    /// filled in by who has looked at the file system.
    ///
    /// # Errors
    /// Permanent: a setting that a physical copy cannot follow, with its value and the remedy.
    pub fn from_variables(
        of: &Variables,
        server: Server,
        datadir: &Path,
        program: &Path,
    ) -> Result<Self> {
        refuse_places(of, datadir)?;
        refuse_encryption(of)?;
        let data_file_path = value(of, "innodb_data_file_path");
        let mut facts = Self {
            datadir: datadir.to_path_buf(),
            server,
            program: program.to_path_buf(),
            options: options(of, server),
            system_file: system_file(data_file_path)?,
            page_size: value(of, "innodb_page_size").into(),
            lower_case: value(of, "lower_case_table_names").into(),
            data_file_path: data_file_path.into(),
            keep: Vec::new(),
            drop: Vec::new(),
            dirs: Vec::new(),
            outside: Vec::new(),
            uid: 0,
            gid: 0,
            mode: 0,
            bytes: 0,
            files: 0,
            server_id: value(of, "server_id").into(),
            server_uuid: value(of, "server_uuid").into(),
            staging: PathBuf::new(),
        };
        for name in ["log_error", "general_log_file", "slow_query_log_file"] {
            facts.sort_in(datadir, value(of, name), |f, n| f.keep.push(n));
        }
        for name in ["pid_file", "socket"] {
            facts.sort_in(datadir, value(of, name), |f, n| f.drop.push(n));
        }
        for name in [
            "tmpdir",
            "innodb_tmpdir",
            "slave_load_tmpdir",
            "replica_load_tmpdir",
        ] {
            for dir in value(of, name).split(':').filter(|d| !d.is_empty()) {
                facts.needs(&datadir.join(dir));
            }
        }
        // `ibtmp1:12M:autoextend` is made anew by each start, but not its directory.
        for file in value(of, "innodb_temp_data_file_path").split(';') {
            let file = Path::new(file.split(':').next().unwrap_or_default());
            if let Some(dir) = file.parent().filter(|d| *d != Path::new("")) {
                facts.needs(&datadir.join(dir));
            }
        }
        let first = |names: [&str; 2]| {
            let set = names
                .map(|n| value(of, n))
                .into_iter()
                .find(|v| !v.is_empty());
            set.unwrap_or_default().to_string()
        };
        // `log_bin` is ON or OFF where a running server says it, the base name where its help does.
        let bases = [
            (
                first(["log_bin_basename", "log_bin"]),
                value(of, "log_bin_index"),
            ),
            (
                first(["relay_log_basename", "relay_log"]),
                value(of, "relay_log_index"),
            ),
        ];
        for (base, index) in bases {
            if matches!(base.as_str(), "ON" | "OFF" | "1" | "0") {
                continue;
            }
            for file in [base.as_str(), index].into_iter().filter(|f| !f.is_empty()) {
                facts.log_at(&datadir.join(file))?;
            }
        }
        Ok(facts)
    }

    /// That `source` is another server, as far as that is known.
    ///
    /// # Errors
    /// Permanent: the same server_uuid or server_id.
    pub fn differs_from(&self, source: &Self) -> Result<()> {
        if !self.server_uuid.is_empty() && self.server_uuid == source.server_uuid {
            return Err(Error::permanent(format!(
                "source and target have the same server_uuid = {}: it is the same server, or a copy of it; in the latter case remove \
                 auto.cnf here and restart MySQL",
                self.server_uuid
            )));
        }
        if !self.server_id.is_empty() && self.server_id == source.server_id {
            return Err(Error::permanent(format!(
                "source and target have the same server_id = {}: give each its own in its my.cnf",
                self.server_id
            )));
        }
        Ok(())
    }

    /// A MySQL server about which nothing is known.
    #[cfg(test)]
    pub(super) fn for_test() -> Self {
        let server = Server {
            flavour: Flavour::MySql,
            version: Version(9, 7, 4),
        };
        let of = Variables::from([("innodb_data_file_path".into(), "ibdata1:12M".into())]);
        Self::from_variables(&of, server, Path::new("/no/such"), Path::new("/bin/false")).unwrap()
    }

    fn sort_in(&mut self, datadir: &Path, file: &str, put: impl FnOnce(&mut Self, String)) {
        if file.is_empty() || file == "stderr" {
            return;
        }
        let Some(inside) = inside(&datadir.join(file), datadir) else {
            return;
        };
        let mut parts = inside.iter();
        match (parts.next().and_then(|n| n.to_str()), parts.next()) {
            (Some(name), None) => put(self, name.to_string()),
            (Some(_), Some(_)) => self.needs(datadir.join(&inside).parent().unwrap_or(datadir)),
            _ => {}
        }
    }

    /// A directory that must be there when the server starts, if it lies inside the data directory.
    fn needs(&mut self, dir: &Path) {
        if let Some(inside) = inside(dir, &self.datadir)
            && inside != Path::new("")
            && !self.dirs.contains(&inside)
        {
            self.dirs.push(inside);
        }
    }

    fn log_at(&mut self, file: &Path) -> Result<()> {
        let (Some(dir), Some(base)) = (file.parent(), file.file_name().and_then(|n| n.to_str()))
        else {
            return Err(Error::permanent(format!(
                "log_bin or relay_log = \"{}\" is no file name: set it to a path",
                file.display()
            )));
        };
        if inside(dir, &self.datadir).is_some() {
            self.needs(dir);
            return Ok(());
        }
        // What an index is called when it has no name of its own is covered by the base's dot.
        let outside = Outside {
            dir: std::fs::canonicalize(dir).unwrap_or_else(|_| dir.to_path_buf()),
            base: base.to_string(),
        };
        let covers = |o: &Outside| {
            let rest = outside.base.strip_prefix(&o.base);
            o.dir == outside.dir && rest.is_some_and(|r| r.is_empty() || r.starts_with('.'))
        };
        if !self.outside.iter().any(covers) {
            self.outside.push(outside);
        }
        Ok(())
    }

    /// That a copy of `source` can run here.
    ///
    /// # Errors
    /// Permanent: what differs, with both values.
    pub fn accepts(&self, source: &Self) -> Result<()> {
        if self.server.flavour != source.server.flavour {
            return Err(Error::permanent(format!(
                "the source is {} and this server is {}: a physical copy needs one family",
                source.server.flavour, self.server.flavour
            )));
        }
        let series = |v: Version| (v.0, v.1);
        if series(self.server.version) != series(source.server.version) {
            return Err(Error::permanent(format!(
                "the source runs {} and this server {}: a physical copy needs the same series; install the source's, or use \
                 the method Mysqldump",
                source.server.version, self.server.version
            )));
        }
        for (name, own, other) in [
            ("innodb_page_size", &self.page_size, &source.page_size),
            (
                "lower_case_table_names",
                &self.lower_case,
                &source.lower_case,
            ),
            (
                "innodb_data_file_path",
                &self.data_file_path,
                &source.data_file_path,
            ),
        ] {
            if own != other {
                return Err(Error::permanent(format!(
                    "{name} = {own} here and {other} on the source: set it to {other} in this server's my.cnf (the copy brings \
                     its own data files), or use the method Mysqldump"
                )));
            }
        }
        Ok(())
    }
}

/// `path` relative to `datadir`, by name or after following links; `None` if it is elsewhere.
pub(super) fn inside(path: &Path, datadir: &Path) -> Option<PathBuf> {
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
    let mut files = path
        .split(';')
        .map(|f| f.trim().split(':').next().unwrap_or_default());
    if files.clone().any(|f| f.contains('/')) {
        return Err(refuse("names a file in another directory"));
    }
    match files.next() {
        Some(first) if !first.is_empty() && !first.starts_with('.') => Ok(first.to_string()),
        _ => Err(refuse("names no file")),
    }
}

/// What a private server must be told, so that it finds its parts and reads these files as the real one does.
fn options(of: &Variables, server: Server) -> Vec<(String, String)> {
    let maria = server.flavour == Flavour::MariaDb;
    let mut names = vec![
        "basedir",
        "plugin_dir",
        "lc_messages_dir",
        "character_sets_dir",
        "innodb_page_size",
        "innodb_data_file_path",
        "lower_case_table_names",
    ];
    // Or the start of the private server would make the redo log anew in another size, and the real one would again.
    names.push(if !maria && server.version >= Version(8, 0, 30) {
        "innodb_redo_log_capacity"
    } else {
        "innodb_log_file_size"
    });
    if maria || server.version < Version(8, 0, 0) {
        names.push("innodb_undo_tablespaces");
    }
    let set = |name: &&str| (name.to_string(), value(of, name).to_string());
    names
        .iter()
        .map(set)
        .filter(|(_, v)| !v.is_empty())
        .collect()
}

#[cfg(test)]
mod tests;

//! What is known of the local server's data directory, from its variables; kept in the record, so that every later stage
//! works while MySQL is down.

use super::origin::Table;
use crate::error::{Error, Result};
use crate::mysql::{Flavour, Server, Version};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

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
    /// Where staging directories are made.
    pub staging: PathBuf,
}

/// A value, empty for unknown ones and for those that `--verbose --help` shows as unset.
fn value<'a>(of: &'a Variables, name: &str) -> &'a str {
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
        if !self.outside.contains(&outside) {
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
fn inside(path: &Path, datadir: &Path) -> Option<PathBuf> {
    let strip = |p: &Path| p.strip_prefix(datadir).map(Path::to_path_buf).ok();
    if let Some(found) = strip(path) {
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

/// Refuses settings that put parts of the data outside the data directory, where a swap of its content would tear them apart.
fn refuse_places(of: &Variables, datadir: &Path) -> Result<()> {
    for name in [
        "innodb_data_home_dir",
        "innodb_log_group_home_dir",
        "innodb_undo_directory",
        "innodb_doublewrite_dir",
        "innodb_temp_tablespaces_dir",
        "aria_log_dir_path",
        "rocksdb_datadir",
        "tokudb_data_dir",
    ] {
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
    let more = value(of, "innodb_directories");
    if !more.is_empty() {
        return Err(Error::permanent(format!(
            "innodb_directories = \"{more}\": tablespaces outside the data directory cannot be swapped; move them into it and \
             remove the setting, or use the method Mysqldump"
        )));
    }
    Ok(())
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

//! Where a server's binary and relay logs are: by its own variables and index files, or, while it is down, by names in its data directory.

use super::info;
use crate::error::{Error, OnPath, Result};
use mysql::Conn;
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Binary,
    Relay,
}

impl Kind {
    fn index_variable(self) -> &'static str {
        match self {
            Self::Binary => "log_bin_index",
            Self::Relay => "relay_log_index",
        }
    }

    fn base_variable(self) -> &'static str {
        match self {
            Self::Binary => "log_bin_basename",
            Self::Relay => "relay_log_basename",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Binary => "binary log",
            Self::Relay => "relay log",
        }
    }
}

/// Where the logs of one kind are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// The index file, that of the default channel.
    index: PathBuf,
    /// The directory of the logs that the index names without one.
    dir: PathBuf,
}

/// As the server's variables say; `None`: the server has no such logs. Its relative names are below its data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Places {
    binary: Option<Place>,
    relay: Option<Place>,
}

impl Places {
    /// Queries the server.
    pub(crate) fn query(conn: &mut Conn) -> Result<Self> {
        let datadir = info::global(conn, "datadir")?.unwrap_or_default();
        let datadir = Path::new(&datadir);
        let mut place = |kind: Kind| -> Result<Option<Place>> {
            let mut value = |name| -> Result<Option<PathBuf>> {
                let value = info::global(conn, name)?.filter(|v| !v.is_empty());
                Ok(value.map(|v| datadir.join(v)))
            };
            let base = value(kind.base_variable())?;
            let index = value(kind.index_variable())?;
            // MariaDB before its first use of a relay log shows the base name only.
            let by_base = || base.as_ref().map(|base| base.with_extension("index"));
            let index = index.or_else(by_base);
            Ok(index.map(|index| {
                let dir = base.as_deref().and_then(Path::parent);
                let dir = dir.unwrap_or(datadir).to_path_buf();
                Place { index, dir }
            }))
        };
        Ok(Self {
            binary: place(Kind::Binary)?,
            relay: place(Kind::Relay)?,
        })
    }

    fn of(&self, kind: Kind) -> Option<&Place> {
        match kind {
            Kind::Binary => self.binary.as_ref(),
            Kind::Relay => self.relay.as_ref(),
        }
    }
}

/// An index file and the logs that it names, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Index {
    pub(crate) path: PathBuf,
    pub(crate) logs: Vec<PathBuf>,
}

impl Index {
    fn read(path: PathBuf, dir: &Path) -> Result<Self> {
        let text = std::fs::read(&path).on(&path)?;
        let text = String::from_utf8_lossy(&text);
        let lines = text.lines().map(str::trim).filter(|l| !l.is_empty());
        let log = |line: &str| match Path::new(line).file_name() {
            Some(name) if !line.starts_with('/') => dir.join(name),
            _ => PathBuf::from(line),
        };
        let logs = lines.map(log).collect();
        Ok(Self { path, logs })
    }

    /// The logs from the one on that is called so, by its base name or in full.
    fn from(&self, log: &str) -> Option<&[PathBuf]> {
        let is = |path: &PathBuf| {
            path.to_str() == Some(log) || path.file_name().and_then(|n| n.to_str()) == Some(log)
        };
        let at = self.logs.iter().position(is)?;
        Some(&self.logs[at..])
    }
}

/// The index files of one kind, that of the default channel first; at least one. `places` is what the server has said, `None` if it has
/// never answered: then they are searched in `datadir`.
///
/// # Errors
/// There is none, or one cannot be read.
pub(crate) fn indexes(kind: Kind, places: Option<&Places>, datadir: &Path) -> Result<Vec<Index>> {
    let (found, dir, searched) = match places.map(|places| places.of(kind)) {
        Some(Some(place)) => {
            let of_channels = place.index.parent().map(|dir| names(dir, &place.index));
            let mut all = of_channels.transpose()?.unwrap_or_default();
            all.retain(|path| *path != place.index);
            all.extend(place.index.exists().then(|| place.index.clone()));
            (all, &place.dir, place.index.display().to_string())
        }
        Some(None) => {
            let text = match kind {
                Kind::Binary => "this server writes no binary log (log_bin = OFF)",
                Kind::Relay => "this server has no relay log: it is not a replica",
            };
            return Err(Error::permanent(text));
        }
        None => {
            let pattern = match kind {
                Kind::Binary => "*.index",
                Kind::Relay => "*relay*.index",
            };
            let searched = format!("{}/{pattern}, and MySQL does not answer", datadir.display());
            (search(kind, datadir)?, &datadir.to_path_buf(), searched)
        }
    };
    if found.is_empty() {
        let text = format!("no index of a {} was found ({searched})", kind.name());
        return Err(Error::permanent(text));
    }
    let mut found = found;
    // The names of other channels are longer: relay.index, relay-CHANNEL.index.
    found.sort_by_key(|path| (path.as_os_str().len(), path.clone()));
    let read = found.into_iter().map(|path| Index::read(path, dir));
    read.collect()
}

/// Index files next to `default` that channels with a name have: `relay-CHANNEL.index` (MySQL manual, "Replication Channel Naming";
/// MariaDB, "Multi-Source Replication").
fn names(dir: &Path, default: &Path) -> Result<Vec<PathBuf>> {
    let stem = default.file_stem().and_then(|s| s.to_str());
    let prefix = format!("{}-", stem.unwrap_or_default());
    let is = |path: &Path| {
        let name = path.file_name().and_then(|n| n.to_str());
        name.is_some_and(|n| n.starts_with(&prefix)) && path.extension() == default.extension()
    };
    entries(dir, is)
}

fn search(kind: Kind, datadir: &Path) -> Result<Vec<PathBuf>> {
    if datadir.as_os_str().is_empty() {
        return Err(Error::transient(
            "MySQL does not answer, so the place of its logs is not known: start it, or set mysql.datadir",
        ));
    }
    let is = |path: &Path| {
        let name = path.file_name().and_then(|n| n.to_str());
        let name = name.and_then(|n| n.strip_suffix(".index"));
        name.is_some_and(|n| n.contains("relay") == (kind == Kind::Relay))
    };
    entries(datadir, is)
}

fn entries(dir: &Path, is: impl Fn(&Path) -> bool) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).on(dir)? {
        let path = entry.on(dir)?.path();
        if is(&path) {
            found.push(path);
        }
    }
    Ok(found)
}

/// The logs from the one on that is called `log` in one of `indexes`.
pub(crate) fn from<'a>(indexes: &'a [Index], log: &str) -> Option<&'a [PathBuf]> {
    indexes.iter().find_map(|index| index.from(log))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let id = std::process::id();
            let dir = std::env::temp_dir().join(format!("oa-logs-{name}-{id}"));
            fs::create_dir_all(&dir).unwrap();
            for (name, text) in files {
                fs::write(dir.join(name), text).unwrap();
            }
            Self(dir)
        }

        fn places(&self, index: &str) -> Places {
            Places {
                binary: None,
                relay: Some(Place {
                    index: self.0.join(index),
                    dir: self.0.clone(),
                }),
            }
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    const FILES: [(&str, &str); 5] = [
        (
            "relay-eu.index",
            "./relay-eu.000001\n/else/relay-eu.000002\n",
        ),
        ("relay.index", "./relay.000008\n\n./relay.000009\n"),
        ("binlog.index", "./binlog.000001\n"),
        ("relay.info", ""),
        ("relay.000008", ""),
    ];

    #[test]
    fn the_default_channel_is_first_with_and_without_the_server() {
        let dir = Dir::new("channels", &FILES);
        let places = dir.places("relay.index");
        for places in [Some(&places), None] {
            let found = indexes(Kind::Relay, places, &dir.0).unwrap();
            let paths: Vec<_> = found.iter().map(|i| i.path.clone()).collect();
            let expected = ["relay.index", "relay-eu.index"].map(|n| dir.0.join(n));
            assert_eq!(paths, expected);
            let logs = ["relay.000008", "relay.000009"].map(|n| dir.0.join(n));
            assert_eq!(found[0].logs, logs);
            assert_eq!(found[1].logs[1], Path::new("/else/relay-eu.000002"));
            assert_eq!(from(&found, "relay.000009").unwrap(), &logs[1..]);
            let full = logs[0].display().to_string();
            assert_eq!(from(&found, &full).unwrap(), &logs);
            for outside in [
                "",
                "/etc/passwd",
                "../relay.000008",
                "./relay.000008",
                "relay.info",
                "--help",
            ] {
                assert_eq!(from(&found, outside), None, "{outside}");
            }
        }
        let found = indexes(Kind::Binary, None, &dir.0).unwrap();
        assert_eq!(found[0].path, dir.0.join("binlog.index"));
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn a_server_with_named_channels_only_and_one_without_logs() {
        let dir = Dir::new("named", &FILES[..1]);
        let places = dir.places("relay.index");
        let found = indexes(Kind::Relay, Some(&places), &dir.0).unwrap();
        assert_eq!(found[0].path, dir.0.join("relay-eu.index"));
        let none = indexes(Kind::Binary, Some(&places), &dir.0).unwrap_err();
        assert!(none.to_string().contains("log_bin = OFF"), "{none}");
        let empty = Dir::new("empty", &[]);
        for places in [Some(empty.places("relay.index")), None] {
            let e = indexes(Kind::Relay, places.as_ref(), &empty.0).unwrap_err();
            assert!(e.to_string().contains("no index of a relay log"), "{e}");
        }
        let e = indexes(Kind::Relay, None, Path::new("")).unwrap_err();
        assert!(e.to_string().contains("mysql.datadir"), "{e}");
    }
}

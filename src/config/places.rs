//! Which files are read: the one that is named, else TOML's, else the JSON files of the Go agent of the classic protocol in its order.

use crate::sys::process::effective_uid;
use std::fs::{File as Handle, Metadata};
use std::io::{ErrorKind, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Where the Go agents' file is too.
const DEFAULT_PATH: &str = "/etc/orchestrator-agent.conf";

pub(super) struct File {
    pub(super) name: String,
    pub(super) text: String,
    /// Every user can read it.
    pub(super) is_open: bool,
}

/// What is read.
pub(super) struct Found {
    /// One of TOML; or of JSON one or more, of which each overrides the earlier ones.
    pub(super) files: Vec<File>,
    pub(super) is_json: bool,
    /// Files that are ignored.
    pub(super) warnings: Vec<String>,
}

/// Why nothing is read.
pub(super) struct Unreadable {
    pub(super) file: String,
    pub(super) why: String,
    pub(super) warnings: Vec<String>,
}

/// Where the files are unless one is named.
pub(super) struct Places {
    pub(super) toml: PathBuf,
    pub(super) json: PathBuf,
    /// Where the Go agent reads two more.
    pub(super) working_dir: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            toml: DEFAULT_PATH.into(),
            json: "/etc/orchestrator-agent.conf.json".into(),
            working_dir: PathBuf::new(),
        }
    }
}

impl Places {
    pub(super) fn find(&self, named: Option<&Path>) -> Result<Found, Unreadable> {
        let (toml, by) = match named {
            Some(path) => (path, "it is named by --config"),
            None => (self.toml.as_path(), "it takes precedence"),
        };
        if named.is_some() || std::fs::symlink_metadata(toml).is_ok() {
            let file = read(toml).map_err(|why| unreadable(toml, why, Vec::new()))?;
            let is_json = is_json(toml, &file.text);
            let others = if named.is_some() && is_json {
                vec![self.toml.clone()]
            } else {
                self.all_json().to_vec()
            };
            let ignored = |other: PathBuf| {
                let other = other.display();
                format!(
                    "{other} is ignored, because {} is used: {by}",
                    toml.display()
                )
            };
            let others = others.into_iter().filter(|p| p != toml && p.exists());
            return Ok(Found {
                warnings: others.map(ignored).collect(),
                files: vec![file],
                is_json,
            });
        }
        self.find_json()
    }

    fn find_json(&self) -> Result<Found, Unreadable> {
        let (mut files, mut warnings) = (Vec::new(), Vec::new());
        for path in self
            .all_json()
            .iter()
            .filter(|p| std::fs::symlink_metadata(p).is_ok())
        {
            let is_below = *path != self.json;
            let mut ignored =
                |why: String| warnings.push(format!("{} is ignored: {why}", path.display()));
            if is_below && let Err(why) = self.check_trusted(path) {
                ignored(why);
                continue;
            }
            let opened = open(path);
            if is_below
                && let Ok(handle) = &opened
                && let Err(why) = check_opened(handle)
            {
                ignored(why);
                continue;
            }
            match opened.and_then(|handle| read_opened(path, handle)) {
                Ok(file) => files.push(file),
                Err(why) => return Err(unreadable(path, why, warnings)),
            }
        }
        if files.is_empty() {
            let why = read(&self.toml).err().unwrap_or_default();
            return Err(unreadable(&self.toml, why, warnings));
        }
        Ok(Found {
            files,
            is_json: true,
            warnings,
        })
    }

    /// In the order in which they are read.
    fn all_json(&self) -> [PathBuf; 3] {
        [
            self.json.clone(),
            self.working_dir.join("conf/orchestrator-agent.conf.json"),
            self.working_dir.join("orchestrator-agent.conf.json"),
        ]
    }

    /// A file below the working directory is trusted if no other user can have put it there or changed it.
    fn check_trusted(&self, path: &Path) -> Result<(), String> {
        let mut dirs = vec![self.working_dir.as_path()];
        dirs.extend(path.parent().filter(|dir| *dir != self.working_dir));
        for path in dirs.into_iter().chain([path]) {
            let path = if path.as_os_str().is_empty() {
                Path::new(".")
            } else {
                path
            };
            let meta = std::fs::metadata(path).map_err(|e| format!("{}: {e}", path.display()))?;
            check_owner(path, &meta, meta.mode())?;
        }
        Ok(())
    }
}

fn unreadable(path: &Path, why: String, warnings: Vec<String>) -> Unreadable {
    Unreadable {
        file: path.display().to_string(),
        why,
        warnings,
    }
}

/// The same for what was opened, which may be another file than the one that was checked, and for all directories that it is in: a
/// symbolic link may lead into those of another user.
fn check_opened(handle: &Handle) -> Result<(), String> {
    let link = PathBuf::from(format!("/proc/self/fd/{}", handle.as_raw_fd()));
    let failed = |path: &Path, e: std::io::Error| format!("{}: {e}", path.display());
    let path = std::fs::canonicalize(&link).map_err(|e| failed(&link, e))?;
    let meta = handle.metadata().map_err(|e| failed(&path, e))?;
    check_owner(&path, &meta, meta.mode())?;
    for dir in path.ancestors().skip(1) {
        let meta = std::fs::metadata(dir).map_err(|e| failed(dir, e))?;
        // In a directory such as /tmp only the owner of an entry can replace it.
        let is_sticky = meta.mode() & 0o1000 != 0;
        check_owner(dir, &meta, if is_sticky { 0 } else { meta.mode() })?;
    }
    Ok(())
}

fn check_owner(path: &Path, meta: &Metadata, mode: u32) -> Result<(), String> {
    let why = if meta.uid() != 0 && meta.uid() != effective_uid() {
        format!("belongs to user {}", meta.uid())
    } else if mode & 0o022 != 0 {
        "can be written to by other users".into()
    } else {
        return Ok(());
    };
    Err(format!(
        "{} {why}: let root or the agent's user own it and run chmod go-w on it, or name the file with --config",
        path.display()
    ))
}

fn is_json(path: &Path, text: &str) -> bool {
    let text = text.trim_start_matches('\u{feff}').trim_start();
    text.starts_with('{')
        || path
            .extension()
            .is_some_and(|e| e.eq_ignore_ascii_case("json"))
}

/// The file, or what is wrong with it and the remedy.
pub(super) fn read(path: &Path) -> Result<File, String> {
    read_opened(path, open(path)?)
}

fn open(path: &Path) -> Result<Handle, String> {
    Handle::open(path).map_err(failed)
}

fn failed(e: std::io::Error) -> String {
    let remedy = match e.kind() {
        ErrorKind::NotFound => {
            "create it from the sample orchestrator-agent.conf, or name another file with --config"
        }
        ErrorKind::PermissionDenied => {
            "let the user that runs the agent read it (chown or chmod), or name another file with --config"
        }
        ErrorKind::IsADirectory => "name the file itself with --config",
        _ => "the configuration cannot be read",
    };
    format!("{e}: {remedy}")
}

fn read_opened(path: &Path, mut handle: Handle) -> Result<File, String> {
    let mode = handle.metadata().map_err(failed)?.permissions().mode();
    let mut bytes = Vec::new();
    handle.read_to_end(&mut bytes).map_err(failed)?;
    let text = String::from_utf8(bytes).map_err(|e| {
        let good = e.utf8_error().valid_up_to();
        let line = e.as_bytes()[..good].iter().filter(|b| **b == b'\n').count() + 1;
        format!("line {line} is not UTF-8 text: save the file as UTF-8")
    })?;
    Ok(File {
        name: path.display().to_string(),
        text,
        is_open: mode & 0o004 != 0,
    })
}

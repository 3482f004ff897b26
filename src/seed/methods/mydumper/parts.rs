//! How a dump is loaded by myloader before 0.14, which knows no sql_mode and makes views before the functions that they use:
//! in three runs, over directories of links into the dump.

use crate::error::{Error, Result};
use std::fs;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};

/// One run of myloader.
#[derive(Debug, PartialEq, Eq)]
pub struct Part {
    /// What it reads.
    pub directory: PathBuf,
    /// True: rows, with zeros in AUTO_INCREMENT columns and dates as they are. False: objects with a body, under the
    /// session variables that such a dump does not say.
    pub rows: bool,
}

/// Which run a file belongs to: tables with their rows, routines and events, views and triggers.
fn run_of(name: &str) -> usize {
    let name = name.trim_end_matches(".gz").trim_end_matches(".zst");
    match name {
        _ if name.ends_with("-schema-post.sql") => 1,
        _ if name.ends_with("-schema-view.sql") || name.ends_with("-schema-triggers.sql") => 2,
        _ => 0,
    }
}

/// Links the dump's files into directories in `place`, which is made anew; runs without files are left out.
///
/// # Errors
/// If the dump cannot be read or a link cannot be made.
pub fn split(dump: &Path, place: &Path) -> Result<Vec<Part>> {
    remove(place)?;
    let fail = |path: &Path, e: &std::io::Error| Error::io(path.display(), e);
    let mut parts: Vec<Part> = Vec::new();
    let mut make = |n: usize| -> Result<PathBuf> {
        let directory = place.join(n.to_string());
        if !parts.iter().any(|p| p.directory == directory) {
            let made = fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&directory);
            made.map_err(|e| fail(&directory, &e))?;
            let link = directory.join("metadata");
            symlink(dump.join("metadata"), &link).map_err(|e| fail(&link, &e))?;
            parts.push(Part {
                directory: directory.clone(),
                rows: n == 0,
            });
        }
        Ok(directory)
    };
    for entry in fs::read_dir(dump).map_err(|e| fail(dump, &e))? {
        let file = entry.map_err(|e| fail(dump, &e))?.path();
        let Some(name) = file.file_name().filter(|n| *n != "metadata") else {
            continue;
        };
        let link = make(run_of(&name.to_string_lossy()))?.join(name);
        symlink(&file, &link).map_err(|e| fail(&link, &e))?;
    }
    parts.sort_by(|a, b| a.directory.cmp(&b.directory));
    Ok(parts)
}

/// Removes a directory with all that is in it, and never what a link in it points to. It may be missing.
///
/// # Errors
/// If something in it cannot be removed.
pub fn remove(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io(directory.display(), &e))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_is_in_one_run() {
        let place = std::env::temp_dir().join(format!("oa-parts-{}", std::process::id()));
        let dump = place.join("dump");
        fs::create_dir_all(&dump).unwrap();
        for name in [
            "metadata",
            "s-schema-create.sql",
            "s.t-schema.sql",
            "s.t.sql.gz",
            "s.v-schema.sql",
            "s.v-schema-view.sql.gz",
            "s.t-schema-triggers.sql",
        ] {
            fs::write(dump.join(name), "x").unwrap();
        }
        for _ in 0..2 {
            let parts = split(&dump, &place.join("parts")).unwrap();
            let names: Vec<Vec<String>> = parts
                .iter()
                .map(|p| {
                    let mut names: Vec<String> = fs::read_dir(&p.directory)
                        .unwrap()
                        .map(|e| e.unwrap().file_name().into_string().unwrap())
                        .collect();
                    names.sort();
                    names
                })
                .collect();
            assert_eq!(
                names,
                [
                    vec![
                        "metadata",
                        "s-schema-create.sql",
                        "s.t-schema.sql",
                        "s.t.sql.gz",
                        "s.v-schema.sql"
                    ],
                    vec![
                        "metadata",
                        "s.t-schema-triggers.sql",
                        "s.v-schema-view.sql.gz"
                    ],
                ]
            );
            assert_eq!([parts[0].rows, parts[1].rows], [true, false]);
        }
        remove(&place.join("parts")).unwrap();
        assert_eq!(fs::read_dir(&dump).unwrap().count(), 7, "links only");
        remove(&place).unwrap();
        remove(&place).unwrap();
    }
}

//! What is in a copy: metadata under every name that the tools have given them, compressed files, log sequence numbers.

use crate::coordinates::Coordinates;
use crate::coordinates::xtrabackup::parse_binlog_info;
use crate::error::{Error, Result};
use crate::mysql::Flavour;
use std::path::{Path, PathBuf};

/// Of Percona and of MariaDB before 11.1; of MariaDB since 11.1.
const PREFIXES: [&str; 2] = ["xtrabackup", "mariadb_backup"];
/// What `--compress` appends: qpress, lz4, zstd.
const COMPRESSED: [&str; 3] = ["qp", "lz4", "zst"];

/// The text of `xtrabackup_<name>` or `mariadb_backup_<name>`; `None` if there is neither.
///
/// # Errors
/// If it is there and cannot be read.
fn read(dir: &Path, name: &str) -> Result<Option<String>> {
    for prefix in PREFIXES {
        let path = dir.join(format!("{prefix}_{name}"));
        match std::fs::read_to_string(&path) {
            Ok(text) => return Ok(Some(text)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io(path.display(), &e)),
        }
    }
    Ok(None)
}

/// The source's coordinates at the moment of the copy. On MariaDB the GTID is the position of a replica, never an executed set.
///
/// # Errors
/// Permanent: no coordinates, or they cannot be parsed.
pub(super) fn coordinates(dir: &Path, flavour: Flavour) -> Result<Coordinates> {
    let Some(text) = read(dir, "binlog_info")? else {
        return Err(Error::permanent(
            "the copy has no coordinates (xtrabackup_binlog_info): the source must run with log_bin, and the backup must complete",
        ));
    };
    let found = parse_binlog_info(&text)?;
    let of_flavour = match flavour {
        Flavour::MariaDb => found.gtid_executed.is_empty(),
        Flavour::MySql => found.gtid_slave_pos.is_none(),
    };
    if of_flavour {
        return Ok(found);
    }
    Err(Error::permanent(format!(
        "the GTIDs in xtrabackup_binlog_info are not of {flavour}: {}",
        text.trim().chars().take(100).collect::<String>()
    )))
}

/// That the tool has completed: it writes this file last.
pub(super) fn check_complete(dir: &Path) -> Result<()> {
    match read(dir, "checkpoints")? {
        Some(text) if text.contains("backup_type") => Ok(()),
        _ => Err(Error::permanent(
            "the copy has no xtrabackup_checkpoints: the backup did not complete",
        )),
    }
}

/// The last log sequence number that `--prepare` has to come to.
pub(super) fn last_lsn(dir: &Path) -> Option<u64> {
    let text = read(dir, "checkpoints").ok()??;
    text.lines().find_map(|l| {
        l.strip_prefix("last_lsn")?
            .trim_start_matches([' ', '='])
            .trim()
            .parse()
            .ok()
    })
}

/// Compressed files below `dir`.
pub(super) fn compressed(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut todo = vec![dir.to_path_buf()];
    while let Some(dir) = todo.pop() {
        let fail = |e: std::io::Error| Error::io(dir.display(), &e);
        for entry in std::fs::read_dir(&dir).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let path = entry.path();
            if entry.file_type().map_err(fail)?.is_dir() {
                todo.push(path);
            } else if path
                .extension()
                .is_some_and(|e| COMPRESSED.iter().any(|c| e == *c))
            {
                found.push(path);
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir(name: &str) -> PathBuf {
        let d = std::env::temp_dir().join(format!("oa-copy-{name}-{}", std::process::id()));
        std::fs::create_dir_all(d.join("shop")).unwrap();
        d
    }

    #[test]
    fn coordinates_under_both_names_and_of_the_right_family() {
        for name in ["xtrabackup_binlog_info", "mariadb_backup_binlog_info"] {
            let d = dir(name);
            assert!(
                coordinates(&d, Flavour::MariaDb)
                    .unwrap_err()
                    .to_string()
                    .contains("log_bin")
            );
            let write = |text: &str| std::fs::write(d.join(name), text).unwrap();
            write("binlog.000001\t1088\t0-5-5\n");
            let c = coordinates(&d, Flavour::MariaDb).unwrap();
            assert_eq!(
                (
                    c.log_pos,
                    c.gtid_slave_pos.as_deref(),
                    c.gtid_executed.as_str()
                ),
                (1088, Some("0-5-5"), "")
            );
            assert!(coordinates(&d, Flavour::MySql).is_err());
            write("binlog.000001\t1088\t\n");
            assert!(coordinates(&d, Flavour::MariaDb).is_ok());
            write(
                "binlog.000002\t157\t3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5,\n4e11fa47-71ca-11e1-9e33-c80aa9429562:1-7\n",
            );
            let c = coordinates(&d, Flavour::MySql).unwrap();
            assert!(c.gtid_executed.ends_with(":1-7"), "{c:?}");
            assert!(coordinates(&d, Flavour::MariaDb).is_err());
            write("");
            assert!(coordinates(&d, Flavour::MySql).is_err());
            std::fs::remove_dir_all(&d).unwrap();
        }
    }

    #[test]
    fn complete_copies_and_compressed_files() {
        let d = dir("complete");
        assert!(check_complete(&d).is_err());
        std::fs::write(
            d.join("mariadb_backup_checkpoints"),
            "backup_type = full-backuped\nfrom_lsn = 0\nto_lsn = 44894\nlast_lsn = 5005462\n",
        )
        .unwrap();
        check_complete(&d).unwrap();
        assert_eq!(last_lsn(&d), Some(5_005_462));
        std::fs::write(d.join("shop/t.ibd.qp"), "").unwrap();
        std::fs::write(d.join("ibdata1.zst"), "").unwrap();
        std::fs::write(d.join("shop/u.ibd"), "").unwrap();
        assert_eq!(compressed(&d).unwrap().len(), 2);
        std::fs::remove_dir_all(&d).unwrap();
    }
}

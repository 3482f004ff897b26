//! Rows are loaded in strict mode: a value that a column cannot take is an error. myloader before 0.16.7 sets a sql_mode of its own
//! after the session's first statement; only the files with the rows can change it again, and their first lines are known.

use crate::error::{Error, OnPath, Result};
use std::fs::OpenOptions;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The variable of a session that holds [`STRICT`](crate::contents::row_mode::STRICT): the mode itself has no room in a file's first lines.
pub(super) const VARIABLE: &str = "@m";

/// How mydumper 0.10.1 begins a file with rows; the last line is missing with --skip-tz-utc.
const NAMES: &[u8] = b"/*!40101 SET NAMES binary*/;\n/*!40014 SET FOREIGN_KEY_CHECKS=0*/;\n";
const ZONE: &[u8] = b"/*!40103 SET TIME_ZONE='+00:00' */;\n";

/// Makes the files with rows in a dump by mydumper 0.10 set sql_mode to [`VARIABLE`] as well. Their length stays. May be repeated.
/// Fails if a file begins with something else: its rows could be changed by a load.
pub(super) fn set_in_files(dump: &Path) -> Result<()> {
    for entry in std::fs::read_dir(dump).on(dump)? {
        let path = entry.on(dump)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // Of tables whose names have this in them such a mydumper makes no dump that can be loaded.
        if name == "metadata" || name.contains("-schema") {
            continue;
        }
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).open(&path).on(&path)?;
        let mut head = [0; NAMES.len() + ZONE.len()];
        match file.read_exact(&mut head) {
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => continue, // a table without rows
            read => read.on(&path)?,
        }
        let new = first_line(&head).ok_or_else(|| {
            Error::permanent(format!(
                "{} does not begin as a file of mydumper 0.10 does: its rows would be loaded without strict mode",
                path.display()
            ))
        })?;
        file.write_all_at(&new, 0).on(&path)?;
    }
    Ok(())
}

/// What a file's first bytes become, which are `head`: as many bytes that mean the same and set sql_mode.
fn first_line(head: &[u8]) -> Option<Vec<u8>> {
    let (length, zone) = match head.strip_prefix(NAMES) {
        Some(rest) if rest.starts_with(ZONE) => (NAMES.len() + ZONE.len(), ",TIME_ZONE='+00:00'"),
        Some(_) => (NAMES.len(), ""),
        None if head.starts_with(b"SET NAMES binary,") => return Some(head.to_vec()),
        None => return None,
    };
    let text = format!("SET NAMES binary,FOREIGN_KEY_CHECKS=0{zone},SQL_MODE={VARIABLE}");
    // myloader takes a line that ends with a semicolon for the end of a statement.
    let line = format!("{text:0$};\n", length - 2);
    (line.len() == length).then(|| line.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_lines_keep_their_length_and_set_the_mode() {
        let with_zone = [NAMES, ZONE].concat();
        for (head, zone) in [(with_zone.as_slice(), true), (NAMES, false)] {
            let line = first_line(head).unwrap();
            assert_eq!(line.len(), head.len());
            let text = String::from_utf8(line.clone()).unwrap();
            assert!(
                text.starts_with("SET NAMES binary,FOREIGN_KEY_CHECKS=0,"),
                "{text}"
            );
            assert!(
                text.contains("SQL_MODE=@m") && text.ends_with(" ;\n"),
                "{text}"
            );
            assert_eq!(text.contains("TIME_ZONE='+00:00'"), zone);
            assert_eq!(first_line(&line), Some(line), "again");
        }
        assert_eq!(first_line(b"INSERT INTO t VALUES (1);\n"), None);
        assert_eq!(first_line(b"\x1f\x8b"), None, "compressed");
    }

    #[test]
    fn files_with_rows_are_changed_in_place() {
        let dump = std::env::temp_dir().join(format!("oa-strict-{}", std::process::id()));
        std::fs::create_dir_all(&dump).unwrap();
        let rows = [NAMES, ZONE, b"INSERT INTO `t` VALUES\n(1);\n"].concat();
        let schema = [NAMES, ZONE, b"CREATE TABLE `t` (id INT);\n"].concat();
        let write = |name: &str, text: &[u8]| std::fs::write(dump.join(name), text).unwrap();
        write("s.t.sql", &rows);
        write("s.t-schema.sql", &schema);
        write("metadata", b"Started dump at\n");
        for _ in 0..2 {
            set_in_files(&dump).unwrap();
            let read = |name: &str| std::fs::read(dump.join(name)).unwrap();
            assert_eq!(read("s.t-schema.sql"), schema);
            assert!(read("s.t.sql").ends_with(b" ;\nINSERT INTO `t` VALUES\n(1);\n"));
            assert_eq!(read("s.t.sql").len(), rows.len());
        }
        write("s.u.sql", &[b'x'; 200]);
        let e = set_in_files(&dump).unwrap_err().to_string();
        assert!(e.contains("s.u.sql") && e.contains("strict mode"), "{e}");
        std::fs::remove_dir_all(&dump).unwrap();
    }
}

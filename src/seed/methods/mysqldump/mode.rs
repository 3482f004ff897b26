//! The one statement of a dump that is not executed as it is written.

use std::io::{self, Chain, Cursor, Read};

/// Where the statement is, at most so many bytes from the beginning.
const HEAD: usize = 64 << 10;
/// How mysqldump and mariadb-dump set the session's mode for everything that has no mode of its own: rows and tables. Under it a value
/// that a column cannot take is changed, and dates that the source's rows hold by ALLOW_INVALID_DATES become 0000-00-00.
const MODE: &str = "SQL_MODE='NO_AUTO_VALUE_ON_ZERO' */;";

/// The dump with `mode` for its rows and tables. A script without that statement is not changed.
///
/// # Errors
/// If the dump cannot be read.
pub fn with_mode<R: Read>(mut dump: R, mode: &str) -> io::Result<Chain<Cursor<Vec<u8>>, R>> {
    let mut head = Vec::with_capacity(HEAD);
    dump.by_ref().take(HEAD as u64).read_to_end(&mut head)?;
    let at = head.windows(MODE.len()).position(|w| w == MODE.as_bytes());
    if let Some(at) = at {
        let wanted = format!("SQL_MODE='{mode}' */;");
        head.splice(at..at + MODE.len(), wanted.into_bytes());
    }
    Ok(Cursor::new(head).chain(dump))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_is_changed() {
        let line = format!("/*!40101 SET @OLD_SQL_MODE=@@SQL_MODE, {MODE}\n");
        let dump = format!("-- x\n{line}INSERT INTO t VALUES ('{MODE}');\n");
        let mut text = String::new();
        let mut changed = with_mode(dump.as_bytes(), "STRICT_ALL_TABLES").unwrap();
        changed.read_to_string(&mut text).unwrap();
        let wanted = "SQL_MODE='STRICT_ALL_TABLES' */;";
        assert_eq!(text, dump.replacen(MODE, wanted, 1));
        text.clear();
        let script = "-- x\nSELECT 1;\n";
        let mut same = with_mode(script.as_bytes(), "STRICT_ALL_TABLES").unwrap();
        same.read_to_string(&mut text).unwrap();
        assert_eq!(text, script);
    }
}

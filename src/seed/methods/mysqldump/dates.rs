//! The one statement of a dump that is not executed as it is written.

use std::io::{self, Chain, Cursor, Read};

/// Where the statement is, at most so many bytes from the beginning.
const HEAD: usize = 64 << 10;
/// How mysqldump and mariadb-dump set the session's mode for everything that has no mode of its own: rows and tables.
const MODE: &str = "SQL_MODE='NO_AUTO_VALUE_ON_ZERO' */;";
/// Under that mode dates that the source's rows hold by ALLOW_INVALID_DATES, such as 2021-02-31, would become 0000-00-00.
const WANTED: &str = "SQL_MODE='NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES' */;";

/// The dump with a mode that takes all dates which a server can hold. A script without that statement stays as it is.
///
/// # Errors
/// If the dump cannot be read.
pub fn with_all_dates<R: Read>(mut dump: R) -> io::Result<Chain<Cursor<Vec<u8>>, R>> {
    let mut head = Vec::with_capacity(HEAD);
    dump.by_ref().take(HEAD as u64).read_to_end(&mut head)?;
    let at = head.windows(MODE.len()).position(|w| w == MODE.as_bytes());
    if let Some(at) = at {
        head.splice(at..at + MODE.len(), WANTED.bytes());
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
        let mut changed = with_all_dates(dump.as_bytes()).unwrap();
        changed.read_to_string(&mut text).unwrap();
        assert_eq!(text, dump.replacen(MODE, WANTED, 1));
        text.clear();
        let script = "-- x\nSELECT 1;\n";
        let mut same = with_all_dates(script.as_bytes()).unwrap();
        same.read_to_string(&mut text).unwrap();
        assert_eq!(text, script);
    }
}

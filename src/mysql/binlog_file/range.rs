//! A range of events as a log of its own.

use super::{BUFFER, Events, MAGIC, invalid, kind, server_of};
use crate::error::{Error, OnPath, Result};
use crate::mysql::Server;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufReader, Cursor, ErrorKind, Read};
use std::path::{Path, PathBuf};

type FileEvents = Events<BufReader<File>>;

fn open_file(path: &Path) -> io::Result<FileEvents> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    let from = BufReader::with_capacity(BUFFER, file);
    Events::open(from, path.display().to_string(), Some(size))
}

/// Header events that a log needs which begins later: the last format description, and MariaDB's last list of GTIDs, without which
/// mariadb-binlog 10.8 and later rejects the list of a file that follows.
#[derive(Default)]
struct Carried {
    format: Vec<u8>,
    gtid_list: Vec<u8>,
}

impl FileEvents {
    /// Goes on to the event that begins at `position`, or to the end of the file. Returns the header events before it.
    ///
    /// # Errors
    /// `what` is in the middle of an event, or beyond the last complete one.
    fn go_to(&mut self, position: u64, what: &str) -> io::Result<Carried> {
        let mut carried = Carried::default();
        loop {
            self.skip()?;
            let here = self.at;
            if here == position {
                return Ok(carried);
            }
            let event = self.next()?;
            let name = &self.name;
            let text = match event {
                Some(_) if here > position => format!(
                    "{what} {position} is before the first event of {name}, which begins at {here}"
                ),
                Some(e) if e.end() > position => format!(
                    "{what} {position} is in the middle of an event of {name}, which begins at {} and ends at {}",
                    e.at,
                    e.end()
                ),
                None => format!(
                    "{what} {position} is beyond the last event of {name}, which ends at {here}"
                ),
                Some(e) => {
                    let kept = match e.kind() {
                        kind::FORMAT_DESCRIPTION => &mut carried.format,
                        kind::MARIA_GTID_LIST => &mut carried.gtid_list,
                        _ => continue,
                    };
                    *kept = e.header.to_vec();
                    kept.extend(self.body()?);
                    continue;
                }
            };
            return Err(invalid(text));
        }
    }
}

/// The server that has written the file at `path`, by its first event.
///
/// # Errors
/// It cannot be read, is not a binary log, or is encrypted.
pub(crate) fn written_by(path: &Path) -> Result<Server> {
    let first = || {
        let mut events = open_file(path)?;
        let format = match events.next()? {
            Some(e) if e.kind() == kind::FORMAT_DESCRIPTION => events.body()?,
            _ => Vec::new(),
        };
        events.next()?;
        events.next()?; // of an encrypted one it is an error
        let unknown = || invalid("it does not begin with a format description (version 4)".into());
        server_of(&format).ok_or_else(unknown)
    };
    first().on(path).map_err(readable)
}

/// With the remedy.
fn readable(e: Error) -> Error {
    match &e {
        Error::Io(ErrorKind::PermissionDenied, _) => {
            e.noted("add the agent's user to the group of MySQL's files (group mysql), or run the agent as MySQL's user")
        }
        _ => e,
    }
}

/// A range of events of one or more logs, read as one log: what follows the first has no four bytes at its beginning, but its own format
/// description.
pub(crate) struct Range {
    /// Comes first.
    pending: Cursor<Vec<u8>>,
    current: FileEvents,
    rest: VecDeque<PathBuf>,
    /// Position in the last file.
    stop: Option<u64>,
}

impl Range {
    /// From the event at `start` of the first file (`None`: from its beginning) to the one at `stop` of the last one (`None`: to the last
    /// one that is complete).
    ///
    /// # Errors
    /// A file cannot be read or is not a log that can be read; a position is not the boundary of an event.
    pub(crate) fn open(files: &[PathBuf], start: Option<u64>, stop: Option<u64>) -> Result<Self> {
        let (Some(first), Some(last)) = (files.first(), files.last()) else {
            return Err(Error::permanent("no log is named"));
        };
        for file in files {
            written_by(file)?;
        }
        if let Some(stop) = stop {
            let end = open_file(last).and_then(|mut f| f.go_to(stop, "stop"));
            end.on(last).map_err(readable)?;
        }
        if let (Some(start), Some(stop), 1) = (start, stop, files.len())
            && start > stop
        {
            let text = format!("start {start} is after stop {stop}");
            return Err(Error::permanent(text));
        }
        let opened = open_file(first).and_then(|mut f| {
            let carried = start.map(|start| f.go_to(start, "start")).transpose()?;
            Ok((f, carried.unwrap_or_default()))
        });
        let (current, carried) = opened.on(first).map_err(readable)?;
        let pending = [MAGIC.to_vec(), carried.format, carried.gtid_list].concat();
        Ok(Self {
            pending: Cursor::new(pending),
            current,
            rest: files[1..].iter().cloned().collect(),
            stop,
        })
    }

    /// Goes on to the next event, perhaps of the next file: its header is pending. False at the end.
    fn advance(&mut self) -> io::Result<bool> {
        loop {
            let at_stop = self.rest.is_empty() && self.stop == Some(self.current.at);
            if at_stop {
                return Ok(false);
            }
            if let Some(event) = self.current.next()? {
                self.pending = Cursor::new(event.header.to_vec());
                return Ok(true);
            }
            let Some(next) = self.rest.pop_front() else {
                return Ok(false);
            };
            if self.current.size != Some(self.current.at) {
                return Err(self.current.cut_short());
            }
            self.current = open_file(&next)?;
        }
    }
}

impl Read for Range {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.pending.read(buf)?;
        if n > 0 || buf.is_empty() {
            return Ok(n);
        }
        let current = &mut self.current;
        if current.left > 0 {
            let n = current.from.by_ref().take(current.left).read(buf)?;
            current.left -= n as u64;
            current.at += n as u64;
            return if n == 0 {
                Err(current.cut_short())
            } else {
                Ok(n)
            };
        }
        if self.advance()? {
            return self.pending.read(buf);
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::*;
    use super::*;
    use std::fs;

    #[test]
    fn a_range_has_the_header_events_before_it() {
        let dir = std::env::temp_dir().join(format!("oa-range-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let [first, second] = ["first", "second"].map(|n| dir.join(n));
        let own = [format(MYSQL), event(kind::ROTATE, b"x"), format("8.4.0")];
        let events = [query("one"), query("two"), query("three")];
        let begin = log(&own).len() as u64;
        let one = events[0].len() as u64;
        fs::write(&first, [log(&own), events.concat()].concat()).unwrap();
        // Its last event is still being written.
        let next = [log(&[format(MYSQL), query("four")]), vec![1; 25]].concat();
        fs::write(&second, &next).unwrap();
        let files = [first.clone(), second.clone()];
        let read = |files: &[PathBuf], start, stop| -> Result<Vec<u8>> {
            let mut bytes = Vec::new();
            let mut range = Range::open(files, start, stop)?;
            range.read_to_end(&mut bytes).on("range").map(|_| bytes)
        };
        let complete = &next[4..next.len() - 25];
        let whole = [log(&own), events.concat(), complete.to_vec()].concat();
        assert_eq!(read(&files, None, None).unwrap(), whole);
        let tail = [
            log(&[format("8.4.0")]),
            events[1..].concat(),
            complete.to_vec(),
        ];
        assert_eq!(
            read(&files, Some(begin + one), None).unwrap(),
            tail.concat()
        );
        let middle = read(&files[..1], Some(begin), Some(begin + one));
        assert_eq!(middle.unwrap(), log(&[format("8.4.0"), events[0].clone()]));
        let end = fs::metadata(&first).unwrap().len();
        assert_eq!(
            read(&files[..1], Some(end), None).unwrap(),
            log(&[format("8.4.0")])
        );
        for (start, stop, why) in [
            (begin + 1, 0, "in the middle of an event"),
            (3, 0, "before the first event"),
            (end + 1, 0, "beyond the last event"),
            (begin, begin + 1, "stop"),
            (begin + one, begin, "is after stop"),
        ] {
            let stop = Some(stop).filter(|n| *n != 0);
            let e = read(&files[..1], Some(start), stop).unwrap_err();
            assert!(e.to_string().contains(why), "{why}: {e}");
        }
        let e = read(&[second, first], None, None).unwrap_err();
        assert!(e.to_string().contains("ends within the event"), "{e}");
        fs::remove_dir_all(&dir).unwrap();
    }
}

//! What the clients of a load read: the main one the text of the dump, the others a part of the rows.

use super::lock;
use crate::mysql::Flavour;
use crate::process::Cancel;
use crate::seed::methods::mysqldump::script::{Script, Step};
use crossbeam_channel::{Receiver, Sender, bounded, select};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};

/// Goes before everything else in each session: nothing of the load is written to the target's binary log, and the first line
/// of output is the connection's number.
pub(super) const PROLOGUE: &str = "SET SESSION sql_log_bin = 0;\nSELECT CONNECTION_ID();\n";
/// For sessions that load into one table of a MariaDB server at the same time. With the dump's UNIQUE_CHECKS and
/// FOREIGN_KEY_CHECKS of 0 an INSERT into an empty table, or partition, locks the whole of it for a bulk load, after it has
/// announced itself there like any other: two at once are a deadlock (error 1213; from 10.6 on, seen on 10.11.19).
const NO_BULK_LOAD: &str = "SET UNIQUE_CHECKS = 1;\n";
/// Put out by the main client when it has executed everything before the rows of a large table.
pub(super) const MARK: &str = "orchestrator-agent: rows";
/// The rows of a dump without autocommit are committed here.
const TAIL: &[u8] = b"COMMIT;\n";

/// Rows that a client of their own is to load.
pub(super) struct Rows {
    range: Range<u64>,
    head: String,
    /// Dropped when they are in, or given up.
    _done: Sender<()>,
}

impl Rows {
    /// What their client reads, and how many bytes of it are not of the dump.
    pub(super) fn input(&self, dump: &Arc<File>) -> (impl Read + Send + 'static, u64) {
        let part = Part {
            file: Arc::clone(dump),
            left: self.range.clone(),
        };
        let head = Cursor::new(self.head.clone().into_bytes());
        let own = self.head.len() + TAIL.len();
        (head.chain(part).chain(TAIL), own as u64)
    }
}

/// Rows that come next when the main client puts out [`MARK`].
pub(super) type Pending = Arc<Mutex<VecDeque<Rows>>>;

/// A part of a file.
struct Part {
    file: Arc<File>,
    left: Range<u64>,
}

impl Read for Part {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left.end - self.left.start)
            .unwrap_or(usize::MAX)
            .min(buf.len());
        let n = self.file.read_at(&mut buf[..most], self.left.start)?;
        if n == 0 && most > 0 {
            return Err(io::Error::other("the dump has become shorter"));
        }
        self.left.start += n as u64;
        Ok(n)
    }
}

/// What the main client reads: the text, after what it has to wait for. In the place of rows that others load it puts out
/// [`MARK`], because what it has read is not yet executed.
pub(super) struct Text {
    file: Arc<File>,
    steps: std::vec::IntoIter<Step>,
    head: String,
    pending: Pending,
    stop: Cancel,
    flavour: Flavour,
    current: Option<Box<dyn Read + Send>>,
    outstanding: Vec<Receiver<()>>,
}

impl Text {
    pub(super) fn new(
        script: &Script,
        file: Arc<File>,
        pending: Pending,
        stop: Cancel,
        flavour: Flavour,
    ) -> Self {
        Self {
            file,
            steps: script.steps.clone().into_iter(),
            head: format!("{PROLOGUE}{}", script.session),
            pending,
            stop,
            flavour,
            current: None,
            outstanding: Vec::new(),
        }
    }

    fn step(&mut self, step: Step) -> io::Result<()> {
        match step {
            Step::Text(left) => {
                self.current = Some(Box::new(Part {
                    file: Arc::clone(&self.file),
                    left,
                }))
            }
            Step::Rows {
                range,
                schema,
                shared,
            } => {
                let (done, wait) = bounded(0);
                let more = match self.flavour {
                    Flavour::MariaDb if shared => NO_BULK_LOAD,
                    _ => "",
                };
                let head = format!("{}{more}{schema}\n", self.head);
                self.outstanding.push(wait);
                lock(&self.pending).push_back(Rows {
                    range,
                    head,
                    _done: done,
                });
                self.current = Some(Box::new(Cursor::new(format!("SELECT '{MARK}';\n"))));
            }
            Step::Say(statement) => {
                self.current = Some(Box::new(Cursor::new(format!("{statement}\n"))))
            }
            Step::Wait => self.wait_for_all()?,
        }
        Ok(())
    }

    fn wait_for_all(&mut self) -> io::Result<()> {
        for rows in std::mem::take(&mut self.outstanding) {
            self.wait(&rows)?;
        }
        Ok(())
    }

    fn wait(&self, rows: &Receiver<()>) -> io::Result<()> {
        select! {
            recv(rows) -> _ => {} // closed: they are in, or the load has failed
            recv(self.stop.signal()) -> _ => {}
        }
        match self.stop.is_cancelled() {
            true => Err(io::Error::other("the load was ended")),
            false => Ok(()),
        }
    }
}

impl Read for Text {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(part) = &mut self.current {
                let n = part.read(buf)?;
                if n > 0 || buf.is_empty() {
                    return Ok(n);
                }
                self.current = None;
            }
            match self.steps.next() {
                Some(step) => self.step(step)?,
                None => {
                    self.wait_for_all()?;
                    return Ok(0);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::script::scan;
    use super::*;
    use std::io::Write;

    /// The texts for the clients beside the main one, of a dump with the rows of `a` in one part and those of `b` in several.
    fn beside(flavour: Flavour) -> Vec<String> {
        let insert = format!("INSERT INTO `t` VALUES ('{}');\n", "x".repeat(150));
        let rows = |table: &str, n: usize| {
            format!(
                "--\n-- Dumping data for table `{table}`\n--\n\nLOCK TABLES `{table}` WRITE;\n{}UNLOCK TABLES;\n",
                insert.repeat(n)
            )
        };
        let dump = [
            "/*!40101 SET NAMES utf8mb4 */;\n/*!40014 SET UNIQUE_CHECKS=0, FOREIGN_KEY_CHECKS=0 */;\n/*!40101 SET SQL_MODE='' */;\n\n",
            "--\n-- Current Database: `s`\n--\n\nUSE `s`;\n\n",
            &rows("a", 1),
            &rows("b", 10),
        ]
        .concat();
        let script = scan(&mut Cursor::new(&dump), 0, 100).unwrap();
        let name = format!("load-text-{}-{flavour}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let mut file = File::create_new(&path).unwrap();
        file.write_all(dump.as_bytes()).unwrap();
        let file = Arc::new(File::open(&path).unwrap());
        std::fs::remove_file(&path).unwrap();
        let pending = Pending::default();
        let mut text = Text::new(
            &script,
            Arc::clone(&file),
            Arc::clone(&pending),
            Cancel::default(),
            flavour,
        );
        let (mut buf, mut main, mut all) = ([0; 4096], String::new(), Vec::new());
        loop {
            let n = text.read(&mut buf).unwrap();
            main.push_str(std::str::from_utf8(&buf[..n]).unwrap());
            for rows in lock(&pending).drain(..) {
                let mut own = String::new();
                rows.input(&file).0.read_to_string(&mut own).unwrap();
                assert_eq!(
                    own.len() as u64 - rows.input(&file).1,
                    rows.range.end - rows.range.start
                );
                all.push(own);
            }
            if n == 0 {
                break;
            }
        }
        assert_eq!(main.matches(MARK).count(), all.len());
        assert_eq!(all.concat().matches("INSERT").count(), 11);
        all
    }

    #[test]
    fn sessions_that_share_a_table_of_mariadb_load_nothing_in_bulk() {
        let all = beside(Flavour::MariaDb);
        let (alone, shared) = all.split_first().unwrap();
        assert!(shared.len() > 1 && !alone.contains(NO_BULK_LOAD));
        for text in shared {
            let (dumps, ours) = (text.find("UNIQUE_CHECKS=0"), text.find(NO_BULK_LOAD));
            assert!(
                dumps.is_some() && dumps < ours && ours < text.find("INSERT"),
                "{text}"
            );
        }
        for text in all.iter().chain(&beside(Flavour::MySql)) {
            assert!(
                text.starts_with(PROLOGUE) && text.ends_with("COMMIT;\n"),
                "{text}"
            );
        }
        assert!(!beside(Flavour::MySql).concat().contains(NO_BULK_LOAD));
    }
}

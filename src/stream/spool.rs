//! Between a source and the network: a thread that reads the source, and a queue. While the queue is bounded a slow receiver slows the
//! tool down. Once it is released ([`Spool::release`]) the tool never waits again: what the receiver does not take is kept in memory,
//! and beyond [`MAX_MEMORY`] in a file without a name.

use super::Pollable;
use crate::error::{Error, OnPath, Result};
use crate::sys::disk::{self, Space};
use crate::sys::file::nameless;
use crate::sys::host::human_bytes;
use crate::sys::net::wait_readable;
use crate::sys::thread::{lock, spawn, unpoisoned};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

const MAX_BLOCK: usize = 256 << 10;
/// Bytes in the queue while it is bounded.
const MAX_BOUNDED: usize = 1 << 20;
/// Bytes in memory once it is released.
const MAX_MEMORY: usize = 16 << 20;
/// What stays free on the file system of the file: so many bytes, and one part in [`FREE_PART`] of it, 5 %.
const FREE: u64 = 1 << 30;
const FREE_PART: u64 = 20;
/// How often a reader that waits for the source polls for the queue's end.
const ABANDON_POLL: Duration = Duration::from_millis(200);

/// The queue; all clones are the same one.
#[derive(Clone)]
pub(crate) struct Spool(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    dir: PathBuf,
    free: u64,
}

#[derive(Default)]
struct State {
    /// Older than everything in the file.
    blocks: VecDeque<Vec<u8>>,
    in_memory: usize,
    spill: Option<Arc<File>>,
    /// Up to where the file was written and read.
    written: u64,
    read: u64,
    released: bool,
    /// The tool has closed its output, or cannot be read.
    ended: Option<io::Result<()>>,
    /// Why the tool was ended: there is no room for the file.
    full: Option<String>,
    abandoned: bool,
}

/// What there is to be sent.
pub(super) enum Next {
    Block(Vec<u8>),
    Nothing,
    End,
}

impl Spool {
    /// With the file, if it is needed, in `dir`.
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self::with_reserve(dir, FREE)
    }

    pub(super) fn with_reserve(dir: PathBuf, free: u64) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            dir,
            free,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.0.state)
    }

    /// From now on the tool's output is taken as fast as it comes, whatever the receiver does.
    pub(crate) fn release(&self) {
        self.lock().released = true;
        self.0.changed.notify_all();
    }

    /// Bytes that went through the file so far.
    pub(crate) fn spilled(&self) -> u64 {
        self.lock().written
    }

    /// Reads `source` to its end, in a thread. `end_source` is called if there is no room for what it gives: it must end.
    pub(super) fn fill_from(
        &self,
        source: impl Read + Pollable + Send + 'static,
        end_source: impl FnOnce() + Send + 'static,
    ) -> Result<()> {
        let this = self.clone();
        spawn("spool", move || this.fill(source, end_source)).map(drop)
    }

    fn fill(&self, mut source: impl Read + Pollable, end_source: impl FnOnce()) {
        let mut buffer = vec![0; MAX_BLOCK];
        let ended = loop {
            if let Some(fd) = source.pollable() {
                match wait_readable(&[fd], Some(ABANDON_POLL)) {
                    Ok(ready) if ready == [true] => {}
                    Ok(_) if self.lock().abandoned => return,
                    Ok(_) => continue,
                    Err(e) => break Err(e),
                }
            }
            match source.read(&mut buffer) {
                Ok(0) => break Ok(()),
                Ok(n) => match self.put(&buffer[..n]) {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(e) => {
                        self.lock().full = Some(e.to_string());
                        self.0.changed.notify_all();
                        end_source();
                        return;
                    }
                },
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => break Err(e),
            }
        };
        self.lock().ended = Some(ended);
        self.0.changed.notify_all();
    }

    /// Waits for room while the queue is bounded. False if it was abandoned.
    fn put(&self, bytes: &[u8]) -> Result<bool> {
        let full = |s: &mut State| !s.released && s.in_memory >= MAX_BOUNDED && !s.abandoned;
        let mut state = unpoisoned(self.0.changed.wait_while(self.lock(), full));
        if state.abandoned {
            return Ok(false);
        }
        let behind_file = state.written > state.read;
        if state.released && (behind_file || state.in_memory + bytes.len() > MAX_MEMORY) {
            let (file, at) = (state.spill.clone(), state.written);
            drop(state);
            let file = self.spill(file, at, bytes)?;
            state = self.lock();
            state.spill = Some(file);
            state.written += bytes.len() as u64;
        } else {
            state.in_memory += bytes.len();
            state.blocks.push_back(bytes.to_vec());
        }
        drop(state);
        self.0.changed.notify_all();
        Ok(true)
    }

    /// Writes into the file at `at`; creates it first if necessary.
    fn spill(&self, file: Option<Arc<File>>, at: u64, bytes: &[u8]) -> Result<Arc<File>> {
        let dir = &self.0.dir;
        let fail = |e: io::Error| {
            Error::permanent(format!(
                "the tool's last phase cannot be kept in {} (common.backup-dir): {e}",
                dir.display()
            ))
        };
        let space = disk::space(dir).map_err(fail)?;
        if !has_room(space, bytes.len() as u64, self.0.free) {
            return Err(Error::permanent(format!(
                "the target takes the tool's last phase too slowly, and {} (common.backup-dir) has no room for the rest of it: {} kept, {} \
                 free, of which {} must stay free; the tool was ended, because it holds locks on the source. Make room there, or raise \
                 common.seed-rate-limit",
                dir.display(),
                human_bytes(at),
                human_bytes(space.available),
                human_bytes(self.0.free.max(space.total / FREE_PART))
            )));
        }
        let file = match file {
            Some(file) => file,
            None => Arc::new(nameless(dir).map_err(fail)?),
        };
        file.write_all_at(bytes, at).map_err(fail)?;
        Ok(file)
    }

    /// The next bytes in order; waits at most `time` for them.
    pub(super) fn next(&self, time: Duration) -> Result<Next> {
        let nothing = |s: &mut State| {
            s.full.is_none() && s.ended.is_none() && s.blocks.is_empty() && s.written == s.read
        };
        let woken = self
            .0
            .changed
            .wait_timeout_while(self.lock(), time, nothing);
        let mut state = unpoisoned(woken).0;
        if let Some(text) = &state.full {
            return Err(Error::permanent(text));
        }
        if let Some(block) = state.blocks.pop_front() {
            state.in_memory -= block.len();
            drop(state);
            self.0.changed.notify_all();
            return Ok(Next::Block(block));
        }
        let (written, read) = (state.written, state.read);
        if let Some(file) = state.spill.clone().filter(|_| written > read) {
            drop(state);
            let n = (written - read).min(MAX_BLOCK as u64);
            let mut block = vec![0; n as usize];
            file.read_exact_at(&mut block, read).on(&self.0.dir)?;
            self.lock().read += n;
            return Ok(Next::Block(block));
        }
        match &state.ended {
            None => Ok(Next::Nothing),
            Some(Ok(())) => Ok(Next::End),
            Some(Err(e)) => Err(Error::io("the tool's output", e)),
        }
    }

    pub(super) fn full(&self) -> Option<String> {
        self.lock().full.clone()
    }

    /// Ends the reader: no more blocks are taken.
    pub(super) fn abandon(&self) {
        self.lock().abandoned = true;
        self.0.changed.notify_all();
    }
}

fn has_room(space: Space, bytes: u64, free: u64) -> bool {
    let left = space.available.saturating_sub(bytes);
    left >= free && left >= space.total / FREE_PART
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::mpsc;
    use std::thread;
    use std::time::Instant;

    /// Blocks of a pattern that shows each exchange of two of them.
    fn writer(mut pipe: io::PipeWriter, bytes: usize) -> thread::JoinHandle<()> {
        thread::spawn(move || {
            for n in 0..bytes / 8 {
                if pipe.write_all(&(n as u64).to_le_bytes()).is_err() {
                    return;
                }
            }
        })
    }

    fn dir(name: &str) -> PathBuf {
        let d = std::env::temp_dir().join(format!("oa-spool-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&d).unwrap();
        d
    }

    fn drain(spool: &Spool) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            match spool.next(Duration::from_millis(50)).unwrap() {
                Next::Block(b) => all.extend(b),
                Next::Nothing => {}
                Next::End => return all,
            }
        }
    }

    /// The tool waits while the queue is bounded, and not a moment longer; the order stays.
    #[test]
    fn a_released_tool_never_waits_and_nothing_is_lost() {
        let dir = dir("release");
        let bytes = MAX_MEMORY + (9 << 20);
        let (reader, pipe) = io::pipe().unwrap();
        let spool = Spool::with_reserve(dir.clone(), 0);
        spool.fill_from(reader, || {}).unwrap();
        let tool = writer(pipe, bytes);
        thread::sleep(Duration::from_millis(500));
        assert!(!tool.is_finished(), "bounded");
        let begin = Instant::now();
        spool.release(); // and nothing is taken
        tool.join().unwrap();
        assert!(begin.elapsed() < Duration::from_secs(60));
        assert!(spool.spilled() > 8 << 20, "{}", spool.spilled());
        assert_eq!(
            std::fs::read_dir(&dir).unwrap().count(),
            0,
            "the file has no name"
        );
        let all = drain(&spool);
        assert_eq!(all.len(), bytes);
        for (n, word) in all.chunks(8).enumerate() {
            assert_eq!(word, (n as u64).to_le_bytes());
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_tool_is_ended_where_there_is_no_room() {
        let dir = dir("full");
        let (reader, pipe) = io::pipe().unwrap();
        let spool = Spool::with_reserve(dir.clone(), u64::MAX);
        let (ended, end) = mpsc::channel();
        spool
            .fill_from(reader, move || ended.send(()).unwrap())
            .unwrap();
        spool.release();
        let tool = writer(pipe, MAX_MEMORY + (9 << 20));
        end.recv_timeout(Duration::from_secs(60)).unwrap();
        tool.join().unwrap(); // its output is closed
        let e = spool.next(Duration::ZERO).err().unwrap().to_string();
        assert!(
            e.contains("common.backup-dir") && e.contains("must stay free"),
            "{e}"
        );
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn one_gibibyte_and_one_twentieth_stay_free() {
        let space = |total, available| Space { total, available };
        const G: u64 = 1 << 30;
        for (space, bytes, fits) in [
            (space(100 * G, 10 * G), 4 * G, true),
            (space(100 * G, 10 * G), 6 * G, false), // 5 %
            (space(10 * G, 2 * G), G, true),
            (space(10 * G, 2 * G), G + 1, false), // 1 GiB
            (space(G, G), 1, false),
        ] {
            assert_eq!(has_room(space, bytes, FREE), fits, "{space:?} {bytes}");
        }
    }

    #[test]
    fn a_reader_whose_bytes_are_not_taken_ends() {
        let (reader, pipe) = io::pipe().unwrap();
        let spool = Spool::new("/".into());
        spool.fill_from(reader, || {}).unwrap();
        let tool = writer(pipe, 64 << 20);
        spool.abandon();
        tool.join().unwrap();
    }
}

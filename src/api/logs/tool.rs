//! The standard output of a tool as a reader.

use crate::error::{Error, Result, ToolFault};
use crate::process::{Cancel, Job, Running, feed_from, run};
use crate::sys::thread::{lock, spawn};
use crossbeam_channel::{Receiver, Sender, bounded, select};
use std::io::{self, Cursor, PipeReader, Read};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How often it is checked whether bytes move.
const TICK: Duration = Duration::from_millis(200);
/// What is read before an answer begins: a tool that fails at once is an error by itself.
const BEGINNING: u64 = 64 << 10;

/// Cancels work in which nothing moves for too long, or when the agent stops. Dropping it ends the watch.
pub(super) struct Watch {
    moved: Arc<AtomicU64>,
    begun: Instant,
    expired: Arc<AtomicBool>,
    limit: Duration,
    _end: Sender<()>,
}

/// Notes that something has moved.
pub(super) type Moved = Box<dyn Fn() + Send>;

impl Watch {
    pub(super) fn start(cancel: &Cancel, stopping: &Cancel, limit: Duration) -> Result<Self> {
        let (end, ended) = bounded::<()>(0);
        let watch = Self {
            moved: Arc::default(),
            begun: Instant::now(),
            expired: Arc::default(),
            limit,
            _end: end,
        };
        let (moved, expired, begun) = (watch.moved.clone(), watch.expired.clone(), watch.begun);
        let (cancel, stopping) = (cancel.clone(), stopping.clone());
        let idle = move || {
            let at = Duration::from_millis(moved.load(Ordering::Relaxed));
            begun.elapsed().saturating_sub(at)
        };
        let body = move || {
            while idle() < limit {
                select! {
                    recv(ended) -> _ => return,
                    recv(cancel.signal()) -> _ => return,
                    recv(stopping.signal()) -> _ => return cancel.cancel("the agent stops"),
                    default(TICK) => {}
                }
            }
            expired.store(true, Ordering::Relaxed);
            cancel.cancel("nothing has moved");
        };
        spawn("tool-watch", body)?;
        Ok(watch)
    }

    pub(super) fn moved(&self) -> Moved {
        let (moved, begun) = (self.moved.clone(), self.begun);
        Box::new(move || {
            let at = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            moved.store(at, Ordering::Relaxed);
        })
    }

    /// The error of work that was cancelled, with the reason if it was this watch's.
    pub(super) fn explain(&self, tool: &str, e: Error) -> Error {
        if e.is_cancelled() && self.expired.load(Ordering::Relaxed) {
            let stderr = "no byte has moved in this time";
            return Error::tool(tool, ToolFault::Deadline(self.limit), stderr);
        }
        e
    }
}

/// Ends with an error unless the tool ends with success; dropping it ends the tool.
pub(super) struct ToolOutput {
    out: PipeReader,
    ended: Receiver<Result<()>>,
    done: bool,
    cancel: Cancel,
    moved: Moved,
    failure: Failure,
}

/// Why the tool has failed, once its output has ended in an error.
#[derive(Clone, Default)]
pub(super) struct Failure(Arc<Mutex<Option<Error>>>);

impl Failure {
    pub(super) fn take(&self) -> Option<Error> {
        lock(&self.0).take()
    }
}

impl ToolOutput {
    /// Starts `cmd` with this input, if any. It is ended when no byte of its output is read for `limit`.
    pub(super) fn start(
        mut cmd: Command,
        name: &str,
        input: Option<Box<dyn Read + Send>>,
        stopping: &Cancel,
        limit: Duration,
    ) -> Result<Self> {
        let (out, writer) = io::pipe().map_err(|e| Error::io("pipe", &e))?;
        let stdin = if input.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        };
        let cancel = Cancel::default();
        let watch = Watch::start(&cancel, stopping, limit)?;
        let moved = watch.moved();
        let tool = Running::start(cmd.stdin(stdin).stdout(writer), name)?;
        drop(cmd); // it holds the writing end
        let (result, ended) = bounded(1);
        let (of_job, name) = (cancel.clone(), name.to_string());
        let body = move || {
            let job = Job {
                cancel: &of_job,
                before_kill: &|_| {},
            };
            let exit = match input {
                Some(input) => feed_from(tool, input, |_| Ok(()), &job).map(|(exit, _)| exit),
                None => run(tool, &job),
            };
            let done = exit.and_then(|exit| exit.check());
            let _ = result.send(done.map_err(|e| watch.explain(&name, e))); // no one reads any more: fine
        };
        spawn("tool", body)?;
        Ok(Self {
            out,
            ended,
            done: false,
            cancel,
            moved,
            failure: Failure::default(),
        })
    }

    pub(super) fn failure(&self) -> Failure {
        self.failure.clone()
    }

    /// Waits for the first bytes: the error of a tool that fails before it has written many.
    pub(super) fn begun(mut self) -> Result<impl Read + Send> {
        let mut first = Vec::new();
        let read = (&mut self).take(BEGINNING).read_to_end(&mut first);
        match read {
            Ok(_) => Ok(Cursor::new(first).chain(self)),
            Err(e) => Err(self
                .failure
                .take()
                .unwrap_or_else(|| Error::io("output", &e))),
        }
    }
}

impl Read for ToolOutput {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.done || buf.is_empty() {
            return Ok(0);
        }
        let n = self.out.read(buf)?;
        (self.moved)();
        if n > 0 {
            return Ok(n);
        }
        self.done = true;
        let ended = self.ended.recv();
        match ended.unwrap_or_else(|_| Err(Error::permanent("internal: the tool's thread died"))) {
            Ok(()) => Ok(0),
            Err(e) => {
                let text = e.to_string();
                *lock(&self.failure.0) = Some(e);
                Err(io::Error::other(text))
            }
        }
    }
}

impl Drop for ToolOutput {
    fn drop(&mut self) {
        self.cancel.cancel("its output is not read any more");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::proc::ProcessId;

    fn start(script: &str, input: Option<Box<dyn Read + Send>>, limit: Duration) -> ToolOutput {
        let mut cmd = Command::new("sh");
        cmd.args(["-c", script]);
        ToolOutput::start(cmd, "sh", input, &Cancel::default(), limit).unwrap()
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn output_ends_with_the_tool() {
        let mut text = String::new();
        let input: Box<dyn Read + Send> = Box::new(&b"abc"[..]);
        let tool = start("tr a-z A-Z", Some(input), LONG);
        tool.begun().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "ABC");
        let mut bytes = Vec::new();
        let tool = start("head -c 300000 /dev/zero", None, LONG);
        tool.begun().unwrap().read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len(), 300_000);
    }

    #[test]
    fn a_failure_is_an_error_at_once_or_at_the_end() {
        let e = start("echo x; echo why >&2; exit 3", None, LONG).begun();
        let text = e.err().unwrap().to_string();
        assert!(text.contains("exit status 3, stderr: why"), "{text}");
        let late = start("head -c 300000 /dev/zero; exit 4", None, LONG);
        let failure = late.failure();
        let mut bytes = Vec::new();
        let e = late.begun().unwrap().read_to_end(&mut bytes);
        assert!(e.is_err());
        let text = failure.take().unwrap().to_string();
        assert!(text.contains("exit status 4"), "{text}");
    }

    #[test]
    fn it_ends_when_its_input_fails() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("broken input"))
            }
        }
        let e = start("cat; sleep 50", Some(Box::new(Broken)), LONG).begun();
        let text = e.err().unwrap().to_string();
        assert!(text.contains("broken input"), "{text}");
    }

    #[test]
    fn it_ends_when_nothing_moves_and_when_no_one_reads() {
        let e = start("sleep 50", None, Duration::from_millis(300)).begun();
        let text = e.err().unwrap().to_string();
        assert!(text.contains("common.command-timeout"), "{text}");
        let mut tool = start("echo $$; exec sleep 50", None, LONG);
        let mut pid = [0; 16];
        let n = tool.read(&mut pid).unwrap();
        let pid = str::from_utf8(&pid[..n]).unwrap().trim().parse().unwrap();
        assert!(ProcessId::of(pid).is_some());
        drop(tool);
        let begin = Instant::now();
        while ProcessId::of(pid).is_some() && begin.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(ProcessId::of(pid).is_none());
    }
}

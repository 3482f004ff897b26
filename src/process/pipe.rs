//! A tool's output into a file, or its input from a reader. The bytes pass through this process (by splice(2) where the kernel can),
//! so an agent that dies ends the stream with it.

use super::{Cancel, Exit, Running};
use crate::error::{Error, Result};
use crate::sys::thread::spawn;
use crossbeam_channel::{Receiver, bounded, never, select};
use std::io::{self, Read, Write};
use std::time::Duration;

/// Bytes between two reports of progress.
const CHUNK: u64 = 256 << 10;
/// How long the last bytes may take to be written after the tool has ended: a disk may stall.
const LAST_BYTES: Duration = Duration::from_secs(60);
/// The same of a tool that failed: what it has not taken or given does not matter, and its source may be waiting for something else.
const LAST_BYTES_OF_FAILED: Duration = Duration::from_secs(2);

pub(crate) struct Job<'a> {
    pub(crate) cancel: &'a Cancel,
    /// Called with the process group before it is killed because of a cancellation or a failed stream.
    pub(crate) before_kill: &'a dyn Fn(u32),
}

/// Waits for a tool whose streams are not copied here. The tool's own failure is in the [`Exit`].
pub(crate) fn run(tool: Running, job: &Job) -> Result<Exit> {
    complete(tool, None, job).map(|(exit, _)| exit)
}

/// Copies the tool's standard output into `out` until it ends; `progress` receives the bytes so far, and its error ends the copy.
/// Returns the exit and the number of bytes. Nothing is synced here. The tool's own failure is in the [`Exit`].
pub(crate) fn save_to(
    mut tool: Running,
    out: impl Write + Send + 'static,
    progress: impl FnMut(u64) -> io::Result<()> + Send + 'static,
    job: &Job,
) -> Result<(Exit, u64)> {
    let stdout = tool.take_stdout().ok_or_else(not_a_pipe)?;
    let copying = start_copy(stdout, out, progress)?;
    complete(tool, Some(&copying), job)
}

/// Feeds the tool's standard input from `input` and closes it at the end; `progress` receives the bytes so far. A tool that stops
/// reading is judged by its exit status alone.
pub(crate) fn feed_from(
    mut tool: Running,
    input: impl Read + Send + 'static,
    progress: impl FnMut(u64) -> io::Result<()> + Send + 'static,
    job: &Job,
) -> Result<(Exit, u64)> {
    let stdin = tool.take_stdin().ok_or_else(not_a_pipe)?;
    let copying = start_copy(input, stdin, progress)?;
    complete(tool, Some(&copying), job)
}

fn not_a_pipe() -> Error {
    Error::permanent("internal: the tool's standard stream is not a pipe")
}

fn start_copy(
    from: impl Read + Send + 'static,
    to: impl Write + Send + 'static,
    progress: impl FnMut(u64) -> io::Result<()> + Send + 'static,
) -> Result<Receiver<io::Result<u64>>> {
    let (tx, rx) = bounded(1);
    spawn("tool-copy", move || {
        let _ = tx.send(copy(from, to, progress)); // no one waits any more after a kill: fine
    })?;
    Ok(rx)
}

fn copy(
    mut from: impl Read,
    mut to: impl Write,
    mut progress: impl FnMut(u64) -> io::Result<()>,
) -> io::Result<u64> {
    let mut done = 0;
    loop {
        // io::copy knows splice(2) for the types that are really there.
        let n = io::copy(&mut from.by_ref().take(CHUNK), &mut to)?;
        if n == 0 {
            to.flush()?;
            return Ok(done);
        }
        done += n;
        progress(done)?;
    }
}

/// Waits for the tool and for what copies its stream, if there is one.
fn complete(
    tool: Running,
    copying: Option<&Receiver<io::Result<u64>>>,
    job: &Job,
) -> Result<(Exit, u64)> {
    let nothing = never();
    let mut copied = copying.is_none().then_some(Ok(0));
    let copying = copying.unwrap_or(&nothing);
    loop {
        let waiting = if copied.is_none() { copying } else { &nothing };
        select! {
            recv(tool.exited()) -> _ => break,
            recv(job.cancel.signal()) -> _ => {
                (job.before_kill)(tool.group());
                tool.end()?;
                return Err(Error::cancelled());
            }
            recv(waiting) -> result => {
                let result = result.unwrap_or_else(|_| Err(io::Error::other("the copying thread died")));
                if let Err(e) = &result && e.kind() != io::ErrorKind::BrokenPipe {
                    let e = Error::io("stream", e);
                    (job.before_kill)(tool.group());
                    tool.end()?;
                    return Err(e);
                }
                copied = Some(result);
            }
        }
    }
    let exit = tool.finish()?;
    let succeeded = exit.status.success();
    if copied.is_none() {
        select! {
            recv(copying) -> result => copied = result.ok(),
            recv(job.cancel.signal()) -> _ => return Err(Error::cancelled()),
            default(if succeeded { LAST_BYTES } else { LAST_BYTES_OF_FAILED }) => {}
        }
    }
    match copied {
        Some(Ok(n)) => Ok((exit, n)),
        // The tool gave up reading: its own status tells why. Success of a tool that did not read all is no success.
        Some(Err(e)) if succeeded => Err(Error::io("stream", &e)),
        None if succeeded => Err(Error::permanent(
            "the tool ended but another process still holds its stream",
        )),
        _ => Ok((exit, 0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Instant;

    fn start(script: &str) -> Running {
        let mut c = Command::new("sh");
        c.args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        Running::start(&mut c, "sh").unwrap()
    }

    fn job(cancel: &Cancel) -> Job<'_> {
        Job {
            cancel,
            before_kill: &|_| {},
        }
    }

    #[test]
    fn output_is_counted_and_status_kept() {
        let c = Cancel::default();
        let seen = Arc::new(AtomicU64::new(0));
        let s = Arc::clone(&seen);
        let tool = start("head -c 5000000 /dev/zero; exit 7");
        let (exit, n) = save_to(
            tool,
            io::sink(),
            move |b| {
                s.store(b, Ordering::Relaxed);
                Ok(())
            },
            &job(&c),
        )
        .unwrap();
        assert_eq!(
            (n, seen.load(Ordering::Relaxed), exit.status.code()),
            (5_000_000, 5_000_000, Some(7))
        );
    }

    #[test]
    fn a_failed_write_ends_the_tool_and_names_the_cause() {
        let c = Cancel::default();
        let full = std::fs::OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .unwrap();
        let tool = start("yes");
        let e = save_to(tool, full, |_| Ok(()), &job(&c)).unwrap_err();
        assert!(e.to_string().contains("No space left"), "{e}");
        assert!(e.is_permanent());
    }

    #[test]
    fn input_is_fed_to_the_end_and_a_deaf_tool_is_judged_by_its_status() {
        let c = Cancel::default();
        let (exit, n) = feed_from(
            start("wc -c >&2"),
            &[7u8; 3_000_000][..],
            |_| Ok(()),
            &job(&c),
        )
        .unwrap();
        assert_eq!((n, exit.stderr.trim()), (3_000_000, "3000000"));
        let (exit, _) = feed_from(
            start("exec <&-; echo no >&2; exit 4"),
            io::repeat(1),
            |_| Ok(()),
            &job(&c),
        )
        .unwrap();
        assert_eq!((exit.status.code(), exit.stderr.trim()), (Some(4), "no"));
        assert!(feed_from(start("exit 0"), io::repeat(1), |_| Ok(()), &job(&c)).is_err());
    }

    #[test]
    fn cancel_ends_it_soon_and_calls_the_hook_first() {
        let c = Cancel::default();
        let tool = start("sleep 100");
        let id = tool.id().unwrap();
        let hook = AtomicU64::new(0);
        let before_kill = |g: u32| hook.store(u64::from(g), Ordering::Relaxed);
        let other = c.clone();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            other.cancel("test");
        });
        let begin = Instant::now();
        let e = save_to(
            tool,
            io::sink(),
            |_| Ok(()),
            &Job {
                cancel: &c,
                before_kill: &before_kill,
            },
        )
        .unwrap_err();
        assert!(e.is_cancelled() && begin.elapsed() < Duration::from_secs(3));
        assert_eq!(hook.load(Ordering::Relaxed), u64::from(id.pid));
        assert!(id.group_alive().is_empty());
    }
}

use super::*;
use crate::error::Result;
use crate::process::{Cancel, Running};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

mod links;
mod peers;
mod tls;

fn settings() -> Settings {
    Settings {
        seed: 7,
        method: "Xtrabackup".into(),
        port: 0,
        listen: [127, 0, 0, 1].into(),
        allowed: AllowList::default(),
        secret: Secret::default(),
        tls: SocatTls::default(),
        compression: Compression::None,
        first_byte: Duration::from_secs(20),
        idle: Duration::from_secs(20),
        rate_limit: 0,
        accept_raw: false,
    }
}

/// A file of `bytes` that do not repeat soon.
fn data(bytes: usize) -> Vec<u8> {
    let words = (0..bytes as u32 / 4 + 1)
        .flat_map(|i| (i.wrapping_mul(2_654_435_761) >> (i % 7)).to_be_bytes());
    words.take(bytes).collect()
}

/// A pipe that gives these bytes.
fn source(bytes: Vec<u8>) -> std::io::PipeReader {
    let (reader, mut writer) = std::io::pipe().unwrap();
    thread::spawn(move || writer.write_all(&bytes));
    reader
}

fn scratch(name: &str) -> (std::path::PathBuf, File) {
    let path = std::env::temp_dir().join(format!("oa-stream-{name}-{}", std::process::id()));
    let file = File::create(&path).unwrap();
    (path, file)
}

/// Listens with `target`; `receive` has the accepted stream.
fn receiving<T: Send + 'static>(
    target: Settings,
    receive: impl FnOnce(Result<Incoming>) -> T + Send + 'static,
) -> (u16, Cancel, thread::JoinHandle<T>) {
    let listener = Listener::bind(target).unwrap();
    let port = listener.address().unwrap().port();
    let cancel = Cancel::default();
    let end = cancel.clone();
    let thread = thread::spawn(move || {
        let incoming = listener.accept(&end);
        receive(incoming)
    });
    (port, cancel, thread)
}

fn connect(port: u16, settings: &Settings, notes: &str) -> Result<Outgoing> {
    connect_until(&Cancel::default(), port, settings, notes)
}

/// The same, ended by `cancel`.
fn connect_until(cancel: &Cancel, port: u16, settings: &Settings, notes: &str) -> Result<Outgoing> {
    let settings = Settings {
        port,
        ..settings.clone()
    };
    Outgoing::connect("127.0.0.1", settings, notes, cancel)
}

/// A whole transfer; what arrived, and what the sender thinks of it.
fn transfer(
    name: &str,
    target: &Settings,
    sender: &Settings,
    bytes: &[u8],
) -> (Vec<u8>, Result<()>) {
    let (path, file) = scratch(name);
    let (port, _cancel, thread) = receiving(target.clone(), move |incoming| {
        let mut incoming = incoming.unwrap();
        assert_eq!(
            (incoming.notes(), incoming.is_raw()),
            (&b"notes"[..], false)
        );
        let n = incoming.receive(file, &Cancel::default(), |_| {}).unwrap();
        incoming.acknowledge().unwrap();
        n
    });
    let cancel = Cancel::default();
    let mut out = connect(port, sender, "notes").unwrap();
    let mut seen = 0;
    let sent = out
        .send(source(bytes.to_vec()), &cancel, |n| seen = n)
        .unwrap();
    let result = out.finish(Ok(()), &cancel);
    assert_eq!(
        (sent, seen, thread.join().unwrap()),
        (bytes.len() as u64, sent, sent)
    );
    let got = std::fs::read(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    (got, result)
}

#[test]
fn all_bytes_arrive_in_every_form() {
    let bytes = data(3_000_001);
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        for secret in ["", "s3cret"] {
            let both = Settings {
                compression,
                secret: Secret::new(secret),
                ..settings()
            };
            let (got, result) = transfer("forms", &both, &both, &bytes);
            assert!(got == bytes, "{compression:?}");
            result.unwrap();
        }
    }
}

/// Bytes without a descriptor, as a network library has them.
struct Memory(std::io::Cursor<Vec<u8>>);

impl Read for Memory {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(to)
    }
}

impl Write for Memory {
    fn write(&mut self, from: &[u8]) -> std::io::Result<usize> {
        self.0.write(from)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Pollable for Memory {
    fn pollable(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        None
    }
}

impl Pollable for &mut Memory {
    fn pollable(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        None
    }
}

#[test]
fn a_source_and_a_sink_need_no_descriptor() {
    let bytes = data(3_000_001);
    let (port, _cancel, thread) = receiving(settings(), |incoming| {
        let (mut incoming, mut sink) = (incoming.unwrap(), Memory(std::io::Cursor::default()));
        let received = incoming.receive(&mut sink, &Cancel::default(), |_| {});
        incoming.acknowledge().unwrap();
        (received.unwrap(), sink.0.into_inner())
    });
    let cancel = Cancel::default();
    let mut out = connect(port, &settings(), "").unwrap();
    let source = Memory(std::io::Cursor::new(bytes.clone()));
    assert_eq!(out.send(source, &cancel, |_| {}).unwrap(), 3_000_001);
    out.finish(Ok(()), &cancel).unwrap();
    let (received, got) = thread.join().unwrap();
    assert!(received == 3_000_001 && got == bytes);
}

#[test]
fn a_rate_limit_is_kept() {
    let limited = Settings {
        rate_limit: 2_000_000,
        ..settings()
    };
    let begin = Instant::now();
    transfer("rate", &settings(), &limited, &data(1_000_000))
        .1
        .unwrap();
    let took = begin.elapsed();
    assert!(took > Duration::from_millis(350), "{took:?}");
}

#[test]
fn a_sender_is_not_content_before_the_receiver_is() {
    let (path, file) = scratch("refused");
    let (port, _cancel, thread) = receiving(settings(), move |incoming| {
        let mut incoming = incoming.unwrap();
        incoming.receive(file, &Cancel::default(), |_| {}).unwrap();
        // The tool works on after the last byte, longer than any timer.
        thread::sleep(Duration::from_millis(700));
        incoming.reject("mbstream: No space left on device", false);
    });
    let cancel = Cancel::default();
    let short = Settings {
        idle: Duration::from_millis(300),
        ..settings()
    };
    let mut out = connect(port, &short, "").unwrap();
    out.send(source(data(100_000)), &cancel, |_| {}).unwrap();
    let e = out.finish(Ok(()), &cancel).unwrap_err();
    assert_eq!(
        e.to_string(),
        "the target: mbstream: No space left on device"
    );
    thread.join().unwrap();
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_refusal_before_and_in_the_middle_ends_the_sender_with_its_words() {
    let (port, _cancel, thread) = receiving(settings(), |incoming| {
        incoming.unwrap().reject("two families", false);
    });
    let e = connect(port, &settings(), "").err().unwrap().to_string();
    assert!(e.ends_with("the target: two families"), "{e}");
    thread.join().unwrap();

    let (port, _cancel, thread) = receiving(settings(), |incoming| {
        let mut incoming = incoming.unwrap();
        let full = File::options().write(true).open("/dev/full").unwrap();
        let e = incoming
            .receive(full, &Cancel::default(), |_| {})
            .unwrap_err();
        incoming.reject(&e.to_string(), false);
    });
    let cancel = Cancel::default();
    let mut out = connect(port, &settings(), "").unwrap();
    // It never ends by itself.
    let (reader, mut writer) = std::io::pipe().unwrap();
    let endless = thread::spawn(move || while writer.write_all(&[1; 65536]).is_ok() {});
    let e = out.send(reader, &cancel, |_| {}).unwrap_err().to_string();
    assert!(
        e.starts_with("the target: ") && e.contains("No space left"),
        "{e}"
    );
    thread.join().unwrap();
    endless.join().unwrap();
}

#[test]
fn a_bad_verdict_and_a_dead_sender_are_no_end() {
    for how in ["verdict", "drop"] {
        let (path, file) = scratch(how);
        let (port, _cancel, thread) = receiving(settings(), move |incoming| {
            incoming.unwrap().receive(file, &Cancel::default(), |_| {})
        });
        let cancel = Cancel::default();
        let mut out = connect(port, &settings(), "").unwrap();
        out.send(source(data(100_000)), &cancel, |_| {}).unwrap();
        if how == "verdict" {
            let e = out
                .finish(Err("mariadb-backup: exit status 1"), &cancel)
                .unwrap_err();
            assert_eq!(e.to_string(), "mariadb-backup: exit status 1");
        } else {
            drop(out);
        }
        let e = thread.join().unwrap().unwrap_err().to_string();
        let wanted = if how == "verdict" {
            "the source failed: mariadb-backup: exit status 1"
        } else {
            "reset"
        };
        assert!(e.contains(wanted), "{how}: {e}");
        std::fs::remove_file(path).unwrap();
    }
}

/// What is in transit when one end is cancelled.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Flow {
    /// Nothing.
    None,
    /// As fast as it can.
    Fast,
    /// The receiver's tool takes no byte, so the sender is in the middle of a frame.
    Stuck,
}

#[test]
fn a_cancellation_of_either_end_ends_both_at_once_and_is_said_to_the_other() {
    for (flow, of_sender, wanted) in [
        (Flow::None, true, "aborted on the source: test"),
        (Flow::None, false, "aborted on the target: test"),
        (Flow::Fast, true, "aborted on the source: test"),
        (Flow::Fast, false, "aborted on the target: test"),
        // No word fits into half a frame, and the receiver's own tool fails first.
        (Flow::Stuck, true, "the receiving tool exited"),
        (Flow::Stuck, false, "aborted on the target: test"),
    ] {
        let row = format!("{flow:?}, of the sender: {of_sender}");
        let end = Cancel::default();
        let inner = end.clone();
        let (mut taker, sink) = std::io::pipe().unwrap();
        let (port, _cancel, thread) = receiving(settings(), move |incoming| {
            let mut incoming = incoming.unwrap();
            let result = incoming.receive(sink, &inner, |_| {});
            let e = result.unwrap_err();
            incoming.reject(&inner.reason(), inner.is_cancelled());
            e
        });
        let cancel = Cancel::default();
        let mut out = connect_until(&cancel, port, &settings(), "").unwrap();
        let (reader, mut writer) = std::io::pipe().unwrap();
        let begin = Instant::now();
        let by = if of_sender { cancel.clone() } else { end };
        let told = thread::spawn(move || {
            let mut buffer = vec![7; 65536];
            // Each loop ends when the sender or the receiver does.
            while flow == Flow::Fast && writer.write_all(&buffer).is_ok() {
                if !matches!(taker.read(&mut buffer), Ok(n) if n > 0) {
                    break;
                }
            }
            while flow == Flow::Stuck && writer.write_all(&buffer).is_ok() {}
            (writer, taker)
        });
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(if flow == Flow::Stuck {
                800
            } else {
                200
            }));
            by.cancel("test");
        });
        let sent = out.send(reader, &cancel, |_| {}).unwrap_err();
        drop(out);
        drop(told.join().unwrap()); // a tool that takes no byte is ended
        let received = thread.join().unwrap();
        let (own, other) = if of_sender {
            (&sent, &received)
        } else {
            (&received, &sent)
        };
        assert!(own.is_cancelled(), "{row}: {own}");
        assert!(other.to_string().contains(wanted), "{row}: {other}");
        assert!(begin.elapsed() < Duration::from_secs(8), "{row}");
    }
    // While nobody has come, as well.
    let (_, cancel, thread) = receiving(settings(), |incoming| incoming.map(drop));
    cancel.cancel("test");
    assert!(thread.join().unwrap().unwrap_err().is_cancelled());
}

/// In our frames and bare: the tool is ended at once.
#[test]
fn an_abort_does_not_wait_for_a_tool_that_takes_no_byte() {
    for accept_raw in [false, true] {
        let both = Settings {
            accept_raw,
            ..settings()
        };
        let mut command = Command::new("sleep");
        let mut tool = Running::start(command.arg("1000").stdin(Stdio::piped()), "sleep").unwrap();
        let (stdin, id) = (tool.take_stdin().unwrap(), tool.id().unwrap());
        let cancel = Cancel::default();
        let inner = cancel.clone();
        let passed = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&passed);
        let (port, _cancel, thread) = receiving(both.clone(), move |incoming| {
            let mut incoming = incoming.unwrap();
            assert_eq!(incoming.is_raw(), accept_raw);
            let received = incoming.receive(stdin, &inner, |n| count.store(n, Ordering::Relaxed));
            tool.end().unwrap();
            (received.unwrap_err(), Instant::now())
        });
        let sender = thread::spawn(move || {
            if accept_raw {
                let mut socat = TcpStream::connect(("127.0.0.1", port)).unwrap();
                socat.write_all(b"XBSTCK01").unwrap();
                while socat.write_all(&[7; 65536]).is_ok() {}
            } else {
                let (reader, mut writer) = std::io::pipe().unwrap();
                thread::spawn(move || while writer.write_all(&[7; 65536]).is_ok() {});
                let mut out = connect(port, &both, "").unwrap();
                out.send(reader, &Cancel::default(), |_| {}).unwrap_err();
            }
        });
        let mut last = 0;
        loop {
            thread::sleep(Duration::from_millis(300));
            match passed.load(Ordering::Relaxed) {
                n if n > 0 && n == last => break, // the pipe is full
                n => last = n,
            }
        }
        assert!(!thread.is_finished(), "bare: {accept_raw}");
        let begin = Instant::now();
        cancel.cancel("test");
        let (e, ended) = thread.join().unwrap();
        assert!(e.is_cancelled(), "bare: {accept_raw}: {e}");
        let took = ended.duration_since(begin);
        assert!(
            took < Duration::from_secs(1),
            "bare: {accept_raw}: {took:?}"
        );
        assert!(id.group_alive().is_empty(), "bare: {accept_raw}");
        sender.join().unwrap();
    }
}

/// The cause is known at once, though the sender waits in the middle of a frame.
#[test]
fn no_room_for_the_last_phase_ends_a_sender_that_waits_for_its_receiver() {
    let (mut taker, sink) = std::io::pipe().unwrap();
    let (port, _cancel, thread) = receiving(settings(), move |incoming| {
        incoming.unwrap().receive(sink, &Cancel::default(), |_| {})
    });
    let cancel = Cancel::default();
    let mut out = connect(port, &settings(), "").unwrap();
    let spool = Spool::with_reserve(std::env::temp_dir(), u64::MAX);
    let (reader, mut tool) = std::io::pipe().unwrap();
    let released = spool.clone();
    let feed = thread::spawn(move || {
        let mut written = |n| (0..n).all(|_| tool.write_all(&[7; 65536]).is_ok());
        assert!(written(32), "2 MiB"); // the first frame is on its way
        released.release();
        while written(1) {}
        tool
    });
    let (ended, end) = std::sync::mpsc::channel();
    let sent = out.send_through(
        &spool,
        reader,
        move || ended.send(Instant::now()).unwrap(),
        &cancel,
        |_| {},
    );
    let took = end.recv().unwrap().elapsed();
    let e = sent.unwrap_err().to_string();
    assert!(
        e.contains("must stay free") && e.contains("common.backup-dir"),
        "{e}"
    );
    assert!(took < Duration::from_secs(3), "{took:?}");
    drop(out);
    drop(feed.join().unwrap());
    let drained = thread::spawn(move || std::io::copy(&mut taker, &mut std::io::sink()));
    thread.join().unwrap().unwrap_err();
    drained.join().unwrap().unwrap();
}

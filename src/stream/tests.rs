use super::*;
use crate::error::{Kind, Result};
use crate::process::Cancel;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::Instant;

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
    let settings = Settings {
        port,
        ..settings.clone()
    };
    Outgoing::connect("127.0.0.1", settings, notes, &Cancel::default())
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
        incoming.accept_all().unwrap();
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
        incoming.refuse("mbstream: No space left on device");
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
        incoming.unwrap().refuse("two families");
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
        incoming.refuse(&e.to_string());
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

/// A way between sender and receiver on which `tamper` works: it gets all bytes of the sender with their place.
fn through(port: u16, mut tamper: impl FnMut(u64, &mut [u8]) -> bool + Send + 'static) -> u16 {
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = proxy.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut sender = proxy.accept().unwrap().0;
        let mut receiver = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (mut back, mut forth) = (receiver.try_clone().unwrap(), sender.try_clone().unwrap());
        thread::spawn(move || std::io::copy(&mut back, &mut forth));
        let mut place = 0;
        let mut buffer = [0; 65536];
        while let Ok(n) = sender.read(&mut buffer) {
            if n == 0
                || !tamper(place, &mut buffer[..n])
                || receiver.write_all(&buffer[..n]).is_err()
            {
                break;
            }
            place += n as u64;
        }
        let _ = receiver.shutdown(Shutdown::Both);
        let _ = sender.shutdown(Shutdown::Both);
    });
    at
}

/// What both ends say of a transfer over such a way.
fn over(
    name: &str,
    both: &Settings,
    tamper: impl FnMut(u64, &mut [u8]) -> bool + Send + 'static,
) -> (String, String) {
    let (path, file) = scratch(name);
    let (port, _cancel, thread) = receiving(both.clone(), move |incoming| {
        let mut incoming = incoming.unwrap();
        let result = incoming.receive(file, &Cancel::default(), |_| {});
        match &result {
            Ok(_) => incoming.accept_all().unwrap(),
            Err(e) => incoming.refuse(&e.to_string()),
        }
        result
    });
    let cancel = Cancel::default();
    let mut out = connect(through(port, tamper), both, "").unwrap();
    let sent = out.send(source(data(20_000_000)), &cancel, |_| {});
    let sent = sent.and_then(|_| out.finish(Ok(()), &cancel));
    let got = thread.join().unwrap();
    std::fs::remove_file(path).unwrap();
    (sent.unwrap_err().to_string(), got.unwrap_err().to_string())
}

#[test]
fn one_flipped_bit_is_found_and_told_to_both() {
    let flipped = |place: u64, bytes: &mut [u8]| {
        if (place..place + bytes.len() as u64).contains(&5_000_000) {
            bytes[(5_000_000 - place) as usize] ^= 4;
        }
        true
    };
    let (sent, got) = over("flipped", &settings(), flipped);
    assert!(got.contains("bytes were changed on the way"), "{got}");
    assert!(sent.contains("bytes were changed on the way"), "{sent}");
}

#[test]
fn a_link_that_is_cut_is_an_error_on_both_ends_though_it_looks_like_an_end() {
    let (sent, got) = over("cut", &settings(), |place, _| place < 3_000_000);
    assert!(got.contains("without the mark of the end"), "{got}");
    assert!(sent.contains("broke after"), "{sent}");
}

#[test]
fn a_dead_link_is_found_by_the_idle_timers() {
    let both = Settings {
        idle: Duration::from_millis(900),
        ..settings()
    };
    let (sent, got) = over("dead", &both, |place, _| {
        if place > 3_000_000 {
            thread::sleep(Duration::from_secs(6));
        }
        true
    });
    assert!(got.contains("seed-idle-timeout"), "{got}");
    assert!(
        sent.contains("seed-idle-timeout") || sent.contains("broke"),
        "{sent}"
    );
}

#[test]
fn a_silent_tool_is_no_dead_link_but_must_begin() {
    let both = Settings {
        idle: Duration::from_secs(3),
        ..settings()
    };
    let (path, file) = scratch("silent");
    let (port, _cancel, thread) = receiving(both.clone(), move |incoming| {
        let mut incoming = incoming.unwrap();
        let n = incoming.receive(file, &Cancel::default(), |_| {}).unwrap();
        incoming.accept_all().unwrap();
        n
    });
    let cancel = Cancel::default();
    let mut out = connect(port, &both, "").unwrap();
    let (reader, mut writer) = std::io::pipe().unwrap();
    thread::spawn(move || {
        writer.write_all(b"a").unwrap();
        thread::sleep(Duration::from_secs(7)); // waits for a lock, say
        writer.write_all(b"b").unwrap();
    });
    assert_eq!(out.send(reader, &cancel, |_| {}).unwrap(), 2);
    out.finish(Ok(()), &cancel).unwrap();
    assert_eq!(thread.join().unwrap(), 2);
    std::fs::remove_file(path).unwrap();

    let late = Settings {
        first_byte: Duration::from_millis(400),
        ..settings()
    };
    let (path, file) = scratch("late");
    let (port, _cancel, thread) = receiving(late.clone(), move |incoming| {
        incoming.unwrap().receive(file, &Cancel::default(), |_| {})
    });
    let mut out = connect(port, &settings(), "").unwrap();
    let (reader, _writer) = std::io::pipe().unwrap();
    let e = out.send(reader, &cancel, |_| {}).unwrap_err();
    assert!(e.to_string().contains("broke"), "{e}");
    let e = thread.join().unwrap().unwrap_err().to_string();
    assert!(e.contains("seed-first-byte-timeout"), "{e}");
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_cancellation_of_either_end_ends_both_at_once() {
    for of_sender in [true, false] {
        let (path, file) = scratch("cancel");
        let end = Cancel::default();
        let inner = end.clone();
        let (port, _cancel, thread) = receiving(settings(), move |incoming| {
            let mut incoming = incoming.unwrap();
            incoming.receive(file, &inner, |_| {})
        });
        let cancel = Cancel::default();
        let mut out = connect(port, &settings(), "").unwrap();
        let (reader, _writer) = std::io::pipe().unwrap();
        let begin = Instant::now();
        let by = if of_sender { cancel.clone() } else { end };
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(100));
            by.cancel("test");
        });
        let sent = out.send(reader, &cancel, |_| {}).unwrap_err();
        drop(out);
        let received = thread.join().unwrap().unwrap_err();
        assert_eq!(sent.is_cancelled(), of_sender, "{sent}");
        assert_eq!(received.is_cancelled(), !of_sender, "{received}");
        assert!(begin.elapsed() < Duration::from_secs(10));
        std::fs::remove_file(path).unwrap();
    }
    // While nobody has come, as well.
    let (_, cancel, thread) = receiving(settings(), |incoming| incoming.map(drop));
    cancel.cancel("test");
    assert!(thread.join().unwrap().unwrap_err().is_cancelled());
}

#[test]
fn strangers_are_turned_away_and_the_true_one_completes() {
    let bytes = data(500_000);
    let target = Settings {
        secret: Secret::new("right"),
        ..settings()
    };
    let (path, file) = scratch("strangers");
    let (port, _cancel, thread) = receiving(target.clone(), move |incoming| {
        let mut incoming = incoming.unwrap();
        incoming.receive(file, &Cancel::default(), |_| {}).unwrap();
        incoming.accept_all().unwrap();
    });
    let dial = || TcpStream::connect(("127.0.0.1", port)).unwrap();
    let silent: Vec<TcpStream> = (0..super::listener::NEWCOMERS + 20)
        .map(|_| dial())
        .collect();
    let mut garbage = dial();
    garbage.write_all(&data(100_000)).unwrap();
    let mut http = dial();
    http.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut half = dial();
    half.write_all(&[&hello::MAGIC[..], &[0, 0, 0, 50], b"{"].concat())
        .unwrap();
    let mut bare = dial();
    bare.write_all(b"XBSTCK01xxxxxxxx").unwrap();
    for (other, why) in [
        (
            Settings {
                secret: Secret::new("wrong"),
                ..settings()
            },
            "seed-secret is not the same",
        ),
        (settings(), "wants a proof"),
        (
            Settings {
                seed: 8,
                ..target.clone()
            },
            "waits for seed 7",
        ),
        (
            Settings {
                method: "LVM".into(),
                ..target.clone()
            },
            "waits for seed 7 by Xtrabackup",
        ),
    ] {
        let e = connect(port, &other, "").err().unwrap();
        assert!(e.to_string().contains(why), "{e}");
        assert_eq!(e.kind(), Kind::Permanent, "{e}");
    }
    let cancel = Cancel::default();
    let mut out = connect(port, &target, "").unwrap();
    out.send(source(bytes.clone()), &cancel, |_| {}).unwrap();
    out.finish(Ok(()), &cancel).unwrap();
    thread.join().unwrap();
    assert!(std::fs::read(&path).unwrap() == bytes);
    std::fs::remove_file(path).unwrap();
    drop(silent);
}

#[test]
fn who_is_not_allowed_gets_no_word() {
    let target = Settings {
        allowed: AllowList::parse(&["192.0.2.0/24".into()]).unwrap(),
        ..settings()
    };
    let (port, cancel, thread) = receiving(target, |incoming| incoming.map(drop));
    let e = connect(port, &settings(), "").err().unwrap();
    assert_eq!(e.kind(), Kind::Transient, "{e}");
    cancel.cancel("test");
    assert!(thread.join().unwrap().is_err());
}

#[test]
fn a_listener_that_does_not_know_the_secret_gets_nothing() {
    let (port, cancel, thread) = receiving(settings(), |incoming| incoming.map(drop));
    let sender = Settings {
        secret: Secret::new("ours"),
        ..settings()
    };
    let e = connect(port, &sender, "").err().unwrap().to_string();
    assert!(e.contains("seed-secret is not the same"), "{e}");
    cancel.cancel("test");
    let _ = thread.join().unwrap();
}

#[test]
fn bare_streams_pass_only_where_they_are_allowed() {
    let bytes = [b"XBSTCK01".to_vec(), data(3_000_000)].concat();
    let raw = Settings {
        accept_raw: true,
        ..settings()
    };
    // To us.
    let (path, file) = scratch("bare");
    let (port, _cancel, thread) = receiving(raw.clone(), move |incoming| {
        let mut incoming = incoming.unwrap();
        assert!(incoming.is_raw());
        let n = incoming.receive(file, &Cancel::default(), |_| {}).unwrap();
        incoming.accept_all().unwrap();
        n
    });
    let mut socat = TcpStream::connect(("127.0.0.1", port)).unwrap();
    socat.write_all(&bytes).unwrap();
    socat.shutdown(Shutdown::Write).unwrap(); // as socat does, which never reads our hello
    drop(socat);
    assert_eq!(thread.join().unwrap(), bytes.len() as u64);
    assert!(std::fs::read(&path).unwrap() == bytes);
    std::fs::remove_file(path).unwrap();
    // From us.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let socat = thread::spawn(move || {
        let mut got = Vec::new();
        for _ in 0..2 {
            got.clear();
            let mut peer = listener.accept().unwrap().0;
            peer.read_to_end(&mut got).unwrap_or_default();
        }
        got
    });
    let e = connect(port, &settings(), "").err().unwrap().to_string();
    assert!(e.contains("accept-raw-streams = true"), "{e}");
    let cancel = Cancel::default();
    let mut out = connect(port, &raw, "").unwrap();
    assert!(out.is_raw());
    out.send(source(bytes.clone()), &cancel, |_| {}).unwrap();
    out.finish(Ok(()), &cancel).unwrap();
    assert!(socat.join().unwrap() == bytes);
}

//! Links that change bytes, break or fall silent.

use super::*;
use std::io::Read;
use std::net::Shutdown;

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
            Ok(_) => incoming.acknowledge().unwrap(),
            Err(e) => incoming.reject(&e.to_string(), false),
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
    assert!(got.contains("the stream was corrupted in transit"), "{got}");
    assert!(
        sent.contains("the stream was corrupted in transit"),
        "{sent}"
    );
}

#[test]
fn a_link_that_is_cut_is_an_error_on_both_ends_though_it_looks_like_an_end() {
    let (sent, got) = over("cut", &settings(), |place, _| place < 3_000_000);
    assert!(got.contains("without the end mark"), "{got}");
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
        incoming.acknowledge().unwrap();
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

//! Who is accepted: unauthenticated peers, secrets, allowed clients, raw streams.

use super::*;

#[test]
fn peers_without_the_secret_are_rejected_and_the_right_one_completes() {
    let bytes = data(500_000);
    let target = Settings {
        secret: Secret::new("right"),
        ..settings()
    };
    let (path, file) = scratch("strangers");
    let (port, _cancel, thread) = receiving(target.clone(), move |incoming| {
        let mut incoming = incoming.unwrap();
        incoming.receive(file, &Cancel::default(), |_| {}).unwrap();
        incoming.acknowledge().unwrap();
    });
    let dial = || TcpStream::connect(("127.0.0.1", port)).unwrap();
    let silent: Vec<TcpStream> = (0..super::listener::MAX_HANDSHAKES + 20)
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
        (settings(), "requires common.seed-secret"),
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
        assert!(e.is_permanent(), "{e}");
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

/// Not when his time for the hello is up: a sender waits as long for the listener's.
#[test]
fn who_is_turned_away_is_cut_off_at_once() {
    let (port, cancel, thread) = receiving(settings(), |incoming| assert!(incoming.is_err()));
    let mut bare = TcpStream::connect(("127.0.0.1", port)).unwrap();
    bare.write_all(b"XBSTCK01xxxxxxxx").unwrap();
    let limit = Duration::from_secs(3);
    bare.set_read_timeout(Some(limit)).unwrap();
    let begin = std::time::Instant::now();
    let _ = std::io::Read::read_to_end(&mut bare, &mut Vec::new()); // a reset is an error
    assert!(begin.elapsed() < limit, "{:?}", begin.elapsed());
    cancel.cancel("over");
    thread.join().unwrap();
}

#[test]
fn who_is_not_allowed_gets_no_word() {
    let target = Settings {
        allowed: AllowList::parse(&["192.0.2.0/24".into()]).unwrap(),
        ..settings()
    };
    let (port, cancel, thread) = receiving(target, |incoming| incoming.map(drop));
    let e = connect(port, &settings(), "").err().unwrap();
    assert!(e.is_transient(), "{e}");
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
fn raw_streams_pass_only_where_they_are_allowed() {
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
        incoming.acknowledge().unwrap();
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

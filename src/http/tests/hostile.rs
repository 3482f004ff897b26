//! Hostile and broken clients.

use super::*;

/// The status that `request` is refused with; the connection must then be closed, and the front still answer.
fn refused(rig: &Rig, request: impl AsRef<[u8]>) -> u16 {
    let mut client = rig.client();
    let answer = client.send(request).answer();
    assert!(
        answer.head.contains("Content-Type: text/plain"),
        "{}",
        answer.head
    );
    assert!(
        answer.head.contains("Connection: close\r\n"),
        "{}",
        answer.head
    );
    assert!(client.is_closed());
    assert_eq!(rig.client().get("/x").body, "ok");
    answer.status
}

#[test]
fn content_length_bombs() {
    let rig = Rig::new(|_| {});
    for (length, status) in [
        ("100000000000", 413),
        ("9223372036854775809", 413),
        ("1048577", 413),
        ("-3", 400),
        ("+5", 400),
        ("5\r\nContent-Length: 6", 400),
    ] {
        let request = format!("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n");
        assert_eq!(refused(&rig, request), status, "{length}");
    }
}

#[test]
fn what_tiny_http_cannot_stand_does_not_reach_it() {
    let rig = Rig::new(|_| {});
    let chunked = "POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert_eq!(refused(&rig, chunked), 501);
    assert_eq!(refused(&rig, "GET / HTTP/2.0\r\nHost: h\r\n\r\n"), 505);
    assert_eq!(refused(&rig, "GET / HTTP/1.1\nHost: h\n\n"), 400);
    assert_eq!(
        refused(&rig, "GET /\u{e4} HTTP/1.1\r\nHost: h\r\n\r\n"),
        400
    );
    assert_eq!(refused(&rig, b"\x16\x03\x01\x02\x00"), 400);
}

#[test]
fn a_client_that_sends_on_gets_to_read_the_refusal() {
    let rig = Rig::new(|_| {});
    let mut client = rig.client();
    client.send("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 2000000\r\n\r\n");
    client.send(vec![b'x'; 2_000_000]);
    assert_eq!(client.answer().status, 413);
}

#[test]
fn endless_heads_are_cut() {
    let rig = Rig::new(|_| {});
    for line in ["A: b\r\n".to_string(), "b".repeat(1 << 20)] {
        let mut socket = TcpStream::connect(rig.address).unwrap();
        socket
            .write_all(b"GET / HTTP/1.1\r\nHost: h\r\nA: ")
            .unwrap();
        let mut sent = 0;
        // 200 MiB header line, or as many headers.
        while sent < 200 << 20 && socket.write_all(line.as_bytes()).is_ok() {
            sent += line.len();
        }
        assert!(sent < 40 << 20, "{sent} bytes were taken");
    }
    assert_eq!(rig.client().get("/x").body, "ok");
}

#[test]
fn a_dripped_head_is_cut_at_the_deadline() {
    let rig = Rig::new(|s| s.limits.head_time = millis(300));
    let mut client = rig.client();
    let start = Instant::now();
    let mut drip = client.0.get_ref().try_clone().unwrap();
    let dripper = thread::spawn(move || {
        for byte in b"GET / HTTP/1.1\r\nA: "
            .iter()
            .chain(std::iter::repeat(&b'x'))
        {
            if drip.write_all(&[*byte]).is_err() {
                break;
            }
            thread::sleep(millis(20));
        }
    });
    assert_eq!(client.answer().status, 408);
    let took = start.elapsed();
    assert!(took >= millis(290) && took < millis(8000), "{took:?}");
    drop(client);
    dripper.join().unwrap();
}

#[test]
fn a_body_that_does_not_come_is_408_and_an_idle_connection_just_ends() {
    let rig = Rig::new(|s| {
        s.limits.transfer = millis(200);
        s.limits.idle = millis(200);
    });
    let mut client = rig.client();
    client.send("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 2000\r\n\r\nabc");
    assert_eq!(client.answer().status, 408);
    let mut idle = rig.client();
    assert_eq!(idle.get("/x").body, "ok");
    let start = Instant::now();
    assert!(idle.is_closed());
    assert!(start.elapsed() >= millis(150));
}

#[test]
fn a_panic_costs_one_request() {
    let rig = Rig::new(|_| {});
    let mut client = rig.client();
    for _ in 0..6 {
        let answer = client.get("/panic");
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (500, "500 Internal Server Error")
        );
        assert!(answer.head.contains("Content-Type: text/plain"));
        assert_eq!(client.get("/x").body, "ok");
    }
}

#[test]
fn clients_that_leave_in_mid_response_harm_no_one() {
    let rig = Rig::new(|_| {});
    for size in [900_000, 30_000_000].repeat(8) {
        let mut client = rig.client();
        client.send(format!("GET /bytes/{size} HTTP/1.1\r\nHost: h\r\n\r\n"));
        client.0.read_exact(&mut [0; 100]).unwrap();
    }
    assert_eq!(rig.client().get("/x").body, "ok");
}

#[test]
fn slow_readers_delay_no_one_and_are_cut() {
    let rig = Rig::new(|s| s.limits.transfer = millis(1800));
    let mut readers = Vec::new();
    for _ in 0..8 {
        let mut client = rig.client();
        client.send("GET /bytes/20000000 HTTP/1.1\r\nHost: h\r\n\r\n");
        readers.push(client);
    }
    thread::sleep(millis(200));
    let start = Instant::now();
    assert_eq!(rig.client().get("/x").body, "ok");
    assert!(start.elapsed() < millis(3000), "{:?}", start.elapsed());
    thread::sleep(millis(6000));
    for mut reader in readers {
        let mut all = Vec::new();
        // How it ends, FIN or RST, is the kernel's choice.
        let end = reader.0.read_to_end(&mut all);
        assert!(all.len() < 20_000_000, "{} {end:?}", all.len());
    }
}

#[test]
fn a_response_that_flows_slowly_is_not_cut() {
    let rig = Rig::new(|s| s.limits.transfer = millis(2000));
    let mut client = rig.client();
    client.send("GET /bytes/16000000 HTTP/1.1\r\nHost: h\r\n\r\n");
    let (_, _, length) = client.head();
    let mut left = length;
    let start = Instant::now();
    while left > 0 {
        let mut piece = vec![0; left.min(1_000_000)];
        client.0.read_exact(&mut piece).unwrap();
        left -= piece.len();
        thread::sleep(millis(300));
    }
    assert!(
        start.elapsed() > millis(4000),
        "longer than one transfer time"
    );
}

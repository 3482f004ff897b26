//! What tiny_http 0.12 does when it faces the network itself, each found by experiment with no more than a client. Behind
//! the front none of it happens, with as many connections as are needed to show it.

use super::*;
use std::process::Stdio;

/// The body that a handler has not read is discarded through a buffer of its whole length: one request ends the process.
#[test]
fn fault_1_an_absurd_content_length_costs_nothing() {
    let rig = Rig::new(|_| {});
    let before = resident();
    let lengths = ["100000000000", "9223372036854775809", "2000000"];
    for length in lengths.repeat(20) {
        let mut client = rig.client();
        let head = format!("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n");
        assert_eq!(client.send(head).answer().status, 413, "{length}");
    }
    assert_eq!(rig.client().get("/x").body, "ok");
    assert_eq!(rig.arrived(), 61);
    assert!(resident() < before + (256 << 10));
}

/// One accept error ends tiny_http's accept thread: the port then rejects connections for ever.
#[test]
fn fault_2_more_connections_than_descriptors_harm_no_one() {
    let mut command = alone(
        module_path!(),
        "alone_serve_until_stdin_ends",
        "ulimit -n 64;",
    );
    let mut server = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let mut after = |words: &str| {
        let found = lines.find_map(|l| Some(l.unwrap().split_once(words)?.1.to_string()));
        found.unwrap()
    };
    let address: SocketAddr = after("listens on ").parse().unwrap();
    for _ in 0..3 {
        let mut flood = Vec::new();
        for _ in 0..100 {
            let mut client = Client::new(address);
            // It may have been closed already.
            let _ = client
                .0
                .get_mut()
                .write_all(b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n");
            flood.push(client);
        }
        let start = Instant::now();
        assert_eq!(Client::new(address).get("/x").body, "ok");
        assert!(start.elapsed() < millis(3000), "{:?}", start.elapsed());
    }
    drop(server.stdin.take());
    assert_eq!(after("arrived: "), "303");
    assert!(server.wait().unwrap().success());
}

#[test]
#[ignore = "run in a process of its own by fault_2_more_connections_than_descriptors_harm_no_one"]
fn alone_serve_until_stdin_ends() {
    let rig = Rig::new(|s| s.max_connections = 1000);
    println!("\nlistens on {}", rig.address);
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    println!("arrived: {}", rig.arrived());
}

/// 20 kept connections opened at once: tiny_http never answers 16 of them, nor 2 of 100.
#[test]
fn fault_3_bursts_of_kept_connections_are_all_answered() {
    for connections in [20, 100] {
        let rig = Rig::new(|s| s.max_connections = 128);
        let mut clients: Vec<_> = (0..connections).map(|_| rig.client()).collect();
        for round in 0..2 {
            for client in &mut clients {
                client.send(format!("GET /echo?{round} HTTP/1.1\r\nHost: h\r\n\r\n"));
            }
            for client in &mut clients {
                assert_eq!(client.answer().body, format!("GET|/echo|{round}|-|"));
            }
        }
        assert_eq!(rig.arrived(), connections);
    }
}

/// Requests of a client that does not read the responses are queued without bound.
#[test]
fn fault_4_pipelined_requests_wait_for_the_client() {
    let rig = Rig::new(|_| {});
    let flood = rig.client().0.into_inner();
    flood.set_write_timeout(Some(millis(500))).unwrap();
    let requests = b"GET /bytes/50000 HTTP/1.1\r\nHost: h\r\n\r\n".repeat(1000);
    let mut sent = 0;
    // The buffers of both sockets are full before that.
    while sent < 100 << 20 && (&flood).write_all(&requests).is_ok() {
        sent += requests.len();
    }
    assert!(sent < 100 << 20, "{sent} bytes of requests were accepted");
    let shared = &rig.server.as_ref().unwrap().shared;
    let answered = shared.answered.load(Ordering::Relaxed);
    assert!(
        answered < 1000,
        "{answered} responses for a client that reads none"
    );
    assert_eq!(rig.client().get("/x").body, "ok");
    assert_eq!(rig.arrived(), 2);
}

/// A request of HTTP/2.0 is never answered and keeps two descriptors for ever.
#[test]
fn fault_5_http_2_leaves_no_descriptor() {
    passes_alone(module_path!(), "alone_http_2", "");
}

#[test]
#[ignore = "run in a process of its own by fault_5_http_2_leaves_no_descriptor"]
fn alone_http_2() {
    let rig = Rig::new(|_| {});
    assert_eq!(rig.client().get("/x").body, "ok");
    let before = descriptors_and_threads().0;
    for _ in 0..100 {
        let mut client = rig.client();
        let answer = client.send("GET /x HTTP/2.0\r\nHost: h\r\n\r\n").answer();
        assert_eq!(answer.status, 505);
    }
    assert_eq!(rig.arrived(), 101);
    let start = Instant::now();
    while descriptors_and_threads().0 > before {
        assert!(start.elapsed() < millis(8000));
        thread::sleep(millis(20));
    }
}

/// A body that does not come, or a response that is not read, keeps a worker busy for ever.
#[test]
fn fault_6_unfinished_requests_keep_no_worker() {
    let rig = Rig::new(|s| s.max_connections = 100);
    let mut held = Vec::new();
    for _ in 0..20 {
        for request in [
            "POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 2000\r\n\r\n",
            "GET /bytes/20000000 HTTP/1.1\r\nHost: h\r\n\r\n",
        ] {
            let mut client = rig.client();
            client.send(request);
            held.push(client);
        }
    }
    rig.wait_arrived(40);
    let start = Instant::now();
    for _ in 0..10 {
        assert_eq!(rig.client().get("/x").body, "ok");
    }
    assert!(start.elapsed() < millis(5000), "{:?}", start.elapsed());
    assert_eq!(rig.arrived(), 50);
}

/// Heads of any size are read into memory, and each connection gets a thread.
#[test]
fn fault_7_heads_and_connections_are_bounded() {
    passes_alone(module_path!(), "alone_bounds", "");
}

#[test]
#[ignore = "run in a process of its own by fault_7_heads_and_connections_are_bounded"]
fn alone_bounds() {
    let rig = Rig::new(|_| {});
    assert_eq!(rig.client().get("/x").body, "ok");
    let memory = resident();
    for line in ["A: b\r\n".repeat(10_000), "b".repeat(60_000)] {
        let mut socket = TcpStream::connect(rig.address).unwrap();
        let begin = b"GET / HTTP/1.1\r\nHost: h\r\nA: ";
        socket.write_all(begin).unwrap();
        let mut sent = 0;
        while sent < 200 << 20 && socket.write_all(line.as_bytes()).is_ok() {
            sent += line.len();
        }
        assert!(sent < 40 << 20, "{sent} bytes were accepted");
    }
    let idle: Vec<_> = (0..400).map(|_| rig.client()).collect();
    rig.wait_arrived(403);
    assert_eq!(rig.client().get("/x").body, "ok");
    // The threads of those that were evicted end a moment later.
    let start = Instant::now();
    while descriptors_and_threads().1 >= 64 + 20 {
        assert!(start.elapsed() < millis(5000), "more threads than the cap");
        thread::sleep(millis(20));
    }
    let grown = resident().saturating_sub(memory);
    assert!(grown < 16 << 10, "{grown} kB");
    drop(idle);
}

//! Many connections, the cap, slow handlers, the end, and tests that need a process of their own.

use super::*;

#[test]
fn at_the_cap_the_longest_waiting_is_evicted_but_never_one_at_work() {
    let rig = Rig::new(|s| s.max_connections = 3);
    let mut working = rig.client();
    working.send("GET /slow/600 HTTP/1.1\r\nHost: h\r\n\r\n");
    let (mut first, mut second) = (rig.client(), rig.client());
    assert_eq!(first.get("/x").body, "ok");
    thread::sleep(millis(20));
    assert_eq!(second.get("/x").body, "ok");
    assert_eq!(
        rig.client().get("/x").body,
        "ok",
        "a new connection is served"
    );
    assert!(first.is_closed());
    assert_eq!(second.get("/x").body, "ok", "its last request was later");
    assert_eq!(working.answer().body, "slept");
}

#[test]
fn when_all_are_at_work_a_new_connection_is_closed() {
    let rig = Rig::new(|s| s.max_connections = 2);
    let mut working = [rig.client(), rig.client()];
    for client in &mut working {
        client.send("GET /slow/3000 HTTP/1.1\r\nHost: h\r\n\r\n");
    }
    thread::sleep(millis(500));
    assert!(rig.client().is_closed());
    for client in &mut working {
        assert_eq!(client.answer().body, "slept");
    }
    assert_eq!(rig.client().get("/x").body, "ok");
}

/// Without an answer Go's client would send the request again.
#[test]
fn a_request_for_which_there_is_no_place_is_answered() {
    let rig = Rig::new(|s| s.max_connections = 8);
    let mut working: Vec<_> = (0..6).map(|_| rig.client()).collect();
    for client in &mut working {
        client.send("GET /slow/3000 HTTP/1.1\r\nHost: h\r\n\r\n");
    }
    thread::sleep(millis(500));
    let answer = rig.client().get("/x");
    assert_eq!(answer.status, 500);
    assert!(answer.body.contains("max-connections"), "{answer:?}");
    let answer = rig.client().get("/signal");
    assert_eq!(answer.status, 302);
    assert!(
        answer.head.contains("\r\nLocation: agent-error:busy\r\n"),
        "{answer:?}"
    );
    for client in &mut working {
        assert_eq!(client.answer().body, "slept");
    }
    assert_eq!(rig.client().get("/x").body, "ok");
}

#[test]
fn a_flood_of_idle_connections_does_not_block_others() {
    let rig = Rig::new(|s| s.max_connections = 8);
    let _idle: Vec<_> = (0..200).map(|_| rig.client()).collect();
    let start = Instant::now();
    assert_eq!(rig.client().get("/x").body, "ok");
    assert!(start.elapsed() < millis(3000), "{:?}", start.elapsed());
}

#[test]
fn slow_requests_do_not_delay_quick_ones_and_have_no_deadline() {
    let rig = Rig::new(|s| {
        s.limits.transfer = millis(200);
        s.limits.idle = millis(200);
    });
    let mut slow: Vec<_> = (0..8).map(|_| rig.client()).collect();
    for client in &mut slow {
        client.send("GET /slow/4000 HTTP/1.1\r\nHost: h\r\n\r\n");
    }
    thread::sleep(millis(100));
    let start = Instant::now();
    for _ in 0..20 {
        assert_eq!(rig.client().get("/x").body, "ok");
    }
    assert!(start.elapsed() < millis(3000), "{:?}", start.elapsed());
    for client in &mut slow {
        assert_eq!(client.answer().body, "slept");
    }
}

#[test]
fn close_ends_idle_connections_at_once_and_lets_work_finish() {
    let mut rig = Rig::new(|_| {});
    let mut idle: Vec<_> = (0..10).map(|_| rig.client()).collect();
    for client in &mut idle {
        assert_eq!(client.get("/x").body, "ok");
    }
    let took = rig.close(Duration::from_secs(5));
    assert!(took < millis(3000), "{took:?}");
    assert!(idle.iter_mut().all(Client::is_closed));
    assert!(
        TcpStream::connect(rig.address).is_err(),
        "the port is closed"
    );

    let mut rig = Rig::new(|_| {});
    let mut working = rig.client();
    working.send("GET /slow/2000 HTTP/1.1\r\nHost: h\r\n\r\n");
    thread::sleep(millis(500));
    let took = rig.close(Duration::from_secs(5));
    assert!(took > millis(200) && took < millis(4500), "{took:?}");
    let answer = working.answer();
    assert_eq!(answer.body, "slept");
    assert!(
        answer.head.contains("Connection: close\r\n"),
        "{}",
        answer.head
    );
}

#[test]
fn close_does_not_wait_longer_than_the_grace() {
    let mut rig = Rig::new(|_| {});
    let mut working = rig.client();
    working.send("GET /slow/6000 HTTP/1.1\r\nHost: h\r\n\r\n");
    thread::sleep(millis(500));
    let took = rig.close(millis(200));
    assert!(took >= millis(200) && took < millis(4000), "{took:?}");
    assert!(working.is_closed());
}

#[test]
fn a_thousand_requests_leave_no_descriptor_and_no_thread() {
    passes_alone(module_path!(), "alone_thousand_requests", "");
}

#[test]
#[ignore = "run in a process of its own by a_thousand_requests_leave_no_descriptor_and_no_thread"]
fn alone_thousand_requests() {
    let count = descriptors_and_threads;
    let rig = Rig::new(|_| {});
    let requests = |n: usize| {
        for i in 0..n {
            let mut client = rig.client();
            match i % 5 {
                0 => drop(client.send("GET / HTTP/2.0\r\n\r\n").answer()),
                // Leaves in the middle of its body.
                1 => {
                    client.send("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc");
                }
                2 => drop(client.get("/slow/0")),
                _ => drop((client.get("/x"), client.get("/bytes/5000"))),
            }
        }
    };
    requests(20);
    thread::sleep(millis(300));
    let before = count();
    requests(1000);
    let start = Instant::now();
    // Threads that tiny_http adds under load end after 5 s of idleness.
    while (count().0 > before.0 || count().1 > before.1) && start.elapsed() < millis(8000) {
        thread::sleep(millis(50));
    }
    let after = count();
    assert!(
        after.0 <= before.0 && after.1 <= before.1,
        "before {before:?}, after {after:?}"
    );
}

#[test]
fn the_front_recovers_when_something_else_has_taken_all_descriptors() {
    passes_alone(module_path!(), "alone_descriptors_taken", "ulimit -n 64;");
}

#[test]
#[ignore = "run in a process of its own by the_front_recovers_when_something_else_has_taken_all_descriptors"]
fn alone_descriptors_taken() {
    let rig = Rig::new(|_| {});
    for left in [0, 1, 2, 3].repeat(3) {
        let mut clients = [rig.client(), rig.client()];
        let mut taken = Vec::new();
        while let Ok(file) = std::fs::File::open("/dev/null") {
            taken.push(file);
        }
        taken.truncate(taken.len() - left);
        for client in &mut clients {
            client.send("GET /x HTTP/1.1\r\nHost: h\r\n\r\n");
        }
        thread::sleep(millis(100));
        drop(taken);
        // What was under way in the meantime may have failed, but soon all is well again.
        let start = Instant::now();
        while rig.client().try_get("/x") != Some(200) {
            assert!(start.elapsed() < millis(3000), "with {left} left");
        }
    }
}

#[test]
fn a_server_that_died_is_replaced() {
    let rig = Rig::new(|_| {});
    assert_eq!(rig.client().get("/x").body, "ok");
    // To the front this is what a dead accept thread looks like: no one listens.
    for socket in std::fs::read_dir(&rig.dir).unwrap() {
        std::fs::remove_file(socket.unwrap().path()).unwrap();
    }
    let start = Instant::now();
    assert_eq!(rig.client().get("/x").body, "ok");
    assert!(start.elapsed() < millis(3000));
}

#[test]
fn eight_connections_are_kept_for_status_and_information() {
    let rig = Rig::new(|s| s.max_connections = 32);
    let send = |path: &str| {
        let mut client = rig.client();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n"));
        client
    };
    let mut ordinary: Vec<_> = (0..24).map(|_| send("/slow/4000")).collect();
    thread::sleep(millis(1000));
    let rejected = send("/x").answer();
    assert_eq!(rejected.status, 500, "ordinary requests have no place");
    let mut information: Vec<_> = (0..8).map(|_| send("/info/1500")).collect();
    let start = Instant::now();
    for client in &mut information {
        assert_eq!(client.answer().body, "slept");
    }
    assert!(start.elapsed() < millis(3000), "{:?}", start.elapsed());
    for client in &mut ordinary {
        assert_eq!(client.answer().body, "slept");
    }
    assert_eq!(rig.arrived(), 33);
    assert_eq!(rig.client().get("/x").body, "ok");
}

#[test]
fn workers_are_started_as_needed_and_end_without_requests() {
    passes_alone(module_path!(), "alone_workers", "");
}

#[test]
#[ignore = "run in a process of its own by workers_are_started_as_needed_and_end_without_requests"]
fn alone_workers() {
    let threads = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        let names = tasks.map(|t| std::fs::read_to_string(t.path().join("comm")));
        names.filter_map(|n| n.ok()).collect::<Vec<_>>()
    };
    let workers = || {
        threads()
            .iter()
            .filter(|n| n.trim() == "http-worker")
            .count()
    };
    let rig = Rig::new(|_| {});
    thread::sleep(millis(500)); // tiny_http starts its threads one by one
    let at_rest = threads().len();
    let mut clients: Vec<_> = (0..20).map(|_| rig.client()).collect();
    for client in &mut clients {
        client.send("GET /slow/1000 HTTP/1.1\r\nHost: h\r\n\r\n");
    }
    thread::sleep(millis(700));
    assert_eq!(workers(), 20);
    for client in &mut clients {
        assert_eq!(client.answer().body, "slept");
    }
    drop(clients);
    let start = Instant::now();
    while workers() > 0 || threads().len() > at_rest {
        assert!(start.elapsed() < millis(15_000), "{:?}", threads());
        thread::sleep(millis(50));
    }
}

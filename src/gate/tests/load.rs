//! Many connections, the cap, slow handlers, the end, and tests that need a process of their own.

use super::*;
use std::process::{Command, Stdio};

#[test]
fn bursts_of_keep_alive_connections_are_all_answered() {
    // tiny_http by itself never answers 16 of 20 (platform-notes 2, fault 3).
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
    }
}

#[test]
fn at_the_cap_the_longest_waiting_gives_way_but_never_one_in_work() {
    let rig = Rig::new(|s| s.max_connections = 3);
    let mut working = rig.client();
    working.send("GET /slow/600 HTTP/1.1\r\nHost: h\r\n\r\n");
    let (mut first, mut second) = (rig.client(), rig.client());
    assert_eq!(first.get("/x").body, "ok");
    thread::sleep(millis(20));
    assert_eq!(second.get("/x").body, "ok");
    assert_eq!(rig.client().get("/x").body, "ok", "a newcomer is served");
    assert!(first.is_closed());
    assert_eq!(second.get("/x").body, "ok", "its last request was later");
    assert_eq!(working.answer().body, "slept");
}

#[test]
fn when_all_are_at_work_the_newcomer_is_dropped() {
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

#[test]
fn a_flood_of_idle_connections_does_not_keep_others_out() {
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
        "nobody listens any more"
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

/// One of the ignored tests below in a process of its own, since it counts, or uses up, what a process has.
fn alone(test: &str, prefix: &str) -> Command {
    let this = std::env::current_exe().unwrap();
    let module = module_path!().split_once("::").unwrap().1;
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("{prefix} exec \"$0\" \"$@\"")])
        .arg(this)
        .args(["--exact", &format!("{module}::{test}")])
        .args(["--ignored", "--nocapture", "--test-threads=1"]);
    command
}

fn passes_alone(test: &str, prefix: &str) {
    let out = alone(test, prefix).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(
        out.status.success() && text.contains("1 passed"),
        "{text}{errors}"
    );
}

#[test]
fn a_thousand_requests_leave_no_descriptor_and_no_thread() {
    passes_alone("alone_thousand_requests", "");
}

#[test]
#[ignore = "run in a process of its own by a_thousand_requests_leave_no_descriptor_and_no_thread"]
fn alone_thousand_requests() {
    let count = || {
        let entries = |dir| std::fs::read_dir(dir).unwrap().count();
        (entries("/proc/self/fd"), entries("/proc/self/task"))
    };
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
fn more_connections_than_descriptors_harm_nobody() {
    // tiny_http by itself stops listening for ever (platform-notes 2, fault 2).
    let mut command = alone("alone_serve_until_stdin_ends", "ulimit -n 64;");
    let mut server = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let address = lines.find_map(|l| {
        l.unwrap()
            .split_once("listens on ")
            .map(|l| l.1.to_string())
    });
    let address: SocketAddr = address.unwrap().parse().unwrap();
    for _ in 0..3 {
        let mut flood = Vec::new();
        for _ in 0..100 {
            let mut client = Client::new(address);
            // The gate may have given this one up already.
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
    assert!(server.wait().unwrap().success());
}

#[test]
#[ignore = "run in a process of its own by more_connections_than_descriptors_harm_nobody"]
fn alone_serve_until_stdin_ends() {
    let rig = Rig::new(|s| s.max_connections = 1000);
    println!("\nlistens on {}", rig.address);
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

#[test]
fn the_gate_recovers_when_something_else_has_taken_all_descriptors() {
    passes_alone("alone_descriptors_taken", "ulimit -n 64;");
}

#[test]
#[ignore = "run in a process of its own by the_gate_recovers_when_something_else_has_taken_all_descriptors"]
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
fn a_door_that_died_is_opened_anew() {
    let rig = Rig::new(|_| {});
    assert_eq!(rig.client().get("/x").body, "ok");
    let gate = rig.gate.as_ref().unwrap();
    // To a client this is what a dead accept thread looks like: nobody listens.
    for entry in std::fs::read_dir(&rig.dir).unwrap() {
        for socket in std::fs::read_dir(entry.unwrap().path()).unwrap() {
            std::fs::remove_file(socket.unwrap().path()).unwrap();
        }
    }
    let start = Instant::now();
    assert_eq!(Client::new(gate.local_addrs()[0]).get("/x").body, "ok");
    assert!(start.elapsed() < millis(3000));
}

//! What a well-behaved client sees.

use super::*;
use std::net::Shutdown;

#[test]
fn keep_alive_serves_many_requests_on_one_connection() {
    let rig = Rig::new(|_| {});
    let mut client = rig.client();
    for n in 0..3 {
        let answer = client.get(&format!("/echo?token=a%20b&lv=/dev/vg/{n}"));
        assert_eq!(answer.status, 200);
        assert_eq!(
            answer.body,
            format!("GET|/echo|token=a%20b&lv=/dev/vg/{n}|-|")
        );
        assert!(!answer.head.contains("Connection:"), "{}", answer.head);
        assert!(answer.head.contains("Content-Type: text/plain\r\n"));
    }
}

#[test]
fn connection_close_is_honoured_and_announced() {
    let rig = Rig::new(|_| {});
    let mut client = rig.client();
    let answer = client
        .send("GET /echo HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        .answer();
    assert!(
        answer.head.contains("\r\nConnection: close\r\n"),
        "{}",
        answer.head
    );
    assert!(client.is_closed());
}

#[test]
fn http10_closes_unless_it_asks_for_keep_alive() {
    let rig = Rig::new(|_| {});
    let mut client = rig.client();
    let kept = "GET /echo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    let answer = client.send(kept).answer();
    assert!(
        answer.head.contains("Connection: keep-alive\r\n"),
        "{}",
        answer.head
    );
    let answer = client.send("GET /echo HTTP/1.0\r\n\r\n").answer();
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (200, "GET|/echo||-|")
    );
    assert!(
        answer.head.contains("Connection: close\r\n"),
        "{}",
        answer.head
    );
    assert!(client.is_closed());
}

#[test]
fn head_is_a_get_without_the_body() {
    let rig = Rig::new(|_| {});
    let mut client = rig.client();
    let (status, head, length) = client.send("HEAD /echo HTTP/1.1\r\nHost: h\r\n\r\n").head();
    assert_eq!((status, length), (200, "GET|/echo||-|".len()), "{head}");
    assert_eq!(
        client.get("/x").body,
        "ok",
        "and the connection is still in step"
    );
    let (_, _, length) = client
        .send("HEAD /bytes/9000000 HTTP/1.1\r\nHost: h\r\n\r\n")
        .head();
    assert_eq!(
        length, 9_000_000,
        "also where the body is longer than the buffer"
    );
    assert_eq!(client.get("/x").body, "ok");
}

#[test]
fn a_client_that_has_closed_its_sending_side_gets_its_answer() {
    let rig = Rig::new(|_| {});
    let mut client = rig.client();
    client.send("GET /sleep/100 HTTP/1.1\r\nHost: h\r\n\r\n");
    client.0.get_ref().shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.answer().body, "slept");
    assert!(client.is_closed());
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let rig = Rig::new(|_| {});
    let mut client = rig.client();
    let mut all = String::new();
    for n in 0..50 {
        all += &format!("POST /echo?{n} HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{n:02}");
    }
    client.send(&all);
    for n in 0..50 {
        assert_eq!(client.answer().body, format!("POST|/echo|{n}|-|{n:02}"));
    }
}

#[test]
fn expect_100_continue_is_answered_before_the_body_is_sent() {
    let rig = Rig::new(|_| {});
    let mut client = rig.client();
    client.send(
        "POST /echo HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n",
    );
    assert_eq!(client.head().0, 100);
    assert_eq!(client.send("body").answer().body, "POST|/echo||-|body");
    assert_eq!(client.get("/x").body, "ok");
    let tea = "POST / HTTP/1.1\r\nHost: h\r\nExpect: tea\r\nContent-Length: 4\r\n\r\n";
    assert_eq!(client.send(tea).answer().status, 417);
}

#[test]
fn bodies_up_to_the_limit_arrive_complete() {
    let rig = Rig::new(|_| {});
    let mut client = rig.client();
    for length in [1, 1024, 1025, 70_000, 1 << 20] {
        client.send(format!(
            "POST /length HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n"
        ));
        assert_eq!(
            client.send(vec![b'x'; length]).answer().body,
            length.to_string()
        );
    }
}

#[test]
fn responses_of_any_size_arrive_complete() {
    let rig = Rig::new(|_| {});
    let mut client = rig.client();
    for length in [0, 1, 40_000, 100_000, 100_001, 20_000_000] {
        let answer = client.get(&format!("/bytes/{length}"));
        assert_eq!(answer.body.len(), length);
        assert!(answer.body.bytes().all(|b| b == b'b'));
    }
}

#[test]
fn headers_reach_the_handler_whatever_their_case_but_te_does_not_make_it_chunked() {
    let rig = Rig::new(|_| {});
    let request = "GET /echo HTTP/1.1\r\nHost: h\r\nX-Token: t 1\r\nTE: chunked\r\n\r\n";
    let answer = rig.client().send(request).answer();
    assert_eq!(answer.body, "GET|/echo||t 1|");
}

#[test]
fn response_headers_cannot_break_the_response() {
    let rig = Rig::new(|_| {});
    let answer = rig.client().get("/headers");
    assert!(answer.head.contains("X-Good: yes\r\n"));
    assert!(
        !answer.head.contains("X-Bad") && !answer.head.contains("X-Evil"),
        "{}",
        answer.head
    );
    assert_eq!(answer.body, "headers");
}

#[test]
fn all_interfaces_accept_ipv4_and_ipv6_and_the_port_is_known() {
    let rig = Rig::new(|s| s.listen = vec!["[::]:0".parse().unwrap()]);
    let port = rig.address.port();
    assert_ne!(port, 0);
    assert_eq!(
        Client::new(([127, 0, 0, 1], port).into()).get("/x").body,
        "ok"
    );
    if rig.address.is_ipv6() {
        assert_eq!(
            Client::new((std::net::Ipv6Addr::LOCALHOST, port).into())
                .get("/x")
                .body,
            "ok"
        );
    }
}

#[test]
fn only_allowed_clients_may_connect() {
    let rig = Rig::new(|s| s.allowed = Box::new(|a| !a.is_loopback()));
    assert!(rig.client().is_closed());
    let rig = Rig::new(|s| s.allowed = Box::new(|a| a.is_loopback()));
    assert_eq!(rig.client().get("/x").body, "ok");
}

#[test]
fn a_busy_port_is_an_error_that_names_port_and_setting() {
    let rig = Rig::new(|_| {});
    let settings = Settings {
        listen: vec![rig.address],
        max_connections: 1,
        max_per_address: 10_000,
        socket_dir: rig.dir.clone(),
        spool_dir: rig.dir.clone(),
        allowed: Box::new(|_| true),
        tls: None,
        limits: Limits::default(),
    };
    let Err(error) = Server::open(settings, Arc::new(route)) else {
        panic!("the port is taken");
    };
    let text = error.to_string();
    assert!(
        text.contains(&rig.address.to_string()) && text.contains("common.port"),
        "{text}"
    );
}

#[test]
fn a_wrong_token_is_answered_after_a_fixed_delay_and_others_at_once() {
    let rig = Rig::new(|s| s.limits.failed_token_delay = millis(300));
    let mut client = rig.client();
    for _ in 0..2 {
        let start = Instant::now();
        assert_eq!(client.get("/wrong").body, "wrong token");
        assert!(start.elapsed() >= millis(300), "{:?}", start.elapsed());
    }
    let mut wrong = rig.client();
    wrong.send("GET /wrong HTTP/1.1\r\nHost: h\r\n\r\n");
    let start = Instant::now();
    assert_eq!(rig.client().get("/x").body, "ok");
    assert!(start.elapsed() < millis(300), "{:?}", start.elapsed());
    assert_eq!(wrong.answer().body, "wrong token");
}

#[test]
fn at_the_cap_a_delayed_response_is_sent_at_once() {
    let rig = Rig::new(|s| {
        s.max_connections = 1;
        s.limits.failed_token_delay = Duration::from_secs(60);
    });
    let mut wrong = rig.client();
    wrong.send("GET /wrong HTTP/1.1\r\nHost: h\r\n\r\n");
    thread::sleep(millis(200));
    assert_eq!(rig.client().get("/x").body, "ok");
    let answer = wrong.answer();
    assert_eq!(answer.body, "wrong token");
    assert!(answer.head.contains("Connection: close\r\n"));
}

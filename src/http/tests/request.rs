use super::*;

fn complete(request: &str) -> Checked<Option<Head>> {
    parse(request.as_bytes(), Access::All, &Limits::default())
}

/// A request that must pass.
fn good(request: &str) -> Head {
    complete(request).unwrap().expect("a complete head")
}

/// The status of a request that must not pass, with its body in memory.
fn status(request: &str) -> u16 {
    let limit = Limits::default().body as u64;
    let head = complete(request).map(|head| head.expect("a complete head"));
    let length = head.and_then(|head| head.body_within(limit));
    length.expect_err("a refusal").0
}

/// A GET / with the given header lines, each with its CRLF.
fn with(headers: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: h\r\n{headers}\r\n")
}

#[test]
fn a_plain_request() {
    let head = good(
        "GET /api/x?lv=/dev/vg/a%20b&token=t HTTP/1.1\r\nHost: db1:3002\r\nX-A:\t b c \r\n\r\nrest",
    );
    assert_eq!(
        (head.request.method.as_str(), head.http10, head.keep_alive),
        ("GET", false, true)
    );
    // Raw `/` and %xx stay as they are.
    assert_eq!(head.request.path, "/api/x");
    assert_eq!(head.request.query, "lv=/dev/vg/a%20b&token=t");
    assert_eq!(head.request.headers[1], ("X-A".into(), "b c".into()));
    assert_eq!((head.content_length, head.expects_continue), (0, false));
}

#[test]
fn length_counts_the_whole_head_and_leading_empty_lines() {
    let request = with("");
    assert_eq!(good(&format!("{request}tail")).length, request.len());
    assert_eq!(
        good(&format!("\r\n\r\n{request}tail")).length,
        request.len() + 4
    );
}

#[test]
fn every_prefix_is_incomplete() {
    let request = "\r\nPOST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n";
    for n in 0..request.len() {
        assert!(complete(&request[..n]).unwrap().is_none(), "{n}");
    }
    let body = "a body\nwith\n\nbare line feeds";
    assert_eq!(good(&format!("{request}{body}")).content_length, 3);
}

#[test]
fn no_byte_sequence_panics() {
    let request = b"POST http://h/a?b HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    let limits = Limits::default();
    for i in 0..request.len() {
        for byte in 0..=255 {
            let mut mutant = request.to_vec();
            mutant[i] = byte;
            // The parser's promise about whatever it accepts:
            if let Ok(Some(head)) = parse(&mutant, Access::All, &limits) {
                assert!(
                    head.request.path.starts_with('/')
                        && head.request.path.bytes().all(|b| b.is_ascii_graphic())
                );
                let again = parse(&head.forward(7), Access::All, &limits);
                assert!(
                    matches!(again, Ok(Some(_))),
                    "{:?} {again:?}",
                    String::from_utf8_lossy(&mutant)
                );
            }
        }
    }
}

#[test]
fn malformed_request_lines() {
    for line in [
        "GET /",
        "GET  / HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET /a b HTTP/1.1",
        "GET / HTTP/1",
        "GET / http/1.1",
        "GET / HTTP/1.1x",
        "G\u{1}T / HTTP/1.1",
        "G(T / HTTP/1.1",
        " GET / HTTP/1.1",
        "GET /\t HTTP/1.1",
        "GET /\u{1} HTTP/1.1",
        "GET /\u{7f} HTTP/1.1",
        "GET /\u{e4} HTTP/1.1",
        "GET * HTTP/1.1",
        "GET api HTTP/1.1",
        "GET ftp://h/ HTTP/1.1",
        "CONNECT h:80 HTTP/1.1",
    ] {
        assert_eq!(
            status(&format!("{line}\r\nHost: h\r\n\r\n")),
            400,
            "{line:?}"
        );
    }
}

#[test]
fn other_versions_are_505() {
    for version in ["HTTP/2.0", "HTTP/0.9", "HTTP/1.2", "HTTP/3.0"] {
        assert_eq!(status(&format!("GET / {version}\r\nHost: h\r\n\r\n")), 505);
    }
    assert_eq!(status("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 505);
}

#[test]
fn the_absolute_form_loses_scheme_and_host() {
    for (sent, target) in [
        ("http://db1:3002/api/status", "/api/status"),
        ("HTTPS://db1/a?b=http://c/d", "/a?b=http://c/d"),
        ("http://db1", "/"),
        ("http://db1?a=/b", "/?a=/b"),
    ] {
        let request = good(&format!("GET {sent} HTTP/1.1\r\nHost: h\r\n\r\n")).request;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        assert_eq!((&*request.path, &*request.query), (path, query));
    }
}

#[test]
fn tls_on_a_plain_port_and_other_garbage_is_refused_at_the_first_byte() {
    let refused = |bytes: &[u8]| parse(bytes, Access::All, &Limits::default()).unwrap_err();
    assert!(refused(&[0x16, 3, 1]).1.contains("use-ssl"));
    assert_eq!(refused(&[0]).0, 400);
    assert_eq!(refused("\u{e4}".as_bytes()).0, 400);
}

#[test]
fn bad_headers() {
    for header in [
        "no colon\r\n",
        "A : b\r\n",
        ": b\r\n",
        "A\u{e4}: b\r\n",
        "A: \u{e4}\r\n",
        "A: b\0\r\n",
        "A: b\r\n folded\r\n",
        "A: b\rC: d\r\n",
        "A: b\nC: d\r\n",
        "Host: second\r\n",
    ] {
        assert_eq!(status(&with(header)), 400, "{header:?}");
    }
    assert_eq!(status("GET / HTTP/1.1\r\n\r\n"), 400, "HTTP/1.1 needs Host");
    assert_eq!(
        status("GET / HTTP/1.1\n"),
        400,
        "a bare line feed is refused at once"
    );
    good("GET / HTTP/1.0\r\n\r\n");
}

#[test]
fn content_lengths() {
    for bad in ["-3", "+5", "", "5, 5", "5x", "0x10", "5 5"] {
        assert_eq!(
            status(&with(&format!("Content-Length: {bad}\r\n"))),
            400,
            "{bad}"
        );
    }
    for bomb in [
        "100000000000",
        "9223372036854775809",
        "99999999999999999999999999",
        "1048577",
    ] {
        assert_eq!(
            status(&with(&format!("Content-Length: {bomb}\r\n"))),
            413,
            "{bomb}"
        );
    }
    assert_eq!(
        status(&with("Content-Length: 5\r\nContent-Length: 5\r\n")),
        400,
        "duplicate"
    );
    assert_eq!(
        good(&with("content-LENGTH: 1048576\r\n")).content_length,
        1 << 20
    );
}

#[test]
fn transfer_encoding_is_501_and_an_offered_upgrade_is_ignored() {
    assert_eq!(status(&with("Transfer-Encoding: chunked\r\n")), 501);
    assert_eq!(
        status(&with(
            "Content-Length: 5\r\ntransfer-encoding: identity\r\n"
        )),
        501
    );
    let h2c = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n";
    let forwarded = String::from_utf8(good(&with(h2c)).forward(7)).unwrap();
    assert!(!forwarded.contains("pgrade"), "{forwarded}");
}

#[test]
fn keep_alive_rules() {
    let keeps = |version: &str, header: &str| {
        good(&format!("GET / {version}\r\nHost: h\r\n{header}\r\n")).keep_alive
    };
    assert!(keeps("HTTP/1.1", ""));
    assert!(!keeps("HTTP/1.1", "Connection: Close\r\n"));
    assert!(!keeps("HTTP/1.1", "Connection: x, close\r\n"));
    assert!(!keeps("HTTP/1.1", "Connection: x\r\nConnection: close\r\n"));
    assert!(!keeps("HTTP/1.0", ""));
    assert!(keeps("HTTP/1.0", "Connection: Keep-Alive\r\n"));
    assert!(!keeps("HTTP/1.0", "Connection: keep-alive, close\r\n"));
}

#[test]
fn expect() {
    assert!(good(&with("Expect: 100-Continue\r\nContent-Length: 1\r\n")).expects_continue);
    assert!(
        !good(&with("Expect: 100-continue\r\n")).expects_continue,
        "no body, nothing to wait for"
    );
    assert_eq!(status(&with("Expect: tea\r\n")), 417);
}

#[test]
fn heads_are_bounded() {
    let limits = Limits::default();
    assert_eq!(
        status(&with(&"A: b\r\n".repeat(100))),
        431,
        "Host and 100 more"
    );
    assert_eq!(
        good(&with(&"A: b\r\n".repeat(99))).request.headers.len(),
        100
    );
    let long = format!("GET /{} HTTP/1.1\r\n", "a".repeat(limits.head));
    assert_eq!(status(&long), 431, "without any end in sight");
    assert_eq!(
        status(&with(&format!("A: {}\r\n", "b".repeat(limits.head)))),
        431
    );
    assert_eq!(
        status(&"\r\n".repeat(limits.head)),
        431,
        "empty lines count too"
    );
}

#[test]
fn what_is_forwarded_is_one_request_without_connection_headers() {
    let head = good(&with(
        "X-Token: t\r\nagent-REQUEST-id: 9\r\nTE: chunked\r\nConnection: keep-alive\r\nExpect: 100-continue\r\nContent-Length: 2\r\n",
    ));
    let text = String::from_utf8(head.forward(7)).unwrap();
    assert_eq!(
        text,
        "GET / HTTP/1.1\r\nHost: h\r\nX-Token: t\r\nAgent-Request-Id: 7\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    );
}

#[test]
fn the_log_never_sees_the_query() {
    let head = good("GET /api/x?token=secret HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(head.path_for_log(), "/api/x");
    let head = good(&format!(
        "GET /{} HTTP/1.1\r\nHost: h\r\n\r\n",
        "a".repeat(900)
    ));
    assert_eq!(head.path_for_log().len(), 200);
}

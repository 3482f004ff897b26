//! Bodies that are streamed: responses from a reader, requests into a file.

use super::*;

/// Gives `left` bytes of `s`, and then ends as `end` says.
struct Source {
    left: u64,
    end: String,
}

impl Read for Source {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        if self.end == "late" {
            thread::sleep(millis(2500));
            self.end.clear();
        }
        if self.end == "slow" {
            thread::sleep(millis(600));
            let n = self.left.min(1);
            self.left -= n;
            buf[..n as usize].fill(b's');
            return Ok(n as usize);
        }
        let n = buf.len().min(self.left as usize);
        if n == 0 {
            match self.end.as_str() {
                "fail" => return Err(std::io::Error::other("the reader fails on purpose")),
                "panic" => panic!("a reader panics on purpose"),
                _ => {}
            }
        }
        buf[..n].fill(b's');
        self.left -= n as u64;
        Ok(n)
    }
}

/// `?END`, or `?END+N` for a body that is announced as N bytes longer than it is.
pub(super) fn response(number: u64, query: &str) -> Response {
    let (end, more) = match query.split_once('+') {
        Some((end, more)) => (end, more.parse().ok()),
        None => (query, None),
    };
    let source = Source {
        left: number,
        end: end.to_string(),
    };
    Response {
        body: Body::Reader {
            reader: Box::new(source),
            length: more.map(|more: u64| number + more),
        },
        ..Response::new(200, "text/plain", "")
    }
}

/// All that comes until the connection ends, and whether it ends with an error.
fn all(rig: &Rig, target: &str, version: &str) -> (String, bool) {
    let mut client = rig.client();
    client.send(format!(
        "GET {target} HTTP/{version}\r\nHost: h\r\nConnection: close\r\n\r\n"
    ));
    let mut bytes = Vec::new();
    let end = client.0.read_to_end(&mut bytes);
    (String::from_utf8(bytes).unwrap(), end.is_err())
}

/// The body of a chunked response; `None` if its end is missing.
fn unchunked(mut body: &str) -> Option<String> {
    let mut found = String::new();
    loop {
        let (size, rest) = body.split_once("\r\n")?;
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return (rest == "\r\n").then_some(found);
        }
        found += rest.get(..size)?;
        body = rest.get(size..)?.strip_prefix("\r\n")?;
    }
}

#[test]
fn a_streamed_body_of_any_size_arrives_complete() {
    let rig = Rig::new(|_| {});
    for size in [0, 1, 70_000, 3_000_000] {
        let expected = "s".repeat(size);
        let (text, _) = all(&rig, &format!("/stream/{size}?end"), "1.1");
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("Transfer-Encoding: chunked"), "{head}");
        assert!(unchunked(body).unwrap() == expected, "{size}");
        let (text, failed) = all(&rig, &format!("/stream/{size}?end"), "1.0");
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(!head.contains("Transfer-Encoding"), "{head}");
        assert!(head.starts_with("HTTP/1.0 200 ") && !failed, "{head}");
        assert!(body == expected, "{size}");
        let answer = rig.client().get(&format!("/stream/{size}?end+0"));
        assert!(answer.body == expected, "{size}");
    }
}

#[test]
fn a_kept_connection_goes_on_after_a_streamed_body() {
    let rig = Rig::new(|_| {});
    let mut client = rig.client();
    client.send("GET /stream/3?end HTTP/1.1\r\nHost: h\r\n\r\n");
    client.head();
    let mut body = [0; 13];
    client.0.read_exact(&mut body).unwrap();
    assert_eq!(&body, b"3\r\nsss\r\n0\r\n\r\n");
    let (_, head, length) = client
        .send("HEAD /stream/3?end HTTP/1.1\r\nHost: h\r\n\r\n")
        .head();
    assert!(head.contains("Transfer-Encoding: chunked") && length == 0);
    assert_eq!(client.get("/x").body, "ok");
}

#[test]
fn headers_and_pieces_are_with_the_client_within_a_second() {
    let rig = Rig::new(|s| s.limits.transfer = millis(1000));
    for query in ["late", "late+0"] {
        let mut client = rig.client();
        let start = Instant::now();
        client.send(format!("GET /stream/5?{query} HTTP/1.1\r\nHost: h\r\n\r\n"));
        client.head();
        assert!(start.elapsed() < millis(1000), "{:?}", start.elapsed());
        client.0.read_exact(&mut [0; 5]).unwrap();
        assert!(start.elapsed() > millis(2400), "{:?}", start.elapsed());
    }
    let mut client = rig.client();
    client.send("GET /stream/3?slow+0 HTTP/1.1\r\nHost: h\r\n\r\n");
    client.head();
    for _ in 0..3 {
        let start = Instant::now();
        client.0.read_exact(&mut [0]).unwrap();
        let took = start.elapsed();
        assert!(took > millis(300) && took < millis(1500), "{took:?}");
    }
}

#[test]
fn a_reader_that_fails_gives_the_client_an_unexpected_end() {
    let rig = Rig::new(|_| {});
    for size in [0, 3, 100_000] {
        for end in ["fail", "panic"] {
            let (text, _) = all(&rig, &format!("/stream/{size}?{end}"), "1.1");
            let (_, body) = text.split_once("\r\n\r\n").unwrap();
            assert_eq!(unchunked(body), None, "{size} {end}");
            let (_, failed) = all(&rig, &format!("/stream/{size}?{end}"), "1.0");
            assert!(failed, "{size} {end}: a clean end");
        }
        for end in ["fail+1", "panic+1", "short+1"] {
            let (text, _) = all(&rig, &format!("/stream/{size}?{end}"), "1.1");
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            let announced = format!("Content-Length: {}\r\n", size + 1);
            assert!(format!("{head}\r\n").contains(&announced), "{head}");
            assert_eq!(body.len(), size, "{end}");
        }
    }
    assert_eq!(rig.client().get("/x").body, "ok");
}

fn post(path: &str, length: usize) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n")
}

#[test]
fn a_streamed_request_body_is_spooled_under_its_own_limit() {
    let rig = Rig::new(|_| {});
    let mut client = rig.client();
    for length in [0, 1, 1 << 20, 3_000_000] {
        client.send(post("/spool/3000000", length));
        let answer = client.send(vec![b'x'; length]).answer();
        assert_eq!(answer.body, length.to_string());
    }
    let entries = || std::fs::read_dir(&rig.dir).unwrap().count();
    assert_eq!(entries(), 1, "the socket only");
    let refused = client.send(post("/spool/3000000", 3_000_001)).answer();
    assert_eq!(refused.status, 413);
    let answer = rig.client().send(post("/length", 3_000_000)).answer();
    assert_eq!(answer.status, 413, "a route without a limit of its own");
    let mut half = rig.client();
    half.send(post("/spool/3000000", 2_000_000))
        .send(vec![b'x'; 1_000_000]);
    drop(half);
    assert_eq!(rig.client().get("/x").body, "ok");
    assert_eq!(entries(), 1);
}

#[test]
fn a_spool_directory_that_cannot_be_used_is_an_error_of_the_request() {
    let rig = Rig::new(|s| s.spool_dir = "/nonexistent".into());
    let answer = rig.client().send(post("/spool/9", 0)).answer();
    assert_eq!(answer.status, 500);
    assert_eq!(rig.client().get("/x").body, "ok");
}

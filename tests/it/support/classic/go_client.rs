//! HTTP as orchestrator's agent client makes it with Go's net/http: connections are kept and used again, a GET on a used connection
//! that closes without an answer is sent once more on a new one, the headers of an answer must come within 60 s, its body may take any
//! time, redirects are followed, and the status means nothing else.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::time::Duration;

/// Of orchestrator: for the headers of an answer.
const HEADERS_WITHIN: Duration = Duration::from_secs(60);
/// Of the test: a body that takes longer than this is a fault.
const BODY_WITHIN: Duration = Duration::from_secs(240);
/// `DefaultMaxIdleConnsPerHost` of net/http.
const IDLE_PER_HOST: usize = 2;

type Address = (String, u16);

#[derive(Default)]
pub struct GoClient {
    idle: Mutex<BTreeMap<Address, Vec<Connection>>>,
    /// Targets of requests that were sent again, without the query.
    resent: Mutex<Vec<String>>,
}

type Connection = BufReader<TcpStream>;

struct Answer {
    status: u16,
    location: Option<String>,
    body: Result<Vec<u8>, String>,
}

enum Failure {
    /// The connection closed before the first byte of an answer.
    Closed,
    Other(String),
}

impl GoClient {
    /// The body, whatever the status; the error in Go's words.
    pub fn get(&self, host: &str, port: u16, target: &str) -> Result<Vec<u8>, String> {
        let address = (host.to_string(), port);
        let mut target = target.to_string();
        for _ in 0..10 {
            let failed = |e: String| format!("Get \"http://{host}:{port}{target}\": {e}");
            let answer = self.exchange(&address, &target).map_err(&failed)?;
            match answer.location {
                Some(to) if (300..400).contains(&answer.status) => {
                    if !to.starts_with('/') {
                        let scheme = to.split(':').next().unwrap_or_default();
                        return Err(format!(
                            "Get \"{to}\": unsupported protocol scheme \"{scheme}\""
                        ));
                    }
                    target = to;
                }
                _ => return answer.body, // without the URL: it is read by the caller
            }
        }
        Err(format!("Get \"{target}\": stopped after 10 redirects"))
    }

    /// Paths of requests that a closed connection has made the client send twice.
    pub fn resent(&self) -> Vec<String> {
        self.resent.lock().expect("resent").clone()
    }

    fn exchange(&self, address: &Address, target: &str) -> Result<Answer, String> {
        loop {
            let kept = self.take(address);
            let reused = kept.is_some();
            let mut connection = match kept {
                Some(connection) => connection,
                None => dial(address)?,
            };
            match ask(&mut connection, address, target) {
                Ok((answer, keep)) => {
                    if keep {
                        self.keep(address, connection);
                    }
                    return Ok(answer);
                }
                Err(Failure::Closed) if reused => {
                    let path = target.split('?').next().unwrap_or_default();
                    self.resent.lock().expect("resent").push(path.into());
                }
                Err(Failure::Closed) => return Err("EOF".into()),
                Err(Failure::Other(e)) => return Err(e),
            }
        }
    }

    /// A kept connection that has not been closed meanwhile: Go sees that at once.
    fn take(&self, address: &Address) -> Option<Connection> {
        let mut idle = self.idle.lock().expect("idle");
        let kept = idle.get_mut(address)?;
        while let Some(connection) = kept.pop() {
            let stream = connection.get_ref();
            stream.set_nonblocking(true).expect("socket");
            let state = stream.peek(&mut [0]).map_err(|e| e.kind());
            stream.set_nonblocking(false).expect("socket");
            if state == Err(ErrorKind::WouldBlock) {
                return Some(connection);
            }
        }
        None
    }

    fn keep(&self, address: &Address, connection: Connection) {
        let mut idle = self.idle.lock().expect("idle");
        let kept = idle.entry(address.clone()).or_default();
        if kept.len() < IDLE_PER_HOST {
            kept.push(connection);
        }
    }
}

fn dial((host, port): &Address) -> Result<Connection, String> {
    TcpStream::connect((host.as_str(), *port))
        .map(BufReader::new)
        .map_err(|e| match e.kind() {
            ErrorKind::ConnectionRefused => {
                format!("dial tcp {host}:{port}: connect: connection refused")
            }
            _ => format!("dial tcp {host}:{port}: {e}"),
        })
}

/// The answer, and whether the connection can be used again.
fn ask(
    connection: &mut Connection,
    (host, port): &Address,
    target: &str,
) -> Result<(Answer, bool), Failure> {
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: {host}:{port}\r\nUser-Agent: Go-http-client/1.1\r\nAccept-Encoding: gzip\r\n\r\n"
    );
    let stream = connection.get_mut();
    let limit = |stream: &TcpStream, limit| stream.set_read_timeout(Some(limit)).expect("socket");
    limit(stream, HEADERS_WITHIN);
    stream
        .write_all(request.as_bytes())
        .map_err(|_| Failure::Closed)?;
    let mut head = read_head(connection)?;
    while head[0]
        .split(' ')
        .nth(1)
        .is_some_and(|s| s.starts_with('1'))
    {
        head = read_head(connection)?; // interim
    }
    limit(connection.get_ref(), BODY_WITHIN);
    let status = head[0].split(' ').nth(1).and_then(|s| s.parse().ok());
    let status =
        status.ok_or_else(|| Failure::Other(format!("malformed HTTP response {head:?}")))?;
    let header = |name: &str| {
        let mut lines = head[1..].iter().filter_map(|l| l.split_once(": "));
        lines
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.to_string())
    };
    assert_eq!(header("Content-Encoding"), None, "plain bytes");
    let chunked = header("Transfer-Encoding").is_some_and(|v| v == "chunked");
    let length = header("Content-Length").map(|v| v.parse().expect("Content-Length"));
    let framed = chunked || length.is_some();
    let body = match length {
        _ if chunked => read_chunks(connection),
        Some(length) => read_exactly(connection, length),
        None => {
            let mut all = Vec::new();
            connection.read_to_end(&mut all).map(|_| all)
        }
    };
    let keep = framed && body.is_ok() && header("Connection").is_none_or(|v| v != "close");
    let body = body.map_err(|e| match e.kind() {
        ErrorKind::UnexpectedEof => "unexpected EOF".to_string(),
        _ => e.to_string(),
    });
    let location = header("Location");
    Ok((
        Answer {
            status,
            location,
            body,
        },
        keep,
    ))
}

/// Status line and headers.
fn read_head(connection: &mut Connection) -> Result<Vec<String>, Failure> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        match connection.read_line(&mut line) {
            Ok(n) if n > 0 && line.ends_with("\r\n") => {}
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                let text = "net/http: timeout awaiting response headers";
                return Err(Failure::Other(text.into()));
            }
            Ok(_) | Err(_) if lines.is_empty() && line.is_empty() => return Err(Failure::Closed),
            Ok(_) | Err(_) => return Err(Failure::Other("unexpected EOF".into())),
        }
        match line.trim_end() {
            "" => return Ok(lines),
            text => lines.push(text.to_string()),
        }
    }
}

fn read_exactly(from: &mut Connection, length: usize) -> io::Result<Vec<u8>> {
    let mut all = vec![0; length];
    from.read_exact(&mut all)?;
    Ok(all)
}

fn read_chunks(from: &mut Connection) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let mut line = String::new();
        from.read_line(&mut line)?;
        let size = line.strip_suffix("\r\n").ok_or(ErrorKind::UnexpectedEof)?;
        let size = usize::from_str_radix(size, 16).map_err(|_| ErrorKind::InvalidData)?;
        all.extend(read_exactly(from, size)?);
        let end = read_exactly(from, 2)?;
        if end != b"\r\n" {
            return Err(ErrorKind::InvalidData.into());
        }
        if size == 0 {
            return Ok(all);
        }
    }
}

/// The client against an agent that answers as the tests say: what the player shows of an agent depends on it.
mod tests {
    use super::GoClient;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::sync::mpsc::{Receiver, channel};

    /// Answers the n-th request with the n-th text and closes after one that is empty or says so; the connection on which each
    /// request came, and its text.
    fn server(answers: &'static [&'static str]) -> (u16, Receiver<(usize, String)>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listener");
        let port = listener.local_addr().expect("address").port();
        let (tx, requests) = channel();
        std::thread::spawn(move || {
            let mut answers = answers.iter();
            for n in 0.. {
                let Ok((mut stream, _)) = listener.accept() else {
                    return;
                };
                loop {
                    let mut buffer = [0; 2000];
                    let Ok(length @ 1..) = stream.read(&mut buffer) else {
                        break;
                    };
                    let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                    let _ = tx.send((n, text));
                    let Some(answer) = answers.next() else { return };
                    stream.write_all(answer.as_bytes()).expect("written");
                    if answer.is_empty() || answer.contains("CUT") {
                        break;
                    }
                }
            }
        });
        (port, requests)
    }

    fn connections(requests: &Receiver<(usize, String)>) -> Vec<usize> {
        requests.try_iter().map(|r| r.0).collect()
    }

    const YES: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntrue";

    #[test]
    fn connections_are_used_again() {
        let (port, requests) = server(&[
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n \r\n4\r\ntrue\r\n0\r\n\r\n",
            YES,
        ]);
        let client = GoClient::default();
        let get = || client.get("127.0.0.1", port, "/api/x?token=t");
        assert_eq!(get(), Ok(b" true".to_vec()), "the status means nothing");
        assert_eq!(get(), Ok(b"true".to_vec()));
        let (_, text) = requests.recv().expect("a request");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "GET /api/x?token=t HTTP/1.1");
        assert!(lines.contains(&"User-Agent: Go-http-client/1.1"), "{text}");
        assert_eq!(connections(&requests), [0]);
    }

    #[test]
    fn a_close_without_an_answer_on_a_used_connection_sends_the_request_again() {
        let (port, requests) = server(&[YES, "", YES]);
        let client = GoClient::default();
        for _ in 0..2 {
            let got = client.get("127.0.0.1", port, "/api/x?token=t");
            assert_eq!(got, Ok(b"true".to_vec()));
        }
        assert_eq!(connections(&requests), [0, 0, 1]);
        assert_eq!(client.resent(), ["/api/x"]);
    }

    #[test]
    fn a_close_without_an_answer_on_a_new_connection_is_an_error() {
        let (port, _requests) = server(&[""]);
        let got = GoClient::default().get("127.0.0.1", port, "/api/x");
        let text = format!("Get \"http://127.0.0.1:{port}/api/x\": EOF");
        assert_eq!(got, Err(text));
    }

    #[test]
    fn redirects_are_followed() {
        let (port, requests) = server(&[
            "HTTP/1.1 302 Found\r\nLocation: /api/y\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 302 Found\r\nLocation: agent-error:it broke\r\nContent-Length: 2\r\n\r\n{}",
        ]);
        let got = GoClient::default().get("127.0.0.1", port, "/api/x");
        let text = "Get \"agent-error:it broke\": unsupported protocol scheme \"agent-error\"";
        assert_eq!(got, Err(text.into()));
        assert_eq!(connections(&requests), [0, 0]);
    }

    #[test]
    fn a_cut_body_is_an_error() {
        for answer in [
            &["HTTP/1.1 200 CUT\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n \r\n"],
            &["HTTP/1.1 200 CUT\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ntr"],
            &["HTTP/1.1 200 CUT\r\nContent-Length: 4\r\n\r\ntru"],
        ] {
            let (port, _requests) = server(answer);
            let got = GoClient::default().get("127.0.0.1", port, "/api/x");
            assert_eq!(got, Err("unexpected EOF".into()), "{answer:?}");
        }
    }
}

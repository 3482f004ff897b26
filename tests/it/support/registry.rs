//! The registration endpoint of an orchestrator: records what agents send.

use serde_json::Value;
use std::sync::mpsc::{Receiver, channel};

pub struct Registry {
    pub port: u16,
    /// (path, body as JSON or null) of each request.
    pub requests: Receiver<(String, Value)>,
}

impl Registry {
    /// `answer` is given the path and the number of the request, from 0.
    pub fn start(answer: impl Fn(&str, usize) -> String + Send + 'static) -> Self {
        let server = tiny_http::Server::http("127.0.0.1:0").expect("registry");
        let port = server.server_addr().to_ip().expect("address").port();
        let (tx, requests) = channel();
        std::thread::spawn(move || {
            let mut n = 0;
            while let Ok(mut request) = server.recv() {
                let mut body = String::new();
                let _ = request.as_reader().read_to_string(&mut body);
                let path = request.url().to_string();
                let _ = request.respond(tiny_http::Response::from_string(answer(&path, n)));
                n += 1;
                if tx
                    .send((path, serde_json::from_str(&body).unwrap_or_default()))
                    .is_err()
                {
                    return;
                }
            }
        });
        Self { port, requests }
    }
}

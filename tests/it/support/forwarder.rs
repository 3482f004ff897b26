//! A TCP forwarder, as there are in front of servers: each new connection goes to where it points at that moment.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

pub struct Forwarder {
    pub address: SocketAddr,
    to: Arc<Mutex<SocketAddr>>,
}

impl Forwarder {
    /// Listens on `host`; connections are closed at once until [`Forwarder::point`] is called.
    pub fn start(host: &str) -> Self {
        let port = super::free_port(host);
        let listener = TcpListener::bind((host, port)).expect("forwarder");
        let address = listener.local_addr().expect("address");
        let to = Arc::new(Mutex::new(SocketAddr::from(([127, 0, 0, 1], 1))));
        let target = Arc::clone(&to);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let to = *target.lock().expect("forwarder");
                let Ok(server) = TcpStream::connect(to) else {
                    continue;
                };
                for (mut from, mut into) in [
                    (
                        client.try_clone().expect("fd"),
                        server.try_clone().expect("fd"),
                    ),
                    (server, client),
                ] {
                    std::thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut into);
                        let _ = into.shutdown(std::net::Shutdown::Both);
                    });
                }
            }
        });
        Self { address, to }
    }

    /// New connections go to `host:port` from now on.
    pub fn point(&self, host: &str, port: u16) {
        let to = format!("{host}:{port}").parse().expect("address");
        *self.to.lock().expect("forwarder") = to;
    }
}

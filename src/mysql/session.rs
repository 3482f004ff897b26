//! Sessions as a server's process list has them.

use super::query;
use crate::error::Result;
use mysql::Conn;

/// A session in the process list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Client host as the server sees it; `localhost` through the unix socket.
    pub host: String,
    /// Client port as the server sees it; `None` through the unix socket.
    pub port: Option<u16>,
}

impl Session {
    /// From the column HOST of the process list.
    pub fn parse(host: &str) -> Self {
        let parts = host.rsplit_once(':');
        let parsed = parts.and_then(|(h, p)| Some((h, Some(p.parse().ok()?))));
        let (host, port) = parsed.unwrap_or((host, None));
        let host = host.to_string();
        Self { host, port }
    }

    /// That of `conn`.
    pub(super) fn own(conn: &mut Conn) -> Result<Self> {
        const HOST: &str =
            "SELECT HOST FROM information_schema.PROCESSLIST WHERE ID = CONNECTION_ID()";
        let host: Option<String> = query::first(conn, HOST)?;
        Ok(Self::parse(&host.unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_as_the_process_list_shows_them() {
        let of = |text: &str| {
            let s = Session::parse(text);
            (s.host, s.port)
        };
        assert_eq!(of("localhost"), ("localhost".into(), None));
        assert_eq!(of("10.0.0.7:40001"), ("10.0.0.7".into(), Some(40001)));
        assert_eq!(of("::1:40001"), ("::1".into(), Some(40001)));
        assert_eq!(of(""), (String::new(), None));
    }
}

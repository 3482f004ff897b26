//! Sessions in a server that outlive their tool. In MySQL one that waits for a lock does not see that its client has gone, and
//! whoever wants the same lock waits behind it (seen on 9.7.4 for tables, FLUSH TABLES and its read lock; MariaDB 10.11 sees it
//! within seconds, but for a row's lock).

use super::types::{Peer, nanos};
use crate::config;
use crate::error::Result;
use crate::mysql::{Endpoint, connect, control};
use crate::sys::proc::{ProcessId, group_tcp_ports};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

/// How long they are searched for: a server may be down for good, and a port is given to another program after a while.
const SEARCH_LIMIT: Duration = Duration::from_secs(600);

/// A tool at work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tool {
    /// Leader of its process group.
    #[serde(flatten)]
    pub(crate) id: ProcessId,
    /// The server that it is a client of; `None` is the local one.
    #[serde(default)]
    pub(crate) server: Option<Peer>,
    /// Its local TCP ports, as far as they are known.
    #[serde(default)]
    pub(crate) ports: BTreeSet<u16>,
}

/// What the tools of an agent that was killed may still have in a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sessions {
    /// `None` is the local one.
    server: Option<Peer>,
    /// TCP ports of the clients. A client on a unix socket has none and is not found.
    ports: Vec<u16>,
    /// Nanoseconds since 1970 when the killed agent's successor has read the record.
    found: u64,
}

impl Sessions {
    /// Of tools in the record, whether they still run or not: systemd ends them with their agent.
    pub(super) fn left_by(tools: &[Tool]) -> Vec<Self> {
        let found = nanos(SystemTime::now());
        let of = |tool: &Tool| {
            let mut ports = tool.ports.clone();
            if !tool.id.group_alive().is_empty() {
                ports.extend(group_tcp_ports(tool.id.pid));
            }
            (!ports.is_empty()).then(|| Self {
                server: tool.server.clone(),
                ports: ports.into_iter().collect(),
                found,
            })
        };
        tools.iter().filter_map(of).collect()
    }

    /// True when they are not looked for any more.
    pub(crate) fn is_old(&self) -> bool {
        let age = nanos(SystemTime::now()).saturating_sub(self.found);
        Duration::from_nanos(age) > SEARCH_LIMIT
    }

    /// Ends those that are still there. May be repeated.
    pub(crate) fn end(&self, mysql: &config::Mysql) -> Result<()> {
        let server = match &self.server {
            Some(peer) => Endpoint::remote(mysql, &peer.host, peer.mysql_port),
            None => Endpoint::local(mysql),
        };
        end(&server, &self.ports)
    }
}

/// Ends the sessions of the server's account from this host with these client ports.
pub(crate) fn end(server: &Endpoint, ports: &[u16]) -> Result<()> {
    let mut conn = connect(server, Duration::from_secs(3))?;
    control::wait_until_gone(|| control::kill_ports(&mut conn, &server.user, ports))
}

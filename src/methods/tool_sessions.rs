//! The check that a tool which offers no init command has reached the server that was meant: its sessions are in the process list of
//! the agent's own connection. For mariadb-dump, older mysqldump, xtrabackup and mariadb-backup. The tool's output is read only
//! afterwards: it waits meanwhile, because a copy is larger than a pipe (64 KiB; the smallest dump of MariaDB 10.11 has 2.6 MB).

use crate::error::{Error, Result};
use crate::mysql::{Identity, Session};
use crate::process::{Cancel, Running};
use crate::sys::proc::{own_tcp_ports, readable_tcp_ports};
use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

/// How often the process list is read.
const POLL: Duration = Duration::from_millis(20);
/// How long a tool that holds TCP connections may have none in the server: to log in, or to look up a name.
const LOGIN_LIMIT: Duration = Duration::from_secs(10);
/// How long a tool may take whose connections cannot be seen from here: through the unix socket, through sudo, or behind an address
/// translation that changes ports.
const UNSEEN_LIMIT: Duration = Duration::from_secs(30);
/// How long a tool whose server has died may take to end by itself.
const TOOL_END: Duration = Duration::from_secs(1);
/// How long a session of such a tool must have existed: those that the agent opens itself meanwhile, to report the server's state,
/// look the same through the unix socket and end sooner.
const MIN_AGE: Duration = Duration::from_millis(1500);

/// The sessions of the server before a tool is started.
pub(super) struct Sessions<'a> {
    identity: &'a Identity,
    before: BTreeMap<u64, Session>,
}

impl<'a> Sessions<'a> {
    pub(super) fn before(identity: &'a Identity) -> Result<Self> {
        let (_, before) = identity.sessions()?;
        Ok(Self { identity, before })
    }

    /// Waits until `tool` has a session in the server: true. False if it has ended without having been seen: its exit status shows
    /// more, and what it has written may be another server's. `tick` is called meanwhile; its error ends the wait. After an error, which
    /// is permanent if the tool has reached another server, it still runs.
    pub(super) fn await_tool(
        &self,
        tool: &Running,
        name: &str,
        cancel: &Cancel,
        mut tick: impl FnMut() -> Result<()>,
    ) -> Result<bool> {
        let begin = Instant::now();
        let mut connected: Option<Instant> = None;
        let mut candidates: BTreeMap<u64, Instant> = BTreeMap::new();
        let (own, _) = self.identity.sessions()?;
        // Otherwise the server sees other ports than we do, or none.
        let ports_are_ours = own.port.is_some_and(|p| own_tcp_ports().contains(&p));
        loop {
            cancel.check()?;
            tick()?;
            // In this order: a connection that is seen here is in the list, unless it is another server's.
            let ports = readable_tcp_ports(tool.group()).filter(|_| ports_are_ours);
            let (own, now) = self.identity.sessions()?;
            let found = by_port(&own, &now, ports.as_ref());
            match found {
                Some(Seen::There) => return Ok(true),
                Some(Seen::Nothing) => connected = None,
                Some(Seen::Elsewhere) => {
                    if connected.get_or_insert_with(Instant::now).elapsed() > LOGIN_LIMIT {
                        return Err(self.identity.not_seen(name));
                    }
                }
                None => {
                    let new = new_sessions(&own, &self.before, &now, &own_tcp_ports());
                    let since = |id| *candidates.get(&id).unwrap_or(&Instant::now());
                    candidates = new.into_iter().map(|id| (id, since(id))).collect();
                    if candidates.values().any(|since| since.elapsed() > MIN_AGE) {
                        return Ok(true);
                    }
                }
            }
            if found != Some(Seen::Elsewhere) && begin.elapsed() > UNSEEN_LIMIT {
                return Err(match self.identity.check() {
                    Ok(()) => Error::permanent(format!(
                        "{name} has had no session in MySQL at {} for {} s and was ended: it hangs, or it reached another server; \
                         check that this address leads to one server only (host name, port forwarder, load balancer, mysql.socket)",
                        self.identity.server(),
                        UNSEEN_LIMIT.as_secs()
                    )),
                    Err(lost) => lost,
                });
            }
            if tool.has_ended(POLL) {
                return Ok(false);
            }
        }
    }
}

/// Ends a tool after `error` of [`Sessions::await_tool`], and returns what is to be reported: where the server has died, the tool's own
/// failure, which tells more than that the agent's connection has ended as well.
pub(super) fn give_up(tool: Running, error: Error) -> Result<Error> {
    if error.is_transient() && tool.has_ended(TOOL_END) {
        return Ok(tool.finish()?.check().err().unwrap_or(error));
    }
    tool.end()?;
    Ok(error)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    There,
    /// It holds TCP connections, and none of them is in the list.
    Elsewhere,
    /// It holds no TCP connection.
    Nothing,
}

/// By the local ports of the tool's connections; `None` where they cannot be read.
fn by_port(
    own: &Session,
    now: &BTreeMap<u64, Session>,
    ports: Option<&HashSet<u16>>,
) -> Option<Seen> {
    let ports = ports?;
    let is_ours = |s: &Session| s.host == own.host && s.port.is_some_and(|p| ports.contains(&p));
    Some(if ports.is_empty() {
        Seen::Nothing
    } else if now.values().any(is_ours) {
        Seen::There
    } else {
        Seen::Elsewhere
    })
}

/// Sessions from this host that are new and not this process's own.
fn new_sessions(
    own: &Session,
    before: &BTreeMap<u64, Session>,
    now: &BTreeMap<u64, Session>,
    ours: &HashSet<u16>,
) -> Vec<u64> {
    let new = now.iter().filter(|(id, s)| {
        !before.contains_key(id) && s.host == own.host && s.port.is_none_or(|p| !ours.contains(&p))
    });
    new.map(|(id, _)| *id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_tool_that_has_failed_reports_it_itself() {
        let lost = Error::transient("our connection has ended");
        for (script, error, reported) in [
            (
                "echo lost >&2; exit 3",
                lost.clone(),
                "exit status 3, stderr: lost",
            ),
            ("exit 0", lost, "our connection has ended"),
            (
                "sleep 100",
                Error::permanent("another server"),
                "another server",
            ),
        ] {
            let tool = Running::start(Command::new("sh").args(["-c", script]), "sh").unwrap();
            let text = give_up(tool, error).unwrap().to_string();
            assert!(text.contains(reported), "{script}: {text}");
        }
    }

    fn session(host: &str, port: Option<u16>) -> Session {
        Session {
            host: host.into(),
            port,
        }
    }

    #[test]
    fn a_tool_is_known_by_its_ports() {
        let own = session("10.0.0.7", Some(40_000));
        let table = [
            ("10.0.0.7", 40_002, Some(&[40_002][..]), Some(Seen::There)),
            ("10.0.0.8", 40_002, Some(&[40_002]), Some(Seen::Elsewhere)),
            ("10.0.0.7", 40_003, Some(&[40_002]), Some(Seen::Elsewhere)),
            ("10.0.0.7", 40_003, Some(&[]), Some(Seen::Nothing)),
            ("10.0.0.7", 40_002, None, None), // through sudo
        ];
        for (host, port, tool, wanted) in table {
            let now = BTreeMap::from([(9, session(host, Some(port)))]);
            let ports: Option<HashSet<u16>> = tool.map(|list| list.iter().copied().collect());
            assert_eq!(
                by_port(&own, &now, ports.as_ref()),
                wanted,
                "{host} {port} {tool:?}"
            );
        }
    }

    #[test]
    fn otherwise_by_being_new_and_not_ours() {
        let own = session("10.0.0.7", Some(40_000));
        let now = BTreeMap::from([
            (7, session("10.0.0.7", Some(40_001))), // from before
            (8, session("10.0.0.7", Some(40_002))), // ours
            (9, session("10.0.0.7", Some(40_003))),
            (10, session("10.0.0.8", Some(40_003))),
        ]);
        let before = BTreeMap::from([(7, session("10.0.0.7", Some(40_001)))]);
        let ours = HashSet::from([40_000, 40_002]);
        assert_eq!(new_sessions(&own, &before, &now, &ours), [9]);
        let local = session("localhost", None);
        let now = BTreeMap::from([(7, local.clone()), (9, local.clone())]);
        assert_eq!(new_sessions(&local, &before, &now, &ours), [9]);
    }
}

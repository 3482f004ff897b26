//! How the two agents become known: they register here as they would with orchestrator, or their token files are given.

use super::event::{Event, Listener, seconds};
use super::options::{HostPort, Options};
use crate::error::{Error, ListenOption, OnPath, Result, shortened};
use crate::http::{Limits, Plan, Request, RequestBody, Response, Server, Settings};
use crate::process::Cancel;
use crate::protocol::agent::{Access, AgentClient, Slot};
use crate::protocol::http_client::{self, AgentTransport};
use crate::protocol::wire::{AgentInfo, Envelope};
use crate::seed::Side;
use crate::sys::host::random_hex;
use crate::sys::thread::lock;
use crossbeam_channel::{Receiver, Sender, bounded, select};
use serde::Serialize;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fs::DirBuilder;
use std::net::{IpAddr, ToSocketAddrs};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

#[cfg(test)]
mod tests;

/// Agents that have no part in the seed and are remembered.
const MOST_UNKNOWN: usize = 20;

/// Both agents, and the server at which an agent that restarts registers again; it closes when this is dropped, and the directory of
/// its socket is removed after it.
pub(crate) struct Agents {
    pub(crate) source: AgentClient,
    pub(crate) target: AgentClient,
    pub(super) _server: Option<(Server, SocketDirectory)>,
}

struct RegistrationServer {
    wanted: [(Side, HostPort, Slot); 2],
    unknown: Mutex<BTreeSet<String>>,
    changed: Sender<()>,
    events: Arc<dyn Listener>,
    transport: AgentTransport,
}

/// How well a registration fits a host of the command line; the greater is the better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    None,
    Address,
    Name,
}

pub(super) fn client(
    side: Side,
    at: &HostPort,
    access: Access,
    transport: &AgentTransport,
) -> AgentClient {
    let role = match side {
        Side::Source => "source agent",
        Side::Target => "target agent",
    };
    let limits = http_client::Limits {
        connect: Duration::from_secs(5),
        total: Duration::from_secs(60),
    };
    AgentClient::new(role, (&at.host, at.port), access, transport, limits)
}

/// Makes both agents known, waiting for their registrations if they have no token files.
pub(crate) fn gather(
    options: &Options,
    events: &Arc<dyn Listener>,
    cancel: &Cancel,
) -> Result<Agents> {
    let client = |side, at: &HostPort, access| client(side, at, access, &options.transport);
    if let Some((source, target)) = &options.token_files {
        let file = |setting: &str, path: &Path| Access::File {
            setting: setting.into(),
            path: path.into(),
        };
        let source = file("--source-token-file", source);
        let target = file("--target-token-file", target);
        return Ok(Agents {
            source: client(Side::Source, &options.source, source),
            target: client(Side::Target, &options.target, target),
            _server: None,
        });
    }
    let (changed, changes) = bounded(1);
    let registration = Arc::new(RegistrationServer {
        wanted: [
            (Side::Source, options.source.clone(), Slot::default()),
            (Side::Target, options.target.clone(), Slot::default()),
        ],
        unknown: Mutex::default(),
        changed,
        events: Arc::clone(events),
        transport: options.transport.clone(),
    });
    let server = open(options, &registration)?;
    let listen = server.0.local_addrs().into_iter().map(|at| at.to_string());
    events.report(&Event::AgentsAwaited {
        listen: &listen.collect::<Vec<_>>(),
        limit_seconds: seconds(options.agent_wait),
    });
    registration.wait(&changes, options.agent_wait, cancel)?;
    let [source, target] = registration
        .wanted
        .each_ref()
        .map(|(side, at, slot)| client(*side, at, Access::Registered(Arc::clone(slot))));
    Ok(Agents {
        source,
        target,
        _server: Some(server),
    })
}

pub(super) struct SocketDirectory(PathBuf);

impl Drop for SocketDirectory {
    fn drop(&mut self) {
        if let Err(e) = std::fs::remove_dir(&self.0) {
            log::warn!("cannot remove {}: {e}", self.0.display());
        }
    }
}

/// The socket is in a directory that no other user can enter.
fn open(
    options: &Options,
    registration: &Arc<RegistrationServer>,
) -> Result<(Server, SocketDirectory)> {
    let name = random_hex(8).on("random number")?;
    let path = std::env::temp_dir().join(format!("orchestrator-agent-{name}"));
    let made = DirBuilder::new().mode(0o700).create(&path);
    made.on(format!("temporary directory {}", path.display()))?;
    let directory = SocketDirectory(path.clone());
    let settings = Settings {
        listen: vec![options.listen],
        max_connections: 64,
        max_per_address: 64,
        socket_dir: path.clone(),
        spool_dir: path,
        allowed: Box::new(|_| true),
        tls: None,
        limits: Limits::default(),
    };
    let registration = Arc::clone(registration);
    let router = move |_: &Request| {
        let registration = Arc::clone(&registration);
        Plan::new(move |request| registration.answer(&request))
    };
    let server = Server::open(settings, Arc::new(router)).map_err(|e| {
        e.listening_by(ListenOption::Listen)
            .context(format!("--listen {}", options.listen))
            .lasting()
    })?;
    Ok((server, directory))
}

impl RegistrationServer {
    /// A trailing slash is allowed.
    fn answer(&self, request: &Request) -> Response {
        let path = request.path.strip_suffix('/').unwrap_or(&request.path);
        match (request.method.as_str(), path) {
            ("POST", "/api/register-agent") => match self.register(request) {
                Ok(hostname) => json(&hostname),
                Err(e) => json(&Envelope::new("ERROR", &e.to_string())),
            },
            // An agent that registered with an earlier run registers again after an error.
            ("GET", "/api/agent-ping") if !self.missing().is_empty() => Response {
                status: 503,
                ..json(&Envelope::new("ERROR", "register first"))
            },
            ("GET", "/api/agent-ping") => json(&"OK"),
            _ => Response::new(404, "text/plain; charset=utf-8", "404 page not found\n"),
        }
    }

    /// As orchestrator does it: decode, call back, remember, answer the host name. The call goes to the host of the command
    /// line, so that a false name has no effect; other agents are not called at all.
    fn register(&self, request: &Request) -> Result<String> {
        let RequestBody::Bytes(body) = &request.body else {
            return Err(Error::permanent("the body is not in memory"));
        };
        let registration: AgentInfo =
            serde_json::from_slice(body).map_err(|e| Error::permanent(e.to_string()))?;
        let plain = |text: &str, most| {
            (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
        };
        if !plain(&registration.hostname, 255)
            || !plain(registration.token.reveal(), 128)
            || registration.port == 0
            || registration.mysql_port == 0
        {
            return Err(Error::permanent(
                "Hostname, Port, Token or MySQLPort is empty or malformed",
            ));
        }
        let name = format!("{}:{}", registration.hostname, registration.port);
        let Some((side, at, slot)) = self.find(&registration)? else {
            self.remember_unknown(&name);
            return Err(Error::permanent(format!("{name} has no part in this seed")));
        };
        let access = Access::Registered(Arc::new(Mutex::new(Some(registration.clone()))));
        let called_back = client(*side, at, access, &self.transport).data();
        called_back.map_err(|e| {
            self.events.warn(&format!(
                "{name} registers as {side}, but calling it back failed: {e}"
            ));
            Error::transient(format!("Unable to get agent data: {e}"))
        })?;
        let before = lock(slot).replace(registration.clone());
        if before.as_ref() != Some(&registration) {
            self.events.report(&Event::AgentRegistered {
                side: *side,
                agent: &name,
                again: before.is_some(),
            });
        }
        let _ = self.changed.try_send(()); // full: `wait` will wake up already
        Ok(registration.hostname)
    }

    fn find(&self, registration: &AgentInfo) -> Result<Option<&(Side, HostPort, Slot)>> {
        let [source, target] = &self.wanted;
        let fit_source = fit(&source.1, registration, resolve);
        let fit_target = fit(&target.1, registration, resolve);
        match fit_source.cmp(&fit_target) {
            Ordering::Greater => Ok(Some(source)),
            Ordering::Less => Ok(Some(target)),
            Ordering::Equal if fit_source == Fit::None => Ok(None),
            Ordering::Equal => Err(Error::permanent(format!(
                "{}:{} could be either source or target: write HOST:AGENTPORT in --source and --target",
                registration.hostname, registration.port
            ))),
        }
    }

    /// Each is reported once, however often it registers.
    fn remember_unknown(&self, name: &str) {
        let mut unknown = lock(&self.unknown);
        if unknown.len() < MOST_UNKNOWN && unknown.insert(name.to_string()) {
            drop(unknown);
            let agent = &shortened(name);
            self.events.report(&Event::AgentIgnored { agent });
        }
    }

    fn missing(&self) -> Vec<String> {
        let missing = self.wanted.iter().filter(|(_, _, s)| lock(s).is_none());
        missing
            .map(|(side, at, _)| format!("the {} agent {}", side.as_str().to_lowercase(), at.host))
            .collect()
    }

    fn wait(&self, changes: &Receiver<()>, limit: Duration, cancel: &Cancel) -> Result<()> {
        let end = Instant::now() + limit;
        loop {
            let missing = self.missing();
            if missing.is_empty() {
                return Ok(());
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let unknown: Vec<String> = lock(&self.unknown).iter().cloned().collect();
                let others = match unknown.as_slice() {
                    [] => String::new(),
                    names => format!("; registered instead: {}", names.join(", ")),
                };
                return Err(Error::transient(format!(
                    "{} did not register within --agent-wait = {}s{others}. The agents' orchestrator.url and \
                     orchestrator.agents-port must point at this host and --listen; agents try again within 30 s",
                    missing.join(" and "),
                    limit.as_secs()
                )));
            }
            select! {
                recv(changes) -> _ => {}
                recv(cancel.signal()) -> _ => return Err(Error::cancelled()),
                default(left) => {}
            }
        }
    }
}

/// By name, or because both names lead to a common address; a port that was typed must be the registered one.
fn fit(wanted: &HostPort, registration: &AgentInfo, resolve: impl Fn(&str) -> Vec<IpAddr>) -> Fit {
    if wanted.port.is_some_and(|p| p != registration.port) {
        return Fit::None;
    }
    if wanted.names(&registration.hostname) {
        return Fit::Name;
    }
    let (own, other) = (resolve(&wanted.host), resolve(&registration.hostname));
    if other.iter().any(|a| own.contains(a)) {
        Fit::Address
    } else {
        Fit::None
    }
}

fn resolve(host: &str) -> Vec<IpAddr> {
    // Unknown names are the common case here, and no match is the right answer.
    let found = (host, 0).to_socket_addrs().into_iter().flatten();
    found.map(|a| a.ip()).collect()
}

fn json(value: &impl Serialize) -> Response {
    let body = serde_json::to_vec(value).unwrap_or_default(); // strings and literals cannot fail
    Response::new(200, "application/json; charset=UTF-8", body)
}

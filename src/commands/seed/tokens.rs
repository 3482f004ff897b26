//! How the agents become known: they register here as they would with orchestrator (agent-api-v2 section 1), or their
//! token files are given.

use super::event::{Event, seconds};
use super::options::{HostPort, Options};
use super::progress::Screen;
use crate::error::{Error, ListenOption, Result};
use crate::gate::{Gate, Handler, Limits, Request, Response, Settings};
use crate::process::Cancel;
use crate::protocol::agent::{Access, AgentClient, Slot};
use crate::protocol::http_client::{self, AgentTransport, shortened};
use crate::protocol::wire::AgentInfo;
use crate::seed::Side;
use crate::sys::thread::lock;
use crossbeam_channel::{Receiver, Sender, bounded, select};
use serde::Serialize;
use std::collections::BTreeSet;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

#[cfg(test)]
mod tests;

/// Strangers that are remembered and named.
const STRANGERS: usize = 20;

/// Both agents, and the listener at which an agent that restarts registers anew; it closes when this is dropped.
pub struct Agents {
    /// The source's.
    pub source: AgentClient,
    /// The target's.
    pub target: AgentClient,
    pub(super) _gate: Option<Gate>,
}

/// The registration listener's state.
struct Desk {
    wanted: [(Side, HostPort, Slot); 2],
    strangers: Mutex<BTreeSet<String>>,
    changed: Sender<()>,
    screen: Arc<Screen>,
    transport: AgentTransport,
}

/// How a registration fits a typed host; the greater is the better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    None,
    Address,
    Name,
}

/// A client for one of the two agents.
pub(super) fn client(
    side: Side,
    at: &HostPort,
    access: Access,
    transport: &AgentTransport,
) -> AgentClient {
    let role = if side == Side::Source {
        "source agent"
    } else {
        "target agent"
    };
    let limits = http_client::Limits {
        connect: Duration::from_secs(5),
        total: Duration::from_secs(60),
    };
    AgentClient::new(role, (&at.host, at.port), access, transport, limits)
}

/// Makes both agents known, waiting for their registrations if they have no token files.
///
/// # Errors
/// If an agent does not register in time, or the listener cannot be opened; cancelled.
pub fn gather(options: &Options, screen: &Arc<Screen>, cancel: &Cancel) -> Result<Agents> {
    if let Some((source, target)) = &options.token_files {
        let file = |side, at: &HostPort, option, path: &std::path::Path| {
            client(
                side,
                at,
                Access::File {
                    setting: format!("--{option}"),
                    path: path.to_path_buf(),
                },
                &options.transport,
            )
        };
        return Ok(Agents {
            source: file(Side::Source, &options.source, "source-token-file", source),
            target: file(Side::Target, &options.target, "target-token-file", target),
            _gate: None,
        });
    }
    let (changed, news) = bounded(1);
    let desk = Arc::new(Desk {
        wanted: [
            (Side::Source, options.source.clone(), Slot::default()),
            (Side::Target, options.target.clone(), Slot::default()),
        ],
        strangers: Mutex::default(),
        changed,
        screen: Arc::clone(screen),
        transport: options.transport.clone(),
    });
    let gate = open(options, &desk)?;
    let listen: Vec<String> = gate.local_addrs().iter().map(ToString::to_string).collect();
    screen.event(&Event::AgentsAwaited {
        listen: &listen,
        limit_seconds: seconds(options.agent_wait),
    });
    screen.say(&format!(
        "Agents: waiting for registrations on {}, at most {}s",
        listen.join(", "),
        options.agent_wait.as_secs()
    ));
    desk.wait(&news, options.agent_wait, cancel)?;
    let [source, target] = &desk.wanted;
    let agent = |(side, at, slot): &(Side, HostPort, Slot)| {
        client(
            *side,
            at,
            Access::Registered(Arc::clone(slot)),
            &options.transport,
        )
    };
    Ok(Agents {
        source: agent(source),
        target: agent(target),
        _gate: Some(gate),
    })
}

fn open(options: &Options, desk: &Arc<Desk>) -> Result<Gate> {
    let settings = Settings {
        listen: vec![options.listen],
        max_connections: 64,
        max_per_address: 64,
        free_strikes: 0,
        socket_dir: std::env::temp_dir(),
        allowed: Vec::new(),
        tls: None,
        limits: Limits::default(),
    };
    let desk = Arc::clone(desk);
    let handler: Handler = Arc::new(move |request| desk.answer(request));
    // A registration calls its agent back, which may take as long as that agent likes.
    let gate = Gate::open(settings, handler, |r| {
        r.path.starts_with("/api/register-agent")
    });
    gate.map_err(|e| {
        e.listening_by(ListenOption::Listen)
            .context(format!("--listen {}", options.listen))
            .lasting()
    })
}

impl Desk {
    /// The one match of this little server; a trailing slash is allowed (agent-api-v2 0.1).
    fn answer(&self, request: &Request) -> Response {
        let path = request.path.strip_suffix('/').unwrap_or(&request.path);
        match (request.method.as_str(), path) {
            ("POST", "/api/register-agent") => match self.register(&request.body) {
                Ok(hostname) => json(&hostname),
                Err(e) => json(
                    &serde_json::json!({"Code": "ERROR", "Message": e.to_string(), "Details": null}),
                ),
            },
            // Agents that registered with an earlier run believe that they are known here: an error makes them register.
            ("GET", "/api/agent-ping") if !self.missing().is_empty() => Response {
                status: 503,
                ..json(
                    &serde_json::json!({"Code": "ERROR", "Message": "register first", "Details": null}),
                )
            },
            ("GET", "/api/agent-ping") => json(&"OK"),
            _ => Response {
                status: 404,
                content_type: "text/plain; charset=utf-8",
                body: b"404 page not found\n".to_vec(),
                headers: Vec::new(),
            },
        }
    }

    /// As the server does it (1.2): decode, call back, remember, answer the host name. The call goes to the host that was
    /// typed, so that a false name leads nowhere; strangers are not called at all.
    fn register(&self, body: &[u8]) -> Result<String> {
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
            self.stranger(&name);
            return Err(Error::permanent(format!("{name} has no part in this seed")));
        };
        let candidate = client(
            *side,
            at,
            Access::Registered(Arc::new(Mutex::new(Some(registration.clone())))),
            &self.transport,
        );
        candidate.data().map_err(|e| {
            self.screen.warn(&format!(
                "{name} registers as {side}, but calling it back failed: {e}"
            ));
            Error::transient(format!("Unable to get agent data: {e}"))
        })?;
        let hostname = registration.hostname.clone();
        let before = lock(slot).replace(registration.clone());
        if before.as_ref() != Some(&registration) {
            self.screen.event(&Event::AgentRegistered {
                side: *side,
                agent: &name,
                again: before.is_some(),
            });
            let again = if before.is_some() {
                " again: it was restarted"
            } else {
                ""
            };
            self.screen.say(&format!(
                "Agents: {} registered as {name}{again}",
                candidate.name()
            ));
        }
        let _ = self.changed.try_send(()); // full: the waiter is told already
        Ok(hostname)
    }

    /// The part that a registered host plays.
    fn find(&self, registration: &AgentInfo) -> Result<Option<&(Side, HostPort, Slot)>> {
        let [source, target] = &self.wanted;
        let fit_source = fit(&source.1, registration, resolve);
        let fit_target = fit(&target.1, registration, resolve);
        match fit_source.cmp(&fit_target) {
            _ if fit_source == Fit::None && fit_target == Fit::None => Ok(None),
            std::cmp::Ordering::Greater => Ok(Some(source)),
            std::cmp::Ordering::Less => Ok(Some(target)),
            std::cmp::Ordering::Equal => Err(Error::permanent(format!(
                "{}:{} may be the source as well as the target: give --source and --target their agents' ports",
                registration.hostname, registration.port
            ))),
        }
    }

    /// One line for each; they try again and again.
    fn stranger(&self, name: &str) {
        let mut strangers = lock(&self.strangers);
        if strangers.len() < STRANGERS && strangers.insert(name.to_string()) {
            drop(strangers);
            let agent = &shortened(name);
            self.screen.event(&Event::AgentIgnored { agent });
            self.screen.say(&format!(
                "Agents: {agent} registered, which is neither source nor target: ignored"
            ));
        }
    }

    fn missing(&self) -> Vec<String> {
        let missing = self.wanted.iter().filter(|(_, _, s)| lock(s).is_none());
        missing
            .map(|(side, at, _)| format!("the {} agent {}", side.as_str().to_lowercase(), at.host))
            .collect()
    }

    fn wait(&self, news: &Receiver<()>, limit: Duration, cancel: &Cancel) -> Result<()> {
        let end = Instant::now() + limit;
        loop {
            let missing = self.missing();
            if missing.is_empty() {
                return Ok(());
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let strangers = lock(&self.strangers);
                let others = match strangers.len() {
                    0 => String::new(),
                    _ => format!(
                        "; registered instead: {}",
                        strangers.iter().cloned().collect::<Vec<_>>().join(", ")
                    ),
                };
                return Err(Error::transient(format!(
                    "{} did not register within --agent-wait = {}s{others}. The agents' orchestrator.url and \
                     orchestrator.agents-port must point at this host and --listen; agents try again within 30 s",
                    missing.join(" and "),
                    limit.as_secs()
                )));
            }
            select! {
                recv(news) -> _ => {}
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
    let own = resolve(&wanted.host);
    if !own.is_empty()
        && resolve(&registration.hostname)
            .iter()
            .any(|a| own.contains(a))
    {
        Fit::Address
    } else {
        Fit::None
    }
}

fn resolve(host: &str) -> Vec<IpAddr> {
    // Unknown names are the common case here, and no match is the right answer.
    (host, 0)
        .to_socket_addrs()
        .map(|found| found.map(|a| a.ip()).collect())
        .unwrap_or_default()
}

fn json(value: &impl Serialize) -> Response {
    let body = serde_json::to_vec(value).unwrap_or_default(); // strings and literals cannot fail
    Response {
        status: 200,
        content_type: "application/json; charset=UTF-8",
        body,
        headers: Vec::new(),
    }
}

//! The heartbeat: one timer thread for all orchestrators. It registers this agent, pings, and registers again after a refusal, after
//! a failed ping, and after `resubmit-agent-interval`. Each call runs in a thread of its own, so that an orchestrator that does not
//! answer does not delay the calls to another. Each registration finds out which protocol its orchestrator has.

use super::contacts::{Choice, Contacts, NOT_FOUND_LIMIT, Peer};
use super::orchestrator::{Answer, Client, PORT, registration};
use super::wire::{AgentInfo, Wire};
use crate::error::{Error, Result};
use crate::sys::thread::spawn;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Longest pause between two attempts to register.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy)]
pub(crate) struct Intervals {
    /// `poll-interval`
    pub(crate) ping: Duration,
    /// `resubmit-agent-interval`
    pub(crate) register: Duration,
}

pub(crate) struct Heartbeat {
    messages: Sender<Message>,
    thread: JoinHandle<()>,
}

enum Message {
    /// From now on with these clients, one for each orchestrator as at the start; `None` keeps the one in use.
    Change(Vec<Option<Client>>, Intervals),
    /// The call to the orchestrator with this index has ended: a registration, or a ping.
    Done {
        index: usize,
        register: bool,
        success: bool,
    },
    Stop,
}

/// What every registration sends, and what it depends on.
pub(crate) struct Registrant {
    /// The name under which orchestrator knows the MySQL instance.
    pub(crate) hostname: String,
    pub(crate) port: u16,
    pub(crate) mysql_port: u16,
    /// True while a seed is current: the protocol in use with an orchestrator does not change then.
    pub(crate) is_seeding: Box<dyn Fn() -> bool + Send + Sync>,
}

struct Schedule {
    peer: Arc<Peer>,
    client: Client,
    registered: Instant,
    pinged: Instant,
    /// When to register before it is time: at first, and after a failure.
    early: Option<Instant>,
    /// Attempts to register that failed in a row.
    failures: u32,
    is_calling: bool,
}

impl Heartbeat {
    /// Starts it, with a client for each of `contacts`; `first` is done by the thread before the first registration.
    pub(crate) fn start(
        clients: Vec<Client>,
        who: Registrant,
        intervals: Intervals,
        contacts: &Contacts,
        first: impl FnOnce() + Send + 'static,
    ) -> Result<Self> {
        let (messages, received) = unbounded();
        let beat = Beat {
            who: Arc::new(who),
            messages: messages.clone(),
        };
        let peers: Vec<Arc<Peer>> = contacts.peers().cloned().collect();
        let body = move || {
            first();
            beat.run(peers.into_iter().zip(clients), intervals, &received);
        };
        let thread = spawn("heartbeat", body)?;
        Ok(Self { messages, thread })
    }

    /// From now on with these: the time that has passed since the last calls counts.
    pub(crate) fn change(&self, clients: Vec<Option<Client>>, intervals: Intervals) {
        let sent = self.messages.send(Message::Change(clients, intervals));
        if sent.is_err() {
            log::error!("the heartbeat thread has ended: restart the agent");
        }
    }
}

impl Drop for Heartbeat {
    /// Ends it within 200 ms; a call that waits for an answer ends by itself.
    fn drop(&mut self) {
        let _ = self.messages.send(Message::Stop); // the thread has ended already
        let begin = Instant::now();
        while !self.thread.is_finished() && begin.elapsed() < Duration::from_millis(200) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Pauses after the n-th failure in a row: 1, 2, 4 ... 30 s.
fn pause(failures: u32) -> Duration {
    Duration::from_secs(1 << failures.saturating_sub(1).min(5)).min(LONGEST_PAUSE)
}

struct Beat {
    who: Arc<Registrant>,
    messages: Sender<Message>,
}

impl Beat {
    fn run(
        &self,
        peers: impl Iterator<Item = (Arc<Peer>, Client)>,
        mut every: Intervals,
        received: &Receiver<Message>,
    ) {
        let now = Instant::now();
        let schedule = |(peer, client)| Schedule {
            peer,
            client,
            registered: now,
            pinged: now,
            early: Some(now),
            failures: 0,
            is_calling: false,
        };
        let mut all: Vec<Schedule> = peers.map(schedule).collect();
        loop {
            let waiting = all.iter().filter(|s| !s.is_calling);
            let due = waiting.map(|s| s.register_at(every).min(s.ping_at(every)));
            let next = due.min();
            let next = next.unwrap_or_else(|| Instant::now() + LONGEST_PAUSE);
            match received.recv_deadline(next) {
                Ok(Message::Change(clients, intervals)) => {
                    for (s, client) in all.iter_mut().zip(clients) {
                        s.client = client.unwrap_or_else(|| s.client.clone());
                    }
                    every = intervals;
                }
                Ok(Message::Done {
                    index,
                    register,
                    success,
                }) => all[index].note(register, success),
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    let now = Instant::now();
                    for (index, s) in all.iter_mut().enumerate() {
                        let register = s.register_at(every) <= now;
                        if !s.is_calling && (register || s.ping_at(every) <= now) {
                            self.call(index, s, register);
                        }
                    }
                }
            }
        }
    }

    fn call(&self, index: usize, s: &mut Schedule, register: bool) {
        let (client, who, failures) = (s.client.clone(), Arc::clone(&self.who), s.failures);
        let (peer, messages) = (Arc::clone(&s.peer), self.messages.clone());
        let body = move || {
            let call = || {
                if register {
                    try_register(&client, &who, &peer, failures)
                } else {
                    ping(&client, &peer)
                }
            };
            let success = catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| {
                peer.failed("internal error: the call panicked");
                log::error!("internal error: a call to {} panicked", peer.url());
                false
            });
            let done = Message::Done {
                index,
                register,
                success,
            };
            let _ = messages.send(done); // stopped meanwhile
        };
        match spawn("heartbeat-call", body) {
            Ok(_) => s.is_calling = true,
            Err(e) => {
                log::error!("{e}");
                let now = Instant::now();
                (s.early, s.pinged) = (Some(now + pause(1)), now);
            }
        }
    }
}

impl Schedule {
    fn register_at(&self, every: Intervals) -> Instant {
        self.early.unwrap_or(self.registered + every.register)
    }

    fn ping_at(&self, every: Intervals) -> Instant {
        self.pinged + every.ping
    }

    fn note(&mut self, register: bool, success: bool) {
        let now = Instant::now();
        self.is_calling = false;
        if register && success {
            (self.failures, self.registered, self.early) = (0, now, None);
        } else if register {
            self.failures += 1;
            self.early = Some(now + pause(self.failures));
        } else {
            self.pinged = now;
        }
        if !register && !success {
            // It may come back as another process, which does not know this agent.
            let soon = now + pause(1);
            self.early = Some(self.early.map_or(soon, |at| at.min(soon)));
        }
    }
}

fn try_register(client: &Client, who: &Registrant, peer: &Peer, failures: u32) -> bool {
    let error = match register(client, who, peer) {
        Ok(Ok(())) => return true,
        Ok(Err(refusal)) => {
            peer.refused(&refusal.to_string());
            refusal
        }
        Err(e) => {
            peer.failed(&e.to_string());
            e
        }
    };
    let level = if (failures + 1).is_power_of_two() {
        log::Level::Warn
    } else {
        log::Level::Debug
    };
    let again = pause(failures + 1).as_secs();
    log::log!(level, "registration: {error}; next attempt in {again}s");
    false
}

/// Registers by the protocols that may be used. The outer error: no answer, so orchestrator may know this agent from before. The
/// inner one: a refusal.
fn register(client: &Client, who: &Registrant, peer: &Peer) -> Result<Result<()>> {
    let info = AgentInfo {
        hostname: who.hostname.clone(),
        port: who.port,
        token: peer.token().clone(),
        mysql_port: who.mysql_port,
    };
    let call = |wire| {
        peer.begin(wire);
        client.register(wire, &info)
    };
    let choice = peer.choice((who.is_seeding)());
    let (wire, answer) = answer(choice, peer, call);
    match answer? {
        Answer::Refused(error) | Answer::Forbidden(error) => return Ok(Err(error)),
        Answer::NotFound => return Ok(Err(not_found(peer.url(), choice, wire))),
        Answer::Registered => {}
    }
    // A seed may have begun during the calls.
    let after = peer.choice((who.is_seeding)());
    if after != Choice::Only(wire) && matches!(after, Choice::Only(_)) {
        return Ok(Err(Error::transient(format!(
            "{} has changed to the agent protocol {wire} while a seed is current: it is used once the seed has ended",
            peer.url()
        ))));
    }
    if let Some(before) = peer.registered(wire) {
        log::warn!(
            "{} uses the agent protocol {wire} from now on, {before} before",
            peer.url()
        );
    }
    log::info!(
        "registered with {} as {} by the agent protocol {wire}",
        peer.url(),
        who.hostname
    );
    Ok(Ok(()))
}

/// Calls by the protocols of `choice`. Returns the answer that counts, and by which protocol: the last one. But an orchestrator that has
/// not the classic protocol, either, has answered by v2, if that was not 404.
fn answer(
    choice: Choice,
    peer: &Peer,
    call: impl Fn(Wire) -> Result<Answer>,
) -> (Wire, Result<Answer>) {
    let first = match choice {
        Choice::Only(wire) => wire,
        Choice::Both | Choice::KeepV2 | Choice::KeepClassic => Wire::V2,
    };
    let answer = call(first);
    if first == Wire::Classic {
        return (first, answer);
    }
    let unknown = matches!(answer, Ok(Answer::NotFound | Answer::Forbidden(_)));
    let in_a_row = peer.count_not_found(unknown);
    let is_tried = match choice {
        Choice::Only(_) => false,
        Choice::Both => unknown,
        Choice::KeepV2 => in_a_row >= NOT_FOUND_LIMIT,
        Choice::KeepClassic => !matches!(answer, Ok(Answer::Registered)),
    };
    if !is_tried {
        return (first, answer);
    }
    match call(Wire::Classic) {
        Ok(Answer::NotFound) if !matches!(answer, Ok(Answer::NotFound)) => (first, answer),
        other => (Wire::Classic, other),
    }
}

/// Status 404 for all that was tried, at last the registration by `wire`.
fn not_found(url: &str, choice: Choice, wire: Wire) -> Error {
    let call = registration(wire);
    Error::permanent(match (choice, wire) {
        (Choice::Only(_), _) => format!(
            "{url}{call} answers with status 404: orchestrator there does not have the agent protocol {wire}, which \
             orchestrator.protocol or the current seed requires; or {PORT}"
        ),
        (_, Wire::V2) => format!(
            "{url}{call} answers with status 404: orchestrator there does not have the agent protocol v2, which was in use; classic \
             is tried after {NOT_FOUND_LIMIT} such answers in a row"
        ),
        (_, Wire::Classic) => format!(
            "{url} answers with status 404 to {} (agent protocol v2) and to {call} (classic): {PORT}",
            registration(Wire::V2)
        ),
    })
}

fn ping(client: &Client, peer: &Peer) -> bool {
    let result = client.ping();
    match &result {
        Ok(()) => peer.answered(),
        Err(e) => {
            peer.failed(&format!("ping: {e}"));
            log::warn!("ping: {e}");
        }
    }
    result.is_ok()
}

#[cfg(test)]
mod tests;

//! The heartbeat: one timer thread for all orchestrators. It registers this agent, pings, and registers again after a refusal, after
//! a failed ping, and after `resubmit-agent-interval`. Each call runs in a thread of its own, so that an orchestrator that does not
//! answer does not delay the calls to another.

use super::orchestrator::Client;
use super::wire::{AgentInfo, Contact};
use crate::error::Result;
use crate::sys::thread::{lock, spawn};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard};
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

struct Schedule {
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
    /// Starts it; `first` is done by the thread before the first registration.
    pub(crate) fn start(
        clients: Vec<Client>,
        who: AgentInfo,
        intervals: Intervals,
        contacts: Arc<Contacts>,
        first: impl FnOnce() + Send + 'static,
    ) -> Result<Self> {
        let (messages, received) = unbounded();
        let beat = Beat {
            who: Arc::new(who),
            contacts,
            messages: messages.clone(),
        };
        let body = move || {
            first();
            beat.run(clients, intervals, &received);
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
    who: Arc<AgentInfo>,
    contacts: Arc<Contacts>,
    messages: Sender<Message>,
}

impl Beat {
    fn run(&self, clients: Vec<Client>, mut every: Intervals, received: &Receiver<Message>) {
        let now = Instant::now();
        let schedule = |client| Schedule {
            client,
            registered: now,
            pinged: now,
            early: Some(now),
            failures: 0,
            is_calling: false,
        };
        let mut all: Vec<Schedule> = clients.into_iter().map(schedule).collect();
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
        let (contacts, messages) = (Arc::clone(&self.contacts), self.messages.clone());
        let body = move || {
            let call = || {
                if register {
                    try_register(&client, &who, &contacts, failures)
                } else {
                    ping(&client, &contacts)
                }
            };
            let success = catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| {
                log::error!("internal error: a call to {} panicked", client.name());
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

fn try_register(client: &Client, who: &AgentInfo, contacts: &Contacts, failures: u32) -> bool {
    let error = match client.register(who) {
        Ok(Ok(())) => {
            log::info!("registered with {} as {}", client.name(), who.hostname);
            contacts.registered(client.name());
            return true;
        }
        Ok(Err(refusal)) => {
            contacts.refused(client.name(), &refusal.to_string());
            refusal
        }
        Err(e) => {
            contacts.failed(client.name(), &e.to_string());
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

fn ping(client: &Client, contacts: &Contacts) -> bool {
    let result = client.ping();
    match &result {
        Ok(()) => contacts.answered(client.name()),
        Err(e) => {
            contacts.failed(client.name(), &format!("ping: {e}"));
            log::warn!("ping: {e}");
        }
    }
    result.is_ok()
}

/// The contacts with all orchestrators, by URL.
#[derive(Debug, Default)]
pub(crate) struct Contacts(Mutex<BTreeMap<String, Contact>>);

impl Contacts {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Contact>> {
        lock(&self.0)
    }

    /// The orchestrator at `url` has accepted the registration.
    pub(crate) fn registered(&self, url: &str) {
        let contact = Contact {
            registered: true,
            error: String::new(),
            last: Some(Instant::now()),
        };
        self.lock().insert(url.into(), contact);
    }

    /// It has refused the registration: it does not know this agent.
    pub(crate) fn refused(&self, url: &str, why: &str) {
        let mut all = self.lock();
        let contact = all.entry(url.into()).or_default();
        (contact.registered, contact.error) = (false, why.into());
    }

    /// It has answered a ping, which it also does for an agent that it does not know.
    pub(crate) fn answered(&self, url: &str) {
        if let Some(contact) = self.lock().get_mut(url).filter(|c| c.registered) {
            (contact.error, contact.last) = (String::new(), Some(Instant::now()));
        }
    }

    pub(crate) fn failed(&self, url: &str, why: &str) {
        self.lock().entry(url.into()).or_default().error = why.into();
    }

    /// True if one of them knows this agent and has answered within `limit`.
    pub(crate) fn is_good(&self, limit: Duration) -> bool {
        let recent = |c: &Contact| c.last.is_some_and(|at| at.elapsed() <= limit);
        self.lock().values().any(|c| c.registered && recent(c))
    }

    pub(crate) fn all(&self) -> BTreeMap<String, Contact> {
        self.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn an_answer_is_a_contact_only_after_a_registration() {
        let (contacts, long) = (Contacts::default(), Duration::from_secs(60));
        contacts.answered("a");
        contacts.refused("a", "status 404");
        contacts.answered("a");
        assert!(!contacts.is_good(long));
        assert_eq!(
            contacts.all()["a"].error,
            "status 404",
            "an answer to a ping is no cure"
        );
        contacts.registered("b");
        assert!(contacts.is_good(long), "one of them is enough");
        contacts.failed("b", "no answer");
        assert!(contacts.is_good(long), "for status-bad-seconds");
        assert!(!contacts.is_good(Duration::ZERO));
        contacts.refused("b", "unknown");
        assert!(!contacts.is_good(long));
    }

    #[test]
    fn pauses_grow_to_thirty_seconds() {
        let all: Vec<u64> = (1..8).map(|n| pause(n).as_secs()).collect();
        assert_eq!(all, [1, 2, 4, 8, 16, 30, 30]);
    }

    /// An orchestrator on loopback whose answers to a registration are `answers`; sends the paths of the calls.
    fn orchestrator(answers: Vec<&'static str>) -> (u16, mpsc::Receiver<(String, String)>) {
        let server = tiny_http::Server::http("127.0.0.1:0").unwrap();
        let port = server.server_addr().to_ip().unwrap().port();
        let (tx, rx) = mpsc::channel();
        std::thread::spawn(move || {
            let mut answers = answers.into_iter();
            while let Ok(mut request) = server.recv() {
                let mut body = String::new();
                request.as_reader().read_to_string(&mut body).unwrap();
                let path = request.url().to_string();
                let text = if path.ends_with("register-agent") {
                    answers.next().unwrap_or("\"db1\"")
                } else {
                    "\"OK\""
                };
                request
                    .respond(tiny_http::Response::from_string(text))
                    .unwrap();
                if tx.send((path, body)).is_err() {
                    return;
                }
            }
        });
        (port, rx)
    }

    #[test]
    fn a_refusal_with_status_200_is_tried_again_soon() {
        let refusal =
            "{\"Code\":\"ERROR\",\"Message\":\"Unable to get agent data: x\",\"Details\":null}";
        let (port, asked) = orchestrator(vec![refusal, "\"db1\""]);
        let contacts = Arc::new(Contacts::default());
        let who = AgentInfo {
            hostname: "db1".into(),
            port: 3002,
            token: crate::config::Secret::new("geheim"),
            mysql_port: 3306,
        };
        assert!(!format!("{who:?}").contains("geheim"));
        let every = Intervals {
            ping: Duration::from_secs(4),
            register: Duration::from_secs(3600),
        };
        let client = Client::new("http://127.0.0.1", port, Duration::from_secs(2), None);
        let h = Heartbeat::start(vec![client], who, every, Arc::clone(&contacts), || {}).unwrap();
        let (path, body) = asked.recv().unwrap();
        assert_eq!(path, "/api/register-agent");
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            body,
            serde_json::json!({"Hostname": "db1", "Port": 3002, "Token": "geheim", "MySQLPort": 3306})
        );
        assert!(
            !contacts.is_good(Duration::from_secs(60)),
            "a refusal is no success"
        );
        assert_eq!(
            asked.recv_timeout(Duration::from_secs(20)).unwrap().0,
            "/api/register-agent"
        );
        assert_eq!(
            asked.recv_timeout(Duration::from_secs(20)).unwrap().0,
            "/api/agent-ping"
        );
        assert!(contacts.is_good(Duration::from_secs(60)));
        let begin = Instant::now();
        drop(h);
        assert!(begin.elapsed() < Duration::from_secs(1));
    }
}

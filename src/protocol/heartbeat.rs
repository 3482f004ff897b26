//! The heartbeat: one timer thread for all orchestrators. It registers this agent, pings, and registers again after a refusal, after
//! a failed ping, and after `resubmit-agent-interval`. Each call runs in a thread of its own, so that an orchestrator that does not
//! answer does not delay the calls to another.

use super::contact::Contacts;
use super::orchestrator::{Client, Unregistered};
use super::wire::AgentInfo;
use crate::error::Result;
use crate::sys::thread::spawn;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Longest pause between two attempts to register.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How often.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Intervals {
    /// `poll-interval`
    pub(crate) ping: Duration,
    /// `resubmit-agent-interval`
    pub(crate) register: Duration,
}

pub(crate) struct Heartbeat {
    messages: Sender<Message>,
    thread: Option<JoinHandle<()>>,
}

enum Message {
    /// From now on with these clients, one for each orchestrator as at the start; `None` keeps the one in use.
    Change(Vec<Option<Client>>, Intervals),
    /// The call to the orchestrator with this index has ended.
    Done(usize, Outcome),
    Stop,
}

enum Outcome {
    Registered,
    NotRegistered,
    Pinged,
    PingFailed,
}

/// The calls to one orchestrator.
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
    ///
    /// # Errors
    /// If the thread cannot be started.
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
        Ok(Self {
            messages,
            thread: Some(thread),
        })
    }

    /// From now on with these: the time that has passed since the last calls counts.
    pub(crate) fn change(&self, clients: Vec<Option<Client>>, intervals: Intervals) {
        if self
            .messages
            .send(Message::Change(clients, intervals))
            .is_err()
        {
            log::error!("the heartbeat thread has ended: restart the agent");
        }
    }
}

impl Drop for Heartbeat {
    /// Ends it within 200 ms; a call that waits for an answer ends by itself.
    fn drop(&mut self) {
        let _ = self.messages.send(Message::Stop); // the thread has ended already
        let begin = Instant::now();
        while self.thread.as_ref().is_some_and(|t| !t.is_finished())
            && begin.elapsed() < Duration::from_millis(200)
        {
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
            let next = waiting
                .map(|s| s.register_at(every).min(s.ping_at(every)))
                .min();
            let next = next.unwrap_or_else(|| Instant::now() + LONGEST_PAUSE);
            match received.recv_deadline(next) {
                Ok(Message::Change(clients, intervals)) => {
                    for (s, client) in all.iter_mut().zip(clients) {
                        s.client = client.unwrap_or_else(|| s.client.clone());
                    }
                    every = intervals;
                }
                Ok(Message::Done(index, outcome)) => {
                    if let Some(s) = all.get_mut(index) {
                        s.note(&outcome);
                    }
                }
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
            let outcome = catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| {
                log::error!("internal error: a call to {} panicked", client.name());
                if register {
                    Outcome::NotRegistered
                } else {
                    Outcome::PingFailed
                }
            });
            let _ = messages.send(Message::Done(index, outcome)); // stopped meanwhile
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

    fn note(&mut self, outcome: &Outcome) {
        let now = Instant::now();
        self.is_calling = false;
        match outcome {
            Outcome::Registered => {
                (self.failures, self.registered, self.early) = (0, now, None);
            }
            Outcome::NotRegistered => {
                self.failures += 1;
                self.early = Some(now + pause(self.failures));
            }
            Outcome::Pinged => self.pinged = now,
            Outcome::PingFailed => {
                self.pinged = now;
                // It may come back as another process, which does not know this agent.
                let soon = now + pause(1);
                self.early = Some(self.early.map_or(soon, |at| at.min(soon)));
            }
        }
    }
}

fn try_register(client: &Client, who: &AgentInfo, contacts: &Contacts, failures: u32) -> Outcome {
    let error = match client.register(who) {
        Ok(()) => {
            log::info!("registered with {} as {}", client.name(), who.hostname);
            contacts.registered(client.name());
            return Outcome::Registered;
        }
        Err(Unregistered::Refused(e)) => {
            contacts.refused(client.name(), &e.to_string());
            e
        }
        Err(Unregistered::Unanswered(e)) => {
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
    log::log!(level, "{error}; next attempt in {again}s");
    Outcome::NotRegistered
}

fn ping(client: &Client, contacts: &Contacts) -> Outcome {
    match client.ping() {
        Ok(()) => {
            contacts.answered(client.name());
            Outcome::Pinged
        }
        Err(e) => {
            contacts.failed(client.name(), &format!("ping: {e}"));
            log::warn!("ping: {e}");
            Outcome::PingFailed
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

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

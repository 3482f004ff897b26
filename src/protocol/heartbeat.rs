//! The heartbeat: its own thread and its own timer. Registers once the gate answers, pings, and registers anew after a refusal
//! or a silence (D20, D21).

use super::Pulse;
use super::client::{Client, Registration, Unregistered};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Longest pause between two attempts to register (DESIGN 8).
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How often.
#[derive(Debug, Clone, Copy)]
pub struct Intervals {
    /// `poll-interval`
    pub ping: Duration,
    /// `resubmit-agent-interval`
    pub register: Duration,
}

/// The running thread; [`Heartbeat::stop`] ends it at once, but for a call under way.
pub struct Heartbeat {
    /// Closed: stop.
    news: Sender<(Client, Intervals)>,
    thread: JoinHandle<()>,
}

impl Heartbeat {
    /// Starts it; `first` is done by the thread before the first registration.
    ///
    /// # Errors
    /// If there is no thread to be had.
    pub fn start(
        client: Client,
        who: Registration,
        intervals: Intervals,
        pulse: Arc<Pulse>,
        first: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<Self> {
        let (news, told) = unbounded();
        let body = move || {
            first();
            beat(client, &who, intervals, &pulse, &told);
        };
        let thread = std::thread::Builder::new()
            .name("heartbeat".into())
            .spawn(body)?;
        Ok(Self { news, thread })
    }

    /// From now on with these: the time that has passed since the last ping and registration counts.
    pub fn change(&self, client: Client, intervals: Intervals) {
        if self.news.send((client, intervals)).is_err() {
            log::error!("the heartbeat has ended by itself: restart the agent");
        }
    }

    /// Ends it; a call that waits for an answer is left behind.
    pub fn stop(self) {
        drop(self.news);
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

fn beat(
    mut client: Client,
    who: &Registration,
    mut every: Intervals,
    pulse: &Pulse,
    news: &Receiver<(Client, Intervals)>,
) {
    let mut failures = 0;
    let (mut registered, mut pinged) = (Instant::now(), Instant::now());
    // When to register although it is not yet time: at first, and after a failure.
    let mut early = Some(Instant::now());
    loop {
        let register_at = early.unwrap_or(registered + every.register);
        let ping_at = pinged + every.ping;
        match news.recv_deadline(register_at.min(ping_at)) {
            Ok(changed) => {
                (client, every) = changed;
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {}
        }
        let now = Instant::now();
        if register_at <= now {
            match client.register(who) {
                Ok(()) => {
                    log::info!("registered with {} as {}", client.name(), who.hostname);
                    pulse.registered(client.name());
                    failures = 0;
                    (registered, early) = (Instant::now(), None);
                }
                Err(e) => {
                    let e = match e {
                        Unregistered::Refused(e) => {
                            pulse.refused(client.name(), &e.to_string());
                            e
                        }
                        Unregistered::Unanswered(e) => {
                            pulse.failed(client.name(), &e.to_string());
                            e
                        }
                    };
                    failures += 1;
                    early = Some(Instant::now() + pause(failures));
                    let again = pause(failures).as_secs();
                    if failures.is_power_of_two() {
                        log::warn!("{e}; next attempt in {again}s");
                    } else {
                        log::debug!("{e}; next attempt in {again}s");
                    }
                }
            }
        }
        if ping_at <= now {
            match client.ping() {
                Ok(()) => pulse.answered(client.name()),
                Err(e) => {
                    pulse.failed(client.name(), &format!("ping: {e}"));
                    log::warn!("ping: {e}");
                    // It may come back as another process that does not know us: register as soon as it answers.
                    let soon = Instant::now() + pause(1);
                    early = Some(early.map_or(soon, |at| at.min(soon)));
                }
            }
            pinged = Instant::now();
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

    /// An orchestrator on loopback whose answers to a registration are `answers`; tells the paths it was asked for.
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
        let pulse = Arc::new(Pulse::default());
        let who = Registration {
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
        let h = Heartbeat::start(client, who, every, Arc::clone(&pulse), || {}).unwrap();
        let (path, body) = asked.recv().unwrap();
        assert_eq!(path, "/api/register-agent"); // 1.1
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            body,
            serde_json::json!({"Hostname": "db1", "Port": 3002, "Token": "geheim", "MySQLPort": 3306})
        );
        assert!(
            !pulse.is_good(Duration::from_secs(60)),
            "a refusal is no success"
        ); // 8.18, D20
        assert_eq!(
            asked.recv_timeout(Duration::from_secs(20)).unwrap().0,
            "/api/register-agent"
        );
        assert_eq!(
            asked.recv_timeout(Duration::from_secs(20)).unwrap().0,
            "/api/agent-ping"
        );
        assert!(pulse.is_good(Duration::from_secs(60)));
        let begin = Instant::now();
        h.stop();
        assert!(begin.elapsed() < Duration::from_secs(1));
    }
}

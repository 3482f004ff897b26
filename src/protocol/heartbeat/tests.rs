use super::*;
use crate::config::{Protocol, Secret};
use crossbeam_channel::bounded;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Mutex, OnceLock};

const HOST: &str = "db 1/x";
const REFUSAL: &str = "{\"Code\":\"ERROR\",\"Message\":\"no\",\"Details\":null}";

#[test]
fn pauses_grow_to_thirty_seconds() {
    let all: Vec<u64> = (1..8).map(|n| pause(n).as_secs()).collect();
    assert_eq!(all, [1, 2, 4, 8, 16, 30, 30]);
}

/// An orchestrator on loopback that has one of the protocols.
struct Fake {
    url: String,
    port: u16,
    /// Path and body of each call.
    calls: Receiver<(String, String)>,
    /// What it has; `None`: neither.
    has: Arc<Mutex<Option<Wire>>>,
    /// The status for a registration by a protocol that it has not; 0: no HTTP at all.
    unknown: Arc<AtomicU16>,
    /// Given to the next registrations in place of the host name.
    answers: Sender<&'static str>,
    contacts: Arc<OnceLock<Arc<Contacts>>>,
    /// The protocol in which the agent would answer a call back, for each registration.
    wires: Arc<Mutex<Vec<Option<Wire>>>>,
}

impl Fake {
    fn new(has: Option<Wire>) -> Self {
        let server = tiny_http::Server::http("127.0.0.1:0").unwrap();
        let port = server.server_addr().to_ip().unwrap().port();
        let (tx, calls) = unbounded();
        let (answers, next) = bounded(9);
        let fake = Self {
            url: format!("http://127.0.0.1:{port}"),
            port,
            calls,
            has: Arc::new(Mutex::new(has)),
            unknown: Arc::new(AtomicU16::new(404)),
            answers,
            contacts: Arc::default(),
            wires: Arc::default(),
        };
        let (has, contacts) = (Arc::clone(&fake.has), Arc::clone(&fake.contacts));
        let (wires, unknown) = (Arc::clone(&fake.wires), Arc::clone(&fake.unknown));
        std::thread::spawn(move || {
            while let Ok(mut request) = server.recv() {
                let mut body = String::new();
                request.as_reader().read_to_string(&mut body).unwrap();
                let path = request.url().to_string();
                let has = *has.lock().unwrap();
                let is_registration = !path.ends_with("ping");
                let known = has.is_some_and(|wire| path.starts_with(registration(wire)));
                if let Some(contacts) = contacts.get().filter(|_| is_registration) {
                    let token = contacts.first_token();
                    wires.lock().unwrap().push(contacts.wire_of(token.reveal()));
                }
                let (status, text) = match (is_registration, known) {
                    (false, _) => (200, "\"OK\""),
                    (true, true) => (200, next.try_recv().unwrap_or("\"db1\"")),
                    (true, false) => (unknown.load(Ordering::SeqCst), "404 page not found\n"),
                };
                let answer = tiny_http::Response::from_string(text).with_status_code(status);
                if tx.send((path, body)).is_err() {
                    return;
                }
                if status == 0 {
                    let mut raw = request.into_writer();
                    raw.write_all(b"nothing\r\n\r\n").unwrap();
                } else {
                    request.respond(answer).unwrap();
                }
            }
        });
        fake
    }

    fn contacts(&self, protocol: Protocol) -> Arc<Contacts> {
        let contacts = Arc::new(Contacts::at(&[&self.url], protocol));
        self.contacts.set(Arc::clone(&contacts)).unwrap();
        contacts
    }

    fn client(&self) -> Client {
        Client::new("http://127.0.0.1", self.port, Duration::from_secs(2), None)
    }

    fn becomes(&self, has: Option<Wire>) {
        *self.has.lock().unwrap() = has;
    }

    /// The calls since the last time, without host and token.
    fn called(&self) -> Vec<&'static str> {
        let short = |(path, _): (String, String)| {
            let all = [
                ("/api/register-agent", "v2"),
                ("/api/submit-agent", "classic"),
            ];
            let found = all.iter().find(|(p, _)| path.starts_with(p));
            found.map_or("ping", |(_, name)| *name)
        };
        self.calls.try_iter().map(short).collect()
    }
}

fn registrant(seeding: &Arc<AtomicBool>) -> Registrant {
    let seeding = Arc::clone(seeding);
    Registrant {
        hostname: HOST.into(),
        port: 3002,
        mysql_port: 3306,
        is_seeding: Box::new(move || seeding.load(Ordering::SeqCst)),
    }
}

/// A fake orchestrator, and the agent's side of it, registration by registration.
struct Rig {
    fake: Fake,
    contacts: Arc<Contacts>,
    seeding: Arc<AtomicBool>,
}

impl Rig {
    fn new(has: Option<Wire>, protocol: Protocol) -> Self {
        let fake = Fake::new(has);
        let contacts = fake.contacts(protocol);
        Self {
            fake,
            contacts,
            seeding: Arc::default(),
        }
    }

    /// One attempt: the calls that it makes, and the protocol in use after it.
    #[track_caller]
    fn attempt(&self, success: bool, calls: &[&str], in_use: &str) {
        let who = registrant(&self.seeding);
        let done = try_register(&self.fake.client(), &who, self.contacts.peer(0), 0);
        let contact = self.contact();
        assert_eq!(self.fake.called(), calls, "{contact:?}");
        let state = (done, contact.registered, contact.protocol.as_str());
        assert_eq!(state, (success, success, in_use), "{contact:?}");
        assert!(!contact.error.contains(self.contacts.first_token().reveal()));
    }

    fn contact(&self) -> crate::protocol::wire::Contact {
        self.contacts.all()[&self.fake.url].clone()
    }

    fn seeding(&self, seeding: bool) {
        self.seeding.store(seeding, Ordering::SeqCst);
    }
}

#[test]
fn auto_finds_the_protocol_and_follows_a_change() {
    let rig = Rig::new(None, Protocol::Auto);
    rig.attempt(false, &["v2", "classic"], "");
    assert!(
        rig.contact()
            .error
            .contains("to /api/submit-agent (classic)")
    );
    rig.fake.becomes(Some(Wire::Classic));
    rig.fake.answers.send(REFUSAL).unwrap();
    rig.attempt(false, &["v2", "classic"], "");
    assert!(rig.contact().error.ends_with("(status 200): no"));
    rig.attempt(true, &["v2", "classic"], "classic");
    let since = rig.contact().since;
    rig.attempt(true, &["v2", "classic"], "classic");
    assert_eq!(rig.contact().since, since);

    // To v2 at once, back only after three answers in a row.
    rig.fake.becomes(Some(Wire::V2));
    rig.attempt(true, &["v2"], "v2");
    rig.fake.becomes(Some(Wire::Classic));
    rig.attempt(false, &["v2"], "v2");
    assert!(rig.contact().error.contains("after 3 such answers"));
    rig.attempt(false, &["v2"], "v2");
    rig.fake.becomes(Some(Wire::V2));
    rig.attempt(true, &["v2"], "v2");
    rig.fake.becomes(None);
    rig.attempt(false, &["v2"], "v2");
    rig.attempt(false, &["v2"], "v2");
    rig.attempt(false, &["v2", "classic"], "v2");
    rig.fake.becomes(Some(Wire::Classic));
    rig.attempt(true, &["v2", "classic"], "classic");
}

/// As proxies answer for a path that they do not know.
#[test]
fn classic_in_use_survives_any_failure_of_v2() {
    let rig = Rig::new(Some(Wire::Classic), Protocol::Auto);
    let unknown = |status| rig.fake.unknown.store(status, Ordering::SeqCst);
    for status in [500, 502] {
        unknown(status);
        rig.attempt(false, &["v2"], "");
    }
    unknown(403);
    rig.attempt(true, &["v2", "classic"], "classic");
    for status in [403, 500, 502, 0, 404] {
        unknown(status);
        rig.attempt(true, &["v2", "classic"], "classic");
    }
    rig.fake.answers.send(REFUSAL).unwrap();
    rig.attempt(false, &["v2", "classic"], "classic");
    assert!(rig.contact().error.ends_with("(status 200): no"));

    // v2 in use: the same answer counts as 404.
    rig.fake.becomes(Some(Wire::V2));
    rig.attempt(true, &["v2"], "v2");
    rig.fake.becomes(Some(Wire::Classic));
    unknown(403);
    rig.attempt(false, &["v2"], "v2");
    assert!(rig.contact().error.contains("status 403"));
    rig.attempt(false, &["v2"], "v2");
    rig.attempt(true, &["v2", "classic"], "classic");
}

/// An orchestrator that has changed to v2 answers 404 to the classic registration: what it has answered by v2 counts.
#[test]
fn a_failure_of_v2_counts_where_there_is_no_classic_protocol() {
    let rig = Rig::new(Some(Wire::Classic), Protocol::Auto);
    rig.attempt(true, &["v2", "classic"], "classic");
    rig.fake.becomes(Some(Wire::V2));
    rig.fake.answers.send(REFUSAL).unwrap();
    rig.attempt(false, &["v2", "classic"], "classic");
    let error = rig.contact().error;
    assert!(error.contains("/api/register-agent refused") && error.ends_with(": no"));
    rig.attempt(true, &["v2"], "v2");

    let call = |wire| match wire {
        Wire::V2 => Err(Error::transient("no answer")),
        Wire::Classic => Ok(Answer::NotFound),
    };
    let (wire, lost) = answer(Choice::KeepClassic, rig.contacts.peer(0), call);
    assert_eq!(
        (wire, lost.unwrap_err().to_string()),
        (Wire::V2, "no answer".into())
    );
}

#[test]
fn nothing_changes_during_a_seed() {
    let rig = Rig::new(Some(Wire::Classic), Protocol::Auto);
    rig.seeding(true);
    rig.attempt(true, &["v2", "classic"], "classic");
    rig.attempt(true, &["classic"], "classic");
    rig.fake.becomes(Some(Wire::V2));
    for _ in 0..4 {
        rig.attempt(false, &["classic"], "classic");
    }
    assert!(rig.contact().error.contains("the current seed requires"));
    rig.seeding(false);
    rig.attempt(true, &["v2"], "v2");
    rig.seeding(true);
    rig.fake.becomes(Some(Wire::Classic));
    for _ in 0..4 {
        rig.attempt(false, &["v2"], "v2");
    }
    rig.seeding(false);
    rig.attempt(true, &["v2", "classic"], "classic");
}

/// A seed that begins while the registration is under way counts as well.
#[test]
fn a_seed_that_has_just_begun_keeps_the_protocol() {
    let rig = Rig::new(Some(Wire::Classic), Protocol::Auto);
    rig.attempt(true, &["v2", "classic"], "classic");
    rig.fake.becomes(Some(Wire::V2));
    let queries = Mutex::new(0);
    let who = Registrant {
        is_seeding: Box::new(move || {
            let mut n = queries.lock().unwrap();
            *n += 1;
            *n > 1
        }),
        ..registrant(&rig.seeding)
    };
    assert!(!try_register(
        &rig.fake.client(),
        &who,
        rig.contacts.peer(0),
        0
    ));
    assert_eq!(rig.contact().protocol, "classic");
    assert!(rig.contact().error.contains("while a seed is current"));
}

#[test]
fn a_configured_protocol_is_the_only_one() {
    for (protocol, has, call) in [
        (Protocol::V2, Wire::V2, "v2"),
        (Protocol::Classic, Wire::Classic, "classic"),
    ] {
        let rig = Rig::new(None, protocol);
        for _ in 0..4 {
            rig.attempt(false, &[call], "");
        }
        rig.fake.becomes(Some(has));
        rig.attempt(true, &[call], call);
    }
}

/// Orchestrator calls the agent back before the agent has read the answer to its registration.
#[test]
fn a_call_back_is_answered_in_the_protocol_of_the_registration() {
    let rig = Rig::new(Some(Wire::Classic), Protocol::Auto);
    let wires = || std::mem::take(&mut *rig.fake.wires.lock().unwrap());
    rig.attempt(true, &["v2", "classic"], "classic");
    assert_eq!(wires(), [Some(Wire::V2), Some(Wire::Classic)]);
    rig.attempt(true, &["v2", "classic"], "classic");
    assert_eq!(
        wires(),
        [Some(Wire::Classic), Some(Wire::Classic)],
        "a probe for v2 does not disturb the polls of a classic orchestrator"
    );
    rig.fake.becomes(Some(Wire::V2));
    rig.attempt(true, &["v2"], "v2");
    rig.attempt(true, &["v2"], "v2");
    assert_eq!(wires(), [Some(Wire::Classic), Some(Wire::V2)]);
    let token = rig.contacts.first_token();
    assert_eq!(rig.contacts.wire_of(token.reveal()), Some(Wire::V2));
}

#[test]
fn a_refusal_with_status_200_is_tried_again_soon() {
    let fake = Fake::new(Some(Wire::V2));
    fake.answers.send(REFUSAL).unwrap();
    let contacts = fake.contacts(Protocol::Auto);
    let token = contacts.first_token();
    let every = Intervals {
        ping: Duration::from_secs(4),
        register: Duration::from_secs(3600),
    };
    let (who, seconds) = (registrant(&Arc::default()), Duration::from_secs(20));
    let h = Heartbeat::start(vec![fake.client()], who, every, &contacts, || {}).unwrap();
    let (path, body) = fake.calls.recv_timeout(seconds).unwrap();
    assert_eq!(path, "/api/register-agent");
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        body,
        serde_json::json!({"Hostname": HOST, "Port": 3002, "Token": token.reveal(), "MySQLPort": 3306})
    );
    assert!(
        !contacts.is_good(Duration::from_secs(60)),
        "a refusal is no success"
    );
    let next = || fake.calls.recv_timeout(seconds).unwrap().0;
    assert_eq!(next(), "/api/register-agent");
    assert_eq!(next(), "/api/agent-ping");
    assert!(contacts.is_good(Duration::from_secs(60)));
    let begin = Instant::now();
    drop(h);
    assert!(begin.elapsed() < Duration::from_secs(1));
}

/// The path is all there is, and no name or token can add a segment to it.
#[test]
fn a_classic_registration_and_its_refusals() {
    let fake = Fake::new(Some(Wire::Classic));
    let token = Secret::new("a/b%c");
    let who = AgentInfo {
        hostname: HOST.into(),
        port: 3002,
        token: token.clone(),
        mysql_port: 1,
    };
    assert!(!format!("{who:?}").contains("a/b%c"));
    let client = fake.client();
    let register = |client: &Client| client.register(Wire::Classic, &who);
    assert!(matches!(register(&client), Ok(Answer::Registered)));
    let path = "/api/submit-agent/db%201%2Fx/3002/a%2Fb%25c";
    assert_eq!(fake.calls.recv().unwrap(), (path.into(), String::new()));
    for (answer, wanted) in [
        (REFUSAL, "refused the registration (status 200): no"),
        (
            "{\"Message\":\"x a/b%c a%2Fb%25c\"}",
            "(status 200): x (token) (token)",
        ),
        ("<html>", "is not orchestrator's"),
    ] {
        fake.answers.send(answer).unwrap();
        let Ok(Answer::Refused(e)) = register(&client) else {
            panic!("{answer} is a refusal");
        };
        assert!(
            e.to_string().ends_with(wanted) || e.to_string().contains(wanted),
            "{e}"
        );
    }
    let closed = Client::new("http://127.0.0.1", 1, Duration::from_secs(2), None);
    let e = register(&closed).unwrap_err().to_string();
    assert!(!e.contains("b%c") && !e.contains("2Fb"), "{e}");
}

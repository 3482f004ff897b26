use super::*;
use crate::commands::seed::options::tests::with_user;
use crate::config::Secret;

const TOKEN: &str = "5f0f9b5ed7e74b0a8e3d8b1c9d3a5c7e";

struct Ignored;

impl Listener for Ignored {
    fn report(&self, _: &Event) {}
}

fn ignored() -> Arc<dyn Listener> {
    Arc::new(Ignored)
}

fn host(text: &str, port: Option<u16>) -> HostPort {
    HostPort {
        host: text.into(),
        port,
    }
}

fn registered(hostname: &str, port: u16) -> AgentInfo {
    AgentInfo {
        hostname: hostname.into(),
        port,
        token: Secret::new(TOKEN),
        mysql_port: 3306,
    }
}

/// A name server of three names.
fn names(host: &str) -> Vec<IpAddr> {
    let address = match host {
        "db1" | "alias1" | "10.0.0.1" => "10.0.0.1",
        "db2.example.com" => "10.0.0.2",
        _ => return Vec::new(),
    };
    vec![address.parse().unwrap()]
}

#[test]
fn who_fits() {
    let fits = |wanted: HostPort, name, port| fit(&wanted, &registered(name, port), names);
    assert_eq!(fits(host("DB1", None), "db1", 3002), Fit::Name);
    assert_eq!(fits(host("db1", None), "db1.example.com", 3002), Fit::Name);
    assert_eq!(fits(host("db1", Some(3003)), "db1", 3002), Fit::None);
    assert_eq!(fits(host("10.0.0.1", None), "alias1", 3002), Fit::Address);
    assert_eq!(
        fits(host("10.0.0.1", Some(3003)), "alias1", 3003),
        Fit::Address
    );
    assert_eq!(
        fits(host("10.0.0.1", Some(3003)), "alias1", 3002),
        Fit::None
    );
    assert_eq!(fits(host("db1", None), "db2.example.com", 3002), Fit::None);
    assert_eq!(
        fits(host("nowhere", None), "db8", 3002),
        Fit::None,
        "two unknown names are not the same host"
    );
}

fn server(source: HostPort, target: HostPort) -> (Arc<RegistrationServer>, Receiver<()>) {
    let (changed, changes) = bounded(1);
    let wanted = [
        (Side::Source, source, Slot::default()),
        (Side::Target, target, Slot::default()),
    ];
    (
        Arc::new(RegistrationServer {
            wanted,
            unknown: Mutex::default(),
            changed,
            events: ignored(),
            transport: AgentTransport::default(),
        }),
        changes,
    )
}

#[test]
fn one_host_for_both_needs_ports() {
    let (s, _changes) = server(host("127.0.0.1", None), host("localhost", None));
    assert_eq!(
        s.find(&registered("localhost", 3002)).unwrap().unwrap().0,
        Side::Target,
        "the name is better"
    );
    let (s, _changes) = server(host("::ffff:7f00:1", None), host("127.0.0.1", Some(3003)));
    assert_eq!(
        s.find(&registered("127.0.0.1", 3003)).unwrap().unwrap().0,
        Side::Target
    );
    let (s, _changes) = server(host("localhost", None), host("localhost.", None));
    assert!(
        s.find(&registered("localhost", 3002))
            .unwrap_err()
            .to_string()
            .contains("HOST:AGENTPORT")
    );
}

/// An agent that answers `get-agent-data` to the right token, and returns its port.
fn agent() -> u16 {
    let server = tiny_http::Server::http("127.0.0.1:0").unwrap();
    let port = server.server_addr().to_ip().unwrap().port();
    std::thread::spawn(move || {
        for request in server.incoming_requests() {
            let (status, body) = if request.url() == format!("/api/get-agent-data?token={TOKEN}") {
                (200, "{}")
            } else {
                (
                    500,
                    r#"{"Code":"ERROR","Message":"Invalid token","Details":null}"#,
                )
            };
            request
                .respond(tiny_http::Response::from_string(body).with_status_code(status))
                .unwrap();
        }
    });
    port
}

fn client() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        .build()
        .into()
}

fn ping(listener: u16) -> (u16, String) {
    let mut answer = client()
        .get(format!("http://127.0.0.1:{listener}/api/agent-ping"))
        .call()
        .unwrap();
    (
        answer.status().as_u16(),
        answer.body_mut().read_to_string().unwrap(),
    )
}

fn post(listener: u16, body: &str) -> (u16, String) {
    let url = format!("http://127.0.0.1:{listener}/api/register-agent");
    let mut answer = client()
        .post(&url)
        .header("Content-Type", "application/json")
        .send(body)
        .unwrap();
    (
        answer.status().as_u16(),
        answer.body_mut().read_to_string().unwrap(),
    )
}

fn registration(hostname: &str, port: u16, token: &str) -> String {
    format!(r#"{{"Hostname":"{hostname}","Port":{port},"Token":"{token}","MySQLPort":3307}}"#)
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

fn options_for(listen: u16, source: u16, target: u16, wait: &str) -> Options {
    with_user(&format!(
        "--source localhost:{source} --target 127.0.0.1:{target} --listen 127.0.0.1:{listen} --agent-wait {wait}"
    ))
}

#[test]
fn the_complete_exchange_with_real_sockets() {
    let (listen, source, target) = (free_port(), agent(), agent());
    let o = options_for(listen, source, target, "20s");
    let waiting = std::thread::spawn(move || gather(&o, &ignored(), &Cancel::default()));
    let begin = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", listen)).is_err() {
        assert!(begin.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(
        ping(listen).0,
        503,
        "agents of an earlier run must register again"
    );

    // The status is always 200; an object is a refusal, a string the success.
    let (status, text) = post(listen, &registration("db9", 3002, TOKEN));
    assert!(
        status == 200 && text.contains(r#""Code":"ERROR""#) && text.contains("no part"),
        "{text}"
    );
    let (_, text) = post(listen, &registration("localhost", source, "wrong"));
    assert!(
        text.contains(r#""Message":"Unable to get agent data: "#)
            && text.contains(r#""Details":null"#),
        "{text}"
    );
    assert!(!text.contains("wrong"), "{text}");
    let (_, text) = post(listen, "{");
    assert!(text.contains(r#""Code":"ERROR""#), "{text}");
    let (_, text) = post(listen, &registration("bad\\u001bname", source, TOKEN));
    assert!(text.contains("malformed"), "{text}");
    assert_eq!(
        post(listen, &registration("localhost", source, TOKEN)),
        (200, "\"localhost\"".into())
    );
    assert!(!waiting.is_finished());
    assert_eq!(
        post(listen, &registration("127.0.0.1", target, TOKEN)),
        (200, "\"127.0.0.1\"".into())
    );
    let agents = waiting.join().unwrap().unwrap();
    assert_eq!(agents.source.mysql_port().unwrap(), 3307);
    assert_eq!(
        agents.target.name(),
        format!("target agent 127.0.0.1:{target}")
    );
    agents.target.data().unwrap();
    assert_eq!(ping(listen), (200, "\"OK\"".into()));

    // The listener stays, and a new token of a restarted agent counts only if the agent knows it.
    let (_, text) = post(listen, &registration("127.0.0.1", target, "other"));
    assert!(text.contains("Unable to get agent data"), "{text}");
    agents.target.data().unwrap();
}

#[test]
fn an_agent_that_does_not_register_is_named_with_the_remedy() {
    let (listen, source) = (free_port(), agent());
    let o = options_for(listen, source, 1, "1500ms");
    let waiting = std::thread::spawn(move || gather(&o, &ignored(), &Cancel::default()));
    let begin = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", listen)).is_err()
        && begin.elapsed() < Duration::from_millis(1400)
    {
        std::thread::sleep(Duration::from_millis(10));
    }
    post(listen, &registration("other.example.com", 9, TOKEN));
    post(listen, &registration("localhost", source, TOKEN));
    let e = waiting.join().unwrap().err().unwrap().to_string();
    assert!(
        e.starts_with("the target agent 127.0.0.1 did not register within --agent-wait"),
        "{e}"
    );
    assert!(
        e.contains("orchestrator.agents-port") && e.contains("other.example.com:9"),
        "{e}"
    );
}

#[test]
fn a_cancellation_ends_the_wait_at_once() {
    let o = options_for(free_port(), 1, 2, "60s");
    let cancel = Cancel::default();
    cancel.cancel("interrupted");
    let begin = Instant::now();
    assert!(
        gather(&o, &ignored(), &cancel)
            .err()
            .unwrap()
            .is_cancelled()
    );
    assert!(begin.elapsed() < Duration::from_secs(10));
}

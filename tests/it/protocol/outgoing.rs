//! Calls to orchestrator over HTTPS, at all forms of an address, and to several orchestrators. socat stands
//! before the endpoint and speaks TLS.

use super::orchestrator::Orchestrator;
use crate::support::certificates::Certificates;
use crate::support::lone::Lone;
use crate::support::registry::Registry;
use crate::support::{assert_prompt, free_port, tool_path, wait_for};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(10);

struct Front {
    child: Child,
    port: u16,
    files: Certificates,
}

impl Front {
    /// Shows `certificate`; `demands` a verified one of the client.
    fn start(name: &str, certificate: &str, demands: bool, plain: u16) -> Self {
        Self::with(Certificates::make(name), certificate, demands, plain)
    }

    fn with(files: Certificates, certificate: &str, demands: bool, plain: u16) -> Self {
        let port = free_port("127.0.0.1");
        let file = |name: &str| files.0.join(name).display().to_string();
        let listen = format!(
            "OPENSSL-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork,cert={},cafile={},verify={}",
            file(certificate),
            file("ca.pem"),
            u8::from(demands)
        );
        let child = Command::new("socat")
            .args([listen, format!("TCP:127.0.0.1:{plain}")])
            .env("PATH", tool_path())
            .stderr(Stdio::null())
            .spawn()
            .expect("socat");
        wait_for("socat listens", SOON, || {
            TcpListener::bind(("127.0.0.1", port))
                .is_err()
                .then_some(())
        });
        Self { child, port, files }
    }

    /// An agent that calls it; `file` gives the settings of the files.
    fn agent(&self, lines: &[(&str, &str)]) -> Lone {
        let mut agent = Lone::new();
        agent
            .with("orchestrator", "url = \"https://127.0.0.1\"")
            .with("orchestrator", format!("agents-port = {}", self.port));
        for (key, value) in lines {
            let value = match value.ends_with(".pem") {
                true => format!("{:?}", self.files.0.join(value)),
                false => (*value).to_string(),
            };
            agent.with("common", format!("{key} = {value}"));
        }
        agent.start()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn tells(agent: &Lone, words: &str) {
    wait_for(words, SOON, || agent.log().contains(words).then_some(()));
}

#[test]
fn https_to_an_authority_of_ones_own() {
    let mut orchestrator = Orchestrator::welcoming();
    orchestrator.start();
    let front = Front::start("out", "a.pem", false, orchestrator.port);
    let _known = front.agent(&[("ssl-ca-file", "ca.pem")]);
    orchestrator.wait_registrations(1, SOON);
    // Nobody vouches for it: the token does not leave this host.
    for lines in [&[][..], &[("ssl-ca-file", "own.pem")]] {
        let agent = front.agent(lines);
        tells(&agent, "invalid peer certificate");
        tells(&agent, "common.ssl-ca-file");
        assert_eq!(orchestrator.registrations().len(), 1);
    }
    let _careless = front.agent(&[("ssl-skip-verify", "true")]);
    orchestrator.wait_registrations(2, SOON);
}

/// Go's verification takes a certificate that is its own authority; rustls alone does not.
#[test]
fn https_to_somebody_who_has_signed_himself() {
    let mut orchestrator = Orchestrator::welcoming();
    orchestrator.start();
    for (certificate, why) in [
        ("own-here.pem", None),
        ("own.pem", Some("not valid for name")), // nothing says that it is this host's
        ("own-old.pem", Some("expired")),
    ] {
        let front = Front::start("self", certificate, false, orchestrator.port);
        let before = orchestrator.registrations().len();
        let agent = front.agent(&[("ssl-ca-file", certificate)]);
        match why {
            None => drop(orchestrator.wait_registrations(before + 1, SOON)),
            Some(why) => {
                tells(&agent, "invalid peer certificate");
                tells(&agent, why);
                assert_eq!(orchestrator.registrations().len(), before);
            }
        }
        let stranger = front.agent(&[("ssl-ca-file", "ca.pem")]);
        tells(&stranger, "invalid peer certificate");
    }
}

/// `ssl-skip-verify` believes also what ring cannot read: X.509 v1, a key on P-521.
#[test]
fn https_to_anybody() {
    let mut orchestrator = Orchestrator::welcoming();
    orchestrator.start();
    let files = Certificates::make("anybody");
    let made = Command::new("sh")
        .current_dir(&files.0)
        .args([
            "-ec",
            "openssl req -new -nodes -newkey ec -pkeyopt ec_paramgen_curve:P-521 -subj /CN=old -keyout k.pem -out r.pem; \
             openssl x509 -req -in r.pem -signkey k.pem -days 9 -out v1.pem; \
             openssl x509 -in v1.pem -noout -text | grep 'Version: 1'; cat k.pem >>v1.pem",
        ])
        .output()
        .expect("openssl");
    let said = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "{said}");
    let front = Front::with(files, "v1.pem", false, orchestrator.port);
    let agent = front.agent(&[("ssl-ca-file", "ca.pem")]);
    tells(&agent, "common.ssl-ca-file");
    assert!(orchestrator.registrations().is_empty());
    let _careless = front.agent(&[("ssl-skip-verify", "true")]);
    orchestrator.wait_registrations(1, SOON);
}

#[test]
fn https_to_somebody_who_demands_a_certificate() {
    let mut orchestrator = Orchestrator::welcoming();
    orchestrator.start();
    let front = Front::start("demands", "a.pem", true, orchestrator.port);
    let agent = front.agent(&[("ssl-ca-file", "ca.pem")]);
    tells(&agent, "next attempt in 2s");
    assert!(orchestrator.registrations().is_empty());
    let shown = [
        ("ssl-ca-file", "ca.pem"),
        ("ssl-cert-file", "dba.pem"),
        ("ssl-private-key-file", "dba.pem"),
    ];
    let _agent = front.agent(&shown);
    orchestrator.wait_registrations(1, SOON);
    let mut agent = Lone::new();
    agent
        .with("orchestrator", "url = \"https://127.0.0.1\"")
        .with("common", "ssl-ca-file = \"/nowhere/ca.pem\"");
    let (code, _, err) = agent.refused();
    assert!(
        code != Some(0) && err.contains("common.ssl-ca-file = \"/nowhere/ca.pem\""),
        "{err}"
    );
}

#[test]
fn an_address_with_a_port_and_a_prefix() {
    let registry = Registry::start(|_, _| "\"db7.test\"".into());
    let mut agent = Lone::new();
    agent.with(
        "orchestrator",
        format!("url = \"http://127.0.0.1:{}/a/b/\"", registry.port),
    );
    let _agent = agent.start();
    let (path, body) = registry
        .requests
        .recv_timeout(SOON)
        .expect("a registration");
    assert_eq!(
        (path.as_str(), &body["Hostname"]),
        ("/a/b/api/register-agent", &"db7.test".into())
    );
}

/// orchestrator/raft: each is told, and one that answers is enough.
#[test]
fn several_orchestrators() {
    let mut first = Orchestrator::welcoming();
    let mut second = Orchestrator::welcoming();
    second.start();
    // Accepts, and never says anything.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent_port = silent.local_addr().expect("its port").port();
    let mut agent = Lone::new();
    let mut urls = Vec::from(
        [first.port, second.port, silent_port].map(|p| format!("\"http://127.0.0.1:{p}\"")),
    );
    urls.push(format!("\"https://127.0.0.1:{silent_port}\""));
    agent
        .with("orchestrator", format!("url = [{}]", urls.join(", ")))
        .with("common", "poll-interval = \"1s\"")
        .with("common", "ssl-skip-verify = true")
        .with("common", "http-timeout = \"1s\"");
    let agent = agent.start();
    second.wait_registrations(1, SOON);
    wait_for("any success counts", SOON, || {
        (agent.get("/api/status").status == 200).then_some(())
    });
    let begin = Instant::now();
    first.start();
    first.wait_registrations(1, Duration::from_secs(40));
    println!(
        "the first one is registered with after {:?}",
        begin.elapsed()
    );
    for orchestrator in [&first, &second] {
        wait_for("a ping", SOON, || {
            (!orchestrator.pings().is_empty()).then_some(())
        });
    }
    for scheme in ["http", "https"] {
        tells(
            &agent,
            &format!("{scheme}://127.0.0.1:{silent_port}: timeout"),
        );
    }
    let begin = Instant::now();
    assert_eq!(agent.call("/api/get-agent-data").status, 200);
    assert_prompt(vec![begin.elapsed()]);
    drop(silent);
}

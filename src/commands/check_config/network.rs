//! Ports of this host, its name, the way to orchestrator, and certificates: whether they can be used, and until when.

use super::findings::{Findings, streams};
use crate::commands::status;
use crate::config::{Common, Config, Protocol, SocatTls};
use crate::process::host_name;
use crate::protocol::orchestrator::Client;
use crate::protocol::wire::Contact;
use crate::tls::{self, der::Certificate};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, SystemTime};

/// For a connect and for the local agent's answer.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// Longest safe `resubmit-agent-interval` for orchestrator 3.2.6, whose UnseenAgentForgetHours is 6.
const LONGEST_INTERVAL: Duration = Duration::from_secs(5 * 3600);
/// A certificate that expires sooner is a finding.
const SOON: Duration = Duration::from_secs(30 * 86_400);

pub(super) fn check(f: &mut Findings, config: &Config) {
    let c = &config.common;
    match c.listen_ip() {
        Ok(ip) => {
            own_port(f, SocketAddr::new(ip, c.port), config);
            seed_port(f, SocketAddr::new(ip, c.seed_port), streams(config));
        }
        Err(_) => note!(f, Error, "common.listen-address" =>
            "{:?} is not an IP address", c.listen_address;
            "give an address of this host, or leave it empty for all"),
    }
    resolve(f, &host_name(&c.hostname));
    let urls = &config.orchestrator.urls;
    let contacts = contacts(config);
    for url in urls.iter() {
        orchestrator(f, url, config, &contacts);
    }
    registrations(f, config);
    own_certificate(f, c);
    let basic = !c.http_auth_user.is_empty();
    for (used, key, missing) in [
        (c.use_mutual_tls, "common.use-mutual-tls", "certificate"),
        (basic, "common.http-auth-user", "Basic credentials"),
    ] {
        if used {
            note!(f, Warning, key => "orchestrator sends no {missing} to agents, so it gets a 401 from this one";
                "use it if something else calls the agent, or a proxy is in front of it");
        }
    }
    if urls.iter().any(|u| u.starts_with("https:")) {
        authorities(f, c);
    }
    stream(f, "xtrabackup", &config.xtrabackup.socat);
    stream(f, "lvm", &config.lvm.socat);
}

/// Ok if the port could be listened on now; it is free again afterwards.
fn free(at: SocketAddr) -> io::Result<()> {
    crate::sys::net::listen(at).map(drop)
}

fn own_port(f: &mut Findings, at: SocketAddr, config: &Config) {
    const KEY: &str = "common.port";
    let e = match free(at) {
        Ok(()) => return note!(f, Ok, KEY => "{at} is free: no agent runs here"),
        Err(e) => e,
    };
    if e.kind() == ErrorKind::PermissionDenied {
        return note!(f, Error, KEY => "{at}: {e}";
            "ports below 1024 need root or CAP_NET_BIND_SERVICE: set another common.port");
    }
    if e.kind() != ErrorKind::AddrInUse {
        return note!(f, Error, "common.listen-address" => "{at}: {e}";
            "give an address of this host, or leave it empty for all");
    }
    // Not Ok if nothing answers there, or something that is not an agent.
    let running = status::local(config, CONNECT_LIMIT).and_then(|agent| agent.info());
    match running.map(|agent| (agent.hostname, agent.mysql_port)) {
        Ok((name, port)) if port == config.mysql.port => note!(f, Ok, KEY =>
            "{at} is held by the running agent {name} for the MySQL on port {port}"),
        Ok((name, port)) => note!(f, Error, KEY =>
            "{at} is held by the agent {name} of another MySQL, on port {port}";
            "give each agent of this host its own common.port"),
        Err(_) => note!(f, Error, KEY => "{at} is held by another program";
            "`ss -ltnp` shows which: end it, or set another common.port"),
    }
}

fn seed_port(f: &mut Findings, at: SocketAddr, used: bool) {
    const KEY: &str = "common.seed-port";
    match free(at) {
        Ok(()) => note!(f, Ok, KEY => "{at} is free"),
        Err(e) if used => note!(f, Warning, KEY => "{at} cannot be listened on: {e}";
            "unless a seed is coming in just now, end the program that holds it (`ss -ltnp`), or set another port on all hosts"),
        Err(_) => note!(f, Ok, KEY => "{at} is taken, but no method is enabled that needs it"),
    }
}

fn resolve(f: &mut Findings, name: &str) {
    const KEY: &str = "common.hostname";
    match (name, 0).to_socket_addrs() {
        Ok(found) => {
            let mut found: Vec<String> = found.map(|a| a.ip().to_string()).collect();
            found.dedup();
            note!(f, Ok, KEY => "{name} resolves to {}", found.join(", "));
        }
        Err(e) => note!(f, Warning, KEY => "{name} does not resolve here: {e}";
            "orchestrator calls the agent by this name: enter it into DNS, or set common.hostname"),
    }
}

/// Those of the agent that runs here, by url; empty if none does, or without its token.
fn contacts(config: &Config) -> BTreeMap<String, Contact> {
    if config.common.token_hint_file.is_empty() {
        return BTreeMap::new();
    }
    let running = status::local(config, CONNECT_LIMIT).and_then(|agent| agent.data());
    running.map(|data| data.orchestrators).unwrap_or_default() // `own_port` and the check of the file say why
}

/// A ping is all that is sent: a registration would make this agent known.
fn orchestrator(
    f: &mut Findings,
    url: &str,
    config: &Config,
    contacts: &BTreeMap<String, Contact>,
) {
    const KEY: &str = "orchestrator.url";
    let (port, limit) = (
        config.orchestrator.agents_port,
        config.common.http_timeout.min(CONNECT_LIMIT),
    );
    let base = crate::protocol::base(url, port);
    let name = authority(&base);
    if let Err(e) = reach(name, limit) {
        return note!(f, Warning, KEY => "{name} cannot be reached: {e}";
            "check that orchestrator is running, orchestrator.url, orchestrator.agents-port (its AgentsServerPort) and firewalls");
    }
    let files = tls::Files::of(&config.common);
    let tls = base.starts_with("https:").then(|| tls::outgoing(&files));
    let Ok(tls) = tls.transpose() else {
        return note!(f, Ok, KEY => "{name} accepts connections"); // `authorities` says what is wrong with the files
    };
    if let Err(e) = Client::new(url, port, limit, tls).ping() {
        return note!(f, Warning, KEY => "{e}";
            "orchestrator.url and orchestrator.agents-port must lead to orchestrator's AgentsServerPort, and its ServeAgentsHttp must be true");
    }
    let protocol = match config.orchestrator.protocol {
        Protocol::Auto => "v2, or classic if it answers 404 or 403 to that",
        Protocol::V2 => "v2",
        Protocol::Classic => "classic",
    };
    match contacts.get(&base) {
        Some(c) if !c.registered && !c.error.is_empty() => note!(f, Warning, KEY =>
            "{base} answers a ping, but the running agent is not registered: {}", c.error;
            "correct what the error names; the agent tries again within 30 s"),
        Some(c) if c.registered => note!(f, Ok, KEY =>
            "{base} answers a ping; agent protocol of the running agent: {}", c.summary()),
        _ => {
            note!(f, Ok, KEY => "{base} answers a ping; agent protocol by orchestrator.protocol: {protocol}")
        }
    }
}

fn registrations(f: &mut Findings, config: &Config) {
    let interval = config.common.resubmit_agent_interval;
    if config.orchestrator.protocol != Protocol::V2 && interval > LONGEST_INTERVAL {
        note!(f, Warning, "common.resubmit-agent-interval" =>
            "an orchestrator of the classic agent protocol deletes agents that have not registered for 6 hours (its \
             UnseenAgentForgetHours), and still answers their pings";
            "set it to 5h or less, or set orchestrator.protocol = \"v2\"");
    }
}

/// `host:port` in `scheme://host:port/path`.
fn authority(base: &str) -> &str {
    let rest = base.split_once("://").map_or(base, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

fn reach(at: &str, timeout: Duration) -> io::Result<()> {
    let mut last = io::Error::from(ErrorKind::NotFound);
    for address in at.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, timeout) {
            Ok(_) => return Ok(()),
            Err(e) => last = e,
        }
    }
    Err(last)
}

fn own_certificate(f: &mut Findings, c: &Common) {
    match tls::Server::new(c) {
        Ok(None) => {}
        Ok(Some(server)) => {
            note!(f, Ok, "common.use-ssl" => "certificate and key match");
            expiry(f, "common.ssl-cert-file", server.not_after);
            if server.valid_units.is_some_and(|units| units.is_empty()) {
                note!(f, Error, "common.ssl-valid-ous" =>
                    "use-mutual-tls = true, and no client has a valid OU: every call is rejected";
                    "set it to the OU values of clients' certificates");
            }
        }
        Err(e) => note!(f, Error, "common.use-ssl" => "{e}";
            "correct common.ssl-cert-file, ssl-private-key-file and ssl-ca-file (PEM files that the agent's user can read), or \
             set common.use-ssl = false"),
    }
}

fn authorities(f: &mut Findings, c: &Common) {
    match tls::outgoing(&tls::Files::of(c)) {
        Ok(_) if c.ssl_skip_verify => note!(f, Warning, "common.ssl-skip-verify" =>
            "any server can claim to be orchestrator, and is then sent this agent's token";
            "set common.ssl-ca-file and common.ssl-skip-verify = false"),
        Ok(_) => note!(f, Ok, "orchestrator.url" => "there are authorities to verify https by"),
        Err(e) => note!(f, Error, "orchestrator.url" => "{e}";
            "set common.ssl-ca-file to a PEM file with the authority of orchestrator's certificate"),
    }
}

fn stream(f: &mut Findings, section: &str, socat: &SocatTls) {
    if !socat.use_ssl {
        return;
    }
    let key = format!("{section}.socat-ssl-cert-file");
    let read = tls::stream_server(socat).and_then(|_| tls::stream_client(socat));
    let certificates = read.and_then(|_| tls::certificates(&key, socat.ssl_cert_file.as_ref()));
    match certificates.map(|c| Certificate::parse(&c[0])) {
        Ok(certificate) => expiry(f, &key, certificate.map(|c| c.not_after)),
        Err(e) => note!(f, Error, key => "{e}";
            "correct the three {section}.socat-ssl files, or set {section}.socat-use-ssl = false"),
    }
}

fn expiry(f: &mut Findings, key: &str, end: Option<SystemTime>) {
    let Some(end) = end else {
        return note!(f, Warning, key => "the end of its validity cannot be read";
            "`openssl x509 -noout -enddate -in FILE` shows it: renew the certificate before that");
    };
    let date = crate::sys::host::rfc3339(end);
    match end.duration_since(SystemTime::now()) {
        Err(_) => note!(f, Error, key => "the certificate has expired on {date}";
            "renew it, then send the agent a SIGHUP"),
        Ok(left) if left < SOON => note!(f, Warning, key =>
            "the certificate expires in {} days, on {date}", left.as_secs() / 86_400;
            "renew it, then send the agent a SIGHUP"),
        Ok(_) => note!(f, Ok, key => "the certificate is valid until {date}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::check_config::findings::Level;

    #[test]
    fn addresses_and_hosts() {
        let of = |url| authority(&crate::protocol::base(url, 3001)).to_string();
        assert_eq!(of("http://orc.example.com/x"), "orc.example.com:3001");
        assert_eq!(of("https://orc.example.com:443/x"), "orc.example.com:443");
        assert_eq!(of("http://[2001:db8::1]"), "[2001:db8::1]:3001");
        assert_eq!(of("http://[2001:db8::1]:1"), "[2001:db8::1]:1");
    }

    #[test]
    fn a_port_that_another_program_holds_is_found() {
        let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = holder.local_addr().unwrap();
        assert_eq!(free(at).unwrap_err().kind(), ErrorKind::AddrInUse);
        let mut f = Findings::default();
        seed_port(&mut f, at, true);
        seed_port(&mut f, at, false);
        reach(&at.to_string(), CONNECT_LIMIT).unwrap();
        drop(holder);
        orchestrator(
            &mut f,
            "http://127.0.0.1:1",
            &Config::default(),
            &BTreeMap::new(),
        );
        let levels: Vec<Level> = f.list.iter().map(|x| x.level).collect();
        assert_eq!(levels, [Level::Warning, Level::Ok, Level::Warning]);
    }
}

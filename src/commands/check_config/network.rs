//! Ports of this host, its name, and the way to orchestrator.

use super::findings::{Findings, streams};
use crate::commands::status;
use crate::config::Config;
use crate::process::{Cancel, Launcher, Output, run_operator_command};
use crate::protocol::wire::AgentInfo;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

/// For a connect and for the local agent's answer.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);

pub(crate) fn check(f: &mut Findings, config: &Config) {
    let c = &config.common;
    match c.listen_ip() {
        Ok(ip) => {
            own_port(f, SocketAddr::new(ip, c.port), config);
            seed_port(f, SocketAddr::new(ip, c.seed_port), streams(config));
        }
        Err(_) => f.error(
            "common.listen-address",
            format!("{:?} is not an IP address", c.listen_address),
            "give an address of this host, or leave it empty for all",
        ),
    }
    host_name(f, &c.hostname);
    for url in &config.orchestrator.urls {
        let base = crate::protocol::base(url, config.orchestrator.agents_port);
        orchestrator(f, &base, c.http_timeout);
    }
}

/// Ok if the port could be listened on now; it is free again afterwards.
fn free(at: SocketAddr) -> io::Result<()> {
    crate::sys::net::listen(at).map(drop)
}

fn own_port(f: &mut Findings, at: SocketAddr, config: &Config) {
    const KEY: &str = "common.port";
    match free(at) {
        Ok(()) => f.ok(KEY, format!("{at} is free: no agent runs here")),
        Err(e) if e.kind() == ErrorKind::AddrInUse => match running_agent(config) {
            Some(agent) if agent.mysql_port == config.mysql.port => f.ok(
                KEY,
                format!(
                    "{at} is held by the running agent {} for the MySQL on port {}",
                    agent.hostname, agent.mysql_port
                ),
            ),
            Some(agent) => f.error(
                KEY,
                format!(
                    "{at} is held by the agent {} of another MySQL, on port {}",
                    agent.hostname, agent.mysql_port
                ),
                "give each agent of this host its own common.port",
            ),
            None => f.error(
                KEY,
                format!("{at} is held by another program"),
                "`ss -ltnp` shows which: end it, or set another common.port",
            ),
        },
        Err(e) if e.kind() == ErrorKind::PermissionDenied => f.error(
            KEY,
            format!("{at}: {e}"),
            "ports below 1024 need root or CAP_NET_BIND_SERVICE: set another common.port",
        ),
        Err(e) => f.error(
            "common.listen-address",
            format!("{at}: {e}"),
            "give an address of this host, or leave it empty for all",
        ),
    }
}

fn seed_port(f: &mut Findings, at: SocketAddr, used: bool) {
    const KEY: &str = "common.seed-port";
    match free(at) {
        Ok(()) => f.ok(KEY, format!("{at} is free")),
        Err(e) if used => f.warning(
            KEY,
            format!("{at} cannot be listened on: {e}"),
            "unless a seed is coming in just now, end the program that holds it (`ss -ltnp`), or set another port on all hosts",
        ),
        Err(_) => f.ok(KEY, format!("{at} is taken, but no method is enabled that needs it")),
    }
}

/// `None` if nothing answers there, or something that is not an agent.
fn running_agent(config: &Config) -> Option<AgentInfo> {
    status::local(config, CONNECT_LIMIT).ok()?.info().ok()
}

fn host_name(f: &mut Findings, set: &str) {
    const KEY: &str = "common.hostname";
    let name = if set.is_empty() {
        let asked = run_operator_command(
            "hostname -f",
            &Launcher::default(),
            CONNECT_LIMIT,
            &Cancel::default(),
        );
        match asked.and_then(Output::success) {
            Ok(name) if !name.trim().is_empty() => name.trim().to_string(),
            _ => crate::sys::host::kernel_hostname(),
        }
    } else {
        set.to_string()
    };
    match (name.as_str(), 0).to_socket_addrs() {
        Ok(found) => {
            let mut found: Vec<String> = found.map(|a| a.ip().to_string()).collect();
            found.dedup();
            f.ok(KEY, format!("{name} resolves to {}", found.join(", ")));
        }
        Err(e) => f.warning(
            KEY,
            format!("{name} does not resolve here: {e}"),
            "orchestrator calls the agent by this name: enter it into DNS, or set common.hostname",
        ),
    }
}

fn orchestrator(f: &mut Findings, base: &str, timeout: Duration) {
    const KEY: &str = "orchestrator.url";
    let name = authority(base);
    match reach(name, timeout.min(CONNECT_LIMIT)) {
        Ok(()) => f.ok(KEY, format!("{name} accepts connections")),
        Err(e) => f.warning(
            KEY,
            format!("{name} cannot be reached: {e}"),
            "check orchestrator.url and orchestrator.agents-port (its AgentsServerPort), that it runs, and firewalls",
        ),
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
        orchestrator(&mut f, "http://127.0.0.1:1", CONNECT_LIMIT);
        let levels: Vec<Level> = f.list.iter().map(|x| x.level).collect();
        assert_eq!(levels, [Level::Warning, Level::Ok, Level::Warning]);
    }
}

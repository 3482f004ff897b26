//! The command line of `seed`, and the files that it names. Passwords come from files only: an argument and an
//! environment variable can be read by other users.

use crate::commands::arguments::{self, Takes};
use crate::config::{self, Secret};
use crate::error::{Error, OnPath, Result};
use crate::protocol::http_client::{AgentTransport, Basic};
use crate::seed::Method;
use crate::sys::host::is_host;
use crate::tls;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

#[cfg(test)]
pub(crate) mod tests;

/// Fastest first: the order of `--method auto`.
pub(crate) const SUPPORTED: [Method; 4] = [
    Method::Xtrabackup,
    Method::ClonePlugin,
    Method::Mydumper,
    Method::Mysqldump,
];
const VALUED: &str = "source target method seed-id poll listen agent-wait source-token-file target-token-file mysql-user \
    mysql-password-file config replication-user replication-password-file replication connect-to ca-file \
    cert-file key-file http-auth-file verify-max-time";
const FLAGS: &str = "dry-run force json no-connect https skip-verify replication-tls";

/// The error is about the command line.
type Checked<T> = std::result::Result<T, String>;

fn known() -> Vec<(&'static str, Takes)> {
    let valued = VALUED.split_whitespace().map(|name| (name, Takes::Value));
    let flags = FLAGS.split_whitespace().map(|name| (name, Takes::Nothing));
    let all = valued.chain(flags).chain([("verify", Takes::Optional)]);
    all.collect()
}

/// A host, and a port if one was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostPort {
    /// Name or address as typed, without brackets.
    pub(crate) host: String,
    pub(crate) port: Option<u16>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: Secret,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verify {
    All,
    /// All rows of small tables, some of others.
    Sample,
}

/// From which coordinates replication starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// GTID where the source has them.
    Auto,
    Gtid,
    Position,
}

/// All options, checked; files are read.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) source: HostPort,
    pub(crate) target: HostPort,
    /// `--method`; `None` is auto.
    pub(crate) method: Option<Method>,
    pub(crate) listen: SocketAddr,
    pub(crate) agent_wait: Duration,
    pub(crate) token_files: Option<(PathBuf, PathBuf)>,
    pub(crate) transport: AgentTransport,
    pub(crate) mysql: Login,
    /// `--replication-user`; `None`: what the target has.
    pub(crate) replication: Option<Login>,
    pub(crate) mode: Mode,
    /// False with `--no-connect`.
    pub(crate) connect: bool,
    pub(crate) replication_tls: bool,
    pub(crate) connect_to: Option<HostPort>,
    pub(crate) verify: Option<Verify>,
    pub(crate) verify_max_time: Duration,
    pub(crate) force: bool,
    pub(crate) dry_run: bool,
    /// `--seed-id`, positive.
    pub(crate) seed_id: i64,
    pub(crate) poll: Duration,
    /// What the user should know, such as a password file that others can read.
    pub(crate) warnings: Vec<String>,
}

/// Reads the command line and the files named in it. The outer error is about the command line, the inner about a file.
pub(crate) fn parse<A: Clone + Into<OsString>>(args: &[A]) -> Checked<Result<Options>> {
    let given = Given::read(args)?;
    let (source, target) = given.hosts()?;
    let (mode, connect_to) = given.coordinates()?;
    let verify = given.verify()?;
    given.combinations()?;
    let mut options = Options {
        source,
        target,
        method: method(given.text("method").unwrap_or("auto"))?,
        listen: listen(given.text("listen").unwrap_or(":3001"))?,
        agent_wait: given.duration("agent-wait", "90s", "0s")?,
        token_files: given
            .path("source-token-file")
            .zip(given.path("target-token-file")),
        transport: AgentTransport::default(),
        mysql: Login::default(),
        replication: None,
        mode,
        connect: !given.has("no-connect"),
        replication_tls: given.has("replication-tls"),
        connect_to,
        verify,
        verify_max_time: given.duration("verify-max-time", "1h", "1s")?,
        force: given.has("force"),
        dry_run: given.has("dry-run"),
        seed_id: given.seed_id()?,
        poll: given.duration("poll", "1s", "100ms")?,
        warnings: Vec::new(),
    };
    Ok(options.read_files(&given).map(|()| options))
}

/// The options of a command line with their values; those without one have an empty value.
struct Given(BTreeMap<&'static str, String>);

impl Given {
    fn read<A: Clone + Into<OsString>>(args: &[A]) -> Checked<Self> {
        let mut given = BTreeMap::new();
        for (name, value) in arguments::parse(args, &known())? {
            if given.insert(name, value).is_some() {
                return Err(format!("--{name} is given twice"));
            }
        }
        Ok(Self(given))
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.text(name).map(PathBuf::from)
    }

    fn host(&self, name: &str) -> Checked<Option<HostPort>> {
        self.text(name).map(|v| host_port(name, v)).transpose()
    }

    fn duration(&self, name: &str, default: &str, least: &str) -> Checked<Duration> {
        let text = self.text(name).unwrap_or(default);
        let wrong = |e| format!("--{name} {text}: {e}; write for example 90s or 1m30s");
        let value = config::duration::parse(text).map_err(wrong)?;
        if value < config::duration::parse(least).map_err(wrong)? {
            return Err(format!("--{name}: at least {least}"));
        }
        Ok(value)
    }

    fn hosts(&self) -> Checked<(HostPort, HostPort)> {
        let source = self.host("source")?.ok_or("--source is missing")?;
        let target = self.host("target")?.ok_or("--target is missing")?;
        let ports_differ = source.port.zip(target.port).is_some_and(|(s, t)| s != t);
        if ports_differ || !source.host.eq_ignore_ascii_case(&target.host) {
            return Ok((source, target));
        }
        Err("--source and --target are the same host; two agents on one host need two ports".into())
    }

    fn coordinates(&self) -> Checked<(Mode, Option<HostPort>)> {
        let mode = match self.text("replication").unwrap_or("auto") {
            "auto" => Mode::Auto,
            "gtid" => Mode::Gtid,
            "position" => Mode::Position,
            other => return Err(format!("--replication {other}: auto, gtid or position")),
        };
        let connect_to = self.host("connect-to")?;
        if connect_to.is_some() && mode == Mode::Position {
            return Err(
                "--connect-to needs GTID: a position is right on the copied server only".into(),
            );
        }
        Ok((mode, connect_to))
    }

    fn verify(&self) -> Checked<Option<Verify>> {
        match self.text("verify") {
            None => Ok(None),
            Some(_) if self.has("no-connect") => Err(
                "--verify compares with a target that replicates: it cannot go with --no-connect"
                    .into(),
            ),
            Some("" | "all") => Ok(Some(Verify::All)),
            Some("sample") => Ok(Some(Verify::Sample)),
            Some(other) => Err(format!(
                "--verify={other}: write --verify or --verify=sample"
            )),
        }
    }

    fn seed_id(&self) -> Checked<i64> {
        let Some(text) = self.text("seed-id") else {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            return Ok(now.map_or(1, |d| d.as_secs().cast_signed()));
        };
        let id = text.parse().ok().filter(|n| *n > 0);
        id.ok_or(format!("--seed-id {text}: a positive whole number"))
    }

    fn combinations(&self) -> Checked<()> {
        for (one, other) in [
            ("source-token-file", "target-token-file"),
            ("mysql-user", "mysql-password-file"),
            ("replication-user", "replication-password-file"),
            ("cert-file", "key-file"),
        ] {
            if self.has(one) != self.has(other) {
                return Err(format!("--{one} and --{other} go together"));
            }
        }
        for (option, needed) in [
            ("ca-file", "https"),
            ("cert-file", "https"),
            ("skip-verify", "https"),
            ("verify-max-time", "verify"),
        ] {
            if self.has(option) && !self.has(needed) {
                return Err(format!("--{option} needs --{needed}"));
            }
        }
        if !self.has("mysql-user") && !self.has("config") {
            return Err("--mysql-user and --mysql-password-file are missing (or --config)".into());
        }
        Ok(())
    }
}

impl Options {
    pub(crate) fn sample(&self) -> bool {
        self.verify == Some(Verify::Sample)
    }

    fn read_files(&mut self, given: &Given) -> Result<()> {
        let warnings = &mut self.warnings;
        let mut login = |user: &str, file: &str| -> Result<Option<Login>> {
            let Some((user, path)) = given.text(user).zip(given.path(file)) else {
                return Ok(None);
            };
            let password = secret(file, &path, warnings)?;
            let user = user.into();
            Ok(Some(Login { user, password }))
        };
        let own = login("mysql-user", "mysql-password-file")?;
        self.replication = login("replication-user", "replication-password-file")?;
        self.mysql = match own {
            Some(login) => login,
            None => {
                let loaded = config::load(given.path("config").as_deref())?;
                self.warnings.extend(loaded.warnings);
                let config::Mysql { user, password, .. } = loaded.config.mysql;
                Login { user, password }
            }
        };
        if given.has("https") {
            let file = |name: &str| given.text(name).unwrap_or_default();
            self.transport.tls = Some(tls::outgoing(&tls::Files {
                authorities: ("--ca-file", file("ca-file")),
                certificate: ("--cert-file", file("cert-file")),
                key: ("--key-file", file("key-file")),
                skip_verify: given.has("skip-verify"),
            })?);
        }
        if let Some(path) = given.path("http-auth-file") {
            let pair = secret("http-auth-file", &path, &mut self.warnings)?;
            if !pair.reveal().contains(':') {
                return Err(Error::permanent(format!(
                    "--http-auth-file {}: it must hold USER:PASSWORD",
                    path.display()
                )));
            }
            self.transport.basic = Some(Basic::new(pair.reveal()));
        }
        Ok(())
    }
}

fn method(word: &str) -> Checked<Option<Method>> {
    let is = |name: &str| name.eq_ignore_ascii_case(word);
    match Method::ALL.iter().find(|m| is(m.as_str())) {
        None if is("auto") => Ok(None),
        None => Err(format!("--method {word}: no such method")),
        Some(method) if SUPPORTED.contains(method) => Ok(Some(*method)),
        Some(method) => Err(format!(
            "--method {method}: not supported by this version yet"
        )),
    }
}

/// `HOST`, `HOST:PORT`, `[V6]`, `[V6]:PORT`. The host goes into URLs and statements, so only what a name or an address
/// is made of is taken.
fn host_port(option: &str, text: &str) -> Checked<HostPort> {
    let bad = |why: &str| Err(format!("--{option} {text}: {why}"));
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let Some((host, after)) = rest.split_once(']') else {
            return bad("the bracket is not closed");
        };
        let port = after.strip_prefix(':');
        if host.parse::<Ipv6Addr>().is_err() {
            return bad("no IPv6 address in the brackets");
        } else if port.is_none() && !after.is_empty() {
            return bad("behind the bracket comes :PORT");
        }
        (host, port)
    } else {
        match text.split_once(':') {
            Some((_, port)) if port.contains(':') => {
                return bad("write an IPv6 address as [ADDRESS]:PORT");
            }
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    if !is_host(host) {
        return bad("no host name or address");
    }
    let number = |p: &str| p.parse().ok().filter(|n| *n > 0 && !p.starts_with('+'));
    let number = port.map(number);
    if number == Some(None) {
        return bad("the port is a number from 1 to 65535");
    }
    Ok(HostPort {
        host: host.to_string(),
        port: number.flatten(),
    })
}

fn listen(text: &str) -> Checked<SocketAddr> {
    let all = text.strip_prefix(':').map(|port| format!("[::]:{port}"));
    let parsed = all.as_deref().unwrap_or(text).parse::<SocketAddr>();
    let wrong = "an IP address and a port, such as 10.0.0.5:3001, or :3001 for all";
    parsed.map_err(|_| format!("--listen {text}: {wrong}"))
}

/// The content of a password or token file without one trailing newline; a warning if other users can read the file.
fn secret(option: &str, path: &Path, warnings: &mut Vec<String>) -> Result<Secret> {
    let name = format!("--{option} {}", path.display());
    let secret = Secret::of_file(&name, path)?;
    let mode = std::fs::metadata(path).on(&name)?.permissions().mode();
    if mode & 0o004 != 0 {
        warnings.push(format!(
            "{name} can be read by every user: run chmod o-r on it"
        ));
    }
    Ok(secret)
}

impl HostPort {
    /// True if the host is an address or name that means `other` literally: the same address, or the same name whatever
    /// its case; a name without a dot also means a name that begins with it.
    pub(crate) fn names(&self, other: &str) -> bool {
        if let (Ok(a), Ok(b)) = (self.host.parse::<IpAddr>(), other.parse::<IpAddr>()) {
            return a == b;
        }
        let other = other.trim_end_matches('.');
        let own = self.host.trim_end_matches('.');
        let first = other.split_once('.').map_or(other, |(label, _)| label);
        own.eq_ignore_ascii_case(other) || (!own.contains('.') && own.eq_ignore_ascii_case(first))
    }
}

/// The text for `seed --help` and for a wrong command line.
pub(crate) const USAGE: &str = "\
usage: orchestrator-agent seed --source HOST[:AGENTPORT] --target HOST[:AGENTPORT] [options]

Makes the target a copy and a replica of the source, without an orchestrator. Both hosts run orchestrator-agent.
An option is written --name value or --name=value; IPv6 addresses are in brackets.

  --source HOST[:AGENTPORT]         host to copy; the target uses this name as the source's address
  --target HOST[:AGENTPORT]         host to overwrite
  --method auto|NAME                Xtrabackup, ClonePlugin, Mydumper or Mysqldump; auto, the
                                    default: the first of these that makes an exact copy
  --dry-run                         check everything, change nothing
  --force                           allow a target that is a replica: its replication is stopped and reconfigured; delay,
                                    retries, TLS and all other options of its channel are kept
  --seed-id N                       seed ID (default: the current Unix timestamp)
  --poll DURATION                   how often the agents are polled (default: 1s)
  --json                            for programs: one JSON object a line on standard output and nothing else, the last one
                                    with the event \"result\"; contrib/doc/seed-json.md describes them

Agents: they register with this command, or their tokens are read from files.
  --listen ADDR:PORT                where the agents register (default: :3001); their orchestrator.url and
                                    orchestrator.agents-port must point here
  --agent-wait DURATION             how long to wait for both (default: 90s)
  --source-token-file FILE          token of the source's agent (its token-hint-file); --listen is not used then
  --target-token-file FILE          the same of the target's agent
  --https                           the agents serve HTTPS (their use-ssl), with certificates that are verified
  --ca-file FILE                    certificate authorities in addition to the system's
  --skip-verify                     do not verify the certificates (insecure)
  --cert-file FILE, --key-file FILE client certificate and key for agents with use-mutual-tls
  --http-auth-file FILE             USER:PASSWORD for agents with http-auth-user

MySQL: one account for both servers. After the copy the target has the source's accounts.
  --mysql-user USER                 needs REPLICATION SLAVE ADMIN and SLAVE MONITOR (MySQL: REPLICATION_SLAVE_ADMIN and
                                    REPLICATION CLIENT), PROCESS, SELECT, EVENT, and RELOAD with --force
  --mysql-password-file FILE        its password
  --config FILE                     take user and password from [mysql] of an agent's configuration

Replication:
  --replication-user USER           account by which the target replicates (default: what the target has already)
  --replication-password-file FILE  its password; the target tries both before anything is changed
  --replication-tls                 encrypt the connection; implied if the account has REQUIRE SSL
  --replication auto|gtid|position  coordinates to start from (auto: GTID where the source has them)
  --connect-to HOST[:PORT]          replicate from this server, which must have the source's GTIDs
  --no-connect                      do not connect replication

Verification:
  --verify, --verify=sample         compare the data of source and target afterwards, while the source stays online: all
                                    rows, or only a sample of tables above 64 MiB; see contrib/doc/seed-verify.md
  --verify-max-time DURATION        how long a snapshot of both servers is kept (default: 1h); the remaining tables are
                                    compared in a new snapshot

SIGINT or SIGTERM aborts the seed on both agents; a second one exits at once, without cleanup. SIGHUP is
ignored: the seed survives the loss of the terminal.

exit codes: 0 success; 1 failed before anything on the target was changed; 2 wrong command line; 3 failed later: the
message states whether the target's data are partial and whether replication is connected; 4 success, but the data differ
(--verify); 5 success, but not all data could be compared (--verify); 130 interrupted. Any other: failure.
";

//! The command line of `seed`, and the files that it names. Passwords come from files only: an argument and an
//! environment variable can be read by other users.

use crate::config::{self, Secret};
use crate::error::{Error, Result};
use crate::protocol::http_client::{AgentTransport, Basic};
use crate::seed::Method;
use crate::tls;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

#[cfg(test)]
mod tests;
mod usage;

pub use usage::USAGE;

/// Options that take a value.
const VALUED: [&str; 21] = [
    "source",
    "target",
    "method",
    "seed-id",
    "poll",
    "listen",
    "agent-wait",
    "source-token-file",
    "target-token-file",
    "mysql-user",
    "mysql-password-file",
    "config",
    "replication-user",
    "replication-password-file",
    "replication",
    "connect-to",
    "ca-file",
    "cert-file",
    "key-file",
    "http-auth-file",
    "verify-max-time",
];
/// Options without a value.
const FLAGS: [&str; 7] = [
    "dry-run",
    "force",
    "json",
    "no-connect",
    "https",
    "skip-verify",
    "replication-tls",
];

/// A host, and a port if one was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// Name or address as typed, without brackets.
    pub host: String,
    /// Port behind the colon.
    pub port: Option<u16>,
}

/// A MySQL account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// Name.
    pub user: String,
    /// Password.
    pub password: Secret,
}

/// What `--verify` compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verify {
    /// All rows of all tables.
    All,
    /// All rows of small tables, some of others.
    Sample,
}

/// From which coordinates replication starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// GTID where the source has them.
    Auto,
    /// GTID.
    Gtid,
    /// File and position.
    Position,
}

/// All options, checked; files are read.
#[derive(Debug, Clone)]
pub struct Options {
    /// `--source`
    pub source: HostPort,
    /// `--target`
    pub target: HostPort,
    /// `--method`; `None` is auto.
    pub method: Option<Method>,
    /// `--listen`
    pub listen: SocketAddr,
    /// `--agent-wait`
    pub agent_wait: Duration,
    /// The source's and the target's token files.
    pub token_files: Option<(PathBuf, PathBuf)>,
    /// How agents are spoken to.
    pub(crate) transport: AgentTransport,
    /// The account for both servers.
    pub mysql: Login,
    /// `--replication-user`; `None`: what the target has.
    pub replication: Option<Login>,
    /// `--replication`
    pub mode: Mode,
    /// False with `--no-connect`.
    pub connect: bool,
    /// `--replication-tls`
    pub replication_tls: bool,
    /// `--connect-to`
    pub connect_to: Option<HostPort>,
    /// `--verify`
    pub verify: Option<Verify>,
    /// `--verify-max-time`
    pub verify_max_time: Duration,
    /// `--force`
    pub force: bool,
    /// `--dry-run`
    pub dry_run: bool,
    /// `--seed-id`, positive.
    pub seed_id: i64,
    /// `--poll`
    pub poll: Duration,
    /// What the user should know, such as a password file that others can read.
    pub warnings: Vec<String>,
}

/// Reads the command line and the files named in it. The outer error is about the command line, the inner about a file.
///
/// # Errors
/// Each names the option and what it takes.
pub fn parse(args: &[String]) -> std::result::Result<Result<Options>, String> {
    let given = split(args)?;
    let text = |name: &str| given.get(name).map(String::as_str);
    let host = |name: &str| text(name).map(|v| host_port(name, v)).transpose();
    let source = host("source")?.ok_or("--source is missing")?;
    let target = host("target")?.ok_or("--target is missing")?;
    let ports_differ = source.port.is_some() && target.port.is_some() && source.port != target.port;
    if source.host.eq_ignore_ascii_case(&target.host) && !ports_differ {
        return Err(
            "--source and --target are the same host; two agents on one host need two ports".into(),
        );
    }
    let mode = match text("replication").unwrap_or("auto") {
        "auto" => Mode::Auto,
        "gtid" => Mode::Gtid,
        "position" => Mode::Position,
        other => return Err(format!("--replication {other}: auto, gtid or position")),
    };
    let connect_to = host("connect-to")?;
    if connect_to.is_some() && mode == Mode::Position {
        return Err(
            "--connect-to needs GTID: a position is right on the copied server only".into(),
        );
    }
    let verify = match text("verify") {
        None => None,
        Some("") | Some("all") => Some(Verify::All),
        Some("sample") => Some(Verify::Sample),
        Some(other) => {
            return Err(format!(
                "--verify={other}: write --verify or --verify=sample"
            ));
        }
    };
    if verify.is_some() && given.contains_key("no-connect") {
        return Err(
            "--verify compares with a target that replicates: it cannot go with --no-connect"
                .into(),
        );
    }
    if verify.is_none() && given.contains_key("verify-max-time") {
        return Err("--verify-max-time needs --verify".into());
    }
    let verify_max_time = duration("verify-max-time", text("verify-max-time").unwrap_or("1h"))?;
    if verify_max_time < Duration::from_secs(1) {
        return Err("--verify-max-time: at least 1s".into());
    }
    let token_files = match (text("source-token-file"), text("target-token-file")) {
        (Some(s), Some(t)) => Some((PathBuf::from(s), PathBuf::from(t))),
        (None, None) => None,
        _ => return Err("--source-token-file and --target-token-file go together".into()),
    };
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(1, |d| d.as_secs());
    let seed_id = match text("seed-id") {
        Some(v) => v
            .parse()
            .ok()
            .filter(|n| *n > 0)
            .ok_or(format!("--seed-id {v}: a positive whole number"))?,
        None => i64::try_from(now).unwrap_or(i64::MAX),
    };
    let poll = duration("poll", text("poll").unwrap_or("1s"))?;
    if poll < Duration::from_millis(100) {
        return Err("--poll: at least 100ms".into());
    }
    for (user, file) in [
        ("mysql-user", "mysql-password-file"),
        ("replication-user", "replication-password-file"),
    ] {
        if text(user).is_some() != text(file).is_some() {
            return Err(format!("--{user} and --{file} go together"));
        }
    }
    if text("cert-file").is_some() != text("key-file").is_some() {
        return Err("--cert-file and --key-file go together".into());
    }
    for option in ["ca-file", "cert-file", "skip-verify"] {
        if given.contains_key(option) && !given.contains_key("https") {
            return Err(format!("--{option} needs --https"));
        }
    }
    if text("mysql-user").is_none() && text("config").is_none() {
        return Err("--mysql-user and --mysql-password-file are missing (or --config)".into());
    }
    let mut options = Options {
        source,
        target,
        method: method(text("method").unwrap_or("auto"))?,
        listen: listen(text("listen").unwrap_or(":3001"))?,
        agent_wait: duration("agent-wait", text("agent-wait").unwrap_or("90s"))?,
        token_files,
        transport: AgentTransport::default(),
        mysql: Login {
            user: String::new(),
            password: Secret::default(),
        },
        replication: None,
        mode,
        connect: !given.contains_key("no-connect"),
        replication_tls: given.contains_key("replication-tls"),
        connect_to,
        verify,
        verify_max_time,
        force: given.contains_key("force"),
        dry_run: given.contains_key("dry-run"),
        seed_id,
        poll,
        warnings: Vec::new(),
    };
    Ok(options.read_files(&given).map(|()| options))
}

impl Options {
    /// True with `--verify=sample`.
    pub fn sample(&self) -> bool {
        self.verify == Some(Verify::Sample)
    }

    fn read_files(&mut self, given: &BTreeMap<&'static str, String>) -> Result<()> {
        let mut login = |user: &str, file: &str| -> Result<Option<Login>> {
            let (Some(user), Some(path)) = (given.get(user), given.get(file)) else {
                return Ok(None);
            };
            let password = secret(file, Path::new(path), &mut self.warnings)?;
            Ok(Some(Login {
                user: user.clone(),
                password,
            }))
        };
        let mysql = login("mysql-user", "mysql-password-file")?;
        self.replication = login("replication-user", "replication-password-file")?;
        self.mysql = match (mysql, given.get("config")) {
            (Some(login), _) => login,
            (None, Some(path)) => {
                let loaded = config::load(Path::new(path))?;
                self.warnings.extend(loaded.warnings);
                let mysql = loaded.config.mysql;
                Login {
                    user: mysql.user,
                    password: mysql.password,
                }
            }
            (None, None) => return Err(Error::permanent("--mysql-user is missing")),
        };
        if given.contains_key("https") {
            let file = |name: &str| given.get(name).map_or("", String::as_str);
            self.transport.tls = Some(tls::outgoing(&tls::Files {
                authorities: ("--ca-file", file("ca-file")),
                certificate: ("--cert-file", file("cert-file")),
                key: ("--key-file", file("key-file")),
                skip_verify: given.contains_key("skip-verify"),
            })?);
        }
        if let Some(path) = given.get("http-auth-file") {
            let pair = secret("http-auth-file", Path::new(path), &mut self.warnings)?;
            if !pair.reveal().contains(':') {
                return Err(Error::permanent(format!(
                    "--http-auth-file {path}: it must hold USER:PASSWORD"
                )));
            }
            self.transport.basic = Some(Basic::new(pair.reveal()));
        }
        Ok(())
    }
}

/// The arguments as option and value; flags have an empty value.
fn split(args: &[String]) -> std::result::Result<BTreeMap<&'static str, String>, String> {
    let mut out = BTreeMap::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let Some(option) = arg.strip_prefix("--") else {
            return Err(format!("{arg}: options begin with --"));
        };
        let (name, inline) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value.to_string())),
            None => (option, None),
        };
        let known = |names: &[&'static str]| names.iter().copied().find(|n| *n == name);
        let (name, value) = if name == "verify" {
            // A value only after =: it may be left out.
            ("verify", inline.unwrap_or_default())
        } else if let Some(flag) = known(&FLAGS) {
            match inline {
                None => (flag, String::new()),
                Some(_) => return Err(format!("--{flag} takes no value")),
            }
        } else if let Some(valued) = known(&VALUED) {
            let value = inline
                .or_else(|| args.next().cloned())
                .filter(|v| !v.is_empty());
            (valued, value.ok_or(format!("--{valued} needs a value"))?)
        } else {
            return Err(format!("--{name}: no such option"));
        };
        if out.insert(name, value).is_some() {
            return Err(format!("--{name} is given twice"));
        }
    }
    Ok(out)
}

fn method(word: &str) -> std::result::Result<Option<Method>, String> {
    if word.eq_ignore_ascii_case("auto") {
        return Ok(None);
    }
    let known = Method::ALL
        .iter()
        .find(|m| m.as_str().eq_ignore_ascii_case(word));
    let method = *known.ok_or(format!("--method {word}: no such method"))?;
    match super::method::CONDUCTED.contains(&method) {
        true => Ok(Some(method)),
        false => Err(format!(
            "--method {method}: not supported by this version yet"
        )),
    }
}

/// `HOST`, `HOST:PORT`, `[V6]`, `[V6]:PORT`. The host goes into URLs and statements, so only what a name or an address
/// is made of is taken.
fn host_port(option: &str, text: &str) -> std::result::Result<HostPort, String> {
    let bad = |why: &str| format!("--{option} {text}: {why}");
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, port) = rest
            .split_once(']')
            .ok_or_else(|| bad("the bracket is not closed"))?;
        host.parse::<Ipv6Addr>()
            .map_err(|_| bad("no IPv6 address in the brackets"))?;
        match port {
            "" => (host, None),
            port => (
                host,
                Some(
                    port.strip_prefix(':')
                        .ok_or_else(|| bad("behind the bracket comes :PORT"))?,
                ),
            ),
        }
    } else {
        match text.split_once(':') {
            Some((_, port)) if port.contains(':') => {
                return Err(bad("write an IPv6 address as [ADDRESS]:PORT"));
            }
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    let of_name = |c: char| c.is_ascii_alphanumeric() || ".-_:".contains(c);
    if host.is_empty() || host.starts_with('-') || !host.chars().all(of_name) {
        return Err(bad("no host name or address"));
    }
    let number = |p: &str| {
        p.parse::<u16>()
            .ok()
            .filter(|n| *n > 0 && p.bytes().all(|b| b.is_ascii_digit()))
    };
    let port = port
        .map(|p| number(p).ok_or_else(|| bad("the port is a number from 1 to 65535")))
        .transpose()?;
    Ok(HostPort {
        host: host.to_string(),
        port,
    })
}

fn listen(text: &str) -> std::result::Result<SocketAddr, String> {
    let all = text.strip_prefix(':').map(|port| format!("[::]:{port}"));
    let parsed = all.as_deref().unwrap_or(text).parse::<SocketAddr>();
    parsed.map_err(|_| {
        format!(
            "--listen {text}: an IP address and a port, such as 10.0.0.5:3001, or :3001 for all"
        )
    })
}

fn duration(option: &str, text: &str) -> std::result::Result<Duration, String> {
    config::duration::parse(text)
        .map_err(|e| format!("--{option} {text}: {e}; write for example 90s or 1m30s"))
}

/// The content of a password or token file without one trailing newline; a warning if other users can read the file.
///
/// # Errors
/// Names the option and the file.
pub fn secret(option: &str, path: &Path, warnings: &mut Vec<String>) -> Result<Secret> {
    let name = format!("--{option} {}", path.display());
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(&name, &e))?;
    let mode = std::fs::metadata(path)
        .map_err(|e| Error::io(&name, &e))?
        .permissions()
        .mode();
    if mode & 0o004 != 0 {
        warnings.push(format!(
            "{name} can be read by every user: run chmod o-r on it"
        ));
    }
    Ok(Secret::new(text.strip_suffix('\n').unwrap_or(&text)))
}

impl HostPort {
    /// True if the host is an address or name that means `other` literally: the same address, or the same name whatever
    /// its case; a name without a dot also means a name that begins with it.
    pub fn names(&self, other: &str) -> bool {
        if let (Ok(a), Ok(b)) = (self.host.parse::<IpAddr>(), other.parse::<IpAddr>()) {
            return a == b;
        }
        let other = other.trim_end_matches('.');
        let own = self.host.trim_end_matches('.');
        let first = other.split_once('.').map_or(other, |(label, _)| label);
        own.eq_ignore_ascii_case(other) || (!own.contains('.') && own.eq_ignore_ascii_case(first))
    }
}

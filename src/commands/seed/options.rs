//! The command line of `seed`, and the files that it names. Passwords come from files only: an argument and an
//! environment variable can be read by other users.

use crate::commands::arguments::{self, Takes};
use crate::config::{self, Secret};
use crate::error::{Error, OnPath, Result};
use crate::protocol::http_client::{AgentTransport, Basic};
use crate::seed::Method;
use crate::tls;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

#[cfg(test)]
mod tests;
mod usage;

pub(crate) use usage::USAGE;

/// Options that take a value.
const VALUED: &str = "source target method seed-id poll listen agent-wait source-token-file target-token-file mysql-user \
    mysql-password-file config replication-user replication-password-file replication connect-to ca-file \
    cert-file key-file http-auth-file verify-max-time";
/// Options without a value.
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

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: Secret,
}

/// What `--verify` compares.
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
///
/// # Errors
/// Each names the option and what it takes.
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
            .text("source-token-file")
            .zip(given.text("target-token-file"))
            .map(|(source, target)| (source.into(), target.into())),
        transport: AgentTransport::default(),
        mysql: Login {
            user: String::new(),
            password: Secret::default(),
        },
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
        let ports_differ =
            source.port.is_some() && target.port.is_some() && source.port != target.port;
        if source.host.eq_ignore_ascii_case(&target.host) && !ports_differ {
            return Err(
                "--source and --target are the same host; two agents on one host need two ports"
                    .into(),
            );
        }
        Ok((source, target))
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
        let verify = match self.text("verify") {
            None => None,
            Some("") | Some("all") => Some(Verify::All),
            Some("sample") => Some(Verify::Sample),
            Some(other) => {
                return Err(format!(
                    "--verify={other}: write --verify or --verify=sample"
                ));
            }
        };
        if verify.is_some() && self.has("no-connect") {
            return Err(
                "--verify compares with a target that replicates: it cannot go with --no-connect"
                    .into(),
            );
        }
        Ok(verify)
    }

    fn seed_id(&self) -> Checked<i64> {
        let Some(text) = self.text("seed-id") else {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            let now = now.map_or(1, |d| d.as_secs());
            return Ok(i64::try_from(now).unwrap_or(i64::MAX));
        };
        let id = text.parse().ok().filter(|n| *n > 0);
        id.ok_or(format!("--seed-id {text}: a positive whole number"))
    }

    /// Options that need others.
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
    /// True with `--verify=sample`.
    pub(crate) fn sample(&self) -> bool {
        self.verify == Some(Verify::Sample)
    }

    fn read_files(&mut self, given: &Given) -> Result<()> {
        let mut login = |user: &str, file: &str| -> Result<Option<Login>> {
            let (Some(user), Some(path)) = (given.text(user), given.text(file)) else {
                return Ok(None);
            };
            let password = secret(file, Path::new(path), &mut self.warnings)?;
            Ok(Some(Login {
                user: user.into(),
                password,
            }))
        };
        let mysql = login("mysql-user", "mysql-password-file")?;
        self.replication = login("replication-user", "replication-password-file")?;
        self.mysql = match (mysql, given.text("config")) {
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
        if given.has("https") {
            let file = |name: &str| given.text(name).unwrap_or_default();
            self.transport.tls = Some(tls::outgoing(&tls::Files {
                authorities: ("--ca-file", file("ca-file")),
                certificate: ("--cert-file", file("cert-file")),
                key: ("--key-file", file("key-file")),
                skip_verify: given.has("skip-verify"),
            })?);
        }
        if let Some(path) = given.text("http-auth-file") {
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

fn method(word: &str) -> Checked<Option<Method>> {
    if word.eq_ignore_ascii_case("auto") {
        return Ok(None);
    }
    let known = Method::ALL
        .iter()
        .find(|m| m.as_str().eq_ignore_ascii_case(word));
    let method = *known.ok_or(format!("--method {word}: no such method"))?;
    if super::method::SUPPORTED.contains(&method) {
        Ok(Some(method))
    } else {
        Err(format!(
            "--method {method}: not supported by this version yet"
        ))
    }
}

/// `HOST`, `HOST:PORT`, `[V6]`, `[V6]:PORT`. The host goes into URLs and statements, so only what a name or an address
/// is made of is taken.
fn host_port(option: &str, text: &str) -> Checked<HostPort> {
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

fn listen(text: &str) -> Checked<SocketAddr> {
    let all = text.strip_prefix(':').map(|port| format!("[::]:{port}"));
    let parsed = all.as_deref().unwrap_or(text).parse::<SocketAddr>();
    parsed.map_err(|_| {
        format!(
            "--listen {text}: an IP address and a port, such as 10.0.0.5:3001, or :3001 for all"
        )
    })
}

/// The content of a password or token file without one trailing newline; a warning if other users can read the file.
///
/// # Errors
/// Names the option and the file.
pub(crate) fn secret(option: &str, path: &Path, warnings: &mut Vec<String>) -> Result<Secret> {
    let name = format!("--{option} {}", path.display());
    let text = std::fs::read_to_string(path).on(&name)?;
    let mode = std::fs::metadata(path).on(&name)?.permissions().mode();
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

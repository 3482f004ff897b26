//! Every check that can be made before anything is touched. All findings are printed, not only
//! the first. The agents check again, as far as one host can know, when Prepare and Backup are called.

use super::event::{Event, Listener};
use super::method;
use super::options::{Mode, Options};
use super::registration::Agents;
use super::sql::{Channel, Db};
use crate::compatibility::{self, CopyKind, ServerInfo};
use crate::error::{Error, Result};
use crate::methods::contents;
use crate::methods::contents::Finding;
use crate::methods::{definitions, values};
use crate::mysql::channel::Setting;
use crate::mysql::{Flavour, info};
use crate::protocol::wire::AgentData;
use crate::seed::Method;
use std::collections::BTreeSet;

mod account;
mod kept;
mod mysql_only;
mod probe;

/// What the checks have found out, for the stages after them.
pub struct Plan {
    /// The chosen method.
    pub method: Method,
    /// Port of the source's MySQL.
    pub source_port: u16,
    /// Port of the target's MySQL.
    pub target_port: u16,
    /// The target's replication as it was.
    pub channels: Vec<Channel>,
    /// True if `--replication auto` means position: the source itself replicates and not by GTID (MariaDB), or gtid_mode is
    /// not ON on both (MySQL).
    pub without_gtid: bool,
    /// Options of the target's default channel that its new source does not change.
    pub settings: Vec<Setting>,
    /// True if the target replicates by TLS whatever `settings` say.
    pub tls: bool,
    /// The target's settings of [`READ_ONLY`] as they were; empty where the server has no such variable.
    pub read_only: [String; 2],
}

/// Variables that a seed leaves as they are.
pub const READ_ONLY: [&str; 2] = ["read_only", "super_read_only"];

/// What was found so far.
struct Findings<'a> {
    events: &'a dyn Listener,
    problems: usize,
}

impl Findings<'_> {
    fn problem(&mut self, text: impl AsRef<str>) {
        self.problems += 1;
        let text = text.as_ref();
        self.events.report(&Event::Preflight { ok: false, text });
    }

    fn ok(&self, text: impl AsRef<str>) {
        let text = text.as_ref();
        self.events.report(&Event::Preflight { ok: true, text });
    }

    /// The value, or the error as a finding.
    fn take<T>(&mut self, result: Result<T>) -> Option<T> {
        result.map_err(|e| self.problem(e.to_string())).ok()
    }
}

/// Checks everything and prints what it finds. Nothing is changed.
///
/// # Errors
/// If there is a finding that forbids the seed.
pub fn check(options: &Options, agents: &Agents, events: &dyn Listener) -> Result<Plan> {
    let mut f = Findings {
        events,
        problems: 0,
    };
    let data = (f.take(agents.source.data()), f.take(agents.target.data()));
    let ports = (
        f.take(agents.source.mysql_port()),
        f.take(agents.target.mysql_port()),
    );
    let mut open = |side, host: &str, port: Option<u16>| {
        port.and_then(|p| f.take(Db::impatient(side, host, p, &options.mysql)))
    };
    let source = open("source", &options.source.host, ports.0);
    let target = open("target", &options.target.host, ports.1);
    let mut plan = Plan {
        method: Method::Mysqldump,
        source_port: ports.0.unwrap_or_default(),
        target_port: ports.1.unwrap_or_default(),
        channels: Vec::new(),
        without_gtid: false,
        settings: Vec::new(),
        tls: options.replication_tls,
        read_only: Default::default(),
    };
    if let (Some(mut source), Some(mut target)) = (source, target) {
        let infos = source
            .ask(ServerInfo::query)
            .and_then(|s| Ok((s, target.ask(ServerInfo::query)?)));
        let infos = f.take(infos);
        if let Some((s, t)) = &infos
            && let Err(e) = servers(options, (s, t), &mut source, &mut target, &mut plan, &mut f)
        {
            f.problem(e.to_string());
        }
        if let (Some(s), Some(t)) = (&data.0, &data.1) {
            let used = source_bytes(s, &mut source, &mut f);
            let contents = contents_of(&mut source, &mut target, &mut f);
            let servers = infos.as_ref().map(|(s, t)| (s, t));
            let chosen = choose(options, (s, t), servers, used, contents.as_ref(), &mut f);
            plan.method = chosen.unwrap_or(plan.method);
        }
        if f.problems == 0 {
            probe::check(options, &mut target, &plan, &mut f);
        }
    }
    match f.problems {
        0 => Ok(plan),
        1 => Err(Error::permanent("preflight found a problem")),
        n => Err(Error::permanent(format!("preflight found {n} problems"))),
    }
}

/// What the servers hold that not every method can copy.
struct Contents {
    source: contents::Source,
    target: contents::Target,
    values: values::Found,
    /// What the target has in the way of a load.
    in_the_way: Option<String>,
}

impl Contents {
    fn of(&self, method: Method) -> Vec<Finding> {
        let mut found =
            contents::inspect(&self.source, Some(&self.target), method, &BTreeSet::new());
        found.extend(values::inspect(&self.values, method));
        found
    }

    /// Why `method` cannot copy the source.
    fn obstacles(&self, method: Method) -> Vec<String> {
        let mut out: Vec<String> = self
            .of(method)
            .iter()
            .filter(|f| matches!(f.outcome, contents::Outcome::Refused(_)))
            .map(Finding::message)
            .collect();
        if !method.backup_to_datadir() {
            out.extend(self.in_the_way.clone());
        }
        out
    }

    /// What else is to be known of a copy by `method`.
    fn warnings(&self, method: Method) -> Vec<String> {
        let found = self.of(method);
        let warnings = found
            .iter()
            .filter(|f| matches!(f.outcome, contents::Outcome::Warning(_)));
        warnings.map(Finding::message).collect()
    }

    /// What `method` does not copy exactly.
    fn inexact(&self, method: Method) -> Vec<String> {
        let found = self.of(method);
        let inexact = found
            .iter()
            .filter(|f| matches!(f.outcome, contents::Outcome::Inexact(_)));
        inexact.map(Finding::message).collect()
    }
}

/// `None` if they cannot be inspected: the agents do so themselves, before anything is touched.
fn contents_of(source: &mut Db, target: &mut Db, f: &mut Findings) -> Option<Contents> {
    if source.server.flavour != target.server.flavour {
        return None;
    }
    let mut inspect = || -> Result<Contents> {
        let of_source = source.ask(contents::Source::ask)?;
        let in_the_way = target
            .ask(|c, server| definitions::name_in_the_way(c, server, &of_source.catalogue))?;
        let search = |c: &mut mysql::Conn, server| {
            let none = BTreeSet::new();
            values::search(c, server, &none, Some(values::GLANCE), || ())
        };
        Ok(Contents {
            values: source.ask(search)?,
            target: target.ask(|c, server| contents::Target::ask(c, server, &of_source))?,
            source: of_source,
            in_the_way,
        })
    };
    match inspect() {
        Ok(found) => Some(found),
        Err(e) => {
            f.events.warn(&format!(
                "what the servers hold cannot be inspected, so the agents do so at the beginning of the seed: {e}"
            ));
            None
        }
    }
}

/// The method to use. A dry run tells of each method why it cannot be used.
fn choose(
    options: &Options,
    (source, target): (&AgentData, &AgentData),
    servers: Option<(&ServerInfo, &ServerInfo)>,
    used: u64,
    contents: Option<&Contents>,
    f: &mut Findings,
) -> Option<Method> {
    let replaced = if options.force {
        target.datadir_used
    } else {
        0
    };
    let obstacles = |m: Method| {
        let mut found = method::obstacles(m, source, target, used, replaced);
        if let Some((source, target)) = servers {
            let of_all = compatibility::obstacles(CopyKind::Dump, source, target);
            let of_copy = compatibility::obstacles(m.copy_kind(), source, target);
            found.extend(of_copy.into_iter().filter(|why| !of_all.contains(why)));
        }
        if m.backup_to_datadir() && options.connect && options.replication.is_none() {
            found.push(
                "it replaces the target's own replication account with all the rest: give --replication-user and \
                 --replication-password-file, or --no-connect"
                    .to_string(),
            );
        }
        found.extend(contents.into_iter().flat_map(|c| c.obstacles(m)));
        found
    };
    let inexact =
        |m: Method| -> Vec<String> { contents.into_iter().flat_map(|c| c.inexact(m)).collect() };
    if options.dry_run {
        for m in method::ORDER {
            let why = obstacles(m);
            f.events.report(&Event::Method {
                method: m,
                usable: why.is_empty(),
                reasons: &why,
            });
        }
    }
    let candidates = options
        .method
        .map_or(method::CONDUCTED.to_vec(), |m| vec![m]);
    let usable = |m: &Method| obstacles(*m).is_empty();
    let all = candidates.iter().copied();
    let exact = all.clone().find(|m| usable(m) && inexact(*m).is_empty());
    let found = exact.or_else(|| all.clone().find(usable));
    match found {
        Some(m) => {
            // Why a faster method is passed over, as far as the data are the reason.
            for other in all.take_while(|other| *other != m) {
                let mut why: Vec<String> = contents
                    .into_iter()
                    .flat_map(|c| c.obstacles(other))
                    .collect();
                why.extend(inexact(other).into_iter().filter(|_| exact.is_some()));
                if !why.is_empty() {
                    f.ok(format!("method {other} is not used: {}", why.join("; ")));
                }
            }
            let warnings = contents.into_iter().flat_map(|c| c.warnings(m));
            for text in inexact(m).into_iter().chain(warnings) {
                f.events.warn(&format!("method {m}: {text}"));
            }
            f.ok(format!("method {m}"));
        }
        None => {
            for m in candidates {
                obstacles(m)
                    .iter()
                    .for_each(|why| f.problem(format!("method {m}: {why}")));
            }
        }
    }
    found
}

/// What the source's data directory takes. An agent that does not know says 0; then the server's own estimate of its
/// tables counts.
fn source_bytes(data: &AgentData, source: &mut Db, f: &mut Findings) -> u64 {
    if data.datadir_used > 0 {
        return data.datadir_used;
    }
    let schemas = f.take(source.ask(info::schemas)).unwrap_or_default();
    let tables = schemas.values().map(|s| s.size).sum();
    f.events.warn(&format!(
        "the source agent does not know the size of the data directory; the server estimates its tables as {}",
        crate::sys::host::human_bytes(tables)
    ));
    tables
}

/// All that SQL can tell. A query that fails is an error and ends this part.
fn servers(
    o: &Options,
    infos: (&ServerInfo, &ServerInfo),
    source: &mut Db,
    target: &mut Db,
    plan: &mut Plan,
    f: &mut Findings,
) -> Result<()> {
    let (s, t) = (source.server, target.server);
    f.ok(format!(
        "source {} {}, target {} {}",
        s.flavour, s.version, t.flavour, t.version
    ));
    for why in compatibility::obstacles(CopyKind::Dump, infos.0, infos.1) {
        f.problem(why);
    }
    if s.flavour != t.flavour {
        return Ok(());
    }
    if (s.version.0, s.version.1) == (t.version.0, t.version.1) && t.version < s.version {
        f.events.warn(&format!(
            "the target ({}) is a little older than the source ({})",
            t.version, s.version
        ));
    }
    if s.flavour == Flavour::MySql {
        mysql_only::check(o, source, target, plan, f)?;
    }
    source_part(o, source, plan, f)?;
    target_part(o, target, plan, f)?;
    if o.connect {
        kept::check(o, source, target, plan, f)?;
        account::check(o, source, plan, f);
    }
    engines(source, target, f)
}

fn source_part(o: &Options, source: &mut Db, plan: &mut Plan, f: &mut Findings) -> Result<()> {
    let in_the_way =
        |c: &mut mysql::Conn, server| compatibility::binlog_obstacles(c, server, "the source");
    for why in source.ask(in_the_way)? {
        f.problem(why);
    }
    let channels = source.channels()?;
    plan.without_gtid |= channels.iter().any(|c| c.using_gtid == "No");
    if !o.connect {
        return Ok(());
    }
    // The target will have these accounts.
    if !source.may_replicate()? {
        f.problem(format!(
            "--mysql-user {} lacks {} on the source, whose accounts the target will have: it could not connect replication; \
             grant it, or use --no-connect",
            o.mysql.user,
            source.server.replica_privilege()
        ));
    }
    Ok(())
}

fn target_part(o: &Options, target: &mut Db, plan: &mut Plan, f: &mut Findings) -> Result<()> {
    for (kept, name) in plan.read_only.iter_mut().zip(READ_ONLY) {
        *kept = target.global(name)?;
    }
    plan.channels = probe::others(o, target, f)?;
    // Without PROCESS the list of connections shows one's own only, and replicas would go unseen.
    if !target.may(&["PROCESS"])? {
        f.problem(format!(
            "--mysql-user {} lacks PROCESS on the target: its replicas cannot be seen; grant it",
            o.mysql.user
        ));
    }
    let role = target.ask(info::role)?;
    if let Some(cluster) = role.cluster {
        f.problem(format!(
            "the target is a {cluster}: it cannot be overwritten"
        ));
    }
    if !role.replicas.is_empty() {
        f.problem(format!(
            "the target has replicas of its own or other readers of its binary log ({}): move them away first; --force does \
             not override this",
            role.replicas.join(", ")
        ));
    }
    let from = plan
        .channels
        .iter()
        .map(|c| format!("{}:{}", c.source.0, c.source.1))
        .collect::<Vec<_>>()
        .join(", ");
    if !from.is_empty() {
        if !o.force {
            f.problem(format!(
                "the target is a replica of {from}: use --force if it may be overwritten"
            ));
        } else if !target.may_replicate()? || !target.may(&["RELOAD"])? {
            let (privilege, word) = (target.server.replica_privilege(), target.server.replica());
            f.problem(format!(
                "--mysql-user {} lacks {privilege} or RELOAD on the target: both are needed for STOP {word} and RESET {word} ALL",
                o.mysql.user
            ));
        } else {
            f.ok(format!(
                "the target is a replica of {from}, which ends (--force)"
            ));
        }
    }
    if o.connect && o.replication.is_none() && !plan.channels.iter().any(|c| c.name.is_empty()) {
        f.problem(
            "the target has no replication whose account could be used again: give --replication-user and \
             --replication-password-file, or --no-connect",
        );
    }
    if target.server.flavour == Flavour::MariaDb
        && o.connect
        && o.connect_to.is_some()
        && o.mode == Mode::Auto
        && plan.without_gtid
    {
        f.problem("--connect-to needs GTID, and the source replicates without: add --replication gtid if all have GTIDs");
    }
    Ok(())
}

/// Each engine in use on the source must exist on the target.
fn engines(source: &mut Db, target: &mut Db, f: &mut Findings) -> Result<()> {
    let schemas = source.ask(info::schemas)?;
    for engine in target.ask(|conn, _| info::missing_engines(conn, &schemas))? {
        f.problem(format!(
            "the source has {engine} tables, and the target has no such engine: install it there"
        ));
    }
    Ok(())
}

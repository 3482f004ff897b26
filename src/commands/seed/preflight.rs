//! Every check that can be made before anything is changed. All findings are reported, not only the first. The agents check
//! again, as far as one host can know, when Prepare and Backup are called.

mod account;
mod findings;
mod methods;
mod probe;
mod replication;

use super::event::Listener;
use super::options::{Mode, Options};
use super::plan::{Plan, READ_ONLY};
use super::registration::Agents;
use super::sql::Db;
use crate::compatibility::{self, CopyKind, ServerInfo};
use crate::error::{Error, Result};
use crate::mysql::{Flavour, info};
use crate::protocol::wire::AgentData;
use crate::seed::Method;
use crate::sys::host::human_bytes;
use findings::Findings;
use methods::{Hosts, choose, contents_of};

/// Checks everything and reports what it finds; an error if that prevents the seed. Nothing is changed.
pub(crate) fn check(options: &Options, agents: &Agents, events: &dyn Listener) -> Result<Plan> {
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
        port.and_then(|p| f.take(Db::open_for_queries(side, host, p, &options.mysql)))
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
            .query(ServerInfo::query)
            .and_then(|s| Ok((s, target.query(ServerInfo::query)?)));
        let infos = f.take(infos);
        if let Some((s, t)) = &infos
            && let Err(e) = servers(options, (s, t), &mut source, &mut target, &mut plan, &mut f)
        {
            f.problem(e.to_string());
        }
        if let (Some(s), Some(t)) = (&data.0, &data.1) {
            let hosts = Hosts {
                source: s,
                target: t,
                servers: infos.as_ref().map(|(s, t)| (s, t)),
                used: source_bytes(s, &mut source, &mut f),
                contents: contents_of(&mut source, &mut target, &f),
            };
            plan.method = choose(options, &hosts, &mut f).unwrap_or(plan.method);
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

/// What the source's data directory takes. An agent that does not know it reports 0; then the server's own estimate of its
/// tables counts.
fn source_bytes(data: &AgentData, source: &mut Db, f: &mut Findings) -> u64 {
    if data.datadir_used > 0 {
        return data.datadir_used;
    }
    let schemas = f.take(source.query(info::schemas)).unwrap_or_default();
    let tables = schemas.values().map(|s| s.size).sum();
    f.warn(format!(
        "the source agent does not know the size of the data directory; the server estimates its tables as {}",
        human_bytes(tables)
    ));
    tables
}

/// The checks by SQL. A query that fails is an error and ends them.
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
        f.warn(format!(
            "the target ({}) is a little older than the source ({})",
            t.version, s.version
        ));
    }
    if s.flavour == Flavour::MySql {
        replication::gtid_modes(o, source, target, plan, f)?;
    }
    source_part(o, source, plan, f)?;
    target_part(o, target, plan, f)?;
    if o.connect {
        replication::channel(o, source, target, plan, f)?;
        account::check(o, source, plan, f);
    }
    engines(source, target, f)
}

fn source_part(o: &Options, source: &mut Db, plan: &mut Plan, f: &mut Findings) -> Result<()> {
    let in_the_way =
        |c: &mut mysql::Conn, server| compatibility::binlog_obstacles(c, server, "the source");
    for why in source.query(in_the_way)? {
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
    plan.channels = probe::other_channels(o, target, f)?;
    // Without PROCESS the list of connections shows one's own only, and replicas would go unseen.
    if !target.may(&["PROCESS"])? {
        f.problem(format!(
            "--mysql-user {} lacks PROCESS on the target: its replicas cannot be seen; grant it",
            o.mysql.user
        ));
    }
    let role = target.query(info::role)?;
    if let Some(cluster) = role.cluster {
        f.problem(format!(
            "the target is a {cluster}: it cannot be overwritten"
        ));
    }
    if !role.replicas.is_empty() {
        f.problem(format!(
            "the target has replicas of its own or other readers of its binary log ({}): repoint them first; --force does \
             not override this",
            role.replicas.join(", ")
        ));
    }
    target_replication(o, target, plan, f)
}

/// Whether the replication that the target has may end, and whether it can have the new one.
fn target_replication(o: &Options, target: &mut Db, plan: &Plan, f: &mut Findings) -> Result<()> {
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
    let schemas = source.query(info::schemas)?;
    for engine in target.query(|conn, _| info::missing_engines(conn, &schemas))? {
        f.problem(format!(
            "the source has {engine} tables, and the target has no such engine: install it there"
        ));
    }
    Ok(())
}

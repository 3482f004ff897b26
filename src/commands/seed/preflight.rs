//! Every check that can be made before anything is changed. All findings are reported, not only the first. The agents check
//! again, as far as one host can know, when Prepare and Backup are called.

mod methods;
mod replication;

use super::event::{Event, Listener};
use super::options::{Mode, Options};
use super::plan::{Plan, READ_ONLY};
use super::registration::Agents;
use super::sql::Db;
use crate::compatibility::{self, CopyKind, ServerInfo};
use crate::error::{Error, Result};
use crate::mysql::{Flavour, applier, info};
use crate::protocol::wire::AgentData;
use crate::seed::Method;

/// The checks of two servers; what they find out for the stages goes into the plan.
struct Preflight<'a> {
    o: &'a Options,
    source: Db,
    target: Db,
    plan: Plan,
    f: Findings<'a>,
}

struct Findings<'a> {
    events: &'a dyn Listener,
    problems: usize,
}

impl Findings<'_> {
    fn problem(&mut self, text: impl AsRef<str>) {
        self.problems += 1;
        let (ok, text) = (false, text.as_ref());
        self.events.report(&Event::Preflight { ok, text });
    }

    fn ok(&self, text: impl AsRef<str>) {
        let (ok, text) = (true, text.as_ref());
        self.events.report(&Event::Preflight { ok, text });
    }

    fn warn(&self, text: impl AsRef<str>) {
        self.events.warn(text.as_ref());
    }

    /// The value, or the error as a finding.
    fn take<T>(&mut self, result: Result<T>) -> Option<T> {
        result.map_err(|e| self.problem(e.to_string())).ok()
    }

    fn error(&self) -> Error {
        Error::permanent(match self.problems {
            1 => "preflight found a problem".into(),
            n => format!("preflight found {n} problems"),
        })
    }
}

/// Checks everything and reports what it finds; an error if that prevents the seed. Nothing is changed.
pub(crate) fn check(o: &Options, agents: &Agents, events: &dyn Listener) -> Result<Plan> {
    let mut f = Findings {
        events,
        problems: 0,
    };
    let data = [&agents.source, &agents.target].map(|agent| f.take(agent.data()));
    let ports = [&agents.source, &agents.target].map(|agent| f.take(agent.mysql_port()));
    let mut open = |side, host: &str, port: Option<u16>| {
        let opened = Db::open_reader(side, host, port?, &o.mysql);
        f.take(opened)
    };
    let source = open("source", &o.source.host, ports[0]);
    let target = open("target", &o.target.host, ports[1]);
    let (Some(source), Some(target)) = (source, target) else {
        return Err(f.error());
    };
    let plan = Plan {
        method: Method::Mysqldump,
        source_port: ports[0].unwrap_or_default(),
        target_port: ports[1].unwrap_or_default(),
        channels: Vec::new(),
        without_gtid: false,
        settings: Vec::new(),
        tls: o.replication_tls,
        read_only: Default::default(),
    };
    let mut pair = Preflight {
        o,
        source,
        target,
        plan,
        f,
    };
    pair.all(data);
    if pair.f.problems > 0 {
        return Err(pair.f.error());
    }
    Ok(pair.plan)
}

impl Preflight<'_> {
    fn all(&mut self, data: [Option<AgentData>; 2]) {
        let of_source = self.source.query(ServerInfo::query);
        let infos = of_source.and_then(|s| Ok((s, self.target.query(ServerInfo::query)?)));
        let infos = self.f.take(infos);
        if let Some((s, t)) = &infos
            && let Err(e) = self.servers(s, t)
        {
            self.f.problem(e.to_string());
        }
        if let [Some(source), Some(target)] = &data
            && let Some(method) = self.choose(source, target, infos.as_ref())
        {
            self.plan.method = method;
        }
        if self.f.problems == 0 {
            self.try_account();
        }
    }

    /// The checks by SQL. A query that fails is an error and ends them.
    fn servers(&mut self, source: &ServerInfo, target: &ServerInfo) -> Result<()> {
        let (s, t) = (self.source.server, self.target.server);
        self.f.ok(format!(
            "source {} {}, target {} {}",
            s.flavour, s.version, t.flavour, t.version
        ));
        for why in compatibility::obstacles(CopyKind::Dump, source, target) {
            self.f.problem(why);
        }
        if s.flavour != t.flavour {
            return Ok(());
        }
        if (s.version.0, s.version.1) == (t.version.0, t.version.1) && t.version < s.version {
            self.f.warn(format!(
                "the target ({}) is a little older than the source ({})",
                t.version, s.version
            ));
        }
        if s.flavour == Flavour::MySql {
            self.gtid_modes()?;
        }
        self.source_part()?;
        self.target_part()?;
        self.target_replication()?;
        if self.o.connect {
            self.channel()?;
            self.account();
        }
        // Each engine in use on the source must exist on the target.
        let schemas = self.source.query(info::schemas)?;
        let missing = |conn: &mut mysql::Conn, _| info::missing_engines(conn, &schemas);
        for engine in self.target.query(missing)? {
            self.f.problem(format!(
                "the source has {engine} tables, and the target has no such engine: install it there"
            ));
        }
        Ok(())
    }

    fn source_part(&mut self) -> Result<()> {
        let obstacles =
            |c: &mut mysql::Conn, server| compatibility::binlog_obstacles(c, server, "the source");
        for why in self.source.query(obstacles)? {
            self.f.problem(why);
        }
        if self.source.server.flavour == Flavour::MariaDb {
            let channels = self.source.query(applier::channels)?;
            self.plan.without_gtid = channels.iter().any(|c| !c.by_gtid);
        }
        // The target will have these accounts.
        if self.o.connect && !self.source.may_replicate()? {
            self.f.problem(format!(
                "--mysql-user {} lacks {} on the source, whose accounts the target will have: it could not connect replication; \
                 grant it, or use --no-connect",
                self.o.mysql.user,
                self.source.server.replica_privilege()
            ));
        }
        Ok(())
    }

    fn target_part(&mut self) -> Result<()> {
        for (kept, name) in self.plan.read_only.iter_mut().zip(READ_ONLY) {
            *kept = self.target.global(name)?;
        }
        self.plan.channels = self.other_channels()?;
        // Without PROCESS the list of connections shows one's own only, and replicas would go unseen.
        if !self.target.may("PROCESS")? {
            self.f.problem(format!(
                "--mysql-user {} lacks PROCESS on the target: its replicas cannot be seen; grant it",
                self.o.mysql.user
            ));
        }
        let role = self.target.query(info::role)?;
        if let Some(cluster) = role.cluster {
            self.f.problem(format!(
                "the target is a {cluster}: it cannot be overwritten"
            ));
        }
        if !role.replicas.is_empty() {
            self.f.problem(format!(
                "the target has replicas of its own or other readers of its binary log ({}): repoint them first; --force does \
                 not override this",
                role.replicas.join(", ")
            ));
        }
        Ok(())
    }

    /// Whether the replication that the target has may end, and whether it can have the new one.
    fn target_replication(&mut self) -> Result<()> {
        let (o, server) = (self.o, self.target.server);
        let sources = self.plan.channels.iter().map(|c| &c.source);
        let from: Vec<String> = sources
            .map(|(host, port)| format!("{host}:{port}"))
            .collect();
        let from = from.join(", ");
        if !from.is_empty() && !o.force {
            self.f.problem(format!(
                "the target is a replica of {from}: use --force if it may be overwritten"
            ));
        } else if !from.is_empty() && self.may_change_channels()? {
            self.f.ok(format!(
                "the target is a replica of {from}; its replication is reconfigured (--force)"
            ));
        } else if !from.is_empty() {
            let (privilege, word) = (server.replica_privilege(), server.replica());
            self.f.problem(format!(
                "--mysql-user {} lacks {privilege} or RELOAD on the target: both are needed for STOP {word} and RESET {word} ALL",
                o.mysql.user
            ));
        }
        if o.connect && o.replication.is_none() && !self.plan.has_default_channel() {
            self.f.problem(
                "the target has no replication whose account could be used again: give --replication-user and \
                 --replication-password-file, or --no-connect",
            );
        }
        let wants_gtid = o.connect && o.connect_to.is_some() && o.mode == Mode::Auto;
        if server.flavour == Flavour::MariaDb && wants_gtid && self.plan.without_gtid {
            self.f.problem("--connect-to needs GTID, and the source replicates without: add --replication gtid if all have GTIDs");
        }
        Ok(())
    }
}

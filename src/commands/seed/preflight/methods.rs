//! The choice of the method.

use super::findings::Findings;
use crate::commands::seed::event::Event;
use crate::commands::seed::method::{self, ORDER, SUPPORTED};
use crate::commands::seed::options::Options;
use crate::commands::seed::sql::Db;
use crate::compatibility::{self, CopyKind, ServerInfo};
use crate::contents::{self, Outcome, name_conflicts, values};
use crate::error::Result;
use crate::protocol::wire::AgentData;
use crate::seed::Method;
use std::collections::BTreeSet;

/// What decides about the methods.
pub(super) struct Hosts<'a> {
    pub(super) source: &'a AgentData,
    pub(super) target: &'a AgentData,
    pub(super) servers: Option<(&'a ServerInfo, &'a ServerInfo)>,
    /// Bytes of the source's data directory.
    pub(super) used: u64,
    pub(super) contents: Option<Contents>,
}

/// What the servers hold that not every method can copy.
pub(super) struct Contents {
    source: contents::Source,
    target: contents::Target,
    values: values::Found,
    /// A name on the target that prevents a load.
    in_the_way: Option<String>,
}

/// What is known of one method for these hosts.
struct Candidate {
    method: Method,
    /// Why it cannot be used, because of the agents, the servers and the options.
    refused: Vec<String>,
    /// Why it cannot be used, because of the data.
    refused_data: Vec<String>,
    /// What it does not copy exactly.
    inexact: Vec<String>,
    warnings: Vec<String>,
}

impl Candidate {
    fn new(method: Method, o: &Options, hosts: &Hosts) -> Self {
        let replaced = if o.force {
            hosts.target.datadir_used
        } else {
            0
        };
        let mut refused =
            method::obstacles(method, hosts.source, hosts.target, hosts.used, replaced);
        if let Some((source, target)) = hosts.servers {
            let of_all = compatibility::obstacles(CopyKind::Dump, source, target);
            let of_copy = compatibility::obstacles(method.copy_kind(), source, target);
            refused.extend(of_copy.into_iter().filter(|why| !of_all.contains(why)));
        }
        if method.backup_to_datadir() && o.connect && o.replication.is_none() {
            refused.push(
                "it replaces the target's own replication account with all the rest: give --replication-user and \
                 --replication-password-file, or --no-connect"
                    .to_string(),
            );
        }
        let mut this = Self {
            method,
            refused,
            refused_data: Vec::new(),
            inexact: Vec::new(),
            warnings: Vec::new(),
        };
        if let Some(contents) = &hosts.contents {
            this.add(contents);
        }
        this
    }

    fn add(&mut self, c: &Contents) {
        let mut found =
            contents::inspect(&c.source, Some(&c.target), self.method, &BTreeSet::new());
        found.extend(values::inspect(&c.values, self.method));
        for f in found {
            match f.outcome {
                Outcome::Refused(_) => self.refused_data.push(f.message()),
                Outcome::Inexact(_) => self.inexact.push(f.message()),
                Outcome::Warning(_) => self.warnings.push(f.message()),
            }
        }
        if !self.method.backup_to_datadir() {
            self.refused_data.extend(c.in_the_way.clone());
        }
    }

    fn obstacles(&self) -> Vec<String> {
        [&self.refused[..], &self.refused_data[..]].concat()
    }
}

/// The method to use: the fastest that copies everything exactly, or else the fastest. A dry run reports of each method why
/// it cannot be used.
pub(super) fn choose(o: &Options, hosts: &Hosts, f: &mut Findings) -> Option<Method> {
    if o.dry_run {
        for method in ORDER {
            let reasons = &Candidate::new(method, o, hosts).obstacles();
            let usable = reasons.is_empty();
            f.events.report(&Event::Method {
                method,
                usable,
                reasons,
            });
        }
    }
    let methods = o.method.map_or(SUPPORTED.to_vec(), |m| vec![m]);
    let candidates: Vec<Candidate> = methods
        .into_iter()
        .map(|m| Candidate::new(m, o, hosts))
        .collect();
    let usable = || candidates.iter().filter(|c| c.obstacles().is_empty());
    let exact = usable().find(|c| c.inexact.is_empty());
    let Some(chosen) = exact.or_else(|| usable().next()) else {
        for c in &candidates {
            for why in c.obstacles() {
                f.problem(format!("method {}: {why}", c.method));
            }
        }
        return None;
    };
    // Why a faster method is not used, as far as the data are the reason.
    for faster in candidates.iter().take_while(|c| c.method != chosen.method) {
        let mut why = faster.refused_data.clone();
        if exact.is_some() {
            why.extend(faster.inexact.clone());
        }
        if !why.is_empty() {
            let why = why.join("; ");
            f.ok(format!("method {} is not used: {why}", faster.method));
        }
    }
    for text in chosen.inexact.iter().chain(&chosen.warnings) {
        f.warn(format!("method {}: {text}", chosen.method));
    }
    f.ok(format!("method {}", chosen.method));
    Some(chosen.method)
}

/// `None` if they cannot be inspected: the agents do so themselves, before anything is changed.
pub(super) fn contents_of(source: &mut Db, target: &mut Db, f: &Findings) -> Option<Contents> {
    if source.server.flavour != target.server.flavour {
        return None;
    }
    let mut inspect = || -> Result<Contents> {
        let of_source = source.query(contents::Source::read)?;
        let in_the_way = target.query(|c, server| {
            name_conflicts::constraint_of_extra_table(c, server, &of_source.catalogue)
        })?;
        let search = |c: &mut mysql::Conn, server| {
            let none = BTreeSet::new();
            values::search(c, server, &none, Some(values::SEARCH_LIMIT), || ())
        };
        Ok(Contents {
            values: source.query(search)?,
            target: target.query(|c, server| contents::Target::read(c, server, &of_source))?,
            source: of_source,
            in_the_way,
        })
    };
    match inspect() {
        Ok(found) => Some(found),
        Err(e) => {
            f.warn(format!(
                "what the servers hold cannot be inspected, so the agents do so at the beginning of the seed: {e}"
            ));
            None
        }
    }
}

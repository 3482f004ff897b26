//! The choice of the method.

use super::Preflight;
use crate::commands::seed::event::Event;
use crate::commands::seed::options::SUPPORTED;
use crate::compatibility::{self, CopyKind, ServerInfo};
use crate::contents::{self, Outcome, name_conflicts, values};
use crate::error::Result;
use crate::mysql::info;
use crate::protocol::wire::AgentData;
use crate::seed::Method;
use crate::sys::host::human_bytes;
use std::collections::BTreeSet;

/// What the servers hold that not every method can copy.
struct Contents {
    source: contents::Source,
    target: contents::Target,
    values: values::Found,
    /// A name on the target that prevents a load.
    in_the_way: Option<String>,
}

struct Candidate {
    method: Method,
    /// Why it cannot be used, because of the agents, the servers and the options.
    refused: Vec<String>,
    /// Why it cannot be used, because of the data.
    refused_data: Vec<String>,
    inexact: Vec<String>,
    warnings: Vec<String>,
}

impl Candidate {
    fn new(method: Method, refused: Vec<String>, contents: Option<&Contents>) -> Self {
        let mut this = Self {
            method,
            refused,
            refused_data: Vec::new(),
            inexact: Vec::new(),
            warnings: Vec::new(),
        };
        let Some(c) = contents else {
            return this;
        };
        let none = BTreeSet::new();
        let mut found = contents::inspect(&c.source, Some(&c.target), method, &none);
        found.extend(values::inspect(&c.values, method));
        for f in found {
            match f.outcome {
                Outcome::Refused(_) => this.refused_data.push(f.message()),
                Outcome::Inexact(_) => this.inexact.push(f.message()),
                Outcome::Warning(_) => this.warnings.push(f.message()),
            }
        }
        if !method.backup_to_datadir() {
            this.refused_data.extend(c.in_the_way.clone());
        }
        this
    }

    fn obstacles(&self) -> Vec<String> {
        [&self.refused[..], &self.refused_data[..]].concat()
    }
}

impl Preflight<'_> {
    /// The method to use: the fastest that copies everything exactly, or else the fastest. A dry run reports of each method why
    /// it cannot be used.
    pub(super) fn choose(
        &mut self,
        source: &AgentData,
        target: &AgentData,
        servers: Option<&(ServerInfo, ServerInfo)>,
    ) -> Option<Method> {
        let (o, used) = (self.o, self.source_bytes(source));
        let contents = self.contents();
        let replaced = if o.force { target.datadir_used } else { 0 };
        let candidate = |method: Method| {
            let mut refused = obstacles(method, source, target, used, replaced);
            if let Some((source, target)) = servers {
                let of_all = compatibility::obstacles(CopyKind::Dump, source, target);
                let of_copy = compatibility::obstacles(method.copy_kind(), source, target);
                refused.extend(of_copy.into_iter().filter(|why| !of_all.contains(why)));
            }
            if method.backup_to_datadir() && o.connect && o.replication.is_none() {
                refused.push(
                    "it overwrites the target's replication account with everything else: give --replication-user and \
                     --replication-password-file, or --no-connect"
                        .to_string(),
                );
            }
            Candidate::new(method, refused, contents.as_ref())
        };
        if o.dry_run {
            for method in Method::FASTEST_FIRST {
                let reasons = &candidate(method).obstacles();
                let usable = reasons.is_empty();
                self.f.events.report(&Event::Method {
                    method,
                    usable,
                    reasons,
                });
            }
        }
        let methods = o.method.map_or(SUPPORTED.to_vec(), |m| vec![m]);
        self.fastest(&methods.into_iter().map(candidate).collect::<Vec<_>>())
    }

    fn fastest(&mut self, candidates: &[Candidate]) -> Option<Method> {
        let f = &mut self.f;
        let usable = || candidates.iter().filter(|c| c.obstacles().is_empty());
        let exact = usable().find(|c| c.inexact.is_empty());
        let Some(chosen) = exact.or_else(|| usable().next()) else {
            for c in candidates {
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

    /// What the source's data directory takes. An agent that does not know it reports 0; then the server's own estimate of its
    /// tables counts.
    fn source_bytes(&mut self, data: &AgentData) -> u64 {
        if data.datadir_used > 0 {
            return data.datadir_used;
        }
        let schemas = self.f.take(self.source.query(info::schemas));
        let tables = schemas.unwrap_or_default().values().map(|s| s.size).sum();
        self.f.warn(format!(
            "the source agent does not know the size of the data directory; the server estimates its tables as {}",
            human_bytes(tables)
        ));
        tables
    }

    /// `None` if they cannot be inspected: the agents do so themselves, before anything is changed.
    fn contents(&mut self) -> Option<Contents> {
        let (source, target) = (&mut self.source, &mut self.target);
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
        let found = inspect().inspect_err(|e| {
            self.f.warn(format!(
                "what the servers hold cannot be inspected, so the agents do so at the beginning of the seed: {e}"
            ));
        });
        found.ok()
    }
}

/// Why the agents of two hosts cannot use `method`; empty if they can. `used` is what the source's data directory takes in
/// bytes, `replaced` what the target's takes of data that will go: with `--force` a load replaces them table by table, and a
/// physical copy for which there is no other space may replace them before it is complete (`mysql.datadir-swap`).
fn obstacles(
    method: Method,
    source: &AgentData,
    target: &AgentData,
    used: u64,
    replaced: u64,
) -> Vec<String> {
    if !SUPPORTED.contains(&method) {
        return vec!["not supported by this version yet".into()];
    }
    let mut out = Vec::new();
    let name = method.as_str();
    for (side, data) in [("source", source), ("target", target)] {
        if !data.methods.contains_key(name) {
            let why = data.unavailable.get(name);
            let why = why.map_or("it is not enabled there", String::as_str);
            out.push(format!("the {side} agent does not offer it: {why}"));
        }
    }
    if let Some(options) = source.methods.get(name) {
        for (name, database) in &source.databases {
            for engine in database.engines.iter().flatten() {
                // Other engines are queried from the target's server itself.
                if crate::seed::types::ENGINES.contains(&engine.as_str())
                    && !options.supported_engines.contains(engine)
                {
                    out.push(format!(
                        "schema {name} has {engine} tables, which it does not copy"
                    ));
                }
            }
        }
    }
    let mut needs = |what: &str, need: u64, free: u64| {
        if need > free {
            let (need, free) = (human_bytes(need), human_bytes(free));
            out.push(format!(
                "{what} of the target has {free} free, {need} are needed"
            ));
        }
    };
    let room = target.datadir_free.saturating_add(replaced);
    needs("the data directory", used, room);
    if !method.backup_to_datadir() {
        // 0.6 of the data, in whole numbers.
        needs(
            "common.backup-dir",
            used / 5 * 3,
            target.backup_dir_disk_free,
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(text: &str) -> AgentData {
        serde_json::from_str(text).unwrap()
    }

    const OFFERED: &str = r#"{"BackupDirDiskFree":600,"MySQLDatadirDiskFree":1000,
        "MySQLDatabases":{"a":{"Engines":["InnoDB","Aria"]},"b":{"Engines":null}},
        "AvailiableSeedMethods":{"Mysqldump":{"SupportedEngines":["InnoDB"]}}}"#;

    #[test]
    fn usable_up_to_the_last_byte() {
        let d = data(OFFERED);
        assert_eq!(obstacles(Method::Mysqldump, &d, &d, 1000, 0), [""; 0]);
        assert_eq!(obstacles(Method::Mysqldump, &d, &d, 1001, 1), [""; 0]);
        let text = obstacles(Method::Mysqldump, &d, &d, 1005, 0).join("; ");
        assert!(
            text.contains("data directory") && text.contains("backup-dir"),
            "{text}"
        );
    }

    #[test]
    fn a_method_must_be_offered_by_both_and_copy_all_engines() {
        let d = data(OFFERED);
        let none = data(
            r#"{"BackupDirDiskFree":600,"MySQLDatadirDiskFree":1000,
            "UnavailableSeedMethods":{"Mysqldump":"mariadb-dump: not found"}}"#,
        );
        assert_eq!(
            obstacles(Method::Mysqldump, &d, &none, 1, 0),
            ["the target agent does not offer it: mariadb-dump: not found"]
        );
        let bare = data(r#"{"MySQLDatadirDiskFree":1,"BackupDirDiskFree":1}"#);
        assert_eq!(
            obstacles(Method::Mysqldump, &bare, &d, 1, 0),
            ["the source agent does not offer it: it is not enabled there"]
        );
        let mut memory = d.clone();
        memory.databases.entry("a".into()).or_default().engines = Some(vec!["MEMORY".into()]);
        assert_eq!(
            obstacles(Method::Mysqldump, &memory, &d, 1, 0),
            ["schema a has MEMORY tables, which it does not copy"]
        );
        assert_eq!(
            obstacles(Method::LVM, &d, &d, 1, 0),
            ["not supported by this version yet"]
        );
    }
}

//! Queries about a server, which change nothing.

use super::{Flavour, Server, Session, applier, query, quote_text};
use crate::error::{Error, Result};
use crate::sys::Inserted;
use crate::sys::host::kernel_hostname;
use crate::sys::proc::{has_tcp_peer, servers_in, tcp_peers};
use mysql::{Conn, Row};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Schemas that belong to the server itself.
pub(crate) const SYSTEM_SCHEMAS: [&str; 4] =
    ["information_schema", "mysql", "performance_schema", "sys"];

/// A schema.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Schema {
    /// Distinct engines of its base tables as the server names them, sorted.
    pub engines: Vec<String>,
    /// Data, index and free bytes as information_schema estimates them.
    pub size: u64,
}

/// The part that a server plays in replication and clustering.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Role {
    /// The source it replicates from, and whether one of the two threads runs.
    pub(crate) source: Option<(String, bool)>,
    /// Clients that read its binary log.
    pub(crate) replicas: Vec<String>,
    /// `Galera cluster node` or `group replication member`.
    pub(crate) cluster: Option<&'static str>,
}

impl Role {
    /// Refuses a server whose data must not be replaced: one that replicates, has replicas, or belongs to a cluster.
    pub(crate) fn check_target(&self, server: Server) -> Result<()> {
        let what = if let Some(cluster) = self.cluster {
            format!("is a {cluster}: it cannot be a target")
        } else if let Some((source, true)) = &self.source {
            let word = server.replica();
            format!(
                "replicates from {source}: STOP {word} and RESET {word} ALL before it is made a target"
            )
        } else if !self.replicas.is_empty() {
            let replicas = self.replicas.join(", ");
            format!(
                "has replicas or other readers of its binary log ({replicas}): repoint them before it is made a target"
            )
        } else {
            return Ok(());
        };
        Err(Error::permanent(format!("this server {what}")))
    }
}

/// The value of a global variable; `None` if the server has no such variable.
pub fn global(conn: &mut Conn, name: &str) -> Result<Option<String>> {
    let name = quote_text(name);
    let show = format!("SHOW GLOBAL VARIABLES WHERE Variable_name = {name}");
    let row: Option<(String, String)> = query::first(conn, show)?;
    Ok(row.map(|(_, v)| v))
}

/// True for a variable that is `ON` or `1`.
pub(crate) fn is_on(conn: &mut Conn, name: &str) -> Result<bool> {
    Ok(global(conn, name)?.is_some_and(|v| v == "1" || v.eq_ignore_ascii_case("ON")))
}

/// All schemas that are not the server's own, with engines and sizes.
pub fn schemas(conn: &mut Conn, server: Server) -> Result<BTreeMap<String, Schema>> {
    if server.mysql_from(8, 0, 0) {
        // Or the sizes would be up to a day old, and the progress of a load invisible.
        query::run(conn, "SET SESSION information_schema_stats_expiry = 0")?;
    }
    let names = schema_names(conn)?.into_iter();
    let mut out: BTreeMap<String, Schema> = names.map(|n| (n, Schema::default())).inserted();
    let sizes = format!(
        "SELECT TABLE_SCHEMA, ENGINE, CAST(SUM(IFNULL(DATA_LENGTH,0)+IFNULL(INDEX_LENGTH,0)+IFNULL(DATA_FREE,0)) AS UNSIGNED) \
         FROM information_schema.TABLES WHERE ENGINE IS NOT NULL AND TABLE_TYPE <> 'VIEW' AND TABLE_SCHEMA NOT IN ({}) \
         GROUP BY TABLE_SCHEMA, ENGINE ORDER BY TABLE_SCHEMA, ENGINE",
        system_schemas()
    );
    for (schema, engine, size) in query::rows::<(String, String, u64)>(conn, sizes)? {
        // Not one of a directory that is not a schema, such as our staging directory (#mysql50#...).
        if let Some(s) = out.get_mut(&schema) {
            s.engines.push(engine);
            s.size += size;
        }
    }
    Ok(out)
}

/// [`SYSTEM_SCHEMAS`] as a list of literals.
pub(crate) fn system_schemas() -> String {
    SYSTEM_SCHEMAS.map(quote_text).join(",")
}

/// Names of all schemas that are not the server's own; directories such as lost+found are not.
pub fn schema_names(conn: &mut Conn) -> Result<Vec<String>> {
    let names = format!(
        "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA \
         WHERE SCHEMA_NAME NOT IN ({}) AND LEFT(SCHEMA_NAME, 9) <> '#mysql50#'",
        system_schemas()
    );
    query::rows(conn, names)
}

/// Engines of the source's schemas that the server at `conn` lacks: without them a load changes engines silently, or stops.
pub(crate) fn missing_engines(
    conn: &mut Conn,
    schemas: &BTreeMap<String, Schema>,
) -> Result<BTreeSet<String>> {
    let there: Vec<String> = query::rows(
        conn,
        "SELECT ENGINE FROM information_schema.ENGINES WHERE SUPPORT IN ('YES', 'DEFAULT')",
    )?;
    let used = schemas.values().flat_map(|s| s.engines.iter());
    let lacks = |e: &&String| !there.iter().any(|t| t.eq_ignore_ascii_case(e));
    Ok(used.filter(lacks).cloned().collect())
}

/// Tables of `schemas` that were made before `moment` (as `NOW()` gave it), at most 1000.
pub(crate) fn tables_older_than(
    conn: &mut Conn,
    moment: &str,
    schemas: &[String],
) -> Result<Vec<(String, String)>> {
    let older = format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES \
         WHERE TABLE_TYPE <> 'VIEW' AND CREATE_TIME < {} ORDER BY 1, 2",
        quote_text(moment)
    );
    let rows: Vec<(String, String)> = query::rows(conn, older)?;
    let counts =
        |(s, _): &(String, String)| schemas.contains(s) && !SYSTEM_SCHEMAS.contains(&s.as_str());
    Ok(rows.into_iter().filter(counts).take(1000).collect())
}

/// General tablespaces of a MySQL server: a dump does not make them, and a table in one stops the load (3510). Needs PROCESS.
pub(crate) fn general_tablespaces(conn: &mut Conn, server: Server) -> Result<BTreeSet<String>> {
    if !server.mysql_from(8, 0, 0) {
        return Ok(BTreeSet::new());
    }
    let names: Vec<String> = query::rows(
        conn,
        "SELECT NAME FROM information_schema.INNODB_TABLESPACES WHERE SPACE_TYPE = 'General' AND NAME <> 'mysql'",
    )?;
    Ok(names.into_iter().collect())
}

/// How many events it has.
pub(crate) fn events(conn: &mut Conn, server: Server) -> Result<u64> {
    let n = query::first(conn, format!("SELECT COUNT(*) FROM {}", server.events()))?;
    Ok(n.unwrap_or(0))
}

/// Its part in replication. Needs REPLICATION CLIENT (SLAVE MONITOR) and PROCESS.
pub(crate) fn role(conn: &mut Conn, server: Server) -> Result<Role> {
    let mut role = Role::default();
    for channel in applier::channels(conn, server)? {
        let running = channel.io || channel.sql;
        if role.source.is_none() || running {
            role.source = Some((channel.source.0, running));
        }
    }
    role.replicas = replicas(conn)?;
    role.cluster = cluster(conn, server)?;
    Ok(role)
}

/// `Galera cluster node` or `group replication member`, if it is one.
pub(crate) fn cluster(conn: &mut Conn, server: Server) -> Result<Option<&'static str>> {
    if is_on(conn, "wsrep_on")? {
        return Ok(Some("Galera cluster node"));
    }
    if server.flavour == Flavour::MySql
        && global(conn, "group_replication_group_name")?.is_some_and(|v| !v.is_empty())
    {
        let live: Option<u64> = query::first(
            conn,
            "SELECT COUNT(*) FROM performance_schema.replication_group_members WHERE MEMBER_STATE <> 'OFFLINE'",
        )?;
        if live.unwrap_or(0) > 0 {
            return Ok(Some("group replication member"));
        }
    }
    Ok(None)
}

/// Host and port of each connected replica. Needs PROCESS.
pub(crate) fn replicas(conn: &mut Conn) -> Result<Vec<String>> {
    let list = "SELECT HOST FROM information_schema.PROCESSLIST WHERE COMMAND LIKE 'Binlog Dump%'";
    let mut hosts: Vec<String> = query::rows(conn, list)?;
    if hosts.is_empty() {
        return Ok(hosts);
    }
    // MariaDB 10.11 keeps the thread of one that has left until it has written to it twice.
    let port = |host: &String| Session::parse(host).port;
    let ports = hosts.iter().filter_map(port).collect();
    if let Some(open) = process_of(conn)?.and_then(|server| tcp_peers(server, &ports)) {
        hosts.retain(|host| port(host).is_none_or(|port| open.contains(&port)));
    }
    Ok(hosts)
}

/// The process of this server, where that certainly runs on this host.
fn process_of(conn: &mut Conn) -> Result<Option<u32>> {
    let place: Option<(String, String)> = query::first(conn, "SELECT @@datadir, @@hostname")?;
    let (datadir, hostname) = place.unwrap_or_default();
    let own = Session::own(conn)?;
    let is_here = |pid: &u32| match own.port {
        Some(port) => has_tcp_peer(*pid, port) == Some(true),
        None => own.host == "localhost" && hostname == kernel_hostname(),
    };
    let there = servers_in(Path::new(&datadir));
    Ok(there.into_iter().find(is_here))
}

/// An account by its host pattern.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) host: String,
    /// Plugin and stored hash, which is only ever compared.
    pub(crate) authentication: String,
}

/// The accounts named `user`. Needs SELECT on mysql.user.
pub(crate) fn accounts(conn: &mut Conn, user: &str) -> Result<Vec<Account>> {
    let list = format!(
        "SELECT Host, plugin, IF(authentication_string <> '', authentication_string, '') FROM mysql.user WHERE User = {}",
        quote_text(user)
    );
    type Stored = (String, Option<String>, Option<String>);
    let account = |(host, plugin, hash): Stored| {
        let (plugin, hash) = (plugin.unwrap_or_default(), hash.unwrap_or_default());
        let authentication = format!("{plugin}:{hash}");
        Account {
            host,
            authentication,
        }
    };
    Ok(query::rows(conn, list)?.into_iter().map(account).collect())
}

/// Host part of the account that this session is logged in as.
pub(crate) fn current_account_host(conn: &mut Conn) -> Result<String> {
    let host = query::first(conn, "SELECT SUBSTRING_INDEX(CURRENT_USER(), '@', -1)")?;
    Ok(host.unwrap_or_default())
}

/// Sessions that are named, at most.
const NAMED: usize = 3;
/// Characters of a statement that are shown.
const SHOWN: usize = 80;

/// The sessions that hold metadata locks which block others, longest first; empty if none is found. MariaDB does not show who
/// holds one (without its plugin METADATA_LOCK_INFO), so there they are those that run DDL.
pub(crate) fn lock_holders(conn: &mut Conn, server: Server) -> String {
    let statement = match server.flavour {
        Flavour::MySql => {
            "SELECT t.PROCESSLIST_ID, CONCAT(t.PROCESSLIST_USER, '@', t.PROCESSLIST_HOST), t.PROCESSLIST_TIME, \
             IF(l.OBJECT_TYPE = 'TABLE', CONCAT(l.OBJECT_SCHEMA, '.', l.OBJECT_NAME), l.OBJECT_TYPE), t.PROCESSLIST_INFO \
             FROM performance_schema.metadata_locks l JOIN performance_schema.threads t ON t.THREAD_ID = l.OWNER_THREAD_ID \
             WHERE l.LOCK_STATUS = 'GRANTED' AND t.PROCESSLIST_ID <> CONNECTION_ID() AND (l.OBJECT_TYPE = 'TABLE' AND \
             l.LOCK_TYPE IN ('EXCLUSIVE', 'SHARED_NO_READ_WRITE') OR l.OBJECT_TYPE = 'GLOBAL' AND l.LOCK_TYPE = 'SHARED') \
             ORDER BY t.PROCESSLIST_TIME DESC"
        }
        Flavour::MariaDb => {
            "SELECT ID, CONCAT(USER, '@', HOST), TIME, '', INFO FROM information_schema.PROCESSLIST \
             WHERE ID <> CONNECTION_ID() AND COMMAND = 'Query' AND STATE NOT LIKE 'Waiting for % lock' AND INFO REGEXP \
             '^[[:space:]]*(CREATE|ALTER|DROP|TRUNCATE|RENAME|OPTIMIZE|REPAIR|FLUSH|BACKUP)' ORDER BY TIME DESC"
        }
    };
    let rows: Vec<Row> = query::rows(conn, statement).unwrap_or_default();
    let name = |row: &Row| {
        let [id, account, seconds, object, statement] =
            [0, 1, 2, 3, 4].map(|i| query::text(row, i));
        let object = match object.as_str() {
            "" => String::new(),
            object => format!(" holds a lock on {object},"),
        };
        let statement = beginning(&statement);
        format!("session {id} ({account}){object} has been running for {seconds} s: {statement}")
    };
    let named: Vec<String> = rows.iter().take(NAMED).map(name).collect();
    named.join("; ")
}

/// The beginning of a statement, on one line, and nothing of the literals in it: one may be a password.
fn beginning(statement: &str) -> String {
    let plain = statement.split(['\'', '"']).next().unwrap_or_default();
    let words = plain.split_whitespace().collect::<Vec<_>>().join(" ");
    let shown: String = words.chars().take(SHOWN).collect();
    match shown.as_str() {
        "" => "(no statement)".into(),
        _ if shown.len() < words.len() || plain.len() < statement.len() => format!("{shown} ..."),
        _ => shown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_not_shown() {
        assert_eq!(
            beginning("ALTER USER a IDENTIFIED BY 'geheim'"),
            "ALTER USER a IDENTIFIED BY ..."
        );
        assert_eq!(
            beginning("create  table\nshop.t as select 1"),
            "create table shop.t as select 1"
        );
        assert_eq!(beginning(""), "(no statement)");
        assert_eq!(beginning(&"x ".repeat(99)).len(), SHOWN + 4);
    }
}

//! Queries about a server, which change nothing.

use super::{Flavour, Server, Version, query, quote_text};
use crate::error::{Error, Result};
use mysql::{Conn, Row};
use std::collections::{BTreeMap, BTreeSet};

/// Schemas that belong to the server itself.
pub(crate) const SYSTEM_SCHEMAS: [&str; 4] =
    ["information_schema", "mysql", "performance_schema", "sys"];

/// One schema.
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
    ///
    /// # Errors
    /// Permanent, with the part it plays.
    pub(crate) fn check_target(&self, server: Server) -> Result<()> {
        let word = server.replica();
        if let Some(cluster) = self.cluster {
            return Err(Error::permanent(format!(
                "this server is a {cluster}: it cannot be a target"
            )));
        }
        if let Some((source, true)) = &self.source {
            return Err(Error::permanent(format!(
                "this server replicates from {source}: STOP {word} and RESET {word} ALL before it is made a target"
            )));
        }
        if !self.replicas.is_empty() {
            return Err(Error::permanent(format!(
                "this server has replicas or other readers of its binary log ({}): repoint them before it is made a target",
                self.replicas.join(", ")
            )));
        }
        Ok(())
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
    if server.flavour == Flavour::MySql && server.version >= Version(8, 0, 0) {
        // Or the sizes would be up to a day old, and the progress of a load invisible.
        query::run(conn, "SET SESSION information_schema_stats_expiry = 0")?;
    }
    let names = schema_names(conn)?.into_iter();
    let mut out: BTreeMap<String, Schema> = names.map(|n| (n, Schema::default())).collect();
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

/// General tablespaces of a MySQL server: a dump does not make them, and a table in one stops the load (3510).
///
/// # Errors
/// If the query fails (PROCESS is needed).
pub(crate) fn general_tablespaces(conn: &mut Conn, server: Server) -> Result<BTreeSet<String>> {
    if server.flavour != Flavour::MySql || server.version < Version(8, 0, 0) {
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
    let table = match server.flavour {
        Flavour::MariaDb => "mysql.event", // information_schema.EVENTS is error 1577 where the scheduler is disabled
        Flavour::MySql => "information_schema.EVENTS",
    };
    let n = query::first(conn, format!("SELECT COUNT(*) FROM {table}"))?;
    Ok(n.unwrap_or(0))
}

/// Its part in replication.
///
/// # Errors
/// If a query fails, for example for a missing REPLICATION CLIENT (SLAVE MONITOR) or PROCESS privilege.
pub(crate) fn role(conn: &mut Conn, server: Server) -> Result<Role> {
    let [io, sql, host, _] = server.replica_columns();
    let mut role = Role::default();
    for row in &query::rows::<Row>(conn, server.replica_status())? {
        let running = query::text(row, io) != "No" || query::text(row, sql) != "No";
        if role.source.is_none() || running {
            role.source = Some((query::text(row, host), running));
        }
    }
    role.replicas = query::rows(
        conn,
        "SELECT HOST FROM information_schema.PROCESSLIST WHERE COMMAND LIKE 'Binlog Dump%'",
    )?;
    if is_on(conn, "wsrep_on")? {
        role.cluster = Some("Galera cluster node");
    } else if server.flavour == Flavour::MySql
        && global(conn, "group_replication_group_name")?.is_some_and(|v| !v.is_empty())
    {
        let live: Option<u64> = query::first(
            conn,
            "SELECT COUNT(*) FROM performance_schema.replication_group_members WHERE MEMBER_STATE <> 'OFFLINE'",
        )?;
        if live.unwrap_or(0) > 0 {
            role.cluster = Some("group replication member");
        }
    }
    Ok(role)
}

/// An account as `user`, `host` and the stored hash, which is only ever compared.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Account {
    /// Host pattern.
    pub(crate) host: String,
    /// Plugin and stored hash.
    pub(crate) authentication: String,
}

/// The accounts named `user`.
///
/// # Errors
/// If the query fails (SELECT on mysql.user is needed).
pub(crate) fn accounts(conn: &mut Conn, user: &str) -> Result<Vec<Account>> {
    let list = format!(
        "SELECT Host, plugin, IF(authentication_string <> '', authentication_string, '') FROM mysql.user WHERE User = {}",
        quote_text(user)
    );
    let rows: Vec<(String, Option<String>, Option<String>)> = query::rows(conn, list)?;
    let account = |(host, plugin, hash): (String, Option<String>, Option<String>)| Account {
        host,
        authentication: format!(
            "{}:{}",
            plugin.unwrap_or_default(),
            hash.unwrap_or_default()
        ),
    };
    Ok(rows.into_iter().map(account).collect())
}

/// Host part of the account that this session is logged in as.
pub(crate) fn current_account_host(conn: &mut Conn) -> Result<String> {
    let account: Option<String> = query::first(conn, "SELECT CURRENT_USER()")?;
    let account = account.unwrap_or_default();
    let host = account.rsplit_once('@').map(|(_, host)| host.to_string());
    Ok(host.unwrap_or_default())
}

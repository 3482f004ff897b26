//! What a server has besides schemas and accounts, and a dump does not carry or a load cannot take: prepared XA transactions, objects
//! of others in the server's own schemas, plugins and components that are in use, filters of the binary log. The rows that say what is
//! done about it are in [`super::contents`].

use crate::error::{Error, Result};
use crate::mysql::catalogue::{Catalogue, Definition, Kind};
use crate::mysql::{Endpoint, Flavour, Server, Version, connect, failure, grants, info};
use mysql::prelude::Queryable;
use mysql::{Conn, Row};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

/// For a look at a server with thousands of tables.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How long a transaction may be between XA PREPARE and XA COMMIT.
const IN_FLIGHT: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(100);
/// The privilege for XA RECOVER (MySQL 8.0 and later).
pub const XA_PRIVILEGE: &str = "XA_RECOVER_ADMIN";

/// Definers of the objects of schema `sys`.
const OF_SYS: [&str; 2] = ["mysql.sys@localhost", "mariadb.sys@localhost"];
/// The newest servers whose tables are in [`SYSTEM_TABLES`].
const KNOWN: [(Flavour, Version); 2] = [
    (Flavour::MySql, Version(9, 7, u32::MAX)),
    (Flavour::MariaDb, Version(11, 8, u32::MAX)),
];
/// Tables and views of schema `mysql` that are the server's, of MySQL 5.6 to 9.7 and MariaDB 10.4 to 11.8, in lower case.
const SYSTEM_TABLES: &[&str] = &[
    "column_stats",
    "columns_priv",
    "component",
    "db",
    "default_roles",
    "engine_cost",
    "event",
    "func",
    "general_log",
    "global_grants",
    "global_priv",
    "global_priv_bak",
    "gtid_executed",
    "host",
    "index_stats",
    "password_history",
    "password_reuse_check_history",
    "plugin",
    "proc",
    "procs_priv",
    "proxies_priv",
    "role_edges",
    "roles_mapping",
    "server_cost",
    "servers",
    "slow_log",
    "table_stats",
    "tables_priv",
    "transaction_registry",
    "user",
    "version_tokens",
];
/// How names of such tables begin, where several begin so: some are made by features that only one server uses.
const SYSTEM_PREFIXES: &[&str] = &[
    "audit_log_",
    "backup_",
    "clone_",
    "firewall_",
    "gtid_slave_pos",
    "help_",
    "ibbackup_",
    "innodb_",
    "judgment_",
    "ndb_",
    "procedures_",
    "replication_",
    "slave_",
    "spider_",
    "time_zone",
    "wsrep_",
];
const SYSTEM_ROUTINES: [&str; 2] = ["AddGeometryColumn", "DropGeometryColumn"];
/// Functions of MySQL's components, for servers without the table that lists them (`performance_schema = OFF`).
const OF_COMPONENTS: [(&str, &[&str]); 2] = [
    (
        "component_query_attributes",
        &["mysql_query_attribute_string"],
    ),
    ("component_classic_hashing", &["md5", "sha", "sha1"]),
];

fn fail(e: &mysql::Error) -> Error {
    failure("this connection", "", e)
}

/// The prepared XA transactions of a server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prepared {
    /// Their xids as XA COMMIT takes them.
    pub xids: Vec<String>,
    /// True where the account may not see them.
    pub hidden: bool,
}

/// An xid as XA COMMIT takes it.
fn xid(format: i64, global: &[u8], branch: &[u8]) -> String {
    let part = |bytes: &[u8]| {
        let plain = |b: &u8| (b.is_ascii_graphic() || *b == b' ') && !matches!(*b, b'\'' | b'\\');
        if bytes.iter().all(plain) {
            format!("'{}'", String::from_utf8_lossy(bytes))
        } else {
            let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
            format!("X'{hex}'")
        }
    };
    let mut out = part(global);
    if !branch.is_empty() || format != 1 {
        out = format!("{out},{}", part(branch));
    }
    if format != 1 {
        out = format!("{out},{format}");
    }
    out
}

/// The prepared XA transactions that stay so for [`IN_FLIGHT`]: with a transaction manager there are always some for milliseconds.
///
/// # Errors
/// If the query fails for another reason than a missing privilege.
pub fn prepared(conn: &mut Conn) -> Result<Prepared> {
    let mut found = recover(conn)?;
    let begin = Instant::now();
    while !found.xids.is_empty() && begin.elapsed() < IN_FLIGHT {
        std::thread::sleep(POLL);
        let now = recover(conn)?.xids;
        found.xids.retain(|xid| now.contains(xid));
    }
    Ok(found)
}

fn recover(conn: &mut Conn) -> Result<Prepared> {
    let rows: Vec<(i64, usize, usize, Vec<u8>)> = match conn.query("XA RECOVER") {
        Ok(rows) => rows,
        // MySQL 8.0 and later without XA_RECOVER_ADMIN.
        Err(mysql::Error::MySqlError(e)) if matches!(e.code, 1227 | 1401) => {
            return Ok(Prepared {
                hidden: true,
                ..Prepared::default()
            });
        }
        Err(e) => return Err(fail(&e)),
    };
    let text = |(format, global, branch, data): &(i64, usize, usize, Vec<u8>)| {
        let (first, rest) = data.split_at((*global).min(data.len()));
        xid(*format, first, &rest[..(*branch).min(rest.len())])
    };
    Ok(Prepared {
        xids: rows.iter().map(text).collect(),
        hidden: false,
    })
}

/// Whether the binary log of this server has an event at XA PREPARE: then what a dump misses is missing for good.
fn logs_prepare(server: Server) -> bool {
    match server.flavour {
        Flavour::MySql => server.version >= Version(5, 7, 7),
        Flavour::MariaDb => server.version >= Version(10, 5, 0),
    }
}

/// The prepared XA transactions of a source that a dump would miss.
fn missed_by_dump(conn: &mut Conn, server: Server) -> Result<Prepared> {
    if logs_prepare(server) {
        return prepared(conn);
    }
    Ok(Prepared::default())
}

/// That no XA transaction is prepared on `source` right after a dump: it may have been prepared between the first check and the dump's
/// position.
///
/// # Errors
/// Permanent, with the xids. If the source cannot be asked.
pub fn none_prepared_after_dump(source: &Endpoint) -> Result<()> {
    let mut conn = connect(source, TIMEOUT)?;
    let server = Server::ask(&mut conn)?;
    let found = missed_by_dump(&mut conn, server)?;
    if found.xids.is_empty() {
        return Ok(());
    }
    Err(Error::permanent(format!(
        "XA transactions were prepared on source {} during the dump: {}. The dump may not hold them, and replication would stop at their \
         XA COMMIT (error 1397): XA COMMIT or XA ROLLBACK them there and repeat the seed, or use a physical method",
        source.name(),
        found.xids.join("; ")
    )))
}

/// That no XA transaction is prepared on a target: its locks would stop a load.
///
/// # Errors
/// Permanent, with the xids. If the query fails.
pub fn none_prepared_here(conn: &mut Conn) -> Result<()> {
    let found = prepared(conn)?;
    if found.xids.is_empty() {
        return Ok(());
    }
    Err(Error::permanent(format!(
        "this server has prepared XA transactions, whose locks would stop the load: {}; XA ROLLBACK or XA COMMIT them here",
        found.xids.join("; ")
    )))
}

/// An object in one of the server's own schemas.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Foreign {
    schema: &'static str,
    name: String,
    kind: String,
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{} ({})", self.schema, self.name, self.kind)
    }
}

/// Objects of schemas `mysql` and `sys`.
#[derive(Debug, Clone, Default)]
struct Own {
    /// All of them.
    all: BTreeSet<Foreign>,
    /// Those that do not belong to the server, as far as it can be told without another one.
    foreign: BTreeSet<Foreign>,
}

/// Whether `sys` belongs to the server. Before it may be an administrator's.
fn has_sys(server: Server) -> bool {
    match server.flavour {
        Flavour::MySql => server.version >= Version(5, 7, 7),
        Flavour::MariaDb => server.version >= Version(10, 6, 0),
    }
}

fn is_system(schema: &str, name: &str, kind: &str, definer: &str) -> bool {
    match (schema, kind) {
        ("sys", "table") => name == "sys_config",
        ("sys", _) => OF_SYS.contains(&definer),
        (_, "table" | "view") => {
            let name = name.to_ascii_lowercase();
            SYSTEM_TABLES.contains(&name.as_str())
                || SYSTEM_PREFIXES.iter().any(|p| name.starts_with(p))
        }
        (_, "procedure" | "function") => SYSTEM_ROUTINES.contains(&name),
        _ => false,
    }
}

fn own_objects(conn: &mut Conn, server: Server) -> Result<Own> {
    let events = match server.flavour {
        // information_schema.EVENTS is error 1577 where the scheduler is disabled.
        Flavour::MariaDb => "SELECT db, name, 'event', definer FROM mysql.event",
        Flavour::MySql => {
            "SELECT EVENT_SCHEMA, EVENT_NAME, 'event', DEFINER FROM information_schema.EVENTS"
        }
    };
    let of = "WHERE TABLE_SCHEMA IN ('mysql', 'sys')";
    let queries = [
        format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME, 'table', '' FROM information_schema.TABLES {of} AND TABLE_TYPE NOT LIKE '%VIEW'"
        ),
        format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME, 'view', DEFINER FROM information_schema.VIEWS {of}"
        ),
        "SELECT ROUTINE_SCHEMA, ROUTINE_NAME, LOWER(ROUTINE_TYPE), DEFINER FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA IN \
         ('mysql', 'sys')"
            .to_string(),
        "SELECT TRIGGER_SCHEMA, TRIGGER_NAME, 'trigger', DEFINER FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA IN \
         ('mysql', 'sys')"
            .to_string(),
        events.to_string(),
    ];
    let mut out = Own::default();
    for query in queries {
        let rows: Vec<(String, String, String, String)> =
            conn.query(query).map_err(|e| fail(&e))?;
        for (schema, name, kind, definer) in rows {
            // Exactly: `SYS` is another schema.
            let schema = match schema.as_str() {
                "mysql" => "mysql",
                "sys" if has_sys(server) => "sys",
                _ => continue,
            };
            let system = is_system(schema, &name, &kind, &definer);
            let object = Foreign { schema, name, kind };
            if !system {
                out.foreign.insert(object.clone());
            }
            out.all.insert(object);
        }
    }
    Ok(out)
}

/// A plugin that is active.
#[derive(Debug, Clone, Default)]
struct Plugin {
    library: Option<String>,
}

fn plugins(conn: &mut Conn) -> Result<BTreeMap<String, Plugin>> {
    let rows: Vec<(String, Option<String>)> = conn
        .query(
            "SELECT PLUGIN_NAME, PLUGIN_LIBRARY FROM information_schema.PLUGINS WHERE PLUGIN_STATUS = 'ACTIVE'",
        )
        .map_err(|e| fail(&e))?;
    let plugin =
        |(name, library): (String, Option<String>)| (name.to_ascii_lowercase(), Plugin { library });
    Ok(rows.into_iter().map(plugin).collect())
}

fn pairs(conn: &mut Conn, query: &str) -> Result<Vec<(String, String)>> {
    conn.query(query).map_err(|e| fail(&e))
}

/// The values of `plugin` in a JSON text.
fn plugins_of_json(text: &str) -> Vec<String> {
    fn walk(value: &serde_json::Value, out: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(map) => {
                for (key, value) in map {
                    match value {
                        serde_json::Value::String(s) if key == "plugin" => out.push(s.clone()),
                        other => walk(other, out),
                    }
                }
            }
            serde_json::Value::Array(all) => all.iter().for_each(|v| walk(v, out)),
            _ => {}
        }
    }
    let mut out = Vec::new();
    if let Ok(value) = serde_json::from_str(text) {
        walk(&value, &mut out);
    }
    out
}

/// The authentication plugins of an account, by its rows in the tables with the rights.
fn plugins_of_account(definition: &Definition) -> Vec<String> {
    let mut out = Vec::new();
    for table in ["mysql.user", "mysql.global_priv"] {
        for line in definition.get(table).map_or("", String::as_str).lines() {
            match line.split_once('\t') {
                Some((column, value)) if column.eq_ignore_ascii_case("plugin") => {
                    out.push(value.to_string());
                }
                Some((column, value))
                    if column.eq_ignore_ascii_case("priv")
                        || column.eq_ignore_ascii_case("user_attributes") =>
                {
                    out.extend(plugins_of_json(value));
                }
                _ => {}
            }
        }
    }
    out.retain(|p| !p.is_empty());
    out
}

/// The full-text parsers in a SHOW CREATE TABLE.
fn parsers_of(create: &str) -> Vec<String> {
    let lines = create
        .lines()
        .filter(|l| l.trim_start().starts_with("FULLTEXT "));
    let parser = |line: &str| {
        let (_, rest) = line.split_once(" WITH PARSER `")?;
        rest.split_once('`').map(|(name, _)| name.to_string())
    };
    lines.filter_map(parser).collect()
}

/// Whether SQL calls a function of this name (in lower case).
fn calls(sql: &str, function: &str) -> bool {
    let sql = sql.to_ascii_lowercase();
    let word = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    sql.match_indices(function).any(|(at, _)| {
        let before = sql[..at].chars().next_back();
        let after = sql[at + function.len()..].trim_start_matches('`');
        !before.is_some_and(word) && after.trim_start().starts_with('(')
    })
}

/// What uses something.
type Users = BTreeMap<String, BTreeSet<String>>;

/// The plugins that accounts and tables of a server use, by name in lower case, each with who does.
fn used_plugins(catalogue: &Catalogue) -> Users {
    let mut out = Users::new();
    for (object, definition) in &catalogue.objects {
        let names = match object.kind {
            Kind::Account => plugins_of_account(definition),
            Kind::Table => parsers_of(definition.get("Create Table").map_or("", String::as_str)),
            _ => Vec::new(),
        };
        for name in names {
            let users = out.entry(name.to_ascii_lowercase()).or_default();
            users.insert(object.to_string());
        }
    }
    out
}

/// The objects that call one of `functions`.
fn used_functions(catalogue: &Catalogue, functions: &BTreeSet<String>) -> Users {
    let mut out = Users::new();
    for (object, definition) in &catalogue.objects {
        if object.kind == Kind::Account {
            continue;
        }
        for function in functions {
            if definition.values().any(|text| calls(text, function)) {
                let users = out.entry(function.clone()).or_default();
                users.insert(object.to_string());
            }
        }
    }
    out
}

/// The first of `users`, and how many more there are.
fn some_of(users: &BTreeSet<String>) -> String {
    let mut out = users.iter().take(2).cloned().collect::<Vec<_>>().join(", ");
    if users.len() > 2 {
        out.push_str(&format!(" and {} more", users.len() - 2));
    }
    out
}

fn has_components(server: Server) -> bool {
    server.flavour == Flavour::MySql && server.version >= Version(8, 0, 0)
}

/// The URNs of `mysql.component`, in whose order they are installed.
fn components(conn: &mut Conn, server: Server) -> Result<Vec<String>> {
    if !has_components(server) {
        return Ok(Vec::new());
    }
    grants::rows(
        conn,
        "SELECT component_urn FROM mysql.component ORDER BY component_id",
    )
}

/// Functions that components and plugins have registered; empty with `performance_schema = OFF` too.
fn registered_functions(conn: &mut Conn, server: Server) -> Result<BTreeSet<String>> {
    if !has_components(server) || server.version < Version(8, 0, 14) {
        return Ok(BTreeSet::new());
    }
    let all = grants::rows(
        conn,
        "SELECT LOWER(UDF_NAME) FROM performance_schema.user_defined_functions WHERE UDF_LIBRARY IS NULL",
    )?;
    Ok(all.into_iter().collect())
}

/// Filters of the binary log, `name = value`.
///
/// # Errors
/// If the query fails.
pub fn binlog_filters(conn: &mut Conn, server: Server) -> Result<Vec<String>> {
    let query = match server.flavour {
        Flavour::MySql if server.version >= Version(8, 4, 0) => "SHOW BINARY LOG STATUS",
        _ => "SHOW MASTER STATUS",
    };
    let rows: Vec<Row> = conn.query(query).map_err(|e| fail(&e))?;
    let mut out = Vec::new();
    for row in rows {
        for name in ["Binlog_Do_DB", "Binlog_Ignore_DB"] {
            let value = row
                .get_opt::<String, _>(name)
                .and_then(std::result::Result::ok)
                .unwrap_or_default();
            if !value.is_empty() {
                out.push(format!("{} = {value}", name.to_ascii_lowercase()));
            }
        }
    }
    Ok(out)
}

fn status(conn: &mut Conn, name: &str) -> Result<u64> {
    let row: Option<(String, String)> = conn
        .query_first(format!("SHOW GLOBAL STATUS LIKE '{name}'"))
        .map_err(|e| fail(&e))?;
    Ok(row.and_then(|(_, v)| v.parse().ok()).unwrap_or(0))
}

/// What shows temporary tables of sessions on a server whose binary log has statements.
///
/// # Errors
/// If a query fails.
pub fn temporary_tables(conn: &mut Conn, server: Server) -> Result<Vec<String>> {
    let format = info::global(conn, "binlog_format")?.unwrap_or_default();
    if !format.eq_ignore_ascii_case("STATEMENT") {
        return Ok(Vec::new());
    }
    let mut out = Vec::new();
    for name in ["Slave_open_temp_tables", "Replica_open_temp_tables"] {
        let n = status(conn, name)?;
        if n > 0 && out.is_empty() {
            out.push(format!("{n} of its replication"));
        }
    }
    let of_sessions = match server.flavour {
        // It has no list of them: what ended with a session counts as well.
        Flavour::MariaDb => {
            let made = status(conn, "Com_create_temporary_table")?;
            made.saturating_sub(status(conn, "Com_drop_temporary_table")?)
        }
        Flavour::MySql if server.version >= Version(5, 7, 0) => {
            let n: Option<u64> = conn
                .query_first("SELECT COUNT(*) FROM information_schema.INNODB_TEMP_TABLE_INFO")
                .map_err(|e| fail(&e))?;
            n.unwrap_or(0)
        }
        Flavour::MySql => 0,
    };
    if of_sessions > 0 {
        out.push(match server.flavour {
            Flavour::MariaDb => {
                format!("{of_sessions} created and not dropped by statements since its start")
            }
            Flavour::MySql => format!("{of_sessions} of its sessions"),
        });
    }
    Ok(out)
}

/// What is known of a source.
#[derive(Debug, Clone, Default)]
pub struct SourceState {
    /// Prepared XA transactions that a dump would miss.
    pub prepared: Prepared,
    /// Schemas whose names are a system schema's but for case.
    pub like_system: Vec<String>,
    /// `binlog_do_db` and `binlog_ignore_db`.
    pub filters: Vec<String>,
    /// Temporary tables of a binary log with statements.
    pub temporary: Vec<String>,
    /// `schema.table.column`
    pub histograms: Vec<String>,
    groups: BTreeSet<String>,
    own: Own,
    plugins: BTreeMap<String, Plugin>,
    used_plugins: Users,
    /// Names and libraries of `mysql.plugin`.
    registered: Vec<(String, String)>,
    components: Vec<String>,
    used_functions: Users,
}

/// What is known of a target.
#[derive(Debug, Clone)]
pub struct TargetState {
    /// Prepared XA transactions.
    pub prepared: Prepared,
    /// Whether the account may create MERGE tables.
    pub merge: bool,
    newest: bool,
    own: BTreeSet<Foreign>,
    groups: BTreeSet<String>,
    plugins: BTreeSet<String>,
    components: BTreeSet<String>,
    functions: BTreeSet<String>,
}

impl SourceState {
    /// Asks a source whose catalogue has just been read.
    ///
    /// # Errors
    /// If a query fails.
    pub fn ask(conn: &mut Conn, server: Server, catalogue: &Catalogue) -> Result<Self> {
        let names = grants::rows(conn, "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA")?;
        let is_like = |name: &String| {
            info::SYSTEM_SCHEMAS
                .iter()
                .any(|s| name != s && name.eq_ignore_ascii_case(s))
        };
        let components = components(conn, server)?;
        let mut functions = registered_functions(conn, server)?;
        for (component, of_it) in OF_COMPONENTS {
            if components.iter().any(|urn| urn.ends_with(component)) {
                functions.extend(of_it.iter().map(|f| (*f).to_string()));
            }
        }
        let histograms = if has_components(server) {
            grants::rows(
                conn,
                "SELECT CONCAT(SCHEMA_NAME, '.', TABLE_NAME, '.', COLUMN_NAME) FROM information_schema.COLUMN_STATISTICS \
                 WHERE SCHEMA_NAME NOT IN ('mysql', 'sys') ORDER BY 1",
            )?
        } else {
            Vec::new()
        };
        Ok(Self {
            prepared: missed_by_dump(conn, server)?,
            like_system: names.into_iter().filter(is_like).collect(),
            filters: binlog_filters(conn, server)?,
            temporary: temporary_tables(conn, server)?,
            histograms,
            groups: groups(conn, server)?,
            own: own_objects(conn, server)?,
            plugins: plugins(conn)?,
            used_plugins: used_plugins(catalogue),
            registered: pairs(conn, "SELECT name, dl FROM mysql.plugin ORDER BY name")?,
            components,
            used_functions: used_functions(catalogue, &functions),
        })
    }

    /// Objects in `schema` (`mysql` or `sys`) that the source has and that are not the server's. Of other objects than tables those that
    /// the target lacks, once it is known.
    pub fn foreign(
        &self,
        server: Server,
        schema: &str,
        target: Option<&TargetState>,
    ) -> Vec<String> {
        let newer = KNOWN
            .iter()
            .any(|(f, v)| *f == server.flavour && server.version > *v);
        let counts = |o: &&Foreign| {
            o.schema == schema
                && match target {
                    // A table of a later version that is not known here.
                    _ if schema == "mysql" && o.kind == "table" && newer => {
                        target.is_some_and(|t| !t.own.contains(*o))
                    }
                    None => o.kind == "table",
                    Some(t) => {
                        let there = t.own.contains(*o);
                        !there || o.kind == "table" && !(t.newest && schema == "mysql")
                    }
                }
        };
        let found = self.own.foreign.iter().filter(counts);
        found.map(Foreign::to_string).collect()
    }

    /// Plugins that accounts and tables use, that the source has and the target lacks: who uses them and how to get them.
    pub fn lacking_plugins(&self, target: &TargetState, flavour: Flavour) -> Vec<String> {
        let mut out = Vec::new();
        for (name, users) in &self.used_plugins {
            let Some(plugin) = self.plugins.get(name) else {
                continue; // no use of it on the source either
            };
            if target.plugins.contains(name) {
                continue;
            }
            let remedy = match &plugin.library {
                Some(library) => install(flavour, name, library),
                None => {
                    "it is built into the source, and the target has none or a disabled one".into()
                }
            };
            out.push(format!("{name} ({}; {remedy})", some_of(users)));
        }
        out
    }

    /// Functions of components that objects use and the target lacks.
    pub fn lacking_functions(&self, target: &TargetState) -> Vec<String> {
        let missing = self.lacking_components(target);
        let listed = !target.functions.is_empty();
        let lacks = |function: &str| {
            let by_component = |urn: &String| {
                OF_COMPONENTS
                    .iter()
                    .any(|(c, of_it)| urn.ends_with(c) && of_it.contains(&function))
            };
            if listed {
                !target.functions.contains(function)
            } else {
                missing.iter().any(by_component)
            }
        };
        let found = self.used_functions.iter().filter(|(f, _)| lacks(f));
        let text = |(function, users): (&String, &BTreeSet<String>)| {
            format!("{function} ({})", some_of(users))
        };
        let mut out: Vec<String> = found.map(text).collect();
        if !out.is_empty() && !missing.is_empty() {
            let urns: Vec<String> = missing.iter().map(|urn| format!("'{urn}'")).collect();
            out.push(format!("(INSTALL COMPONENT {})", urns.join(", ")));
        }
        out
    }

    fn lacking_components(&self, target: &TargetState) -> Vec<String> {
        let lacks = |urn: &&String| !target.components.contains(*urn);
        self.components.iter().filter(lacks).cloned().collect()
    }

    /// Plugins and components that a load registers on the target, where they are not active.
    pub fn inactive(&self, target: &TargetState, flavour: Flavour) -> Vec<String> {
        let lacks =
            |(name, _): &&(String, String)| !target.plugins.contains(&name.to_ascii_lowercase());
        let plugins = self.registered.iter().filter(lacks);
        let plugins =
            plugins.map(|(name, library)| format!("{name} ({})", install(flavour, name, library)));
        let components = self.lacking_components(target).into_iter();
        let components = components.map(|urn| format!("{urn} (INSTALL COMPONENT '{urn}')"));
        plugins.chain(components).collect()
    }

    /// Resource groups that the target lacks.
    pub fn lacking_groups(&self, target: &TargetState) -> Vec<String> {
        self.groups.difference(&target.groups).cloned().collect()
    }
}

/// The statement that installs a plugin.
fn install(flavour: Flavour, name: &str, library: &str) -> String {
    match flavour {
        Flavour::MariaDb => format!("INSTALL SONAME '{}'", library.trim_end_matches(".so")),
        Flavour::MySql => format!("INSTALL PLUGIN {name} SONAME '{library}'"),
    }
}

/// Resource groups, as far as the account sees any: for that it needs RESOURCE_GROUP_USER.
fn groups(conn: &mut Conn, server: Server) -> Result<BTreeSet<String>> {
    if !has_components(server) {
        return Ok(BTreeSet::new());
    }
    let all = grants::rows(
        conn,
        "SELECT RESOURCE_GROUP_NAME FROM information_schema.RESOURCE_GROUPS WHERE RESOURCE_GROUP_NAME NOT IN ('USR_default', 'SYS_default')",
    )?;
    Ok(all.into_iter().collect())
}

impl TargetState {
    /// A target without anything.
    pub const NONE: Self = Self {
        prepared: Prepared {
            xids: Vec::new(),
            hidden: false,
        },
        merge: false,
        newest: false,
        own: BTreeSet::new(),
        groups: BTreeSet::new(),
        plugins: BTreeSet::new(),
        components: BTreeSet::new(),
        functions: BTreeSet::new(),
    };

    /// Asks a target; `held` are its account's rows of SHOW GRANTS.
    ///
    /// # Errors
    /// If a query fails.
    pub fn ask(conn: &mut Conn, server: Server, held: &[String]) -> Result<Self> {
        let merge = ["UPDATE", "DELETE"].map(str::to_string);
        let newest = KNOWN
            .iter()
            .any(|(f, v)| *f == server.flavour && server.version > *v);
        Ok(Self {
            prepared: prepared(conn)?,
            merge: grants::missing(server, &merge.into(), held).is_empty(),
            newest,
            own: own_objects(conn, server)?.all,
            groups: groups(conn, server)?,
            plugins: plugins(conn)?.into_keys().collect(),
            components: components(conn, server)?.into_iter().collect(),
            functions: registered_functions(conn, server)?,
        })
    }
}

/// Bytes of the largest MEMORY table.
///
/// # Errors
/// If the query fails.
pub fn largest_memory_table(conn: &mut Conn) -> Result<u64> {
    let n: Option<u64> = conn
        .query_first(
            "SELECT CAST(IFNULL(MAX(DATA_LENGTH + INDEX_LENGTH), 0) AS UNSIGNED) FROM information_schema.TABLES WHERE ENGINE = 'MEMORY' \
             AND TABLE_SCHEMA NOT IN ('information_schema', 'performance_schema')",
        )
        .map_err(|e| fail(&e))?;
    Ok(n.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xids_are_as_xa_commit_takes_them() {
        for (format, global, branch, wanted) in [
            (1, &b"a 1"[..], &b""[..], "'a 1'"),
            (1, b"a", b"b", "'a','b'"),
            (7, b"\x00\xff", b"b", "X'00ff','b',7"),
            (7, b"it's", b"", "X'69742773','',7"),
        ] {
            assert_eq!(xid(format, global, branch), wanted);
        }
    }

    #[test]
    fn plugins_of_accounts_and_tables() {
        let account = |table: &str, row: &str| {
            plugins_of_account(&Definition::from([(table.to_string(), row.to_string())]))
        };
        assert_eq!(
            account(
                "mysql.global_priv",
                "Priv\t{\"access\":0,\"plugin\":\"unix_socket\",\"auth_or\":[{\"plugin\":\"ed25519\",\"authentication_string\":\"x\"},{}]}"
            ),
            ["ed25519", "unix_socket"]
        );
        assert_eq!(
            account(
                "mysql.user",
                "plugin\tmysql_no_login\nauthentication_string\tplugin"
            ),
            ["mysql_no_login"]
        );
        let create = "CREATE TABLE `t` (\n  `a` text COMMENT ' WITH PARSER `no`',\n  FULLTEXT KEY `t` (`t`) /*!50100 WITH PARSER `ngram` */ \n)";
        assert_eq!(parsers_of(create), ["ngram"]);
    }

    #[test]
    fn calls_of_functions_are_found() {
        for yes in ["select F(1)", "select `f` (1)", "x+f  ()"] {
            assert!(calls(yes, "f"), "{yes}");
        }
        for no in ["select of(1)", "select f2(1)", "select f", "_f(1)"] {
            assert!(!calls(no, "f"), "{no}");
        }
    }

    #[test]
    fn objects_of_others_in_the_schemas_of_the_server() {
        for (schema, name, kind, definer, system) in [
            ("sys", "sys_config", "table", "", true),
            ("sys", "mine", "table", "", false),
            ("sys", "host_summary", "view", "mysql.sys@localhost", true),
            ("sys", "mine", "view", "root@localhost", false),
            ("mysql", "user", "view", "mariadb.sys@localhost", true),
            ("mysql", "gtid_slave_pos_InnoDB", "table", "", true),
            ("mysql", "mine", "table", "", false),
            (
                "mysql",
                "AddGeometryColumn",
                "procedure",
                "root@localhost",
                true,
            ),
            ("mysql", "mine", "event", "root@localhost", false),
        ] {
            assert_eq!(
                is_system(schema, name, kind, definer),
                system,
                "{schema}.{name}"
            );
        }
    }
}

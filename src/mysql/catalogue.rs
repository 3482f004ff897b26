//! What a server's dictionary has of schemas, their objects and the accounts, in a form in which two servers can be compared.

use super::profile::Purpose;
use super::{Flavour, Server, control, info, query, quote_name, quote_text, settings};
use crate::error::Result;
use crate::sys::Inserted;
use mysql::prelude::Queryable;
use mysql::{Column, Conn, Row, Value};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// How many SHOW CREATE statements are sent to the server at once.
const BATCH: usize = 64;
/// The property that replaces all others of an object whose definition the server did not show; its value is the error.
pub(crate) const UNREADABLE: &str = "error";
/// Tables of schema mysql with the rights of accounts: the columns with the account's user and host, and those that, with them, make
/// a row unique.
#[rustfmt::skip]
const RIGHTS: [(&str, [&str; 2], &[&str]); 11] = [
    ("global_priv", ["User", "Host"], &[]),
    ("user", ["User", "Host"], &[]),
    ("db", ["User", "Host"], &["Db"]),
    ("tables_priv", ["User", "Host"], &["Db", "Table_name"]),
    ("columns_priv", ["User", "Host"], &["Db", "Table_name", "Column_name"]),
    ("procs_priv", ["User", "Host"], &["Db", "Routine_type", "Routine_name"]),
    ("proxies_priv", ["User", "Host"], &["Proxied_user", "Proxied_host"]),
    ("roles_mapping", ["User", "Host"], &["Role"]),
    ("role_edges", ["TO_USER", "TO_HOST"], &["FROM_USER", "FROM_HOST"]),
    ("global_grants", ["USER", "HOST"], &["PRIV"]),
    ("default_roles", ["USER", "HOST"], &["DEFAULT_ROLE_USER", "DEFAULT_ROLE_HOST"]),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Kind {
    Schema,
    Table,
    /// MariaDB's.
    Sequence,
    View,
    Function,
    Procedure,
    /// MariaDB's, of sql_mode ORACLE.
    Package,
    PackageBody,
    Trigger,
    Event,
    /// An account or role with its rights.
    Account,
}

impl Kind {
    /// The word in SHOW CREATE.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Schema => "DATABASE",
            Self::Table => "TABLE",
            Self::Sequence => "SEQUENCE",
            Self::View => "VIEW",
            Self::Function => "FUNCTION",
            Self::Procedure => "PROCEDURE",
            Self::Package => "PACKAGE",
            Self::PackageBody => "PACKAGE BODY",
            Self::Trigger => "TRIGGER",
            Self::Event => "EVENT",
            Self::Account => "USER",
        }
    }

    /// By TABLE_TYPE or ROUTINE_TYPE of information_schema.
    pub(crate) fn of_type(name: &str) -> Option<Self> {
        Some(match name {
            "BASE TABLE" | "SYSTEM VERSIONED" => Self::Table,
            "SEQUENCE" => Self::Sequence,
            "VIEW" => Self::View,
            "FUNCTION" => Self::Function,
            "PROCEDURE" => Self::Procedure,
            "PACKAGE" => Self::Package,
            "PACKAGE BODY" => Self::PackageBody,
            _ => return None,
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Object {
    pub(crate) kind: Kind,
    /// Its schema; empty for accounts.
    pub(crate) schema: String,
    /// Its name; empty for schemas.
    pub(crate) name: String,
}

impl Object {
    pub(crate) fn new(kind: Kind, schema: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            kind,
            schema: schema.into(),
            name: name.into(),
        }
    }

    /// `schema.name`
    pub(crate) fn full_name(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    /// [`Self::full_name`] for a statement.
    pub(crate) fn quoted(&self) -> String {
        format!("{}.{}", quote_name(&self.schema), quote_name(&self.name))
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, schema, name } = self;
        match kind {
            Kind::Schema => write!(f, "schema {schema}"),
            Kind::Account => write!(f, "account {name}"),
            kind => write!(f, "{} {schema}.{name}", kind.word().to_ascii_lowercase()),
        }
    }
}

/// The properties of an object by the server's own names for them, such as `Create Table` or `sql_mode`.
pub(crate) type Definition = BTreeMap<String, String>;

/// All objects of a server, its own schemas left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Catalogue {
    pub(crate) server: Server,
    #[serde(with = "pairs")]
    pub(crate) objects: BTreeMap<Object, Definition>,
}

/// Keys of JSON objects are strings: a map with other keys is written as a list of pairs.
mod pairs {
    use super::{Definition, Inserted, Object};
    use serde::{Deserialize, Deserializer, Serializer};
    use std::collections::BTreeMap;

    pub fn serialize<S: Serializer>(
        map: &BTreeMap<Object, Definition>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(map)
    }

    pub fn deserialize<'d, D: Deserializer<'d>>(
        from: D,
    ) -> Result<BTreeMap<Object, Definition>, D::Error> {
        Ok(Vec::deserialize(from)?.into_iter().inserted())
    }
}

/// Reads the catalogue. A statement that has to wait for the metadata lock of another session gives up after a second; its object is
/// then [`UNREADABLE`], as is one that cannot be shown for another reason. Objects that are dropped meanwhile are left out.
pub(crate) fn read(conn: &mut Conn, server: Server) -> Result<Catalogue> {
    read_of(conn, server, 1, |_| true)
}

/// The same of schemas that `wanted` chooses, waiting `wait` seconds for each lock.
pub(crate) fn read_of(
    conn: &mut Conn,
    server: Server,
    wait: u32,
    wanted: impl Fn(&str) -> bool,
) -> Result<Catalogue> {
    // They change what SHOW CREATE prints.
    settings::apply(conn, server, Purpose::Dump, &BTreeMap::new())?;
    control::execute(conn, &format!("SET SESSION lock_wait_timeout = {wait}"))?;
    let own = |schema: &str| !info::SYSTEM_SCHEMAS.contains(&schema) && wanted(schema);
    let mut objects = BTreeMap::new();
    let named = schemas(conn, server)?.into_iter();
    let object = |(name, of): (String, Definition)| (Object::new(Kind::Schema, name, ""), of);
    objects.extend(named.filter(|(name, _)| wanted(name)).map(object));
    let mut reader = Reader { conn, objects };
    reader.shown(&own)?;
    reader.triggers(&own)?;
    reader.events(server, &own)?;
    reader.accounts()?;
    let objects = reader.objects;
    Ok(Catalogue { server, objects })
}

/// The options of all schemas, by name. Takes no lock.
pub(crate) fn schemas(conn: &mut Conn, server: Server) -> Result<BTreeMap<String, Definition>> {
    let mut columns =
        "s.DEFAULT_CHARACTER_SET_NAME AS `character set`, s.DEFAULT_COLLATION_NAME AS `collation`"
            .to_string();
    let mut from = "information_schema.SCHEMATA s".to_string();
    if server.maria_from(10, 5, 0) {
        columns.push_str(", s.SCHEMA_COMMENT AS `comment`");
    }
    if server.mysql_from(8, 0, 16) {
        columns.push_str(", s.DEFAULT_ENCRYPTION AS `default encryption`");
    }
    if server.mysql_from(8, 0, 22) {
        columns.push_str(", IF(x.OPTIONS LIKE '%READ ONLY=1%', 'YES', 'NO') AS `read only`");
        from.push_str(
            " LEFT JOIN information_schema.SCHEMATA_EXTENSIONS x ON x.SCHEMA_NAME = s.SCHEMA_NAME",
        );
    }
    let query = format!(
        "SELECT s.SCHEMA_NAME AS `name`, {columns} FROM {from} WHERE s.SCHEMA_NAME NOT IN ({}) \
         AND LEFT(s.SCHEMA_NAME, 9) <> '#mysql50#'",
        info::system_schemas()
    );
    let rows: Vec<Row> = query::rows(conn, query)?;
    let schema = |row: &Row| (text(row.as_ref(0)), properties(row, &["name"]));
    Ok(rows.iter().map(schema).inserted())
}

struct Reader<'c> {
    conn: &'c mut Conn,
    objects: BTreeMap<Object, Definition>,
}

fn text(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::NULL) => String::new(),
        Some(Value::Bytes(b)) => String::from_utf8_lossy(b).into_owned(),
        Some(other) => other.as_sql(true).trim_matches('\'').to_string(),
    }
}

fn properties(row: &Row, without: &[&str]) -> Definition {
    let columns = row.columns_ref().iter().enumerate();
    columns
        .map(|(n, c)| (c.name_str().into_owned(), text(row.as_ref(n))))
        .filter(|(name, _)| !without.iter().any(|w| w.eq_ignore_ascii_case(name)))
        .inserted()
}

impl Reader<'_> {
    fn rows(&mut self, query: &str) -> Result<Vec<Row>> {
        query::rows(self.conn, query)
    }

    fn strings(&mut self, query: &str) -> Result<Vec<Vec<String>>> {
        let rows = self.rows(query)?;
        let row = |r: &Row| (0..r.len()).map(|n| text(r.as_ref(n))).collect();
        Ok(rows.iter().map(row).collect())
    }

    fn add(&mut self, kind: Kind, schema: &str, name: &str, definition: Definition) {
        self.objects
            .insert(Object::new(kind, schema, name), definition);
    }

    /// Everything whose SHOW CREATE is complete.
    fn shown(&mut self, wanted: &impl Fn(&str) -> bool) -> Result<()> {
        let tables = self.strings(
            "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE FROM information_schema.TABLES WHERE LEFT(TABLE_SCHEMA, 9) <> '#mysql50#'",
        )?;
        let routines = self.strings(
            "SELECT ROUTINE_SCHEMA, ROUTINE_NAME, ROUTINE_TYPE FROM information_schema.ROUTINES",
        )?;
        let mut list = Vec::new();
        for row in tables.iter().chain(&routines) {
            if let Some(kind) = Kind::of_type(&row[2]).filter(|_| wanted(&row[0])) {
                let object = Object::new(kind, &row[0], &row[1]);
                let name = object.quoted();
                let show = format!("SHOW CREATE {} {name}", kind.word());
                list.push((object.clone(), show));
                if kind == Kind::Sequence {
                    let show = format!("SELECT next_not_cached_value AS `next value` FROM {name}");
                    list.push((object, show));
                }
            }
        }
        let statements: Vec<&str> = list.iter().map(|(_, show)| show.as_str()).collect();
        let answers = self.in_batches(&statements)?;
        for ((object, _), answer) in list.into_iter().zip(answers) {
            let hidden = |(k, v): (&String, &String)| k.starts_with("Create ") && v.is_empty();
            let error = match answer {
                // It has been dropped.
                Err((1049 | 1051 | 1146 | 1305 | 4091, _)) if !self.exists(&object)? => continue,
                Err((number, text)) => format!("{number}: {text}"),
                // NULL: the account may not see it.
                Ok(of) if of.iter().any(hidden) => "no privilege".to_string(),
                Ok(of) => {
                    self.objects.entry(object).or_default().extend(of);
                    continue;
                }
            };
            let error = BTreeMap::from([(UNREADABLE.into(), error)]);
            self.objects.insert(object, error);
        }
        Ok(())
    }

    /// A view that is invalid gives the error of a table that is not there.
    fn exists(&mut self, object: &Object) -> Result<bool> {
        if object.kind != Kind::View {
            return Ok(false);
        }
        let query = format!(
            "SELECT 1 FROM information_schema.TABLES WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {}",
            quote_text(&object.schema),
            quote_text(&object.name)
        );
        Ok(!self.rows(&query)?.is_empty())
    }

    /// The first row of each statement's result, or its error. The statements have no other results.
    fn in_batches(
        &mut self,
        statements: &[&str],
    ) -> Result<Vec<std::result::Result<Definition, (u16, String)>>> {
        let mut out = Vec::with_capacity(statements.len());
        while out.len() < statements.len() {
            let rest = &statements[out.len()..];
            let batch = rest[..rest.len().min(BATCH)].join(";");
            let before = out.len();
            let mut answer = match self.conn.query_iter(batch) {
                Ok(answer) => answer,
                Err(mysql::Error::MySqlError(e)) => {
                    out.push(Err((e.code, e.message)));
                    continue;
                }
                Err(e) => return Err(query::failed(e)),
            };
            while let Some(set) = answer.iter() {
                let mut first = None;
                for row in set {
                    match row {
                        Ok(row) => {
                            let name = row.columns_ref().first().map(Column::name_str);
                            let name = name.filter(|c| c != "next value").unwrap_or_default();
                            first.get_or_insert(Ok(properties(&row, &[&name, "Created"])));
                        }
                        Err(mysql::Error::MySqlError(e)) => first = Some(Err((e.code, e.message))),
                        Err(e) => return Err(query::failed(e)),
                    }
                }
                out.extend(first);
            }
            if out.len() == before {
                out.push(Err((0, "the server returned no row".into())));
            }
        }
        Ok(out)
    }

    fn triggers(&mut self, wanted: &impl Fn(&str) -> bool) -> Result<()> {
        let rows = self.rows(
            "SELECT TRIGGER_SCHEMA AS s, TRIGGER_NAME AS n, EVENT_OBJECT_TABLE AS `table`, ACTION_TIMING AS `timing`, \
             EVENT_MANIPULATION AS `event`, ACTION_ORDER AS o, ACTION_STATEMENT AS `statement`, SQL_MODE AS `sql_mode`, \
             DEFINER AS `definer`, CHARACTER_SET_CLIENT AS `character_set_client`, \
             COLLATION_CONNECTION AS `collation_connection`, DATABASE_COLLATION AS `Database Collation` \
             FROM information_schema.TRIGGERS",
        )?;
        let mut found: Vec<(String, String, u64, Definition)> = Vec::new();
        for row in &rows {
            let schema = text(row.as_ref(0));
            if wanted(&schema) {
                let order = text(row.as_ref(5)).parse().unwrap_or(0);
                let of = properties(row, &["s", "n", "o"]);
                found.push((schema, text(row.as_ref(1)), order, of));
            }
        }
        // Numbers have gaps where a trigger was dropped: what counts is how many come before.
        let mut places: BTreeMap<[String; 4], BTreeSet<u64>> = BTreeMap::new();
        let place = |schema: &str, of: &Definition| {
            let part = |name: &str| of.get(name).cloned().unwrap_or_default();
            [schema.into(), part("table"), part("timing"), part("event")]
        };
        for (schema, _, order, of) in &found {
            places.entry(place(schema, of)).or_default().insert(*order);
        }
        for (schema, name, order, mut of) in found {
            let before = places.get(&place(&schema, &of));
            let rank = before.map_or(0, |b| b.range(..order).count());
            of.insert("order".into(), (rank + 1).to_string());
            self.add(Kind::Trigger, &schema, &name, of);
        }
        Ok(())
    }

    fn events(&mut self, server: Server, wanted: &impl Fn(&str) -> bool) -> Result<()> {
        let query = match server.flavour {
            // information_schema.EVENTS is error 1577 where the scheduler is disabled.
            Flavour::MariaDb => {
                "SELECT db AS s, name AS n, definer, body_utf8 AS `statement`, execute_at AS `at`, interval_value, \
                 interval_field, starts, ends, status, on_completion, sql_mode, comment, time_zone, character_set_client, \
                 collation_connection, db_collation AS `Database Collation` FROM mysql.event"
            }
            Flavour::MySql => {
                "SELECT EVENT_SCHEMA AS s, EVENT_NAME AS n, DEFINER AS `definer`, EVENT_DEFINITION AS `statement`, \
                 EXECUTE_AT AS `at`, INTERVAL_VALUE AS `interval_value`, INTERVAL_FIELD AS `interval_field`, \
                 STARTS AS `starts`, ENDS AS `ends`, STATUS AS `status`, ON_COMPLETION AS `on_completion`, \
                 SQL_MODE AS `sql_mode`, EVENT_COMMENT AS `comment`, TIME_ZONE AS `time_zone`, \
                 CHARACTER_SET_CLIENT AS `character_set_client`, COLLATION_CONNECTION AS `collation_connection`, \
                 DATABASE_COLLATION AS `Database Collation` FROM information_schema.EVENTS"
            }
        };
        for row in self.rows(query)? {
            let (schema, name) = (text(row.as_ref(0)), text(row.as_ref(1)));
            if wanted(&schema) {
                self.add(Kind::Event, &schema, &name, properties(&row, &["s", "n"]));
            }
        }
        Ok(())
    }

    /// The tables with the rights, because SHOW GRANTS has what is in force, not what a load has written.
    fn accounts(&mut self) -> Result<()> {
        let there = self.strings(
            "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'mysql' AND TABLE_TYPE <> 'VIEW'",
        )?;
        let there: BTreeSet<String> = there.into_iter().flatten().collect();
        for (table, account, key) in &RIGHTS {
            if !there.contains(*table) {
                continue;
            }
            for row in self.rows(&format!("SELECT * FROM mysql.{table}"))? {
                let all = properties(&row, &["Timestamp"]);
                let get = |name: &str| {
                    let column = all.iter().find(|(k, _)| k.eq_ignore_ascii_case(name));
                    column.map(|(_, v)| v.as_str()).unwrap_or_default()
                };
                let [user, host] = account.map(get);
                let mut right = format!("mysql.{table}");
                for part in *key {
                    right.push(' ');
                    right.push_str(get(part));
                }
                let own = account.iter().chain(*key);
                let is_own = |name: &str| own.clone().any(|k| k.eq_ignore_ascii_case(name));
                let columns = all.iter().filter(|(name, _)| !is_own(name));
                let columns: Vec<String> = columns.map(|(k, v)| format!("{k}\t{v}")).collect();
                let account = Object::new(Kind::Account, "", format!("{user}@{host}"));
                let rights = self.objects.entry(account).or_default();
                rights.insert(right, columns.join("\n"));
            }
        }
        Ok(())
    }
}

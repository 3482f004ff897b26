//! What mydumper cannot keep as it is: options of schemas, sequences, routines, triggers, events and views. Each has a sql_mode, a
//! character set, a collation or a time zone of its own, of which a dump by mydumper has one for all objects, or none. They are
//! read from the source by SHOW CREATE and become SQL scripts for the server's own client, in the form in which mysqldump
//! writes them. And the tables of accounts and the like that have no transactions: mydumper 0.13 and later would lock them in the
//! sessions that have its snapshot, and LOCK TABLES ends it.

use super::options;
use crate::contents::row_mode::STRICT;
use crate::error::{Error, OnPath, Result};
use crate::methods::logical::definitions::prepare;
use crate::mysql::{Endpoint, Flavour, Server, catalogue, connect, query, quote_name, quote_text};
use crate::sys::Inserted;
use crate::sys::file::{create, sync_dir};
use mysql::consts::ColumnType;
use mysql::prelude::Queryable;
use mysql::{Column, Conn, Row, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// For each statement on the source: thousands of objects are read one by one.
const ANSWER: Duration = Duration::from_secs(60);
/// SHOW CREATE waits for a metadata lock; a statement that holds one for longer is named by the error.
const SESSION: &str = "SET SESSION lock_wait_timeout = 30, time_zone = '+00:00'";

/// The script to execute before the rows are loaded.
pub(super) const BEFORE: &str = "before.sql";
/// The script with tables of the server's own schema, to execute before accounts are used.
pub(super) const OF_SERVER: &str = "server.sql";
/// The script to execute after rows and accounts.
pub(super) const AFTER: &str = "after.sql";
/// The columns of these tables, as JSON: `{"table": ["column", ...]}`.
const COLUMNS: &str = "server.json";
/// Bytes of an INSERT at which it ends; the server's limit is at least 4 MB (max_allowed_packet of MySQL 5.6).
const INSERT_SIZE: usize = 256 << 10;
/// The names of tables that mydumper leaves out, one a line.
const LEFT_OUT: &str = "left-out";

/// One object, or one option of a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Object {
    /// `PROCEDURE shop.add`.
    name: String,
    /// They are bytes, as each object is in its own character set.
    statements: Vec<Vec<u8>>,
}

impl Object {
    fn new(kind: &str, label: &str) -> Self {
        Self {
            name: format!("{kind} {label}"),
            statements: Vec::new(),
        }
    }

    fn add(&mut self, statement: impl AsRef<[u8]>) {
        self.statements.push(statement.as_ref().to_vec());
    }

    /// The session in which the object was created.
    fn add_session(&mut self, created: &Created) {
        let text = |name: &str| {
            let bytes = created.get(name)?;
            Some(String::from_utf8_lossy(bytes).into_owned())
        };
        // sql_mode before the character set: it is ASCII.
        for variable in ["sql_mode", "time_zone"] {
            if let Some(value) = text(variable) {
                self.add(format!("SET {variable} = {}", quote_text(&value)));
            }
        }
        let charset = text("character_set_client").unwrap_or_default();
        let collation = text("collation_connection").unwrap_or_default();
        self.add(format!(
            "SET character_set_client = {charset}, collation_connection = {collation}"
        ));
    }
}

/// Columns of the row of SHOW CREATE by name.
type Created = BTreeMap<String, Vec<u8>>;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Objects {
    /// Schemas and sequences: tables may refer to them.
    before: Vec<Object>,
    /// Tables of schema `mysql` without transactions, with their rows.
    of_server: Vec<Object>,
    /// All that refers to tables, or would change rows while they are loaded.
    after: Vec<Object>,
    /// The columns of these tables.
    columns: BTreeMap<String, Vec<String>>,
    /// Tables that mydumper leaves out, as they are sequences or [`of_server`](Self::of_server): `schema.name`.
    left_out: Vec<String>,
}

impl Objects {
    /// The first object that is not the same in `other`.
    fn difference<'a>(&'a self, other: &'a Self) -> Option<&'a str> {
        let all = |o: &'a Self| -> BTreeSet<(&'a str, &'a [Vec<u8>])> {
            let all = o.before.iter().chain(&o.of_server).chain(&o.after);
            // A sequence goes on while rows are inserted, and statistics are collected at any time.
            let goes_on = |n: &str| {
                n.starts_with("SEQUENCE ") || (n.starts_with(TABLE) && n.ends_with("_stats"))
            };
            all.map(|o| (o.name.as_str(), &o.statements[..]))
                .filter(|(name, _)| !goes_on(name))
                .collect()
        };
        let (mine, others) = (all(self), all(other));
        mine.symmetric_difference(&others)
            .next()
            .map(|(name, _)| *name)
    }

    /// Fails if an object was created, altered or dropped since it was read, or an account: the position of the dump is between the two
    /// moments, so it is not known whether replication brings the change.
    pub(super) fn check_same(&self, again: &Self, source: &str) -> Result<()> {
        let Some(name) = self.difference(again) else {
            return Ok(());
        };
        let changed = match name.strip_prefix(TABLE) {
            Some(table) => format!("the rows of {table} were changed"),
            None => format!("{name} was created, altered or dropped"),
        };
        Err(Error::transient(format!(
            "{changed} on source {source} while the dump was started, so it is not known whether the dump has the change: run a new \
             seed, and change no definitions or accounts for its first minute"
        )))
    }

    /// Writes the scripts into `directory`, which is created, and returns their bytes. They are on disk when this returns.
    pub(super) fn write(&self, directory: &Path) -> Result<u64> {
        DirBuilder::new()
            .mode(0o700)
            .create(directory)
            .on(directory)?;
        let mut bytes = 0;
        for (name, objects) in [
            (BEFORE, &self.before),
            (OF_SERVER, &self.of_server),
            (AFTER, &self.after),
        ] {
            let text = script(objects);
            create(&directory.join(name), 0o600, &text)?;
            bytes += text.len() as u64;
        }
        let path = directory.join(COLUMNS);
        let columns = serde_json::to_vec(&self.columns).map_err(std::io::Error::from);
        create(&path, 0o600, &columns.on(&path)?)?;
        if !self.left_out.is_empty() {
            let names: String = self.left_out.iter().map(|n| format!("{n}\n")).collect();
            create(&directory.join(LEFT_OUT), 0o600, names.as_bytes())?;
        }
        sync_dir(directory)?;
        Ok(bytes)
    }

    /// The file with the names of the tables that mydumper leaves out, if there are such tables.
    pub(super) fn left_out_file(&self, directory: &Path) -> Option<PathBuf> {
        (!self.left_out.is_empty()).then(|| directory.join(LEFT_OUT))
    }
}

/// The objects' statements for the client. Its messages have a line number only: by the comment before it, it leads to the object.
fn script(objects: &[Object]) -> Vec<u8> {
    // The client knows delimiters of at most 15 bytes.
    let delimiter = (0..)
        .map(|n: u32| format!("$agent{n}$"))
        .find(|d| {
            let has = |s: &Vec<u8>| s.windows(d.len()).any(|w| w == d.as_bytes());
            !objects.iter().any(|o| o.statements.iter().any(has))
        })
        .unwrap_or_default();
    let mut text = format!("DELIMITER {delimiter}\n").into_bytes();
    for object in objects {
        text.extend(format!("-- {}\n", object.name.replace(['\n', '\r'], " ")).bytes());
        for statement in &object.statements {
            text.extend(statement);
            text.extend(format!("\n{delimiter}\n").bytes());
        }
    }
    text
}

/// That the target's server has the tables of schema `mysql` whose rows are in `directory`, with all their columns (`found`: table and
/// column of its own): another series may have others. MySQL 5.7 has no mysql.user.Password; MariaDB 10.4 made mysql.user a view.
pub(super) fn check_target(directory: &Path, found: &BTreeSet<(String, String)>) -> Result<()> {
    let path = directory.join(COLUMNS);
    let text = std::fs::read(&path).on(&path)?;
    let wanted: BTreeMap<String, Vec<String>> = serde_json::from_slice(&text)
        .map_err(|e| Error::permanent(format!("{}: {e}", path.display())))?;
    for (table, columns) in wanted {
        for column in columns {
            if !found.contains(&(table.clone(), column.clone())) {
                return Err(Error::permanent(format!(
                    "the source has mysql.{table}.{column}, and the target's server has no such column, or no such table: Mydumper copies \
                     accounts between servers of one series only; use the seed method Mysqldump"
                )));
            }
        }
    }
    Ok(())
}

/// Bytes of the scripts in `directory`; 0 without such files.
pub(super) fn size(directory: &Path) -> u64 {
    let of = |name| std::fs::metadata(directory.join(name)).map_or(0, |m| m.len());
    of(BEFORE) + of(OF_SERVER) + of(AFTER)
}

/// The object of a script to which a line of it belongs, counted from 1.
pub(super) fn object_at(script: &Path, line: usize) -> Option<String> {
    let text = std::fs::read(script).ok()?;
    let heads = text.split(|b| *b == b'\n').take(line);
    heads
        .filter_map(|l| l.strip_prefix(b"-- "))
        .filter(|l| KINDS.iter().any(|k| l.starts_with(k.as_bytes())))
        .last()
        .map(|l| String::from_utf8_lossy(l).into_owned())
}

const TABLE: &str = "TABLE ";

const KINDS: [&str; 9] = [
    TABLE,
    "SCHEMA ",
    "SEQUENCE ",
    "FUNCTION ",
    "PROCEDURE ",
    "PACKAGE",
    "TRIGGER ",
    "EVENT ",
    "VIEW",
];

/// Reads them from `source`; may be called again, to see whether they are still the same.
pub(super) fn read(source: &Endpoint) -> Result<Objects> {
    let mut conn = connect(source, ANSWER)?;
    let server = Server::ask(&mut conn)?;
    let mut reader = Reader {
        conn,
        server,
        objects: Objects::default(),
        collations: BTreeMap::new(),
    };
    let read = reader.read();
    read.map_err(|e| e.context(format!("source {}", source.name())))?;
    Ok(reader.objects)
}

/// Table and column of all base tables in schema `mysql`.
pub(super) fn columns_of_server(conn: &mut Conn) -> Result<BTreeSet<(String, String)>> {
    let rows: Vec<(String, String)> = query::rows(
        conn,
        "SELECT c.TABLE_NAME, c.COLUMN_NAME FROM information_schema.COLUMNS c JOIN information_schema.TABLES t \
         USING (TABLE_SCHEMA, TABLE_NAME) WHERE c.TABLE_SCHEMA = 'mysql' AND t.TABLE_TYPE = 'BASE TABLE'",
    )?;
    Ok(rows.into_iter().inserted())
}

/// The server's own schemas; on MySQL mydumper leaves `sys` out, on MariaDB it is not the source's either.
const OTHER_SCHEMAS: &str = "NOT IN ('information_schema','performance_schema','mysql','sys')";

struct Reader {
    conn: Conn,
    server: Server,
    objects: Objects,
    /// Of each schema.
    collations: BTreeMap<String, String>,
}

impl Reader {
    /// In the order in which the statements can be executed.
    fn read(&mut self) -> Result<()> {
        query::run(&mut self.conn, SESSION)?;
        self.schemas()?;
        self.sequences()?;
        self.tables_of_server()?;
        self.bodies()?;
        self.views()
    }

    /// Does `work` in a session in which the server converts no text.
    fn unconverted<T>(&mut self, work: impl FnOnce(&mut Conn) -> Result<T>) -> Result<T> {
        query::run(&mut self.conn, "SET character_set_results = 'binary'")?;
        let done = work(&mut self.conn);
        query::run(&mut self.conn, "SET character_set_results = 'utf8mb4'")?;
        done
    }

    /// SHOW CREATE as the server has it, as the text, which is in `column`, is in the object's own character set. The text, and all
    /// columns.
    fn created(&mut self, kind: &str, name: &str, column: &str) -> Result<(Vec<u8>, Created)> {
        let what = format!("{kind} {name}");
        let show = format!("SHOW CREATE {what}");
        let row: Option<Row> = self
            .unconverted(|conn| query::first(conn, show))
            .map_err(|e| e.context(&what))?;
        let mut created = Created::new();
        for (n, c) in row.iter().flat_map(Row::columns_ref).enumerate() {
            if let Some(Some(Value::Bytes(bytes))) = row.as_ref().map(|row| row.as_ref(n)) {
                created.insert(c.name_str().into_owned(), bytes.clone());
            }
        }
        match created.get(column) {
            Some(text) if !text.is_empty() => Ok((text.clone(), created)),
            _ => Err(Error::permanent(format!(
                "the definition of {what} cannot be read: grant the agent's account SELECT, SHOW VIEW, TRIGGER and EVENT on *.*"
            ))),
        }
    }

    fn schemas(&mut self) -> Result<()> {
        for (name, mut of) in catalogue::schemas(&mut self.conn, self.server)? {
            let quoted = quote_name(&name);
            let mut sql = Object::new("SCHEMA", &name);
            sql.add(format!("CREATE DATABASE IF NOT EXISTS {quoted}"));
            sql.add(format!("ALTER DATABASE {quoted}{}", prepare::options(&of)));
            self.objects.before.push(sql);
            self.collations
                .insert(name, of.remove("collation").unwrap_or_default());
        }
        Ok(())
    }

    /// MariaDB 10.3 and later. The next value is that of the moment; replication then repeats what came later.
    fn sequences(&mut self) -> Result<()> {
        if self.server.flavour != Flavour::MariaDb {
            return Ok(());
        }
        let sequences = format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE TABLE_TYPE = 'SEQUENCE' AND \
             TABLE_SCHEMA {OTHER_SCHEMAS} ORDER BY 1, 2"
        );
        for (schema, name) in query::rows::<(String, String)>(&mut self.conn, sequences)? {
            let (full, label) = names(&schema, &name);
            let (text, _) = self.created("SEQUENCE", &full, "Create Table")?;
            let next = "CONCAT(next_not_cached_value, ', 0, ', cycle_count)";
            let next: Vec<String> =
                query::rows(&mut self.conn, format!("SELECT {next} FROM {full}"))?;
            let mut sql = Object::new("SEQUENCE", &label);
            // What the target has under this name may be a table or a view.
            sql.add(format!("DROP VIEW IF EXISTS {full}"));
            sql.add(format!("DROP TABLE IF EXISTS {full}"));
            sql.add(format!("USE {}", quote_name(&schema)));
            sql.add(text);
            for value in next {
                sql.add(format!("DO SETVAL({full}, {value})"));
            }
            self.objects.before.push(sql);
            self.objects.left_out.push(label);
        }
        Ok(())
    }

    /// Their rows replace those of the target, in the definition that its server has of them.
    fn tables_of_server(&mut self) -> Result<()> {
        let tables = format!(
            "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'mysql' AND TABLE_TYPE = 'BASE TABLE' AND \
             ENGINE <> 'InnoDB' AND TABLE_NAME REGEXP '^({})$' ORDER BY 1",
            options::tables_of_server(self.server)
        );
        for name in query::rows::<String>(&mut self.conn, tables)? {
            let (full, label) = names("mysql", &name);
            // The columns are those of a table without rows as well.
            let (columns, rows) = self.unconverted(|conn| {
                let all = conn.query_iter(format!("SELECT * FROM {full}"));
                let all = all.map_err(query::failed)?;
                let columns = all.columns().as_ref().to_vec();
                let rows = all.collect::<mysql::Result<Vec<Row>>>();
                Ok((columns, rows.map_err(query::failed)?))
            })?;
            let mut sql = Object::new("TABLE", &label);
            sql.add(format!("SET sql_mode = '{STRICT}', time_zone = '+00:00'"));
            sql.add(format!("TRUNCATE TABLE {full}"));
            for insert in inserts(&full, &columns, &rows) {
                sql.add(insert);
            }
            sql.add(RESET_SESSION);
            let names = columns.iter().map(|c| c.name_str().into_owned());
            self.objects.columns.insert(name, names.collect());
            self.objects.of_server.push(sql);
            self.objects.left_out.push(label);
        }
        Ok(())
    }

    /// Routines, triggers and events. Triggers of one table, event and time are executed in the order in which they are created.
    fn bodies(&mut self) -> Result<()> {
        let routines = format!(
            "SELECT ROUTINE_TYPE, ROUTINE_SCHEMA, ROUTINE_NAME FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA {OTHER_SCHEMAS} \
             ORDER BY 2, FIELD(ROUTINE_TYPE, 'PACKAGE', 'PACKAGE BODY', 'FUNCTION', 'PROCEDURE'), 3"
        );
        // ACTION_ORDER is always 0 or 1 where a table has one trigger for each event and time (MySQL 5.6).
        let triggers = format!(
            "SELECT 'TRIGGER', TRIGGER_SCHEMA, TRIGGER_NAME FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA {OTHER_SCHEMAS} \
             ORDER BY TRIGGER_SCHEMA, EVENT_OBJECT_TABLE, ACTION_TIMING, EVENT_MANIPULATION, ACTION_ORDER, TRIGGER_NAME"
        );
        let (schema, name, table) = match self.server.flavour {
            // information_schema.EVENTS is error 1577 where its scheduler is disabled.
            Flavour::MariaDb => ("db", "name", "mysql.event"),
            Flavour::MySql => ("EVENT_SCHEMA", "EVENT_NAME", "information_schema.EVENTS"),
        };
        let events = format!(
            "SELECT 'EVENT', {schema}, {name} FROM {table} WHERE {schema} {OTHER_SCHEMAS} ORDER BY 2, 3"
        );
        for list in [routines, triggers, events] {
            let objects: Vec<(String, String, String)> = query::rows(&mut self.conn, list)?;
            for (kind, schema, name) in objects {
                self.with_body(&kind, &schema, &name)?;
            }
        }
        Ok(())
    }

    /// Adds a routine, trigger or event in the session in which it was created: sql_mode, character sets, the schema's collation of that
    /// time, an event's time zone.
    fn with_body(&mut self, kind: &str, schema: &str, name: &str) -> Result<()> {
        let column = match kind {
            "FUNCTION" => "Create Function",
            "PROCEDURE" => "Create Procedure",
            "PACKAGE" => "Create Package",
            "PACKAGE BODY" => "Create Package Body",
            "EVENT" => "Create Event",
            _ => "SQL Original Statement",
        };
        let (full, label) = names(schema, name);
        let (text, created) = self.created(kind, &full, column)?;
        let quoted = quote_name(schema);
        let mut sql = Object::new(kind, &label);
        if kind.starts_with("PACKAGE") {
            sql.add("SET sql_mode = 'ORACLE'"); // or MariaDB does not know the next statement
        }
        sql.add(format!("DROP {kind} IF EXISTS {full}"));
        sql.add(format!("USE {quoted}"));
        let then = created
            .get("Database Collation")
            .cloned()
            .unwrap_or_default();
        let then = String::from_utf8_lossy(&then);
        let now = self.collations.get(schema);
        let other = now.filter(|now| **now != then && !then.is_empty());
        if other.is_some() {
            sql.add(format!("ALTER DATABASE {quoted} COLLATE {then}"));
        }
        sql.add_session(&created);
        sql.add(text);
        sql.add(RESET_SESSION);
        if let Some(now) = other {
            sql.add(format!("ALTER DATABASE {quoted} COLLATE {now}"));
        }
        self.objects.after.push(sql);
        Ok(())
    }

    /// A view may refer to any other one: first all of them are created with their columns only.
    fn views(&mut self) -> Result<()> {
        let columns = format!(
            "SELECT v.TABLE_SCHEMA, v.TABLE_NAME, c.COLUMN_NAME FROM information_schema.VIEWS v JOIN information_schema.COLUMNS c \
             ON c.TABLE_SCHEMA = v.TABLE_SCHEMA AND c.TABLE_NAME = v.TABLE_NAME WHERE v.TABLE_SCHEMA {OTHER_SCHEMAS} \
             ORDER BY 1, 2, c.ORDINAL_POSITION"
        );
        let mut views: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
        let columns: Vec<(String, String, String)> = query::rows(&mut self.conn, columns)?;
        for (schema, name, column) in columns {
            let column = format!("1 AS {}", quote_name(&column));
            views.entry((schema, name)).or_default().push(column);
        }
        let mut real = Vec::new();
        for ((schema, name), columns) in views {
            let (full, label) = names(&schema, &name);
            let mut sql = Object::new("VIEW (columns)", &label);
            sql.add(format!("DROP TABLE IF EXISTS {full}"));
            sql.add(format!("DROP VIEW IF EXISTS {full}"));
            sql.add(format!(
                "CREATE VIEW {full} AS SELECT {}",
                columns.join(", ")
            ));
            self.objects.after.push(sql);

            let (text, created) = self.created("VIEW", &full, "Create View")?;
            let rest = text.strip_prefix(b"CREATE ").unwrap_or(&text);
            let mut sql = Object::new("VIEW", &label);
            sql.add_session(&created);
            sql.add([b"CREATE OR REPLACE ", rest].concat());
            sql.add(RESET_SESSION);
            real.push(sql);
        }
        self.objects.after.extend(real);
        Ok(())
    }
}

/// Quoted, and for people.
fn names(schema: &str, name: &str) -> (String, String) {
    let full = format!("{}.{}", quote_name(schema), quote_name(name));
    (full, format!("{schema}.{name}"))
}

/// Names in the scripts are in utf8mb4, except those of a text by SHOW CREATE.
const RESET_SESSION: &str = "SET sql_mode = '', NAMES utf8mb4, time_zone = @@global.time_zone";

/// INSERT statements for `rows` of a table, always in the same order.
fn inserts(table: &str, columns: &[Column], rows: &[Row]) -> Vec<String> {
    if rows.is_empty() {
        return Vec::new();
    }
    let names: Vec<String> = columns.iter().map(|c| quote_name(&c.name_str())).collect();
    let begin = format!("INSERT INTO {table} ({}) VALUES ", names.join(", "));
    let values = |row: &Row| -> String {
        let of = |(i, c): (usize, &Column)| literal(c.column_type(), row.as_ref(i));
        let all: Vec<String> = columns.iter().enumerate().map(of).collect();
        format!("({})", all.join(", "))
    };
    let mut rows: Vec<String> = rows.iter().map(values).collect();
    rows.sort_unstable();
    let mut out = Vec::new();
    let mut statement = begin.clone();
    for row in rows {
        if statement.len() > begin.len() {
            if statement.len() + row.len() > INSERT_SIZE {
                out.push(std::mem::replace(&mut statement, begin.clone()));
            } else {
                statement.push_str(",\n");
            }
        }
        statement.push_str(&row);
    }
    out.push(statement);
    out
}

/// A value of the text protocol, in which all but NULL are bytes: a number, a text in ASCII, or bytes in hexadecimal.
fn literal(column: ColumnType, value: Option<&Value>) -> String {
    let Some(Value::Bytes(bytes)) = value else {
        return "NULL".into();
    };
    let plain = |b: &u8| matches!(b, b' '..=b'~');
    match std::str::from_utf8(bytes) {
        Ok(number) if column.is_numeric_type() => number.into(),
        Ok(text) if bytes.iter().all(plain) => quote_text(text),
        _ => {
            let hex: String = bytes.iter().map(|b| format!("{b:02X}")).collect();
            format!("X'{hex}'")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str, statements: &[&str]) -> Object {
        Object {
            name: name.into(),
            statements: statements.iter().map(|s| s.as_bytes().to_vec()).collect(),
        }
    }

    #[test]
    fn a_script_has_a_delimiter_that_no_object_has() {
        let objects = [
            object(
                "FUNCTION s.a",
                &["DROP FUNCTION a", "CREATE FUNCTION a\nRETURN '$agent0$'"],
            ),
            object("VIEW s.b\nc", &["CREATE VIEW b AS SELECT ';;'"]),
        ];
        assert_eq!(
            String::from_utf8(script(&objects)).unwrap(),
            "DELIMITER $agent1$\n-- FUNCTION s.a\nDROP FUNCTION a\n$agent1$\nCREATE FUNCTION a\nRETURN '$agent0$'\n$agent1$\n\
             -- VIEW s.b c\nCREATE VIEW b AS SELECT ';;'\n$agent1$\n"
        );
        assert!(
            format!("$agent{}$", 99_999_999).len() <= 15,
            "what the client knows"
        );
    }

    #[test]
    fn a_value_is_written_as_it_is_read() {
        use ColumnType::{MYSQL_TYPE_BLOB as BLOB, MYSQL_TYPE_LONG as LONG};
        let bytes = |b: &[u8]| Value::Bytes(b.to_vec());
        for (column, value, wanted) in [
            (LONG, bytes(b"-12"), "-12"),
            (BLOB, bytes(b"-12"), "'-12'"),
            (BLOB, bytes(b""), "''"),
            (BLOB, bytes(br"it's \"), r"'it''s \\'"),
            (BLOB, bytes(b"a\n"), "X'610A'"),
            (BLOB, bytes("\u{fc}".as_bytes()), "X'C3BC'"),
            (BLOB, bytes(b"\xff\0"), "X'FF00'"),
            (LONG, Value::NULL, "NULL"),
        ] {
            assert_eq!(literal(column, Some(&value)), wanted, "{value:?}");
        }
        assert_eq!(literal(LONG, None), "NULL");
    }

    #[test]
    fn a_line_of_a_script_leads_to_its_object_and_columns_are_checked() {
        let place = std::env::temp_dir().join(format!("oa-objects-{}", std::process::id()));
        let objects = Objects {
            before: vec![object("SCHEMA s", &["CREATE DATABASE s"])],
            after: vec![
                object(
                    "PROCEDURE s.p",
                    &["CREATE PROCEDURE p()\n-- a comment\nSELECT 1"],
                ),
                object("EVENT s.e", &["DROP EVENT e", "CREATE EVENT e"]),
            ],
            left_out: vec!["s.q".into()],
            columns: BTreeMap::from([(
                "user".to_string(),
                vec!["Host".to_string(), "Password".to_string()],
            )]),
            ..Objects::default()
        };
        let bytes = objects.write(&place).unwrap();
        assert_eq!(bytes, size(&place));
        let names = std::fs::read_to_string(objects.left_out_file(&place).unwrap()).unwrap();
        assert_eq!(names, "s.q\n");
        let script = place.join(AFTER);
        for (line, name) in [
            (1, None),
            (3, Some("PROCEDURE s.p")),
            (5, Some("PROCEDURE s.p")),
            (8, Some("EVENT s.e")),
            (99, Some("EVENT s.e")),
        ] {
            assert_eq!(object_at(&script, line).as_deref(), name, "{line}");
        }
        let column = |table: &str, name: &str| (table.to_string(), name.to_string());
        let mut found = BTreeSet::from([column("user", "Host"), column("db", "Password")]);
        let e = check_target(&place, &found).unwrap_err().to_string();
        assert!(e.contains("the source has mysql.user.Password"), "{e}");
        found.insert(column("user", "Password"));
        check_target(&place, &found).unwrap();
        std::fs::remove_dir_all(&place).unwrap();
        assert_eq!(size(&place), 0);
        assert!(check_target(&place, &found).is_err());
    }

    #[test]
    fn a_change_between_two_readings_is_found() {
        let mut first = Objects {
            before: vec![object("SEQUENCE s.q", &["next 1"])],
            after: vec![object("VIEW s.v", &["a"]), object("EVENT s.e", &["b"])],
            ..Objects::default()
        };
        let mut second = first.clone();
        second.before[0] = object("SEQUENCE s.q", &["next 9"]);
        second.after.reverse();
        first.check_same(&second, "db1:3306").unwrap();
        let account = |text| object("TABLE mysql.db", &[text]);
        first.of_server = vec![account("a"), object("TABLE mysql.index_stats", &["a"])];
        second.of_server = vec![account("a"), object("TABLE mysql.index_stats", &["b"])];
        first.check_same(&second, "db1:3306").unwrap();
        let mut granted = second.clone();
        granted.of_server[0] = account("b");
        let e = first.check_same(&granted, "db1:3306").unwrap_err();
        let text = e.to_string();
        assert!(
            text.contains("the rows of mysql.db were changed on source db1:3306"),
            "{text}"
        );
        for (change, named) in [
            (object("VIEW s.v", &["c"]), "VIEW s.v"),
            (object("TRIGGER s.t", &["d"]), "TRIGGER s.t"),
        ] {
            let mut changed = second.clone();
            changed.after.retain(|o| o.name != change.name);
            changed.after.push(change);
            let e = first
                .check_same(&changed, "db1:3306")
                .unwrap_err()
                .to_string();
            assert!(e.contains(named) && e.contains("source db1:3306"), "{e}");
        }
        let mut without = second.clone();
        without.after.pop();
        assert!(first.check_same(&without, "x").is_err());
    }
}

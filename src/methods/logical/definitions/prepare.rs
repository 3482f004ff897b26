//! What a target needs before a dump is loaded into it, because neither a dump nor its client sees to it: schemas with the options
//! of the source's, the sequences that tables use before the dump makes them, and no object whose name would stop the load.

use super::kept::Kept;
use crate::contents::name_conflicts;
use crate::error::Result;
use crate::mysql::catalogue::{self, Definition, Kind, Object};
use crate::mysql::{Server, control, quote_name, quote_text};
use mysql::Conn;

/// The property of a schema that is set when all is loaded.
pub(super) const READ_ONLY: &str = "read only";

/// The options of a schema as ALTER DATABASE has them.
pub(in crate::methods) fn options(of: &Definition) -> String {
    let get = |name: &str| of.get(name).map(String::as_str);
    let mut out = String::new();
    for (option, property) in [("CHARACTER SET", "character set"), ("COLLATE", "collation")] {
        if let Some(value) = get(property).filter(|v| !v.is_empty()) {
            out.push_str(&format!(" {option} {value}"));
        }
    }
    if let Some(comment) = get("comment") {
        out.push_str(&format!(" COMMENT {}", quote_text(comment)));
    }
    if let Some(encryption) = get("default encryption") {
        let value = if encryption == "YES" { "Y" } else { "N" };
        out.push_str(&format!(" ENCRYPTION '{value}'"));
    }
    out
}

fn schemas(kept: &Kept) -> impl Iterator<Item = (&Object, &Definition)> {
    let all = kept.equal.objects.iter();
    all.filter(|(o, _)| o.kind == Kind::Schema)
}

fn is_read_only(of: &Definition) -> bool {
    of.get(READ_ONLY).is_some_and(|v| v == "YES")
}

/// Prepares the server. Its session writes no binary log.
pub(crate) fn prepare(conn: &mut Conn, server: Server, kept: &Kept) -> Result<()> {
    let present = catalogue::schemas(conn, server)?;
    let drops = name_conflicts::drop_statements(conn, server, &kept.equal, &kept.changed)?;
    // ALTER DATABASE waits for each client that uses a table of the schema (MySQL), so it is for what differs only.
    let changed = kept.changed.iter().filter(|o| o.kind == Kind::Schema);
    for o in schemas(kept).map(|(o, _)| o).chain(changed) {
        if present.get(&o.schema).is_some_and(is_read_only) {
            set_read_only(conn, o, 0)?;
        }
    }
    control::execute(conn, "SET SESSION foreign_key_checks = 0")?;
    for statement in drops {
        log::info!("a name on the target conflicts with the load: {statement}");
        control::execute(conn, &statement)?;
    }
    for (o, of) in schemas(kept) {
        let word = match present.get(&o.schema) {
            Some(here) if options(here) == options(of) => continue,
            Some(_) => "ALTER",
            None => "CREATE",
        };
        let statement = format!("{word} DATABASE {}{}", quote_name(&o.schema), options(of));
        control::execute(conn, &statement).map_err(|e| e.context(o))?;
    }
    // The rows of a table with DEFAULT NEXTVAL(s) need s, which a dump may make later: in another schema.
    for (o, of) in kept
        .equal
        .objects
        .iter()
        .filter(|(o, _)| o.kind == Kind::Sequence)
    {
        let prefix = format!("CREATE SEQUENCE {}", quote_name(&o.name));
        let create = of.get("Create Table").and_then(|c| c.strip_prefix(&prefix));
        if let Some(options) = create {
            let statement = format!("CREATE OR REPLACE SEQUENCE {}{options}", o.quoted());
            control::execute(conn, &statement).map_err(|e| e.context(o))?;
        }
    }
    Ok(())
}

/// Makes those schemas read-only that are so on the source (MySQL 8.0.22 and later).
pub(crate) fn make_read_only(conn: &mut Conn, kept: &Kept) -> Result<()> {
    for (o, _) in schemas(kept).filter(|(_, of)| is_read_only(of)) {
        set_read_only(conn, o, 1)?;
    }
    Ok(())
}

fn set_read_only(conn: &mut Conn, schema: &Object, value: u8) -> Result<()> {
    let name = quote_name(&schema.schema);
    control::execute(conn, &format!("ALTER DATABASE {name} READ ONLY = {value}"))
}

//! What some versions of mydumper cannot copy, and what only a search of the rows shows: found on the source before anything is
//! dumped, and refused by name. What no version copies is in [`crate::contents`].

use super::version::{self, ToolVersion};
use crate::contents::physical_methods;
use crate::contents::row_mode;
use crate::error::{Error, Result};
use crate::methods::logical;
use crate::methods::logical::target_server::QUERY_TIMEOUT;
use crate::mysql::{Endpoint, Flavour, Server, connect, query};
use crate::seed::stage::Context;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

/// Something that a source may have and mydumper copies wrong.
struct Rule {
    /// Which versions do so.
    by: Range<ToolVersion>,
    /// On servers of which family; `None` = both.
    only: Option<Flavour>,
    /// Such as `columns with a backtick in their names`.
    what: &'static str,
    /// What would become of it.
    outcome: &'static str,
    /// The names of such objects, the first one or all.
    query: &'static str,
}

const OWN: &str = "('information_schema','performance_schema','mysql','sys')";

#[rustfmt::skip]
static RULES: [Rule; 6] = [
    Rule {
        by: version::WITHOUT_SECTION, only: None,
        what: "names with a dot, a slash or a backtick, or with -schema in them",
        outcome: "uses names of tables for names of files",
        query: "SELECT n FROM (SELECT SCHEMA_NAME n, SCHEMA_NAME p FROM information_schema.SCHEMATA UNION ALL \
                SELECT CONCAT(TABLE_SCHEMA, '.', TABLE_NAME), TABLE_NAME FROM information_schema.TABLES \
                WHERE TABLE_TYPE <> 'VIEW' AND TABLE_SCHEMA NOT IN @own) o \
                WHERE p LIKE '%.%' OR p LIKE '%/%' OR p LIKE '%`%' OR p LIKE '%-schema%'",
    },
    Rule {
        by: version::WITHOUT_SECTION, only: None,
        what: "columns with a backtick in their names",
        outcome: "does not quote it",
        query: "SELECT CONCAT(TABLE_SCHEMA, '.', TABLE_NAME, '.', COLUMN_NAME) FROM information_schema.COLUMNS \
                WHERE COLUMN_NAME LIKE '%`%' AND TABLE_SCHEMA NOT IN @own",
    },
    Rule {
        by: version::WITHOUT_SECTION, only: None,
        what: "columns of other character sets than UTF-8 with ENUM or SET members or a DEFAULT that are not ASCII",
        outcome: "writes these in UTF-8 and declares them to be binary, so that they are corrupted",
        query: "SELECT CONCAT(TABLE_SCHEMA, '.', TABLE_NAME, '.', COLUMN_NAME) FROM information_schema.COLUMNS \
                WHERE CHARACTER_SET_NAME NOT LIKE 'utf8%' AND TABLE_SCHEMA NOT IN @own \
                AND (DATA_TYPE IN ('enum', 'set') AND COLUMN_TYPE <> CONVERT(COLUMN_TYPE USING ascii) \
                OR COLUMN_DEFAULT <> CONVERT(COLUMN_DEFAULT USING ascii))",
    },
    // Seen on 1.0.1: it writes a table's definition in the character set of the table.
    Rule {
        by: version::SESSION_SECTION..version::NEVER, only: Some(Flavour::MariaDb),
        what: "columns or tables of other character sets than UTF-8 with members, a DEFAULT or a comment that are not ASCII",
        outcome: "writes these in the character set of the table and declares them to be binary, so that they are corrupted or cannot \
            be loaded",
        query: "SELECT CONCAT(c.TABLE_SCHEMA, '.', c.TABLE_NAME, '.', c.COLUMN_NAME) FROM information_schema.COLUMNS c \
                JOIN information_schema.TABLES t USING (TABLE_SCHEMA, TABLE_NAME) WHERE c.TABLE_SCHEMA NOT IN @own \
                AND t.TABLE_TYPE <> 'VIEW' AND ((c.CHARACTER_SET_NAME REGEXP '^(ucs2|utf16|utf32)' \
                OR c.CHARACTER_SET_NAME <> SUBSTRING_INDEX(t.TABLE_COLLATION, '_', 1) \
                AND NOT (c.CHARACTER_SET_NAME LIKE 'utf8%' AND t.TABLE_COLLATION LIKE 'utf8%')) \
                AND (c.DATA_TYPE IN ('enum', 'set') AND c.COLUMN_TYPE <> CONVERT(c.COLUMN_TYPE USING ascii) \
                OR c.COLUMN_DEFAULT <> CONVERT(c.COLUMN_DEFAULT USING ascii)) OR t.TABLE_COLLATION NOT LIKE 'utf8%' \
                AND (c.COLUMN_COMMENT <> CONVERT(c.COLUMN_COMMENT USING ascii) OR t.TABLE_COMMENT <> CONVERT(t.TABLE_COMMENT USING ascii)))",
    },
    // Seen on 0.20.2 to 1.0.1, and assumed for all that do so: SET NAMES utf16 is error 1231, and the dump ends with exit status 1
    // and without a reason.
    Rule {
        by: version::SESSION_SECTION..version::NEVER, only: None,
        what: "tables with the default character set ucs2, utf16 or utf32",
        outcome: "cannot read their definitions",
        query: "SELECT CONCAT(TABLE_SCHEMA, '.', TABLE_NAME) FROM information_schema.TABLES WHERE TABLE_TYPE NOT IN ('VIEW', 'SYSTEM VIEW') \
                AND TABLE_COLLATION REGEXP '^(ucs2|utf16|utf32)' AND TABLE_SCHEMA NOT IN @own",
    },
    // Those of the server's own schema are copied by the agent.
    Rule {
        by: version::LOCKS_IN_SNAPSHOT..version::NEVER, only: None,
        what: "tables with an engine other than InnoDB",
        outcome: "locks them in the sessions that hold its snapshot, which ends the snapshot: rows of InnoDB tables that are written \
                  meanwhile would be in the dump and arrive again by replication",
        query: "SELECT CONCAT(TABLE_SCHEMA, '.', TABLE_NAME) FROM information_schema.TABLES WHERE ENGINE <> 'InnoDB' \
                AND TABLE_TYPE NOT IN ('SEQUENCE', 'SYSTEM VIEW') AND TABLE_SCHEMA NOT IN @own",
    },
];

/// That mydumper of this version can dump all that the source has. Returns whether mydumper, which takes the product from version and
/// version comment, would not recognise the source as MySQL. May be called again.
pub(super) fn check(version: ToolVersion, source: &Endpoint) -> Result<bool> {
    let name = source.name();
    let mut conn = connect(source, QUERY_TIMEOUT)?;
    let server = Server::ask(&mut conn)?;
    let counts = |r: &&Rule| r.by.contains(&version) && r.only.is_none_or(|f| f == server.flavour);
    for rule in RULES.iter().filter(counts) {
        let found: Vec<String> = query::rows(&mut conn, rule.query.replace("@own", OWN))
            .map_err(|e| e.context(&name))?;
        if let Some(first) = found.first() {
            return Err(Error::permanent(format!(
                "source {name} has {}, such as {first} ({} in all), and mydumper {version} {}: use the seed method Mysqldump or {}",
                rule.what,
                found.len(),
                rule.outcome,
                physical_methods(server.flavour)
            )));
        }
    }
    let product = "SELECT LOWER(CONCAT(@@version, ' ', @@version_comment))";
    let product: Option<String> = query::first(&mut conn, product).map_err(|e| e.context(&name))?;
    let product = product.unwrap_or_default();
    let known = ["mysql", "percona", "source"];
    Ok(server.flavour == Flavour::MySql && !known.iter().any(|p| product.contains(p)))
}

/// While rows are loaded a value that a column cannot take is an error, without exception: that the source has none.
pub(super) fn refuse_exceptions(
    version: ToolVersion,
    ctx: &Context,
    source: &Endpoint,
    flavour: Flavour,
) -> Result<()> {
    let progress = Arc::clone(ctx.progress());
    let found = logical::scan(ctx, source, move |conn, _| {
        row_mode::exceptions(conn, &BTreeSet::new(), || progress.touch())
    })?;
    found.refuse_errors(source, flavour)?;
    // Before 0.16.7 tables are created without strict mode.
    if version >= version::SESSION_SECTION
        && let Some(table) = found.equal_members.first()
    {
        return Err(Error::permanent(format!(
            "table {table} on source {} has an ENUM or SET with two members that are equal by its collation, which cannot be created \
             in strict mode: use the seed method Mysqldump or {}",
            source.name(),
            physical_methods(flavour)
        )));
    }
    Ok(())
}

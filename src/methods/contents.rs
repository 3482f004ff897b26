//! What servers hold that not every method can copy: one table of the kinds of objects, which methods copy them, and what is done
//! about them. A row that forbids a method is found at Prepare of the source, at the beginning of Backup and by `seed` before
//! anything is started: until then nothing of the target has changed.

use super::children::{self, Reference};
use super::server_state::{self, SourceState, TargetState, XA_PRIVILEGE};
use crate::error::{Error, Result};
use crate::mysql::catalogue::{self, Catalogue, Definition, Kind, Object};
use crate::mysql::{
    Flavour, Server, Version, failure, grants, info, move_back, profile, quote_name,
};
use crate::seed::types::Method;
use mysql::Conn;
use mysql::prelude::Queryable;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// How many objects of a kind a message names.
const NAMED: usize = 10;

/// The privilege for tables in directories.
const FILE: &str = "FILE";
/// The privilege for `mysql.load-without-redo-log`.
const REDO: &str = "INNODB_REDO_LOG_ENABLE";

const FILTERS: &str = "statements and rows of schemas that they leave out are not replicated: such schemas of the new replica become old, or \
                       its replication stops; remove them from the source's my.cnf and use filters of the replica";
const TEMPORARY: &str = "statements on them that are replicated later find no such table on the new replica, and its replication stops; set \
                         binlog_format = ROW on the source";
const NAMES_FOR_FILES: &str = "mydumper before 0.16.7 cannot copy these, and its Backup refuses them; the seed method Mysqldump and \
                               physical ones can";

const LOCKED_IN_SNAPSHOT: &str = "mydumper 0.13 and later cannot copy these together with InnoDB tables, and its Backup refuses them; \
                                  mydumper 0.10.1, the seed method Mysqldump and physical ones can";

/// What a method makes of objects of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Copies them.
    Exact,
    /// Copies them, but not exactly: how. `--method auto` prefers another method.
    Inexact(&'static str),
    /// Copies them, or cannot know: what the operator has to know. It is no reason for another method.
    Warning(&'static str),
    /// Cannot copy them: why, and what can be done. The seed is refused.
    Refused(&'static str),
}

/// What is known of a source.
pub struct Source {
    /// Its definitions.
    pub catalogue: Catalogue,
    /// Views that refer to what is not there.
    invalid_views: Vec<String>,
    /// Directories in the data directory that the server lists as schemas, such as `lost+found`.
    pub directories: Vec<String>,
    /// Spatial reference systems (MySQL 8.0 and later): number and definition.
    systems: BTreeMap<u32, String>,
    /// Functions of shared libraries (CREATE FUNCTION ... SONAME).
    functions: BTreeSet<String>,
    /// The key of encrypted tables that name none (MariaDB).
    default_key: u32,
    /// What it has besides its objects.
    state: SourceState,
}

/// What is known of a target.
pub struct Target {
    /// Whether it has keys to encrypt tables with.
    keys: bool,
    /// Those of the source's keys that it lacks, by ENCRYPTION_KEY_ID (MariaDB).
    lacks_keys: BTreeSet<u32>,
    /// The directories in which InnoDB creates tables; `None` if in any (MariaDB, and MySQL before 8.0.21).
    known: Option<Vec<PathBuf>>,
    /// Whether MyISAM puts files elsewhere.
    symlinks: bool,
    /// Whether the agent's account has the privilege FILE.
    file: bool,
    /// What the agent's account still uses when the load has brought the source's accounts.
    used: BTreeSet<String>,
    systems: BTreeMap<u32, String>,
    functions: BTreeSet<String>,
    references: Vec<Reference>,
    state: TargetState,
}

/// A kind of object.
struct Row {
    /// For messages, in the plural.
    what: &'static str,
    /// The objects of this kind that a source has and that matter for this target, if it is known.
    find: fn(&Source, Option<&Target>) -> Vec<String>,
    /// What a method makes of them.
    outcome: fn(Method) -> Outcome,
}

/// Found objects of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The objects with what they are.
    pub text: String,
    /// What the method makes of them.
    pub outcome: Outcome,
}

impl Finding {
    /// For a message: objects, reason and remedy.
    pub fn message(&self) -> String {
        match self.outcome {
            Outcome::Exact => self.text.clone(),
            Outcome::Inexact(how) | Outcome::Warning(how) | Outcome::Refused(how) => {
                format!("{}: {how}", self.text)
            }
        }
    }
}

/// The methods that copy files, for messages.
pub fn physical_methods(flavour: Flavour) -> &'static str {
    match flavour {
        Flavour::MariaDb => "Xtrabackup",
        Flavour::MySql => "Xtrabackup or ClonePlugin",
    }
}

fn logical(method: Method) -> bool {
    matches!(method, Method::Mysqldump | Method::Mydumper)
}

/// By their own names: the server lists them as `#mysql50#name`.
fn directories(source: &Source) -> Vec<String> {
    let own = |n: &String| n.strip_prefix("#mysql50#").unwrap_or(n).to_string();
    source.directories.iter().map(own).collect()
}

/// The table.
static ROWS: &[Row] = &[
    Row {
        what: "FLOAT columns",
        find: |s, _| columns(s, |_, declared| declared.starts_with("float")),
        outcome: |m| {
            if logical(m) {
                Outcome::Inexact(
                    "a dump holds six digits of a value, so rows may differ in the seventh, and replication of tables without a \
                     primary key may stop; a physical method copies them exactly",
                )
            } else {
                Outcome::Exact
            }
        },
    },
    Row {
        what: "invalid views",
        find: |s, _| s.invalid_views.clone(),
        outcome: |m| {
            if logical(m) {
                Outcome::Refused(
                    "the dump tools stop at a view that refers to something that is not there; drop or repair it, or use a \
                     physical method",
                )
            } else {
                Outcome::Exact
            }
        },
    },
    Row {
        what: "tables with transaction-precise system versioning",
        find: |s, _| {
            columns(s, |_, declared| {
                declared.starts_with("bigint")
                    && declared.contains(" generated always as row start")
            })
        },
        outcome: |m| {
            if logical(m) {
                Outcome::Refused(
                    "the dump tools cannot dump their history; use Xtrabackup, or versioning by timestamps",
                )
            } else {
                Outcome::Exact
            }
        },
    },
    Row {
        what: "encrypted tables",
        find: |s, target| match target {
            Some(t) if !t.keys => encrypted(s),
            _ => Vec::new(),
        },
        outcome: |m| {
            if logical(m) {
                Outcome::Refused(
                    "the target has no keys to create them with; set up its keyring (MySQL) or an encryption plugin (MariaDB), \
                     or decrypt the tables on the source (ALTER TABLE ... ENCRYPTION='N', on MariaDB ENCRYPTED=NO)",
                )
            } else {
                Outcome::Exact // the next row
            }
        },
    },
    Row {
        what: "encrypted tables",
        find: |s, _| encrypted(s),
        outcome: |m| {
            if logical(m) {
                Outcome::Exact
            } else {
                Outcome::Refused(
                    "the keys of one host are not those of another; decrypt the tables on the source (ALTER TABLE ... ENCRYPTION='N', \
                     on MariaDB ENCRYPTED=NO), or use the method Mysqldump with a target that has keys of its own",
                )
            }
        },
    },
    Row {
        what: "tables encrypted with keys that the target lacks",
        find: |s, target| match target {
            Some(t) if t.keys => {
                let lacks = |(name, key): (String, u32)| {
                    let lacks = t.lacks_keys.contains(&key);
                    lacks.then(|| format!("{name} (key {key})"))
                };
                keys_of_tables(s).into_iter().filter_map(lacks).collect()
            }
            _ => Vec::new(),
        },
        outcome: |m| {
            if logical(m) {
                Outcome::Refused(
                    "add the keys to those of the target's encryption plugin and restart it, or ALTER TABLE ... ENCRYPTION_KEY_ID on \
                     the source to one that both have",
                )
            } else {
                Outcome::Exact // the row of encrypted tables
            }
        },
    },
    Row {
        what: "schemas with default encryption",
        find: |s, target| match target {
            Some(t) if !t.keys => encrypted_schemas(s),
            _ => Vec::new(),
        },
        outcome: |_| {
            Outcome::Inexact(
                "the target has no keys, so its replication would stop at the first table that is created in them (error 3185); set \
                 up its keyring, or ALTER DATABASE ... ENCRYPTION 'N' on the source",
            )
        },
    },
    Row {
        what: "tables with DATA DIRECTORY or INDEX DIRECTORY",
        find: |s, target| match target {
            Some(t) if !t.file => placed(s, |_, _| true),
            _ => Vec::new(),
        },
        outcome: |m| {
            if logical(m) {
                Outcome::Refused(concat!(
                    "the agent's account needs the privilege FILE on the target to create them; grant it there, and on the source for \
                     later seeds, or, on the source, ",
                    move_back!()
                ))
            } else {
                Outcome::Exact // the row of the physical methods
            }
        },
    },
    Row {
        what: "tables with DATA DIRECTORY",
        find: |s, target| match target.and_then(|t| t.known.as_ref()) {
            Some(known) => placed(s, |engine, dir| {
                engine == "innodb" && !known.iter().any(|k| dir.starts_with(k))
            }),
            None => Vec::new(),
        },
        outcome: |m| {
            if logical(m) {
                Outcome::Refused(concat!(
                    "the target creates tables in directories only that it knows (error 3121); name the directory in \
                     innodb_directories in its my.cnf and restart it, or, on the source, ",
                    move_back!()
                ))
            } else {
                Outcome::Exact
            }
        },
    },
    Row {
        what: "MyISAM tables with DATA DIRECTORY or INDEX DIRECTORY",
        find: |s, target| match target {
            Some(t) if !t.symlinks => placed(s, |engine, _| engine == "myisam"),
            _ => Vec::new(),
        },
        outcome: |m| {
            if logical(m) {
                Outcome::Inexact(
                    "the target makes them in its data directory, because its have_symlink is not YES",
                )
            } else {
                Outcome::Exact
            }
        },
    },
    Row {
        what: "tables with DATA DIRECTORY or INDEX DIRECTORY",
        find: |s, _| placed(s, |_, _| true),
        outcome: |m| {
            if logical(m) {
                Outcome::Exact
            } else {
                Outcome::Refused(concat!(
                    "a physical copy is of the data directory only; use the method Mysqldump, or, on the source, ",
                    move_back!()
                ))
            }
        },
    },
    Row {
        what: "spatial reference systems",
        find: |s, target| {
            let Some(target) = target else {
                return Vec::new();
            };
            let differs =
                |(id, definition): &(&u32, &String)| target.systems.get(*id) != Some(*definition);
            let own = s.systems.iter().filter(differs);
            own.map(|(id, _)| id.to_string()).collect()
        },
        outcome: |m| {
            if logical(m) {
                Outcome::Refused(
                    "a dump does not carry them, and the target lacks them or defines them otherwise; create them there with \
                     CREATE SPATIAL REFERENCE SYSTEM, or use a physical method",
                )
            } else {
                Outcome::Exact
            }
        },
    },
    Row {
        what: "functions of shared libraries",
        find: |s, target| {
            let missing = target.map(|t| s.functions.difference(&t.functions).cloned());
            missing.map(Iterator::collect).unwrap_or_default()
        },
        outcome: |m| {
            if logical(m) {
                Outcome::Refused(
                    "a dump has their names only, and views or triggers that use them cannot be loaded; install them on the \
                     target (CREATE FUNCTION ... SONAME)",
                )
            } else {
                Outcome::Exact
            }
        },
    },
    Row {
        what: "directories in the data directory that are not schemas",
        find: |s, _| match s.catalogue.server.flavour {
            Flavour::MySql => directories(s),
            Flavour::MariaDb => Vec::new(), // left out by --ignore-database
        },
        outcome: |m| {
            if m == Method::Mysqldump {
                Outcome::Refused(
                    "mysqldump stops at them; set ignore_db_dir for each in the source's my.cnf and restart it, or remove them",
                )
            } else {
                Outcome::Exact
            }
        },
    },
    Row {
        what: "directories in the data directory that are not schemas",
        find: |s, _| directories(s),
        outcome: |m| {
            if m == Method::Mydumper {
                Outcome::Refused(
                    "mydumper takes them for schemas; set ignore_db_dirs (MySQL: ignore_db_dir for each) in the source's my.cnf and \
                     restart it, or remove them",
                )
            } else {
                Outcome::Exact
            }
        },
    },
    Row {
        what: "tables WITH SYSTEM VERSIONING",
        find: |s, _| {
            let versioned = |create: &str| options_of(create).contains(" with system versioning");
            let columns = columns(s, |_, d| d.contains(" generated always as row start"));
            let of_columns = columns
                .iter()
                .filter_map(|c| Some(c.rsplit_once('.')?.0.to_string()));
            let mut all = tables(s, versioned);
            all.extend(of_columns);
            all.sort();
            all.dedup();
            all
        },
        outcome: |m| {
            if m == Method::Mydumper {
                Outcome::Refused(
                    "mydumper leaves their old rows out; use the seed method Mysqldump or Xtrabackup",
                )
            } else {
                Outcome::Exact
            }
        },
    },
    Row {
        what: "columns of the types UUID, INET6 and INET4",
        find: |s, _| {
            columns(s, |_, declared| {
                let kind = declared.split([' ', '(']).next().unwrap_or_default();
                matches!(kind, "uuid" | "inet6" | "inet4")
            })
        },
        outcome: |m| {
            if m == Method::Mydumper {
                Outcome::Refused(
                    "a dump by mydumper declares their text to be binary, and they would become NULL; use the seed method \
                     Mysqldump or Xtrabackup",
                )
            } else {
                Outcome::Exact
            }
        },
    },
    Row {
        what: "INVISIBLE columns",
        find: |s, _| {
            columns(s, |_, declared| {
                declared.contains("invisible")
                    && !declared.contains("generated always as")
                    && !declared.contains(" as (")
            })
        },
        outcome: |m| {
            if m == Method::Mydumper {
                Outcome::Refused(
                    "mydumper leaves their values out, and those of generated invisible primary keys; use the seed method \
                     Mysqldump or a physical one",
                )
            } else {
                Outcome::Exact
            }
        },
    },
    Row {
        what: "MEMORY tables",
        find: |s, _| tables(s, |create| options_of(create).contains("engine=memory")),
        outcome: |m| {
            if m == Method::Xtrabackup {
                Outcome::Inexact(
                    "a physical copy has their definitions, not their rows, as after a restart",
                )
            } else {
                Outcome::Exact
            }
        },
    },
    Row {
        what: "prepared XA transactions",
        find: |s, _| s.state.prepared.xids.clone(),
        outcome: |m| {
            refused_by_logical(
                m,
                "a dump does not hold them, and replication would stop at their XA COMMIT (error 1397); XA COMMIT or XA ROLLBACK them on \
                 the source, or use a physical method",
            )
        },
    },
    Row {
        what: "a privilege that the agent's account lacks on the source,",
        find: |s, _| {
            if s.state.prepared.hidden {
                vec![XA_PRIVILEGE.to_string()]
            } else {
                Vec::new()
            }
        },
        outcome: |m| {
            if logical(m) {
                Outcome::Warning(
                    "prepared XA transactions are not seen without it; a dump does not hold them, and replication would stop at their XA \
                     COMMIT",
                )
            } else {
                Outcome::Exact
            }
        },
    },
    Row {
        what: "prepared XA transactions on the target",
        find: |_, target| {
            target
                .map(|t| t.state.prepared.xids.clone())
                .unwrap_or_default()
        },
        outcome: |m| {
            refused_by_logical(
                m,
                "their locks would stop the load; XA ROLLBACK or XA COMMIT them there, or use a physical method",
            )
        },
    },
    Row {
        what: "objects in schema sys",
        find: |s, target| {
            s.state
                .foreign(s.catalogue.server, "sys", target.map(|t| &t.state))
        },
        outcome: |m| {
            refused_by_logical(
                m,
                "the dump tools leave this schema out, and replication would stop at the next change of them; move them to a schema of \
                 their own, or use a physical method",
            )
        },
    },
    Row {
        what: "objects in schema mysql",
        find: |s, target| {
            s.state
                .foreign(s.catalogue.server, "mysql", target.map(|t| &t.state))
        },
        outcome: |m| {
            by_mydumper(
                m,
                Outcome::Refused(
                    "by Mydumper only the accounts and settings of this schema are copied, and replication would stop at the next change \
                     of them; move them to a schema of their own, or use the seed method Mysqldump or a physical one",
                ),
            )
        },
    },
    Row {
        what: "plugins that the target lacks",
        find: |s, target| {
            let flavour = s.catalogue.server.flavour;
            target
                .map(|t| s.state.lacking_plugins(&t.state, flavour))
                .unwrap_or_default()
        },
        outcome: |m| {
            refused_by_logical(
                m,
                "without them these accounts cannot log in, tables cannot be created, and replication would stop at statements on them; \
                 install them on the target",
            )
        },
    },
    Row {
        what: "functions of components that the target lacks",
        find: |s, target| {
            target
                .map(|t| s.state.lacking_functions(&t.state))
                .unwrap_or_default()
        },
        outcome: |m| {
            refused_by_logical(
                m,
                "without them what uses them cannot be created, or stops replication; install the components on the target",
            )
        },
    },
    Row {
        what: "plugins and components that the load registers on the target, and that are not active there before it is restarted or they are \
               installed",
        find: |s, target| {
            let flavour = s.catalogue.server.flavour;
            target
                .map(|t| s.state.inactive(&t.state, flavour))
                .unwrap_or_default()
        },
        outcome: |m| {
            if logical(m) {
                Outcome::Warning(
                    "install them there, or remove them from the source if they are not used",
                )
            } else {
                Outcome::Exact
            }
        },
    },
    Row {
        what: "schemas with names of system schemas",
        find: |s, _| s.state.like_system.clone(),
        outcome: |m| {
            refused_by_logical(
                m,
                "the dump tools take them for the server's own, whatever their case, and leave them out; move their tables to schemas with \
                 other names, or use a physical method",
            )
        },
    },
    Row {
        what: "MERGE tables",
        find: |s, target| match target {
            Some(t) if !t.state.merge => {
                tables(s, |create| options_of(create).contains("engine=mrg_myisam"))
            }
            _ => Vec::new(),
        },
        outcome: |m| {
            refused_by_logical(
                m,
                "the agent's account needs the privileges UPDATE and DELETE on the target to create them; GRANT UPDATE, DELETE ON *.* to \
                 it there, and on the source for later seeds",
            )
        },
    },
    Row {
        what: "tables that only the target has, with foreign keys to columns that are others on the source:",
        find: |s, target| {
            target
                .map(|t| children::in_the_way(&t.references, &s.catalogue))
                .unwrap_or_default()
        },
        outcome: |m| {
            refused_by_logical(
                m,
                "the referenced tables could not be created (errors 3780 and 3734); drop these tables or their foreign keys on the target, or \
                 use a physical method",
            )
        },
    },
    Row {
        what: "histograms of columns",
        find: |s, _| s.state.histograms.clone(),
        outcome: |m| {
            if logical(m) {
                Outcome::Inexact(
                    "a dump does not carry them; ANALYZE TABLE ... UPDATE HISTOGRAM on the target makes them",
                )
            } else {
                Outcome::Exact
            }
        },
    },
    Row {
        what: "resource groups that the target lacks",
        find: |s, target| {
            target
                .map(|t| s.state.lacking_groups(&t.state))
                .unwrap_or_default()
        },
        outcome: |m| {
            if logical(m) {
                Outcome::Inexact(
                    "a dump does not carry them; create them on the target (CREATE RESOURCE GROUP)",
                )
            } else {
                Outcome::Exact
            }
        },
    },
    Row {
        what: "filters of the binary log",
        find: |s, _| s.state.filters.clone(),
        outcome: |_| Outcome::Warning(FILTERS),
    },
    Row {
        what: "open temporary tables with binlog_format = STATEMENT:",
        find: |s, _| s.state.temporary.clone(),
        outcome: |_| Outcome::Warning(TEMPORARY),
    },
    Row {
        what: "schemas with a quote or a backtick in their names, or tables with a quote in their names:",
        find: |s, _| names(s, |n| n.contains(['\'', '`']), |n| n.contains('\'')),
        outcome: |m| {
            by_mydumper(
                m,
                Outcome::Refused(
                    "mydumper does not quote these; use the seed method Mysqldump or a physical one",
                ),
            )
        },
    },
    Row {
        what: "schemas whose names are not ASCII:",
        find: |s, _| match s.catalogue.server.flavour {
            Flavour::MySql => names(s, |n| !n.is_ascii(), |_| false),
            Flavour::MariaDb => Vec::new(),
        },
        outcome: |m| {
            by_mydumper(
                m,
                Outcome::Refused(
                    "mydumper cannot select these; use the seed method Mysqldump or a physical one",
                ),
            )
        },
    },
    Row {
        what: "names with a dot, a slash or a backtick, or with -schema in them:",
        find: |s, _| {
            let taken_apart = |n: &str| n.contains(['.', '/', '`']) || n.contains("-schema");
            names(s, taken_apart, taken_apart)
        },
        outcome: |m| by_mydumper(m, Outcome::Inexact(NAMES_FOR_FILES)),
    },
    Row {
        what: "tables with an engine other than InnoDB:",
        find: |s, _| {
            tables(s, |create| {
                !matches!(engine_of(create).as_str(), "innodb" | "")
            })
        },
        outcome: |m| by_mydumper(m, Outcome::Warning(LOCKED_IN_SNAPSHOT)),
    },
    Row {
        what: "columns with a backtick in their names:",
        find: |s, _| columns(s, |name, _| name.contains('`')),
        outcome: |m| by_mydumper(m, Outcome::Inexact(NAMES_FOR_FILES)),
    },
];

fn refused_by_logical(m: Method, why: &'static str) -> Outcome {
    if logical(m) {
        Outcome::Refused(why)
    } else {
        Outcome::Exact
    }
}

/// What mydumper does with names; the versions that use names for files are told apart when its Backup begins.
fn by_mydumper(m: Method, outcome: Outcome) -> Outcome {
    if m == Method::Mydumper {
        outcome
    } else {
        Outcome::Exact
    }
}

/// The names of schemas, and of tables and sequences with their schemas, that are as `is` says.
fn names(
    source: &Source,
    schema: impl Fn(&str) -> bool,
    table: impl Fn(&str) -> bool,
) -> Vec<String> {
    let mut out = Vec::new();
    for o in source.catalogue.objects.keys() {
        match o.kind {
            Kind::Schema if schema(&o.schema) => out.push(o.schema.clone()),
            Kind::Table | Kind::Sequence if table(&o.name) => {
                out.push(format!("{}.{}", o.schema, o.name));
            }
            _ => {}
        }
    }
    out
}

/// The last lines of SHOW CREATE TABLE, in lower case: the table's options and its partitions. Of texts only those about encryption.
fn options_of(create: &str) -> String {
    let at = create.rfind("\n) ").unwrap_or(0);
    without_texts(&create[at..].to_ascii_lowercase(), |option| {
        option.starts_with("encrypt")
    })
}

/// SQL without its texts in `'`, but those of options that are `kept`, by their names in lower case.
fn without_texts(sql: &str, kept: impl Fn(&str) -> bool) -> String {
    let mut out = String::new();
    let mut rest = sql;
    while let Some(at) = rest.find('\'') {
        let (before, text) = rest.split_at(at);
        out.push_str(before);
        let Some((value, after)) = value_of(text) else {
            break;
        };
        let option = before.trim_end_matches([' ', '=']);
        let option = option
            .rsplit([' ', ',', '\n', '('])
            .next()
            .unwrap_or_default();
        if kept(option.trim_matches('`')) {
            out.push_str(&value);
        }
        rest = after;
    }
    if !rest.starts_with('\'') {
        out.push_str(rest);
    }
    out
}

/// Names and declarations of the columns in a SHOW CREATE TABLE; the declarations in lower case.
pub fn columns_of(create: &str) -> Vec<(String, String)> {
    let column = |line: &str| {
        let rest = line.strip_prefix("  `")?;
        // A backtick in a name is doubled.
        let end = rest.replace("``", "\u{1}\u{1}").find('`')?;
        let declared = rest.get(end + 1..)?.trim().to_ascii_lowercase();
        Some((rest[..end].replace("``", "`"), declared))
    };
    create.lines().filter_map(column).collect()
}

/// The value of an option in SHOW CREATE TABLE that begins with `'`, and how the text goes on.
fn value_of(text: &str) -> Option<(String, &str)> {
    let mut out = String::new();
    let mut rest = text.strip_prefix('\'')?.char_indices().peekable();
    while let Some((at, c)) = rest.next() {
        match c {
            '\'' if rest.peek().is_some_and(|(_, c)| *c == '\'') => {
                rest.next();
                out.push('\'');
            }
            '\'' => return Some((out, &text[at + 2..])),
            '\\' => out.extend(rest.next().map(|(_, c)| c)),
            c => out.push(c),
        }
    }
    None
}

/// The directories of a table and its partitions (DATA DIRECTORY, INDEX DIRECTORY).
fn directories_of(create: &str) -> BTreeSet<PathBuf> {
    let mut out = BTreeSet::new();
    let mut rest = &create[create.rfind("\n) ").unwrap_or(0)..];
    while let Some(at) = rest.find([' ', '\'']) {
        if rest[at..].starts_with('\'') {
            // Another option's text.
            let Some((_, after)) = value_of(&rest[at..]) else {
                break;
            };
            rest = after;
            continue;
        }
        rest = &rest[at + 1..];
        for word in ["DATA DIRECTORY", "INDEX DIRECTORY"] {
            let named = rest.get(..word.len());
            if !named.is_some_and(|n| n.eq_ignore_ascii_case(word)) {
                continue;
            }
            let value = rest[word.len()..].trim_start_matches([' ', '=']);
            if let Some((dir, after)) = value_of(value) {
                out.insert(PathBuf::from(dir));
                rest = after;
                break;
            }
        }
    }
    out
}

/// The engine of a SHOW CREATE TABLE, in lower case.
fn engine_of(create: &str) -> String {
    let options = options_of(create);
    let (_, after) = options.split_once("engine=").unwrap_or_default();
    let name = after.split(|c: char| !c.is_alphanumeric() && c != '_');
    name.into_iter().next().unwrap_or_default().to_string()
}

/// `schema.table (directories)` of the tables that have one which is as `is` says of it and the table's engine.
fn placed(source: &Source, is: impl Fn(&str, &Path) -> bool) -> Vec<String> {
    let mut out = Vec::new();
    for (o, create) in base_tables(source) {
        let engine = engine_of(create);
        let dirs = directories_of(create);
        let found: Vec<_> = dirs.iter().filter(|d| is(&engine, d)).collect();
        if !found.is_empty() {
            let found: Vec<_> = found.iter().map(|d| d.display().to_string()).collect();
            out.push(format!("{}.{} ({})", o.schema, o.name, found.join(", ")));
        }
    }
    out
}

fn encrypted(source: &Source) -> Vec<String> {
    tables(source, |create| {
        // MariaDB prints the option as it was written: `encrypted`='yes', ENCRYPTED=YES.
        let options = options_of(create).replace(['`', '\''], "");
        options.contains("encryption=y") || options.contains("encrypted=yes")
    })
}

/// The encrypted tables of a MariaDB server and their ENCRYPTION_KEY_ID.
fn keys_of_tables(source: &Source) -> Vec<(String, u32)> {
    if source.catalogue.server.flavour != Flavour::MariaDb {
        return Vec::new();
    }
    let key = |create: &str| -> Option<u32> {
        let options = options_of(create).replace(['`', '\''], "");
        let (_, after) = options.split_once("encryption_key_id=")?;
        after
            .split(|c: char| !c.is_ascii_digit())
            .next()?
            .parse()
            .ok()
    };
    let names = encrypted(source);
    let tables =
        base_tables(source).map(|(o, create)| (format!("{}.{}", o.schema, o.name), create));
    let of_them = tables.filter(|(name, _)| names.contains(name));
    of_them
        .map(|(name, create)| (name, key(create).unwrap_or(source.default_key)))
        .collect()
}

/// Those of `keys` that the encryption plugin of a MariaDB server does not have: it warns of them (1210).
fn lacking_keys(conn: &mut Conn, keys: &BTreeSet<u32>) -> Result<BTreeSet<u32>> {
    let fail = |e: &mysql::Error| failure("this connection", "", e);
    let mut out = BTreeSet::new();
    for key in keys {
        let set = format!("SET SESSION innodb_default_encryption_key_id = {key}");
        conn.query_drop(set).map_err(|e| fail(&e))?;
        let warnings: Vec<(String, u32, String)> =
            conn.query("SHOW WARNINGS").map_err(|e| fail(&e))?;
        if warnings.iter().any(|(_, code, _)| *code == 1210) {
            out.insert(*key);
        }
    }
    if !keys.is_empty() {
        let back = "SET SESSION innodb_default_encryption_key_id = DEFAULT";
        conn.query_drop(back).map_err(|e| fail(&e))?;
    }
    Ok(out)
}

fn encrypted_schemas(source: &Source) -> Vec<String> {
    let all = source.catalogue.objects.iter();
    let found = all.filter(|(o, of)| {
        o.kind == Kind::Schema && of.get("default encryption").is_some_and(|v| v == "YES")
    });
    found.map(|(o, _)| o.schema.clone()).collect()
}

fn created(definition: &Definition) -> &str {
    definition.get("Create Table").map_or("", String::as_str)
}

fn base_tables(source: &Source) -> impl Iterator<Item = (&Object, &str)> {
    let all = source.catalogue.objects.iter();
    all.filter(|(o, _)| o.kind == Kind::Table)
        .map(|(o, d)| (o, created(d)))
}

/// `schema.table` of the tables whose SHOW CREATE is as `is` says.
fn tables(source: &Source, is: impl Fn(&str) -> bool) -> Vec<String> {
    let found = base_tables(source).filter(|(_, create)| is(create));
    found
        .map(|(o, _)| format!("{}.{}", o.schema, o.name))
        .collect()
}

/// `schema.table.column` of the columns whose name and declaration (in lower case) are as `is` says.
fn columns(source: &Source, is: impl Fn(&str, &str) -> bool) -> Vec<String> {
    let mut out = Vec::new();
    for (o, create) in base_tables(source) {
        for (name, declared) in columns_of(create) {
            if is(&name, &without_texts(&declared, |_| false)) {
                out.push(format!("{}.{}.{name}", o.schema, o.name));
            }
        }
    }
    out
}

fn strings(conn: &mut Conn, query: &str) -> Result<BTreeSet<String>> {
    let all: Vec<String> = conn
        .query(query)
        .map_err(|e| failure("this connection", "", &e))?;
    Ok(all.into_iter().collect())
}

/// `mysql.func`, by name.
fn functions(conn: &mut Conn) -> Result<BTreeSet<String>> {
    strings(conn, "SELECT LOWER(name) FROM mysql.func")
}

fn systems(conn: &mut Conn, server: Server) -> Result<BTreeMap<u32, String>> {
    if server.flavour != Flavour::MySql || server.version < Version(8, 0, 0) {
        return Ok(BTreeMap::new());
    }
    let all: Vec<(u32, String)> = conn
        .query("SELECT SRS_ID, DEFINITION FROM information_schema.ST_SPATIAL_REFERENCE_SYSTEMS")
        .map_err(|e| failure("this connection", "", &e))?;
    Ok(all.into_iter().collect())
}

impl Source {
    /// Asks a source.
    ///
    /// # Errors
    /// If a query fails.
    pub fn ask(conn: &mut Conn, server: Server) -> Result<Self> {
        let catalogue = catalogue::read(conn, server)?;
        let directories = strings(
            conn,
            "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE LEFT(SCHEMA_NAME, 9) = '#mysql50#'",
        )?;
        let default_key = info::global(conn, "innodb_default_encryption_key_id")?;
        Ok(Self {
            state: SourceState::ask(conn, server, &catalogue)?,
            default_key: default_key.and_then(|v| v.parse().ok()).unwrap_or(1),
            invalid_views: invalid_views(conn, &catalogue)?,
            directories: directories.into_iter().collect(),
            systems: systems(conn, server)?,
            functions: functions(conn)?,
            catalogue,
        })
    }
}

impl Source {
    /// The directories in which `target` would create tables of the source, with one such table for each. Tables in `left_out`
    /// (`schema.table`) are not created.
    pub fn places(
        &self,
        target: &Target,
        left_out: &BTreeSet<String>,
    ) -> BTreeMap<PathBuf, String> {
        let mut out = BTreeMap::new();
        for (o, create) in base_tables(self) {
            let name = format!("{}.{}", o.schema, o.name);
            if left_out.contains(&name) || (engine_of(create) == "myisam" && !target.symlinks) {
                continue;
            }
            for dir in directories_of(create) {
                out.entry(dir).or_insert_with(|| name.clone());
            }
        }
        out
    }
}

impl Target {
    /// Asks a target, for a copy of `source`.
    ///
    /// # Errors
    /// If a query fails.
    pub fn ask(conn: &mut Conn, server: Server, source: &Source) -> Result<Self> {
        let keys = keys_of_tables(source);
        let lacks_keys = lacking_keys(conn, &keys.into_iter().map(|(_, key)| key).collect())?;
        let plugins = strings(
            conn,
            "SELECT PLUGIN_NAME FROM information_schema.PLUGINS WHERE PLUGIN_STATUS = 'ACTIVE' \
             AND (PLUGIN_TYPE = 'ENCRYPTION' OR PLUGIN_NAME LIKE 'keyring%')",
        )?;
        let component = if server.flavour == Flavour::MySql && server.version >= Version(8, 0, 24) {
            strings(
                conn,
                "SELECT STATUS_VALUE FROM performance_schema.keyring_component_status \
                 WHERE STATUS_KEY = 'Component_status' AND STATUS_VALUE = 'Active'",
            )?
        } else {
            BTreeSet::new()
        };
        let globals = profile::variables(conn, true)?;
        let value = |name: &str| globals.get(name).map_or("", String::as_str);
        let datadir = Path::new(value("datadir"));
        let known = if server.flavour == Flavour::MySql && server.version >= Version(8, 0, 21) {
            let mut all = vec![datadir.to_path_buf()];
            for name in [
                "innodb_data_home_dir",
                "innodb_undo_directory",
                "innodb_directories",
            ] {
                let dirs = value(name).replace(['"', '\''], "");
                let dirs = dirs.split(';').map(str::trim).filter(|d| !d.is_empty());
                all.extend(dirs.map(|d| datadir.join(d)));
            }
            Some(all)
        } else {
            None
        };
        let (_, held) = grants::held(conn, server)?;
        let mut used = grants::needed_after_accounts(server);
        used.extend(profile::demanded_by_load(server, &globals));
        used.insert(FILE.into());
        if server.flavour == Flavour::MySql {
            used.insert(REDO.into());
        }
        let lacks = grants::missing(server, &used, &held);
        used.retain(|p| !lacks.contains(p));
        Ok(Self {
            keys: !plugins.is_empty() || !component.is_empty(),
            lacks_keys,
            known,
            symlinks: value("have_symlink") == "YES",
            file: used.contains(FILE),
            used,
            systems: systems(conn, server)?,
            functions: functions(conn)?,
            references: children::read(conn, server)?,
            state: TargetState::ask(conn, server, &held)?,
        })
    }
}

/// That the agent's account has on the source, at `conn`, what it has on the target: in the middle of a load the source's accounts come
/// into force, and the load goes on with its rights.
///
/// # Errors
/// Permanent, with the privileges. If a query fails.
pub fn check_rights(
    conn: &mut Conn,
    server: Server,
    target: &Target,
    without_redo_log: bool,
) -> Result<()> {
    let (account, held) = grants::held(conn, server)?;
    let mut used = target.used.clone();
    used.remove(FILE); // the session that creates the tables has it since its login
    if !without_redo_log {
        used.remove(REDO);
    }
    let more = grants::missing(server, &used, &held);
    if more.is_empty() {
        return Ok(());
    }
    Err(Error::permanent(format!(
        "{account} lacks {0} on the source, which it has here: the load brings the source's accounts and goes on with their \
         privileges; on the source, GRANT {0} ON *.* TO {account}",
        more.join(", ")
    )))
}

/// The views whose columns the server cannot show (1356): a dump tool asks for them and stops.
fn invalid_views(conn: &mut Conn, catalogue: &Catalogue) -> Result<Vec<String>> {
    let mut out = Vec::new();
    for object in catalogue.objects.keys().filter(|o| o.kind == Kind::View) {
        let query = format!(
            "SHOW FIELDS FROM {}.{}",
            quote_name(&object.schema),
            quote_name(&object.name)
        );
        // MySQL sends the error after the names of the columns.
        match conn.query::<mysql::Row, _>(query) {
            Err(mysql::Error::MySqlError(e)) if e.code == 1356 => {
                out.push(format!("{}.{}", object.schema, object.name));
            }
            // Dropped, or locked, meanwhile: the tool finds out.
            Ok(_) | Err(mysql::Error::MySqlError(_)) => {}
            Err(e) => return Err(failure("this connection", "", &e)),
        }
    }
    Ok(out)
}

/// What an operator has to know of a source whatever the method is. A source that cannot be asked has nothing to say: its stages say why.
pub fn warnings(settings: &crate::config::Mysql) -> Vec<String> {
    let endpoint = crate::mysql::Endpoint::local(settings);
    let ask = || -> Result<[Vec<String>; 2]> {
        let mut conn = crate::mysql::connect(&endpoint, std::time::Duration::from_secs(20))?;
        let server = Server::ask(&mut conn)?;
        Ok([
            server_state::binlog_filters(&mut conn, server)?,
            server_state::temporary_tables(&mut conn, server)?,
        ])
    };
    let [filters, temporary] = ask().unwrap_or_else(|e| {
        log::warn!("filters of the binary log are not known: {e}");
        Default::default()
    });
    let kinds = [
        ("filters of the binary log", filters, FILTERS),
        (
            "open temporary tables with binlog_format = STATEMENT:",
            temporary,
            TEMPORARY,
        ),
    ];
    let found = kinds.into_iter().filter(|(_, names, _)| !names.is_empty());
    found
        .map(|(what, names, why)| format!("{what} {}: {why}", names.join(", ")))
        .collect()
}

/// What `method` does not copy exactly. Tables in `left_out` (`schema.table`) are not copied at all.
pub fn inspect(
    source: &Source,
    target: Option<&Target>,
    method: Method,
    left_out: &BTreeSet<String>,
) -> Vec<Finding> {
    let mut out = Vec::new();
    for row in ROWS {
        let outcome = (row.outcome)(method);
        if outcome == Outcome::Exact {
            continue;
        }
        let mut names = (row.find)(source, target);
        let dropped = |n: &String| {
            let n = match n.rsplit_once(" (") {
                Some((table, more)) if more.ends_with(')') => table,
                _ => n.as_str(),
            };
            left_out.contains(n) || left_out.iter().any(|t| n.starts_with(&format!("{t}.")))
        };
        names.retain(|n| !dropped(n));
        if !names.is_empty() {
            let more = names.len().saturating_sub(NAMED);
            let mut text = format!("{} {}", row.what, names[..names.len() - more].join(", "));
            if more > 0 {
                text.push_str(&format!(" and {more} more"));
            }
            out.push(Finding { text, outcome });
        }
    }
    out
}

/// Those of [`inspect`] that are copied all the same, as messages.
///
/// # Errors
/// Permanent: `method` cannot copy something, by name and with what can be done.
pub fn check(
    source: &Source,
    target: Option<&Target>,
    method: Method,
    left_out: &BTreeSet<String>,
) -> Result<Vec<String>> {
    refuse(inspect(source, target, method, left_out), method)
}

/// The findings that `method` copies inexactly, as messages.
///
/// # Errors
/// Permanent: what it cannot copy, by name and with what can be done.
pub fn refuse(found: Vec<Finding>, method: Method) -> Result<Vec<String>> {
    let (refused, inexact): (Vec<Finding>, Vec<Finding>) = found
        .into_iter()
        .partition(|f| matches!(f.outcome, Outcome::Refused(_)));
    let texts = |f: &[Finding]| f.iter().map(Finding::message).collect::<Vec<_>>();
    if refused.is_empty() {
        return Ok(texts(&inexact));
    }
    Err(Error::permanent(format!(
        "{method} cannot copy what the source has: {}",
        texts(&refused).join("; ")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(version: &str, create: &str) -> Source {
        let table = Object {
            kind: Kind::Table,
            schema: "s".into(),
            name: "t".into(),
        };
        let definition = BTreeMap::from([("Create Table".to_string(), create.to_string())]);
        Source {
            catalogue: Catalogue {
                server: Server::parse(version, "").unwrap(),
                objects: BTreeMap::from([(table, definition)]),
            },
            invalid_views: Vec::new(),
            directories: Vec::new(),
            systems: BTreeMap::new(),
            functions: BTreeSet::new(),
            default_key: 1,
            state: SourceState::default(),
        }
    }

    const BARE: Target = Target {
        keys: false,
        lacks_keys: BTreeSet::new(),
        known: None,
        symlinks: true,
        file: false,
        used: BTreeSet::new(),
        systems: BTreeMap::new(),
        functions: BTreeSet::new(),
        references: Vec::new(),
        state: TargetState::NONE,
    };

    #[test]
    fn directories_are_read_from_show_create() {
        for (options, engine, wanted) in [
            (
                ") ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 DATA DIRECTORY='/X/it''s/' COMMENT='DATA DIRECTORY=''/no/'''",
                "innodb",
                "/X/it's/",
            ),
            (
                ") ENGINE=MyISAM COMMENT='a '' DATA DIRECTORY=''/no/''' DATA DIRECTORY='/d/' INDEX DIRECTORY='/i/'",
                "myisam",
                "/d/ /i/",
            ),
            (
                ") ENGINE=InnoDB\n/*!50100 PARTITION BY HASH (a)\n(PARTITION p0 DATA DIRECTORY = '/x/' ENGINE = InnoDB,\n \
                 PARTITION p1 DATA DIRECTORY = '/y/' ENGINE = InnoDB) */",
                "innodb",
                "/x/ /y/",
            ),
            (") ENGINE=InnoDB", "innodb", ""),
        ] {
            let create = format!(
                "CREATE TABLE `t` (\n  `a` int COMMENT ' DATA DIRECTORY=''/c/'''\n{options}"
            );
            let found = directories_of(&create).into_iter();
            let found: Vec<String> = found.map(|d| d.display().to_string()).collect();
            assert_eq!(found.join(" "), wanted, "{options}");
            assert_eq!(engine_of(&create), engine);
        }
    }

    #[test]
    fn columns_are_read_from_show_create() {
        let create = "CREATE TABLE `t` (\n  `a ``b` FLOAT DEFAULT NULL COMMENT '`x` int',\n  `c` enum('a`','b') NOT NULL,\n  KEY `k` \
                      (`c`)\n) ENGINE=InnoDB";
        let found = columns_of(create);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].0, "a `b");
        assert!(found[0].1.starts_with("float default null"));
        assert!(found[1].1.starts_with("enum("));
    }

    #[test]
    fn tables_are_found_by_their_options() {
        for (create, method, words) in [
            (
                ") ENGINE=InnoDB `encrypted`='yes'",
                Method::Mysqldump,
                "encrypted tables s.t",
            ),
            (
                ") ENGINE=InnoDB ENCRYPTED=YES",
                Method::Mydumper,
                "encrypted tables s.t",
            ),
            (
                ") ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 /*!80016 ENCRYPTION='Y' */",
                Method::Mysqldump,
                "encrypted tables s.t",
            ),
            (
                ") ENGINE=InnoDB\n/*!50100 PARTITION BY HASH (a)\n(PARTITION p0 DATA DIRECTORY = '/x' ENGINE = InnoDB) */",
                Method::Mysqldump,
                "tables with DATA DIRECTORY or INDEX DIRECTORY s.t",
            ),
            (
                ") ENGINE=MyISAM INDEX DIRECTORY='/x/'",
                Method::Mysqldump,
                "tables with DATA DIRECTORY or INDEX DIRECTORY s.t",
            ),
            (") ENGINE=MEMORY", Method::Xtrabackup, "MEMORY tables s.t"),
            (
                ") ENGINE=InnoDB ENCRYPTED=YES",
                Method::Xtrabackup,
                "encrypted tables s.t: the keys of one host",
            ),
            (
                ") ENGINE=InnoDB DATA DIRECTORY='/x/'",
                Method::ClonePlugin,
                "tables with DATA DIRECTORY or INDEX DIRECTORY s.t (/x/): a physical copy",
            ),
        ] {
            let source = source("9.7.4", &format!("CREATE TABLE `t` (\n  `a` int\n{create}"));
            let found = inspect(&source, Some(&BARE), method, &BTreeSet::new());
            let texts: Vec<String> = found.iter().map(Finding::message).collect();
            assert!(
                texts.len() == 1 && texts[0].starts_with(words),
                "{create}: {texts:?}"
            );
            let left_out = BTreeSet::from(["s.t".to_string()]);
            assert!(inspect(&source, Some(&BARE), method, &left_out).is_empty());
        }
        let plain = source(
            "9.7.4",
            "CREATE TABLE `t` (\n  `a` int COMMENT 'encrypted=yes'\n) ENGINE=InnoDB",
        );
        let placed = |create: &str, target: &Target| -> Vec<String> {
            let create = format!("CREATE TABLE `t` (\n  `a` int\n{create}");
            let source = source("9.7.4", &create);
            let found = inspect(&source, Some(target), Method::Mysqldump, &BTreeSet::new());
            found.iter().map(|f| f.text.clone()).collect()
        };
        let with_file = Target {
            known: Some(vec!["/var/lib/mysql/".into(), "/fast".into()]),
            file: true,
            ..BARE
        };
        let no = placed(") ENGINE=InnoDB DATA DIRECTORY='/fast-2/'", &with_file);
        assert_eq!(no, ["tables with DATA DIRECTORY s.t (/fast-2/)"]);
        let below = placed(") ENGINE=InnoDB DATA DIRECTORY='/fast/a/'", &with_file);
        assert_eq!(below, [""; 0]);
        let (one, two) = (
            source(
                "10.11.19-MariaDB",
                "CREATE TABLE `t` (\n  `a` int\n) ENGINE=InnoDB `encrypted`='yes'",
            ),
            source(
                "10.11.19-MariaDB",
                "CREATE TABLE `t` (\n  `a` int\n) ENGINE=InnoDB ENCRYPTED=YES `encryption_key_id`='22'",
            ),
        );
        let of = |s| -> Vec<u32> { keys_of_tables(s).into_iter().map(|(_, key)| key).collect() };
        assert_eq!((of(&one), of(&two)), (vec![1], vec![22]));
        let links = ") ENGINE=MyISAM DATA DIRECTORY='/slow/'";
        assert_eq!(placed(links, &with_file), [""; 0]);
        let without_links = Target {
            symlinks: false,
            ..with_file
        };
        assert_eq!(placed(links, &without_links).len(), 1);
        // Words in texts are not options.
        for text in [
            ") ENGINE=InnoDB COMMENT='data directory=''/x'' ENCRYPTION=Y, engine=memory WITH SYSTEM VERSIONING'",
            ") ENGINE=InnoDB COMMENT='a\\\\' ENGINE_ATTRIBUTE='{\"x\": \"encrypted=yes\"}'",
            ",\n  `b` bigint DEFAULT NULL COMMENT ' invisible'' generated always as row start'\n) ENGINE=InnoDB",
        ] {
            for version in ["9.7.4", "10.11.19-MariaDB"] {
                let create = format!(
                    "CREATE TABLE `t` (\n  `a` int{}",
                    text.replace(") ENGINE", "\n) ENGINE")
                );
                let source = source(version, &create);
                for method in [Method::Mysqldump, Method::Mydumper, Method::Xtrabackup] {
                    let found = inspect(&source, Some(&BARE), method, &BTreeSet::new());
                    assert!(found.is_empty(), "{text}: {found:?}");
                }
            }
        }
        for method in [Method::Mysqldump, Method::Mydumper, Method::Xtrabackup] {
            assert!(inspect(&plain, Some(&BARE), method, &BTreeSet::new()).is_empty());
        }
    }
}

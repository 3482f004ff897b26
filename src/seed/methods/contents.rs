//! What servers hold that not every method can copy: one table of the kinds of objects, which methods copy them, and what is done
//! about them. A row that forbids a method is found at Prepare of the source, at the beginning of Backup and by `seed` before
//! anything is started: until then nothing of the target has changed.

use crate::error::{Error, Result};
use crate::mysql::catalogue::{self, Catalogue, Definition, Kind, Object};
use crate::mysql::{Flavour, Server, Version, failure, grants, quote_name};
use crate::seed::vocabulary::Method;
use mysql::Conn;
use mysql::prelude::Queryable;
use std::collections::{BTreeMap, BTreeSet};

/// How many objects of a kind a message names.
const NAMED: usize = 10;

/// What a method makes of objects of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Copies them.
    Exact,
    /// Copies them, but not exactly: how. `--method auto` prefers another method.
    Inexact(&'static str),
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
}

/// What is known of a target.
pub struct Target {
    /// Whether it has keys to encrypt tables with.
    keys: bool,
    /// Whether the agent's account has the privilege FILE.
    file: bool,
    /// What the agent's account lacks of what it needs.
    lacks: BTreeSet<String>,
    systems: BTreeMap<u32, String>,
    functions: BTreeSet<String>,
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
            Outcome::Inexact(how) | Outcome::Refused(how) => format!("{}: {how}", self.text),
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

/// The table.
static ROWS: [Row; 13] = [
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
            Some(t) if !t.keys => tables(s, |create| {
                // MariaDB prints the option as it was written: `encrypted`='yes', ENCRYPTED=YES.
                let options = options_of(create).replace(['`', '\''], "");
                options.contains("encryption=y") || options.contains("encrypted=yes")
            }),
            _ => Vec::new(),
        },
        outcome: |m| {
            if logical(m) {
                Outcome::Refused(
                    "the target has no keys to create them with; set up its keyring (MySQL) or an encryption plugin (MariaDB), \
                     or decrypt the tables on the source (ALTER TABLE ... ENCRYPTION='N', on MariaDB ENCRYPTED=NO)",
                )
            } else {
                Outcome::Exact // the physical methods compare the servers' settings themselves
            }
        },
    },
    Row {
        what: "tables with DATA DIRECTORY or INDEX DIRECTORY",
        find: |s, target| match target {
            Some(t) if !t.file => tables(s, |create| {
                let lower = create.to_ascii_lowercase();
                ["data directory", "index directory"].iter().any(|o| {
                    lower.contains(&format!("{o}='")) || lower.contains(&format!("{o} = '"))
                })
            }),
            _ => Vec::new(),
        },
        outcome: |m| {
            if logical(m) {
                Outcome::Refused(
                    "the agent's account needs the privilege FILE on the target to create them; grant it on both servers, or \
                     move the tables into the data directory",
                )
            } else {
                Outcome::Exact
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
            Flavour::MySql => s.directories.clone(),
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
        find: |s, _| s.directories.clone(),
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
                let (declared, _) = declared.split_once(" comment '").unwrap_or((declared, ""));
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
];

/// The last lines of SHOW CREATE TABLE, in lower case: the table's options and its partitions.
fn options_of(create: &str) -> String {
    let at = create.rfind("\n) ").unwrap_or(0);
    create[at..].to_ascii_lowercase()
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
            if is(&name, &declared) {
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
        Ok(Self {
            invalid_views: invalid_views(conn, &catalogue)?,
            directories: directories.into_iter().collect(),
            systems: systems(conn, server)?,
            functions: functions(conn)?,
            catalogue,
        })
    }
}

impl Target {
    /// Asks a target.
    ///
    /// # Errors
    /// If a query fails.
    pub fn ask(conn: &mut Conn, server: Server) -> Result<Self> {
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
        let (_, held) = grants::held(conn, server)?;
        let needed = grants::needed(server, &[]).unwrap_or_default();
        let file = BTreeSet::from(["FILE".to_string()]);
        Ok(Self {
            keys: !plugins.is_empty() || !component.is_empty(),
            file: grants::missing(server, &file, &held).is_empty(),
            lacks: grants::missing(server, &needed, &held)
                .into_iter()
                .collect(),
            systems: systems(conn, server)?,
            functions: functions(conn)?,
        })
    }
}

/// That the agent's account has on the source, at `conn`, what it has on the target: in the middle of a load the source's accounts come
/// into force, and the load goes on with its rights.
///
/// # Errors
/// Permanent, with the privileges. If a query fails.
pub fn check_rights(conn: &mut Conn, server: Server, target: &Target) -> Result<()> {
    let (account, held) = grants::held(conn, server)?;
    let needed = grants::needed(server, &[]).unwrap_or_default();
    let lacks = grants::missing(server, &needed, &held).into_iter();
    let more: Vec<String> = lacks.filter(|p| !target.lacks.contains(p)).collect();
    if more.is_empty() {
        return Ok(());
    }
    Err(Error::permanent(format!(
        "{account} lacks {} on the source, which it has here: the load brings the source's accounts and goes on with their \
         privileges; grant them on the source",
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

/// What `method` does not copy exactly. Tables in `left_out` (`schema.table`) are not copied at all.
pub fn inspect(
    source: &Source,
    target: Option<&Target>,
    method: Method,
    left_out: &BTreeSet<String>,
) -> Vec<Finding> {
    let mut out = Vec::new();
    for row in &ROWS {
        let outcome = (row.outcome)(method);
        if outcome == Outcome::Exact {
            continue;
        }
        let mut names = (row.find)(source, target);
        let dropped = |n: &String| {
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

/// Those of [`inspect`] that are copied inexactly, as messages.
///
/// # Errors
/// Permanent: `method` cannot copy something, by name and with what can be done.
pub fn check(
    source: &Source,
    target: Option<&Target>,
    method: Method,
    left_out: &BTreeSet<String>,
) -> Result<Vec<String>> {
    let found = inspect(source, target, method, left_out);
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
        }
    }

    const BARE: Target = Target {
        keys: false,
        file: false,
        lacks: BTreeSet::new(),
        systems: BTreeMap::new(),
        functions: BTreeSet::new(),
    };

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
        for method in [Method::Mysqldump, Method::Mydumper, Method::Xtrabackup] {
            assert!(inspect(&plain, Some(&BARE), method, &BTreeSet::new()).is_empty());
        }
    }
}

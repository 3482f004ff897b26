//! What servers hold that not every method can copy: one table of the kinds of objects, which methods copy them, and what is done
//! about them. A row that forbids a method is found at Prepare of the source, at the beginning of Backup and by `seed` before
//! anything is started: until then nothing of the target has changed.

use crate::error::{Error, Result};
use crate::mysql::catalogue::{self, Catalogue, Definition, Kind, Object};
use crate::mysql::{Flavour, Server, Version, failure, grants, info, profile, quote_name};
use crate::seed::vocabulary::Method;
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

/// How a table gets back into the data directory. ALTER TABLE keeps the directory: MySQL 9.7 leaves it out with ALGORITHM=COPY and
/// this mode, MariaDB 10.11 hides it then, but keeps it. CREATE TABLE ... LIKE leaves it out on both.
macro_rules! move_back {
    () => {
        "move the tables back into its data directory (MySQL: SET SESSION sql_mode = 'NO_DIR_IN_CREATE', then ALTER TABLE ... FORCE, \
         ALGORITHM=COPY; MariaDB: CREATE TABLE copy LIKE table, which leaves out the directory and foreign keys, INSERT ... SELECT, \
         and RENAME TABLE)"
    };
}
/// The same for the checks of the physical methods.
pub const MOVE_BACK: &str = concat!("on the server that has them, ", move_back!());

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
    /// The key of encrypted tables that name none (MariaDB).
    default_key: u32,
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

/// By their own names: the server lists them as `#mysql50#name`.
fn directories(source: &Source) -> Vec<String> {
    let own = |n: &String| n.strip_prefix("#mysql50#").unwrap_or(n).to_string();
    source.directories.iter().map(own).collect()
}

/// The table.
static ROWS: [Row; 19] = [
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
        let default_key = info::global(conn, "innodb_default_encryption_key_id")?;
        Ok(Self {
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
            default_key: 1,
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
        for method in [Method::Mysqldump, Method::Mydumper, Method::Xtrabackup] {
            assert!(inspect(&plain, Some(&BARE), method, &BTreeSet::new()).is_empty());
        }
    }
}

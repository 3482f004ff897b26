//! The kinds of objects that not every method can copy: which methods do not, and what is done about them. A row that forbids a method is
//! found at Prepare of the source, at the beginning of Backup and by `seed` before anything is started: until then nothing of the target
//! has changed.

use super::binlog::{self, FILTERED, STATEMENTS};
use super::finding::By::{Any, Logical, Mydumper, Mysqldump, Physical, Xtrabackup};
use super::finding::Outcome::{Inexact, Refused, Warning};
use super::finding::{By, Finding, Outcome};
use super::source::Source;
use super::target::Target;
use super::{create_table, foreign_keys, xa};
use crate::mysql::{Flavour, move_back};
use crate::seed::types::Method;
use std::collections::BTreeSet;

struct Row {
    /// In the plural.
    what: &'static str,
    by: By,
    outcome: Outcome,
    find: Find,
}

/// The objects of a kind that matter.
enum Find {
    OnSource(fn(&Source) -> Vec<String>),
    /// Those of the source that matter once the target is known.
    ForTarget(fn(&Source, &Target) -> Vec<String>),
    /// Those of the source that matter, more exactly once the target is known.
    Either(fn(&Source, Option<&Target>) -> Vec<String>),
}

use Find::{Either, ForTarget, OnSource};

const fn row(what: &'static str, by: By, outcome: Outcome, find: Find) -> Row {
    Row {
        what,
        by,
        outcome,
        find,
    }
}

/// `found` if `condition` holds.
fn if_so(condition: bool, found: impl FnOnce() -> Vec<String>) -> Vec<String> {
    if condition { found() } else { Vec::new() }
}

fn missing(of_source: &BTreeSet<String>, there: &BTreeSet<String>) -> Vec<String> {
    of_source.difference(there).cloned().collect()
}

const NAMES_FOR_FILES: Outcome = Inexact(
    "mydumper before 0.16.7 cannot copy these, and its Backup refuses them; the seed method Mysqldump and physical ones can",
);
const INDEX_OR_DATA: &str = "tables with DATA DIRECTORY or INDEX DIRECTORY";
const NO_SCHEMAS: &str = "directories in the data directory that are not schemas";

#[rustfmt::skip]
static ROWS: &[Row] = &[
    row("FLOAT columns", Logical,
        Inexact("a dump holds six digits of a value, so rows may differ in the seventh, and replication of tables without a \
                 primary key may stop; a physical method copies them exactly"),
        OnSource(|s| s.columns(|_, declared| declared.starts_with("float")))),
    row("invalid views", Logical,
        Refused("the dump tools stop at a view that refers to something that is not there; drop or repair it, or use a physical method"),
        OnSource(|s| s.invalid_views.clone())),
    row("tables with transaction-precise system versioning", Logical,
        Refused("the dump tools cannot dump their history; use Xtrabackup, or versioning by timestamps"),
        OnSource(|s| s.columns(|_, d| d.starts_with("bigint") && d.contains(" generated always as row start")))),
    row("encrypted tables", Logical,
        Refused("the target has no keys to create them with; set up its keyring (MySQL) or an encryption plugin (MariaDB), or decrypt \
                 the tables on the source (ALTER TABLE ... ENCRYPTION='N', on MariaDB ENCRYPTED=NO)"),
        ForTarget(|s, t| if_so(!t.has_keys, || s.encrypted_tables()))),
    row("encrypted tables", Physical,
        Refused("the keys of one host are not those of another; decrypt the tables on the source (ALTER TABLE ... ENCRYPTION='N', on \
                 MariaDB ENCRYPTED=NO), or use the method Mysqldump with a target that has keys of its own"),
        OnSource(Source::encrypted_tables)),
    row("tables encrypted with keys that the target lacks", Logical,
        Refused("add the keys to those of the target's encryption plugin and restart it, or ALTER TABLE ... ENCRYPTION_KEY_ID on the \
                 source to one that both have"),
        ForTarget(|s, t| {
            let is_missing = |(_, key): &(String, u32)| t.has_keys && t.missing_keys.contains(key);
            let found = s.keys_of_tables().into_iter().filter(is_missing);
            found.map(|(name, key)| format!("{name} (key {key})")).collect()
        })),
    row("schemas with default encryption", Any,
        Inexact("the target has no keys, so its replication would stop at the first table that is created in them (error 3185); set up \
                 its keyring, or ALTER DATABASE ... ENCRYPTION 'N' on the source"),
        ForTarget(|s, t| if_so(!t.has_keys, || s.encrypted_schemas()))),
    row(INDEX_OR_DATA, Logical,
        Refused(concat!("the agent's account needs the privilege FILE on the target to create them; grant it there, and on the source \
                         for later seeds, or, on the source, ", move_back!())),
        ForTarget(|s, t| if_so(!t.may_use_files, || s.tables_in_directories(|_, _| true)))),
    row("tables with DATA DIRECTORY", Logical,
        Refused(concat!("the target creates tables in directories only that it knows (error 3121); name the directory in \
                         innodb_directories in its my.cnf and restart it, or, on the source, ", move_back!())),
        ForTarget(|s, t| t.innodb_directories.as_ref().map_or_else(Vec::new, |known| {
            s.tables_in_directories(|engine, dir| engine == "innodb" && !known.iter().any(|k| dir.starts_with(k)))
        }))),
    row("MyISAM tables with DATA DIRECTORY or INDEX DIRECTORY", Logical,
        Inexact("the target makes them in its data directory, because its have_symlink is not YES"),
        ForTarget(|s, t| if_so(!t.has_symlinks, || s.tables_in_directories(|engine, _| engine == "myisam")))),
    row(INDEX_OR_DATA, Physical,
        Refused(concat!("a physical copy is of the data directory only; use the method Mysqldump, or, on the source, ", move_back!())),
        OnSource(|s| s.tables_in_directories(|_, _| true))),
    row("spatial reference systems", Logical,
        Refused("a dump does not carry them, and the target lacks them or defines them otherwise; create them there with CREATE \
                 SPATIAL REFERENCE SYSTEM, or use a physical method"),
        ForTarget(|s, t| {
            let there = &t.server_objects.spatial_systems;
            let own = s.server_objects.spatial_systems.iter();
            own.filter(|(id, definition)| there.get(id) != Some(definition)).map(|(id, _)| id.to_string()).collect()
        })),
    row("functions of shared libraries", Logical,
        Refused("a dump has their names only, and views or triggers that use them cannot be loaded; install them on the target \
                 (CREATE FUNCTION ... SONAME)"),
        ForTarget(|s, t| missing(&s.server_objects.library_functions, &t.server_objects.library_functions))),
    row(NO_SCHEMAS, Mysqldump,
        Refused("mysqldump stops at them; set ignore_db_dir for each in the source's my.cnf and restart it, or remove them"),
        // MariaDB's are left out by --ignore-database.
        OnSource(|s| if_so(is_mysql(s), || s.own_names_of_directories()))),
    row(NO_SCHEMAS, Mydumper,
        Refused("mydumper takes them for schemas; set ignore_db_dirs (MySQL: ignore_db_dir for each) in the source's my.cnf and \
                 restart it, or remove them"),
        OnSource(Source::own_names_of_directories)),
    row("tables WITH SYSTEM VERSIONING", Mydumper,
        Refused("mydumper leaves their old rows out; use the seed method Mysqldump or Xtrabackup"),
        OnSource(|s| {
            let of_option = s.tables(|create| create_table::options(create).contains(" with system versioning"));
            let columns = s.columns(|_, d| d.contains(" generated always as row start"));
            let of_columns = columns.iter().filter_map(|c| c.rsplit_once('.')).map(|(table, _)| table.to_string());
            of_option.into_iter().chain(of_columns).collect::<BTreeSet<String>>().into_iter().collect()
        })),
    row("columns of the types UUID, INET6 and INET4", Mydumper,
        Refused("a dump by mydumper declares their text to be binary, and they would become NULL; use the seed method Mysqldump or \
                 Xtrabackup"),
        OnSource(|s| s.columns(|_, d| matches!(d.split([' ', '(']).next(), Some("uuid" | "inet6" | "inet4"))))),
    row("INVISIBLE columns", Mydumper,
        Refused("mydumper leaves their values out, and those of generated invisible primary keys; use the seed method Mysqldump or a \
                 physical one"),
        OnSource(|s| s.columns(|_, d| {
            d.contains("invisible") && !d.contains("generated always as") && !d.contains(" as (")
        }))),
    row("MEMORY tables", Xtrabackup,
        Inexact("a physical copy has their definitions, not their rows, as after a restart"),
        OnSource(|s| s.tables(|create| create_table::options(create).contains("engine=memory")))),
    row("prepared XA transactions", Logical,
        Refused("a dump does not hold them, and replication would stop at their XA COMMIT (error 1397); XA COMMIT or XA ROLLBACK them \
                 on the source, or use a physical method"),
        OnSource(|s| s.xa.xids.clone())),
    row("a privilege that the agent's account lacks on the source,", Logical,
        Warning("prepared XA transactions are not seen without it; a dump does not hold them, and replication would stop at their XA \
                 COMMIT"),
        OnSource(|s| if_so(s.xa.hidden, || vec![xa::PRIVILEGE.to_string()]))),
    row("prepared XA transactions on the target", Logical,
        Refused("their locks would stop the load; XA ROLLBACK or XA COMMIT them there, or use a physical method"),
        ForTarget(|_, t| t.xa.xids.clone())),
    row("objects in schema sys", Logical,
        Refused("the dump tools leave this schema out, and replication would stop at the next change of them; move them to a schema of \
                 their own, or use a physical method"),
        Either(|s, t| s.system_objects.of_users("sys", t.map(|t| &t.system_objects)))),
    row("objects in schema mysql", Mydumper,
        Refused("by Mydumper only the accounts and settings of this schema are copied, and replication would stop at the next change \
                 of them; move them to a schema of their own, or use the seed method Mysqldump or a physical one"),
        Either(|s, t| s.system_objects.of_users("mysql", t.map(|t| &t.system_objects)))),
    row("plugins that the target lacks", Logical,
        Refused("without them these accounts cannot log in, tables cannot be created, and replication would stop at statements on \
                 them; install them on the target"),
        ForTarget(|s, t| s.extensions.missing_plugins(&t.extensions, flavour(s)))),
    row("functions of components that the target lacks", Logical,
        Refused("without them what uses them cannot be created, or stops replication; install the components on the target"),
        ForTarget(|s, t| s.extensions.missing_functions(&t.extensions))),
    row("plugins and components that the load registers on the target, and that are not active there before it is restarted or they \
         are installed", Logical,
        Warning("install them there, or remove them from the source if they are not used"),
        ForTarget(|s, t| s.extensions.inactive(&t.extensions, flavour(s)))),
    row("schemas with names of system schemas", Logical,
        Refused("the dump tools take them for the server's own, whatever their case, and leave them out; move their tables to schemas \
                 with other names, or use a physical method"),
        OnSource(|s| s.like_system_schemas.clone())),
    row("MERGE tables", Logical,
        Refused("the agent's account needs the privileges UPDATE and DELETE on the target to create them; GRANT UPDATE, DELETE ON *.* \
                 to it there, and on the source for later seeds"),
        ForTarget(|s, t| if_so(!t.may_merge, || {
            s.tables(|create| create_table::options(create).contains("engine=mrg_myisam"))
        }))),
    row("tables that only the target has, with foreign keys to columns that are others on the source:", Logical,
        Refused("the referenced tables could not be created (errors 3780 and 3734); drop these tables or their foreign keys on the \
                 target, or use a physical method"),
        ForTarget(|s, t| foreign_keys::obstacles(&t.references, &s.catalogue))),
    row("histograms of columns", Logical,
        Inexact("a dump does not carry them; ANALYZE TABLE ... UPDATE HISTOGRAM on the target makes them"),
        OnSource(|s| s.histograms.clone())),
    row("resource groups that the target lacks", Logical,
        Inexact("a dump does not carry them; create them on the target (CREATE RESOURCE GROUP)"),
        ForTarget(|s, t| missing(&s.server_objects.resource_groups, &t.server_objects.resource_groups))),
    row(binlog::FILTERS, Any, FILTERED, OnSource(|s| s.binlog_filters.clone())),
    row(binlog::TEMPORARY, Any, STATEMENTS, OnSource(|s| s.temporary_tables.clone())),
    row("schemas with a quote or a backtick in their names, or tables with a quote in their names:", Mydumper,
        Refused("mydumper does not quote these; use the seed method Mysqldump or a physical one"),
        OnSource(|s| s.names(|n| n.contains(['\'', '`']), |n| n.contains('\'')))),
    row("schemas whose names are not ASCII:", Mydumper,
        Refused("mydumper cannot select these; use the seed method Mysqldump or a physical one"),
        OnSource(|s| if_so(is_mysql(s), || s.names(|n| !n.is_ascii(), |_| false)))),
    row("names with a dot, a slash or a backtick, or with -schema in them:", Mydumper, NAMES_FOR_FILES,
        OnSource(|s| {
            let splits = |n: &str| n.contains(['.', '/', '`']) || n.contains("-schema");
            s.names(splits, splits)
        })),
    row("tables with an engine other than InnoDB:", Mydumper,
        Warning("mydumper 0.13 and later cannot copy these together with InnoDB tables, and its Backup refuses them; mydumper 0.10.1, \
                 the seed method Mysqldump and physical ones can"),
        OnSource(|s| s.tables(|create| !matches!(create_table::engine(create).as_str(), "innodb" | "")))),
    row("columns with a backtick in their names:", Mydumper, NAMES_FOR_FILES,
        OnSource(|s| s.columns(|name, _| name.contains('`')))),
];

fn flavour(source: &Source) -> Flavour {
    source.catalogue.server.flavour
}

fn is_mysql(source: &Source) -> bool {
    flavour(source) == Flavour::MySql
}

/// What `method` does not copy exactly. Tables in `left_out` (`schema.table`) are not copied at all.
pub(crate) fn inspect(
    source: &Source,
    target: Option<&Target>,
    method: Method,
    left_out: &BTreeSet<String>,
) -> Vec<Finding> {
    let is_left_out = |name: &String| {
        let table = match name.rsplit_once(" (") {
            Some((table, more)) if more.ends_with(')') => table,
            _ => name.as_str(),
        };
        left_out.contains(table) || left_out.iter().any(|t| name.starts_with(&format!("{t}.")))
    };
    let mut out = Vec::new();
    for row in ROWS.iter().filter(|r| r.by.includes(method)) {
        let mut names = match (&row.find, target) {
            (OnSource(find), _) => find(source),
            (ForTarget(find), Some(target)) => find(source, target),
            (ForTarget(_), None) => Vec::new(),
            (Either(find), target) => find(source, target),
        };
        names.retain(|n| !is_left_out(n));
        if !names.is_empty() {
            out.push(Finding::new(row.what, &names, row.outcome));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contents::extensions::UsedExtensions;
    use crate::contents::source::ServerObjects;
    use crate::contents::system_objects::SystemObjects;
    use crate::mysql::Server;
    use crate::mysql::catalogue::{Catalogue, Kind, Object};
    use std::collections::BTreeMap;

    fn source(version: &str, create: &str) -> Source {
        let table = Object::new(Kind::Table, "s", "t");
        let definition = BTreeMap::from([("Create Table".to_string(), create.to_string())]);
        Source {
            catalogue: Catalogue {
                server: Server::parse(version, "").unwrap(),
                objects: BTreeMap::from([(table, definition)]),
            },
            invalid_views: Vec::new(),
            directories: Vec::new(),
            default_key: 1,
            like_system_schemas: Vec::new(),
            histograms: Vec::new(),
            server_objects: ServerObjects::default(),
            system_objects: SystemObjects::default(),
            extensions: UsedExtensions::default(),
            xa: xa::Prepared::default(),
            binlog_filters: Vec::new(),
            temporary_tables: Vec::new(),
        }
    }

    fn bare_target() -> Target {
        Target {
            has_symlinks: true,
            ..Target::default()
        }
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
            let found = inspect(&source, Some(&bare_target()), method, &BTreeSet::new());
            let texts: Vec<String> = found.iter().map(Finding::message).collect();
            assert!(
                texts.len() == 1 && texts[0].starts_with(words),
                "{create}: {texts:?}"
            );
            let left_out = BTreeSet::from(["s.t".to_string()]);
            assert!(inspect(&source, Some(&bare_target()), method, &left_out).is_empty());
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
            innodb_directories: Some(vec!["/var/lib/mysql/".into(), "/fast".into()]),
            may_use_files: true,
            has_symlinks: true,
            ..Target::default()
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
        let of = |s: &Source| -> Vec<u32> {
            Source::keys_of_tables(s)
                .into_iter()
                .map(|(_, key)| key)
                .collect()
        };
        assert_eq!((of(&one), of(&two)), (vec![1], vec![22]));
        let links = ") ENGINE=MyISAM DATA DIRECTORY='/slow/'";
        assert_eq!(placed(links, &with_file), [""; 0]);
        let without_links = Target {
            has_symlinks: false,
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
                    let found = inspect(&source, Some(&bare_target()), method, &BTreeSet::new());
                    assert!(found.is_empty(), "{text}: {found:?}");
                }
            }
        }
        for method in [Method::Mysqldump, Method::Mydumper, Method::Xtrabackup] {
            assert!(inspect(&plain, Some(&bare_target()), method, &BTreeSet::new()).is_empty());
        }
    }
}

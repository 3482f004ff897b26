//! What a source holds.

use super::extensions::{UsedExtensions, has_components};
use super::system_objects::SystemObjects;
use super::{binlog, create_table, xa};
use crate::error::Result;
use crate::mysql::catalogue::{self, Catalogue, Kind, Object};
use crate::mysql::{Flavour, Server, grants, info, query};
use crate::sys::Inserted;
use mysql::Conn;
use mysql::prelude::Queryable;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

pub(crate) struct Source {
    pub(crate) catalogue: Catalogue,
    /// Directories in the data directory that the server lists as schemas, such as `lost+found`.
    pub(crate) directories: Vec<String>,
    /// Views that refer to what is not there.
    pub(super) invalid_views: Vec<String>,
    /// The key of encrypted tables that name none (MariaDB).
    pub(super) default_key: u32,
    /// Schemas whose names are a system schema's but for case.
    pub(super) like_system_schemas: Vec<String>,
    /// `schema.table.column`
    pub(super) histograms: Vec<String>,
    pub(super) server_objects: ServerObjects,
    pub(super) system_objects: SystemObjects,
    pub(super) extensions: UsedExtensions,
    /// Those that a dump would miss.
    pub(super) xa: xa::Prepared,
    pub(super) binlog_filters: Vec<String>,
    pub(super) temporary_tables: Vec<String>,
}

/// Objects that are not in a schema, and that a target must have as well.
#[derive(Debug, Clone, Default)]
pub(super) struct ServerObjects {
    /// Spatial reference systems (MySQL 8.0 and later): number and definition.
    pub(super) spatial_systems: BTreeMap<u32, String>,
    /// Functions of shared libraries (CREATE FUNCTION ... SONAME).
    pub(super) library_functions: BTreeSet<String>,
    /// Resource groups, as far as the account sees any: for that it needs RESOURCE_GROUP_USER.
    pub(super) resource_groups: BTreeSet<String>,
}

impl ServerObjects {
    pub(super) fn read(conn: &mut Conn, server: Server) -> Result<Self> {
        let functions: Vec<String> = query::rows(conn, "SELECT LOWER(name) FROM mysql.func")?;
        let mut out = Self {
            library_functions: functions.into_iter().inserted(),
            ..Self::default()
        };
        if has_components(server) {
            let systems: Vec<(u32, String)> = query::rows(
                conn,
                "SELECT SRS_ID, DEFINITION FROM information_schema.ST_SPATIAL_REFERENCE_SYSTEMS",
            )?;
            out.spatial_systems = systems.into_iter().inserted();
            let groups = grants::rows(
                conn,
                "SELECT RESOURCE_GROUP_NAME FROM information_schema.RESOURCE_GROUPS WHERE RESOURCE_GROUP_NAME NOT IN ('USR_default', 'SYS_default')",
            )?;
            out.resource_groups = groups.into_iter().inserted();
        }
        Ok(out)
    }
}

/// The views whose columns the server cannot show (1356): a dump tool queries them and stops.
fn invalid_views(conn: &mut Conn, catalogue: &Catalogue) -> Result<Vec<String>> {
    let mut out = Vec::new();
    for object in catalogue.objects.keys().filter(|o| o.kind == Kind::View) {
        // MySQL sends the error after the names of the columns.
        match conn.query::<mysql::Row, _>(format!("SHOW FIELDS FROM {}", object.quoted())) {
            Err(mysql::Error::MySqlError(e)) if e.code == 1356 => out.push(object.full_name()),
            // Dropped, or locked, meanwhile: the tool finds out.
            Ok(_) | Err(mysql::Error::MySqlError(_)) => {}
            Err(e) => return Err(query::failed(e)),
        }
    }
    Ok(out)
}

impl Source {
    pub(crate) fn read(conn: &mut Conn, server: Server) -> Result<Self> {
        let catalogue = catalogue::read(conn, server)?;
        let names = grants::rows(conn, "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA")?;
        let is_like_system = |name: &&String| {
            let is_like = |s: &&str| name != s && name.eq_ignore_ascii_case(s);
            info::SYSTEM_SCHEMAS.iter().any(is_like)
        };
        let default_key = info::global(conn, "innodb_default_encryption_key_id")?;
        let histograms = if has_components(server) {
            grants::rows(
                conn,
                "SELECT CONCAT(SCHEMA_NAME, '.', TABLE_NAME, '.', COLUMN_NAME) FROM information_schema.COLUMN_STATISTICS \
                 WHERE SCHEMA_NAME NOT IN ('mysql', 'sys') ORDER BY 1",
            )?
        } else {
            Vec::new()
        };
        let directories = names.iter().filter(|n| n.starts_with("#mysql50#"));
        let mut directories: Vec<String> = directories.cloned().collect();
        directories.sort();
        Ok(Self {
            directories,
            like_system_schemas: names.iter().filter(is_like_system).cloned().collect(),
            default_key: default_key.and_then(|v| v.parse().ok()).unwrap_or(1),
            histograms,
            xa: xa::missed_by_dump(conn, server)?,
            binlog_filters: binlog::filters(conn, server)?,
            temporary_tables: binlog::temporary_tables(conn, server)?,
            server_objects: ServerObjects::read(conn, server)?,
            system_objects: SystemObjects::read(conn, server)?,
            extensions: UsedExtensions::read(conn, server, &catalogue)?,
            invalid_views: invalid_views(conn, &catalogue)?,
            catalogue,
        })
    }
    /// [`Self::directories`] by their own names: the server lists them as `#mysql50#name`.
    pub(super) fn own_names_of_directories(&self) -> Vec<String> {
        let own = |n: &String| n.strip_prefix("#mysql50#").unwrap_or(n).to_string();
        self.directories.iter().map(own).collect()
    }

    pub(super) fn base_tables(&self) -> impl Iterator<Item = (&Object, &str)> {
        let all = self.catalogue.objects.iter();
        all.filter(|(o, _)| o.kind == Kind::Table)
            .map(|(o, d)| (o, d.get("Create Table").map_or("", String::as_str)))
    }

    /// `schema.table` of the tables whose SHOW CREATE fulfils `is`.
    pub(super) fn tables(&self, is: impl Fn(&str) -> bool) -> Vec<String> {
        let found = self.base_tables().filter(|(_, create)| is(create));
        found.map(|(o, _)| o.full_name()).collect()
    }

    /// `schema.table.column` of the columns whose name and declaration (in lower case) fulfil `is`.
    pub(super) fn columns(&self, is: impl Fn(&str, &str) -> bool) -> Vec<String> {
        let mut out = Vec::new();
        for (o, create) in self.base_tables() {
            for (name, declared) in create_table::columns(create) {
                if is(&name, &create_table::without_texts(&declared, |_| false)) {
                    out.push(format!("{}.{name}", o.full_name()));
                }
            }
        }
        out
    }

    /// The names of schemas, and of tables and sequences with their schemas, that fulfil `schema` and `table`.
    pub(super) fn names(
        &self,
        schema: impl Fn(&str) -> bool,
        table: impl Fn(&str) -> bool,
    ) -> Vec<String> {
        let mut out = Vec::new();
        for o in self.catalogue.objects.keys() {
            match o.kind {
                Kind::Schema if schema(&o.schema) => out.push(o.schema.clone()),
                Kind::Table | Kind::Sequence if table(&o.name) => out.push(o.full_name()),
                _ => {}
            }
        }
        out
    }

    /// `schema.table (directories)` of the tables that have one which, with the table's engine, fulfils `is`.
    pub(super) fn tables_in_directories(&self, is: impl Fn(&str, &Path) -> bool) -> Vec<String> {
        let text = |(o, create): (&Object, &str)| {
            let engine = create_table::engine(create);
            let directories = create_table::directories(create).into_iter();
            let found = directories.filter(|d| is(&engine, d));
            let found: Vec<String> = found.map(|d| d.display().to_string()).collect();
            (!found.is_empty()).then(|| format!("{} ({})", o.full_name(), found.join(", ")))
        };
        self.base_tables().filter_map(text).collect()
    }

    pub(super) fn encrypted_tables(&self) -> Vec<String> {
        self.tables(is_encrypted)
    }

    /// The encrypted tables of a MariaDB server and their ENCRYPTION_KEY_ID.
    pub(super) fn keys_of_tables(&self) -> Vec<(String, u32)> {
        if self.catalogue.server.flavour != Flavour::MariaDb {
            return Vec::new();
        }
        let key = |create: &str| -> Option<u32> {
            let options = plain_options(create);
            let (_, after) = options.split_once("encryption_key_id=")?;
            let digits = after.split(|c: char| !c.is_ascii_digit()).next()?;
            digits.parse().ok()
        };
        let encrypted = self
            .base_tables()
            .filter(|(_, create)| is_encrypted(create));
        let key = |create| key(create).unwrap_or(self.default_key);
        encrypted
            .map(|(o, create)| (o.full_name(), key(create)))
            .collect()
    }

    pub(super) fn encrypted_schemas(&self) -> Vec<String> {
        let all = self.catalogue.objects.iter();
        let found = all.filter(|(o, of)| {
            o.kind == Kind::Schema && of.get("default encryption").is_some_and(|v| v == "YES")
        });
        found.map(|(o, _)| o.schema.clone()).collect()
    }
}

fn is_encrypted(create: &str) -> bool {
    let options = plain_options(create);
    options.contains("encryption=y") || options.contains("encrypted=yes")
}

/// The options of a table without quotes: MariaDB prints one as it was written, `encrypted`='yes' or ENCRYPTED=YES.
fn plain_options(create: &str) -> String {
    create_table::options(create).replace(['`', '\''], "")
}

/// Bytes of the largest MEMORY table.
pub(crate) fn largest_memory_table(conn: &mut Conn) -> Result<u64> {
    let bytes = query::first(
        conn,
        "SELECT CAST(IFNULL(MAX(DATA_LENGTH + INDEX_LENGTH), 0) AS UNSIGNED) FROM information_schema.TABLES WHERE ENGINE = 'MEMORY' \
         AND TABLE_SCHEMA NOT IN ('information_schema', 'performance_schema')",
    )?;
    Ok(bytes.unwrap_or(0))
}

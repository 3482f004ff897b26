//! What a target has for a copy of a source.

use super::extensions::Extensions;
use super::foreign_keys::{self, Reference};
use super::source::{ServerObjects, Source};
use super::system_objects::SystemObjects;
use super::{create_table, xa};
use crate::error::{Error, Result};
use crate::mysql::{Flavour, Server, Version, grants, profile, query};
use mysql::Conn;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The privilege for tables in directories.
const FILE: &str = "FILE";
/// The privilege for `mysql.load-without-redo-log`.
const REDO: &str = "INNODB_REDO_LOG_ENABLE";
const KEY_ID: &str = "innodb_default_encryption_key_id";

#[derive(Default)]
pub(crate) struct Target {
    pub(super) has_keys: bool,
    /// Those of the source's keys that it lacks, by ENCRYPTION_KEY_ID (MariaDB).
    pub(super) missing_keys: BTreeSet<u32>,
    /// The directories in which InnoDB creates tables; `None` if in any (MariaDB, and MySQL before 8.0.21).
    pub(super) innodb_directories: Option<Vec<PathBuf>>,
    /// Whether MyISAM puts files elsewhere.
    pub(super) has_symlinks: bool,
    pub(super) may_use_files: bool,
    /// Whether the agent's account may create MERGE tables.
    pub(super) may_merge: bool,
    /// What the agent's account still uses when the load has brought the source's accounts.
    pub(super) privileges: BTreeSet<String>,
    pub(super) references: Vec<Reference>,
    pub(super) server_objects: ServerObjects,
    pub(super) system_objects: SystemObjects,
    pub(super) extensions: Extensions,
    pub(super) xa: xa::Prepared,
}

impl Target {
    pub(crate) fn read(conn: &mut Conn, server: Server, source: &Source) -> Result<Self> {
        let keys = source.keys_of_tables().into_iter().map(|(_, key)| key);
        let missing_keys = missing_keys(conn, &keys.collect())?;
        let globals = profile::variables(conn, true)?;
        let (_, grants) = grants::held(conn, server)?;
        let mut privileges = grants::needed_after_accounts(server);
        privileges.extend(profile::demanded_by_load(server, &globals));
        privileges.insert(FILE.into());
        if server.flavour == Flavour::MySql {
            privileges.insert(REDO.into());
        }
        let missing = grants::missing(server, &privileges, &grants);
        privileges.retain(|p| !missing.contains(p));
        let merge = ["UPDATE", "DELETE"].map(str::to_string);
        Ok(Self {
            has_keys: has_keys(conn, server)?,
            missing_keys,
            innodb_directories: innodb_directories(server, &globals),
            has_symlinks: globals.get("have_symlink").is_some_and(|v| v == "YES"),
            may_use_files: privileges.contains(FILE),
            may_merge: grants::missing(server, &merge.into(), &grants).is_empty(),
            privileges,
            references: foreign_keys::read(conn, server)?,
            server_objects: ServerObjects::read(conn, server)?,
            system_objects: SystemObjects::read(conn, server)?,
            extensions: Extensions::read(conn, server)?,
            xa: xa::prepared(conn)?,
        })
    }

    /// The directories in which this server would create tables of the source, with one such table for each. Tables in `left_out`
    /// (`schema.table`) are not created.
    pub(crate) fn directories_of_tables(
        &self,
        source: &Source,
        left_out: &BTreeSet<String>,
    ) -> BTreeMap<PathBuf, String> {
        let mut out = BTreeMap::new();
        for (o, create) in source.base_tables() {
            let name = o.full_name();
            let is_linked = self.has_symlinks || create_table::engine(create) != "myisam";
            if is_linked && !left_out.contains(&name) {
                for directory in create_table::directories(create) {
                    out.entry(directory).or_insert_with(|| name.clone());
                }
            }
        }
        out
    }

    /// Checks that the agent's account has on the source, at `conn`, what it has on the target: in the middle of a load the source's
    /// accounts come into force, and the load goes on with their privileges.
    ///
    /// # Errors
    /// Permanent, with the privileges. If a query fails.
    pub(crate) fn check_privileges_on_source(
        &self,
        conn: &mut Conn,
        server: Server,
        without_redo_log: bool,
    ) -> Result<()> {
        let (account, grants) = grants::held(conn, server)?;
        let mut used = self.privileges.clone();
        used.remove(FILE); // the session that creates the tables has it since its login
        if !without_redo_log {
            used.remove(REDO);
        }
        let missing = grants::missing(server, &used, &grants);
        if missing.is_empty() {
            return Ok(());
        }
        Err(Error::permanent(format!(
            "{account} lacks {0} on the source, which it has here: the load brings the source's accounts and goes on with their \
             privileges; on the source, GRANT {0} ON *.* TO {account}",
            missing.join(", ")
        )))
    }
}

/// Those of `keys` that the encryption plugin of a MariaDB server does not have: it warns of them (1210).
fn missing_keys(conn: &mut Conn, keys: &BTreeSet<u32>) -> Result<BTreeSet<u32>> {
    let mut out = BTreeSet::new();
    for key in keys {
        query::run(conn, format!("SET SESSION {KEY_ID} = {key}"))?;
        let warnings: Vec<(String, u32, String)> = query::rows(conn, "SHOW WARNINGS")?;
        if warnings.iter().any(|(_, code, _)| *code == 1210) {
            out.insert(*key);
        }
    }
    if !keys.is_empty() {
        query::run(conn, format!("SET SESSION {KEY_ID} = DEFAULT"))?;
    }
    Ok(out)
}

fn has_keys(conn: &mut Conn, server: Server) -> Result<bool> {
    let plugin: Option<String> = query::first(
        conn,
        "SELECT PLUGIN_NAME FROM information_schema.PLUGINS WHERE PLUGIN_STATUS = 'ACTIVE' \
         AND (PLUGIN_TYPE = 'ENCRYPTION' OR PLUGIN_NAME LIKE 'keyring%')",
    )?;
    if plugin.is_some() || server.flavour == Flavour::MariaDb || server.version < Version(8, 0, 24)
    {
        return Ok(plugin.is_some());
    }
    let component: Option<String> = query::first(
        conn,
        "SELECT STATUS_VALUE FROM performance_schema.keyring_component_status \
         WHERE STATUS_KEY = 'Component_status' AND STATUS_VALUE = 'Active'",
    )?;
    Ok(component.is_some())
}

fn innodb_directories(server: Server, globals: &BTreeMap<String, String>) -> Option<Vec<PathBuf>> {
    if server.flavour != Flavour::MySql || server.version < Version(8, 0, 21) {
        return None;
    }
    let value = |name: &str| globals.get(name).map_or("", String::as_str);
    let datadir = Path::new(value("datadir"));
    let mut all = vec![datadir.to_path_buf()];
    let variables = "innodb_data_home_dir innodb_undo_directory innodb_directories";
    for name in variables.split(' ') {
        let list = value(name).replace(['"', '\''], "");
        let list = list.split(';').map(str::trim).filter(|d| !d.is_empty());
        all.extend(list.map(|d| datadir.join(d)));
    }
    Some(all)
}

//! Objects of users in the server's own schemas `mysql` and `sys`, which no dump holds as they are.

use crate::error::Result;
use crate::mysql::{Flavour, Server, Version, query};
use mysql::Conn;
use std::collections::BTreeSet;

/// Definers of the objects of schema `sys`.
const OF_SYS: [&str; 2] = ["mysql.sys@localhost", "mariadb.sys@localhost"];
/// The newest servers whose tables are in [`SYSTEM_TABLES`].
const NEWEST: [(Flavour, Version); 2] = [
    (Flavour::MySql, Version(9, 7, u32::MAX)),
    (Flavour::MariaDb, Version(11, 8, u32::MAX)),
];
/// Tables and views of schema `mysql` that are the server's, of MySQL 5.6 to 9.7 and MariaDB 10.4 to 11.8, in lower case.
const SYSTEM_TABLES: &str = "column_stats columns_priv component db default_roles engine_cost event func general_log global_grants \
    global_priv global_priv_bak gtid_executed host index_stats password_history password_reuse_check_history plugin proc procs_priv \
    proxies_priv role_edges roles_mapping server_cost servers slow_log table_stats tables_priv transaction_registry user \
    version_tokens";
/// How names of such tables begin, where several begin so: some are made by features that only one server uses.
const SYSTEM_PREFIXES: &str = "audit_log_ backup_ clone_ firewall_ gtid_slave_pos help_ ibbackup_ innodb_ judgment_ ndb_ procedures_ \
    replication_ slave_ spider_ time_zone wsrep_";
const SYSTEM_ROUTINES: [&str; 2] = ["AddGeometryColumn", "DropGeometryColumn"];

/// Schema (exactly: `SYS` is another one), name and kind.
type SystemObject = (&'static str, String, String);

#[derive(Debug, Clone, Default)]
pub(super) struct SystemObjects {
    all: BTreeSet<SystemObject>,
    /// Those that do not belong to the server, as far as it can be known without another one.
    of_users: BTreeSet<SystemObject>,
    /// The server is newer than all that are known here.
    newer: bool,
}

/// Whether `sys` belongs to the server. Before it may be an administrator's.
fn has_sys(server: Server) -> bool {
    match server.flavour {
        Flavour::MySql => server.version >= Version(5, 7, 7),
        Flavour::MariaDb => server.version >= Version(10, 6, 0),
    }
}

fn is_system(schema: &str, name: &str, kind: &str, definer: &str) -> bool {
    match (schema, kind) {
        ("sys", "table") => name == "sys_config",
        ("sys", _) => OF_SYS.contains(&definer),
        (_, "table" | "view") => {
            let name = name.to_ascii_lowercase();
            SYSTEM_TABLES.split_whitespace().any(|t| t == name)
                || SYSTEM_PREFIXES
                    .split_whitespace()
                    .any(|p| name.starts_with(p))
        }
        (_, "procedure" | "function") => SYSTEM_ROUTINES.contains(&name),
        _ => false,
    }
}

impl SystemObjects {
    pub(super) fn read(conn: &mut Conn, server: Server) -> Result<Self> {
        let of = |x: &str, more: &str| {
            format!(
                "SELECT {x}_SCHEMA, {x}_NAME, {more} FROM information_schema.{x}S WHERE {x}_SCHEMA IN ('mysql', 'sys')"
            )
        };
        let queries = [
            of("TABLE", "'table', ''") + " AND TABLE_TYPE NOT LIKE '%VIEW'",
            "SELECT TABLE_SCHEMA, TABLE_NAME, 'view', DEFINER FROM information_schema.VIEWS \
             WHERE TABLE_SCHEMA IN ('mysql', 'sys')"
                .into(),
            of("ROUTINE", "LOWER(ROUTINE_TYPE), DEFINER"),
            of("TRIGGER", "'trigger', DEFINER"),
            match server.flavour {
                // information_schema.EVENTS is error 1577 where the scheduler is disabled.
                Flavour::MariaDb => "SELECT db, name, 'event', definer FROM mysql.event".into(),
                Flavour::MySql => of("EVENT", "'event', DEFINER"),
            },
        ];
        let is_newer = |(f, v): &(Flavour, Version)| *f == server.flavour && server.version > *v;
        let mut out = Self {
            newer: NEWEST.iter().any(is_newer),
            ..Self::default()
        };
        for query in queries {
            let rows: Vec<(String, String, String, String)> = query::rows(conn, query)?;
            for (schema, name, kind, definer) in rows {
                let schema = match schema.as_str() {
                    "mysql" => "mysql",
                    "sys" if has_sys(server) => "sys",
                    _ => continue,
                };
                if !is_system(schema, &name, &kind, &definer) {
                    out.of_users.insert((schema, name.clone(), kind.clone()));
                }
                out.all.insert((schema, name, kind));
            }
        }
        Ok(out)
    }

    /// Objects in `schema` (`mysql` or `sys`) that are not the server's. Of other objects than tables those that `target` lacks, once it
    /// is known.
    pub(super) fn of_users(&self, schema: &str, target: Option<&Self>) -> Vec<String> {
        let counts = |o: &&SystemObject| {
            let is_table = o.2 == "table";
            let is_there = target.map(|t| t.all.contains(*o));
            // A table of a later version may be the server's.
            if schema == "mysql" && is_table && self.newer {
                return is_there == Some(false);
            }
            let target_is_newer = schema == "mysql" && target.is_some_and(|t| t.newer);
            match is_there {
                None => is_table,
                Some(is_there) => !is_there || is_table && !target_is_newer,
            }
        };
        let of_schema = self.of_users.iter().filter(|o| o.0 == schema);
        let name = |(schema, name, kind): &SystemObject| format!("{schema}.{name} ({kind})");
        of_schema.filter(counts).map(name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_of_users_in_the_schemas_of_the_server() {
        for (schema, name, kind, definer, system) in [
            ("sys", "sys_config", "table", "", true),
            ("sys", "mine", "table", "", false),
            ("sys", "host_summary", "view", "mysql.sys@localhost", true),
            ("sys", "mine", "view", "root@localhost", false),
            ("mysql", "user", "view", "mariadb.sys@localhost", true),
            ("mysql", "gtid_slave_pos_InnoDB", "table", "", true),
            ("mysql", "mine", "table", "", false),
            (
                "mysql",
                "AddGeometryColumn",
                "procedure",
                "root@localhost",
                true,
            ),
            ("mysql", "mine", "event", "root@localhost", false),
        ] {
            assert_eq!(
                is_system(schema, name, kind, definer),
                system,
                "{schema}.{name}"
            );
        }
    }
}

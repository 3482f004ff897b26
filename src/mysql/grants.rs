//! What the agent's MySQL account may do, against what it needs.

use super::{Flavour, Server, Version, query, quote_account};
use crate::error::Result;
use ::mysql::{Conn, Row};
use std::collections::BTreeSet;

/// A feature and the privileges on `*.*` that it needs, as SHOW GRANTS prints them. A test compares the lists with the sections of the
/// sample accounts in contrib/demo, which the seed tests run with.
type Feature = (&'static str, &'static [&'static str]);

#[rustfmt::skip]
const MARIADB: &[Feature] = &[
    ("always", &[
        "SELECT", "EVENT", "SET USER", "LOCK TABLES", "PROCESS", "RELOAD", "BINLOG MONITOR", "SLAVE MONITOR", "REPLICATION SLAVE",
        "REPLICATION SLAVE ADMIN", "REPLICATION MASTER ADMIN",
    ]),
    ("logical", &[
        "INSERT", "UPDATE", "DELETE", "CREATE", "DROP", "ALTER", "INDEX", "REFERENCES", "TRIGGER", "SHOW VIEW", "CREATE VIEW",
        "CREATE ROUTINE", "ALTER ROUTINE", "CREATE TEMPORARY TABLES", "EXECUTE", "CREATE TABLESPACE", "SUPER", "BINLOG ADMIN",
    ]),
    ("read_only", &["READ_ONLY ADMIN"]),
    ("init_connect", &["CONNECTION ADMIN"]),
    ("relay_log", &["BINLOG REPLAY"]),
    ("skip_show_database", &["SHOW DATABASES"]),
];
#[rustfmt::skip]
const MYSQL: &[Feature] = &[
    ("always", &[
        "SELECT", "EVENT", "LOCK TABLES", "PROCESS", "RELOAD", "REPLICATION CLIENT", "REPLICATION SLAVE", "SYSTEM_VARIABLES_ADMIN",
        "REPLICATION_SLAVE_ADMIN", "SET_ANY_DEFINER", "SYSTEM_USER",
    ]),
    ("logical", &[
        "INSERT", "CREATE", "DROP", "ALTER", "REFERENCES", "TRIGGER", "SHOW VIEW", "CREATE VIEW", "CREATE ROUTINE", "ALTER ROUTINE",
        "EXECUTE", "TRANSACTION_GTID_TAG", "ALLOW_NONEXISTENT_DEFINER",
    ]),
    ("xa", &["XA_RECOVER_ADMIN"]),
    ("merge", &["UPDATE", "DELETE"]),
    ("resource_groups", &["RESOURCE_GROUP_USER"]),
    ("redo", &["INNODB_REDO_LOG_ENABLE"]),
    ("xtrabackup", &["BACKUP_ADMIN"]),
    ("clone", &["BACKUP_ADMIN", "CLONE_ADMIN"]),
    ("clone_of_replica", &["PERSIST_RO_VARIABLES_ADMIN"]),
    ("relay_log", &["BINLOG_ADMIN"]),
    ("init_connect", &["CONNECTION_ADMIN"]),
    ("encryption", &["TABLE_ENCRYPTION_ADMIN"]),
    ("skip_show_database", &["SHOW DATABASES"]),
];

/// Privileges that MariaDB's SUPER holds as well before 11.0.1 (MDEV-29668). REPLICATION MASTER ADMIN is not among them: 10.11 wants it
/// for SHOW SLAVE HOSTS.
#[rustfmt::skip]
const OF_SUPER_MARIADB: [&str; 7] = [
    "SET USER", "CONNECTION ADMIN", "BINLOG ADMIN", "BINLOG MONITOR", "BINLOG REPLAY", "SLAVE MONITOR", "REPLICATION SLAVE ADMIN",
];
/// Those that MySQL's deprecated SUPER holds as well.
const OF_SUPER_MYSQL: [&str; 3] = [
    "SYSTEM_VARIABLES_ADMIN",
    "REPLICATION_SLAVE_ADMIN",
    "BINLOG_ADMIN",
];

/// What the account needs on a server always and for `features`; `None` where no list is known (MariaDB before 10.5, MySQL before 8.4).
pub(crate) fn needed(server: Server, features: &[&str]) -> Option<BTreeSet<String>> {
    let list = match server.flavour {
        Flavour::MariaDb if server.version >= Version(10, 5, 0) => MARIADB,
        Flavour::MySql if server.version >= Version(8, 4, 0) => MYSQL,
        _ => return None,
    };
    let wanted = |f: &&Feature| f.0 == "always" || features.contains(&f.0);
    Some(owned(list.iter().filter(wanted).flat_map(|f| f.1)))
}

fn owned<'a>(names: impl IntoIterator<Item = &'a &'static str>) -> BTreeSet<String> {
    names.into_iter().map(ToString::to_string).collect()
}

/// What a session that loads a server still needs when the load has brought other accounts: MySQL checks a dynamic privilege at each use
/// (seen on 9.7: error 3827 in the session whose dump had changed the account), the others at the login.
pub(crate) fn needed_after_accounts(server: Server) -> BTreeSet<String> {
    let mut all = needed(server, &[]).unwrap_or_default();
    if server.flavour == Flavour::MySql {
        let logical = needed(server, &["logical"]).unwrap_or_default();
        all.extend(logical.into_iter().filter(|p| p.contains('_')));
    }
    all
}

/// What the account needs on the source of a physical copy: the backup tool's own privileges, and those that the target's agent works
/// with, because the copy brings the source's accounts along: it disables events, resets channels and sets the GTID state.
pub(crate) fn for_copy(server: Server) -> BTreeSet<String> {
    #[rustfmt::skip]
    let names: &[&str] = match (server.flavour, server.version) {
        (Flavour::MariaDb, v) if v >= Version(10, 5, 2) => &[
            "BINLOG MONITOR", "EVENT", "LOCK TABLES", "PROCESS", "RELOAD", "REPLICATION SLAVE ADMIN", "SELECT", "SLAVE MONITOR",
        ],
        (Flavour::MySql, v) if v >= Version(8, 0, 0) => &[
            "BACKUP_ADMIN", "EVENT", "LOCK TABLES", "PROCESS", "RELOAD", "REPLICATION CLIENT", "REPLICATION_SLAVE_ADMIN", "SELECT",
            "SYSTEM_VARIABLES_ADMIN",
        ],
        _ => &["EVENT", "LOCK TABLES", "PROCESS", "RELOAD", "REPLICATION CLIENT", "SELECT", "SUPER"],
    };
    owned(names)
}

/// What it needs there besides if the source has enabled events of other accounts: the target's agent disables them on the copy, by
/// ALTER DEFINER ... EVENT (without: error 1227, seen on MariaDB 10.11.19).
pub(crate) fn for_events_of_others(conn: &mut Conn, server: Server) -> Result<BTreeSet<String>> {
    let set = if server.maria_from(10, 5, 2) {
        "SET USER"
    } else if server.mysql_from(8, 0, 0) {
        server.word((8, 2, 0), "SET_ANY_DEFINER", "SET_USER_ID")
    } else {
        return Ok(BTreeSet::new()); // SUPER, which a copy needs there in any case
    };
    let of_others = format!(
        "SELECT DISTINCT DEFINER FROM {} WHERE STATUS = 'ENABLED' AND DEFINER <> CURRENT_USER()",
        server.events()
    );
    let definers = rows(conn, &of_others)?;
    let mut needed = BTreeSet::new();
    if definers.is_empty() {
        return Ok(needed);
    }
    needed.insert(set.to_string());
    if server.mysql_from(8, 0, 16) {
        let powerful = rows(
            conn,
            "SELECT REPLACE(GRANTEE, '\\'', '') FROM information_schema.USER_PRIVILEGES WHERE PRIVILEGE_TYPE = 'SYSTEM_USER'",
        )?;
        if definers.iter().any(|d| powerful.contains(d)) {
            needed.insert("SYSTEM_USER".to_string());
        }
    }
    Ok(needed)
}

/// The account of `conn`, quoted, and its rows of SHOW GRANTS with those of the active roles. A row may hold the account's password
/// hash: do not print them.
pub(crate) fn held(conn: &mut Conn, server: Server) -> Result<(String, Vec<String>)> {
    let account = quote_account(&rows(conn, "SELECT CURRENT_USER()")?.concat());
    let mut held = rows(conn, "SHOW GRANTS")?;
    if server.mysql_from(8, 0, 0) {
        // MariaDB shows the grants of the active role by itself; MySQL 5 has no roles.
        let roles = rows(conn, "SELECT CURRENT_ROLE()")?.concat();
        if !roles.is_empty() && roles != "NONE" {
            let more = format!("SHOW GRANTS FOR CURRENT_USER() USING {roles}");
            held.extend(rows(conn, &more)?);
        }
    }
    Ok((account, held))
}

/// The first column of a query's rows.
pub(crate) fn rows(conn: &mut Conn, statement: &str) -> Result<Vec<String>> {
    let rows: Vec<Row> = query::rows(conn, statement)?;
    let first = |r: Row| r.get_opt::<String, _>(0).and_then(std::result::Result::ok);
    Ok(rows.into_iter().filter_map(first).collect())
}

/// The needed privileges that rows of SHOW GRANTS do not give on `*.*`, sorted.
pub(crate) fn missing(server: Server, needed: &BTreeSet<String>, rows: &[String]) -> Vec<String> {
    let held: BTreeSet<String> = rows.iter().flat_map(|r| of_row(r)).collect();
    let maria = server.flavour == Flavour::MariaDb;
    let all = held.contains("ALL PRIVILEGES");
    let has = |name: &String| {
        held.contains(name)
            // In MySQL only the static privileges, whose names have blanks.
            || all && (maria || !name.contains('_'))
            || held.contains("SUPER") && of_super(server, name)
    };
    needed.iter().filter(|n| !has(n)).cloned().collect()
}

fn of_super(server: Server, name: &str) -> bool {
    match server.flavour {
        Flavour::MySql => OF_SUPER_MYSQL.contains(&name),
        // MDEV-29596: READ_ONLY ADMIN already left SUPER in 10.11.
        Flavour::MariaDb if name == "READ_ONLY ADMIN" => server.version < Version(10, 11, 0),
        Flavour::MariaDb => server.version < Version(11, 0, 1) && OF_SUPER_MARIADB.contains(&name),
    }
}

/// The privileges that one GRANT statement or one row of SHOW GRANTS gives on `*.*`, in the words of SHOW GRANTS.
fn of_row(row: &str) -> Vec<String> {
    let row = row.split_whitespace().collect::<Vec<_>>().join(" ");
    let names = row.strip_prefix("GRANT ").unwrap_or_default();
    let names = names.split_once(" ON *.* TO ").unwrap_or_default().0;
    let names = names.to_ascii_uppercase();
    let names = names.split(',').map(str::trim).filter(|n| !n.is_empty());
    names.map(|n| usual(n).to_string()).collect()
}

/// MariaDB has several words for some privileges (10.5 and later).
fn usual(name: &str) -> &str {
    match name {
        "REPLICA MONITOR" => "SLAVE MONITOR",
        "REPLICATION REPLICA" => "REPLICATION SLAVE",
        "REPLICATION REPLICA ADMIN" => "REPLICATION SLAVE ADMIN",
        "ALL" => "ALL PRIVILEGES",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE_MARIADB: &str = include_str!("../../contrib/demo/agent-account.sql");
    const SAMPLE_MYSQL: &str = include_str!("../../contrib/demo/agent-account-mysql.sql");

    /// A section begins with a line `-- [name] text`.
    fn section(line: &str) -> Option<&str> {
        let name = line.strip_prefix("-- [")?.split_once(']')?.0;
        Some(name)
    }

    fn sections(sql: &str) -> Vec<&str> {
        sql.lines().filter_map(section).collect()
    }

    /// Features whose grants the sample accounts of the tests have.
    const USUAL: [&str; 3] = ["logical", "read_only", "init_connect"];

    fn lacks(version: &str, rows: &[&str]) -> Vec<String> {
        let server = Server::parse(version, "").unwrap();
        let rows: Vec<String> = rows.iter().map(|r| r.to_string()).collect();
        missing(server, &needed(server, &USUAL).unwrap(), &rows)
    }

    #[test]
    fn what_an_account_lacks() {
        let nothing = "GRANT USAGE ON *.* TO `agent`@`%` IDENTIFIED BY PASSWORD '*A'";
        assert_eq!(lacks("10.11.19-MariaDB", &[nothing]).len(), 31);
        assert_eq!(lacks("8.4.2", &[nothing]).len(), 25);
        let two = [
            "GRANT SELECT, INSERT ON *.* TO `agent`@`%`",
            "GRANT TRANSACTION_GTID_TAG, SYSTEM_USER ON *.* TO `agent`@`%`",
        ];
        let left = lacks("8.4.2", &two);
        assert_eq!(
            (left.len(), left[0].as_str()),
            (21, "ALLOW_NONEXISTENT_DEFINER")
        );
    }

    /// The privileges that the sections `wanted` of a sample account give. The statements of a section that most accounts do not need are
    /// comments.
    fn of_sections(sql: &str, wanted: impl Fn(&str) -> bool) -> BTreeSet<String> {
        let mut current = "";
        let mut text = String::new();
        for line in sql.lines() {
            if let Some(name) = section(line) {
                current = name;
                continue;
            }
            let statement = match line.strip_prefix("-- ") {
                Some(comment) if comment.starts_with("GRANT ") => comment,
                Some(_) => "",
                None => line,
            };
            if wanted(current) {
                text.push_str(statement);
                text.push(' ');
            }
        }
        text.split(';').flat_map(of_row).collect()
    }

    #[test]
    fn the_lists_are_the_sections_of_the_sample_accounts() {
        for (list, sample) in [(MARIADB, SAMPLE_MARIADB), (MYSQL, SAMPLE_MYSQL)] {
            let names: Vec<&str> = list.iter().map(|f| f.0).collect();
            assert_eq!(names, sections(sample));
            for (name, privileges) in list {
                let of_sample = of_sections(sample, |section| section == *name);
                assert_eq!(owned(*privileges), of_sample, "[{name}]");
            }
        }
    }

    #[test]
    fn the_page_names_every_section_of_the_sample_accounts() {
        let page = include_str!("../../contrib/doc/account.md");
        let old = include_str!("../../contrib/demo/agent-account-mysql56.sql");
        for section in [SAMPLE_MARIADB, SAMPLE_MYSQL, old]
            .into_iter()
            .flat_map(sections)
        {
            assert!(page.contains(&format!("`[{section}]`")), "[{section}]");
        }
        let readme = include_str!("../../README.md");
        for file in ["", "-mysql", "-mysql56"] {
            assert!(readme.contains(&format!("](contrib/demo/agent-account{file}.sql)")));
        }
    }

    #[test]
    fn sections_are_added_to_what_is_always_needed() {
        let count = |version, features: &[&str]| {
            let server = Server::parse(version, "").unwrap();
            needed(server, features).unwrap().len()
        };
        for (version, features, n) in [
            ("10.11.19-MariaDB", &[][..], 11),
            ("10.11.19-MariaDB", &["logical"], 29),
            ("10.11.19-MariaDB", &["read_only", "init_connect"], 13),
            ("10.11.19-MariaDB", &["skip_show_database"], 12),
            ("9.7.4", &[], 11),
            ("9.7.4", &["logical"], 24),
            ("9.7.4", &["clone", "xtrabackup"], 13),
            ("9.7.4", &["redo", "encryption", "clone_of_replica"], 14),
        ] {
            assert_eq!(count(version, features), n, "{version} {features:?}");
        }
    }

    #[test]
    fn what_a_load_needs_when_the_accounts_have_come() {
        let of = |version| needed_after_accounts(Server::parse(version, "").unwrap());
        let mysql = of("9.7.4");
        assert!(mysql.contains("ALLOW_NONEXISTENT_DEFINER") && mysql.contains("RELOAD"));
        assert!(!mysql.contains("INSERT"));
        assert!(!of("10.11.19-MariaDB").contains("BINLOG ADMIN"));
    }

    #[test]
    fn all_and_super_count_for_what_they_are() {
        let all = "GRANT ALL PRIVILEGES ON *.* TO `a`@`%` WITH GRANT OPTION";
        assert_eq!(lacks("11.4.2-MariaDB", &[all]), [""; 0]);
        let dynamic = lacks("8.4.2", &[all]);
        assert!(
            dynamic.contains(&"SYSTEM_USER".to_string()) && !dynamic.contains(&"SELECT".into())
        );
        let of_schema = "GRANT ALL PRIVILEGES ON `shop`.* TO `a`@`%`";
        assert!(lacks("11.4.2-MariaDB", &[of_schema]).contains(&"SELECT".to_string()));
        let power = "GRANT SUPER ON *.* TO `a`@`%`";
        let has = |version, name: &str| !lacks(version, &[power]).contains(&name.to_string());
        assert!(has("10.6.4-MariaDB", "READ_ONLY ADMIN") && has("10.6.4-MariaDB", "SET USER"));
        assert!(!has("10.11.19-MariaDB", "READ_ONLY ADMIN") && has("10.11.19-MariaDB", "SET USER"));
        assert!(!has("11.4.2-MariaDB", "SET USER") && has("8.4.2", "SYSTEM_VARIABLES_ADMIN"));
    }

    #[test]
    fn versions_without_a_list_and_physical_methods() {
        let of = |v, more: &[&str]| needed(Server::parse(v, "").unwrap(), more);
        assert!(of("8.0.36", &[]).is_none() && of("10.4.8-MariaDB", &["logical"]).is_none());
        assert!(of("9.7.4", &["clone"]).unwrap().contains("CLONE_ADMIN"));
        assert!(!of("9.7.4", &[]).unwrap().contains("CLONE_ADMIN"));
    }

    #[test]
    fn the_sample_accounts_have_what_a_copy_needs() {
        for (version, more) in [
            ("10.11.19-MariaDB", &[][..]),
            ("9.7.4", &["xtrabackup"][..]),
        ] {
            let server = Server::parse(version, "").unwrap();
            let sample = needed(server, more).unwrap();
            let copy = for_copy(server);
            assert!(copy.is_subset(&sample), "{:?}", copy.difference(&sample));
        }
        let old = Server::parse("5.6.24", "").unwrap();
        let sample = include_str!("../../contrib/demo/agent-account-mysql56.sql");
        assert!(for_copy(old).is_subset(&of_sections(sample, |s| s == "always")));
        let server = Server::parse("8.0.36", "").unwrap();
        let row = "GRANT SELECT, RELOAD, PROCESS, LOCK TABLES, REPLICATION CLIENT, EVENT, SUPER ON *.* TO `a`@`%`";
        assert_eq!(
            missing(server, &for_copy(server), &[row.to_string()]),
            ["BACKUP_ADMIN"]
        );
    }
}

//! What the agent's MySQL account may do, against what it needs. The lists are those of the sample accounts, which the
//! seed tests run with.

use crate::mysql::{Flavour, Server, Version};
use std::collections::BTreeSet;

const MARIADB: &str = include_str!("../../contrib/demo/agent-account.sql");
const MYSQL: &str = include_str!("../../contrib/demo/agent-account-mysql.sql");

/// Privileges that MariaDB's SUPER holds as well before 11.0.1 (MDEV-29668), in SHOW GRANTS' words. REPLICATION MASTER ADMIN
/// is none of them: 10.11 wants it for SHOW SLAVE HOSTS.
const OF_SUPER_MARIADB: [&str; 6] = [
    "SET USER",
    "CONNECTION ADMIN",
    "BINLOG ADMIN",
    "BINLOG MONITOR",
    "SLAVE MONITOR",
    "REPLICATION SLAVE ADMIN",
];
/// Those that MySQL's deprecated SUPER holds as well.
const OF_SUPER_MYSQL: [&str; 2] = ["SYSTEM_VARIABLES_ADMIN", "REPLICATION_SLAVE_ADMIN"];

/// What the account needs on a server; `None` where no list is known (MariaDB before 10.5, MySQL before 8.4).
/// `physical`: xtrabackup or the clone plugin is enabled.
pub fn needed(server: Server, physical: bool) -> Option<BTreeSet<String>> {
    let from = |sql: &str| {
        let lines = sql.lines().filter(|l| !l.trim_start().starts_with("--"));
        let text = lines.collect::<Vec<_>>().join(" ");
        text.split(';').flat_map(of_row).collect::<BTreeSet<_>>()
    };
    match server.flavour {
        Flavour::MariaDb if server.version >= Version(10, 5, 0) => Some(from(MARIADB)),
        Flavour::MySql if server.version >= Version(8, 4, 0) => {
            let mut list = from(MYSQL);
            if physical {
                list.extend(["BACKUP_ADMIN", "CLONE_ADMIN"].map(String::from));
            }
            Some(list)
        }
        _ => None,
    }
}

/// The needed privileges that rows of SHOW GRANTS do not give on `*.*`, sorted.
pub fn missing(server: Server, needed: &BTreeSet<String>, rows: &[String]) -> Vec<String> {
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
    let names = row
        .strip_prefix("GRANT ")
        .and_then(|rest| rest.split_once(" ON *.* TO "))
        .map(|(names, _)| names.to_ascii_uppercase())
        .unwrap_or_default();
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

    fn lacks(version: &str, rows: &[&str]) -> Vec<String> {
        let server = Server::parse(version, "").unwrap();
        let rows: Vec<String> = rows.iter().map(|r| r.to_string()).collect();
        missing(server, &needed(server, false).unwrap(), &rows)
    }

    #[test]
    fn the_lists_are_those_of_the_sample_accounts() {
        let nothing = "GRANT USAGE ON *.* TO `agent`@`%` IDENTIFIED BY PASSWORD '*A'";
        assert_eq!(lacks("10.11.19-MariaDB", &[nothing]).len(), 31);
        assert_eq!(lacks("8.4.2", &[nothing]).len(), 24);
        let two = [
            "GRANT SELECT, INSERT ON *.* TO `agent`@`%`",
            "GRANT TRANSACTION_GTID_TAG, SYSTEM_USER ON *.* TO `agent`@`%`",
        ];
        let left = lacks("8.4.2", &two);
        assert_eq!(
            (left.len(), left[0].as_str()),
            (20, "ALLOW_NONEXISTENT_DEFINER")
        );
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
        let of = |v, physical| needed(Server::parse(v, "").unwrap(), physical);
        assert!(of("8.0.36", false).is_none() && of("10.4.8-MariaDB", true).is_none());
        assert!(of("9.7.4", true).unwrap().contains("CLONE_ADMIN"));
        assert!(!of("9.7.4", false).unwrap().contains("CLONE_ADMIN"));
    }
}

//! May the target become a replica of the source by this kind of copy? Every rule on the two servers is here, once, for the stages of
//! the agents and for the checks of the `seed` command. The agent's account on the target is the source's after a copy.

use crate::datadir::DatadirInfo;
use crate::error::{Error, Result};
use crate::mysql::{Flavour, Server, Version, info, query};
use mysql::Conn;
use std::collections::HashMap;

/// How a copy is made, as far as it decides what the servers must have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CopyKind {
    /// Statements, which the target's server executes.
    Dump,
    /// The files of a data directory.
    Files,
    Clone,
}

/// What the rules need to know of a server. An empty text is unknown, or a variable that the server does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerInfo {
    pub(crate) server: Server,
    pub(crate) server_id: String,
    pub(crate) server_uuid: String,
    pub(crate) lower_case_table_names: String,
    pub(crate) innodb_page_size: String,
    pub(crate) innodb_data_file_path: String,
}

impl ServerInfo {
    pub(crate) fn query(conn: &mut Conn, server: Server) -> Result<Self> {
        let rows: Vec<(String, String)> = query::rows(
            conn,
            "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('server_id', 'server_uuid', 'lower_case_table_names', \
             'innodb_page_size', 'innodb_data_file_path')",
        )?;
        let mut rows: HashMap<_, _> = rows.into_iter().collect();
        let mut value = |name: &str| rows.remove(name).unwrap_or_default();
        Ok(Self {
            server,
            server_id: value("server_id"),
            server_uuid: value("server_uuid"),
            lower_case_table_names: value("lower_case_table_names"),
            innodb_page_size: value("innodb_page_size"),
            innodb_data_file_path: value("innodb_data_file_path"),
        })
    }
}

impl From<&DatadirInfo> for ServerInfo {
    fn from(of: &DatadirInfo) -> Self {
        Self {
            server: of.server,
            server_id: of.server_id.clone(),
            server_uuid: of.server_uuid.clone(),
            lower_case_table_names: of.lower_case.clone(),
            innodb_page_size: of.page_size.clone(),
            innodb_data_file_path: of.data_file_path.clone(),
        }
    }
}

/// Why source and target break a rule.
type Rule = fn(&ServerInfo, &ServerInfo) -> Option<String>;

const ALL: &[CopyKind] = &[CopyKind::Dump, CopyKind::Files, CopyKind::Clone];
const PHYSICAL: &[CopyKind] = &[CopyKind::Files, CopyKind::Clone];

/// The copies that each rule is for, in the order in which they are reported.
const RULES: [(&[CopyKind], Rule); 9] = [
    (ALL, other_family),
    (&[CopyKind::Dump], older_target),
    (&[CopyKind::Files], other_series),
    (&[CopyKind::Clone], not_clonable),
    (ALL, same_uuid),
    (ALL, same_id),
    (ALL, |s, t| {
        let values = (&s.lower_case_table_names, &t.lower_case_table_names);
        let remedy = "names that differ in case only would become one table; set both alike";
        different("lower_case_table_names", values, remedy)
    }),
    (PHYSICAL, |s, t| {
        let values = (&s.innodb_page_size, &t.innodb_page_size);
        different("innodb_page_size", values, SAME_FILES)
    }),
    (PHYSICAL, |s, t| {
        let values = (&s.innodb_data_file_path, &t.innodb_data_file_path);
        different("innodb_data_file_path", values, SAME_FILES)
    }),
];

const SAME_FILES: &str = "a physical copy brings the source's data files: set the source's value in the target's my.cnf, or use \
     the method Mysqldump";

/// Why the target cannot become a replica of the source by this kind of copy; empty if it can.
pub(crate) fn obstacles(copy: CopyKind, source: &ServerInfo, target: &ServerInfo) -> Vec<String> {
    let rules = RULES.iter().filter(|(copies, _)| copies.contains(&copy));
    let mut found: Vec<_> = rules.filter_map(|(_, why)| why(source, target)).collect();
    if source.server.flavour != target.server.flavour {
        found.truncate(1); // nothing else can be compared
    }
    found
}

/// The first of the [`obstacles`] as a permanent error.
pub(crate) fn check(copy: CopyKind, source: &ServerInfo, target: &ServerInfo) -> Result<()> {
    first_of(obstacles(copy, source, target))
}

fn first_of(obstacles: Vec<String>) -> Result<()> {
    let first = obstacles.into_iter().next();
    first.map_or(Ok(()), |why| Err(Error::permanent(why)))
}

fn other_family(source: &ServerInfo, target: &ServerInfo) -> Option<String> {
    let (s, t) = (source.server, target.server);
    (s.flavour != t.flavour).then(|| {
        format!(
            "the source is {} {}, the target {} {}: a seed needs servers of the same family",
            s.flavour, s.version, t.flavour, t.version
        )
    })
}

fn series(server: Server) -> (u32, u32) {
    (server.version.0, server.version.1)
}

fn older_target(source: &ServerInfo, target: &ServerInfo) -> Option<String> {
    (series(target.server) < series(source.server)).then(|| {
        format!(
            "the target ({}) is older than the source ({}): upgrade it first",
            target.server.version, source.server.version
        )
    })
}

fn other_series(source: &ServerInfo, target: &ServerInfo) -> Option<String> {
    (series(target.server) != series(source.server)).then(|| {
        format!(
            "the source runs {} and the target {}: a physical copy needs the same series; install the source's, or use the \
             method Mysqldump",
            source.server.version, target.server.version
        )
    })
}

/// The first version with the clone plugin.
const FIRST_WITH_CLONE: Version = Version(8, 0, 17);

/// That a server can clone or be cloned. The error is permanent.
pub(crate) fn can_clone(server: Server, who: &str) -> Result<()> {
    if server.flavour == Flavour::MySql && server.version >= FIRST_WITH_CLONE {
        return Ok(());
    }
    Err(Error::permanent(format!(
        "{who} is {} {}, and CLONE needs MySQL {FIRST_WITH_CLONE} or later on both: use the method Mysqldump or Xtrabackup",
        server.flavour, server.version
    )))
}

/// The same version exactly; from 8.0.37, and from 8.4 on, the same series (MySQL 8.4 manual, 7.6.7.3 Cloning Remote Data).
fn not_clonable(source: &ServerInfo, target: &ServerInfo) -> Option<String> {
    let can = can_clone(source.server, "the source");
    if let Err(e) = can.and_then(|()| can_clone(target.server, "the target")) {
        return Some(e.to_string());
    }
    let (s, t) = (source.server.version, target.server.version);
    let in_series =
        |v: Version| v >= Version(8, 4, 0) || ((v.0, v.1) == (8, 0) && v >= Version(8, 0, 37));
    let same_series = series(source.server) == series(target.server);
    (s != t && !(same_series && in_series(s) && in_series(t))).then(|| {
        format!(
            "the source runs MySQL {s} and the target {t}: CLONE needs the same series from 8.0.37 on, and the same version before \
             that; install the source's version on the target, or use the method Mysqldump"
        )
    })
}

fn same_uuid(source: &ServerInfo, target: &ServerInfo) -> Option<String> {
    let uuid = &target.server_uuid;
    (!uuid.is_empty() && *uuid == source.server_uuid).then(|| {
        format!(
            "source and target have the same server_uuid = {uuid}: they are one server, or one was made from the other's files; in \
             the latter case stop the target's server, remove auto.cnf from its data directory and start it"
        )
    })
}

fn same_id(source: &ServerInfo, target: &ServerInfo) -> Option<String> {
    let id = &target.server_id;
    (!id.is_empty() && *id == source.server_id).then(|| {
        format!(
            "source and target have the same server_id = {id}: they may be one server; give each its own in its my.cnf"
        )
    })
}

fn different(name: &str, (source, target): (&String, &String), remedy: &str) -> Option<String> {
    let [s, t] = [source.as_str(), target].map(|v| if v.is_empty() { "unknown" } else { v });
    let text = || format!("{name} is {s} on the source and {t} on the target: {remedy}");
    (source != target).then(text)
}

/// What keeps a replica from continuing after a copy of this server: its binary log.
pub(crate) fn binlog_obstacles(conn: &mut Conn, server: Server, who: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    if !info::is_on(conn, "log_bin")? {
        found.push(format!(
            "{who} writes no binary log, so a copy of it could not replicate: set log_bin in its my.cnf and restart it"
        ));
    }
    let updates = server.log_replica_updates();
    if let Some((from, _)) = info::role(conn, server)?.source
        && !info::is_on(conn, updates)?
    {
        found.push(format!(
            "{who} is a replica of {from} without {updates}: its binary log lacks what it replicates; set {updates} in its my.cnf \
             and restart it"
        ));
    }
    Ok(found)
}

/// The first of the [`binlog_obstacles`] as a permanent error.
pub(crate) fn check_binlog(conn: &mut Conn, server: Server, who: &str) -> Result<()> {
    first_of(binlog_obstacles(conn, server, who)?)
}

/// That the data of a server may be replaced: it is not in a cluster, does not replicate, and has no replicas. The error is permanent.
pub(crate) fn check_target_role(conn: &mut Conn, server: Server) -> Result<()> {
    info::role(conn, server)?.check_target(server)
}

/// By the table of gtid_mode on source and replica (MySQL 8.4 manual, 19.1.4.1 Replication Mode Concepts): a server with OFF accepts
/// no GTIDs, one with ON nothing else.
pub(crate) fn gtid_modes_replicate(source: &str, target: &str) -> bool {
    let may_send_gtids = ["ON", "ON_PERMISSIVE"].contains(&source);
    match target {
        "OFF" => !may_send_gtids,
        "ON" => may_send_gtids,
        _ => true,
    }
}

/// True if an account for host pattern `pattern` would be used for a login over the loopback interface.
fn loopback(pattern: &str) -> bool {
    let p = pattern.to_ascii_lowercase();
    matches!(p.as_str(), "%" | "localhost" | "127.0.0.1" | "::1" | "")
        || p.strip_suffix('%')
            .is_some_and(|head| "127.0.0.1".starts_with(head))
        || p.starts_with("127.0.0.")
}

/// True if an account for host pattern `pattern` would be used for a login through a socket, whose host is `localhost` and no address.
fn socket(pattern: &str) -> bool {
    pattern.is_empty() || like(b"localhost", pattern.to_ascii_lowercase().as_bytes())
}

/// With the wildcards `%` and `_`.
fn like(text: &[u8], pattern: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, rest) => rest.is_none(),
        (Some((b'%', more)), None) => like(text, more),
        (Some((b'%', more)), Some((_, rest))) => like(text, more) || like(rest, pattern),
        (Some((p, more)), Some((t, rest))) => (*p == b'_' || p == t) && like(rest, more),
        (Some(_), None) => false,
    }
}

/// How the agent logs in to a server with the source's accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Login {
    /// As `[mysql]` has it.
    Local,
    /// Also to a private server, which has a socket only.
    Socket,
}

/// After the load the source's accounts are the target's: the agent's must be among them, with this password, for a login
/// from the target's own host. The error is permanent unless a query fails.
pub(crate) fn check_account(user: &str, by: Login, conn: &mut Conn) -> Result<()> {
    let accounts = info::accounts(conn, user)?;
    let here = info::current_account_host(conn)?;
    let used = accounts.iter().find(|a| a.host == here);
    let local: Vec<_> = accounts.iter().filter(|a| loopback(&a.host)).collect();
    if by == Login::Socket && !accounts.iter().any(|a| socket(&a.host)) {
        let hosts: Vec<_> = accounts
            .iter()
            .map(|a| format!("'{user}'@'{}'", a.host))
            .collect();
        return Err(Error::permanent(format!(
            "the source has no account '{user}' that can log in through a socket (only {}), and its accounts will be the target's, which \
             this seed starts without network first: create '{user}'@'localhost' on the source, with the same password",
            hosts.join(", ")
        )));
    }
    if local.is_empty() {
        let all: Vec<_> = accounts
            .iter()
            .map(|a| format!("'{user}'@'{}'", a.host))
            .collect();
        return Err(Error::permanent(format!(
            "the source has no account '{user}' that can log in from localhost or 127.0.0.1 (only {}), and its accounts \
             will be the target's: create '{user}'@'localhost' or '{user}'@'%' on the source",
            all.join(", ")
        )));
    }
    // Hashes of one plugin without salt tell whether the passwords agree; salted ones do not tell.
    let tells = |a: &str| a.starts_with("mysql_native_password:") || a.starts_with("ed25519:");
    let mut comparable = local.iter().filter(|a| tells(&a.authentication));
    if let Some(used) = used.map(|a| &a.authentication).filter(|a| tells(a))
        && let Some(other) = comparable.find(|a| a.authentication != *used)
    {
        return Err(Error::permanent(format!(
            "on the source '{user}'@'{}' has another password than '{user}'@'{here}', with which the agent logs in: after \
             the load the agent could not log in to the target; give both the same password",
            other.host
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(version: &str, id: &str) -> ServerInfo {
        ServerInfo {
            server: Server::parse(version, "").unwrap(),
            server_id: id.into(),
            server_uuid: format!("uuid-{id}"),
            lower_case_table_names: "0".into(),
            innodb_page_size: "16384".into(),
            innodb_data_file_path: "ibdata1:12M:autoextend".into(),
        }
    }

    fn first(copy: CopyKind, source: &ServerInfo, target: &ServerInfo) -> String {
        obstacles(copy, source, target)
            .into_iter()
            .next()
            .unwrap_or_default()
    }

    #[test]
    fn versions() {
        const FAMILY: &str = "same family";
        const OLDER: &str = "is older than the source";
        const SERIES: &str = "needs the same series; install";
        const VERSION: &str = "CLONE needs the same series from 8.0.37 on";
        const PLUGIN: &str = "CLONE needs MySQL 8.0.17 or later";
        // Source and target; what a dump, the files and CLONE say.
        for (source, target, dump, files, clone) in [
            ("9.7.4", "9.7.0", "", "", ""),
            ("9.7.0", "9.7.4", "", "", ""),
            ("9.7.4", "9.6.0", OLDER, SERIES, VERSION),
            ("9.7.4", "26.7.0", "", SERIES, VERSION),
            ("26.7.0", "26.7.1", "", "", ""),
            ("8.4.0", "8.4.9", "", "", ""),
            ("8.0.46", "8.4.9", "", SERIES, VERSION),
            ("8.0.37", "8.0.42", "", "", ""),
            ("8.0.42-33", "8.0.37", "", "", ""), // Percona's
            ("8.0.36", "8.0.37", "", "", VERSION),
            ("8.0.36", "8.0.36-28", "", "", ""),
            ("8.0.25", "8.0.26", "", "", VERSION),
            ("8.3.0", "8.3.1", "", "", VERSION),
            ("8.3.0", "8.3.0", "", "", ""),
            ("8.0.16", "8.0.16", "", "", PLUGIN),
            ("5.7.44", "5.7.44", "", "", PLUGIN),
            ("5.7.44", "5.6.51", OLDER, SERIES, PLUGIN),
            ("10.11.6-MariaDB", "10.11.14-MariaDB", "", "", PLUGIN),
            ("10.11.6-MariaDB", "11.4.2-MariaDB", "", SERIES, PLUGIN),
            ("11.4.2-MariaDB", "10.11.6-MariaDB", OLDER, SERIES, PLUGIN),
            ("10.11.6-MariaDB", "8.4.0", FAMILY, FAMILY, FAMILY),
        ] {
            let (s, t) = (info(source, "1"), info(target, "2"));
            for (copy, wanted) in [
                (CopyKind::Dump, dump),
                (CopyKind::Files, files),
                (CopyKind::Clone, clone),
            ] {
                let got = first(copy, &s, &t);
                let agrees = if wanted.is_empty() {
                    got.is_empty()
                } else {
                    got.contains(wanted)
                };
                assert!(agrees, "{copy:?} {source} {target}: {got}");
            }
        }
    }

    #[test]
    fn variables() {
        type Change = fn(&mut ServerInfo);
        let changes: [(&str, Change, &[CopyKind]); 5] = [
            ("same server_id = 2", |s| s.server_id = "2".into(), ALL),
            (
                "same server_uuid = uuid-2",
                |s| s.server_uuid = "uuid-2".into(),
                ALL,
            ),
            (
                "lower_case_table_names is 1 on the source and 0 on the target",
                |s| s.lower_case_table_names = "1".into(),
                ALL,
            ),
            (
                "innodb_page_size is 4096",
                |s| s.innodb_page_size = "4096".into(),
                PHYSICAL,
            ),
            (
                "innodb_data_file_path is unknown",
                |s| s.innodb_data_file_path.clear(),
                PHYSICAL,
            ),
        ];
        for (wanted, change, copies) in changes {
            let (mut source, target) = (info("8.4.0", "1"), info("8.4.0", "2"));
            assert_eq!(obstacles(CopyKind::Clone, &source, &target), [""; 0]);
            change(&mut source);
            for copy in ALL {
                let got = obstacles(*copy, &source, &target);
                assert_eq!(
                    got.len(),
                    usize::from(copies.contains(copy)),
                    "{copy:?} {got:?}"
                );
                assert!(got.iter().all(|g| g.contains(wanted)), "{got:?}");
                assert_eq!(
                    check(*copy, &source, &target).is_err(),
                    copies.contains(copy)
                );
            }
        }
        // MariaDB has no server_uuid.
        let (mut source, mut target) = (info("10.11.6-MariaDB", "1"), info("10.11.6-MariaDB", "2"));
        (source.server_uuid, target.server_uuid) = (String::new(), String::new());
        assert_eq!(obstacles(CopyKind::Files, &source, &target), [""; 0]);
        // Not known.
        (source.server_id, target.server_id) = (String::new(), String::new());
        assert_eq!(obstacles(CopyKind::Files, &source, &target), [""; 0]);
    }

    #[test]
    fn gtid_modes() {
        let modes = ["OFF", "OFF_PERMISSIVE", "ON_PERMISSIVE", "ON"];
        let row = |target: &str| modes.map(|source| gtid_modes_replicate(source, target));
        assert_eq!(row("OFF"), [true, true, false, false]);
        assert_eq!(row("OFF_PERMISSIVE"), [true; 4]);
        assert_eq!(row("ON_PERMISSIVE"), [true; 4]);
        assert_eq!(row("ON"), [false, false, true, true]);
    }

    #[test]
    fn which_accounts_serve_the_loopback() {
        for yes in [
            "%",
            "localhost",
            "127.0.0.1",
            "127.%",
            "127.0.0.0/255.0.0.0",
            "::1",
            "",
        ] {
            assert!(loopback(yes), "{yes}");
        }
        for no in ["10.%", "db1", "192.168.1.7", "%.example.com"] {
            assert!(!loopback(no), "{no}");
        }
    }

    #[test]
    fn which_accounts_serve_a_socket() {
        for yes in [
            "%",
            "localhost",
            "LocalHost",
            "local%",
            "%host",
            "l_calhost%",
            "",
        ] {
            assert!(socket(yes), "{yes}");
        }
        for no in [
            "127.0.0.1",
            "127.%",
            "::1",
            "local",
            "_localhost",
            "%.localhost",
            "db1",
        ] {
            assert!(!socket(no), "{no}");
        }
    }
}

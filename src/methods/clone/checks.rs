//! What is checked before anything is copied or changed. CLONE checks some of it again before it deletes anything.

use super::ClonePlugin;
use crate::compatibility::{self, CopyKind, Login, ServerInfo};
use crate::datadir::{self, DatadirInfo, Role};
use crate::error::{Error, Result, TLS_REQUIRED};
use crate::methods::swap_in;
use crate::mysql::{
    Endpoint, Identity, MOVE_BACK, Server, connect, control, grants, info, query, quote_name,
};
use crate::sys::Inserted;
use mysql::{Conn, Row};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

/// Deadline of queries to a server with thousands of tables.
const QUERY: Duration = Duration::from_secs(60);
/// Deadline of the first login, by which a server that hangs is found.
const LOGIN: Duration = Duration::from_secs(10);
const LIBRARY: &str = "mysql_clone.so";
/// Names of tables in an error, at most.
const NAMED: usize = 20;
/// CLONE needs packets of this size on both ends.
const PACKET: u64 = 2 << 20;

/// The source.
pub(super) struct Donor {
    pub(super) at: Endpoint,
    /// Bytes of its InnoDB files; `None` if it could not be queried.
    pub(super) bytes: Option<u64>,
    /// It has replication channels, or could not be queried.
    pub(super) replicates: bool,
    /// Libraries of the plugins that a private server which clones must have.
    pub(super) libraries: Vec<String>,
    /// Its active plugins; none if it could not be queried.
    plugins: Vec<Plugin>,
    /// What identifies it while CLONE runs; `None` if it could not be queried.
    identity: Option<Identity>,
}

impl Donor {
    /// That its address still leads to the server that was checked: CLONE does not report which server it has read. Permanent: it leads
    /// to another one. Transient: the server was restarted meanwhile, or cannot be reached.
    pub(super) fn is_unchanged(&self) -> Result<()> {
        match &self.identity {
            Some(identity) => identity.verify(&mut connect_twice(&self.at)?),
            None => Ok(()),
        }
    }
}

/// An active plugin, and its library unless it is a part of the server.
type Plugin = (String, Option<String>);

/// Connects for long queries; a server that hangs is found soon.
fn connect_twice(to: &Endpoint) -> Result<Conn> {
    drop(connect(to, LOGIN)?);
    connect(to, QUERY)
}

/// The status of the plugin; empty if it is not installed.
fn plugin(conn: &mut Conn) -> Result<String> {
    let status = query::first(
        conn,
        "SELECT PLUGIN_STATUS FROM information_schema.PLUGINS WHERE PLUGIN_NAME = 'clone'",
    )?;
    Ok(status.unwrap_or_default())
}

pub(super) fn is_active(conn: &mut Conn) -> Result<bool> {
    Ok(plugin(conn)? == "ACTIVE")
}

/// Installs the plugin where it is missing. A server whose data were replaced by CLONE may have lost it: which plugins are
/// installed is among the data.
pub(super) fn install(conn: &mut Conn) -> Result<()> {
    let status = plugin(conn)?;
    if status == "ACTIVE" {
        return Ok(());
    }
    let remedy = |status: &str| {
        format!(
            "the clone plugin is {status} on this server: set plugin_load_add = {LIBRARY} in its my.cnf and restart it"
        )
    };
    if !status.is_empty() {
        return Err(Error::permanent(remedy(&status))); // DISABLED: installing it again does not help
    }
    let install = format!("INSTALL PLUGIN clone SONAME '{LIBRARY}'");
    let remedy = || format!("{} (installing it failed)", remedy("not installed"));
    control::execute(conn, &install).map_err(|e| e.context(remedy()))?;
    log::warn!("the clone plugin was not installed on this server: {install}");
    Ok(())
}

/// That a server can be a source, by its own values.
fn source(conn: &mut Conn, server: Server, who: &str) -> Result<()> {
    compatibility::can_clone(server, who)?;
    let mut needed = grants::for_copy(server);
    needed.extend(grants::for_events_of_others(conn, server)?);
    needed.insert("BACKUP_ADMIN".into());
    swap_in::check_privileges(conn, server, &needed, (who, "CLONE"))?;
    compatibility::check_binlog(conn, server, who)?;
    packets(conn, who)?;
    tablespaces(conn, who)?;
    only_innodb(conn, who)
}

/// What a copy could not be read with, or would write outside the target's data directory.
fn tablespaces(conn: &mut Conn, who: &str) -> Result<()> {
    let encrypted: Option<String> = query::first(
        conn,
        "SELECT NAME FROM information_schema.INNODB_TABLESPACES WHERE ENCRYPTION = 'Y' LIMIT 1",
    )?;
    if let Some(name) = encrypted {
        return Err(Error::permanent(format!(
            "the tablespace {name} on {who} is encrypted, and the keys of one host are not those of another: decrypt it \
             (ALTER TABLE ... ENCRYPTION='N'), or use the method Mysqldump with a target that has keys of its own"
        )));
    }
    let datadir = info::global(conn, "datadir")?.unwrap_or_default();
    let files: Vec<String> = query::rows(
        conn,
        "SELECT FILE_NAME FROM information_schema.FILES WHERE FILE_TYPE = 'TABLESPACE' AND ENGINE = 'InnoDB'",
    )?;
    if let Some(file) = files.iter().find(|f| is_elsewhere(f, &datadir)) {
        return Err(Error::permanent(format!(
            "the tablespace {file} on {who} is outside its data directory, and CLONE would write it to the same place here: use the method \
             Mysqldump, or {MOVE_BACK}"
        )));
    }
    Ok(())
}

/// As information_schema.FILES names files: relative to the data directory or with a full path.
fn is_elsewhere(file: &str, datadir: &str) -> bool {
    file.starts_with("../") || (file.starts_with('/') && !Path::new(file).starts_with(datadir))
}

fn packets(conn: &mut Conn, who: &str) -> Result<()> {
    let size = info::global(conn, "max_allowed_packet")?.unwrap_or_default();
    if size.parse().is_ok_and(|n: u64| n >= PACKET) {
        return Ok(());
    }
    Err(Error::permanent(format!(
        "max_allowed_packet = {size} on {who}: CLONE needs {PACKET} or more on both servers"
    )))
}

/// CLONE copies InnoDB only: other tables would arrive empty.
fn only_innodb(conn: &mut Conn, who: &str) -> Result<()> {
    let other = format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME, ENGINE FROM information_schema.TABLES WHERE TABLE_TYPE = 'BASE TABLE' \
         AND ENGINE <> 'InnoDB' AND TABLE_SCHEMA NOT IN ({}) ORDER BY 1, 2",
        info::system_schemas()
    );
    let tables: Vec<(String, String, String)> = query::rows(conn, other)?;
    if tables.is_empty() {
        return Ok(());
    }
    let name =
        |(s, t, e): &(String, String, String)| format!("{}.{} ({e})", quote_name(s), quote_name(t));
    let mut names: Vec<String> = tables.iter().take(NAMED).map(name).collect();
    if tables.len() > NAMED {
        names.push(format!("{} more", tables.len() - NAMED));
    }
    Err(Error::permanent(format!(
        "{who} has tables that are not InnoDB, and CLONE would bring them empty: {}; convert them (ALTER TABLE ... ENGINE = InnoDB), or \
         use the method Mysqldump or Xtrabackup",
        names.join(", ")
    )))
}

fn plugins(conn: &mut Conn) -> Result<Vec<Plugin>> {
    query::rows(
        conn,
        "SELECT PLUGIN_NAME, PLUGIN_LIBRARY FROM information_schema.PLUGINS WHERE PLUGIN_STATUS = 'ACTIVE' ORDER BY 1",
    )
}

fn libraries(plugins: &[Plugin]) -> Vec<String> {
    let all: BTreeSet<&String> = plugins.iter().filter_map(|p| p.1.as_ref()).inserted();
    all.into_iter().cloned().collect()
}

/// Bytes of the InnoDB files that will be copied.
fn bytes(conn: &mut Conn) -> Result<u64> {
    let mut sum = |query: &str| -> Result<u64> {
        let sum: Option<Option<u64>> = query::first(conn, query)?;
        Ok(sum.flatten().unwrap_or(0))
    };
    Ok(sum(
        "SELECT CAST(SUM(FILE_SIZE) AS UNSIGNED) FROM information_schema.INNODB_TABLESPACES WHERE NAME <> 'innodb_temporary'",
    )? + sum(
        "SELECT CAST(SUM(TOTAL_EXTENTS * EXTENT_SIZE) AS UNSIGNED) FROM information_schema.FILES WHERE TABLESPACE_NAME = 'innodb_system'",
    )?)
}

impl ClonePlugin {
    /// Whether the plugin works here, or can be installed; for `available`, in a second.
    pub(super) fn check_plugin(&self) -> Result<()> {
        let account = &self.config.mysql;
        login(&account.user, account.password.reveal())?;
        let mut conn = connect(&Endpoint::local(account), Duration::from_secs(1))?;
        compatibility::can_clone(Server::ask(&mut conn)?, "this server")?;
        match plugin(&mut conn)?.as_str() {
            "ACTIVE" => return Ok(()),
            "" => {}
            other => {
                return Err(Error::permanent(format!(
                    "the clone plugin is {other} on this server: see its my.cnf and error log"
                )));
            }
        }
        let dir = info::global(&mut conn, "plugin_dir")?.unwrap_or_default();
        if Path::new(&dir).join(LIBRARY).is_file() {
            return Ok(());
        }
        Err(Error::permanent(format!(
            "the clone plugin is not installed and plugin_dir = \"{dir}\" has no {LIBRARY}: install MySQL's package with it"
        )))
    }

    /// Prepare of a source. Changes nothing.
    pub(super) fn check_source(&self) -> Result<()> {
        let mut conn = connect_twice(&Endpoint::local(&self.config.mysql))?;
        let server = Server::ask(&mut conn)?;
        source(&mut conn, server, "this server")
    }

    /// Prepare of a target. Changes nothing.
    pub(super) fn check_target(&self) -> Result<DatadirInfo> {
        let mysql = &self.config.mysql;
        let mut conn = connect_twice(&Endpoint::local(mysql))
            .map_err(|e| e.context("CLONE is run by this server itself, which must be up"))?;
        let server = Server::ask(&mut conn)?;
        self.check_host(server)?;
        if !info::is_on(&mut conn, "performance_schema")? {
            return Err(Error::permanent(
                "performance_schema = OFF: it shows the progress of a CLONE and the coordinates of its copy; set it to ON in this server's my.cnf \
                 and restart it",
            ));
        }
        packets(&mut conn, "this server")?;
        let needed = ["CLONE_ADMIN", "SYSTEM_VARIABLES_ADMIN"].map(String::from);
        let what = ("this server", "CLONE");
        swap_in::check_privileges(&mut conn, server, &needed.into(), what)?;
        datadir::inspect(&self.config, Role::Target)
    }

    /// The same in a classic seed: MySQL is down, and a private server clones. What is checked of a running server above, that one has
    /// by its options.
    pub(super) fn check_stopped_target(&self) -> Result<DatadirInfo> {
        let info = datadir::inspect(&self.config, Role::Target)?;
        swap_in::check_stopped(&info)?;
        self.check_host(info.server)?;
        has_libraries(&info, &[LIBRARY.to_string()])?;
        Ok(info)
    }

    /// What a target needs by its version and its agent's configuration.
    fn check_host(&self, server: Server) -> Result<()> {
        let mysql = &self.config.mysql;
        compatibility::can_clone(server, "this server")?;
        login(&mysql.user, mysql.password.reveal())?;
        swap_in::check_settings(mysql)?;
        swap_in::service_permitted(&self.config)?;
        let c = &self.config.clone_plugin;
        for (name, file) in [
            ("ca", &c.ssl_ca),
            ("cert", &c.ssl_cert),
            ("key", &c.ssl_key),
        ] {
            if !file.is_empty() && !Path::new(file).is_file() {
                return Err(Error::permanent(format!(
                    "clone_plugin.clone-ssl-{name} = \"{file}\" is not a file on this host"
                )));
            }
        }
        Ok(())
    }

    /// Backup of a target whose server runs.
    pub(super) fn check_donor(&self, at: Endpoint) -> Result<Donor> {
        let mut own = connect_twice(&Endpoint::local(&self.config.mysql))?;
        let target = Server::ask(&mut own)?;
        let ours = ServerInfo::query(&mut own, target)?;
        let mut donor = self.donor(at, &ours, Login::Local)?;
        let here = plugins(&mut own)?;
        let missing = donor.plugins.iter().map(|p| p.0.as_str());
        let missing: Vec<&str> = missing
            .filter(|name| here.iter().all(|p| p.0 != *name))
            .collect();
        if !missing.is_empty() {
            return Err(Error::permanent(format!(
                "plugins that are active on source {} are missing on this server, and CLONE needs them here: {}; INSTALL PLUGIN them",
                donor.at.name(),
                missing.join(", ")
            )));
        }
        donor.libraries = libraries(&here);
        Ok(donor)
    }

    /// Backup of a target whose server may be down: a private one gets the source's plugins.
    pub(super) fn check_donor_of_stopped(&self, at: Endpoint, info: &DatadirInfo) -> Result<Donor> {
        let mut donor = self.donor(at, &info.into(), Login::Socket)?;
        donor.libraries = libraries(&donor.plugins);
        if donor.identity.is_none() {
            donor.libraries.push(LIBRARY.into());
        }
        has_libraries(info, &donor.libraries)?;
        Ok(donor)
    }

    /// The first moment at which the source is known. One that requires TLS (3159) is checked by its own agent and by CLONE alone: this
    /// connection has no TLS.
    fn donor(&self, at: Endpoint, target: &ServerInfo, login: Login) -> Result<Donor> {
        let who = format!("source {}", at.name());
        let of_source = |e: Error| e.context(&who);
        if at.host.contains(':') {
            return Err(Error::permanent(format!(
                "{who}: CLONE takes no IPv6 address: give the source by its name"
            )));
        }
        let mut donor = Donor {
            at,
            bytes: None,
            replicates: true,
            libraries: Vec::new(),
            plugins: Vec::new(),
            identity: None,
        };
        let mut conn = match connect_twice(&donor.at) {
            Ok(conn) => conn,
            Err(e) if e.mysql_code() == Some(TLS_REQUIRED) => {
                log::warn!(
                    "{who} takes connections by TLS only: it is checked by its own agent and by CLONE"
                );
                return Ok(donor);
            }
            Err(e) => return Err(of_source(e)),
        };
        let identity = Identity::hold(&donor.at).map_err(of_source)?;
        identity.verify(&mut conn).map_err(of_source)?;
        let server = Server::ask(&mut conn).map_err(of_source)?;
        let theirs = ServerInfo::query(&mut conn, server)?;
        compatibility::check(CopyKind::Clone, &theirs, target).map_err(of_source)?;
        source(&mut conn, server, &who)?;
        let status = plugin(&mut conn)?;
        if status != "ACTIVE" {
            return Err(Error::permanent(format!(
                "the clone plugin is not active on {who}: INSTALL PLUGIN clone SONAME '{LIBRARY}' there, or set plugin_load_add = {LIBRARY} \
                 in its my.cnf and restart it"
            )));
        }
        compatibility::check_account(&self.config.mysql.user, login, &mut conn)?;
        donor.plugins = plugins(&mut conn)?;
        donor.bytes = Some(bytes(&mut conn)?);
        donor.replicates = query::first::<Row>(&mut conn, server.replica_status())?.is_some();
        donor.identity = Some(identity);
        Ok(donor)
    }
}

/// That a server which is started by the agent finds these libraries of plugins; one whose directory is not known is not checked.
fn has_libraries(info: &DatadirInfo, names: &[String]) -> Result<()> {
    let Some(dir) = info.option("plugin_dir") else {
        return Ok(());
    };
    let missing = |name: &&String| !Path::new(dir).join(name).is_file();
    let missing: Vec<&str> = names.iter().filter(missing).map(String::as_str).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::permanent(format!(
        "plugin_dir = \"{dir}\" of this host has no {}, and the server that clones needs it: install the package of MySQL that has it, \
         or remove the plugin from the source",
        missing.join(", ")
    )))
}

/// That CLONE can log in to the source with the agent's account: its own client sends the password in utf8mb3, so that the
/// source refuses one with other characters (1045; seen on 9.7.4).
fn login(user: &str, password: &str) -> Result<()> {
    let longer = |text: &str| text.chars().any(|c| c.len_utf8() > 3);
    if longer(user) || longer(password) {
        return Err(Error::permanent(
            "CLONE logs in to the source with the character set utf8mb3, and mysql.user or mysql.password has a character of 4 bytes in \
             UTF-8, such as an emoji, which utf8mb3 does not have: give the account another password, or use the method Mysqldump \
             or Xtrabackup",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_tablespaces_are_elsewhere() {
        for inside in ["./shop/t.ibd", "ibdata1", "/var/lib/mysql/shop/t.ibd"] {
            assert!(!is_elsewhere(inside, "/var/lib/mysql/"), "{inside}");
        }
        for outside in ["../t.ibd", "/fast/shop/t.ibd", "/var/lib/mysql-2/t.ibd"] {
            assert!(is_elsewhere(outside, "/var/lib/mysql/"), "{outside}");
        }
    }

    #[test]
    fn libraries_that_a_private_server_lacks() {
        let d = std::env::temp_dir().join(format!("oa-libraries-{}", std::process::id()));
        std::fs::create_dir_all(&d).unwrap();
        std::fs::write(d.join(LIBRARY), "").unwrap();
        let plugin = |name: &str, library: &str| (name.to_string(), Some(library.to_string()));
        let active = [
            plugin("clone", LIBRARY),
            ("InnoDB".to_string(), None),
            plugin("one", "both.so"),
            plugin("two", "both.so"),
        ];
        let wanted = libraries(&active);
        assert_eq!(wanted, ["both.so", LIBRARY]);
        let mut info = DatadirInfo::for_test();
        has_libraries(&info, &wanted).unwrap(); // not known
        let option = ("plugin_dir".to_string(), d.display().to_string());
        info.options.push(option);
        has_libraries(&info, &libraries(&active[..2])).unwrap();
        let e = has_libraries(&info, &wanted).unwrap_err().to_string();
        assert!(e.contains("has no both.so, "), "{e}");
        std::fs::remove_dir_all(&d).unwrap();
    }

    #[test]
    fn passwords_that_clone_cannot_send() {
        assert!(login("u", "p\u{e4}\u{20ac}").is_ok());
        assert!(login("u\u{1f511}", "p").is_err());
        let e = login("u", "p\u{1f511}").unwrap_err().to_string();
        assert!(e.contains("utf8mb3") && !e.contains('\u{1f511}'), "{e}");
    }
}

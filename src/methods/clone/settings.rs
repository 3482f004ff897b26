//! The server's variables that a CLONE changes, each by the setting of its own name (D10). What they were is in the record before.

use crate::config;
use crate::error::{Error, Result};
use crate::methods::swap_in::KEPT;
use crate::mysql::{Restore, Server, Version, control, info, quote_text};
use mysql::Conn;

/// Variable and the value that it is to have.
pub type Wanted = Vec<(&'static str, String)>;

/// What the configuration wants, without the list of donors.
pub fn wanted(c: &config::ClonePlugin) -> Wanted {
    let flag = |on: bool| if on { "ON" } else { "OFF" }.to_string();
    vec![
        ("clone_autotune_concurrency", flag(c.autotune_concurrency)),
        ("clone_buffer_size", c.buffer_size.to_string()),
        ("clone_ddl_timeout", c.ddl_timeout.to_string()),
        ("clone_enable_compression", flag(c.enable_compression)),
        ("clone_max_concurrency", c.max_concurrency.to_string()),
        ("clone_max_data_bandwidth", c.max_data_bandwidth.to_string()),
        (
            "clone_max_network_bandwidth",
            c.max_network_bandwidth.to_string(),
        ),
        ("clone_ssl_ca", c.ssl_ca.clone()),
        ("clone_ssl_cert", c.ssl_cert.clone()),
        ("clone_ssl_key", c.ssl_key.clone()),
    ]
}

/// The present values of those that differ, for the record.
///
/// # Errors
/// If a query fails; a variable that the server does not have.
pub fn to_restore(conn: &mut Conn, wanted: &Wanted) -> Result<Vec<Restore>> {
    let mut out = Vec::new();
    for (name, value) in wanted {
        let present = present(conn, name)?;
        if present != *value {
            out.push(Restore::Global {
                name: (*name).to_string(),
                value: present,
            });
        }
    }
    Ok(out)
}

/// Sets those that differ and reads them back.
///
/// # Errors
/// If the server refuses one, or has another value then.
pub fn set(conn: &mut Conn, wanted: &Wanted) -> Result<()> {
    for (name, value) in wanted {
        if present(conn, name)? == *value {
            continue;
        }
        let number = value.bytes().all(|b| b.is_ascii_digit());
        let literal = match value.as_str() {
            "" => "NULL".to_string(),
            value if number => value.to_string(),
            value => quote_text(value),
        };
        control::execute(conn, &format!("SET GLOBAL {name} = {literal}"))?;
        let now = present(conn, name)?;
        if now != *value {
            return Err(Error::permanent(format!(
                "{name} is {now} after it was set to {value}: give the setting of this name in [clone_plugin] a value that the \
                 server takes"
            )));
        }
    }
    Ok(())
}

/// For the record: the settings that keep statements out of the server.
///
/// # Errors
/// If a query fails.
pub fn read_only(conn: &mut Conn) -> Result<Vec<Restore>> {
    let mut out = Vec::new();
    for name in KEPT {
        if let Some(value) = info::global(conn, name)? {
            out.push(Restore::Global {
                name: name.to_string(),
                value,
            });
        }
    }
    Ok(out)
}

fn present(conn: &mut Conn, name: &str) -> Result<String> {
    info::global(conn, name)?.ok_or_else(|| {
        Error::permanent(format!(
            "this server has no variable {name}: is its clone plugin active?"
        ))
    })
}

/// What keeps the copy of a CLONE in place quiet: the server restarts on it, with the source's events and channels, before anybody
/// can log in. Both are persisted, which a CLONE does not touch (MySQL 9.7).
#[derive(Debug, Clone, Copy)]
pub struct Guard {
    /// The source replicates: its channels would start.
    pub channels: bool,
    /// No event may run (`mysql.disable-events-on-target`).
    pub events: bool,
}

impl Guard {
    fn names(self, conn: &mut Conn, server: Server) -> Result<Vec<(&'static str, &'static str)>> {
        let mut names = Vec::new();
        let skip = match server.version >= Version(8, 0, 26) {
            true => "skip_replica_start",
            false => "skip_slave_start",
        };
        if self.channels && !info::is_on(conn, skip)? {
            names.push((skip, "ON"));
        }
        let scheduler = info::global(conn, "event_scheduler")?.unwrap_or_default();
        if self.events && !scheduler.eq_ignore_ascii_case("DISABLED") {
            names.push(("event_scheduler", "OFF"));
        }
        Ok(names)
    }

    /// For the record: what [`Guard::up`] changes, and what a restart forgets.
    ///
    /// # Errors
    /// If a query fails.
    pub fn to_restore(self, conn: &mut Conn, server: Server) -> Result<Vec<Restore>> {
        let mut out = read_only(conn)?;
        let scheduler = info::global(conn, "event_scheduler")?;
        if let Some(value) = scheduler.filter(|v| !v.eq_ignore_ascii_case("DISABLED")) {
            out.push(Restore::Global {
                name: "event_scheduler".into(),
                value,
            });
        }
        for (name, _) in self.names(conn, server)? {
            out.push(control::persisted(conn, name)?);
        }
        Ok(out)
    }

    /// From the next start on.
    ///
    /// # Errors
    /// Permanent, with the remedy.
    pub fn up(self, conn: &mut Conn, server: Server) -> Result<()> {
        let names = self.names(conn, server)?;
        if !names.is_empty() && !info::is_on(conn, "persisted_globals_load")? {
            return Err(Error::permanent(
                "persisted_globals_load = OFF: MySQL would run the source's events and channels when it restarts with the copy; remove \
                 the setting, or set event_scheduler = OFF and skip_replica_start = ON in its my.cnf",
            ));
        }
        for (name, value) in names {
            control::persist(conn, name, Some(value)).map_err(|e| {
                let privilege = match name {
                    "event_scheduler" => "SYSTEM_VARIABLES_ADMIN",
                    _ => "PERSIST_RO_VARIABLES_ADMIN",
                };
                e.context(format!(
                    "the source's {} would start when MySQL restarts with the copy: set {name} = {value} in this server's my.cnf, or \
                     grant {privilege} to mysql.user on both servers",
                    if name == "event_scheduler" { "events" } else { "replication channels" },
                ))
            })?;
        }
        Ok(())
    }
}

//! Whose a data directory is. Nothing in it is moved before it is known to be that of the server behind mysql.host, mysql.port or
//! mysql.socket: the path alone proves nothing, because the server may run on another host, and another instance may report the same.

use super::info::Variables;
use crate::config;
use crate::error::{Error, OnPath, Result};
use crate::mysql::{Endpoint, Session};
use crate::sys::host::kernel_hostname;
use crate::sys::net::peer_process;
use crate::sys::proc::{has_tcp_peer, servers};
use ::mysql::Conn;
use ::mysql::prelude::Queryable;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// That the server at the other end of `conn` reports `datadir` as its data directory, and [`check_running`].
pub(super) fn check_datadir(conn: &mut Conn, endpoint: &Endpoint, datadir: &Path) -> Result<()> {
    let reported = conn.query_first::<String, _>("SELECT @@datadir");
    let reported = reported.map_err(|e| endpoint.failure(&e))?;
    let reported = reported.unwrap_or_default();
    if !std::fs::canonicalize(&reported).is_ok_and(|real| real == datadir) {
        return Err(Error::permanent(format!(
            "MySQL at {} has the data directory {reported}, not {}, whose content is swapped: mysql.service-start-command starts a server \
             with other settings, or mysql.host, mysql.port and mysql.socket point to another server",
            endpoint.name(),
            datadir.display()
        )));
    }
    check_running(conn, endpoint, datadir)
}

/// That the server at the other end of `conn` works in `datadir`, on this host: the process in that directory holds the other end
/// of the connection, by the client's port as the server itself sees it, or listens on the unix socket. Where this process may not
/// inspect the others, the host's name counts.
pub(super) fn check_running(conn: &mut Conn, endpoint: &Endpoint, datadir: &Path) -> Result<()> {
    let mut first = |query: &str| -> Result<String> {
        let value: Option<String> = conn.query_first(query).map_err(|e| endpoint.failure(&e))?;
        Ok(value.unwrap_or_default())
    };
    let client =
        first("SELECT HOST FROM information_schema.PROCESSLIST WHERE ID = CONNECTION_ID()")?;
    let (there, complete) = servers(datadir);
    let is_there = match Session::parse(&client).port {
        Some(port) => holds_client(&there, complete, port),
        None => listens(&there, complete, &endpoint.socket),
    };
    let is_there = match is_there {
        Some(known) => known,
        None => first("SELECT @@hostname")? == kernel_hostname(),
    };
    if is_there {
        return Ok(());
    }
    Err(Error::permanent(format!(
        "MySQL at {} reports the data directory {}, but no server that works in that directory on this host holds the agent's \
         connection: the connection leads to another server (mysql.host, mysql.port or mysql.socket of another instance or host, a \
         forwarder, a load balancer); set them to the server of this host",
        endpoint.name(),
        datadir.display()
    )))
}

/// Whether one of the processes holds a connection from `port`; `None` if not all can be inspected.
fn holds_client(there: &[u32], complete: bool, port: u16) -> Option<bool> {
    let mut readable = complete;
    for pid in there {
        match has_tcp_peer(*pid, port) {
            Some(true) => return Some(true),
            Some(false) => {}
            None => readable = false,
        }
    }
    readable.then_some(false)
}

/// Whether one of the processes listens on `socket`; `None` if not all can be inspected.
fn listens(there: &[u32], complete: bool, socket: &str) -> Option<bool> {
    match UnixStream::connect(socket).and_then(|s| peer_process(&s)) {
        Ok(pid) if there.contains(&pid) => Some(true),
        Ok(_) if complete => Some(false),
        _ => None,
    }
}

/// That `of`, the settings of a server that is down, are those of the server of `[mysql]`: the same socket, or the same port.
pub(super) fn check_settings(
    of: &Variables,
    datadir: &Path,
    settings: &config::Mysql,
) -> Result<()> {
    let value = |name: &str| super::info::value(of, name);
    let file = match settings.defaults_file.as_str() {
        "" => "the option files in the default places".to_string(),
        file => format!("mysql.defaults-file = \"{file}\""),
    };
    let (name, wanted, found) = if settings.socket.is_empty() {
        let off = value("skip_networking").eq_ignore_ascii_case("TRUE");
        let port = match value("port") {
            "0" => "3306",
            _ if off => "none (skip_networking)",
            port => port,
        };
        ("port", settings.port.to_string(), port.to_string())
    } else {
        let real = |path: &Path| std::fs::canonicalize(path.parent().unwrap_or(path));
        let found = datadir.join(value("socket"));
        let wanted = Path::new(&settings.socket);
        let same = found.file_name() == wanted.file_name()
            && matches!((real(&found), real(wanted)), (Ok(a), Ok(b)) if a == b);
        if same {
            return Ok(());
        }
        let found = found.display().to_string();
        ("socket", settings.socket.clone(), found)
    };
    if wanted == found {
        return Ok(());
    }
    Err(Error::permanent(format!(
        "MySQL is down, and its data directory (mysql.datadir) is not known: {file} may be another server's, because {name} there is \
         {found}, and mysql.{name} = {wanted}; start MySQL once, so that the agent learns its data directory, or set mysql.defaults-file \
         to the option file that this server is started with"
    )))
}

/// What a note about a data directory was written for.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Seen {
    host: String,
    /// Where the server answered: `host:port` or the socket.
    server: String,
    /// Inode number of the data directory.
    inode: u64,
    /// When this host was installed, by /etc/machine-id; empty without that file.
    machine: String,
}

impl Seen {
    pub(super) fn now(datadir: &Path, settings: &config::Mysql) -> Result<Self> {
        let meta = std::fs::metadata(datadir).on(datadir)?;
        let machine = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
        Ok(Self {
            host: kernel_hostname(),
            server: Endpoint::local(settings).name(),
            inode: meta.ino(),
            machine: machine.trim().to_string(),
        })
    }

    /// Why it is not a note about what is `now`; `None` if it is.
    pub(super) fn differs(&self, now: &Self) -> Option<&'static str> {
        if self.host != now.host || self.machine != now.machine {
            Some("it was written on another host")
        } else if self.server != now.server {
            Some("it is about a server at another address")
        } else if self.inode != now.inode {
            Some("the directory has been replaced since")
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_another_server_are_refused() {
        let dir = std::env::temp_dir().join(format!("oa-owner-{}", std::process::id()));
        let data = dir.join("data");
        std::fs::create_dir_all(&data).unwrap();
        std::os::unix::fs::symlink(&dir, dir.join("link")).unwrap();
        let settings = |port: u16, socket: &str| {
            let text = format!(
                "[common]\nbackup-dir = \"/b\"\n[orchestrator]\nurl = \"http://127.0.0.1\"\n[mysql]\nuser = \"u\"\npassword = \"p\"\nport = {port}\nsocket = {socket:?}\n"
            );
            config::parse(&text).unwrap().config.mysql
        };
        let of = |pairs: &[(&str, &str)]| -> Variables {
            let owned = pairs.iter().map(|(n, v)| (n.to_string(), v.to_string()));
            owned.collect()
        };
        let path = |p: &str| dir.join(p).display().to_string();
        let (sock, linked, other) = (path("a.sock"), path("link/a.sock"), path("b.sock"));
        let inside = path("data/s");
        for (found, wanted, good) in [
            (of(&[("port", "3307")]), settings(3307, ""), true),
            (of(&[("port", "0")]), settings(3306, ""), true),
            (of(&[("port", "3307")]), settings(3306, ""), false),
            (
                of(&[("port", "3306"), ("skip_networking", "TRUE")]),
                settings(3306, ""),
                false,
            ),
            (of(&[("socket", &sock)]), settings(1, &sock), true),
            (of(&[("socket", &linked)]), settings(1, &sock), true),
            (of(&[("socket", "s")]), settings(1, &inside), true),
            (of(&[("socket", &other)]), settings(1, &sock), false),
            (
                of(&[("port", "3306"), ("socket", &other)]),
                settings(3306, &sock),
                false,
            ),
        ] {
            let result = check_settings(&found, &data, &wanted);
            assert_eq!(result.is_ok(), good, "{found:?}: {result:?}");
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_note_is_about_one_directory_of_one_host() {
        let seen = Seen {
            host: "h".into(),
            server: "127.0.0.1:3306".into(),
            inode: 7,
            machine: "m".into(),
        };
        assert_eq!(seen.differs(&seen), None);
        for other in [
            Seen {
                host: "g".into(),
                ..seen.clone()
            },
            Seen {
                machine: "n".into(),
                ..seen.clone()
            },
            Seen {
                server: "127.0.0.1:3307".into(),
                ..seen.clone()
            },
            Seen {
                inode: 8,
                ..seen.clone()
            },
        ] {
            assert!(seen.differs(&other).is_some(), "{other:?}");
        }
    }
}

//! Which programs, and whether they fit the server.

use super::messages;
use crate::error::{Error, Result};
use crate::mysql::{Flavour, Server, Version};
use crate::process::{Exit, Launcher, version_text};
use std::path::{Path, PathBuf};

/// The two programs of one family.
#[derive(Debug, Clone)]
pub(crate) struct Tools {
    /// Makes and prepares copies.
    pub(super) backup: PathBuf,
    /// Unpacks the stream.
    pub(super) unpack: PathBuf,
    /// The server that the first one is made for.
    pub(super) version: Server,
}

/// Finds them in PATH.
///
/// # Errors
/// Permanent, with the names that were looked for.
pub(crate) fn find(launcher: &Launcher, flavour: Flavour) -> Result<Tools> {
    let (backup, unpack): (&[&str], &str) = match flavour {
        Flavour::MariaDb => (&["mariadb-backup", "mariabackup"], "mbstream"),
        Flavour::MySql => (&["xtrabackup"], "xbstream"),
    };
    let backup = launcher.find(backup)?;
    let unpack = launcher.find(&[unpack])?;
    let version = version_of(&backup)?;
    Ok(Tools {
        backup,
        unpack,
        version,
    })
}

/// A program's own name, for messages.
pub(super) fn name(program: &Path) -> String {
    let name = program.file_name();
    name.map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_default()
}

fn version_of(program: &Path) -> Result<Server> {
    parse_version(&version_text(program)?)
        .map_err(|e| e.context(format!("{} --version", program.display())))
}

/// `mariadb-backup based on MariaDB server 10.11.19-MariaDB debian-linux-gnu (x86_64)`,
/// `xtrabackup version 8.0.35-35 based on MySQL server 8.0.35 Linux (x86_64) (revision id: ...)`.
fn parse_version(text: &str) -> Result<Server> {
    let after = |mark: &str| text.split_once(mark).map(|(_, rest)| rest);
    let word = |rest: &str| rest.split_whitespace().next().unwrap_or("").to_string();
    match (after("MariaDB server "), after("xtrabackup version ")) {
        (Some(rest), _) => Server::parse(&word(rest), "MariaDB"),
        (None, Some(rest)) => Server::parse(&word(rest), ""),
        _ => Err(Error::permanent(format!(
            "cannot read a version out of \"{}\"",
            text.lines().next().unwrap_or_default()
        ))),
    }
}

impl Tools {
    /// That the backup tool is for this server: of its family and series. Percona's 2.4 is for MySQL 5.x; one that is older
    /// than the server refuses it by itself.
    ///
    /// # Errors
    /// Permanent, with both versions.
    pub(crate) fn fit(&self, server: Server) -> Result<()> {
        let (tool, s) = (self.version.version, server.version);
        let same_series = (tool.0, tool.1) == (s.0, s.1);
        let old =
            server.flavour == Flavour::MySql && s < Version(8, 0, 0) && (tool.0, tool.1) == (2, 4);
        if self.version.flavour == server.flavour && (same_series || old) {
            return Ok(());
        }
        Err(Error::permanent(format!(
            "{} is for {} {tool} and the server is {} {s}: install the backup tool of the server's series",
            self.backup.display(),
            self.version.flavour,
            server.flavour
        )))
    }
}

/// Ok for exit status 0.
///
/// # Errors
/// Permanent, with the end of the tool's standard error, and the setting of the service where the limit of open files was the cause.
pub(super) fn check(mut exit: Exit) -> Result<()> {
    let open_files = messages::is_open_files(&exit.stderr);
    exit.stderr = messages::last_lines(&exit.stderr);
    exit.check().map_err(|e| {
        if open_files {
            e.noted("the tool needs one descriptor for each table file: raise LimitNOFILE of the agent's service (ulimit -n)")
        } else {
            e
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tools(text: &str) -> Tools {
        Tools {
            backup: "tool".into(),
            unpack: "stream".into(),
            version: parse_version(text).unwrap(),
        }
    }

    #[test]
    fn versions_as_the_tools_print_them() {
        let percona = tools(
            "2026-01-26T12:00:00.000000-00:00 0 [Note] [MY-011825] [Xtrabackup] recognized server arguments: --datadir=/var/lib/mysql\nxtrabackup version 8.0.35-35 based on MySQL server 8.0.35 Linux (x86_64) (revision id: c7e6c8b1)\n",
        );
        let maria = tools(
            "mariadb-backup based on MariaDB server 10.11.19-MariaDB debian-linux-gnu (x86_64)\n",
        );
        let old = tools(
            "xtrabackup version 2.4.29 based on MySQL server 5.7.44 Linux (x86_64) (revision id: 2e6c0951)\n",
        );
        for (tool, server, fits) in [
            (&percona, "8.0.36", true),
            (&percona, "8.4.0", false),
            (&percona, "10.11.19-MariaDB", false),
            (&maria, "10.11.4-MariaDB", true),
            (&maria, "10.6.4-MariaDB", false),
            (&maria, "8.0.36", false),
            (&old, "5.7.44", true),
            (&old, "5.6.24", true),
            (&old, "8.0.36", false),
        ] {
            let server = Server::parse(server, "").unwrap();
            assert_eq!(tool.fit(server).is_ok(), fits, "{tool:?} {server:?}");
        }
        assert!(parse_version("qpress 1.1").is_err());
    }
}

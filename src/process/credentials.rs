//! Login data for MySQL's command-line tools: an option file of mode 0600 that exists while the tool runs, so that no password is
//! ever in an argument vector or an environment.

use super::Launcher;
use crate::error::{Error, OnPath, Result};
use crate::sys::process::effective_uid;
use std::fs::{DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) struct Login<'a> {
    /// Host name or address; not used with a socket.
    pub(crate) host: &'a str,
    /// TCP port; not used with a socket.
    pub(crate) port: u16,
    /// Path of a unix socket, or empty for TCP.
    pub(crate) socket: &'a str,
    pub(crate) user: &'a str,
    pub(crate) password: &'a str,
    /// The server is MySQL: the tool may ask it for its public key, or caching_sha2_password fails where there is no TLS.
    pub(crate) public_key: bool,
    /// Where the client finds authentication plugins that are not built in.
    pub(crate) plugin_dir: Option<PathBuf>,
    /// For a tool that reads the server's files: the server's own my.cnf, if it is named, and its data directory.
    pub(crate) server: Option<(String, PathBuf)>,
}

/// The assignments with which each session of a tool begins, before the tool's first statement. They are one SET statement,
/// because the clients send no more than one (`init-command` of the option file): all of them take effect, or the session ends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SessionInit(Vec<String>);

impl SessionInit {
    /// Appends an assignment, such as `sql_log_bin = 0` (SESSION is the default of SET) or `@name = expression`.
    #[must_use]
    pub(crate) fn assign(mut self, assignment: impl Into<String>) -> Self {
        self.0.push(assignment.into());
        self
    }

    /// Puts an assignment before all others: the first one that fails is the one that the error names.
    #[must_use]
    pub(crate) fn first(mut self, assignment: impl Into<String>) -> Self {
        self.0.insert(0, assignment.into());
        self
    }

    /// The statement; empty if nothing is assigned.
    pub(crate) fn statement(&self) -> String {
        if self.0.is_empty() {
            String::new()
        } else {
            format!("SET {}", self.0.join(", "))
        }
    }
}

/// The file; dropping it deletes it.
pub(crate) struct Credentials {
    path: PathBuf,
}

impl Credentials {
    /// Writes the option file into `dir`/tools (created with mode 0700), readable by the user that the tool runs as: refused if that is
    /// another one. Each session of the tool begins with `init`.
    pub(crate) fn create(
        dir: &Path,
        login: &Login,
        launcher: &Launcher,
        init: &SessionInit,
    ) -> Result<Self> {
        let text = option_file(login, &init.statement())?;
        check_sudo_user(launcher)?;
        let dir = dir.join("tools");
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(&dir).on(&dir)?;
        let name = crate::sys::host::random_hex(8).on("random numbers of the kernel")?;
        let path = dir.join(format!("{name}.cnf"));
        let mut options = File::options();
        let made = options.write(true).create_new(true).mode(0o600).open(&path);
        let mut file = made.on(&path)?;
        let this = Self { path };
        file.write_all(text.as_bytes()).on(&this.path)?;
        Ok(this)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes files that a killed agent left in `dir`/tools.
    pub(crate) fn remove_left(dir: &Path) {
        let tools = std::fs::read_dir(dir.join("tools"));
        for entry in tools.into_iter().flatten().flatten() {
            if let Err(e) = std::fs::remove_file(entry.path()) {
                log::warn!("{}: {e}", entry.path().display());
            }
        }
    }
}

impl Drop for Credentials {
    fn drop(&mut self) {
        if let Err(e) = std::fs::remove_file(&self.path) {
            let path = self.path.display();
            log::error!("cannot remove the password file {path}: {e}; remove it by hand");
        }
    }
}

/// That the tool can read a file of this process's user.
pub(crate) fn check_sudo_user(launcher: &Launcher) -> Result<()> {
    let name = launcher.sudo_user();
    if !launcher.sudo() || name.is_empty() {
        return Ok(());
    }
    let id = Command::new("id").args(["-u", "--", name]).output();
    let id = id.on("id")?;
    let why = match String::from_utf8_lossy(&id.stdout).trim().parse::<u32>() {
        Ok(uid) if uid == effective_uid() => return Ok(()),
        Ok(_) => format!(
            " is not the user that the agent runs as, so the tool could not read its password file; run the agent as {name} or leave \
             sudo-user empty"
        ),
        Err(_) => ": no such user".into(),
    };
    Err(Error::permanent(format!(
        "common.sudo-user = \"{name}\"{why}"
    )))
}

/// The text of the option file. Values are quoted: the readers of MySQL and MariaDB strip quotes and know the escapes
/// `\\ \" \n \r \t \b \s` inside a value (manual, "Using Option Files").
fn option_file(login: &Login, init: &str) -> Result<String> {
    let mut text = String::new();
    // What comes later counts.
    if let Some((file, _)) = &login.server
        && !file.is_empty()
    {
        text += &format!("!include {file}\n");
    }
    text += "[client]\n";
    if login.socket.is_empty() {
        let host = quoted("mysql.host", login.host)?;
        text += &format!("loose-protocol=tcp\nhost={host}\nport={}\n", login.port);
    } else {
        let socket = quoted("mysql.socket", login.socket)?;
        text += &format!("loose-protocol=socket\nsocket={socket}\n");
    }
    if login.public_key {
        text += "loose-get-server-public-key=1\n";
    }
    if let Some(dir) = &login.plugin_dir {
        let dir = quoted("plugin-dir", &dir.to_string_lossy())?;
        text += &format!("plugin-dir={dir}\n");
    }
    if !init.is_empty() {
        text += &format!("init-command={}\n", quoted("init-command", init)?);
    }
    let user = quoted("mysql.user", login.user)?;
    let password = quoted("mysql.password", login.password)?;
    text += &format!("user={user}\npassword={password}\n");
    if let Some((_, datadir)) = &login.server {
        let datadir = quoted("datadir", &datadir.to_string_lossy())?;
        text += &format!("[mysqld]\ndatadir={datadir}\n");
    }
    Ok(text)
}

fn quoted(what: &str, value: &str) -> Result<String> {
    if value.contains('\0') {
        return Err(Error::permanent(format!("{what} contains a NUL byte")));
    }
    let mut text = String::from('"');
    for c in value.chars() {
        match c {
            '\\' => text += r"\\",
            '"' => text += "\\\"",
            '\n' => text += r"\n",
            '\r' => text += r"\r",
            other => text.push(other),
        }
    }
    Ok(text + "\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn file_is_private_and_goes_away() {
        let dir = std::env::temp_dir().join(format!("oa-cred-{}", std::process::id()));
        let login = Login {
            host: "db1",
            port: 3307,
            socket: "",
            user: "a",
            password: "p\"\\#x",
            public_key: false,
            plugin_dir: None,
            server: None,
        };
        let c = Credentials::create(&dir, &login, &Launcher::default(), &SessionInit::default())
            .unwrap();
        assert_eq!(
            std::fs::metadata(c.path()).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let text = std::fs::read_to_string(c.path()).unwrap();
        assert_eq!(
            text,
            "[client]\nloose-protocol=tcp\nhost=\"db1\"\nport=3307\nuser=\"a\"\npassword=\"p\\\"\\\\#x\"\n"
        );
        let path = c.path().to_path_buf();
        drop(c);
        assert!(!path.exists());
        std::mem::forget(
            Credentials::create(&dir, &login, &Launcher::default(), &SessionInit::default())
                .unwrap(),
        );
        Credentials::remove_left(&dir);
        assert_eq!(std::fs::read_dir(dir.join("tools")).unwrap().count(), 0);
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_session_begins_with_one_statement() {
        let init = SessionInit::default();
        assert_eq!(init.statement(), "");
        let init = init.assign("@x = 'a\"b'").first("sql_log_bin = 0");
        assert_eq!(init.statement(), "SET sql_log_bin = 0, @x = 'a\"b'");
    }

    #[test]
    fn socket_wins_and_nul_is_refused() {
        let login = Login {
            host: "h",
            port: 1,
            socket: "/run/my sql.sock",
            user: "u",
            password: "",
            public_key: true,
            plugin_dir: Some("/opt/my sql/plugin".into()),
            server: Some(("/etc/my 1.cnf".into(), "/data/my sql".into())),
        };
        assert!(option_file(&login, "").unwrap().contains(
            "loose-protocol=socket\nsocket=\"/run/my sql.sock\"\nloose-get-server-public-key=1\nplugin-dir=\"/opt/my sql/plugin\"\n"
        ));
        assert!(
            option_file(
                &Login {
                    password: "a\0b",
                    ..login
                },
                ""
            )
            .is_err()
        );
    }
}

//! Login data for MySQL's command-line tools: an option file of mode 0600 that exists while the tool runs, so that no
//! password is ever in an argument vector or an environment (D34).

use super::Launcher;
use crate::error::{Error, Result};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Whom a tool logs in to.
pub struct Login<'a> {
    /// Host name or address; not used with a socket.
    pub host: &'a str,
    /// TCP port; not used with a socket.
    pub port: u16,
    /// Path of a unix socket, or empty for TCP.
    pub socket: &'a str,
    /// Account name.
    pub user: &'a str,
    /// Its password.
    pub password: &'a str,
    /// The server is MySQL: the tool may ask it for its public key, or caching_sha2_password fails where there is no TLS.
    pub public_key: bool,
    /// Where the client finds ways of login that it has not built in.
    pub plugin_dir: Option<PathBuf>,
    /// For a tool that reads the server's files: the server's own my.cnf, if it is named, and its data directory.
    pub server: Option<(String, PathBuf)>,
}

/// The assignments with which each session of a tool begins, before the tool's first statement. They are one SET statement,
/// because the clients send no more than one (`init-command` of the option file): all of them take effect, or the session ends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionInit(Vec<String>);

impl SessionInit {
    /// Appends an assignment, such as `sql_log_bin = 0` (SESSION is the default of SET) or `@name = expression`.
    #[must_use]
    pub fn assign(mut self, assignment: impl Into<String>) -> Self {
        self.0.push(assignment.into());
        self
    }

    /// Puts an assignment before all others: the first one that fails is the one that the error names.
    #[must_use]
    pub fn first(mut self, assignment: impl Into<String>) -> Self {
        self.0.insert(0, assignment.into());
        self
    }

    /// The statement; empty if nothing is assigned.
    pub fn statement(&self) -> String {
        match self.0.is_empty() {
            true => String::new(),
            false => format!("SET {}", self.0.join(", ")),
        }
    }
}

/// The file; dropping it deletes it.
pub struct Credentials {
    path: PathBuf,
}

impl Credentials {
    /// Writes the option file into `dir`/tools (created with mode 0700), readable by the user that the tool runs as. Each session
    /// of the tool begins with `init`.
    ///
    /// # Errors
    /// Permanent if it cannot be written, or if `sudo-user` is another user and this process may not give it the file.
    pub fn create(
        dir: &Path,
        login: &Login,
        launcher: &Launcher,
        init: &SessionInit,
    ) -> Result<Self> {
        let text = option_file(login, &init.statement())?;
        let dir = dir.join("tools");
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder
            .create(&dir)
            .map_err(|e| Error::io(dir.display(), &e))?;
        let name = crate::sys::host::random_hex(8)
            .map_err(|e| Error::io("random numbers of the kernel", &e))?;
        let path = dir.join(format!("{name}.cnf"));
        let made = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        let file = made.map_err(|e| Error::io(path.display(), &e))?;
        let this = Self { path };
        this.fill(file, &text, launcher)?;
        Ok(this)
    }

    fn fill(&self, mut file: File, text: &str, launcher: &Launcher) -> Result<()> {
        file.write_all(text.as_bytes())
            .map_err(|e| Error::io(self.path.display(), &e))?;
        if launcher.sudo() && !launcher.sudo_user().is_empty() {
            let uid = user_number(launcher.sudo_user())?;
            if uid != crate::sys::process::effective_uid() {
                return Err(Error::permanent(format!(
                    "sudo-user = \"{}\" is not the user that the agent runs as, so the tool could not read its password \
                     file; run the agent as {0} or leave sudo-user empty",
                    launcher.sudo_user()
                )));
            }
        }
        Ok(())
    }

    /// Its path, for `--defaults-file=`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes files that a killed agent left in `dir`/tools.
    pub fn sweep(dir: &Path) {
        for entry in std::fs::read_dir(dir.join("tools"))
            .into_iter()
            .flatten()
            .flatten()
        {
            if let Err(e) = std::fs::remove_file(entry.path()) {
                log::warn!("{}: {e}", entry.path().display());
            }
        }
    }
}

impl Drop for Credentials {
    fn drop(&mut self) {
        if let Err(e) = std::fs::remove_file(&self.path) {
            log::error!(
                "cannot remove the password file {}: {e}; remove it by hand",
                self.path.display()
            );
        }
    }
}

fn user_number(name: &str) -> Result<u32> {
    let out = Command::new("id")
        .args(["-u", "--", name])
        .output()
        .map_err(|e| Error::io("id", &e))?;
    let text = String::from_utf8_lossy(&out.stdout);
    text.trim()
        .parse()
        .map_err(|_| Error::permanent(format!("sudo-user = \"{name}\": no such user")))
}

/// The text of the option file. Values are quoted: the readers of MySQL and MariaDB strip quotes and know the escapes
/// `\\ \" \n \r \t \b \s` inside a value (manual, "Using Option Files").
fn option_file(login: &Login, first: &str) -> Result<String> {
    let quote = |what: &str, v: &str| -> Result<String> {
        if v.contains('\0') {
            return Err(Error::permanent(format!("{what} contains a NUL byte")));
        }
        let v = v
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\n', "\\n")
            .replace('\r', "\\r");
        Ok(format!("\"{v}\""))
    };
    let place = if login.socket.is_empty() {
        format!(
            "loose-protocol=tcp\nhost={}\nport={}\n",
            quote("mysql.host", login.host)?,
            login.port
        )
    } else {
        format!(
            "loose-protocol=socket\nsocket={}\n",
            quote("mysql.socket", login.socket)?
        )
    };
    let key = if login.public_key {
        "loose-get-server-public-key=1\n"
    } else {
        ""
    };
    let plugins = match &login.plugin_dir {
        Some(dir) => format!(
            "plugin-dir={}\n",
            quote("plugin-dir", &dir.to_string_lossy())?
        ),
        None => String::new(),
    };
    let first = match first {
        "" => String::new(),
        statement => format!("init-command={}\n", quote("init-command", statement)?),
    };
    let user = quote("mysql.user", login.user)?;
    let password = quote("mysql.password", login.password)?;
    // What comes later counts.
    let (before, after) = match &login.server {
        None => (String::new(), String::new()),
        Some((file, datadir)) => (
            match file.as_str() {
                "" => String::new(),
                file => format!("!include {file}\n"),
            },
            format!(
                "[mysqld]\ndatadir={}\n",
                quote("datadir", &datadir.to_string_lossy())?
            ),
        ),
    };
    Ok(format!(
        "{before}[client]\n{place}{key}{plugins}{first}user={user}\npassword={password}\n{after}"
    ))
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
        Credentials::sweep(&dir);
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

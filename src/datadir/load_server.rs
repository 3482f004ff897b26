//! A private server that executes a dump in the place of the target's own, which is down: freshly initialised in the staging directory,
//! where the data take the way of any copy afterwards. Through its socket only, in a directory of the server's account.

use super::environment::Environment;
use super::info::DatadirInfo;
use super::private_server::{PrivateServer, end_leftovers, shut_down};
use super::staging::Staged;
use crate::config;
use crate::error::{Error, OnPath, Result};
use crate::mysql::{Endpoint, Flavour, connect, control, info, quote_text};
use crate::process::{Launcher, Running};
use crate::sys::file::sync_file_system;
use ::mysql::Conn;
use crossbeam_channel::select;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// For each of the first answers.
const FIRST_ANSWER: Duration = Duration::from_secs(60);
/// The longest path of a socket (unix(7)), without the final zero.
const SOCKET_PATH: usize = 107;
/// The smallest buffer pool, in bytes.
const LEAST: u64 = 128 << 20;
/// The largest redo log with it, in bytes. The next server that starts gives it the size that it wants (MySQL 5.6.8 and later, MariaDB).
const REDO_LOG: u64 = 64 << 20;
/// Without the doublewrite buffer: after a crash what is not complete is discarded.
const OPTIONS: &str = "--max-connections=300 --max-allowed-packet=1G --innodb-doublewrite=OFF";
/// The dump sets gtid_purged.
const MYSQL_OPTIONS: &str = "--gtid-mode=ON --enforce-gtid-consistency=ON";
/// MariaDB's script that initialises a data directory, by its present and its former name.
const INSTALL: [&str; 2] = ["mariadb-install-db", "mysql_install_db"];

/// A private server with the agent's account, which has all privileges. Killed when [`LoadServer::stop`] was not called, at the latest
/// by the next agent.
pub(crate) struct LoadServer<'a> {
    private: PrivateServer<'a>,
    server: Running,
    socket: String,
    _work: File,
}

fn private<'a>(info: &'a DatadirInfo, staged: &Staged) -> PrivateServer<'a> {
    PrivateServer {
        info,
        data: staged.new_dir(),
        work: staged.work_dir(),
        failure: "the private server for the load of the dump does not run",
    }
}

impl<'a> LoadServer<'a> {
    /// Initialises a server in [`Staged::new_dir`], which is empty, starts it, and gives it the agent's account.
    pub(crate) fn make(
        info: &'a DatadirInfo,
        staged: &Staged,
        account: &config::Mysql,
        env: &dyn Environment,
    ) -> Result<Self> {
        let private = private(info, staged);
        end_leftovers(&info.staging)?;
        private.make_work_dir()?;
        env.report("Initialising a private server for the load");
        initialise(&private, env)?;
        let root = Endpoint {
            user: "root".into(),
            ..Endpoint::default()
        };
        Self::run(private, LEAST, root, env, |conn| {
            control::execute(conn, "DROP DATABASE IF EXISTS test")?;
            // MariaDB's script makes an anonymous account, which comes before an account that is valid for any host.
            drop_accounts(conn, "", &[])?;
            let hosts = ["localhost".to_string()];
            make_accounts(conn, account, &hosts)
        })
    }

    /// Starts the one that [`LoadServer::make`] has made, with a buffer pool of `pool` bytes, or of [`LEAST`].
    pub(crate) fn start(
        info: &'a DatadirInfo,
        staged: &Staged,
        account: &config::Mysql,
        pool: u64,
        env: &dyn Environment,
    ) -> Result<Self> {
        let private = private(info, staged);
        end_leftovers(&info.staging)?;
        private.make_work_dir()?;
        env.report("Starting a private server for the load");
        Self::run(private, pool, Endpoint::local(account), env, |_| Ok(()))
    }

    fn run(
        private: PrivateServer<'a>,
        pool: u64,
        account: Endpoint,
        env: &dyn Environment,
        first: impl FnOnce(&mut Conn) -> Result<()>,
    ) -> Result<Self> {
        let mut options = options(private.info, pool);
        options.extend(private.load_plugins(true));
        let server = private.start(&options, env)?;
        let refused = |e: &Error| {
            let permanent = e.is_permanent();
            permanent.then(|| e.clone().context("login to the private server"))
        };
        let begun = private
            .connect(&server, account, FIRST_ANSWER, env.cancel(), &refused)
            .and_then(|(mut conn, _, work)| first(&mut conn).map(|()| work));
        match begun {
            Ok(work) => Ok(Self {
                socket: socket_for_tools(&private.work, &work),
                private,
                server,
                _work: work,
            }),
            Err(e) => {
                server.end()?;
                Err(e)
            }
        }
    }

    /// The path of its socket, for tools of this host too.
    pub(crate) fn socket(&self) -> &str {
        &self.socket
    }

    pub(crate) fn process(&self) -> u32 {
        self.server.group()
    }

    /// Gives it the agent's account for these hosts only, for which the source has it: in the middle of a load the source's accounts come
    /// into force, and an open session keeps the name and host of its own.
    pub(crate) fn take_hosts(&self, account: &config::Mysql, hosts: &[String]) -> Result<()> {
        let here = Endpoint {
            socket: self.socket.clone(),
            ..Endpoint::local(account)
        };
        let mut conn = connect(&here, FIRST_ANSWER)?;
        make_accounts(&mut conn, account, hosts)?;
        drop_accounts(&mut conn, &account.user, hosts)
    }

    /// Shuts it down cleanly, or kills it when cancelled. When this returns Ok its data are on the disk.
    pub(crate) fn stop(self, env: &dyn Environment) -> Result<()> {
        env.report("Stopping the private server");
        let exit = shut_down(self.server, env.cancel())?;
        exit.check().map_err(|e| self.private.with_log(&e))?;
        let data = &self.private.data;
        let synced = File::open(data).and_then(|d| sync_file_system(&d));
        synced.on(format!("sync of {}", data.display()))
    }

    /// Kills it after `error`, and returns what is to be reported: with its error log, if it has ended by itself.
    pub(crate) fn kill(self, error: Error) -> Error {
        let ended = self.server.has_ended(Duration::ZERO);
        if let Err(e) = self.server.end() {
            log::error!("the private server: {e}");
        }
        if ended && !error.is_cancelled() {
            return self.private.with_log(&error);
        }
        error
    }
}

fn make_accounts(conn: &mut Conn, account: &config::Mysql, hosts: &[String]) -> Result<()> {
    let password = quote_text(account.password.reveal());
    for host in hosts {
        let user = format!("{}@{}", quote_text(&account.user), quote_text(host));
        for statement in [
            format!("CREATE USER IF NOT EXISTS {user}"),
            format!("ALTER USER {user} IDENTIFIED BY {password}"),
            format!("GRANT ALL PRIVILEGES ON *.* TO {user} WITH GRANT OPTION"),
        ] {
            control::execute(conn, &statement)?;
        }
    }
    Ok(())
}

/// Drops the accounts of a user for other hosts than these.
fn drop_accounts(conn: &mut Conn, user: &str, but: &[String]) -> Result<()> {
    for account in info::accounts(conn, user)? {
        if !but.contains(&account.host) {
            let user = format!("{}@{}", quote_text(user), quote_text(&account.host));
            control::execute(conn, &format!("DROP USER {user}"))?;
        }
    }
    Ok(())
}

fn options(info: &DatadirInfo, pool: u64) -> Vec<String> {
    let mut all: Vec<String> = OPTIONS.split_whitespace().map(String::from).collect();
    if info.server.flavour == Flavour::MySql {
        all.extend(MYSQL_OPTIONS.split_whitespace().map(String::from));
    }
    all.push(format!("--innodb-buffer-pool-size={}", pool.max(LEAST)));
    if pool <= LEAST
        && let Some((name, bytes)) = info.redo_log_option()
        && bytes > REDO_LOG
    {
        all.push(format!("--{}={REDO_LOG}", name.replace('_', "-")));
    }
    // Source and target must not have the same one.
    if !info.server_id.is_empty() {
        all.push(format!("--server-id={}", info.server_id));
    }
    all.extend(load_options(info));
    all
}

/// What the real server has, and a load depends on.
fn load_options(info: &DatadirInfo) -> Vec<String> {
    let mut all = Vec::new();
    for (name, value) in &info.load_options {
        if name == "ignore_db_dirs" {
            // One option for each; MySQL's is ignore-db-dir (up to 5.7).
            let option = match info.server.flavour {
                Flavour::MariaDb => "ignore-db-dirs",
                Flavour::MySql => "ignore-db-dir",
            };
            let dirs = value.split(',').filter(|dir| !dir.is_empty());
            all.extend(dirs.map(|dir| format!("--{option}={dir}")));
        } else {
            all.push(format!("--{}={value}", name.replace('_', "-")));
        }
    }
    all
}

/// Where the path is too long, the one through this process: for processes of the same user, and for root.
fn socket_for_tools(work: &Path, open: &File) -> String {
    let path = work.join("sock");
    if path.as_os_str().as_bytes().len() <= SOCKET_PATH {
        return path.to_string_lossy().into_owned();
    }
    format!("/proc/{}/fd/{}/sock", std::process::id(), open.as_raw_fd())
}

fn initialise(private: &PrivateServer, env: &dyn Environment) -> Result<()> {
    let server = private.info.server;
    let mut log = None;
    let made = match server.flavour {
        Flavour::MariaDb => install(private, log.insert(new_log(private)?), env)?,
        Flavour::MySql if server.mysql_from(5, 7, 6) => {
            let mut options = options(private.info, LEAST);
            options.push("--initialize-insecure".into());
            private.start(&options, env)?
        }
        Flavour::MySql => {
            return Err(Error::permanent(format!(
                "a server of MySQL {} cannot be initialised by its own program (--initialize came with 5.7.6), which a dump for a stopped server \
                 needs: use the method Xtrabackup",
                server.version
            )));
        }
    };
    select! {
        recv(made.exited()) -> _ => {
            let exit = made.finish()?.check();
            exit.map_err(|e| private.with_log(&e.noted(last_lines(log))))
        }
        recv(env.cancel().signal()) -> _ => {
            made.end()?;
            Err(Error::cancelled())
        }
    }
}

/// In a directory of the server's account: never a file, or a link, that is there already.
fn new_log(private: &PrivateServer) -> Result<File> {
    let path = private.work.join("install.log");
    let mut options = File::options();
    options.read(true).append(true).create_new(true);
    options.open(&path).on(&path)
}

/// Starts `mariadb-install-db`. It splits the options for the server at white space.
fn install(private: &PrivateServer, log: &File, env: &dyn Environment) -> Result<Running> {
    let info = private.info;
    let script = install_script(info)?;
    let name = script.file_name().unwrap_or_default().to_string_lossy();
    let mut command = env.program(&DatadirInfo {
        program: script.clone(),
        ..info.clone()
    });
    command.args([
        "--no-defaults",
        "--cross-bootstrap", // looks up no names, and makes no accounts for them
        "--auth-root-authentication-method=normal",
    ]);
    command.arg(format!("--datadir={}", private.data.display()));
    if info.uid == 0 {
        command.arg("--user=root"); // refused otherwise
    }
    for (name, value) in &info.options {
        command.arg(format!("--{}={value}", name.replace('_', "-")));
    }
    command.args(load_options(info));
    let out = log.try_clone().on("install.log")?;
    // A server that starts removes what looks like temporary tables in its tmpdir (/tmp), also those of others.
    command.env("TMPDIR", private.work.join("tmp"));
    command.current_dir(&private.work);
    command.stdin(Stdio::null()).stdout(out);
    let tool = Running::start(&mut command, &name)?;
    env.adopt(&tool)?;
    Ok(tool)
}

/// The script of the server's own installation, else one in PATH.
fn install_script(info: &DatadirInfo) -> Result<PathBuf> {
    let basedir = info.options.iter().find(|(name, _)| name == "basedir");
    let basedir = Path::new(basedir.map_or("/usr", |(_, value)| value));
    let of_program = info.program.parent().map(Path::to_path_buf);
    let dirs = [basedir.join("scripts"), basedir.join("bin")];
    let mut candidates = dirs
        .into_iter()
        .chain(of_program)
        .flat_map(|dir| INSTALL.map(|n| dir.join(n)));
    match candidates.find(|c| c.is_file()) {
        Some(script) => Ok(script),
        None => Launcher::default().find(&INSTALL).map_err(|e| {
            e.context("a dump for a stopped server is loaded into a new one, which this script initialises")
        }),
    }
}

fn last_lines(log: Option<File>) -> String {
    let mut text = Vec::new();
    let read = log.map(|mut log| log.rewind().and_then(|()| log.read_to_end(&mut text)));
    if let Some(Err(e)) = read {
        log::debug!("install.log: {e}");
    }
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(3)..].join(" / ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_of_the_real_server() {
        let mut info = DatadirInfo::for_test();
        info.load_options = [
            ("ft_min_word_len", "2"),
            ("explicit_defaults_for_timestamp", "OFF"),
            ("ignore_db_dirs", "lost+found,.old"),
        ]
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .into();
        let first = [
            "--ft-min-word-len=2",
            "--explicit-defaults-for-timestamp=OFF",
        ];
        for (version, dirs) in [
            (
                "5.7.44",
                ["--ignore-db-dir=lost+found", "--ignore-db-dir=.old"],
            ),
            (
                "10.11.6-MariaDB",
                ["--ignore-db-dirs=lost+found", "--ignore-db-dirs=.old"],
            ),
        ] {
            info.server = crate::mysql::Server::parse(version, "").unwrap();
            assert_eq!(load_options(&info), [first, dirs].concat(), "{version}");
        }
    }

    #[test]
    fn a_small_server_has_a_small_redo_log() {
        let mut info = DatadirInfo::for_test();
        let has = |info: &DatadirInfo, pool| {
            let all = options(info, pool);
            all.iter()
                .any(|o| *o == format!("--innodb-redo-log-capacity={REDO_LOG}"))
        };
        assert!(!has(&info, LEAST), "its size is not known");
        let mut set = |bytes: u64| {
            let name = "innodb_redo_log_capacity".to_string();
            info.options = vec![(name, bytes.to_string())];
            (has(&info, LEAST), has(&info, 2 * LEAST), info.redo_log())
        };
        assert_eq!(set(8 << 30), (true, false, 8 << 30));
        assert_eq!(set(8 << 20), (false, false, 8 << 20));
    }

    #[test]
    fn the_log_of_the_script_is_a_new_file() {
        let work = std::env::temp_dir().join(format!("oa-install-{}", std::process::id()));
        std::fs::create_dir_all(&work).unwrap();
        let info = DatadirInfo::for_test();
        let private = PrivateServer {
            info: &info,
            data: work.join("data"),
            work: work.clone(),
            failure: "",
        };
        let mut log = new_log(&private).unwrap();
        std::io::Write::write_all(&mut log, b"one\n\ntwo\nthree\nfour\n").unwrap();
        assert_eq!(last_lines(Some(log)), "two / three / four");
        std::fs::remove_file(work.join("install.log")).unwrap();
        std::os::unix::fs::symlink(work.join("of-another"), work.join("install.log")).unwrap();
        assert!(new_log(&private).is_err());
        assert!(!work.join("of-another").exists());
        std::fs::remove_dir_all(&work).unwrap();
    }

    #[test]
    fn a_long_path_of_the_socket_leads_through_this_process() {
        let short = std::env::temp_dir();
        let open = File::open(&short).unwrap();
        assert_eq!(
            socket_for_tools(&short, &open),
            short.join("sock").to_string_lossy()
        );
        let long = short.join("x".repeat(SOCKET_PATH));
        let path = socket_for_tools(&long, &open);
        assert!(path.len() < 40, "{path}");
        let dir = Path::new(&path).parent().unwrap();
        assert_eq!(
            std::fs::canonicalize(dir).unwrap(),
            std::fs::canonicalize(&short).unwrap()
        );
    }
}

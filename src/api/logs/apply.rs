//! Applies a relay log to the local server: `mysqlbinlog | mysql`. What it holds is checked before the first statement.

use super::encoded::decoded;
use super::tool::{ToolOutput, Watch};
use crate::api::Api;
use crate::config::Config;
use crate::coordinates::gtid::MariaDbGtidList;
use crate::error::{Error, OnPath, Result};
use crate::http::RequestBody;
use crate::methods::logical;
use crate::methods::mysqldump::messages::errors_only;
use crate::methods::mysqldump::options::SCRIPT_CLIENT;
use crate::mysql::binlog_file::{self, Applicable, Contents};
use crate::mysql::{
    Endpoint, Flavour, Identity, Server, applier, connect, grants, old_logins, query, quote_text,
};
use crate::process::{
    Cancel, Credentials, Job, Launcher, Running, SessionInit, feed_from, program_name,
};
use crate::seed::Side;
use crate::seed::engine::Engine;
use crate::sys::file::if_there;
use crate::sys::thread::spawn;
use mysql::Conn;
use std::fs::DirBuilder;
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, TryLockError};
use std::time::Duration;

/// Precedes the relay log: the first line of the client's output is the number of its connection.
const PROLOGUE: &str = "SELECT CONNECTION_ID();\n";
/// The largest value of max_allowed_packet, in bytes.
const LARGEST_PACKET: u64 = 1 << 30;
/// For each of the agent's own statements.
const QUERY_LIMIT: Duration = Duration::from_secs(30);

/// A relay log that is to be applied.
pub(super) struct Apply {
    config: Arc<Config>,
    engine: Arc<Engine>,
    applying: Arc<Mutex<()>>,
    stopping: Cancel,
    body: RequestBody,
}

impl Apply {
    pub(super) fn new(api: &Api, body: &RequestBody) -> Result<Self> {
        let body = match body {
            RequestBody::Bytes(bytes) => RequestBody::Bytes(bytes.clone()),
            RequestBody::File(file) => RequestBody::File(file.try_clone().on("request body")?),
        };
        Ok(Self {
            config: Arc::clone(&api.config),
            engine: Arc::clone(&api.engine),
            applying: Arc::clone(&api.logs.applying),
            stopping: api.stopping.clone(),
            body,
        })
    }

    /// Returns Ok once every complete transaction of the body has been committed.
    pub(super) fn run(&self) -> Result<()> {
        let _one = match self.applying.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(e)) => e.into_inner(),
            Err(TryLockError::WouldBlock) => {
                return Err(Error::transient(
                    "another relay log is being applied on this host: wait until that call has its answer",
                ));
            }
        };
        let seed = self.engine.method_in_use().and(self.engine.current());
        if let Some(seed) = seed.filter(|s| s.side == Side::Target) {
            return Err(Error::permanent(format!(
                "this host is the target of seed {}: end or abort it before a relay log is applied",
                seed.id
            )));
        }
        let contents = binlog_file::contents(decoded(open(&self.body)?));
        let contents = contents.map_err(|e| Error::Refused(e.to_string()))?;
        let target = Target::check(&self.config, &contents)?;
        if contents.transactions == 0 {
            log::info!("a relay log without a transaction was to be applied");
            return Ok(());
        }
        let log = decoded(open(&self.body)?);
        let input: Box<dyn Read + Send> = match contents.server.flavour {
            Flavour::MySql => Box::new(Applicable::new(log).on("request body")?),
            Flavour::MariaDb => Box::new(log),
        };
        let done = self.execute(&contents, &target, input);
        let advanced = match &target {
            Target::Account(account) => account.advance(&contents, done.is_ok()),
            Target::Command(_) => Ok(()),
        };
        done.map_err(|e| {
            let e = e.noted("the transactions before it are committed");
            match &advanced {
                Ok(()) => e,
                Err(why) => e.noted(why),
            }
        })?;
        advanced?;
        let n = contents.transactions;
        log::info!("a relay log with {n} transactions was applied by request");
        Ok(())
    }

    fn execute(
        &self,
        contents: &Contents,
        target: &Target,
        input: Box<dyn Read + Send>,
    ) -> Result<()> {
        let (limit, stopping) = (self.config.common.command_timeout, &self.stopping);
        let files = LoadFiles::create(&self.config)?;
        let mut client = Client::new(&self.config, target)?;
        let reader = reading_tool(contents, &files.0)?;
        let text = ToolOutput::start(reader, "mysqlbinlog", Some(input), stopping, limit)?;
        let failure = text.failure();
        let cancel = Cancel::default();
        let watch = Watch::start(&cancel, stopping, limit)?;
        let moved = watch.moved();
        let count = move |_| {
            moved();
            Ok(())
        };
        let packets = match target {
            Target::Account(account) => account.allow_large_packets()?,
            Target::Command(_) => None,
        };
        let mut tool = Running::start(&mut client.command, &client.name)?;
        let connection = Arc::new(AtomicU64::new(0));
        let of_output = Arc::clone(&connection);
        let reader = tool.take_stdout().map(|out| {
            spawn("tool-output", move || {
                read_output(out, &of_output, packets);
            })
        });
        let reader = reader.transpose()?;
        let job = Job {
            cancel: &cancel,
            before_kill: &|_| {},
        };
        let fed = feed_from(tool, Cursor::new(client.prologue).chain(text), count, &job);
        if reader.is_some_and(|thread| thread.join().is_err()) {
            log::error!("internal error: reading the client's output panicked");
        }
        let ended = fed.and_then(|(mut exit, _)| {
            let own = errors_only(&exit.stderr);
            if !own.is_empty() {
                exit.stderr = own;
            }
            exit.check()
        });
        ended.map_err(|e| {
            let id = connection.load(Ordering::Relaxed);
            if let Target::Account(account) = target
                && id != 0
            {
                logical::end_connection(&account.endpoint, id);
            }
            let e = failure.take().unwrap_or(e);
            let e = watch.explain(&client.name, e);
            match target {
                Target::Account(account) => account.identity.explain(&client.name, e),
                Target::Command(_) => e,
            }
        })
    }
}

/// From its start.
fn open(body: &RequestBody) -> Result<Box<dyn Read + Send>> {
    Ok(match body {
        RequestBody::Bytes(bytes) => Box::new(Cursor::new(bytes.clone())),
        RequestBody::File(file) => {
            let mut file = file.try_clone().on("request body")?;
            file.rewind().on("request body")?;
            Box::new(file)
        }
    })
}

/// How the local server is reached.
enum Target {
    Account(Account),
    /// `classic.mysql-client-command`: the operator's own login, of which the agent knows nothing.
    Command(String),
}

impl Target {
    /// Checks that the log may be applied. Changes nothing.
    fn check(config: &Config, contents: &Contents) -> Result<Self> {
        let command = &config.classic.mysql_client_command;
        if !command.is_empty() {
            return Ok(Self::Command(command.clone()));
        }
        if config.mysql.user.is_empty() {
            return Err(Error::permanent(
                "nothing is applied without a login: set mysql.user and mysql.password, or classic.mysql-client-command",
            ));
        }
        Account::check(config, contents).map(Self::Account)
    }
}

/// The server, by the account of `[mysql]`.
struct Account {
    endpoint: Endpoint,
    server: Server,
    identity: Identity,
}

impl Account {
    fn check(config: &Config, contents: &Contents) -> Result<Self> {
        let endpoint = Endpoint::local(&config.mysql);
        let identity = Identity::hold(&endpoint)?;
        let mut conn = connect(&endpoint, QUERY_LIMIT)?;
        identity.verify(&mut conn)?;
        let conn = &mut conn;
        let server = Server::ask(conn)?;
        let of_log = contents.server;
        if of_log.flavour != server.flavour {
            return Err(Error::permanent(format!(
                "the relay log is {}'s, and this server is {}",
                of_log.flavour, server.flavour
            )));
        }
        if let Some(needed) = grants::needed(server, &["relay_log"]) {
            let (account, held) = grants::held(conn, server)?;
            let missing = grants::missing(server, &needed, &held);
            if !missing.is_empty() {
                let missing = missing.join(", ");
                return Err(Error::permanent(format!(
                    "applying a relay log needs GRANT {missing} ON *.* TO {account}"
                )));
            }
        }
        let channels = applier::channels(conn, server)?;
        if let Some(channel) = channels.iter().find(|c| c.sql) {
            let stop = server.stop_replica(&channel.name);
            return Err(Error::permanent(format!(
                "replication applies events on this server: {stop} before a relay log is applied"
            )));
        }
        if server.flavour == Flavour::MariaDb {
            let [slave, binlog] = positions(conn)?;
            continues(contents, &slave, &binlog)?;
        }
        Ok(Self {
            endpoint,
            server,
            identity,
        })
    }

    /// MariaDB: gives replication the position after what was applied, as its own applier would have done; where the log was applied in
    /// part, after what is in the binary log. MySQL does so itself.
    fn advance(&self, contents: &Contents, complete: bool) -> Result<()> {
        if self.server.flavour != Flavour::MariaDb {
            return Ok(());
        }
        let set = || {
            let mut conn = connect(&self.endpoint, QUERY_LIMIT)?;
            self.identity.verify(&mut conn)?;
            let [mut slave, binlog] = positions(&mut conn)?;
            let mut changed = false;
            for (domain, (first, last)) in &contents.domains {
                let range = first.sequence..=last.sequence;
                let logged = binlog.get(*domain);
                let logged = logged.filter(|g| range.contains(&g.sequence));
                let applied = if complete { Some(*last) } else { logged };
                // One that is incomplete has its first number minus one.
                if let Some(gtid) = applied.filter(|g| range.contains(&g.sequence)) {
                    slave.set(gtid);
                    changed = true;
                }
            }
            if !changed {
                return Ok(());
            }
            let list = quote_text(&slave.to_string());
            query::run(&mut conn, format!("SET GLOBAL gtid_slave_pos = {list}"))
        };
        set().map_err(|e: Error| {
            e.context("gtid_slave_pos does not include what was applied, set it before replication is started")
        })
    }

    /// Until the returned value is dropped, new sessions may have packets of 1 GiB, and keep that: mysqlbinlog prints all rows of a statement of
    /// the source as one statement, for which the usual 16 or 64 MiB are often too few.
    fn allow_large_packets(&self) -> Result<Option<PacketLimit>> {
        let mut conn = connect(&self.endpoint, QUERY_LIMIT)?;
        self.identity.verify(&mut conn)?;
        let usual: Option<u64> = query::first(&mut conn, "SELECT @@GLOBAL.max_allowed_packet")?;
        let Some(usual) = usual.filter(|usual| *usual < LARGEST_PACKET) else {
            return Ok(None);
        };
        set_packet_limit(&mut conn, LARGEST_PACKET)?;
        Ok(Some(PacketLimit { conn, usual }))
    }
}

fn set_packet_limit(conn: &mut Conn, bytes: u64) -> Result<()> {
    query::run(conn, format!("SET GLOBAL max_allowed_packet = {bytes}"))
}

/// Restores max_allowed_packet when it is dropped.
struct PacketLimit {
    conn: Conn,
    usual: u64,
}

impl Drop for PacketLimit {
    fn drop(&mut self) {
        let usual = self.usual;
        if let Err(e) = set_packet_limit(&mut self.conn, usual) {
            log::error!("{e}; run SET GLOBAL max_allowed_packet = {usual}");
        }
    }
}

/// gtid_slave_pos and gtid_binlog_pos.
fn positions(conn: &mut Conn) -> Result<[MariaDbGtidList; 2]> {
    let row: Option<(String, String)> = query::first(
        conn,
        "SELECT @@GLOBAL.gtid_slave_pos, @@GLOBAL.gtid_binlog_pos",
    )?;
    let (slave, binlog) = row.unwrap_or_default();
    Ok([
        MariaDbGtidList::parse(&slave)?,
        MariaDbGtidList::parse(&binlog)?,
    ])
}

/// Refuses a log that does not continue where the server is: MariaDB executes a transaction twice, and does not see that one is missing.
fn continues(contents: &Contents, slave: &MariaDbGtidList, binlog: &MariaDbGtidList) -> Result<()> {
    for (domain, (first, _)) in &contents.domains {
        let here = [slave.get(*domain), binlog.get(*domain)]
            .into_iter()
            .flatten();
        let here = here.max_by_key(|g| g.sequence);
        let sequence = here.map_or(0, |g| g.sequence);
        let here = here.map_or("no transaction of this domain".into(), |g| g.to_string());
        let what = if first.sequence <= sequence {
            "is applied already"
        } else if first.sequence > sequence.saturating_add(1) {
            "is not the next one"
        } else {
            continue;
        };
        return Err(Error::permanent(format!(
            "the relay log begins with {first}, which {what}: this server is at {here} (gtid_slave_pos, gtid_binlog_pos); take it \
             from the event after that"
        )));
    }
    Ok(())
}

/// The directory for the files of LOAD DATA statements in a log, which mysqlbinlog does not remove.
struct LoadFiles(PathBuf);

impl LoadFiles {
    fn create(config: &Config) -> Result<Self> {
        let dir = config
            .common
            .backup_dir
            .join("orchestrator_agent_load_data");
        if_there(std::fs::remove_dir_all(&dir)).on(&dir)?;
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        made.on(&dir)?;
        Ok(Self(dir))
    }
}

impl Drop for LoadFiles {
    fn drop(&mut self) {
        if let Err(e) = std::fs::remove_dir_all(&self.0) {
            log::error!("cannot remove {}: {e}; remove it by hand", self.0.display());
        }
    }
}

/// mysqlbinlog of the log's own family, which reads it from its standard input.
fn reading_tool(contents: &Contents, files: &Path) -> Result<Command> {
    let launcher = Launcher::default();
    let flavour = contents.server.flavour;
    let program = launcher.find(flavour.binlog_tools())?;
    let mut cmd = launcher.command(&program);
    cmd.arg("--no-defaults").arg("--verify-binlog-checksum");
    if flavour == Flavour::MariaDb {
        // 10.8 and later reject a log of which they have not seen the first list of GTIDs; ours was compared with the server.
        cmd.arg("--loose-skip-gtid-strict-mode");
    }
    let mut local = std::ffi::OsString::from("--local-load=");
    local.push(files);
    cmd.arg(local).arg("-");
    Ok(cmd)
}

/// The client of the local server.
struct Client {
    command: Command,
    name: String,
    prologue: &'static str,
    /// Exist as long as the client may need them.
    _credentials: Option<Credentials>,
}

impl Client {
    fn new(config: &Config, target: &Target) -> Result<Self> {
        let launcher = Launcher::default();
        match target {
            Target::Command(line) => {
                let mut command = launcher.operators_command(&config.common.shell);
                command.arg("-c").arg(line);
                Ok(Self {
                    command: piped(command),
                    name: "mysql-client-command".into(),
                    prologue: "",
                    _credentials: None,
                })
            }
            Target::Account(account) => Self::of_account(config, account, &launcher),
        }
    }

    fn of_account(config: &Config, account: &Account, launcher: &Launcher) -> Result<Self> {
        let server = account.server;
        let program = launcher.find(server.flavour.client_tools())?;
        let plugins = old_logins(&program, server);
        let login = logical::login(&account.endpoint, server, plugins);
        let mut init = SessionInit::default().assign(account.identity.assignment());
        if server.flavour == Flavour::MariaDb {
            init = init.assign("max_statement_time = 0");
        }
        let state_dir = &config.common.state_dir;
        let credentials = Credentials::create(state_dir, &login, launcher, &init)?;
        let mut command = launcher.command(&program);
        let mut defaults = std::ffi::OsString::from("--defaults-file=");
        defaults.push(credentials.path());
        command.arg(defaults);
        command.args(SCRIPT_CLIENT).arg("--local-infile=1");
        Ok(Self {
            command: piped(command),
            name: program_name(&program),
            prologue: PROLOGUE,
            _credentials: Some(credentials),
        })
    }
}

fn piped(mut command: Command) -> Command {
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// The first line of the client's output is the number of its connection, which has its limit of packets then. All of it is read, so that
/// the client never blocks.
fn read_output(out: ChildStdout, connection: &AtomicU64, packets: Option<PacketLimit>) {
    let mut lines = BufReader::new(out).split(b'\n').map_while(io::Result::ok);
    let first = lines.next().unwrap_or_default();
    drop(packets);
    if let Ok(id) = String::from_utf8_lossy(&first).trim().parse() {
        connection.store(id, Ordering::Relaxed);
    }
    lines.for_each(drop);
}

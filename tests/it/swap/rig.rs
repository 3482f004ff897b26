//! A target, a copy to be swapped in, and environment that can be held or killed at any step.

use crate::support::mariadb::MariadbKind;
use crate::support::mysqld::MysqldKind;
use crate::support::server::{AGENT_PASSWORD, Kind, Server};
use crate::support::{Scratch, wait_for};
use orchestrator_agent::config::{self, Config};
use orchestrator_agent::datadir::{
    self, DatadirInfo, Environment, Host, Journals, Role, Staged, Task, VerifiedCopy,
    mysql_start_refused, recover_at_start, start_again,
};
use orchestrator_agent::error::{Error, Result};
use orchestrator_agent::process::{Cancel, Running};
use orchestrator_agent::sys::proc::servers_in;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

pub const SEED: i64 = 7;

/// What differs between the two families here.
pub trait Family: Kind {
    const STAGING: &str;
    /// Makes a replication channel that would start by itself.
    const CHANNEL: &[&str];
    /// A dump of everything but the data.
    const DUMP_ARGS: &[&str];
}

impl Family for MariadbKind {
    const STAGING: &str = "#sql-orchestrator-agent";
    const CHANNEL: &[&str] = &[
        "CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = 9, MASTER_USER = 'nobody', MASTER_PASSWORD = 'x'",
        "START SLAVE",
    ];
    const DUMP_ARGS: &[&str] = &["--all-databases", "--no-data"];
}

impl Family for MysqldKind {
    const STAGING: &str = ".orchestrator-agent";
    const CHANNEL: &[&str] = &[
        "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = 9, SOURCE_USER = 'nobody', SOURCE_PASSWORD = 'x'",
        "START REPLICA",
        "SET PERSIST max_connections = 77",
    ];
    const DUMP_ARGS: &[&str] = &["--all-databases", "--no-data"];
}

/// A source that has stopped; its data directory is the copy.
pub fn source<K: Family>(cnf: &str) -> Server<K> {
    let db = Server::<K>::start("127.0.0.1", cnf);
    for statement in [
        "CREATE DATABASE shop",
        "CREATE TABLE shop.t (v VARCHAR(20)) ENGINE=InnoDB",
        "INSERT INTO shop.t VALUES ('new')",
        "CREATE TABLE shop.ticks (at TIMESTAMP(6) NOT NULL) ENGINE=InnoDB",
        "CREATE EVENT shop.tick ON SCHEDULE EVERY 1 SECOND DO INSERT INTO shop.ticks VALUES (NOW(6))",
    ] {
        db.sql(statement);
    }
    for statement in K::CHANNEL {
        db.sql(statement);
    }
    db.down();
    db
}

pub struct Rig<K: Family> {
    pub db: Server<K>,
    pub config: Arc<Config>,
    pub journals: Journals,
    pub dir: PathBuf,
    _scratch: Scratch,
}

impl<K: Family> Rig<K> {
    /// A running target with data of its own; more lines for its my.cnf and for the agent's [mysql] and [common].
    pub fn new(cnf: &str, mysql: &str, common: &str) -> Self {
        Self::of(Server::start("127.0.0.2", cnf), mysql, common)
    }

    pub fn of(db: Server<K>, mysql: &str, common: &str) -> Self {
        db.sql("CREATE DATABASE precious");
        db.sql("CREATE TABLE precious.t (v VARCHAR(20)) ENGINE=InnoDB");
        db.sql("INSERT INTO precious.t VALUES ('mine')");
        let scratch = Scratch::new("swap");
        let dir = scratch.0.clone();
        for place in ["state", "backup"] {
            std::fs::create_dir_all(dir.join(place)).expect("directory");
        }
        Self {
            config: configuration(&db, &dir, mysql, common),
            db,
            journals: Journals::new(&dir.join("state")),
            dir,
            _scratch: scratch,
        }
    }

    pub fn configure(&mut self, mysql: &str, common: &str) {
        self.config = configuration(&self.db, &self.dir, mysql, common);
    }

    pub fn inspect(&self) -> Result<DatadirInfo> {
        datadir::inspect(&self.config, Role::Target)
    }

    /// Stages `copy`, a data directory.
    pub fn stage(&self, info: &DatadirInfo, copy: &Path) -> Staged {
        let staged = self.stage_nothing(info);
        self.fill(&staged, copy);
        staged
    }

    pub fn stage_nothing(&self, info: &DatadirInfo) -> Staged {
        Staged::make(info, SEED, &self.journals, &Cancel::default()).expect("staged")
    }

    pub fn fill(&self, staged: &Staged, copy: &Path) {
        let done = Command::new("cp")
            .args(["-a", "--sparse=always"])
            .arg(copy.join("."))
            .arg(staged.new_dir())
            .status();
        assert!(done.expect("cp").success());
    }

    pub fn host(&self) -> Hooked<'_> {
        Hooked {
            host: Host::at_start(&self.config),
            hook: Box::new(|_| Ok(())),
            quiet: Duration::from_millis(300),
        }
    }

    pub fn trial_start(&self, info: &DatadirInfo, staged: &Staged) -> VerifiedCopy {
        datadir::trial_start(info, staged, &self.config.mysql, &self.host()).expect("trial start")
    }

    pub fn swap(&self, info: &DatadirInfo, copy: &VerifiedCopy, host: &Hooked) -> Result<String> {
        datadir::swap(&self.journals, info, copy, host)
    }

    /// Swaps, and is killed before the first step whose name begins with `step`.
    pub fn killed_at(&self, info: &DatadirInfo, copy: &VerifiedCopy, step: &str) {
        self.killed_in(step, |host| self.swap(info, copy, host).map(drop));
    }

    /// Does `work`, and is killed before the first step whose name begins with `step`.
    pub fn killed_in(&self, step: &str, work: impl Fn(&Hooked) -> Result<()>) {
        let mut host = self.host();
        let step = step.to_string();
        host.hook = Box::new(move |at| {
            if at.starts_with(&step) {
                std::panic::resume_unwind(Box::new("killed"));
            }
            Ok(())
        });
        let run = catch_unwind(AssertUnwindSafe(|| work(&host)));
        match run {
            Ok(done) => panic!("there is no such step: {done:?}"),
            Err(panic) => assert_eq!(panic.downcast_ref::<&str>(), Some(&"killed")),
        }
    }

    /// As the agent does at its start. The text for the record.
    pub fn recover(&self) -> String {
        let host = self.host();
        let found = recover_at_start(&self.journals, &host)
            .expect("rolled back")
            .expect("an unfinished swap");
        if let Some(info) = &found.start {
            start_again(&self.journals, info, &host).expect("MySQL starts");
        }
        found.text
    }

    /// Stops the server, and waits until its process has closed all files.
    pub fn down(&self) {
        self.db.down();
        wait_for("the server is gone", Duration::from_secs(30), || {
            servers_in(&self.db.datadir()).is_empty().then_some(())
        });
    }

    pub fn refused(&self) -> Option<String> {
        mysql_start_refused(&self.journals)
    }

    #[track_caller]
    pub fn assert_old(&self) {
        assert_eq!(self.db.value("SELECT v FROM precious.t"), "mine");
        assert!(self.db.sql("SHOW DATABASES LIKE 'shop'").is_empty());
        assert_eq!(self.refused(), None);
    }

    #[track_caller]
    pub fn assert_new(&self) {
        assert_eq!(self.db.value("SELECT v FROM shop.t"), "new");
        assert!(self.db.sql("SHOW DATABASES LIKE 'precious'").is_empty());
        assert_eq!(self.refused(), None);
    }

    /// Starts MySQL without the agent.
    pub fn start_command(&self) -> Command {
        let mut command = Command::new("sh");
        command.arg("-c").arg(self.db.service("start"));
        command
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        command
    }
}

/// The lines of `mysql` replace the usual ones with their keys.
fn configuration<K: Family>(db: &Server<K>, dir: &Path, mysql: &str, common: &str) -> Arc<Config> {
    let key = |l: &str| l.split('=').next().unwrap_or_default().trim().to_string();
    let mut lines = vec![
        format!("host = {:?}", db.host),
        format!("port = {}", db.port),
        "user = \"agent\"".into(),
        format!("password = {AGENT_PASSWORD:?}"),
    ];
    for word in ["status", "start", "stop"] {
        lines.push(format!("service-{word}-command = {:?}", db.service(word)));
    }
    for line in mysql.lines() {
        lines.retain(|l| key(l) != key(line));
        lines.push(line.into());
    }
    let text = format!(
        "[common]\nbackup-dir = {:?}\nstate-dir = {:?}\n{common}\n[orchestrator]\nurl = \"http://127.0.0.1\"\n[mysql]\n{}\n",
        dir.join("backup"),
        dir.join("state"),
        lines.join("\n")
    );
    let loaded = config::parse(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    Arc::new(loaded.config)
}

/// What is done before a step.
pub type Hook<'a> = Box<dyn Fn(&str) -> Result<()> + Sync + 'a>;

/// The real environment, with something done before each step.
pub struct Hooked<'a> {
    pub host: Host<'a>,
    pub hook: Hook<'a>,
    pub quiet: Duration,
}

impl Task for Hooked<'_> {
    fn cancel(&self) -> &Cancel {
        self.host.cancel()
    }
    fn report(&self, text: &str) {
        self.host.report(text);
    }
    fn adopt(&self, tool: &Running) -> Result<()> {
        self.host.adopt(tool)
    }
}

impl Environment for Hooked<'_> {
    fn stop(&self, cancel: &Cancel) -> Result<()> {
        self.host.stop(cancel)
    }
    fn start(&self, cancel: &Cancel) -> Result<()> {
        self.host.start(cancel)
    }
    fn answers(&self) -> Result<Option<Error>> {
        self.host.answers()
    }
    fn serves(&self, info: &DatadirInfo) -> Result<()> {
        self.host.serves(info)
    }
    fn program(&self, info: &DatadirInfo) -> Command {
        self.host.program(info)
    }
    fn boot_timeout(&self) -> Duration {
        self.host.boot_timeout()
    }
    fn stop_timeout(&self) -> Duration {
        self.host.stop_timeout()
    }
    fn quiet(&self) -> Duration {
        self.quiet
    }
    fn at(&self, step: &str) -> Result<()> {
        (self.hook)(step)
    }
}

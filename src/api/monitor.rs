//! The state of the host for the information endpoints. MySQL, the disks, the service command and the tools are probed in threads of
//! their own when a call needs it; an answer waits for them for a moment and then uses the last known state, so that neither a
//! hung MySQL nor a slow disk nor a stage at work delays it.

use super::probed::{Probed, Wait};
use crate::config::Config;
use crate::datadir::{self, STAGING_NAMES};
use crate::error::{Error, OnPath};
use crate::methods;
use crate::mysql::{Endpoint, Server, answers, connect, info};
use crate::process::{Cancel, Launcher, run_operator_command};
use crate::seed::engine::Engine;
use crate::seed::record::Seed;
use crate::seed::stage::SeedMethod;
use crate::seed::{Method, Stage};
use crate::sys::Inserted;
use crate::sys::thread::spawn_with_stack;
use crate::sys::{disk, host};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long an answer waits for a probe: the answer has to be there within a second also on a busy host.
const ANSWER_LIMIT: Duration = Duration::from_millis(400);
const ANSWER: Wait = Wait::up_to(ANSWER_LIMIT);
/// How long a call waits that is refused if nothing has changed.
const REFUSAL_LIMIT: Duration = Duration::from_secs(3);
/// How old the result of a probe may be.
const MAX_AGE: Duration = Duration::from_millis(500);
/// The same for the tools, which change seldom.
const MAX_AGE_OF_METHODS: Duration = Duration::from_secs(5);
/// How long the disk probe waits for the name of the data directory.
const DATADIR_LIMIT: Duration = Duration::from_secs(5);
/// How old the state of the service may be, where its command is slow: a seed is refused by it.
const MAX_AGE_OF_SERVICE: Duration = Duration::from_secs(5);
/// How long an answer waits that is nothing but that.
const SERVICE_LIMIT: Duration = Duration::from_secs(2);
/// The same for the size of a data directory: orchestrator waits 60 s for the head of a response.
const SIZE_LIMIT: Duration = Duration::from_secs(45);
const SIZE: Wait = Wait {
    if_old: ANSWER_LIMIT,
    ..Wait::up_to(SIZE_LIMIT)
};
/// How old what an operator's command or the option files report of MySQL may be.
const MAX_AGE_OF_COMMANDS: Duration = Duration::from_secs(60);
/// How long an answer waits for an operator's command.
const COMMAND: Wait = Wait {
    if_old: ANSWER_LIMIT,
    ..Wait::up_to(Duration::from_secs(20))
};
/// For the connection of a probe and each of its queries.
const QUERY_LIMIT: Duration = Duration::from_secs(30);

/// By method nothing, or why it cannot be used.
pub(super) type Methods = BTreeMap<Method, Result<(), String>>;

/// What MySQL reports; as last known, but for `answers` and `schemas`.
#[derive(Debug, Clone, Default)]
pub(super) struct MysqlStatus {
    pub(super) answers: bool,
    /// Hosts that replicated from it when it last answered, sorted; `None` if this process has not seen it.
    pub(super) replicas: Option<Vec<String>>,
    pub(super) server: Option<Server>,
    /// From the configuration, the last seed or the option files until MySQL has answered; empty if unknown.
    pub(super) datadir: String,
    /// The same; relative to the data directory.
    pub(super) log_error: String,
    /// When the option files were read.
    searched: Option<Instant>,
    /// Empty while it does not answer.
    pub(super) schemas: BTreeMap<String, info::Schema>,
}

/// Bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct DiskUse {
    pub(super) backup_dir: u64,
    /// On the target of a seed with what is staged.
    pub(super) datadir: u64,
    /// The seed whose target this host was.
    of_seed: Option<i64>,
}

/// The results of all probes.
#[derive(Debug, Clone, Default)]
pub(super) struct HostStatus {
    pub(super) mysql: MysqlStatus,
    pub(super) disk: DiskUse,
    /// By `service-status-command`.
    pub(super) running: bool,
    pub(super) methods: Methods,
}

/// Probes this host when a call needs it. All clones are one.
#[derive(Clone)]
pub(crate) struct HostMonitor {
    mysql: Arc<Probed<MysqlStatus>>,
    port: Arc<Probed<Result<u16, String>>>,
    disk: Arc<Probed<DiskUse>>,
    running: Arc<Probed<bool>>,
    methods: Arc<Probed<Methods>>,
}

impl HostMonitor {
    /// Nothing is probed before the first call. `stopping` ends operators' commands.
    pub(crate) fn new(
        config: &Arc<Config>,
        engine: &Arc<Engine>,
        methods: Vec<Arc<dyn SeedMethod>>,
        stopping: &Cancel,
    ) -> Self {
        let c = || Arc::clone(config);
        let (of_mysql, of_port, of_disk, of_service, of_methods) = (c(), c(), c(), c(), c());
        let (mysql_stop, port_stop, service_stop) =
            (stopping.clone(), stopping.clone(), stopping.clone());
        let mysql = Probed::new("probe-mysql", move |last| {
            probe_mysql(&of_mysql, last, &mysql_stop)
        });
        let (named, engine) = (Arc::clone(&mysql), Arc::clone(engine));
        let disk = Probed::new("probe-disk", move |last| {
            let mysql = named.get(Duration::MAX, Instant::now() + DATADIR_LIMIT);
            let datadir = mysql.unwrap_or_default().datadir;
            probe_disk(&of_disk, Path::new(&datadir), &engine, last)
        });
        Self {
            mysql,
            port: Probed::new("probe-port", move |_| {
                port_by_command(&of_port, &port_stop).map_err(|e| e.to_string())
            }),
            disk,
            running: Probed::new("probe-service", move |_| {
                is_running(&of_service, &service_stop)
            }),
            methods: Probed::new("probe-methods", move |last| {
                probe_methods(&of_methods, &methods, last)
            }),
        }
    }

    /// Probes everything and waits for it up to `limit`: before the first registration.
    pub(crate) fn probe_once(&self, limit: Duration) {
        self.since(Duration::MAX, limit);
    }

    /// Everything as of now; what does not answer soon as last known.
    pub(super) fn now(&self) -> HostStatus {
        let begin = Instant::now();
        // All probes run at the same time.
        self.running.get(MAX_AGE, begin);
        self.methods.get(MAX_AGE_OF_METHODS, begin);
        let age = self.disk.age(MAX_AGE);
        self.disk.get(age, begin);
        let (mysql, disk) = (&self.mysql, &self.disk);
        let methods = (self.methods).soon(MAX_AGE_OF_METHODS, begin, ANSWER);
        HostStatus {
            mysql: (mysql.soon(MAX_AGE, begin, ANSWER)).unwrap_or_default(),
            running: self.running(begin, ANSWER_LIMIT),
            methods: methods.unwrap_or_default(),
            disk: disk.soon(age, begin, ANSWER).unwrap_or_default(),
        }
    }

    /// Everything after a change: by probes that begin after this call, for which it waits longer.
    pub(super) fn after_change(&self) -> HostStatus {
        self.since(Duration::ZERO, Duration::from_secs(5))
    }

    fn since(&self, age: Duration, limit: Duration) -> HostStatus {
        let now = Instant::now();
        // As above; disk use is not waited for, unless nothing is known.
        self.disk.get(age, now);
        self.running.get(age, now);
        self.methods.get(age, now);
        let until = now + limit;
        HostStatus {
            mysql: self.mysql.get(age, until).unwrap_or_default(),
            running: self.running.get(age, until).unwrap_or(false),
            methods: self.methods.get(age, until).unwrap_or_default(),
            disk: self.disk.get(Duration::MAX, until).unwrap_or_default(),
        }
    }

    /// Whether MySQL runs by `service-status-command`. One that hangs counts as last known.
    pub(super) fn is_running(&self) -> bool {
        self.running(Instant::now(), SERVICE_LIMIT)
    }

    fn running(&self, begin: Instant, limit: Duration) -> bool {
        let wait = Wait {
            known: MAX_AGE_OF_SERVICE,
            ..Wait::up_to(limit)
        };
        self.running.soon(MAX_AGE, begin, wait).unwrap_or(false)
    }

    /// MySQL was started or stopped: the next answers are about the state after it.
    pub(super) fn service_changed(&self) {
        self.mysql.get(Duration::ZERO, Instant::now());
        let until = Instant::now() + SERVICE_LIMIT;
        self.running.get(Duration::ZERO, until);
    }

    /// MySQL's port, also while it is down.
    pub(super) fn port(&self, config: &Config) -> crate::error::Result<u16> {
        if !config.mysql.user.is_empty() || config.classic.mysql_port_command.is_empty() {
            return Ok(config.mysql.port);
        }
        let port = self.port.soon(MAX_AGE_OF_COMMANDS, Instant::now(), COMMAND);
        let port = port.unwrap_or_else(|| Err("the command has not ended yet".into()));
        port.map_err(|e| Error::permanent(e).context("classic.mysql-port-command"))
    }

    /// Bytes of the data directory, on the target of a seed with what is staged: never 0.
    pub(super) fn datadir_used(&self) -> crate::error::Result<u64> {
        let begin = Instant::now();
        let age = self.disk.age(MAX_AGE);
        let used = |disk: Option<DiskUse>| disk.map(|d| d.datadir).filter(|n| *n > 0);
        let known = used(self.disk.soon(age, begin, SIZE));
        // It may have been probed before the data directory was known.
        let known = known.or_else(|| used(self.disk.get(Duration::ZERO, begin + SIZE_LIMIT)));
        if let Some(bytes) = known {
            return Ok(bytes);
        }
        let datadir = self.datadir()?;
        disk::usage_without(&datadir, &STAGING_NAMES).on(&datadir)
    }

    /// Waits until the size of the data directory is not older than a minute.
    pub(super) fn refresh_size(&self) {
        let until = Instant::now() + SIZE_LIMIT;
        self.disk.get(Duration::from_secs(60), until);
    }

    /// Bytes that the agent may still write on the file system of the data directory.
    pub(super) fn datadir_free(&self) -> crate::error::Result<u64> {
        let datadir = self.datadir()?;
        let space = disk::space(&datadir).on(&datadir)?;
        Ok(space.available)
    }

    fn datadir(&self) -> crate::error::Result<PathBuf> {
        match self.mysql().datadir {
            name if name.is_empty() => Err(Error::permanent(
                "MySQL has not answered yet, so its data directory is not known: start it once, or set mysql.datadir or mysql.defaults-file",
            )
            .about("mysql.datadir")),
            name => Ok(name.into()),
        }
    }

    /// Probes MySQL and waits for it, for what must be known of a server that is about to stop.
    pub(super) fn probe_before_stop(&self) {
        let until = Instant::now() + Duration::from_secs(5);
        self.mysql.get(Duration::ZERO, until);
    }

    pub(super) fn mysql(&self) -> MysqlStatus {
        let now = Instant::now();
        let mysql = self.mysql.soon(MAX_AGE, now, ANSWER);
        mysql.unwrap_or_default()
    }

    /// If `method` can be used, or why it cannot; `None` if it is not enabled or was never probed. An earlier probe is enough for a
    /// yes; a no is probed again, because its cause may have been corrected.
    pub(super) fn method(&self, method: Method) -> Option<Result<(), String>> {
        let of = |age, limit| {
            let methods = self.methods.get(age, Instant::now() + limit);
            methods.and_then(|mut all| all.remove(&method))
        };
        match of(MAX_AGE_OF_METHODS, ANSWER_LIMIT) {
            Some(Err(_)) => of(Duration::ZERO, REFUSAL_LIMIT),
            other => other,
        }
    }
}

fn probe_methods(
    config: &Config,
    methods: &[Arc<dyn SeedMethod>],
    last: Option<&Methods>,
) -> Methods {
    let probe = |m: &Arc<dyn SeedMethod>| (m.method(), m.available().map_err(|e| e.to_string()));
    let mut all: Methods = methods.iter().map(probe).inserted();
    all.extend(methods::left_out(config).map(|(method, why)| (method, Err(why.into()))));
    for (method, state) in &all {
        if last.and_then(|l| l.get(method)) != Some(state) {
            match state {
                Ok(()) => log::info!("seed method {method} is available"),
                Err(why) => log::warn!("seed method {method} is not available: {why}"),
            }
        }
    }
    all
}

fn probe_disk(config: &Config, datadir: &Path, engine: &Engine, last: Option<&DiskUse>) -> DiskUse {
    let last = last.copied().unwrap_or_default();
    let target = engine.current().filter(Seed::is_growing);
    let of_seed = target.as_ref().map(|s| s.id);
    // It never falls during a seed: orchestrator takes it for the seed's progress.
    let same_seed = of_seed.is_some() && last.of_seed == of_seed;
    let floor = if same_seed { last.datadir } else { 0 };
    let used = datadir_used(datadir, target.as_ref()).unwrap_or(last.datadir);
    DiskUse {
        backup_dir: disk::usage(&config.common.backup_dir).unwrap_or(last.backup_dir),
        datadir: used.max(floor),
        of_seed,
    }
}

/// Bytes of the data directory. What is staged counts on the target of a seed only: elsewhere it is not data,
/// and a source would seem too large. Until the swap it is added to the size of the old data, which does not change.
fn datadir_used(datadir: &Path, target: Option<&Seed>) -> Option<u64> {
    if let Some(seed) = target
        && let Ok((info, staged)) = methods::staged(seed)
    {
        if seed.stage <= Stage::Backup {
            return Some(staged.disk_used(&info));
        }
        let mut used = disk::usage(&info.datadir).ok()?;
        if !info.staging.starts_with(&info.datadir) {
            used += disk::usage(&staged.dir).unwrap_or(0);
        }
        return Some(used);
    }
    if datadir.as_os_str().is_empty() {
        return Some(0);
    }
    disk::usage_without(datadir, &STAGING_NAMES).ok()
}

/// Notes what a seed needs that begins while MySQL is down: its replicas, and if it `came_up` everything. That may take as long as a
/// walk through the data directory, so that nothing waits for it.
fn note_server(config: &Arc<Config>, came_up: bool) {
    let config = Arc::clone(config);
    let body = move || {
        if came_up && let Err(e) = datadir::take_note(&config) {
            log::info!("this host cannot be the target of a seed while MySQL is down: {e}");
        }
        if let Err(e) = datadir::note_replicas(&config) {
            log::info!("the replicas of MySQL cannot be noted in common.state-dir: {e}");
        }
    };
    if let Err(e) = spawn_with_stack("note", 512 << 10, body) {
        log::warn!("{e}");
    }
}

fn probe_mysql(config: &Arc<Config>, last: Option<&MysqlStatus>, stopping: &Cancel) -> MysqlStatus {
    let mut now = last.cloned().unwrap_or_default();
    now.answers = false;
    now.schemas.clear();
    if now.datadir.is_empty() {
        now.datadir.clone_from(&config.mysql.datadir);
    }
    let query = |now: &mut MysqlStatus| -> crate::error::Result<()> {
        let mut conn = connect(&Endpoint::local(&config.mysql), QUERY_LIMIT)?;
        let server = Server::ask(&mut conn)?;
        now.server = Some(server);
        now.datadir = info::global(&mut conn, "datadir")?.unwrap_or_default();
        now.log_error = info::global(&mut conn, "log_error")?.unwrap_or_default();
        let mut replicas = info::replicas(&mut conn)?;
        replicas.sort();
        now.replicas = Some(replicas);
        now.schemas = info::schemas(&mut conn, server)?;
        now.answers = true;
        Ok(())
    };
    // Without an account nothing is queried: see classic.mysql-datadir-command.
    let answered = (!config.mysql.user.is_empty()).then(|| query(&mut now));
    if now.server.is_none() {
        find_without_server(config, &mut now, stopping);
    }
    let came_up = last.is_none_or(|l| !l.answers);
    let came_up = came_up && matches!(answered, Some(Ok(())));
    if came_up || last.is_some_and(|l| l.replicas != now.replicas) {
        note_server(config, came_up);
    }
    match (answered, last.map(|l| l.answers)) {
        (Some(Err(e)), Some(false)) => log::debug!("{e}"),
        (Some(Err(e)), _) => log::warn!("{e}"),
        (Some(Ok(())), Some(false)) => log::info!("MySQL answers"),
        (None | Some(Ok(())), _) => {}
    }
    now
}

/// Where its data and its error log are, while MySQL was not seen by this process.
fn find_without_server(config: &Config, now: &mut MysqlStatus, stopping: &Cancel) {
    let age = now.searched.map(|at| at.elapsed());
    if age.is_some_and(|age| age < MAX_AGE_OF_COMMANDS) {
        return;
    }
    now.searched = Some(Instant::now());
    let command = &config.classic.mysql_datadir_command;
    if now.datadir.is_empty() && !command.is_empty() {
        match output_of(config, command, stopping) {
            Ok(text) => now.datadir = host::expand_home(&text),
            Err(e) => log::warn!("classic.mysql-datadir-command: {e}"),
        }
    }
    if now.datadir.is_empty()
        && let Some(info) = datadir::last_seen(config)
    {
        now.datadir = info.datadir.display().to_string();
    }
    match datadir::settings_when_down(config) {
        Ok(found) => {
            if now.datadir.is_empty() {
                now.datadir = found.datadir.display().to_string();
            }
            now.log_error = found.log_error;
        }
        Err(e) => log::debug!("the option files of MySQL, which was not seen yet: {e}"),
    }
}

/// Of an operator's command, without surrounding blanks.
fn output_of(config: &Config, line: &str, stopping: &Cancel) -> crate::error::Result<String> {
    let launcher = Launcher::new(&config.common);
    let limit = config.common.command_timeout;
    let out = run_operator_command(line, &launcher, limit, stopping)?;
    Ok(out.success()?.trim().to_string())
}

fn port_by_command(config: &Config, stopping: &Cancel) -> crate::error::Result<u16> {
    let text = output_of(config, &config.classic.mysql_port_command, stopping)?;
    text.parse().map_err(|_| {
        let text = crate::error::shortened(&text);
        Error::permanent(format!("its output \"{text}\" is not a port"))
    })
}

fn is_running(config: &Config, stopping: &Cancel) -> bool {
    let launcher = Launcher::new(&config.common);
    let line = &config.mysql.service_status_command;
    if line.trim().is_empty() {
        return answers(&Endpoint::local(&config.mysql), SERVICE_LIMIT).is_ok();
    }
    // A stopped MySQL is not an error.
    let limit = config.common.command_timeout.min(Duration::from_secs(30));
    match run_operator_command(line, &launcher, limit, stopping) {
        Ok(out) => out.ok(),
        Err(e) if e.is_cancelled() => false,
        Err(e) => {
            log::warn!("mysql.service-status-command: {e}");
            false
        }
    }
}

/// Free bytes of the file system of a path, 0 if unknown.
pub(super) fn free(path: &str) -> u64 {
    if path.is_empty() {
        return 0;
    }
    disk::space(Path::new(path)).map_or(0, |s| s.available)
}

/// CPUs, bytes of memory and name of the operating system, which do not change while the agent runs.
pub(super) fn machine() -> (usize, u64, String) {
    static MACHINE: std::sync::OnceLock<(usize, u64, String)> = std::sync::OnceLock::new();
    MACHINE
        .get_or_init(|| (host::cpus(), host::memory_total(), host::os_name()))
        .clone()
}

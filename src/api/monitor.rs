//! The state of the host for the information endpoints. MySQL, the disks, the service command and the tools are probed in threads of
//! their own when a call needs it; an answer waits for them for a moment and then uses the last known state, so that neither a
//! hung MySQL nor a slow disk nor a stage at work delays it.

use crate::config::Config;
use crate::datadir::STAGING_NAMES;
use crate::methods;
use crate::mysql::{Endpoint, Server, connect, info};
use crate::process::{Cancel, Launcher, run_operator_command};
use crate::seed::engine::Engine;
use crate::seed::record::Seed;
use crate::seed::stage::SeedMethod;
use crate::seed::{Method, Stage};
use crate::sys::Inserted;
use crate::sys::thread::{lock, spawn_with_stack, unpoisoned};
use crate::sys::{disk, host};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// How long an answer waits for a probe: the answer has to be there within a second also on a busy host.
const ANSWER_LIMIT: Duration = Duration::from_millis(400);
/// How long a call waits that is refused if nothing has changed.
const REFUSAL_LIMIT: Duration = Duration::from_secs(3);
/// How old the result of a probe may be.
const MAX_AGE: Duration = Duration::from_millis(500);
/// The same for the tools, which change seldom.
const MAX_AGE_OF_METHODS: Duration = Duration::from_secs(5);
/// The same for disk use, which takes long to find; each answer starts a new probe.
const MAX_AGE_OF_DISK: Duration = Duration::from_secs(30);
/// How long the disk probe waits for the name of the data directory.
const DATADIR_LIMIT: Duration = Duration::from_secs(5);
/// Before a probe that panicked is repeated.
const PAUSE_AFTER_PANIC: Duration = Duration::from_secs(1);
/// For the connection of a probe and each of its queries.
const QUERY_LIMIT: Duration = Duration::from_secs(30);

/// By method nothing, or why it cannot be used.
pub(super) type Methods = BTreeMap<Method, Result<(), String>>;

/// A value that is found by a probe, in a thread that ends with it. One runs at a time.
struct Probed<T> {
    thread: &'static str,
    latest: Mutex<Latest<T>>,
    changed: Condvar,
    probe: Mutex<Probe<T>>,
}

/// Gets the last value.
type Probe<T> = Box<dyn FnMut(Option<&T>) -> T + Send>;

struct Latest<T> {
    /// With the time at which its probe began.
    value: Option<(Instant, T)>,
    is_probing: bool,
}

impl<T: Clone + Send + 'static> Probed<T> {
    fn new(thread: &'static str, probe: impl FnMut(Option<&T>) -> T + Send + 'static) -> Arc<Self> {
        Arc::new(Self {
            thread,
            latest: Mutex::new(Latest {
                value: None,
                is_probing: false,
            }),
            changed: Condvar::new(),
            probe: Mutex::new(Box::new(probe)),
        })
    }

    fn start(self: &Arc<Self>, latest: &mut Latest<T>) {
        if latest.is_probing {
            return;
        }
        let this = Arc::clone(self);
        let body = move || {
            let last = lock(&this.latest).value.as_ref().map(|v| v.1.clone());
            let begun = Instant::now();
            let probed = catch_unwind(AssertUnwindSafe(|| lock(&this.probe)(last.as_ref())));
            if probed.is_err() {
                log::error!("internal error: a probe of this host panicked");
                std::thread::sleep(PAUSE_AFTER_PANIC);
            }
            let mut latest = lock(&this.latest);
            latest.is_probing = false;
            if let Ok(value) = probed {
                latest.value = Some((begun, value));
            }
            this.changed.notify_all();
        };
        match spawn_with_stack(self.thread, 512 << 10, body) {
            Ok(_) => latest.is_probing = true,
            Err(e) => log::error!("{e}"),
        }
    }

    /// The result of a probe that began at most `age` ago, for which is waited until `until` at most; else the last one.
    fn get(self: &Arc<Self>, age: Duration, until: Instant) -> Option<T> {
        let oldest = Instant::now().checked_sub(age);
        let fresh = |(at, _): &(Instant, T)| oldest.is_none_or(|oldest| *at >= oldest);
        let mut latest = lock(&self.latest);
        while !latest.value.as_ref().is_some_and(fresh) {
            self.start(&mut latest);
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            latest = unpoisoned(self.changed.wait_timeout(latest, left)).0;
        }
        latest.value.as_ref().map(|(_, v)| v.clone())
    }
}

/// What MySQL reports; as last known, but for `answers` and `schemas`.
#[derive(Debug, Clone, Default)]
pub(super) struct MysqlStatus {
    answers: bool,
    pub(super) server: Option<Server>,
    /// From the configuration until MySQL has answered.
    pub(super) datadir: String,
    pub(super) log_error: String,
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

/// Probes this host when a call needs it.
pub(crate) struct HostMonitor {
    mysql: Arc<Probed<MysqlStatus>>,
    disk: Arc<Probed<DiskUse>>,
    running: Arc<Probed<bool>>,
    methods: Arc<Probed<Methods>>,
}

impl HostMonitor {
    /// Nothing is probed before the first call.
    pub(crate) fn new(
        config: &Arc<Config>,
        engine: &Arc<Engine>,
        methods: Vec<Arc<dyn SeedMethod>>,
    ) -> Self {
        let c = || Arc::clone(config);
        let (of_mysql, of_disk, of_service, of_methods) = (c(), c(), c(), c());
        let mysql = Probed::new("probe-mysql", move |last| probe_mysql(&of_mysql, last));
        let (named, engine) = (Arc::clone(&mysql), Arc::clone(engine));
        let disk = Probed::new("probe-disk", move |last| {
            let mysql = named.get(Duration::MAX, Instant::now() + DATADIR_LIMIT);
            let datadir = mysql.unwrap_or_default().datadir;
            probe_disk(&of_disk, Path::new(&datadir), &engine, last)
        });
        Self {
            mysql,
            disk,
            running: Probed::new("probe-service", move |_| is_running(&of_service)),
            methods: Probed::new("probe-methods", move |last| {
                probe_methods(&of_methods, &methods, last)
            }),
        }
    }

    /// Probes everything and waits for it up to `limit`: before the first registration.
    pub(crate) fn probe_once(&self, limit: Duration) {
        self.status(Duration::MAX, limit);
    }

    /// Everything as of now; what does not answer soon as last known.
    pub(super) fn now(&self) -> HostStatus {
        self.status(MAX_AGE, ANSWER_LIMIT)
    }

    /// Everything after a change: by probes that begin after this call, for which it waits longer.
    pub(super) fn after_change(&self) -> HostStatus {
        self.status(Duration::ZERO, Duration::from_secs(5))
    }

    fn status(&self, age: Duration, limit: Duration) -> HostStatus {
        let now = Instant::now();
        let of_methods = if age == MAX_AGE {
            MAX_AGE_OF_METHODS
        } else {
            age
        };
        // All probes run at the same time.
        self.disk.get(age, now);
        self.running.get(age, now);
        self.methods.get(of_methods, now);
        let until = now + limit;
        HostStatus {
            mysql: self.mysql.get(age, until).unwrap_or_default(),
            running: self.running.get(age, until).unwrap_or(false),
            methods: self.methods.get(of_methods, until).unwrap_or_default(),
            disk: (self.disk.get(age.max(MAX_AGE_OF_DISK), until)).unwrap_or_default(),
        }
    }

    pub(super) fn mysql(&self) -> MysqlStatus {
        let until = Instant::now() + ANSWER_LIMIT;
        self.mysql.get(MAX_AGE, until).unwrap_or_default()
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

fn probe_mysql(config: &Config, last: Option<&MysqlStatus>) -> MysqlStatus {
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
        now.schemas = info::schemas(&mut conn, server)?;
        now.answers = true;
        Ok(())
    };
    match (query(&mut now), last.map(|l| l.answers)) {
        (Err(e), Some(false)) => log::debug!("{e}"),
        (Err(e), _) => log::warn!("{e}"),
        (Ok(()), Some(false)) => log::info!("MySQL answers"),
        (Ok(()), _) => {}
    }
    now
}

fn is_running(config: &Config) -> bool {
    let launcher = Launcher::new(&config.common);
    let line = &config.mysql.service_status_command;
    // A stopped MySQL is not an error.
    let limit = config.common.command_timeout.min(Duration::from_secs(30));
    match run_operator_command(line, &launcher, limit, &Cancel::default()) {
        Ok(out) => out.ok(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn a_slow_probe_delays_no_answer_beyond_its_limit() {
        let n = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&n);
        let s = Probed::new("test", move |_| {
            let n = count.fetch_add(1, Ordering::Relaxed) + 1;
            if n == 2 {
                std::thread::sleep(Duration::from_secs(3));
            }
            n
        });
        let within = |ms| Instant::now() + Duration::from_millis(ms);
        assert_eq!(s.get(Duration::ZERO, within(5000)), Some(1));
        assert_eq!(
            s.get(Duration::from_secs(60), within(0)),
            Some(1),
            "fresh enough"
        );
        let begin = Instant::now();
        assert_eq!(
            s.get(Duration::ZERO, within(100)),
            Some(1),
            "the last known"
        );
        assert!(begin.elapsed() < Duration::from_secs(2));
        assert!(s.get(Duration::ZERO, within(20_000)).unwrap() >= 2);
    }
}

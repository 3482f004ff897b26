//! What the information endpoints answer from. Four threads look at MySQL, at the disks, at the service command and at the
//! tools when somebody asks; the answer waits for them for a moment and then takes the last they saw, so that neither a hung
//! MySQL nor a slow disk nor a stage at work delays it (D8, 3.8.3).

use crate::config::Config;
use crate::datadir::STAGING_NAMES;
use crate::methods;
use crate::mysql::{Endpoint, Server, connect, info};
use crate::process::{Cancel, Launcher, run_operator_command};
use crate::seed::engine::Engine;
use crate::seed::record::Seed;
use crate::seed::stage::SeedMethod;
use crate::seed::{Method, Stage};
use crate::sys::thread::{lock, spawn_with_stack, unpoisoned};
use crate::sys::{host, usage};
use crossbeam_channel::{Sender, bounded};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// How long an answer waits for a fresh look: it shall be there within a second on a busy host too (P9).
const PATIENCE: Duration = Duration::from_millis(400);
/// How long a call waits that is refused if nothing has changed.
const BEFORE_A_REFUSAL: Duration = Duration::from_secs(3);
/// A look younger than this is fresh.
const FRESH: Duration = Duration::from_millis(500);

/// The tools of a host change seldom.
const METHODS_FRESH: Duration = Duration::from_secs(5);
/// Disk use may be this old in an answer; each answer asks for a newer look.
const DISK_FRESH: Duration = Duration::from_secs(30);

/// Per method nothing, or the reason why it is left out.
pub type Methods = BTreeMap<Method, Result<(), String>>;

/// A value that a thread of its own looks up on demand.
struct Sampled<T> {
    shared: Arc<(Mutex<Latest<T>>, Condvar)>,
    wake: Sender<()>,
}

struct Latest<T> {
    value: Option<(Instant, T)>,
}

impl<T: Clone + Send + 'static> Sampled<T> {
    fn start(name: &str, mut look: impl FnMut(Option<&T>) -> T + Send + 'static) -> Self {
        let shared = Arc::new((Mutex::new(Latest::<T> { value: None }), Condvar::new()));
        let (wake, woken) = bounded(1);
        let own = Arc::clone(&shared);
        let body = move || {
            while woken.recv().is_ok() {
                let last = lock(&own.0).value.as_ref().map(|v| v.1.clone());
                let begun = Instant::now();
                let value = look(last.as_ref());
                lock(&own.0).value = Some((begun, value));
                own.1.notify_all();
            }
        };
        if let Err(e) = spawn_with_stack(&format!("watch-{name}"), 512 << 10, body) {
            log::error!("{e}");
        }
        Self { shared, wake }
    }

    /// Asks for a new look if the last one is older than `age`.
    fn ask(&self, age: Duration) {
        if !self.latest().fresh(Instant::now().checked_sub(age)) {
            let _ = self.wake.try_send(()); // full: a look is on its way
        }
    }

    fn latest(&self) -> MutexGuard<'_, Latest<T>> {
        lock(&self.shared.0)
    }

    /// A look begun at most `age` ago, for which is waited until `until` at most; else the last one there is.
    fn get(&self, age: Duration, until: Instant) -> Option<T> {
        let oldest = Instant::now().checked_sub(age);
        let mut latest = self.latest();
        while !latest.fresh(oldest) {
            let _ = self.wake.try_send(()); // full: a look is on its way
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.shared.1.wait_timeout(latest, left);
            latest = unpoisoned(waited).0;
        }
        latest.value.as_ref().map(|(_, v)| v.clone())
    }
}

impl<T> Latest<T> {
    fn fresh(&self, oldest: Option<Instant>) -> bool {
        self.value
            .as_ref()
            .is_some_and(|(at, _)| oldest.is_none_or(|o| *at >= o))
    }
}

/// What MySQL says.
#[derive(Debug, Clone, Default)]
pub struct MysqlFacts {
    /// It answered.
    pub answers: bool,
    /// Last known.
    pub server: Option<Server>,
    /// Last known; from the configuration while MySQL never answered.
    pub datadir: String,
    /// Last known.
    pub log_error: String,
    /// Empty while it does not answer (2.6).
    pub schemas: BTreeMap<String, info::Schema>,
}

/// Bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct DiskFacts {
    /// Used below `backup-dir`.
    pub backup_used: u64,
    /// Used below the data directory; on the target of a seed with what is staged.
    pub datadir_used: u64,
    /// The seed whose target this host was.
    pub of_seed: Option<i64>,
}

/// What all four saw.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// MySQL.
    pub mysql: MysqlFacts,
    /// Disk use.
    pub disk: DiskFacts,
    /// What `service-status-command` says.
    pub running: bool,
    /// Tools.
    pub methods: Methods,
}

/// The threads.
pub struct Watch {
    mysql: Arc<Sampled<MysqlFacts>>,
    disk: Sampled<DiskFacts>,
    running: Sampled<bool>,
    methods: Sampled<Methods>,
}

impl Watch {
    /// Starts them; none looks before it is asked.
    pub fn start(
        config: &Arc<Config>,
        engine: Engine,
        methods: Vec<Arc<dyn SeedMethod>>,
        left_out: Vec<(Method, String)>,
    ) -> Self {
        let c = Arc::clone(config);
        let mysql = Arc::new(Sampled::start("mysql", move |last| look_at_mysql(&c, last)));
        let c = Arc::clone(config);
        let of_mysql = Arc::clone(&mysql);
        let disk = Sampled::start("disk", move |last: Option<&DiskFacts>| {
            let datadir = of_mysql
                .get(Duration::MAX, Instant::now() + Duration::from_secs(5))
                .map(|m| m.datadir)
                .unwrap_or_default();
            let last = last.copied().unwrap_or_default();
            let target = engine.current().filter(Seed::is_growing);
            let used = datadir_used(Path::new(&datadir), target.as_ref());
            let of_seed = target.map(|s| s.id);
            // Never falls during a seed (DESIGN 3): compared with the last look during the same one.
            let floor =
                Some(last.datadir_used).filter(|_| of_seed.is_some() && last.of_seed == of_seed);
            DiskFacts {
                backup_used: usage::usage(&c.common.backup_dir).unwrap_or(last.backup_used),
                datadir_used: used.unwrap_or(last.datadir_used).max(floor.unwrap_or(0)),
                of_seed,
            }
        });
        let c = Arc::clone(config);
        let launcher = Launcher::new(&config.common);
        let running = Sampled::start("service", move |_| is_running(&c, &launcher));
        let methods = Sampled::start("methods", move |last: Option<&Methods>| {
            let mut all: BTreeMap<_, _> = left_out
                .iter()
                .map(|(m, why)| (*m, Err(why.clone())))
                .collect();
            all.extend(
                methods
                    .iter()
                    .map(|m| (m.method(), m.available().map_err(|e| e.to_string()))),
            );
            for (method, state) in &all {
                if last.and_then(|l| l.get(method)) != Some(state) {
                    match state {
                        Ok(()) => log::info!("seed method {method} is available"),
                        Err(why) => log::warn!("seed method {method} is left out: {why}"),
                    }
                }
            }
            all
        });
        Self {
            mysql,
            disk,
            running,
            methods,
        }
    }

    /// Looks at everything, and waits up to `patience` for it: before the first registration.
    pub fn first_look(&self, patience: Duration) {
        self.look(Duration::MAX, patience);
    }

    /// Everything as of now, or, what does not answer soon, as it was last seen.
    pub fn now(&self) -> Facts {
        self.look(FRESH, PATIENCE)
    }

    /// Everything after something has changed it: looks begun after this call, for which a little longer is waited.
    pub fn anew(&self) -> Facts {
        self.look(Duration::ZERO, Duration::from_secs(5))
    }

    /// All four look at the same time, and are waited for together.
    fn look(&self, age: Duration, patience: Duration) -> Facts {
        let until = Instant::now() + patience;
        let age_of_methods = if age == FRESH { METHODS_FRESH } else { age };
        self.mysql.ask(age);
        self.running.ask(age);
        self.methods.ask(age_of_methods);
        self.disk.ask(age);
        Facts {
            mysql: self.mysql.get(age, until).unwrap_or_default(),
            running: self.running.get(age, until).unwrap_or(false),
            methods: self.methods.get(age_of_methods, until).unwrap_or_default(),
            // A walk through a large tree takes long: the last known does, unless there is none.
            disk: self
                .disk
                .get(age.max(DISK_FRESH), until)
                .unwrap_or_default(),
        }
    }

    /// What MySQL said last.
    pub fn mysql(&self) -> MysqlFacts {
        let until = Instant::now() + PATIENCE;
        self.mysql.get(FRESH, until).unwrap_or_default()
    }

    /// If `method` is usable, or why it is not; None if it is not enabled or was never looked at. What was seen before the call
    /// is enough for a yes. A no is looked at again: its cause may have been mended since.
    pub fn method(&self, method: Method) -> Option<Result<(), String>> {
        let of = |age, patience| {
            let seen = self.methods.get(age, Instant::now() + patience);
            seen.and_then(|mut all| all.remove(&method))
        };
        match of(METHODS_FRESH, PATIENCE) {
            Some(Err(_)) => of(Duration::ZERO, BEFORE_A_REFUSAL),
            other => other,
        }
    }
}

/// Bytes of the data directory. What is staged counts on the target of a seed only: elsewhere it is no data, and a source
/// would seem too large. Until the swap what has come is added to what was there, so that only that must be looked at.
fn datadir_used(datadir: &Path, target: Option<&Seed>) -> Option<u64> {
    if let Some(seed) = target
        && let Ok((facts, staged)) = methods::staged(seed)
    {
        if seed.stage <= Stage::Backup {
            return Some(staged.disk_used(&facts));
        }
        let inside = usage::usage(&facts.datadir).ok()?;
        let is_inside = facts.staging.starts_with(&facts.datadir);
        let outside = || usage::usage(&staged.dir).unwrap_or(0);
        return Some(if is_inside {
            inside
        } else {
            inside + outside()
        });
    }
    if datadir.as_os_str().is_empty() {
        return Some(0);
    }
    usage::usage_without(datadir, &STAGING_NAMES).ok()
}

fn look_at_mysql(config: &Config, last: Option<&MysqlFacts>) -> MysqlFacts {
    let mut now = last.cloned().unwrap_or_default();
    now.answers = false;
    now.schemas.clear();
    if now.datadir.is_empty() {
        now.datadir.clone_from(&config.mysql.datadir);
    }
    let ask = |now: &mut MysqlFacts| -> crate::error::Result<()> {
        let mut conn = connect(&Endpoint::local(&config.mysql), Duration::from_secs(30))?;
        let server = Server::ask(&mut conn)?;
        now.server = Some(server);
        now.datadir = info::global(&mut conn, "datadir")?.unwrap_or_default();
        now.log_error = info::global(&mut conn, "log_error")?.unwrap_or_default();
        now.schemas = info::schemas(&mut conn, server)?;
        now.answers = true;
        Ok(())
    };
    let asked = ask(&mut now);
    match (&asked, last.is_none_or(|l| l.answers)) {
        (Err(e), true) => log::warn!("{e}"),
        (Err(e), false) => log::debug!("{e}"),
        (Ok(()), _) => {
            if last.is_some_and(|l| !l.answers) {
                log::info!("MySQL answers");
            }
        }
    }
    now
}

fn is_running(config: &Config, launcher: &Launcher) -> bool {
    let line = &config.mysql.service_status_command;
    // A stopped MySQL is no error (D19); a status command that hangs is not waited for long.
    let limit = config.common.command_timeout.min(Duration::from_secs(30));
    match run_operator_command(line, launcher, limit, &Cancel::default()) {
        Ok(out) => out.ok(),
        Err(e) => {
            log::warn!("mysql.service-status-command: {e}");
            false
        }
    }
}

/// Free bytes of the file system of a path, 0 if unknown.
pub fn free(path: &str) -> u64 {
    if path.is_empty() {
        0
    } else {
        crate::sys::disk::space(Path::new(path)).map_or(0, |s| s.available)
    }
}

/// Facts that do not change while the agent runs.
pub fn machine() -> (usize, u64, String) {
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
    fn a_slow_look_delays_nobody_beyond_his_patience() {
        let n = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&n);
        let s = Sampled::start("test", move |_| {
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

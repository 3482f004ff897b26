//! A data directory with a staged copy, and a server and service manager that are played.

use super::*;

static COUNT: AtomicUsize = AtomicUsize::new(0);

/// What happens at the nth step.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Fault {
    None,
    /// The agent is killed: nothing of this process runs any more.
    Kill,
    /// An error, as of a full disk.
    Fail,
    Cancel,
}

pub(super) struct Fake {
    pub(super) info: DatadirInfo,
    pub(super) cancel: Cancel,
    pub(super) running: Mutex<bool>,
    pub(super) fault: Fault,
    pub(super) at: usize,
    pub(super) steps: Mutex<Vec<String>>,
    /// A file that another server makes at each step.
    pub(super) stray: Option<&'static str>,
    pub(super) starts: bool,
    /// The stop is given up, but has been heard: the server is gone after so many more answers.
    pub(super) ends_after: Mutex<Option<usize>>,
}

impl Task for Fake {
    fn cancel(&self) -> &Cancel {
        &self.cancel
    }
    fn report(&self, _: &str) {}
    fn adopt(&self, _: &crate::process::Running) -> Result<()> {
        Ok(())
    }
}

impl Environment for Fake {
    fn stop(&self, _: &Cancel) -> Result<()> {
        if self.ends_after.lock().unwrap().is_some() {
            return Err(Error::cancelled());
        }
        *self.running.lock().unwrap() = false;
        Ok(())
    }
    /// As a server does: refuses a directory in place of its system tablespace, and makes what it lacks.
    fn start(&self, _: &Cancel) -> Result<()> {
        let top = self.info.datadir.join("ibdata1");
        assert_ne!(
            kind(&top).unwrap(),
            EntryKind::Missing,
            "it would make a new server"
        );
        let table =
            std::fs::read_to_string(self.info.datadir.join("shop/t.ibd")).unwrap_or_default();
        if kind(&top).unwrap() == EntryKind::Dir || (!self.starts && table == "new") {
            return Err(Error::permanent("refuses to start"));
        }
        assert_eq!(
            std::fs::read_to_string(top).unwrap(),
            table,
            "a mixture was started"
        );
        for made in ["auto.cnf", "binlog.000001"] {
            let path = self.info.datadir.join(made);
            if !path.exists() {
                std::fs::write(path, "made").unwrap();
            }
        }
        *self.running.lock().unwrap() = true;
        Ok(())
    }
    fn answers(&self) -> Result<Option<Error>> {
        let mut left = self.ends_after.lock().unwrap();
        match *left {
            Some(0) => {
                *self.running.lock().unwrap() = false;
                *left = None;
            }
            Some(n) => *left = Some(n - 1),
            None => {}
        }
        if *self.running.lock().unwrap() {
            Ok(None)
        } else {
            Err(Error::transient("no answer"))
        }
    }
    fn program(&self, _: &DatadirInfo) -> Command {
        Command::new("false")
    }
    fn boot_timeout(&self) -> Duration {
        Duration::ZERO
    }
    fn stop_timeout(&self) -> Duration {
        Duration::from_secs(5)
    }
    fn quiet(&self) -> Duration {
        Duration::ZERO
    }
    fn at(&self, step: &str) -> Result<()> {
        let (n, first) = {
            let mut steps = self.steps.lock().unwrap();
            let first = !steps.iter().any(|s| s == step);
            steps.push(step.to_string());
            (steps.len(), first)
        };
        if let Some(stray) = self.stray.filter(|_| first) {
            let path = self.info.datadir.join(stray);
            if kind(&self.info.datadir.join("ibdata1")).unwrap() == EntryKind::Dir && !path.exists()
            {
                std::fs::write(path, "stray").unwrap();
            }
        }
        if n == self.at {
            match self.fault {
                Fault::None => {}
                Fault::Kill => std::panic::resume_unwind(Box::new("killed")),
                Fault::Fail => return Err(Error::permanent("No space left on device")),
                Fault::Cancel => self.cancel.cancel("aborted by request"),
            }
        }
        Ok(())
    }
}

/// A data directory with old content, logs elsewhere, and a staged copy.
pub(super) struct Rig {
    pub(super) dir: PathBuf,
    pub(super) info: DatadirInfo,
    pub(super) journals: Journals,
    pub(super) before: BTreeMap<String, String>,
}

pub(super) const SEED: i64 = 7;

pub(super) fn copy_of(seed: i64) -> VerifiedCopy {
    let notes = String::new();
    VerifiedCopy { seed, notes }
}

impl Rig {
    pub(super) fn new() -> Self {
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        // In memory where there is such a place: these tests make thousands of syncs.
        let shm = Path::new("/dev/shm");
        let place = if shm.is_dir() {
            shm.into()
        } else {
            std::env::temp_dir()
        };
        let dir = place.join(format!("oa-swap-{}-{n}", std::process::id()));
        let (data, logs, state) = (dir.join("data"), dir.join("logs"), dir.join("state"));
        for d in [&data, &logs, &state] {
            std::fs::create_dir_all(d).unwrap();
        }
        fill(&data, "old");
        for (name, text) in [
            ("auto.cnf", "old"),
            ("server-key.pem", "old"),
            ("mysqld-auto.cnf", "old"),
            ("only.old", "old"),
            (".ssh/key", "old"),
            ("binlog.000001", "\u{0}old"),
            ("tmp/left", "old"),
            ("../logs/bin.000001", "old log"),
            ("../logs/bin.index", "old log"),
            ("../logs/binary", "not ours"),
        ] {
            write(&data.join(name), text);
        }
        let meta = std::fs::metadata(&data).unwrap();
        let info = DatadirInfo {
            datadir: std::fs::canonicalize(&data).unwrap(),
            dirs: vec!["tmp".into()],
            outside: vec![crate::datadir::LogsElsewhere {
                dir: std::fs::canonicalize(&logs).unwrap(),
                base: "bin".into(),
            }],
            uid: meta.uid(),
            gid: meta.gid(),
            mode: meta.mode() & 0o7777,
            staging: std::fs::canonicalize(&data)
                .unwrap()
                .join(".orchestrator-agent"),
            ..DatadirInfo::for_test()
        };
        let journals = Journals::new(&state);
        let mut rig = Self {
            dir,
            info,
            journals,
            before: BTreeMap::new(),
        };
        let staged = rig.make();
        rig.fill_copy(&staged);
        rig.before = rig.tree();
        rig
    }

    pub(super) fn make(&self) -> Staged {
        Staged::make(&self.info, SEED, &self.journals, &Cancel::default()).unwrap()
    }

    pub(super) fn fill_copy(&self, staged: &Staged) {
        let new = staged.new_dir();
        fill(&new, "new");
        for (name, text) in [
            ("auto.cnf", "of the source"),
            ("server-key.pem", "of the source"),
            ("mysqld-auto.cnf", "of the source"),
            ("xtrabackup_info", "of the tool"),
            ("only_new/t.ibd", "new"),
        ] {
            write(&new.join(name), text);
        }
    }

    /// All files below the data directory and the logs, with their content; our own directories left out.
    pub(super) fn tree(&self) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        let mut todo = vec![self.dir.join("data"), self.dir.join("logs")];
        while let Some(dir) = todo.pop() {
            for entry in std::fs::read_dir(dir).unwrap().flatten() {
                let path = entry.path();
                let name = path.strip_prefix(&self.dir).unwrap().display().to_string();
                if name.contains(".orchestrator-agent") {
                    continue;
                }
                if path.is_dir() {
                    found.insert(format!("{name}/"), String::new());
                    todo.push(path);
                } else {
                    found.insert(name, std::fs::read_to_string(path).unwrap());
                }
            }
        }
        found
    }

    pub(super) fn fake(&self, fault: Fault, at: usize) -> Fake {
        Fake {
            info: self.info.clone(),
            cancel: Cancel::default(),
            running: Mutex::new(true),
            fault,
            at,
            steps: Mutex::default(),
            stray: None,
            starts: true,
            ends_after: Mutex::default(),
        }
    }

    pub(super) fn swap(&self, fake: &Fake) -> Result<String> {
        swap(&self.journals, &self.info, &copy_of(SEED), fake)
    }

    pub(super) fn assert_old(&self, what: &str) {
        let now = self.tree();
        assert_eq!(now, self.before, "{what}");
        assert_eq!(mysql_start_refused(&self.journals), None, "{what}");
    }

    pub(super) fn assert_new(&self) {
        let now = self.tree();
        for (name, text) in [
            ("data/ibdata1", "new"),
            ("data/shop/t.ibd", "new"),
            ("data/only_new/t.ibd", "new"),
            ("data/aria_log_control", "new"),
            ("data/server-key.pem", "old"),
            ("data/mysqld-auto.cnf", "old"),
            ("data/.ssh/key", "old"),
            ("data/auto.cnf", "made"), // by the server that was started
            ("data/tmp/", ""),
            ("logs/binary", "not ours"),
        ] {
            assert_eq!(
                now.get(name).map(String::as_str),
                Some(text),
                "{name}: {now:#?}"
            );
        }
        for gone in [
            "data/only.old",
            "data/xtrabackup_info",
            "data/tmp/left",
            "logs/bin.000001",
            "logs/bin.index",
        ] {
            assert!(!now.contains_key(gone), "{gone}: {now:#?}");
        }
        let old = Staged::of(&self.info, SEED).old_dir();
        assert_eq!(
            std::fs::read_to_string(old.join("shop/t.ibd")).unwrap(),
            "old"
        );
        assert_eq!(mysql_start_refused(&self.journals), None);
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            std::fs::remove_dir_all(&self.dir).unwrap();
        }
    }
}

pub(super) fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

pub(super) fn fill(dir: &Path, text: &str) {
    for name in [
        "ibdata1",
        "mysql.ibd",
        "shop/t.ibd",
        "mysql/user",
        "aria_log_control",
        "ib_logfile0",
    ] {
        write(&dir.join(name), text);
    }
}

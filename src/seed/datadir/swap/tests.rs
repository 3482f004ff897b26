//! Swaps of plain directories: killed at every step, failed at every step, cancelled, and in the way of strangers.

use super::*;
use crate::seed::datadir::undo::{Recovered, mysql_start_refused, recover_at_start, start_again};
use crate::seed::record::Load;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

static COUNT: AtomicUsize = AtomicUsize::new(0);

/// What happens at the nth step.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Fault {
    None,
    /// The agent is killed: nothing of this process runs any more.
    Kill,
    /// An error, as of a full disk.
    Fail,
    Cancel,
}

struct Fake {
    facts: Facts,
    cancel: Cancel,
    running: Mutex<bool>,
    fault: Fault,
    at: usize,
    steps: Mutex<Vec<String>>,
    /// A file that a stranger's server makes at each step.
    stray: Option<&'static str>,
    starts: bool,
    /// The stop is given up, but has been heard: the server is gone after so many more answers.
    ends_after: Mutex<Option<usize>>,
}

impl Surroundings for Fake {
    fn cancel(&self) -> &Cancel {
        &self.cancel
    }
    fn report(&self, _: &str) {}
    fn adopt(&self, _: &crate::process::Running) -> Result<()> {
        Ok(())
    }
    fn stop(&self, _: &Cancel) -> Result<()> {
        if self.ends_after.lock().unwrap().is_some() {
            return Err(Error::cancelled());
        }
        *self.running.lock().unwrap() = false;
        Ok(())
    }
    /// As a server does: refuses a directory in place of its system tablespace, and makes what it lacks.
    fn start(&self, _: &Cancel) -> Result<()> {
        let top = self.facts.datadir.join("ibdata1");
        assert_ne!(
            kind(&top).unwrap(),
            Kind::Missing,
            "it would make a new server"
        );
        let whole =
            std::fs::read_to_string(self.facts.datadir.join("shop/t.ibd")).unwrap_or_default();
        if kind(&top).unwrap() == Kind::Dir || (!self.starts && whole == "new") {
            return Err(Error::permanent("refuses to start"));
        }
        assert_eq!(
            std::fs::read_to_string(top).unwrap(),
            whole,
            "a mixture was started"
        );
        for made in ["auto.cnf", "binlog.000001"] {
            let path = self.facts.datadir.join(made);
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
        match *self.running.lock().unwrap() {
            true => Ok(None),
            false => Err(Error::transient("nobody answers")),
        }
    }
    fn program(&self, _: &Facts) -> Command {
        Command::new("false")
    }
    fn boot_timeout(&self) -> Duration {
        Duration::ZERO
    }
    fn patience(&self) -> Duration {
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
            let path = self.facts.datadir.join(stray);
            if kind(&self.facts.datadir.join("ibdata1")).unwrap() == Kind::Dir && !path.exists() {
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
struct Rig {
    dir: PathBuf,
    facts: Facts,
    journals: Journals,
    before: BTreeMap<String, String>,
}

const SEED: i64 = 7;

impl Rig {
    fn new() -> Self {
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
        let facts = Facts {
            datadir: std::fs::canonicalize(&data).unwrap(),
            dirs: vec!["tmp".into()],
            outside: vec![super::super::Outside {
                dir: std::fs::canonicalize(&logs).unwrap(),
                base: "bin".into(),
            }],
            uid: meta.uid(),
            gid: meta.gid(),
            mode: meta.mode() & 0o7777,
            staging: std::fs::canonicalize(&data)
                .unwrap()
                .join(".orchestrator-agent"),
            ..Facts::for_test()
        };
        let journals = Journals::new(&state);
        let mut rig = Self {
            dir,
            facts,
            journals,
            before: BTreeMap::new(),
        };
        let staged = rig.make();
        rig.fill_copy(&staged);
        rig.before = rig.tree();
        rig
    }

    fn make(&self) -> Staged {
        Staged::make(&self.facts, SEED, &self.journals, &Cancel::default()).unwrap()
    }

    fn fill_copy(&self, staged: &Staged) {
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
    fn tree(&self) -> BTreeMap<String, String> {
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

    fn fake(&self, fault: Fault, at: usize) -> Fake {
        Fake {
            facts: self.facts.clone(),
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

    fn swap(&self, fake: &Fake) -> Result<String> {
        swap(&self.journals, &self.facts, &Proven::for_test(SEED), fake)
    }

    fn assert_old(&self, what: &str) {
        let now = self.tree();
        assert_eq!(now, self.before, "{what}");
        assert_eq!(mysql_start_refused(&self.journals), None, "{what}");
    }

    fn assert_new(&self) {
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
        let old = Staged::of(&self.facts, SEED).old_dir();
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

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn fill(dir: &Path, text: &str) {
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

/// As the agent does it at its start.
fn recover(rig: &Rig, fake: &Fake) -> Option<Recovered> {
    let found = recover_at_start(&rig.journals, fake).unwrap();
    if let Some(facts) = found.as_ref().and_then(|f| f.start.as_ref()) {
        start_again(&rig.journals, facts, fake).unwrap();
    }
    found
}

fn steps_of_a_whole_swap() -> usize {
    let rig = Rig::new();
    let fake = rig.fake(Fault::None, 0);
    rig.swap(&fake).unwrap();
    fake.steps.lock().unwrap().len()
}

/// Runs `work`, which may be killed; whether it was.
fn killed(work: impl FnOnce()) -> bool {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(()) => false,
        Err(panic) if panic.downcast_ref::<&str>() == Some(&"killed") => true,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

#[test]
fn the_copy_takes_the_place_of_the_old_data() {
    let rig = Rig::new();
    let before = std::fs::metadata(&rig.facts.datadir).unwrap();
    let fake = rig.fake(Fault::None, 0);
    assert_eq!(rig.swap(&fake).unwrap(), "");
    rig.assert_new();
    assert!(*fake.running.lock().unwrap());
    let after = std::fs::metadata(&rig.facts.datadir).unwrap();
    assert_eq!(
        (after.ino(), after.uid(), after.mode()),
        (before.ino(), before.uid(), before.mode())
    );
    let staged = Staged::of(&rig.facts, SEED);
    let kept = crate::seed::datadir::keep_old(&rig.facts, &staged).unwrap();
    assert!(kept.join("only.old").exists() && !staged.old_dir().exists());
    rig.make(); // a later Prepare leaves it alone
    assert!(kept.join("only.old").exists());
    crate::seed::datadir::sweep(&rig.facts, &staged).unwrap();
    assert!(!staged.dir.exists() && kept.exists());
    rig.make(); // waits for what is being deleted
    let names = |dir: &Path| super::super::staging::names_in(dir).unwrap();
    assert_eq!(names(&rig.facts.staging), ["7", "kept-7"]);
    assert_eq!(
        names(&rig.dir.join("logs")),
        [".orchestrator-agent-7", "binary"]
    );
}

#[test]
fn killed_at_any_step_the_old_data_are_back() {
    let steps = steps_of_a_whole_swap();
    assert!(steps > 20, "{steps}");
    for n in 1..=steps {
        let rig = Rig::new();
        let fake = rig.fake(Fault::Kill, n);
        assert!(killed(|| drop(rig.swap(&fake))), "step {n} of {steps}");
        let step = fake.steps.lock().unwrap().last().unwrap().clone();
        let what = format!("killed before step {n} ({step})");
        // MySQL was up, or is down now.
        let again = rig.fake(Fault::None, 0);
        *again.running.lock().unwrap() = *fake.running.lock().unwrap();
        if rig
            .journals
            .read()
            .unwrap()
            .is_some_and(|j| j.phase != Phase::Stopping)
        {
            assert!(
                mysql_start_refused(&rig.journals)
                    .unwrap()
                    .contains("README"),
                "{what}"
            );
        }
        recover(&rig, &again);
        assert!(*again.running.lock().unwrap(), "{what}: it ran before");
        rig.assert_old(&what);
        assert_eq!(recover(&rig, &again), None, "{what}");
        // And the copy may be swapped in again.
        rig.swap(&again).unwrap();
        rig.assert_new();
    }
}

#[test]
fn killed_at_any_step_of_the_way_back_the_old_data_are_back() {
    let steps = steps_of_a_whole_swap();
    // Killed when everything but the last step was done, and again on each step of the way back.
    for n in 1.. {
        let rig = Rig::new();
        assert!(killed(|| drop(rig.swap(&rig.fake(Fault::Kill, steps)))));
        let back = rig.fake(Fault::Kill, n);
        let was_killed = killed(|| drop(recover(&rig, &back)));
        let last = rig.fake(Fault::None, 0);
        *last.running.lock().unwrap() = *back.running.lock().unwrap();
        recover(&rig, &last);
        let what = format!("killed at step {n} of the way back");
        rig.assert_old(&what);
        assert!(*last.running.lock().unwrap(), "{what}: MySQL ran before");
        if !was_killed {
            assert!(n > 15, "{n}");
            break;
        }
    }
}

#[test]
fn a_failure_or_a_cancellation_at_any_step_rolls_back() {
    let steps = steps_of_a_whole_swap();
    for fault in [Fault::Fail, Fault::Cancel] {
        for n in 1..=steps {
            let rig = Rig::new();
            let fake = rig.fake(fault, n);
            match rig.swap(&fake) {
                // Too late: MySQL runs on the new data.
                Ok(_) => assert!(fault == Fault::Cancel && n == steps, "{fault:?} {n}"),
                Err(e) => {
                    let what = format!("{fault:?} before step {n}: {e}");
                    assert!(
                        n == 1
                            || e.to_string()
                                .contains("the old data are in place and MySQL runs on them"),
                        "{what}"
                    );
                    assert!(*fake.running.lock().unwrap(), "{what}");
                    rig.assert_old(&what);
                }
            }
        }
    }
}

/// An abort ends the stop command, which has already told the server to end: for a moment it still answers.
#[test]
fn a_server_that_ends_late_is_started_again() {
    for answers in 2..4 {
        let rig = Rig::new();
        let fake = rig.fake(Fault::None, 0);
        *fake.ends_after.lock().unwrap() = Some(answers);
        let e = rig.swap(&fake).unwrap_err().to_string();
        assert!(e.contains("MySQL runs on them"), "{answers}: {e}");
        let ended = fake.ends_after.lock().unwrap().is_none();
        assert!(
            ended == (answers < 3),
            "asked before, after the start, and a moment later: {answers}"
        );
        assert!(*fake.running.lock().unwrap(), "{answers}");
    }
}

#[test]
fn a_copy_that_does_not_start_is_rolled_back_and_a_server_that_was_down_stays_down() {
    let rig = Rig::new();
    let mut fake = rig.fake(Fault::None, 0);
    fake.starts = false;
    let e = rig.swap(&fake).unwrap_err().to_string();
    assert!(
        e.contains("refuses to start") && e.contains("MySQL runs on them"),
        "{e}"
    );
    rig.assert_old("it does not start");
    *fake.running.lock().unwrap() = false;
    let e = rig.swap(&fake).unwrap_err().to_string();
    assert!(e.contains("MySQL is down, as before"), "{e}");
    assert!(!*fake.running.lock().unwrap());
    rig.assert_old("it was down");
}

#[test]
fn what_a_stranger_makes_goes_aside() {
    for stray in ["ib_logfile0", "binlog.index", "something"] {
        let rig = Rig::new();
        let mut fake = rig.fake(Fault::None, 0);
        fake.stray = Some(stray);
        rig.swap(&fake).unwrap();
        // One may have come between the last look and the exchange; the copy's own are in place in any case.
        let now = rig.tree();
        assert_eq!(now["data/ib_logfile0"], "new", "{stray}");
        let aside = Staged::of(&rig.facts, SEED).stray_dir().join(stray);
        assert_eq!(std::fs::read_to_string(aside).unwrap(), "stray");
        // The same on the way back.
        let rig = Rig::new();
        let steps = steps_of_a_whole_swap();
        let mut fake = rig.fake(Fault::Fail, steps);
        fake.stray = Some(stray);
        rig.swap(&fake).unwrap_err();
        let mut now = rig.tree();
        if stray != "ib_logfile0" {
            now.remove(&format!("data/{stray}"));
        }
        assert_eq!(now, rig.before, "{stray}");
    }
}

mod wipe;

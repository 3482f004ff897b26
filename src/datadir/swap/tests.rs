//! Swaps of plain directories: killed at every step, failed at every step, cancelled, and with servers that are started meanwhile.

use super::*;
use crate::datadir::Task;
use crate::datadir::rollback::{
    DataNow, Recovered, mysql_start_refused, recover_at_start, start_again,
};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

mod rig;
mod wipe;

use rig::{Fake, Fault, Rig, SEED};

/// As the agent does it at its start.
fn recover(rig: &Rig, fake: &Fake) -> Option<Recovered> {
    let found = recover_at_start(&rig.journals, fake).unwrap();
    if let Some(info) = found.as_ref().and_then(|f| f.start.as_ref()) {
        start_again(&rig.journals, info, fake).unwrap();
    }
    found
}

fn steps_of_a_complete_swap() -> usize {
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
    let before = std::fs::metadata(&rig.info.datadir).unwrap();
    let fake = rig.fake(Fault::None, 0);
    assert_eq!(rig.swap(&fake).unwrap(), "");
    rig.assert_new();
    assert!(*fake.running.lock().unwrap());
    let after = std::fs::metadata(&rig.info.datadir).unwrap();
    assert_eq!(
        (after.ino(), after.uid(), after.mode()),
        (before.ino(), before.uid(), before.mode())
    );
    let staged = Staged::of(&rig.info, SEED);
    let kept = crate::datadir::keep_old(&rig.info, &staged).unwrap();
    assert!(kept.join("only.old").exists() && !staged.old_dir().exists());
    rig.make(); // a later Prepare leaves it alone
    assert!(kept.join("only.old").exists());
    crate::datadir::clean_up(&rig.info, &staged).unwrap();
    assert!(!staged.dir.exists() && kept.exists());
    rig.make(); // waits for what is being deleted
    let names = |dir: &Path| crate::datadir::staging::names_in(dir).unwrap();
    assert_eq!(names(&rig.info.staging), ["7", "kept-7"]);
    assert_eq!(
        names(&rig.dir.join("logs")),
        [".orchestrator-agent-7", "binary"]
    );
}

#[test]
fn killed_at_any_step_the_old_data_are_back() {
    let steps = steps_of_a_complete_swap();
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
                    .contains("recovery.md"),
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
    let steps = steps_of_a_complete_swap();
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
    let steps = steps_of_a_complete_swap();
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

/// An abort ends the stop command, which has already signalled the server: for a moment it still answers.
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
            "queried before, after the start, and a moment later: {answers}"
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
fn what_another_server_makes_is_set_aside() {
    for stray in ["ib_logfile0", "binlog.index", "something"] {
        let rig = Rig::new();
        let mut fake = rig.fake(Fault::None, 0);
        fake.stray = Some(stray);
        rig.swap(&fake).unwrap();
        // One may have come between the last look and the exchange; the copy's own are in place in any case.
        let now = rig.tree();
        assert_eq!(now["data/ib_logfile0"], "new", "{stray}");
        let aside = Staged::of(&rig.info, SEED).stray_dir().join(stray);
        assert_eq!(std::fs::read_to_string(aside).unwrap(), "stray");
        // The same on the way back.
        let rig = Rig::new();
        let steps = steps_of_a_complete_swap();
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

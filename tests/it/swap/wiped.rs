//! Where two copies do not fit: an agent that is killed at the steps of a wipe and of the swap after it, and a start
//! of MySQL at any of them. Until the deletion begins the old data come back; after it no server starts until the new ones
//! are in.

use super::rig::{Family, Hooked, Rig, SEED, source};
use crate::support::mariadb::MariadbKind;
use crate::support::mysqld::MysqldKind;
use orchestrator_agent::datadir::{self, DatadirInfo};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Before which steps of the wipe the agent is killed, and whether the guard is up then.
const OF_WIPE: [(&str, bool); 4] = [
    ("stop MySQL", false),
    ("guard", false),
    ("rename mysql to", true),
    ("journal Wiping", true),
];
/// The same of the swap. Once the new system tablespace is in, a server starts on new and complete data.
const OF_SWAP: [(&str, bool); 5] = [
    ("journal MovingNewIn", true),
    ("journal Committed", true),
    ("exchange the guard", true),
    ("start MySQL", false),
    ("journal Done", false),
];

fn killed_and_disturbed<K: Family>() {
    let source = source::<K>("");
    let rig = Rig::<K>::new("", "", "");
    let info = rig.inspect().expect("fit");
    let staged = rig.stage_nothing(&info);
    let wipe = |host: &Hooked| datadir::wipe(&rig.journals, &info, SEED, host);
    for (step, guarded) in OF_WIPE {
        rig.killed_in(step, wipe);
        assert!(rig.refused().is_some(), "{step}: MySQL may be started");
        if guarded {
            refuses(&rig, step);
        }
        assert!(!rig.journals.data_gone(), "{step}");
        let text = rig.recover();
        assert!(text.contains("MySQL is started"), "{step}: {text}");
        rig.assert_old();
    }

    disturbed(&rig, &info, |host| wipe(host).expect("wiped"));
    let gone = |step: &str| {
        refuses(&rig, step);
        let refused = rig.refused().expect(step);
        assert!(refused.contains("were deleted"), "{step}: {refused}");
        assert!(rig.journals.data_gone(), "{step}");
    };
    gone("wiped");
    rig.fill(&staged, &source.datadir());
    let copy = rig.trial_start(&info, &staged);
    for (step, guarded) in OF_SWAP {
        rig.killed_at(&info, &copy, step);
        if guarded {
            refuses(&rig, step);
        }
        let text = rig.recover();
        assert!(text.contains("were deleted"), "{step}: {text}");
        gone(step);
    }
    disturbed(&rig, &info, |host| {
        rig.swap(&info, &copy, host).expect("swapped");
    });
    rig.assert_new();
    assert!(!rig.journals.data_gone());
}

fn refuses<K: Family>(rig: &Rig<K>, step: &str) {
    let started = rig.start_command().status().expect("sh");
    assert!(!started.success(), "{step}: a server starts");
}

/// Does `work` while MySQL is started at many of its steps.
fn disturbed<K: Family>(rig: &Rig<K>, info: &DatadirInfo, work: impl Fn(&Hooked)) {
    let (seen, tried) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let mut host = rig.host();
    host.hook = Box::new(|step| {
        let up = info.datadir.join(&info.system_file).is_dir();
        let often = seen.fetch_add(1, Ordering::Relaxed).is_multiple_of(6);
        if up && (often || step.starts_with("journal")) {
            tried.fetch_add(1, Ordering::Relaxed);
            refuses(rig, step);
        }
        Ok(())
    });
    work(&host);
    drop(host);
    assert!(tried.into_inner() > 3);
}

#[test]
fn mariadb() {
    killed_and_disturbed::<MariadbKind>();
}

#[test]
fn mysql() {
    killed_and_disturbed::<MysqldKind>();
}

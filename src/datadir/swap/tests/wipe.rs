//! The wipe, and what a lost or broken journal does.

use super::rig::{copy_of, write};
use super::*;

#[test]
fn the_wipe_leaves_the_guard_and_a_later_seed_goes_on() {
    let rig = Rig::new();
    let fake = rig.fake(Fault::None, 0);
    let wipe = |fake: &Fake| wipe(&rig.journals, &rig.info, SEED, fake);
    wipe(&fake).unwrap();
    wipe(&fake).unwrap(); // again
    let now = rig.tree();
    let left: Vec<&str> = now.keys().map(String::as_str).collect();
    let stays = [
        "data/.ssh/",
        "data/.ssh/key",
        "data/ibdata1/",
        "data/mysqld-auto.cnf",
        "data/server-key.pem",
        "logs/binary",
    ];
    assert_eq!(left, stays);
    let refused = || mysql_start_refused(&rig.journals).unwrap();
    assert!(refused().contains("were deleted for seed 7") && refused().contains("new seed"));
    assert!(!*fake.running.lock().unwrap());
    fake.start(&Cancel::default()).unwrap_err();
    // An agent's restart changes nothing about it.
    let found = recover(&rig, &fake).unwrap();
    assert!(
        found.text.contains("were deleted") && found.data == DataNow::Missing,
        "{found:?}"
    );
    // The seed fails; another one takes over.
    let staged = Staged::make(&rig.info, 8, &rig.journals, &Cancel::default()).unwrap();
    assert!(!Staged::of(&rig.info, SEED).dir.exists());
    assert!(refused().contains("seed 8"));
    rig.fill_copy(&staged);
    // Its swap fails first, at each step: the guard stays, and MySQL down.
    for n in 1.. {
        let fake = rig.fake(Fault::Fail, n);
        *fake.running.lock().unwrap() = false;
        let done = swap(&rig.journals, &rig.info, &copy_of(8), &fake);
        if done.is_ok() {
            assert!(n > 10, "{n}");
            break;
        }
        assert!(
            done.unwrap_err().to_string().contains("were deleted"),
            "{n}"
        );
        assert!(refused().contains("were deleted"), "{n}");
        assert!(!*fake.running.lock().unwrap());
    }
    assert_eq!(rig.tree()["data/shop/t.ibd"], "new");
    assert_eq!(mysql_start_refused(&rig.journals), None);
}

#[test]
fn killed_at_any_step_of_the_wipe_the_data_are_complete_or_the_guard_is_up() {
    for n in 1.. {
        let rig = Rig::new();
        let fake = rig.fake(Fault::Kill, n);
        let was_killed = killed(|| wipe(&rig.journals, &rig.info, SEED, &fake).unwrap());
        if !was_killed {
            assert!(n > 10);
            break;
        }
        let again = rig.fake(Fault::None, 0);
        *again.running.lock().unwrap() = *fake.running.lock().unwrap();
        recover(&rig, &again);
        rig.assert_old(&format!("killed at step {n} of the wipe"));
    }
    // Killed in the middle of the deletion: it is finished.
    let rig = Rig::new();
    wipe(&rig.journals, &rig.info, SEED, &rig.fake(Fault::None, 0)).unwrap();
    let mut journal = rig.journals.read().unwrap().unwrap();
    (journal.phase, journal.wiped) = (Phase::Wiping, false);
    rig.journals.write(&journal).unwrap();
    write(
        &Staged::of(&rig.info, SEED).old_dir().join("shop/left"),
        "old",
    );
    let found = recover(&rig, &rig.fake(Fault::None, 0)).unwrap();
    assert!(found.text.contains("were deleted"), "{found:?}");
    assert!(!Staged::of(&rig.info, SEED).old_dir().join("shop").exists());
}

/// What the seed's record is to say of the data.
#[test]
fn after_a_wipe_that_failed_it_is_known_whether_the_old_data_are_there() {
    let (mut there, mut gone) = (0, 0);
    for n in 1.. {
        let rig = Rig::new();
        let done = wipe(&rig.journals, &rig.info, SEED, &rig.fake(Fault::Fail, n));
        assert_eq!(rig.journals.data_gone(), rig.tree() != rig.before, "{n}");
        if done.is_ok() {
            break;
        }
        there += 1;
    }
    assert!(there > 10, "{there}");
    // A deletion that cannot be finished: the journal stays in the middle of it.
    let rig = Rig::new();
    let fake = rig.fake(Fault::None, 0);
    let mut journal = open(&rig.journals, &rig.info, SEED, &fake).unwrap();
    for phase in [
        Phase::Stopping,
        Phase::MovingOldOut,
        Phase::Wiping,
        Phase::Wiped,
    ] {
        journal.phase = phase;
        rig.journals.write(&journal).unwrap();
        gone += usize::from(rig.journals.data_gone());
    }
    assert_eq!(gone, 2);
}

#[test]
fn a_journal_that_cannot_be_read_keeps_mysql_down_and_everything_where_it_is() {
    let rig = Rig::new();
    std::fs::write(
        rig.dir.join("state").join(crate::datadir::journal::NAME),
        "{",
    )
    .unwrap();
    assert!(
        mysql_start_refused(&rig.journals)
            .unwrap()
            .contains("recovery.md")
    );
    assert!(rig.journals.data_gone(), "for all that is known");
    let fake = rig.fake(Fault::None, 0);
    assert!(recover_at_start(&rig.journals, &fake).is_err());
    assert!(
        rig.swap(&fake).is_err()
            && Staged::make(&rig.info, 8, &rig.journals, &Cancel::default()).is_err()
    );
    assert_eq!(rig.tree(), rig.before);
}

#[test]
fn a_journal_that_is_lost_with_the_state_dir_is_found_in_the_staging_directory() {
    for broken in [true, false] {
        let rig = Rig::new();
        assert!(killed(|| drop(rig.swap(&rig.fake(Fault::Kill, 12)))));
        let main = rig.dir.join("state").join(crate::datadir::journal::NAME);
        if broken {
            std::fs::write(&main, "{").unwrap();
        } else {
            std::fs::remove_file(&main).unwrap();
        }
        let copy = Staged::of(&rig.info, SEED)
            .dir
            .join(crate::datadir::journal::NAME);
        // What is not this agent's is ignored: a link, and a journal of another place.
        let forged = rig.info.staging.join("99");
        std::fs::create_dir(&forged).unwrap();
        std::os::unix::fs::symlink(&copy, forged.join(crate::datadir::journal::NAME)).unwrap();
        let other = rig.info.staging.join("98");
        std::fs::create_dir(&other).unwrap();
        std::fs::copy(&copy, other.join(crate::datadir::journal::NAME)).unwrap();
        assert!(
            rig.journals
                .rescue(std::slice::from_ref(&rig.info.staging))
                .unwrap()
        );
        assert!(
            !rig.journals
                .rescue(std::slice::from_ref(&rig.info.staging))
                .unwrap()
        );
        recover(&rig, &rig.fake(Fault::None, 0)).unwrap();
        rig.assert_old("from the copy");
        assert!(!copy.exists(), "or it would be taken for a lost one");
    }
}

#[test]
fn a_start_command_that_gives_up_on_a_live_server_is_not_the_end() {
    struct Slow {
        info: DatadirInfo,
        cancel: Cancel,
        lock: Mutex<Option<std::fs::File>>,
        questions: AtomicUsize,
    }
    impl Task for Slow {
        fn cancel(&self) -> &Cancel {
            &self.cancel
        }
        fn report(&self, _: &str) {}
        fn adopt(&self, _: &crate::process::Running) -> Result<()> {
            Ok(())
        }
    }
    impl Environment for Slow {
        fn stop(&self, _: &Cancel) -> Result<()> {
            Ok(())
        }
        fn start(&self, _: &Cancel) -> Result<()> {
            let top = self.info.datadir.join(&self.info.system_file);
            let file = std::fs::File::options().read(true).write(true).open(top);
            let file = file.unwrap();
            assert!(file::try_lock(&file).unwrap());
            *self.lock.lock().unwrap() = Some(file); // it is in crash recovery
            Err(Error::transient("no answer within 30 s"))
        }
        fn answers(&self) -> Result<Option<Error>> {
            match self.questions.fetch_add(1, Ordering::Relaxed) {
                0..6 => Err(Error::transient("no answer")),
                _ => Ok(None),
            }
        }
        fn program(&self, _: &DatadirInfo) -> Command {
            Command::new("false")
        }
        fn boot_timeout(&self) -> Duration {
            Duration::ZERO
        }
        fn stop_timeout(&self) -> Duration {
            Duration::ZERO
        }
    }
    let rig = Rig::new();
    let slow = Slow {
        info: rig.info.clone(),
        cancel: Cancel::default(),
        lock: Mutex::default(),
        questions: AtomicUsize::new(0),
    };
    start_and_wait(&slow, &rig.info, &slow.cancel).unwrap();
    // Dead, it is.
    let fake = rig.fake(Fault::None, 0);
    std::fs::remove_file(rig.info.datadir.join("ibdata1")).unwrap();
    std::fs::create_dir(rig.info.datadir.join("ibdata1")).unwrap();
    *fake.running.lock().unwrap() = false;
    let e = start_and_wait(&fake, &rig.info, &fake.cancel).unwrap_err();
    assert!(e.to_string().contains("refuses to start"), "{e}");
}

//! MySQL is started by another process in the middle of a swap, or by a supervisor that does not want it to be stopped.

use super::rig::{Family, Rig, source};
use crate::support::mariadb::MariadbKind;
use crate::support::mysqld::MysqldKind;
use crate::support::wait_for;
use std::process::Child;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

fn ended(mut child: Child) {
    wait_for("the start command ends", Duration::from_secs(150), || {
        child.try_wait().expect("wait")
    });
}

fn at_each_step<K: Family>() {
    let source = source::<K>("");
    let rig = Rig::<K>::new("", "", "");
    let info = rig.inspect().expect("fit");
    let staged = rig.stage(&info, &source.datadir());
    let copy = rig.trial_start(&info, &staged);

    // While the guard is up none starts, and the swap comes to its end.
    let tried = AtomicUsize::new(0);
    let guarded = AtomicUsize::new(0);
    let mut host = rig.host();
    host.hook = Box::new(|step| {
        let up = info.datadir.join(&info.system_file).is_dir();
        if up
            && (guarded.fetch_add(1, Ordering::Relaxed).is_multiple_of(6)
                || step.starts_with("journal"))
        {
            tried.fetch_add(1, Ordering::Relaxed);
            let started = rig.start_command().status().expect("sh");
            assert!(!started.success(), "{step}: it starts");
        }
        Ok(())
    });
    rig.swap(&info, &copy, &host).expect("swapped");
    drop(host);
    assert!(tried.into_inner() > 6);
    rig.assert_new();
    // And back again, in the same way, from the last step.
    let now = rig.inspect().expect("fit");
    let staged = rig.stage(&now, &source.datadir());
    let copy = rig.trial_start(&now, &staged);
    rig.db.sql("CREATE DATABASE precious");
    rig.db.sql("CREATE TABLE precious.t AS SELECT 'mine' AS v");
    rig.db.sql("DROP DATABASE shop");
    rig.killed_at(&now, &copy, "exchange the guard");
    let mut host = rig.host();
    host.hook = Box::new(|step| {
        if step == "journal MovingOldBack" {
            let started = rig.start_command().status().expect("sh");
            assert!(!started.success(), "{step}: it starts");
        }
        Ok(())
    });
    let found = orchestrator_agent::datadir::recover_at_start(&rig.journals, &host);
    let found = found.expect("rolled back").expect("unfinished");
    let start = found.start.expect("it ran");
    orchestrator_agent::datadir::start_again(&rig.journals, &start, &host).expect("started");
    drop(host);
    rig.assert_old();
}

/// Just before the guard is up: that server waits for the lock that we hold. It goes when it tries again, or is left alone with
/// complete data; in either case nothing is mixed and the result is true.
fn before_the_guard<K: Family>() {
    let source = source::<K>("");
    let rig = Rig::<K>::new("", "", "");
    let info = rig.inspect().expect("fit");
    let staged = rig.stage(&info, &source.datadir());
    let copy = rig.trial_start(&info, &staged);
    let log = rig.db.dir.join("run/error.log");
    let waits = || {
        std::fs::read_to_string(&log)
            .unwrap_or_default()
            .matches("lock ./ibdata1")
            .count()
    };
    let other = Mutex::new(None);
    let mut host = rig.host();
    host.hook = Box::new(|step| {
        let mut other = other.lock().expect("lock");
        if step == "guard" && other.is_none() {
            let before = waits();
            *other = Some(rig.start_command().spawn().expect("sh"));
            wait_for("it wants the lock", Duration::from_secs(30), || {
                (waits() > before).then_some(())
            });
        }
        Ok(())
    });
    let swapped = rig.swap(&info, &copy, &host);
    drop(host);
    ended(other.into_inner().expect("lock").expect("started"));
    match swapped {
        Ok(_) => rig.assert_new(),
        Err(e) => {
            let e = e.to_string();
            let reported = e.contains("was started in")
                && e.contains("the old data are in place and MySQL runs on them");
            assert!(reported, "{e}");
            rig.assert_old();
        }
    }
}

#[test]
fn before_the_guard_mariadb() {
    before_the_guard::<MariadbKind>();
}

#[test]
fn before_the_guard_mysql() {
    before_the_guard::<MysqldKind>();
}

#[test]
fn at_each_step_mariadb() {
    at_each_step::<MariadbKind>();
}

#[test]
fn at_each_step_mysql() {
    at_each_step::<MysqldKind>();
}

/// As systemd's Restart=always does: MySQL is there again after it was stopped. The stop counts when it lasts.
#[test]
fn a_supervisor_that_restarts_it() {
    let source = source::<MariadbKind>("");
    let mut rig = Rig::<MariadbKind>::new("", "", "");
    let (start, stop) = (rig.db.service("start"), rig.db.service("stop"));
    let (script, on) = (rig.dir.join("stop.sh"), rig.dir.join("on"));
    let round = rig.dir.join("round.sh");
    std::fs::write(&round, format!("{start}\nsleep 0.2\n{stop}\n")).expect("script");
    let supervise = |rounds: u32| {
        std::fs::write(&on, "").expect("flag");
        let text = format!(
            "{stop}\nif mkdir '{0}.once' 2>/dev/null; then\n\
             setsid sh -c 'i=0; while [ -e \"$1\" ] && [ $i -lt {rounds} ]; do sleep 0.3; sh \"$2\"; i=$((i+1)); done' sh '{0}' '{1}' \
             </dev/null >/dev/null 2>&1 &\nfi\n",
            on.display(),
            round.display()
        );
        std::fs::write(&script, text).expect("script");
    };
    let command = format!("service-stop-command = \"sh '{}'\"", script.display());
    rig.configure(&command, "command-timeout = \"15s\"");
    let info = rig.inspect().expect("fit");
    let staged = rig.stage(&info, &source.datadir());
    let copy = rig.trial_start(&info, &staged);

    supervise(1000);
    let mut host = rig.host();
    host.quiet = Duration::from_secs(10);
    let e = rig
        .swap(&info, &copy, &host)
        .expect_err("it comes again and again");
    let e = e.to_string();
    assert!(
        e.contains("does not stay stopped") && e.contains("service-stop-command"),
        "{e}"
    );
    drop(host);
    std::fs::remove_file(&on).expect("flag"); // the supervisor gives up
    std::fs::remove_dir(on.with_extension("once")).expect("flag");
    wait_for("the supervisor ends", Duration::from_secs(180), || {
        crate::support::processes_with(&round.display().to_string())
            .is_empty()
            .then_some(())
    });
    assert!(rig.start_command().status().expect("sh").success());
    rig.assert_old();

    supervise(3);
    rig.configure(&command, "command-timeout = \"180s\"");
    let mut host = rig.host();
    host.quiet = Duration::from_secs(10);
    rig.swap(&info, &copy, &host).expect("swapped");
    drop(host);
    rig.assert_new();
}

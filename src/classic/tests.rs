use super::*;
use crate::seed::record::Store;

/// Of a host that has never been in a seed, without methods.
fn classic(name: &str) -> Arc<Classic> {
    let dir = std::env::temp_dir().join(format!("oa-classic-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    let config = Config::default();
    let engine = Engine::open(Store::new(&dir), Vec::new(), Duration::from_secs(60)).unwrap();
    Classic::new(&Arc::new(config), &engine, "db1")
}

fn target(id: i64, phase: Phase) -> Target {
    Target {
        seed: Active {
            id,
            cancel: Cancel::default(),
        },
        phase,
        called: Instant::now(),
    }
}

/// What orchestrator is answered about seeds 7 and 8, and to `post-copy`.
#[test]
fn a_failed_copy_leads_orchestrator_to_its_reason_and_an_aborted_one_to_its_end() {
    let failed = || Phase::Failed("no space".into());
    // Phase of seed 7, aborted; then of 7 completed and succeeded, of 8 the same; once with errors signalled and once without.
    for (phase, aborted, signalled, plain, post_copy) in [
        (None, false, "11 11", "10 10", "no seed is complete"),
        (
            Some(Phase::Copying),
            false,
            "00 10",
            "00 10",
            "not complete yet",
        ),
        (Some(Phase::Complete), false, "11 10", "11 10", "-"),
        (Some(Phase::Swapping), false, "11 10", "11 10", "-"),
        (Some(Phase::Done), false, "11 11", "11 10", ""),
        (Some(failed()), false, "11 11", "10 10", "no space"),
        (Some(Phase::Copying), true, "10 10", "10 10", "was aborted"),
        (Some(Phase::Swapping), true, "10 10", "10 10", "was aborted"),
        (Some(Phase::Done), true, "10 11", "10 10", "was aborted"),
        (Some(failed()), true, "10 11", "10 10", "no space"),
    ] {
        let classic = classic("phases");
        classic.lock().target = phase.clone().map(|p| target(7, p));
        if aborted {
            classic.abort("7").unwrap();
        }
        for (signals, wanted) in [(true, signalled), (false, plain)] {
            let of = |id: &str| {
                let (c, s) = (classic.completed(id), classic.succeeded(id, signals));
                format!("{}{}", u8::from(c), u8::from(s))
            };
            let found = format!("{} {}", of("7"), of("8"));
            assert_eq!(
                found, wanted,
                "{phase:?}, aborted {aborted}, signals {signals}"
            );
        }
        classic.lock().polled = None;
        if post_copy != "-" {
            let text = classic
                .post_copy()
                .err()
                .map_or(String::new(), |e| e.to_string());
            assert!(
                text.contains(post_copy) && text.is_empty() == post_copy.is_empty(),
                "{text}"
            );
        }
    }
}

/// Its number is that of the seed that was polled before it.
#[test]
fn a_seed_of_which_nothing_was_heard_does_not_get_the_success_of_an_earlier_one() {
    let classic = classic("polled");
    classic.lock().target = Some(target(7, Phase::Done));
    assert!(classic.post_copy().is_ok());
    for other in ["8", "x"] {
        assert!(classic.completed(other) && classic.succeeded(other, true));
        let e = classic.post_copy().unwrap_err().to_string();
        assert!(e.contains("is not known on this host"), "{e}");
    }
    assert!(classic.completed("7") && classic.post_copy().is_ok());
}

/// orchestrator whose database was reset, and each node of raft, begins with number 1.
#[test]
fn an_abort_is_forgotten_when_another_seed_with_its_number_begins() {
    let classic = classic("forget");
    for (age, known) in [(1, true), (60, false)] {
        let at = Instant::now().checked_sub(Duration::from_secs(age));
        classic.lock().aborted.insert(7, at.unwrap());
        classic.lock().forget_earlier_abort(8, Some(Instant::now()));
        classic.lock().forget_earlier_abort(7, None);
        assert!(classic.completed("7") && !classic.succeeded("7", true));
        classic.lock().forget_earlier_abort(7, Some(Instant::now()));
        assert_eq!(classic.lock().is_aborted(7), known, "{age} s");
    }
}

#[test]
fn seed_ids_are_positive_numbers() {
    let classic = classic("ids");
    for id in ["", "abc", "-1", "0", "1.5", "99999999999999999999"] {
        let e = classic.receive(id).unwrap_err().to_string();
        assert!(e.contains("is not a positive number"), "{e}");
        assert!(classic.abort(id).is_err() && classic.send("db2", id, 1).is_err());
        assert!(!classic.succeeded(id, false));
    }
}

#[test]
fn calls_out_of_order_have_a_reason() {
    let classic = classic("order");
    let e = classic.receive("7").unwrap_err().to_string();
    assert!(e.contains("delete-mysql-datadir was not called"), "{e}");
    let e = classic.post_copy().unwrap_err().to_string();
    assert!(e.contains("delete-mysql-datadir was not called"), "{e}");
    let e = classic.send("db2", "7", 1).unwrap_err().to_string();
    assert!(e.contains("mountlv was not called"), "{e}");
    classic.lock().target = Some(target(8, Phase::Complete));
    let e = classic.receive("9").unwrap_err().to_string();
    assert!(e.contains("seed 8 is in progress"), "{e}");
    assert!(classic.check_target(None).is_err() && classic.start_refused().is_some());
}

#[test]
fn one_virtual_snapshot_is_mounted_at_a_time() {
    let classic = classic("mount");
    let all = classic.snapshots(|m| m != Method::LVM && m != Method::ClonePlugin);
    assert_eq!(
        all,
        [Method::Xtrabackup, Method::Mydumper, Method::Mysqldump]
    );
    assert_eq!(path_of(all[0]), "/orchestrator-agent/Xtrabackup");
    let e = classic
        .mount("/dev/vg0/snap", &all)
        .unwrap_err()
        .to_string();
    assert!(
        e.contains("available snapshots: /orchestrator-agent/Xtrabackup, "),
        "{e}"
    );
    classic.mount(&path_of(all[0]), &all).unwrap();
    classic.mount(&path_of(all[0]), &all).unwrap();
    assert!(classic.mount(&path_of(all[1]), &all).is_err());
    assert_eq!(classic.mounted(), Some(Method::Xtrabackup));
    classic.unmount().unwrap();
    assert_eq!(classic.mounted(), None);
    classic.lock().mount = Some(Mounted {
        method: Method::Xtrabackup,
        at: Instant::now().checked_sub(MOUNT_LIMIT * 2).unwrap(),
    });
    assert_eq!(classic.mounted(), None, "no seed has used it");
}

#[test]
fn a_call_that_is_repeated_has_the_answer_of_the_first() {
    let classic = classic("repeated");
    for (phase, wanted) in [
        (Phase::Copying, Ok(())),
        (Phase::Complete, Ok(())),
        (Phase::Failed("no space".into()), Err("no space")),
    ] {
        classic.lock().target = Some(target(7, phase));
        let answer = classic.receive("7").map_err(|e| e.to_string());
        assert_eq!(answer, wanted.map_err(String::from));
    }
    let seed = target(9, Phase::Copying).seed;
    (classic.lock().source, classic.lock().target) = (Some(seed), None);
    assert!(classic.send("db2", "9", 1).is_ok());
    assert!(classic.send("-x", "9", 1).is_err() && classic.send("a;b", "9", 1).is_err());
    let e = classic.check_target(None).unwrap_err().to_string();
    assert!(e.contains("seed 9 is in progress"), "{e}");
}

#[test]
fn a_stopped_source_or_member_of_a_cluster_is_not_a_target() {
    let of = |replicas: &[&str], cluster: &str| {
        let last = crate::datadir::LastRole {
            replicas: replicas.iter().map(|r| r.to_string()).collect(),
            cluster: cluster.into(),
        };
        super::target::refuse_role(last).map_err(|e| e.to_string())
    };
    assert_eq!(of(&[], ""), Ok(()));
    let e = of(&["db2:38158", "db3:4"], "").unwrap_err();
    assert!(e.contains("(db2:38158, db3:4): start it, repoint"), "{e}");
    let e = of(&[], "group replication member").unwrap_err();
    assert!(e.contains("was a group replication member when"), "{e}");
}

/// The target logs in to MySQL of the host that is announced.
#[test]
fn a_source_is_the_host_that_it_announces() {
    use crate::config::{Secret, SocatTls};
    let of = |host: &str| announcement::Announcement {
        method: "Xtrabackup".into(),
        host: host.into(),
        mysql_port: 3306,
        size: 1,
        error: String::new(),
    };
    let (mut common, tls) = (crate::config::Common::default(), SocatTls::default());
    let peer = |ip: &str| ip.parse().unwrap();
    for (host, from, good) in [
        ("192.0.2.7", "192.0.2.7", true),
        ("192.0.2.7", "::ffff:192.0.2.7", true),
        ("192.0.2.7", "192.0.2.8", false),
        ("localhost", "127.0.0.9", true),
        ("localhost", "192.0.2.8", false),
    ] {
        let checked = of(host).check_peer(peer(from), &common, &tls);
        assert_eq!(checked.is_ok(), good, "{host} from {from}");
    }
    common.seed_secret = Secret::new("geheim");
    assert!(
        of("192.0.2.7")
            .check_peer(peer("192.0.2.8"), &common, &tls)
            .is_ok()
    );
    for host in ["", "-h", "a b", "a'b", "a;b"] {
        assert!(
            of(host)
                .check_peer(peer("192.0.2.8"), &common, &tls)
                .is_err()
        );
    }
}

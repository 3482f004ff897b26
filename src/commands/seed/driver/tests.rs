use super::*;
use crate::commands::seed::options;
use crate::commands::seed::registration::client;
use crate::commands::seed::terminal::Terminal;
use crate::protocol::agent::Access;
use crate::seed::Method;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// Two agents that answer by a script, and all calls that they received: `T restore/7/Mysqldump`.
struct Rig {
    agents: Agents,
    options: Options,
    calls: Arc<Mutex<Vec<String>>>,
    output: Arc<Mutex<Vec<u8>>>,
    files: PathBuf,
}

type Script = fn(side: char, path: &str, calls_before: usize) -> Option<(u16, &'static str)>;

/// A good agent.
fn good(path: &str) -> (u16, &'static str) {
    match path.split('/').next().unwrap() {
        "seed-stage-state" => (
            200,
            r#"{"SeedID":7,"Stage":"Backup","Status":"Completed","Details":"Dumped 12 bytes","Progress":{"Bytes":12,"Total":0}}"#,
        ),
        "get-metadata" => (
            200,
            r#"{"LogFile":"b.1","LogPos":4,"GtidExecuted":"","GtidSlavePos":"0-1-2"}"#,
        ),
        "post-seed-cmd" => (
            200,
            r#"{"Code":"OK","Message":"hook says hi\n","Details":null}"#,
        ),
        "abort-seed-stage" => (200, "killed"),
        _ => (202, "Started"),
    }
}

impl Rig {
    fn new(name: &str, script: Script) -> Self {
        let files = std::env::temp_dir().join(format!("oa-driver-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&files).unwrap();
        let file = files.join("secret");
        std::fs::write(&file, "secret").unwrap();
        let calls = Arc::new(Mutex::new(Vec::new()));
        let ports = ['S', 'T'].map(|side| serve(side, script, Arc::clone(&calls)));
        let line = format!(
            "--source 127.0.0.1:{} --target 127.0.0.1:{} --mysql-user u --mysql-password-file {} --seed-id 7 --no-connect \
             --poll 100ms",
            ports[0],
            ports[1],
            file.display()
        );
        let words: Vec<String> = line.split_whitespace().map(str::to_string).collect();
        let options = options::parse(&words).unwrap().unwrap();
        let agent = |side, at: &options::HostPort| {
            let access = Access::File {
                setting: "--target-token-file".into(),
                path: file.clone(),
            };
            client(side, at, access, &options.transport)
        };
        let agents = Agents {
            source: agent(Side::Source, &options.source),
            target: agent(Side::Target, &options.target),
            _server: None,
        };
        Self {
            agents,
            options,
            calls,
            output: Arc::default(),
            files,
        }
    }

    fn run(&self, cancel: &Cancel) -> u8 {
        self.run_by(Method::Mysqldump, cancel)
    }

    fn run_by(&self, method: Method, cancel: &Cancel) -> u8 {
        let plan = Plan {
            method,
            source_port: 3310,
            target_port: 1,
            channels: Vec::new(),
            without_gtid: false,
            settings: Vec::new(),
            tls: false,
            read_only: Default::default(),
        };
        let out = || Box::new(Sink(Arc::clone(&self.output)));
        let events = Terminal::new(false, out(), out());
        let outcome = Driver::run(&self.options, &plan, &self.agents, &events, cancel);
        events.report(&Event::Result(&outcome));
        outcome.exit_code
    }

    fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }

    fn output(&self) -> String {
        String::from_utf8(self.output.lock().unwrap().clone()).unwrap()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.files).unwrap();
    }
}

struct Sink(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn serve(side: char, script: Script, calls: Arc<Mutex<Vec<String>>>) -> u16 {
    let server = tiny_http::Server::http("127.0.0.1:0").unwrap();
    let port = server.server_addr().to_ip().unwrap().port();
    std::thread::spawn(move || {
        for request in server.incoming_requests() {
            let path = request
                .url()
                .strip_prefix("/api/")
                .unwrap()
                .split('?')
                .next()
                .unwrap()
                .to_string();
            let call = format!("{side} {path}");
            let before = calls.lock().unwrap().iter().filter(|a| **a == call).count();
            calls.lock().unwrap().push(call);
            let (status, body) = script(side, &path, before).unwrap_or_else(|| good(&path));
            request
                .respond(tiny_http::Response::from_string(body).with_status_code(status))
                .unwrap();
        }
    });
    port
}

const FAILED: (u16, &str) = (
    200,
    r#"{"SeedID":7,"Stage":"Backup","Status":"Error","Details":"disk full"}"#,
);
const RUNNING: (u16, &str) = (
    200,
    r#"{"SeedID":7,"Stage":"Backup","Status":"Running","Details":"Running backup","Progress":{"Bytes":5,"Total":0}}"#,
);

#[test]
fn a_complete_seed_calls_each_stage_once_and_in_order() {
    let rig = Rig::new("complete", |_, path, before| match (path, before) {
        ("seed-stage-state/7/Backup", 0) => Some(RUNNING),
        // An agent that was restarted knows another token until it has registered again.
        ("seed-stage-state/7/Backup", 1) => Some((
            500,
            r#"{"Code":"ERROR","Message":"Invalid token","Details":null}"#,
        )),
        _ => None,
    });
    assert_eq!(rig.run(&Cancel::default()), 0, "{}", rig.output());
    let calls: Vec<String> = rig
        .calls()
        .into_iter()
        .filter(|a| !a.contains("seed-stage-state"))
        .collect();
    assert_eq!(
        calls,
        [
            "S prepare/7/Mysqldump/Source",
            "T prepare/7/Mysqldump/Target",
            "T backup/7/Mysqldump/127.0.0.1/3310",
            "T restore/7/Mysqldump",
            "T get-metadata/7/Mysqldump",
            "T cleanup/7/Mysqldump/Target",
            "S cleanup/7/Mysqldump/Source",
            "T post-seed-cmd/7",
            "S post-seed-cmd/7",
        ]
    );
    let text = rig.output();
    for part in [
        "Prepare source: Completed: Dumped 12 bytes\n",
        "Backup: Running: Running backup (5 B)\n",
        "Backup: Completed: Dumped 12 bytes\n",
        "hook says hi\n",
        "Bytes: 12 (12 B)\n",
        "Coordinates: b.1:4, GTID 0-1-2\n",
        "Replication: not connected (--no-connect)\n",
        "Durations: Prepare 0:0",
        "Seed 7: done\n",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
}

#[test]
fn a_physical_copy_is_sent_by_the_source() {
    let rig = Rig::new("physical", |_, _, _| None);
    assert_eq!(
        rig.run_by(Method::Xtrabackup, &Cancel::default()),
        0,
        "{}",
        rig.output()
    );
    let calls = rig.calls();
    // seedHost is the target then; Backup is the source's stage.
    for call in [
        "S backup/7/Xtrabackup/127.0.0.1/3310",
        "S seed-stage-state/7/Backup",
        "T restore/7/Xtrabackup",
    ] {
        assert!(calls.iter().any(|a| a == call), "{call}: {calls:?}");
    }
    assert!(
        !calls.iter().any(|a| a.starts_with("T backup")),
        "{calls:?}"
    );
}

#[test]
fn after_a_failed_physical_copy_the_agent_reports_the_state_of_the_data() {
    type Answer = (u16, &'static str);
    fn script(side: char, path: &str, prepared: &'static str) -> Option<Answer> {
        match (side, path) {
            ('S', "seed-stage-state/7/Backup") => Some(FAILED),
            ('T', "seed-stage-state/7/Prepare") => Some((200, prepared)),
            _ => None,
        }
    }
    let rigs = [
        Rig::new("old", |side, path, _| {
            let old = r#"{"SeedID":7,"Stage":"Backup","Status":"Completed","Details":"","TargetData":"Untouched"}"#;
            script(side, path, old)
        }),
        Rig::new("gone", |side, path, _| {
            let gone = r#"{"SeedID":7,"Stage":"Backup","Status":"Completed","Details":"","TargetData":"Incomplete"}"#;
            script(side, path, gone)
        }),
        Rig::new("left", |side, path, _| {
            let left = r#"{"SeedID":7,"Stage":"Backup","Status":"Completed","Details":"","TargetData":"Incomplete",
                "IncompleteSince":{"SeedID":5,"Method":"Mysqldump"}}"#;
            script(side, path, left)
        }),
        Rig::new("silent", |side, path, _| {
            script(
                side,
                path,
                r#"{"SeedID":7,"Stage":"Backup","Status":"Completed","Details":""}"#,
            )
        }),
    ];
    let wanted = [
        (1, "data are as they were"),
        (
            3,
            "old data are gone and the new ones are not complete: its server is kept from starting",
        ),
        (
            3,
            "partial (its server may run) since seed 5 by Mysqldump was interrupted",
        ),
        (3, "does not report"),
    ];
    for (rig, (code, words)) in rigs.iter().zip(wanted) {
        assert_eq!(rig.run_by(Method::Xtrabackup, &Cancel::default()), code);
        let text = rig.output();
        assert!(text.contains(words), "{text}");
        let calls = rig.calls();
        for call in ["T abort-seed-stage/7/Backup", "S abort-seed-stage/7/Backup"] {
            assert!(calls.iter().any(|a| a == call), "{call}: {calls:?}");
        }
    }
}

#[test]
fn a_failed_backup_is_ended_on_both_and_leaves_the_target_as_it_was() {
    let rig = Rig::new("backup", |_, path, _| {
        (path == "seed-stage-state/7/Backup").then_some(FAILED)
    });
    assert_eq!(rig.run(&Cancel::default()), 1);
    let calls = rig.calls();
    for call in [
        "T abort-seed-stage/7/Backup",
        "S abort-seed-stage/7/Backup",
        "T cleanup/7/Mysqldump/Target",
    ] {
        assert!(
            calls.iter().any(|a| a == call),
            "{call} is not in {calls:?}"
        );
    }
    assert!(!calls.iter().any(|a| a.contains("restore")), "{calls:?}");
    let text = rig.output();
    assert!(
        text.contains("error: Backup failed: target agent 127.0.0.1:")
            && text.contains("disk full"),
        "{text}"
    );
    assert!(text.contains("nothing on the target was changed"), "{text}");
}

#[test]
fn a_failed_restore_reports_that_the_data_may_be_partial() {
    let rig = Rig::new("restore", |_, path, _| {
        (path == "seed-stage-state/7/Restore").then_some(FAILED)
    });
    assert_eq!(rig.run(&Cancel::default()), 3);
    assert!(rig.output().contains("may be partial"), "{}", rig.output());
    assert!(
        rig.calls()
            .iter()
            .any(|a| a == "T abort-seed-stage/7/Restore")
    );
}

#[test]
fn bad_coordinates_after_the_load_are_no_success() {
    let rig = Rig::new("metadata", |_, path, _| {
        path.starts_with("get-metadata")
            .then_some((200, r#"{"LogFile":"","LogPos":0,"GtidExecuted":""}"#))
    });
    assert_eq!(rig.run(&Cancel::default()), 3);
    assert!(
        rig.output()
            .contains("data are complete, but its replication is not connected"),
        "{}",
        rig.output()
    );
}

#[test]
fn a_refused_prepare_changes_nothing_and_is_not_repeated() {
    let rig = Rig::new("prepare", |side, path, _| {
        let refused = (
            500,
            r#"{"Code":"ERROR","Message":"seed 6 holds this host","Details":null}"#,
        );
        (side == 'T' && path.starts_with("prepare")).then_some(refused)
    });
    assert_eq!(rig.run(&Cancel::default()), 1);
    assert_eq!(
        rig.calls()
            .iter()
            .filter(|a| a.starts_with("T prepare"))
            .count(),
        1
    );
    assert!(
        rig.output().contains("seed 6 holds this host"),
        "{}",
        rig.output()
    );
}

#[test]
fn a_failed_cleanup_does_not_undo_a_success() {
    let rig = Rig::new("cleanup", |_, path, _| {
        (path == "seed-stage-state/7/Cleanup").then_some(FAILED)
    });
    assert_eq!(rig.run(&Cancel::default()), 0);
    assert!(
        rig.output().contains("warning: Cleanup: "),
        "{}",
        rig.output()
    );
}

#[test]
fn an_interruption_aborts_the_stage_at_work() {
    static ABORTED: AtomicBool = AtomicBool::new(false);
    let rig = Rig::new("interrupted", |side, path, _| match (side, path) {
        ('T', "seed-stage-state/7/Backup") if !ABORTED.load(Ordering::Relaxed) => Some(RUNNING),
        ('T', "seed-stage-state/7/Backup") => Some((
            200,
            r#"{"SeedID":7,"Stage":"Backup","Status":"Error","Details":"aborted by request"}"#,
        )),
        ('T', path) if path.starts_with("abort-seed-stage") => {
            ABORTED.store(true, Ordering::Relaxed);
            None
        }
        _ => None,
    });
    let cancel = Cancel::default();
    let (calls, by) = (Arc::clone(&rig.calls), cancel.clone());
    let ctrl_c = std::thread::spawn(move || {
        while !calls
            .lock()
            .unwrap()
            .iter()
            .any(|a| a == "T seed-stage-state/7/Backup")
        {
            std::thread::sleep(Duration::from_millis(5));
        }
        by.cancel("interrupted");
    });
    assert_eq!(rig.run(&cancel), 130);
    ctrl_c.join().unwrap();
    assert!(
        rig.calls()
            .iter()
            .any(|a| a == "T abort-seed-stage/7/Backup")
    );
    assert!(
        rig.output().contains("Backup interrupted") && rig.output().contains("aborted by request"),
        "{}",
        rig.output()
    );
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn rate_and_eta() {
    assert_eq!(rate(100, secs(10)), Some(10.0));
    assert_eq!(rate(0, secs(10)), None);
    assert_eq!(rate(100, Duration::from_millis(100)), None, "too short");
    let at = |bytes, total| Progress { bytes, total };
    assert_eq!(eta(at(100, 400), 10.0), Some(secs(30)));
    assert_eq!(eta(at(100, 0), 10.0), None);
    assert_eq!(
        eta(at(500, 400), 10.0),
        None,
        "the total is an estimate and may be passed"
    );
    assert_eq!(eta(at(0, u64::MAX), 0.001), Some(secs(3_600_000)));
}

#[test]
fn the_rate_is_that_of_the_last_half_minute() {
    let mut meter = Meter::new();
    for (t, bytes) in [(0, 0), (10, 1000), (50, 1000), (60, 1600), (70, 2200)] {
        meter.sample(secs(t), Progress { bytes, total: 0 });
    }
    assert_eq!(meter.rate(), Some(60.0));
    meter.sample(secs(71), Progress::default());
    assert_eq!(meter.most, 2200, "the last answer may carry none");
}

//! The information endpoints, each with one datum as bare JSON.

use crate::support::agent::{Agent, Changes};
use crate::support::fake::Fakes;
use crate::support::lone::Lone;
use crate::support::mariadb::Mariadb;
use crate::support::wire::JSON;
use crate::support::{assert_prompt, free_port, wait_for};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// An agent of a server, with more settings.
fn classic(db: &Mariadb, lines: &[(&'static str, String)]) -> Agent {
    let protocol = ("orchestrator", "protocol = \"classic\"".to_string());
    let lines = [&[protocol], lines].concat();
    Agent::start_with(
        db,
        &Changes {
            lines,
            ..Changes::default()
        },
    )
}

fn lone() -> Lone {
    let mut agent = Lone::new();
    agent.with("orchestrator", "protocol = \"classic\"");
    agent
}

/// As `du -sb` counts.
fn du(path: &Path) -> u64 {
    let out = std::process::Command::new("du")
        .arg("-sb")
        .arg(path)
        .output()
        .expect("du");
    let text = String::from_utf8(out.stdout).expect("text");
    let first = text.split_whitespace().next().expect("a number");
    first.parse().expect("a number")
}

type Check = Box<dyn Fn(&Value) -> bool>;

/// Every endpoint, with what its value must be.
fn table(db: &Mariadb, hostname: &str, running: bool) -> Vec<(String, Check)> {
    let is = |value: Value| -> Check { Box::new(move |v| *v == value) };
    let size = || -> Check { Box::new(|v| v.as_u64() > Some(1_000_000)) };
    let datadir = db.datadir();
    let log = db.dir.join("run/error.log");
    // It may grow meanwhile.
    let end_of_log: Check = Box::new(move |v| {
        let text = std::fs::read_to_string(&log).expect("error log");
        let lines: Vec<&str> = v
            .as_array()
            .expect("array")
            .iter()
            .filter_map(Value::as_str)
            .collect();
        let expected = text.lines().count().min(20);
        lines.len() == expected && expected > 5 && text.contains(&lines.join("\n"))
    });
    let endpoints: Vec<(&str, Check)> = vec![
        ("/api/hostname", is(json!(hostname))),
        ("/api/available-snapshots-local", is(json!([]))),
        ("/api/available-snapshots", is(json!([]))),
        ("/api/lvs", Box::new(Value::is_array)),
        ("/api/lvs/snap", Box::new(Value::is_array)),
        ("/api/lv", Box::new(Value::is_array)),
        ("/api/lv/snap", Box::new(Value::is_array)),
        ("/api/lvs-snapshots", Box::new(Value::is_array)),
        ("/api/mysql-status", is(json!(running))),
        ("/api/mysql-port", is(json!(db.port))),
        ("/api/mysql-du", size()),
        ("/api/mysql-datadir-available-space", size()),
        ("/api/mysql-error-log-tail", end_of_log),
    ];
    let mut all: Vec<(String, Check)> = Vec::new();
    for (path, check) in endpoints {
        all.push((path.into(), check));
    }
    all.push((format!("/api/du?path={}", datadir.display()), size()));
    all
}

fn check_all(db: &Mariadb, agent: &Agent, running: bool) {
    for (path, check) in table(db, &agent.hostname, running) {
        let value = agent.json(&path);
        assert!(
            check(&value),
            "{path} with MySQL running: {running}: {value}"
        );
        if !path.contains('?') {
            assert!(check(&agent.json(&format!("{path}/"))), "{path}/");
        }
    }
}

#[test]
fn every_datum_with_mysql_up_and_down() {
    let db = Mariadb::start("127.0.0.1", "");
    let agent = classic(&db, &[]);
    check_all(&db, &agent, true);
    let size = agent.json("/api/mysql-du").as_u64().expect("bytes");
    assert!(size.abs_diff(du(&db.datadir())) < size / 10, "{size}");
    assert_eq!(agent.get("/api/hostname").0, 200, "without a token");

    assert_eq!(agent.json("/api/mysql-stop"), json!(true));
    assert_eq!(agent.json("/api/mysql-status"), json!(false), "at once");
    check_all(&db, &agent, false);
    assert_eq!(agent.json("/api/mysql-stop"), json!(true), "twice");

    assert_eq!(agent.json("/api/mysql-start"), json!(true));
    assert_eq!(db.value("SELECT 1"), "1", "it accepts connections");
    assert_eq!(agent.json("/api/mysql-status"), json!(true), "at once");
    let begin = Instant::now();
    assert_eq!(agent.json("/api/mysql-start"), json!(true), "it runs");
    assert!(begin.elapsed() < Duration::from_secs(5));
    check_all(&db, &agent, true);
}

/// The size is the real one, also when it has changed, and whatever path is asked for.
#[test]
fn sizes_follow_the_files() {
    let db = Mariadb::start("127.0.0.1", "");
    let agent = classic(&db, &[]);
    let size = |path: &str| agent.json(path).as_u64().expect("bytes");
    let before = size("/api/mysql-du");
    std::fs::write(db.datadir().join("more"), vec![1; 30_000_000]).expect("file");
    wait_for("mysql-du grows", Duration::from_secs(30), || {
        (size("/api/mysql-du") >= before + 30_000_000).then_some(())
    });
    let path = format!("/api/du?path={}", agent.dir.join("backup").display());
    let empty = size(&path);
    std::fs::write(agent.dir.join("backup/file"), vec![1; 5_000]).expect("file");
    wait_for("du grows", Duration::from_secs(10), || {
        (size(&path) == empty + 5_000).then_some(())
    });
    let text = agent.error("/api/du?path=/no/such/directory");
    assert!(
        text.contains("/no/such/directory") && text.contains("os error 2"),
        "{text}"
    );
    let text = agent.error("/api/du?path=relative");
    assert!(text.contains("not an absolute path"), "{text}");
    agent.error("/api/du");
}

/// An agent that starts next to a server that is down knows its directory, size and log by the option file.
#[test]
fn a_server_that_was_never_seen() {
    let db = Mariadb::start("127.0.0.1", "");
    db.down();
    let file = format!("defaults-file = {:?}", db.dir.join("my.cnf"));
    let agent = classic(&db, &[("mysql", file)]);
    check_all(&db, &agent, false);
}

/// Nothing is known of MySQL, and there is no orchestrator: empty values where there are such, else a reason.
#[test]
fn a_host_about_which_nothing_is_known() {
    let agent = lone().start();
    for (path, body) in [
        ("/api/mysql-error-log-tail", "[\"\"]"),
        ("/api/mysql-status", "false"),
        ("/api/mysql-port", "1"),
        ("/api/available-snapshots", "[]"),
        ("/api/available-snapshots-local/", "[]"),
        ("/api/lvs", "[]"),
        ("/api/hostname", "\"db7.test\""),
    ] {
        agent.call(path).is(200, JSON, body);
        let head = agent.ask("HEAD", &format!("{path}?token={}", agent.token()), &[]);
        assert_eq!((head.status, head.body.as_str()), (200, ""), "{path}");
    }
    for path in ["/api/mysql-du", "/api/mysql-datadir-available-space"] {
        let text = agent.call(path).message();
        assert!(text.contains("mysql.datadir"), "{path}: {text}");
    }
}

/// Operators' commands of a host whose agent has no account in MySQL.
#[test]
fn a_host_without_an_account() {
    let data = std::env::temp_dir();
    let mut agent = lone();
    agent
        .without("mysql", "user")
        .without("mysql", "password")
        .with("mysqldump", "enabled = false")
        .with(
            "classic",
            format!("mysql-datadir-command = 'echo {}'", data.display()),
        )
        .with("classic", "mysql-port-command = 'echo 33071'")
        .with("mysql", "service-status-command = 'true'");
    let agent = agent.start();
    assert_eq!(agent.json("/api/mysql-port"), json!(33071));
    assert_eq!(agent.json("/api/mysql-status"), json!(true));
    assert!(agent.json("/api/mysql-du").as_u64() > Some(0));
    assert!(agent.json("/api/mysql-datadir-available-space").as_u64() > Some(0));
    assert!(!agent.log().contains("[WARN] MySQL at"), "{}", agent.log());
    let mut wrong = lone();
    wrong
        .without("mysql", "user")
        .without("mysql", "password")
        .with("mysqldump", "enabled = false")
        .with("classic", "mysql-port-command = 'echo port: 3306'");
    let text = wrong.start().call("/api/mysql-port").message();
    assert!(
        text.contains("classic.mysql-port-command") && text.contains("port: 3306"),
        "{text}"
    );
}

/// An orchestrator that lists these hosts; the number of its answers to that.
fn orchestrator(hosts: &'static str) -> (u16, Arc<AtomicUsize>) {
    let port = free_port("127.0.0.1");
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("agents port");
    let count = Arc::new(AtomicUsize::new(0));
    let asked = Arc::clone(&count);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("accept");
            let mut head = [0; 4096];
            let n = stream.read(&mut head).unwrap_or(0);
            let is_list = head[..n].starts_with(b"GET /api/agents-hosts HTTP/1.1\r\n");
            asked.fetch_add(usize::from(is_list), Ordering::SeqCst);
            let body = if is_list { hosts } else { "\"OK\"" };
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
        }
    });
    (port, count)
}

#[test]
fn hosts_of_snapshots_are_those_of_the_orchestrators() {
    let (first, asked) = orchestrator("[\"db9.test\",\"DB7.test\",\"db8.test\"]");
    let (second, _) = orchestrator("[\"db8.test\",\"db10.test\"]");
    let mut agent = lone();
    agent.with(
        "orchestrator",
        format!("url = [\"http://127.0.0.1:{first}\", \"http://127.0.0.1:{second}\", \"http://127.0.0.1:1\"]"),
    );
    let agent = agent.start();
    std::thread::scope(|scope| {
        for _ in 0..30 {
            scope.spawn(|| {
                for path in ["/api/available-snapshots", "/api/available-snapshots-local"] {
                    let hosts = agent.json(path);
                    assert_eq!(
                        hosts,
                        json!(["db10.test", "db8.test", "db9.test"]),
                        "{path}"
                    );
                }
            });
        }
    });
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[test]
fn commands_and_volumes_of_the_operator() {
    let fakes = Fakes::new();
    let mut agent = lone();
    let bin = fakes.dir.join("lvs");
    std::fs::write(
        &bin,
        "#!/bin/sh\necho \"$@\" >\"$(dirname \"$0\")/arguments\"\nprintf '  data vg0 /dev/vg0/data      \\n  my-snap vg0 /dev/vg0/my-snap 1.50\\n'\n",
    )
    .expect("script");
    make_executable(&bin);
    agent.path = format!("{}:{}", fakes.dir.display(), agent.path);
    agent
        .with(
            "lvm",
            "available-local-snapshot-hosts-command = 'printf \"a.test\\n\\nb.test\\n\"'",
        )
        .with(
            "lvm",
            "available-snapshot-hosts-command = 'echo nothing >&2; exit 3'",
        )
        .with(
            "lvm",
            format!(
                "create-snapshot-command = 'echo made >{}/made'",
                fakes.dir.display()
            ),
        );
    let agent = agent.start();
    let snap = json!({"Name": "my-snap", "GroupName": "vg0", "Path": "/dev/vg0/my-snap", "IsSnapshot": true, "SnapshotPercent": 1.5});
    let data = json!({"Name": "data", "GroupName": "vg0", "Path": "/dev/vg0/data", "IsSnapshot": false, "SnapshotPercent": 0});
    for (path, value) in [
        ("/api/lvs", json!([data, snap])),
        ("/api/lvs/snap", json!([snap])),
        ("/api/lv?lv=/dev/vg0/my-snap", json!([snap])),
        ("/api/lv?lv=vg0/data", json!([data])),
        ("/api/lv/data", json!([data])),
        ("/api/lv/other", json!([])),
        (
            "/api/available-snapshots-local",
            json!(["a.test", "b.test"]),
        ),
    ] {
        assert_eq!(agent.json(path), value, "{path}");
    }
    let arguments = std::fs::read_to_string(fakes.dir.join("arguments")).expect("arguments");
    assert_eq!(
        arguments.trim(),
        "--noheadings -o lv_name,vg_name,lv_path,snap_percent"
    );
    let text = agent.call("/api/available-snapshots").message();
    assert!(
        text.contains("lvm.available-snapshot-hosts-command") && text.contains("nothing"),
        "{text}"
    );
    assert_eq!(agent.json("/api/create-snapshot"), json!(true));
    assert!(fakes.dir.join("made").exists());
    let text = agent.call("/api/removelv?lv=/dev/vg0/my-snap").message();
    assert!(text.contains("/dev/vg0/my-snap is not removed"), "{text}");
    let text = lone().start().call("/api/create-snapshot").message();
    assert!(
        text.contains("lvm.create-snapshot-command is not set"),
        "{text}"
    );
}

fn make_executable(file: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(file, mode).expect("mode");
}

/// What orchestrator polls, in its order.
const POLL: [&str; 8] = [
    "available-snapshots-local",
    "available-snapshots",
    "lvs-snapshots",
    "mysql-status",
    "mysql-port",
    "mysql-du",
    "mysql-datadir-available-space",
    "mysql-error-log-tail",
];

#[test]
fn a_large_data_directory_delays_no_answer_but_the_first() {
    let db = Mariadb::start("127.0.0.1", "");
    for n in 0..100 {
        let dir = db.datadir().join(format!("large{n}"));
        std::fs::create_dir(&dir).expect("directory");
        for file in 0..1000 {
            std::fs::write(dir.join(format!("t{file}.ibd")), "x").expect("file");
        }
    }
    let agent = classic(&db, &[]);
    let v2 = Agent::start(&db);
    let paths: Vec<String> = POLL.iter().map(|p| format!("/api/{p}")).collect();
    let size = agent.json("/api/mysql-du").as_u64().expect("bytes");
    assert!(
        size.abs_diff(du(&db.datadir())) < size / 10,
        "the first answer: {size}"
    );
    for path in &paths {
        agent.json(path);
    }
    v2.wait_looked(true);
    let mut took: Vec<(String, Vec<Duration>)> = Vec::new();
    took.extend(paths.iter().map(|path| (path.clone(), Vec::new())));
    took.push(("/api/get-agent-data".into(), Vec::new()));
    for _ in 0..20 {
        for (path, times) in &mut took {
            let asked = if path.ends_with("get-agent-data") {
                &v2
            } else {
                &agent
            };
            let begin = Instant::now();
            asked.json(path);
            times.push(begin.elapsed());
        }
        std::thread::sleep(Duration::from_millis(150));
    }
    for (path, mut times) in took {
        times.sort_unstable();
        println!(
            "100,000 files: {path}: median {:?}, slowest {:?}",
            times[10], times[19]
        );
        assert!(times[10] < Duration::from_millis(100), "{path}: {times:?}");
        assert_prompt(times);
    }
    // As a server repeats a slow poll each second.
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..60 {
            scope.spawn(|| {
                for path in &paths {
                    agent.json(path);
                }
            });
        }
    });
    println!("60 polls at a time: {:?}", begin.elapsed());
    assert!(begin.elapsed() < Duration::from_secs(10));
}

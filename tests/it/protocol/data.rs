//! `get-agent-data`.

use crate::support::agent::{Agent, Changes};
use crate::support::lone::Lone;
use crate::support::mariadb::Mariadb;
use crate::support::wire::keys;
use crate::support::{assert_prompt, rig, wait_for};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const KEYS: [&str; 19] = [
    "LocalSnapshotsHosts",
    "SnaphostHosts",
    "LogicalVolumes",
    "MountPoint",
    "BackupDir",
    "BackupDirDiskFree",
    "BackupDirDiskUsed",
    "MySQLRunning",
    "MySQLDatadir",
    "MySQLDatadirDiskUsed",
    "MySQLDatadirDiskFree",
    "MySQLDatabases",
    "AvailiableSeedMethods",
    "AgentCommands",
    "NumCPU",
    "MemTotal",
    "OsName",
    "UnavailableSeedMethods", // ours, dropped by orchestrator
    "Orchestrators",          // the same
];

fn stdout(program: &str, args: &[&str]) -> String {
    let out = Command::new(program).args(args).output().expect(program);
    String::from_utf8(out.stdout).expect("text")
}

fn available(path: &Path) -> u64 {
    let text = stdout(
        "df",
        &["--output=avail", "-B1", path.to_str().expect("UTF-8")],
    );
    text.lines()
        .nth(1)
        .and_then(|l| l.trim().parse().ok())
        .expect("df")
}

fn bytes(v: &Value) -> u64 {
    v.as_u64()
        .unwrap_or_else(|| panic!("{v} is no number of bytes"))
}

fn near(a: u64, b: u64, percent: u64) -> bool {
    a.abs_diff(b) <= b * percent / 100 + 65536
}

#[test]
fn keys_types_and_values() {
    let db = Mariadb::start(
        "127.0.0.1",
        "plugin_load_add=ha_archive\nplugin_load_add=ha_blackhole\n",
    );
    for statement in [
        "CREATE DATABASE empty",
        "CREATE DATABASE mixed",
        "CREATE TABLE mixed.a (n INT) ENGINE=InnoDB",
        "CREATE TABLE mixed.b (n INT) ENGINE=InnoDB",
        "CREATE TABLE mixed.c (n INT) ENGINE=Aria",
        "CREATE TABLE mixed.d (n INT) ENGINE=MyISAM",
        "CREATE TABLE mixed.e (n INT) ENGINE=MEMORY",
        "CREATE TABLE mixed.f (n INT NOT NULL) ENGINE=CSV",
        "CREATE TABLE mixed.g (n INT NOT NULL) ENGINE=ARCHIVE",
        "CREATE TABLE mixed.h (n INT NOT NULL) ENGINE=BLACKHOLE",
        "CREATE SEQUENCE mixed.s",
        "CREATE VIEW mixed.v AS SELECT * FROM mixed.a",
        "CREATE DATABASE `odd, \"name\"`",
        "CREATE VIEW `odd, \"name\"`.only_a_view AS SELECT 1",
        "CREATE DATABASE aria",
        "CREATE TABLE aria.a (n INT) ENGINE=Aria",
    ] {
        db.sql(statement);
    }
    let agent = Agent::start(&db);
    agent.wait_looked(true);
    let (status, body) = agent.call("/api/get-agent-data");
    assert_eq!(status, 200, "{body}");
    assert_eq!(keys(&body), KEYS);
    let data: Value = serde_json::from_str(&body).expect("JSON");
    for key in ["LocalSnapshotsHosts", "SnaphostHosts", "LogicalVolumes"] {
        assert_eq!(data[key], json!([]), "never null");
    }
    assert!(body.contains(
        "\"MountPoint\":{\"Path\":\"\",\"Device\":\"\",\"LVPath\":\"\",\"FileSystem\":\"\",\"IsMounted\":false,\"DiskUsage\":0}"
    ));
    let backup = agent.dir.join("backup");
    assert_eq!(data["BackupDir"], backup.to_str().expect("UTF-8"));
    assert!(
        near(bytes(&data["BackupDirDiskFree"]), available(&backup), 5),
        "{body}"
    );
    assert!(
        near(
            bytes(&data["MySQLDatadirDiskFree"]),
            available(&db.datadir()),
            5
        ),
        "{body}"
    );
    let du = stdout("du", &["-sb", db.datadir().to_str().expect("UTF-8")]);
    let du: u64 = du
        .split_whitespace()
        .next()
        .and_then(|n| n.parse().ok())
        .expect("du");
    assert!(
        near(bytes(&data["MySQLDatadirDiskUsed"]), du, 10),
        "{du}: {body}"
    );
    assert_eq!(data["MySQLDatadir"], db.value("SELECT @@datadir"));
    assert_eq!(data["MySQLRunning"], true);
    assert_eq!(data["AgentCommands"], Value::Null);
    assert_eq!(
        bytes(&data["NumCPU"]).to_string(),
        stdout("nproc", &["--all"]).trim()
    );
    let memory = std::fs::read_to_string("/proc/meminfo").expect("meminfo");
    let kib: u64 = memory
        .split_whitespace()
        .nth(1)
        .and_then(|n| n.parse().ok())
        .expect("MemTotal");
    assert_eq!(bytes(&data["MemTotal"]), kib * 1024);
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let os = data["OsName"].as_str().expect("text");
    assert!(!os.is_empty() && release.contains(os), "{os}");

    let databases = data["MySQLDatabases"].as_object().expect("object");
    let names: Vec<&String> = databases.keys().collect();
    assert_eq!(
        names,
        ["aria", "empty", "mixed", "odd, \"name\""],
        "the server's own schemas left out"
    );
    assert!(
        body.contains("\"empty\":{\"Engines\":null,\"Size\":0}"),
        "{body}"
    );
    assert_eq!(
        databases["odd, \"name\""]["Engines"],
        Value::Null,
        "no base table"
    );
    assert_eq!(databases["aria"]["Engines"], json!(["Aria"]));
    let engines: Vec<&str> = databases["mixed"]["Engines"]
        .as_array()
        .expect("array")
        .iter()
        .map(|e| e.as_str().expect("text"))
        .collect();
    let mut sorted = engines.clone();
    sorted.sort_unstable();
    assert_eq!(
        sorted,
        [
            "ARCHIVE",
            "Aria",
            "BLACKHOLE",
            "CSV",
            "InnoDB",
            "MEMORY",
            "MyISAM"
        ],
        "no name twice, at most one unknown"
    );
    assert!(bytes(&databases["mixed"]["Size"]) >= 32768);

    let methods = "\"AvailiableSeedMethods\":{\"Mysqldump\":{\"BackupSide\":\"Target\",\"SupportedEngines\":[\"ROCKSDB\",\"MRG_MYISAM\",\
                   \"CSV\",\"BLACKHOLE\",\"InnoDB\",\"MEMORY\",\"ARCHIVE\",\"MyISAM\",\"FEDERATED\",\"TokuDB\"],\"BackupToDatadir\":false}}";
    assert!(body.contains(methods), "{body}");
    assert_eq!(data["UnavailableSeedMethods"], json!({}));

    // Sizes grow with the data.
    db.sql("INSERT INTO mixed.d SELECT seq FROM mysql.seq_1_to_200000");
    wait_for(
        "the size of the schema grows",
        Duration::from_secs(30),
        || {
            let now = bytes(&agent.json("/api/get-agent-data")["MySQLDatabases"]["mixed"]["Size"]);
            (now > bytes(&databases["mixed"]["Size"]) + 1_000_000).then_some(())
        },
    );
}

/// The progress of Backup is read from this number.
#[test]
fn disk_use_of_the_backup_directory_grows_and_falls() {
    let agent = Lone::new().start();
    let used = || bytes(&agent.json("/api/get-agent-data")["BackupDirDiskUsed"]);
    let backup = agent.dir.join("backup");
    let empty = used();
    assert!(empty < 1_000_000, "{empty}");
    std::fs::create_dir_all(backup.join("deep/er")).expect("directory");
    std::fs::write(backup.join("deep/er/file"), vec![1; 5_000_000]).expect("file");
    wait_for("it grows", Duration::from_secs(30), || {
        (5_000_000..5_200_000)
            .contains(&(used() - empty))
            .then_some(())
    });
    std::fs::write(backup.join("second"), vec![1; 3_000_000]).expect("file");
    wait_for("it grows on", Duration::from_secs(30), || {
        (used() - empty >= 8_000_000).then_some(())
    });
    std::fs::remove_dir_all(backup.join("deep")).expect("removed");
    wait_for("it falls", Duration::from_secs(30), || {
        (used() - empty < 3_200_000).then_some(())
    });
}

/// Quick and the same with MySQL and the disks at work, and while somebody else changes files.
#[test]
fn fast_and_stable_while_the_host_is_busy() {
    let db = Mariadb::start("127.0.0.1", "");
    db.sql("CREATE DATABASE shop");
    db.sql("CREATE TABLE shop.t (n INT, t TEXT) ENGINE=InnoDB");
    let agent = Agent::start(&db);
    let stop = AtomicBool::new(false);
    let going = || !stop.load(Ordering::Relaxed);
    let backup = agent.dir.join("backup");
    agent.wait_looked(true);
    let first = agent.json("/api/get-agent-data");
    let took = std::thread::scope(|scope| {
        scope.spawn(|| {
            while going() {
                db.sql("INSERT INTO shop.t SELECT seq, REPEAT('x', 500) FROM mysql.seq_1_to_5000");
            }
        });
        scope.spawn(|| {
            let mut n = 0;
            while going() {
                n += 1;
                let file = backup.join(format!("f{}", n % 50));
                std::fs::write(&file, vec![0; 200_000]).expect("file");
                std::fs::remove_file(backup.join(format!("f{}", (n + 25) % 50)))
                    .unwrap_or_default();
            }
        });
        let mut took = Vec::new();
        for _ in 0..50 {
            let begin = Instant::now();
            let (status, body) = agent.call("/api/get-agent-data");
            took.push(begin.elapsed());
            let data: Value = serde_json::from_str(&body).expect("JSON");
            assert_eq!(
                (status, keys(&body)),
                (200, KEYS.map(String::from).to_vec())
            );
            for key in [
                "AvailiableSeedMethods",
                "MountPoint",
                "NumCPU",
                "MemTotal",
                "OsName",
                "MySQLDatadir",
                "BackupDir",
                "MySQLRunning",
            ] {
                assert_eq!(data[key], first[key], "{key}");
            }
            assert_eq!(data["MySQLDatabases"]["shop"]["Engines"], json!(["InnoDB"]));
            assert!(
                bytes(&data["MySQLDatadirDiskUsed"]) > 1_000_000,
                "never zero"
            );
            assert!(bytes(&data["BackupDirDiskFree"]) > 0);
        }
        stop.store(true, Ordering::Relaxed);
        took
    });
    let slowest = took.iter().max();
    println!("slowest of 50 get-agent-data on a busy host: {slowest:?}");
    assert_prompt(took);
}

/// Methods that are wanted and cannot be had are left out, with the reason, and the agent runs.
#[test]
fn methods_that_are_not_built_are_left_out() {
    let mut agent = Lone::new();
    agent
        .with("lvm", "enabled = true")
        .with("lvm", "create-snapshot-command = 'true'")
        .with("lvm", "available-local-snapshot-hosts-command = 'true'")
        .with("lvm", "available-snapshot-hosts-command = 'true'")
        .with("lvm", "snapshot-volumes-filter = 'snap'");
    let agent = agent.start();
    let data = agent.json("/api/get-agent-data");
    let usable: Vec<&String> = data["AvailiableSeedMethods"]
        .as_object()
        .expect("object")
        .keys()
        .collect();
    assert_eq!(usable, ["Mysqldump"]);
    let log = agent.log();
    let (method, section) = ("LVM", "lvm");
    let why = data["UnavailableSeedMethods"][method]
        .as_str()
        .unwrap_or_else(|| panic!("{method}: {data}"));
    assert!(why.contains(&format!("{section}.enabled = true")), "{why}");
    assert!(
        log.contains(&format!("seed method {method} is not available: {why}")),
        "{log}"
    );
    let text = agent
        .call(&format!("/api/prepare/1/{method}/Target"))
        .message();
    assert!(
        text.starts_with("Seed method unavailiable on agent") && text.contains(why),
        "{text}"
    );
    let mut disabled = Lone::new();
    disabled.with("mysqldump", "enabled = false");
    let disabled = disabled.start();
    assert_eq!(
        disabled.json("/api/get-agent-data")["AvailiableSeedMethods"],
        json!({}),
        "never null"
    );
    let text = disabled.call("/api/prepare/1/Mysqldump/Target").message();
    assert!(
        text.starts_with("Seed method unavailiable on agent"),
        "{text}"
    );
}

#[test]
fn a_missing_tool_leaves_its_method_out_until_it_is_there() {
    let installed = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].iter().any(|d| {
        ["mariadb-dump", "mysqldump"]
            .iter()
            .any(|t| Path::new(d).join(t).exists())
    });
    if installed {
        println!(
            "this host has a dump tool of its own, where the agent always looks: nothing to be seen here"
        );
        return;
    }
    let mut agent = Lone::new();
    let tools = agent.dir.join("tools-of-the-host");
    std::fs::create_dir(&tools).expect("directory");
    agent.path = format!("{}:/usr/bin:/bin", tools.display());
    let agent = agent.start();
    let data = agent.json("/api/get-agent-data");
    assert_eq!(data["AvailiableSeedMethods"], json!({}), "{data}");
    let why = data["UnavailableSeedMethods"]["Mysqldump"]
        .as_str()
        .expect("a reason");
    assert!(why.contains("dump") && why.contains("PATH"), "{why}");
    assert!(agent.log().contains(why), "{}", agent.log());
    assert!(
        agent
            .call("/api/prepare/1/Mysqldump/Target")
            .message()
            .contains(why)
    );
    // Installed later: no restart is needed.
    for tool in ["mariadb-dump", "mariadb"] {
        std::os::unix::fs::symlink(rig().join("mdb/bin").join(tool), tools.join(tool))
            .expect("link");
    }
    wait_for("the method comes back", Duration::from_secs(10), || {
        agent.json("/api/get-agent-data")["AvailiableSeedMethods"]["Mysqldump"]
            .is_object()
            .then_some(())
    });
}

/// An agent beside a MySQL that is down starts, and says what it can.
#[test]
fn a_host_whose_mysql_is_down() {
    let db = Mariadb::start("127.0.0.1", "");
    db.down();
    let datadir = format!("datadir = {:?}", db.datadir());
    let agent = Agent::start_with(
        &db,
        &Changes {
            lines: vec![("mysql", datadir)],
            ..Changes::default()
        },
    );
    agent.wait_looked(false);
    let data = agent.json("/api/get-agent-data");
    assert_eq!(
        (&data["MySQLRunning"], &data["MySQLDatabases"]),
        (&json!(false), &json!({})),
        "{{}}, never null"
    );
    assert_eq!(
        data["MySQLDatadir"],
        db.datadir().to_str().expect("UTF-8"),
        "from the configuration"
    );
    assert!(
        bytes(&data["MySQLDatadirDiskUsed"]) > 1_000_000
            && bytes(&data["MySQLDatadirDiskFree"]) > 0
    );
    assert!(data["AvailiableSeedMethods"]["Mysqldump"].is_object());
    assert_eq!(agent.json("/api/mysql-start")["MySQLRunning"], true);
}

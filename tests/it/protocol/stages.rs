//! The seed calls: each error text, in the order of the checks, and the forms of the answers.

use crate::support::agent::Agent;
use crate::support::mariadb::Mariadb;
use crate::support::wait_for;
use crate::support::wire::{Answer, JSON, TEXT, ask, is_rfc3339, keys};
use serde_json::Value;
use std::time::Duration;

struct Host<'a>(&'a Agent);

impl Host<'_> {
    fn call(&self, path: &str) -> Answer {
        ask(
            &self.0.address,
            self.0.port,
            "GET",
            &format!("/api/{path}?token={}", self.0.token()),
            &[],
        )
    }

    /// The call is refused with a text that begins like this.
    fn refuses(&self, path: &str, text: &str) {
        let got = self.call(path).message();
        assert!(
            got.starts_with(text),
            "{path}\n     got: {got}\nexpected: {text}"
        );
        assert!(got.is_ascii() && got.len() < 1000, "{got}");
    }

    fn starts(&self, path: &str) {
        self.call(path).is(202, TEXT, "Started");
    }

    fn ends(&self, id: i64, stage: &str) -> Value {
        wait_for(
            &format!("the end of {stage}"),
            Duration::from_secs(60),
            || {
                let answer = self.call(&format!("seed-stage-state/{id}/{stage}"));
                assert_eq!(
                    (answer.status, answer.header("Content-Type")),
                    (200, JSON),
                    "{answer:?}"
                );
                let names = keys(&answer.body);
                assert_eq!(
                    names[..6],
                    [
                        "SeedID",
                        "Stage",
                        "Hostname",
                        "Timestamp",
                        "Status",
                        "Details"
                    ]
                );
                // Ours, as far as they are known.
                let own = [
                    "Progress",
                    "TargetData",
                    "SourceLockMilliseconds",
                    "IncompleteSince",
                ];
                let more: Vec<_> = names[6..].iter().map(String::as_str).collect();
                assert!(
                    own.iter().filter(|k| more.contains(k)).count() == more.len(),
                    "{names:?}"
                );
                let v: Value = serde_json::from_str(&answer.body).expect("JSON");
                assert_eq!(
                    (&v["SeedID"], &v["Stage"], &v["Hostname"]),
                    (&id.into(), &stage.into(), &self.0.hostname.as_str().into())
                );
                assert!(is_rfc3339(v["Timestamp"].as_str().expect("text")), "{v}");
                assert!(
                    v["Details"]
                        .as_str()
                        .is_some_and(|d| d.is_ascii() && d.len() < 4096),
                    "{v}"
                );
                (v["Status"] != "Running").then_some(v)
            },
        )
    }

    fn completes(&self, id: i64, stage: &str) {
        let v = self.ends(id, stage);
        assert_eq!(v["Status"], "Completed", "{v}");
    }
}

const SYNTAX: &str = "strconv.ParseInt: parsing \"abc\": invalid syntax";

#[test]
fn before_any_seed() {
    let db = Mariadb::start("127.0.0.1", "");
    let agent = Agent::start(&db);
    let host = Host(&agent);
    let none = "{\"SeedID\":0,\"SeedStatus\":\"Running\",\"Method\":\"ClonePlugin\",\"Side\":\"Target\",\"Stage\":\"Prepare\",\"StagesDetails\":null}";
    host.call("active-seed").is(200, JSON, none);

    for path in [
        "prepare/abc/Nope/Nope",
        "backup/abc/Nope/h/x",
        "restore/abc/Nope",
        "cleanup/abc/Nope/Nope",
        "get-metadata/abc/Nope",
        "seed-stage-state/abc/Nope",
        "abort-seed-stage/abc/Nope",
        "post-seed-cmd/abc",
    ] {
        host.refuses(path, SYNTAX);
    }
    host.refuses(
        "prepare/9223372036854775808/Mysqldump/Target",
        "strconv.ParseInt: parsing \"9223372036854775808\": value out of range",
    );
    host.refuses(
        "prepare/5x/Mysqldump/Target",
        "strconv.ParseInt: parsing \"5x\": invalid syntax",
    );

    host.refuses("prepare/5/Nope/Nope", "Seed method undefinded");
    host.refuses("prepare/5/mysqldump/Target", "Seed method undefinded"); // case-sensitive
    for method in ["ClonePlugin", "LVM", "Mydumper", "Xtrabackup"] {
        host.refuses(
            &format!("prepare/5/{method}/Nope"),
            "Seed method unavailiable on agent",
        );
    }
    host.refuses("prepare/5/Mysqldump/Nope", "Seed side undefinded");
    host.refuses("prepare/5/Mysqldump/target", "Seed side undefinded");

    // Seed 0 is nobody's, and kills nobody. The id comes before port, method and side.
    for id in ["0", "5", "-1"] {
        host.refuses(
            &format!("backup/{id}/Nope/-h/abc"),
            "Unable to start backup stage. SeedID not found",
        );
        host.refuses(
            &format!("restore/{id}/Nope"),
            "Unable to start restore stage. SeedID not found",
        );
        host.refuses(
            &format!("cleanup/{id}/Nope/Nope"),
            "Unable to start cleanup stage. SeedID not found",
        );
        host.refuses(
            &format!("get-metadata/{id}/Nope"),
            "Unable to get metadata for seed. SeedID not found",
        );
        host.refuses(
            &format!("abort-seed-stage/{id}/Nope"),
            "Unable to abort seed stage. SeedID not found",
        );
        host.refuses(
            &format!("abort-seed-stage/{id}/Prepare"),
            "Unable to abort seed stage. SeedID not found",
        );
        host.refuses(
            &format!("seed-stage-state/{id}/Nope"),
            "Seed stage undefinded",
        );
        for stage in ["Prepare", "Backup", "Restore", "Cleanup", "ConnectSlave"] {
            host.refuses(
                &format!("seed-stage-state/{id}/{stage}"),
                &format!("SeedID {id} not found"),
            );
        }
    }
    for id in ["0", "-7"] {
        host.refuses(
            &format!("prepare/{id}/Mysqldump/Target"),
            &format!("seed id {id} is not positive"),
        );
    }
    host.call("active-seed").is(200, JSON, none);
}

#[test]
fn a_seed_call_by_call() {
    let source = Mariadb::start("127.0.0.1", "");
    let target = Mariadb::start("127.0.0.2", "");
    source.sql("CREATE DATABASE shop");
    source.sql(
        "CREATE TABLE shop.t (n INT) ENGINE=InnoDB AS SELECT seq AS n FROM mysql.seq_1_to_1000",
    );
    let agent = Agent::start(&target);
    let host = Host(&agent);
    let dump = agent.dir.join("backup/orchestrator_agent_backup.sql");
    let good = format!("backup/5/Mysqldump/{}/{}", source.host, source.port);

    host.starts("prepare/5/Mysqldump/Target");
    host.completes(5, "Prepare");
    let body = host.call("active-seed").body;
    assert_eq!(
        keys(&body),
        [
            "SeedID",
            "SeedStatus",
            "Method",
            "Side",
            "Stage",
            "StagesDetails"
        ]
    );
    let v: Value = serde_json::from_str(&body).expect("JSON");
    let prepared = v["StagesDetails"]["0"]
        .as_object()
        .expect("the agent's number of Prepare");
    assert_eq!(
        (&v["SeedID"], &v["Stage"], &v["SeedStatus"]),
        (&5.into(), &"Prepare".into(), &"Running".into())
    );
    assert_eq!(
        (&prepared["Status"], &prepared["Hostname"]),
        (&"Completed".into(), &agent.hostname.as_str().into())
    );
    assert!(is_rfc3339(prepared["Timestamp"].as_str().expect("text")));

    // backup: port, then method, then host.
    host.refuses(
        "backup/6/Mysqldump/h/abc",
        "Unable to start backup stage. SeedID not found",
    );
    host.refuses("backup/5/Nope/-h/abc", SYNTAX);
    for port in ["0", "70000", "65536", "-1"] {
        host.refuses(
            &format!("backup/5/Nope/h/{port}"),
            &format!("port {port}: the MySQL port is a number from 1 to 65535"),
        );
    }
    host.refuses("backup/5/Nope/-h/3306", "Seed method undefinded");
    // None but the method of the preparation.
    for method in ["ClonePlugin", "LVM", "Mydumper", "Xtrabackup"] {
        host.refuses(
            &format!("backup/5/{method}/h/3306"),
            "Seed method unavailiable on agent",
        );
        host.refuses(
            &format!("restore/5/{method}"),
            "Seed method unavailiable on agent",
        );
        host.refuses(
            &format!("get-metadata/5/{method}"),
            "Seed method unavailiable on agent",
        );
        host.refuses(
            &format!("cleanup/5/{method}/Target"),
            "Seed method unavailiable on agent",
        );
    }
    for odd in [
        "-h", "--host=x", "a%20b", "a;b", "$(id)", "%60id%60", "a%7Cb", "a'b", "a%22b", "db%C3%A9",
        "a%0Ab", "a@b", "*",
    ] {
        let text = host
            .call(&format!("backup/5/Mysqldump/{odd}/3306"))
            .message();
        assert!(
            text.ends_with("is no host name or address"),
            "{odd}: {text}"
        );
    }
    host.refuses("restore/5/Nope", "Seed method undefinded");
    host.refuses(
        "restore/5/Mysqldump",
        "Unable to start restore stage: backup of seed 5 is not completed",
    );
    host.refuses("get-metadata/5/Nope", "Seed method undefinded");
    host.refuses("get-metadata/5/Mysqldump", "seed 5 has no coordinates yet");
    host.refuses("cleanup/5/Nope/Nope", "Seed method undefinded");
    host.refuses("cleanup/5/Mysqldump/Nope", "Seed side undefinded");
    host.refuses(
        "cleanup/5/Mysqldump/Source",
        "this host is the Target of seed 5, not the Source",
    );
    host.refuses("abort-seed-stage/5/Nope", "Seed stage undefinded");
    host.refuses("seed-stage-state/5/Nope", "Seed stage undefinded");
    host.refuses("seed-stage-state/6/Prepare", "SeedID 6 not found");
    for stage in ["Backup", "Restore", "Cleanup", "ConnectSlave"] {
        host.refuses(
            &format!("seed-stage-state/5/{stage}"),
            &format!("SeedID 5 on stage {stage} not found"),
        );
    }
    assert!(!dump.exists(), "none of these did anything");
    // Another seed does not take a host that holds one.
    host.refuses("prepare/6/Mysqldump/Target", "seed 5 holds this host");
    host.refuses("prepare/6/Mysqldump/Source", "seed 5 holds this host");

    host.starts(&good);
    host.call(&good)
        .is(202, TEXT, "Backup stage already started for seed");
    host.completes(5, "Backup");
    host.call(&good)
        .is(202, TEXT, "Backup stage already started for seed");
    host.completes(5, "Backup");
    assert!(dump.exists());

    let binlog: Vec<String> = source.sql("SHOW BINARY LOGS");
    let answer = host.call("get-metadata/5/Mysqldump");
    assert_eq!((answer.status, answer.header("Content-Type")), (200, JSON));
    assert_eq!(
        keys(&answer.body),
        ["LogFile", "LogPos", "GtidExecuted", "GtidSlavePos"]
    );
    let v: Value = serde_json::from_str(&answer.body).expect("JSON");
    assert_eq!(v["LogFile"].as_str(), binlog.last().map(String::as_str));
    assert!(v["LogPos"].as_i64().is_some_and(|p| p > 4), "{v}");
    assert_eq!(v["GtidExecuted"], "", "8.16");
    assert_eq!(v["GtidSlavePos"], source.value("SELECT @@gtid_binlog_pos"));
    assert_eq!(
        host.call("get-metadata/5/Mysqldump").body,
        answer.body,
        "repeatedly"
    );

    assert_eq!(
        target.value("SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = 'shop'"),
        "0",
        "untouched until Restore"
    );
    host.starts("restore/5/Mysqldump");
    host.completes(5, "Restore");
    host.call("restore/5/Mysqldump")
        .is(202, TEXT, "Restore stage already started for seed");
    host.completes(5, "Restore");
    assert_eq!(target.checksums(), source.checksums());
    assert_eq!(
        host.call("get-metadata/5/Mysqldump").body,
        answer.body,
        "after Restore as well"
    );

    host.starts("cleanup/5/Mysqldump/Target");
    host.completes(5, "Cleanup");
    assert!(!dump.exists());
    let again = host.call("cleanup/5/Mysqldump/Target");
    assert_eq!(again.status, 202, "{again:?}");
    host.completes(5, "Cleanup");
    let v: Value = serde_json::from_str(&host.call("active-seed").body).expect("JSON");
    assert_eq!(v["SeedStatus"], "Completed", "2.8");
    let numbers: Vec<&String> = v["StagesDetails"]
        .as_object()
        .expect("object")
        .keys()
        .collect();
    assert_eq!(numbers, ["0", "1", "2", "3"]);
    // The first stages keep their answers.
    for stage in ["Prepare", "Backup", "Restore"] {
        host.completes(5, stage);
    }
    // Aborting what is over is 200 and changes nothing.
    host.call("abort-seed-stage/5/Cleanup")
        .is(200, TEXT, "killed");
    host.completes(5, "Cleanup");
}

#[test]
fn the_other_side_and_other_seeds() {
    let db = Mariadb::start("127.0.0.1", "");
    let agent = Agent::start(&db);
    let host = Host(&agent);
    host.starts("prepare/1/Mysqldump/Source");
    host.completes(1, "Prepare");
    host.refuses(
        "backup/1/Mysqldump/127.0.0.2/3306",
        "backup of Mysqldump runs on the Target, and this host is the Source of seed 1",
    );
    host.refuses(
        "restore/1/Mysqldump",
        "restore runs on the Target, and this host is the Source of seed 1",
    );
    host.refuses(
        "cleanup/1/Mysqldump/Target",
        "this host is the Source of seed 1, not the Target",
    );
    host.starts("cleanup/1/Mysqldump/Source");
    host.completes(1, "Cleanup");

    // A failed backup needs a new Prepare, after which it may run once more.
    host.starts("prepare/2/Mysqldump/Target");
    host.completes(2, "Prepare");
    let closed = crate::support::free_port("127.0.0.1");
    for _ in 0..2 {
        host.starts(&format!("backup/2/Mysqldump/127.0.0.1/{closed}"));
        let v = host.ends(2, "Backup");
        assert_eq!(v["Status"], "Error");
        let text = v["Details"].as_str().expect("text");
        assert!(text.contains(&format!("127.0.0.1:{closed}")), "{text}");
        host.refuses(
            &format!("backup/2/Mysqldump/127.0.0.1/{closed}"),
            "backup of seed 2 failed before: call prepare again first",
        );
        host.refuses(
            "restore/2/Mysqldump",
            "Unable to start restore stage: backup of seed 2 is not completed",
        );
        host.refuses("get-metadata/2/Mysqldump", "seed 2 has no coordinates yet");
        let v: Value = serde_json::from_str(&host.call("active-seed").body).expect("JSON");
        assert_eq!(v["SeedStatus"], "Error", "an error is reported");
        host.starts("prepare/2/Mysqldump/Target");
        host.completes(2, "Prepare");
        host.refuses(
            "seed-stage-state/2/Backup",
            "SeedID 2 on stage Backup not found",
        );
    }
    // The source is this very server: refused before anything is copied.
    host.starts(&format!("backup/2/Mysqldump/{}/{}", db.host, db.port));
    let v = host.ends(2, "Backup");
    assert!(
        v["Status"] == "Error"
            && v["Details"]
                .as_str()
                .is_some_and(|d| d.contains("server_id")),
        "{v}"
    );

    // Nothing runs, and the abort is a success; then the place is free.
    host.starts("prepare/2/Mysqldump/Target");
    host.completes(2, "Prepare");
    host.refuses("prepare/3/Mysqldump/Target", "seed 2 holds this host");
    for _ in 0..2 {
        host.call("abort-seed-stage/2/Prepare")
            .is(200, TEXT, "killed");
    }
    host.starts("prepare/3/Mysqldump/Target");
    host.completes(3, "Prepare");
    // Late questions about earlier seeds.
    host.completes(1, "Cleanup");
    host.completes(2, "Prepare");
    host.call("abort-seed-stage/2/Prepare")
        .is(200, TEXT, "killed");
    host.refuses(
        "backup/2/Mysqldump/127.0.0.2/3306",
        "Unable to start backup stage. SeedID not found",
    );
    host.refuses(
        "post-seed-cmd/2",
        "Unable to execute post seed command. SeedID not found",
    );
    host.completes(3, "Prepare");
}

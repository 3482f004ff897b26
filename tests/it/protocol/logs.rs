//! Binary and relay logs: where they are, their contents by range, and the tail of one replica's relay logs applied to another.

use crate::support::Scratch;
use crate::support::agent::{Agent, Changes};
use crate::support::keyring::Keyring;
use crate::support::mariadb::MariadbKind;
use crate::support::mysqld::MysqldKind;
use crate::support::server::{Kind, REPL_PASSWORD, Server};
use crate::support::{processes_with, wait_for};
use base64::prelude::{BASE64_STANDARD, Engine};
use flate2::Compression;
use flate2::read::{GzDecoder, GzEncoder};
use mysql::Row;
use mysql::prelude::Queryable;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// What differs between the families.
trait Family: Kind + 'static {
    const TOOL: &str;
    const STOP: &str;
    const START: &str;
    const RESET: &str;
    /// The transactions that a replica has.
    const EXECUTED: &str;
    /// What the sample account lacks.
    const GRANT: &str;
    /// What a second application of the same log gives.
    const AGAIN: (u16, &str);

    fn change(source: &Server<Self>) -> String
    where
        Self: Sized;

    /// True if `info` of a GTID event is of a transaction that a server with `executed` does not have.
    fn is_missing(db: &Server<Self>, info: &str, executed: &str) -> bool
    where
        Self: Sized;
}

impl Family for MariadbKind {
    const TOOL: &str = "mariadb-binlog";
    const STOP: &str = "STOP SLAVE";
    const START: &str = "START SLAVE";
    const RESET: &str = "RESET SLAVE ALL";
    const EXECUTED: &str = "SELECT CONCAT(@@gtid_slave_pos, ' ', @@gtid_binlog_pos)";
    const GRANT: &str = "GRANT BINLOG REPLAY ON *.* TO 'agent'@'%'";
    const AGAIN: (u16, &str) = (500, "is applied already");

    fn change(source: &Server<Self>) -> String {
        format!(
            "CHANGE MASTER TO master_host = '{}', master_port = {}, master_user = 'repl', master_password = '{REPL_PASSWORD}', \
             master_use_gtid = slave_pos",
            source.host, source.port
        )
    }

    fn is_missing(_: &Server<Self>, info: &str, executed: &str) -> bool {
        let number = |text: &str| -> u64 {
            let digits = text.rsplit('-').next().expect("a number");
            digits.parse().expect("a number")
        };
        let (slave, _) = executed.split_once(' ').expect("two positions");
        number(info) > number(slave)
    }
}

impl Family for MysqldKind {
    const TOOL: &str = "mysqlbinlog";
    const STOP: &str = "STOP REPLICA";
    const START: &str = "START REPLICA";
    const RESET: &str = "RESET REPLICA ALL";
    const EXECUTED: &str = "SELECT @@GLOBAL.gtid_executed";
    const GRANT: &str = "GRANT BINLOG_ADMIN ON *.* TO 'agent'@'%'";
    const AGAIN: (u16, &str) = (200, "OK");

    fn change(source: &Server<Self>) -> String {
        format!(
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '{}', SOURCE_PORT = {}, SOURCE_USER = 'repl', \
             SOURCE_PASSWORD = '{REPL_PASSWORD}', SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1",
            source.host, source.port
        )
    }

    fn is_missing(db: &Server<Self>, info: &str, executed: &str) -> bool {
        let gtid = info.split('\'').nth(1).expect("a GTID in quotes");
        db.value(&format!("SELECT GTID_SUBSET('{gtid}', '{executed}')")) == "0"
    }
}

/// A source with two replicas, of which one has received more.
struct Trio<K: Family> {
    source: Server<K>,
    ahead: Server<K>,
    behind: Server<K>,
    of_ahead: Agent,
    of_behind: Agent,
}

fn http() -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(300)))
        .http_status_as_error(false);
    config.build().into()
}

fn url(agent: &Agent, path: &str) -> String {
    let joint = if path.contains('?') { '&' } else { '?' };
    agent.url(&format!("{path}{joint}token={}", agent.token()))
}

/// The value of an answer: a string, or the text of an error.
fn text_of(body: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(body).expect("JSON");
    let text = value.as_str().or(value["Message"].as_str());
    text.expect("a string").to_string()
}

fn get(agent: &Agent, path: &str) -> (u16, String) {
    let mut answer = http().get(url(agent, path)).call().expect("an answer");
    let body = answer.body_mut().with_config().limit(1 << 30);
    let body = body.read_to_string().expect("a complete body");
    (answer.status().as_u16(), text_of(&body))
}

/// The answer of a call that must give a log: its text, and the bytes in it.
fn log_of(agent: &Agent, path: &str) -> (String, Vec<u8>) {
    let (status, text) = get(agent, path);
    assert_eq!(status, 200, "{path}: {text}");
    assert!(
        text.ends_with('\n') && text.lines().all(|l| l.len() <= 76),
        "lines as base64(1) writes them"
    );
    let bytes = unpacked(&text);
    (text, bytes)
}

fn unpacked(text: &str) -> Vec<u8> {
    let zipped = BASE64_STANDARD.decode(text.replace('\n', ""));
    let mut bytes = Vec::new();
    let mut unzip = GzDecoder::new(zipped.as_deref().expect("base64"));
    unzip.read_to_end(&mut bytes).expect("gzip");
    bytes
}

fn packed(bytes: &[u8]) -> String {
    let mut zipped = Vec::new();
    let mut zip = GzEncoder::new(bytes, Compression::fast());
    zip.read_to_end(&mut zipped).expect("gzip");
    BASE64_STANDARD.encode(zipped)
}

fn apply(agent: &Agent, body: &str) -> (u16, String) {
    let to = url(agent, "/api/apply-relaylog-contents");
    let sent = http().post(to).content_type("text/plain").send(body);
    let mut answer = sent.expect("an answer");
    let body = answer.body_mut().read_to_string().expect("body");
    (answer.status().as_u16(), text_of(&body))
}

fn must_not_apply(agent: &Agent, body: &str, why: &str) {
    let (status, text) = apply(agent, body);
    assert_eq!(status, 500, "{text}");
    assert!(text.contains(why), "{why:?} in {text:?}");
}

/// What mysqlbinlog prints of a log, without comments.
fn statements<K: Family>(log: &[u8]) -> Vec<String> {
    let tool = K::rig().join(K::TOOLS).join(K::TOOL);
    let mut child = Command::new(tool)
        .args(["--no-defaults", "--verify-binlog-checksum", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect(K::TOOL);
    let (mut stdin, log) = (child.stdin.take().expect("piped"), log.to_vec());
    let writer = std::thread::spawn(move || stdin.write_all(&log));
    let out = child.wait_with_output().expect(K::TOOL);
    writer.join().expect("writes").expect("it reads all");
    assert!(out.status.success(), "{}", K::TOOL);
    without_comments(&out.stdout)
}

fn without_comments(printed: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(printed);
    let lines = text.lines().filter(|l| !l.starts_with('#'));
    lines.map(String::from).collect()
}

/// Peak memory of a process in KiB.
fn peak(agent: &Agent) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.pid())).expect("status");
    let line = status.lines().find(|l| l.starts_with("VmHWM:"));
    let number = line.and_then(|l| l.split_whitespace().nth(1));
    number.expect("VmHWM").parse().expect("a number")
}

fn column(row: &Row, name: &str) -> String {
    let bytes: Vec<u8> = row.get(name).unwrap_or_else(|| panic!("no {name}"));
    String::from_utf8_lossy(&bytes).into_owned()
}

impl<K: Family> Trio<K> {
    /// Both replicas have the source's data, and the one that will be behind has stopped.
    fn start() -> Self {
        let more = "relay_log_purge=0\n";
        let start = |host: &'static str| std::thread::spawn(move || Server::<K>::start(host, more));
        let threads = ["127.0.0.1", "127.0.0.2", "127.0.0.3"].map(start);
        let [source, ahead, behind] = threads.map(|t| t.join().expect("the server starts"));
        for replica in [&ahead, &behind] {
            replica.sql(&K::change(&source));
            replica.sql(K::START);
        }
        for statement in [
            "CREATE DATABASE shop",
            "CREATE TABLE shop.t (id INT PRIMARY KEY, v VARBINARY(64)) ENGINE=InnoDB",
            "INSERT INTO shop.t VALUES (1, 'one'), (2, 'two')",
        ] {
            source.sql(statement);
        }
        let this = Self {
            of_ahead: Agent::start(&ahead),
            of_behind: Agent::start(&behind),
            source,
            ahead,
            behind,
        };
        this.wait_for(&this.behind);
        this.behind.sql(K::STOP);
        this
    }

    fn executed(db: &Server<K>) -> String {
        db.value(K::EXECUTED).replace('\n', "")
    }

    /// Until the replica has applied all that the source has.
    fn wait_for(&self, replica: &Server<K>) {
        let last = |db| {
            let executed = Self::executed(db);
            executed.rsplit(' ').next().unwrap_or_default().to_string()
        };
        let wanted = last(&self.source);
        wait_for("the replica has all", Duration::from_secs(60), || {
            (last(replica) == wanted && !wanted.is_empty()).then_some(())
        });
    }

    /// What the replica that is behind will miss: in several relay logs, with values and texts that a client would misread.
    fn write(&self) {
        for statement in [
            "INSERT INTO shop.t VALUES (3, X'00FF0A5C21270D0A')",
            "UPDATE shop.t SET v = '\n\\\\! touch /tmp/never\n' WHERE id = 1",
            "CREATE TABLE shop.u (a INT AUTO_INCREMENT PRIMARY KEY, b VARCHAR(99)) ENGINE=InnoDB",
            "FLUSH BINARY LOGS",
        ] {
            self.source.sql(statement);
        }
        let mut conn = self.source.root();
        for statement in [
            "BEGIN",
            "INSERT INTO shop.u (b) VALUES (UUID()), ('delimiter //')",
            "DELETE FROM shop.t WHERE id = 2",
            "COMMIT",
        ] {
            conn.query_drop(statement).expect(statement);
        }
        self.wait_for(&self.ahead);
        self.ahead.unlogged("FLUSH RELAY LOGS");
        self.source.sql("INSERT INTO shop.t VALUES (4, 'four')");
        self.source.sql("INSERT INTO shop.t VALUES (5, 'five')");
    }

    /// The source is gone, and its replicas have stopped.
    fn lose_source(&self) {
        self.wait_for(&self.ahead);
        self.source.kill();
        self.ahead.sql(K::STOP);
    }

    fn files(&self) -> Vec<PathBuf> {
        let files = self.of_ahead.json("/api/mysql-relay-log-files");
        let files = files.as_array().expect("an array").iter();
        files
            .map(|f| PathBuf::from(f.as_str().expect("a string")))
            .collect()
    }

    /// Relay log and position on the one ahead of the first event that the one behind does not have.
    fn first_missing(&self) -> (String, u64) {
        let executed = Self::executed(&self.behind);
        for file in self.files() {
            let name = file.file_name().expect("a name").to_string_lossy();
            let events: Vec<Row> = self
                .ahead
                .root()
                .query(format!("SHOW RELAYLOG EVENTS IN '{name}'"))
                .expect("events");
            for event in &events {
                if column(event, "Event_type") == "Gtid"
                    && K::is_missing(&self.ahead, &column(event, "Info"), &executed)
                {
                    let position = column(event, "Pos").parse().expect("a number");
                    return (name.into_owned(), position);
                }
            }
        }
        panic!("nothing is missing after {executed}");
    }

    fn tail(&self) -> (String, Vec<u8>) {
        let (file, position) = self.first_missing();
        log_of(
            &self.of_ahead,
            &format!("/api/mysql-relaylog-contents-tail/{file}/{position}"),
        )
    }

    fn assert_equal(&self) {
        assert_eq!(Self::executed(&self.behind), Self::executed(&self.ahead));
        assert_eq!(self.behind.checksums(), self.ahead.checksums());
    }

    /// The one behind replicates from the one ahead, which goes on from the position that the relay log has given it.
    fn replicate(&self) {
        self.ahead.sql(K::RESET);
        self.behind.sql(&K::change(&self.ahead));
        self.behind.sql(K::START);
        self.ahead.sql("INSERT INTO shop.u (b) VALUES ('after')");
        wait_for("it replicates", Duration::from_secs(60), || {
            (self.behind.checksums() == self.ahead.checksums()).then_some(())
        });
    }
}

/// Sent from one replica to another, the tail gives it the same transactions and the same rows; in two parts, because a row is in the
/// way first.
fn tail_is_applied<K: Family>() {
    let trio = Trio::<K>::start();
    trio.write();
    trio.lose_source();
    let (tail, bytes) = trio.tail();
    assert!(trio.files().len() >= 3, "several relay logs");
    bad_bodies(&trio, &bytes);

    trio.behind.unlogged(K::GRANT);
    trio.behind
        .unlogged("INSERT INTO shop.t VALUES (4, 'in the way')");
    let before = Trio::executed(&trio.behind);
    let (status, text) = apply(&trio.of_behind, &tail);
    assert_eq!(status, 500, "{text}");
    for part in [
        "ERROR 1062 (23000)",
        "Duplicate entry",
        "transactions before it",
    ] {
        assert!(text.contains(part), "{part:?} in {text:?}");
    }
    assert_ne!(
        Trio::executed(&trio.behind),
        before,
        "those before it are applied"
    );
    assert_eq!(
        trio.behind
            .value("SELECT COUNT(*) FROM shop.t WHERE id = 5"),
        "0"
    );
    trio.behind.unlogged("DELETE FROM shop.t WHERE id = 4");
    let (rest, _) = trio.tail();
    assert!(rest.len() < tail.len());
    let applied = apply(&trio.of_behind, &rest);
    assert_eq!(applied, (200, "OK".into()));
    trio.assert_equal();

    let (status, text) = apply(&trio.of_behind, &tail);
    assert!(
        status == K::AGAIN.0 && text.contains(K::AGAIN.1),
        "{status} {text}"
    );
    trio.assert_equal();
    trio.replicate();
    must_not_apply(&trio.of_behind, &tail, "replication applies events");
    assert_eq!(
        trio.behind.connections_of("agent"),
        [""; 0],
        "no session is left"
    );
}

/// Nothing of them is applied.
fn bad_bodies<K: Family>(trio: &Trio<K>, tail: &[u8]) {
    let agent = &trio.of_behind;
    let before = (Trio::executed(&trio.behind), trio.behind.checksums());
    let whole = packed(tail);
    for (body, why) in [
        (String::new(), "not base64 of gzip"),
        ("%%%".into(), "not base64 of gzip"),
        (whole[..whole.len() / 2].to_string(), "not base64 of gzip"),
        (whole[..whole.len() - 4].to_string(), "not base64 of gzip"),
        (
            packed(b"INSERT INTO shop.t VALUES (9, 'x');\n"),
            "is not a binary log",
        ),
        (
            packed(&tail[..tail.len() - 7]),
            "ends within the event that begins",
        ),
        (packed(&tail[..4]), "has no event"),
        (packed(b"\xfdbin1234"), "is encrypted"),
    ] {
        must_not_apply(agent, &body, why);
    }
    // From an event that is not the first of its transaction.
    let (file, position) = trio.first_missing();
    let events: Vec<Row> = trio
        .ahead
        .root()
        .query(format!(
            "SHOW RELAYLOG EVENTS IN '{file}' FROM {position} LIMIT 2"
        ))
        .expect("events");
    let second = column(&events[1], "Pos");
    let (_, bytes) = log_of(
        &trio.of_ahead,
        &format!("/api/mysql-relaylog-contents-tail/{file}/{second}"),
    );
    must_not_apply(agent, &packed(&bytes), "begins within a transaction");
    let after = (Trio::executed(&trio.behind), trio.behind.checksums());
    assert_eq!(after, before);
}

#[test]
fn the_tail_of_a_relay_log_is_applied_mariadb() {
    tail_is_applied::<MariadbKind>();
}

#[test]
fn the_tail_of_a_relay_log_is_applied_mysql() {
    tail_is_applied::<MysqldKind>();
}

/// 50 MiB go through both agents without being held in memory.
#[test]
fn a_large_tail_is_applied_in_little_memory() {
    let trio = Trio::<MariadbKind>::start();
    trio.source
        .sql("CREATE TABLE shop.big (b VARBINARY(1024)) ENGINE=InnoDB");
    trio.source
        .sql("INSERT INTO shop.big VALUES (RANDOM_BYTES(1024))");
    for _ in 0..15 {
        trio.source
            .sql("INSERT INTO shop.big SELECT RANDOM_BYTES(1024) FROM shop.big");
    }
    trio.source
        .sql("INSERT INTO shop.big SELECT RANDOM_BYTES(1024) FROM shop.big LIMIT 8000");
    trio.lose_source();
    for agent in [&trio.of_ahead, &trio.of_behind] {
        agent.wait_looked(true);
    }
    let before = [peak(&trio.of_ahead), peak(&trio.of_behind)];
    let globals = trio.behind.globals();
    let (tail, _) = trio.tail();
    assert!(tail.len() > 50 << 20, "{} bytes", tail.len());
    let applied = apply(&trio.of_behind, &tail);
    assert_eq!(applied, (200, "OK".into()));
    trio.assert_equal();
    trio.behind.assert_globals(&globals);
    let after = [peak(&trio.of_ahead), peak(&trio.of_behind)];
    for (before, after) in before.into_iter().zip(after) {
        assert!(after < before + (32 << 10), "{before} to {after} KiB");
    }
    let file = trio.behind.datadir().join("binlog.000001");
    a_tool_ends_with_its_client(&trio.of_behind, &file.display().to_string());
    let left = std::fs::read_dir(trio.of_behind.dir.join("backup")).expect("backup-dir");
    assert_eq!(left.count(), 0, "nothing is left of the body");
}

/// A client that has gone ends the tool of its answer.
fn a_tool_ends_with_its_client(agent: &Agent, file: &str) {
    let path = format!(
        "/api/mysql-binlog-contents?binlog={file}&token={}",
        agent.token()
    );
    let mut client = TcpStream::connect((agent.address.as_str(), agent.port)).expect("connects");
    write!(client, "GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
    client.read_exact(&mut [0; 1000]).expect("the beginning");
    let tools = || processes_with(file).len();
    assert_eq!(tools(), 1);
    drop(client);
    wait_for("the tool has ended", Duration::from_secs(10), || {
        (tools() == 0).then_some(())
    });
}

/// An operator's own client in place of the account.
#[test]
fn a_command_applies_a_relay_log() {
    let db = Server::<MariadbKind>::start("127.0.0.1", "");
    db.sql("CREATE DATABASE shop");
    db.sql("FLUSH BINARY LOGS");
    let client = MariadbKind::rig().join("mdb/bin/mariadb");
    let command = format!(
        "{} --no-defaults -uroot -S {} --binary-mode",
        client.display(),
        db.socket()
    );
    let agent = |command: &str| {
        let line = format!("mysql-client-command = {command:?}");
        let changes = Changes {
            lines: vec![("classic", line)],
            ..Changes::default()
        };
        Agent::start_with(&db, &changes)
    };
    let first = agent(&command);
    let (log, _) = log_of(
        &first,
        "/api/mysql-binlog-binary-contents?binlog=binlog.000001",
    );
    db.sql("RESET MASTER");
    // The schema exists: the server's message comes back.
    must_not_apply(&first, &log, "ERROR 1007");
    db.unlogged("DROP DATABASE shop");
    assert_eq!(apply(&first, &log), (200, "OK".into()));
    assert_eq!(db.sql("SHOW DATABASES LIKE 'shop'").len(), 1);
    must_not_apply(&agent("exit 3"), &log, "exit status 3");
}

/// Where the logs are, and what is in them.
fn logs_are_served<K: Family>() {
    let trio = Trio::<K>::start();
    trio.write();
    trio.wait_for(&trio.ahead);
    let (agent, db) = (&trio.of_ahead, &trio.ahead);
    let datadir = db.datadir();
    let index = agent.json("/api/mysql-relay-log-index-file");
    assert_eq!(index, datadir.join("relay.index").display().to_string());
    db.sql(K::STOP);
    let files = trio.files();
    let text = std::fs::read_to_string(datadir.join("relay.index")).expect("index");
    let listed = text.lines().map(|l| datadir.join(&l[2..]));
    assert_eq!(files, listed.collect::<Vec<_>>());
    let last = files.last().expect("a file");
    let end = serde_json::json!({
        "LogFile": last,
        "LogPos": last.metadata().expect("it exists").len(),
        "Type": 1,
    });
    assert_eq!(agent.json("/api/mysql-relay-log-end-coordinates"), end);
    contents(&trio);
    bad_requests(&trio);

    // With MySQL down, also for an agent that has seen it up.
    db.down();
    assert_eq!(agent.json("/api/mysql-relay-log-index-file"), index);
    assert_eq!(trio.files(), files);
    std::fs::write(datadir.join("relay.index"), "").expect("index");
    assert!(agent.json("/api/mysql-relay-log-files").is_null());
    let why = agent.error("/api/mysql-relay-log-end-coordinates");
    assert!(why.contains("names no relay log"), "{why}");
}

fn contents<K: Family>(trio: &Trio<K>) {
    let (agent, db) = (&trio.of_ahead, &trio.ahead);
    db.sql("FLUSH BINARY LOGS");
    let events: Vec<Row> = db
        .root()
        .query("SHOW BINLOG EVENTS IN 'binlog.000001'")
        .expect("events");
    let gtid = |e: &&Row| column(e, "Event_type") == "Gtid";
    let position = |e: &Row| column(e, "Pos");
    let gtids: Vec<String> = events.iter().filter(gtid).map(position).collect();
    let (start, stop) = (&gtids[1], &gtids[gtids.len() - 1]);
    let file = db.datadir().join("binlog.000001");
    let tool = K::rig().join(K::TOOLS).join(K::TOOL);
    for (query, options) in [
        (
            format!("&start={start}&stop={stop}"),
            vec![
                format!("--start-position={start}"),
                format!("--stop-position={stop}"),
            ],
        ),
        (
            format!("&start={start}"),
            vec![format!("--start-position={start}")],
        ),
        (String::new(), vec![]),
        ("&start=4&stop=".into(), vec![]),
    ] {
        let query = format!("?binlog=binlog.000001{query}");
        let (_, text) = log_of(agent, &format!("/api/mysql-binlog-contents{query}"));
        let mut direct = Command::new(&tool);
        let direct = direct.arg("--no-defaults").args(options).arg(&file);
        let direct = direct.output().expect(K::TOOL).stdout;
        assert_eq!(
            String::from_utf8_lossy(&text),
            String::from_utf8_lossy(&direct)
        );
        let (_, bytes) = log_of(agent, &format!("/api/mysql-binlog-binary-contents{query}"));
        assert_eq!(statements::<K>(&bytes), without_comments(&text), "{query}");
    }
    // A complete file is sent as it is; two are one log, whose statements are those of both.
    let (_, bytes) = log_of(
        agent,
        "/api/mysql-binlog-binary-contents?binlog=binlog.000001",
    );
    assert_eq!(bytes, std::fs::read(&file).expect("binlog"));
    let second = db.datadir().join("binlog.000002");
    let query = format!("binlog={}&binlog=binlog.000002", file.display());
    let (_, both) = log_of(agent, &format!("/api/mysql-binlog-binary-contents?{query}"));
    assert_eq!(
        both.len() as u64,
        bytes.len() as u64 + second.metadata().expect("it").len() - 4
    );
    statements::<K>(&both);
    // A relay log from its second transaction on: rows can be applied only with the source's format description.
    let (_, text) = log_of(
        agent,
        &format!(
            "/api/mysql-relaylog-contents-tail/{}/0",
            trio.files()[0].file_name().expect("name").to_string_lossy()
        ),
    );
    statements::<K>(&text);
}

fn bad_requests<K: Family>(trio: &Trio<K>) {
    let agent = &trio.of_ahead;
    let relay = trio.files()[0].clone();
    let name = relay.file_name().expect("a name").to_string_lossy();
    let size = relay.metadata().expect("it exists").len();
    for (path, why) in [
        (
            format!("relaylog-contents-tail/{name}/x"),
            "Cannot parse startPosition",
        ),
        (
            format!("relaylog-contents-tail/{name}/-4"),
            "Cannot parse startPosition",
        ),
        (
            format!("relaylog-contents-tail/{name}/2"),
            "before the first event",
        ),
        (
            format!("relaylog-contents-tail/{name}/5"),
            "in the middle of an event",
        ),
        (
            format!("relaylog-contents-tail/{name}/{}", size + 1),
            "beyond the last event",
        ),
        ("relaylog-contents-tail/relay.999999/4".into(), "is not in"),
        (
            "relaylog-contents-tail/..%5Crelay.000001/4".into(),
            "is not in",
        ),
        (
            "relaylog-contents-tail/relay-log.info/4".into(),
            "is not in",
        ),
        ("binlog-contents".into(), "No binlog files provided"),
        ("binlog-contents?binlog=".into(), "No binlog files provided"),
        ("binlog-contents?binlog=/etc/passwd".into(), "is not in"),
        (
            "binlog-contents?binlog=../data/binlog.000001".into(),
            "is not in",
        ),
        ("binlog-contents?binlog=--help".into(), "is not in"),
        (
            "binlog-contents?binlog=binlog.000001%00".into(),
            "is not in",
        ),
        (
            "binlog-contents?binlog=binlog.000001;id".into(),
            "is not in",
        ),
        (
            "binlog-contents?binlog=binlog.000001&start=1e3".into(),
            "Cannot parse start",
        ),
        (
            "binlog-contents?binlog=binlog.000001&stop=77777777".into(),
            "stop 77777777 is beyond",
        ),
        (
            "binlog-binary-contents?binlog=binlog.000001&start=6".into(),
            "start 6 is in the middle",
        ),
        (
            "binlog-binary-contents?binlog=binlog.000001&binlog=ib_logfile0".into(),
            "is not in",
        ),
    ] {
        let (status, text) = get(agent, &format!("/api/mysql-{path}"));
        assert_eq!(status, 500, "{path}: {text}");
        assert!(text.contains(why), "{path}: {why:?} in {text:?}");
    }
    let outside = "/api/mysql-relaylog-contents-tail/%2Fetc%2Fpasswd/4";
    assert_eq!(agent.call(outside).0, 404);
}

#[test]
fn logs_are_served_mariadb() {
    logs_are_served::<MariadbKind>();
}

#[test]
fn logs_are_served_mysql() {
    logs_are_served::<MysqldKind>();
}

/// Logs that only their server can read are an error with a reason; compressed transactions are no obstacle.
#[test]
fn compressed_logs_are_served() {
    let maria = Server::<MariadbKind>::start(
        "127.0.0.1",
        "log_bin_compress=1\nlog_bin_compress_min_len=10\nbinlog_format=row\n",
    );
    let mysql = Server::<MysqldKind>::start("127.0.0.2", "binlog_transaction_compression=ON\n");
    compressed(&maria);
    compressed(&mysql);
}

#[test]
fn encrypted_logs_are_an_error_with_a_reason() {
    let keyring = Keyring::new();
    let mysql = format!("{}binlog_encryption=ON\n", keyring.cnf());
    let mysql = Server::<MysqldKind>::start("127.0.0.2", &mysql);
    let keys = Scratch::new("keys");
    let file = keys.0.join("keys");
    let key = "770a8a65da156d24ee2a093277530142";
    std::fs::write(&file, format!("1;{key}\n")).expect("keys");
    let maria = format!(
        "plugin_load_add=file_key_management\nfile_key_management_filename={}\nencrypt_binlog=1\n",
        file.display()
    );
    let maria = Server::<MariadbKind>::start("127.0.0.1", &maria);
    encrypted(&maria);
    encrypted(&mysql);
}

fn encrypted<K: Family>(db: &Server<K>) {
    let agent = Agent::start(db);
    db.sql("CREATE DATABASE shop");
    for what in ["contents", "binary-contents"] {
        let why = agent.error(&format!("/api/mysql-binlog-{what}?binlog=binlog.000001"));
        assert!(why.contains("is encrypted"), "{why}");
    }
}

fn compressed<K: Family>(db: &Server<K>) {
    let agent = Agent::start(db);
    db.sql("CREATE DATABASE shop");
    db.sql("CREATE TABLE shop.t (v TEXT)");
    db.sql("INSERT INTO shop.t VALUES (REPEAT('abc', 10000))");
    db.sql("FLUSH BINARY LOGS");
    let (_, text) = log_of(&agent, "/api/mysql-binlog-contents?binlog=binlog.000001");
    let (_, bytes) = log_of(
        &agent,
        "/api/mysql-binlog-binary-contents?binlog=binlog.000001",
    );
    assert_eq!(statements::<K>(&bytes), without_comments(&text));
    assert!(bytes.len() < 20_000, "{} bytes", bytes.len());
}

//! A scratch server of either family, by tests/rig/mariadb.sh or mysql.sh.

use super::{Scratch, free_port, project};
use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder, Row};
use std::marker::PhantomData;
use std::path::PathBuf;
use std::process::Command;

/// Password of the agent's account on every test server.
pub const AGENT_PASSWORD: &str = "agent-s3cret-pw";
/// Password of the replication account on every source.
pub const REPL_PASSWORD: &str = "repl-s3cret-pw";

/// What differs between the two families.
pub trait Kind: Send + Sync {
    /// The script in tests/rig.
    const SCRIPT: &str;
    /// The tree of the rig, fetched at the first call.
    fn rig() -> PathBuf;
    /// The directory of the tools below it.
    const TOOLS: &str;
    /// The dump tool among them.
    const DUMP: &str;
    /// The statement for the agent's account in contrib/demo.
    const ACCOUNT: &str;
    /// What asks for the replica's status.
    const REPLICA_STATUS: &str;
    /// Its column for the thread that reads from the source.
    const IO_RUNNING: &str;
    /// Its column for the thread that applies.
    const SQL_RUNNING: &str;
}

/// A server that hangs; it goes on when this is dropped, also when the test fails.
pub struct Frozen(String);

impl Frozen {
    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.0]).status();
        assert!(sent.expect("kill").success(), "kill {signal} {}", self.0);
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.signal("-CONT");
    }
}

/// What an agent must know of the server that it is started beside.
pub trait Database {
    fn host(&self) -> &str;
    fn port(&self) -> u16;
    /// The command line for `service-*-command`.
    fn service(&self, word: &str) -> String;
    /// Where its tools are.
    fn tool_dir(&self) -> PathBuf;
}

pub struct Server<K: Kind> {
    pub host: String,
    pub port: u16,
    pub dir: PathBuf,
    _scratch: Scratch,
    kind: PhantomData<K>,
}

impl<K: Kind> Server<K> {
    /// A running server on `host` (a loopback address) with more lines for its my.cnf; it has the agent's account with exactly
    /// the README's grants, and the replication account.
    pub fn start(host: &str, more: &str) -> Self {
        Self::start_on(host, more, |_| {})
    }

    /// The same; `place` is told the directory before anything is put into it.
    pub fn start_on(host: &str, more: &str, place: impl FnOnce(&std::path::Path)) -> Self {
        let server = Self::start_bare_on(host, more, place);
        server.make_accounts();
        server
    }

    /// The agent's account and the replication account.
    pub fn make_accounts(&self) {
        for (file, password) in [
            (K::ACCOUNT, AGENT_PASSWORD),
            ("replication-account.sql", REPL_PASSWORD),
        ] {
            let text =
                std::fs::read_to_string(project().join("contrib/demo").join(file)).expect(file);
            let text: String = text
                .lines()
                .filter(|l| !l.trim_start().starts_with("--"))
                .collect::<Vec<_>>()
                .join("\n");
            for statement in text
                .replace("change-me", password)
                .split(';')
                .filter(|s| !s.trim().is_empty())
            {
                self.unlogged(statement);
            }
        }
    }

    /// Without any account of ours.
    pub fn start_bare(host: &str, more: &str) -> Self {
        Self::start_bare_on(host, more, |_| {})
    }

    fn start_bare_on(host: &str, more: &str, place: impl FnOnce(&std::path::Path)) -> Self {
        let scratch = Scratch::new("db");
        place(&scratch.0);
        let server = Self {
            host: host.into(),
            port: free_port(host),
            dir: scratch.0.join("db"),
            _scratch: scratch,
            kind: PhantomData,
        };
        let extra = server.dir.with_extension("cnf");
        std::fs::write(&extra, more).expect("extra lines");
        server.control(&["init"], Some(&extra));
        server.control(&["start"], None);
        server
    }

    fn script() -> PathBuf {
        project().join("tests/rig").join(K::SCRIPT)
    }

    fn control(&self, words: &[&str], extra: Option<&PathBuf>) {
        let mut cmd = Command::new(Self::script());
        cmd.args(words).arg(&self.dir).arg(self.port.to_string());
        if let Some(extra) = extra {
            cmd.arg(extra);
        }
        let out = cmd
            .env("RIG", K::rig())
            .env("BIND", &self.host)
            .output()
            .expect(K::SCRIPT);
        assert!(
            out.status.success(),
            "{} {words:?}: {}",
            K::SCRIPT,
            String::from_utf8_lossy(&out.stderr)
        );
    }

    /// Starts it as somebody would who knows nothing of seeds; false if it does not come up.
    pub fn try_up(&self) -> bool {
        let mut cmd = Command::new(Self::script());
        cmd.arg("start").arg(&self.dir).arg(self.port.to_string());
        let out = cmd.env("RIG", K::rig()).output().expect(K::SCRIPT);
        out.status.success()
    }

    pub fn up(&self) {
        self.control(&["start"], None);
    }

    pub fn down(&self) {
        self.control(&["stop"], None);
    }

    pub fn kill(&self) {
        self.control(&["kill"], None);
    }

    /// Lets it hang (SIGSTOP).
    pub fn freeze(&self) -> Frozen {
        let pid = std::fs::read_to_string(self.dir.join("run/pid")).expect("pid");
        let frozen = Frozen(pid.trim().to_string());
        frozen.signal("-STOP");
        frozen
    }

    /// The command line for `service-*-command`.
    pub fn service(&self, word: &str) -> String {
        format!(
            "RIG='{}' '{}' {word} '{}' {}",
            K::rig().display(),
            Self::script().display(),
            self.dir.display(),
            self.port
        )
    }

    pub fn socket(&self) -> String {
        self.dir.join("run/mysql.sock").display().to_string()
    }

    pub fn datadir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// A session as root over the socket.
    pub fn root(&self) -> Conn {
        Conn::new(
            OptsBuilder::new()
                .user(Some("root"))
                .socket(Some(self.socket())),
        )
        .expect("root logs in")
    }

    /// A session that uses `table`: who would drop or alter it waits until the session ends.
    pub fn hold(&self, table: &str) -> Conn {
        let mut hold = self.root();
        hold.query_drop("BEGIN").expect("begin");
        hold.query_drop(format!("SELECT COUNT(*) FROM {table}"))
            .expect("use");
        hold
    }

    /// Runs one statement as root; the first column of each row.
    pub fn sql(&self, statement: &str) -> Vec<String> {
        let rows: Vec<Row> = self
            .root()
            .query(statement)
            .unwrap_or_else(|e| panic!("{statement}: {e}"));
        rows.into_iter()
            .map(|r| {
                r.get_opt::<Option<String>, _>(0)
                    .and_then(Result::ok)
                    .flatten()
                    .unwrap_or_default()
            })
            .collect()
    }

    /// The first column of the first row; empty if there is none.
    pub fn value(&self, statement: &str) -> String {
        self.sql(statement).into_iter().next().unwrap_or_default()
    }

    /// Runs one statement as root without writing it to the binary log.
    pub fn unlogged(&self, statement: &str) {
        let mut conn = self.root();
        conn.query_drop("SET sql_log_bin = 0").expect("root may");
        conn.query_drop(statement)
            .unwrap_or_else(|e| panic!("{statement}: {e}"));
    }

    /// A column of the replica's status.
    pub fn replica_status(&self, column: &str) -> String {
        let row: Option<Row> = self
            .root()
            .query_first(K::REPLICA_STATUS)
            .expect(K::REPLICA_STATUS);
        row.and_then(|r| {
            r.get_opt::<Option<String>, _>(column)
                .and_then(Result::ok)
                .flatten()
        })
        .unwrap_or_default()
    }

    /// CHECKSUM TABLE of every base table that is not the server's own, as `schema.table checksum`.
    pub fn checksums(&self) -> Vec<String> {
        let mut conn = self.root();
        let tables: Vec<(String, String)> = conn
            .query(
                "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE TABLE_TYPE <> 'VIEW' AND TABLE_SCHEMA NOT IN \
                 ('information_schema','performance_schema','mysql','sys') ORDER BY 1, 2",
            )
            .expect("tables");
        let sum = |(schema, table): (String, String)| {
            let row: Option<(String, Option<u64>)> = conn
                .query_first(format!(
                    "CHECKSUM TABLE `{}`.`{}`",
                    schema.replace('`', "``"),
                    table.replace('`', "``")
                ))
                .expect("CHECKSUM TABLE");
            format!("{schema}.{table} {:?}", row.and_then(|r| r.1))
        };
        tables.into_iter().map(sum).collect()
    }

    /// Takes back what sections of the sample account give: a feature that is not used must not need them.
    pub fn revoke(&self, sections: &[&str]) {
        let file = project().join("contrib/demo").join(K::ACCOUNT);
        let text = std::fs::read_to_string(file).expect(K::ACCOUNT);
        for section in text.split("\n-- [").skip(1) {
            let (name, rest) = section.split_once(']').expect("a section has a name");
            if !sections.contains(&name) {
                continue;
            }
            let lines = rest.lines().skip(1).filter(|l| !l.starts_with("--"));
            let statements = lines.collect::<Vec<_>>().join(" ");
            for grant in statements.split(';').filter(|s| !s.trim().is_empty()) {
                let revoke = grant.trim().replacen("GRANT", "REVOKE", 1);
                self.unlogged(&revoke.replace(" TO 'agent'", " FROM 'agent'"));
            }
        }
    }

    /// Every global variable that no seed may leave changed, as `name = value`.
    pub fn globals(&self) -> Vec<String> {
        let volatile = |name: &str| {
            [
                "gtid_",
                "innodb_buffer_pool_load",
                "innodb_file_format_max",
                "timestamp",
            ]
            .iter()
            .any(|v| name.starts_with(v))
        };
        let mut conn = self.root();
        conn.query_drop(
            "SET SESSION sql_select_limit = 18446744073709551615, max_join_size = 18446744073709551615, sql_big_selects = 1 \
             /*!50708 , max_execution_time = 0 */ /*M!100101 , max_statement_time = 0 */",
        )
        .expect("session");
        let rows: Vec<(String, String)> = conn.query("SHOW GLOBAL VARIABLES").expect("globals");
        let rows = rows.into_iter().filter(|(name, _)| !volatile(name));
        rows.map(|(name, value)| format!("{name} = {value}"))
            .collect()
    }

    /// That they are as [`Server::globals`] gave them `before`.
    pub fn assert_globals(&self, before: &[String]) {
        let now = self.globals();
        let changed = now.iter().filter(|v| !before.contains(v));
        assert_eq!(changed.collect::<Vec<_>>(), [""; 0], "settings as before");
        assert_eq!(now.len(), before.len());
    }

    /// Gives it global values that a load must change; those that it then has.
    pub fn set_hostile_globals(&self) -> Vec<String> {
        for setting in [
            "innodb_file_per_table = 0",
            "innodb_default_row_format = compact",
            "max_prepared_stmt_count = 0",
            "lock_wait_timeout = 1",
            "autocommit = 0",
        ] {
            self.sql(&format!("SET GLOBAL {setting}"));
        }
        self.globals()
    }

    /// Connections of an account, the asker's own left out.
    pub fn connections_of(&self, user: &str) -> Vec<String> {
        self.sql(&format!(
            "SELECT CONCAT(ID, ' ', HOST, ' ', COMMAND, ' ', IFNULL(LEFT(INFO, 80), ''), ' ', IFNULL(STATE, '')) FROM information_schema.PROCESSLIST \
             WHERE USER = '{user}' AND ID <> CONNECTION_ID()"
        ))
    }
}

impl<K: Kind> Database for Server<K> {
    fn host(&self) -> &str {
        &self.host
    }

    fn port(&self) -> u16 {
        self.port
    }

    fn service(&self, word: &str) -> String {
        Self::service(self, word)
    }

    fn tool_dir(&self) -> PathBuf {
        K::rig().join(K::TOOLS)
    }
}

impl<K: Kind> Drop for Server<K> {
    fn drop(&mut self) {
        let mut cmd = Command::new(Self::script());
        let _ = cmd
            .arg("kill")
            .arg(&self.dir)
            .arg(self.port.to_string())
            .env("RIG", K::rig())
            .output();
    }
}

//! What becomes of the target's replication: the options that its channel has, the account, an empty GTID set, and what is
//! found before anything is touched.

use super::by_command::Pair;
use crate::support::agent::{Agent, Changes};
use crate::support::mariadb::MariadbKind;
use crate::support::mysqld::MysqldKind;
use crate::support::pair::state_of;
use crate::support::player::Player;
use crate::support::server::{Kind, REPL_PASSWORD};
use crate::support::{free_port, wait_for};
use mysql::prelude::Queryable;
use mysql::{Row, Value};
use std::os::unix::fs::OpenOptionsExt;
use std::process::Output;
use std::time::{Duration, Instant};

/// A seed that must not touch anything.
struct Refused {
    what: &'static str,
    /// What is done on the source and on the target before, and after.
    source: &'static [&'static str],
    target: &'static [&'static str],
    after: &'static [&'static str],
    user: &'static str,
    password: &'static str,
    more: &'static [&'static str],
    /// What is printed; the exit code is 0 if nothing stands in the way.
    says: &'static str,
    code: i32,
}

const CASE: Refused = Refused {
    what: "",
    source: &[],
    target: &[],
    after: &[],
    user: "repl",
    password: REPL_PASSWORD,
    more: &[],
    says: "",
    code: 1,
};

fn text(out: &Output) -> String {
    [&out.stdout, &out.stderr]
        .map(|t| String::from_utf8_lossy(t).into_owned())
        .concat()
}

fn run<K: Kind>(pair: &Pair<K>, user: &str, password: &str, more: &[&str]) -> Output {
    let file = pair.password_file("case");
    let mut options = std::fs::OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(0o600);
    let mut opened = options.open(&file).expect("password file");
    std::io::Write::write_all(&mut opened, password.as_bytes()).expect("password file");
    // With their tokens the agents need not register first.
    let token = |agent: &Agent| agent.dir.join("token").display().to_string();
    let (source, target) = (token(&pair.source), token(&pair.target));
    let words = [
        "--replication-user",
        user,
        "--replication-password-file",
        &file,
        "--source-token-file",
        &source,
        "--target-token-file",
        &target,
    ];
    pair.run(&[&words, more].concat())
}

fn refuse<K: Kind>(pair: &Pair<K>, cases: &[Refused]) {
    for c in cases {
        println!("--- {}", c.what);
        c.source.iter().for_each(|s| pair.source_db.unlogged(s));
        c.target.iter().for_each(|s| pair.target_db.unlogged(s));
        let replicates = pair.target_db.sql(K::REPLICA_STATUS).len();
        let files = files(pair);
        let begin = Instant::now();
        let out = run(pair, c.user, c.password, c.more);
        let printed = text(&out);
        assert_eq!(out.status.code(), Some(c.code), "{}: {printed}", c.what);
        assert!(printed.contains(c.says), "{}: {printed}", c.what);
        assert!(begin.elapsed() < Duration::from_secs(25), "{}", c.what);
        assert!(!printed.contains("Prepare"), "{}: {printed}", c.what);
        assert_eq!(
            pair.target_db.sql(K::REPLICA_STATUS).len(),
            replicates,
            "{}",
            c.what
        );
        let left = self::files(pair);
        assert_eq!(left, files, "{}: no trace of the trial", c.what);
        c.after.iter().for_each(|s| pair.target_db.unlogged(s));
    }
}

/// What a channel leaves in the datadir.
fn files<K: Kind>(pair: &Pair<K>) -> Vec<String> {
    let entries = std::fs::read_dir(pair.target_db.datadir()).expect("datadir");
    let names = entries.map(|e| e.expect("entry").file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|n| n.contains("probe")).collect();
    names.sort();
    names
}

/// One row as `column value`, of which those whose column is in `columns`.
fn row<K: Kind>(pair: &Pair<K>, query: &str, columns: &[&str]) -> Vec<String> {
    let row: Option<Row> = pair.target_db.root().query_first(query).expect("query");
    let row = row.unwrap_or_else(|| panic!("{query}: no row"));
    let value = |column: &&str| {
        let value: Value = row.get(*column).unwrap_or_else(|| panic!("no {column}"));
        let value = value.as_sql(true);
        format!("{column} {}", value.trim_matches('\''))
    };
    columns.iter().map(value).collect()
}

/// The target replicates: what the source writes arrives, however long it waits for it.
fn assert_replicates<K: Kind>(pair: &Pair<K>, threads: [&str; 2]) {
    for thread in threads {
        assert_eq!(pair.target_db.replica_status(thread), "Yes");
    }
}

const NO_PRIVILEGE: Refused = Refused {
    what: "an account without the privilege",
    source: &[
        "CREATE USER none@'%' IDENTIFIED BY 'pw'",
        "CREATE USER other@'%' IDENTIFIED BY 'pw'",
    ],
    user: "none",
    password: "pw",
    more: &["--dry-run"],
    says: "without REPLICATION SLAVE, and no role that is active at its login has it",
    ..CASE
};
const EMOJI: Refused = Refused {
    what: "a password that no server can send",
    more: &["--dry-run"],
    password: "p\u{1f511}w",
    says: "a character of 4 bytes in UTF-8",
    ..CASE
};
const ELSEWHERE: Refused = Refused {
    what: "an account of another network",
    source: &[
        "CREATE USER away@'10.99.%' IDENTIFIED BY 'pw'",
        "GRANT REPLICATION SLAVE ON *.* TO away@'10.99.%'",
    ],
    user: "away",
    password: "pw",
    says: "Last_IO_Error 1045: ",
    ..CASE
};
const WRONG: Refused = Refused {
    what: "a wrong password",
    password: "wrong",
    says: "the account must exist for the target's address",
    ..CASE
};
const NEEDS_CERTIFICATE: Refused = Refused {
    what: "an account that wants a client's certificate",
    source: &[
        "CREATE USER x509@'%' IDENTIFIED BY 'pw' REQUIRE X509",
        "GRANT REPLICATION SLAVE ON *.* TO x509@'%'",
    ],
    user: "x509",
    password: "pw",
    more: &["--dry-run"],
    says: "must show a certificate",
    ..CASE
};

const TLS_ONLY: Refused = Refused {
    what: "a source that takes connections by TLS only",
    source: &["SET GLOBAL require_secure_transport = ON"],
    more: &["--dry-run"],
    says: "set require_secure_transport = OFF on a server that they reach by TCP, with REQUIRE SSL for the accounts",
    ..CASE
};
const NOT_TLS_ONLY: Refused = Refused {
    what: "and no longer",
    source: &["SET GLOBAL require_secure_transport = OFF"],
    more: &["--dry-run"],
    code: 0,
    ..CASE
};

#[test]
fn mariadb() {
    let port = free_port("127.0.0.2");
    let pair = Pair::<MariadbKind>::start_with(
        "gtid_domain_id=5\n",
        &super::xtrabackup::changes(port).lines,
    );
    let threads = ["Slave_IO_Running", "Slave_SQL_Running"];
    // A source that has written nothing: the empty position.
    for db in [&pair.source_db, &pair.target_db] {
        db.sql("RESET MASTER");
    }
    let method = ["--method", "Mysqldump"];
    let out = pair.seed(&[&method[..], &["--replication", "gtid"]].concat());
    assert_eq!(out.status.code(), Some(0));
    let printed = text(&out);
    assert!(
        printed.contains("starting at an empty GTID set"),
        "{printed}"
    );
    assert!(
        printed.contains("the target can replicate from"),
        "{printed}"
    );
    assert_eq!(pair.target_db.replica_status("Using_Gtid"), "Slave_Pos");
    assert_replicates(&pair, threads);
    pair.source_db.sql("CREATE DATABASE shop");
    wait_for("the first transaction", Duration::from_secs(20), || {
        (!pair.target_db.sql("SHOW DATABASES LIKE 'shop'").is_empty()).then_some(())
    });
    pair.target_db.sql("STOP SLAVE");
    pair.target_db.sql("RESET SLAVE ALL");

    refuse(
        &pair,
        &[
            NO_PRIVILEGE,
            Refused {
                what: "by a role that another role has",
                source: &[
                    "CREATE ROLE inner_role",
                    "GRANT REPLICATION SLAVE ON *.* TO inner_role",
                    "CREATE ROLE outer_role",
                    "GRANT inner_role TO outer_role",
                    "GRANT outer_role TO none@'%'",
                    "SET DEFAULT ROLE outer_role FOR none@'%'",
                ],
                user: "none",
                password: "pw",
                more: &["--dry-run"],
                says: "was not tested: --dry-run changes nothing",
                code: 0,
                ..CASE
            },
            Refused {
                what: "by a role that is not active at the login",
                source: &["GRANT outer_role TO other@'%'"],
                user: "other",
                password: "pw",
                more: &["--dry-run"],
                says: "no role that is active at its login has it",
                ..CASE
            },
            Refused {
                what: "by PUBLIC",
                source: &["GRANT REPLICATION SLAVE ON *.* TO PUBLIC"],
                user: "other",
                password: "pw",
                more: &["--dry-run"],
                code: 0,
                ..CASE
            },
            EMOJI,
            Refused {
                says: "nor the server (require_secure_transport = ON) demands TLS",
                ..TLS_ONLY
            },
            NOT_TLS_ONLY,
            ELSEWHERE,
            WRONG,
            Refused {
                what: "TLS from a source without",
                more: &["--dry-run", "--replication-tls"],
                says: "the source's server has no certificate",
                ..CASE
            },
            Refused {
                what: "an account that wants TLS from a source without",
                source: &[
                    "CREATE USER tls@'%' IDENTIFIED BY 'pw' REQUIRE SSL",
                    "GRANT REPLICATION SLAVE ON *.* TO tls@'%'",
                ],
                user: "tls",
                password: "pw",
                more: &["--dry-run"],
                says: "the source's server has no certificate",
                ..CASE
            },
            NEEDS_CERTIFICATE,
            Refused {
                what: "the source is among the ignored servers",
                target: &["CHANGE MASTER TO MASTER_HOST='nowhere', IGNORE_SERVER_IDS=(7,8)"],
                more: &["--dry-run", "--force"],
                says: "replication options of the target kept: IGNORE_SERVER_IDS=(7,8)",
                code: 0,
                ..CASE
            },
            Refused {
                what: "the source's domain is ignored",
                target: &["CHANGE MASTER TO IGNORE_SERVER_IDS=(), IGNORE_DOMAIN_IDS=(5)"],
                more: &["--dry-run", "--force"],
                says: "IGNORE_DOMAIN_IDS=(5), and the source writes with gtid_domain_id = 5",
                ..CASE
            },
            Refused {
                what: "the source's domain is not among those that count",
                target: &["CHANGE MASTER TO IGNORE_DOMAIN_IDS=(), DO_DOMAIN_IDS=(1,2)"],
                more: &["--dry-run", "--force"],
                says: "DO_DOMAIN_IDS=(1,2), and the source writes with gtid_domain_id = 5",
                ..CASE
            },
        ],
    );
    let id = pair.source_db.value("SELECT @@server_id");
    pair.target_db.sql(&format!(
        "CHANGE MASTER TO DO_DOMAIN_IDS=(), IGNORE_SERVER_IDS=(7,{id})"
    ));
    let out = pair.seed(&["--dry-run", "--force"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(text(&out).contains(&format!("and {id} is the source")));
    pair.target_db.sql("RESET SLAVE ALL");

    locked(&pair);
    locked_accounts(
        &pair,
        "mysql.global_priv",
        "SHOW PROCESSLIST there shows what it waits for",
    );

    // TLS, from here on: the source gets a certificate.
    pair.source_db.down();
    let certificates = crate::support::certificates::Certificates::make("replication");
    let pem = |name: &str| {
        let to = pair.source_db.dir.join(name);
        std::fs::copy(certificates.0.join(name), &to).expect("certificate");
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&to, std::fs::Permissions::from_mode(0o644)).expect("mode");
        to.display().to_string()
    };
    let (ca, a) = (pem("ca.pem"), pem("a.pem"));
    let cnf = pair.source_db.dir.join("my.cnf");
    let lines = std::fs::read_to_string(&cnf).expect("my.cnf");
    let lines = lines.replace(
        "[mysqld]\n",
        &format!("[mysqld]\nssl_ca={ca}\nssl_cert={a}\nssl_key={a}\n"),
    );
    std::fs::write(&cnf, lines).expect("my.cnf");
    pair.source_db.up();

    let kept = [
        "SQL_Delay 2",
        "Connect_Retry 17",
        "Slave_heartbeat_period 7.000",
        "Master_SSL_Allowed Yes",
        "Replicate_Ignore_Server_Ids 7, 8",
        "Replicate_Ignore_Domain_Ids 9",
        "Replicate_Ignore_DB noise",
        "Master_User tls",
    ];
    let columns: Vec<&str> = kept
        .iter()
        .map(|k| k.split_once(' ').expect("a value").0)
        .collect();
    pair.target_db.sql(
        "CHANGE MASTER TO MASTER_HOST='nowhere', MASTER_USER='x', MASTER_DELAY=2, MASTER_CONNECT_RETRY=17, \
         MASTER_HEARTBEAT_PERIOD=7, IGNORE_SERVER_IDS=(7,8), IGNORE_DOMAIN_IDS=(9)",
    );
    pair.target_db
        .sql("SET GLOBAL replicate_ignore_db = 'noise'");
    for (method, filters) in [("Mysqldump", "noise"), ("Xtrabackup", "")] {
        let out = run(&pair, "tls", "pw", &["--force", "--method", method]);
        let printed = text(&out);
        assert_eq!(out.status.code(), Some(0), "{method}: {printed}");
        for part in [
            "replication options of the target kept: MASTER_DELAY=2, MASTER_CONNECT_RETRY=17, MASTER_HEARTBEAT_PERIOD=7.000,",
            "IGNORE_SERVER_IDS=(7,8), IGNORE_DOMAIN_IDS=(9)",
            "the target replicates with filters (Replicate_Ignore_DB = noise)",
        ] {
            assert!(printed.contains(part), "{method}: {part}: {printed}");
        }
        let wanted = kept.map(|k| k.replace("noise", filters));
        let query = "SHOW ALL SLAVES STATUS";
        assert_eq!(row(&pair, query, &columns), wanted, "{method}");
        assert_replicates(&pair, threads);
    }
    // The account that is there, by an option that a new host resets.
    let out = pair.run(&["--force", "--method", "Mysqldump"]);
    assert_eq!(out.status.code(), Some(0));
    assert_eq!(
        row(&pair, "SHOW ALL SLAVES STATUS", &columns),
        kept.map(|k| k.replace("noise", ""))
    );
    assert_replicates(&pair, threads);
    // TLS because it is asked for, and not because the account or the channel before wants it.
    for statement in ["STOP SLAVE", "RESET SLAVE ALL"] {
        pair.target_db.sql(statement);
    }
    let more = ["--force", "--method", "Mysqldump", "--replication-tls"];
    let out = run(&pair, "repl", REPL_PASSWORD, &more);
    assert_eq!(out.status.code(), Some(0));
    let tls = row(
        &pair,
        "SHOW ALL SLAVES STATUS",
        &["Master_SSL_Allowed", "Master_User"],
    );
    assert_eq!(tls, ["Master_SSL_Allowed Yes", "Master_User repl"]);
    assert_replicates(&pair, threads);
}

/// CREATE TABLE .. AS SELECT holds a lock that information_schema.TABLES waits for.
fn locked(pair: &Pair<MariadbKind>) {
    let mut conn = pair.source_db.root();
    let id = conn.connection_id();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let _ = conn.query_drop("CREATE TABLE shop.slow AS SELECT SLEEP(60) AS s"); // it is killed
        });
        wait_for("the lock", Duration::from_secs(20), || {
            let states =
                format!("SELECT STATE FROM information_schema.PROCESSLIST WHERE ID = {id}");
            (pair.source_db.value(&states) == "User sleep").then_some(())
        });
        let begin = Instant::now();
        let out = pair.seed(&["--dry-run"]);
        let took = begin.elapsed();
        locked_stages(pair, id);
        pair.source_db.sql(&format!("KILL {id}"));
        assert_eq!(out.status.code(), Some(1));
        let printed = text(&out);
        assert!(took < Duration::from_secs(25), "{took:?}");
        assert!(
            printed.contains(&format!(
                "session {id} (root@localhost) has been running for"
            )) && printed.contains("CREATE TABLE shop.slow AS SELECT SLEEP(60) AS s")
                && printed.contains("it did not answer within"),
            "{printed}"
        );
        assert_no_system_error(&printed);
    });
}

/// A server that waits for a lock has neither failed nor is it out of reach.
fn assert_no_system_error(text: &str) {
    for word in ["os error 11", "can be reached", "temporarily unavailable"] {
        assert!(!text.contains(word), "{word}: {text}");
    }
}

/// The agents' own stages while session `id` of the source holds its lock: what needs no answer of that session goes on, and the dump
/// waits for its end.
fn locked_stages(pair: &Pair<MariadbKind>, id: u32) {
    let seed = Player {
        id: 900,
        method: "Mysqldump",
        target: &pair.target,
        source: &pair.source,
        target_db: &pair.target_db,
        source_db: &pair.source_db,
    };
    let begin = Instant::now();
    seed.start_prepare();
    for agent in [&pair.target, &pair.source] {
        wait_for("Prepare ends", Duration::from_secs(25), || {
            let (status, details) = state_of(agent, 900, "Prepare");
            assert_no_system_error(&details);
            assert_ne!(status, "Error", "{details}");
            (status == "Completed").then_some(())
        });
    }
    seed.start_backup();
    let waits = format!("Waiting for query {id} of user root (CREATE), which has run for ");
    wait_for(
        "Backup says what it waits for",
        Duration::from_secs(25),
        || {
            let (status, details) = state_of(&pair.target, 900, "Backup");
            assert_no_system_error(&details);
            assert_eq!(status, "Running", "{details}");
            details.contains(&waits).then_some(())
        },
    );
    println!("a lock on the source: {:?}", begin.elapsed());
    let answer = pair.target.call("/api/abort-seed-stage/900/Backup");
    assert_eq!(answer.0, 200, "{answer:?}");
}

/// The table of accounts is locked, which only the check of the replication account reads.
fn locked_accounts<K: Kind>(pair: &Pair<K>, table: &str, says: &str) {
    let mut lock = pair.source_db.root();
    lock.query_drop(format!("LOCK TABLES {table} WRITE"))
        .expect("locked");
    let begin = Instant::now();
    let out = run(pair, "repl", REPL_PASSWORD, &["--dry-run"]);
    let took = begin.elapsed();
    drop(lock);
    let printed = text(&out);
    assert!(took < Duration::from_secs(25), "{took:?}: {printed}");
    for part in [
        "the replication account cannot be checked: ",
        "it did not answer within 3 s",
        says,
    ] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
}

#[test]
fn mysql() {
    let lines = [("clone_plugin", "enabled = true".to_string())];
    let pair = Pair::<MysqldKind>::start_with("plugin_load_add=mysql_clone.so\n", &lines);
    for db in [&pair.source_db, &pair.target_db] {
        db.unlogged("GRANT BACKUP_ADMIN, CLONE_ADMIN ON *.* TO 'agent'@'%'");
        db.sql("RESET BINARY LOGS AND GTIDS");
    }
    let threads = ["Replica_IO_Running", "Replica_SQL_Running"];
    let method = ["--method", "Mysqldump"];
    let out = pair.seed(&[&method[..], &["--replication", "gtid"]].concat());
    let printed = text(&out);
    assert_eq!(out.status.code(), Some(0), "{printed}");
    assert!(
        printed.contains("starting at an empty GTID set"),
        "{printed}"
    );
    assert!(
        printed.contains("the target can replicate from"),
        "{printed}"
    );
    assert_eq!(pair.target_db.replica_status("Auto_Position"), "1");
    assert_replicates(&pair, threads);
    pair.source_db.sql("CREATE DATABASE shop");
    wait_for("the first transaction", Duration::from_secs(20), || {
        (!pair.target_db.sql("SHOW DATABASES LIKE 'shop'").is_empty()).then_some(())
    });
    pair.target_db.sql("STOP REPLICA");
    pair.target_db.sql("RESET REPLICA ALL");

    refuse(
        &pair,
        &[
            NO_PRIVILEGE,
            Refused {
                what: "by a role that another role has",
                source: &[
                    "CREATE ROLE inner_role, outer_role",
                    "GRANT REPLICATION SLAVE ON *.* TO inner_role",
                    "GRANT inner_role TO outer_role",
                    "GRANT outer_role TO none@'%', other@'%'",
                    "ALTER USER none@'%' DEFAULT ROLE outer_role",
                ],
                user: "none",
                password: "pw",
                more: &["--dry-run"],
                says: "was not tested: --dry-run changes nothing",
                code: 0,
                ..CASE
            },
            Refused {
                what: "by a role that is not active at the login",
                user: "other",
                password: "pw",
                more: &["--dry-run"],
                says: "no role that is active at its login has it",
                ..CASE
            },
            Refused {
                what: "by roles that are all active at the login",
                source: &["SET GLOBAL activate_all_roles_on_login = ON"],
                user: "other",
                password: "pw",
                more: &["--dry-run"],
                code: 0,
                ..CASE
            },
            EMOJI,
            TLS_ONLY,
            NOT_TLS_ONLY,
            ELSEWHERE,
            WRONG,
            NEEDS_CERTIFICATE,
            Refused {
                what: "a channel that a killed seed left behind, and a filter",
                target: &[
                    "CHANGE REPLICATION SOURCE TO SOURCE_HOST='nowhere', SOURCE_USER='x' FOR CHANNEL 'orchestrator_agent_probe'",
                ],
                after: &["RESET REPLICA ALL FOR CHANNEL 'orchestrator_agent_probe'"],
                more: &["--dry-run"],
                code: 0,
                ..CASE
            },
            Refused {
                what: "the account of the privilege checks is unknown on the source",
                target: &[
                    "CREATE USER only_here@'%'",
                    "CHANGE REPLICATION SOURCE TO SOURCE_HOST='nowhere', PRIVILEGE_CHECKS_USER='only_here'@'%'",
                ],
                after: &["RESET REPLICA ALL"],
                more: &["--dry-run", "--force"],
                says: "PRIVILEGE_CHECKS_USER='only_here'@'%', and the source, whose accounts the target will have, has no such",
                ..CASE
            },
        ],
    );
    left_behind(&pair);
    locked_accounts(&pair, "mysql.user", "holds a lock on mysql.user,");

    for statement in [
        "CREATE USER applier@'%'",
        "GRANT REPLICATION_APPLIER ON *.* TO applier@'%'",
        "GRANT ALL ON *.* TO applier@'%'",
        "CREATE USER tls@'%' IDENTIFIED BY 'pw' REQUIRE SSL",
        "GRANT REPLICATION SLAVE ON *.* TO tls@'%'",
    ] {
        pair.source_db.sql(statement);
    }
    let of_status = [
        "SQL_Delay 2",
        "Connect_Retry 17",
        "Source_Retry_Count 86",
        "Source_SSL_Allowed Yes",
        "Source_Bind 127.0.0.2",
        "Replicate_Ignore_DB noise",
        "Source_User tls",
    ];
    let of_connection = [
        "HEARTBEAT_INTERVAL 7.000",
        "COMPRESSION_ALGORITHM zstd",
        "ZSTD_COMPRESSION_LEVEL 5",
        "TLS_VERSION TLSv1.3",
        "GTID_ONLY 1",
    ];
    let of_applier = [
        "DESIRED_DELAY 2",
        "PRIVILEGE_CHECKS_USER applier''@''%",
        "REQUIRE_ROW_FORMAT YES",
        "REQUIRE_TABLE_PRIMARY_KEY_CHECK GENERATE",
    ];
    let assert_kept = |method: &str, status: &[String], connection: &[String]| {
        let columns = |all: &[String]| -> Vec<String> {
            let column = |k: &String| k.split_once(' ').expect("a value").0.to_string();
            all.iter().map(column).collect()
        };
        let found = |query: &str, all: &[String]| {
            let columns = columns(all);
            let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
            row(&pair, query, &columns)
        };
        assert_eq!(found("SHOW REPLICA STATUS", status), status, "{method}");
        let table = "SELECT * FROM performance_schema.replication_connection_configuration";
        assert_eq!(found(table, connection), connection, "{method}");
        let table = "SELECT * FROM performance_schema.replication_applier_configuration";
        let applier = of_applier.map(str::to_string);
        assert_eq!(found(table, &applier), applier, "{method}");
    };
    pair.target_db.unlogged("CREATE USER applier@'%'");
    pair.target_db.sql(
        "CHANGE REPLICATION SOURCE TO SOURCE_HOST='nowhere', SOURCE_USER='x', SOURCE_DELAY=2, SOURCE_CONNECT_RETRY=17, \
         SOURCE_RETRY_COUNT=86, SOURCE_SSL=0, SOURCE_BIND='127.0.0.2', SOURCE_HEARTBEAT_PERIOD=7, \
         SOURCE_COMPRESSION_ALGORITHMS='zstd', SOURCE_ZSTD_COMPRESSION_LEVEL=5, SOURCE_TLS_VERSION='TLSv1.3', \
         SOURCE_AUTO_POSITION=1, GTID_ONLY=1, PRIVILEGE_CHECKS_USER='applier'@'%', REQUIRE_ROW_FORMAT=1, \
         REQUIRE_TABLE_PRIMARY_KEY_CHECK=GENERATE",
    );
    pair.target_db
        .sql("CHANGE REPLICATION FILTER REPLICATE_IGNORE_DB = (noise) FOR CHANNEL ''");
    for (method, replication, filters, only) in [
        ("Mysqldump", "auto", "noise", "1"),
        ("ClonePlugin", "auto", "", "1"),
        ("Mysqldump", "position", "", "0"),
    ] {
        let more = ["--force", "--method", method, "--replication", replication];
        let out = run(&pair, "tls", "pw", &more);
        let printed = text(&out);
        assert_eq!(out.status.code(), Some(0), "{method}: {printed}");
        for part in [
            "replication options of the target kept: SOURCE_DELAY=2, SOURCE_CONNECT_RETRY=17, SOURCE_RETRY_COUNT=86, \
             SOURCE_HEARTBEAT_PERIOD=7.000,",
            "PRIVILEGE_CHECKS_USER='applier'@'%', REQUIRE_ROW_FORMAT=1, REQUIRE_TABLE_PRIMARY_KEY_CHECK=GENERATE",
            "is an account with REQUIRE SSL",
        ] {
            let first = method != "Mysqldump" || replication == "auto";
            assert!(
                printed.contains(part) || !first,
                "{method}: {part}: {printed}"
            );
        }
        let lost = "because it starts by position: GTID_ONLY=1";
        assert_eq!(
            printed.contains(lost),
            replication == "position",
            "{printed}"
        );
        let status = of_status.map(|s| s.replace("noise", filters));
        let connection =
            of_connection.map(|s| s.replace("GTID_ONLY 1", &format!("GTID_ONLY {only}")));
        assert_kept(method, &status, &connection);
        assert_replicates(&pair, threads);
    }
    for statement in ["STOP REPLICA", "RESET REPLICA ALL"] {
        pair.target_db.sql(statement);
    }
    let more = ["--force", "--method", "Mysqldump", "--replication-tls"];
    let out = run(&pair, "repl", REPL_PASSWORD, &more);
    assert_eq!(out.status.code(), Some(0));
    let tls = row(
        &pair,
        "SHOW REPLICA STATUS",
        &["Source_SSL_Allowed", "Source_User"],
    );
    assert_eq!(tls, ["Source_SSL_Allowed Yes", "Source_User repl"]);
    assert_replicates(&pair, threads);
    a_password_that_clone_cannot_send(&pair);
}

/// CLONE's own client sends passwords in utf8mb3: the method is not offered with one that is not of that.
fn a_password_that_clone_cannot_send(pair: &Pair<MysqldKind>) {
    for (password, offered) in [("p\u{e4}\u{20ac}", true), ("p\u{1f511}", false)] {
        for statement in [
            "DROP USER IF EXISTS emoji@'%'".to_string(),
            format!("CREATE USER emoji@'%' IDENTIFIED BY '{password}'"),
            "GRANT ALL ON *.* TO emoji@'%'".to_string(),
        ] {
            pair.target_db.unlogged(&statement);
        }
        let changes = Changes {
            lines: vec![
                ("clone_plugin", "enabled = true".into()),
                ("mysql", "user = \"emoji\"".into()),
                ("mysql", format!("password = \"{password}\"")),
            ],
            ..Changes::default()
        };
        let agent = Agent::start_with(&pair.target_db, &changes);
        agent.wait_looked(true);
        let data = agent.json("/api/get-agent-data");
        assert!(data["AvailiableSeedMethods"]["Mysqldump"].is_object());
        let why = data["UnavailableSeedMethods"]["ClonePlugin"].as_str();
        assert_eq!(why.is_none(), offered, "{data}");
        assert!(why.is_none_or(|w| w.contains("utf8mb3")), "{data}");
    }
}

/// A seed that was killed while the target tried its account.
fn left_behind(pair: &Pair<MysqldKind>) {
    pair.target_db.sql(
        "CHANGE REPLICATION SOURCE TO SOURCE_HOST='nowhere', SOURCE_USER='x', SOURCE_LOG_FILE='none', SOURCE_LOG_POS=4 \
         FOR CHANNEL 'orchestrator_agent_probe'",
    );
    pair.target_db
        .sql("START REPLICA IO_THREAD FOR CHANNEL 'orchestrator_agent_probe'");
    let out = run(pair, "repl", "wrong", &[]);
    assert_eq!(out.status.code(), Some(1));
    let printed = text(&out);
    assert!(
        printed.contains("removed the replication channel"),
        "{printed}"
    );
    assert!(pair.target_db.sql("SHOW REPLICA STATUS").is_empty());
    assert_eq!(files(pair), [""; 0]);
}

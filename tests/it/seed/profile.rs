//! Settings of source and target do not change what a copy is: all hostile ones at once, and each session variable of the servers is accounted for.

use crate::support::agent::{Agent, Changes};
use crate::support::mariadb::MariadbKind;
use crate::support::mysqld::{Mysql56Kind, MysqldKind};
use crate::support::pair::Pair;
use crate::support::player::Player;
use crate::support::server::{Kind, Server};
use crate::support::wait_for;
use mysql::prelude::Queryable;
use mysql::{Conn, Row};
use orchestrator_agent::mysql::profile::{SESSION, Want};
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::time::Duration;

/// Session variables that no dump and no load depends on, by reason.
#[rustfmt::skip]
const HARMLESS: &[(&str, &[&str])] = &[
    ("have no global value: no configuration can change them in a session that has just begun", &[
        "default_master_connection", "error_count", "external_user", "gtid_next", "gtid_owned", "gtid_seq_no", "identity", "immediate_server_version",
        "insert_id", "last_insert_id", "original_commit_timestamp", "original_server_version", "proxy_user", "pseudo_replica_mode",
        "pseudo_slave_mode", "pseudo_thread_id", "rand_seed1", "rand_seed2", "rbr_exec_mode", "require_row_format", "resultset_metadata",
        "skip_parallel_replication", "skip_replication", "statement_id", "timestamp", "transaction_allow_batching", "warning_count",
        "wsrep_gtid_seq_no",
    ]),
    ("shape the binary log, which is off in a load; a dump writes nothing", &[
        "binlog_alter_two_phase", "binlog_annotate_row_events", "binlog_direct_non_transactional_updates", "binlog_format", "binlog_row_image",
        "binlog_row_value_options", "binlog_rows_query_log_events", "binlog_transaction_compression", "binlog_transaction_compression_level_zstd",
        "gtid_domain_id", "innodb_support_xa", "server_id", "sql_slave_skip_counter", "max_relay_log_size", "xa_detach_on_prepare",
    ]),
    ("of a cluster: a node cannot be a target, and a source is only read", &[
        "group_replication_consistency", "wsrep_causal_reads", "wsrep_dirty_reads", "wsrep_on", "wsrep_osu_method", "wsrep_retry_autocommit",
        "wsrep_sync_wait", "wsrep_trx_fragment_size", "wsrep_trx_fragment_unit",
    ]),
    ("sizes, threads and plans: a statement is slower or faster with the same result", &[
        "analyze_max_length", "aria_repair_threads", "aria_sort_buffer_size", "big_tables", "bulk_insert_buffer_size", "connection_memory_chunk_size",
        "deadlock_search_depth_long", "deadlock_search_depth_short", "deadlock_timeout_long", "deadlock_timeout_short", "eq_range_index_dive_limit",
        "expensive_subquery_limit", "global_connection_memory_tracking", "in_predicate_conversion_threshold", "innodb_ddl_buffer_size",
        "innodb_ddl_threads", "innodb_parallel_read_threads", "innodb_tmpdir", "internal_tmp_mem_storage_engine", "join_buffer_size",
        "join_buffer_space_limit", "join_cache_level", "low_priority_updates", "max_delayed_threads", "max_insert_delayed_threads",
        "max_length_for_sort_data", "max_rowid_filter_size", "max_seeks_for_key", "max_tmp_tables", "mrr_buffer_size", "multi_range_count",
        "myisam_repair_threads", "myisam_sort_buffer_size", "net_retry_count", "optimizer_adjust_secondary_key_costs",
        "optimizer_extra_pruning_depth", "optimizer_join_limit_pref_ratio", "optimizer_max_sel_arg_weight", "optimizer_max_sel_args",
        "optimizer_max_subgraph_pairs", "optimizer_prune_level", "optimizer_search_depth", "optimizer_selectivity_sampling_limit", "optimizer_switch",
        "optimizer_use_condition_selectivity", "preload_buffer_size", "query_alloc_block_size", "query_cache_strip_comments", "query_cache_type",
        "query_cache_wlock_invalidate", "query_prealloc_size", "range_alloc_block_size", "range_optimizer_max_mem_size", "read_buffer_size",
        "read_rnd_buffer_size", "rowid_merge_buff_size", "secondary_engine_cost_threshold", "set_operations_buffer_size", "sort_buffer_size",
        "sql_buffer_result", "tcp_nodelay", "thread_pool_priority", "tmp_memory_table_size", "tmp_table_size", "transaction_alloc_block_size",
        "transaction_prealloc_size", "use_stat_tables",
    ]),
    ("statistics, logs and tracing", &[
        "analyze_sample_percentage", "aria_stats_method", "enable_secondary_engine_statistics", "end_markers_in_json", "explain_json_format_version",
        "histogram_generation_max_mem_size", "histogram_size", "histogram_type", "information_schema_stats_expiry", "log_disabled_statements",
        "log_queries_not_using_indexes", "log_slow_admin_statements", "log_slow_disabled_statements", "log_slow_filter", "log_slow_max_warnings",
        "log_slow_min_examined_row_limit", "log_slow_query", "log_slow_query_time", "log_slow_rate_limit", "log_slow_slave_statements",
        "log_slow_verbosity", "log_warnings", "long_query_time", "min_examined_row_limit", "myisam_stats_method", "optimizer_trace",
        "optimizer_trace_features", "optimizer_trace_limit", "optimizer_trace_max_mem_size", "optimizer_trace_offset", "profiling",
        "profiling_history_size", "slow_query_log", "sql_log_off",
    ]),
    ("words, warnings and what the server tells a client unasked", &[
        "lc_messages", "max_error_count", "note_verbosity", "progress_report_time", "session_track_gtids", "session_track_schema",
        "session_track_state_change", "session_track_system_variables", "session_track_transaction_info", "sql_notes", "sql_warnings",
        "terminology_use_previous",
    ]),
    ("a dump names it in each statement: engine, character set, collation, AUTO_INCREMENT and its rows' keys", &[
        "auto_increment_increment", "auto_increment_offset", "character_set_database", "character_set_server", "collation_database",
        "collation_server", "default_storage_engine", "default_tmp_storage_engine", "storage_engine", "external_table_secondary_storage_engine",
        "external_table_storage_engine",
    ]),
    ("is set with collation_connection", &["character_set_connection"]),
    ("of statements that neither dumps nor loads have: OUTFILE, LOAD_FILE, SET PASSWORD, updates of views, INSERT DELAYED, spatial buffers, recursion in calls", &[
        "character_set_filesystem", "cte_max_recursion_depth", "generated_random_password_length", "max_points_in_geometry",
        "max_recursive_iterations", "max_sp_recursion_depth", "old", "new", "old_passwords", "select_into_buffer_size", "select_into_disk_sync",
        "select_into_disk_sync_delay", "updatable_views_with_limit",
    ]),
    ("only how values are compared or rounded in results of queries, of which dumps have none", &[
        "max_sort_length", "windowing_use_high_precision",
    ]),
    ("how a value is stored, not which: SELECT returns the same", &[
        "column_compression_threshold", "column_compression_zlib_level", "column_compression_zlib_strategy", "column_compression_zlib_wrap",
    ]),
    ("literals of both forms mean the same", &["print_identified_with_as_hex"]),
    ("foreign_key_checks = 0 switches it off", &["enable_cascade_triggers"]),
    ("dumps set it themselves, and it only says when indexes are checked", &["unique_checks"]),
    ("mariadb-dump sets it where a dump has history", &["system_versioning_insert_history"]),
    ("an alias of alter_algorithm; ALTER of versioned tables is in no dump", &["old_alter_table", "system_versioning_alter_history"]),
    ("LOCK TABLES and snapshots of one session: no one else writes to the target", &["innodb_snapshot_isolation", "innodb_table_locks"]),
    ("leftover files of MyISAM tables stop a CREATE, and are never taken over", &["keep_files_on_create"]),
    ("of clients that are interactive: tools are not", &["interactive_timeout"]),
    ("read-only in a session; the global of it is in the profile, or a limit of the account", &[
        "max_allowed_packet", "max_user_connections", "net_buffer_length",
    ]),
];

fn session_variables<K: Kind>(db: &Server<K>) -> BTreeSet<String> {
    let version = db.value("SELECT VERSION()");
    let names = if version.contains("MariaDB") {
        db.sql("SELECT VARIABLE_NAME FROM information_schema.SYSTEM_VARIABLES WHERE VARIABLE_SCOPE LIKE 'SESSION%' AND READ_ONLY = 'NO'")
    } else if version.starts_with("5.") {
        // It has no list: what SET takes, with the value that it has.
        let mut conn = db.root();
        let shown: Vec<(String, String)> = conn.query("SHOW SESSION VARIABLES").expect("variables");
        let names = shown.into_iter().map(|v| v.0);
        names
            .filter(|n| {
                let set = conn.query_drop(format!("SET SESSION {n} = @@SESSION.{n}"));
                !matches!(set, Err(mysql::Error::MySqlError(e)) if [1229, 1238, 1193, 1231, 1232].contains(&e.code))
            })
            .collect()
    } else {
        db.sql("SELECT VARIABLE_NAME FROM performance_schema.variables_metadata WHERE VARIABLE_SCOPE <> 'GLOBAL'")
    };
    names.into_iter().map(|n| n.to_ascii_lowercase()).collect()
}

/// A version that adds a session variable does not do so unnoticed.
fn account_for_all<K: Kind>(db: &Server<K>) {
    let all = session_variables(db);
    let profile: BTreeSet<&str> = SESSION.iter().map(|r| r.name).collect();
    let mut harmless = BTreeSet::new();
    for name in HARMLESS.iter().flat_map(|(_, names)| *names) {
        assert!(harmless.insert(*name), "{name} twice");
        assert!(!profile.contains(name), "{name} is in the profile");
    }
    let count = |of: &BTreeSet<&str>| all.iter().filter(|n| of.contains(n.as_str())).count();
    println!(
        "{}: {} session variables, {} in the profile, {} harmless",
        db.value("SELECT VERSION()"),
        all.len(),
        count(&profile),
        count(&harmless)
    );
    let unknown: Vec<&String> = all
        .iter()
        .filter(|n| !profile.contains(n.as_str()) && !harmless.contains(n.as_str()))
        .collect();
    assert_eq!(
        unknown, [""; 0],
        "neither in the profile nor known as harmless"
    );
}

/// Of an account with the README's grants: it may set each value of the profile.
fn account_may_set_all<K: Kind>(db: &Server<K>) {
    let present = session_variables(db);
    let version = db.value("SELECT VERSION()");
    let options = mysql::OptsBuilder::new()
        .user(Some("agent"))
        .pass(Some(crate::support::server::AGENT_PASSWORD))
        .ip_or_hostname(Some(&db.host))
        .tcp_port(db.port)
        .prefer_socket(false);
    let mut conn = Conn::new(options).expect("the agent logs in");
    for row in SESSION.iter().filter(|r| present.contains(r.name)) {
        for want in [row.load, row.dump] {
            let value = match want {
                Want::Is(v) | Want::Always(v) => v.to_string(),
                Want::AtLeast(n) => n.to_string(),
                Want::Source => format!("@@GLOBAL.{}", row.name),
                Want::Keep => continue,
            };
            conn.query_drop(format!("SET SESSION {} = {value}", row.name))
                .unwrap_or_else(|e| panic!("{version}: {} = {value}: {e}", row.name));
        }
    }
}

/// A root session with usual settings, whatever the globals are.
fn sane<K: Kind>(db: &Server<K>) -> Conn {
    let mut conn = db.root();
    for statement in [
        "SET SESSION sql_mode = 'NO_ENGINE_SUBSTITUTION', autocommit = 1, sql_select_limit = 18446744073709551615, time_zone = '+00:00', wait_timeout = 28800, \
         completion_type = 0, max_join_size = 18446744073709551615, sql_big_selects = 1, sql_quote_show_create = 1, sql_safe_updates = 0, \
         character_set_client = utf8mb4, character_set_results = utf8mb4, collation_connection = utf8mb4_general_ci /*!80030 , \
         show_gipk_in_create_table_and_information_schema = 1, show_create_table_verbosity = 0 */ /*!50708 , max_execution_time = 0 */ /*M!100101 , max_statement_time = 0 */ /*M!100201 , standard_compliant_cte = 0 */",
        "SET SESSION TRANSACTION READ WRITE",
    ] {
        conn.query_drop(statement).expect(statement);
    }
    conn
}

/// All that `schema` holds: definitions, the engine's own words for them, rows.
fn content<K: Kind>(db: &Server<K>, schema: &str) -> Vec<String> {
    let mut conn = sane(db);
    conn.query_drop(format!("USE `{schema}`")).expect(schema);
    let mut all = texts(
        &mut conn,
        &format!(
            "SELECT TABLE_NAME, ENGINE, ROW_FORMAT FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{schema}' ORDER BY 1"
        ),
    );
    all.extend(texts(
        &mut conn,
        &format!("SHOW CREATE DATABASE `{schema}`"),
    ));
    all.extend(texts(
        &mut conn,
        &format!("SELECT SPECIFIC_NAME, PARAMETER_NAME, CHARACTER_SET_NAME, COLLATION_NAME FROM information_schema.PARAMETERS WHERE SPECIFIC_SCHEMA = '{schema}'"),
    ));
    let names: Vec<(String, String)> = conn.query("SHOW FULL TABLES").expect("tables");
    for (name, _) in names {
        all.extend(texts(&mut conn, &format!("SHOW CREATE TABLE `{name}`")));
        let columns: Vec<Row> = conn
            .query(format!("SHOW COLUMNS FROM `{name}`"))
            .expect("columns");
        let columns: Vec<String> = columns
            .into_iter()
            .map(|c| format!("`{}`", c.get::<String, _>(0).expect("name")))
            .collect();
        let mut rows = texts(
            &mut conn,
            &format!("SELECT {} FROM `{name}`", columns.join(", ")),
        );
        rows.sort();
        all.extend(rows.into_iter().map(|r| format!("{name}: {r}")));
    }
    all
}

fn texts(conn: &mut Conn, query: &str) -> Vec<String> {
    let rows: Vec<Row> = conn.query(query).unwrap_or_else(|e| panic!("{query}: {e}"));
    rows.into_iter()
        .map(|r| {
            r.unwrap()
                .iter()
                .map(|v| v.as_sql(true))
                .collect::<Vec<_>>()
                .join(" | ")
        })
        .collect()
}

fn assert_same(source: &[String], target: &[String]) {
    let only = |of: &[String], other: &[String]| -> Vec<String> {
        let lines = of.iter().filter(|l| !other.contains(l));
        lines.map(|l| l.chars().take(300).collect()).collect()
    };
    let nothing = (Vec::new(), Vec::new());
    assert_eq!(
        (only(source, target), only(target, source)),
        nothing,
        "only on the source, only on the target"
    );
    assert_eq!(source.len(), target.len());
}

fn run(conn: &mut Conn, statements: &[&str]) {
    for statement in statements {
        conn.query_drop(statement)
            .unwrap_or_else(|e| panic!("{statement}: {e}"));
    }
}

/// A table with so many columns that innodb_strict_mode refuses it.
fn wide() -> String {
    let columns: Vec<String> = (0..250)
        .map(|n| format!("c{n} CHAR(60) CHARACTER SET utf8mb4 NOT NULL DEFAULT ''"))
        .collect();
    format!(
        "CREATE TABLE wide (k INT, {}) ENGINE=InnoDB ROW_FORMAT=COMPACT",
        columns.join(", ")
    )
}

/// What hostile settings harm, in both families.
const OBJECTS: &[&str] = &[
    "CREATE DATABASE h",
    "USE h",
    "SET SESSION explicit_defaults_for_timestamp = 1, innodb_strict_mode = 0",
    "CREATE TABLE isam (a INT) ENGINE=MyISAM",
    "INSERT INTO isam VALUES (1), (2), (3)",
    "CREATE TABLE stamps (a INT, t TIMESTAMP NOT NULL, u TIMESTAMP NOT NULL DEFAULT '2001-01-01 10:00:00') ENGINE=InnoDB",
    "INSERT INTO stamps VALUES (1, '2020-06-01 12:00:00', '2020-12-01 12:00:00'), (2, '1999-01-01 00:00:01', '2030-01-01 00:00:00')",
    "CREATE TABLE nokey (a INT, t TEXT) ENGINE=InnoDB CHARACTER SET utf8mb4",
    "INSERT INTO nokey VALUES (1, '\u{fc}\u{1F600}\u{4e2d}'), (1, NULL)",
    "CREATE TABLE `n\u{e4}me` (`w\u{f6}rt` INT) ENGINE=InnoDB",
    "INSERT INTO `n\u{e4}me` VALUES (1), (2)",
    "CREATE TABLE longkey (k VARCHAR(700) CHARACTER SET utf8mb4, KEY (k)) ENGINE=InnoDB",
    "CREATE TABLE packed (a INT, t TEXT) ENGINE=InnoDB ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=8",
    "INSERT INTO packed VALUES (1, REPEAT('x', 5000))",
    "CREATE TABLE memory (a INT, c CHAR(200)) ENGINE=MEMORY",
    "INSERT INTO memory SELECT n, n FROM (SELECT 1 n UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6) a",
    "INSERT INTO memory SELECT a.a, b.a FROM memory a, memory b, memory c",
    "CREATE TABLE computed (a INT, b INT, q DECIMAL(20,10) AS (a / b) STORED) ENGINE=InnoDB",
    "INSERT INTO computed (a, b) VALUES (1, 3), (2, 7)",
    "CREATE TABLE parent (id INT PRIMARY KEY) ENGINE=InnoDB",
    "CREATE TABLE child (id INT AUTO_INCREMENT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES parent (id)) ENGINE=InnoDB AUTO_INCREMENT=7",
    "INSERT INTO parent VALUES (1)",
    "INSERT INTO child VALUES (1, 1), (5, NULL)",
];

const ALIKE: &str = "autocommit = 0, completion_type = 2, sql_select_limit = 1, sql_safe_updates = 1, sql_auto_is_null = 1, time_zone = '+09:00', wait_timeout = 1, \
                     div_precision_increment = 0, lock_wait_timeout = 1, innodb_lock_wait_timeout = 1, max_join_size = 10, sql_big_selects = 0, \
                     innodb_strict_mode = 1, foreign_key_checks = 1, explicit_defaults_for_timestamp = 0, lc_time_names = 'de_DE', \
                     default_week_format = 3, max_heap_table_size = 16384, group_concat_max_len = 4, innodb_default_row_format = compact, \
                     innodb_file_per_table = 0, max_prepared_stmt_count = 0, net_read_timeout = 1, auto_increment_increment = 10, auto_increment_offset = 3";

fn set_globals<K: Kind>(db: &Server<K>, lists: &[&str]) {
    let mut conn = sane(db);
    for item in lists.iter().flat_map(|l| l.split(", ")) {
        let statement = format!("SET GLOBAL {}", item.trim());
        conn.query_drop(&statement)
            .unwrap_or_else(|e| panic!("{statement}: {e}"));
    }
}

/// Prepare, Backup and Restore, whose load waits for longer than the timeouts above; and no setting has changed.
fn seed_and_compare<K: Kind>(pair: &Pair<K>, method: &'static str, id: i64) {
    let before = (pair.source_db.globals(), pair.target_db.globals());
    let mut seed = pair.seed(id);
    seed.method = method;
    seed.prepare();
    seed.backup();
    // With wait_timeout = 1 the agent's own session is idle for longer; with lock_wait_timeout = 1 the tool's waits for longer.
    let mut hold = sane(&pair.target_db);
    run(&mut hold, &["BEGIN", "SELECT COUNT(*) FROM shop.held"]);
    seed.start_restore();
    wait_for("the load waits", Duration::from_secs(30), || {
        let waiting: Vec<String> = hold
            .query(
                "SELECT IFNULL(STATE, '') FROM information_schema.PROCESSLIST WHERE USER = 'agent'",
            )
            .expect("process list");
        waiting
            .iter()
            .any(|s| s.contains("metadata lock"))
            .then_some(())
    });
    std::thread::sleep(Duration::from_millis(2200)); // longer than one second, which the timeouts are
    drop(hold);
    seed.must_complete(&pair.target, "Restore");
    seed.cleanup();
    assert_same(
        &content(&pair.source_db, "h"),
        &content(&pair.target_db, "h"),
    );
    pair.source_db.assert_globals(&before.0);
    pair.target_db.assert_globals(&before.1);
}

/// Appends lines to a server's my.cnf and restarts it.
fn restart_with<K: Kind>(db: &Server<K>, lines: &str) {
    let file = db.dir.join("my.cnf");
    let text = std::fs::read_to_string(&file).expect("my.cnf");
    let plain = text.split("\n# test\n").next().expect("text");
    std::fs::write(&file, format!("{plain}\n# test\n{lines}\n")).expect("my.cnf");
    db.down();
    db.up();
}

/// Details of a stage that must fail on `agent`.
fn must_fail<K: Kind>(pair: &Pair<K>, agent: &Agent, id: i64, stage: &str) -> String {
    let state = pair.seed(id).poll(agent, stage);
    assert_eq!(state["Status"], "Error", "{stage}: {state}");
    state["Details"].as_str().expect("Details").to_string()
}

fn prepare_fails<K: Kind>(pair: &Pair<K>, id: i64, side: &str) -> String {
    let agent = if side == "Target" {
        &pair.target
    } else {
        &pair.source
    };
    Player::start(agent, &format!("/api/prepare/{id}/Mysqldump/{side}"));
    must_fail(pair, agent, id, "Prepare")
}

fn backup_fails<K: Kind>(pair: &Pair<K>, id: i64) -> String {
    let seed = pair.seed(id);
    seed.prepare();
    seed.start_backup();
    must_fail(pair, &pair.target, id, "Backup")
}

fn must_name(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word}: {text}");
    }
}

/// What the servers refuse or change only in MariaDB.
const OBJECTS_MARIADB: &[&str] = &[
    "CREATE TABLE aria (a INT) ENGINE=Aria TRANSACTIONAL=1",
    "INSERT INTO aria VALUES (1)",
    "SET SESSION check_constraint_checks = 0, standard_compliant_cte = 0",
    "CREATE TABLE checked (a INT CHECK (a > 0)) ENGINE=InnoDB",
    "INSERT INTO checked VALUES (-1), (1)",
    "CREATE VIEW loose AS WITH RECURSIVE r AS (SELECT 1 AS n UNION SELECT MAX(n) + 1 FROM r WHERE n < 3) SELECT * FROM r",
    "CREATE TABLE versioned (a INT) ENGINE=InnoDB WITH SYSTEM VERSIONING",
    "INSERT INTO versioned VALUES (1), (2)",
    "DELETE FROM versioned WHERE a = 1",
    "CREATE FUNCTION f(s VARCHAR(10) CHARACTER SET utf8mb4) RETURNS INT DETERMINISTIC RETURN 1",
];

/// One pair of servers: every hostile setting at once; what cannot be set is refused by name.
#[test]
fn mariadb() {
    let changes = Changes {
        lines: vec![("mydumper", "enabled = true".into())],
        ..Changes::default()
    };
    let target_cnf = "skip_character_set_client_handshake\ncharacter_set_server=latin1";
    let pair: Pair = Pair::with("", target_cnf, &changes, &changes);
    account_for_all(&pair.source_db);
    account_may_set_all(&pair.source_db);
    let mut conn = sane(&pair.source_db);
    run(&mut conn, OBJECTS);
    run(&mut conn, &[&wide()]);
    run(&mut conn, OBJECTS_MARIADB);
    drop(conn);
    run(
        &mut sane(&pair.target_db),
        &["CREATE TABLE precious.audit (who TEXT)"],
    );
    let of_target = "enforce_storage_engine = InnoDB, innodb_force_primary_key = 1, innodb_compression_default = 1, max_statement_time = 0.5, old_mode = '', \
                     alter_algorithm = INSTANT, idle_write_transaction_timeout = 1, idle_transaction_timeout = 1, sql_if_exists = 1, tx_read_only = 1, \
                     tx_isolation = 'SERIALIZABLE', read_only = 1, init_connect = 'INSERT INTO precious.audit VALUES (CURRENT_USER())'";
    set_globals(&pair.target_db, &[ALIKE, of_target]);
    let of_source = "standard_compliant_cte = 0, max_statement_time = 0.02, sql_mode = 'ANSI_QUOTES,PAD_CHAR_TO_FULL_LENGTH', sql_quote_show_create = 0, tx_isolation = 'READ-COMMITTED', \
                     autocommit = 0, tx_read_only = 1, completion_type = 1, wait_timeout = 1, net_write_timeout = 1, time_zone = '+03:00', \
                     idle_transaction_timeout = 1, max_prepared_stmt_count = 0, sql_auto_is_null = 1, div_precision_increment = 4";
    set_globals(&pair.source_db, &[of_source]);
    seed_and_compare(&pair, "Mysqldump", 1);
    let engines = "SELECT TABLE_NAME, ENGINE FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'mysql' ORDER BY TABLE_NAME";
    let of = |db| texts(&mut sane(db), engines);
    let wanted = of(&pair.source_db);
    assert!(wanted.iter().any(|t| t.ends_with("'Aria'")), "{wanted:?}");
    assert_eq!(of(&pair.target_db), wanted);

    // mariadb-dump takes no init command: what it cannot set is refused. mydumper can.
    let cut =
        "sql_select_limit = 1, max_join_size = 10, system_versioning_asof = '2020-01-01 00:00:00'";
    set_globals(&pair.source_db, &[cut]);
    let text = backup_fails(&pair, 2);
    must_name(
        &text,
        &[
            "sql_select_limit is 1",
            "max_join_size is 10",
            "system_versioning_asof is 2020-01-01",
            "SET GLOBAL sql_select_limit = 18446744073709551615",
            "another method",
        ],
    );
    assert!(!text.contains("partial"), "{text}");
    for db in [&pair.source_db, &pair.target_db] {
        let mut conn = sane(db);
        run(
            &mut conn,
            &[
                "SET SESSION system_versioning_asof = DEFAULT, sql_log_bin = 0",
                "DROP TABLE h.versioned",
                "DROP FUNCTION h.f",
            ],
        );
    }
    seed_and_compare(&pair, "Mydumper", 3);
    let audit = texts(&mut sane(&pair.target_db), "SELECT who FROM precious.audit");
    assert_eq!(audit, [""; 0], "no session of the seed runs init_connect");

    // What cannot be set while the server runs.
    let usual = "sql_select_limit = DEFAULT, max_join_size = DEFAULT, system_versioning_asof = DEFAULT, sql_mode = ''";
    set_globals(&pair.source_db, &[usual]);
    let mut conn = sane(&pair.source_db);
    run(
        &mut conn,
        &["CREATE TABLE h.versioned (a INT) ENGINE=InnoDB WITH SYSTEM VERSIONING"],
    );
    for (lines, in_backup, words) in [
        (
            "ignore_db_dirs=h\ninnodb_read_only_compressed=ON\nsecure_timestamp=YES",
            true,
            &[
                "ignore_db_dirs = h hides schema h",
                "innodb_read_only_compressed is ON, and table h.packed",
                "secure_timestamp is YES",
                "my.cnf",
            ][..],
        ),
        (
            "innodb_force_recovery=1",
            false,
            &["innodb_force_recovery is 1", "restart"],
        ),
        (
            "innodb_read_only=1",
            false,
            &["innodb_read_only is ON", "restart"],
        ),
    ] {
        restart_with(&pair.target_db, lines);
        let text = match in_backup {
            true => backup_fails(&pair, 4),
            false => prepare_fails(&pair, 5, "Target"),
        };
        must_name(&text, words);
        assert!(!text.contains("partial"), "{text}");
    }
}

/// Rows and keys may need a whole page.
#[test]
fn a_smaller_page_size() {
    let pair = Pair::start();
    let target = &pair.target_db;
    target.down();
    let (datadir, root) = (target.datadir(), MariadbKind::rig().join("mdb/root/usr"));
    std::fs::remove_dir_all(&datadir).expect("its data");
    let made = Command::new(root.join("bin/mariadb-install-db"))
        .args([
            "--no-defaults",
            "--user=root",
            "--auth-root-authentication-method=normal",
        ])
        .args([
            "--skip-test-db",
            "--skip-name-resolve",
            "--innodb-page-size=8k",
        ])
        .arg(format!("--basedir={}", root.display()))
        .arg(format!("--datadir={}", datadir.display()))
        .arg(format!("--lc-messages-dir={}/share/mysql", root.display()))
        .output()
        .expect("mariadb-install-db");
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let owner = std::fs::metadata(&target.dir).expect("directory");
    let owned = Command::new("chown")
        .args(["-R", &format!("{}:{}", owner.uid(), owner.gid())])
        .arg(&datadir)
        .status();
    assert!(owned.expect("chown").success());
    let cnf = target.dir.join("my.cnf");
    let lines = std::fs::read_to_string(&cnf).expect("my.cnf");
    let lines = lines.replace("[mysqld]\n", "[mysqld]\ninnodb_page_size=8k\n");
    std::fs::write(&cnf, lines).expect("my.cnf");
    target.up();
    target.make_accounts();
    for statement in [
        "CREATE DATABASE precious",
        "CREATE TABLE precious.t ENGINE=InnoDB AS SELECT 'mine' AS v",
        "CREATE DATABASE shop",
        "CREATE TABLE shop.held (old_column INT) ENGINE=InnoDB",
    ] {
        target.sql(statement);
    }
    let text = pair.backup_fails(1);
    must_name(
        &text,
        &[
            "innodb_page_size is 8192, and 16384 on the source",
            "initialise the target with innodb_page_size = 16384",
        ],
    );
}

const OBJECTS_MYSQL: &[&str] = &[
    "SET SESSION sql_generate_invisible_primary_key = 1",
    "CREATE TABLE hidden_key (a INT)",
    "INSERT INTO hidden_key VALUES (1), (2), (3)",
    "DELETE FROM hidden_key WHERE a = 2",
    "SET SESSION sql_generate_invisible_primary_key = 0",
    "CREATE TABLE named (d DATE, m VARCHAR(30) AS (DATE_FORMAT(d, '%M')) STORED, w INT AS (WEEK(d)) STORED, c VARBINARY(100) AS (AES_ENCRYPT(d, 'k')) STORED)",
    "INSERT INTO named (d) VALUES ('2023-03-01'), ('2023-01-01')",
    "CREATE FUNCTION f(s VARCHAR(10) CHARACTER SET utf8mb4) RETURNS INT DETERMINISTIC RETURN 1",
    "SET SESSION restrict_fk_on_non_standard_key = 0",
    "CREATE TABLE a_part (a INT, b INT, PRIMARY KEY (a, b), KEY (b))",
    "CREATE TABLE odd_key (b INT, FOREIGN KEY (b) REFERENCES a_part (b))",
];

/// The GRANT statements in a message, as they are there.
fn grants_of(text: &str) -> Vec<String> {
    let parts = text.split("remedy: ").skip(1);
    parts
        .filter(|p| p.starts_with("GRANT "))
        .map(|p| p.split(". ").next().expect("text").to_string())
        .collect()
}

#[test]
fn mysql() {
    let pair: Pair<MysqldKind> = Pair::of("skip_show_database", "", &Changes::default());
    account_for_all(&pair.source_db);
    account_may_set_all(&pair.source_db);
    let mut conn = sane(&pair.source_db);
    run(&mut conn, OBJECTS);
    run(&mut conn, &[&wide()]);
    run(&mut conn, OBJECTS_MYSQL);
    drop(conn);
    run(
        &mut sane(&pair.target_db),
        &["CREATE TABLE precious.audit (who TEXT)"],
    );
    let of_target = "sql_generate_invisible_primary_key = 1, sql_require_primary_key = 1, default_collation_for_utf8mb4 = utf8mb4_general_ci, \
                     max_execution_time = 1, parser_max_mem_size = 10000000, transaction_isolation = 'SERIALIZABLE', block_encryption_mode = 'aes-256-ecb', \
                     default_table_encryption = 1, table_encryption_privilege_check = 1, super_read_only = 1, transaction_read_only = 1, \
                     init_connect = 'INSERT INTO precious.audit VALUES (CURRENT_USER())'";
    set_globals(&pair.target_db, &[ALIKE, of_target]);
    let of_source = "max_execution_time = 1, sql_select_limit = 1, max_join_size = 10, sql_big_selects = 0, sql_mode = 'ANSI_QUOTES,PAD_CHAR_TO_FULL_LENGTH', \
                     sql_quote_show_create = 0, show_gipk_in_create_table_and_information_schema = 0, show_create_table_verbosity = 1, autocommit = 0, \
                     transaction_read_only = 1, completion_type = 1, wait_timeout = 1, net_write_timeout = 1, time_zone = '+03:00', \
                     sql_auto_is_null = 1, init_connect = 'SET @a = 1'";
    set_globals(&pair.source_db, &[of_source]);

    // On a server that takes no writes init_connect fails, and with it each session.
    let text = prepare_fails(&pair, 7, "Target");
    must_name(&text, &["ERROR 1184", "init_connect", "CONNECTION_ADMIN"]);
    set_globals(
        &pair.target_db,
        &["super_read_only = 0, read_only = 0, transaction_read_only = 0"],
    );
    // Privileges that only these values make necessary are named, as statements that cure it.
    let text = prepare_fails(&pair, 1, "Target");
    must_name(
        &text,
        &[
            "init_connect is INSERT INTO precious.audit",
            "table_encryption_privilege_check is ON",
            "default_table_encryption is ON",
        ],
    );
    let mut wanted: BTreeSet<String> = grants_of(&text).into_iter().collect();
    let text = prepare_fails(&pair, 2, "Source");
    must_name(
        &text,
        &["init_connect is SET @a = 1", "skip_show_database is ON"],
    );
    wanted.extend(grants_of(&text));
    assert_eq!(
        wanted.iter().map(String::as_str).collect::<Vec<_>>(),
        [
            "GRANT CONNECTION_ADMIN ON *.* TO `agent`@`%`",
            "GRANT SHOW DATABASES ON *.* TO `agent`@`%`",
            "GRANT TABLE_ENCRYPTION_ADMIN ON *.* TO `agent`@`%`",
        ]
    );
    run(&mut sane(&pair.target_db), &["DELETE FROM precious.audit"]);
    for db in [&pair.source_db, &pair.target_db] {
        let mut conn = sane(db);
        run(&mut conn, &["SET SESSION sql_log_bin = 0"]);
        for statement in &wanted {
            run(&mut conn, &[statement]);
        }
    }
    set_globals(
        &pair.target_db,
        &["super_read_only = 1, transaction_read_only = 1"],
    );
    seed_and_compare(&pair, "Mysqldump", 3);
    let audit = texts(&mut sane(&pair.target_db), "SELECT who FROM precious.audit");
    assert_eq!(audit, [""; 0], "no session of the seed runs init_connect");

    // A setting that changes after the checks is found before anything is.
    let seed = pair.seed(4);
    seed.prepare();
    seed.backup();
    let mut conn = sane(&pair.target_db);
    run(
        &mut conn,
        &[
            "SET SESSION sql_log_bin = 0",
            "SET GLOBAL super_read_only = 0, read_only = 0",
            "CREATE TABLE h.mine (a INT PRIMARY KEY)",
        ],
    );
    run(
        &mut conn,
        &["REVOKE TABLE_ENCRYPTION_ADMIN ON *.* FROM agent"],
    );
    let executed = texts(&mut conn, "SELECT @@GLOBAL.gtid_executed");
    let before = pair.target_db.globals();
    seed.start_restore();
    let text = must_fail(&pair, &pair.target, 4, "Restore");
    must_name(
        &text,
        &[
            "default_table_encryption is ON",
            "GRANT TABLE_ENCRYPTION_ADMIN",
        ],
    );
    assert!(!text.contains("partial"), "{text}");
    assert_eq!(texts(&mut conn, "SELECT COUNT(*) FROM h.mine"), ["'0'"]);
    assert_eq!(texts(&mut conn, "SELECT @@GLOBAL.gtid_executed"), executed);
    pair.target_db.assert_globals(&before);
    drop(conn);

    for (lines, in_backup, words) in [
        (
            "disabled_storage_engines=MyISAM,ARCHIVE",
            true,
            &[
                "disabled_storage_engines = MyISAM,ARCHIVE forbids MyISAM, and table h.isam",
                "my.cnf",
            ][..],
        ),
        (
            "innodb_force_recovery=1",
            false,
            &["innodb_force_recovery is 1", "restart"],
        ),
        (
            "innodb_read_only=1",
            false,
            &["innodb_read_only is ON", "restart"],
        ),
    ] {
        restart_with(&pair.target_db, lines);
        let text = match in_backup {
            true => backup_fails(&pair, 5),
            false => prepare_fails(&pair, 6, "Target"),
        };
        must_name(&text, words);
        assert!(!text.contains("partial"), "{text}");
    }
}

/// MySQL 5.6 has settings of old file formats, and explicit_defaults_for_timestamp is read-only.
#[test]
fn mysql56() {
    let old = "innodb_file_format=Barracuda\ninnodb_large_prefix=ON";
    let pair: Pair<Mysql56Kind> = Pair::of(old, "", &Changes::default());
    account_for_all(&pair.source_db);
    let mut conn = sane(&pair.source_db);
    run(
        &mut conn,
        &[
            "CREATE DATABASE h",
            "CREATE TABLE h.packed (a INT, t TEXT) ENGINE=InnoDB ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=8",
            "INSERT INTO h.packed VALUES (1, REPEAT('x', 5000))",
            "CREATE TABLE h.longkey (k VARCHAR(700) CHARACTER SET utf8mb4, KEY (k)) ENGINE=InnoDB ROW_FORMAT=DYNAMIC",
        ],
    );
    drop(conn);
    restart_with(&pair.target_db, "explicit_defaults_for_timestamp=OFF");
    let text = backup_fails(&pair, 1);
    must_name(
        &text,
        &[
            "explicit_defaults_for_timestamp is OFF and read-only here",
            "such as shop.ticks.at",
            "my.cnf",
        ],
    );
    restart_with(&pair.target_db, "");
    set_globals(
        &pair.target_db,
        &[
            "sql_select_limit = 1, autocommit = 0, completion_type = 2, innodb_strict_mode = 1, tx_read_only = 1, wait_timeout = 1",
        ],
    );
    seed_and_compare(&pair, "Mysqldump", 2);
}

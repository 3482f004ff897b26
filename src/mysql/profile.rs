//! Load profile: what the sessions and globals of a server must be while a dump is written or loaded, so that its configuration does not change what the copy is.
//!
//! The variables are described in the manuals' chapters "Server System Variables" and "InnoDB Startup Options and System Variables" (dev.mysql.com/doc/refman) and in
//! "Server System Variables", "InnoDB System Variables" and "System-Versioned Tables" (mariadb.com/docs/server); [`Row::since`] names the first version that has one.
//! Effects were measured on MariaDB 10.11.19, MySQL 9.7.4 and MySQL 5.6.24. A row whose variable a server does not have is skipped, so one table serves all versions.
//! Every session variable of a server that is not here is in the test `tests/it/seed/profile.rs` with the reason why it is harmless.

use super::{Flavour, Server, Version, query, quote_text};
use crate::error::Result;
use crate::sys::Inserted;
use mysql::Conn;
use std::collections::{BTreeMap, BTreeSet};

/// Variables by name, in lower case.
pub(crate) type Variables = BTreeMap<String, String>;

/// What a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It loads a dump into a target.
    Load,
    /// It reads a source for a dump.
    Dump,
}

/// The value that a variable must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Any.
    Keep,
    /// This one, as the literal of SET.
    Is(&'static str),
    /// This one, and it is set in each session: its value depends on the client's login, or must not depend on anything.
    Always(&'static str),
    /// This number or a larger one.
    AtLeast(u64),
    /// The global value of the source: rows of a dump are evaluated again with it (stored generated columns), or objects are made with it.
    Source,
}

/// The privilege that setting a variable needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    Nothing,
    /// MySQL: a restricted session variable. MariaDB: none.
    Restricted,
    /// MySQL: a restricted session variable. MariaDB: SUPER.
    Super,
    /// MySQL: a restricted session variable. MariaDB: BINLOG ADMIN.
    Binlog,
    /// MySQL: TABLE_ENCRYPTION_ADMIN, while `table_encryption_privilege_check` is ON.
    Encryption,
}

impl Needs {
    /// The privilege's name in GRANT. MySQL before 8.0 and MariaDB before 10.5 have only SUPER.
    pub(crate) fn privilege(self, server: Server) -> Option<&'static str> {
        let old = match server.flavour {
            Flavour::MySql => server.version < Version(8, 0, 14),
            Flavour::MariaDb => server.version < Version(10, 5, 2),
        };
        match (server.flavour, self) {
            (_, Self::Nothing) | (Flavour::MariaDb, Self::Restricted | Self::Encryption) => None,
            _ if old => Some("SUPER"),
            (Flavour::MySql, Self::Encryption) => Some("TABLE_ENCRYPTION_ADMIN"),
            (Flavour::MySql, _) => Some("SESSION_VARIABLES_ADMIN"),
            (Flavour::MariaDb, Self::Binlog) => Some("BINLOG ADMIN"),
            (Flavour::MariaDb, Self::Super) => Some("SUPER"),
        }
    }
}

/// What happens if the variable has another value and cannot be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Harm {
    /// The copy is wrong, or cannot be made at all.
    Copy,
    /// The seed may fail under load, with an error.
    Failure,
}

/// A session variable of the profile.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// Its value in a session that loads.
    pub load: Want,
    /// Its value in a session that dumps.
    pub dump: Want,
    pub(crate) needs: Needs,
    pub(crate) harm: Harm,
    /// The first version that has it, and the last one if it was removed again. With [`Row::from`] the value needs a later one.
    pub since: &'static str,
    /// The first version of MariaDB that knows the value.
    pub(crate) from: Option<Version>,
    /// Why.
    pub reason: &'static str,
}

const fn row(
    name: &'static str,
    load: Want,
    dump: Want,
    since: &'static str,
    reason: &'static str,
) -> Row {
    Row {
        name,
        load,
        dump,
        needs: Needs::Nothing,
        harm: Harm::Copy,
        since,
        from: None,
        reason,
    }
}

impl Row {
    const fn needs(mut self, needs: Needs) -> Self {
        self.needs = needs;
        self
    }

    const fn failure(mut self) -> Self {
        self.harm = Harm::Failure;
        self
    }

    const fn from(mut self, version: Version) -> Self {
        self.from = Some(version);
        self
    }

    pub(super) fn want(&self, purpose: Purpose) -> Want {
        match purpose {
            Purpose::Load => self.load,
            Purpose::Dump => self.dump,
        }
    }
}

use Want::{Always, AtLeast, Is, Keep, Source};

/// No limit, for variables of 64 bits.
const ALL: &str = "18446744073709551615";

/// The session variables. They are set in this order.
#[rustfmt::skip]
pub const SESSION: &[Row] = &[
    // Transactions, and what a session writes
    row("autocommit", Is("1"), Is("1"), "all", "0: each SELECT opens a transaction, in which sql_log_bin cannot be set (1694), and DDL waits for its locks"),
    row("sql_log_bin", Always("0"), Keep, "all", "a load must not be in the target's binary log: errant GTIDs, and its replicas would repeat it").needs(Needs::Binlog),
    row("completion_type", Is("NO_CHAIN"), Is("NO_CHAIN"), "all", "RELEASE ends the session at each COMMIT, CHAIN opens the next transaction"),
    row("tx_read_only", Is("0"), Is("0"), "MySQL 5.6.5 to 8.0.2, MariaDB 10.0", "ON refuses each statement of a load (1792)"),
    row("transaction_read_only", Is("0"), Is("0"), "MySQL 5.7.20, MariaDB 11.1.1", "ON refuses each statement of a load (1792)"),
    row("tx_isolation", Is("'REPEATABLE-READ'"), Is("'REPEATABLE-READ'"), "MySQL to 8.0.2, all MariaDB", "a dump needs a snapshot; SERIALIZABLE locks what it reads"),
    row("transaction_isolation", Is("'REPEATABLE-READ'"), Is("'REPEATABLE-READ'"), "MySQL 5.7.20, MariaDB 11.1.1", "a dump needs a snapshot; SERIALIZABLE locks what it reads"),
    // Limits that cut results or end statements and sessions
    row("sql_select_limit", Is(ALL), Is(ALL), "all", "a dump has only the first rows of each table, and of its columns: nothing reports it"),
    row("max_join_size", Is(ALL), Is(ALL), "all", "with sql_big_selects = OFF a SELECT of more rows is refused (1104)"),
    row("sql_big_selects", Is("1"), Is("1"), "all", "set after max_join_size, which resets it"),
    row("max_execution_time", Is("0"), Is("0"), "MySQL 5.7.8", "a dump's SELECT is ended (3024)"),
    row("max_statement_time", Is("0"), Is("0"), "MariaDB 10.1.1", "statements of dump and load are ended (1969)"),
    row("wait_timeout", AtLeast(86_400), AtLeast(86_400), "all", "sessions that wait for others are ended (4031, 2006)").failure(),
    row("net_read_timeout", AtLeast(3600), AtLeast(3600), "all", "a client whose disk is busy is cut off").failure(),
    row("net_write_timeout", AtLeast(3600), AtLeast(3600), "all", "a client whose disk is busy is cut off").failure(),
    row("idle_transaction_timeout", Is("0"), Is("0"), "MariaDB 10.3", "the session that holds a dump's snapshot is idle for hours").failure(),
    row("idle_readonly_transaction_timeout", Is("0"), Is("0"), "MariaDB 10.3", "the session that holds a dump's snapshot is idle for hours").failure(),
    row("idle_write_transaction_timeout", Is("0"), Is("0"), "MariaDB 10.3.2", "a load whose dump is read slowly").failure(),
    row("lock_wait_timeout", AtLeast(86_400), Keep, "all", "a load waits for other clients of the target and is not ended by them (1205)").failure(),
    row("innodb_lock_wait_timeout", AtLeast(50), Keep, "all", "the same, for rows").failure(),
    row("max_session_mem_used", AtLeast(9_223_372_036_854_775_807), AtLeast(9_223_372_036_854_775_807), "MariaDB 10.1.21", "rows of one GiB are refused (1290)").failure(),
    row("tmp_disk_table_size", Is(ALL), Is(ALL), "MariaDB 10.2.7", "views and INFORMATION_SCHEMA of large servers (1114)").failure(),
    row("parser_max_mem_size", Is(ALL), Is(ALL), "MySQL 5.7.12", "an INSERT of a dump is refused (3170)").needs(Needs::Restricted).failure(),
    row("connection_memory_limit", Is(ALL), Is(ALL), "MySQL 8.0.28", "the session is ended (4082)").needs(Needs::Restricted).failure(),
    row("group_concat_max_len", AtLeast(1_048_576), AtLeast(1_048_576), "all", "lists of columns are cut"),
    row("max_heap_table_size", Source, Keep, "all", "the limit of a MEMORY table is what it was made with: its rows do not fit (1114)"),
    // What SELECT, SHOW CREATE and INFORMATION_SCHEMA return
    row("character_set_client", Always("utf8mb4"), Always("utf8mb4"), "all", "a server with skip_character_set_client_handshake ignores the client's: names and rows are altered"),
    row("character_set_results", Always("utf8mb4"), Always("utf8mb4"), "all", "as character_set_client"),
    row("collation_connection", Always("utf8mb4_general_ci"), Always("utf8mb4_general_ci"), "all", "as character_set_client; sets character_set_connection too"),
    row("sql_mode", Keep, Is("''"), "all", "ANSI_QUOTES, PAD_CHAR_TO_FULL_LENGTH and others change what SHOW CREATE and SELECT print; for a load the methods set it"),
    row("time_zone", Is("'+00:00'"), Is("'+00:00'"), "all", "TIMESTAMP values and defaults are printed in it, and read in it: without --tz-utc in two different ones"),
    row("sql_auto_is_null", Is("0"), Is("0"), "all", "`WHERE id IS NULL` returns another row"),
    row("sql_safe_updates", Is("0"), Is("0"), "all", "UPDATE and DELETE without a key are refused (1175)"),
    row("sql_quote_show_create", Keep, Is("1"), "all", "SHOW CREATE prints names that are no identifiers without quotes"),
    row("show_gipk_in_create_table_and_information_schema", Keep, Is("1"), "MySQL 8.0.30", "OFF: generated invisible primary keys are not in the dump, and the target numbers rows otherwise"),
    row("show_create_table_skip_secondary_engine", Keep, Is("0"), "MySQL 8.0.18", "ON leaves SECONDARY_ENGINE out of the dump"),
    row("show_create_table_verbosity", Keep, Is("0"), "MySQL 5.7.22", "ON writes a ROW_FORMAT that the source's table does not name"),
    row("show_old_temporals", Keep, Is("0"), "MySQL 5.6.24 to 8.3", "ON writes comments into column types"),
    row("explain_format", Keep, Is("TRADITIONAL"), "MySQL 8.0.32", "mydumper 1.0 reads EXPLAIN by column and crashes on a tree"),
    row("use_secondary_engine", Keep, Is("OFF"), "MySQL 8.0.13", "rows are read from another engine, with its rounding and without the snapshot"),
    row("system_versioning_asof", Keep, Is("DEFAULT"), "MariaDB 10.3.4", "SELECT returns rows of another time"),
    // What CREATE and INSERT make of a dump
    row("foreign_key_checks", Is("0"), Keep, "all", "tables are loaded in any order"),
    row("restrict_fk_on_non_standard_key", Is("0"), Keep, "MySQL 8.4", "a foreign key to a key that is not unique is refused (6125), and older servers have them").needs(Needs::Restricted),
    row("check_constraint_checks", Is("0"), Keep, "MariaDB 10.2.1", "rows that were inserted without checks are refused (4025)"),
    row("explicit_defaults_for_timestamp", Is("1"), Keep, "MySQL 5.6.6 (read-only in 5.6), MariaDB 10.1.8 (read-only before 10.5.17, 10.6.9)", "OFF: TIMESTAMP NOT NULL gains DEFAULT and ON UPDATE; a dump prints those that the source has").needs(Needs::Restricted),
    row("sql_generate_invisible_primary_key", Is("0"), Keep, "MySQL 8.0.30", "a table without a primary key gains a column").needs(Needs::Restricted),
    row("sql_require_primary_key", Is("0"), Keep, "MySQL 8.0.13", "a table without a primary key is refused (3750)").needs(Needs::Restricted),
    row("enforce_storage_engine", Is("NULL"), Keep, "MariaDB 10.1.4", "each table becomes one of this engine").needs(Needs::Super),
    row("innodb_strict_mode", Is("0"), Keep, "all", "a wide table, or one with options for another row format, that was made with OFF is refused (1118, 1031)").needs(Needs::Restricted),
    row("default_table_encryption", Is("0"), Keep, "MySQL 8.0.16", "a schema without encryption is refused (3827) or becomes another").needs(Needs::Encryption),
    row("innodb_compression_default", Is("0"), Keep, "MariaDB 10.2.3", "each table becomes PAGE_COMPRESSED"),
    row("innodb_default_encryption_key_id", Source, Keep, "MariaDB 10.1.4", "the key of tables that name none"),
    row("default_collation_for_utf8mb4", Is("utf8mb4_0900_ai_ci"), Keep, "MySQL 8.0.11", "parameters and variables of routines that name no collation get another one"),
    row("character_set_collations", Is("''"), Keep, "MariaDB 11.2.1", "columns that name a character set only get another collation"),
    row("old_mode", Is("'UTF8_IS_UTF8MB3'"), Keep, "MariaDB 10.0.8, the value 10.6.1", "utf8 in bodies of routines and in dumps of older servers means utf8mb3").from(Version(10, 6, 1)),
    row("standard_compliant_cte", Is("0"), Is("0"), "MariaDB 10.2.4", "a view that was made with OFF is refused (4008); OFF accepts all"),
    row("sql_if_exists", Is("0"), Keep, "MariaDB 10.5.2", "ON hides that ALTER and DROP did nothing"),
    row("alter_algorithm", Is("DEFAULT"), Keep, "MariaDB 10.3.7", "ALTER TABLE is refused where the algorithm cannot do it (1845, 1846)"),
    row("div_precision_increment", Source, Keep, "all", "digits of a division in stored generated columns"),
    row("lc_time_names", Source, Keep, "all", "names of months and days in stored generated columns"),
    row("default_week_format", Source, Keep, "all", "WEEK() in stored generated columns"),
    row("block_encryption_mode", Source, Keep, "MySQL 5.6.17, MariaDB 11.2", "AES_ENCRYPT() in stored generated columns"),
    row("default_regex_flags", Source, Keep, "MariaDB 10.0.11", "REGEXP in constraints and generated columns"),
    row("innodb_ft_enable_stopword", Source, Keep, "MySQL 5.6.4, MariaDB 10.0", "is a property of a FULLTEXT index from when it is made"),
    row("innodb_ft_user_stopword_table", Is("NULL"), Keep, "MySQL 5.6.4, MariaDB 10.0", "is a property of a FULLTEXT index from when it is made, and names a table that is being loaded"),
];

/// A global variable that is changed while a dump is loaded, and restored after.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Global {
    pub(crate) name: &'static str,
    /// Its value while loading. [`Want::Keep`]: the dump itself changes it, and a load that is cut short would leave it so.
    pub(super) load: Want,
    /// MariaDB's privilege for it, where that is not SUPER.
    maria: &'static str,
    pub(crate) reason: &'static str,
}

const fn global(name: &'static str, load: Want, reason: &'static str) -> Global {
    Global {
        name,
        load,
        maria: "SUPER",
        reason,
    }
}

/// They are set in this order: `super_read_only` implies `read_only`.
#[rustfmt::skip]
pub(crate) const GLOBAL: &[Global] = &[
    global("innodb_flush_log_at_trx_commit", Is("2"), "each statement of a load is a transaction, and a server that dies in it needs a new seed in any case"),
    global("max_allowed_packet", Is("1073741824"), "a row may be longer in the dump than in the server, in hex twice as long, and must fit one statement"),
    global("automatic_sp_privileges", Is("OFF"), "the DROP before each routine must not revoke the grants on it, which have been loaded before"),
    Global { maria: "BINLOG ADMIN",..global("log_bin_trust_function_creators", Is("ON"), "MySQL refuses functions and triggers of an account without SUPER otherwise, with the binary log off as well (1419)") },
    global("innodb_stats_auto_recalc", Keep, "mysqldump switches it off for the tables of statistics"),
    global("event_scheduler", Is("OFF"), "no event may run on half of the data: duplicate rows and errant GTIDs within milliseconds"),
    global("innodb_force_primary_key", Is("OFF"), "MariaDB: a table without a primary key is refused (1173)"),
    global("innodb_file_per_table", Is("ON"), "OFF: ROW_FORMAT=COMPRESSED, page compression and DATA DIRECTORY are ignored (innodb_strict_mode is OFF)"),
    global("innodb_default_row_format", Is("dynamic"), "keys of more than 767 bytes are refused in the others (1071)"),
    global("innodb_file_format", Is("Barracuda"), "MySQL before 8.0, MariaDB before 10.3: DYNAMIC and COMPRESSED become COMPACT in Antelope"),
    global("innodb_large_prefix", Is("ON"), "MySQL before 8.0, MariaDB before 10.3: long keys are cut"),
    global("div_precision_increment", Source, "digits of a division are those of the session that opens a table first, which may be any"),
    global("max_prepared_stmt_count", AtLeast(100), "statements in variables are prepared (1461)"),
    global("super_read_only", Is("OFF"), "a load writes"),
    Global { maria: "READ_ONLY ADMIN",..global("read_only", Is("OFF"), "a load writes") },
];

impl Global {
    /// The literal to set if the variable, which shows `present`, must change. `of_source` are the source's values by [`for_load`].
    pub(crate) fn change(&self, present: &str, of_source: &Variables) -> Option<String> {
        // A scheduler that was disabled at the server's start neither runs events nor can be set.
        if present.eq_ignore_ascii_case("DISABLED") {
            return None;
        }
        change(self.load, present, of_source.get(self.name))
    }

    pub(super) fn privilege(&self, server: Server) -> &'static str {
        match server.flavour {
            Flavour::MySql => server.word((8, 0, 0), "SYSTEM_VARIABLES_ADMIN", "SUPER"),
            Flavour::MariaDb if server.version >= Version(10, 5, 2) => self.maria,
            Flavour::MariaDb => "SUPER",
        }
    }
}

/// A privilege that an account needs only where a variable has a certain value.
pub(super) struct Demand {
    pub(super) name: &'static str,
    when: fn(&str) -> bool,
    purposes: &'static [Purpose],
    mysql: &'static str,
    /// Empty: MariaDB has no such variable.
    maria: &'static str,
    pub(super) reason: &'static str,
}

/// What `globals` demand of the account of a session for `purpose`.
pub(super) fn demands(
    server: Server,
    purpose: Purpose,
    globals: &Variables,
) -> Vec<(&'static Demand, &'static str)> {
    let old = !server.mysql_from(8, 0, 0) && !server.maria_from(10, 5, 2);
    let all = DEMANDS.iter().filter(|d| {
        d.purposes.contains(&purpose) && globals.get(d.name).is_some_and(|v| (d.when)(v))
    });
    let with_privilege = all.map(|d| match server.flavour {
        _ if d.mysql == "SHOW DATABASES" => (d, d.mysql),
        _ if old => (d, "SUPER"),
        Flavour::MySql => (d, d.mysql),
        Flavour::MariaDb => (d, d.maria),
    });
    with_privilege.filter(|(_, p)| !p.is_empty()).collect()
}

/// The privileges that the settings `globals` of a target demand of an account that loads it.
pub(crate) fn demanded_by_load(server: Server, globals: &Variables) -> BTreeSet<String> {
    let all = demands(server, Purpose::Load, globals).into_iter();
    all.map(|(_, privilege)| privilege.to_string()).collect()
}

const DEMANDS: &[Demand] = &[
    Demand {
        name: "init_connect",
        when: |v| !v.trim().is_empty(),
        purposes: &[Purpose::Load, Purpose::Dump],
        mysql: "CONNECTION_ADMIN",
        maria: "CONNECTION ADMIN",
        reason: "its statements would run in each session of the seed; it is never changed, and accounts with this privilege skip it",
    },
    Demand {
        name: "table_encryption_privilege_check",
        when: is_on,
        purposes: &[Purpose::Load],
        mysql: "TABLE_ENCRYPTION_ADMIN",
        maria: "",
        reason: "schemas and tables whose encryption is not default_table_encryption are refused without it",
    },
    Demand {
        name: "skip_show_database",
        when: is_on,
        purposes: &[Purpose::Dump],
        mysql: "SHOW DATABASES",
        maria: "SHOW DATABASES",
        reason: "the dump tools list the schemas by SHOW DATABASES",
    },
];

pub(crate) fn is_on(value: &str) -> bool {
    same(value, "ON")
}

/// `ON` and `OFF` as SHOW VARIABLES prints them, numbers as numbers, NULL as nothing, quotes away.
fn same(a: &str, b: &str) -> bool {
    let plain = |v: &str| {
        let v = v.trim_matches('\'').to_ascii_uppercase();
        match (v.as_str(), v.parse::<f64>()) {
            ("1", _) => "ON".to_string(),
            ("NULL", _) => String::new(),
            (_, Ok(0.0)) => "OFF".to_string(),
            (_, Ok(n)) if v.contains('.') => n.to_string(),
            _ => v,
        }
    };
    plain(a) == plain(b)
}

/// The literal to set where the variable shows `present` and must be as `want`.
pub(super) fn change(want: Want, present: &str, of_source: Option<&String>) -> Option<String> {
    match want {
        Keep => None,
        Always(literal) => Some(literal.to_string()),
        Is(literal) => (!same(literal, present)).then(|| literal.to_string()),
        AtLeast(n) => match present.parse::<u64>() {
            Ok(p) if p >= n => None,
            _ => Some(n.to_string()),
        },
        Source => {
            let value = of_source?;
            (!same(value, present)).then(|| literal(value))
        }
    }
}

/// The literal of SET for a value as the server shows it.
pub(super) fn literal(value: &str) -> String {
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        value.to_string()
    } else {
        quote_text(value)
    }
}

/// The variables of this session as it began, so of one that has set nothing; or, with `global`, those of the server.
pub(crate) fn variables(conn: &mut Conn, global: bool) -> Result<Variables> {
    let scope = if global { "GLOBAL" } else { "SESSION" };
    let rows: Vec<(String, Option<String>)> = query::rows(conn, format!("SHOW {scope} VARIABLES"))?;
    let rows = rows.into_iter();
    let variables =
        rows.map(|(name, value)| (name.to_ascii_lowercase(), value.unwrap_or_default()));
    Ok(variables.inserted())
}

/// Those of a source that a load wants to have as they are there, out of its globals.
pub(crate) fn for_load(globals: &Variables) -> Variables {
    let wanted = SESSION.iter().filter(|r| r.load == Source);
    let value = |r: &Row| Some((r.name.to_string(), globals.get(r.name)?.clone()));
    wanted.filter_map(value).inserted()
}

/// Raises `name` in the values by [`for_load`] to `n`, in steps of 1 KiB as servers take them.
pub(crate) fn at_least(of_source: &mut Variables, name: &str, n: u64) {
    let present = of_source.get(name).and_then(|v| v.parse::<u64>().ok());
    let n = n.div_ceil(1024).saturating_mul(1024);
    if present.is_none_or(|p| p < n) {
        of_source.insert(name.to_string(), n.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(version: &str) -> Server {
        Server::parse(version, "").unwrap()
    }

    #[test]
    fn values_compare_as_the_server_prints_them() {
        for (a, b) in [
            ("1", "ON"),
            ("OFF", "0"),
            ("0.000000", "0"),
            ("NULL", ""),
            ("'REPEATABLE-READ'", "REPEATABLE-READ"),
            ("dynamic", "DYNAMIC"),
            ("''", ""),
        ] {
            assert!(same(a, b), "{a} {b}");
        }
        assert!(!same("0.5", "0") && !same("18446744073709551615", "18446744073709551614"));
    }

    #[test]
    fn each_variable_has_one_row_and_a_reason() {
        let mut names = BTreeSet::new();
        let rows = SESSION.iter().map(|r| (r.name, "session", r.reason));
        let rows = rows.chain(GLOBAL.iter().map(|g| (g.name, "global", g.reason)));
        for (name, scope, reason) in rows {
            assert!(names.insert((name, scope)), "{name} twice");
            assert!(reason.len() > 10, "{name}");
        }
        for r in SESSION {
            assert!(
                (r.load, r.dump) != (Keep, Keep) && !r.since.is_empty(),
                "{}",
                r.name
            );
        }
    }

    #[test]
    fn the_page_has_all_of_them() {
        let page = include_str!("../../contrib/doc/load-profile.md");
        for row in SESSION {
            let line = page
                .lines()
                .find(|l| l.starts_with(&format!("| `{}` |", row.name)));
            let line = line.unwrap_or_else(|| panic!("{} is missing", row.name));
            assert!(
                line.contains(row.reason) && line.contains(row.since),
                "{line}"
            );
            for want in [row.load, row.dump] {
                if let Want::Is(value) = want {
                    assert!(
                        value == ALL || line.contains(&format!("`{value}`")),
                        "{line}"
                    );
                }
            }
        }
        for g in GLOBAL {
            assert!(page.contains(&format!("| `{}` |", g.name)), "{}", g.name);
        }
    }

    #[test]
    fn privileges_by_version() {
        for (version, needs, privilege) in [
            ("9.7.4", Needs::Restricted, Some("SESSION_VARIABLES_ADMIN")),
            ("9.7.4", Needs::Encryption, Some("TABLE_ENCRYPTION_ADMIN")),
            ("5.6.24", Needs::Binlog, Some("SUPER")),
            ("10.11.19-MariaDB", Needs::Binlog, Some("BINLOG ADMIN")),
            ("10.11.19-MariaDB", Needs::Restricted, None),
            ("10.4.8-MariaDB", Needs::Super, Some("SUPER")),
        ] {
            assert_eq!(needs.privilege(server(version)), privilege, "{version}");
        }
        assert_eq!(
            GLOBAL[0].privilege(server("9.7.4")),
            "SYSTEM_VARIABLES_ADMIN"
        );
        assert_eq!(GLOBAL[0].privilege(server("5.7.44")), "SUPER");
        assert!(GLOBAL.iter().any(|g| g.name == "read_only"
            && g.privilege(server("10.11.19-MariaDB")) == "READ_ONLY ADMIN"));
    }

    #[test]
    fn a_scheduler_that_is_disabled_is_left_alone() {
        let none = BTreeMap::new();
        let g = GLOBAL.iter().find(|g| g.name == "event_scheduler").unwrap();
        assert_eq!(g.change("DISABLED", &none), None);
        assert_eq!(g.change("OFF", &none), None);
        assert_eq!(g.change("ON", &none).as_deref(), Some("OFF"));
    }
}

//! Options of a replication channel that CHANGE REPLICATION SOURCE TO (CHANGE MASTER TO) sets: read from the status of a
//! replica, and written again when the channel gets a new source.
//!
//! A new host resets the heartbeat period only (MariaDB 10.11, MySQL 9.7); RESET REPLICA ALL resets all of them, and a physical
//! copy does not bring them, because it has the source's `mysql` schema.

use super::{Server, quote_text};
use Kind::{Flag, List, Number, Text, Word};
use When::{Always, ByGtid, ByPosition};
use std::collections::BTreeMap;

/// Columns of SHOW REPLICA STATUS and of performance_schema's tables, names in lower case; without those that are NULL.
pub(crate) type Columns = BTreeMap<String, String>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    option: &'static Known,
    /// As it is written in a statement.
    literal: String,
}

#[derive(Debug, PartialEq, Eq)]
struct Known {
    /// SOURCE_ or MASTER_ comes before it if `prefixed`.
    name: &'static str,
    prefixed: bool,
    /// Where its value is read; the first that exists.
    columns: &'static [&'static str],
    kind: Kind,
    /// Values that need not be mentioned: defaults of one version or another.
    usual: &'static [&'static str],
    when: When,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Number,
    /// `Yes` or `No`
    Flag,
    /// A string; an empty one is not set.
    Text,
    /// `7, 8`
    List,
    /// A keyword, or an account in quotes.
    Word,
}

/// With which kind of start a server accepts an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Always,
    /// With SOURCE_AUTO_POSITION = 1 only.
    ByGtid,
    /// Not with SOURCE_AUTO_POSITION = 1.
    ByPosition,
}

const fn of(
    kind: Kind,
    name: &'static str,
    columns: &'static [&'static str],
    usual: &'static [&'static str],
) -> Known {
    Known {
        name,
        prefixed: true,
        columns,
        kind,
        usual,
        when: Always,
    }
}

const fn bare(mut known: Known) -> Known {
    known.prefixed = false;
    known
}

const fn when(when: When, known: Known) -> Known {
    Known { when, ..known }
}

/// Manual: CHANGE REPLICATION SOURCE TO (MySQL 9.7), CHANGE MASTER TO (MariaDB 10.11, MySQL 5.6 to 8.0).
#[rustfmt::skip]
static KNOWN: [Known; 28] = [
    of(Number, "DELAY", &["sql_delay"], &["0"]),
    of(Number, "CONNECT_RETRY", &["connect_retry"], &["60"]),
    of(Number, "RETRY_COUNT", &["source_retry_count", "master_retry_count"], &["10", "86400", "100000"]),
    of(Number, "HEARTBEAT_PERIOD", &["heartbeat_interval", "slave_heartbeat_period"], &["30.000", "1800.000"]),
    of(Flag, "SSL", &["source_ssl_allowed", "master_ssl_allowed"], &[]),
    of(Text, "SSL_CA", &["source_ssl_ca_file", "master_ssl_ca_file"], &[]),
    of(Text, "SSL_CAPATH", &["source_ssl_ca_path", "master_ssl_ca_path"], &[]),
    of(Text, "SSL_CERT", &["source_ssl_cert", "master_ssl_cert"], &[]),
    of(Text, "SSL_KEY", &["source_ssl_key", "master_ssl_key"], &[]),
    of(Text, "SSL_CIPHER", &["source_ssl_cipher", "master_ssl_cipher"], &[]),
    of(Text, "SSL_CRL", &["source_ssl_crl", "master_ssl_crl"], &[]),
    of(Text, "SSL_CRLPATH", &["source_ssl_crlpath", "master_ssl_crlpath"], &[]),
    of(Flag, "SSL_VERIFY_SERVER_CERT", &["source_ssl_verify_server_cert", "master_ssl_verify_server_cert"], &["0"]),
    of(Text, "TLS_VERSION", &["source_tls_version", "master_tls_version"], &[]),
    of(Text, "TLS_CIPHERSUITES", &["tls_ciphersuites"], &[]),
    of(Text, "BIND", &["source_bind", "master_bind"], &[]),
    of(Text, "PUBLIC_KEY_PATH", &["public_key_path"], &[]),
    of(Text, "COMPRESSION_ALGORITHMS", &["compression_algorithm"], &["'uncompressed'"]),
    of(Number, "ZSTD_COMPRESSION_LEVEL", &["zstd_compression_level"], &["3"]),
    bare(of(Text, "NETWORK_NAMESPACE", &["network_namespace"], &[])),
    bare(of(List, "IGNORE_SERVER_IDS", &["replicate_ignore_server_ids"], &[])),
    bare(of(List, "DO_DOMAIN_IDS", &["replicate_do_domain_ids"], &[])),
    bare(of(List, "IGNORE_DOMAIN_IDS", &["replicate_ignore_domain_ids"], &[])),
    bare(of(Word, "PRIVILEGE_CHECKS_USER", &["privilege_checks_user"], &[])),
    bare(of(Flag, "REQUIRE_ROW_FORMAT", &["require_row_format"], &["0"])),
    bare(of(Word, "REQUIRE_TABLE_PRIMARY_KEY_CHECK", &["require_table_primary_key_check"], &["STREAM"])),
    when(ByGtid, bare(of(Number, "GTID_ONLY", &["gtid_only"], &["0"]))),
    when(ByGtid, of(Number, "CONNECTION_AUTO_FAILOVER", &["source_connection_auto_failover"], &["0"])),
];

/// Its value comes from two columns.
#[rustfmt::skip]
static ANONYMOUS: Known = when(ByPosition, bare(of(Word, "ASSIGN_GTIDS_TO_ANONYMOUS_TRANSACTIONS", &[], &["OFF"])));
/// Used with PUBLIC_KEY_PATH only; without it GET_PUBLIC_KEY is always set.
static PUBLIC_KEY: Known = of(Flag, "GET_PUBLIC_KEY", &["get_public_key"], &[]);

pub(crate) fn settings(columns: &Columns) -> Vec<Setting> {
    let read = |option: &'static Known| -> Option<Setting> {
        let value = option.columns.iter().find_map(|c| columns.get(*c))?;
        let literal = literal(option.kind, value)?;
        Some(Setting { option, literal })
    };
    let mut out: Vec<Setting> = KNOWN.iter().filter_map(read).collect();
    let assigned =
        |column: &str| columns.get(&format!("assign_gtids_to_anonymous_transactions_{column}"));
    if let Some(kind) = assigned("type") {
        let uuid = assigned("value").filter(|_| kind == "UUID");
        let literal = uuid.map_or_else(|| kind.clone(), |uuid| quote_text(uuid));
        let option = &ANONYMOUS;
        out.push(Setting { option, literal });
    }
    if out.iter().any(|s| s.option.name == "PUBLIC_KEY_PATH") {
        out.extend(read(&PUBLIC_KEY));
    }
    out
}

/// `None` where there is nothing to set.
fn literal(kind: Kind, value: &str) -> Option<String> {
    let number = |v: &str| v.parse::<f64>().is_ok();
    match kind {
        Number => number(value).then(|| value.to_string()),
        // `Ignored`: TLS is set, and the server was built without it.
        Flag => {
            let off = value.eq_ignore_ascii_case("no") || value == "0";
            Some(if off { "0" } else { "1" }.into())
        }
        Text => (!value.is_empty()).then(|| quote_text(value)),
        List => {
            let ids = value.split(',').map(str::trim);
            let ids: Vec<&str> = ids.filter(|id| number(id)).collect();
            (!ids.is_empty()).then(|| format!("({})", ids.join(",")))
        }
        Word => (!value.is_empty()).then(|| value.to_string()),
    }
}

impl Setting {
    /// The word of the statement without its prefix, such as `DELAY`.
    pub(crate) fn name(&self) -> &'static str {
        self.option.name
    }

    /// As written in a statement: numbers bare, strings in quotes.
    pub(crate) fn literal(&self) -> &str {
        &self.literal
    }

    /// The numbers of a list such as IGNORE_SERVER_IDS.
    pub(crate) fn list(&self) -> Vec<&str> {
        let inner = self.literal.trim_matches(['(', ')']);
        inner.split(',').filter(|id| !id.is_empty()).collect()
    }

    /// Whether a channel can have it that starts so.
    pub(crate) fn fits(&self, by_gtid: bool) -> bool {
        match self.option.when {
            Always => true,
            ByGtid => by_gtid,
            ByPosition => !by_gtid,
        }
    }

    /// `SOURCE_DELAY=3600`, in the words of `server`; the usual value if the channel cannot have this one with such a start.
    pub(crate) fn assignment(&self, server: Server, by_gtid: bool) -> String {
        let (name, word) = (self.option.name, server.source_word());
        let literal = match self.option.usual {
            [usual, ..] if !self.fits(by_gtid) => usual,
            _ => self.literal.as_str(),
        };
        match name {
            "GET_PUBLIC_KEY" => format!("GET_{word}_PUBLIC_KEY={literal}"),
            _ if self.option.prefixed => format!("{word}_{name}={literal}"),
            _ => format!("{name}={literal}"),
        }
    }

    /// True if it is not what a channel has that was made without it.
    pub(crate) fn notable(&self, server: Server) -> bool {
        // A channel of MySQL 9.7 is made with SOURCE_SSL = 1, one of MariaDB 11.4 with MASTER_SSL = 1; earlier ones without.
        let verifies = server.maria_from(11, 4, 0);
        let tls = verifies || server.mysql_from(9, 0, 0);
        match self.option.name {
            "SSL" => (self.literal == "1") != tls,
            "SSL_VERIFY_SERVER_CERT" if verifies => self.literal == "0",
            _ => !self.option.usual.contains(&self.literal.as_str()),
        }
    }
}

/// The filters of a channel, as `Replicate_Do_DB = shop`.
pub(crate) fn filters(columns: &Columns) -> Vec<String> {
    #[rustfmt::skip]
    const FILTERS: [&str; 7] = [
        "Do_DB", "Ignore_DB", "Do_Table", "Ignore_Table", "Wild_Do_Table", "Wild_Ignore_Table", "Rewrite_DB",
    ];
    let set = |filter: &str| {
        let name = format!("Replicate_{filter}");
        let value = columns.get(&name.to_ascii_lowercase());
        let value = value.filter(|v| !v.is_empty())?;
        Some(format!("{name} = {value}"))
    };
    FILTERS.into_iter().filter_map(set).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(pairs: &[(&str, &str)]) -> Columns {
        let own = |(k, v): &(&str, &str)| (k.to_string(), v.to_string());
        pairs.iter().map(own).collect()
    }

    fn statement(version: &str, pairs: &[(&str, &str)]) -> String {
        let server = Server::parse(version, "").unwrap();
        let all = settings(&columns(pairs));
        let all: Vec<String> = all.iter().map(|s| s.assignment(server, true)).collect();
        all.join(", ")
    }

    #[test]
    fn a_delayed_replica_in_the_words_of_each_server() {
        let maria = [
            ("sql_delay", "3600"),
            ("connect_retry", "17"),
            ("slave_heartbeat_period", "7.000"),
            ("master_ssl_allowed", "Yes"),
            ("master_ssl_ca_file", "/x/c'a"),
            ("master_ssl_verify_server_cert", "No"),
            ("replicate_ignore_server_ids", "7, 8"),
            ("replicate_do_domain_ids", "1, 2"),
            ("replicate_ignore_domain_ids", ""),
        ];
        assert_eq!(
            statement("10.11.6-MariaDB", &maria),
            "MASTER_DELAY=3600, MASTER_CONNECT_RETRY=17, MASTER_HEARTBEAT_PERIOD=7.000, MASTER_SSL=1, \
             MASTER_SSL_CA='/x/c''a', MASTER_SSL_VERIFY_SERVER_CERT=0, IGNORE_SERVER_IDS=(7,8), DO_DOMAIN_IDS=(1,2)"
        );
        let mysql = [
            ("sql_delay", "9"),
            ("source_retry_count", "86"),
            ("heartbeat_interval", "7.000"),
            ("source_ssl_allowed", "No"),
            ("compression_algorithm", "zstd"),
            ("network_namespace", "blue"),
            ("privilege_checks_user", "'app'@'%'"),
            ("require_row_format", "YES"),
            ("require_table_primary_key_check", "GENERATE"),
            ("gtid_only", "1"),
            ("assign_gtids_to_anonymous_transactions_type", "UUID"),
            (
                "assign_gtids_to_anonymous_transactions_value",
                "604c3c6e-ea1d-11f1-8563-02fc00000001",
            ),
            ("public_key_path", "/x/key"),
            ("get_public_key", "NO"),
        ];
        assert_eq!(
            statement("9.7.4", &mysql),
            "SOURCE_DELAY=9, SOURCE_RETRY_COUNT=86, SOURCE_HEARTBEAT_PERIOD=7.000, SOURCE_SSL=0, \
             SOURCE_PUBLIC_KEY_PATH='/x/key', SOURCE_COMPRESSION_ALGORITHMS='zstd', NETWORK_NAMESPACE='blue', \
             PRIVILEGE_CHECKS_USER='app'@'%', REQUIRE_ROW_FORMAT=1, REQUIRE_TABLE_PRIMARY_KEY_CHECK=GENERATE, GTID_ONLY=1, \
             ASSIGN_GTIDS_TO_ANONYMOUS_TRANSACTIONS=OFF, GET_SOURCE_PUBLIC_KEY=0"
        );
        assert!(statement("8.0.22", &mysql).contains("MASTER_DELAY=9"));
        assert_eq!(statement("5.6.24", &[("sql_delay", "NULL")]), "");
    }

    #[test]
    fn what_needs_a_gtid_start_and_what_needs_a_position() {
        let all = settings(&columns(&[
            ("sql_delay", "9"),
            ("gtid_only", "1"),
            ("assign_gtids_to_anonymous_transactions_type", "LOCAL"),
        ]));
        let names = |by_gtid| -> Vec<&str> {
            let fits = all.iter().filter(|s| s.fits(by_gtid));
            fits.map(Setting::name).collect()
        };
        assert_eq!(names(true), ["DELAY", "GTID_ONLY"]);
        assert_eq!(
            names(false),
            ["DELAY", "ASSIGN_GTIDS_TO_ANONYMOUS_TRANSACTIONS"]
        );
        let server = Server::parse("9.7.4", "").unwrap();
        let by_position = all.iter().map(|s| s.assignment(server, false));
        assert_eq!(
            by_position.collect::<Vec<_>>(),
            [
                "SOURCE_DELAY=9",
                "GTID_ONLY=0",
                "ASSIGN_GTIDS_TO_ANONYMOUS_TRANSACTIONS=LOCAL"
            ]
        );
    }

    #[test]
    fn what_is_mentioned() {
        let of = |version: &str, pairs: &[(&str, &str)]| -> Vec<&'static str> {
            let server = Server::parse(version, "").unwrap();
            let all = settings(&columns(pairs));
            let notable = all.iter().filter(|s| s.notable(server));
            notable.map(Setting::name).collect()
        };
        let usual = [
            ("sql_delay", "0"),
            ("connect_retry", "60"),
            ("source_retry_count", "10"),
            ("heartbeat_interval", "30.000"),
            ("source_ssl_allowed", "Yes"),
            ("source_ssl_verify_server_cert", "No"),
            ("compression_algorithm", "uncompressed"),
            ("zstd_compression_level", "3"),
            ("require_row_format", "NO"),
            ("require_table_primary_key_check", "STREAM"),
            ("assign_gtids_to_anonymous_transactions_type", "OFF"),
        ];
        assert_eq!(of("9.7.4", &usual), [""; 0]);
        assert_eq!(of("8.0.36", &usual), ["SSL"]);
        assert_eq!(
            of(
                "10.11.6-MariaDB",
                &[("sql_delay", "1"), ("replicate_do_domain_ids", "1")]
            ),
            ["DELAY", "DO_DOMAIN_IDS"]
        );
    }

    #[test]
    fn filters_are_named() {
        let c = columns(&[
            ("replicate_do_db", "a,b"),
            ("replicate_ignore_db", ""),
            ("replicate_ignore_server_ids", "7"),
        ]);
        assert_eq!(filters(&c), ["Replicate_Do_DB = a,b"]);
    }

    #[test]
    fn lists_are_read() {
        let all = settings(&columns(&[("replicate_ignore_server_ids", "7, 8")]));
        assert_eq!(all[0].list(), ["7", "8"]);
        assert_eq!(all[0].literal(), "(7,8)");
    }
}

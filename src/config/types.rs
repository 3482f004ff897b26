//! The configuration as serde types: one struct a section, one field a key, with its spellings, range and default. A key is the field's
//! name with `-` for `_` unless `rename` says otherwise; `conf/orchestrator-agent.conf` explains each.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};

use super::duration::{positive, zero_or_more};
use super::value::{commands, level, port, range, urls};
use crate::error::{Error, Result};

/// A struct whose fields have their defaults next to them.
macro_rules! settings {
    ($(#[$meta:meta])* $name:ident { $($(#[$attr:meta])* $field:ident: $type:ty = $default:expr,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(default, rename_all = "kebab-case")]
        #[allow(missing_docs)]
        pub struct $name { $($(#[$attr])* pub $field: $type,)* }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }
    };
}

/// An enum whose words in the file are the variants' names, `UntilCleanup` as `until-cleanup`.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($word:ident),* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        #[allow(missing_docs)]
        pub enum $name { $($word),* }
    };
}

/// The configuration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
#[allow(missing_docs)]
pub struct Config {
    pub(crate) common: Common,
    pub(crate) orchestrator: Orchestrator,
    pub(crate) logging: Logging,
    pub mysql: Mysql,
    /// `[custom-commands.NAME]`: name to command line.
    #[serde(deserialize_with = "commands")]
    pub(crate) custom_commands: BTreeMap<String, String>,
    pub(crate) mysqldump: Mysqldump,
    pub(crate) mydumper: Mydumper,
    pub(crate) xtrabackup: Xtrabackup,
    pub(crate) lvm: Lvm,
    /// `[clone-plugin]` is the same section.
    #[serde(rename = "clone_plugin")]
    pub(crate) clone_plugin: ClonePlugin,
    pub(crate) classic: Classic,
}

settings! { Common {
    #[serde(deserialize_with = "port")] port: u16 = 3002,
    listen_address: String = "".into(),
    hostname: String = "".into(),
    #[serde(deserialize_with = "port")] seed_port: u16 = 21234,
    #[serde(deserialize_with = "positive")] poll_interval: Duration = Duration::from_secs(60),
    #[serde(deserialize_with = "positive")] resubmit_agent_interval: Duration = Duration::from_secs(3600),
    http_auth_user: String = "".into(),
    http_auth_password: Secret = Secret::default(),
    #[serde(deserialize_with = "positive")] http_timeout: Duration = Duration::from_secs(10),
    use_ssl: bool = false,
    use_mutual_tls: bool = false,
    ssl_skip_verify: bool = false,
    ssl_cert_file: String = "".into(),
    ssl_private_key_file: String = "".into(),
    ssl_ca_file: String = "".into(),
    ssl_valid_ous: Vec<String> = Vec::new(),
    status_ou_verify: bool = false,
    token_hint_file: String = "".into(),
    token_http_header: String = "".into(),
    exec_with_sudo: bool = false,
    sudo_user: String = "".into(),
    backup_dir: PathBuf = "".into(),
    status_endpoint: String = "/api/status".into(),
    #[serde(deserialize_with = "positive")] status_bad_seconds: Duration = Duration::from_secs(300),
    state_dir: PathBuf = "/var/lib/orchestrator-agent".into(),
    #[serde(deserialize_with = "range::<_, _, 1, 10_000>")] max_connections: usize = 64,
    #[serde(deserialize_with = "range::<_, _, 1, 10_000>")] max_connections_per_address: usize = 64,
    /// of the response to a wrong token
    #[serde(deserialize_with = "zero_or_more")] failed_token_delay: Duration = Duration::from_millis(400),
    /// bytes
    #[serde(deserialize_with = "range::<_, _, 1024, 1_048_576>")] max_head_size: usize = 16 << 10,
    /// bytes
    #[serde(deserialize_with = "range::<_, _, 1024, 1_073_741_824>")] max_body_size: usize = 1 << 20,
    allowed_clients: Vec<String> = Vec::new(),
    #[serde(deserialize_with = "positive")] command_timeout: Duration = Duration::from_secs(600),
    #[serde(deserialize_with = "positive")] seed_orphan_timeout: Duration = Duration::from_secs(180),
    seed_secret: Secret = Secret::default(),
    #[serde(deserialize_with = "positive")] seed_first_byte_timeout: Duration = Duration::from_secs(60),
    #[serde(deserialize_with = "positive")] seed_idle_timeout: Duration = Duration::from_secs(60),
    #[serde(deserialize_with = "positive")] source_lock_timeout: Duration = Duration::from_secs(1),
    /// bytes per second, 0 = no limit
    #[serde(deserialize_with = "range::<_, _, 0, 9_223_372_036_854_775_807>")] seed_rate_limit: u64 = 0,
    accept_raw_streams: bool = false,
    expose_token_in_agent_info: bool = false,
}}

impl Common {
    /// The address to listen on: all of them where `listen-address` is empty or `*`.
    ///
    /// # Errors
    /// Permanent: if it is not an IP address.
    pub(crate) fn listen_ip(&self) -> Result<IpAddr> {
        match self.listen_address.trim_matches(['[', ']']) {
            "" | "*" => Ok(Ipv6Addr::UNSPECIFIED.into()),
            text => text.parse().map_err(|_| {
                Error::permanent(format!(
                    "common.listen-address = \"{}\" is not an IP address; leave it empty for all",
                    self.listen_address
                ))
            }),
        }
    }
}

settings! { Orchestrator {
    /// At least one; each `scheme://host[:port][/prefix]` (`http://` is added where none was given), no trailing slash. A port here
    /// takes precedence over `agents-port`.
    #[serde(rename = "url", deserialize_with = "urls")] urls: Vec<String> = Vec::new(),
    #[serde(deserialize_with = "port")] agents_port: u16 = 3001,
    protocol: Protocol = Protocol::V2,
}}

// Which of the two wire protocols the orchestrator uses; `classic` is that of the original orchestrator.
words! { Protocol { V2, Classic } }

settings! { Logging {
    /// Empty: standard output only.
    file: String = "/var/log/orchestrator-agent.log".into(),
    #[serde(with = "level")] level: log::LevelFilter = log::LevelFilter::Info,
    format: LogFormat = LogFormat::Text,
}}

// How a log line is written.
words! { LogFormat { Text, Json, Logfmt } }

settings! { Mysql {
    host: String = "127.0.0.1".into(),
    #[serde(deserialize_with = "port")] port: u16 = 3306,
    /// Empty: TCP to host and port.
    socket: String = "".into(),
    user: String = "".into(),
    password: Secret = Secret::default(),
    service_status_command: String = "systemctl check mysqld".into(),
    service_start_command: String = "systemctl start mysqld".into(),
    service_stop_command: String = "systemctl stop mysqld".into(),
    datadir: String = "".into(),
    defaults_file: String = "".into(),
    staging_dir: String = "".into(),
    datadir_swap: DatadirSwap = DatadirSwap::Auto,
    keep_old_data: KeepOldData = KeepOldData::UntilCleanup,
    /// Zero: no limit.
    #[serde(deserialize_with = "zero_or_more")] boot_timeout: Duration = Duration::ZERO,
    drop_extra_schemas: bool = false,
    /// MySQL 8.0.21 and later: no redo log while a logical seed loads.
    load_without_redo_log: bool = false,
    disable_events_on_target: bool = true,
}}

words! { DatadirSwap { Auto, Always, Never } }

words! { KeepOldData { UntilCleanup, No, Forever } }

settings! {
/// The Go agent's README says `mysqldump-addtional-opts`, its code reads `addtional-opts`.
Mysqldump {
    enabled: bool = true,
    #[serde(
        rename = "mysqldump-addtional-opts",
        alias = "mysqldump-additional-opts",
        alias = "addtional-opts",
        alias = "additional-opts"
    )]
    additional_opts: Vec<String> =
        ["--single-transaction", "--quick", "--routines", "--events", "--triggers", "--hex-blob"].map(String::from).into(),
}}

settings! { Mydumper {
    enabled: bool = false,
    #[serde(rename = "mydumper-addtional-opts", alias = "mydumper-additional-opts")]
    mydumper_additional_opts: Vec<String> = Vec::new(),
    #[serde(alias = "myloader-addtional-opts")]
    myloader_additional_opts: Vec<String> = Vec::new(),
    any_version: bool = false,
}}

settings! {
/// TLS settings of a seed stream, under the names that the Go agent gave socat's; `socat-ssl-cat-file` is how it spells the CA file.
SocatTls {
    #[serde(rename = "socat-use-ssl")] use_ssl: bool = false,
    #[serde(rename = "socat-ssl-cert-file")] ssl_cert_file: String = "".into(),
    #[serde(rename = "socat-ssl-cat-file", alias = "socat-ssl-ca-file")] ssl_ca_file: String = "".into(),
    #[serde(rename = "socat-ssl-skip-verify")] ssl_skip_verify: bool = false,
}}

words! { Compression { None, Lz4, Zstd } }

settings! {
/// The field named "" takes its keys from the section itself, see `document.rs`.
Xtrabackup {
    enabled: bool = false,
    #[serde(
        rename = "xtrabackup-addtional-opts",
        alias = "xtrabackup-additional-opts",
        alias = "addtional-opts",
        alias = "additional-opts"
    )]
    additional_opts: Vec<String> = Vec::new(),
    #[serde(rename = "")] socat: SocatTls = SocatTls::default(),
    stream_compression: Compression = Compression::None,
}}

settings! { Lvm {
    enabled: bool = false,
    create_snapshot_command: String = "".into(),
    create_new_snapshot_for_seed: bool = false,
    available_local_snapshot_hosts_command: String = "".into(),
    available_snapshot_hosts_command: String = "".into(),
    snapshot_volumes_filter: String = "".into(),
    #[serde(rename = "")] socat: SocatTls = SocatTls::default(),
    stream_compression: Compression = Compression::None,
    keep_snapshot: bool = false,
}}

settings! {
/// The ranges are those of the server's variables of the same names (MySQL 8.0 to 9.7).
ClonePlugin {
    enabled: bool = false,
    #[serde(rename = "clone-autotune-concurrency")] autotune_concurrency: bool = true,
    #[serde(rename = "clone-buffer-size", deserialize_with = "range::<_, _, 1_048_576, 268_435_456>")]
    buffer_size: u64 = 4_194_304,
    #[serde(rename = "clone-ddl-timeout", deserialize_with = "range::<_, _, 0, 2_592_000>")] ddl_timeout: u64 = 300,
    #[serde(rename = "clone-enable-compression")] enable_compression: bool = false,
    #[serde(rename = "clone-max-concurrency", deserialize_with = "range::<_, _, 1, 128>")] max_concurrency: u64 = 16,
    #[serde(rename = "clone-max-data-bandwidth", deserialize_with = "range::<_, _, 0, 1_048_576>")]
    max_data_bandwidth: u64 = 0,
    #[serde(rename = "clone-max-network-bandwidth", deserialize_with = "range::<_, _, 0, 1_048_576>")]
    max_network_bandwidth: u64 = 0,
    #[serde(rename = "clone-ssl-ca")] ssl_ca: String = "".into(),
    #[serde(rename = "clone-ssl-cert")] ssl_cert: String = "".into(),
    #[serde(rename = "clone-ssl-key")] ssl_key: String = "".into(),
    /// Zero: no limit.
    #[serde(deserialize_with = "zero_or_more")] restart_timeout: Duration = Duration::from_secs(900),
}}

settings! { Classic {
    seed_method: String = "LVM".into(),
    connect_replication: bool = false,
    replication_user: String = "".into(),
    replication_password_file: String = "".into(),
    close_on_danger: bool = true,
}}

/// A value that must never be printed: its `Debug` shows only whether it is set.
#[derive(Clone, PartialEq, Eq, Default, Deserialize)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The secret itself, for the one place that needs it.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    /// True if nothing is set.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_empty() {
            "(not set)"
        } else {
            "(set)"
        })
    }
}

/// A number by which two configurations in this process can be compared. It is keyed by chance, so it reveals nothing.
impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        static KEYED: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        serializer.serialize_u64(KEYED.hash_one(&self.0))
    }
}

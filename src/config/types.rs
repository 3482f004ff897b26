//! The typed configuration: one struct a section, one field a key. Field names are the keys with `_` for `-`.
//! Every field's default and meaning stands in `conf/orchestrator-agent.conf`.

use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

/// The whole configuration, validated.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `[common]`
    pub common: Common,
    /// `[orchestrator]`
    pub orchestrator: Orchestrator,
    /// `[logging]`
    pub logging: Logging,
    /// `[mysql]`
    pub mysql: Mysql,
    /// `[custom-commands.NAME]`: name to command line.
    pub custom_commands: BTreeMap<String, String>,
    /// `[mysqldump]`
    pub mysqldump: Mysqldump,
    /// `[mydumper]`
    pub mydumper: Mydumper,
    /// `[xtrabackup]`
    pub xtrabackup: Xtrabackup,
    /// `[lvm]`
    pub lvm: Lvm,
    /// `[clone_plugin]`
    pub clone_plugin: ClonePlugin,
    /// `[classic]`
    pub classic: Classic,
}

/// `[common]`
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct Common {
    pub port: u16,
    pub listen_address: String,
    pub hostname: String,
    pub seed_port: u16,
    pub poll_interval: Duration,
    pub resubmit_agent_interval: Duration,
    pub http_auth_user: String,
    pub http_auth_password: Secret,
    pub http_timeout: Duration,
    pub use_ssl: bool,
    pub use_mutual_tls: bool,
    pub ssl_skip_verify: bool,
    pub ssl_cert_file: String,
    pub ssl_private_key_file: String,
    pub ssl_ca_file: String,
    pub ssl_valid_ous: Vec<String>,
    pub status_ou_verify: bool,
    pub token_hint_file: String,
    pub token_http_header: String,
    pub exec_with_sudo: bool,
    pub sudo_user: String,
    pub backup_dir: PathBuf,
    pub status_endpoint: String,
    pub status_bad_seconds: Duration,
    pub state_dir: PathBuf,
    pub max_connections: usize,
    pub max_connections_per_address: usize,
    /// in a row, 0 = no delay
    pub max_failed_tokens: u32,
    /// bytes
    pub max_head_size: usize,
    /// bytes
    pub max_body_size: usize,
    pub allowed_clients: Vec<String>,
    pub command_timeout: Duration,
    pub seed_orphan_timeout: Duration,
    pub seed_secret: Secret,
    pub seed_first_byte_timeout: Duration,
    pub seed_idle_timeout: Duration,
    pub source_lock_timeout: Duration,
    /// bytes per second, 0 = no limit
    pub seed_rate_limit: u64,
    pub accept_raw_streams: bool,
    pub expose_token_in_agent_info: bool,
}

impl Common {
    /// The address to listen on: all of them where `listen-address` is empty or `*`.
    ///
    /// # Errors
    /// Permanent: if it is no IP address.
    pub fn listen_ip(&self) -> Result<IpAddr> {
        match self.listen_address.trim_matches(['[', ']']) {
            "" | "*" => Ok(Ipv6Addr::UNSPECIFIED.into()),
            text => text.parse().map_err(|_| {
                Error::permanent(format!(
                    "common.listen-address = \"{}\" is no IP address; leave it empty for all",
                    self.listen_address
                ))
            }),
        }
    }
}

/// `[orchestrator]`
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct Orchestrator {
    /// At least one; each `scheme://host[:port][/prefix]` (`http://` is put in front where none was given), no trailing slash. A
    /// port here goes before `agents-port`.
    pub urls: Vec<String>,
    pub agents_port: u16,
    pub protocol: Protocol,
}

/// Which of the two wire protocols the orchestrator speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// spec agent-api-v2
    V2,
    /// spec agent-api-v1
    Classic,
}

/// `[logging]`
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct Logging {
    /// Empty: standard output only.
    pub file: String,
    pub level: log::LevelFilter,
    pub format: LogFormat,
}

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum LogFormat {
    Text,
    Json,
    Logfmt,
}

/// `[mysql]`
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct Mysql {
    pub host: String,
    pub port: u16,
    /// Empty: TCP to host and port.
    pub socket: String,
    pub user: String,
    pub password: Secret,
    pub service_status_command: String,
    pub service_start_command: String,
    pub service_stop_command: String,
    pub datadir: String,
    pub defaults_file: String,
    pub staging_dir: String,
    pub datadir_swap: DatadirSwap,
    pub keep_old_data: KeepOldData,
    /// Zero: no limit.
    pub boot_timeout: Duration,
    pub drop_extra_schemas: bool,
    /// MySQL 8.0.21 and later: no redo log while a logical seed loads.
    pub load_without_redo_log: bool,
    pub disable_events_on_target: bool,
}

/// `mysql.datadir-swap`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum DatadirSwap {
    Auto,
    Always,
    Never,
}

/// `mysql.keep-old-data`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum KeepOldData {
    UntilCleanup,
    No,
    Forever,
}

/// `[mysqldump]`
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct Mysqldump {
    pub enabled: bool,
    pub additional_opts: Vec<String>,
}

/// `[mydumper]`
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct Mydumper {
    pub enabled: bool,
    pub mydumper_additional_opts: Vec<String>,
    pub myloader_additional_opts: Vec<String>,
    pub any_version: bool,
}

/// TLS settings of a seed stream, under the names that the Go agent gave socat's.
#[derive(Debug, Clone, PartialEq, Default)]
#[allow(missing_docs)]
pub struct SocatTls {
    pub use_ssl: bool,
    pub ssl_cert_file: String,
    pub ssl_ca_file: String,
    pub ssl_skip_verify: bool,
}

/// `stream-compression`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Compression {
    None,
    Lz4,
    Zstd,
}

/// `[xtrabackup]`
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct Xtrabackup {
    pub enabled: bool,
    pub additional_opts: Vec<String>,
    pub socat: SocatTls,
    pub stream_compression: Compression,
}

/// `[lvm]`
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct Lvm {
    pub enabled: bool,
    pub create_snapshot_command: String,
    pub create_new_snapshot_for_seed: bool,
    pub available_local_snapshot_hosts_command: String,
    pub available_snapshot_hosts_command: String,
    pub snapshot_volumes_filter: String,
    pub socat: SocatTls,
    pub stream_compression: Compression,
    pub keep_snapshot: bool,
}

/// `[clone_plugin]`
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct ClonePlugin {
    pub enabled: bool,
    pub autotune_concurrency: bool,
    pub buffer_size: u64,
    pub ddl_timeout: u64,
    pub enable_compression: bool,
    pub max_concurrency: u64,
    pub max_data_bandwidth: u64,
    pub max_network_bandwidth: u64,
    pub ssl_ca: String,
    pub ssl_cert: String,
    pub ssl_key: String,
    /// Zero: no limit.
    pub restart_timeout: Duration,
}

/// `[classic]`
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct Classic {
    pub seed_method: String,
    pub connect_replication: bool,
    pub replication_user: String,
    pub replication_password_file: String,
    pub close_on_danger: bool,
}

/// A value that must never be printed: its `Debug` shows only whether it is set.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The secret itself, for the one place that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// True if nothing is set.
    pub fn is_empty(&self) -> bool {
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

//! The configuration: one struct a section, one field a key, with its spellings, range and default. A key is the field's name with `-`
//! for `_` unless names are given; `conf/orchestrator-agent.conf` explains each.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

pub use super::setting::Secret;
use super::setting::{Key, MethodNames, Setting, Urls, Wrong, word};
use crate::error::{Error, Result};

/// A section: `field: type [range] as "name" | "further spelling" = default`. The keys of `..field: type` are in the section as well.
macro_rules! section {
    ($(#[$meta:meta])* $name:ident {
        $($(#[$attr:meta])* $field:ident: $type:ty $([$range:expr])? $(as $($key:literal)|+)? = $default:expr,)*
        $(..$group:ident: $of:ty)?
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        #[allow(missing_docs)]
        pub struct $name { $($(#[$attr])* pub $field: $type,)* $(pub $group: $of,)? }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* $($group: <$of>::default(),)? }
            }
        }

        impl $name {
            pub(super) fn keys(&mut self) -> Vec<Key<'_>> {
                [
                    vec![$(Key::new(stringify!($field), &[$($($key),+)?], &[$($range)?], &mut self.$field)),*],
                    $(self.$group.keys(),)?
                ]
                .into_iter()
                .flatten()
                .collect()
            }
        }
    };
}

/// An enum and its words in the file.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($variant:ident = $word:literal),* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub enum $name { $($variant),* }

        impl Setting for $name {
            fn read(&mut self, given: &toml::de::DeValue, _: &RangeInclusive<u64>) -> std::result::Result<(), Wrong> {
                *self = word(given, &[$(($word, Self::$variant)),*])?;
                Ok(())
            }
        }
    };
}

const PORT: RangeInclusive<u64> = 1..=65535;
/// Of a duration: any but zero.
const POSITIVE: RangeInclusive<u64> = 1..=u64::MAX;

#[derive(Debug, Clone, Default, PartialEq)]
#[allow(missing_docs)]
pub struct Config {
    pub(crate) common: Common,
    pub(crate) orchestrator: Orchestrator,
    pub(crate) logging: Logging,
    pub mysql: Mysql,
    /// `[custom-commands.NAME]`: name to command line.
    pub(crate) custom_commands: BTreeMap<String, String>,
    pub(crate) mysqldump: Mysqldump,
    pub(crate) mydumper: Mydumper,
    pub(crate) xtrabackup: Xtrabackup,
    pub(crate) lvm: Lvm,
    pub(crate) clone_plugin: ClonePlugin,
    pub(crate) classic: Classic,
}

impl Config {
    /// What only the agent's user should read; `None` if there is nothing of that kind.
    pub(super) fn secrets(&self) -> Option<&'static str> {
        let (common, c) = (&self.common, &self.classic);
        let passwords = [
            &self.mysql.password,
            &common.http_auth_password,
            &common.seed_secret,
        ];
        if passwords.iter().any(|password| !password.is_empty()) {
            return Some("a password");
        }
        let commands = [
            &c.mysql_datadir_command,
            &c.mysql_port_command,
            &c.mysql_client_command,
            &c.delete_mysql_datadir_content_command,
            &c.receive_seed_data_command,
            &c.send_seed_data_command,
            &c.post_copy_command,
        ];
        let mut commands = commands.into_iter().chain(self.custom_commands.values());
        let has_command = commands.any(|line| !line.is_empty());
        has_command.then_some("commands, in which a password may be,")
    }

    /// False if no built-in seed method is enabled: then only operators' commands are run, for which MySQL needs no account.
    pub(super) fn needs_account(&self) -> bool {
        self.mysqldump.enabled
            || self.mydumper.enabled
            || self.xtrabackup.enabled
            || self.clone_plugin.enabled
    }

    /// Name and keys of each section but `[custom-commands]`.
    pub(super) fn sections(&mut self) -> [(&'static str, Vec<Key<'_>>); 10] {
        [
            ("common", self.common.keys()),
            ("orchestrator", self.orchestrator.keys()),
            ("logging", self.logging.keys()),
            ("mysql", self.mysql.keys()),
            ("mysqldump", self.mysqldump.keys()),
            ("mydumper", self.mydumper.keys()),
            ("xtrabackup", self.xtrabackup.keys()),
            ("lvm", self.lvm.keys()),
            ("clone_plugin", self.clone_plugin.keys()),
            ("classic", self.classic.keys()),
        ]
    }
}

section! { Common {
    port: u16 [PORT] = 3002,
    listen_address: String = "".into(),
    hostname: String = "".into(),
    seed_port: u16 [PORT] = 21234,
    poll_interval: Duration [POSITIVE] = Duration::from_secs(60),
    resubmit_agent_interval: Duration [POSITIVE] = Duration::from_secs(3600),
    http_auth_user: String = "".into(),
    http_auth_password: Secret = Secret::default(),
    http_timeout: Duration [POSITIVE] = Duration::from_secs(10),
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
    shell: PathBuf = "/bin/sh".into(),
    backup_dir: PathBuf = "".into(),
    status_endpoint: String = "/api/status".into(),
    status_bad_seconds: Duration [POSITIVE] = Duration::from_secs(300),
    state_dir: PathBuf = "/var/lib/orchestrator-agent".into(),
    max_connections: usize [1..=10_000] = 64,
    max_connections_per_address: usize [1..=10_000] = 64,
    /// of the response to a wrong token
    failed_token_delay: Duration = Duration::from_millis(400),
    /// bytes
    max_head_size: usize [1024..=1_048_576] = 16 << 10,
    /// bytes
    max_body_size: usize [1024..=1_073_741_824] = 1 << 20,
    allowed_clients: Vec<String> = Vec::new(),
    command_timeout: Duration [POSITIVE] = Duration::from_secs(600),
    seed_orphan_timeout: Duration [POSITIVE] = Duration::from_secs(180),
    seed_secret: Secret = Secret::default(),
    seed_first_byte_timeout: Duration [POSITIVE] = Duration::from_secs(60),
    seed_idle_timeout: Duration [POSITIVE] = Duration::from_secs(60),
    source_lock_timeout: Duration [POSITIVE] = Duration::from_secs(1),
    /// bytes per second, 0 = no limit
    seed_rate_limit: u64 [0..=9_223_372_036_854_775_807] = 0,
    accept_raw_streams: bool = false,
    expose_token_in_agent_info: bool = false,
}}

impl Common {
    /// The address to listen on: all of them where `listen-address` is empty or `*`.
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

section! { Orchestrator {
    /// At least one; each `scheme://host[:port][/prefix]` (`http://` is added where none was given), no trailing slash. A port here
    /// takes precedence over `agents-port`.
    urls: Urls as "url" = Urls::default(),
    agents_port: u16 [PORT] = 3001,
    protocol: Protocol = Protocol::Auto,
}}

// Which of the two wire protocols is used; `classic` is that of orchestrator 3.2.6 and its maintained forks.
words! { Protocol { Auto = "auto", V2 = "v2", Classic = "classic" } }

section! { Logging {
    /// Empty: standard output only.
    file: String = "/var/log/orchestrator-agent.log".into(),
    level: log::LevelFilter = log::LevelFilter::Info,
    format: LogFormat = LogFormat::Text,
}}

// How a log line is written.
words! { LogFormat { Text = "text", Json = "json", Logfmt = "logfmt" } }

section! { Mysql {
    host: String = "127.0.0.1".into(),
    port: u16 [PORT] = 3306,
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
    boot_timeout: Duration = Duration::ZERO,
    drop_extra_schemas: bool = false,
    /// MySQL 8.0.21 and later: no redo log while a logical seed loads.
    load_without_redo_log: bool = false,
    disable_events_on_target: bool = true,
}}

words! { DatadirSwap { Auto = "auto", Always = "always", Never = "never" } }

words! { KeepOldData { UntilCleanup = "until-cleanup", No = "no", Forever = "forever" } }

section! {
/// The Go agent's README says `mysqldump-addtional-opts`, its code reads `addtional-opts`.
Mysqldump {
    enabled: bool = true,
    additional_opts: Vec<String>
        as "mysqldump-addtional-opts" | "mysqldump-additional-opts" | "addtional-opts" | "additional-opts" =
        ["--single-transaction", "--quick", "--routines", "--events", "--triggers", "--hex-blob"].map(String::from).into(),
}}

section! { Mydumper {
    enabled: bool = false,
    mydumper_additional_opts: Vec<String> as "mydumper-addtional-opts" | "mydumper-additional-opts" = Vec::new(),
    myloader_additional_opts: Vec<String> as "myloader-additional-opts" | "myloader-addtional-opts" = Vec::new(),
    any_version: bool = false,
}}

section! {
/// TLS settings of a seed stream, under the names that the Go agent gave socat's; `socat-ssl-cat-file` is how it spells the CA file.
SocatTls {
    use_ssl: bool as "socat-use-ssl" = false,
    ssl_cert_file: String as "socat-ssl-cert-file" = "".into(),
    ssl_ca_file: String as "socat-ssl-cat-file" | "socat-ssl-ca-file" = "".into(),
    ssl_skip_verify: bool as "socat-ssl-skip-verify" = false,
}}

words! { Compression { None = "none", Lz4 = "lz4", Zstd = "zstd" } }

section! { Xtrabackup {
    enabled: bool = false,
    additional_opts: Vec<String>
        as "xtrabackup-addtional-opts" | "xtrabackup-additional-opts" | "addtional-opts" | "additional-opts" = Vec::new(),
    stream_compression: Compression = Compression::None,
    ..socat: SocatTls
}}

section! { Lvm {
    enabled: bool = false,
    create_snapshot_command: String = "".into(),
    create_new_snapshot_for_seed: bool = false,
    available_local_snapshot_hosts_command: String = "".into(),
    available_snapshot_hosts_command: String = "".into(),
    snapshot_volumes_filter: String = "".into(),
    stream_compression: Compression = Compression::None,
    keep_snapshot: bool = false,
    ..socat: SocatTls
}}

section! {
/// The ranges are those of the server's variables of the same names (MySQL 8.0 to 9.7).
ClonePlugin {
    enabled: bool = false,
    autotune_concurrency: bool as "clone-autotune-concurrency" = true,
    buffer_size: u64 [1_048_576..=268_435_456] as "clone-buffer-size" = 4_194_304,
    ddl_timeout: u64 [0..=2_592_000] as "clone-ddl-timeout" = 300,
    enable_compression: bool as "clone-enable-compression" = false,
    max_concurrency: u64 [1..=128] as "clone-max-concurrency" = 16,
    max_data_bandwidth: u64 [0..=1_048_576] as "clone-max-data-bandwidth" = 0,
    max_network_bandwidth: u64 [0..=1_048_576] as "clone-max-network-bandwidth" = 0,
    ssl_ca: String as "clone-ssl-ca" = "".into(),
    ssl_cert: String as "clone-ssl-cert" = "".into(),
    ssl_key: String as "clone-ssl-key" = "".into(),
    /// Zero: no limit.
    restart_timeout: Duration = Duration::from_secs(900),
}}

section! { Classic {
    seed_method: MethodNames = MethodNames::default(),
    connect_replication: ConnectReplication = ConnectReplication::Auto,
    replication_user: String = "".into(),
    replication_password_file: String = "".into(),
    signal_errors: bool = true,
    mysql_datadir_command: String = "".into(),
    mysql_port_command: String = "".into(),
    mysql_client_command: String = "".into(),
    delete_mysql_datadir_content_command: String = "".into(),
    receive_seed_data_command: String = "".into(),
    send_seed_data_command: String = "".into(),
    post_copy_command: String = "".into(),
    snapshot_mount_point: String = "".into(),
}}

// What a classic seed does about replication at its end; `auto` is `start` with a replication user, else `prepare`.
words! { ConnectReplication { Auto = "auto", Start = "start", Prepare = "prepare", No = "no" } }

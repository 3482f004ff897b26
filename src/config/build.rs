//! Every key there is: section, spellings, type, range and default, from agent-api-v2 section 5 and DESIGN section 9.

use std::path::PathBuf;
use std::time::Duration;

use toml::Value;

use super::reader::{Reader, strings};
use super::types::*;
use crate::error::{Error, Result};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Takes all keys out of the document.
pub(super) fn build(r: &mut Reader) -> Result<Config> {
    Ok(Config {
        common: common(r)?,
        orchestrator: orchestrator(r)?,
        logging: logging(r)?,
        mysql: mysql(r)?,
        custom_commands: {
            r.enter("custom-commands")?;
            r.commands()?
        },
        mysqldump: mysqldump(r)?,
        mydumper: mydumper(r)?,
        xtrabackup: xtrabackup(r)?,
        lvm: lvm(r)?,
        clone_plugin: clone_plugin(r)?,
        classic: classic(r)?,
    })
}

fn common(r: &mut Reader) -> Result<Common> {
    r.enter("common")?;
    Ok(Common {
        port: r.port("port", 3002)?,
        listen_address: r.text("listen-address", "")?,
        hostname: r.text("hostname", "")?,
        seed_port: r.port("seed-port", 21234)?,
        poll_interval: r.duration("poll-interval", MINUTE)?,
        resubmit_agent_interval: r.duration("resubmit-agent-interval", 60 * MINUTE)?,
        http_auth_user: r.text("http-auth-user", "")?,
        http_auth_password: r.secret("http-auth-password")?,
        http_timeout: r.duration("http-timeout", 10 * SECOND)?,
        use_ssl: r.flag("use-ssl", false)?,
        use_mutual_tls: r.flag("use-mutual-tls", false)?,
        ssl_skip_verify: r.flag("ssl-skip-verify", false)?,
        ssl_cert_file: r.text("ssl-cert-file", "")?,
        ssl_private_key_file: r.text("ssl-private-key-file", "")?,
        ssl_ca_file: r.text("ssl-ca-file", "")?,
        ssl_valid_ous: r.list("ssl-valid-ous", &[])?,
        status_ou_verify: r.flag("status-ou-verify", false)?,
        token_hint_file: r.text("token-hint-file", "")?,
        token_http_header: r.text("token-http-header", "")?,
        exec_with_sudo: r.flag("exec-with-sudo", false)?,
        sudo_user: r.text("sudo-user", "")?,
        backup_dir: PathBuf::from(r.text("backup-dir", "")?),
        status_endpoint: r.text("status-endpoint", "/api/status")?,
        status_bad_seconds: r.duration("status-bad-seconds", 300 * SECOND)?,
        state_dir: PathBuf::from(r.text("state-dir", "/var/lib/orchestrator-agent")?),
        max_connections: r.number("max-connections", 64, 1..=10_000)?,
        max_connections_per_address: r.number("max-connections-per-address", 64, 1..=10_000)?,
        max_failed_tokens: r.number("max-failed-tokens", 5, 0..=1000)?,
        max_head_size: r.number("max-head-size", 16 << 10, 1024..=1 << 20)?,
        max_body_size: r.number("max-body-size", 1 << 20, 1024..=1 << 30)?,
        allowed_clients: r.list("allowed-clients", &[])?,
        command_timeout: r.duration("command-timeout", 10 * MINUTE)?,
        seed_orphan_timeout: r.duration("seed-orphan-timeout", 3 * MINUTE)?,
        seed_secret: r.secret("seed-secret")?,
        seed_first_byte_timeout: r.duration("seed-first-byte-timeout", MINUTE)?,
        seed_idle_timeout: r.duration("seed-idle-timeout", MINUTE)?,
        source_lock_timeout: r.duration("source-lock-timeout", SECOND)?,
        seed_rate_limit: r.number("seed-rate-limit", 0, 0..=i64::MAX as u64)?,
        accept_raw_streams: r.flag("accept-raw-streams", false)?,
        expose_token_in_agent_info: r.flag("expose-token-in-agent-info", false)?,
    })
}

fn orchestrator(r: &mut Reader) -> Result<Orchestrator> {
    r.enter("orchestrator")?;
    Ok(Orchestrator {
        urls: urls(r)?,
        agents_port: r.port("agents-port", 3001)?,
        protocol: r.choice(
            "protocol",
            Protocol::V2,
            &[("v2", Protocol::V2), ("classic", Protocol::Classic)],
        )?,
    })
}

fn logging(r: &mut Reader) -> Result<Logging> {
    r.enter("logging")?;
    let level = r.text("level", "info")?;
    Ok(Logging {
        file: r.text("file", "/var/log/orchestrator-agent.log")?,
        level: match level.to_ascii_lowercase().as_str() {
            "error" => log::LevelFilter::Error,
            "warn" => log::LevelFilter::Warn,
            "info" => log::LevelFilter::Info,
            "debug" => log::LevelFilter::Debug,
            "trace" => log::LevelFilter::Trace,
            _ => {
                // The Go agent ignores such a value; a file that worked must go on working.
                r.warn(format!(
                    "logging.level = {level:?} is ignored and \"info\" used; the levels are error, warn, info, debug, trace"
                ));
                log::LevelFilter::Info
            }
        },
        format: r.choice(
            "format",
            LogFormat::Text,
            &[
                ("text", LogFormat::Text),
                ("json", LogFormat::Json),
                ("logfmt", LogFormat::Logfmt),
            ],
        )?,
    })
}

fn mysql(r: &mut Reader) -> Result<Mysql> {
    r.enter("mysql")?;
    Ok(Mysql {
        host: r.text("host", "127.0.0.1")?,
        port: r.port("port", 3306)?,
        socket: r.text("socket", "")?,
        user: r.text("user", "")?,
        password: r.secret("password")?,
        service_status_command: r.text("service-status-command", "systemctl check mysqld")?,
        service_start_command: r.text("service-start-command", "systemctl start mysqld")?,
        service_stop_command: r.text("service-stop-command", "systemctl stop mysqld")?,
        datadir: r.text("datadir", "")?,
        defaults_file: r.text("defaults-file", "")?,
        staging_dir: r.text("staging-dir", "")?,
        datadir_swap: r.choice(
            "datadir-swap",
            DatadirSwap::Auto,
            &[
                ("auto", DatadirSwap::Auto),
                ("always", DatadirSwap::Always),
                ("never", DatadirSwap::Never),
            ],
        )?,
        keep_old_data: r.choice(
            "keep-old-data",
            KeepOldData::UntilCleanup,
            &[
                ("until-cleanup", KeepOldData::UntilCleanup),
                ("no", KeepOldData::No),
                ("forever", KeepOldData::Forever),
            ],
        )?,
        boot_timeout: r.duration("boot-timeout", Duration::ZERO)?,
        drop_extra_schemas: r.flag("drop-extra-schemas", false)?,
        load_without_redo_log: r.flag("load-without-redo-log", false)?,
        disable_events_on_target: r.flag("disable-events-on-target", true)?,
    })
}

/// The README says `mysqldump-addtional-opts`, the Go agent's code reads `addtional-opts` (agent-api-v2 section 10).
fn mysqldump(r: &mut Reader) -> Result<Mysqldump> {
    r.enter("mysqldump")?;
    r.retired(
        "load-threads",
        "a dump is loaded by one client; to load with several threads, use the method Mydumper",
    );
    Ok(Mysqldump {
        enabled: r.flag("enabled", true)?,
        additional_opts: r.list(
            "mysqldump-addtional-opts|mysqldump-additional-opts|addtional-opts|additional-opts",
            &[
                "--single-transaction",
                "--quick",
                "--routines",
                "--events",
                "--triggers",
                "--hex-blob",
            ],
        )?,
    })
}

fn mydumper(r: &mut Reader) -> Result<Mydumper> {
    r.enter("mydumper")?;
    Ok(Mydumper {
        enabled: r.flag("enabled", false)?,
        mydumper_additional_opts: r
            .list("mydumper-addtional-opts|mydumper-additional-opts", &[])?,
        myloader_additional_opts: r
            .list("myloader-additional-opts|myloader-addtional-opts", &[])?,
        any_version: r.flag("any-version", false)?,
    })
}

fn xtrabackup(r: &mut Reader) -> Result<Xtrabackup> {
    r.enter("xtrabackup")?;
    Ok(Xtrabackup {
        enabled: r.flag("enabled", false)?,
        additional_opts: r.list(
            "xtrabackup-addtional-opts|xtrabackup-additional-opts|addtional-opts|additional-opts",
            &[],
        )?,
        socat: socat(r)?,
        stream_compression: compression(r)?,
    })
}

fn lvm(r: &mut Reader) -> Result<Lvm> {
    r.enter("lvm")?;
    Ok(Lvm {
        enabled: r.flag("enabled", false)?,
        create_snapshot_command: r.text("create-snapshot-command", "")?,
        create_new_snapshot_for_seed: r.flag("create-new-snapshot-for-seed", false)?,
        available_local_snapshot_hosts_command: r
            .text("available-local-snapshot-hosts-command", "")?,
        available_snapshot_hosts_command: r.text("available-snapshot-hosts-command", "")?,
        snapshot_volumes_filter: r.text("snapshot-volumes-filter", "")?,
        socat: socat(r)?,
        stream_compression: compression(r)?,
        keep_snapshot: r.flag("keep-snapshot", false)?,
    })
}

/// `socat-ssl-cat-file` is how the Go agents spell the CA file (agent-api-v2 8.7).
fn socat(r: &mut Reader) -> Result<SocatTls> {
    Ok(SocatTls {
        use_ssl: r.flag("socat-use-ssl", false)?,
        ssl_cert_file: r.text("socat-ssl-cert-file", "")?,
        ssl_ca_file: r.text("socat-ssl-cat-file|socat-ssl-ca-file", "")?,
        ssl_skip_verify: r.flag("socat-ssl-skip-verify", false)?,
    })
}

fn compression(r: &mut Reader) -> Result<Compression> {
    r.choice(
        "stream-compression",
        Compression::None,
        &[
            ("none", Compression::None),
            ("lz4", Compression::Lz4),
            ("zstd", Compression::Zstd),
        ],
    )
}

/// The ranges are those of the server's variables of the same names (MySQL 8.0 to 9.7).
fn clone_plugin(r: &mut Reader) -> Result<ClonePlugin> {
    r.enter("clone_plugin|clone-plugin")?;
    Ok(ClonePlugin {
        enabled: r.flag("enabled", false)?,
        autotune_concurrency: r.flag("clone-autotune-concurrency", true)?,
        buffer_size: r.number("clone-buffer-size", 4_194_304, 1_048_576..=268_435_456)?,
        ddl_timeout: r.number("clone-ddl-timeout", 300, 0..=2_592_000)?,
        enable_compression: r.flag("clone-enable-compression", false)?,
        max_concurrency: r.number("clone-max-concurrency", 16, 1..=128)?,
        max_data_bandwidth: r.number("clone-max-data-bandwidth", 0, 0..=1_048_576)?,
        max_network_bandwidth: r.number("clone-max-network-bandwidth", 0, 0..=1_048_576)?,
        ssl_ca: r.text("clone-ssl-ca", "")?,
        ssl_cert: r.text("clone-ssl-cert", "")?,
        ssl_key: r.text("clone-ssl-key", "")?,
        restart_timeout: r.duration("restart-timeout", Duration::from_secs(15 * 60))?,
    })
}

fn classic(r: &mut Reader) -> Result<Classic> {
    r.enter("classic")?;
    Ok(Classic {
        seed_method: r.text("seed-method", "LVM")?,
        connect_replication: r.flag("connect-replication", false)?,
        replication_user: r.text("replication-user", "")?,
        replication_password_file: r.text("replication-password-file", "")?,
        close_on_danger: r.flag("close-on-danger", true)?,
    })
}

/// `orchestrator.url`: one address or a list. None at all is left to the validation.
fn urls(r: &mut Reader) -> Result<Vec<String>> {
    let Some((key, value)) = r.take("url")? else {
        return Ok(Vec::new());
    };
    let given = match &value {
        Value::String(one) if one.trim().is_empty() => Vec::new(),
        Value::String(one) => vec![one.clone()],
        other => strings(other).ok_or_else(|| {
            let expected = "a string in quotes or a list of strings";
            r.wrong_type(&key, &value, expected)
        })?,
    };
    let urls = given
        .iter()
        .map(|url| address(url))
        .collect::<Result<_>>()?;
    Ok(r.note("url", urls))
}

/// `scheme://host[:port][/prefix]`, with the scheme put in front where there is none, and no slash at the end.
fn address(given: &str) -> Result<String> {
    let bad = |why: &str| {
        Err(Error::permanent(format!(
            "orchestrator.url = {given:?}: {why}; write it like \"http://orchestrator.example.com\""
        )))
    };
    let url = given.trim().trim_end_matches('/');
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest),
        // The slashes of a bare "http://" are gone by now.
        None if url.ends_with(':') => return bad("the host is empty"),
        None => ("http".into(), url),
    };
    if scheme != "http" && scheme != "https" {
        return bad("the scheme must be http or https");
    }
    let (authority, prefix) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if authority.is_empty() || authority.starts_with(':') {
        return bad("the host is empty");
    }
    if rest.contains(['?', '#', '@']) || !prefix.chars().all(|c| c.is_ascii_graphic()) {
        return bad("there must be nothing but a path behind the host");
    }
    let (host, port) = match authority
        .strip_prefix('[')
        .and_then(|v6| v6.split_once(']'))
    {
        Some((host, "")) => (host, None),
        Some((host, rest)) => (host, Some(rest.strip_prefix(':').unwrap_or("?"))),
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_:%".contains(c);
    if !host.chars().all(allowed) {
        return bad("this is not a host name or address");
    }
    let is_port =
        |p: &str| p.bytes().all(|b| b.is_ascii_digit()) && p.parse::<u16>().is_ok_and(|p| p > 0);
    if port.is_some_and(|p| !is_port(p)) {
        return bad(
            "the port is not a number from 1 to 65535, and an IPv6 address belongs into [ ]",
        );
    }
    Ok(format!("{scheme}://{rest}"))
}

//! What a well-formed configuration must not say. The first rules and their order are the Go agent's
//! (agent-api-v2 section 5, "Rejected at start-up"), down to the texts, which scripts may look for.

use std::path::Path;
use std::time::Duration;

use super::inside;
use super::types::*;
use crate::error::{Error, Result};

/// The first broken rule, as an error that names the key and the remedy.
pub(super) fn validate(c: &Config) -> Result<()> {
    go_rules(c)?;
    tls(c)?;
    network(c)?;
    durations(c)?;
    directories(c)
}

/// Fails with the text if the condition holds.
fn reject(broken: bool, text: impl Into<String>) -> Result<()> {
    if broken {
        return Err(Error::permanent(text));
    }
    Ok(())
}

fn go_rules(c: &Config) -> Result<()> {
    let common = &c.common;
    reject(
        common.use_ssl && common.ssl_cert_file.is_empty(),
        "use-ssl is true but ssl-cert-file is not specified: set common.ssl-cert-file to the PEM file of the certificate",
    )?;
    reject(
        common.use_ssl && common.ssl_private_key_file.is_empty(),
        "use-ssl is true but ssl-private-key-file is not specified: set common.ssl-private-key-file to the PEM file of the key",
    )?;
    reject(
        common.backup_dir.as_os_str().is_empty(),
        "backup-dir not specified: set common.backup-dir to a directory for backup data, outside the datadir",
    )?;
    reject(
        c.orchestrator.urls.is_empty(),
        "orchestrator url not specified: set orchestrator.url, such as \"http://orchestrator.example.com\"",
    )?;
    reject(
        c.mysql.user.is_empty(),
        "mysql user not specified: set mysql.user to the agent's MySQL account",
    )?;
    reject(
        c.mysql.password.is_empty(),
        "mysql password not specified: set mysql.password to the password of mysql.user",
    )?;
    for (key, value) in [
        ("create-snapshot-command", &c.lvm.create_snapshot_command),
        (
            "available-local-snapshot-hosts-command",
            &c.lvm.available_local_snapshot_hosts_command,
        ),
        (
            "available-snapshot-hosts-command",
            &c.lvm.available_snapshot_hosts_command,
        ),
        ("snapshot-volumes-filter", &c.lvm.snapshot_volumes_filter),
    ] {
        reject(
            c.lvm.enabled && value.is_empty(),
            format!(
                "lvm is enabled but {key} is not specified: set lvm.{key} or lvm.enabled = false"
            ),
        )?;
    }
    Ok(())
}

fn tls(c: &Config) -> Result<()> {
    reject(
        c.common.use_mutual_tls && !c.common.use_ssl,
        "common.use-mutual-tls is true but use-ssl is false: set common.use-ssl = true with its certificate and key, or common.use-mutual-tls = false",
    )?;
    for (section, socat) in [("xtrabackup", &c.xtrabackup.socat), ("lvm", &c.lvm.socat)] {
        reject(
            socat.use_ssl && socat.ssl_cert_file.is_empty(),
            format!(
                "{section}.socat-use-ssl is true but socat-ssl-cert-file is not specified: set {section}.socat-ssl-cert-file to a PEM file with certificate and key"
            ),
        )?;
    }
    Ok(())
}

fn network(c: &Config) -> Result<()> {
    let common = &c.common;
    reject(
        common.port == common.seed_port,
        format!(
            "common.port and common.seed-port are both {}: give the seed stream its own port (default 21234)",
            common.port
        ),
    )?;
    reject(
        c.mysql.host.is_empty() && c.mysql.socket.is_empty(),
        "mysql.host = \"\" and no mysql.socket: set mysql.host (default \"127.0.0.1\") or mysql.socket",
    )?;
    reject(
        !common.http_auth_user.is_empty() && common.http_auth_password.is_empty(),
        "common.http-auth-user is set but http-auth-password is not specified: set common.http-auth-password or remove the user",
    )?;
    let header = &common.token_http_header;
    reject(
        !header.chars().all(is_header_name_character),
        format!(
            "common.token-http-header = {header:?}: not a valid header name; use letters, digits and -, such as \"X-Agent-Token\""
        ),
    )?;
    let endpoint = &common.status_endpoint;
    reject(
        !endpoint.starts_with('/'),
        format!(
            "common.status-endpoint = {endpoint:?}: must start with / (default \"/api/status\")"
        ),
    )
}

/// RFC 9110 5.6.2, "token".
fn is_header_name_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

/// Only mysql.boot-timeout and clone_plugin.restart-timeout may be zero: no limit. A negative duration has not come this far.
fn durations(c: &Config) -> Result<()> {
    let common = &c.common;
    for (key, value) in [
        ("poll-interval", common.poll_interval),
        ("resubmit-agent-interval", common.resubmit_agent_interval),
        ("http-timeout", common.http_timeout),
        ("status-bad-seconds", common.status_bad_seconds),
        ("command-timeout", common.command_timeout),
        ("seed-orphan-timeout", common.seed_orphan_timeout),
        ("seed-first-byte-timeout", common.seed_first_byte_timeout),
        ("seed-idle-timeout", common.seed_idle_timeout),
        ("source-lock-timeout", common.source_lock_timeout),
    ] {
        reject(
            value == Duration::ZERO,
            format!(
                "common.{key} is zero: give it a positive duration such as \"60s\", or remove it for the default"
            ),
        )?;
    }
    Ok(())
}

fn directories(c: &Config) -> Result<()> {
    let backup_dir = ("common.backup-dir", c.common.backup_dir.as_path());
    let state_dir = ("common.state-dir", c.common.state_dir.as_path());
    let datadir = Path::new(&c.mysql.datadir);
    let may_be_empty = [
        ("mysql.datadir", datadir),
        ("mysql.staging-dir", Path::new(&c.mysql.staging_dir)),
    ];
    let set = may_be_empty
        .into_iter()
        .filter(|(_, path)| !path.as_os_str().is_empty());
    for (key, path) in [backup_dir, state_dir].into_iter().chain(set) {
        reject(
            !path.is_absolute(),
            format!("{key} = {path:?}: must be an absolute path, starting with /"),
        )?;
    }
    for (key, path) in [backup_dir, state_dir] {
        reject(
            inside(path, datadir),
            format!(
                "{key} = {path:?} is inside mysql.datadir = {datadir:?}: a seed replaces what is in there; choose a directory outside"
            ),
        )?;
    }
    Ok(())
}

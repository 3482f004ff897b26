//! Rules that a file can break although each of its values can be read. The first and their order are the Go agent's, down to the texts,
//! which scripts may look for.

use std::path::Path;

use super::document::Findings;
use super::types::*;
use super::{AllowList, inside};

/// All broken rules: the line of the key that each is about, 0 if the file does not have it, and a text that names key and remedy.
pub(super) fn validate(c: &Config, found: &Findings) -> Vec<(usize, String)> {
    let mut rules = Rules {
        found,
        broken: Vec::new(),
    };
    rules.go(c);
    rules.tls(c);
    rules.network(c);
    rules.directories(c);
    rules.classic(c);
    rules.unavailable(c);
    rules.broken
}

/// A table of rules: broken if this is true, the keys, the text.
macro_rules! rules {
    ($self:ident: $($broken:expr, $($key:expr),+ => $text:expr;)+) => {
        $($self.reject($broken, &[$($key),+], $text);)+
    };
}

struct Rules<'a> {
    found: &'a Findings<'a>,
    broken: Vec<(usize, String)>,
}

impl Rules<'_> {
    /// Notes the text if the rule is broken, unless a fault of one of its keys is reported already.
    fn reject(&mut self, broken: bool, keys: &[&str], text: impl Into<String>) {
        let Findings { faulty, given, .. } = self.found;
        let is_faulty = |key: &&str| {
            faulty.contains(*key) || faulty.contains(key.split('.').next().unwrap_or_default())
        };
        if broken && !keys.iter().any(is_faulty) {
            let text = text.into();
            let line = keys.iter().find_map(|key| given.get(*key));
            let broken =
                line.map_or_else(|| (0, text.clone()), |line| self.found.about(*line, &text));
            self.broken.push(broken);
        }
    }

    fn go(&mut self, c: &Config) {
        let (common, found) = (&c.common, self.found);
        let use_ssl = found.short("common.use-ssl");
        let needed = |key, what: &str| {
            let (short, full) = (found.short(key), found.full(key));
            format!(
                "{use_ssl} is true but {short} is not specified: set {full} to the PEM file of {what}"
            )
        };
        rules! { self:
            common.use_ssl && common.ssl_cert_file.is_empty(), "common.use-ssl", "common.ssl-cert-file"
                => needed("common.ssl-cert-file", "the certificate");
            common.use_ssl && common.ssl_private_key_file.is_empty(), "common.use-ssl", "common.ssl-private-key-file"
                => needed("common.ssl-private-key-file", "the key");
            common.backup_dir.as_os_str().is_empty(), "common.backup-dir"
                => "backup-dir not specified: set common.backup-dir to a directory for backup data, outside the datadir";
            c.orchestrator.urls.is_empty(), "orchestrator.url"
                => format!("orchestrator url not specified: set {}, such as \"http://orchestrator.example.com\"", found.full("orchestrator.url"));
            c.mysql.user.is_empty() && c.needs_account(), "mysql.user"
                => "mysql user not specified: set mysql.user to the agent's MySQL account";
            c.mysql.password.is_empty() && (c.needs_account() || !c.mysql.user.is_empty()), "mysql.password"
                => "mysql password not specified: set mysql.password to the password of mysql.user";
        }
        let (local, all) = (
            &c.lvm.available_local_snapshot_hosts_command,
            &c.lvm.available_snapshot_hosts_command,
        );
        for (key, value) in [
            ("create-snapshot-command", &c.lvm.create_snapshot_command),
            ("available-local-snapshot-hosts-command", local),
            ("available-snapshot-hosts-command", all),
            ("snapshot-volumes-filter", &c.lvm.snapshot_volumes_filter),
        ] {
            rules! { self:
                c.lvm.enabled && value.is_empty(), "lvm.enabled", &format!("lvm.{key}")
                    => format!("lvm is enabled but {key} is not specified: set lvm.{key} or lvm.enabled = false");
            }
        }
    }

    fn tls(&mut self, c: &Config) {
        let found = self.found;
        let (mutual, ssl) = (found.full("common.use-mutual-tls"), "common.use-ssl");
        rules! { self:
            c.common.use_mutual_tls && !c.common.use_ssl, "common.use-mutual-tls", "common.use-ssl"
                => format!("{mutual} is true but {} is false: set {} = true with its certificate and key, or {mutual} = false", found.short(ssl), found.full(ssl));
        }
        for (section, socat) in [("xtrabackup", &c.xtrabackup.socat), ("lvm", &c.lvm.socat)] {
            let (on, file) = (
                format!("{section}.socat-use-ssl"),
                format!("{section}.socat-ssl-cert-file"),
            );
            rules! { self:
                socat.use_ssl && socat.ssl_cert_file.is_empty(), &on, &file
                    => format!("{on} is true but socat-ssl-cert-file is not specified: set {file} to a PEM file with certificate and key");
            }
        }
    }

    fn network(&mut self, c: &Config) {
        let common = &c.common;
        if let Err(e) = common.listen_ip() {
            self.reject(true, &["common.listen-address"], e.to_string());
        }
        for entry in &common.allowed_clients {
            if let Err(e) = AllowList::parse(std::slice::from_ref(entry)) {
                self.reject(true, &["common.allowed-clients"], e.to_string());
            }
        }
        let (port, header, endpoint) = (
            common.port,
            &common.token_http_header,
            &common.status_endpoint,
        );
        let found = self.found;
        let full = |key| found.full(key);
        let (user, password) = ("common.http-auth-user", "common.http-auth-password");
        rules! { self:
            port == common.seed_port, "common.seed-port", "common.port"
                => format!("{} and common.seed-port are both {port}: give the seed stream its own port (default 21234)", full("common.port"));
            c.mysql.host.is_empty() && c.mysql.socket.is_empty(), "mysql.host", "mysql.socket"
                => "mysql.host = \"\" and no mysql.socket: set mysql.host (default \"127.0.0.1\") or mysql.socket";
            !common.http_auth_user.is_empty() && common.http_auth_password.is_empty(), user, password
                => format!("{} is set but {} is not specified: set {} or remove the user", full(user), found.short(password), full(password));
            !header.chars().all(is_header_name_character), "common.token-http-header"
                => format!("{} = {header:?}: not a valid header name; use letters, digits and -, such as \"X-Agent-Token\"", full("common.token-http-header"));
            !endpoint.starts_with('/'), "common.status-endpoint"
                => format!("{} = {endpoint:?}: must start with / (default \"/api/status\")", full("common.status-endpoint"));
        }
    }

    fn directories(&mut self, c: &Config) {
        let datadir = Path::new(&c.mysql.datadir);
        let backup_dir = ("common.backup-dir", c.common.backup_dir.as_path());
        let state_dir = ("common.state-dir", c.common.state_dir.as_path());
        let staging_dir = ("mysql.staging-dir", Path::new(&c.mysql.staging_dir));
        let shell = ("common.shell", c.common.shell.as_path());
        for (key, path) in [
            backup_dir,
            state_dir,
            shell,
            ("mysql.datadir", datadir),
            staging_dir,
        ] {
            // Those have a default or are reported as missing; state-dir and shell have to be set.
            let unset = path.as_os_str().is_empty() && ![state_dir.0, shell.0].contains(&key);
            rules! { self:
                !unset && !path.is_absolute(), key
                    => format!("{key} = {path:?}: must be an absolute path, starting with /");
            }
        }
        for (key, path) in [backup_dir, state_dir] {
            rules! { self:
                inside(path, datadir), key, "mysql.datadir"
                    => format!("{key} = {path:?} is inside mysql.datadir = {datadir:?}: a seed replaces what is in there; choose a directory outside");
            }
        }
    }

    fn classic(&mut self, c: &Config) {
        const USER: &str = "classic.replication-user";
        const FILE: &str = "classic.replication-password-file";
        let classic = &c.classic;
        let (file, no_user) = (
            Path::new(&classic.replication_password_file),
            classic.replication_user.is_empty(),
        );
        let starts = classic.connect_replication == ConnectReplication::Start;
        rules! { self:
            starts && no_user, "classic.connect-replication", USER
                => "classic.connect-replication is \"start\" but replication-user is not specified: set classic.replication-user and classic.replication-password-file, or connect-replication = \"auto\"";
            file.as_os_str().is_empty() && !no_user, FILE, USER
                => "classic.replication-user is set but replication-password-file is not specified: write the account's password to a file and name it in classic.replication-password-file";
            !file.as_os_str().is_empty() && no_user, FILE, USER
                => "classic.replication-password-file is set but replication-user is not specified: set classic.replication-user or remove the file";
            !file.as_os_str().is_empty() && !file.is_absolute(), FILE
                => format!("{FILE} = {file:?}: must be an absolute path, starting with /");
        }
        let mount_point = Path::new(&classic.snapshot_mount_point);
        let found = self.found;
        let name = found.full("classic.snapshot-mount-point");
        rules! { self:
            !classic.snapshot_mount_point.is_empty() && !mount_point.is_absolute(), "classic.snapshot-mount-point"
                => format!("{name} = {mount_point:?}: must be an absolute path, starting with /");
            inside(mount_point, Path::new(&c.mysql.datadir)), "classic.snapshot-mount-point", "mysql.datadir"
                => format!("{name} = {mount_point:?} is inside mysql.datadir = {:?}: a seed replaces what is in there; choose a directory outside", c.mysql.datadir);
        }
    }

    /// Settings that this version knows but does not obey yet. Starting without what was asked for, such as encryption, would be worse
    /// than not starting.
    fn unavailable(&mut self, c: &Config) {
        rules! { self:
            c.lvm.socat.use_ssl, "lvm.socat-use-ssl"
                => "lvm.socat-use-ssl = true is not available in this version: set lvm.socat-use-ssl = false";
            c.logging.format != LogFormat::Text, "logging.format"
                => "logging.format other than \"text\" is not available in this version: set logging.format = \"text\"";
        }
    }
}

/// RFC 9110 5.6.2, "token".
fn is_header_name_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

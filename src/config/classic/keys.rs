//! The keys of the Go agent of the classic protocol (its `go/config/config.go`, version 1.0), and where their values go.

/// What the Go agent decodes a value into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Flag,
    Count,
    Seconds,
    /// A signed number, of which the positive ones mean something.
    SignedSeconds,
    Minutes,
    Texts,
    /// Names to command lines; those of several files are put together.
    Commands,
}

impl Kind {
    pub(super) fn expected(self) -> &'static str {
        match self {
            Self::Text => "a string in quotes",
            Self::Flag => "true or false, without quotes",
            Self::Count | Self::Seconds | Self::SignedSeconds | Self::Minutes => {
                "a whole number, without quotes"
            }
            Self::Texts => "a list of strings such as [\"a\", \"b\"]",
            Self::Commands => "an object of commands such as {\"hello\": \"echo hello\"}",
        }
    }
}

pub(super) struct ClassicKey {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// `section.key` in TOML; empty if it has no equivalent.
    pub(super) path: &'static str,
    /// What is different here, for the converted file.
    pub(super) note: &'static str,
}

macro_rules! keys {
    ($($name:literal: $kind:ident => $path:literal $(, $note:expr)?;)+) => {
        pub(super) const KEYS: &[ClassicKey] =
            &[$(ClassicKey { name: $name, kind: Kind::$kind, path: $path, note: concat!($($note)?) }),+];
    };
}

keys! {
    "SnapshotMountPoint": Text => "classic.snapshot-mount-point", "Used by the method LVM.";
    "ContinuousPollSeconds": Seconds => "common.poll-interval";
    "ResubmitAgentIntervalMinutes": Minutes => "common.resubmit-agent-interval";
    "CreateSnapshotCommand": Text => "lvm.create-snapshot-command";
    "AvailableLocalSnapshotHostsCommand": Text => "lvm.available-local-snapshot-hosts-command";
    "AvailableSnapshotHostsCommand": Text => "lvm.available-snapshot-hosts-command";
    "SnapshotVolumesFilter": Text => "lvm.snapshot-volumes-filter";
    "MySQLDatadirCommand": Text => "classic.mysql-datadir-command", "Used where [mysql] has no account.";
    "MySQLPortCommand": Text => "classic.mysql-port-command", "Used where [mysql] has no account.";
    "MySQLDeleteDatadirContentCommand": Text => "classic.delete-mysql-datadir-content-command",
        "Not used by the built-in seed methods: they keep the old data until the new copy has started.";
    "MySQLServiceStopCommand": Text => "mysql.service-stop-command";
    "MySQLServiceStartCommand": Text => "mysql.service-start-command";
    "MySQLServiceStatusCommand": Text => "mysql.service-status-command";
    "ReceiveSeedDataCommand": Text => "classic.receive-seed-data-command", "Not used by the built-in seed methods.";
    "SendSeedDataCommand": Text => "classic.send-seed-data-command", "Not used by the built-in seed methods.";
    "PostCopyCommand": Text => "classic.post-copy-command", "Not used by the built-in seed methods.";
    "MySQLClientCommand": Text => "classic.mysql-client-command";
    "AgentsServer": Text => "orchestrator.url";
    "AgentsServerPort": Text => "orchestrator.url";
    "HTTPPort": Count => "common.port";
    "HTTPAuthUser": Text => "common.http-auth-user", "orchestrator itself sends no credentials.";
    "HTTPAuthPassword": Text => "common.http-auth-password";
    "UseSSL": Flag => "common.use-ssl";
    "UseMutualTLS": Flag => "common.use-mutual-tls", "orchestrator itself presents no certificate.";
    "SSLSkipVerify": Flag => "common.ssl-skip-verify";
    "SSLPrivateKeyFile": Text => "common.ssl-private-key-file";
    "SSLCertFile": Text => "common.ssl-cert-file";
    "SSLCAFile": Text => "common.ssl-ca-file", "Also trusted as an authority of orchestrator's certificate.";
    "SSLValidOUs": Texts => "common.ssl-valid-ous";
    "StatusEndpoint": Text => "common.status-endpoint";
    "StatusOUVerify": Flag => "common.status-ou-verify";
    "StatusBadSeconds": Seconds => "common.status-bad-seconds";
    "HttpTimeoutSeconds": SignedSeconds => "common.http-timeout", "Had no effect in the Go agent, which always used 10 s.";
    "ExecWithSudo": Flag => "";
    "CustomCommands": Commands => "custom-commands";
    "TokenHintFile": Text => "common.token-hint-file", "Written with mode 0600, not 0644.";
    "TokenHttpHeader": Text => "common.token-http-header";
}

/// The key of this name, whose case does not matter.
pub(super) fn find(name: &str) -> Option<&'static ClassicKey> {
    KEYS.iter().find(|key| key.name.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_in_the_documents_has_every_key_with_its_equivalent() {
        let page = include_str!("../../../contrib/doc/configuration.md");
        let rows: Vec<&str> = page
            .lines()
            .filter(|line| line.starts_with("| `"))
            .collect();
        for ClassicKey { name, path, .. } in KEYS {
            let row = rows.iter().find(|row| row.contains(&format!("`{name}`")));
            let row = row.unwrap_or_else(|| panic!("{name}"));
            let (section, key) = path.split_once('.').unwrap_or((path, ""));
            assert!(row.contains(key) && row.contains(section), "{row}");
        }
    }
}

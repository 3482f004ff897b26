//! The statements for a replica's channels, by flavour and version. MySQL's are right from 5.6 on, MariaDB's from 10.2.3
//! (`MASTER_DELAY`).

use super::channel::Setting;
use super::{Flavour, Server, quote_text};

/// What [`Server::change_source`] sets; the rest stays as it is.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Source<'a> {
    pub(crate) host: &'a str,
    pub(crate) port: Option<u16>,
    /// Account and password.
    pub(crate) login: Option<(&'a str, &'a str)>,
    pub(crate) start: Option<Start<'a>>,
    /// Further options of the channel.
    pub(crate) settings: &'a [Setting],
    /// TLS whatever `settings` say.
    pub(crate) tls: bool,
    /// Empty for the default one.
    pub(crate) channel: &'a str,
}

/// Where a replica begins to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start<'a> {
    /// By GTID: gtid_slave_pos (MariaDB), gtid_executed (MySQL).
    Gtid,
    /// Binary log file and position.
    Position(&'a str, u64),
}

impl Server {
    /// Stops a channel (MariaDB: connection); the default one's name is empty.
    pub(crate) fn stop_replica(self, channel: &str) -> String {
        self.replica_statement("STOP", channel, "")
    }

    pub(crate) fn start_replica(self, channel: &str) -> String {
        self.replica_statement("START", channel, "")
    }

    /// Starts the thread of a channel that receives, not the one that applies.
    pub(crate) fn start_receiver(self, channel: &str) -> String {
        self.replica_statement("START", channel, " IO_THREAD")
    }

    /// Forgets where a channel was and deletes its relay logs, but keeps its source and account.
    pub(crate) fn reset_replica(self, channel: &str) -> String {
        self.replica_statement("RESET", channel, "")
    }

    /// Forgets a channel.
    pub(crate) fn reset_replica_all(self, channel: &str) -> String {
        self.replica_statement("RESET", channel, " ALL")
    }

    pub(super) fn replica_statement(self, verb: &str, channel: &str, tail: &str) -> String {
        let word = self.replica();
        match (self.flavour, channel) {
            (Flavour::MariaDb, "") => format!("{verb} {word}{tail}"),
            (Flavour::MariaDb, _) => format!("{verb} {word} {}{tail}", quote_text(channel)),
            (Flavour::MySql, _) if !self.has_channels() => format!("{verb} {word}{tail}"),
            // Without the clause it would mean all channels.
            (Flavour::MySql, _) => {
                format!("{verb} {word}{tail} FOR CHANNEL {}", quote_text(channel))
            }
        }
    }

    pub(crate) fn change_source(self, to: &Source) -> String {
        let word = self.source_word();
        let mut options = vec![format!("{word}_HOST={}", quote_text(to.host))];
        options.extend(to.port.map(|port| format!("{word}_PORT={port}")));
        if let Some((user, password)) = to.login {
            options.push(format!("{word}_USER={}", quote_text(user)));
            options.push(format!("{word}_PASSWORD={}", quote_text(password)));
        }
        let by_gtid = to.start == Some(Start::Gtid);
        let kept = to.settings.iter();
        let kept = kept.filter(|s| !(to.tls && s.name() == "SSL"));
        options.extend(kept.map(|s| s.assignment(self, by_gtid)));
        if to.tls {
            options.push(format!("{word}_SSL=1"));
        }
        let own_key = to.settings.iter().any(|s| s.name() == "PUBLIC_KEY_PATH");
        if self.mysql_from(8, 0, 4) && !own_key {
            // caching_sha2_password needs it where the channel has no TLS.
            options.push(format!("GET_{word}_PUBLIC_KEY=1"));
        }
        if let Some(Start::Position(file, position)) = to.start {
            options.push(format!("{word}_LOG_FILE={}", quote_text(file)));
            options.push(format!("{word}_LOG_POS={position}"));
        }
        if to.start.is_some() {
            options.push(match (self.flavour, by_gtid) {
                (Flavour::MariaDb, true) => format!("{word}_USE_GTID=slave_pos"),
                (Flavour::MariaDb, false) => format!("{word}_USE_GTID=no"),
                (Flavour::MySql, _) => format!("{word}_AUTO_POSITION={}", u8::from(by_gtid)),
            });
        }
        self.change_channel(to.channel, &options.join(", "))
    }

    pub(super) fn change_channel(self, channel: &str, options: &str) -> String {
        let name = quote_text(channel);
        if self.source_word() == "SOURCE" {
            format!("CHANGE REPLICATION SOURCE TO {options} FOR CHANNEL {name}")
        } else if self.has_channels() {
            format!("CHANGE MASTER TO {options} FOR CHANNEL {name}")
        } else if self.flavour == Flavour::MariaDb && !channel.is_empty() {
            format!("CHANGE MASTER {name} TO {options}")
        } else {
            format!("CHANGE MASTER TO {options}")
        }
    }

    /// MySQL before 5.7.6 replicates from one source only.
    pub(crate) fn has_channels(self) -> bool {
        self.mysql_from(5, 7, 6)
    }

    /// Name of the privilege for the statements above, as SHOW GRANTS prints it. SUPER is enough where it exists.
    pub(crate) fn replica_privilege(self) -> &'static str {
        match self.flavour {
            Flavour::MariaDb => "REPLICATION SLAVE ADMIN",
            Flavour::MySql => self.word((8, 0, 0), "REPLICATION_SLAVE_ADMIN", "SUPER"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(version: &str) -> Server {
        Server::parse(version, "").unwrap()
    }

    #[test]
    fn channels_are_named_as_each_server_wants_it() {
        let maria = s("10.11.6-MariaDB");
        assert_eq!(maria.stop_replica(""), "STOP SLAVE");
        assert_eq!(maria.start_replica("eu'1"), "START SLAVE 'eu''1'");
        assert_eq!(maria.reset_replica_all("eu"), "RESET SLAVE 'eu' ALL");
        assert_eq!(maria.start_receiver("eu"), "START SLAVE 'eu' IO_THREAD");
        let oldest = s("5.6.24-log");
        assert_eq!(oldest.reset_replica_all(""), "RESET SLAVE ALL");
        let text = oldest.change_source(&Source {
            host: "db1",
            start: Some(Start::Gtid),
            ..Source::default()
        });
        assert_eq!(
            text,
            "CHANGE MASTER TO MASTER_HOST='db1', MASTER_AUTO_POSITION=1"
        );
        let old = s("5.7.44-log");
        assert_eq!(old.stop_replica(""), "STOP SLAVE FOR CHANNEL ''");
        assert_eq!(
            old.reset_replica_all("eu"),
            "RESET SLAVE ALL FOR CHANNEL 'eu'"
        );
        assert_eq!(
            s("8.0.21").start_replica("eu"),
            "START SLAVE FOR CHANNEL 'eu'"
        );
        for new in ["8.0.22", "8.4.3", "9.7.4", "26.7.0"] {
            assert_eq!(
                s(new).stop_replica("e'u"),
                "STOP REPLICA FOR CHANNEL 'e''u'"
            );
            assert_eq!(
                s(new).start_receiver("eu"),
                "START REPLICA IO_THREAD FOR CHANNEL 'eu'"
            );
            assert_eq!(s(new).reset_replica(""), "RESET REPLICA FOR CHANNEL ''");
            assert_eq!(
                s(new).reset_replica_all(""),
                "RESET REPLICA ALL FOR CHANNEL ''"
            );
        }
    }

    #[test]
    fn the_source_by_version() {
        let to = Source {
            host: "db'1",
            port: Some(3310),
            login: Some(("re'pl", r"a'b\")),
            start: Some(Start::Gtid),
            ..Source::default()
        };
        let position = Source {
            host: "db1",
            start: Some(Start::Position("b'in.1", 4)),
            ..Source::default()
        };
        for (version, gtid, by_position) in [
            (
                "10.11.6-MariaDB",
                r"CHANGE MASTER TO MASTER_HOST='db''1', MASTER_PORT=3310, MASTER_USER='re''pl', MASTER_PASSWORD='a''b\\', MASTER_USE_GTID=slave_pos",
                "CHANGE MASTER TO MASTER_HOST='db1', MASTER_LOG_FILE='b''in.1', MASTER_LOG_POS=4, MASTER_USE_GTID=no",
            ),
            (
                "5.7.44",
                r"CHANGE MASTER TO MASTER_HOST='db''1', MASTER_PORT=3310, MASTER_USER='re''pl', MASTER_PASSWORD='a''b\\', MASTER_AUTO_POSITION=1 FOR CHANNEL ''",
                "CHANGE MASTER TO MASTER_HOST='db1', MASTER_LOG_FILE='b''in.1', MASTER_LOG_POS=4, MASTER_AUTO_POSITION=0 FOR CHANNEL ''",
            ),
            (
                "8.0.22",
                r"CHANGE MASTER TO MASTER_HOST='db''1', MASTER_PORT=3310, MASTER_USER='re''pl', MASTER_PASSWORD='a''b\\', GET_MASTER_PUBLIC_KEY=1, MASTER_AUTO_POSITION=1 FOR CHANNEL ''",
                "CHANGE MASTER TO MASTER_HOST='db1', GET_MASTER_PUBLIC_KEY=1, MASTER_LOG_FILE='b''in.1', MASTER_LOG_POS=4, MASTER_AUTO_POSITION=0 FOR CHANNEL ''",
            ),
            (
                "9.7.4",
                r"CHANGE REPLICATION SOURCE TO SOURCE_HOST='db''1', SOURCE_PORT=3310, SOURCE_USER='re''pl', SOURCE_PASSWORD='a''b\\', GET_SOURCE_PUBLIC_KEY=1, SOURCE_AUTO_POSITION=1 FOR CHANNEL ''",
                "CHANGE REPLICATION SOURCE TO SOURCE_HOST='db1', GET_SOURCE_PUBLIC_KEY=1, SOURCE_LOG_FILE='b''in.1', SOURCE_LOG_POS=4, SOURCE_AUTO_POSITION=0 FOR CHANNEL ''",
            ),
        ] {
            assert_eq!(s(version).change_source(&to), gtid);
            assert_eq!(s(version).change_source(&position), by_position);
        }
        let columns = [("sql_delay", "9"), ("source_ssl_allowed", "No")];
        let own = |(k, v): (&str, &str)| (k.to_string(), v.to_string());
        let kept = super::super::channel::settings(&columns.map(own).into());
        for (tls, ssl) in [(false, 0), (true, 1)] {
            let more = Source {
                host: "h",
                settings: &kept,
                tls,
                channel: "probe",
                ..Source::default()
            };
            assert_eq!(
                s("9.7.4").change_source(&more),
                format!(
                    "CHANGE REPLICATION SOURCE TO SOURCE_HOST='h', SOURCE_DELAY=9, SOURCE_SSL={ssl}, GET_SOURCE_PUBLIC_KEY=1 \
                     FOR CHANNEL 'probe'"
                )
            );
        }
        let named = Source {
            host: "h",
            tls: true,
            channel: "pr'obe",
            ..Source::default()
        };
        assert_eq!(
            s("10.11.6-MariaDB").change_source(&named),
            "CHANGE MASTER 'pr''obe' TO MASTER_HOST='h', MASTER_SSL=1"
        );
        let host_only = Source {
            host: "_",
            ..Source::default()
        };
        assert_eq!(
            s("10.11.6-MariaDB").change_source(&host_only),
            "CHANGE MASTER TO MASTER_HOST='_'"
        );
        assert_eq!(
            s("8.0.23").change_source(&host_only),
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST='_', GET_SOURCE_PUBLIC_KEY=1 FOR CHANNEL ''"
        );
    }

    #[test]
    fn names_by_version() {
        for (version, variable, privilege) in [
            (
                "10.11.6-MariaDB",
                "log_slave_updates",
                "REPLICATION SLAVE ADMIN",
            ),
            ("5.7.44", "log_slave_updates", "SUPER"),
            ("8.0.25", "log_slave_updates", "REPLICATION_SLAVE_ADMIN"),
            ("9.7.4", "log_replica_updates", "REPLICATION_SLAVE_ADMIN"),
        ] {
            assert_eq!(s(version).log_replica_updates(), variable);
            assert_eq!(s(version).replica_privilege(), privilege);
        }
    }
}

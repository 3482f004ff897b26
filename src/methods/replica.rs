//! The last step of a seed by an orchestrator that never connects replication itself: the new server is connected to its source, or
//! prepared for it, by `classic.connect-replication`.

use super::swap_in::STATEMENT;
use crate::compatibility::gtid_modes_replicate;
use crate::config::{Classic, Config, ConnectReplication, Secret};
use crate::coordinates::{Coordinates, begin_at};
use crate::datadir::DatadirInfo;
use crate::error::{Error, Result, TLS_REQUIRED};
use crate::mysql::applier::{Channel, Point, applier, channels};
use crate::mysql::{
    Endpoint, Flavour, Server, Source, Start, connect, control, info, query, quote_text, replica,
};
use crate::process::Cancel;
use crate::seed::record::Peer;
use mysql::Conn;
use std::path::Path;
use std::time::Duration;

/// For each query to the source.
const QUERY: Duration = Duration::from_secs(10);

/// What is to be done by the configuration.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    /// The account by which it replicates.
    login: Option<(String, Secret)>,
    start: bool,
}

impl Wanted {
    /// `None`: nothing.
    fn of(classic: &Classic) -> Result<Option<Self>> {
        let mode = classic.connect_replication;
        if mode == ConnectReplication::No {
            return Ok(None);
        }
        let login = login(classic)?;
        let start = match mode {
            ConnectReplication::Start if login.is_none() => {
                return Err(Error::permanent(
                    "classic.connect-replication = \"start\" needs classic.replication-user and classic.replication-password-file",
                ));
            }
            ConnectReplication::Start => true,
            ConnectReplication::Auto => login.is_some(),
            ConnectReplication::Prepare | ConnectReplication::No => false,
        };
        Ok(Some(Self { login, start }))
    }
}

/// That what the configuration wants can be done as far as this host alone decides it: the password file can be read.
pub(crate) fn check_settings(classic: &Classic) -> Result<()> {
    Wanted::of(classic).map(drop)
}

/// That the server whose data directory is replaced will be able to replicate from `source`, as far as both are known before the copy.
pub(crate) fn check_source(config: &Config, source: &Peer, replaced: &DatadirInfo) -> Result<()> {
    let mode = config.classic.connect_replication;
    if mode == ConnectReplication::No || replaced.gtid_mode.is_empty() {
        return Ok(());
    }
    let theirs = Theirs::query(config, source, replaced.server);
    check_gtid_modes(theirs.gtid_mode.as_deref(), &replaced.gtid_mode)
}

/// MySQL's gtid_mode of the source, if it is known, and of this server.
fn check_gtid_modes(theirs: Option<&str>, here: &str) -> Result<()> {
    match theirs {
        Some(theirs) if !gtid_modes_replicate(theirs, here) => Err(Error::permanent(format!(
            "gtid_mode is {theirs} on the source and {here} on this server, which cannot replicate: set gtid_mode = {theirs} in the \
             my.cnf of this server and start it once"
        ))),
        _ => Ok(()),
    }
}

fn login(classic: &Classic) -> Result<Option<(String, Secret)>> {
    if classic.replication_user.is_empty() {
        return Ok(None);
    }
    let path = &classic.replication_password_file;
    let name = format!("classic.replication-password-file = \"{path}\"");
    let password = Secret::of_file(&name, Path::new(path))?;
    Ok(Some((classic.replication_user.clone(), password)))
}

/// Connects the local server, which runs on the copy that `coordinates` are of, to its source. May be repeated: a channel that is there
/// keeps its source and its position, and is started if it is to be. The text is for Details. After an error the data are complete, and
/// replication can be connected by hand.
pub(crate) fn connect_replica(
    config: &Config,
    source: &Peer,
    coordinates: &Coordinates,
    cancel: &Cancel,
) -> Result<String> {
    let Some(wanted) = Wanted::of(&config.classic)? else {
        return Ok("Replication: not connected (classic.connect-replication = \"no\")".to_string());
    };
    let mut conn = connect(&Endpoint::local(&config.mysql), STATEMENT)?;
    let server = Server::ask(&mut conn)?;
    let by = match applier(&mut conn, server)? {
        Some(present) => {
            let (host, port) = &present.source;
            if (host, port) != (&source.host, &source.mysql_port) {
                return Ok(format!(
                    "Replication: the server has {host}:{port} as its source already, which was left as it is"
                ));
            }
            by(present.by_gtid)
        }
        None => {
            let point = set_source(config, &mut conn, server, source, coordinates, &wanted)?;
            by(matches!(point, Point::Gtid(_)))
        }
    };
    if !wanted.start {
        return Ok(format!("Replication: set to {source} by {by}, not started"));
    }
    let started = start(&mut conn, server, cancel);
    started.map_err(|e| e.context(format!("replication from {source}")))
}

fn by(gtid: bool) -> &'static str {
    if gtid { "GTID" } else { "position" }
}

fn start(conn: &mut Conn, server: Server, cancel: &Cancel) -> Result<String> {
    let channel = poll(conn, server)?;
    if !channel.io || !channel.sql {
        control::execute(conn, &server.start_replica(""))?;
    }
    let channel = replica::wait_until_it_runs(|| poll(conn, server), cancel)?;
    Ok(replica::running_line(&channel))
}

fn poll(conn: &mut Conn, server: Server) -> Result<Channel> {
    applier(conn, server)?.ok_or_else(|| {
        Error::permanent(
            "the server has no replication channel any more: another session has reset it",
        )
    })
}

fn set_source(
    config: &Config,
    conn: &mut Conn,
    server: Server,
    source: &Peer,
    coordinates: &Coordinates,
    wanted: &Wanted,
) -> Result<Point> {
    let theirs = Theirs::query(config, source, server);
    let gtid_mode = info::global(conn, "gtid_mode")?.unwrap_or_default();
    let point = starting_point(server.flavour, coordinates, &theirs, &gtid_mode)?;
    if let Point::Gtid(gtid) = &point {
        begin_at(conn, server, gtid)?;
    }
    let login = wanted.login.as_ref();
    let tls = match login {
        Some((user, _)) => theirs.requires_tls || account_requires_tls(conn, user)?,
        None => theirs.requires_tls,
    };
    let change = server.change_source(&Source {
        host: &source.host,
        port: Some(source.mysql_port),
        login: login.map(|(user, password)| (user.as_str(), password.reveal())),
        start: Some(match &point {
            Point::Gtid(_) => Start::Gtid,
            Point::Position(file, position) => Start::Position(file, *position),
        }),
        tls,
        ..Source::default()
    });
    replica::run_with_password(conn, server, &change, login.map(|(_, password)| password))?;
    Ok(point)
}

/// Of the replication account, which the copy has brought.
fn account_requires_tls(conn: &mut Conn, user: &str) -> Result<bool> {
    let found: Option<u64> = query::first(
        conn,
        format!(
            "SELECT COUNT(*) FROM mysql.user WHERE User = {} AND ssl_type <> ''",
            quote_text(user)
        ),
    )?;
    Ok(found.is_some_and(|n| n > 0))
}

/// What is known of the source at this moment.
#[derive(Debug, Default, PartialEq, Eq)]
struct Theirs {
    requires_tls: bool,
    /// MySQL: gtid_mode; `None` if it could not be queried.
    gtid_mode: Option<String>,
    /// MariaDB: it has a channel that replicates without GTID, so that not all that it logs is in its GTID position.
    replicates_by_position: bool,
}

impl Theirs {
    /// By the agent's account. A source that cannot be queried is taken to be as the copy shows it.
    fn query(config: &Config, source: &Peer, server: Server) -> Self {
        let at = Endpoint::remote(&config.mysql, &source.host, source.mysql_port);
        let found = connect(&at, QUERY).and_then(|mut conn| {
            Ok(match server.flavour {
                Flavour::MySql => Self {
                    gtid_mode: info::global(&mut conn, "gtid_mode")?,
                    ..Self::default()
                },
                Flavour::MariaDb => Self {
                    replicates_by_position: channels(&mut conn, server)?.iter().any(|c| !c.by_gtid),
                    ..Self::default()
                },
            })
        });
        found.unwrap_or_else(|e| {
            let requires_tls = e.mysql_code() == Some(TLS_REQUIRED);
            if !requires_tls {
                log::warn!("whether the source {source} replicates by GTID was not queried: {e}");
            }
            Self {
                requires_tls,
                ..Self::default()
            }
        })
    }
}

/// By GTID where both servers have it and the copy has a GTID position; `gtid_mode`: the local one.
fn starting_point(
    flavour: Flavour,
    copy: &Coordinates,
    source: &Theirs,
    gtid_mode: &str,
) -> Result<Point> {
    let gtid = match flavour {
        Flavour::MariaDb => copy.gtid_slave_pos.as_deref().unwrap_or_default(),
        Flavour::MySql => &copy.gtid_executed,
    };
    let by_gtid = match flavour {
        Flavour::MariaDb => !source.replicates_by_position,
        Flavour::MySql => {
            let theirs = source.gtid_mode.as_deref();
            check_gtid_modes(theirs, gtid_mode)?;
            gtid_mode == "ON" && theirs.is_none_or(|mode| mode == "ON")
        }
    };
    Ok(if by_gtid && !gtid.is_empty() {
        Point::Gtid(gtid.to_string())
    } else {
        Point::Position(copy.log_file.clone(), copy.log_pos)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SET: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5";

    fn mode(mode: &str) -> Theirs {
        Theirs {
            gtid_mode: Some(mode.into()),
            ..Theirs::default()
        }
    }

    #[test]
    fn what_no_replica_can_be_made_of_is_known_before_the_copy() {
        let e = check_gtid_modes(Some("ON"), "OFF").unwrap_err().to_string();
        assert!(e.contains("set gtid_mode = ON"), "{e}");
        check_gtid_modes(Some("ON"), "ON").unwrap();
        check_gtid_modes(None, "OFF").unwrap();
        let of = |mode| Classic {
            connect_replication: mode,
            replication_user: "repl".into(),
            replication_password_file: "/no/such/file".into(),
            ..Classic::default()
        };
        let e = check_settings(&of(ConnectReplication::Auto)).unwrap_err();
        assert!(e.to_string().contains("/no/such/file"), "{e}");
        check_settings(&of(ConnectReplication::No)).unwrap();
    }

    #[test]
    fn where_a_mysql_replica_begins() {
        let unknown = Theirs::default();
        // gtid_mode of the source and of this server, the copy's set; by GTID?
        for (source, here, set, wanted) in [
            (mode("ON"), "ON", SET, Some(true)),
            (unknown, "ON", SET, Some(true)),
            (Theirs::default(), "OFF", SET, Some(false)),
            (mode("ON"), "ON", "", Some(false)),
            (mode("ON"), "OFF_PERMISSIVE", SET, Some(false)),
            (mode("OFF"), "OFF", "", Some(false)),
            (mode("ON_PERMISSIVE"), "ON", SET, Some(false)),
            (mode("OFF"), "ON", "", None),
            (mode("ON"), "OFF", SET, None),
        ] {
            let copy = Coordinates::new("b.2", 157, set).unwrap();
            let point = starting_point(Flavour::MySql, &copy, &source, here);
            let text = format!("{source:?} {here} {set}");
            match (point, wanted) {
                (Ok(Point::Gtid(gtid)), Some(true)) => assert_eq!(gtid, SET, "{text}"),
                (Ok(point), Some(false)) => {
                    assert_eq!(point, Point::Position("b.2".into(), 157), "{text}");
                }
                (Err(e), None) => {
                    assert!(e.to_string().contains("set gtid_mode = "), "{text}: {e}");
                }
                (other, _) => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn where_a_mariadb_replica_begins() {
        let by_position = Theirs {
            replicates_by_position: true,
            ..Theirs::default()
        };
        let position = Point::Position("b.2".into(), 328);
        for (source, set, wanted) in [
            (Theirs::default(), "0-1-7", Point::Gtid("0-1-7".into())),
            (Theirs::default(), "", position.clone()),
            (by_position, "0-1-7", position),
        ] {
            let copy = Coordinates::new("b.2", 328, set).unwrap();
            let point = starting_point(Flavour::MariaDb, &copy, &source, "").unwrap();
            assert_eq!(point, wanted, "{source:?} {set}");
        }
    }

    #[test]
    fn what_is_done_by_the_configuration() {
        let file = std::env::temp_dir().join(format!("oa-replica-{}", std::process::id()));
        std::fs::write(&file, "ge heim\n").unwrap();
        let of = |mode, user: &str, file: &str| {
            Wanted::of(&Classic {
                connect_replication: mode,
                replication_user: user.into(),
                replication_password_file: file.into(),
                ..Classic::default()
            })
        };
        let path = file.display().to_string();
        use ConnectReplication::{Auto, No, Prepare, Start};
        let login = Some(("repl".to_string(), Secret::new("ge heim")));
        for (mode, start) in [(Auto, true), (Start, true), (Prepare, false)] {
            let wanted = of(mode, "repl", &path).unwrap().unwrap();
            assert_eq!((&wanted.login, wanted.start), (&login, start), "{mode:?}");
        }
        for mode in [Auto, Prepare] {
            let wanted = of(mode, "", "").unwrap().unwrap();
            assert_eq!((wanted.login, wanted.start), (None, false), "{mode:?}");
        }
        assert_eq!(of(No, "repl", "/no/such").unwrap(), None);
        for (mode, user, file, wanted) in [
            (Start, "", "", "needs classic.replication-user"),
            (Auto, "repl", "/no/such", "/no/such"),
        ] {
            let e = of(mode, user, file).unwrap_err().to_string();
            assert!(e.contains(wanted), "{e}");
        }
        std::fs::remove_file(&file).unwrap();
    }
}

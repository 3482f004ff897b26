//! The target's replication: stopping what there was, and connecting it to the source after the copy.

use super::event::{Event, How, Listener};
use super::options::{Mode, Options};
use super::plan::Plan;
use super::sql::{BINLOG_GONE, Channel, Db, Statement};
use crate::coordinates::gtid::GtidSet;
use crate::error::{Error, Result};
use crate::mysql::applier::Point;
use crate::mysql::{Flavour, Server, Source, Start, quote_text};
use crate::process::Cancel;
use crate::protocol::http_client::shortened;
use crate::protocol::wire::Metadata;
use std::time::{Duration, Instant};

mod checks;
mod empty;
#[cfg(test)]
mod tests;

/// How long both threads may take to run.
const LIMIT: Duration = Duration::from_secs(60);
/// Between two queries of their state.
const PAUSE: Duration = Duration::from_secs(1);
/// A host that does not exist, as orchestrator uses it to keep a stopped replica from starting.
const NOWHERE: &str = "_";

pub(crate) struct Connected {
    /// `Replication: IO thread Yes, SQL thread Yes, 0 seconds behind`
    pub(crate) state: String,
    pub(crate) failed_checks: Vec<String>,
}

/// Stops all channels of a target, before anything is copied.
pub(crate) fn stop_all(target: &mut Db, channels: &[Channel]) -> Result<()> {
    let server = target.server;
    channels
        .iter()
        .try_for_each(|c| target.run(&server.stop_replica(&c.name)))
}

/// Starts those channels again that ran when `channels` was read: the seed has failed and the data are as before.
pub(crate) fn start_again(target: &mut Db, channels: &[Channel]) -> Result<()> {
    let server = target.server;
    channels
        .iter()
        .filter(|c| c.runs())
        .try_for_each(|c| target.run(&server.start_replica(&c.name)))
}

/// Removes the target's replication, just before its data are overwritten: even a restart of its server in mid-load must not
/// start it. With `keep_account` the default channel keeps its account and its filters, with a host that does not exist.
pub(crate) fn remove_all(target: &mut Db, channels: &[Channel], keep_account: bool) -> Result<()> {
    for c in channels {
        removal(target.server, &c.name, keep_account)
            .into_iter()
            .try_for_each(|text| target.run(&text))?;
    }
    Ok(())
}

fn removal(server: Server, channel: &str, keep_account: bool) -> Vec<String> {
    if !keep_account || !channel.is_empty() {
        return vec![server.reset_replica_all(channel)];
    }
    let nowhere = server.change_source(&Source {
        host: NOWHERE,
        ..Source::default()
    });
    match server.flavour {
        Flavour::MariaDb => vec![nowhere],
        // Threads that left gaps would make the server refuse the change (1802).
        Flavour::MySql => vec![server.reset_replica(channel), nowhere],
    }
}

/// By `--replication`, and by what the copy has. `empty`: the copy is from before the source's first GTID, so that a missing
/// GTID position is the empty one.
fn start_from(options: &Options, plan: &Plan, metadata: &Metadata, empty: bool) -> Result<Point> {
    let gtid = metadata.gtid();
    let position = Point::Position(metadata.log_file.clone(), metadata.log_pos);
    let from = match (options.mode, gtid) {
        (Mode::Gtid, None) if empty => Point::Gtid(String::new()),
        (Mode::Auto, None) if empty && !plan.without_gtid => Point::Gtid(String::new()),
        (Mode::Gtid, None) => {
            return Err(Error::permanent(
                "--replication gtid: the copy has no GTID position; use --replication position",
            ));
        }
        (Mode::Position, _) | (Mode::Auto, None) => position,
        (Mode::Auto, Some(_)) if plan.without_gtid => position,
        (_, Some(gtid)) => Point::Gtid(gtid.to_string()),
    };
    if options.connect_to.is_some() && matches!(from, Point::Position(..)) {
        return Err(Error::permanent(
            "--connect-to needs GTID, and the copy has no GTID position",
        ));
    }
    Ok(from)
}

/// The default channel's source, with the account if one is given, and with the options that the channel had.
fn change_source(
    server: Server,
    options: &Options,
    plan: &Plan,
    to: &(String, u16),
    from: &Point,
) -> Statement {
    let login = options.replication.as_ref();
    let text = server.change_source(&Source {
        host: &to.0,
        port: Some(to.1),
        login: login.map(|l| (l.user.as_str(), l.password.reveal())),
        start: Some(match from {
            Point::Gtid(_) => Start::Gtid,
            Point::Position(file, position) => Start::Position(file, *position),
        }),
        settings: &plan.settings,
        tls: plan.tls,
        channel: "",
    });
    Statement::new(text, login)
}

/// True if a missing GTID position of the copy is the empty one.
fn is_empty(o: &Options, plan: &Plan, metadata: &Metadata, events: &dyn Listener) -> bool {
    if metadata.gtid().is_some() || o.mode == Mode::Position {
        return false;
    }
    empty::before_first_gtid(o, plan, metadata).unwrap_or_else(|e| {
        events.warn(&format!(
            "whether the copy is from before the source's first GTID is not known: {e}"
        ));
        false
    })
}

/// Connects the target and waits until both threads run; then the checks.
pub(crate) fn connect(
    o: &Options,
    plan: &Plan,
    metadata: &Metadata,
    events: &dyn Listener,
    cancel: &Cancel,
) -> Result<Connected> {
    let empty = is_empty(o, plan, metadata, events);
    let from = start_from(o, plan, metadata, empty)?;
    let to = plan.replication_source(o);
    let mut target = Db::open("target", &o.target.host, plan.target_port, &o.mysql)?;
    let present = target.channels()?;
    let keep = o.replication.is_none();
    if keep && !present.iter().any(|c| c.name.is_empty()) {
        return Err(Error::permanent(
            "the target has no replication account any more: give --replication-user",
        ));
    }
    stop_all(&mut target, &present)?;
    remove_all(&mut target, &present, true)?;
    if let Point::Gtid(gtid) = &from {
        begin_at(&mut target, gtid)?;
    }
    let server = target.server;
    target.run_with_password(&change_source(server, o, plan, &to, &from))?;
    target.run(&server.start_replica(""))?;
    let c = wait_until_it_runs(&mut target, cancel)?;
    let (how, gtid, log_file, log_pos) = match &from {
        Point::Gtid(gtid) => (How::Gtid, Some(gtid.as_str()), None, None),
        Point::Position(file, position) => {
            (How::Position, None, Some(file.as_str()), Some(*position))
        }
    };
    events.report(&Event::ReplicationConnected {
        source_host: &to.0,
        source_port: to.1,
        how,
        gtid,
        log_file,
        log_pos,
        io_thread: &c.io,
        sql_thread: &c.sql,
        lag_seconds: c.lag,
    });
    Ok(Connected {
        state: running_line(&c),
        failed_checks: checks::all(&mut target, o, plan, &to, events, cancel)?,
    })
}

/// On MariaDB the position is set here. On MySQL the load has set it, and without it all would be applied a second time.
fn begin_at(target: &mut Db, gtid: &str) -> Result<()> {
    if target.server.flavour == Flavour::MariaDb {
        if target.global("gtid_slave_pos")? == gtid {
            return Ok(());
        }
        return target.run(&format!("SET GLOBAL gtid_slave_pos = {}", quote_text(gtid)));
    }
    let missing = GtidSet::parse(gtid)?.minus(&target.gtid_executed()?);
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::permanent(format!(
        "gtid_executed of the target lacks {} of the copy: another session has reset it, or the load has not set gtid_purged; \
         run a new seed",
        shortened(&missing.to_string())
    )))
}

/// Both threads must be seen running twice in a row: a thread with a wrong start stops within its first events.
fn wait_until_it_runs(target: &mut Db, cancel: &Cancel) -> Result<Channel> {
    let begin = Instant::now();
    let mut seen = 0;
    loop {
        let c = target.default_channel()?;
        seen = if c.io == "Yes" && c.sql == "Yes" {
            seen + 1
        } else {
            0
        };
        if seen == 2 {
            return Ok(c);
        }
        if let Some(e) = failure(&c, begin.elapsed() >= LIMIT) {
            return Err(e);
        }
        if !cancel.sleep(PAUSE) {
            return Err(Error::cancelled());
        }
    }
}

fn running_line(c: &Channel) -> String {
    let lag = c
        .lag
        .map_or("unknown time".to_string(), |s| format!("{s} seconds"));
    format!(
        "Replication: IO thread {}, SQL thread {}, {lag} behind",
        c.io, c.sql
    )
}

/// Why it is useless to wait longer: a thread has stopped with an error, the login was refused, or the time is over.
fn failure(c: &Channel, late: bool) -> Option<Error> {
    let stopped = |state: &str, error: &(u32, String)| state == "No" && error.0 != 0;
    let refused = c.io_error.0 == 1045;
    if !late && !refused && !stopped(&c.io, &c.io_error) && !stopped(&c.sql, &c.sql_error) {
        return None;
    }
    let mut text = format!("IO thread {}, SQL thread {}", c.io, c.sql);
    for (name, (code, message)) in [
        ("Last_IO_Error", &c.io_error),
        ("Last_SQL_Error", &c.sql_error),
    ] {
        if *code != 0 {
            text.push_str(&format!(", {name} {code}: {}", shortened(message)));
        }
    }
    if BINLOG_GONE.contains(&c.io_error.0) {
        text.push_str(
            "; if the source has purged the binary logs from which the copy goes on, raise binlog_expire_logs_seconds there \
             (expire_logs_days before MariaDB 10.6 and MySQL 8.0) and run a new seed",
        );
    }
    if late {
        text.push_str(&format!(" after {} s", LIMIT.as_secs()));
    }
    Some(Error::permanent(text))
}

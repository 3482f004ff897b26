//! The target's replication: stopping what there was, connecting it to the source after the copy, and the checks of what was
//! connected.

use super::Driver;
use crate::commands::seed::event::{Check, Event, How, Target, Verdict};
use crate::commands::seed::options::{Mode, Options};
use crate::commands::seed::plan::{Plan, READ_ONLY};
use crate::commands::seed::sql::Db;
use crate::coordinates::begin_at;
use crate::coordinates::gtid::GtidSet;
use crate::error::{Error, Result, shortened};
use crate::mysql::applier::{Channel, Point};
use crate::mysql::{Flavour, Server, Source, Start, quote_text, replica};
use crate::process::Cancel;
use crate::protocol::wire::Metadata;
use crate::seed::Side;
use std::time::Duration;

#[cfg(test)]
mod tests;

/// Between two queries of one state.
const PAUSE: Duration = Duration::from_secs(1);
/// How often the source is queried for what the target has, before that is the target's own.
const QUERIES: usize = 5;
/// With these a binary log begins (MySQL 9.7, MariaDB 10.11).
const HEADER: [&str; 5] = [
    "Format_desc",
    "Previous_gtids",
    "Gtid_list",
    "Binlog_checkpoint",
    "Start_encryption",
];

impl Driver<'_> {
    /// Stops all channels of the target, before anything is copied.
    pub(super) fn stop_replication(&mut self) -> Result<()> {
        if self.plan.channels.is_empty() {
            return Ok(());
        }
        let mut target = self.open_target()?;
        self.target = Target::ReplicationStopped;
        stop_all(&mut target, &self.plan.channels)?;
        let side = Side::Target;
        self.events.report(&Event::ReplicationStopped { side });
        Ok(())
    }

    /// Starts those channels again that ran before: the seed has failed and the data are as before.
    pub(super) fn start_again(&self) -> Result<()> {
        let mut target = self.open_target()?;
        let server = target.server;
        let mut ran = self.plan.channels.iter().filter(|c| c.io || c.sql);
        ran.try_for_each(|c| target.run(&server.start_replica(&c.name)))
    }

    /// The last moment at which the target could go on with its old data. With a physical method its server serves them until
    /// the new ones are complete.
    pub(super) fn remove_replication(&mut self) -> Result<()> {
        self.cancel.check()?;
        if self.plan.method.backup_to_datadir() {
            return Ok(());
        }
        if !self.plan.channels.is_empty() {
            // A channel that is connected again keeps its filters, which only the server knows.
            let keep = self.options.connect || self.options.replication.is_none();
            let mut target = self.open_target()?;
            self.target = Target::ReplicationGivenUp;
            remove_all(&mut target, &self.plan.channels, keep)?;
        }
        self.target = Target::Partial;
        Ok(())
    }

    /// Connects the target if it is to be; returns the checks after it that have failed.
    pub(super) fn connect(&mut self) -> Result<Vec<String>> {
        self.started(Side::Target);
        let (id, method) = (self.options.seed_id, self.plan.method);
        let metadata = self.retry(|| self.agents.target.metadata(id, method))?;
        self.metadata = Some(metadata.clone());
        self.events.report(&Event::Coordinates {
            log_file: &metadata.log_file,
            log_pos: metadata.log_pos,
            gtid: metadata.gtid(),
        });
        let mut failed = Vec::new();
        let mut state = "Replication: not connected (--no-connect)".to_string();
        if self.options.connect {
            let from = self.starting_point(&metadata)?;
            let to = self.plan.replication_source(self.options);
            let mut target = self.open_target()?;
            state = self.change_source(&mut target, &to, &from)?;
            failed = self.check_replica(&mut target, &to)?;
        }
        self.over(Side::Target, &state, Some(0));
        Ok(failed)
    }

    fn starting_point(&self, metadata: &Metadata) -> Result<Point> {
        let has_none = metadata.gtid().is_none() && self.plan.by_gtid(self.options);
        let empty = has_none
            && self.before_first_gtid(metadata).unwrap_or_else(|e| {
                self.events.warn(&format!(
                    "whether the copy is from before the source's first GTID is not known: {e}"
                ));
                false
            });
        start_from(self.options, self.plan, metadata, empty)
    }

    /// True if the source's binary log shows that nothing was logged before the copy's position: not in the log itself, whose
    /// header lists no GTIDs of earlier ones. A copy without a GTID position then stands for the empty set; otherwise it is one
    /// whose tool has not written it down.
    /// Needs REPLICATION SLAVE (MariaDB: BINLOG MONITOR).
    fn before_first_gtid(&self, copy: &Metadata) -> Result<bool> {
        let (host, port) = (&self.options.source.host, self.plan.source_port);
        let mut source = Db::open("source", host, port, &self.options.mysql)?;
        let log = quote_text(&copy.log_file);
        let rows = source.rows(&format!("SHOW BINLOG EVENTS IN {log} LIMIT 10"))?;
        let events = rows.iter().filter_map(|row| match row.as_slice() {
            [_, position, kind, _, _, info, ..] => Some((position.parse().ok()?, &**kind, &**info)),
            _ => None,
        });
        Ok(is_first(&events.collect::<Vec<_>>(), copy.log_pos))
    }

    /// Waits until both threads run; returns what they report.
    fn change_source(&self, target: &mut Db, to: &(String, u16), from: &Point) -> Result<String> {
        let (server, login) = (target.server, self.options.replication.as_ref());
        let present = target.query(crate::mysql::applier::channels)?;
        if login.is_none() && !present.iter().any(|c| c.name.is_empty()) {
            return Err(Error::permanent(
                "the target has no replication account any more: give --replication-user",
            ));
        }
        stop_all(target, &present)?;
        remove_all(target, &present, true)?;
        if let Point::Gtid(gtid) = from {
            target.query(|conn, server| begin_at(conn, server, gtid))?;
        }
        let change = change_source(server, self.options, self.plan, to, from);
        target.run_with_password(&change, login)?;
        target.run(&server.start_replica(""))?;
        let c = replica::wait_until_it_runs(|| target.default_channel(), self.cancel)?;
        let (how, gtid, log_file, log_pos) = match from {
            Point::Gtid(gtid) => (How::Gtid, Some(gtid.as_str()), None, None),
            Point::Position(file, position) => {
                (How::Position, None, Some(file.as_str()), Some(*position))
            }
        };
        self.events.report(&Event::ReplicationConnected {
            source_host: &to.0,
            source_port: to.1,
            how,
            gtid,
            log_file,
            log_pos,
            io_thread: &c.io_state,
            sql_thread: &c.sql_state,
            lag_seconds: c.lag,
        });
        Ok(replica::running_line(&c))
    }

    /// Checks that the replica is the one that was requested; returns what has failed.
    fn check_replica(&self, target: &mut Db, to: &(String, u16)) -> Result<Vec<String>> {
        let mut failed = Vec::new();
        let mut add = |check, ok: bool, severity, text: String| {
            let (verdict, text) = if ok {
                (Verdict::Ok, "")
            } else {
                (severity, &*text)
            };
            self.events.report(&Event::Verification {
                check,
                verdict,
                text,
            });
            if matches!(verdict, Verdict::Error) {
                failed.push(text.to_string());
            }
        };
        let ((host, port), (to_host, to_port)) = (target.default_channel()?.source, to);
        let same = (&host, port) == (to_host, *to_port);
        let text =
            format!("the target replicates from {host}:{port}, not from {to_host}:{to_port}");
        add(Check::Source, same, Verdict::Error, text);
        match self.own_transactions(target, to) {
            Err(e) if e.is_cancelled() => return Err(e),
            Err(e) => {
                let text = format!("whether the target has errant transactions is not known: {e}");
                add(Check::OwnTransactions, false, Verdict::Warning, text);
            }
            Ok(own) => {
                let text = format!(
                    "the target has errant transactions ({}): something writes to it; find it, set read_only, and run a new seed",
                    shortened(&own)
                );
                add(Check::OwnTransactions, own.is_empty(), Verdict::Error, text);
            }
        }
        let events = target.column(
            "SELECT CONCAT(EVENT_SCHEMA, '.', EVENT_NAME) FROM information_schema.EVENTS WHERE STATUS = 'ENABLED'",
        )?;
        let text = format!(
            "{} events are enabled on the target and run there as well as on the source when event_scheduler is ON: {}",
            events.len(),
            events.join(", ")
        );
        add(Check::Events, events.is_empty(), Verdict::Warning, text);
        for (name, before) in READ_ONLY.iter().zip(&self.plan.read_only) {
            let now = target.global(name)?;
            let text = format!("{name} of the target is {now}, it was {before}");
            add(Check::ReadOnly, now == *before, Verdict::Warning, text);
        }
        Ok(failed)
    }

    /// GTIDs that the target has and its source has not.
    fn own_transactions(&self, target: &mut Db, to: &(String, u16)) -> Result<String> {
        if target.server.flavour == Flavour::MariaDb {
            return target.own_in_binlog();
        }
        let have = target.gtid_executed()?;
        let mut source = Db::open("source", &to.0, to.1, &self.options.mysql)?;
        missing_on(&have, PAUSE, self.cancel, || source.gtid_executed())
    }
}

fn stop_all(target: &mut Db, channels: &[Channel]) -> Result<()> {
    let server = target.server;
    let mut all = channels.iter();
    all.try_for_each(|c| target.run(&server.stop_replica(&c.name)))
}

/// Removes the target's replication, just before its data are overwritten: even a restart of its server in mid-load must not
/// start it. With `keep_account` the default channel keeps its account and its filters, with a host that does not exist.
fn remove_all(target: &mut Db, channels: &[Channel], keep_account: bool) -> Result<()> {
    let server = target.server;
    let statements = channels
        .iter()
        .map(|c| removal(server, &c.name, keep_account));
    statements.flatten().try_for_each(|text| target.run(&text))
}

fn removal(server: Server, channel: &str, keep_account: bool) -> Vec<String> {
    if !keep_account || !channel.is_empty() {
        return vec![server.reset_replica_all(channel)];
    }
    let nowhere = server.change_source(&Source {
        host: "_", // as orchestrator writes it to keep a stopped replica from starting
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
    match metadata.gtid().or(empty.then_some("")) {
        Some(gtid) if plan.by_gtid(options) => Ok(Point::Gtid(gtid.to_string())),
        None if options.mode == Mode::Gtid => Err(Error::permanent(
            "--replication gtid: the copy has no GTID position; use --replication position",
        )),
        _ if options.connect_to.is_some() => Err(Error::permanent(
            "--connect-to needs GTID, and the copy has no GTID position",
        )),
        _ => Ok(Point::Position(metadata.log_file.clone(), metadata.log_pos)),
    }
}

/// The default channel's source, with the account if one is given, and with the options that the channel had.
fn change_source(
    server: Server,
    options: &Options,
    plan: &Plan,
    to: &(String, u16),
    from: &Point,
) -> String {
    let login = options.replication.as_ref();
    server.change_source(&Source {
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
    })
}

/// An empty GTID set is a position: of a source that has GTIDs and has not used one yet. `events` are position, type and info.
fn is_first(events: &[(u64, &str, &str)], copied_to: u64) -> bool {
    let mut lists = events.iter();
    let list = lists.find(|e| e.1 == "Previous_gtids" || e.1 == "Gtid_list");
    let none_earlier = list.is_some_and(|e| e.2.trim_matches(['[', ']']).is_empty());
    let first = events.iter().find(|e| !HEADER.contains(&e.1));
    none_earlier && first.is_none_or(|e| e.0 >= copied_to)
}

/// What a MySQL target has executed and its source has not. With `--connect-to` the source may be a little behind itself.
fn missing_on(
    have: &GtidSet,
    pause: Duration,
    cancel: &Cancel,
    mut source: impl FnMut() -> Result<GtidSet>,
) -> Result<String> {
    for query in 1.. {
        let left = have.minus(&source()?);
        if left.is_empty() || query == QUERIES {
            return Ok(left.to_string());
        }
        if !cancel.sleep(pause) {
            break;
        }
    }
    Err(Error::cancelled())
}

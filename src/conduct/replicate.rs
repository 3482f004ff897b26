//! The target's replication: stopping what there was, and connecting it to the source after the copy (agent-api-v2 3.6).
//! MariaDB only in this version.

use super::agent::Metadata;
use super::options::{Mode, Options};
use super::preflight::Plan;
use super::progress::Screen;
use super::sql::{Channel, Db, Statement};
use crate::error::{Error, Result};
use crate::mysql::quote_text;
use crate::process::Cancel;
use std::time::{Duration, Instant};

#[cfg(test)]
mod tests;

/// How long both threads may take to run.
const LIMIT: Duration = Duration::from_secs(60);
/// Between two looks at them.
const PAUSE: Duration = Duration::from_secs(1);
/// A host name that leads nowhere, as orchestrator uses it to keep a stopped replica from starting (agent-api-v2 3.6).
const NOWHERE: &str = "_";

/// From where the target replicates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum From {
    /// MariaDB's gtid_slave_pos.
    Gtid(String),
    /// Binary log and position of the copied server.
    Position(String, u64),
}

/// The outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connected {
    /// `Replication: IO thread Yes, SQL thread Yes, 0 seconds behind`
    pub line: String,
    /// What the checks after it have found wrong; empty if nothing.
    pub wrong: Vec<String>,
}

/// Stops all channels of a target, before anything is copied.
///
/// # Errors
/// The server's.
pub fn pause(target: &mut Db, channels: &[Channel]) -> Result<()> {
    channels
        .iter()
        .try_for_each(|c| target.run(&named("STOP SLAVE", &c.name, "")))
}

/// Starts those channels again that ran when `channels` was read: the seed has failed and the data are as before.
///
/// # Errors
/// The server's.
pub fn resume(target: &mut Db, channels: &[Channel]) -> Result<()> {
    channels
        .iter()
        .filter(|c| c.runs())
        .try_for_each(|c| target.run(&named("START SLAVE", &c.name, "")))
}

/// Gives up the target's replication for good, just before its data are overwritten: even a restart of its server in mid-load
/// must not start it. With `keep_account` the default channel keeps its account and leads nowhere.
///
/// # Errors
/// The server's.
pub fn give_up(target: &mut Db, channels: &[Channel], keep_account: bool) -> Result<()> {
    for c in channels {
        if keep_account && c.name.is_empty() {
            target.run(&Statement::plain(format!(
                "CHANGE MASTER TO MASTER_HOST={}",
                quote_text(NOWHERE)
            )))?;
        } else {
            target.run(&named("RESET SLAVE", &c.name, " ALL"))?;
        }
    }
    Ok(())
}

fn named(verb: &str, channel: &str, tail: &str) -> Statement {
    let name = if channel.is_empty() {
        String::new()
    } else {
        format!(" {}", quote_text(channel))
    };
    Statement::plain(format!("{verb}{name}{tail}"))
}

/// By `--replication`, and by what there is.
///
/// # Errors
/// If GTID is asked for, or needed for `--connect-to`, and the copy has none.
pub fn start_from(options: &Options, plan: &Plan, metadata: &Metadata) -> Result<From> {
    let gtid = metadata.gtid_slave_pos.as_deref().filter(|g| !g.is_empty());
    let position = From::Position(metadata.log_file.clone(), metadata.log_pos);
    let from = match (options.mode, gtid) {
        (Mode::Gtid, None) => {
            return Err(Error::permanent(
                "--replication gtid: the copy has no GTID position; use --replication position",
            ));
        }
        (Mode::Position, _) | (Mode::Auto, None) => position,
        (Mode::Auto, Some(_)) if plan.source_without_gtid => position,
        (_, Some(gtid)) => From::Gtid(gtid.to_string()),
    };
    if options.connect_to.is_some() && matches!(from, From::Position(..)) {
        return Err(Error::permanent(
            "--connect-to needs GTID, and the copy has no GTID position",
        ));
    }
    Ok(from)
}

/// The address that the target replicates from.
pub fn address(options: &Options, plan: &Plan) -> (String, u16) {
    match &options.connect_to {
        Some(to) => (to.host.clone(), to.port.unwrap_or(plan.source_port)),
        None => (options.source.host.clone(), plan.source_port),
    }
}

/// `CHANGE MASTER TO` with the account, if one is given.
fn change_master(options: &Options, (host, port): &(String, u16), from: &From) -> Statement {
    let mut text = format!(
        "CHANGE MASTER TO MASTER_HOST={}, MASTER_PORT={port}",
        quote_text(host)
    );
    let mut secret = String::new();
    if let Some(login) = &options.replication {
        secret = quote_text(login.password.reveal());
        text.push_str(&format!(
            ", MASTER_USER={}, MASTER_PASSWORD={secret}",
            quote_text(&login.user)
        ));
    }
    match from {
        From::Gtid(_) => text.push_str(", MASTER_USE_GTID=slave_pos"),
        From::Position(file, position) => {
            text.push_str(&format!(
                ", MASTER_LOG_FILE={}, MASTER_LOG_POS={position}, MASTER_USE_GTID=no",
                quote_text(file)
            ));
        }
    }
    Statement::with_secret(text, secret)
}

/// Connects the target and waits until both threads run; then the checks.
///
/// # Errors
/// The server's, and the threads' own errors; cancelled.
pub fn connect(
    o: &Options,
    plan: &Plan,
    metadata: &Metadata,
    screen: &Screen,
    cancel: &Cancel,
) -> Result<Connected> {
    let from = start_from(o, plan, metadata)?;
    let to = address(o, plan);
    let mut target = Db::open("target", &o.target.host, plan.target_port, &o.mysql)?;
    let present = target.channels()?;
    let keep = o.replication.is_none();
    if keep && !present.iter().any(|c| c.name.is_empty()) {
        return Err(Error::permanent(
            "the target has no replication account any more: give --replication-user",
        ));
    }
    pause(&mut target, &present)?;
    let forgotten: Vec<Channel> = present
        .into_iter()
        .filter(|c| !(keep && c.name.is_empty()))
        .collect();
    give_up(&mut target, &forgotten, false)?;
    if let From::Gtid(gtid) = &from
        && target.global("gtid_slave_pos")? != *gtid
    {
        target.run(&Statement::plain(format!(
            "SET GLOBAL gtid_slave_pos = {}",
            quote_text(gtid)
        )))?;
    }
    target.run(&change_master(o, &to, &from))?;
    target.run(&Statement::plain("START SLAVE"))?;
    let how = match &from {
        From::Gtid(gtid) => format!("GTID {gtid}"),
        From::Position(file, position) => format!("{file}:{position}"),
    };
    screen.say(&format!(
        "Replication: from {}:{}, starting at {how}",
        to.0, to.1
    ));
    let line = wait_until_it_runs(&mut target, cancel)?;
    let wrong = checks(&mut target, plan, &to, screen)?;
    Ok(Connected { line, wrong })
}

fn default_channel(target: &mut Db) -> Result<Channel> {
    let found = target.channels()?.into_iter().find(|c| c.name.is_empty());
    found.ok_or_else(|| {
        Error::permanent("the target's replication has disappeared: somebody else has reset it")
    })
}

/// Both threads must be seen running twice in a row: a thread with a wrong start stops within its first events.
fn wait_until_it_runs(target: &mut Db, cancel: &Cancel) -> Result<String> {
    let begin = Instant::now();
    let mut seen = 0;
    loop {
        let c = default_channel(target)?;
        seen = if c.io == "Yes" && c.sql == "Yes" {
            seen + 1
        } else {
            0
        };
        if seen == 2 {
            return Ok(running_line(&c));
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

/// What the threads say if there is nothing to wait for any more: a thread that has stopped with an error, a refused login,
/// or the end of the time.
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
            text.push_str(&format!(
                ", {name} {code}: {}",
                super::agent::shortened(message)
            ));
        }
    }
    if late {
        text.push_str(&format!(" after {} s", LIMIT.as_secs()));
    }
    Some(Error::permanent(text))
}

/// That the replica is the one that was asked for.
fn checks(
    target: &mut Db,
    plan: &Plan,
    to: &(String, u16),
    screen: &Screen,
) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    let c = default_channel(target)?;
    if &c.source != to {
        wrong.push(format!(
            "the target replicates from {}:{}, not from {}:{}",
            c.source.0, c.source.1, to.0, to.1
        ));
    }
    let own = errant(
        &target.global("gtid_binlog_state")?,
        &target.global("server_id")?,
    );
    if !own.is_empty() {
        wrong.push(format!(
            "the target has transactions of its own ({own}): something writes to it; find it, set read_only, and seed anew"
        ));
    }
    let events = target.column("SELECT CONCAT(EVENT_SCHEMA, '.', EVENT_NAME) FROM information_schema.EVENTS WHERE STATUS = 'ENABLED'")?;
    if !events.is_empty() {
        screen.warn(&format!(
            "{} events are enabled on the target and run there as well as on the source when event_scheduler is ON: {}",
            events.len(),
            events.join(", ")
        ));
    }
    let read_only = target.global("read_only")?;
    if read_only != plan.read_only {
        screen.warn(&format!(
            "read_only of the target is {read_only}, it was {}",
            plan.read_only
        ));
    }
    Ok(wrong)
}

/// Those GTIDs (domain-server-sequence) of a binary log that come from the server itself.
fn errant(state: &str, server_id: &str) -> String {
    let own = |gtid: &&str| gtid.split('-').nth(1) == Some(server_id);
    state
        .split(',')
        .map(str::trim)
        .filter(own)
        .collect::<Vec<_>>()
        .join(", ")
}

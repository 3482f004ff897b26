//! Whether the target can replicate from its source, tried before anything is changed.
//!
//! The target gets a channel for a moment, of which only the receiving thread is started. It logs in to the source and requests
//! a binary log that does not exist: a source checks login, privilege, TLS and server ids first, and then reports error 1236
//! (seen on MariaDB 10.11 and MySQL 9.7). Nothing is ever received or applied, not even if the channel were left behind and the
//! server restarted.

use super::findings::Findings;
use crate::commands::seed::options::{Login, Options};
use crate::commands::seed::plan::Plan;
use crate::commands::seed::sql::{BINLOG_GONE, Channel, Db, Statement};
use crate::error::{Error, Result};
use crate::mysql::channel::Setting;
use crate::mysql::{Flavour, Server, Source, Start};
use crate::protocol::http_client::shortened;
use std::time::{Duration, Instant};

const NAME: &str = "orchestrator_agent_probe";
/// A binary log that no source has.
const NO_LOG: &str = "orchestrator_agent_probe.000001";
/// How long the source may take to answer.
const LIMIT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(50);
/// MariaDB has no two connections to one address (ER_CONNECTION_ALREADY_EXISTS).
const SAME_ADDRESS: u16 = 1934;
/// Options that decide whether a connection comes about; all that begin so.
const OF_THE_CONNECTION: [&str; 7] = [
    "SSL",
    "TLS",
    "BIND",
    "NETWORK_NAMESPACE",
    "PUBLIC_KEY",
    "GET_PUBLIC_KEY",
    "COMPRESSION",
];

/// The target's channels. One of a probe is not among them; if a seed was killed and left it behind, it is removed.
pub(super) fn other_channels(o: &Options, target: &mut Db, f: &Findings) -> Result<Vec<Channel>> {
    let (own, others): (Vec<_>, Vec<_>) =
        target.channels()?.into_iter().partition(|c| c.name == NAME);
    if !own.is_empty() && !o.dry_run {
        remove(target)?;
        f.ok(format!(
            "removed the replication channel {NAME}, which an interrupted seed left on the target"
        ));
    }
    Ok(others)
}

/// Tries it with `--replication-user`. What prevents the trial is a warning, what the source answers may be a problem.
pub(super) fn check(o: &Options, target: &mut Db, plan: &Plan, f: &mut Findings) {
    let Some(login) = o.replication.as_ref().filter(|_| o.connect) else {
        return;
    };
    let to = plan.replication_source(o);
    let (name, user) = (format!("{}:{}", to.0, to.1), &login.user);
    let not_tried = |why: &str| {
        format!("whether the target can replicate from {name} as {user} was not tested: {why}")
    };
    if matches!(target.logs_passwords(), Ok(true)) && !matches!(target.may(&["SUPER"]), Ok(true)) {
        f.warn(format!(
            "general_log is ON on the target, and --mysql-user {} lacks SUPER to keep CHANGE MASTER out of it: the password of \
             {user} will be written into that log; set general_log = OFF meanwhile",
            o.mysql.user
        ));
    }
    if let Some(why) = prevented(o, target) {
        return f.warn(not_tried(&why));
    }
    if o.dry_run {
        return f.ok(not_tried("--dry-run changes nothing"));
    }
    let tried = attempt(target, plan, login, &to);
    let removed = remove(target);
    match tried {
        Ok(Ok(())) => f.ok(format!("the target can replicate from {name} as {user}")),
        Ok(Err(text)) => f.problem(format!(
            "the target cannot replicate from {name} as --replication-user {user}: {text}"
        )),
        // Then the target replicates from there already, and that connection gets the account.
        Err(e) if e.mysql_code() == Some(SAME_ADDRESS) => {
            f.ok(not_tried("the target already replicates from there"));
        }
        Err(e) => f.warn(not_tried(&e.to_string())),
    }
    if let Err(e) = removed {
        f.problem(format!(
            "the replication channel {NAME} could not be removed from the target: {e}; run {}",
            target.server.reset_replica_all(NAME)
        ));
    }
}

/// Why it cannot be tried.
fn prevented(o: &Options, target: &mut Db) -> Option<String> {
    let server = target.server;
    if server.flavour == Flavour::MySql && !server.has_channels() {
        return Some("this server has one replication channel only".into());
    }
    if o.dry_run {
        return None;
    }
    match (target.may_replicate(), target.may(&["RELOAD"])) {
        (Ok(true), Ok(true)) => None,
        (Err(e), _) | (_, Err(e)) => Some(e.to_string()),
        _ => Some(format!(
            "--mysql-user {} lacks {} or RELOAD on the target",
            o.mysql.user,
            server.replica_privilege()
        )),
    }
}

/// The outer error prevents the trial; the inner is its result.
fn attempt(
    target: &mut Db,
    plan: &Plan,
    login: &Login,
    to: &(String, u16),
) -> Result<std::result::Result<(), String>> {
    let server = target.server;
    target.run_with_password(&source(server, plan, login, to))?;
    target.run(&server.start_receiver(NAME))?;
    let begin = Instant::now();
    loop {
        let channels = target.channels()?;
        let channel = channels.into_iter().find(|c| c.name == NAME);
        let channel = channel.ok_or_else(|| Error::permanent("the channel has disappeared"))?;
        match answer(&channel) {
            Some(answer) => return Ok(answer),
            None if begin.elapsed() >= LIMIT => {
                return Ok(Err(format!(
                    "no answer within {} s (Replica_IO_Running: {})",
                    LIMIT.as_secs(),
                    channel.io
                )));
            }
            None => std::thread::sleep(PAUSE),
        }
    }
}

/// What the receiving thread reports; `None` while it has no answer.
fn answer(channel: &Channel) -> Option<std::result::Result<(), String>> {
    let (code, text) = &channel.io_error;
    match *code {
        0 => None,
        code if BINLOG_GONE.contains(&code) => Some(Ok(())),
        1045 => Some(Err(format!(
            "Last_IO_Error 1045: {}; the account must exist for the target's address with the password of \
             --replication-password-file",
            shortened(text)
        ))),
        code => Some(Err(format!("Last_IO_Error {code}: {}", shortened(text)))),
    }
}

fn source(server: Server, plan: &Plan, login: &Login, to: &(String, u16)) -> Statement {
    let decides = |s: &&Setting| OF_THE_CONNECTION.iter().any(|o| s.name().starts_with(o));
    let settings: Vec<Setting> = plan.settings.iter().filter(decides).cloned().collect();
    let text = server.change_source(&Source {
        host: &to.0,
        port: Some(to.1),
        login: Some((&login.user, login.password.reveal())),
        start: Some(Start::Position(NO_LOG, 4)),
        settings: &settings,
        tls: plan.tls,
        channel: NAME,
    });
    Statement::new(text, Some(login))
}

/// Removes the channel if it is there.
fn remove(target: &mut Db) -> Result<()> {
    if !target.channels()?.iter().any(|c| c.name == NAME) {
        return Ok(());
    }
    let server = target.server;
    target.run(&server.stop_replica(NAME))?;
    target.run(&server.reset_replica_all(NAME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_receiving_thread_reports() {
        let c = |code, text: &str| Channel {
            io_error: (code, text.into()),
            ..Channel::default()
        };
        assert_eq!(answer(&c(0, "")), None);
        for code in [1236, 13114] {
            assert_eq!(answer(&c(code, "Could not find first log")), Some(Ok(())));
        }
        let refused = answer(&c(1045, "Access denied for user 'r'@'10.1.2.3'"));
        let text = refused.unwrap().unwrap_err();
        assert!(text.contains("'r'@'10.1.2.3'; the account must"), "{text}");
        let text = answer(&c(2003, "Can't connect")).unwrap().unwrap_err();
        assert_eq!(text, "Last_IO_Error 2003: Can't connect");
    }
}

//! A CLONE: the variables that it needs, the choice between the staging directory and the running server, and the statement, which is run
//! over a connection without deadlines, polled over a second one, and ended by KILL QUERY.

use super::ClonePlugin;
use super::checks::Donor;
use crate::datadir::{self, CloneServer, DatadirInfo, Host, Staged, SwapMode};
use crate::error::{Cause, Error, MysqlError, OnPath, Result};
use crate::methods::state::{CloneMode, PhysicalState};
use crate::methods::swap_in::{self, STATEMENT};
use crate::mysql::{Endpoint, Restore, cause, clone, connect, control, info, messages, quote_text};
use crate::seed::stage::Context;
use crate::sys::file::if_there;
use crate::sys::host::human_bytes;
use crate::sys::thread::spawn;
use crossbeam_channel::{Receiver, bounded, select};
use mysql::Conn;
use mysql::prelude::Queryable;
use std::path::Path;
use std::time::{Duration, Instant};

/// The answer to CLONE comes when it is done: no deadline.
const NO_DEADLINE: Duration = Duration::from_secs(10 * 365 * 86_400);
/// Deadline of queries about it.
const QUERY: Duration = Duration::from_secs(5);
/// How often it is polled.
const PAUSE: Duration = Duration::from_millis(500);
/// How often its numbers are reported.
const REPORT: Duration = Duration::from_secs(5);
/// How long a statement that was ended may take to return.
const RETURN: Duration = Duration::from_secs(8);
/// How long a source has to end its part of a CLONE by itself.
const BY_ITSELF: Duration = Duration::from_secs(1);
/// "Restart server failed (mysqld is not managed by supervisor process)": the copy is complete and the server shuts down.
const NOT_SUPERVISED: u16 = 3707;

/// Server variables and the values that a CLONE needs.
pub(super) type Wanted = Vec<(&'static str, String)>;

/// The present values of those that differ, for the record.
pub(super) fn to_restore(conn: &mut Conn, wanted: &Wanted) -> Result<Vec<Restore>> {
    let mut out = Vec::new();
    for (name, value) in wanted {
        let present = present(conn, name)?;
        if present != *value {
            out.push(global(name, present));
        }
    }
    Ok(out)
}

pub(super) fn global(name: &str, value: String) -> Restore {
    Restore::Global {
        name: name.into(),
        value,
    }
}

/// Sets those that differ and reads them back: an error if the server has another value then.
pub(super) fn set(conn: &mut Conn, wanted: &Wanted) -> Result<()> {
    for (name, value) in wanted {
        if present(conn, name)? == *value {
            continue;
        }
        let number = value.bytes().all(|b| b.is_ascii_digit());
        let literal = match value.as_str() {
            "" => "NULL".to_string(),
            value if number => value.to_string(),
            value => quote_text(value),
        };
        control::execute(conn, &format!("SET GLOBAL {name} = {literal}"))?;
        let now = present(conn, name)?;
        if now != *value {
            return Err(Error::permanent(format!(
                "{name} is {now} after it was set to {value}: give the setting of this name in [clone_plugin] a value that the \
                 server accepts"
            )));
        }
    }
    Ok(())
}

fn present(conn: &mut Conn, name: &str) -> Result<String> {
    info::global(conn, name)?.ok_or_else(|| {
        Error::permanent(format!(
            "this server has no variable {name}: is its clone plugin active?"
        ))
    })
}

/// How a CLONE came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The copy is complete; in place, MySQL restarts with it by itself.
    Done,
    /// In place: complete, and MySQL shuts down, because no supervisor restarts it.
    Down,
}

/// What a CLONE has done.
pub(super) struct Outcome {
    pub(super) end: Result<End>,
    /// In place: the old data were perhaps deleted.
    pub(super) began: bool,
}

impl Outcome {
    pub(super) fn not_begun(e: Error) -> Self {
        Self {
            end: Err(e),
            began: false,
        }
    }
}

/// What a server has answered.
type Answer = std::result::Result<(), mysql::Error>;

/// The statement. It holds the password: never to be shown.
fn statement(donor: &Endpoint, place: Option<&Path>, tls: bool) -> String {
    let mut text = format!(
        "CLONE INSTANCE FROM {}@{}:{} IDENTIFIED BY {}",
        quote_text(&donor.user),
        quote_text(&donor.host),
        donor.port,
        quote_text(donor.password.reveal())
    );
    if let Some(place) = place {
        text += &format!(" DATA DIRECTORY = {}", quote_text(&place.to_string_lossy()));
    }
    if tls {
        text += " REQUIRE SSL";
    }
    text
}

impl ClonePlugin {
    /// What the configuration wants, each variable by the setting of its own name, without the list of donors.
    pub(super) fn wanted(&self) -> Wanted {
        let c = &self.config.clone_plugin;
        let flag = |on: bool| if on { "ON" } else { "OFF" }.to_string();
        let network = c.max_network_bandwidth.to_string();
        vec![
            ("clone_autotune_concurrency", flag(c.autotune_concurrency)),
            ("clone_buffer_size", c.buffer_size.to_string()),
            ("clone_ddl_timeout", c.ddl_timeout.to_string()),
            ("clone_enable_compression", flag(c.enable_compression)),
            ("clone_max_concurrency", c.max_concurrency.to_string()),
            ("clone_max_data_bandwidth", c.max_data_bandwidth.to_string()),
            ("clone_max_network_bandwidth", network),
            ("clone_ssl_ca", c.ssl_ca.clone()),
            ("clone_ssl_cert", c.ssl_cert.clone()),
            ("clone_ssl_key", c.ssl_key.clone()),
        ]
    }

    /// The complete Backup. When it returns Ok the copy is complete: in the staging directory, or MySQL restarts with it. After an error
    /// the target's data are as they were, or the record says that they are not.
    pub(super) fn copy(&self, ctx: &Context) -> Result<String> {
        ctx.report("Running backup. Checking the source");
        let seed = ctx.seed()?;
        let peer = seed.peer.as_ref();
        let peer = peer.ok_or_else(|| Error::permanent("backup was called without a source"))?;
        let at = Endpoint::remote(&self.config.mysql, &peer.host, peer.mysql_port);
        let (info, staged) = swap_in::staged(&seed)?;
        let mut wanted = self.wanted();
        wanted.push(("clone_valid_donor_list", format!("{}:{}", at.host, at.port)));
        let (this, of, stopped) = (self.clone(), info.clone(), seed.classic);
        let donor = ctx.interruptible(move || {
            if stopped {
                this.check_donor_of_stopped(at, &of)
            } else {
                this.check_donor(at)
            }
        })?;
        if let Some(bytes) = donor.bytes {
            ctx.progress().expect(bytes);
        }
        let mode = datadir::swap_mode(&info, donor.bytes, self.config.mysql.datadir_swap)?;
        if stopped || mode == SwapMode::TwoCopies {
            return self.staged(ctx, (&info, &staged), &donor, &wanted, mode);
        }
        log::warn!(
            "seed {}: {}: CLONE deletes the old data first",
            seed.id,
            swap_in::why_one_copy(&self.config.mysql, &info)
        );
        self.in_place(ctx, &seed, &donor, &wanted)
    }

    /// By a private server. With [`SwapMode::Wipe`] the old data are deleted once it runs and the source is known to be the one that was
    /// checked.
    fn staged(
        &self,
        ctx: &Context,
        (info, staged): (&DatadirInfo, &Staged),
        donor: &Donor,
        wanted: &Wanted,
        mode: SwapMode,
    ) -> Result<String> {
        ctx.update_state(|_, s: &mut PhysicalState| s.cloning = Some(CloneMode::Staged))?;
        let host = Host::of_stage(&self.config, ctx);
        let helper = CloneServer::start(info, staged, &donor.libraries, &host);
        let copied = helper.and_then(|helper| {
            let on = helper.endpoint();
            let new = staged.new_dir();
            let copied = connect(on, STATEMENT)
                .and_then(|mut conn| set(&mut conn, wanted))
                .and_then(|()| donor.is_unchanged())
                .and_then(|()| match mode {
                    SwapMode::TwoCopies => Ok(()),
                    SwapMode::Wipe => self
                        .try_clone(ctx, on, &donor.at, &new)
                        .and_then(|()| swap_in::wipe(&self.config, ctx, info)),
                })
                .and_then(|()| self.run(ctx, on, &donor.at, Some(&new)).end)
                .and_then(|_| donor.is_unchanged());
            let stopped = helper.stop(ctx.cancel());
            copied.and(stopped)
        });
        if let Err(e) = copied.and_then(|()| ctx.cancel().check()) {
            datadir::delete_new(staged);
            return Err(e);
        }
        let bytes = crate::sys::disk::usage(&staged.new_dir()).unwrap_or(0);
        ctx.progress().bytes(bytes);
        Ok(format!(
            "Backup completed: {bytes} bytes cloned from {}",
            donor.at.name()
        ))
    }

    /// Starts the CLONE and ends it as soon as data come, which then are removed: the source and this server have agreed on it, and it is
    /// known before the old data are deleted.
    fn try_clone(
        &self,
        ctx: &Context,
        on: &Endpoint,
        donor: &Endpoint,
        place: &Path,
    ) -> Result<()> {
        ctx.report("Running backup. Trying the CLONE before the old data are deleted");
        let (mut running, answer) = self.start(ctx, on, donor, Some(place))?;
        let (answered, ended_here) = loop {
            select! {
                recv(answer) -> answered => break (answered.ok(), false),
                recv(ctx.cancel().signal()) -> _ => break (running.end(&answer), true),
                default(PAUSE) => running.poll(),
            }
            if running.last.bytes > 0 {
                break (running.end(&answer), true);
            }
        };
        end_on_source(donor, running.last.total > 0);
        ctx.cancel().check()?;
        match answered {
            None => return Err(running.does_not_end()),
            Some(_) if ended_here => {} // 1317, or 1158 of its connection to the source (MySQL 9.7)
            Some(answer) => drop(interpret(answer, false, donor)?),
        }
        if_there(std::fs::remove_dir_all(place)).on(place).map(drop)
    }

    /// Runs the CLONE to its end, or ends it when the stage is cancelled: then nothing of it runs on either server any more, or
    /// the record says so. The variables are set.
    /// `on`: the server that makes the copy; without a `place` that is the local one, which it replaces.
    pub(super) fn run(
        &self,
        ctx: &Context,
        on: &Endpoint,
        donor: &Endpoint,
        place: Option<&Path>,
    ) -> Outcome {
        let (mut running, answer) = match self.start(ctx, on, donor, place) {
            Ok(started) => started,
            Err(e) => return Outcome::not_begun(e),
        };
        let answered = loop {
            select! {
                recv(answer) -> answered => break answered.ok(),
                recv(ctx.cancel().signal()) -> _ => break running.end(&answer),
                default(PAUSE) => running.report(ctx),
            }
        };
        running.poll(); // the last progress of one that failed
        let in_place = place.is_none();
        let ended = answered.is_some();
        let end = match answered {
            Some(answer) => interpret(answer, in_place, donor),
            None => Err(running.does_not_end()),
        };
        let began = in_place && (running.last.began || end.is_ok());
        if ended && let Err(e) = ctx.update(|s| s.pending_restore.clone_ended()) {
            log::warn!("{e}");
        }
        if end.is_err() {
            end_on_source(donor, running.last.total > 0);
        }
        let end = match ctx.cancel().check() {
            Err(e) if end.is_err() => Err(e),
            _ => end,
        };
        Outcome { end, began }
    }

    fn start(
        &self,
        ctx: &Context,
        on: &Endpoint,
        donor: &Endpoint,
        place: Option<&Path>,
    ) -> Result<(Running, Receiver<Answer>)> {
        let mut conn = connect(on, NO_DEADLINE)?;
        let id = u64::from(conn.connection_id());
        let c = &self.config.clone_plugin;
        let tls = [&c.ssl_ca, &c.ssl_cert, &c.ssl_key];
        let text = statement(donor, place, tls.iter().any(|f| !f.is_empty()));
        if place.is_none() {
            ctx.update(|s| s.pending_restore.clone_begins(id))?;
        }
        ctx.cancel().check()?;
        let (tx, answer) = bounded(1);
        spawn("clone", move || {
            let _ = tx.send(conn.query_drop(text)); // the receiver of one that does not end is gone
        })?;
        let running = Running {
            on: on.clone(),
            id,
            from: donor.name(),
            conn: None,
            last: clone::Progress::default(),
            reported: None,
            begin: Instant::now(),
        };
        Ok((running, answer))
    }
}

/// What the server's answer means.
fn interpret(answer: Answer, in_place: bool, donor: &Endpoint) -> Result<End> {
    let e = match answer {
        Ok(()) => return Ok(End::Done),
        Err(mysql::Error::MySqlError(e)) if in_place && e.code == NOT_SUPERVISED => {
            return Ok(End::Down);
        }
        Err(e) => e,
    };
    let mut cause = cause(&e);
    let mut of_donor = None;
    if let Cause::Server { code, message, .. } = &mut cause {
        of_donor = messages::code_of_donor(message).or(Some(*code));
        // The server does not repeat the statement; should it ever do so, the password must not be shown.
        let secret = donor.password.reveal();
        if !secret.is_empty() {
            *message = message.replace(secret, "<secret>");
        }
    }
    let error = Error::Mysql(Box::new(MysqlError {
        server: "this server".into(),
        user: donor.user.clone(),
        purpose: format!("CLONE from {}", donor.name()),
        cause,
        ..MysqlError::default()
    }));
    let error = match of_donor {
        Some(1045) => error.noted(format!(
            "the account mysql.user = \"{}\" with mysql.password must exist on the source, valid for this host",
            donor.user
        )),
        Some(2003 | 2005) => {
            error.noted("check that the source's MySQL runs and can be reached from this host")
        }
        _ => error,
    };
    Err(if matches!(e, mysql::Error::MySqlError(_)) {
        error.lasting()
    } else {
        error
    })
}

/// Waits until the source serves no CLONE of this host any more. One whose connection has broken is kept there for five minutes in case
/// it comes back (clone_donor_timeout_after_network_failure; seen on 9.7.4), and a source serves one at a time: if it has `sent`
/// something to us, the one it serves is ours and may be ended.
fn end_on_source(donor: &Endpoint, sent: bool) {
    let begin = Instant::now();
    let gone = connect(donor, QUERY).and_then(|mut conn| {
        control::wait_until_gone(|| {
            let kill = sent && begin.elapsed() > BY_ITSELF;
            clone::served(&mut conn, &donor.user, kill)
        })
    });
    if let Err(e) = gone {
        log::warn!(
            "it is not known whether the source {} still serves the CLONE: {e}",
            donor.name()
        );
    }
}

/// A CLONE that runs, as it is polled over another connection.
struct Running {
    on: Endpoint,
    id: u64,
    from: String,
    conn: Option<Conn>,
    last: clone::Progress,
    reported: Option<(Instant, clone::Progress)>,
    begin: Instant,
}

impl Running {
    /// Reads how far it is. A server that is busy, or restarts, is polled again.
    fn poll(&mut self) {
        let conn = match self.conn.take() {
            Some(conn) => Ok(conn),
            None => connect(&self.on, QUERY),
        };
        let polled = conn.and_then(|mut conn| {
            let found = clone::progress(&mut conn, self.id)?;
            self.conn = Some(conn);
            Ok(found)
        });
        match polled {
            Ok(Some(found)) => self.last = found,
            Ok(None) => {}
            Err(e) => log::debug!("progress of CLONE: {e}"),
        }
    }

    fn report(&mut self, ctx: &Context) {
        self.poll();
        let now = self.last.clone();
        if now.total > 0 {
            ctx.progress().expect(now.total);
            ctx.progress().bytes(now.bytes);
        }
        let is_news = match &self.reported {
            None => !now.stage.is_empty(),
            Some((at, before)) => {
                now.stage != before.stage || (at.elapsed() >= REPORT && now.bytes != before.bytes)
            }
        };
        if is_news {
            ctx.report(&details(&self.from, &now, self.begin.elapsed()));
            self.reported = Some((Instant::now(), now));
        }
    }

    fn does_not_end(&self) -> Error {
        Error::transient(format!(
            "CLONE does not end on this server: KILL {} there",
            self.id
        ))
    }

    /// Its answer, `None` if there is none.
    fn end(&mut self, answer: &Receiver<Answer>) -> Option<Answer> {
        self.poll(); // afterwards the server may show less
        let ended = connect(&self.on, QUERY).and_then(|mut conn| clone::end(&mut conn, self.id));
        if let Err(e) = ended {
            log::warn!("{e}");
        }
        answer.recv_timeout(RETURN).ok()
    }
}

/// `Running backup. CLONE from db1:3306: FILE COPY, 1.2 GiB of about 4.0 GiB, 30.1 MiB/s, ETA 95 s`
fn details(from: &str, now: &clone::Progress, elapsed: Duration) -> String {
    let mut text = format!("Running backup. CLONE from {from}: {}", now.stage);
    if now.total > 0 {
        let (bytes, total) = (human_bytes(now.bytes), human_bytes(now.total));
        text += &format!(", {bytes} of about {total}");
    }
    let rate = now.bytes as f64 / elapsed.as_secs_f64().max(0.001);
    if now.bytes > 0 && now.bytes < now.total && elapsed >= Duration::from_secs(1) {
        let eta = (now.total - now.bytes) as f64 / rate;
        text += &format!(", {}/s, ETA {eta:.0} s", human_bytes(rate as u64));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statement_leaves_nothing_open() {
        let donor = Endpoint {
            host: "db1".into(),
            port: 3306,
            socket: String::new(),
            user: "ag'ent".into(),
            password: crate::config::Secret::new(r"a'b\"),
        };
        assert_eq!(
            statement(&donor, None, false),
            r"CLONE INSTANCE FROM 'ag''ent'@'db1':3306 IDENTIFIED BY 'a''b\\'"
        );
        assert_eq!(
            statement(&donor, Some(Path::new("/d/x")), true),
            r"CLONE INSTANCE FROM 'ag''ent'@'db1':3306 IDENTIFIED BY 'a''b\\' DATA DIRECTORY = '/d/x' REQUIRE SSL"
        );
    }

    #[test]
    fn details_have_bytes_and_eta() {
        let now = clone::Progress {
            stage: "FILE COPY".into(),
            began: true,
            bytes: 10 << 20,
            total: 30 << 20,
        };
        assert_eq!(
            details("db1:3306", &now, Duration::from_secs(10)),
            "Running backup. CLONE from db1:3306: FILE COPY, 10.0 MiB of about 30.0 MiB, 1.0 MiB/s, ETA 20 s"
        );
    }
}

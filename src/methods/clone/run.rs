//! One CLONE statement: run over a connection of its own without deadlines, watched over a second one, and ended by KILL QUERY.

use super::ClonePlugin;
use crate::error::{Cause, Error, MysqlError, Result};
use crate::mysql::{Endpoint, cause, clone, connect, control, messages, quote_text};
use crate::seed::stage::Context;
use crate::sys::host::human_bytes;
use crate::sys::thread::spawn;
use crossbeam_channel::{Receiver, bounded, select};
use mysql::Conn;
use mysql::prelude::Queryable;
use std::path::Path;
use std::time::{Duration, Instant};

/// The answer to CLONE comes when it is done: no deadline.
const NO_DEADLINE: Duration = Duration::from_secs(10 * 365 * 86_400);
/// For questions beside it.
const LOOK: Duration = Duration::from_secs(5);
/// How often it is looked at.
const PAUSE: Duration = Duration::from_millis(500);
/// How often its numbers are told.
const TELL: Duration = Duration::from_secs(5);
/// How long a statement that was ended may take to return.
const LAST_WORDS: Duration = Duration::from_secs(8);
/// How long a source has to let go of a CLONE that is over by itself.
const BY_ITSELF: Duration = Duration::from_secs(1);
/// "Restart server failed (mysqld is not managed by supervisor process)": the data are whole and the server shuts down.
const NOT_SUPERVISED: u16 = 3707;

/// How a CLONE came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The copy is whole; in place, MySQL restarts with it by itself.
    Done,
    /// In place: whole, and MySQL shuts down, because nobody restarts it.
    Down,
}

/// What a CLONE has done.
pub struct Outcome {
    /// How it came to its end.
    pub end: Result<End>,
    /// In place: the old data were perhaps deleted.
    pub began: bool,
}

/// What a server has answered.
type Answer = std::result::Result<(), mysql::Error>;

/// The statement. It holds the password: never to be shown.
pub fn statement(donor: &Endpoint, place: Option<&Path>, tls: bool) -> String {
    let mut text = format!(
        "CLONE INSTANCE FROM {}@{}:{} IDENTIFIED BY {}",
        quote_text(&donor.user),
        quote_text(&donor.host),
        donor.port,
        quote_text(donor.password.reveal())
    );
    if let Some(place) = place {
        text.push_str(&format!(
            " DATA DIRECTORY = {}",
            quote_text(&place.to_string_lossy())
        ));
    }
    if tls {
        text.push_str(" REQUIRE SSL");
    }
    text
}

impl ClonePlugin {
    /// Runs the CLONE to its end, or ends it when the stage is cancelled: then nothing of it runs on either server any more, or
    /// the record says so. The settings are set.
    /// `on`: the server that makes the copy; without a `place` that is the local one, which it replaces.
    pub(super) fn run(
        &self,
        ctx: &Context,
        on: &Endpoint,
        donor: &Endpoint,
        place: Option<&Path>,
    ) -> Outcome {
        let before = |e: Error| Outcome {
            end: Err(e),
            began: false,
        };
        let mut conn = match connect(on, NO_DEADLINE) {
            Ok(conn) => conn,
            Err(e) => return before(e),
        };
        let id = u64::from(conn.connection_id());
        let c = &self.config.clone_plugin;
        let tls = [&c.ssl_ca, &c.ssl_cert, &c.ssl_key]
            .iter()
            .any(|f| !f.is_empty());
        let text = statement(donor, place, tls);
        let noted = ctx.update(|s| {
            if place.is_none() {
                s.pending_restore.clone_begins(id);
            }
        });
        if let Err(e) = noted.and_then(|()| ctx.cancel().check()) {
            return before(e);
        }
        let (tx, answer) = bounded(1);
        let body = move || {
            let _ = tx.send(conn.query_drop(text)); // nobody waits any more for one that does not end
        };
        if let Err(e) = spawn("clone", body) {
            return before(e);
        }
        let mut watch = Watch {
            on: on.clone(),
            id,
            from: donor.name(),
            conn: None,
            last: clone::Progress::default(),
            told: None,
            begin: Instant::now(),
        };
        let answered = loop {
            select! {
                recv(answer) -> answered => break answered.ok(),
                recv(ctx.cancel().signal()) -> _ => break watch.end(&answer),
                default(PAUSE) => watch.look(ctx),
            }
        };
        watch.see(); // the last words of one that failed
        let ended = answered.is_some();
        let end = match answered {
            Some(answer) => self.understood(answer, place.is_none(), donor),
            None => Err(Error::transient(format!(
                "CLONE does not end on this server: KILL {id} there"
            ))),
        };
        let began = place.is_none() && (watch.last.began || end.is_ok());
        if ended {
            let noted = ctx.update(|s| s.pending_restore.clone_ended());
            if let Err(e) = noted {
                log::warn!("{e}");
            }
        }
        if end.is_err() {
            self.let_go(donor, watch.last.total > 0);
        }
        let end = match ctx.cancel().check() {
            Err(e) if end.is_err() => Err(e),
            _ => end,
        };
        Outcome { end, began }
    }

    /// What the server's answer means.
    fn understood(&self, answer: Answer, in_place: bool, donor: &Endpoint) -> Result<End> {
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
        let refused = matches!(e, mysql::Error::MySqlError(_));
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
        Err(if refused { error.lasting() } else { error })
    }

    /// Sees to it that the source serves no CLONE of this host any more. One whose connection has broken is kept there for five
    /// minutes in case it comes back (clone_donor_timeout_after_network_failure; seen on 9.7.4), and a source serves one at a
    /// time: if it has `sent` something to us, the one it serves is ours and may be ended.
    fn let_go(&self, donor: &Endpoint, sent: bool) {
        let begin = Instant::now();
        let gone = connect(donor, LOOK).and_then(|mut conn| {
            control::wait_until_gone(|| {
                let kill = sent && begin.elapsed() > BY_ITSELF;
                clone::served(&mut conn, &donor.user, kill)
            })
        });
        if let Err(e) = gone {
            log::warn!(
                "whether the source {} has let go of the CLONE is not known: {e}",
                donor.name()
            );
        }
    }
}

/// Looks at a CLONE from aside.
struct Watch {
    on: Endpoint,
    id: u64,
    from: String,
    conn: Option<Conn>,
    last: clone::Progress,
    told: Option<(Instant, clone::Progress)>,
    begin: Instant,
}

impl Watch {
    /// Asks how far it is. A server that is busy, or restarts, is asked again.
    fn see(&mut self) {
        let conn = match self.conn.take() {
            Some(conn) => Ok(conn),
            None => connect(&self.on, LOOK),
        };
        let asked = conn.and_then(|mut conn| {
            let found = clone::progress(&mut conn, self.id)?;
            Ok((conn, found))
        });
        match asked {
            Ok((conn, found)) => {
                self.conn = Some(conn);
                if let Some(found) = found {
                    self.last = found;
                }
            }
            Err(e) => log::debug!("progress of CLONE: {e}"),
        }
    }

    fn look(&mut self, ctx: &Context) {
        self.see();
        let now = self.last.clone();
        if now.total > 0 {
            ctx.progress().expect(now.total);
            ctx.progress().bytes(now.bytes);
        }
        let tell = match &self.told {
            None => !now.stage.is_empty(),
            Some((at, before)) => {
                now.stage != before.stage || (at.elapsed() >= TELL && now.bytes != before.bytes)
            }
        };
        if !tell {
            return;
        }
        ctx.report(&words(&self.from, &now, self.begin.elapsed()));
        self.told = Some((Instant::now(), now));
    }

    /// Ends it; its answer, `None` if there is none.
    fn end(&mut self, answer: &Receiver<Answer>) -> Option<Answer> {
        self.see(); // afterwards it may show less
        let ended = connect(&self.on, LOOK).and_then(|mut conn| clone::end(&mut conn, self.id));
        if let Err(e) = ended {
            log::warn!("{e}");
        }
        answer.recv_timeout(LAST_WORDS).ok()
    }
}

/// `Running backup. CLONE from db1:3306: FILE COPY, 1.2 GiB of about 4.0 GiB, 30.1 MiB/s, ETA 95 s`
fn words(from: &str, now: &clone::Progress, elapsed: Duration) -> String {
    let mut text = format!("Running backup. CLONE from {from}: {}", now.stage);
    if now.total > 0 {
        text.push_str(&format!(
            ", {} of about {}",
            human_bytes(now.bytes),
            human_bytes(now.total)
        ));
    }
    let rate = now.bytes as f64 / elapsed.as_secs_f64().max(0.001);
    if now.bytes > 0 && now.bytes < now.total && elapsed >= Duration::from_secs(1) {
        let eta = (now.total - now.bytes) as f64 / rate;
        text.push_str(&format!(", {}/s, ETA {eta:.0} s", human_bytes(rate as u64)));
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
    fn words_with_bytes_and_eta() {
        let now = clone::Progress {
            stage: "FILE COPY".into(),
            began: true,
            bytes: 10 << 20,
            total: 30 << 20,
        };
        assert_eq!(
            words("db1:3306", &now, Duration::from_secs(10)),
            "Running backup. CLONE from db1:3306: FILE COPY, 10.0 MiB of about 30.0 MiB, 1.0 MiB/s, ETA 20 s"
        );
    }
}

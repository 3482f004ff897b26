//! The rollback: after a failure or a cancellation of a swap, and at the start of an agent that was killed in one. Each step
//! checks what is there, so that it may be repeated from any moment.

use super::environment::{Environment, is_in_use, start_and_wait, wait_until_unused};
use super::info::DatadirInfo;
use super::journal::{Journal, Journals, Phase};
use super::staging::{EntryKind, kind, move_aside, names_in};
use super::swap::Run;
use crate::error::{Error, Result};
use crate::process::Cancel;
use crate::sys::proc::servers_in;
use std::time::{Duration, Instant};

/// How often MySQL is started again while it does not stay up: the stop command may still be at work.
const STARTS: u32 = 5;
/// How often a server that may be ending is polled.
const POLL: Duration = Duration::from_millis(200);

/// What the data directory holds after a rollback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DataNow {
    Old,
    /// The old data were deleted and the new ones are not in place.
    Missing,
    New,
}

/// What was found and done at the agent's start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    pub(crate) seed: i64,
    /// For the log and the seed's record.
    pub text: String,
    pub(crate) data: DataNow,
    /// MySQL ran before and is to be started: for [`start_again`].
    pub start: Option<Box<DatadirInfo>>,
}

/// Rolls an unfinished swap back, or completes it if only deletion was left, before the agent answers any request. `None` if
/// there was nothing. Starting MySQL, which may take as long as a crash recovery, is left to [`start_again`]. After an error the
/// marker stays, and MySQL must not be started.
pub fn recover_at_start(journals: &Journals, env: &dyn Environment) -> Result<Option<Recovered>> {
    let Some(journal) = journals.read()? else {
        return Ok(None);
    };
    let (seed, phase) = (journal.seed, journal.phase);
    log::warn!("the swap of the data directory for seed {seed} was interrupted in phase {phase:?}");
    let mut run = Run::new(journals, env, journal, Cancel::default());
    let swap = format!("the swap of seed {seed}, interrupted in phase {phase:?},");
    let rolled_back = run.roll_back();
    rolled_back.map_err(|e| e.context(format!("{swap} cannot be rolled back")))?;
    let start =
        (run.journal.phase == Phase::RolledBack).then(|| Box::new(run.journal.info.clone()));
    let (data, text) = if let Some(reason) = run.data_missing() {
        (DataNow::Missing, reason)
    } else if phase == Phase::Done {
        let text = format!(
            "the new data of seed {seed} are in place and MySQL was started on them, but its coordinates and settings were perhaps \
             not set: run a new seed"
        );
        (DataNow::New, text)
    } else {
        let mysql = match start {
            Some(_) => "is started on them",
            None => "was down before",
        };
        let text = format!("{swap} was rolled back: the old data are in place, MySQL {mysql}");
        (DataNow::Old, text)
    };
    Ok(Some(Recovered {
        seed,
        text,
        data,
        start,
    }))
}

/// Starts MySQL on the old data after a swap was rolled back, and waits until it answers and stays up: a stop command of an agent
/// that was killed may still be at work. Then the journal is removed, also after a failure, which needs an operator.
pub fn start_again(journals: &Journals, info: &DatadirInfo, env: &dyn Environment) -> Result<()> {
    // A new seed that swaps has remembered that MySQL is to run.
    let wanted = || Ok(unfinished(journals)?.is_none());
    let started = start_until_it_stays(env, info, wanted);
    if started == Ok(false) {
        return Ok(());
    }
    if let Some(journal) = journals.read()?.filter(|j| j.phase == Phase::RolledBack) {
        journals.remove(&journal)?;
    }
    let started = started.map(drop);
    started.map_err(|e| e.context("the old data are in place"))
}

/// Starts MySQL, as long as that is `wanted`, until it stays up: a server that is there may be stopping, and still answer, or take
/// its time to end. False if it is not wanted any more.
fn start_until_it_stays(
    env: &dyn Environment,
    info: &DatadirInfo,
    wanted: impl Fn() -> Result<bool>,
) -> Result<bool> {
    let cancel = Cancel::default();
    for _ in 0..STARTS {
        let begin = Instant::now();
        while begin.elapsed() < env.stop_timeout() && is_in_use(info)? && env.answers().is_err() {
            cancel.sleep(POLL);
        }
        if !wanted()? {
            return Ok(false);
        }
        start_and_wait(env, info, &cancel)?;
        cancel.sleep(env.quiet());
        if env.answers().is_ok() {
            return Ok(true);
        }
    }
    Err(Error::transient("MySQL does not stay up"))
}

/// Why MySQL must not be started through the agent now; `None` if it may.
pub fn mysql_start_refused(journals: &Journals) -> Option<String> {
    match journals.read() {
        Ok(journal) => journal.and_then(|j| j.reason()),
        Err(e) => Some(e.to_string()),
    }
}

/// The journal of an unfinished swap, for `status`.
pub(crate) fn unfinished(journals: &Journals) -> Result<Option<Journal>> {
    Ok(journals.read()?.filter(Journal::is_unfinished))
}

impl Run<'_> {
    /// Rolls back after `cause` and adds to it what has become of the data.
    pub(super) fn rolled_back_after(&mut self, cause: Error) -> Error {
        self.cancel = Cancel::default(); // a rollback is not cancelled
        self.lock = None;
        if !self.written {
            return cause;
        }
        log::error!("the swap of the data directory failed: {cause}; rolling back");
        self.env.report("Moving the old data back");
        let cancelled = cause.is_cancelled();
        let cause = match self.roll_back_and_start() {
            Ok(text) => cause.noted(text),
            Err(e) => cause.noted(format!("and the rollback failed: {e}")),
        };
        // The engine adds this to the reason of a cancellation.
        if cancelled { cause.passing() } else { cause }
    }

    /// The reason, if the old data were deleted and MySQL must not be started.
    fn data_missing(&self) -> Option<String> {
        self.journal.reason().filter(|_| self.journal.wiped)
    }

    fn roll_back_and_start(&mut self) -> Result<String> {
        // The stop command may have ended before the server has.
        let may_be_stopping = self.journal.phase == Phase::Stopping;
        self.roll_back()?;
        if let Some(reason) = self.data_missing() {
            return Ok(reason);
        }
        if !self.journal.was_running {
            return Ok("the old data are in place and MySQL is down, as before".into());
        }
        let (env, info) = (self.env, &self.journal.info);
        let started = if may_be_stopping {
            start_until_it_stays(env, info, || Ok(true)).map(drop)
        } else {
            start_and_wait(env, info, &self.cancel).map(drop)
        };
        self.journals.remove(&self.journal)?;
        let serves = started.and_then(|()| env.serves(info));
        serves.map_err(|e| e.context("the old data are in place"))?;
        Ok("the old data are in place and MySQL runs on them".into())
    }

    /// Back to the old data, as far as there are any. The marker is removed when they are complete; where MySQL is to be started,
    /// [`Phase::RolledBack`] stays until that is done.
    pub(super) fn roll_back(&mut self) -> Result<()> {
        match self.journal.phase {
            Phase::RolledBack | Phase::Wiped => return Ok(()),
            Phase::Done | Phase::Stopping => {}
            Phase::Wiping => return self.finish_wipe(),
            Phase::MovingOldOut | Phase::MovingOldBack => self.move_old_back()?,
            Phase::MovingNewIn | Phase::Committed | Phase::MovingNewOut => {
                self.move_new_out()?;
                if self.journal.wiped {
                    self.enter_phase(Phase::Wiped)?;
                    self.lock = None;
                    return Ok(());
                }
                self.enter_phase(Phase::MovingOldBack)?;
                self.move_old_back()?;
            }
        }
        self.lock = None;
        if self.journal.was_running && self.journal.phase != Phase::Done {
            match self.enter_phase(Phase::RolledBack) {
                Ok(()) => return Ok(()),
                // The data are complete: a full disk must not keep MySQL down.
                Err(e) => log::warn!("{e}"),
            }
            self.journal.phase = Phase::RolledBack;
        }
        self.at("remove the marker")?;
        self.journals.remove(&self.journal)
    }

    fn move_new_out(&mut self) -> Result<()> {
        let new = self.staged.new_dir();
        if kind(&self.top())? == EntryKind::Other {
            if self.journal.phase == Phase::MovingNewIn {
                return Err(Error::permanent(format!(
                    "{} is a file where the guard directory that keeps mysqld from starting should be: another process has changed \
                     the data directory",
                    self.top().display()
                )));
            }
            self.stop_and_lock()?; // it may run on the new data
        }
        self.enter_phase(Phase::MovingNewOut)?;
        self.guard_up(&new)?;
        self.stop_servers()?;
        for name in self.swapped_names()? {
            if kind(&new.join(&name))? == EntryKind::Missing {
                self.rename(&self.datadir(), &name, &new)?;
            } else {
                self.set_aside(&name)?;
            }
        }
        for (dir, name, aside) in self.logs_outside()? {
            self.at(&format!("set aside {name}"))?;
            move_aside(&dir, &name, &aside.join("new"))?;
        }
        self.sync(&new)
    }

    /// Stops a server that was started meanwhile, and waits until none is there: during a rollback nothing else would stop it.
    fn stop_servers(&self) -> Result<()> {
        let info = &self.journal.info;
        if !servers_in(&info.datadir).is_empty()
            && let Err(e) = self.env.stop(&self.cancel)
        {
            log::warn!("{e}");
        }
        wait_until_unused(info, &self.cancel)
    }

    fn are_logs_aside(&self) -> Result<bool> {
        for logs in &self.journal.info.outside {
            if !names_in(&self.staged.aside(logs).join("old"))?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn move_old_back(&mut self) -> Result<()> {
        let old = self.staged.old_dir();
        let mut names = names_in(&old)?;
        names.retain(|n| *n != self.journal.info.system_file);
        if kind(&self.top())? != EntryKind::Dir {
            if names.is_empty() {
                return Ok(()); // not begun, or done
            }
            return Err(Error::permanent(format!(
                "{} is in place and so are old data in {}: another process has changed the data directory",
                self.top().display(),
                old.display()
            )));
        }
        // Nothing but the guard was done: a server that was started just before it holds the system tablespace open, by
        // whatever name, and is not disturbed.
        if !names.is_empty() || self.are_logs_aside()? {
            self.stop_servers()?;
        }
        for name in names {
            self.rename_in(&old, &name)?;
        }
        for logs in &self.journal.info.outside {
            let aside = self.staged.aside(logs);
            for name in names_in(&aside.join("old"))? {
                if kind(&logs.dir.join(&name))? != EntryKind::Missing {
                    self.at(&format!("set aside {name}"))?;
                    move_aside(&logs.dir, &name, &aside.join("new"))?;
                }
                self.rename(&aside.join("old"), &name, &logs.dir)?;
            }
        }
        self.sync(&old)?;
        self.guard_down(&old)
    }
}

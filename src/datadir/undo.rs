//! The way back: after a failure or a cancellation of a swap, and at the agent's start after it was killed in one. Each step
//! looks at what is there, so that it may be repeated from any moment.

use super::facts::Facts;
use super::journal::{Journal, Journals, Phase};
use super::service::{Surroundings, start_and_wait};
use super::staging::{move_aside, names_in};
use super::stopped;
use super::swap::{Kind, Run, kind};
use crate::error::{Error, Result};
use crate::process::Cancel;
use crate::seed::record::Load;
use crate::sys::proc::servers_in;
use std::time::{Duration, Instant};

/// How often MySQL is started again while it does not stay up: what had told it to stop may still be at work.
const STARTS: u32 = 5;
/// How often a server that may be ending is looked at.
const PAUSE: Duration = Duration::from_millis(200);

/// What was found and done at the agent's start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// Whose swap it was.
    pub seed: i64,
    /// For the log and the seed's record.
    pub text: String,
    /// What the data directory holds now: the old data, none, or the new.
    pub data: Load,
    /// MySQL ran before and is to be started: for [`start_again`].
    pub start: Option<Box<Facts>>,
}

/// Rolls an unfinished swap back, or completes it if only deletion was left, before anybody can ask for anything. `None` if
/// there was nothing. Starting MySQL, which may take as long as a crash recovery, is left to [`start_again`].
///
/// # Errors
/// What keeps it from being rolled back: the marker then stays, and MySQL must not be started.
pub fn recover_at_start(
    journals: &Journals,
    outside: &dyn Surroundings,
) -> Result<Option<Recovered>> {
    let Some(journal) = journals.read()? else {
        return Ok(None);
    };
    let (seed, phase) = (journal.seed, journal.phase);
    log::warn!("the swap of the data directory for seed {seed} was interrupted at step {phase:?}");
    let mut run = Run::new(journals, outside, journal, Cancel::default());
    run.undo().map_err(|e| {
        e.context(format!(
            "the swap of seed {seed}, interrupted at step {phase:?}, cannot be rolled back"
        ))
    })?;
    let facts = || Box::new(run.journal.facts.clone());
    let start = (run.journal.phase == Phase::Back).then(facts);
    let (data, text) = match run.journal.reason().filter(|_| run.journal.wiped) {
        Some(reason) => (Load::Incomplete, reason),
        None if phase == Phase::Done => (
            Load::Whole,
            format!(
                "the new data of seed {seed} are in place and MySQL was started on them, but its coordinates and settings were perhaps \
                 not set: make a new seed"
            ),
        ),
        None => (
            Load::Untouched,
            format!(
                "the swap of seed {seed}, interrupted at step {phase:?}, was rolled back: the old data are in place{}",
                if start.is_some() {
                    ", MySQL is started on them"
                } else {
                    ", MySQL was down before"
                }
            ),
        ),
    };
    let found = Recovered {
        seed,
        text,
        data,
        start,
    };
    Ok(Some(found))
}

/// Starts MySQL on the old data after a swap was rolled back, and waits until it answers and stays: a stop command of an
/// agent that was killed may still be at work. The journal goes then, also after a failure, which is an operator's business.
///
/// # Errors
/// MySQL does not start or does not stay; the journal cannot be read.
pub fn start_again(journals: &Journals, facts: &Facts, outside: &dyn Surroundings) -> Result<()> {
    // A new seed swaps, and has remembered that MySQL is to run.
    let wanted = || Ok(unfinished(journals)?.is_none());
    let result = match start_until_it_stays(outside, facts, wanted) {
        Ok(false) => return Ok(()),
        other => other.map(drop),
    };
    if let Some(journal) = journals.read()?.filter(|j| j.phase == Phase::Back) {
        journals.remove(&journal)?;
    }
    result.map_err(|e| e.context("the old data are in place"))
}

/// Starts MySQL, as long as that is `wanted`, until it stays: the server that is there may be one that was told to stop, and
/// still answers, or takes its time to end. False if it is not wanted any more.
fn start_until_it_stays(
    outside: &dyn Surroundings,
    facts: &Facts,
    wanted: impl Fn() -> Result<bool>,
) -> Result<bool> {
    let cancel = Cancel::default();
    for _ in 0..STARTS {
        let begin = Instant::now();
        while begin.elapsed() < outside.patience()
            && stopped::is_in_use(facts)?
            && outside.answers().is_err()
        {
            cancel.sleep(PAUSE);
        }
        if !wanted()? {
            return Ok(false);
        }
        start_and_wait(outside, facts, &cancel)?;
        cancel.sleep(outside.quiet());
        if outside.answers().is_ok() {
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

impl Run<'_> {
    /// Goes back after `cause` and adds to it what has become of the data.
    pub(super) fn back_after(&mut self, cause: Error) -> Error {
        self.cancel = Cancel::default(); // the way back is gone to its end
        self.lock = None;
        if !self.written {
            return cause;
        }
        log::error!("the swap of the data directory failed: {cause}; going back");
        self.outside.report("Putting the old data back");
        let cancelled = cause.is_cancelled();
        let cause = match self.undo_and_start() {
            Ok(text) => cause.noted(text),
            Err(e) => cause.noted(format!("and going back failed: {e}")),
        };
        // The engine says who cancelled, and adds this to it.
        if cancelled { cause.passing() } else { cause }
    }

    fn undo_and_start(&mut self) -> Result<String> {
        // The stop command may have ended before the server has.
        let may_be_stopping = self.journal.phase == Phase::Stopping;
        self.undo()?;
        if let Some(reason) = self.journal.reason().filter(|_| self.journal.wiped) {
            return Ok(reason);
        }
        if !self.journal.was_running {
            return Ok("the old data are in place and MySQL is down, as before".into());
        }
        let (outside, facts) = (self.outside, &self.journal.facts);
        let started = match may_be_stopping {
            true => start_until_it_stays(outside, facts, || Ok(true)).map(drop),
            false => start_and_wait(outside, facts, &self.cancel).map(drop),
        };
        self.journals.remove(&self.journal)?;
        started
            .and_then(|()| outside.serves(facts))
            .map_err(|e| e.context("the old data are in place"))?;
        Ok("the old data are in place and MySQL runs on them".into())
    }

    /// Back to the old data, as far as there are any. The marker goes when they are whole; where MySQL is to be started,
    /// [`Phase::Back`] stays until that is done.
    pub(super) fn undo(&mut self) -> Result<()> {
        match self.journal.phase {
            Phase::Back => return Ok(()),
            Phase::Done | Phase::Stopping => {}
            Phase::Wiped => return Ok(()),
            Phase::Wiping => return self.finish_wipe(),
            Phase::Out | Phase::OldIn => self.old_in()?,
            Phase::In | Phase::Entered | Phase::NewOut => {
                self.new_out()?;
                if self.journal.wiped {
                    return self.wiped_again();
                }
                self.enter_phase(Phase::OldIn)?;
                self.old_in()?;
            }
        }
        self.lock = None;
        if self.journal.was_running && self.journal.phase != Phase::Done {
            match self.enter_phase(Phase::Back) {
                Ok(()) => return Ok(()),
                // The data are whole: a full disk must not keep MySQL down.
                Err(e) => log::warn!("{e}"),
            }
            self.journal.phase = Phase::Back;
        }
        self.at("remove the marker")?;
        self.journals.remove(&self.journal)
    }

    fn wiped_again(&mut self) -> Result<()> {
        self.enter_phase(Phase::Wiped)?;
        self.lock = None;
        Ok(())
    }

    fn new_out(&mut self) -> Result<()> {
        let new = self.staged.new_dir();
        if kind(&self.top())? == Kind::Other {
            if self.journal.phase == Phase::In {
                return Err(Error::permanent(format!(
                    "{} is a file where the guard should be: somebody else has changed the data directory",
                    self.top().display()
                )));
            }
            self.stop_and_prove()?; // it may run on the new data
        }
        self.enter_phase(Phase::NewOut)?;
        self.guard_up(&new)?;
        self.clear_out()?;
        for name in self.swapped_names()? {
            if kind(&new.join(&name))? == Kind::Missing {
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

    /// Waits until nobody is there any more, and stops who is: on the way back nobody else can.
    fn clear_out(&self) -> Result<()> {
        let facts = &self.journal.facts;
        if !servers_in(&facts.datadir).is_empty()
            && let Err(e) = self.outside.stop(&self.cancel)
        {
            log::warn!("{e}");
        }
        stopped::nobody_there(facts, &self.cancel)
    }

    fn are_logs_aside(&self) -> Result<bool> {
        for outside in &self.journal.facts.outside {
            if !names_in(&self.staged.aside(outside).join("old"))?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn old_in(&mut self) -> Result<()> {
        let (old, system_file) = (
            self.staged.old_dir(),
            self.journal.facts.system_file.clone(),
        );
        let mut names = names_in(&old)?;
        names.retain(|n| *n != system_file);
        if kind(&self.top())? != Kind::Dir {
            // Not begun, or done.
            return match names.is_empty() {
                true => Ok(()),
                false => Err(Error::permanent(format!(
                    "{} is in place and so are old data in {}: somebody else has changed the data directory",
                    self.top().display(),
                    old.display()
                ))),
            };
        }
        // Nothing but the guard was done: a server that was started just before it holds the system tablespace open, by
        // whatever name, and is not disturbed.
        if !names.is_empty() || self.are_logs_aside()? {
            self.clear_out()?;
        }
        for name in names {
            self.rename_in(&old, &name)?;
        }
        for outside in self.journal.facts.outside.clone() {
            let aside = self.staged.aside(&outside);
            for name in names_in(&aside.join("old"))? {
                if kind(&outside.dir.join(&name))? != Kind::Missing {
                    self.at(&format!("set aside {name}"))?;
                    move_aside(&outside.dir, &name, &aside.join("new"))?;
                }
                self.rename(&aside.join("old"), &name, &outside.dir)?;
            }
        }
        self.sync(&old)?;
        self.guard_down(&old)
    }
}

/// The journal of an unfinished swap, for `status`.
///
/// # Errors
/// If it cannot be read.
pub fn unfinished(journals: &Journals) -> Result<Option<Journal>> {
    Ok(journals.read()?.filter(Journal::is_unfinished))
}

//! The way back: after a failure or a cancellation of a swap, and at the agent's start after it was killed in one. Each step
//! looks at what is there, so that it may be repeated from any moment.

use super::journal::{Journal, Journals, Phase};
use super::service::{Surroundings, start_and_wait};
use super::staging::{move_aside, names_in};
use super::stopped;
use super::swap::{Kind, Run, kind};
use crate::error::{Error, Result};
use crate::process::Cancel;

/// Rolls an unfinished swap back, or completes it if only deletion was left, before anybody can ask for anything. MySQL is
/// started again if it ran before, without waiting until it answers. What was done, as a text; `None` if there was nothing.
///
/// # Errors
/// What keeps it from being rolled back: the marker then stays, and MySQL must not be started.
pub fn recover_at_start(journals: &Journals, outside: &dyn Surroundings) -> Result<Option<String>> {
    let Some(journal) = journals.read()? else {
        return Ok(None);
    };
    let (seed, phase) = (journal.seed, journal.phase);
    log::warn!("the swap of the data directory for seed {seed} was interrupted at step {phase:?}");
    let mut run = Run::new(journals, outside, journal, Cancel::default());
    let fail = |e: Error| {
        e.context(format!(
            "swap of seed {seed}, interrupted at step {phase:?}"
        ))
    };
    run.undo().map_err(fail)?;
    if run.journal.wiped || phase == Phase::Done {
        return Ok(run.journal.reason());
    }
    let mut text =
        format!("the swap of seed {seed}, interrupted at step {phase:?}, was rolled back");
    if run.journal.was_running && outside.answers().is_err() {
        outside
            .start(&Cancel::default())
            .map_err(|e| fail(e.context("the old data are in place")))?;
        text.push_str(", MySQL was started on the old data");
    }
    Ok(Some(text))
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
        let (kind, data) = (cause.kind(), self.undo_and_start());
        let text = match data {
            Ok(text) => format!("{cause}; {text}"),
            Err(e) => format!("{cause}; and going back failed: {e}"),
        };
        match kind {
            crate::error::Kind::Transient => Error::transient(text),
            crate::error::Kind::Permanent => Error::permanent(text),
            // The engine says who cancelled; what it adds to that is this.
            crate::error::Kind::Cancelled => Error::transient(text),
        }
    }

    fn undo_and_start(&mut self) -> Result<String> {
        self.undo()?;
        if let Some(reason) = self.journal.reason().filter(|_| self.journal.wiped) {
            return Ok(reason);
        }
        if !self.journal.was_running {
            return Ok("the old data are in place and MySQL is down, as before".into());
        }
        start_and_wait(self.outside, &self.journal.facts, &self.cancel)
            .map_err(|e| e.context("the old data are in place"))?;
        Ok("the old data are in place and MySQL runs on them".into())
    }

    /// Back to the old data, as far as there are any; the marker goes when they are whole.
    pub(super) fn undo(&mut self) -> Result<()> {
        match self.journal.phase {
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
        stopped::nobody_there(&self.journal.facts, &self.cancel)?;
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
        stopped::nobody_there(&self.journal.facts, &self.cancel)?;
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
    Ok(journals.read()?.filter(|j| j.phase != Phase::Done))
}

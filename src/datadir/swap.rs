//! The swap itself, forward (DESIGN 4.5, 4.8). The way back is in [`super::undo`].
//!
//! One rule holds for every rename here and there: while names in the data directory change, its system tablespace's name
//! belongs to an empty directory, the guard, because no server starts then; it comes and goes by an atomic exchange only.

use super::facts::Facts;
use super::journal::{Journal, Journals, Phase, sync_dir};
use super::origin::Origin;
use super::proof::Proven;
use super::service::{Surroundings, start_and_wait};
use super::staging::{Staged, make_dir, move_aside, names_in};
use super::stopped::{self, Lock};
use super::tidy;
use crate::error::{Error, Result};
use crate::process::Cancel;
use crate::sys::file;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Swaps the data directory's content for the proven copy and starts MySQL on it. When it returns Ok MySQL answers with the
/// new data, and the old ones are in the staging directory (unless they were wiped before). After an error, or a cancellation,
/// the old data are back and MySQL is as it was; the error says so, or why not. Details as a text.
///
/// # Errors
/// The first cause, and what has become of the old data.
pub fn swap(
    journals: &Journals,
    facts: &Facts,
    proven: &Proven,
    outside: &dyn Surroundings,
) -> Result<String> {
    let seed = proven.seed();
    let journal = match journals.read()? {
        Some(j) if j.phase == Phase::Wiped && j.seed == seed => j,
        Some(other) if other.is_unfinished() => {
            return Err(Error::permanent(other.reason().unwrap_or_default()));
        }
        last => first(facts, seed, last, outside)?,
    };
    let mut run = Run::new(journals, outside, journal, outside.cancel().clone());
    match run.forward() {
        Ok(text) => Ok(text),
        Err(e) => Err(run.back_after(e)),
    }
}

/// Deletes the old data, where two copies do not fit, before the copy is received into the staging directory of `seed`. The
/// guard stays at the top of the data directory, and the journal as the marker, until a [`swap`] is done. May be repeated.
///
/// # Errors
/// The first cause. Before the deletion has begun the old data are put back; after that they are gone, and the error says so.
pub fn wipe(
    journals: &Journals,
    facts: &Facts,
    seed: i64,
    outside: &dyn Surroundings,
) -> Result<()> {
    let journal = match journals.read()? {
        Some(j) if j.phase == Phase::Wiped && j.seed == seed => return Ok(()),
        Some(other) if other.is_unfinished() => {
            return Err(Error::permanent(other.reason().unwrap_or_default()));
        }
        last => first(facts, seed, last, outside)?,
    };
    let mut run = Run::new(journals, outside, journal, outside.cancel().clone());
    let done = run.stop_mysql().and_then(|()| run.take_out());
    let done = done.and_then(|()| run.enter_phase(Phase::Wiping));
    match done {
        Ok(()) => run.delete_old(),
        Err(e) => Err(run.back_after(e)),
    }
}

/// The first journal of a swap. `last`: what the swap before it left to do, a start of MySQL.
fn first(
    facts: &Facts,
    seed: i64,
    last: Option<Journal>,
    outside: &dyn Surroundings,
) -> Result<Journal> {
    let answers = outside.answers().is_ok();
    if answers {
        outside.serves(facts)?;
    }
    Ok(Journal {
        seed,
        phase: Phase::Stopping,
        facts: facts.clone(),
        was_running: last.is_some_and(|j| j.phase == Phase::Back)
            || answers
            || stopped::is_in_use(facts)?,
        wiped: false,
        outgoing: Vec::new(),
        incoming: Vec::new(),
    })
}

/// What stands under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Missing,
    Dir,
    Other,
}

pub(super) fn kind(path: &Path) -> Result<Kind> {
    match std::fs::symlink_metadata(path) {
        Ok(m) if m.is_dir() => Ok(Kind::Dir),
        Ok(_) => Ok(Kind::Other),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Kind::Missing),
        Err(e) => Err(Error::io(path.display(), &e)),
    }
}

/// A swap at work.
pub(super) struct Run<'a> {
    pub journals: &'a Journals,
    pub outside: &'a dyn Surroundings,
    pub journal: Journal,
    pub staged: Staged,
    pub cancel: Cancel,
    /// True once the journal is on disk: before that nothing has happened.
    pub written: bool,
    pub lock: Option<Lock>,
}

impl<'a> Run<'a> {
    pub fn new(
        journals: &'a Journals,
        outside: &'a dyn Surroundings,
        journal: Journal,
        cancel: Cancel,
    ) -> Self {
        Self {
            staged: journal.staged(),
            written: journal.phase != Phase::Stopping,
            journals,
            outside,
            journal,
            cancel,
            lock: None,
        }
    }

    pub fn datadir(&self) -> PathBuf {
        self.journal.facts.datadir.clone()
    }

    /// The name that the guard takes.
    pub fn top(&self) -> PathBuf {
        self.journal
            .facts
            .datadir
            .join(&self.journal.facts.system_file)
    }

    /// A step is about to be taken.
    pub fn at(&self, step: &str) -> Result<()> {
        self.cancel.check()?;
        self.outside.at(step)
    }

    /// Writes the next phase before anything of it is done. In memory only what is on disk counts.
    pub fn enter_phase(&mut self, phase: Phase) -> Result<()> {
        self.at(&format!("journal {phase:?}"))?;
        let journal = Journal {
            phase,
            ..self.journal.clone()
        };
        self.journals.write(&journal)?;
        self.journal = journal;
        self.written = true;
        Ok(())
    }

    fn forward(&mut self) -> Result<String> {
        if !self.journal.wiped {
            self.stop_mysql()?;
            self.take_out()?;
        }
        self.bring_in()?;
        self.outside.report("Starting MySQL on the new data");
        self.lock = None;
        self.at("start MySQL")?;
        let login = start_and_wait(self.outside, &self.journal.facts, &self.cancel)?;
        self.outside.serves(&self.journal.facts)?;
        self.enter_phase(Phase::Done)?;
        if let Err(e) = self.journals.remove(&self.journal) {
            log::warn!("{e}; it says Done, which hinders nobody");
        }
        Ok(login.map_or_else(String::new, |e| {
            format!("MySQL runs on the new data, but the agent's login is refused: {e}")
        }))
    }

    fn stop_mysql(&mut self) -> Result<()> {
        self.enter_phase(Phase::Stopping)?;
        self.outside.report("Stopping MySQL");
        self.at("stop MySQL")?;
        self.stop_and_prove()
    }

    /// Stops MySQL and proves it, in either direction.
    pub fn stop_and_prove(&mut self) -> Result<()> {
        let (outside, facts) = (self.outside, &self.journal.facts);
        let stop = || {
            stopped::let_it_start(facts, &|| outside.answers().is_ok(), &self.cancel)?;
            match outside.stop(&self.cancel) {
                Err(e) if e.is_cancelled() || stopped::is_in_use(facts)? => return Err(e),
                Err(e) => log::warn!("{e}; no server uses {}", facts.datadir.display()),
                Ok(()) => {}
            }
            Ok(())
        };
        let (quiet, patience) = (outside.quiet(), outside.patience());
        self.lock = Some(stopped::prove(facts, &stop, quiet, patience, &self.cancel)?);
        Ok(())
    }

    /// True for what is swapped: not what stays, not the guard's name, not the staging directory.
    pub fn is_swapped(&self, name: &str) -> Result<bool> {
        let datadir = self.datadir();
        if name == self.journal.facts.system_file
            || self.journal.facts.staging == datadir.join(name)
        {
            return Ok(false);
        }
        match self.journal.facts.table().origin(&datadir, name) {
            Ok(origin) => Ok(origin != Origin::Old),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(false), // it went meanwhile
            Err(e) => Err(Error::io(datadir.join(name).display(), &e)),
        }
    }

    /// What of the data directory is swapped.
    pub fn swapped_names(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for name in names_in(&self.datadir())? {
            if self.is_swapped(&name)? {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn take_out(&mut self) -> Result<()> {
        self.outside.report("Moving the old data aside");
        self.journal.outgoing = self.swapped_names()?;
        self.enter_phase(Phase::Out)?;
        let old = self.staged.old_dir();
        self.guard_up(&old)?;
        stopped::nobody_there(&self.journal.facts, &self.cancel)?;
        for name in self.journal.outgoing.clone() {
            self.rename(&self.datadir(), &name, &old)?;
        }
        for (dir, name, aside) in self.logs_outside()? {
            self.rename(&dir, &name, &aside.join("old"))?;
        }
        self.sync(&old)
    }

    /// Logs that lie outside the data directory: directory, name, and where they go aside.
    pub fn logs_outside(&self) -> Result<Vec<(PathBuf, String, PathBuf)>> {
        let mut found = Vec::new();
        for outside in &self.journal.facts.outside {
            let aside = self.staged.aside(outside);
            let ours = |n: &String| {
                n.strip_prefix(&outside.base)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            };
            for name in names_in(&outside.dir)?.into_iter().filter(ours) {
                let entry = (outside.dir.clone(), name, aside.clone());
                if !found.contains(&entry) {
                    found.push(entry);
                }
            }
        }
        Ok(found)
    }

    fn delete_old(&mut self) -> Result<()> {
        self.outside
            .report("Deleting the old data, because two copies do not fit");
        self.finish_wipe()
    }

    /// Deletes what was taken out. May be repeated; not cancelled any more.
    pub fn finish_wipe(&mut self) -> Result<()> {
        let old = self.staged.old_dir();
        for name in names_in(&old)? {
            tidy::remove_tree(&old.join(name))?;
        }
        for outside in self.journal.facts.outside.clone() {
            let old = self.staged.aside(&outside).join("old");
            for name in names_in(&old)? {
                tidy::remove_tree(&old.join(name))?;
            }
        }
        self.sync(&old)?;
        self.journal.wiped = true;
        let journal = Journal {
            phase: Phase::Wiped,
            ..self.journal.clone()
        };
        self.journals.write(&journal)?;
        self.journal = journal;
        self.lock = None;
        Ok(())
    }

    fn bring_in(&mut self) -> Result<()> {
        self.outside.report("Moving the new data in");
        let (new, facts) = (self.staged.new_dir(), self.journal.facts.clone());
        if kind(&new.join(&facts.system_file))? != Kind::Other {
            return Err(Error::permanent(format!(
                "the copy in {} has no {}: it is not whole",
                new.display(),
                facts.system_file
            )));
        }
        self.staged.settle(&facts)?;
        let mut incoming = names_in(&new)?;
        incoming.retain(|n| *n != facts.system_file);
        // Aria's control file is used by a server that starts before InnoDB refuses: as late as may be.
        incoming.sort_by_key(|n| n.starts_with("aria_log"));
        self.journal.incoming = incoming;
        self.enter_phase(Phase::In)?;
        if kind(&self.top())? != Kind::Dir {
            return Err(Error::permanent(format!(
                "the guard {} has gone: somebody else changes the data directory",
                self.top().display()
            )));
        }
        for name in self.journal.incoming.clone() {
            self.rename_in(&new, &name)?;
        }
        for dir in &facts.dirs {
            self.make_needed(dir)?;
        }
        // A server that was started on the half of it has gone before the guard goes, and what it made goes aside.
        loop {
            stopped::nobody_there(&facts, &self.cancel)?;
            let mut strays = self.swapped_names()?;
            strays.retain(|n| !self.journal.incoming.contains(n));
            strays.retain(|n| !facts.dirs.iter().any(|d| d.starts_with(n)));
            if strays.is_empty() {
                break;
            }
            for name in strays {
                self.set_aside(&name)?;
            }
        }
        self.sync(&new)?;
        self.enter_phase(Phase::Entered)?;
        stopped::nobody_there(&facts, &self.cancel)?;
        self.guard_down(&new)
    }

    /// Makes a directory in the data directory that settings name, with all above it.
    fn make_needed(&self, dir: &Path) -> Result<()> {
        let mut path = self.datadir();
        for part in dir {
            path.push(part);
            make_dir(&path, &self.journal.facts)?;
        }
        Ok(())
    }

    /// One rename, which never replaces anything.
    pub fn rename(&self, from: &Path, name: &str, to: &Path) -> Result<()> {
        self.try_rename(from, name, to)?.map_err(|e| {
            let from = from.join(name);
            Error::io(format!("rename {} to {}", from.display(), to.display()), &e)
        })
    }

    fn try_rename(&self, from: &Path, name: &str, to: &Path) -> Result<std::io::Result<()>> {
        self.at(&format!("rename {name} to {}", to.display()))?;
        Ok(match file::rename_new(&from.join(name), &to.join(name)) {
            // Journaled and done by an earlier attempt, or gone by itself, as a temporary file does.
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            done => done,
        })
    }

    /// A rename into the data directory; what stands in the way there was made by a stranger and goes aside.
    pub fn rename_in(&self, from: &Path, name: &str) -> Result<()> {
        let datadir = self.datadir();
        for _ in 0..10 {
            match self.try_rename(from, name, &datadir)? {
                Err(e) if e.kind() == ErrorKind::AlreadyExists => self.set_aside(name)?,
                done => {
                    let what = from.join(name);
                    return done.map_err(|e| Error::io(what.display(), &e));
                }
            }
        }
        Err(Error::transient(format!(
            "{} comes again and again: somebody else works in the data directory",
            datadir.join(name).display()
        )))
    }

    /// Puts something aside that stands in the way in the data directory.
    pub fn set_aside(&self, name: &str) -> Result<()> {
        self.at(&format!("set aside {name}"))?;
        log::warn!(
            "{} was made by somebody in mid-swap",
            self.datadir().join(name).display()
        );
        move_aside(&self.datadir(), name, &self.staged.stray_dir())
    }

    /// Puts the guard in the place of the system tablespace, which goes to `side`. May be repeated.
    pub fn guard_up(&self, side: &Path) -> Result<()> {
        let (top, aside) = (self.top(), side.join(&self.journal.facts.system_file));
        match kind(&top)? {
            Kind::Dir => return Ok(()),
            Kind::Missing => {
                self.at("guard")?;
                make_dir(&top, &self.journal.facts)?;
            }
            Kind::Other => {
                make_dir(&aside, &self.journal.facts)?;
                self.at("guard")?;
                file::exchange(&top, &aside).map_err(|e| Error::io(top.display(), &e))?;
            }
        }
        self.sync(side)
    }

    /// Takes the guard away: the system tablespace in `side` comes in its place. May be repeated.
    pub fn guard_down(&self, side: &Path) -> Result<()> {
        let (top, aside) = (self.top(), side.join(&self.journal.facts.system_file));
        if kind(&top)? == Kind::Dir {
            self.at("exchange the guard")?;
            let done = match kind(&aside)? {
                Kind::Other => file::exchange(&top, &aside),
                Kind::Missing | Kind::Dir => std::fs::remove_dir(&top), // there was none before
            };
            done.map_err(|e| Error::io(top.display(), &e))?;
        }
        self.sync(side)
    }

    /// Makes the renames durable, on both sides.
    pub fn sync(&self, side: &Path) -> Result<()> {
        for outside in &self.journal.facts.outside {
            sync_dir(&outside.dir)?;
            sync_dir(&self.staged.aside(outside))?;
            sync_dir(&self.staged.aside(outside).join("old"))?;
        }
        sync_dir(&self.staged.stray_dir())?;
        sync_dir(side)?;
        sync_dir(&self.datadir())
    }
}

#[cfg(test)]
mod tests;

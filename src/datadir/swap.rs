//! The swap itself, forward. The way back is in [`super::rollback`].
//!
//! One rule holds for every rename here and there: while names in the data directory change, its system tablespace's name
//! belongs to an empty directory, the guard, because no server starts then; it comes and goes by an atomic exchange only.

use super::cleanup::remove_tree;
use super::environment::{self, Environment, Lock, is_in_use, start_and_wait, wait_until_unused};
use super::file_policy::{FilePolicy, policy_of};
use super::info::DatadirInfo;
use super::journal::{Journal, Journals, Phase};
use super::private_server::VerifiedCopy;
use super::staging::{EntryKind, Staged, if_there, kind, make_dir, move_aside, names_in};
use crate::error::{Error, OnPath, Result};
use crate::process::Cancel;
use crate::sys::file;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Swaps the data directory's content for the verified copy and starts MySQL on it. When it returns Ok MySQL answers with the
/// new data, and the old ones are in the staging directory (unless they were wiped before). After an error, or a cancellation,
/// the old data are back and MySQL is as it was; the error says so after the first cause, or why not. Details as a text.
pub fn swap(
    journals: &Journals,
    info: &DatadirInfo,
    copy: &VerifiedCopy,
    env: &dyn Environment,
) -> Result<String> {
    let journal = open(journals, info, copy.seed, env)?;
    let mut run = Run::new(journals, env, journal, env.cancel().clone());
    run.forward().map_err(|e| run.rolled_back_after(e))
}

/// Deletes the old data, where two copies do not fit, before the copy is received into the staging directory of `seed`. The
/// guard stays at the top of the data directory, and the journal as the marker, until a [`swap`] is done. May be repeated. After an
/// error before the deletion has begun the old data are moved back; after that they are gone, and the error says so.
pub fn wipe(
    journals: &Journals,
    info: &DatadirInfo,
    seed: i64,
    env: &dyn Environment,
) -> Result<()> {
    let journal = open(journals, info, seed, env)?;
    if journal.phase == Phase::Wiped {
        return Ok(());
    }
    let mut run = Run::new(journals, env, journal, env.cancel().clone());
    let done = run.stop_mysql().and_then(|()| run.move_old_out());
    let done = done.and_then(|()| run.enter_phase(Phase::Wiping));
    match done {
        Ok(()) => {
            env.report("Deleting the old data");
            run.finish_wipe()
        }
        Err(e) => Err(run.rolled_back_after(e)),
    }
}

/// The journal of a wipe by this very seed, or a first one, which is not written yet. Refuses while another swap is unfinished.
fn open(
    journals: &Journals,
    info: &DatadirInfo,
    seed: i64,
    env: &dyn Environment,
) -> Result<Journal> {
    let last = journals.read()?;
    match &last {
        Some(own) if own.phase == Phase::Wiped && own.seed == seed => return Ok(own.clone()),
        Some(other) => other.check_finished()?,
        None => {}
    }
    let answers = env.answers().is_ok();
    if answers {
        env.serves(info)?;
    }
    // The swap before this one has left a start of MySQL to do.
    let to_be_started = last.is_some_and(|j| j.phase == Phase::RolledBack);
    Ok(Journal {
        seed,
        phase: Phase::Stopping,
        info: info.clone(),
        was_running: to_be_started || answers || is_in_use(info)?,
        wiped: false,
        outgoing: Vec::new(),
        incoming: Vec::new(),
    })
}

pub(super) struct Run<'a> {
    pub(crate) journals: &'a Journals,
    pub(crate) env: &'a dyn Environment,
    pub(crate) journal: Journal,
    pub(crate) staged: Staged,
    pub(crate) cancel: Cancel,
    /// True once the journal is on disk: before that nothing has happened.
    pub(crate) written: bool,
    pub(crate) lock: Option<Lock>,
}

impl<'a> Run<'a> {
    pub(crate) fn new(
        journals: &'a Journals,
        env: &'a dyn Environment,
        journal: Journal,
        cancel: Cancel,
    ) -> Self {
        Self {
            staged: journal.staged(),
            written: journal.phase != Phase::Stopping,
            journals,
            env,
            journal,
            cancel,
            lock: None,
        }
    }

    pub(crate) fn datadir(&self) -> PathBuf {
        self.journal.info.datadir.clone()
    }

    /// The system tablespace, whose name the guard takes.
    pub(crate) fn top(&self) -> PathBuf {
        self.journal.info.tablespace()
    }

    pub(crate) fn at(&self, step: &str) -> Result<()> {
        self.cancel.check()?;
        self.env.at(step)
    }

    /// Writes the next phase before anything of it is done. In memory only what is on disk counts.
    pub(crate) fn enter_phase(&mut self, phase: Phase) -> Result<()> {
        self.at(&format!("journal {phase:?}"))?;
        self.write(phase)
    }

    fn write(&mut self, phase: Phase) -> Result<()> {
        let mut journal = self.journal.clone();
        journal.phase = phase;
        self.journals.write(&journal)?;
        self.journal = journal;
        self.written = true;
        Ok(())
    }

    fn forward(&mut self) -> Result<String> {
        if !self.journal.wiped {
            self.stop_mysql()?;
            self.move_old_out()?;
        }
        self.move_new_in()?;
        self.env.report("Starting MySQL on the new data");
        self.lock = None;
        self.at("start MySQL")?;
        let login = start_and_wait(self.env, &self.journal.info, &self.cancel)?;
        self.env.serves(&self.journal.info)?;
        self.enter_phase(Phase::Done)?;
        if let Err(e) = self.journals.remove(&self.journal) {
            log::warn!("{e}; the swap is complete (phase Done), nothing is blocked");
        }
        Ok(login.map_or_else(String::new, |e| {
            format!("MySQL runs on the new data, but the agent's login is refused: {e}")
        }))
    }

    fn stop_mysql(&mut self) -> Result<()> {
        self.enter_phase(Phase::Stopping)?;
        self.env.report("Stopping MySQL");
        self.at("stop MySQL")?;
        self.stop_and_lock()
    }

    /// Stops MySQL and verifies it, in either direction.
    pub(crate) fn stop_and_lock(&mut self) -> Result<()> {
        let lock = environment::stop_and_lock(self.env, &self.journal.info, &self.cancel)?;
        self.lock = Some(lock);
        Ok(())
    }

    /// What of the data directory is swapped: not what stays, not the guard's name, not the staging directory.
    pub(crate) fn swapped_names(&self) -> Result<Vec<String>> {
        let (datadir, info) = (self.datadir(), &self.journal.info);
        let mut names = Vec::new();
        for name in names_in(&datadir)? {
            let path = datadir.join(&name);
            if name == info.system_file || info.staging == path {
                continue;
            }
            // `None`: it was removed meanwhile.
            let policy = if_there(policy_of(info, &datadir, &name)).on(&path)?;
            if policy.is_some_and(|p| p != FilePolicy::KeepOld) {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn move_old_out(&mut self) -> Result<()> {
        self.env.report("Moving the old data aside");
        self.journal.outgoing = self.swapped_names()?;
        self.enter_phase(Phase::MovingOldOut)?;
        let old = self.staged.old_dir();
        self.guard_up(&old)?;
        wait_until_unused(&self.journal.info, &self.cancel)?;
        for name in &self.journal.outgoing {
            self.rename(&self.datadir(), name, &old)?;
        }
        for (dir, name, aside) in self.logs_outside()? {
            self.rename(&dir, &name, &aside.join("old"))?;
        }
        self.sync(&old)
    }

    /// Logs that lie outside the data directory: directory, name, and where they are moved.
    pub(crate) fn logs_outside(&self) -> Result<Vec<(PathBuf, String, PathBuf)>> {
        let mut found = Vec::new();
        for logs in &self.journal.info.outside {
            for name in names_in(&logs.dir)? {
                let entry = (logs.dir.clone(), name, self.staged.aside(logs));
                if logs.has(&entry.1) && !found.contains(&entry) {
                    found.push(entry);
                }
            }
        }
        Ok(found)
    }

    /// Deletes what was moved out. May be repeated; cannot be cancelled any more.
    pub(crate) fn finish_wipe(&mut self) -> Result<()> {
        let old = self.staged.old_dir();
        let logs = self.staged.all_aside(&self.journal.info);
        let logs = logs.map(|aside| aside.join("old"));
        for dir in [old.clone()].into_iter().chain(logs) {
            for name in names_in(&dir)? {
                remove_tree(&dir.join(name))?;
            }
        }
        self.sync(&old)?;
        self.journal.wiped = true;
        self.write(Phase::Wiped)?;
        self.lock = None;
        Ok(())
    }

    fn move_new_in(&mut self) -> Result<()> {
        self.env.report("Moving the new data in");
        let (new, info) = (self.staged.new_dir(), self.journal.info.clone());
        if kind(&new.join(&info.system_file))? != EntryKind::Other {
            return Err(Error::permanent(format!(
                "the copy in {} has no {}: it is not complete",
                new.display(),
                info.system_file
            )));
        }
        self.staged.adapt(&info)?;
        let mut incoming = names_in(&new)?;
        incoming.retain(|n| *n != info.system_file);
        // Aria's control file is used by a server that starts before InnoDB refuses: as late as may be.
        incoming.sort_by_key(|n| n.starts_with("aria_log"));
        self.journal.incoming = incoming;
        self.enter_phase(Phase::MovingNewIn)?;
        if kind(&self.top())? != EntryKind::Dir {
            return Err(Error::permanent(format!(
                "the guard {}, which keeps mysqld from starting, is missing: another process changes the data directory",
                self.top().display()
            )));
        }
        for name in &self.journal.incoming {
            self.rename_in(&new, name)?;
        }
        for dir in &info.dirs {
            // With all above it.
            let mut path = self.datadir();
            for part in dir {
                path.push(part);
                make_dir(&path, &info)?;
            }
        }
        // A server that was started on the half of it has ended before the guard is removed, and what it made is set aside.
        loop {
            wait_until_unused(&info, &self.cancel)?;
            let mut strays = self.swapped_names()?;
            strays.retain(|n| !self.journal.incoming.contains(n));
            strays.retain(|n| !info.dirs.iter().any(|d| d.starts_with(n)));
            if strays.is_empty() {
                break;
            }
            for name in strays {
                self.set_aside(&name)?;
            }
        }
        self.sync(&new)?;
        self.enter_phase(Phase::Committed)?;
        wait_until_unused(&info, &self.cancel)?;
        self.guard_down(&new)
    }

    /// One rename, which never replaces anything.
    pub(crate) fn rename(&self, from: &Path, name: &str, to: &Path) -> Result<()> {
        let renamed = self.try_rename(from, name, to)?;
        let from = from.join(name);
        renamed.on(format!("rename {} to {}", from.display(), to.display()))
    }

    fn try_rename(&self, from: &Path, name: &str, to: &Path) -> Result<std::io::Result<()>> {
        self.at(&format!("rename {name} to {}", to.display()))?;
        // `None`: journaled and done by an earlier attempt, or removed by itself, as a temporary file is.
        let done = if_there(file::rename_new(&from.join(name), &to.join(name)));
        Ok(done.map(drop))
    }

    /// A rename into the data directory; what is in the way there was made by another process and is set aside.
    pub(crate) fn rename_in(&self, from: &Path, name: &str) -> Result<()> {
        let datadir = self.datadir();
        for _ in 0..10 {
            match self.try_rename(from, name, &datadir)? {
                Err(e) if e.kind() == ErrorKind::AlreadyExists => self.set_aside(name)?,
                done => return done.on(from.join(name)),
            }
        }
        Err(Error::transient(format!(
            "{} is recreated repeatedly: another process uses the data directory; stop it",
            datadir.join(name).display()
        )))
    }

    /// Sets something aside that is in the way in the data directory.
    pub(crate) fn set_aside(&self, name: &str) -> Result<()> {
        self.at(&format!("set aside {name}"))?;
        log::warn!(
            "{} was created by another process during the swap; stop it",
            self.datadir().join(name).display()
        );
        move_aside(&self.datadir(), name, &self.staged.stray_dir())
    }

    /// Puts the guard in the place of the system tablespace, which goes to `side`. May be repeated.
    pub(crate) fn guard_up(&self, side: &Path) -> Result<()> {
        let (top, aside) = (self.top(), side.join(&self.journal.info.system_file));
        match kind(&top)? {
            EntryKind::Dir => return Ok(()),
            EntryKind::Missing => {
                self.at("guard")?;
                make_dir(&top, &self.journal.info)?;
            }
            EntryKind::Other => {
                make_dir(&aside, &self.journal.info)?;
                self.at("guard")?;
                file::exchange(&top, &aside).on(&top)?;
            }
        }
        self.sync(side)
    }

    /// Removes the guard: the system tablespace in `side` comes in its place. May be repeated.
    pub(crate) fn guard_down(&self, side: &Path) -> Result<()> {
        let (top, aside) = (self.top(), side.join(&self.journal.info.system_file));
        if kind(&top)? == EntryKind::Dir {
            self.at("exchange the guard")?;
            let done = match kind(&aside)? {
                EntryKind::Other => file::exchange(&top, &aside),
                EntryKind::Missing | EntryKind::Dir => std::fs::remove_dir(&top), // there was none before
            };
            done.on(&top)?;
        }
        self.sync(side)
    }

    /// Makes the renames durable, on both sides.
    pub(crate) fn sync(&self, side: &Path) -> Result<()> {
        for logs in &self.journal.info.outside {
            file::sync_dir(&logs.dir)?;
            file::sync_dir(&self.staged.aside(logs))?;
            file::sync_dir(&self.staged.aside(logs).join("old"))?;
        }
        file::sync_dir(&self.staged.stray_dir())?;
        file::sync_dir(side)?;
        file::sync_dir(&self.datadir())
    }
}

#[cfg(test)]
mod tests;

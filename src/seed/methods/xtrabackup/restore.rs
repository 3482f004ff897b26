//! Restore and Cleanup on the target: the staged copy becomes the server's data.

use super::{Xtrabackup, copy, options, tools};
use crate::config::KeepOldData;
use crate::error::{Error, Result};
use crate::mysql::{Endpoint, Flavour, connect, control, info, quote_text};
use crate::process::{Exit, Launcher, Running};
use crate::seed::context::Context;
use crate::seed::coordinates::Coordinates;
use crate::seed::datadir::{self, Facts, Host, Staged};
use crate::seed::record::{Load, Seed};
use crate::seed::vocabulary::{Stage, Status};
use crossbeam_channel::select;
use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// How often the tool's words are looked at for a log sequence number.
const LOOK: Duration = Duration::from_secs(1);
/// For statements after the swap.
const STATEMENT: Duration = Duration::from_secs(600);
/// Settings that a restart of the server forgets, if they were set at run time.
const KEPT: [&str; 2] = ["read_only", "super_read_only"];

impl Xtrabackup {
    /// The whole stage. May be called again after an error: the staged copy is prepared anew, which does no harm. When it
    /// returns Ok MySQL runs on the new data. After an error the old data are as they were, or the record says that they
    /// are gone.
    pub(super) fn swap_in(&self, ctx: &Context) -> Result<String> {
        ctx.report("Running restore");
        let seed = ctx.seed()?;
        let (facts, staged) = Self::staged(&seed)?;
        let coordinates = seed
            .coordinates
            .clone()
            .filter(|_| seed.status(Stage::Backup) == Some(Status::Completed))
            .ok_or_else(|| Error::permanent("no whole copy was received: call prepare again"))?;
        let tools = tools::find(&self.launcher, facts.server.flavour)?;
        let new = staged.new_dir();
        self.apply_log(ctx, &tools, &new)?;
        let host = Host::of_stage(&self.config, ctx);
        let proven = datadir::proof_start(&facts, &staged, &self.config.mysql, &host)?;
        let before = self.kept_settings();
        ctx.report("Running restore. Swapping the data directory");
        let down = Instant::now();
        let swapped = datadir::swap(&self.journals(), &facts, &proven, &host);
        let refused = match swapped {
            Ok(refused) => refused,
            Err(e) => {
                if self.journals().data_gone() {
                    ctx.update(|seed| seed.load = Load::Incomplete)?;
                }
                return Err(e);
            }
        };
        let down = down.elapsed();
        ctx.update(|seed| seed.load = Load::Whole)?;
        if !refused.is_empty() {
            return Err(Error::permanent(refused));
        }
        self.settle(&facts, &coordinates, &before)?;
        if self.config.mysql.keep_old_data == KeepOldData::No {
            discard_old(&facts, &staged);
        }
        let down = match seed.load {
            Load::Incomplete => "since the old data were deleted".to_string(),
            _ => format!("for {:.1} s", down.as_secs_f32()),
        };
        Ok(format!(
            "Stage completed. MySQL was down {down}. {}",
            proven.notes
        ))
    }

    /// What was set at run time; nothing where MySQL is down.
    fn kept_settings(&self) -> Vec<(&'static str, String)> {
        let asked = connect(&Endpoint::local(&self.config.mysql), Duration::from_secs(5)).and_then(
            |mut conn| {
                let mut found = Vec::new();
                for name in KEPT {
                    if let Some(value) = info::global(&mut conn, name)? {
                        found.push((name, value));
                    }
                }
                Ok(found)
            },
        );
        asked.unwrap_or_else(|e| {
            log::debug!("read_only of the target is not known: {e}");
            Vec::new()
        })
    }

    /// GTID state and run-time settings of the server that now runs on the copy (DESIGN 4a). Its binary logs are new.
    fn settle(
        &self,
        facts: &Facts,
        coordinates: &Coordinates,
        before: &[(&'static str, String)],
    ) -> Result<()> {
        let mut conn = connect(&Endpoint::local(&self.config.mysql), STATEMENT)?;
        let server = facts.server;
        match server.flavour {
            Flavour::MariaDb => {
                // In this order: errors 1947 and 1948 otherwise.
                if info::is_on(&mut conn, "log_bin")? {
                    control::execute(&mut conn, server.reset_binlog())?;
                }
                let position = coordinates.gtid_slave_pos.as_deref().unwrap_or("");
                let set = format!("SET GLOBAL gtid_slave_pos = {}", quote_text(position));
                control::execute(&mut conn, &set)?;
            }
            Flavour::MySql if !coordinates.gtid_executed.is_empty() => {
                control::execute(&mut conn, server.reset_binlog())?;
                let set = format!(
                    "SET GLOBAL gtid_purged = {}",
                    quote_text(&coordinates.gtid_executed)
                );
                control::execute(&mut conn, &set)?;
            }
            Flavour::MySql => control::execute(&mut conn, server.reset_binlog())?,
        }
        for (name, value) in before {
            let now = info::global(&mut conn, name)?;
            if now.as_ref() != Some(value) {
                control::execute(
                    &mut conn,
                    &format!("SET GLOBAL {name} = {}", quote_text(value)),
                )?;
            }
        }
        Ok(())
    }

    /// `--prepare`.
    fn apply_log(&self, ctx: &Context, tools: &tools::Tools, new: &Path) -> Result<()> {
        ctx.report("Running xtrabackup prepare");
        let memory = options::memory(crate::host::memory_available());
        let argv = options::prepare(new, memory, &self.options());
        let last = copy::last_lsn(new);
        let mut told = 0;
        let exit = self.work(ctx, &tools.backup, new, argv, |words| {
            if let Some(lsn) = copy::spoken_lsn(words)
                && lsn > told
            {
                told = lsn;
                let of = last.map_or(String::new(), |l| format!(" of {l}"));
                ctx.report(&format!(
                    "Running xtrabackup prepare. Redo log up to {lsn}{of}"
                ));
            }
        })?;
        tools::check(exit)
    }

    /// Runs a tool on the copy, as this process, which may do all there; `look` sees its words now and then.
    pub(super) fn work(
        &self,
        ctx: &Context,
        program: &Path,
        dir: &Path,
        argv: Vec<OsString>,
        mut look: impl FnMut(&str),
    ) -> Result<Exit> {
        let mut command = Launcher::default().command(program);
        command
            .args(argv)
            .current_dir(dir)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let tool = Running::start(&mut command, &tools::name(program))?;
        ctx.adopt(&tool)?;
        loop {
            select! {
                recv(tool.exited()) -> _ => return tool.finish(),
                recv(ctx.cancel().signal()) -> _ => {
                    tool.end()?;
                    return Err(Error::cancelled());
                }
                default(LOOK) => look(&tool.words()),
            }
        }
    }

    /// Cleanup of the target: the old data by `mysql.keep-old-data`, and the staging directory. May be repeated.
    pub(super) fn tidy(&self, ctx: &Context) -> Result<()> {
        let seed = ctx.seed()?;
        let Ok((facts, staged)) = Self::staged(&seed) else {
            return Ok(()); // nothing was made
        };
        if let Some(journal) = datadir::unfinished(&self.journals())? {
            log::warn!("seed {}: {}", seed.id, journal.reason().unwrap_or_default());
            return Ok(());
        }
        if swapped(&seed)
            && self.config.mysql.keep_old_data == KeepOldData::Forever
            && staged.old_dir().exists()
        {
            let kept = datadir::keep_old(&facts, &staged)?;
            log::info!(
                "seed {}: the old data are kept in {}",
                seed.id,
                kept.display()
            );
        }
        datadir::sweep(&facts, &staged)
    }
}

fn swapped(seed: &Seed) -> bool {
    seed.load == Load::Whole && seed.status(Stage::Restore) == Some(Status::Completed)
}

fn discard_old(facts: &Facts, staged: &Staged) {
    let (facts, staged) = (facts.clone(), staged.clone());
    datadir::in_background(move || {
        datadir::discard_old(&facts, &staged, &crate::process::Cancel::default())
    });
}

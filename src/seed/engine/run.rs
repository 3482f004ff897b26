//! One run of one stage in its own thread.

use super::calls::Started;
use super::{Engine, State, Work};
use crate::error::{Error, Result};
use crate::process::Cancel;
use crate::seed::record::{Seed, incomplete_note};
use crate::seed::stage::{Context, Prepared, Progress, Reception, Run};
use crate::seed::types::{Stage, Status};
use crate::sys::thread::spawn;
use crossbeam_channel::{RecvTimeoutError, bounded};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

/// How long a stage waits for the one before it to end: more than an abort may take.
const PREDECESSOR: Duration = Duration::from_secs(60);

pub(super) type Job = Box<dyn FnOnce(&Context) -> Result<Prepared> + Send>;

impl Engine {
    /// Registers the stage as Running, durably and before the caller answers, and starts its thread.
    pub(super) fn start(
        &self,
        mut state: MutexGuard<'_, State>,
        id: i64,
        stage: Stage,
        job: Job,
    ) -> Result<Started> {
        if state.stopping {
            return Err(Error::transient("the agent is stopping"));
        }
        state.runs += 1;
        let run = Run {
            seed_id: id,
            stage,
            number: state.runs,
        };
        let ctx = Context {
            recorder: Arc::new(self.clone()),
            run,
            cancel: Cancel::default(),
            progress: Arc::new(Progress::default()),
        };
        let (ended_tx, ended) = bounded::<()>(0);
        let work = Work {
            run,
            method: state.begin(run)?,
            cancel: ctx.cancel.clone(),
            progress: Arc::clone(&ctx.progress),
            ended,
        };
        let mut before = state.work.replace(work);
        let written = self.persist(state);
        let engine = self.clone();
        let body = move || {
            let result = written
                .and_then(|()| wait_for(&mut before, &ctx.cancel))
                .and_then(|()| engine.run_job(&ctx, job));
            engine.finish(&ctx, result, before);
            drop(ended_tx);
        };
        let name = format!("seed-{}", stage.as_str().to_lowercase());
        if let Err(e) = spawn(&name, body) {
            let mut state = self.lock();
            state.work = None;
            state.seed(id)?.set(stage, Status::Error, &e.to_string());
            return Err(e);
        }
        Ok(Started::Now)
    }

    fn run_job(&self, ctx: &Context, job: Job) -> Result<Prepared> {
        ctx.cancel.check()?;
        let restoring = self.restoring(); // a restore of settings ends before this stage changes any
        if ctx.run.stage == Stage::Prepare {
            // What an interrupted load has left must not wait for the end of a new seed.
            for e in self.restore_all(&restoring) {
                log::warn!("settings of MySQL are not restored yet: {e}");
            }
        }
        drop(restoring);
        log::info!("seed {} {}: started", ctx.run.seed_id, ctx.run.stage);
        catch_unwind(AssertUnwindSafe(|| job(ctx))).unwrap_or_else(|panic| {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or(panic.downcast_ref::<&str>().copied());
            Err(Error::permanent(format!(
                "internal error: {}; please report it",
                text.unwrap_or("panic")
            )))
        })
    }

    /// Records how a run ended. `before` is the run for which it waited without success: it is the one at work then, or a third
    /// run would begin next to it.
    fn finish(&self, ctx: &Context, result: Result<Prepared>, before: Option<Work>) {
        let (result, reception) = match result {
            Ok(done) => (Ok(done.text), done.reception),
            Err(e) => (Err(e), None),
        };
        let (run, mut completed) = (ctx.run, false);
        let mut state = self.lock();
        if state.work.as_ref().is_some_and(|w| w.run == run) {
            state.work = before.filter(Work::is_live);
        }
        if let Some(seed) = state.seeds.get_mut(run.seed_id) {
            let (status, text) = outcome(ctx, seed, result);
            let level = match status {
                Status::Error => log::Level::Error,
                _ => log::Level::Info,
            };
            log::log!(level, "seed {} {}: {text}", run.seed_id, run.stage);
            let recorded = seed.stages.get(&run.stage).map(|r| r.run);
            if recorded == Some(run.number) {
                seed.tools.clear();
                seed.set(run.stage, status, &text);
                if let Some(record) = seed.stages.get_mut(&run.stage) {
                    record.bytes = ctx.progress().get().0;
                }
                completed = status == Status::Completed;
                if completed {
                    state.unwritten.push(run); // a killed agent makes it an Error
                }
            }
        }
        let written = self.persist_or_receive(state, run, reception.filter(|_| completed));
        if let Err(e) = written {
            log::error!("{e}; the state of seed {} is in memory only", run.seed_id);
        }
        self.lock().unwritten.retain(|r| *r != run);
    }

    /// After the Prepare of a target that is sent its copy, its Backup begins at once. The port is bound already, so no sender comes
    /// too early.
    fn persist_or_receive(
        &self,
        state: MutexGuard<'_, State>,
        run: Run,
        reception: Option<Reception>,
    ) -> Result<()> {
        let Some(reception) = reception else {
            return self.persist(state);
        };
        let job = Box::new(move |ctx: &Context| reception(ctx).map(Prepared::from));
        self.start(state, run.seed_id, Stage::Backup, job).map(drop)
    }
}

/// Once cancelled a stage is Error, even if it completed in the same moment: its controller was answered so.
fn outcome(ctx: &Context, seed: &Seed, result: Result<String>) -> (Status, String) {
    let is_cancelled = ctx.cancel.is_cancelled();
    match result {
        Ok(text) if !is_cancelled => (Status::Completed, text),
        Err(e) if !is_cancelled => {
            let note = incomplete_note(seed, Some(&e));
            (Status::Error, format!("{e}{note}"))
        }
        other => {
            let more = match &other {
                Err(e) if !e.is_cancelled() => format!(" ({e})"),
                _ => String::new(),
            };
            let (stage, reason) = (ctx.run.stage, ctx.cancel.reason());
            let note = incomplete_note(seed, None);
            (
                Status::Error,
                format!("{stage} ended: {reason}{more}{note}"),
            )
        }
    }
}

/// Waits until the run before has ended; `before` is then `None`. It also waits when it is cancelled itself: a stop of the agent,
/// which waits for the end of this run, has to wait for the tools of all runs before it.
fn wait_for(before: &mut Option<Work>, cancel: &Cancel) -> Result<()> {
    let Some(work) = before else { return Ok(()) };
    while work.ended.recv_timeout(PREDECESSOR) == Err(RecvTimeoutError::Timeout) {
        if !cancel.is_cancelled() {
            return Err(Error::transient(format!(
                "{} of seed {} was cancelled and has not ended within {}s: does MySQL hang?",
                work.run.stage,
                work.run.seed_id,
                PREDECESSOR.as_secs()
            )));
        }
    }
    *before = None;
    cancel.check()
}

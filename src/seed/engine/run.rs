//! One run of one stage in its own thread.

use super::calls::Started;
use super::{Engine, State, Work};
use crate::error::{Error, Result};
use crate::process::Cancel;
use crate::process::signal_group;
use crate::seed::record::incomplete_note;
use crate::seed::stage::Prepared;
use crate::seed::stage::{Context, Progress};
use crate::seed::vocabulary::{Stage, Status};
use crate::sys::proc::ProcessId;
use crate::sys::process::Signal;
use crate::sys::thread::spawn;
use crossbeam_channel::{RecvTimeoutError, bounded};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

/// How long a stage waits for the one before it to end: more than an abort may take.
const PREDECESSOR: Duration = Duration::from_secs(60);

pub(super) type Job = Box<dyn FnOnce(&Context) -> Result<Prepared> + Send>;

impl Engine {
    /// Registers the stage as Running, durably and before the caller answers (3.8.2), and starts its thread.
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
        let run = state.runs;
        let cancel = Cancel::default();
        let progress = Arc::new(Progress::default());
        let (ended_tx, ended) = bounded::<()>(0);
        let seed = state.seed_for_start(id)?;
        seed.stages.remove(&stage);
        seed.set(
            stage,
            Status::Running,
            &format!("Running {}", stage.as_str().to_lowercase()),
        );
        if let Some(record) = seed.stages.get_mut(&stage) {
            record.run = run;
        }
        seed.stage = stage;
        seed.given_up = false;
        let method = seed.method;
        let work = Work {
            run,
            seed_id: id,
            stage,
            method,
            cancel: cancel.clone(),
            progress: Arc::clone(&progress),
            ended,
        };
        let before = state.work.replace(work);
        let ctx = Context {
            engine: self.clone(),
            seed_id: id,
            stage,
            run,
            cancel,
            progress,
        };
        let written = self.persist(state);
        let body = move || {
            let mut before = before;
            let result = match written {
                Ok(()) => {
                    wait_for(&mut before, &ctx.cancel).and_then(|()| ctx.engine.run_job(&ctx, job))
                }
                Err(e) => Err(e),
            };
            ctx.engine.finish(&ctx, result, before);
            drop(ended_tx);
        };
        let name = format!("seed-{}", stage.as_str().to_lowercase());
        if let Err(e) = spawn(&name, body) {
            let mut state = self.lock();
            state.work = None;
            state
                .seed_for_start(id)?
                .set(stage, Status::Error, &e.to_string());
            return Err(e);
        }
        Ok(Started::Now)
    }

    fn run_job(&self, ctx: &Context, job: Job) -> Result<Prepared> {
        ctx.cancel.check()?;
        let settling = self.settling(); // who puts settings back now is done before this stage changes any
        if ctx.stage == Stage::Prepare {
            // What a load that was cut short owes must not wait for the end of a whole new seed.
            for e in self.settle_now(&settling) {
                log::warn!("settings of MySQL are not restored yet: {e}");
            }
        }
        drop(settling);
        log::info!("seed {} {}: started", ctx.seed_id, ctx.stage);
        match catch_unwind(AssertUnwindSafe(|| job(ctx))) {
            Ok(result) => result,
            Err(panic) => {
                let text = panic
                    .downcast_ref::<String>()
                    .map(String::as_str)
                    .or(panic.downcast_ref::<&str>().copied());
                Err(Error::permanent(format!(
                    "internal error: {}; please report it",
                    text.unwrap_or("panic")
                )))
            }
        }
    }

    /// Records how a run ended. `before` is the run that it waited for in vain: it is the one at work then, or a third run
    /// would begin beside it.
    fn finish(&self, ctx: &Context, result: Result<Prepared>, before: Option<Work>) {
        let (result, reception) = match result {
            Ok(done) => (Ok(done.text), done.reception),
            Err(e) => (Err(e), None),
        };
        let mut completed = false;
        let mut state = self.lock();
        if state.work.as_ref().is_some_and(|w| w.run == ctx.run) {
            state.work = before.filter(Work::is_live);
        }
        if let Some(seed) = state.seeds.get_mut(ctx.seed_id) {
            let ours = seed
                .stages
                .get(&ctx.stage)
                .is_some_and(|r| r.run == ctx.run);
            // Once cancelled a stage is Error, even if it came to its end in the same moment: its controller was told so.
            let (status, text) = match result {
                Ok(text) if !ctx.cancel.is_cancelled() => (Status::Completed, text),
                Err(e) if !ctx.cancel.is_cancelled() => (
                    Status::Error,
                    format!("{e}{}", incomplete_note(seed, Some(&e))),
                ),
                other => {
                    let more = match &other {
                        Err(e) if !e.is_cancelled() => format!(" ({e})"),
                        _ => String::new(),
                    };
                    (
                        Status::Error,
                        format!(
                            "{} ended: {}{more}{}",
                            ctx.stage,
                            ctx.cancel.reason(),
                            incomplete_note(seed, None)
                        ),
                    )
                }
            };
            if ours {
                seed.tools.clear();
                seed.set(ctx.stage, status, &text);
                if let Some(record) = seed.stages.get_mut(&ctx.stage) {
                    record.bytes = ctx.progress().get().0;
                }
                completed = status == Status::Completed;
                if completed {
                    state.unwritten.push((ctx.seed_id, ctx.stage, ctx.run)); // a killed agent makes it an Error
                }
            }
            match status {
                Status::Error => log::error!("seed {} {}: {text}", ctx.seed_id, ctx.stage),
                _ => log::info!("seed {} {}: {text}", ctx.seed_id, ctx.stage),
            }
        }
        // The port is bound already, so nobody comes too early.
        let written = match reception.filter(|_| completed) {
            None => self.persist(state),
            Some(reception) => {
                let job = Box::new(move |ctx: &Context| reception(ctx).map(Prepared::from));
                self.start(state, ctx.seed_id, Stage::Backup, job).map(drop)
            }
        };
        if let Err(e) = written {
            log::error!("{e}; the state of seed {} is in memory only", ctx.seed_id);
        }
        let of_this = (ctx.seed_id, ctx.stage, ctx.run);
        self.lock().unwritten.retain(|run| *run != of_this);
    }
}

impl State {
    fn seed_for_start(&mut self, id: i64) -> Result<&mut crate::seed::record::Seed> {
        self.seeds
            .get_mut(id)
            .ok_or_else(|| Error::permanent(format!("SeedID {id} not found")))
    }
}

/// Waits until the run before has ended; `before` is then `None`. Also when it is cancelled: whoever waits for the end of a run, as a
/// stop of the agent does, waits for the tools of all runs before it.
fn wait_for(before: &mut Option<Work>, cancel: &Cancel) -> Result<()> {
    let Some(work) = before else { return Ok(()) };
    while work.ended.recv_timeout(PREDECESSOR) == Err(RecvTimeoutError::Timeout) {
        if !cancel.is_cancelled() {
            return Err(Error::transient(format!(
                "{} of seed {} was told to end and has not within {}s: does MySQL hang?",
                work.stage,
                work.seed_id,
                PREDECESSOR.as_secs()
            )));
        }
    }
    *before = None;
    cancel.check()
}

/// Ends what an agent that was killed left behind: TERM, two seconds, KILL.
pub(super) fn end_orphans(tool: &ProcessId) {
    let Ok(pgid) = i32::try_from(tool.pid) else {
        return;
    };
    let begin = Instant::now();
    let mut signal = Signal::Term;
    while !tool.group_alive().is_empty() {
        log::warn!("ending process group {pgid}, which an agent that was killed had started");
        if let Err(e) = signal_group(pgid, signal) {
            log::error!("cannot end process group {pgid}: {e}");
            return;
        }
        if begin.elapsed() > Duration::from_secs(2) {
            signal = Signal::Kill;
        }
        if begin.elapsed() > Duration::from_secs(6) {
            log::error!("process group {pgid} does not end");
            return;
        }
        std::thread::sleep(Duration::from_millis(if signal == Signal::Kill {
            50
        } else {
            250
        }));
    }
}

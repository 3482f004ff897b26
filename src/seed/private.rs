//! The record as a method reads and changes it that works on a private server.

use super::record::{LeftBy, Load, Seed};
use super::stage::{Context, Recorder};
use super::types::Run;
use crate::error::Result;
use crate::mysql::PendingRestore;
use crate::sys::thread::lock;
use std::mem::swap;
use std::sync::{Arc, Mutex};

/// For work on a private server in the place of the target's own; `before_load` gets `ctx` where a load begins. What is reported of the state of its data, and what is to be
/// restored in it, is in memory only and ends with that server; the record keeps what it has of the target's.
pub(crate) fn context(
    ctx: &Context,
    before_load: impl Fn(&Context) -> Result<()> + Send + Sync + 'static,
) -> Context {
    let (record, outer) = (Arc::clone(&ctx.recorder), ctx.clone());
    Context {
        recorder: Arc::new(Private::new(record)),
        before_load: Some(Arc::new(move || before_load(&outer))),
        ..ctx.clone()
    }
}

struct Private {
    record: Arc<dyn Recorder>,
    own: Mutex<Own>,
}

#[derive(Default)]
struct Own {
    load: Load,
    left_by: Option<LeftBy>,
    pending_restore: PendingRestore,
}

impl Own {
    fn exchange(&mut self, seed: &mut Seed) {
        swap(&mut self.load, &mut seed.load);
        swap(&mut self.left_by, &mut seed.left_by);
        swap(&mut self.pending_restore, &mut seed.pending_restore);
    }
}

impl Private {
    fn new(record: Arc<dyn Recorder>) -> Self {
        Self {
            record,
            own: Mutex::default(),
        }
    }
}

impl Recorder for Private {
    fn seed(&self, id: i64) -> Option<Seed> {
        let mut seed = self.record.seed(id)?;
        let own = lock(&self.own);
        (seed.load, seed.left_by) = (own.load, own.left_by);
        seed.pending_restore = own.pending_restore.clone();
        Some(seed)
    }

    fn update(&self, run: Run, change: Box<dyn FnOnce(&mut Seed) + '_>) -> Result<()> {
        let mut own = lock(&self.own);
        let change = |seed: &mut Seed| {
            own.exchange(seed);
            change(seed);
            own.exchange(seed);
        };
        self.record.update(run, Box::new(change))
    }

    fn report(&self, run: Run, text: &str) {
        self.record.report(run, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::mysql::Restore;
    use crate::process::Cancel;
    use crate::seed::stage::Held;
    use crate::seed::types::Stage;
    use crate::seed::{Method, Side};

    struct Record(Mutex<Seed>);

    const RUN: Run = Run {
        seed_id: 7,
        stage: Stage::Restore,
        number: 1,
    };

    impl Recorder for Record {
        fn seed(&self, _: i64) -> Option<Seed> {
            Some(lock(&self.0).clone())
        }

        fn update(&self, _: Run, change: Box<dyn FnOnce(&mut Seed) + '_>) -> Result<()> {
            change(&mut lock(&self.0));
            Ok(())
        }

        fn report(&self, _: Run, _: &str) {}
    }

    #[test]
    fn what_precedes_a_load_is_recorded_of_the_host() {
        let seed = Seed::new(7, Method::Mysqldump, Side::Target);
        let ctx = Context {
            recorder: Arc::new(Record(Mutex::new(seed))),
            run: RUN,
            cancel: Cancel::default(),
            progress: Arc::default(),
            held: Held {
                waits: Arc::default(),
                released: crossbeam_channel::never(),
            },
            before_load: None,
        };
        ctx.begin_load().unwrap();
        let inner = context(&ctx, |host| host.update(Seed::begin_replacing));
        assert_eq!(ctx.seed().unwrap().load, Load::default());
        inner.begin_load().unwrap();
        assert_eq!(ctx.seed().unwrap().load, Load::Partial);
        assert_eq!(inner.seed().unwrap().load, Load::default());
        let inner = context(&ctx, |_| Err(Error::permanent("MySQL runs")));
        assert_eq!(inner.begin_load().unwrap_err().to_string(), "MySQL runs");
    }

    #[test]
    fn what_a_private_server_was_does_not_reach_the_record() {
        let mut seed = Seed::new(7, Method::Mysqldump, Side::Target);
        let older = Restore::Global {
            name: "read_only".into(),
            value: "ON".into(),
        };
        seed.pending_restore.extend([older]);
        let record = Arc::new(Record(Mutex::new(seed.clone())));
        let private = Private::new(Arc::clone(&record) as Arc<dyn Recorder>);
        assert!(private.seed(7).unwrap().pending_restore.is_empty());
        let change = |s: &mut Seed| {
            s.begin_replacing();
            s.pending_restore.extend([Restore::RedoLog]);
            s.source_lock_ms = Some(5);
        };
        private.update(RUN, Box::new(change)).unwrap();
        let seen = private.seed(7).unwrap();
        assert_eq!((seen.load, seen.source_lock_ms), (Load::Partial, Some(5)));
        assert!(seen.pending_restore.has_redo_log());
        seed.source_lock_ms = Some(5);
        assert_eq!(record.seed(7).unwrap(), seed);
    }
}

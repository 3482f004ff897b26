//! What cannot be timed from outside.

use super::{Engine, Started};
use crate::coordinates::Coordinates;
use crate::error::Result;
use crate::seed::record::Store;
use crate::seed::stage::Context;
use crate::seed::stage::{Prepared, SeedMethod};
use crate::seed::types::{Method, Side, Stage, Status};
use crossbeam_channel::{Receiver, Sender, bounded};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A method whose target has received all, and notes it when the test lets it.
struct Sent {
    received: Sender<()>,
    go_on: Receiver<()>,
}

impl SeedMethod for Sent {
    fn method(&self) -> Method {
        Method::Xtrabackup
    }

    fn available(&self) -> Result<()> {
        Ok(())
    }

    fn prepare(&self, _: &Context, _: Side) -> Result<Prepared> {
        let (received, go_on) = (self.received.clone(), self.go_on.clone());
        Ok(Prepared {
            text: "listens".into(),
            reception: Some(Box::new(move |ctx| {
                ctx.update(|seed| {
                    seed.coordinates = Coordinates::new("binlog.000001", 4, "").ok()
                })?;
                received.send(()).unwrap();
                go_on.recv().unwrap();
                Ok("received".into())
            })),
        })
    }

    fn backup(&self, _: &Context) -> Result<String> {
        unreachable!("the source's part")
    }

    fn restore(&self, ctx: &Context) -> Result<String> {
        Ok(format!("{:?}", ctx.seed()?.status(Stage::Backup)))
    }

    fn cleanup(&self, _: &Context, _: Side) -> Result<String> {
        Ok(String::new())
    }
}

/// The source's controller knows that the copy is complete a moment before the target has recorded it.
#[test]
fn a_restore_that_comes_at_once_waits_for_the_end_of_the_reception() {
    let dir = std::env::temp_dir().join(format!("oa-engine-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let (received_tx, received) = bounded(1);
    let (go_on, go_on_rx) = bounded(1);
    let method = Arc::new(Sent {
        received: received_tx,
        go_on: go_on_rx,
    });
    let engine = Engine::open(Store::new(&dir), vec![method], Duration::from_secs(60)).unwrap();
    engine.prepare(7, Method::Xtrabackup, Side::Target).unwrap();
    received.recv_timeout(Duration::from_secs(20)).unwrap();
    let (_, backup, _) = engine.stage_state(7, Stage::Backup).unwrap();
    assert_eq!(backup.status, Status::Running);
    assert_eq!(engine.restore(7, Method::Xtrabackup).unwrap(), Started::Now);
    go_on.send(()).unwrap();
    let begin = Instant::now();
    let end = loop {
        let (_, state, _) = engine.stage_state(7, Stage::Restore).unwrap();
        if state.status != Status::Running {
            break state;
        }
        assert!(begin.elapsed() < Duration::from_secs(20), "{state:?}");
        std::thread::sleep(Duration::from_millis(5));
    };
    assert_eq!(
        (end.status, end.details.as_str()),
        (Status::Completed, "Some(Completed)")
    );
    assert!(engine.metadata(7, Method::Xtrabackup).is_ok());
    let _ = std::fs::remove_dir_all(&dir); // the thread may be writing its last record into it
}

#[test]
fn a_seed_is_attended_while_it_works_and_while_calls_come() {
    let dir = std::env::temp_dir().join(format!("oa-attended-{}", std::process::id()));
    for (side, after) in [(Side::Source, true), (Side::Target, false)] {
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        let (received_tx, received) = bounded(1);
        let (go_on, go_on_rx) = bounded(1);
        let method = Arc::new(Sent {
            received: received_tx,
            go_on: go_on_rx,
        });
        let engine = Engine::open(Store::new(&dir), vec![method], Duration::ZERO).unwrap();
        let until_ended = |stage| {
            let begin = Instant::now();
            let running = || engine.stage_state(7, stage).unwrap().1.status == Status::Running;
            while running() || engine.is_busy() {
                assert!(begin.elapsed() < Duration::from_secs(20), "{stage} goes on");
                std::thread::sleep(Duration::from_millis(5));
            }
        };
        assert!(!engine.is_attended(), "there is no seed");
        engine.prepare(7, Method::Xtrabackup, side).unwrap();
        received.recv_timeout(Duration::from_secs(20)).unwrap();
        assert!(engine.is_attended(), "{side}: at work");
        go_on.send(()).unwrap();
        until_ended(Stage::Backup);
        assert_eq!(engine.is_attended(), after, "{side}: no call comes");
        engine.cleanup(7, Method::Xtrabackup, side).unwrap();
        until_ended(Stage::Cleanup);
        assert!(!engine.is_attended(), "{side}: it is over");
    }
    let _ = std::fs::remove_dir_all(&dir); // the thread may be writing its last record into it
}

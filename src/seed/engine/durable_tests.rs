//! What is reported of a stage is on the disk.

use super::*;
use crate::seed::stage::Context;
use crate::seed::stage::Prepared;
use crate::seed::types::{Side, Status};
use crossbeam_channel::{Sender, bounded};

/// A method whose Prepare ends when the test ends it.
struct Held {
    begun: Sender<()>,
    told: Receiver<()>,
}

impl SeedMethod for Held {
    fn method(&self) -> Method {
        Method::Mysqldump
    }
    fn available(&self) -> Result<()> {
        Ok(())
    }
    fn prepare(&self, _ctx: &Context, _side: Side) -> Result<Prepared> {
        let _ = self.begun.send(());
        let _ = self.told.recv();
        Ok("done".into())
    }
    fn backup(&self, _ctx: &Context) -> Result<String> {
        Err(Error::permanent("not here"))
    }
    fn restore(&self, _ctx: &Context) -> Result<String> {
        Err(Error::permanent("not here"))
    }
    fn cleanup(&self, _ctx: &Context, _side: Side) -> Result<String> {
        Err(Error::permanent("not here"))
    }
}

/// An engine whose Prepare is at work.
fn engine(dir: &std::path::Path) -> (Arc<Engine>, Sender<()>) {
    let (begun, begins) = bounded(0);
    let (end, told) = bounded(0);
    let methods: Vec<Arc<dyn SeedMethod>> = vec![Arc::new(Held { begun, told })];
    let engine = Engine::open(Store::new(dir), methods, Duration::from_secs(60)).unwrap();
    engine.prepare(1, Method::Mysqldump, Side::Target).unwrap();
    begins.recv().unwrap();
    (engine, end)
}

/// From now on the record is not written before it was received here.
fn slow_disk(engine: &Engine) -> Receiver<String> {
    let (disk, written) = bounded(0);
    lock(&engine.store).disk = Some(disk);
    written
}

/// A controller that was told Completed would see an Error after a kill -9 in that moment.
#[test]
fn the_end_of_a_stage_is_told_when_it_is_on_the_disk() {
    let dir = std::env::temp_dir().join(format!("oa-engine-durable-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let (engine, end) = engine(&dir);
    let disk = slow_disk(&engine);
    drop(end);
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(500) {
        let (_, view, _) = engine.stage_state(1, Stage::Prepare).unwrap();
        assert_eq!(view.status, Status::Running, "{}", view.details);
        let seed = engine.current().unwrap();
        assert_eq!(seed.status(Stage::Prepare), Some(Status::Running));
        std::thread::sleep(Duration::from_millis(10));
    }
    let record = disk.recv().unwrap();
    assert!(record.contains("Completed"), "it was on its way: {record}");
    while engine.stage_state(1, Stage::Prepare).unwrap().1.status != Status::Completed {
        assert!(begin.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(10));
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

/// Who has aborted is not told afterwards that it runs again, however long its tools and the disk take to end.
#[test]
fn an_aborted_stage_stays_aborted_while_its_end_is_written() {
    let dir = std::env::temp_dir().join(format!("oa-engine-aborted-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let (engine, end) = engine(&dir);
    engine.abort(1).unwrap();
    let ended = engine.lock().work.as_ref().unwrap().ended.clone();
    let disk = slow_disk(&engine);
    drop(end);
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(500) {
        let (_, view, _) = engine.stage_state(1, Stage::Prepare).unwrap();
        assert_eq!(view.status, Status::Error, "{}", view.details);
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(
        disk.recv()
            .unwrap()
            .contains("Prepare ended: aborted by request")
    );
    assert!(ended.recv_timeout(Duration::from_secs(20)).is_err());
    std::fs::remove_dir_all(&dir).unwrap();
}

/// A stage that waits for the end of an aborted one may be aborted itself, and the agent may be stopped meanwhile: nothing begins next
/// to the first one, and the stop waits for its tools.
#[test]
fn a_stop_waits_for_a_stage_that_was_aborted_before() {
    let dir = std::env::temp_dir().join(format!("oa-engine-stop-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let (engine, end) = engine(&dir);
    for _ in 0..2 {
        engine.abort(1).unwrap();
        engine.cleanup(1, Method::Mysqldump, Side::Target).unwrap();
    }
    std::thread::sleep(Duration::from_millis(200));
    let (_, view, _) = engine.stage_state(1, Stage::Cleanup).unwrap();
    assert_eq!(view.status, Status::Running, "{}", view.details);
    let begin = Instant::now();
    let pause = Duration::from_millis(300);
    let first = std::thread::spawn(move || {
        std::thread::sleep(pause);
        drop(end);
    });
    engine.stop(Duration::from_secs(20));
    assert!(begin.elapsed() >= pause, "{:?}", begin.elapsed());
    assert!(!engine.is_busy());
    first.join().unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
}

//! What is told of a stage is on the disk.

use super::*;
use crate::seed::context::Context;
use crate::seed::methods::Prepared;
use crate::seed::vocabulary::{Side, Status};
use crossbeam_channel::{Sender, bounded};
use std::io::Read;

/// A method whose Prepare ends when it is told to.
struct Held(Receiver<()>);

impl SeedMethod for Held {
    fn method(&self) -> Method {
        Method::Mysqldump
    }
    fn available(&self) -> Result<()> {
        Ok(())
    }
    fn prepare(&self, _ctx: &Context, _side: Side) -> Result<Prepared> {
        let _ = self.0.recv();
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
    fn put_back(&self, _seed: &Seed) -> Result<()> {
        Ok(())
    }
}

fn engine(dir: &std::path::Path) -> (Engine, Sender<()>) {
    let (end, told) = bounded(0);
    let methods: Vec<Arc<dyn SeedMethod>> = vec![Arc::new(Held(told))];
    let engine = Engine::open(Store::new(dir), methods, Duration::from_secs(60)).unwrap();
    (engine, end)
}

/// A controller that was told Completed would see an Error after a kill -9 in that moment (P5).
#[test]
fn the_end_of_a_stage_is_told_when_it_is_on_the_disk() {
    let dir = std::env::temp_dir().join(format!("oa-engine-durable-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let (engine, end) = engine(&dir);
    engine.prepare(1, Method::Mysqldump, Side::Target).unwrap();
    // A disk that does not take the record: a pipe that nobody reads.
    let pipe = dir.join("seeds.json.new");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    drop(end);
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(500) {
        let view = engine.stage_state(1, Stage::Prepare).unwrap();
        assert_eq!(view.status, Status::Running, "{}", view.details);
        let seed = engine.current().unwrap();
        assert_eq!(seed.status(Stage::Prepare), Some(Status::Running));
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut record = String::new();
    let mut reader = std::fs::File::open(&pipe).unwrap();
    reader.read_to_string(&mut record).unwrap();
    assert!(record.contains("Completed"), "it was on its way: {record}");
    while engine.stage_state(1, Stage::Prepare).unwrap().status != Status::Completed {
        assert!(begin.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(10));
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

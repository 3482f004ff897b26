use super::*;
use std::sync::Arc;

fn state(status: Status, details: &str, bytes: u64, total: u64) -> StageState {
    StageState {
        seed_id: 7,
        stage: Stage::Backup,
        hostname: String::new(),
        timestamp: String::new(),
        status,
        details: details.into(),
        target_data: None,
        source_lock_milliseconds: None,
        incomplete_since: None,
        progress: Some(Progress { bytes, total }),
    }
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn rate_and_eta() {
    assert_eq!(rate(100, secs(10)), Some(10.0));
    assert_eq!(rate(0, secs(10)), None);
    assert_eq!(
        rate(100, Duration::from_millis(100)),
        None,
        "too short to tell"
    );
    let at = |bytes, total| Progress { bytes, total };
    assert_eq!(eta(at(100, 400), 10.0), Some(secs(30)));
    assert_eq!(eta(at(100, 0), 10.0), None);
    assert_eq!(
        eta(at(500, 400), 10.0),
        None,
        "the total is an estimate and may be passed"
    );
    assert_eq!(eta(at(0, u64::MAX), 0.001), Some(secs(3_600_000)));
    assert_eq!(
        (clock(secs(7)), clock(secs(754)), clock(secs(3723))),
        ("0:07".into(), "12:34".into(), "1:02:03".into())
    );
}

#[test]
fn lines_without_a_terminal_come_on_changes_and_every_five_seconds() {
    let mut w = Watch::new(Stage::Backup, Side::Target, "Backup");
    let running = |n: u64| state(Status::Running, "Running backup", n << 20, 0);
    assert_eq!(
        w.step(secs(0), &running(0), false).unwrap(),
        "Backup: Running: Running backup"
    );
    assert_eq!(w.step(secs(1), &running(10), false), None);
    assert_eq!(
        w.step(secs(5), &running(50), false).unwrap(),
        "Backup: Running: Running backup (50.0 MiB, 10.0 MiB/s)"
    );
    assert_eq!(w.step(secs(9), &running(90), false), None);
    let next = state(Status::Running, "Syncing", 90 << 20, 100 << 20);
    assert_eq!(
        w.step(secs(10), &next, false).unwrap(),
        "Backup: Running: Syncing (90.0 MiB of about 100.0 MiB, 9.0 MiB/s, ETA 0:01)"
    );
    let done = state(Status::Completed, "Dumped it", 0, 0);
    assert_eq!(
        w.step(secs(11), &done, false).unwrap(),
        "Backup: Completed: Dumped it"
    );
    assert_eq!(w.bytes(), 90 << 20, "the last answer carries none");
}

#[test]
fn on_a_terminal_only_changes_are_lines() {
    let mut w = Watch::new(Stage::Backup, Side::Target, "Backup");
    assert!(
        w.step(secs(0), &state(Status::Running, "a", 0, 0), true)
            .is_some()
    );
    assert!(
        w.step(secs(60), &state(Status::Running, "a", 9, 0), true)
            .is_none()
    );
    assert!(
        w.step(secs(61), &state(Status::Running, "b\x1b[2J\n", 9, 0), true)
            .unwrap()
            .starts_with("Backup: Running: b [2J (")
    );
}

#[test]
fn the_rate_is_that_of_the_last_half_minute() {
    let mut w = Watch::new(Stage::Backup, Side::Target, "Backup");
    for (t, bytes) in [(0, 0), (10, 1000), (50, 1000), (60, 1600), (70, 2200)] {
        w.step(secs(t), &state(Status::Running, "a", bytes, 0), false);
    }
    assert_eq!(w.rate(), Some(60.0));
}

#[test]
fn a_bar_fits_a_terminal_even_beyond_its_total() {
    let b = |bytes, total| bar("Backup", secs(65), Progress { bytes, total }, Some(1024.0));
    assert_eq!(
        b(512, 1024),
        "Backup 1:05 [#####.....] 50% 512 B of about 1.0 KiB, 1.0 KiB/s, ETA 0:00"
    );
    assert!(b(3000, 1024).contains("[##########] 100%"));
    assert_eq!(b(2048, 0), "Backup 1:05 2.0 KiB, 1.0 KiB/s");
    assert!(b(1023 << 30, 1023 << 40).chars().count() <= 79);
}

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

struct Gone;

impl Write for Gone {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Err(std::io::ErrorKind::BrokenPipe.into())
    }
}

#[test]
fn a_line_wipes_the_bar_and_a_lost_terminal_is_no_failure() {
    let (out, err) = (Sink::default(), Sink::default());
    let screen = Screen::new(true, Box::new(out.clone()), Box::new(err.clone()));
    let mut w = Watch::new(Stage::Restore, Side::Target, "Restore");
    w.update(&screen, &state(Status::Running, "Loading", 1, 2));
    screen.warn("careful");
    screen.say("next");
    let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
    assert!(
        text.starts_with("Restore: Running: Loading (1 B of about 2 B)\n\rRestore 0:00 [#####"),
        "{text:?}"
    );
    assert!(text.ends_with("\x1b[K\r\x1b[Knext\n"), "{text:?}");
    assert_eq!(err.0.lock().unwrap().as_slice(), b"warning: careful\n");
    let gone = Screen::new(true, Box::new(Gone), Box::new(Gone));
    w.update(&gone, &state(Status::Running, "Loading", 2, 2));
    gone.say("unheard");
}

use super::*;
use std::sync::Arc;

fn progress(
    details: &str,
    bytes: u64,
    total: Option<u64>,
    elapsed_seconds: f64,
) -> StageProgress<'_> {
    StageProgress {
        stage: Stage::Backup,
        side: Side::Target,
        details,
        bytes,
        total,
        rate: (bytes > 0).then_some(1024.0),
        elapsed_seconds,
        eta_seconds: total.map(|t| t.saturating_sub(bytes) as f64 / 1024.0),
    }
}

fn terminal(has_bar: bool) -> (Terminal, Sink, Sink) {
    let (out, err) = (Sink::default(), Sink::default());
    let terminal = Terminal::new(has_bar, Box::new(out.clone()), Box::new(err.clone()));
    (terminal, out, err)
}

#[test]
fn lines_without_a_terminal_come_on_changes_and_every_five_seconds() {
    let (terminal, ..) = terminal(false);
    let mut state = terminal.0.into_inner().unwrap();
    let mut line = |details: &str, mib: u64, total: Option<u64>, at: f64| {
        state.running_line(&progress(details, mib << 20, total, at))
    };
    assert_eq!(
        line("Running backup", 0, None, 0.0).unwrap(),
        "Backup: Running: Running backup"
    );
    assert_eq!(line("Running backup", 10, None, 1.0), None);
    assert_eq!(
        line("Running backup", 50, None, 5.0).unwrap(),
        "Backup: Running: Running backup (50.0 MiB, 1.0 KiB/s)"
    );
    assert_eq!(line("Running backup", 90, None, 9.0), None);
    assert_eq!(
        line("Syncing", 90, Some((90 << 20) + 2048), 10.0).unwrap(),
        "Backup: Running: Syncing (90.0 MiB of about 90.0 MiB, 1.0 KiB/s, ETA 0:02)"
    );
}

#[test]
fn on_a_terminal_only_changes_are_lines() {
    let (terminal, ..) = terminal(true);
    let mut state = terminal.0.into_inner().unwrap();
    let mut line = |p: &StageProgress| state.running_line(p);
    assert!(line(&progress("a", 0, None, 0.0)).is_some());
    assert!(line(&progress("a", 9, None, 60.0)).is_none());
    let other = StageProgress {
        stage: Stage::Prepare,
        ..progress("a", 0, None, 61.0)
    };
    assert_eq!(line(&other).unwrap(), "Prepare target: Running: a");
    assert!(
        line(&progress("b", 9, None, 61.0))
            .unwrap()
            .starts_with("Backup: Running: b (")
    );
}

#[test]
fn a_bar_fits_a_terminal_even_beyond_its_total() {
    let b = |bytes, total| bar(&progress("", bytes, total, 65.0));
    assert_eq!(
        b(512, Some(1024)),
        "Backup 1:05 [#####.....] 50% 512 B of about 1.0 KiB, 1.0 KiB/s, ETA 0:00"
    );
    assert!(b(3000, Some(1024)).contains("[##########] 100%"));
    assert_eq!(b(2048, None), "Backup 1:05 2.0 KiB, 1.0 KiB/s");
    assert!(b(1023 << 30, Some(1023 << 40)).chars().count() <= 79);
    assert_eq!(
        [7.0, 754.0, 3723.0].map(clock),
        ["0:07", "12:34", "1:02:03"]
    );
}

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

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
    let (terminal, out, err) = terminal(true);
    let loading = StageProgress {
        stage: Stage::Restore,
        rate: None,
        eta_seconds: None,
        ..progress("Loading", 1, Some(2), 0.0)
    };
    let report = |to: &Terminal| {
        to.report(&Event::StageProgress(loading));
        to.report(&Event::Warning { text: "careful" });
        let text = "next";
        to.report(&Event::Preflight { ok: true, text });
    };
    report(&terminal);
    let text = out.text();
    assert!(
        text.starts_with("Restore: Running: Loading (1 B of about 2 B)\n\rRestore 0:00 [#####"),
        "{text:?}"
    );
    assert!(
        text.ends_with("\x1b[K\r\x1b[KPreflight: next\n"),
        "{text:?}"
    );
    assert_eq!(err.text(), "warning: careful\n");
    report(&Terminal::new(true, Box::new(Gone), Box::new(Gone)));
}

#[test]
fn a_result_repeats_nothing() {
    let lines = |outcome: Outcome| {
        let (terminal, out, err) = terminal(false);
        terminal.report(&Event::Result(&outcome));
        (out.text(), err.text())
    };
    let early = |status, error: Option<&str>| Outcome::early(status, error.map(str::to_string));
    let (out, err) = lines(early(End::Failed, Some("no")));
    assert_eq!(
        (out.as_str(), err.as_str()),
        ("", "error: no; nothing on the target was changed\n")
    );
    let (_, err) = lines(early(End::WrongUsage, Some("no")));
    assert!(err.ends_with("--help` lists all options\n"), "{err}");
    let (out, _) = lines(early(End::DryRun, None));
    assert!(out.ends_with("nothing was changed (--dry-run)\n"), "{out}");
    let failed = Outcome {
        target_state: Target::Partial,
        target_text: Some("the data may be partial".into()),
        ..early(End::Failed, Some("Restore failed"))
    };
    let (out, err) = lines(failed);
    assert_eq!(
        (out.as_str(), err.as_str()),
        ("", "error: the data may be partial\n"),
        "`abort` has reported the error"
    );
    let differs = Outcome {
        target_state: Target::Replicating,
        seed_id: Some(7),
        bytes: Some(12),
        source_lock_seconds: Some(0.25),
        durations: [(Stage::Cleanup, 1.0), (Stage::ConnectSlave, 62.5)].into(),
        total_seconds: 70.0,
        ..early(End::Differs, Some("the data differ"))
    };
    let (out, err) = lines(differs);
    assert_eq!(err, "", "`compare_completed` has reported it");
    assert_eq!(
        out,
        "Bytes: 12 (12 B)\nWrites on the source were blocked for at most 0.25 s\n\
         Durations: ConnectSlave 1:02, Cleanup 0:01, total 1:10\nSeed 7: done\n"
    );
}

//! What the user sees: plain lines, and on a terminal a bar below them; with `--json` programs see events instead. Nothing
//! here fails: a terminal that has gone away must not end a seed.

use super::event::{self, Event, seconds};
use crate::protocol::wire::{Progress, StageState};
use crate::seed::{Side, Stage, Status};
use crate::sys::host::human_bytes;
use crate::sys::thread::lock;
use std::collections::VecDeque;
use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

#[cfg(test)]
mod tests;

/// Without a terminal a running stage writes a line at most this often.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// The rate is that of this time.
const WINDOW: Duration = Duration::from_secs(30);
/// Cells of the bar.
const CELLS: usize = 10;

/// The two outputs; shared by all threads.
pub struct Screen {
    terminal: bool,
    json: bool,
    inner: Mutex<Inner>,
}

struct Inner {
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    bar: bool,
    /// The result was told, which is the last event.
    over: bool,
}

impl Screen {
    /// Standard output and standard error, for people or, with `json`, for programs.
    pub fn standard(json: bool) -> Self {
        let terminal = !json && std::io::stdout().is_terminal();
        let (out, err) = (Box::new(std::io::stdout()), Box::new(std::io::stderr()));
        Self {
            json,
            ..Self::new(terminal, out, err)
        }
    }

    /// Any outputs, for people; `terminal`: bars are drawn.
    pub fn new(terminal: bool, out: Box<dyn Write + Send>, err: Box<dyn Write + Send>) -> Self {
        Self {
            terminal,
            json: false,
            inner: Mutex::new(Inner {
                out,
                err,
                bar: false,
                over: false,
            }),
        }
    }

    /// For people: a line on standard output.
    pub fn say(&self, line: &str) {
        self.write(|i| writeln!(i.out, "{line}"));
    }

    /// For people: a line on standard error.
    pub fn caution(&self, line: &str) {
        self.write(|i| writeln!(i.err, "warning: {line}"));
    }

    /// For people: a line on standard error.
    pub fn error(&self, line: &str) {
        self.write(|i| writeln!(i.err, "error: {line}"));
    }

    /// For both.
    pub fn warn(&self, text: &str) {
        self.event(&Event::Warning { text });
        self.caution(text);
    }

    /// For programs: an event. None comes after [`Event::Result`].
    pub fn event(&self, event: &Event) {
        if !self.json {
            return;
        }
        let mut inner = lock(&self.inner);
        if inner.over {
            return;
        }
        inner.over = matches!(event, Event::Result(_));
        let _ = match event::line(event) {
            Ok(line) => writeln!(inner.out, "{line}"),
            Err(e) => writeln!(inner.err, "error: an event cannot be written: {e}"),
        };
        let _ = inner.out.flush();
    }

    fn write(&self, line: impl FnOnce(&mut Inner) -> std::io::Result<()>) {
        if self.json {
            return;
        }
        let mut inner = lock(&self.inner);
        if std::mem::take(&mut inner.bar) {
            let _ = write!(inner.out, "\r\x1b[K"); // a terminal that is gone
        }
        let _ = line(&mut inner);
        let _ = inner.out.flush();
    }

    fn bar(&self, text: &str) {
        let mut inner = lock(&self.inner);
        inner.bar = true;
        let _ = write!(inner.out, "\r{text}\x1b[K"); // a terminal that is gone
        let _ = inner.out.flush();
    }
}

/// Follows one stage on one host.
pub struct Watch {
    label: String,
    stage: Stage,
    pub(super) side: Side,
    begin: Instant,
    samples: VecDeque<(Duration, u64)>,
    most: u64,
    shown: Option<(Status, String)>,
    last_line: Duration,
}

impl Watch {
    /// Begins now. `label` begins each line, for example `Backup`.
    pub fn new(stage: Stage, side: Side, label: impl Into<String>) -> Self {
        Self {
            label: label.into(),
            stage,
            side,
            begin: Instant::now(),
            samples: VecDeque::new(),
            most: 0,
            shown: None,
            last_line: Duration::ZERO,
        }
    }

    /// The largest number of bytes seen.
    pub fn bytes(&self) -> u64 {
        self.most
    }

    /// Shows a state that an agent has sent.
    pub fn update(&mut self, screen: &Screen, state: &StageState) {
        if let Some(line) = self.step(self.begin.elapsed(), state, screen.terminal) {
            screen.say(&line);
        }
        if state.status != Status::Running {
            return;
        }
        let (elapsed, done, rate) = (self.begin.elapsed(), self.done(state), self.rate());
        screen.event(&Event::StageProgress {
            stage: self.stage,
            side: self.side,
            details: &crate::protocol::http_client::shortened(&state.details),
            bytes: done.bytes,
            total: (done.total > 0).then_some(done.total),
            rate: rate.map(f64::round),
            elapsed_seconds: seconds(elapsed),
            eta_seconds: rate.and_then(|r| eta(done, r)).map(seconds),
        });
        if screen.terminal {
            screen.bar(&bar(&self.label, elapsed, done, rate));
        }
    }

    /// The line that a state is worth at a moment: on each change of status and text, and without a terminal every few
    /// seconds.
    fn step(&mut self, now: Duration, state: &StageState, terminal: bool) -> Option<String> {
        let done = self.done(state);
        self.most = self.most.max(done.bytes);
        self.samples.push_back((now, done.bytes));
        while self.samples.len() > 2
            && self
                .samples
                .front()
                .is_some_and(|(t, _)| now.saturating_sub(*t) > WINDOW)
        {
            self.samples.pop_front();
        }
        let details = crate::protocol::http_client::shortened(&state.details);
        let new = (state.status, details.clone());
        let changed = self.shown.as_ref() != Some(&new);
        let due = !terminal
            && state.status == Status::Running
            && now.saturating_sub(self.last_line) >= LINE_EVERY;
        if !changed && !due {
            return None;
        }
        self.shown = Some(new);
        self.last_line = now;
        let numbers = match numbers(done, self.rate()) {
            text if text.is_empty() || state.status != Status::Running => String::new(),
            text => format!(" ({text})"),
        };
        Some(format!(
            "{}: {}: {details}{numbers}",
            self.label, state.status
        ))
    }

    fn done(&self, state: &StageState) -> Progress {
        state.progress.unwrap_or_default()
    }

    /// Bytes per second over the window; `None` before there is something to tell.
    fn rate(&self) -> Option<f64> {
        let ((t0, b0), (t1, b1)) = (self.samples.front()?, self.samples.back()?);
        rate(b1.saturating_sub(*b0), t1.saturating_sub(*t0))
    }
}

fn rate(bytes: u64, time: Duration) -> Option<f64> {
    (bytes > 0 && time >= Duration::from_millis(500)).then(|| bytes as f64 / time.as_secs_f64())
}

/// Time to the end; `None` if the total is unknown or was reached: it is an estimate only.
fn eta(done: Progress, rate: f64) -> Option<Duration> {
    let left = done.total.checked_sub(done.bytes).filter(|n| *n > 0)?;
    // Beyond a thousand hours it is no estimate any more.
    Some(Duration::from_secs_f64(
        (left as f64 / rate).min(3_600_000.0),
    ))
}

/// `1.2 GiB of about 4.0 GiB, 30.1 MiB/s, ETA 1:35`, as far as known.
fn numbers(done: Progress, rate: Option<f64>) -> String {
    let mut parts = Vec::new();
    match (done.bytes, done.total) {
        (0, 0) => {}
        (n, 0) => parts.push(human_bytes(n)),
        (n, total) => parts.push(format!(
            "{} of about {}",
            human_bytes(n),
            human_bytes(total)
        )),
    }
    if let Some(rate) = rate {
        parts.push(format!("{}/s", human_bytes(rate as u64)));
        if let Some(eta) = eta(done, rate) {
            parts.push(format!("ETA {}", clock(eta)));
        }
    }
    parts.join(", ")
}

/// One line for the bottom of a terminal, at most 79 columns.
fn bar(label: &str, elapsed: Duration, done: Progress, rate: Option<f64>) -> String {
    let mut text = format!("{label} {}", clock(elapsed));
    if done.total > 0 {
        let share = done.bytes.min(done.total) as f64 / done.total as f64;
        let full = (share * CELLS as f64) as usize;
        let cells: String = (0..CELLS)
            .map(|i| if i < full { '#' } else { '.' })
            .collect();
        text.push_str(&format!(" [{cells}] {}%", (share * 100.0) as u64));
    }
    let numbers = numbers(done, rate);
    if !numbers.is_empty() {
        text.push_str(&format!(" {numbers}"));
    }
    text.chars().take(79).collect()
}

/// `0:07`, `12:34`, `1:02:03`
pub fn clock(time: Duration) -> String {
    let s = time.as_secs();
    if s < 3600 {
        format!("{}:{:02}", s / 60, s % 60)
    } else {
        format!("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
    }
}

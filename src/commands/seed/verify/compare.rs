//! One table of both servers: its definition, and checksums of its rows, a range of the primary key at a time where that is an
//! integer.

use super::run::Run;
use super::snapshot::interruptible;
use super::tables::{Bounds, Name, Table, is_incomplete, quoted};
use crate::commands::seed::sql::Db;
use crate::error::{Error, Result};
use crate::mysql::quote_name;
use std::time::{Duration, Instant};

/// Tables up to this size are summed in one query.
const SMALL: u64 = 32 << 20;
/// A larger one begins with ranges of about this size, and goes on with those that take about [`RANGE_TIME`].
const RANGE: u64 = 16 << 20;
const RANGE_TIME: Duration = Duration::from_secs(1);
/// `--verify=sample`: tables up to this size are compared in full.
const IN_FULL: u64 = 64 << 20;
/// Of a larger one this many ranges, each of about [`SAMPLE_RANGE`].
const SAMPLES: i128 = 16;
const SAMPLE_RANGE: u64 = 2 << 20;

/// The result for a table.
pub(super) enum Found {
    Equal,
    Differs(String),
    /// It cannot be compared at this point: another session has changed or locked it.
    Later(String),
    /// `--verify-max-time` has come; `progress`: a part was compared.
    OutOfTime {
        progress: bool,
    },
    NotCompared(String),
    LeftOut(String),
    Gone,
}

impl Run<'_> {
    /// Compares a table within the snapshots; an error if a server is lost.
    pub(super) fn compare(
        &mut self,
        name: &Name,
        table: Option<&Table>,
        on_target: Option<&Table>,
    ) -> Result<Found> {
        let Some(table) = table else {
            return Ok(Found::Gone);
        };
        let suspect = match on_target {
            None => Some("it is missing on the target".to_string()),
            Some(t) if !t.unfit.is_empty() && table.unfit.is_empty() => {
                Some(format!("definition: on the target {}", t.unfit))
            }
            Some(t) => table.difference(t),
        };
        // Definitions have no snapshots: what another session has just altered is alike again in the next round.
        let state = self.tables.entry(name.clone()).or_default();
        let before = std::mem::replace(&mut state.suspect, suspect.clone());
        if let Some(why) = suspect {
            let found = if before.as_ref() == Some(&why) {
                Found::Differs
            } else {
                Found::Later
            };
            return Ok(found(why));
        }
        let sample = self.options.sample() && table.bytes > IN_FULL;
        let ends = match table.key.as_deref().filter(|_| table.bytes > SMALL) {
            None if sample => {
                let why = "too large for a sample without an integer primary key".into();
                return Ok(Found::LeftOut(why));
            }
            None => None,
            Some(key) => self.ends(table, key)?,
        };
        match ends {
            None => self.range(table, (None, None)),
            Some(ends) if sample => self.sampled(table, ends),
            Some(ends) => self.ranges(table, ends),
        }
    }

    /// Smallest and largest key on the source; `None` if it is empty or cannot be read (then the checksum fails).
    fn ends(&mut self, table: &Table, key: &str) -> Result<Option<(i128, i128)>> {
        let (key, name) = (quote_name(key), quoted(&table.name));
        let row = self
            .source
            .row(&format!("SELECT MIN({key}), MAX({key}) FROM {name}"));
        match row {
            Err(e) if e.mysql_code().is_none() => Err(e),
            Err(_) => Ok(None),
            Ok(row) => {
                let number = |i: usize| row.get(i).and_then(|v| v.parse::<i128>().ok());
                Ok(number(0).zip(number(1)))
            }
        }
    }

    fn ranges(&mut self, table: &Table, (low, high): (i128, i128)) -> Result<Found> {
        let name = &table.name;
        let span = high - low + 1;
        let count = i128::from((table.bytes / RANGE).max(1));
        let mut step = (span / count).max(1);
        let mut from = self.tables.get(name).and_then(|t| t.next);
        let mut progress = false;
        loop {
            let to = Some(from.unwrap_or(low) + step).filter(|to| *to <= high);
            let begin = Instant::now();
            match self.range(table, (from, to))? {
                Found::Equal => {}
                Found::OutOfTime { .. } => return Ok(Found::OutOfTime { progress }),
                other => return Ok(other),
            }
            let Some(next) = to else {
                return Ok(Found::Equal);
            };
            (progress, from) = (true, to);
            let state = self.tables.entry(name.clone()).or_default();
            (state.next, state.tries) = (to, 0);
            state.share = (next - low) as f64 / span as f64;
            self.show(name);
            step = paced(step, begin.elapsed());
            if Instant::now() >= self.deadline {
                return Ok(Found::OutOfTime { progress });
            }
        }
    }

    /// Ranges that are spread over the keys, each at another place in its part.
    fn sampled(&mut self, table: &Table, (low, high): (i128, i128)) -> Result<Found> {
        let span = high - low + 1;
        let part = (span / SAMPLES).max(1);
        let wanted = span * i128::from(SAMPLE_RANGE) / i128::from(table.bytes.max(1));
        let width = part.min(wanted).max(1);
        for n in 0..SAMPLES {
            // A number of its own for each seed, so that repeated seeds compare other rows.
            let place = i128::from(self.options.seed_id) * 7919 + n * 104_729;
            let from = low + n * part + place.rem_euclid(part - width + 1);
            match self.range(table, (Some(from), Some(from + width)))? {
                Found::Equal => {}
                other => return Ok(other),
            }
        }
        Ok(Found::Equal)
    }

    /// One query on each server at the same time.
    fn range(&mut self, table: &Table, bounds: Bounds) -> Result<Found> {
        let query = table.checksum(bounds);
        let deadline = self.deadline;
        let (a, b) = (self.source.handle(), self.target.handle());
        let (source, target) = (&mut self.source, &mut self.target);
        let sums = interruptible(&[(&a.0, a.1), (&b.0, b.1)], deadline, self.cancel, || {
            std::thread::scope(|scope| {
                let other = scope.spawn(|| sum(target, &query));
                let own = sum(source, &query);
                let other = other
                    .join()
                    .unwrap_or_else(|_| Err(Error::permanent("a thread has panicked")));
                (own, other)
            })
        });
        self.cancel.check()?;
        match sums {
            (Ok(own), Ok(other)) if own == other => {
                let why = "a row is longer than max_allowed_packet";
                let complete = !is_incomplete(&own[1]);
                Ok(if complete {
                    Found::Equal
                } else {
                    Found::NotCompared(why.into())
                })
            }
            (Ok(own), Ok(other)) => Ok(Found::Differs(differing(table, bounds, &own, &other))),
            (Err(e), _) | (_, Err(e)) => match e.mysql_code() {
                Some(code) => Ok(of_fault(code, &e, deadline)),
                None => Err(e),
            },
        }
    }
}

/// Count and sum.
fn sum(session: &mut Db, query: &str) -> Result<[String; 2]> {
    let row = session.row(query)?;
    let text = |i: usize| row.get(i).cloned().unwrap_or_default();
    Ok([text(0), text(1)])
}

fn of_fault(code: u16, e: &Error, deadline: Instant) -> Found {
    match code {
        // Ended by KILL QUERY.
        1317 | 1028 if Instant::now() >= deadline => Found::OutOfTime { progress: false },
        // Altered, dropped or locked since the snapshot; the column is gone.
        1412 | 1146 | 1051 | 1054 | 1205 | 1317 | 1684 | 1932 => Found::Later(e.to_string()),
        _ => Found::NotCompared(e.to_string()),
    }
}

fn differing(table: &Table, bounds: Bounds, source: &[String; 2], target: &[String; 2]) -> String {
    let place = match (&table.key, bounds) {
        (Some(key), (Some(from), Some(to))) => format!(" where {key} is from {from} to {}", to - 1),
        (Some(key), (Some(from), None)) => format!(" where {key} is {from} or more"),
        (Some(key), (None, Some(to))) => format!(" where {key} is below {to}"),
        _ => String::new(),
    };
    let (source, target) = (&source[0], &target[0]);
    if source == target {
        format!("other values in {source} rows{place}")
    } else {
        format!("{source} rows on the source, {target} on the target{place}")
    }
}

/// The next width, so that a range takes about [`RANGE_TIME`].
fn paced(step: i128, took: Duration) -> i128 {
    let factor = RANGE_TIME.as_secs_f64() / took.as_secs_f64().max(0.001);
    let step = step as f64 * factor.clamp(0.25, 8.0);
    (step.min(1e30) as i128).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_take_about_a_second() {
        assert_eq!(paced(100, Duration::from_secs(2)), 50);
        assert_eq!(paced(100, Duration::from_secs(100)), 25);
        assert_eq!(paced(100, Duration::from_millis(1)), 800);
        assert_eq!(paced(1, Duration::from_secs(100)), 1);
    }
}

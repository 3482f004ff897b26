//! One table of both servers: its definition, and checksums of its rows, a range of the primary key at a time where that is an
//! integer.

use super::run::{Progress, Run};
use super::session::interruptible;
use super::tables::{Name, Table, is_incomplete};
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
pub(crate) enum Found {
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
        tables: (Option<&Table>, Option<&Table>),
        deadline: Instant,
    ) -> Result<Found> {
        let Some(table) = tables.0 else {
            return Ok(Found::Gone);
        };
        let state = self.state.entry(name.clone()).or_default();
        let suspect = match tables.1 {
            None => Some("it is missing on the target".to_string()),
            Some(t) if !t.unfit.is_empty() && table.unfit.is_empty() => {
                Some(format!("definition: on the target {}", t.unfit))
            }
            Some(t) => table.difference(t),
        };
        if let Some(why) = suspect {
            // Definitions have no snapshots: what another session has just altered is alike again in the next round.
            if state.suspect.as_ref() == Some(&why) {
                return Ok(Found::Differs(why));
            }
            state.suspect = Some(why.clone());
            return Ok(Found::Later(why));
        }
        state.suspect = None;
        let sample = self.options.sample() && table.bytes > IN_FULL;
        let key = table.key.as_ref().filter(|_| table.bytes > SMALL);
        let ends = match key {
            None if sample => {
                let why = "too large for a sample without an integer primary key".into();
                return Ok(Found::LeftOut(why));
            }
            None => None,
            Some(key) => self.ends(name, key)?,
        };
        match ends {
            None => self.range(name, table, (None, None), deadline),
            Some(ends) if sample => self.sampled(name, table, ends, deadline),
            Some(ends) => self.ranges(name, table, ends, deadline),
        }
    }

    /// Smallest and largest key on the source; `None` if it is empty or cannot be read (then the checksum fails).
    fn ends(&mut self, name: &Name, key: &str) -> Result<Option<(i128, i128)>> {
        let query = format!(
            "SELECT MIN({key}), MAX({key}) FROM {}.{}",
            quote_name(&name.0),
            quote_name(&name.1),
            key = quote_name(key)
        );
        match self.source.row(&query) {
            Err(e) if e.mysql_code().is_none() => Err(e),
            Err(_) => Ok(None),
            Ok(row) => {
                let number = |i: usize| row.get(i).and_then(|v| v.parse::<i128>().ok());
                Ok(number(0).zip(number(1)))
            }
        }
    }

    fn ranges(
        &mut self,
        name: &Name,
        table: &Table,
        (low, high): (i128, i128),
        deadline: Instant,
    ) -> Result<Found> {
        let span = high - low + 1;
        let count = i128::from((table.bytes / RANGE).max(1));
        let mut step = (span / count).max(1);
        let mut from = self.state.get(name).and_then(|s| s.next);
        let mut progress = false;
        loop {
            let to = from.unwrap_or(low) + step;
            let to = (to <= high).then_some(to);
            let begin = Instant::now();
            match self.range(name, table, (from, to), deadline)? {
                Found::Equal => {}
                Found::OutOfTime { .. } => return Ok(Found::OutOfTime { progress }),
                other => return Ok(other),
            }
            let Some(next) = to else {
                return Ok(Found::Equal);
            };
            progress = true;
            from = Some(next);
            *self.state.entry(name.clone()).or_default() = Progress {
                next: from,
                share: (next - low) as f64 / span as f64,
                ..Progress::default()
            };
            self.show(name);
            step = paced(step, begin.elapsed());
            if Instant::now() >= deadline {
                return Ok(Found::OutOfTime { progress });
            }
        }
    }

    /// Ranges that are spread over the keys, each at another place in its part.
    fn sampled(
        &mut self,
        name: &Name,
        table: &Table,
        (low, high): (i128, i128),
        deadline: Instant,
    ) -> Result<Found> {
        let part = ((high - low + 1) / SAMPLES).max(1);
        let width =
            part.min((high - low + 1) * i128::from(SAMPLE_RANGE) / i128::from(table.bytes.max(1)));
        let width = width.max(1);
        for n in 0..SAMPLES {
            // A number of its own for each seed, so that repeated seeds compare other rows.
            let place = (i128::from(self.options.seed_id) * 7919 + n * 104_729)
                .rem_euclid(part - width + 1);
            let from = low + n * part + place;
            match self.range(name, table, (Some(from), Some(from + width)), deadline)? {
                Found::Equal => {}
                other => return Ok(other),
            }
        }
        Ok(Found::Equal)
    }

    /// One query on each server at the same time.
    fn range(
        &mut self,
        name: &Name,
        table: &Table,
        bounds: (Option<i128>, Option<i128>),
        deadline: Instant,
    ) -> Result<Found> {
        let query = table.checksum(name, bounds);
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
                if is_incomplete(&own[1]) {
                    let why = "a row is longer than max_allowed_packet".to_string();
                    return Ok(Found::NotCompared(why));
                }
                Ok(Found::Equal)
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

fn differing(
    table: &Table,
    bounds: (Option<i128>, Option<i128>),
    source: &[String; 2],
    target: &[String; 2],
) -> String {
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

//! Checks when both threads run: that the replica is the one that was requested.

use crate::commands::seed::event::{Check, Event, Listener, Verdict};
use crate::commands::seed::options::Options;
use crate::commands::seed::plan::{Plan, READ_ONLY};
use crate::commands::seed::sql::Db;
use crate::coordinates::gtid::GtidSet;
use crate::error::{Error, Result};
use crate::mysql::Flavour;
use crate::process::Cancel;
use crate::protocol::http_client::shortened;
use std::time::Duration;

/// How often the source is queried for what the target has, before that is the target's own.
const QUERIES: usize = 5;
const PAUSE: Duration = Duration::from_secs(1);

/// Makes all checks; returns those that have failed.
pub(super) fn all(
    target: &mut Db,
    o: &Options,
    plan: &Plan,
    to: &(String, u16),
    events: &dyn Listener,
    cancel: &Cancel,
) -> Result<Vec<String>> {
    let mut f = Findings {
        events,
        failed: Vec::new(),
    };
    let (host, port) = target.default_channel()?.source;
    let source = if (&host, port) == (&to.0, to.1) {
        Found::Nothing
    } else {
        Found::Error(format!(
            "the target replicates from {host}:{port}, not from {}:{}",
            to.0, to.1
        ))
    };
    f.add(Check::Source, source);
    let own = match own_transactions(target, o, to, cancel) {
        Err(e) if e.is_cancelled() => return Err(e),
        Err(e) => Found::Warning(format!(
            "whether the target has errant transactions is not known: {e}"
        )),
        Ok(own) if own.is_empty() => Found::Nothing,
        Ok(own) => Found::Error(format!(
            "the target has errant transactions ({}): something writes to it; find it, set read_only, and run a new seed",
            shortened(&own)
        )),
    };
    f.add(Check::OwnTransactions, own);
    let events = target.column("SELECT CONCAT(EVENT_SCHEMA, '.', EVENT_NAME) FROM information_schema.EVENTS WHERE STATUS = 'ENABLED'")?;
    f.add(Check::Events, match events.len() {
        0 => Found::Nothing,
        n => Found::Warning(format!(
            "{n} events are enabled on the target and run there as well as on the source when event_scheduler is ON: {}",
            events.join(", ")
        )),
    });
    for (name, before) in READ_ONLY.iter().zip(&plan.read_only) {
        let now = target.global(name)?;
        let found = if now == *before {
            Found::Nothing
        } else {
            Found::Warning(format!("{name} of the target is {now}, it was {before}"))
        };
        f.add(Check::ReadOnly, found);
    }
    Ok(f.failed)
}

/// GTIDs that the target has and its source has not.
fn own_transactions(
    target: &mut Db,
    o: &Options,
    to: &(String, u16),
    cancel: &Cancel,
) -> Result<String> {
    if target.server.flavour == Flavour::MariaDb {
        return target.own_in_binlog();
    }
    let have = target.gtid_executed()?;
    let mut source = None;
    missing_on(&have, PAUSE, cancel, || {
        let source = match &mut source {
            Some(open) => open,
            none => none.insert(Db::open("source", &to.0, to.1, &o.mysql)?),
        };
        source.gtid_executed()
    })
}

enum Found {
    Nothing,
    Warning(String),
    Error(String),
}

struct Findings<'a> {
    events: &'a dyn Listener,
    failed: Vec<String>,
}

impl Findings<'_> {
    fn add(&mut self, check: Check, found: Found) {
        let (verdict, text) = match &found {
            Found::Nothing => (Verdict::Ok, ""),
            Found::Warning(text) => (Verdict::Warning, text.as_str()),
            Found::Error(text) => (Verdict::Error, text.as_str()),
        };
        self.events.report(&Event::Verification {
            check,
            verdict,
            text,
        });
        if let Found::Error(text) = found {
            self.failed.push(text);
        }
    }
}

/// What a MySQL target has executed and its source has not. With `--connect-to` the source may be a little behind itself.
fn missing_on(
    have: &GtidSet,
    pause: Duration,
    cancel: &Cancel,
    mut source: impl FnMut() -> Result<GtidSet>,
) -> Result<String> {
    for query in 1.. {
        let left = have.minus(&source()?);
        if left.is_empty() || query == QUERIES {
            return Ok(left.to_string());
        }
        if !cancel.sleep(pause) {
            break;
        }
    }
    Err(Error::cancelled())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mysql_source_that_is_a_moment_behind_is_queried_again() {
        let set = |last: usize| {
            GtidSet::parse(&format!("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-{last}")).unwrap()
        };
        let have = set(9);
        let pause = Duration::from_millis(1);
        let mut queries = 0;
        let own = missing_on(&have, pause, &Cancel::default(), || {
            queries += 1;
            Ok(set(7 + queries))
        });
        assert_eq!((own.unwrap().as_str(), queries), ("", 2));
        let mut queries = 0;
        let own = missing_on(&have, pause, &Cancel::default(), || {
            queries += 1;
            Ok(set(7))
        });
        let wanted = "3e11fa47-71ca-11e1-9e33-c80aa9429562:8-9";
        assert_eq!((own.unwrap().as_str(), queries), (wanted, QUERIES));
        let cancel = Cancel::default();
        cancel.cancel("test");
        let own = missing_on(&have, pause, &cancel, || Ok(GtidSet::default()));
        assert!(own.unwrap_err().is_cancelled());
    }
}

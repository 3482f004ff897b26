//! GTID sets of MySQL (tagged ones included) and GTID lists of MariaDB: parse, normalise, compare.

use super::text::{excerpt, number};
use crate::error::{Error, Result};
use crate::mysql::binlog_file::Gtid;
use std::collections::BTreeMap;
use std::fmt;

/// Transaction numbers, both ends included.
type Interval = (u64, u64);

/// A MySQL GTID set: `uuid:[tag:]interval[:[tag:]interval]...` joined by commas. Tags exist since MySQL 8.3;
/// MySQL Shell itself creates the tag `mysqlsh`.
///
/// [`fmt::Display`] gives the server's own order on one line: UUIDs in lower case and sorted, per UUID the untagged
/// intervals first and then the tags, intervals sorted and merged, `,` without a space.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GtidSet {
    /// By (UUID, tag), `""` for no tag. Intervals are sorted and neither overlap nor touch; none is empty.
    members: BTreeMap<(String, String), Vec<Interval>>,
}

impl GtidSet {
    /// Parses a set as servers and tools print it: any number of intervals, upper or lower case, line breaks after the
    /// commas, also as the two characters `\n` that batch output of the mysql client shows.
    /// Blank text is the empty set. A trailing comma is an error: the text was cut.
    pub fn parse(text: &str) -> Result<Self> {
        let mut set = Self::default();
        let text = text.replace("\\n", "\n");
        if text.trim().is_empty() {
            return Ok(set);
        }
        for member in text.split(',').map(str::trim) {
            set.add_member(member).map_err(|why| {
                Error::permanent(format!(
                    "GTID set is not valid at {}: {why}",
                    excerpt(member)
                ))
            })?;
        }
        for intervals in set.members.values_mut() {
            merge(intervals);
        }
        Ok(set)
    }

    /// One `uuid:...` between commas; intervals are appended unsorted.
    fn add_member(&mut self, member: &str) -> std::result::Result<(), &'static str> {
        let mut parts = member.split(':').map(str::trim);
        let uuid = parts
            .next()
            .filter(|u| is_uuid(u))
            .ok_or("a server UUID is expected")?
            .to_ascii_lowercase();
        let mut tag = String::new();
        let mut wants_interval = true; // after the UUID's colon and after a tag
        for part in parts {
            if part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
                if (wants_interval && !tag.is_empty()) || !is_tag(part) {
                    return Err(
                        "a tag is at most 32 letters, digits and _, and intervals follow it",
                    );
                }
                tag = part.to_ascii_lowercase();
                wants_interval = true;
            } else {
                let interval = parse_interval(part)
                    .ok_or("an interval is N or N-M with 1 <= N <= M < 2^63-1")?;
                self.members
                    .entry((uuid.clone(), tag.clone()))
                    .or_default()
                    .push(interval);
                wants_interval = false;
            }
        }
        (!wants_interval)
            .then_some(())
            .ok_or("an interval is missing")
    }

    /// True if no transaction is in the set.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The transactions of this set that are not in `other`. `target.minus(&source)` are errant transactions.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        let mut left = self.clone();
        left.members.retain(|key, have| {
            if let Some(gone) = other.members.get(key) {
                *have = subtract(have, gone);
            }
            !have.is_empty()
        });
        left
    }
}

impl fmt::Display for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last_uuid = "";
        for ((uuid, tag), intervals) in &self.members {
            if uuid != last_uuid {
                let comma = if last_uuid.is_empty() { "" } else { "," };
                write!(f, "{comma}{uuid}")?;
                last_uuid = uuid;
            }
            if !tag.is_empty() {
                write!(f, ":{tag}")?;
            }
            for (first, last) in intervals {
                if first == last {
                    write!(f, ":{first}")?
                } else {
                    write!(f, ":{first}-{last}")?
                }
            }
        }
        Ok(())
    }
}

/// A MariaDB GTID position: `domain-server-seq[,...]`, one GTID per replication domain, as in gtid_slave_pos and
/// gtid_binlog_pos.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MariaDbGtidList {
    domains: BTreeMap<u32, Gtid>,
}

impl MariaDbGtidList {
    /// Parses a position; blank text is the empty one. A domain that is named twice is an error, as to the server (1943).
    pub fn parse(text: &str) -> Result<Self> {
        let mut list = Self::default();
        if text.trim().is_empty() {
            return Ok(list);
        }
        for gtid in text.split(',').map(str::trim) {
            let at = parse_mariadb_gtid(gtid).ok_or_else(|| {
                Error::permanent(format!(
                    "MariaDB GTID {} is not valid: domain-server-sequence is expected",
                    excerpt(gtid)
                ))
            })?;
            if list.set(at).is_some() {
                return Err(Error::permanent(format!(
                    "MariaDB GTID position names domain {} twice",
                    at.domain
                )));
            }
        }
        Ok(list)
    }

    pub(crate) fn get(&self, domain: u32) -> Option<Gtid> {
        self.domains.get(&domain).copied()
    }

    /// Sets the position in the domain of `gtid`, and returns the one before.
    pub(crate) fn set(&mut self, gtid: Gtid) -> Option<Gtid> {
        self.domains.insert(gtid.domain, gtid)
    }

    /// True if no domain is named.
    pub fn is_empty(&self) -> bool {
        self.domains.is_empty()
    }
}

impl fmt::Display for MariaDbGtidList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for gtid in self.domains.values() {
            write!(f, "{comma}{gtid}")?;
            comma = ",";
        }
        Ok(())
    }
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_hexdigit(),
        })
}

/// The first character has been checked.
fn is_tag(text: &str) -> bool {
    text.len() <= 32 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// MySQL's numbers go from 1 to 2^63-2.
fn parse_interval(text: &str) -> Option<Interval> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last): Interval = (number(first.trim_end())?, number(last.trim_start())?);
    (1 <= first && first <= last && last < i64::MAX as u64).then_some((first, last))
}

fn parse_mariadb_gtid(text: &str) -> Option<Gtid> {
    let mut parts = text.split('-');
    let gtid = Gtid {
        domain: number(parts.next()?)?,
        server: number(parts.next()?)?,
        sequence: number(parts.next()?)?,
    };
    parts.next().is_none().then_some(gtid)
}

/// Sorts, and joins intervals that overlap or touch.
fn merge(intervals: &mut Vec<Interval>) {
    intervals.sort_unstable();
    intervals.dedup_by(|next, kept| {
        let joins = next.0 <= kept.1 + 1; // below 2^63: no overflow
        if joins {
            kept.1 = kept.1.max(next.1);
        }
        joins
    });
}

/// `have` without `gone`; both sorted and merged.
fn subtract(have: &[Interval], gone: &[Interval]) -> Vec<Interval> {
    let mut left = Vec::new();
    let mut gone = gone.iter().peekable();
    for &(mut first, last) in have {
        while gone.next_if(|g| g.1 < first).is_some() {}
        while let Some(&&(from, to)) = gone.peek().filter(|g| g.0 <= last) {
            if first < from {
                left.push((first, from - 1));
            }
            first = to + 1;
            if to > last {
                break; // may also cut the next interval
            }
            gone.next();
        }
        if first <= last {
            left.push((first, last));
        }
    }
    left
}

#[cfg(test)]
mod tests;

//! What a log holds that is to be applied.

use super::{BUFFER, Event, Events, MAGIC, invalid, kind, server_of, u32_at};
use crate::mysql::{Flavour, Server};
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufReader, Cursor, Read};

/// Flag of a MariaDB GTID event: the group is one statement without a COMMIT.
const FL_STANDALONE: u8 = 1;

/// Where a transaction is in MariaDB's history of a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gtid {
    pub(crate) domain: u32,
    pub(crate) server: u32,
    pub(crate) sequence: u64,
}

impl fmt::Display for Gtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.domain, self.server, self.sequence)
    }
}

/// What a log holds that is to be applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Contents {
    /// The server whose transactions they are.
    pub(crate) server: Server,
    pub(crate) transactions: u64,
    /// MariaDB: the first and the last complete transaction of each domain.
    pub(crate) domains: BTreeMap<u32, (Gtid, Gtid)>,
}

impl Contents {
    fn new(server: Server) -> Self {
        Self {
            server,
            transactions: 0,
            domains: BTreeMap::new(),
        }
    }
}

/// What a format description means, without the time at which it was written and its checksum.
fn format_of(body: &[u8]) -> Vec<u8> {
    let lengths = body.get(56..body.len().saturating_sub(4));
    [body.get(..52), lengths]
        .map(Option::unwrap_or_default)
        .concat()
}

/// Reads a log to its end.
///
/// # Errors
/// It is not a log, is encrypted, ends within an event, or begins within a transaction: its first part would be missing, and MySQL would
/// give the rest a GTID of its own.
pub(crate) fn contents(log: impl Read) -> io::Result<Contents> {
    let from = BufReader::with_capacity(BUFFER, log);
    let mut events = Events::open(from, "the relay log".into(), None)?;
    let mut found: Option<Contents> = None;
    let mut group = Group::default();
    let mut format = Vec::new();
    while let Some(event) = events.next()? {
        if event.kind() == kind::FORMAT_DESCRIPTION {
            let body = events.body()?;
            let server = server_of(&body);
            let server = server.ok_or_else(|| {
                invalid("the relay log has a format description that cannot be read".into())
            })?;
            let contents = found.get_or_insert_with(|| Contents::new(server));
            if !event.is_of_relay_log() {
                let (new, before) = (format_of(&body), contents.server.version);
                if server.flavour == Flavour::MySql && group.begun && new != format {
                    return Err(invalid(format!(
                        "the relay log has transactions of two formats ({before}, then {} at {}): mysql cannot execute them one \
                         after the other (error 1837), so take them in two parts",
                        server.version, event.at
                    )));
                }
                format = new;
            }
            contents.server = server;
            continue;
        }
        let contents = found.as_mut().ok_or_else(|| {
            invalid("the relay log does not begin with a format description".into())
        })?;
        group.read(&event, &mut events, contents)?;
    }
    found.ok_or_else(|| invalid("the relay log has no event".into()))
}

/// The transaction that is being read.
#[derive(Default)]
struct Group {
    /// Any has begun.
    begun: bool,
    gtid: Option<Gtid>,
    /// It is one statement without a COMMIT.
    standalone: bool,
}

impl Group {
    fn read<R: Read>(
        &mut self,
        event: &Event,
        events: &mut Events<R>,
        contents: &mut Contents,
    ) -> io::Result<()> {
        let ends = match event.kind() {
            kind::ROTATE
            | kind::STOP
            | kind::PREVIOUS_GTIDS
            | kind::HEARTBEAT
            | kind::HEARTBEAT_V2
            | kind::MARIA_BINLOG_CHECKPOINT
            | kind::MARIA_GTID_LIST
            | kind::MARIA_START_ENCRYPTION => return Ok(()), // the event after it is an error
            kind::GTID | kind::ANONYMOUS_GTID | kind::GTID_TAGGED => {
                self.begin(None, contents);
                return Ok(());
            }
            kind::MARIA_GTID => {
                let body = events.body()?;
                let sequence = body.get(..8).and_then(|b| b.try_into().ok());
                let gtid = Gtid {
                    domain: u32_at(&body, 8),
                    server: event.server_id(),
                    sequence: sequence.map_or(0, u64::from_le_bytes),
                };
                self.begin(Some(gtid), contents);
                self.standalone = body.get(12).is_some_and(|flags| flags & FL_STANDALONE != 0);
                return Ok(());
            }
            kind::XID | kind::XA_PREPARE => true,
            kind::QUERY => self.standalone || is_end(&events.short_body()?),
            kind::MARIA_QUERY_COMPRESSED => self.standalone,
            _ => false,
        };
        if !self.begun && has_gtid_events(contents.server) {
            return Err(invalid(format!(
                "the relay log begins within a transaction (event of type {} at {}): take it from the position of a GTID event, which \
                 begins one",
                event.kind(),
                event.at
            )));
        }
        if ends {
            self.end(contents);
        }
        Ok(())
    }

    fn begin(&mut self, gtid: Option<Gtid>, contents: &mut Contents) {
        if gtid != self.gtid {
            self.end(contents); // one of which the end was not recognised; else one that the source has sent twice
        }
        self.begun = true;
        self.standalone = false;
        self.gtid = gtid;
        contents.transactions += 1;
        if let Some(gtid) = gtid {
            let before = Gtid {
                sequence: gtid.sequence.saturating_sub(1),
                ..gtid
            };
            contents
                .domains
                .entry(gtid.domain)
                .or_insert((gtid, before));
        }
    }

    fn end(&mut self, contents: &mut Contents) {
        if let Some(gtid) = self.gtid.take()
            && let Some((_, last)) = contents.domains.get_mut(&gtid.domain)
        {
            *last = gtid;
        }
    }
}

impl<R: Read> Events<R> {
    /// The body of an event that may be the end of a transaction; empty if it is too long for that.
    fn short_body(&mut self) -> io::Result<Vec<u8>> {
        if self.left > 1024 {
            return Ok(Vec::new());
        }
        self.body()
    }
}

/// Whether a query event is COMMIT or ROLLBACK: its statement is the last part, after a NUL, perhaps before a checksum.
fn is_end(body: &[u8]) -> bool {
    let ends = |body: &[u8]| body.ends_with(b"\0COMMIT") || body.ends_with(b"\0ROLLBACK");
    ends(body) || body.len() > 4 && ends(&body[..body.len() - 4])
}

/// Every transaction begins with a GTID event: MySQL 5.7.6 and later without GTIDs too (Anonymous_gtid), MariaDB 10.0.2 and later.
fn has_gtid_events(server: Server) -> bool {
    server.flavour == Flavour::MariaDb || server.mysql_from(5, 7, 6)
}

/// A log as mysqlbinlog of MySQL can print it for a client: after a transaction with a GTID the client cannot execute a format description
/// (error 1837, MySQL 9.7), so one that says the same again is left out, and what only a replica uses.
pub(crate) struct Applicable<R> {
    events: Events<BufReader<R>>,
    pending: Cursor<Vec<u8>>,
    begun: bool,
    /// The last one of the source.
    format: Vec<u8>,
}

impl<R: Read> Applicable<R> {
    pub(crate) fn new(log: R) -> io::Result<Self> {
        let from = BufReader::with_capacity(BUFFER, log);
        Ok(Self {
            events: Events::open(from, "the relay log".into(), None)?,
            pending: Cursor::new(MAGIC.to_vec()),
            begun: false,
            format: Vec::new(),
        })
    }

    /// Goes on to the next event that is used, which is pending then. False at the end.
    fn advance(&mut self) -> io::Result<bool> {
        while let Some(event) = self.events.next()? {
            let mut pending = event.header.to_vec();
            match event.kind() {
                kind::ROTATE | kind::STOP | kind::PREVIOUS_GTIDS => continue,
                kind::FORMAT_DESCRIPTION => {
                    let body = self.events.body()?;
                    let format = format_of(&body);
                    let of_source = !event.is_of_relay_log();
                    if self.begun && (!of_source || format == self.format) {
                        continue;
                    }
                    pending.extend(body);
                    self.begun = true;
                    // mysqlbinlog does not print a replica's own one.
                    self.format = if of_source { format } else { Vec::new() };
                }
                _ => {}
            }
            self.pending = Cursor::new(pending);
            return Ok(true);
        }
        Ok(false)
    }
}

impl<R: Read> Read for Applicable<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let n = self.pending.read(buf)?;
            if n > 0 || buf.is_empty() {
                return Ok(n);
            }
            let n = self.events.read_body(buf)?;
            if n > 0 {
                return Ok(n);
            }
            if !self.advance()? {
                return Ok(0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::*;
    use super::*;

    #[test]
    fn transactions_of_mariadb_and_the_one_that_is_incomplete() {
        let events = [
            format(MARIA),
            event(kind::MARIA_GTID_LIST, &[0; 4]),
            gtid(4, 0),
            query("INSERT"),
            event(kind::XID, &[0; 8]),
            gtid(5, FL_STANDALONE),
            query("CREATE TABLE t (a INT)"),
            gtid(6, 0),
            query("INSERT"),
            query("COMMIT"),
            gtid(7, 0),
            query("INSERT"),
        ];
        for (n, last, transactions) in [(12, 6, 4), (10, 6, 3), (7, 5, 2), (6, 4, 2), (4, 3, 1)] {
            let found = contents(&log(&events[..n])[..]).unwrap();
            assert_eq!(found.transactions, transactions, "{n}");
            assert_eq!(found.domains[&1], (of(4), of(last)), "{n}");
        }
        let all = contents(&log(&events)[..]).unwrap();
        assert_eq!(all.server.flavour, Flavour::MariaDb);
        // The source sends a transaction again when it was interrupted.
        let twice = [&events[..4], &[format(MARIA)], &events[2..5]].concat();
        let found = contents(&log(&twice)[..]).unwrap();
        assert_eq!(found.domains[&1], (of(4), of(4)));
    }

    #[test]
    fn a_log_that_cannot_be_applied() {
        let within = [format(MYSQL), event(kind::ROTATE, b"x"), query("BEGIN")];
        let gtids = [format(MYSQL), event(kind::ANONYMOUS_GTID, &[0; 42])];
        let encrypted = [
            format(MARIA),
            event(kind::MARIA_START_ENCRYPTION, &[0; 17]),
            event(200, b"?"),
        ];
        let good = log(&gtids);
        assert_eq!(contents(&good[..]).unwrap().transactions, 1);
        for (bytes, why) in [
            (log(&within), "begins within a transaction"),
            (log(&[]), "has no event"),
            (log(&gtids[1..]), "does not begin with a format description"),
            (log(&encrypted), "is encrypted"),
            (good[..good.len() - 1].to_vec(), "ends within the event"),
            (good[..good.len() - 50].to_vec(), "ends within the event"),
            (good[..3].to_vec(), "not a binary log"),
            ([good, vec![0; 19]].concat(), "no valid event"),
        ] {
            let e = contents(&bytes[..]).unwrap_err().to_string();
            assert!(e.contains(why), "{why}: {e}");
        }
        // Before it had GTID events.
        let old = [format("5.6.24"), query("BEGIN"), query("COMMIT")];
        assert_eq!(contents(&log(&old)[..]).unwrap().transactions, 0);
    }

    #[test]
    fn mysql_gets_a_format_once() {
        let own = |mut event: Vec<u8>| {
            event[17] |= 0x40;
            event
        };
        let of_relay = own(format(MYSQL));
        let gtid = event(kind::GTID, &[1; 42]);
        let events = [
            of_relay.clone(),
            event(kind::PREVIOUS_GTIDS, &[0; 12]),
            event(kind::ROTATE, b"x"),
            format(MYSQL),
            gtid.clone(),
            query("one"),
            of_relay.clone(),
            event(kind::ROTATE, b"y"),
            format(MYSQL),
            gtid.clone(),
        ];
        let mut bytes = Vec::new();
        let relayed = log(&events);
        let mut log_of_mysql = Applicable::new(&relayed[..]).unwrap();
        log_of_mysql.read_to_end(&mut bytes).unwrap();
        let wanted = [of_relay, format(MYSQL), gtid.clone(), query("one"), gtid];
        assert_eq!(bytes, log(&wanted));
        let upgraded = [&events[..6], &[format("9.8.0")]].concat();
        let e = contents(&log(&upgraded)[..]).unwrap_err().to_string();
        assert!(e.contains("two formats"), "{e}");
    }
}

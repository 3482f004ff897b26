//! Files of the binary log and of the relay log: their events one by one, and a range of events as a log of its own.
//!
//! Layout (MySQL Internals Manual, "The Binary Log"; MariaDB, "Replication Protocol"): four bytes, then events, each with a header of 19 bytes
//! (timestamp 4, type 1, server id 4, length 4, end position 4, flags 2) and perhaps a checksum of 4 bytes at its end. The first event is a
//! format description, and a relay log has those of its source too: an event means what the last one before it says.

mod contents;
mod range;

pub(crate) use contents::{Applicable, Contents, Gtid, contents};
pub(crate) use range::{Range, written_by};

use super::Server;
use crate::sys::host::human_bytes;
use std::io::{self, ErrorKind, Read};

const MAGIC: [u8; 4] = *b"\xfebin";
/// Files that MySQL 8.0.14 and later encrypt begin so (manual, "Encrypting Binary Log Files and Relay Log Files").
const MAGIC_ENCRYPTED: [u8; 4] = *b"\xfdbin";
/// Bytes of an event's header.
const HEADER: usize = 19;
/// The part of an event that is read at a time.
const BUFFER: usize = 64 << 10;
/// Longest event that is kept in memory: format descriptions and lists of GTIDs have some hundred bytes for each UUID or domain.
const KEPT: u64 = 16 << 20;

/// Event types (MySQL's libbinlogevents, MariaDB's log_event.h).
mod kind {
    pub(super) const QUERY: u8 = 2;
    pub(super) const STOP: u8 = 3;
    pub(super) const ROTATE: u8 = 4;
    pub(super) const FORMAT_DESCRIPTION: u8 = 15;
    pub(super) const XID: u8 = 16;
    pub(super) const HEARTBEAT: u8 = 27;
    pub(super) const GTID: u8 = 33;
    pub(super) const ANONYMOUS_GTID: u8 = 34;
    pub(super) const PREVIOUS_GTIDS: u8 = 35;
    pub(super) const XA_PREPARE: u8 = 38;
    pub(super) const HEARTBEAT_V2: u8 = 41;
    pub(super) const GTID_TAGGED: u8 = 42;
    pub(super) const MARIA_BINLOG_CHECKPOINT: u8 = 161;
    pub(super) const MARIA_GTID: u8 = 162;
    pub(super) const MARIA_GTID_LIST: u8 = 163;
    pub(super) const MARIA_START_ENCRYPTION: u8 = 164;
    /// A query event that log_bin_compress has compressed.
    pub(super) const MARIA_QUERY_COMPRESSED: u8 = 165;
}

/// One event, of which the header has been read.
#[derive(Debug, Clone, Copy)]
struct Event {
    /// Its place in the file.
    at: u64,
    header: [u8; HEADER],
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let bytes = bytes.get(at..at + 4).and_then(|b| b.try_into().ok());
    bytes.map_or(0, u32::from_le_bytes)
}

impl Event {
    fn kind(&self) -> u8 {
        self.header[4]
    }

    fn server_id(&self) -> u32 {
        u32_at(&self.header, 5)
    }

    /// The event is a replica's own (LOG_EVENT_RELAY_LOG_F).
    fn is_of_relay_log(&self) -> bool {
        self.header[17] & 0x40 != 0
    }

    /// Bytes with header and checksum.
    fn length(&self) -> u64 {
        u64::from(u32_at(&self.header, 9))
    }

    fn end(&self) -> u64 {
        self.at + self.length()
    }
}

/// Reads a log event by event.
struct Events<R> {
    from: R,
    /// For messages.
    name: String,
    /// Bytes read.
    at: u64,
    /// Where the file ended when it was opened: what is appended later is not read.
    size: Option<u64>,
    /// Of the event whose header was read last.
    left: u64,
    is_encrypted: bool,
}

impl<R: Read> Events<R> {
    /// Checks the first four bytes.
    fn open(mut from: R, name: String, size: Option<u64>) -> io::Result<Self> {
        let mut magic = [0; 4];
        let n = fill(&mut from, &mut magic)?;
        if magic == MAGIC_ENCRYPTED {
            return Err(invalid(format!("{name} is encrypted ({ENCRYPTED})")));
        }
        if n < 4 || magic != MAGIC {
            return Err(invalid(format!(
                "{name} is not a binary log: it does not begin with fe 62 69 6e"
            )));
        }
        Ok(Self {
            from,
            name,
            at: 4,
            size,
            left: 0,
            is_encrypted: false,
        })
    }

    /// The next event, of which only the header is read; what was not read of the one before is skipped. `None` at the end, and where
    /// the file ends within the event, which is still being written, or was when the server died.
    fn next(&mut self) -> io::Result<Option<Event>> {
        self.skip()?;
        if self.is_encrypted {
            return Err(invalid(format!("{} is encrypted ({ENCRYPTED})", self.name)));
        }
        if self.size.is_some_and(|size| size < self.at + HEADER as u64) {
            return Ok(None);
        }
        let mut header = [0; HEADER];
        match fill(&mut self.from, &mut header)? {
            0 if self.size.is_none() => return Ok(None),
            HEADER => {}
            _ => return Err(self.cut_short()),
        }
        let event = Event {
            at: self.at,
            header,
        };
        if event.length() < HEADER as u64 {
            let (name, at) = (&self.name, self.at);
            return Err(invalid(format!("{name} has no valid event at {at}")));
        }
        if self.size.is_some_and(|size| size < event.end()) {
            return Ok(None);
        }
        self.at += HEADER as u64;
        self.left = event.length() - HEADER as u64;
        self.is_encrypted = event.kind() == kind::MARIA_START_ENCRYPTION;
        Ok(Some(event))
    }

    /// Skips what was not read of the last event.
    fn skip(&mut self) -> io::Result<()> {
        let left = self.left;
        if io::copy(&mut self.from.by_ref().take(left), &mut io::sink())? < left {
            return Err(self.cut_short());
        }
        self.at += left;
        self.left = 0;
        Ok(())
    }

    /// What follows the header of the last event.
    fn body(&mut self) -> io::Result<Vec<u8>> {
        if self.left > KEPT {
            let size = human_bytes(self.left);
            let text = format!(
                "{} has a header event of {size} before {}",
                self.name, self.at
            );
            return Err(invalid(text));
        }
        let mut body = Vec::new();
        self.from.by_ref().take(self.left).read_to_end(&mut body)?;
        if (body.len() as u64) < self.left {
            return Err(self.cut_short());
        }
        self.at += self.left;
        self.left = 0;
        Ok(body)
    }

    /// A part of the same; 0 at its end.
    fn read_body(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Ok(0);
        }
        let n = self.from.by_ref().take(self.left).read(buf)?;
        if n == 0 {
            return Err(self.cut_short());
        }
        self.left -= n as u64;
        self.at += n as u64;
        Ok(n)
    }

    fn cut_short(&self) -> io::Error {
        let (name, at) = (&self.name, self.at);
        let text = format!("{name} ends within the event that begins before {at}");
        io::Error::new(ErrorKind::UnexpectedEof, text)
    }
}

const ENCRYPTED: &str = "binlog_encryption, encrypt_binlog), and only its server can read it: take the events from the server by mysqlbinlog --read-from-remote-server";

fn invalid(text: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, text)
}

/// Reads until `buf` is full or the input ends.
fn fill(from: &mut impl Read, buf: &mut [u8]) -> io::Result<usize> {
    let mut n = 0;
    while n < buf.len() {
        match from.read(&mut buf[n..]) {
            Ok(0) => break,
            Ok(more) => n += more,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(n)
}

/// What a format description says of the server that has written it: version 50 bytes after the format's number (2).
fn server_of(body: &[u8]) -> Option<Server> {
    let version = body.get(2..52)?;
    let version = version.split(|b| *b == 0).next()?;
    Server::parse(str::from_utf8(version).ok()?, "").ok()
}

#[cfg(test)]
mod tests;

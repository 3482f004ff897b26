//! Logs that are made of events.

use super::contents::Gtid;
use super::{HEADER, MAGIC, kind};

pub(super) const MARIA: &str = "10.11.19-MariaDB-log";
pub(super) const MYSQL: &str = "9.7.4";

pub(super) fn event(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER + body.len()).unwrap();
    let mut bytes = vec![0; 4];
    bytes.push(kind);
    bytes.extend(7u32.to_le_bytes());
    bytes.extend(length.to_le_bytes());
    bytes.extend([0; 6]);
    bytes.extend(body);
    bytes
}

pub(super) fn format(version: &str) -> Vec<u8> {
    let mut body = vec![4, 0];
    body.extend(version.as_bytes());
    body.resize(52, 0);
    body.extend([0, 0, 0, 0, 19]);
    event(kind::FORMAT_DESCRIPTION, &body)
}

pub(super) fn gtid(sequence: u64, flags: u8) -> Vec<u8> {
    let mut body = sequence.to_le_bytes().to_vec();
    body.extend(1u32.to_le_bytes());
    body.push(flags);
    event(kind::MARIA_GTID, &body)
}

pub(super) fn query(text: &str) -> Vec<u8> {
    let body = [&[0; 13], "shop\0".as_bytes(), text.as_bytes(), b"crc4"].concat();
    event(kind::QUERY, &body)
}

pub(super) fn log(events: &[Vec<u8>]) -> Vec<u8> {
    [MAGIC.to_vec(), events.concat()].concat()
}

pub(super) fn of(sequence: u64) -> Gtid {
    Gtid {
        domain: 1,
        server: 7,
        sequence,
    }
}

//! What is read of a certificate: the organizational units of its subject, how long it is valid, and whether it may sign others. A
//! walk of the DER encoding (X.690, RFC 5280 4.1) of untrusted bytes: whatever they are, it ends and does not panic.

use std::time::{Duration, SystemTime};

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OID: u8 = 0x06;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
const OCTETS: u8 = 0x04;
/// 2.5.29.19, basicConstraints.
const BASIC_CONSTRAINTS: [u8; 3] = [0x55, 0x1d, 0x13];
/// BOOLEAN TRUE.
const TRUE: [u8; 3] = [0x01, 0x01, 0xff];
/// 2.5.4.11, organizationalUnitName.
const ORGANIZATIONAL_UNIT: [u8; 3] = [0x55, 0x04, 0x0b];

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Certificate {
    /// All OU values of the subject, in order.
    pub(crate) organizational_units: Vec<String>,
    /// From then on it is not valid any more.
    pub(crate) not_after: SystemTime,
    /// True if its basic constraints make it an authority; one of X.509 v1 or v2, which knows no such thing, is taken for one.
    pub(crate) is_authority: bool,
}

impl Certificate {
    /// `None` if these bytes are no certificate.
    pub(crate) fn parse(der: &[u8]) -> Option<Self> {
        let mut certificate = Der(Der(der).value(SEQUENCE)?);
        let mut signed = Der(certificate.value(SEQUENCE)?);
        let mut is_authority = true;
        if signed.0.first() == Some(&VERSION) {
            let (_, version) = signed.next()?;
            is_authority = version != [0x02, 0x01, 0x02]; // v3 says it itself
        }
        for _ in ["serial number", "algorithm", "issuer"] {
            signed.next()?;
        }
        let mut validity = Der(signed.value(SEQUENCE)?);
        validity.next()?;
        let (tag, not_after) = validity.next()?;
        let not_after = time(tag, not_after)?;
        let organizational_units = units(Der(signed.value(SEQUENCE)?))?;
        while !signed.0.is_empty() {
            let (tag, value) = signed.next()?;
            if tag == EXTENSIONS {
                is_authority |= signs(Der(Der(value).value(SEQUENCE)?))?;
            }
        }
        Some(Self {
            organizational_units,
            not_after,
            is_authority,
        })
    }
}

/// A subject is a sequence of sets of (type, value).
fn units(mut subject: Der) -> Option<Vec<String>> {
    let mut found = Vec::new();
    while !subject.0.is_empty() {
        let mut set = Der(subject.value(SET)?);
        while !set.0.is_empty() {
            let mut attribute = Der(set.value(SEQUENCE)?);
            if attribute.value(OID)? == ORGANIZATIONAL_UNIT {
                let (tag, value) = attribute.next()?;
                found.extend(text(tag, value));
            }
        }
    }
    Some(found)
}

/// Extensions are a sequence of (type, critical or nothing, value).
fn signs(mut extensions: Der) -> Option<bool> {
    while !extensions.0.is_empty() {
        let mut extension = Der(extensions.value(SEQUENCE)?);
        if extension.value(OID)? == BASIC_CONSTRAINTS {
            let (mut tag, mut value) = extension.next()?;
            if tag != OCTETS {
                (tag, value) = extension.next()?;
            }
            let constraints = Der(value).value(SEQUENCE).filter(|_| tag == OCTETS)?;
            return Some(constraints.starts_with(&TRUE));
        }
    }
    Some(false)
}

/// A text in one of the forms that names have; `None` for others, which then match no setting.
fn text(tag: u8, value: &[u8]) -> Option<String> {
    match tag {
        // UTF8String, PrintableString, IA5String
        0x0c | 0x13 | 0x16 => String::from_utf8(value.to_vec()).ok(),
        // TeletexString, in practice Latin-1
        0x14 => Some(value.iter().map(|b| char::from(*b)).collect()),
        // BMPString
        0x1e if value.len().is_multiple_of(2) => {
            let units = value.chunks(2).map(|c| u16::from_be_bytes([c[0], c[1]]));
            char::decode_utf16(units).collect::<Result<_, _>>().ok()
        }
        _ => None,
    }
}

/// UTCTime `YYMMDDHHMMSSZ` or GeneralizedTime `YYYYMMDDHHMMSSZ`, the forms of RFC 5280 4.1.2.5.
fn time(tag: u8, value: &[u8]) -> Option<SystemTime> {
    let digits = value.strip_suffix(b"Z")?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = |at: std::ops::Range<usize>| {
        let digits = digits.get(at)?;
        Some(digits.iter().fold(0, |n, d| n * 10 + u64::from(d - b'0')))
    };
    let (year, at) = match (tag, digits.len()) {
        (0x17, 12) => match number(0..2)? {
            y if y < 50 => (2000 + y, 2),
            y => (1900 + y, 2),
        },
        (0x18, 14) => (number(0..4)?, 4),
        _ => return None,
    };
    let part = |n: usize| number(at + 2 * n..at + 2 * n + 2);
    let (month, day) = (part(0)?, part(1)?);
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let seconds = days(year, month, day) * 86_400 + part(2)? * 3600 + part(3)? * 60 + part(4)?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// Days from 1970-01-01 in the Gregorian calendar; years begin in March here, so that the leap day is their last.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = match month {
        1 | 2 => (year - 1, month + 9),
        _ => (year, month - 3),
    };
    let leaps = year / 4 - year / 100 + year / 400;
    // 1970-01-01 is day 719468 of this count.
    365 * year + leaps + (153 * month + 2) / 5 + day - 1 - 719_468
}

/// Values one after the other.
#[derive(Clone, Copy)]
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, first], mut rest) = self.0.split_first_chunk()?;
        if tag & 0x1f == 0x1f {
            return None; // a tag of several bytes: nothing of what is read here
        }
        let length = match first {
            0..=0x7f => usize::from(first),
            // No certificate has 2^32 bytes; 0x80 is the indefinite form, which DER does not have.
            0x81..=0x84 => {
                let (length, after) = rest.split_at_checked(usize::from(first - 0x80))?;
                rest = after;
                length.iter().fold(0, |n, b| (n << 8) | usize::from(*b))
            }
            _ => return None,
        };
        let (value, after) = rest.split_at_checked(length)?;
        self.0 = after;
        Some((tag, value))
    }

    fn value(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(t, _)| *t == tag).map(|(_, v)| v)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, DnValue, KeyPair};

    #[test]
    fn authorities_say_so() {
        use rcgen::{BasicConstraints, IsCa};
        let of = |is_ca| {
            let mut params = CertificateParams::new(vec!["db.test".to_string()]).unwrap();
            params.is_ca = is_ca;
            let key = KeyPair::generate().unwrap();
            let made = params.self_signed(&key).unwrap();
            Certificate::parse(made.der()).unwrap().is_authority
        };
        assert!(of(IsCa::Ca(BasicConstraints::Unconstrained)));
        assert!(of(IsCa::Ca(BasicConstraints::Constrained(0))));
        assert!(!of(IsCa::ExplicitNoCa));
        assert!(!of(IsCa::NoCa));
    }

    fn made(units: &[DnValue], year: i32) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["db.test".to_string()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 2, 28);
        params
            .distinguished_name
            .push(DnType::OrganizationName, "O");
        for (i, unit) in units.iter().enumerate() {
            // rcgen keeps one value a type: further ones come by the number of the type.
            let kind = match i {
                0 => DnType::OrganizationalUnitName,
                _ => DnType::CustomDnType(vec![2, 5, 4, 11]),
            };
            params.distinguished_name.push(kind, unit.clone());
        }
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    fn seconds(t: SystemTime) -> u64 {
        t.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
    }

    #[test]
    fn units_and_the_end() {
        let der = made(
            &[
                DnValue::Utf8String("Datenbänke".into()),
                DnValue::PrintableString("dba".try_into().unwrap()),
            ],
            2031,
        );
        let found = Certificate::parse(&der).unwrap();
        assert_eq!(found.organizational_units, ["Datenbänke", "dba"]);
        assert_eq!(seconds(found.not_after), 1_930_003_200); // date -ud 2031-02-28 +%s
        assert_eq!(
            seconds(Certificate::parse(&made(&[], 2100)).unwrap().not_after),
            4_107_456_000
        );
        let bmp = DnValue::BmpString("dba".try_into().unwrap());
        let found = Certificate::parse(&made(&[bmp], 2031)).unwrap();
        assert_eq!(found.organizational_units, ["dba"]);
    }

    #[test]
    fn times() {
        let of = |tag, text: &str| time(tag, text.as_bytes()).map(seconds);
        assert_eq!(of(0x17, "000229120000Z"), Some(951_825_600));
        assert_eq!(of(0x17, "700101000000Z"), Some(0));
        assert_eq!(of(0x18, "20501231235959Z"), Some(2_556_143_999));
        for bad in [
            "",
            "Z",
            "0002291200Z",
            "000229120000",
            "00022912000zZ",
            "001329120000Z",
            "490000000000Z",
        ] {
            assert_eq!(of(0x17, bad), None, "{bad}");
        }
        assert_eq!(of(0x17, "500101000000Z"), None, "1950");
        assert!(of(0x18, "99991231235959Z").is_some());
    }

    #[test]
    fn whatever_the_bytes_are_it_ends() {
        let der = made(&[DnValue::Utf8String("dba".into())], 2031);
        let right = Certificate::parse(&der).unwrap();
        for n in 0..der.len() {
            assert_eq!(Certificate::parse(&der[..n]), None, "cut at {n}");
            for bit in 0..8 {
                let mut bytes = der.clone();
                bytes[n] ^= 1 << bit;
                let _ = Certificate::parse(&bytes);
            }
        }
        assert_eq!(
            Certificate::parse(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]),
            None
        );
        assert_eq!(right.organizational_units, ["dba"]);
    }
}

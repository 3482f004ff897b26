//! `allowed-clients`: which addresses may connect at all.

use crate::error::{Error, Result};
use std::net::{IpAddr, Ipv6Addr};

/// A list of addresses and networks. An empty list permits all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowList(Vec<Network>);

/// Addresses whose first `prefix` bits are those of `base`. IPv4 is kept as IPv4-mapped IPv6 (`::ffff:a.b.c.d`), which
/// is also how a dual-stack listener sees IPv4 clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    base: u128,
    prefix: u32,
}

impl AllowList {
    /// Reads entries such as `10.1.2.3`, `10.0.0.0/8`, `2001:db8::/32`, `::1`. Bits behind the prefix are ignored.
    pub(crate) fn parse(entries: &[String]) -> Result<Self> {
        entries
            .iter()
            .map(|e| Network::parse(e.trim()))
            .collect::<Result<_>>()
            .map(Self)
    }

    /// True if a client with this address may connect.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let bits = mapped(address);
        self.0.is_empty() || self.0.iter().any(|n| (bits ^ n.base) & n.mask() == 0)
    }
}

impl Network {
    fn parse(entry: &str) -> Result<Self> {
        let bad = |why: &str| {
            Error::permanent(format!(
                "allowed-clients in [common]: \"{entry}\" {why}; write an address such as 10.1.2.3 or a network such \
                 as 10.0.0.0/8 or 2001:db8::/32"
            ))
        };
        let parts = entry.split_once('/');
        let (address, prefix) = parts.map_or((entry, None), |(a, prefix)| (a, Some(prefix)));
        let address: IpAddr = address
            .parse()
            .map_err(|_| bad("is not an IP address or network"))?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => width,
            // u32's parser would take "+8".
            Some(p) if p.bytes().all(|b| b.is_ascii_digit()) => {
                p.parse().ok().filter(|p| *p <= width).ok_or_else(|| {
                    bad(&format!(
                        "has a prefix length that is not between 0 and {width}"
                    ))
                })?
            }
            Some(_) => return Err(bad("has a prefix length that is not a number")),
        };
        Ok(Self {
            base: mapped(address),
            prefix: 128 - width + prefix,
        })
    }

    fn mask(self) -> u128 {
        // A shift by 128 is an overflow, so prefix 0 needs its own answer.
        u128::MAX.checked_shl(128 - self.prefix).unwrap_or(0)
    }
}

fn mapped(address: IpAddr) -> u128 {
    let v6: Ipv6Addr = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    v6.to_bits()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[&str]) -> Result<AllowList> {
        AllowList::parse(&entries.iter().map(|e| (*e).to_string()).collect::<Vec<_>>())
    }

    #[test]
    fn who_may_connect() {
        for (entries, permitted, refused) in [
            ("", "203.0.113.9 2001:db8::1", ""),
            ("10.1.2.3, ::1 ", "10.1.2.3 ::1", "10.1.2.4"),
            ("10.0.0.0/8", "10.255.0.1 ::ffff:10.1.2.3", "11.0.0.1"),
            ("192.168.1.77/30", "192.168.1.79", "192.168.1.80"), // host bits are ignored
            ("2001:db8::/32", "2001:db8::1", "2001:db9::1"),
            ("0.0.0.0/0", "203.0.113.9", "2001:db8::1"), // all of IPv4 is not all
            ("::/0", "203.0.113.9", ""),
            ("::ffff:10.1.2.3", "10.1.2.3", ""),
        ] {
            let entries: Vec<_> = entries.split(',').filter(|e| !e.is_empty()).collect();
            let all = list(&entries).unwrap();
            let permits = |address: &str| all.contains(address.parse().unwrap());
            assert!(permitted.split_whitespace().all(permits), "{entries:?}");
            assert!(!refused.split_whitespace().any(permits), "{entries:?}");
        }
    }

    #[test]
    fn nonsense_is_an_error_that_names_the_entry_and_the_setting() {
        for bad in [
            "",
            "db1",
            "10.0.0.0/33",
            "10.0.0/8",
            "::/129",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.0/8/8",
        ] {
            let text = list(&["10.1.2.3", bad]).unwrap_err().to_string();
            assert!(
                text.contains("allowed-clients") && text.contains(&format!("\"{bad}\"")),
                "{text}"
            );
        }
    }
}

//! Who guesses tokens waits: answers to failed ones come the later, the more of them an address has had. A delay, never a
//! lock-out, and only of the failed answers: a good client at the same address is answered at once.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// After so long without a failure an address begins anew.
const FORGOTTEN: Duration = Duration::from_secs(60);
/// The first delay; each further failure doubles it.
const FIRST: Duration = Duration::from_millis(50);
/// The longest delay: within the second in which everybody is answered (P9).
const LONGEST: Duration = Duration::from_millis(400);
/// Addresses that are remembered.
const REMEMBERED: usize = 1024;

/// Failures by address.
#[derive(Debug, Default)]
pub(super) struct Strikes(Mutex<HashMap<IpAddr, (u32, Instant)>>);

impl Strikes {
    /// One more failure from `address`: how long its answer waits. The first `free` in a row do not; with `free` = 0 none does.
    pub(super) fn strike(&self, address: IpAddr, free: u32) -> Duration {
        if free == 0 {
            return Duration::ZERO;
        }
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if all.len() >= REMEMBERED {
            all.retain(|_, (_, last)| last.elapsed() < FORGOTTEN);
        }
        if all.len() >= REMEMBERED {
            let oldest = all.iter().min_by_key(|(_, (_, last))| *last);
            if let Some(address) = oldest.map(|(address, _)| *address) {
                all.remove(&address);
            }
        }
        let (count, last) = all.entry(household(address)).or_insert((0, now));
        if last.elapsed() >= FORGOTTEN {
            *count = 0;
        }
        (*count, *last) = (count.saturating_add(1), now);
        match count.checked_sub(free + 1) {
            None => Duration::ZERO,
            Some(n) => LONGEST.min(FIRST * 2_u32.pow(n.min(10))),
        }
    }
}

/// An IPv6 client has a whole network of 64 bits to take addresses from.
fn household(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_by_address_and_have_an_end() {
        let strikes = Strikes::default();
        let of = |address: &str| strikes.strike(address.parse().unwrap(), 3).as_millis();
        let all: Vec<u128> = (0..12).map(|_| of("192.0.2.1")).collect();
        assert_eq!(all, [0, 0, 0, 50, 100, 200, 400, 400, 400, 400, 400, 400]);
        assert_eq!(
            of("::ffff:192.0.2.1"),
            400,
            "as a dual-stack listener sees it"
        );
        assert_eq!(of("192.0.2.2"), 0);
        for n in 0..3 {
            assert_eq!(of(&format!("2001:db8::{n}")), 0);
        }
        assert_eq!(of("2001:db8::9"), 50, "the same network");
        assert_eq!(
            strikes.strike("192.0.2.1".parse().unwrap(), 0),
            Duration::ZERO
        );
    }

    #[test]
    fn memory_is_bounded() {
        let strikes = Strikes::default();
        for n in 0..3 * REMEMBERED as u32 {
            strikes.strike(IpAddr::V4(n.into()), 1);
        }
        assert!(strikes.0.lock().unwrap().len() <= REMEMBERED);
    }
}

//! Durations as the Go agents' configuration writes them: `300ms`, `10s`, `1m0s`, `2h45m`.

use std::time::Duration;

/// Reads a Go duration (`time.ParseDuration`): an optional sign, then numbers with an
/// optional fraction, each followed by one of the units ns, us, ms, s, m, h; `0` needs no unit. A negative
/// duration is well-formed to Go but means nothing as a setting, so it is refused here.
/// The error is the reason alone; the caller adds key and value.
pub(crate) fn parse(text: &str) -> Result<Duration, &'static str> {
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if unsigned == "0" {
        return Ok(Duration::ZERO);
    }
    if unsigned.is_empty() {
        return Err("not a duration");
    }
    let mut nanos: u64 = 0;
    let mut rest = unsigned;
    while !rest.is_empty() {
        let part;
        (part, rest) = component(rest)?;
        nanos = nanos.checked_add(part).ok_or(TOO_LONG)?;
    }
    // Go keeps nanoseconds in an int64; what it refuses as too long is refused here too.
    if nanos > i64::MAX as u64 {
        return Err(TOO_LONG);
    }
    if negative && nanos > 0 {
        return Err("a negative duration makes no sense here");
    }
    Ok(Duration::from_nanos(nanos))
}

const MISSING_UNIT: &str = "missing unit in duration";
const TOO_LONG: &str = "duration too long (the limit is about 292 years)";

/// The nanoseconds of the first number with its unit, and the text behind it.
fn component(text: &str) -> Result<(u64, &str), &'static str> {
    let (whole, rest) = digits(text);
    let (fraction, rest) = rest.strip_prefix('.').map_or(("", rest), digits);
    if whole.is_empty() && fraction.is_empty() {
        return Err("not a duration");
    }
    let end = rest
        .find(|c: char| c == '.' || c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(end);
    let unit: u64 = match unit {
        "" => return Err(MISSING_UNIT),
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000, // micro sign and Greek mu, as in Go
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return Err("unknown unit in duration"),
    };
    let whole: u64 = match whole {
        "" => 0,
        digits => digits.parse().map_err(|_| TOO_LONG)?,
    };
    let nanos = whole.checked_mul(unit).ok_or(TOO_LONG)?;
    // In floating point, as Go does it: 0.3333333333333333333h is 20 minutes. More digits cannot change the result.
    let (mut value, mut scale) = (0u64, 1f64);
    for digit in fraction.bytes().take(19) {
        value = value * 10 + u64::from(digit - b'0');
        scale *= 10.0;
    }
    let part = (value as f64 * (unit as f64 / scale)) as u64;
    Ok((nanos.checked_add(part).ok_or(TOO_LONG)?, rest))
}

/// The leading decimal digits, and the rest.
fn digits(text: &str) -> (&str, &str) {
    text.split_at(
        text.find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nanos(text: &str) -> u128 {
        parse(text).unwrap().as_nanos()
    }

    #[test]
    fn go_forms() {
        assert_eq!(nanos("300ms"), 300_000_000);
        assert_eq!(nanos("10s"), 10_000_000_000);
        assert_eq!(nanos("1m0s"), 60_000_000_000);
        assert_eq!(nanos("60m0s"), 3_600_000_000_000);
        assert_eq!(nanos("2h45m"), 9_900_000_000_000);
        assert_eq!(nanos("+5s"), 5_000_000_000);
        assert_eq!(nanos("1ns2us3ms"), 3_002_001);
        assert_eq!(nanos("7\u{b5}s"), 7_000);
        assert_eq!(nanos("7\u{3bc}s"), 7_000);
        assert_eq!(nanos("1s1s"), 2_000_000_000);
    }

    #[test]
    fn fractions() {
        assert_eq!(nanos("1.5h"), 5_400_000_000_000);
        assert_eq!(nanos(".5s"), 500_000_000);
        assert_eq!(nanos("5.s"), 5_000_000_000);
        assert_eq!(nanos("0.9ns"), 0);
        assert_eq!(nanos("0.3333333333333333333333h"), 1_200_000_000_000);
        assert_eq!(nanos("39h9m14.425s"), 140_954_425_000_000);
    }

    #[test]
    fn zero_needs_no_unit() {
        for zero in ["0", "+0", "-0", "0s", "-0s", "0h0m"] {
            assert_eq!(nanos(zero), 0, "{zero}");
        }
    }

    #[test]
    fn missing_unit() {
        for bad in ["3", "00", "1m30", "1.5"] {
            assert_eq!(parse(bad), Err("missing unit in duration"), "{bad}");
        }
    }

    #[test]
    fn malformed() {
        for bad in ["", "+", "-", ".", ".s", "s", "--1s", " 1s", "ten s"] {
            assert_eq!(parse(bad), Err("not a duration"), "{bad}");
        }
        for bad in ["1d", "1 s", "1s ", "1S", "1min", "1e3s", "1-s"] {
            assert_eq!(parse(bad), Err("unknown unit in duration"), "{bad}");
        }
    }

    #[test]
    fn overflow() {
        assert_eq!(nanos("9223372036854775807ns"), i64::MAX as u128);
        for bad in [
            "9223372036854775808ns",
            "2562048h",
            "99999999999999999999s",
            "2562047h48m",
        ] {
            assert_eq!(parse(bad), Err(TOO_LONG), "{bad}");
        }
    }

    #[test]
    fn negative_is_refused() {
        assert!(parse("-5s").unwrap_err().contains("negative"));
    }
}

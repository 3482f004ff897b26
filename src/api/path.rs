//! Paths and queries as the Go agent's router reads them.

/// Percent-decodes a path. `None` if it is not UTF-8 or an escape is malformed.
pub(super) fn decode(raw: &str) -> Option<String> {
    unescape(raw, false)
}

/// The first value of a query parameter. One with a malformed escape counts as missing.
pub(super) fn parameter(query: &str, name: &str) -> Option<String> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if unescape(key, true)? == name {
            unescape(value, true)
        } else {
            None
        }
    })
}

/// All values of a query parameter that may be repeated, in order.
pub(super) fn parameters(query: &str, name: &str) -> Vec<String> {
    let pairs = query.split('&');
    pairs.filter_map(|pair| parameter(pair, name)).collect()
}

fn unescape(raw: &str, plus_is_blank: bool) -> Option<String> {
    let mut out = Vec::with_capacity(raw.len());
    let mut bytes = raw.bytes();
    while let Some(b) = bytes.next() {
        out.push(match b {
            b'%' => {
                let digit = |b: Option<u8>| char::from(b?).to_digit(16);
                let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
                u8::try_from(high * 16 + low).ok()?
            }
            b'+' if plus_is_blank => b' ',
            b => b,
        });
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        assert_eq!(
            decode("/api/get%2Dagent%2Ddata").unwrap(),
            "/api/get-agent-data"
        );
        assert!(decode("/%zz").is_none() && decode("/%e").is_none() && decode("/%ff").is_none());
    }

    #[test]
    fn queries() {
        let q = "lv=/dev/vg/snap&token=a%2Bb+c&token=second";
        assert_eq!(parameter(q, "lv").unwrap(), "/dev/vg/snap"); // orchestrator does not escape slashes
        assert_eq!(parameter(q, "token").unwrap(), "a+b c");
        assert_eq!(parameter(q, "none"), None);
        assert_eq!(parameters(q, "token"), ["a+b c", "second"]);
        assert_eq!(parameter("token", "token").unwrap(), "");
    }
}

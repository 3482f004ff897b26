//! Paths and queries as the Go agent's router takes them (agent-api-v2 0.1, 8.12).

/// Percent-decodes a path. `None` if it is no UTF-8 or an escape is broken.
pub fn decode(raw: &str) -> Option<String> {
    unescape(raw, false)
}

/// The segments of a path; one trailing slash is allowed.
pub fn segments(path: &str) -> Vec<&str> {
    let inner = path.strip_prefix('/').unwrap_or(path);
    inner
        .strip_suffix('/')
        .unwrap_or(inner)
        .split('/')
        .collect()
}

/// The first value of a query parameter. Broken escapes make it unreadable, which is as if it were not there.
pub fn parameter(query: &str, name: &str) -> Option<String> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if unescape(key, true)? == name {
            unescape(value, true)
        } else {
            None
        }
    })
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
    fn paths_are_decoded_before_they_are_matched() {
        assert_eq!(
            segments(&decode("/api/prepare/5/Mysqldump/Target/").unwrap()),
            ["api", "prepare", "5", "Mysqldump", "Target"]
        );
        assert_eq!(
            decode("/api/get%2Dagent%2Ddata").unwrap(),
            "/api/get-agent-data"
        );
        assert_eq!(segments("/api//x"), ["api", "", "x"]);
        assert!(decode("/%zz").is_none() && decode("/%e").is_none() && decode("/%ff").is_none());
    }

    #[test]
    fn queries() {
        let q = "lv=/dev/vg/snap&token=a%2Bb+c&token=second";
        assert_eq!(parameter(q, "lv").unwrap(), "/dev/vg/snap"); // 8.12: raw slashes
        assert_eq!(parameter(q, "token").unwrap(), "a+b c");
        assert_eq!(parameter(q, "none"), None);
        assert_eq!(parameter("token", "token").unwrap(), "");
    }
}

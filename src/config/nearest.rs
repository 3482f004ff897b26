//! What a misspelt or misplaced name was probably meant to be.

use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Section to the names of its keys in all their spellings.
pub(super) type Known = BTreeMap<String, Vec<String>>;

/// A hint for an unknown key.
pub(super) fn hint(section: &str, key: &str, known: &Known) -> Option<String> {
    let here = known.get(section).into_iter().flatten();
    elsewhere(section, key, known).or_else(|| similar(key, here.map(String::as_str)))
}

/// `it belongs to [x]`, if other sections have this very key.
pub(super) fn elsewhere(section: &str, key: &str, known: &Known) -> Option<String> {
    let places: Vec<_> = known
        .iter()
        .filter(|(place, _)| *place != section)
        .filter(|(_, names)| names.iter().any(|name| name.eq_ignore_ascii_case(key)))
        .map(|(place, _)| format!("[{place}]"))
        .collect();
    (!places.is_empty()).then(|| format!("it belongs to {}", places.join(" or ")))
}

/// `did you mean "x"?`, if one of the names is close enough.
pub(super) fn similar<'a>(key: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    nearest(key, names).map(|name| format!("did you mean \"{name}\"?"))
}

/// The name that differs least, unless it differs too much.
pub(crate) fn nearest<'a>(key: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let key = key.to_ascii_lowercase().replace('_', "-");
    let limit = if key.len() < 6 { 2 } else { 3 };
    // Of equally near names the one that begins like the key: --sorce is --source rather than --force.
    let differs = |name: &str| key.bytes().zip(name.bytes()).position(|(a, b)| a != b);
    let rank = |name: &'a str| {
        let lower = name.to_ascii_lowercase();
        (distance(&key, &lower), Reverse(differs(&lower)), name)
    };
    let (distance, _, name) = names.map(rank).min()?;
    (distance <= limit && distance < key.len()).then_some(name)
}

/// How many letters must be put in, left out or replaced to make `b` out of `a` (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let replace = corner + usize::from(ca != *cb);
            corner = row[j + 1];
            row[j + 1] = replace.min(corner + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Known {
        [
            ("common", vec!["port", "seed-port"]),
            ("mysql", vec!["port", "boot-timeout"]),
            (
                "xtrabackup",
                vec!["socat-ssl-cat-file", "socat-ssl-ca-file"],
            ),
        ]
        .map(|(section, keys)| (section.into(), keys.into_iter().map(String::from).collect()))
        .into()
    }

    #[test]
    fn distances() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("port", "port"), 0);
    }

    #[test]
    fn misspelt() {
        let hint = |key| hint("common", key, &known());
        assert_eq!(hint("prot").unwrap(), "did you mean \"port\"?");
        assert_eq!(hint("Seed_Port").unwrap(), "did you mean \"seed-port\"?");
        assert_eq!(
            nearest("sorce", ["force", "source"].into_iter()),
            Some("source")
        );
        assert_eq!(hint("something-else"), None);
        assert_eq!(hint("xy"), None);
    }

    #[test]
    fn misplaced() {
        let hint = |section, key| hint(section, key, &known()).unwrap();
        assert_eq!(hint("common", "Boot-Timeout"), "it belongs to [mysql]");
        assert_eq!(hint("lvm", "port"), "it belongs to [common] or [mysql]");
        assert_eq!(
            hint("lvm", "socat-ssl-ca-file"),
            "it belongs to [xtrabackup]"
        );
    }
}

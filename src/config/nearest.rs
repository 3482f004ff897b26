//! What a misspelt or misplaced key was probably meant to be.

/// A hint for an unknown key, from all known keys (section and `|`-separated spellings).
pub(super) fn hint(section: &str, key: &str, known: &[(String, &'static str)]) -> Option<String> {
    let here = known.iter().filter(|(place, _)| place == section);
    let here = here.flat_map(|(_, names)| names.split('|'));
    elsewhere(section, key, known).or_else(|| similar(key, here))
}

/// `it belongs to [x]`, if other sections have this very key.
pub(super) fn elsewhere(
    section: &str,
    key: &str,
    known: &[(String, &'static str)],
) -> Option<String> {
    let has = |names: &str| names.split('|').any(|name| name.eq_ignore_ascii_case(key));
    let places: Vec<_> = known
        .iter()
        .filter(|(place, names)| place != section && has(names))
        .map(|(place, _)| format!("[{place}]"))
        .collect();
    (!places.is_empty()).then(|| format!("it belongs to {}", places.join(" or ")))
}

/// `did you mean "x"?`, if one of the names is close enough.
pub(super) fn similar<'a>(key: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    let key = key.to_ascii_lowercase().replace('_', "-");
    let limit = if key.len() < 6 { 2 } else { 3 };
    let (distance, name) = names.map(|name| (distance(&key, name), name)).min()?;
    (distance <= limit && distance < key.len()).then(|| format!("did you mean \"{name}\"?"))
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

    fn known() -> Vec<(String, &'static str)> {
        vec![
            ("common".into(), "port"),
            ("common".into(), "seed-port"),
            ("mysql".into(), "port"),
            ("mysql".into(), "boot-timeout"),
            ("xtrabackup".into(), "socat-ssl-cat-file|socat-ssl-ca-file"),
        ]
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

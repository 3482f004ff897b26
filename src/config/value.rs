//! How values are read for which serde has no type: numbers within a range, addresses, log levels, command lines.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use log::LevelFilter;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A whole number within a range.
pub(super) fn range<'de, D: Deserializer<'de>, T: TryFrom<i128>, const MIN: u64, const MAX: u64>(
    deserializer: D,
) -> Result<T, D::Error> {
    struct Range<T, const MIN: u64, const MAX: u64>(PhantomData<T>);

    impl<T: TryFrom<i128>, const MIN: u64, const MAX: u64> Visitor<'_> for Range<T, MIN, MAX> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
            write!(f, "a whole number from {MIN} to {MAX}, without quotes")
        }

        fn visit_i128<E: Error>(self, number: i128) -> Result<T, E> {
            let fits = (i128::from(MIN)..=i128::from(MAX)).contains(&number);
            let value = T::try_from(number).ok().filter(|_| fits);
            value.ok_or_else(|| E::custom(format!("expected a whole number from {MIN} to {MAX}")))
        }
    }

    deserializer.deserialize_any(Range::<T, MIN, MAX>(PhantomData))
}

pub(super) fn port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    range::<_, _, 1, 65535>(deserializer)
}

/// `[custom-commands.NAME]`: every sub-section's `cmd`.
pub(super) fn commands<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    #[derive(Deserialize)]
    struct Command {
        #[serde(default)]
        cmd: String,
    }
    let commands = BTreeMap::<String, Command>::deserialize(deserializer)?;
    Ok(commands
        .into_iter()
        .map(|(name, c)| (name, c.cmd))
        .collect())
}

/// `logging.level`
pub(super) mod level {
    use super::*;

    pub(in crate::config) fn serialize<S: serde::Serializer>(
        level: &LevelFilter,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(level.as_str())
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<LevelFilter, D::Error> {
        let word = String::deserialize(deserializer)?;
        let level = LevelFilter::from_str(&word)
            .ok()
            .filter(|l| *l != LevelFilter::Off);
        level.ok_or_else(|| {
            D::Error::custom(
                "ignored and \"info\" used; the levels are error, warn, info, debug, trace",
            )
        })
    }
}

/// `orchestrator.url`: one address or a list. A missing one is left to the validation.
pub(super) fn urls<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct Urls;

    impl<'de> Visitor<'de> for Urls {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
            f.write_str("a string in quotes or a list of strings")
        }

        fn visit_str<E: Error>(self, one: &str) -> Result<Vec<String>, E> {
            if one.trim().is_empty() {
                return Ok(Vec::new());
            }
            let url = address(one).map_err(|why| E::custom(format!("{why}; {WRITE_IT}")))?;
            Ok(vec![url])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<String>, A::Error> {
            let (mut urls, mut wrong) = (Vec::new(), Vec::new());
            while let Some(given) = list.next_element::<String>()? {
                match address(&given) {
                    Ok(url) => urls.push(url),
                    Err(why) => wrong.push(format!("{given:?}: {why}")),
                }
            }
            if wrong.is_empty() {
                return Ok(urls);
            }
            Err(A::Error::custom(format!(
                "{}; {WRITE_IT}",
                wrong.join("; ")
            )))
        }
    }

    deserializer.deserialize_any(Urls)
}

const WRITE_IT: &str = "write it like \"http://orchestrator.example.com\"";

/// `scheme://host[:port][/prefix]`, with `http` as the scheme where there is none, and no slash at the end.
fn address(given: &str) -> Result<String, &'static str> {
    let url = given.trim().trim_end_matches('/');
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest),
        // The slashes of a bare "http://" are gone by now.
        None if url.ends_with(':') => return Err("the host is empty"),
        None => ("http".into(), url),
    };
    if scheme != "http" && scheme != "https" {
        return Err("the scheme must be http or https");
    }
    let (authority, prefix) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if authority.is_empty() || authority.starts_with(':') {
        return Err("the host is empty");
    }
    if rest.contains(['?', '#', '@']) || !prefix.chars().all(|c| c.is_ascii_graphic()) {
        return Err("there must be nothing but a path behind the host");
    }
    let (host, port) = match authority
        .strip_prefix('[')
        .and_then(|v6| v6.split_once(']'))
    {
        Some((host, "")) => (host, None),
        Some((host, rest)) => (host, Some(rest.strip_prefix(':').unwrap_or("?"))),
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_:%".contains(c);
    if !host.chars().all(allowed) {
        return Err("this is not a host name or address");
    }
    let is_port =
        |p: &str| p.bytes().all(|b| b.is_ascii_digit()) && p.parse::<u16>().is_ok_and(|p| p > 0);
    if port.is_some_and(|p| !is_port(p)) {
        return Err(
            "the port is not a number from 1 to 65535, and an IPv6 address belongs into [ ]",
        );
    }
    Ok(format!("{scheme}://{rest}"))
}

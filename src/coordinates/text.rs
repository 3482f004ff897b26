//! Numbers and excerpts of what the parsers read.

use crate::error::{Error, Result};

/// A binlog position in decimal digits.
pub(super) fn parse_position(text: &str) -> Result<u64> {
    number(text).ok_or_else(|| {
        Error::permanent(format!("binlog position {} is not a number", excerpt(text)))
    })
}

/// Decimal digits only: `str::parse` alone would also take a plus sign.
pub(super) fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// The text in quotes for an error message: ASCII, at most 60 characters.
pub(super) fn excerpt(text: &str) -> String {
    let short: String = text
        .chars()
        .take(60)
        .flat_map(char::escape_default)
        .collect();
    let dots = text.chars().nth(60).map_or("", |_| "...");
    format!("'{short}{dots}'")
}

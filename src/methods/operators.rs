//! Additional options of operators, for any tool.

use crate::config::Config;
use crate::seed::types::Method;
use std::collections::BTreeSet;

/// The name of an option, with dashes, and its value: what comes after `=` or white space.
fn parts(item: &str) -> (String, Option<&str>) {
    let split = item.split_once(|c: char| c == '=' || c.is_whitespace());
    let (name, value) = split.map_or((item, None), |(name, value)| (name, Some(value.trim())));
    (name.replace('_', "-"), value)
}

/// The operator's options without reserved ones, which are reported. An option and its value may also stand in two items of the list, in
/// which case the value goes with its option; a short option may have its value attached.
pub(super) fn operators(
    options: &[String],
    reserved: &[&'static str],
) -> (Vec<String>, Vec<&'static str>) {
    let (mut kept, mut dropped) = (Vec::new(), Vec::new());
    let mut value_of_dropped = false;
    for item in options.iter().map(|o| o.trim()).filter(|i| !i.is_empty()) {
        if value_of_dropped && !item.starts_with('-') {
            value_of_dropped = false;
            continue; // may be a password: not reported
        }
        let (name, value) = parts(item);
        if let Some(found) = reserved.iter().find(|r| names(&name, r)) {
            dropped.push(*found);
            value_of_dropped = value.is_none() && **found == name;
            continue;
        }
        value_of_dropped = false;
        // One item with a blank between option and value is two arguments for a program.
        match item.split_once(char::is_whitespace) {
            Some((option, value)) if item.starts_with('-') && !option.contains('=') => {
                kept.extend([option.to_string(), value.trim().to_string()]);
            }
            _ => kept.push(item.to_string()),
        }
    }
    (kept, dropped)
}

/// An item's option in the form in which it is listed: the long name without value and with dashes, or two characters.
pub(super) fn is(item: &str, listed: &str) -> bool {
    let (name, value) = parts(item.trim());
    if let Some((listed, wanted)) = listed.split_once('=') {
        return is(&name, listed) && value.is_some_and(|v| v.eq_ignore_ascii_case(wanted));
    }
    names(&name, listed)
}

/// A short option may have its value attached.
fn names(name: &str, listed: &str) -> bool {
    name == listed || (listed.len() == 2 && !name.starts_with("--") && name.starts_with(listed))
}

/// The tables that the operator's options leave out of a dump by `method`, as `schema.table`.
pub(super) fn left_out(config: &Config, method: Method) -> BTreeSet<String> {
    match method {
        Method::Mysqldump => ignored(&config.mysqldump.additional_opts),
        _ => BTreeSet::new(),
    }
}

/// The tables of `--ignore-table`.
pub(super) fn ignored(options: &[String]) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    let mut previous = false;
    for item in options.iter().map(|o| o.trim()) {
        let (name, value) = parts(item);
        if previous {
            out.insert(item.to_string());
        } else if name == "--ignore-table" {
            out.extend(value.map(str::to_string));
        }
        previous = name == "--ignore-table" && value.is_none();
    }
    out
}

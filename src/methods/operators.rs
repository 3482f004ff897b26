//! Additional options of operators, for any tool.

/// The operator's options without reserved ones, which are reported. A name is what comes before `=` or white space; an
/// option and its value may also stand in two items of the list, in which case the value goes with its option; a short
/// option may have its value attached.
pub(super) fn operators(
    options: &[String],
    reserved: &[&'static str],
) -> (Vec<String>, Vec<&'static str>) {
    let (mut kept, mut dropped) = (Vec::new(), Vec::new());
    let mut value_of_dropped = false;
    for item in options {
        let item = item.trim();
        if item.is_empty() {
            continue;
        }
        if value_of_dropped && !item.starts_with('-') {
            value_of_dropped = false;
            continue; // may be a password: not reported
        }
        let name = name(item);
        if let Some(found) = reserved.iter().find(|r| names(&name, r)) {
            dropped.push(*found);
            value_of_dropped = item.len() == name.len() && **found == name;
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
    let item = item.trim();
    if let Some((name, value)) = listed.split_once('=') {
        let given = item.split_once(|c: char| c == '=' || c.is_whitespace());
        return given.is_some_and(|(n, g)| is(n, name) && g.trim().eq_ignore_ascii_case(value));
    }
    names(&name(item), listed)
}

fn name(item: &str) -> String {
    let name = item.split(|c: char| c == '=' || c.is_whitespace()).next();
    name.unwrap_or_default().replace('_', "-")
}

/// A short option may have its value attached.
fn names(name: &str, listed: &str) -> bool {
    name == listed || (listed.len() == 2 && !name.starts_with("--") && name.starts_with(listed))
}

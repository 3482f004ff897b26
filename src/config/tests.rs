//! What the tests share: a minimal file with changes.

mod classic;
mod documents;
mod faults;
mod keys;
mod load;
mod reloaded;
mod rules;

use super::*;

/// The smallest valid file, with more keys put into its sections: `(section, keys)`.
fn file(more: &[(&str, &str)]) -> String {
    let sections = [
        ("common", "backup-dir = \"/no/such/backup\""),
        ("orchestrator", "url = \"http://orchestrator\""),
        ("mysql", "user = \"agent\"\npassword = \"pw\""),
    ];
    let mut text = String::new();
    for (section, keys) in sections {
        text += &format!("[{section}]\n{keys}\n");
        for (_, more) in more.iter().filter(|(place, _)| *place == section) {
            // What the test gives replaces what is there.
            let key = more.split(' ').next().unwrap();
            text = text.replace(&format!("\n{key} = "), "\n# was ");
            text += &format!("{more}\n");
        }
    }
    for (section, keys) in more {
        if !sections.iter().any(|(known, _)| known == section) {
            text += &format!("[{section}]\n{keys}\n");
        }
    }
    text
}

fn with(section: &str, keys: &str) -> Config {
    let loaded = parse(&file(&[(section, keys)])).unwrap();
    assert_eq!(loaded.warnings, Vec::<String>::new(), "{keys}");
    loaded.config
}

/// The text of the only fault, without its line.
#[track_caller]
fn error(section: &str, keys: &str) -> String {
    only(&parse(&file(&[(section, keys)])).unwrap_err().errors)
}

/// The text of the only warning, without its line.
#[track_caller]
fn warning(section: &str, keys: &str) -> String {
    only(&parse(&file(&[(section, keys)])).unwrap().warnings)
}

#[track_caller]
fn only(texts: &[String]) -> String {
    assert_eq!(texts.len(), 1, "{texts:?}");
    without_line(&texts[0]).into()
}

/// `line 7: text`
fn without_line(text: &str) -> &str {
    match text.strip_prefix("line ").and_then(|t| t.split_once(": ")) {
        Some((line, rest)) if line.parse::<u16>().is_ok() => rest,
        _ => text,
    }
}

#[track_caller]
fn assert_in(part: &str, text: &str) {
    assert!(text.contains(part), "{part:?} is not in {text:?}");
}

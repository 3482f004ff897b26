//! What the tests share: a minimal file with changes.

mod keys;
mod load;
mod reloaded;
mod rules;
mod sample;

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

fn error(section: &str, keys: &str) -> String {
    parse(&file(&[(section, keys)])).unwrap_err().to_string()
}

fn warning(section: &str, keys: &str) -> String {
    let warnings = parse(&file(&[(section, keys)])).unwrap().warnings;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    warnings[0].clone()
}

#[track_caller]
fn assert_in(part: &str, text: &str) {
    assert!(text.contains(part), "{part:?} is not in {text:?}");
}

//! `conf/orchestrator-agent.conf` and the tables in the documents have every key, no other, and the defaults of the structs.

use std::collections::BTreeMap;
use std::path::Path;

use toml::de::DeTable;

use super::super::document::{Origin, read};
use super::super::reloaded::RELOADED;
use super::super::{Config, Values, parse};

const SAMPLE: &str = include_str!("../../../conf/orchestrator-agent.conf");

/// The required keys have no default; the sample's values for them.
const REQUIRED: &str = r#"
[common]
backup-dir = "/var/lib/orchestrator-agent-backup"
[orchestrator]
url = "http://orchestrator.example.com"
[mysql]
user = "orchestrator-agent"
password = "change-me"
"#;

#[test]
fn parses_without_warnings() {
    assert_eq!(parse(SAMPLE).unwrap().warnings, Vec::<String>::new());
}

#[test]
fn every_key_has_its_line_of_explanation() {
    let lines: Vec<&str> = SAMPLE.lines().collect();
    for pair in lines.windows(2) {
        if pair[1].contains(" = ") && !pair[1].starts_with('#') {
            assert!(pair[0].starts_with("# "), "{}", pair[1]);
        }
    }
}

#[test]
fn custom_command_example_works() {
    let example: String = SAMPLE
        .lines()
        .filter_map(|line| line.strip_prefix("# "))
        .filter(|line| line.starts_with("[custom-commands.") || line.starts_with("cmd = "))
        .map(|line| format!("{line}\n"))
        .collect();
    let loaded = parse(&format!("{REQUIRED}{example}")).unwrap();
    assert_eq!(loaded.config.custom_commands["NAME"], "echo hello");
    assert!(loaded.warnings.is_empty());
}

#[test]
fn lines_fit_a_screen_and_are_ascii() {
    for line in SAMPLE.lines() {
        assert!(line.is_ascii() && line.len() <= 120, "{line}");
    }
}

fn defaults() -> Values {
    Values::of(&mut Config::default())
}

/// README.md and contrib/doc/*.md.
fn documents() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let entries = std::fs::read_dir(root.join("contrib/doc")).unwrap();
    let pages = entries.map(|entry| entry.unwrap().path());
    pages
        .filter(|page| page.extension().is_some_and(|e| e == "md"))
        .chain([root.join("README.md")])
        .map(|page| std::fs::read_to_string(page).unwrap())
        .collect()
}

/// `section.key` to the default, from tables headed by `| key | default | meaning |` below a line with the section's name.
fn documented() -> BTreeMap<String, String> {
    let mut keys = BTreeMap::new();
    for document in documents() {
        let (mut section, mut in_table) = ("", false);
        for line in document.lines() {
            let bare = line.trim_matches(['#', '*', ' ', '`']);
            if let Some(name) = bare.strip_prefix('[').and_then(|b| b.strip_suffix(']')) {
                section = name;
            }
            in_table = line == "| key | default | meaning |" || in_table && line.starts_with('|');
            let row = line.strip_prefix("| `").filter(|_| in_table);
            if let Some(row) = row {
                let (key, rest) = row.split_once("` | `").unwrap_or_else(|| panic!("{line}"));
                let (default, _) = rest.split_once("` | ").unwrap_or_else(|| panic!("{line}"));
                let twice = keys.insert(format!("{section}.{key}"), default.to_string());
                assert_eq!(twice, None, "{line}");
            }
        }
    }
    keys
}

/// The same from the sample; the required keys have examples in it, and no default.
fn of_sample() -> BTreeMap<String, String> {
    let mut keys = BTreeMap::new();
    let (mut section, mut required) = ("", false);
    for line in SAMPLE.lines() {
        if line.starts_with('#') {
            required = line.starts_with("# REQUIRED");
        } else if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            section = name;
        } else if let Some((key, value)) = line.split_once(" = ") {
            let value = if required { "\"\"" } else { value };
            let twice = keys.insert(format!("{section}.{key}"), value.into());
            assert_eq!(twice, None, "{line}");
        }
    }
    keys
}

#[test]
fn every_key_and_no_other_is_documented_with_its_default() {
    let known = defaults().0;
    assert!(known.len() > 90);
    for documented in [documented(), of_sample()] {
        let names: Vec<_> = documented.keys().collect();
        assert_eq!(names, known.keys().collect::<Vec<_>>());
        for (name, default) in &documented {
            let (section, key) = name.split_once('.').unwrap();
            let text = format!("[{section}]\n{key} = {default}\n");
            let origin = Origin::default();
            let (config, found) = read(DeTable::parse(&text).unwrap().get_ref(), &text, &origin);
            assert!(
                found.faults.is_empty() && found.warnings.is_empty(),
                "{text}"
            );
            assert_eq!(config, Config::default(), "{text}");
        }
    }
}

#[test]
fn the_documents_name_the_keys_that_are_reloaded() {
    let documents = documents();
    let paragraphs = documents.iter().flat_map(|text| text.split("\n\n"));
    let about: Vec<_> = paragraphs.filter(|p| p.contains("SIGHUP")).collect();
    let sample = SAMPLE.split("\n\n").find(|p| p.contains("SIGHUP")).unwrap();
    let known = defaults().0;
    let names = RELOADED.map(|key| key.split_once('.').map_or(key, |(_, name)| name));
    for (key, name) in RELOADED.iter().zip(names) {
        assert!(
            known.contains_key(*key) || *key == "custom-commands",
            "{key}"
        );
        assert!(sample.contains(name), "conf: {name}");
    }
    let all = |p: &&str| names.iter().all(|name| p.contains(&format!("`{name}`")));
    assert!(
        about.iter().any(all),
        "no paragraph on SIGHUP names all of {names:?}"
    );
}

//! `conf/orchestrator-agent.conf` is the reference for users: it must name every key, and tell the truth.

use crate::config::reader::Reader;
use crate::config::{build, parse};

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
fn values_are_the_defaults() {
    assert_eq!(
        parse(SAMPLE).unwrap().config,
        parse(REQUIRED).unwrap().config
    );
}

#[test]
fn every_key_once_in_its_documented_spelling() {
    let mut reader = Reader::new(SAMPLE).unwrap();
    build::build(&mut reader).unwrap();
    assert!(reader.known().len() > 90);
    for (section, names) in reader.known() {
        let key = names.split('|').next().unwrap();
        let count = lines_of(section)
            .filter(|line| line.starts_with(&format!("{key} = ")))
            .count();
        assert_eq!(count, 1, "[{section}] {key}");
    }
    let lines = SAMPLE
        .lines()
        .filter(|line| line.contains(" = ") && !line.starts_with('#'));
    assert_eq!(lines.count(), reader.known().len());
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

/// The lines of one section.
fn lines_of(section: &str) -> impl Iterator<Item = &'static str> {
    let header = format!("[{section}]");
    SAMPLE
        .lines()
        .skip_while(move |line| *line != header)
        .skip(1)
        .take_while(|line| !line.starts_with('['))
}

#[test]
fn the_page_has_every_key_with_its_default() {
    let page = include_str!("../../../contrib/doc/configuration.md");
    let sample = include_str!("../../../conf/orchestrator-agent.conf");
    let mut required = false;
    for line in sample.lines() {
        if line.starts_with('#') {
            required = line.starts_with("# REQUIRED");
        } else if let Some((key, value)) = line.split_once(" = ") {
            let value = if required { "\"\"" } else { value };
            let row = format!("| `{key}` | `{value}` |");
            assert!(page.contains(&row), "configuration.md lacks the row {row}");
        }
    }
}

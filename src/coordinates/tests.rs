//! Every parser against a file per form and tool version: the right values, an error for each file that is at fault, and
//! neither a panic nor other values for anything cut off or damaged.

use super::*;
use std::path::{Path, PathBuf};

const SET: &str =
    "0f3c0f3c-0000-11ee-8000-0242ac110002:1-41837,39f2a384-e539-11f1-a442-02fc00000001:1-6";

/// What a fixture gives, in one form for all parsers.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Parsed {
    position: Option<(String, u64)>,
    gtid_executed: String,
    gtid_slave_pos: Option<String>,
    complete: bool,
}

impl From<Coordinates> for Parsed {
    fn from(c: Coordinates) -> Self {
        Self {
            position: Some((c.log_file, c.log_pos)),
            gtid_executed: c.gtid_executed,
            gtid_slave_pos: c.gtid_slave_pos,
            complete: true,
        }
    }
}

fn dump(bytes: &[u8]) -> Result<mysqldump::DumpHeader> {
    let tail = &bytes[bytes.len().saturating_sub(64 << 10)..];
    mysqldump::parse(&mut &bytes[..], tail)
}

fn parse(name: &str, bytes: &[u8]) -> Result<Parsed> {
    let text = String::from_utf8_lossy(bytes);
    let extension = Path::new(name).extension().unwrap().to_str().unwrap();
    match (extension, name.starts_with("lvm")) {
        ("sql", _) => dump(bytes).map(|d| Parsed {
            complete: d.complete,
            ..d.coordinates.into()
        }),
        ("binlog_info", _) => metadata::binlog_info(&text).map(Into::into),
        ("metadata", true) => metadata::snapshot(&text).map(Into::into),
        ("metadata", false) => metadata::mydumper(&text).map(Into::into),
        other => panic!("no parser for {other:?}"),
    }
}

fn directory(sub: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/coordinates")
        .join(sub)
}

fn fixtures(sub: &str) -> Vec<(String, Vec<u8>)> {
    let files = std::fs::read_dir(directory(sub))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file() && !path.ends_with("EXPECTED.tsv"));
    let mut all: Vec<_> = files
        .map(|path| {
            (
                path.file_name().unwrap().to_str().unwrap().to_string(),
                std::fs::read(&path).unwrap(),
            )
        })
        .collect();
    all.sort();
    all
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(directory("").join(name)).unwrap()
}

#[test]
fn every_form_gives_its_coordinates() {
    let table = String::from_utf8(fixture("EXPECTED.tsv")).unwrap();
    let rows: Vec<Vec<&str>> = table
        .lines()
        .skip(1)
        .map(|row| row.split('\t').collect())
        .collect();
    let all = fixtures("");
    let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        rows.iter().map(|row| row[0]).collect::<Vec<_>>(),
        "a row for each fixture"
    );
    for ((name, bytes), row) in all.iter().zip(rows) {
        let got = parse(name, bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
        let is_mysql = row[3].contains(':');
        let expected = Parsed {
            position: (!row[1].is_empty()).then(|| (row[1].to_string(), row[2].parse().unwrap())),
            gtid_executed: if is_mysql {
                row[3].to_string()
            } else {
                String::new()
            },
            gtid_slave_pos: (!is_mysql && !row[3].is_empty()).then(|| row[3].to_string()),
            complete: true,
        };
        assert_eq!(got, expected, "{name}");
    }
}

/// An error, not empty values and not a panic. The text is for people and ASCII.
#[test]
fn every_invalid_file_is_an_error() {
    let all = fixtures("invalid");
    assert!(all.len() > 35);
    for (name, bytes) in all {
        let error = parse(&name, &bytes).expect_err(&name);
        assert!(error.is_permanent(), "{name}");
        assert!(
            error.to_string().is_ascii() && error.to_string().len() > 20,
            "{name}: {error}"
        );
    }
}

/// Byte offsets of the lines of a file.
fn lines_of(bytes: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut start = 0;
    let line = |line: &[u8]| {
        let range = start..start + line.len();
        start = range.end;
        range
    };
    bytes.split_inclusive(|b| *b == b'\n').map(line).collect()
}

/// Whether `part` has the position of `whole` and nothing in its GTID set that is not in that of `whole`: to a parser the file of a
/// source that executed less, or that has GTIDs disabled, looks like this.
fn fewer_gtids(part: &Parsed, whole: &Parsed) -> bool {
    let of = |set: &str| GtidSet::parse(set).expect("canonical");
    part.position == whole.position
        && (part.gtid_slave_pos.is_none() || part.gtid_slave_pos == whole.gtid_slave_pos)
        && of(&part.gtid_executed)
            .minus(&of(&whole.gtid_executed))
            .is_empty()
}

/// A file that is cut anywhere gives the values of the complete file or an error. What an operator's snapshot procedure writes has no
/// end mark: cut behind the position it is that of a source that has GTIDs disabled.
#[test]
fn truncation_never_gives_other_values() {
    for (name, bytes) in fixtures("") {
        let whole = parse(&name, &bytes).unwrap();
        for length in 0..bytes.len() {
            let Ok(cut) = parse(&name, &bytes[..length]) else {
                continue;
            };
            let lvm = name.starts_with("lvm") && fewer_gtids(&cut, &whole);
            assert!(
                cut == whole || !cut.complete || lvm,
                "{name} cut at {length}: {cut:?}"
            );
        }
    }
}

/// A file without one of its lines gives the values of the complete file or an error. Only a line of a GTID set may be missed: a set
/// over several lines is valid without one of them, and a dump or a metadata file without any set is that of a source that has
/// GTIDs disabled. Then nothing may be added to what is left.
#[test]
fn a_removed_line_never_gives_other_values() {
    for (name, bytes) in fixtures("") {
        let whole = parse(&name, &bytes).unwrap();
        for line in lines_of(&bytes) {
            let removed = String::from_utf8_lossy(&bytes[line.clone()]).into_owned();
            let rest = [&bytes[..line.start], &bytes[line.end..]].concat();
            let Ok(got) = parse(&name, &rest) else {
                continue;
            };
            let gtids = removed.to_ascii_lowercase().contains("gtid")
                || GtidSet::parse(removed.trim().trim_end_matches([',', ';', '\''])).is_ok();
            assert!(
                got == whole || !got.complete || gtids && fewer_gtids(&got, &whole),
                "{name} without {removed:?}: {got:?}"
            );
        }
    }
}

/// A damaged byte in a line without coordinates changes no value; a quotation mark may at most hide a GTID set that follows. In a line
/// with coordinates it gives an error or values of the right form.
#[test]
fn a_damaged_byte_changes_its_own_line_only() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for (name, bytes) in fixtures("").into_iter().chain(fixtures("invalid")) {
        let whole = parse(&name, &bytes).ok();
        let step = 1 + bytes.len() / 100;
        for line in lines_of(&bytes) {
            let rest = [&bytes[..line.start], &bytes[line.end..]].concat();
            // Some versions of mydumper write them twice, so that one line may be missed.
            let text = String::from_utf8_lossy(&bytes[line.clone()]).into_owned();
            let is_set = text.to_ascii_lowercase().contains("gtid");
            let named =
                |(file, _): &(String, u64)| is_set || text.contains(file) || text.contains("POS");
            let position = whole.as_ref().and_then(|w| w.position.as_ref());
            let same = position.is_some_and(|p| !named(p)) && parse(&name, &rest).ok() == whole;
            for at in line.filter(|at| at % step == 0) {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                for value in [bytes[at] ^ (1 << (random % 8)), random as u8, b'\n', b'\''] {
                    let mut damaged = bytes.clone();
                    damaged[at] = value;
                    let Ok(got) = parse(&name, &damaged) else {
                        continue;
                    };
                    GtidSet::parse(&got.gtid_executed).unwrap();
                    if let Some((file, position)) = &got.position {
                        assert!(!file.is_empty() && *position > 0, "{name}: {got:?}");
                    }
                    let harmless = |whole: &Parsed| got == *whole || fewer_gtids(&got, whole);
                    let unchanged = whole.as_ref().is_some_and(harmless);
                    assert!(
                        !same || unchanged || !got.complete,
                        "{name} at {at}: {got:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn dumps_tell_flavour_and_where_loading_starts() {
    use crate::mysql::Flavour::{MariaDb, MySql};
    for (name, flavour) in [
        ("mariadb-dump-10.11-gtid.sql", MariaDb),
        ("mariadb-dump-11.4-sandbox.sql", MariaDb),
        ("mysqldump-10.1-mariadb.sql", MariaDb),
        ("mysqldump-9.7-gtid.sql", MySql),
    ] {
        let d = dump(&fixture(name)).unwrap();
        assert_eq!((d.flavour, d.load_from), (flavour, 0), "{name}");
    }
    let warned = fixture("mysqldump-8.0.26-master-data-warning.sql");
    let load_from = dump(&warned).unwrap().load_from;
    assert!(
        load_from > 100 && warned[load_from as usize..].starts_with(b"-- MySQL dump"),
        "{load_from}"
    );
}

#[test]
fn a_dump_without_its_last_line_is_not_complete() {
    let whole = fixture("mysqldump-8.0-gtid-multiline.sql");
    let end = whole
        .windows(18)
        .rposition(|w| w == b"-- Dump completed ")
        .unwrap();
    assert!(dump(&whole).unwrap().complete);
    assert!(!dump(&whole[..end]).unwrap().complete);
    // One that breaks off in a row, whatever the row says.
    let rows = whole.windows(6).position(|w| w == b"INSERT").unwrap();
    let cut = [
        &whole[..rows],
        b"INSERT INTO `a` VALUES ('x\n-- Dump completed\n-- y\n".as_slice(),
    ]
    .concat();
    assert!(!dump(&cut).unwrap().complete);
}

/// A row with real line breaks (another tool's, or an identifier) cannot pose as the trailer, however it ends.
#[test]
fn rows_cannot_pose_as_the_trailer() {
    let header = "-- MariaDB dump 10.19\n-- CHANGE MASTER TO MASTER_LOG_FILE='b.000001', MASTER_LOG_POS=4;\nUSE `t`;\n";
    let real = "-- SET GLOBAL gtid_slave_pos='0-1-5';\n";
    let rows = [
        "INSERT INTO a VALUES ('x\n-- SET GLOBAL gtid_slave_pos=\\'9-9-9\\';\n-- y');\n",
        "INSERT INTO a VALUES ('x\n-- SET GLOBAL gtid_slave_pos=''9-9-9'';\n-- y');\n",
        "INSERT INTO a VALUES (\"x\n-- SET GLOBAL gtid_slave_pos='9-9-9';\n-- y\");\n",
        "SELECT 1 AS `x\n-- SET GLOBAL gtid_slave_pos='9-9-9';\n-- y`;\n",
        "SELECT 1 /* x\n-- SET GLOBAL gtid_slave_pos='9-9-9';\n-- y */;\n",
    ];
    for row in rows {
        let end = "\n-- Dump completed\n";
        let got = dump(format!("{header}{row}{real}{end}").as_bytes()).unwrap();
        assert_eq!(
            got.coordinates.gtid_slave_pos.as_deref(),
            Some("0-1-5"),
            "{row}"
        );
        let got = dump(format!("{header}{row}{end}").as_bytes()).unwrap();
        assert_eq!(
            (got.complete, got.coordinates.gtid_slave_pos),
            (true, None),
            "{row}"
        );
    }
}

#[test]
fn contradictions_are_errors() {
    let text = |header: &str, trailer: &str| {
        let tool = "-- MariaDB dump 10.19\n-- CHANGE MASTER TO MASTER_LOG_FILE='b.000001', MASTER_LOG_POS=4;\n";
        format!("{tool}{header}USE `t`;\n{trailer}-- Dump completed\n")
    };
    let set = "-- SET GLOBAL gtid_slave_pos='0-1-5';\n";
    assert!(dump(text(set, set).as_bytes()).is_ok());
    assert!(dump(text(set, &set.replace('5', "6")).as_bytes()).is_err());
    assert!(
        dump(
            text(
                "",
                "-- CHANGE MASTER TO MASTER_LOG_FILE='b.000001', MASTER_LOG_POS=5;\n"
            )
            .as_bytes()
        )
        .is_err()
    );
    let long: Vec<String> = (0..2000)
        .map(|n| format!("0f3c0f3c-0000-11ee-8000-0242ac{n:06x}:1"))
        .collect();
    let long = format!("SET @@GLOBAL.GTID_PURGED='{}';\n", long.join(",\n"));
    assert!(
        dump(text("", &long).as_bytes())
            .unwrap_err()
            .to_string()
            .contains("64 KiB")
    );
}

/// A disk that fails is not a dump without coordinates.
#[test]
fn read_errors_are_told() {
    struct Failing;
    impl std::io::Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("bad sector"))
        }
    }
    let error = mysqldump::parse(&mut std::io::BufReader::new(Failing), b"").unwrap_err();
    assert!(error.to_string().contains("bad sector"), "{error}");
}

/// Without an end the search for coordinates would read a whole dump, or take it into memory.
#[test]
fn searching_the_header_is_bounded() {
    let position = "-- CHANGE MASTER TO MASTER_LOG_FILE='b.000001', MASTER_LOG_POS=4;\n";
    let long_line = format!("-- MySQL dump\n{position}-- {}", "x".repeat(9 << 20));
    let comments = format!(
        "-- MySQL dump 10.13\n{}{position}",
        "-- x\n".repeat(1 << 20)
    );
    assert!(
        dump(comments.as_bytes())
            .unwrap_err()
            .to_string()
            .contains("no binlog coordinates")
    );
    assert!(dump(long_line.as_bytes()).is_err(), "no tool line");
    let garbage = "WARNING: x\n".repeat(10_000);
    assert!(
        dump(garbage.as_bytes())
            .unwrap_err()
            .to_string()
            .contains("not the output of mysqldump")
    );
    let mut endless = b"-- MySQL dump 10.13\nSET @@GLOBAL.GTID_PURGED='".to_vec();
    endless.resize(70 << 20, b'1');
    let error = dump(&endless).unwrap_err().to_string();
    assert!(error.contains("64 MiB"), "{error}");
}

/// A set of 20 000 UUIDs (about 1 MB) is still read.
#[test]
fn large_gtid_sets_are_read() {
    let set: Vec<String> = (0..20_000)
        .map(|n| format!("0f3c0f3c-0000-11ee-8000-0242ac{n:06x}:1-9"))
        .collect();
    let text = format!(
        "-- MySQL dump 10.13\nSET @@GLOBAL.GTID_PURGED=/*!80000 '+'*/ '{}';\n-- CHANGE MASTER TO MASTER_LOG_FILE='b.000001', MASTER_LOG_POS=4;\nUSE t;\n",
        set.join(",\n")
    );
    assert_eq!(
        dump(text.as_bytes()).unwrap().coordinates.gtid_executed,
        set.join(",")
    );
}

/// Values as performance_schema.clone_status gave them on MySQL 9.7.4.
#[test]
fn clone_status() {
    let set =
        "0f3c0f3c-0000-11ee-8000-0242ac110002:5,\n4bbb40fe-e539-11f1-b21b-02fc00000001:mysqlsh:1";
    let got = Coordinates::of_clone_status("mysql-bin.000001", 711, set).unwrap();
    assert_eq!(
        (got.log_file.as_str(), got.log_pos),
        ("mysql-bin.000001", 711)
    );
    assert_eq!(got.gtid_executed, set.replace('\n', ""));
    assert_eq!(
        Coordinates::of_clone_status("b.1", 4, "")
            .unwrap()
            .gtid_executed,
        ""
    );
    for (file, pos, set) in [
        ("", 4, ""),
        ("b.1", 0, ""),
        ("b.1", 4, "x:1"),
        ("./b.1", 4, ""),
    ] {
        assert!(
            Coordinates::of_clone_status(file, pos, set).is_err(),
            "{file} {pos} {set}"
        );
    }
}

#[test]
fn validation() {
    let good = Coordinates {
        log_file: "mysql-bin.000017".into(),
        log_pos: 4,
        gtid_executed: SET.into(),
        gtid_slave_pos: None,
    };
    good.validate().unwrap();
    for file in [
        "",
        " ",
        "a/b",
        "a\\b",
        "a'b",
        "a\"b",
        "a`b",
        "a\nb",
        "a\u{e9}",
        "a\0",
        &"x".repeat(513),
    ] {
        assert!(
            Coordinates {
                log_file: file.into(),
                ..good.clone()
            }
            .validate()
            .is_err(),
            "{file:?}"
        );
    }
    for log_pos in [0, 3, u64::MAX] {
        assert!(
            Coordinates {
                log_pos,
                ..good.clone()
            }
            .validate()
            .is_err()
        );
    }
    assert!(
        Coordinates {
            gtid_executed: "garbage".into(),
            ..good.clone()
        }
        .validate()
        .is_err()
    );
    assert!(
        Coordinates {
            gtid_slave_pos: Some("0-1-2".into()),
            ..good.clone()
        }
        .validate()
        .is_err()
    );
    assert!(
        Coordinates {
            gtid_slave_pos: Some("0-1".into()),
            gtid_executed: String::new(),
            ..good.clone()
        }
        .validate()
        .is_err()
    );
    let json = serde_json::to_string(&good).unwrap();
    assert!(
        json.starts_with(r#"{"log_file":"mysql-bin.000017","log_pos":4,"gtid_executed":"0f3c"#),
        "{json}"
    );
    assert_eq!(serde_json::from_str::<Coordinates>(&json).unwrap(), good);
}

//! Lines by 0.9 and 0.10 as they print them, and logs that were recorded of 1.0.1 (tests/fixtures/mydumper).

use super::*;

fn judge(lines: &[&str]) -> Log {
    let mut log = Log::default();
    for line in lines {
        log.take("mydumper", line);
    }
    log
}

fn recorded(name: &str) -> String {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/mydumper")
        .join(name);
    std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

#[test]
fn failures_count_at_exit_status_0() {
    for (line, failure) in [
        (
            "** (myloader:25598): CRITICAL **: 09:08:14.911: Error restoring shop.v: FUNCTION shop.fn does not exist",
            "Error restoring shop.v: FUNCTION shop.fn does not exist",
        ),
        (
            "** (mydumper:7): ERROR **: 09:08:14.911: out of memory",
            "out of memory",
        ),
        (
            "2026-11-20 10:11:12 [ERROR] - Could not read data from shop.f: Lost connection",
            "Could not read data from shop.f: Lost connection",
        ),
        (
            "** (mydumper:7): WARNING **: 10:11:12.000: Executing in no-locks mode, snapshot might not be consistent",
            "Executing in no-locks mode, snapshot might not be consistent",
        ),
        (
            "** (mydumper:7): WARNING **: Executing in no-locks mode, snapshot will notbe consistent",
            "Executing in no-locks mode, snapshot will notbe consistent",
        ),
        (
            "** (myloader:7): WARNING **: 10:11:12.000: Thread 1 with connection 479: Warnings found during INSERT between lines: 5 and 6: (null)",
            "Thread 1 with connection 479: Warnings found during INSERT between lines: 5 and 6: (null)",
        ),
        (
            "option parsing failed: Unknown option --nonsense, try --help",
            "option parsing failed: Unknown option --nonsense, try --help",
        ),
        (
            r#"{"event":"process_error","level":"ERROR","status":"failed","message":"Could not select database: x\nSELECT 'secret'"}"#,
            "Could not select database: x",
        ),
        (
            r#"{"event":"process_error","level":"CRITICAL","message":"Duplicate entry"}"#,
            "Duplicate entry",
        ),
    ] {
        let log = judge(&[
            "** Message: 09:13:52.096: Connected to a MySQL server",
            line,
            line,
        ]);
        assert_eq!(log.cause(), Some(failure));
        assert!(log.is_failed());
    }
}

#[test]
fn the_summary_counts_in_every_form_of_a_number() {
    for (summary, failed) in [
        (
            r#"{"event":"dump_completed","level":"INFO","errors":"0","exit_code":"0"}"#,
            false,
        ),
        (
            r#"{"event":"dump_completed","level":"INFO","errors":0}"#,
            false,
        ),
        (
            r#"{"event":"restore_completed","level":"INFO","errors":"2","exit_code":"0"}"#,
            true,
        ),
        (
            r#"{"event":"restore_completed","level":"INFO","errors":2}"#,
            true,
        ),
        (
            r#"{"event":"restore_completed","level":"INFO","errors":"0","exit_code":"1"}"#,
            true,
        ),
        (
            r#"{"event":"restore_completed","level":"INFO","errors":"many"}"#,
            true,
        ),
        // Not a summary.
        (
            r#"{"event":"restore_file","level":"INFO","errors":"1"}"#,
            false,
        ),
    ] {
        assert_eq!(judge(&[summary]).cause().is_some(), failed, "{summary}");
    }
}

#[test]
fn other_lines_are_no_failures() {
    let log = judge(&[
        "** Message: 09:13:53.080: Thread 2 restoring `shop`.`CRITICAL` part 0",
        "** (mydumper:7): WARNING **: Using trx_consistency_only, binlog coordinates will not be accurate",
        r#"{"event":"mysql_operation","level":"INFO","status":"failed","message":"@@tokudb_version not found"}"#,
        r#"{"event":"restore_sql","level":"WARNING","status":"failed","retryable":true,"message":"restore statement failed"}"#,
        r#"{"event":"process_warning","level":"WARNING","message":"Thread 6 - ERROR 1213: Deadlock found"}"#,
        "",
    ]);
    assert_eq!(log.cause(), None);
    assert!(!log.is_failed());
}

/// What a person is shown of a run of 1.0.1.
#[test]
fn recorded_runs() {
    for (name, cause) in [
        // It has "status":"failed" for @@tokudb_version.
        ("dump-1.0.1.log", None),
        // "restore retry failed" comes first.
        (
            "load-fails-1.0.1.log",
            Some(
                "Thread 1 using connection 12 - ERROR 1265: Error occurs between lines: 5 and 6: Data truncated for column 'e' at row 1",
            ),
        ),
        // Exit status 0, "errors":"0": a UUID became NULL.
        (
            "load-changes-values-1.0.1.log",
            Some(
                "Thread 1 with connection 479: Warnings found during INSERT between lines: 5 and 6: (null)",
            ),
        ),
        // It died by SIGSEGV.
        ("dump-killed-1.0.1.log", None),
    ] {
        let text = recorded(name);
        assert!(text.contains("\"schema_version\":\"1\""), "{name}");
        let log = judge(&text.lines().collect::<Vec<_>>());
        assert_eq!(log.cause(), cause, "{name}");
    }
    let killed = recorded("dump-killed-1.0.1.log");
    let last: Vec<String> = killed.lines().rev().take(2).map(message).collect();
    assert_eq!(
        last,
        ["waiting dump workers to complete", "Global locks released"]
    );
}

/// A failed event without a message for people is the cause after a while, and if nothing follows it.
#[test]
fn a_failure_that_is_not_explained() {
    let failed = r#"{"event":"dump_view","level":"ERROR","message":"could not dump"}"#;
    let mut log = judge(&[failed]);
    assert!(!log.is_failed());
    assert_eq!(log.cause(), Some("could not dump"));
    for _ in 0..=PATIENCE {
        log.take("mydumper", r#"{"event":"dump_file","level":"INFO"}"#);
    }
    assert!(log.is_failed());
    let told = judge(&[
        failed,
        r#"{"event":"process_error","level":"ERROR","message":"could not dump x: error 3"}"#,
    ]);
    assert_eq!(told.cause(), Some("could not dump x: error 3"));
    assert!(told.is_failed());
}

#[test]
fn files_by_what_is_said_of_them() {
    for (line, file) in [
        (
            "** Message: 09:13:53.080: Thread 2 restoring `shop`.`f` part 0",
            Some("shop.f.sql"),
        ),
        (
            "** Message: 09:13:53.080: Thread 2 restoring `my shop`.`f g` part 12",
            Some("my shop.f g.00012.sql"),
        ),
        (
            "** Message: Thread 1: restoring shop.f part 3 of 4 from shop.f.00003.sql.zst | Progress 1 of 2. Tables 3 of 9 completed",
            Some("shop.f.00003.sql.zst"),
        ),
        (
            r#"{"event":"restore_file","filename":"/b/shop.f.00000.sql","status":"started"}"#,
            Some("shop.f.00000.sql"),
        ),
        ("** Message: Creating table `shop`.`f`", None),
        (r#"{"event":"process_version"}"#, None),
    ] {
        assert_eq!(file_of(line).as_deref(), file, "{line}");
    }
}

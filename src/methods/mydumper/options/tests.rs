//! The argument vector of each series, and what each refuses.

use super::*;
use crate::config::Secret;
use crate::methods::mydumper::version::{check_server, supported, v};

const ACCOUNTS: &str = "db|tables_priv|columns_priv|procs_priv|proxies_priv|servers|func|plugin|time_zone.*|(table|column|index)_stats";

fn version(text: &str) -> ToolVersion {
    Tool::Mydumper
        .version(&format!("mydumper v{text}, built against MySQL 8.4.2"))
        .unwrap()
}

fn endpoint(host: &str, socket: &str) -> Endpoint {
    Endpoint {
        host: host.into(),
        port: 3307,
        socket: socket.into(),
        user: "agent".into(),
        password: Secret::default(),
    }
}

fn text(argv: Vec<OsString>) -> Vec<String> {
    argv.into_iter().map(|a| a.into_string().unwrap()).collect()
}

fn list(items: &[&str]) -> Vec<String> {
    items.iter().map(|s| (*s).to_string()).collect()
}

/// What one series has and another has not.
#[test]
fn the_arguments_of_each_series() {
    let maria = Server::parse("10.11.19-MariaDB", "").unwrap();
    for (of, more) in [
        ("0.9.1", vec!["--verbose=3"]),
        ("0.10.0", vec!["--complete-insert", "--verbose=3"]),
        ("0.11.5-2", vec!["--complete-insert", "--verbose=3"]),
        ("0.13.1-1", vec!["--complete-insert", "--verbose=3"]),
        ("0.14.3-1", vec!["--verbose=3"]),
        ("0.15.2-8", vec!["--verbose=3"]),
        ("0.16.7-5", vec!["--verbose=3"]),
        ("0.18.1-1", vec!["--verbose=3"]),
        ("0.20.1-2", vec!["--source-data=0", "--verbose=3"]),
        ("0.20.2-4", vec!["--source-data=0", "--verbose=3"]),
        ("0.20.2-5", vec!["--verbose=3"]),
        ("0.21.4-1", vec!["--verbose=3", "--machine-log-json"]),
        ("1.0.3-1", vec!["--verbose=3", "--machine-log-json"]),
    ] {
        let what = Dump {
            version: version(of),
            source: maria,
            unknown_product: false,
            left_out: None,
        };
        let argv = text(dump_arguments(
            &what,
            Path::new("/s/x.cnf"),
            &endpoint("db1", ""),
            Path::new("/b/dump"),
            &list(&["--rows=5", "--threads=3"]),
        ));
        let threads = argv[6].strip_prefix("--threads=").unwrap();
        assert!(threads.parse::<u32>().unwrap() >= 2, "{threads}");
        let regex =
            format!(r"--regex=^(?!(sys\.|mysql\.(?!(global_priv|roles_mapping|{ACCOUNTS})?$)))");
        let threads = argv[6].clone();
        let mut wanted = vec![
            "--defaults-file=/s/x.cnf",
            "--host=db1",
            "--port=3307",
            "--user=agent",
            "--no-backup-locks",
            "--outputdir=/b/dump",
            &threads,
            &regex,
            "--no-views",
            "--long-query-guard=2147483647",
        ];
        wanted.extend(more.iter().filter(|m| !m.contains("json")));
        let json = more.contains(&"--machine-log-json");
        wanted.extend(json.then_some("--machine-log-json"));
        wanted.extend(["--rows=5", "--threads=3"]);
        assert_eq!(argv, wanted, "mydumper {of}");

        let argv = text(load_arguments(
            version(of),
            Path::new("/s/x.cnf"),
            &endpoint("localhost", ""),
            Path::new("/b/dump"),
            &list(&["--queries-per-transaction", "100"]),
        ));
        let mut wanted = vec![
            "--defaults-file=/s/x.cnf",
            "--host=127.0.0.1",
            "--port=3307",
            "--user=agent",
            "-o", // takes a value from 0.20.1 on, so that an option must follow
            "--directory=/b/dump",
            &threads,
        ];
        if version(of) >= v(0, 16, 7) {
            wanted.extend(["--checksum=skip", "--max-threads-for-schema-creation=1"]);
        }
        wanted.push("--verbose=3");
        wanted.extend(json.then_some("--machine-log-json"));
        wanted.extend(["--queries-per-transaction", "100"]);
        assert_eq!(argv, wanted, "myloader {of}");
        assert!(
            argv.iter()
                .all(|a| !a.contains("overwrite-tables") && !a.contains("password"))
        );
    }
    // Sequences are the agent's own; Debian's MySQL is named by an option.
    let what = Dump {
        version: version("1.0.1"),
        source: Server::parse("9.7.4", "(Debian)").unwrap(),
        unknown_product: true,
        left_out: Some("/b/left-out".into()),
    };
    let argv = text(dump_arguments(
        &what,
        Path::new("/s/x.cnf"),
        &endpoint("db1", ""),
        Path::new("/b/dump"),
        &[],
    ));
    assert_eq!(
        argv[8..11],
        [
            "--no-views",
            "--omit-from-file=/b/left-out",
            "--server-version=mysql-9.7.4"
        ]
    );
    let argv = text(load_arguments(
        version("1.0.1"),
        Path::new("/s/x.cnf"),
        &endpoint("localhost", "/run/mysqld.sock"),
        Path::new("/b/dump"),
        &[],
    ));
    assert_eq!(argv[1..3], ["--socket=/run/mysqld.sock", "--user=agent"]);
}

#[test]
fn accounts_are_taken_and_the_servers_own_tables_are_not() {
    for (server, first) in [
        ("10.11.19-MariaDB", "(global_priv|roles_mapping|db|"),
        ("10.3.39-MariaDB", "(user|roles_mapping|db|"),
        (
            "8.4.9",
            "(user|default_roles|role_edges|global_grants|password_history|component|db|",
        ),
    ] {
        let regex = regex(Server::parse(server, "").unwrap());
        assert!(regex.contains(first), "{server}: {regex}");
        for table in [
            "proc",
            "event",
            "gtid_slave_pos",
            "gtid_executed",
            "general_log",
        ] {
            let mut names = regex.split(['|', '(', ')']);
            assert!(!names.any(|n| n == table), "{server}: {regex}");
        }
    }
}

#[test]
fn options_that_a_version_lacks_are_refused_with_what_to_use() {
    let old = ["0.9.1", "0.10.0", "0.15.2", "0.16.7", "0.18.0"];
    let new = ["0.18.1", "0.20.1", "0.21.4"];
    let newest = ["1.0.0", "1.0.3-1"];
    for (tool, option, without, with, instead) in [
        (
            Tool::Mydumper,
            "--sync-thread-lock-mode=FTWRL",
            &old[..],
            [&new[..], &newest[..]].concat(),
            "--lock-all-tables",
        ),
        (
            Tool::Mydumper,
            "--lock-all-tables",
            &newest[..],
            [&old[..], &new[..]].concat(),
            "use --sync-thread-lock-mode=LOCK_ALL",
        ),
        (
            Tool::Mydumper,
            "--less_locking",
            &newest[..],
            [&old[..], &new[..]].concat(),
            "remove it",
        ),
        (
            Tool::Mydumper,
            "--trx-consistency-only",
            &newest[..],
            [&old[..], &new[..]].concat(),
            "remove it",
        ),
        (
            Tool::Myloader,
            "--innodb-optimize-keys=AFTER_IMPORT_PER_TABLE",
            &newest[..],
            [&old[..], &new[..]].concat(),
            "use --optimize-keys",
        ),
    ] {
        for of in without {
            let e = check(tool, version(of), &list(&["--routines", option])).unwrap_err();
            let e = e.to_string();
            let name = option.split('=').next().unwrap().replace('_', "-");
            assert!(
                e.contains(tool.setting())
                    && e.contains(&format!("{} {of} does not have {name}", tool.name()))
                    && e.contains(instead),
                "{e}"
            );
        }
        for of in with {
            check(tool, version(of), &list(&["--routines", option])).unwrap();
        }
    }
}

/// By either separator, in two items, and in the short forms.
#[test]
fn reserved_options_are_dropped() {
    let given = list(&[
        "--routines",
        "--host=x",
        "--user x",
        "--password",
        "geheim",
        "-pgeheim",
        "-P 3306",
        "--outputdir=/x",
        "-o/x",
        "--no_backup_locks",
        "-x ^shop",
        "--verbose=0",
        "-L",
        "/dev/null",
        "--rows=1000",
        "-t 8",
    ]);
    let (kept, dropped) = operators(Tool::Mydumper, &given);
    assert_eq!(kept, ["--rows=1000", "-t", "8"]);
    assert_eq!(
        dropped,
        [
            "--host",
            "--user",
            "--password",
            "-p",
            "-P",
            "--outputdir",
            "-o",
            "--no-backup-locks",
            "-x",
            "--verbose",
            "-L"
        ]
    );
    let given = list(&[
        "--overwrite-tables",
        "-d /x",
        "--directory=/x",
        "--purge-mode=NONE",
        "--drop-table TRUNCATE",
        "-e",
        "--enable-binlog",
        "--queries-per-transaction=5",
    ]);
    let (kept, dropped) = operators(Tool::Myloader, &given);
    assert_eq!(kept, ["--queries-per-transaction=5"]);
    assert_eq!(dropped.len(), 7);
}

#[test]
fn bundles_of_short_options_are_taken_apart() {
    let (kept, dropped) = operators(
        Tool::Mydumper,
        &list(&["-RGdE", "-Kt8", "-EF64", "--events"]),
    );
    assert_eq!(kept, ["-K", "-t8", "-F64"]);
    // The agent dumps routines, triggers and events itself.
    assert_eq!(dropped, ["-d"]);
    let (kept, _) = operators(Tool::Mydumper, &list(&["-Rk"]));
    assert_eq!(incomplete(Tool::Mydumper, &kept), Some("-k"));
    assert_eq!(
        operators(Tool::Myloader, &list(&["-q 5", "-t8", "-"])).0,
        ["-q", "5", "-t8", "-"]
    );
}

#[test]
fn what_makes_no_complete_copy_is_refused() {
    for (tool, items, found) in [
        (
            Tool::Mydumper,
            vec!["--routines", "--database=shop"],
            "--database",
        ),
        (Tool::Mydumper, vec!["-Bshop"], "-B"),
        (Tool::Mydumper, vec!["--no_data"], "--no-data"),
        (Tool::Mydumper, vec!["-k"], "-k"),
        (
            Tool::Mydumper,
            vec!["--sync-thread-lock-mode=no_lock"],
            "--sync-thread-lock-mode=NO_LOCK",
        ),
        (
            Tool::Mydumper,
            vec!["--sync-thread-lock-mode", "SAFE_NO_LOCK"],
            "--sync-thread-lock-mode=SAFE_NO_LOCK",
        ),
        (Tool::Mydumper, vec!["--stream"], "--stream"),
        (
            Tool::Mydumper,
            vec!["--omit-from-file=/etc/skipped"],
            "--omit-from-file",
        ),
        (Tool::Mydumper, vec!["-O", "/etc/skipped"], "-O"),
        (
            Tool::Mydumper,
            vec!["--views-as-tables"],
            "--views-as-tables",
        ),
        (
            Tool::Mydumper,
            vec!["--format=load_data"],
            "--format=LOAD_DATA",
        ),
        (Tool::Mydumper, vec!["--format", "CSV"], "--format=CSV"),
        (Tool::Mydumper, vec!["--load-data"], "--load-data"),
        (Tool::Mydumper, vec!["-N"], "-N"),
        (Tool::Mydumper, vec!["--replace"], "--replace"),
        (
            Tool::Mydumper,
            vec!["--lines-starting-by=x"],
            "--lines-starting-by",
        ),
        (
            Tool::Myloader,
            vec!["--ignore-set=SQL_MODE"],
            "--ignore-set",
        ),
        (Tool::Myloader, vec!["--source-db", "shop"], "--source-db"),
        (Tool::Myloader, vec!["--skip-post"], "--skip-post"),
    ] {
        let e = check(tool, version("0.18.1"), &list(&items)).unwrap_err();
        assert!(
            e.to_string().contains(&format!(
                "{}: with {found} a seed is not a complete and exact copy",
                tool.setting()
            )),
            "{e}"
        );
    }
    for (tool, items) in [
        (Tool::Mydumper, vec!["--compress", "--rows=5"]),
        (Tool::Mydumper, vec!["--format=INSERT"]),
        (Tool::Mydumper, vec!["--replace-definer=root@localhost"]),
        (Tool::Mydumper, vec!["--sync-thread-lock-mode", "GTID"]),
        (Tool::Mydumper, vec!["--build-empty-files"]),
        (
            Tool::Myloader,
            vec!["--queries-per-transaction=5", "--max-threads-per-table=2"],
        ),
    ] {
        check(tool, version("0.18.1"), &list(&items)).unwrap();
    }
}

/// Before 0.16.3 the dump of MySQL 8.4 and later has no coordinates, at exit status 0.
#[test]
fn a_server_that_is_too_new_is_refused() {
    let server = |text: &str| Server::parse(text, "").unwrap();
    check_server(version("0.19.3"), server("9.7.4"), true).unwrap();
    for (of, source, good) in [
        ("0.10.0", "9.7.4", false),
        ("0.16.2", "8.4.0", false),
        ("0.16.3", "8.4.0", true),
        ("0.10.0", "8.0.36", true),
        ("0.10.0", "11.8.2-MariaDB", true),
        ("1.0.1", "26.7.0", true),
        ("0.19.3", "9.7.4", false),
        ("0.19.3", "11.8.2-MariaDB", true),
        ("0.9.1", "26.7.0", false),
    ] {
        let result = check_server(version(of), server(source), false);
        assert_eq!(result.is_ok(), good, "{of} {source}");
        if let Err(e) = result {
            let e = e.to_string();
            assert!(
                (e.contains("no binlog coordinates") && e.contains("such as 1.0.1"))
                    || (of == "0.19.3" && e.contains("not supported for MySQL")),
                "{e}"
            );
        }
    }
}

#[test]
fn tools_print_their_version() {
    for (tool, said, found) in [
        (
            Tool::Mydumper,
            "mydumper 0.10.0, built against MySQL 10.11.14\n",
            "0.10.0",
        ),
        (
            Tool::Mydumper,
            "mydumper 0.9.1, built against MySQL 5.7.11",
            "0.9.1",
        ),
        (
            Tool::Myloader,
            "myloader v0.20.2-5, built against MySQL 8.4.2 with SSL support",
            "0.20.2-5",
        ),
        (
            Tool::Mydumper,
            "mydumper v1.0.1-3, built against MySQL 9.1.0",
            "1.0.1-3",
        ),
        (Tool::Myloader, "myloader v1.0, built", "1.0.0"),
        (
            Tool::Mydumper,
            "mydumper0.14.5-3, built against MariaDB 10.11.19 with SSL support with GZIP",
            "0.14.5-3",
        ),
    ] {
        assert_eq!(tool.version(said).unwrap().to_string(), found);
    }
    assert!(version("0.20.2-4") < version("0.20.2-5") && version("0.9.5") < version("0.10.0"));
    let e = Tool::Mydumper.version("what?").unwrap_err().to_string();
    assert!(e.contains("cannot read the version of mydumper"), "{e}");
}

/// Those with which seeds were made: with others it is not known what they copy wrong.
#[test]
fn other_versions_are_refused_by_name() {
    for (of, good) in [
        ("0.10.0", true),
        ("0.10.1", true),
        ("0.10.5", false),
        ("0.9.5", false),
        ("0.14.5-3", false),
        ("0.16.11-2", false),
        ("0.18.1-1", false),
        ("0.19.3-3", true),
        ("0.21.4-1", true),
        ("1.0.1-3", true),
        ("1.0.3-1", false),
        ("2.0.0", false),
    ] {
        let result = supported(Tool::Myloader, version(of), false);
        assert_eq!(result.is_ok(), good, "{of}");
        if let Err(e) = result {
            let e = e.to_string();
            assert!(
                e.contains(&format!("myloader {of} is not supported"))
                    && e.contains("1.0.1")
                    && e.contains("any-version = true"),
                "{e}"
            );
        }
        supported(Tool::Mydumper, version(of), true).unwrap();
    }
}

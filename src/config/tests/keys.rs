//! Keys, spellings, types, ranges and what the messages about them say.

use std::path::PathBuf;
use std::time::Duration;

use super::*;

#[test]
fn defaults() {
    let c = parse(&file(&[])).unwrap().config;
    assert_eq!((c.common.port, c.common.seed_port), (3002, 21234));
    assert_eq!(c.common.poll_interval, Duration::from_secs(60));
    assert_eq!(c.common.resubmit_agent_interval, Duration::from_secs(3600));
    assert_eq!(c.common.http_timeout, Duration::from_secs(10));
    assert_eq!(c.common.status_bad_seconds, Duration::from_secs(300));
    assert_eq!(c.common.command_timeout, Duration::from_secs(600));
    assert_eq!(c.common.seed_orphan_timeout, Duration::from_secs(180));
    assert_eq!(
        c.common.state_dir,
        PathBuf::from("/var/lib/orchestrator-agent")
    );
    assert_eq!(c.common.status_endpoint, "/api/status");
    assert_eq!(c.common.max_connections, 64);
    assert_eq!((c.orchestrator.agents_port, c.mysql.port), (3001, 3306));
    assert_eq!(c.orchestrator.protocol, Protocol::V2);
    assert_eq!(c.logging.file, "/var/log/orchestrator-agent.log");
    assert_eq!(c.logging.level, log::LevelFilter::Info);
    assert_eq!(c.mysql.host, "127.0.0.1");
    assert_eq!(c.mysql.service_status_command, "systemctl check mysqld");
    assert_eq!(c.mysql.boot_timeout, Duration::ZERO);
    assert!(c.mysql.disable_events_on_target && !c.mysql.drop_extra_schemas);
    assert!(!c.mysql.load_without_redo_log);
    assert!(c.mysqldump.enabled && c.classic.close_on_danger);
    assert!(!c.mydumper.enabled && !c.xtrabackup.enabled && !c.lvm.enabled);
    assert_eq!(
        c.mysqldump.additional_opts.join(" "),
        "--single-transaction --quick --routines --events --triggers --hex-blob"
    );
    assert!(c.mydumper.mydumper_additional_opts.is_empty() && !c.mydumper.any_version);
    assert!(!c.clone_plugin.enabled && c.clone_plugin.autotune_concurrency);
    assert_eq!(
        (c.clone_plugin.buffer_size, c.clone_plugin.ddl_timeout),
        (4_194_304, 300)
    );
    assert_eq!(c.clone_plugin.max_concurrency, 16);
    assert_eq!(c.clone_plugin.restart_timeout.as_secs(), 900);
}

#[test]
fn values_replace_defaults() {
    let c = parse(&file(&[
        (
            "common",
            "poll-interval = \"1m30s\"\nallowed-clients = [\"192.0.2.1\"]\nseed-secret = \"s3\"",
        ),
        ("mysql", "datadir-swap = \"always\"\nkeep-old-data = \"no\""),
        (
            "mysqldump",
            "enabled = false\nmysqldump-addtional-opts = []",
        ),
        ("lvm", "stream-compression = \"zstd\"\nkeep-snapshot = true"),
        ("classic", "seed-method = \"Xtrabackup\""),
    ]))
    .unwrap()
    .config;
    assert_eq!(c.common.poll_interval, Duration::from_secs(90));
    assert_eq!(c.common.allowed_clients, ["192.0.2.1"]);
    assert_eq!(c.common.seed_secret.reveal(), "s3");
    assert_eq!(c.mysql.datadir_swap, DatadirSwap::Always);
    assert_eq!(c.mysql.keep_old_data, KeepOldData::No);
    assert!(!c.mysqldump.enabled && c.mysqldump.additional_opts.is_empty());
    assert_eq!(c.lvm.stream_compression, Compression::Zstd);
    assert!(c.lvm.keep_snapshot);
    assert_eq!(c.classic.seed_method, "Xtrabackup");
}

#[test]
fn aliases() {
    for key in [
        "addtional-opts",
        "mysqldump-addtional-opts",
        "additional-opts",
        "mysqldump-additional-opts",
    ] {
        let c = with("mysqldump", &format!("{key} = [\"--x\"]"));
        assert_eq!(c.mysqldump.additional_opts, ["--x"], "{key}");
    }
    for key in ["mydumper-addtional-opts", "mydumper-additional-opts"] {
        let c = with("mydumper", &format!("{key} = [\"--x\"]"));
        assert_eq!(c.mydumper.mydumper_additional_opts, ["--x"], "{key}");
    }
    for key in ["myloader-addtional-opts", "myloader-additional-opts"] {
        let c = with("mydumper", &format!("{key} = [\"--x\"]"));
        assert_eq!(c.mydumper.myloader_additional_opts, ["--x"], "{key}");
    }
    for key in [
        "xtrabackup-addtional-opts",
        "xtrabackup-additional-opts",
        "additional-opts",
    ] {
        let c = with("xtrabackup", &format!("{key} = [\"--x\"]"));
        assert_eq!(c.xtrabackup.additional_opts, ["--x"], "{key}");
    }
    for key in ["socat-ssl-cat-file", "socat-ssl-ca-file"] {
        assert_eq!(
            with("xtrabackup", &format!("{key} = \"f\""))
                .xtrabackup
                .socat
                .ssl_ca_file,
            "f"
        );
        assert_eq!(
            with("lvm", &format!("{key} = \"f\"")).lvm.socat.ssl_ca_file,
            "f"
        );
    }
    for section in ["clone_plugin", "clone-plugin"] {
        assert!(
            with(section, "enabled = true").clone_plugin.enabled,
            "{section}"
        );
    }
}

#[test]
fn case_does_not_matter() {
    assert_eq!(with("common", "Port = 4000").common.port, 4000);
    assert!(with("Clone_Plugin", "ENABLED = true").clone_plugin.enabled);
}

#[test]
fn two_spellings_of_one_key() {
    let text = error(
        "mysqldump",
        "addtional-opts = []\nmysqldump-additional-opts = []",
    );
    assert_in(
        "mysqldump.addtional-opts and mysqldump.mysqldump-additional-opts",
        &text,
    );
    assert_in(
        "common.Port and common.port",
        &error("common", "port = 1\nPort = 1"),
    );
    let sections = parse(&file(&[("clone_plugin", ""), ("clone-plugin", "")]));
    assert_in(
        "[clone-plugin] and [clone_plugin]",
        &sections.unwrap_err().to_string(),
    );
}

#[test]
fn unknown_keys_are_warnings_with_a_hint() {
    assert_eq!(
        warning("common", "seed_port = 1"),
        "unknown key common.seed_port is ignored; did you mean \"seed-port\"?"
    );
    assert_eq!(
        warning("common", "service-stop-command = \"x\""),
        "unknown key common.service-stop-command is ignored; it belongs to [mysql]"
    );
    assert_eq!(
        warning("common", "zzzzzzzzzz = 1"),
        "unknown key common.zzzzzzzzzz is ignored"
    );
    assert_eq!(
        warning("xtrabakup", "enabled = true"),
        "unknown section [xtrabakup] is ignored; did you mean \"xtrabackup\"?"
    );
}

#[test]
fn keys_above_the_first_section() {
    let warnings = parse(&format!("poll-interval = \"5s\"\n{}", file(&[])))
        .unwrap()
        .warnings;
    assert_eq!(
        warnings,
        ["poll-interval, above the first section, is ignored; it belongs to [common]"]
    );
}

#[test]
fn a_missing_key_shows_the_misspelt_one() {
    let text = parse("[common]\nbackup_dir = \"/b\"")
        .unwrap_err()
        .to_string();
    assert!(text.starts_with("backup-dir not specified"), "{text}");
    assert_in("did you mean \"backup-dir\"?", &text);
}

#[test]
fn wrong_types() {
    for (section, keys, parts) in [
        (
            "common",
            "port = \"3002\"",
            [
                "common.port = \"3002\": expected a whole number from 1 to 65535",
                "found a string",
            ],
        ),
        (
            "common",
            "hostname = 5",
            [
                "common.hostname = 5: expected a string in quotes",
                "found a whole number",
            ],
        ),
        (
            "common",
            "use-ssl = \"true\"",
            [
                "common.use-ssl = \"true\": expected true or false",
                "found a string",
            ],
        ),
        (
            "common",
            "use-ssl = 1979-05-27",
            ["common.use-ssl = 1979-05-27", "found a date"],
        ),
        (
            "common",
            "ssl-valid-ous = \"dba\"",
            [
                "common.ssl-valid-ous = \"dba\": expected a list of strings",
                "found a string",
            ],
        ),
        (
            "common",
            "allowed-clients = [1]",
            [
                "common.allowed-clients = [...]: expected a list of strings",
                "found a list",
            ],
        ),
        (
            "common",
            "poll-interval = true",
            [
                "common.poll-interval = true: expected a duration",
                "found true or false",
            ],
        ),
        (
            "orchestrator",
            "url = 5",
            [
                "orchestrator.url = 5: expected a string in quotes or a list",
                "found a whole number",
            ],
        ),
        (
            "custom-commands",
            "hello = \"x\"",
            [
                "custom-commands.hello: expected a section [custom-commands.hello]",
                "found a string",
            ],
        ),
    ] {
        let text = error(section, keys);
        parts.iter().for_each(|part| assert_in(part, &text));
    }
    let text = parse("common = 5").unwrap_err().to_string();
    assert_eq!(
        text,
        "common: expected a section [common], found a whole number"
    );
}

#[test]
fn ranges() {
    for key in ["port", "seed-port"] {
        for value in ["0", "65536", "-1", "3002.5"] {
            assert_in(
                &format!("common.{key} = {value}: expected"),
                &error("common", &format!("{key} = {value}")),
            );
        }
    }
    assert_in("from 1 to 65535", &error("orchestrator", "agents-port = 0"));
    assert_in("from 1 to 65535", &error("mysql", "port = 70000"));
    assert_in("from 1 to 10000", &error("common", "max-connections = 0"));
    assert_in("from 0 to", &error("common", "seed-rate-limit = -1"));
    assert_in(
        "from 1 to 128",
        &error("clone_plugin", "clone-max-concurrency = 129"),
    );
    assert_in(
        "from 1048576 to",
        &error("clone_plugin", "clone-buffer-size = 1"),
    );
    assert_eq!(with("common", "port = 65535").common.port, 65535);
}

#[test]
fn choices() {
    assert_in(
        "expected one of \"auto\", \"always\", \"never\"",
        &error("mysql", "datadir-swap = \"maybe\""),
    );
    assert_in(
        "mysql.keep-old-data = false: expected one of",
        &error("mysql", "keep-old-data = false"),
    );
    assert_in(
        "expected one of \"none\", \"lz4\", \"zstd\"",
        &error("lvm", "stream-compression = \"gzip\""),
    );
    assert_in(
        "expected one of \"v2\", \"classic\"",
        &error("orchestrator", "protocol = \"v3\""),
    );
    assert_in(
        "expected one of \"text\", \"json\", \"logfmt\"",
        &error("logging", "format = \"xml\""),
    );
}

#[test]
fn durations() {
    let text = error("common", "poll-interval = 60");
    assert_in("common.poll-interval = 60: missing unit in duration", &text);
    assert_in("poll-interval = \"60s\"", &text);
    assert_in("missing unit", &error("common", "http-timeout = 1.5"));
    assert_in(
        "= \"60\": missing unit",
        &error("common", "poll-interval = \"60\""),
    );
    assert_in(
        "= \"1d\": unknown unit",
        &error("common", "poll-interval = \"1d\""),
    );
    assert_in(
        "= \"-5s\": a negative duration",
        &error("mysql", "boot-timeout = \"-5s\""),
    );
    assert_eq!(
        with("mysql", "boot-timeout = \"0\"").mysql.boot_timeout,
        Duration::ZERO
    );
}

#[test]
fn custom_commands() {
    let c = with("custom-commands.Hello", "cmd = \"echo hello\"");
    assert_eq!(c.custom_commands["Hello"], "echo hello");
    for keys in ["", "cmd = \" \""] {
        assert_in(
            "custom-commands.x has no cmd and is left out",
            &warning("custom-commands.x", keys),
        );
    }
    assert_in(
        "custom-commands.x.cmd = 5",
        &error("custom-commands.x", "cmd = 5"),
    );
    assert_in(
        "unknown key custom-commands.x.cmdd is ignored; did you mean \"cmd\"?",
        &warning("custom-commands.x", "cmd = \"a\"\ncmdd = \"b\""),
    );
}

#[test]
fn log_levels() {
    for (word, level) in [
        ("DEBUG", log::LevelFilter::Debug),
        ("info", log::LevelFilter::Info),
        ("Warn", log::LevelFilter::Warn),
        ("error", log::LevelFilter::Error),
        ("trace", log::LevelFilter::Trace),
    ] {
        assert_eq!(
            with("logging", &format!("level = \"{word}\""))
                .logging
                .level,
            level
        );
    }
    let loaded = parse(&file(&[("logging", "level = \"loud\"")])).unwrap();
    assert_eq!(loaded.config.logging.level, log::LevelFilter::Info);
    assert_in("logging.level = \"loud\" is ignored", &loaded.warnings[0]);
}

#[test]
fn secrets_are_never_shown() {
    for (section, keys) in [
        ("mysql", "password = 424242"),
        ("mysql", "password = hunter424242"),
        ("mysql", "password = \"424242"),
        ("mysql", "password = \"424242\"\npassword = \"424242\""),
        ("common", "seed-secret = [424242]"),
        ("common", "http-auth-password = \"\\q424242\""),
    ] {
        let text = error(section, keys);
        assert!(!text.contains("424242"), "{text}");
    }
    let loaded = parse(&file(&[("mysql", "password = \"424242\"")])).unwrap();
    assert!(!format!("{loaded:?}").contains("424242"));
}

#[test]
fn syntax_errors_have_their_place() {
    let text = parse("[common]\nport = 3002\nhostname = = \"x\"\n")
        .unwrap_err()
        .to_string();
    assert!(
        text.starts_with("line 3, column 12: invalid TOML: "),
        "{text}"
    );
    assert!(!text.contains('\n'), "{text}");
}

#[test]
fn a_retired_key_is_accepted_and_named() {
    let text = warning("mysqldump", "load-threads = 4");
    assert!(text.contains("mysqldump.load-threads is ignored"), "{text}");
}

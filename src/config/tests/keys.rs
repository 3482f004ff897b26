//! Keys, spellings, types, ranges and what the messages about them say.

use std::time::Duration;

use super::*;

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
        (
            "classic",
            "seed-method = \"Xtrabackup\"\nconnect-replication = \"Prepare\"",
        ),
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
    assert_eq!(c.classic.seed_method[..], ["Xtrabackup"]);
    assert_eq!(c.classic.connect_replication, ConnectReplication::Prepare);
}

#[test]
fn aliases() {
    let opts = ["-addtional-opts", "-additional-opts"];
    let bare = ["addtional-opts", "additional-opts"];
    for tool in ["mysqldump", "mydumper", "myloader", "xtrabackup"] {
        let section = if tool == "myloader" { "mydumper" } else { tool };
        let read = |key: &str| with(section, &format!("{key} = [\"--x\"]"));
        let mut names: Vec<_> = opts.map(|end| format!("{tool}{end}")).into();
        if section == tool && tool != "mydumper" {
            names.extend(bare.map(String::from));
        }
        for key in &names {
            let c = read(key);
            let given = match tool {
                "mysqldump" => c.mysqldump.additional_opts,
                "mydumper" => c.mydumper.mydumper_additional_opts,
                "myloader" => c.mydumper.myloader_additional_opts,
                _ => c.xtrabackup.additional_opts,
            };
            assert_eq!(given, ["--x"], "{key}");
        }
    }
    for key in ["socat-ssl-cat-file", "socat-ssl-ca-file"] {
        let keys = format!("{key} = \"f\"");
        assert_eq!(with("xtrabackup", &keys).xtrabackup.socat.ssl_ca_file, "f");
        assert_eq!(with("lvm", &keys).lvm.socat.ssl_ca_file, "f");
    }
    for section in ["clone_plugin", "clone-plugin"] {
        assert!(with(section, "enabled = true").clone_plugin.enabled);
    }
}

#[test]
fn case_does_not_matter() {
    assert_eq!(with("common", "Port = 4000").common.port, 4000);
    assert!(with("Clone_Plugin", "ENABLED = true").clone_plugin.enabled);
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
        ["line 1: poll-interval, above the first section, is ignored; it belongs to [common]"]
    );
}

#[test]
fn a_missing_key_shows_the_misspelt_one() {
    let faults = parse("[common]\nbackup_dir = \"/b\"").unwrap_err();
    assert_in("backup-dir not specified", &faults.errors[0]);
    assert_in("did you mean \"backup-dir\"?", &only(&faults.warnings));
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
    assert_in(
        "logging.level = \"loud\": ignored and \"info\" used",
        &only(&loaded.warnings),
    );
    assert_in(
        "expected a string in quotes",
        &error("logging", "level = 5"),
    );
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
        let text = parse(&file(&[(section, keys)])).unwrap_err().to_string();
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
fn retired_keys_are_accepted_and_named() {
    let text = warning("mysqldump", "load-threads = 4");
    assert!(text.contains("mysqldump.load-threads is ignored"), "{text}");
    let text = warning("classic", "close-on-danger = true");
    assert!(text.contains("classic.close-on-danger is ignored") && text.contains("signal-errors"));
}

#[test]
fn seed_methods_of_classic_in_order_of_preference() {
    for (given, names) in [
        ("\"auto\"", vec![]),
        ("\"lvm\"", vec!["LVM"]),
        (
            "[\"xtrabackup\", \"Mysqldump\"]",
            vec!["Xtrabackup", "Mysqldump"],
        ),
    ] {
        let read = with("classic", &format!("seed-method = {given}"));
        assert_eq!(read.classic.seed_method[..], names, "{given}");
    }
}

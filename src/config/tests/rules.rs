//! Rules that a well-formed configuration can break; `faults.rs` has a row for each.

use super::*;

#[test]
fn orchestrator_urls() {
    for (given, urls) in [
        ("\"orchestrator\"", vec!["http://orchestrator"]),
        ("\"https://o.example.com//\"", vec!["https://o.example.com"]),
        ("\"HTTP://192.0.2.1/\"", vec!["http://192.0.2.1"]),
        ("\"http://[2001:db8::1]\"", vec!["http://[2001:db8::1]"]),
        ("[\"a\", \"https://b/\"]", vec!["http://a", "https://b"]),
        ("\"o:3000\"", vec!["http://o:3000"]),
        (
            "\"https://[::1]:443/orc/x/\"",
            vec!["https://[::1]:443/orc/x"],
        ),
    ] {
        assert_eq!(
            with("orchestrator", &format!("url = {given}"))
                .orchestrator
                .urls[..],
            urls
        );
    }
}

#[test]
fn an_account_is_needed_by_every_method_but_not_by_operators_commands() {
    let none = [
        ("mysql", "user = \"\""),
        ("mysql", "password = \"\""),
        ("mysqldump", "enabled = false"),
    ];
    assert!(parse(&file(&none)).is_ok());
    for section in ["mydumper", "xtrabackup", "clone_plugin"] {
        let mut given = none.to_vec();
        given.push((section, "enabled = true"));
        let faults = parse(&file(&given)).unwrap_err().errors;
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert_in("mysql user not specified", &faults[0]);
    }
    assert_in(
        "mysql password not specified",
        &only(&parse(&file(&none[1..])).unwrap_err().errors),
    );
}

/// Texts and order are those of the Go agent's start.
#[test]
fn go_rejections_in_their_order() {
    let text = "[common]\nuse-ssl = true\nport = 1\nseed-port = 1\n[lvm]\nenabled = true\n";
    let faults = parse(text).unwrap_err().errors;
    let texts = [
        "use-ssl is true but ssl-cert-file is not specified",
        "use-ssl is true but ssl-private-key-file is not specified",
        "backup-dir not specified",
        "orchestrator url not specified",
        "mysql user not specified",
        "mysql password not specified",
        "lvm is enabled but create-snapshot-command is not specified",
        "lvm is enabled but available-local-snapshot-hosts-command is not specified",
        "lvm is enabled but available-snapshot-hosts-command is not specified",
        "lvm is enabled but snapshot-volumes-filter is not specified",
        "common.port and common.seed-port are both 1",
    ];
    assert_eq!(faults.len(), texts.len(), "{faults:?}");
    for (fault, text) in faults.iter().zip(texts) {
        assert!(without_line(fault).starts_with(text), "{fault}");
    }
}

#[test]
fn what_the_rules_permit() {
    for (section, keys) in [
        ("common", "port = 65535"),
        (
            "common",
            "http-auth-user = \"u\"\nhttp-auth-password = \"p\"",
        ),
        ("common", "token-http-header = \"X-Agent_Token.1\""),
        ("mysql", "host = \"\"\nsocket = \"/run/mysqld.sock\""),
        ("mysql", "datadir = \"/no/such/backup2\""),
        ("mysql", "boot-timeout = \"0\""),
        ("mydumper", "enabled = true"),
        (
            "xtrabackup",
            "enabled = true\nsocat-use-ssl = true\nsocat-ssl-cert-file = \"f\"",
        ),
        ("clone_plugin", "enabled = true"),
        ("orchestrator", "protocol = \"classic\""),
        (
            "classic",
            "connect-replication = \"start\"\nreplication-user = \"r\"\nreplication-password-file = \"/f\"",
        ),
        (
            "classic",
            "replication-user = \"r\"\nreplication-password-file = \"/f\"",
        ),
    ] {
        with(section, keys);
    }
}

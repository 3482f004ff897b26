//! One test for each rule that a well-formed configuration can break.

use super::*;

#[test]
fn zero_intervals() {
    for key in [
        "poll-interval",
        "resubmit-agent-interval",
        "http-timeout",
        "status-bad-seconds",
        "command-timeout",
        "seed-orphan-timeout",
        "seed-first-byte-timeout",
        "seed-idle-timeout",
        "source-lock-timeout",
    ] {
        let text = error("common", &format!("{key} = \"0s\""));
        assert!(text.starts_with(&format!("common.{key} is zero")), "{text}");
    }
}

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
                .urls,
            urls
        );
    }
    for (given, part) in [
        ("\"ftp://o\"", "scheme must be http or https"),
        ("\"http://\"", "host is empty"),
        ("\"https:///\"", "host is empty"),
        ("\"http://:3000\"", "host is empty"),
        ("[\"a\", \"\"]", "host is empty"),
        ("\"http://o:x\"", "port is not a number"),
        ("\"http://o:0\"", "port is not a number"),
        ("\"http://o:+1\"", "port is not a number"),
        ("\"http://2001:db8::1\"", "into [ ]"),
        ("\"http://[::1]3000\"", "port is not a number"),
        ("\"http://o/web?x\"", "nothing but a path"),
        ("\"http://o/a b\"", "nothing but a path"),
        ("\"http://o p\"", "not a host name"),
        ("\"http://user@o\"", "nothing but a path"),
    ] {
        let text = error("orchestrator", &format!("url = {given}"));
        assert!(text.starts_with("orchestrator.url = "), "{text}");
        assert_in(part, &text);
    }
}

/// The texts and the order of agent-api-v2 section 5, "Rejected at start-up": each file mends one fault more.
#[test]
fn go_rejections_in_their_order() {
    let mut common = String::from("[common]\nuse-ssl = true\nport = 1\nseed-port = 1\n");
    let mut rest = String::from("[lvm]\nenabled = true\n");
    let refuse = |common: &str, rest: &str, text: &str| {
        let e = parse(&format!("{common}{rest}")).unwrap_err().to_string();
        assert!(e.starts_with(text), "{e}");
    };
    refuse(
        &common,
        &rest,
        "use-ssl is true but ssl-cert-file is not specified",
    );
    common += "ssl-cert-file = \"c\"\n";
    refuse(
        &common,
        &rest,
        "use-ssl is true but ssl-private-key-file is not specified",
    );
    common += "ssl-private-key-file = \"k\"\n";
    refuse(&common, &rest, "backup-dir not specified");
    common += "backup-dir = \"relative\"\n";
    refuse(&common, &rest, "orchestrator url not specified");
    common += "[orchestrator]\nurl = \"o\"\n";
    refuse(&common, &rest, "mysql user not specified");
    common += "[mysql]\nuser = \"u\"\n";
    refuse(&common, &rest, "mysql password not specified");
    common += "password = \"p\"\n";
    for key in [
        "create-snapshot-command",
        "available-local-snapshot-hosts-command",
        "available-snapshot-hosts-command",
        "snapshot-volumes-filter",
    ] {
        refuse(
            &common,
            &rest,
            &format!("lvm is enabled but {key} is not specified"),
        );
        rest += &format!("{key} = \"x\"\n");
    }
    refuse(
        &common,
        &rest,
        "common.port and common.seed-port are both 1",
    );
}

#[test]
fn an_empty_url_or_list_is_a_missing_one() {
    for given in ["\"\"", "\" \"", "[]"] {
        assert_in(
            "orchestrator url not specified",
            &error("orchestrator", &format!("url = {given}")),
        );
    }
}

#[test]
fn tls_rules() {
    assert_in(
        "use-mutual-tls is true but use-ssl is false",
        &error("common", "use-mutual-tls = true"),
    );
    for section in ["xtrabackup", "lvm"] {
        let part =
            format!("{section}.socat-use-ssl is true but socat-ssl-cert-file is not specified");
        assert_in(&part, &error(section, "socat-use-ssl = true"));
        with(section, "socat-use-ssl = true\nsocat-ssl-cert-file = \"f\"");
    }
}

#[test]
fn equal_ports() {
    assert_in(
        "common.port and common.seed-port are both 3002",
        &error("common", "seed-port = 3002"),
    );
}

#[test]
fn mysql_needs_host_or_socket() {
    assert_in(
        "mysql.host = \"\" and no mysql.socket",
        &error("mysql", "host = \"\""),
    );
    with("mysql", "host = \"\"\nsocket = \"/run/mysqld.sock\"");
}

#[test]
fn basic_auth_needs_a_password() {
    assert_in(
        "http-auth-password is not specified",
        &error("common", "http-auth-user = \"u\""),
    );
    with(
        "common",
        "http-auth-user = \"u\"\nhttp-auth-password = \"p\"",
    );
}

#[test]
fn token_header_name() {
    for bad in ["X Token", "X-Token:", "T\u{f6}ken"] {
        let text = error("common", &format!("token-http-header = \"{bad}\""));
        assert_in("not a valid header name", &text);
    }
    with("common", "token-http-header = \"X-Agent_Token.1\"");
}

#[test]
fn status_endpoint() {
    for bad in ["", "api/status"] {
        let text = error("common", &format!("status-endpoint = \"{bad}\""));
        assert_in(
            &format!("common.status-endpoint = \"{bad}\": must start with /"),
            &text,
        );
    }
}

#[test]
fn absolute_directories() {
    for (section, key) in [
        ("common", "backup-dir"),
        ("common", "state-dir"),
        ("mysql", "datadir"),
        ("mysql", "staging-dir"),
    ] {
        let text = error(section, &format!("{key} = \"relative\""));
        assert_in(
            &format!("{section}.{key} = \"relative\": must be an absolute path"),
            &text,
        );
    }
}

#[test]
fn nothing_of_ours_inside_the_datadir() {
    let text = error("mysql", "datadir = \"/no/such\"");
    assert_in(
        "common.backup-dir = \"/no/such/backup\" is inside mysql.datadir = \"/no/such\"",
        &text,
    );
    let text = error("mysql", "datadir = \"/var/lib/orchestrator-agent/\"");
    assert_in("common.state-dir", &text);
    with("mysql", "datadir = \"/no/such/backup2\"");
}

#[test]
fn settings_that_are_not_built_yet() {
    for (section, keys, key) in [
        (
            "lvm",
            "socat-use-ssl = true\nsocat-ssl-cert-file = \"f\"",
            "lvm.socat-use-ssl",
        ),
        ("logging", "format = \"json\"", "logging.format"),
        (
            "orchestrator",
            "protocol = \"classic\"",
            "orchestrator.protocol = \"classic\"",
        ),
    ] {
        let text = unbuilt(&with(section, keys)).unwrap().to_string();
        assert!(text.starts_with(key), "{text}");
    }
    let methods = parse(&file(&[
        ("mydumper", "enabled = true"),
        ("xtrabackup", "enabled = true"),
        ("clone_plugin", "enabled = true"),
    ]));
    assert_eq!(unbuilt(&methods.unwrap().config), None);
}

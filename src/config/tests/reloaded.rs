//! What differs between two files.

use super::*;

fn changed(before: &[(&str, &str)], after: &[(&str, &str)]) -> Vec<String> {
    let values = |more| parse(&file(more)).unwrap().values;
    values(before).changed(&values(after))
}

#[test]
fn equal_values_are_no_change_however_they_are_written() {
    let defaults = [
        ("common", "poll-interval = \"60s\""),
        ("common", "allowed-clients = []"),
        ("common", "PORT = 3002"),
        ("logging", "level = \"info\""),
        ("lvm", "enabled = false"),
        ("orchestrator", "protocol = \"Auto\""),
        ("mydumper", "mydumper-additional-opts = []"),
    ];
    assert_eq!(changed(&[], &defaults), [""; 0]);
}

#[test]
fn every_kind_of_key_is_compared_and_no_value_is_shown() {
    let other = [
        ("common", "poll-interval = \"2m\""),
        ("common", "allowed-clients = [\"192.0.2.1\"]"),
        ("common", "port = 4002"),
        ("common", "backup-dir = \"/no/such/other\""),
        ("common", "exec-with-sudo = true"),
        ("orchestrator", "url = \"http://other\""),
        ("mysql", "password = \"geheim\""),
        ("mysql", "keep-old-data = \"no\""),
        ("mysqldump", "addtional-opts = [\"--quick\"]"),
        ("custom-commands.one", "cmd = \"true\""),
    ];
    let wanted = [
        "common.allowed-clients",
        "common.backup-dir",
        "common.exec-with-sudo",
        "common.poll-interval",
        "common.port",
        "custom-commands.one",
        "mysql.keep-old-data",
        "mysql.password",
        "mysqldump.mysqldump-addtional-opts",
        "orchestrator.url",
    ];
    assert_eq!(changed(&[], &other), wanted);
    assert_eq!(changed(&other, &[]), wanted);
    let values = parse(&file(&other)).unwrap().values;
    assert!(!format!("{values:?}").contains("geheim"));
    let reloaded: Vec<&str> = wanted.into_iter().filter(|k| is_reloaded(k)).collect();
    assert_eq!(reloaded, ["common.poll-interval", "custom-commands.one"]);
}

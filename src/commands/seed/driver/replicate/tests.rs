use super::*;
use crate::commands::seed::options::tests::with_user;
use crate::commands::seed::options::{HostPort, Login};
use crate::config::Secret;
use crate::seed::Method;

fn options(more: &str) -> Options {
    with_user(&format!("--source db1 --target db2 {more}"))
}

fn plan(without_gtid: bool) -> Plan {
    Plan {
        method: Method::Mysqldump,
        source_port: 3310,
        target_port: 3306,
        channels: Vec::new(),
        without_gtid,
        settings: Vec::new(),
        tls: false,
        read_only: ["ON".into(), String::new()],
    }
}

fn metadata(gtid: Option<&str>) -> Metadata {
    Metadata {
        log_file: "binlog.000002".into(),
        log_pos: 314,
        gtid_slave_pos: gtid.map(str::to_string),
        gtid_executed: None,
    }
}

#[test]
fn where_replication_starts() {
    let gtid = Point::Gtid("0-1-22".into());
    let position = Point::Position("binlog.000002".into(), 314);
    for (more, without, has, wanted) in [
        ("", false, Some("0-1-22"), &gtid),
        ("", true, Some("0-1-22"), &position),
        ("", false, Some(""), &position),
        ("", false, None, &position),
        ("--replication gtid", true, Some("0-1-22"), &gtid),
        ("--replication position", false, Some("0-1-22"), &position),
        ("--connect-to db9", false, Some("0-1-22"), &gtid),
    ] {
        assert_eq!(
            &start_from(&options(more), &plan(without), &metadata(has), false).unwrap(),
            wanted,
            "{more} {without} {has:?}"
        );
    }
    let mut mysql = metadata(Some(""));
    mysql.gtid_executed = Some("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5".into());
    let set = Point::Gtid("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5".into());
    assert_eq!(
        start_from(&options(""), &plan(false), &mysql, false).unwrap(),
        set
    );
    assert_eq!(
        start_from(&options(""), &plan(true), &mysql, false).unwrap(),
        position
    );
    let refused = |more, has| {
        start_from(&options(more), &plan(false), &metadata(has), false)
            .unwrap_err()
            .to_string()
    };
    let empty = Point::Gtid(String::new());
    for (more, without, wanted) in [
        ("", false, &empty),
        ("", true, &position),
        ("--replication gtid", true, &empty),
        ("--replication position", false, &position),
        ("--connect-to db9", false, &empty),
    ] {
        assert_eq!(
            &start_from(&options(more), &plan(without), &metadata(None), true).unwrap(),
            wanted,
            "{more} {without}"
        );
    }
    assert!(refused("--replication gtid", None).contains("--replication position"));
    assert!(refused("--connect-to db9", Some("")).contains("--connect-to needs GTID"));
}

#[test]
fn the_source_is_told_with_a_hidden_password() {
    let mut o = options("");
    let to = ("db1".to_string(), 3310);
    let maria = Server::parse("10.11.6-MariaDB", "").unwrap();
    let mysql = Server::parse("9.7.4", "").unwrap();
    let position = Point::Position("b'in.1".into(), 4);
    assert_eq!(
        change_source(maria, &o, &plan(false), &to, &position),
        "CHANGE MASTER TO MASTER_HOST='db1', MASTER_PORT=3310, MASTER_LOG_FILE='b''in.1', MASTER_LOG_POS=4, MASTER_USE_GTID=no"
    );
    o.replication = Some(Login {
        user: "re'pl".into(),
        password: Secret::new("a'b\\"),
    });
    let s = change_source(maria, &o, &plan(false), &to, &Point::Gtid("0-1-1".into()));
    let end = "MASTER_USE_GTID=slave_pos";
    let text = r"CHANGE MASTER TO MASTER_HOST='db1', MASTER_PORT=3310, MASTER_USER='re''pl', MASTER_PASSWORD=";
    assert_eq!(s, format!(r"{text}'a''b\\', {end}"));
    let password = o.replication.as_ref().map(|l| &l.password);
    let hide = |s: &str| replica::hidden(s, password);
    assert_eq!(hide(&s), format!("{text}(password), {end}"));
    let s = change_source(mysql, &o, &plan(false), &to, &Point::Gtid("set".into()));
    assert_eq!(
        hide(&s),
        "CHANGE REPLICATION SOURCE TO SOURCE_HOST='db1', SOURCE_PORT=3310, SOURCE_USER='re''pl', \
         SOURCE_PASSWORD=(password), GET_SOURCE_PUBLIC_KEY=1, SOURCE_AUTO_POSITION=1 FOR CHANNEL ''"
    );
}

#[test]
fn old_replication_is_forgotten_but_for_a_kept_account() {
    let maria = Server::parse("10.11.6-MariaDB", "").unwrap();
    let mysql = Server::parse("9.7.4", "").unwrap();
    assert_eq!(removal(maria, "", false), ["RESET SLAVE ALL"]);
    assert_eq!(
        removal(maria, "", true),
        ["CHANGE MASTER TO MASTER_HOST='_'"]
    );
    assert_eq!(removal(maria, "eu", true), ["RESET SLAVE 'eu' ALL"]);
    assert_eq!(
        removal(mysql, "eu", true),
        ["RESET REPLICA ALL FOR CHANNEL 'eu'"]
    );
    let kept = removal(mysql, "", true);
    assert_eq!(kept[0], "RESET REPLICA FOR CHANNEL ''");
    assert!(
        kept[1].contains("SOURCE_HOST='_'") && kept.len() == 2,
        "{kept:?}"
    );
}

#[test]
fn addresses_are_chosen() {
    assert_eq!(
        plan(false).replication_source(&options("")),
        ("db1".to_string(), 3310)
    );
    let mut o = options("");
    o.connect_to = Some(HostPort {
        host: "db9".into(),
        port: Some(3307),
    });
    assert_eq!(
        plan(false).replication_source(&o),
        ("db9".to_string(), 3307)
    );
}

#[test]
fn only_a_copy_from_before_the_first_event_has_the_empty_set() {
    let mysql = [
        (4, "Format_desc", "Server ver: 9.7.4, Binlog ver: 4"),
        (127, "Previous_gtids", ""),
        (158, "Gtid", "SET @@SESSION.GTID_NEXT= 'a:1'"),
    ];
    assert!(is_first(&mysql, 158));
    assert!(!is_first(&mysql, 300), "the copy has a:1");
    assert!(is_first(&mysql[..2], 158));
    let mut anonymous = mysql;
    anonymous[2].1 = "Anonymous_Gtid";
    assert!(!is_first(&anonymous, 300));
    let mut later = mysql;
    later[1].2 = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5";
    assert!(!is_first(&later, 158));
    let maria = [
        (4, "Format_desc", "Server ver: 10.11"),
        (256, "Gtid_list", "[]"),
        (285, "Binlog_checkpoint", "log.000001"),
        (328, "Gtid", "GTID 0-1-1"),
    ];
    assert!(is_first(&maria, 328) && !is_first(&maria, 329));
    let mut later = maria;
    later[1].2 = "[0-1-7]";
    assert!(!is_first(&later, 328));
    assert!(!is_first(&[], 4), "an empty answer proves nothing");
}

#[test]
fn a_mysql_source_that_is_a_moment_behind_is_queried_again() {
    let set = |last: usize| {
        GtidSet::parse(&format!("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-{last}")).unwrap()
    };
    let have = set(9);
    let pause = Duration::from_millis(1);
    let mut queries = 0;
    let own = missing_on(&have, pause, &Cancel::default(), || {
        queries += 1;
        Ok(set(7 + queries))
    });
    assert_eq!((own.unwrap().as_str(), queries), ("", 2));
    let mut queries = 0;
    let own = missing_on(&have, pause, &Cancel::default(), || {
        queries += 1;
        Ok(set(7))
    });
    let wanted = "3e11fa47-71ca-11e1-9e33-c80aa9429562:8-9";
    assert_eq!((own.unwrap().as_str(), queries), (wanted, QUERIES));
    let cancel = Cancel::default();
    cancel.cancel("test");
    let own = missing_on(&have, pause, &cancel, || Ok(GtidSet::default()));
    assert!(own.unwrap_err().is_cancelled());
}

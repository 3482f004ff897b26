use super::*;

fn maria(more: &[(&str, &str)]) -> Result<DatadirInfo> {
    facts("10.11.6-MariaDB", more)
}

fn facts(version: &str, more: &[(&str, &str)]) -> Result<DatadirInfo> {
    let mut of: Variables = [
        ("innodb_data_file_path", "ibdata1:12M:autoextend"),
        ("innodb_page_size", "16384"),
        ("lower_case_table_names", "0"),
        ("basedir", "/usr"),
        ("tmpdir", "/tmp"),
        ("innodb_undo_directory", "./"),
        ("innodb_data_home_dir", ""),
        ("aria_log_dir_path", "/no/such/data/"),
        ("log_bin", "OFF"),
    ]
    .map(|(k, v)| (k.to_string(), v.to_string()))
    .into();
    of.extend(more.iter().map(|(k, v)| (k.to_string(), v.to_string())));
    let server = Server::parse(version, "")?;
    DatadirInfo::from_variables(
        &of,
        server,
        Path::new("/no/such/data"),
        Path::new("/usr/sbin/mariadbd"),
    )
}

#[test]
fn places_inside_are_sorted_and_logs_outside_are_found() {
    let f = maria(&[
        ("log_error", "./db1.log"),
        ("slow_query_log_file", "slow/slow.log"),
        ("general_log_file", "/var/log/general.log"),
        ("pid_file", "/no/such/data/db1.process"),
        ("socket", "/run/mysqld.sock"),
        ("tmpdir", "/no/such/data/tmp:/tmp"),
        ("log_bin_basename", "/no/such/logs/bin"),
        ("log_bin_index", "/no/such/logs/names"),
        ("relay_log_basename", "/no/such/data/relays/relay"),
    ])
    .unwrap();
    assert_eq!(f.system_file, "ibdata1");
    assert_eq!(f.keep, ["db1.log"]);
    assert_eq!(f.drop, ["db1.process"]);
    assert_eq!(f.dirs, ["slow", "tmp", "relays"].map(PathBuf::from));
    let outside: Vec<_> = f
        .outside
        .iter()
        .map(|o| (o.dir.to_str().unwrap(), o.base.as_str()))
        .collect();
    assert_eq!(
        outside,
        [("/no/such/logs", "bin"), ("/no/such/logs", "names")]
    );
    assert!(
        f.options
            .contains(&("innodb_page_size".into(), "16384".into()))
    );
    // Upward out of the data directory, as a running server reports it.
    let up = maria(&[("log_bin_basename", "/no/such/data/../logs/bin")]).unwrap();
    assert_eq!((up.outside[0].base.as_str(), up.dirs.len()), ("bin", 0));
    // The help of a server that is down has other values.
    let help = maria(&[
        ("log_bin", "(No default value)"),
        ("relay_log", "(No default value)"),
    ])
    .unwrap();
    assert!(help.outside.is_empty());
    assert_eq!(
        maria(&[("log_bin", "/no/such/l/b")]).unwrap().outside[0].base,
        "b"
    );
}

#[test]
fn what_lies_elsewhere_is_refused_by_name() {
    for (name, value) in [
        ("innodb_data_home_dir", "/fast/ibdata"),
        ("innodb_log_group_home_dir", "/fast/redo"),
        ("innodb_undo_directory", "/fast/undo"),
        ("innodb_undo_directory", "./undo"),
        ("innodb_undo_directory", "../undo"),
        ("innodb_temp_tablespaces_dir", "../temp"),
        ("innodb_doublewrite_dir", "/fast/dw"),
        ("aria_log_dir_path", "/fast/aria"),
        ("innodb_directories", "/fast/ibd"),
        ("innodb_data_file_path", "/fast/ibdata1:12M"),
        ("innodb_data_file_path", ""),
    ] {
        let e = maria(&[(name, value)]).unwrap_err();
        assert!(e.is_permanent());
        let text = e.to_string();
        assert!(
            text.contains(name) && text.contains(value) && text.contains("Mysqldump"),
            "{text}"
        );
    }
    facts(
        "9.7.4",
        &[("innodb_temp_tablespaces_dir", "./#innodb_temp/")],
    )
    .unwrap();
}

#[test]
fn a_private_server_gets_the_options_that_its_version_knows() {
    let all = [
        ("innodb_redo_log_capacity", "104857600"),
        ("innodb_log_file_size", "50331648"),
        ("innodb_undo_tablespaces", "2"),
    ];
    let has = |version: &str, name: &str| {
        facts(version, &all)
            .unwrap()
            .options
            .iter()
            .any(|o| o.0 == name)
    };
    assert!(has("9.7.4", "innodb_redo_log_capacity") && !has("9.7.4", "innodb_log_file_size"));
    assert!(has("8.0.29", "innodb_log_file_size") && !has("8.0.29", "innodb_undo_tablespaces"));
    assert!(
        has("5.7.44", "innodb_undo_tablespaces")
            && has("10.11.6-MariaDB", "innodb_undo_tablespaces")
    );
}

#[test]
fn encryption_by_settings_is_refused_by_name() {
    for (name, value) in [
        ("innodb_redo_log_encrypt", "ON"),
        ("innodb_undo_log_encrypt", "1"),
        ("innodb_encrypt_log", "ON"),
        ("innodb_encrypt_tables", "FORCE"),
        ("aria_encrypt_tables", "ON"),
    ] {
        let e = maria(&[(name, value)]).unwrap_err().to_string();
        assert!(
            e.contains(&format!("{name} = {value}")) && e.contains("Mysqldump"),
            "{e}"
        );
        maria(&[(name, "OFF")]).unwrap();
    }
}

#[test]
fn a_member_of_a_cluster_is_no_target_also_while_it_is_down() {
    let of = |all: &[(&str, &str)]| -> Variables {
        all.iter()
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .collect()
    };
    refuse_cluster(&of(&[
        ("wsrep_on", "OFF"),
        ("group_replication_group_name", ""),
    ]))
    .unwrap();
    refuse_cluster(&of(&[(
        "group_replication_group_name",
        "(No default value)",
    )]))
    .unwrap();
    let e = refuse_cluster(&of(&[("wsrep_on", "ON")]))
        .unwrap_err()
        .to_string();
    assert!(e.contains("wsrep_on = ON") && e.contains("Galera"), "{e}");
    // `mysqld --verbose --help` prints TRUE.
    for on in ["ON", "TRUE"] {
        let group = [
            (
                "group_replication_group_name",
                "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa",
            ),
            ("group_replication_start_on_boot", on),
        ];
        let e = refuse_cluster(&of(&group)).unwrap_err().to_string();
        assert!(e.contains("group replication member"), "{e}");
    }
}

#[test]
fn the_directory_of_a_temporary_tablespace_is_made() {
    let f = maria(&[(
        "innodb_temp_data_file_path",
        "../x/ibtmp1:12M;scratch/ibtmp2:1M:autoextend",
    )]);
    assert_eq!(f.unwrap().dirs, [PathBuf::from("scratch")]);
    assert!(
        maria(&[("innodb_temp_data_file_path", "ibtmp1:12M")])
            .unwrap()
            .dirs
            .is_empty()
    );
}

#[test]
fn a_record_of_an_earlier_version_is_read() {
    let info = DatadirInfo::for_test();
    let mut record = serde_json::to_value(&info).unwrap();
    let keys = record.as_object_mut().unwrap();
    for name in ["plugins", "gtid_mode", "stopword_table"] {
        assert!(keys.remove(name).is_some(), "{name}");
    }
    assert_eq!(serde_json::from_value::<DatadirInfo>(record).unwrap(), info);
}

#[test]
fn bytes_of_the_redo_log() {
    let all = [
        ("innodb_redo_log_capacity", "104857600"),
        ("innodb_log_file_size", "50331648"),
    ];
    for (version, bytes) in [
        ("9.7.4", 104_857_600),
        ("5.7.44", 2 * 50_331_648),
        ("10.11.6-MariaDB", 50_331_648),
    ] {
        assert_eq!(facts(version, &all).unwrap().redo_log(), bytes, "{version}");
    }
}

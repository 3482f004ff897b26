use super::*;

const NEEDED: &str = "--source db1 --target db2:3003 --mysql-user orc --mysql-password-file ";

struct Files(PathBuf);

impl Files {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("oa-options-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn file(&self, name: &str, text: &str, mode: u32) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_string()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_string).collect()
}

/// The options of a line, with a user and its password.
pub(crate) fn with_user(line: &str) -> Options {
    let files = Files::new(&format!("user-{:?}", std::thread::current().id()));
    let file = files.file("pw", "x", 0o600);
    let line = format!("{line} --mysql-user u --mysql-password-file {file}");
    parse(&words(&line)).unwrap().unwrap()
}

fn refused(line: &str) -> String {
    parse(&words(line)).unwrap_err()
}

#[test]
fn defaults_and_the_password_without_its_newline() {
    let files = Files::new("defaults");
    let file = files.file("pw", "geheim \n\n", 0o600);
    let o = parse(&words(&format!("{NEEDED}{file}"))).unwrap().unwrap();
    assert_eq!((o.source.host.as_str(), o.source.port), ("db1", None));
    assert_eq!((o.target.host.as_str(), o.target.port), ("db2", Some(3003)));
    assert_eq!(
        o.mysql.password.reveal(),
        "geheim \n",
        "one newline is the editor's, the rest the user's"
    );
    assert_eq!(o.listen.to_string(), "[::]:3001");
    assert_eq!(
        (o.agent_wait, o.poll),
        (Duration::from_secs(90), Duration::from_secs(1))
    );
    assert!(o.method.is_none() && o.connect && !o.force && !o.dry_run && o.replication.is_none());
    assert!(o.seed_id > 1_700_000_000 && o.warnings.is_empty());
    assert!(!format!("{o:?}").contains("geheim"));
}

#[test]
fn everything_given_and_both_spellings() {
    let files = Files::new("all");
    let (pw, rp) = (files.file("pw", "a\n", 0o644), files.file("rp", "b", 0o600));
    let line = format!(
        "--source=[2001:db8::1]:3002 --target [::2] --mysql-user=orc --mysql-password-file={pw} --method mysqlDUMP \
         --replication-user repl --replication-password-file {rp} --replication gtid --connect-to db9:3307 --force --dry-run \
         --seed-id 7 --poll 250ms --agent-wait=2m --listen 127.0.0.1:4001 --no-connect"
    );
    let o = parse(&words(&line)).unwrap().unwrap();
    assert_eq!(
        o.source,
        HostPort {
            host: "2001:db8::1".into(),
            port: Some(3002)
        }
    );
    assert_eq!(
        o.target,
        HostPort {
            host: "::2".into(),
            port: None
        }
    );
    assert_eq!(
        o.connect_to,
        Some(HostPort {
            host: "db9".into(),
            port: Some(3307)
        })
    );
    assert_eq!(
        (o.method, o.mode, o.seed_id),
        (Some(Method::Mysqldump), Mode::Gtid, 7)
    );
    assert!(o.force && o.dry_run && !o.connect);
    let replication = o.replication.unwrap();
    assert_eq!(
        (replication.user.as_str(), replication.password.reveal()),
        ("repl", "b")
    );
    assert!(
        o.warnings.len() == 1 && o.warnings[0].contains("--mysql-password-file"),
        "{:?}",
        o.warnings
    );
}

/// A command line, and a part of the text.
const WRONG: &str = r#"
 | --source is missing
--source db1 | --target is missing
--source db1 --target DB1 | same host
--source db1 --target db1:3003 | same host
--source db1 --target db2 | --mysql-user
--source db1 --target db2 --mysql-user u | go together
--source db1 --target db2 --config c --replication-user u | --replication-password-file
--source db1 --target db2 --config c --source-token-file t | --target-token-file
--source db1 --target db2 --config c --password x | --password: no such option
--source db1 --target db2 --config | --config needs a value
--source= --target db2 | --source needs a value
--source db1 --source db2 | twice
--force=yes | takes no value
db1 | begin with --
--sorce db1 | --sorce: no such option; did you mean --source?
--source ::1 --target db2 | [ADDRESS]
--source [::1 --target db2 | not closed
--source [db1] --target db2 | no IPv6
--source [::1]3002 --target db2 | :PORT
--source db1:0 --target db2 | 1 to 65535
--source db1:+80 --target db2 | 1 to 65535
--source db1/x --target db2 | no host name
--source db'1 --target db2 | no host name
--source db1 --target db2 --config c --method LVM | not supported by this version yet
--source db1 --target db2 --config c --method rsync | no such method
--source db1 --target db2 --config c --replication gitd | auto, gtid or position
--source db1 --target db2 --config c --replication position --connect-to db3 | needs GTID
--source db1 --target db2 --config c --poll 5 | missing unit
--source db1 --target db2 --config c --poll 0 | 100ms
--source db1 --target db2 --config c --seed-id 0 | positive
--source db1 --target db2 --config c --listen localhost | --listen localhost
"#;

#[test]
fn wrong_lines_name_the_option() {
    for row in WRONG.lines().filter(|row| !row.is_empty()) {
        let (line, part) = row.split_once(" | ").unwrap();
        let text = refused(line);
        assert!(text.contains(part), "{line}: {text}");
    }
}

#[test]
fn a_missing_file_is_no_usage_error_and_is_named() {
    let e = parse(&words(&format!("{NEEDED}/no/such/pw")))
        .unwrap()
        .unwrap_err();
    assert!(
        e.to_string().contains("--mysql-password-file /no/such/pw"),
        "{e}"
    );
    let e = parse(&words("--source a --target b --config /no/such.conf"))
        .unwrap()
        .unwrap_err();
    assert!(e.to_string().contains("/no/such.conf"), "{e}");
}

#[test]
fn the_usage_text_names_every_option() {
    for (name, _) in known() {
        assert!(USAGE.contains(&format!("--{name}")), "{name}");
    }
}

#[test]
fn what_a_typed_host_names() {
    let typed = |host: &str| HostPort {
        host: host.into(),
        port: None,
    };
    for (given, registered) in [
        ("db1", "DB1"),
        ("db1", "db1.example.com"),
        ("DB1.example.com", "db1.Example.com."),
        ("::1", "0:0::1"),
    ] {
        assert!(typed(given).names(registered), "{given} {registered}");
    }
    for (given, registered) in [
        ("db1", "db10.example.com"),
        ("db1.example.com", "db1"),
        ("db1.a", "db1.b"),
        ("10.0.0.1", "10.0.0.10"),
    ] {
        assert!(!typed(given).names(registered), "{given} {registered}");
    }
}

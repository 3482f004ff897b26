//! JSON configurations of the Go agent of the classic protocol: their values, their faults, and which files are read.

use super::super::places::Places;
use super::*;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A host's places in a directory of its own.
struct Host(PathBuf);

impl Host {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("oa-json-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        for sub in ["etc", "cwd/conf"] {
            std::fs::create_dir_all(dir.join(sub)).unwrap();
            std::fs::set_permissions(dir.join(sub), std::fs::Permissions::from_mode(0o755))
                .unwrap();
        }
        std::fs::set_permissions(dir.join("cwd"), std::fs::Permissions::from_mode(0o755)).unwrap();
        Self(dir)
    }

    fn put(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn load(&self, named: Option<&Path>) -> Result<Loaded, Faults> {
        load_from(
            named,
            &Places {
                toml: self.0.join("etc/a.conf"),
                json: self.0.join("etc/a.conf.json"),
                working_dir: self.0.join("cwd"),
            },
        )
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// As the daemon prints it, of one JSON file with this text: its faults or warnings without the file's name.
fn of(text: &str) -> Result<Loaded, Faults> {
    static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let host = Host::new(&format!("one-{number}"));
    let file = host.put("a.json", text, 0o600);
    host.load(Some(&file))
}

/// The smallest file, with more keys.
fn json(more: &str) -> String {
    format!("{{\"AgentsServer\": \"http://orc:3001\"{more}}}")
}

fn read(more: &str) -> Config {
    let loaded = of(&json(more)).unwrap();
    assert_eq!(loaded.warnings, Vec::<String>::new(), "{more}");
    assert!(loaded.is_json);
    loaded.config
}

const ALL: &str = r#"{
    "SnapshotMountPoint": "/var/tmp/mysql-mount",
    "ContinuousPollSeconds": 30,
    "ResubmitAgentIntervalMinutes": 10,
    "CreateSnapshotCommand": "create",
    "AvailableLocalSnapshotHostsCommand": "local",
    "AvailableSnapshotHostsCommand": "echo localhost\n127.0.0.1",
    "SnapshotVolumesFilter": "-my-snapshot-",
    "MySQLDatadirCommand": "set $(grep datadir /etc/my.cnf | head -n 1 | awk -F= '{print $2}') ; echo $1",
    "MySQLPortCommand": "port",
    "MySQLDeleteDatadirContentCommand": "delete",
    "MySQLServiceStopCommand": "stop",
    "MySQLServiceStartCommand": "start",
    "MySQLServiceStatusCommand": "status",
    "ReceiveSeedDataCommand": "receive",
    "SendSeedDataCommand": "send",
    "PostCopyCommand": "post",
    "MySQLClientCommand": "mysql -uroot",
    "AgentsServer": "https://orc",
    "AgentsServerPort": ":3001",
    "HTTPPort": 4002,
    "HTTPAuthUser": "u",
    "HTTPAuthPassword": "p",
    "UseSSL": true,
    "UseMutualTLS": true,
    "SSLSkipVerify": true,
    "SSLPrivateKeyFile": "/k",
    "SSLCertFile": "/c",
    "SSLCAFile": "/ca",
    "SSLValidOUs": ["dba", "\u007f\"\\"],
    "StatusEndpoint": "/status",
    "StatusOUVerify": true,
    "StatusBadSeconds": 20,
    "HttpTimeoutSeconds": 5,
    "ExecWithSudo": false,
    "CustomCommands": {"hello": "echo 'hello\tworld'", "odd.name \"x\"": "true"},
    "TokenHintFile": "/token",
    "TokenHttpHeader": "X-Token"
}"#;

#[test]
fn every_key_has_its_place() {
    let loaded = of(ALL).unwrap();
    assert_eq!(loaded.warnings, Vec::<String>::new());
    let Config {
        common: c,
        orchestrator,
        logging,
        mysql,
        custom_commands,
        lvm,
        classic,
        ..
    } = loaded.config;
    let s = Duration::from_secs;
    assert_eq!(
        (c.poll_interval, c.resubmit_agent_interval),
        (s(30), s(600))
    );
    assert_eq!((c.status_bad_seconds, c.http_timeout), (s(20), s(5)));
    assert_eq!((c.port, c.seed_port), (4002, 21234));
    assert_eq!(
        (c.http_auth_user.as_str(), c.http_auth_password.reveal()),
        ("u", "p")
    );
    assert!(c.use_ssl && c.use_mutual_tls && c.ssl_skip_verify && c.status_ou_verify);
    assert!(!c.exec_with_sudo);
    let files = [
        &c.ssl_private_key_file,
        &c.ssl_cert_file,
        &c.ssl_ca_file,
        &c.token_hint_file,
    ];
    assert_eq!(files, ["/k", "/c", "/ca", "/token"]);
    assert_eq!(c.ssl_valid_ous, ["dba", "\u{7f}\"\\"]);
    assert_eq!(
        (c.status_endpoint.as_str(), c.token_http_header.as_str()),
        ("/status", "X-Token")
    );
    assert_eq!(orchestrator.urls[..], ["https://orc:3001"]);
    assert_eq!(orchestrator.protocol, Protocol::Auto);
    assert_eq!(logging.file, "");
    let service = [
        &mysql.service_stop_command,
        &mysql.service_start_command,
        &mysql.service_status_command,
    ];
    assert_eq!(service, ["stop", "start", "status"]);
    assert_eq!(custom_commands["hello"], "echo 'hello\tworld'");
    assert_eq!(custom_commands["odd.name \"x\""], "true");
    let of_lvm = [
        &lvm.create_snapshot_command,
        &lvm.available_local_snapshot_hosts_command,
        &lvm.available_snapshot_hosts_command,
        &lvm.snapshot_volumes_filter,
    ];
    assert_eq!(
        of_lvm,
        [
            "create",
            "local",
            "echo localhost\n127.0.0.1",
            "-my-snapshot-"
        ]
    );
    assert!(classic.mysql_datadir_command.ends_with("; echo $1"));
    let of_classic = [
        &classic.mysql_port_command,
        &classic.delete_mysql_datadir_content_command,
        &classic.receive_seed_data_command,
        &classic.send_seed_data_command,
        &classic.post_copy_command,
        &classic.mysql_client_command,
        &classic.snapshot_mount_point,
    ];
    let values = [
        "port",
        "delete",
        "receive",
        "send",
        "post",
        "mysql -uroot",
        "/var/tmp/mysql-mount",
    ];
    assert_eq!(of_classic, values);
}

#[test]
fn what_the_go_agent_does_without_a_key() {
    let c = read("");
    assert_eq!(c.common.hostname, crate::sys::host::kernel_hostname());
    assert_eq!(
        c.common.backup_dir,
        Path::new("/var/lib/orchestrator-agent/backup")
    );
    assert_eq!(
        (
            c.logging.file.as_str(),
            c.mysql.service_status_command.as_str()
        ),
        ("", "")
    );
    assert_eq!(
        (c.common.port, c.common.poll_interval),
        (3002, Duration::from_secs(60))
    );
    assert!(!c.needs_account());
    let bash = Path::new("/bin/bash");
    let shell = if bash.exists() {
        bash
    } else {
        Path::new("/bin/sh")
    };
    assert_eq!(c.common.shell, shell);
    let c = read(", \"common\": {\"State-Dir\": \"/s\"}");
    assert_eq!(c.common.backup_dir, Path::new("/s/backup"));
}

#[test]
fn an_account_enables_the_built_in_methods() {
    let c = read(
        ", \"MySQL\": {\"user\": \"agent\", \"password\": \"pw\", \"socket\": \"/s\"}, \"clone-plugin\": {\"enabled\": false}",
    );
    assert_eq!(
        (c.mysql.user.as_str(), c.mysql.password.reveal()),
        ("agent", "pw")
    );
    assert_eq!(c.mysql.socket, "/s");
    assert!(c.mysqldump.enabled && c.mydumper.enabled && c.xtrabackup.enabled);
    assert!(!c.clone_plugin.enabled);
}

#[test]
fn address_and_port_are_put_together() {
    for (server, port, url, agents_port) in [
        ("http://orc", ":3001", "http://orc:3001", 3001),
        ("http://orc:3001", "", "http://orc:3001", 3001),
        ("http://orc:", "3001", "http://orc:3001", 3001),
        ("https://orc/prefix", "", "https://orc/prefix", 443),
        ("http://[::1]", "", "http://[::1]", 80),
        (
            "http://orc",
            ":3001/prefix/",
            "http://orc:3001/prefix",
            3001,
        ),
    ] {
        let text = format!("{{\"agentsserver\": {server:?}, \"AGENTSSERVERPORT\": {port:?}}}");
        let c = of(&text).unwrap().config.orchestrator;
        assert_eq!(
            (&c.urls[..], c.agents_port),
            (&[url.to_string()][..], agents_port)
        );
    }
    let own = r#"{"AgentsServer": "http://o", "orchestrator": {"Agents-Port": 3001}}"#;
    let loaded = of(own).unwrap();
    assert_eq!(loaded.warnings, Vec::<String>::new());
    assert_eq!(loaded.config.orchestrator.agents_port, 3001);
    for port in ["3001", "x"] {
        let text = only(
            &of(&json(&format!(", \"AgentsServerPort\": {port:?}")))
                .unwrap_err()
                .errors,
        );
        assert!(
            text.starts_with(&format!("AgentsServerPort = {port:?}: it is put behind")),
            "{text}"
        );
    }
    let doubled = only(
        &of(&json(", \"AgentsServerPort\": \":3001\""))
            .unwrap_err()
            .errors,
    );
    assert!(
        doubled.starts_with("AgentsServer = \"http://orc:3001:3001\": the port is not"),
        "{doubled}"
    );
}

/// More keys, and how the text of the only fault begins.
const FAULTS: &str = r#"
"HTTPPort": "3002" | HTTPPort = "3002": expected a whole number, without quotes, found a string
"httpport": 0 | HTTPPort = 0: expected a whole number from 1 to 65535
"HTTPPort": 70000 | HTTPPort = 70000: expected a whole number from 1 to 65535
"HTTPPort": -1 | HTTPPort = -1: expected a whole number, without quotes, found a negative number
"HTTPPort": 3002.5 | HTTPPort = 3002.5: expected a whole number, without quotes, found a number with a fraction
"HTTPPort": 21234 | HTTPPort and common.seed-port are both 21234
"ContinuousPollSeconds": "60s" | ContinuousPollSeconds = "60s": expected a whole number, without quotes, found a string
"ContinuousPollSeconds": -60 | ContinuousPollSeconds = -60: expected a whole number, without quotes, found a negative number
"UseSSL": "true" | UseSSL = "true": expected true or false, without quotes, found a string
"SSLValidOUs": "dba" | SSLValidOUs = "dba": expected a list of strings such as ["a", "b"], found a string
"SSLValidOUs": [1] | SSLValidOUs = [...]: expected a list of strings such as ["a", "b"], found a list
"PostCopyCommand": ["a"] | PostCopyCommand = [...]: expected a string in quotes, found a list
"CustomCommands": ["a"] | CustomCommands = [...]: expected an object of commands such as {"hello": "echo hello"}, found a list
"CustomCommands": {"a": 5} | CustomCommands.a = 5: expected a string in quotes, found a whole number
"HTTPAuthPassword": 424242 | HTTPAuthPassword: expected a string in quotes, found a whole number (value not shown)
"HTTPAuthUser": "u" | HTTPAuthUser is set but HTTPAuthPassword is not specified: set HTTPAuthPassword or remove the user
"UseMutualTLS": true | UseMutualTLS is true but UseSSL is false
"UseSSL": true, "SSLCertFile": "/c" | UseSSL is true but SSLPrivateKeyFile is not specified: set SSLPrivateKeyFile to the PEM file of the key
"UseSSL": true, "SSLPrivateKeyFile": "/k" | UseSSL is true but SSLCertFile is not specified: set SSLCertFile to the PEM file of the certificate
"StatusEndpoint": "status" | StatusEndpoint = "status": must start with /
"TokenHttpHeader": "X Token" | TokenHttpHeader = "X Token": not a valid header name
"SnapshotMountPoint": "mnt" | SnapshotMountPoint = "mnt": must be an absolute path
"mysql": "agent" | mysql: expected an object of settings, found a string
"mysql": {"user": "agent"} | mysql password not specified
"mysql": {"user": "agent", "password": 424242} | mysql.password: expected a string in quotes, found a whole number (value not shown)
"mysql": {"port": {}} | mysql.port = {...}: expected a whole number from 1 to 65535
"common": {"port": 0} | common.port = 0: expected a whole number from 1 to 65535
"HTTPPort": 1, "common": {"Port": 2} | common.Port: this is set already, by HTTPPort: keep one
"#;

#[test]
fn faults_one_by_one() {
    for row in FAULTS.lines().filter(|row| !row.is_empty()) {
        let (keys, wanted) = row.split_once(" | ").unwrap();
        let faults = of(&json(&format!(", {keys}"))).unwrap_err();
        let text = only(&faults.errors);
        assert!(text.starts_with(wanted), "{row}: {text}");
        assert!(!faults.to_string().contains("424242"), "{faults}");
    }
}

#[test]
fn faults_of_every_kind_at_once_and_of_the_file() {
    let text = r#"{"HTTPPort": 0, "UseSSL": 1, "UseMutualTLS": true, "CustomComands": {}, "TokenHttpHeader": "X T"}"#;
    let faults = of(text).unwrap_err();
    let begin = [
        "UseSSL = 1: expected",
        "HTTPPort = 0: expected",
        "orchestrator url not specified: set AgentsServer",
        "TokenHttpHeader = ",
    ];
    assert_eq!(faults.errors.len(), begin.len(), "{faults}");
    for (fault, begin) in faults.errors.iter().zip(begin) {
        assert!(fault.starts_with(begin), "{fault}");
    }
    assert_eq!(
        faults.warnings,
        ["unknown key CustomComands is ignored; did you mean \"CustomCommands\"?"]
    );
    assert!(
        faults
            .to_string()
            .lines()
            .all(|line| line.contains("a.json: "))
    );
    for (text, wanted) in [
        (
            "{\n\"HTTPPort\": }",
            "invalid JSON: expected value at line 2 column 13",
        ),
        ("[1]", "not a JSON object"),
        ("", "invalid JSON: EOF"),
        (" \n{\"a\": 1} x", "invalid JSON: trailing characters"),
    ] {
        let faults = of(text).unwrap_err().errors;
        assert!(faults[0].starts_with(wanted), "{text}: {faults:?}");
    }
}

#[test]
fn what_is_ignored_is_named() {
    for (more, wanted) in [
        (
            "\"MySQLDataDirCommand2\": 1",
            "unknown key MySQLDataDirCommand2 is ignored; did you mean \"MySQLDatadirCommand\"?",
        ),
        ("\"zzzzzzzzzzz\": {}", "unknown key zzzzzzzzzzz is ignored"),
        (
            "\"mysql\": {\"prot\": 1}",
            "unknown key mysql.prot is ignored; did you mean \"port\"?",
        ),
        (
            "\"ContinuousPollSeconds\": 0",
            "ContinuousPollSeconds = 0 is ignored and the default used",
        ),
        (
            "\"HttpTimeoutSeconds\": -1",
            "HttpTimeoutSeconds = -1 is ignored and the default used",
        ),
        (
            "\"HTTPPort\": 1, \"httpPort\": 4002",
            "httpPort is set twice: the last one is used",
        ),
        ("\"ExecWithSudo\": true", "ExecWithSudo is not used"),
    ] {
        let loaded = of(&json(&format!(", {more}"))).unwrap();
        let text = only(&loaded.warnings);
        assert!(text.starts_with(wanted), "{more}: {text}");
        assert!(!loaded.config.common.exec_with_sudo);
        assert!([3002, 4002].contains(&loaded.config.common.port));
    }
    read(", \"HTTPPort\": null, \"mysql\": null, \"CustomCommands\": {\"x\": null}");
}

#[test]
fn each_file_overrides_the_earlier_ones() {
    let host = Host::new("merge");
    host.put(
        "etc/a.conf.json",
        r#"{"AgentsServer": "http://a:1", "HTTPPort": 1, "PostCopyCommand": "a", "CustomCommands": {"x": "1", "y": "1"},
            "mysql": {"user": "a", "password": "p"}}"#,
        0o600,
    );
    host.put(
        "cwd/conf/orchestrator-agent.conf.json",
        r#"{"AgentsServer": "http://b:1", "httpport": 2, "PostCopyCommand": null, "mysql": {"user": "b"}}"#,
        0o644,
    );
    let last = host.put(
        "cwd/orchestrator-agent.conf.json",
        r#"{"AgentsServer": "http://c:1", "customcommands": {"y": "2"}, "SSLValidOUs": []}"#,
        0o600,
    );
    let loaded = host.load(None).unwrap();
    assert_in(
        "conf/orchestrator-agent.conf.json holds a password",
        &only(&loaded.warnings),
    );
    assert_eq!(loaded.file.split(", ").count(), 3, "{}", loaded.file);
    let c = loaded.config;
    assert_eq!(
        (&c.orchestrator.urls[..], c.common.port),
        (&["http://c:1".to_string()][..], 2)
    );
    assert_eq!(
        (c.classic.post_copy_command.as_str(), c.mysql.user.as_str()),
        ("a", "b")
    );
    assert_eq!(
        (
            c.custom_commands["x"].as_str(),
            c.custom_commands["y"].as_str()
        ),
        ("1", "2")
    );
    // A fault names the file that it is in.
    std::fs::write(&last, "{\"HTTPPort\": \"x\", \"mysql\": {\"port\": 0}}").unwrap();
    let faults = host.load(None).unwrap_err();
    assert_eq!(faults.errors.len(), 2, "{faults}");
    for fault in &faults.errors {
        assert!(
            fault.starts_with(&format!("{}: ", last.display())),
            "{fault}"
        );
    }
    // A named file is the only one.
    let c = host
        .load(Some(&host.0.join("etc/a.conf.json")))
        .unwrap()
        .config;
    assert_eq!(c.orchestrator.urls[..], ["http://a:1"]);
}

#[test]
fn toml_takes_precedence_and_json_is_named() {
    let host = Host::new("both");
    let json = host.put("etc/a.conf.json", &json(""), 0o600);
    assert!(host.load(None).unwrap().is_json);
    let toml = host.put("etc/a.conf", &file(&[]), 0o600);
    let loaded = host.load(None).unwrap();
    assert!(!loaded.is_json);
    let warning = only(&loaded.warnings);
    assert!(warning.starts_with(&format!(
        "{} is ignored, because {}",
        json.display(),
        toml.display()
    )));
    // The same for a named one, and for TOML where JSON is named.
    let named = host.put("named", &file(&[]), 0o600);
    assert_in(
        "it is named by --config",
        &only(&host.load(Some(&named)).unwrap().warnings),
    );
    let loaded = host.load(Some(&json)).unwrap();
    assert!(loaded.is_json);
    assert_in(&toml.display().to_string(), &only(&loaded.warnings));
    // JSON in the place of TOML is the only file as well.
    std::fs::write(&toml, self::json("")).unwrap();
    let loaded = host.load(None).unwrap();
    assert!(loaded.is_json);
    assert!(only(&loaded.warnings).starts_with(&format!("{} is ignored, because", json.display())));
    // A broken TOML file is a fault, not a reason to read JSON.
    std::fs::write(&toml, "[common]\nport = 0\n").unwrap();
    assert!(host.load(None).is_err());
}

#[test]
fn places_below_the_working_directory_must_be_trusted() {
    let files = [
        "cwd/conf/orchestrator-agent.conf.json",
        "cwd/orchestrator-agent.conf.json",
    ];
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let host = Host::new("trust");
    let none = host.load(None).unwrap_err();
    assert_in("create it from the sample", &only(&none.errors));
    let [below, beside] = files.map(|file| host.put(file, &json(""), 0o644));
    assert_eq!(
        host.load(None).unwrap().file,
        format!("{}, {}", below.display(), beside.display())
    );
    // Name of what is not trusted, its mode, and how many files are ignored for it.
    for (path, bad, ignored) in [
        (&beside, 0o664, 1),
        (&below, 0o646, 1),
        (&host.0.join("cwd/conf"), 0o777, 1),
        (&host.0.join("cwd"), 0o775, 2),
    ] {
        let good = std::fs::metadata(path).unwrap().permissions().mode();
        mode(path, bad);
        let warnings = match host.load(None) {
            Ok(loaded) => loaded.warnings,
            Err(faults) => faults.warnings,
        };
        assert_eq!(warnings.len(), ignored, "{}: {warnings:?}", path.display());
        let why = format!("{} can be written to by other users", path.display());
        assert!(
            warnings.iter().all(|text| text.contains(&why)),
            "{warnings:?}"
        );
        mode(path, good);
    }
    // Another owner; only root can give a file away.
    if crate::sys::process::effective_uid() == 0 {
        chown(&below, Some(12_345), None).unwrap();
        let loaded = host.load(None).unwrap();
        assert_in("belongs to user 12345", &only(&loaded.warnings));
        assert_eq!(loaded.file, beside.display().to_string());
    }
    // One that is named is read all the same.
    mode(&beside, 0o666);
    assert!(host.load(Some(&beside)).is_ok());
}

#[test]
fn a_link_below_the_working_directory_must_lead_to_a_trusted_place() {
    let host = Host::new("link");
    let place = host.0.join("place");
    std::fs::create_dir_all(place.join("inner")).unwrap();
    let mode = |mode| {
        std::fs::set_permissions(&place, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(0o755);
    std::fs::set_permissions(place.join("inner"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let real = host.put("place/inner/real.json", &json(""), 0o644);
    let link = host.0.join("cwd/orchestrator-agent.conf.json");
    std::os::unix::fs::symlink(&real, &link).unwrap();
    assert_eq!(host.load(None).unwrap().file, link.display().to_string());
    let ignored = || only(&host.load(None).unwrap_err().warnings);
    mode(0o777);
    let why = format!("{} can be written to by other users", place.display());
    assert_in(&why, &ignored());
    mode(0o1777);
    assert!(host.load(None).is_ok(), "as /tmp is");
    if crate::sys::process::effective_uid() == 0 {
        mode(0o755);
        chown(&place, Some(12_345), None).unwrap();
        assert_in("place belongs to user 12345", &ignored());
    }
}

#[test]
fn commands_may_hold_passwords() {
    let host = Host::new("secrets");
    for (more, what) in [
        ("", None),
        (
            ", \"MySQLClientCommand\": \"mysql -uroot -psecret\"",
            Some("commands"),
        ),
        (
            ", \"CustomCommands\": {\"flush\": \"mysql -psecret -e flush\"}",
            Some("commands"),
        ),
        (
            ", \"PostCopyCommand\": \"true\", \"HTTPAuthUser\": \"u\", \"HTTPAuthPassword\": \"p\"",
            Some("a password"),
        ),
    ] {
        let open = host.put("open.json", &json(more), 0o644);
        let warnings = host.load(Some(&open)).unwrap().warnings;
        let Some(what) = what else {
            assert_eq!(warnings, Vec::<String>::new());
            continue;
        };
        let warning = only(&warnings);
        assert_in(&format!("open.json holds {what}"), &warning);
        assert_in("run chmod o-r on it", &warning);
        let closed = host.put("closed.json", &json(more), 0o640);
        assert_eq!(
            host.load(Some(&closed)).unwrap().warnings,
            Vec::<String>::new()
        );
    }
}

#[test]
fn the_converted_file_is_the_same_configuration() {
    let host = Host::new("convert");
    let account = json(
        ", \"mysql\": {\"user\": \"agent\", \"password\": \"p\\\"w\"}, \"ExecWithSudo\": true, \"unknown\\n[mysql]\": 1, \
         \"xtrabackup\": {\"additional-opts\": [\"--parallel=2\"]}",
    );
    for (number, text) in [ALL.to_string(), json(""), account].iter().enumerate() {
        let path = host.put(&format!("{number}.json"), text, 0o600);
        let direct = host.load(Some(&path)).unwrap();
        let (toml, warnings) = convert(std::slice::from_ref(&path)).unwrap();
        assert_eq!(warnings, direct.warnings);
        let converted = parse(&toml).unwrap_or_else(|e| panic!("{e}\n{toml}"));
        assert_eq!(converted.warnings, Vec::<String>::new());
        assert_eq!(converted.config, direct.config, "{toml}");
        assert!(toml.starts_with(&format!("# Converted from {}", path.display())));
        assert!(
            toml.contains("mode 0640")
                && toml.contains(
                    "It differs on each host: remove it, or convert on each.\nhostname = "
                )
                && warnings
                    .iter()
                    .all(|w| toml.contains(&w.replace('\n', " ")))
        );
    }
    let bad = host.put("bad.json", "{\"HTTPPort\": \"x\"}", 0o600);
    assert_in(
        "bad.json: HTTPPort = ",
        &convert(&[bad]).unwrap_err().to_string(),
    );
    assert!(convert(&[host.0.join("missing")]).is_err());
}

//! What is said of each fault, and that all faults of a file are found at once.

use super::*;

/// Section, keys put into a valid file, and how the text of the only fault begins.
const ONE_BY_ONE: &str = r#"
common | port = "3002" | common.port = "3002": expected a whole number from 1 to 65535, without quotes, found a string
common | hostname = 5 | common.hostname = 5: expected a string in quotes, found a whole number
common | use-ssl = "true" | common.use-ssl = "true": expected true or false, without quotes, found a string
common | use-ssl = 1979-05-27 | common.use-ssl = 1979-05-27: expected true or false, without quotes, found a date or time
common | ssl-valid-ous = "dba" | common.ssl-valid-ous = "dba": expected a list of strings such as ["a", "b"], found a string
common | allowed-clients = [1] | common.allowed-clients = [...]: expected a list of strings such as ["a", "b"], found a list
common | poll-interval = true | common.poll-interval = true: expected a duration in quotes such as "90s", found true or false
orchestrator | url = 5 | orchestrator.url = 5: expected a string in quotes or a list of strings, found a whole number
logging | level = 5 | logging.level = 5: expected a string in quotes, found a whole number
mysql | password = 5 | mysql.password: expected a string in quotes, found a whole number (value not shown)
custom-commands | hello = "x" | custom-commands.hello: expected a section [custom-commands.hello], found a string
custom-commands.x | cmd = 5 | custom-commands.x.cmd = 5: expected a string in quotes, found a whole number
common | port = 0 | common.port = 0: expected a whole number from 1 to 65535
common | port = 65536 | common.port = 65536: expected a whole number from 1 to 65535
common | port = -1 | common.port = -1: expected a whole number from 1 to 65535
common | port = 3002.5 | common.port = 3002.5: expected a whole number from 1 to 65535
common | seed-port = 0 | common.seed-port = 0: expected a whole number from 1 to 65535
common | seed-port = 65536 | common.seed-port = 65536: expected a whole number from 1 to 65535
common | seed-port = -1 | common.seed-port = -1: expected a whole number from 1 to 65535
common | seed-port = 3002.5 | common.seed-port = 3002.5: expected a whole number from 1 to 65535
common | port = 99999999999999999999 | common.port = 99999999999999999999: expected a whole number from 1 to 65535
orchestrator | agents-port = 0 | orchestrator.agents-port = 0: expected a whole number from 1 to 65535
mysql | port = 70000 | mysql.port = 70000: expected a whole number from 1 to 65535
common | max-connections = 0 | common.max-connections = 0: expected a whole number from 1 to 10000
common | seed-rate-limit = -1 | common.seed-rate-limit = -1: expected a whole number from 0 to 9223372036854775807
common | seed-rate-limit = 9223372036854775808 | common.seed-rate-limit = 9223372036854775808: expected a whole number from 0
clone_plugin | clone-max-concurrency = 129 | clone_plugin.clone-max-concurrency = 129: expected a whole number from 1 to 128
clone_plugin | clone-buffer-size = 1 | clone_plugin.clone-buffer-size = 1: expected a whole number from 1048576 to 268435456
mysql | datadir-swap = "maybe" | mysql.datadir-swap = "maybe": expected one of "auto", "always", "never"
mysql | keep-old-data = false | mysql.keep-old-data = false: expected one of "until-cleanup", "no", "forever"
lvm | stream-compression = "gzip" | lvm.stream-compression = "gzip": expected one of "none", "lz4", "zstd"
orchestrator | protocol = "v3" | orchestrator.protocol = "v3": expected one of "auto", "v2", "classic"
logging | format = "xml" | logging.format = "xml": expected one of "text", "json", "logfmt"
common | poll-interval = 60 | common.poll-interval = 60: missing unit in duration; write it as a string with its unit, such as "60s"
common | http-timeout = 1.5 | common.http-timeout = 1.5: missing unit in duration; write it as a string with its unit, such as "1.5s"
common | poll-interval = "60" | common.poll-interval = "60": missing unit in duration; write it like "90s", "10m" or "1h30m"
common | poll-interval = "1d" | common.poll-interval = "1d": unknown unit in duration
mysql | boot-timeout = "-5s" | mysql.boot-timeout = "-5s": a negative duration makes no sense here
common | poll-interval = "0s" | common.poll-interval = "0s": must not be zero: give it a positive duration such as "60s", or remove it
common | resubmit-agent-interval = "0s" | common.resubmit-agent-interval = "0s": must not be zero: give it a positive duration such as "60s", or remove it
common | http-timeout = "0s" | common.http-timeout = "0s": must not be zero: give it a positive duration such as "60s", or remove it
common | status-bad-seconds = "0s" | common.status-bad-seconds = "0s": must not be zero: give it a positive duration such as "60s", or remove it
common | command-timeout = "0s" | common.command-timeout = "0s": must not be zero: give it a positive duration such as "60s", or remove it
common | seed-orphan-timeout = "0s" | common.seed-orphan-timeout = "0s": must not be zero: give it a positive duration such as "60s", or remove it
common | seed-first-byte-timeout = "0s" | common.seed-first-byte-timeout = "0s": must not be zero: give it a positive duration such as "60s", or remove it
common | seed-idle-timeout = "0s" | common.seed-idle-timeout = "0s": must not be zero: give it a positive duration such as "60s", or remove it
common | source-lock-timeout = "0s" | common.source-lock-timeout = "0s": must not be zero: give it a positive duration such as "60s", or remove it
mysqldump | addtional-opts = []; mysqldump-additional-opts = [] | mysqldump.mysqldump-additional-opts: this is set already, in another spelling: keep one, best as mysqldump-addtional-opts
common | port = 1; Port = 1 | common.Port: this is set already, in another spelling: keep one, best as port
orchestrator | url = "ftp://o" | orchestrator.url = "ftp://o": the scheme must be http or https
orchestrator | url = "http://" | orchestrator.url = "http://": the host is empty
orchestrator | url = "https:///" | orchestrator.url = "https:///": the host is empty
orchestrator | url = "http://:3000" | orchestrator.url = "http://:3000": the host is empty
orchestrator | url = "http://o:x" | orchestrator.url = "http://o:x": the port is not a number
orchestrator | url = "http://o:0" | orchestrator.url = "http://o:0": the port is not a number
orchestrator | url = "http://o:+1" | orchestrator.url = "http://o:+1": the port is not a number
orchestrator | url = "http://2001:db8::1" | orchestrator.url = "http://2001:db8::1": the port is not a number from 1 to 65535, and an IPv6 address belongs into [ ]
orchestrator | url = "http://[::1]3000" | orchestrator.url = "http://[::1]3000": the port is not a number
orchestrator | url = "http://o/web?x" | orchestrator.url = "http://o/web?x": there must be nothing but a path behind the host
orchestrator | url = "http://o/a b" | orchestrator.url = "http://o/a b": there must be nothing but a path behind the host
orchestrator | url = "http://o p" | orchestrator.url = "http://o p": this is not a host name
orchestrator | url = "http://user@o" | orchestrator.url = "http://user@o": there must be nothing but a path behind the host
orchestrator | url = ["a", ""] | orchestrator.url = [...]: "": the host is empty
orchestrator | url = "" | orchestrator url not specified
orchestrator | url = " " | orchestrator url not specified
orchestrator | url = [] | orchestrator url not specified
classic | seed-method = 5 | classic.seed-method = 5: expected "auto" or a list of seed methods such as ["Xtrabackup", "Mysqldump"], found a whole number
classic | seed-method = "rsync" | classic.seed-method = "rsync": "rsync" is not a seed method; the methods are ClonePlugin, LVM, Mydumper, Mysqldump, Xtrabackup
classic | seed-method = ["LVM", "auto"] | classic.seed-method = [...]: "auto" is not a seed method
classic | seed-method = ["LVM", "lvm"] | classic.seed-method = [...]: LVM is in it twice
classic | seed-method = [] | classic.seed-method = [...]: the list is empty
classic | connect-replication = false | classic.connect-replication = false: expected one of "auto", "start", "prepare", "no"
classic | connect-replication = "start" | classic.connect-replication is "start" but replication-user is not specified
classic | replication-password-file = "/f" | classic.replication-password-file is set but replication-user is not specified
classic | replication-user = "r"; replication-password-file = "f" | classic.replication-password-file = "f": must be an absolute path
classic | replication-user = "r" | classic.replication-user is set but replication-password-file is not specified
classic | snapshot-mount-point = "mnt" | classic.snapshot-mount-point = "mnt": must be an absolute path
logging | format = "json" | logging.format other than "text" is not available in this version: set logging.format = "text"
lvm | socat-use-ssl = true; socat-ssl-cert-file = "f" | lvm.socat-use-ssl = true is not available in this version: set
xtrabackup | socat-use-ssl = true | xtrabackup.socat-use-ssl is true but socat-ssl-cert-file is not specified
common | use-mutual-tls = true | common.use-mutual-tls is true but use-ssl is false
common | seed-port = 3002 | common.port and common.seed-port are both 3002
common | http-auth-user = "u" | common.http-auth-user is set but http-auth-password is not specified
common | token-http-header = "X Token" | common.token-http-header = "X Token": not a valid header name
common | token-http-header = "X-Token:" | common.token-http-header = "X-Token:": not a valid header name
common | token-http-header = "T\u00f6ken" | common.token-http-header = "Töken": not a valid header name
common | status-endpoint = "" | common.status-endpoint = "": must start with /
common | status-endpoint = "api/status" | common.status-endpoint = "api/status": must start with /
common | listen-address = "db7.test" | common.listen-address = "db7.test" is not an IP address
common | allowed-clients = ["10.0.0.0/33"] | allowed-clients in [common]: "10.0.0.0/33" has a prefix length that is not between 0 and 32
common | backup-dir = "relative" | common.backup-dir = "relative": must be an absolute path
common | shell = "bash" | common.shell = "bash": must be an absolute path
common | state-dir = "relative" | common.state-dir = "relative": must be an absolute path
mysql | host = "" | mysql.host = "" and no mysql.socket
mysql | datadir = "relative" | mysql.datadir = "relative": must be an absolute path
mysql | staging-dir = "relative" | mysql.staging-dir = "relative": must be an absolute path
mysql | datadir = "/no/such" | common.backup-dir = "/no/such/backup" is inside mysql.datadir = "/no/such"
mysql | datadir = "/var/lib/orchestrator-agent/" | common.state-dir = "/var/lib/orchestrator-agent" is inside mysql.datadir
"#;

#[test]
fn faults_one_by_one() {
    for row in ONE_BY_ONE.lines().filter(|row| !row.is_empty()) {
        let [section, keys, text] = row.split(" | ").collect::<Vec<_>>()[..] else {
            panic!("{row}");
        };
        let found = error(section, &keys.replace("; ", "\n"));
        assert!(found.starts_with(text), "{row}: {found}");
    }
}

#[track_caller]
fn faults(text: &str, errors: &[&str], warnings: &[&str]) {
    let faults = parse(text).unwrap_err();
    assert_eq!(faults.errors, errors);
    assert_eq!(faults.warnings, warnings);
}

#[test]
fn faults_of_every_kind_at_once() {
    faults(
        r#"above = 1
[common]
port = "3002"
PORT = 5
seed-port = 70000
poll-interval = 60
http-timeout = "0s"
command-timeout = "soon"
use-ssl = "true"
use-mutual-tls = true
hostname = ["a"]
ssl-valid-ous = "dba"
seed-secret = 424242
backup_dir = "/b"
state-dir = "relative"
token-http-header = "X Token"
listen-address = "db7.test"
allowed-clients = ["10.0.0.0/33", "10.0.0.1", "db1"]
http-auth-user = "u"

[orchestrator]
url = ["ftp://a", "b", "http://c:x"]
protocol = "v3"

[logging]
level = "loud"
format = "json"

[mysql]
user = 5
datadir-swap = "maybe"
boot-timeout = 1979-05-27

[mysqldump]
addtional-opts = []
additional-opts = []
load-threads = 4

[lvm]
enabled = true
create-snapshot-command = "c"
socat-use-ssl = true
stream-compression = 1

[clone-plugin]
clone-max-concurrency = 129

[custom-commands]
one = "x"
[custom-commands.two]
cmd = 5
[custom-commands.three]
cmdd = "c"

[classik]
seed-method = "LVM"
"#,
        &[
            "line 3: common.port = \"3002\": expected a whole number from 1 to 65535, without quotes, found a string",
            "line 5: common.seed-port = 70000: expected a whole number from 1 to 65535",
            "line 6: common.poll-interval = 60: missing unit in duration; write it as a string with its unit, such as \"60s\"",
            "line 7: common.http-timeout = \"0s\": must not be zero: give it a positive duration such as \"60s\", or remove it for the default",
            "line 8: common.command-timeout = \"soon\": not a duration; write it like \"90s\", \"10m\" or \"1h30m\"",
            "line 9: common.use-ssl = \"true\": expected true or false, without quotes, found a string",
            "line 11: common.hostname = [...]: expected a string in quotes, found a list",
            "line 12: common.ssl-valid-ous = \"dba\": expected a list of strings such as [\"a\", \"b\"], found a string",
            "line 13: common.seed-secret: expected a string in quotes, found a whole number (value not shown)",
            "line 22: orchestrator.url = [...]: \"ftp://a\": the scheme must be http or https; \"http://c:x\": the port is not a number from 1 to 65535, and an IPv6 address belongs into [ ]; write it like \"http://orchestrator.example.com\"",
            "line 23: orchestrator.protocol = \"v3\": expected one of \"auto\", \"v2\", \"classic\"",
            "line 30: mysql.user = 5: expected a string in quotes, found a whole number",
            "line 31: mysql.datadir-swap = \"maybe\": expected one of \"auto\", \"always\", \"never\"",
            "line 32: mysql.boot-timeout = 1979-05-27: expected a duration in quotes such as \"90s\", found a date or time",
            "line 36: mysqldump.additional-opts: this is set already, in another spelling: keep one, best as mysqldump-addtional-opts",
            "line 43: lvm.stream-compression = 1: expected one of \"none\", \"lz4\", \"zstd\"",
            "line 46: clone_plugin.clone-max-concurrency = 129: expected a whole number from 1 to 128",
            "line 49: custom-commands.one: expected a section [custom-commands.one], found a string",
            "line 51: custom-commands.two.cmd = 5: expected a string in quotes, found a whole number",
            "backup-dir not specified: set common.backup-dir to a directory for backup data, outside the datadir",
            "mysql password not specified: set mysql.password to the password of mysql.user",
            "line 40: lvm is enabled but available-local-snapshot-hosts-command is not specified: set lvm.available-local-snapshot-hosts-command or lvm.enabled = false",
            "line 40: lvm is enabled but available-snapshot-hosts-command is not specified: set lvm.available-snapshot-hosts-command or lvm.enabled = false",
            "line 40: lvm is enabled but snapshot-volumes-filter is not specified: set lvm.snapshot-volumes-filter or lvm.enabled = false",
            "line 42: lvm.socat-use-ssl is true but socat-ssl-cert-file is not specified: set lvm.socat-ssl-cert-file to a PEM file with certificate and key",
            "line 17: common.listen-address = \"db7.test\" is not an IP address; leave it empty for all",
            "line 18: allowed-clients in [common]: \"10.0.0.0/33\" has a prefix length that is not between 0 and 32; write an address such as 10.1.2.3 or a network such as 10.0.0.0/8 or 2001:db8::/32",
            "line 18: allowed-clients in [common]: \"db1\" is not an IP address or network; write an address such as 10.1.2.3 or a network such as 10.0.0.0/8 or 2001:db8::/32",
            "line 19: common.http-auth-user is set but http-auth-password is not specified: set common.http-auth-password or remove the user",
            "line 16: common.token-http-header = \"X Token\": not a valid header name; use letters, digits and -, such as \"X-Agent-Token\"",
            "line 15: common.state-dir = \"relative\": must be an absolute path, starting with /",
            "line 42: lvm.socat-use-ssl = true is not available in this version: set lvm.socat-use-ssl = false",
            "line 27: logging.format other than \"text\" is not available in this version: set logging.format = \"text\"",
        ],
        &[
            "line 1: above, above the first section, is ignored",
            "line 14: unknown key common.backup_dir is ignored; did you mean \"backup-dir\"?",
            "line 26: logging.level = \"loud\": ignored and \"info\" used; the levels are error, warn, info, debug, trace",
            "line 37: mysqldump.load-threads is ignored: a dump is loaded by one client; to load with several threads, use the method Mydumper",
            "line 52: custom-commands.three has no cmd and is left out: give it cmd = \"...\" or remove it",
            "line 53: unknown key custom-commands.three.cmdd is ignored; did you mean \"cmd\"?",
            "line 55: unknown section [classik] is ignored; did you mean \"classic\"?",
        ],
    );
}

/// What is missing may be in a line that cannot be read, so only faults in other lines are reported as well.
#[test]
fn faults_of_the_syntax_and_of_values() {
    faults(
        "[common]\nport = \nhostname = = \"x\"\nseed-port = \"5\"\npassword = hunter2\nfoo = 1\n",
        &[
            "line 2, column 8: invalid TOML: string values must be quoted, expected literal string",
            "line 3, column 12: invalid TOML: extra `=`, expected nothing",
            "line 4: common.seed-port = \"5\": expected a whole number from 1 to 65535, without quotes, found a string",
            "line 5, column 12: invalid TOML: string values must be quoted, expected literal string",
        ],
        &["line 6: unknown key common.foo is ignored"],
    );
}

#[test]
fn a_section_that_is_none_hides_no_rule_of_the_others() {
    faults(
        "mysql = 5\n[common]\nbackup-dir = \"/b\"\n[clone_plugin]\n[clone-plugin]\n",
        &[
            "line 1: mysql: expected a section [mysql], found a whole number",
            "line 5: clone-plugin: this is set already, in another spelling: keep one, best as clone_plugin",
            "orchestrator url not specified: set orchestrator.url, such as \"http://orchestrator.example.com\"",
        ],
        &[],
    );
}

/// As the daemon prints it: a line for each fault, with the file.
#[test]
fn text_of_all_faults() {
    let mut faults = parse("[common]\nport = 0\nprot = 1\nbackup-dir = \"/b\"\n").unwrap_err();
    faults.file = "/etc/a.conf".into();
    let text = faults.to_string();
    assert!(
        text.lines().all(|l| l.starts_with("/etc/a.conf: ")),
        "{text}"
    );
    assert_eq!(text.lines().count(), 5, "{text}");
}

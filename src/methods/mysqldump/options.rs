//! The dump tool's argument vector.

use crate::error::Result;
use crate::methods::operators::{self, is};
use crate::mysql::{Flavour, Server, Version};
use crate::process::version_text;
use std::ffi::OsString;
use std::path::Path;

/// Options that this program sets itself, and those that would send the dump or the login elsewhere.
const RESERVED: &str = "--host -h --user -u --port -P --password -p --socket -S --protocol --master-data --source-data --all-databases -A \
    --databases -B --result-file -r --tab -T --defaults-file --defaults-extra-file --no-defaults --login-path --dump-slave \
    --dump-replica --dir --init-command";
/// And those with which the dump would mean something else, or the source would be changed.
const UNSAFE: &str = "--default-character-set --no-set-names -N --compatible --delete-master-logs --delete-source-logs --flush-logs -F \
    --set-gtid-purged --apply-slave-statements --apply-replica-statements --skip-generated-invisible-primary-key";

/// What a complete and exact copy needs, whatever the operator's options are: the last one counts. --flush-privileges: views over views
/// with definers that only the source has can be loaded only when the accounts are in force (1449); the dump has all views after all
/// tables, accounts among them. mysqldump before 8.0 has utf8 as character set, which has no characters of four bytes.
const ALWAYS: &str = "--routines --events --triggers --flush-privileges --default-character-set=utf8mb4 --set-charset --tz-utc --quote-names \
    --create-options --add-drop-table --comments --skip-no-tablespaces --skip-insert-ignore --skip-force";

/// Options that leave a part of the source out, or write what cannot be loaded. A seed must be complete: the target's own accounts
/// would be replaced by nothing, and replication would fail on the first row that is missing.
const INCOMPLETE: &str = "--where -w --no-data -d --no-create-info -t --no-create-db -n --ignore-database --ignore-table-data --tables --xml -X \
    --skip-comments --compact --system --skip-routines --skip-events --skip-triggers --ignore-views --as-of";

/// The first option with which a dump would not be a complete copy. `--ignore-table` is the operator's own risk, but not for
/// the server's own schema.
pub(super) fn incomplete(options: &[String]) -> Option<String> {
    let listed = |item: &String| INCOMPLETE.split_whitespace().find(|o| is(item, o));
    if let Some(found) = options.iter().find_map(listed) {
        return Some(found.to_string());
    }
    let tables = operators::ignored(options);
    let of_server = tables.iter().find(|t| t.starts_with("mysql."));
    of_server.map(|table| format!("--ignore-table={table}"))
}

/// The operator's options for the dump tool, and those that were dropped.
pub(crate) fn operators(options: &[String]) -> (Vec<String>, Vec<&'static str>) {
    let reserved = [RESERVED, UNSAFE]
        .map(str::split_whitespace)
        .into_iter()
        .flatten();
    let reserved: Vec<_> = reserved.collect();
    operators::operators(options, &reserved)
}

/// What comes first, or the tools do not read it. Through `sudo` the tool does not get the environment that hides a login path file;
/// clients of MySQL have an option for that: 8.4 has it, 8.0 has not.
fn option_files(defaults: &Path, tool: Server, sudo: bool) -> Vec<OsString> {
    let mut defaults_file = OsString::from("--defaults-file=");
    defaults_file.push(defaults);
    let mut argv = vec![defaults_file];
    if sudo && tool.flavour == Flavour::MySql && tool.version >= Version(8, 4, 0) {
        argv.push("--no-login-paths".into());
    }
    argv
}

/// The dump tool's arguments; `tool` is its own version, `left_out` are directories that the server lists as schemas.
pub(super) fn dump_arguments(
    defaults: &Path,
    tool: Server,
    sudo: bool,
    left_out: &[String],
    options: &[String],
) -> Vec<OsString> {
    let mut argv = option_files(defaults, tool, sudo);
    argv.extend([
        tool.coordinates_option().into(),
        "--all-databases".into(),
        "--max-allowed-packet=1G".into(),
    ]);
    if tool.flavour == Flavour::MariaDb {
        let ignore = |name: &String| OsString::from(format!("--ignore-database={name}"));
        argv.extend(left_out.iter().map(ignore));
    }
    argv.extend(options.iter().map(OsString::from));
    argv.extend(ALWAYS.split_whitespace().map(OsString::from));
    if tool.flavour == Flavour::MariaDb {
        argv.push("--gtid".into()); // writes the GTID position as well, next to file and position
        if tool.version >= Version(10, 11, 0) {
            argv.push("--dump-history".into()); // or tables WITH SYSTEM VERSIONING lose their old rows
        }
        // LOCK TABLES around the rows of a table would lock out the sequences in its defaults (1100).
        argv.push("--skip-add-locks".into());
        // The rows of FEDERATED tables would be inserted into the server that they are on.
        argv.push("--no-data-med".into());
    }
    argv
}

/// The tool's flavour and version: it may be another one than the server's.
pub(super) fn version_of(program: &Path) -> Result<Server> {
    tool_version(&version_text(program)?)
        .map_err(|e| e.context(format!("{} --version", program.display())))
}

/// Flavour and version of a tool out of what `--version` prints:
/// `mariadb-dump  Ver 10.19 Distrib 10.11.19-MariaDB, ...`, `mariadb-dump from 11.4.2-MariaDB, client 10.19 ...`,
/// `mysqldump  Ver 9.7.4 for Linux ...`.
pub(super) fn tool_version(text: &str) -> Result<Server> {
    let after = |mark: &str| text.split_once(mark).map(|(_, rest)| rest.trim_start());
    let version = after(" Distrib ")
        .or_else(|| after(" from "))
        .or_else(|| after(" Ver "));
    let word = version.unwrap_or("").split([',', ' ']).next().unwrap_or("");
    Server::parse(word, "")
}

/// Whether the tool, of which this is the text of `--help`, has the option `--init-command`.
pub(super) fn takes_init_command(help: &str) -> bool {
    help.lines()
        .any(|l| l.trim_start().starts_with("--init-command"))
}

/// Of a client that executes a script: never a shortened packet, a first line of output that can be our connection's number, and no second
/// session, which would lack what the script has set in the first.
pub(crate) const SCRIPT_CLIENT: [&str; 7] = [
    "--skip-reconnect",
    // For the login: the name of the account may not be ASCII. The script sets its own.
    "--default-character-set=utf8mb4",
    "--batch",
    "--skip-column-names",
    "--unbuffered",
    // Values with any byte, and no command of the client itself, such as \!, which would run a program.
    "--binary-mode",
    "--max-allowed-packet=1G",
];

/// The client's arguments: never a default instance, and comments in the bodies of routines and triggers as they are.
pub(super) fn client_arguments(defaults: &Path, tool: Server, sudo: bool) -> Vec<OsString> {
    let more = ["--comments", "--show-warnings"];
    let mut argv = option_files(defaults, tool, sudo);
    argv.extend(SCRIPT_CLIENT.into_iter().chain(more).map(OsString::from));
    argv
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(items: &[&str]) -> (Vec<String>, Vec<&'static str>) {
        operators(&items.iter().map(|s| s.to_string()).collect::<Vec<_>>())
    }

    #[test]
    fn reserved_options_are_dropped_by_either_separator() {
        let (kept, dropped) = run(&[
            "--quick",
            "--host=x",
            "--user x",
            "--password",
            "secret",
            "-psecret",
            "--hex-blob",
            "-A",
        ]);
        assert_eq!(kept, ["--quick", "--hex-blob"]);
        assert_eq!(dropped, ["--host", "--user", "--password", "-p", "-A"]);
        let (kept, dropped) = run(&[
            "--master_data=1",
            "--result-file=/etc/x",
            "--where=a=1",
            "--net-buffer-length 4096",
        ]);
        assert_eq!(dropped, ["--master-data", "--result-file"]);
        assert_eq!(kept, ["--where=a=1", "--net-buffer-length", "4096"]);
        assert_eq!(
            run(&["--single-transaction", " ", "--port", "--quick"]).0,
            ["--single-transaction", "--quick"]
        );
    }

    #[test]
    fn options_that_leave_something_out_are_found() {
        let find =
            |items: &[&str]| incomplete(&items.iter().map(|s| s.to_string()).collect::<Vec<_>>());
        for (items, found) in [
            (vec!["--quick", "--where=1=0"], "--where"),
            (vec!["--where", "1=0"], "--where"),
            (vec!["-w1=0"], "-w"),
            (vec!["--no_data"], "--no-data"),
            (vec!["-d"], "-d"),
            (
                vec!["--ignore-table=mysql.global_priv"],
                "--ignore-table=mysql.global_priv",
            ),
            (
                vec!["--ignore-table", "mysql.user"],
                "--ignore-table=mysql.user",
            ),
            (vec!["--compact"], "--compact"),
        ] {
            assert_eq!(find(&items).as_deref(), Some(found), "{items:?}");
        }
        let usual = [
            "--single-transaction",
            "--quick",
            "--routines",
            "--events",
            "--triggers",
            "--hex-blob",
        ];
        assert_eq!(find(&usual), None);
        assert_eq!(
            find(&[
                "--ignore-table=shop.log",
                "--net-buffer-length=4096",
                "--disable-keys"
            ]),
            None
        );
    }

    #[test]
    fn help_of_the_tools() {
        assert!(takes_init_command(
            "  --quick\n  --init-command=name Single SQL Command to execute\n"
        ));
        assert!(!takes_init_command(
            "  --max-statement-time=#\n see init-command\n"
        ));
    }

    #[test]
    fn tools_tell_their_version() {
        for (text, version, maria) in [
            (
                "mariadb-dump  Ver 10.19 Distrib 10.11.19-MariaDB, for debian-linux-gnu (x86_64)",
                "10.11.19",
                true,
            ),
            (
                "mysqldump  Ver 10.19 Distrib 10.6.4-MariaDB, for Linux",
                "10.6.4",
                true,
            ),
            (
                "mariadb-dump from 11.4.2-MariaDB, client 10.19 for Linux (x86_64)",
                "11.4.2",
                true,
            ),
            (
                "mysqldump  Ver 9.7.4 for Linux on x86_64 (Debian)",
                "9.7.4",
                false,
            ),
            (
                "mysqldump  Ver 10.13 Distrib 5.6.24, for linux-glibc2.5",
                "5.6.24",
                false,
            ),
            (
                "mysqldump  Ver 8.0.36-28 for Linux on x86_64 (Percona Server)",
                "8.0.36",
                false,
            ),
        ] {
            let server = tool_version(text).unwrap();
            assert_eq!(
                (
                    server.version.to_string().as_str(),
                    server.flavour == Flavour::MariaDb
                ),
                (version, maria)
            );
        }
        assert!(tool_version("what?").is_err());
    }

    #[test]
    fn argument_vectors() {
        let maria = Server::parse("10.11.19-MariaDB", "").unwrap();
        let mysql = Server::parse("9.7.4", "").unwrap();
        let opts = ["--quick".to_string()];
        let always: Vec<_> = ALWAYS.split_whitespace().map(OsString::from).collect();
        let wanted = |first: &[&str], last: &[&str]| {
            let words = |list: &[&str]| list.iter().map(OsString::from).collect::<Vec<_>>();
            [words(first), always.clone(), words(last)].concat()
        };
        let left_out = ["#mysql50#lost+found".to_string()];
        let argv = dump_arguments(Path::new("/d/x.cnf"), maria, true, &left_out, &opts);
        let of_maria = [
            "--defaults-file=/d/x.cnf",
            "--master-data=2",
            "--all-databases",
            "--max-allowed-packet=1G",
            "--ignore-database=#mysql50#lost+found",
            "--quick",
        ];
        let last = [
            "--gtid",
            "--dump-history",
            "--skip-add-locks",
            "--no-data-med",
        ];
        assert_eq!(argv, wanted(&of_maria, &last));
        let argv = dump_arguments(Path::new("/d/x.cnf"), mysql, true, &[], &opts);
        let of_mysql = [
            "--defaults-file=/d/x.cnf",
            "--no-login-paths",
            "--source-data=2",
            "--all-databases",
            "--max-allowed-packet=1G",
            "--quick",
        ];
        assert_eq!(argv, wanted(&of_mysql, &[]));
        let old = Server::parse("8.0.46", "").unwrap();
        for (tool, sudo, second) in [
            (mysql, true, "--no-login-paths"),
            (mysql, false, "--skip-reconnect"),
            (old, true, "--skip-reconnect"),
            (maria, true, "--skip-reconnect"),
        ] {
            let argv = client_arguments(Path::new("/c"), tool, sudo);
            assert_eq!(argv[..2], ["--defaults-file=/c", second], "{tool:?} {sudo}");
        }
    }
}

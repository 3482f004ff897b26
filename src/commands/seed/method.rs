//! Which methods this version supports, and when the agents of two hosts can use one.

use crate::protocol::wire::AgentData;
use crate::seed::Method;
use crate::sys::host::human_bytes;

/// Fastest first: the order of `--method auto`.
pub(crate) const SUPPORTED: [Method; 4] = [
    Method::Xtrabackup,
    Method::ClonePlugin,
    Method::Mydumper,
    Method::Mysqldump,
];

/// All methods in the order in which they are reported.
pub(crate) const ORDER: [Method; 5] = [
    Method::ClonePlugin,
    Method::Xtrabackup,
    Method::LVM,
    Method::Mydumper,
    Method::Mysqldump,
];

/// Why `method` cannot be used; empty if it can. `used` is what the source's data directory takes in
/// bytes, `replaced` what the target's takes of data that will go: with `--force` a load replaces them table by table, and a
/// physical copy for which there is no other space may replace them before it is complete (`mysql.datadir-swap`).
pub(crate) fn obstacles(
    method: Method,
    source: &AgentData,
    target: &AgentData,
    used: u64,
    replaced: u64,
) -> Vec<String> {
    let mut out = Vec::new();
    if !SUPPORTED.contains(&method) {
        out.push("not supported by this version yet".to_string());
        return out;
    }
    for (side, data) in [("source", source), ("target", target)] {
        if !data.methods.contains_key(method.as_str()) {
            let why = data
                .unavailable
                .get(method.as_str())
                .map_or("it is not enabled there", String::as_str);
            out.push(format!("the {side} agent does not offer it: {why}"));
        }
    }
    if let Some(options) = source.methods.get(method.as_str()) {
        for (name, database) in &source.databases {
            for engine in database.engines.iter().flatten() {
                // Other engines are queried from the target's server itself.
                if crate::seed::types::ENGINES.contains(&engine.as_str())
                    && !options.supported_engines.contains(engine)
                {
                    out.push(format!(
                        "schema {name} has {engine} tables, which it does not copy"
                    ));
                }
            }
        }
    }
    let needs = |what: &str, need: u64, free: u64| {
        format!(
            "{what} of the target has {} free, {} are needed",
            human_bytes(free),
            human_bytes(need)
        )
    };
    let room = target.datadir_free.saturating_add(replaced);
    if used > room {
        out.push(needs("the data directory", used, room));
    }
    // 0.6 of the data, in whole numbers.
    let dump = used / 5 * 3;
    if !method.backup_to_datadir() && dump > target.backup_dir_disk_free {
        out.push(needs(
            "common.backup-dir",
            dump,
            target.backup_dir_disk_free,
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(text: &str) -> AgentData {
        serde_json::from_str(text).unwrap()
    }

    const OFFERED: &str = r#"{"BackupDirDiskFree":600,"MySQLDatadirDiskFree":1000,
        "MySQLDatabases":{"a":{"Engines":["InnoDB","Aria"]},"b":{"Engines":null}},
        "AvailiableSeedMethods":{"Mysqldump":{"SupportedEngines":["InnoDB"]}}}"#;

    #[test]
    fn usable_up_to_the_last_byte() {
        let d = data(OFFERED);
        assert_eq!(obstacles(Method::Mysqldump, &d, &d, 1000, 0), [""; 0]);
        assert_eq!(obstacles(Method::Mysqldump, &d, &d, 1001, 1), [""; 0]);
        let text = obstacles(Method::Mysqldump, &d, &d, 1005, 0).join("; ");
        assert!(
            text.contains("data directory") && text.contains("backup-dir"),
            "{text}"
        );
    }

    #[test]
    fn a_method_must_be_offered_by_both_and_copy_all_engines() {
        let d = data(OFFERED);
        let none = data(
            r#"{"BackupDirDiskFree":600,"MySQLDatadirDiskFree":1000,
            "UnavailableSeedMethods":{"Mysqldump":"mariadb-dump: not found"}}"#,
        );
        assert_eq!(
            obstacles(Method::Mysqldump, &d, &none, 1, 0),
            ["the target agent does not offer it: mariadb-dump: not found"]
        );
        let bare = data(r#"{"MySQLDatadirDiskFree":1,"BackupDirDiskFree":1}"#);
        assert_eq!(
            obstacles(Method::Mysqldump, &bare, &d, 1, 0),
            ["the source agent does not offer it: it is not enabled there"]
        );
        let mut memory = d.clone();
        memory.databases.entry("a".into()).or_default().engines = Some(vec!["MEMORY".into()]);
        assert_eq!(
            obstacles(Method::Mysqldump, &memory, &d, 1, 0),
            ["schema a has MEMORY tables, which it does not copy"]
        );
        assert_eq!(
            obstacles(Method::LVM, &d, &d, 1, 0),
            ["not supported by this version yet"]
        );
    }
}

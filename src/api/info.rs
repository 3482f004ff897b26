//! What the agent is and knows: `status`, `get-agent-info`, `get-agent-data`, `mysql-error-log-tail`.

use super::monitor::{self, HostStatus};
use super::{Api, reply};
use crate::config::Secret;
use crate::error::{Error, OnPath, Result};
use crate::http::Response;
use crate::mysql::info::Schema;
use crate::protocol::wire::{AgentData, AgentInfo, Database, MethodOptions, Mount};
use crate::seed::Method;
use crate::seed::types::ENGINES;
use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

impl Api {
    pub(super) fn status(&self) -> Response {
        if self.contacts.is_good(self.config.common.status_bad_seconds) {
            return reply::json(&"OK");
        }
        let mut bad = reply::json(&"BAD");
        bad.status = 500;
        bad
    }

    pub(super) fn agent_info(&self) -> Response {
        let token = if self.config.common.expose_token_in_agent_info {
            Secret::new(self.token.reveal())
        } else {
            Secret::default()
        };
        reply::json(&AgentInfo {
            hostname: self.hostname.clone(),
            port: self.config.common.port,
            token,
            mysql_port: self.config.mysql.port,
        })
    }

    pub(super) fn agent_data(&self) -> Response {
        reply::json(&self.collect(self.monitor.now()))
    }

    /// `get-agent-data` after something has changed the server.
    pub(super) fn agent_data_after_change(&self) -> Response {
        reply::json(&self.collect(self.monitor.after_change()))
    }

    fn collect(&self, status: HostStatus) -> AgentData {
        let HostStatus {
            mysql,
            disk,
            running,
            methods,
        } = status;
        let (num_cpu, mem_total, os_name) = monitor::machine();
        let major = mysql.server.map_or(8, |s| s.version.0);
        let mut available = BTreeMap::new();
        let mut unavailable = BTreeMap::new();
        for (method, state) in methods {
            match state {
                Ok(()) => drop(available.insert(method.to_string(), options(method, major))),
                Err(why) => drop(unavailable.insert(method.to_string(), why)),
            }
        }
        // The method of the seed in progress stays in the list, or orchestrator drops the seed.
        if let Some(method) = self.engine.method_in_use() {
            let entry = available.entry(method.to_string());
            entry.or_insert_with(|| options(method, major));
        }
        let backup_dir = self.config.common.backup_dir.display().to_string();
        AgentData {
            local_snapshots_hosts: Vec::new(),
            snaphost_hosts: Vec::new(),
            logical_volumes: Vec::new(),
            mount_point: Mount::default(),
            backup_dir_disk_free: monitor::free(&backup_dir),
            backup_dir_disk_used: disk.backup_dir,
            backup_dir,
            mysql_running: running,
            datadir: mysql.datadir.clone(),
            datadir_used: disk.datadir,
            datadir_free: monitor::free(&mysql.datadir),
            databases: mysql
                .schemas
                .iter()
                .map(|(name, s)| (name.clone(), database(s)))
                .collect(),
            methods: available,
            agent_commands: self.command_names(),
            num_cpu,
            mem_total,
            os_name,
            unavailable,
            orchestrators: self.contacts.all(),
        }
    }

    /// Names of the custom commands in a fixed order; the hook after a seed is not a command that clients can call.
    fn command_names(&self) -> Option<Vec<String>> {
        let names: Vec<String> = self
            .custom_commands()
            .keys()
            .filter(|n| *n != super::service::POST_SEED)
            .cloned()
            .collect();
        if names.is_empty() { None } else { Some(names) }
    }

    /// The last 40 lines of the file named by `log_error` as one string; works with MySQL down, once it was seen up.
    pub(super) fn error_log_tail(&self) -> Result<Response> {
        let mysql = self.monitor.mysql();
        let name = mysql.log_error.as_str();
        if name.is_empty() || name == "stderr" {
            return Err(Error::permanent(match (name, mysql.server) {
                (_, None) => "MySQL has not answered yet, so the name of its error log is not known".to_string(),
                _ => "log_error names no file: MySQL writes its errors to stderr; set log_error in its my.cnf".to_string(),
            }));
        }
        let path = Path::new(&mysql.datadir).join(name); // an absolute name stays as it is
        let tail = tail(&path, 40).on(format!("error log {}", path.display()))?;
        Ok(reply::json(&tail))
    }
}

fn options(method: Method, mysql_major: u32) -> MethodOptions {
    MethodOptions {
        backup_side: method.backup_side().to_string(),
        supported_engines: method
            .supported_engines(mysql_major)
            .into_iter()
            .map(String::from)
            .collect(),
        backup_to_datadir: method.backup_to_datadir(),
    }
}

/// Engines outside the ten known names are read as ROCKSDB by orchestrator, and two of a name as a duplicate that refuses the
/// seed: at most one unknown name is sent, and none next to ROCKSDB.
fn database(schema: &Schema) -> Database {
    let known = |e: &String| ENGINES.contains(&e.as_str());
    let mut engines: Vec<String> = schema
        .engines
        .iter()
        .filter(|e| known(e))
        .cloned()
        .collect();
    if !engines.iter().any(|e| e == "ROCKSDB")
        && let Some(unknown) = schema.engines.iter().find(|e| !known(e))
    {
        engines.push(unknown.clone());
    }
    Database {
        engines: if engines.is_empty() {
            None
        } else {
            Some(engines)
        },
        size: schema.size,
    }
}

/// The last `lines` lines of a file, read from its end, at most 1 MiB.
fn tail(path: &Path, lines: usize) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(1 << 20)))?;
    let mut bytes = Vec::new();
    file.take(1 << 20).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.split_inclusive('\n').collect();
    Ok(all[all.len().saturating_sub(lines)..].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(engines: &[&str]) -> Option<Vec<String>> {
        database(&Schema {
            engines: engines.iter().map(|e| e.to_string()).collect(),
            size: 1,
        })
        .engines
    }

    #[test]
    fn at_most_one_unknown_engine_is_sent() {
        assert_eq!(of(&[]), None);
        assert_eq!(of(&["Aria", "InnoDB", "S3"]).unwrap(), ["InnoDB", "Aria"]);
        assert_eq!(of(&["Aria", "ROCKSDB"]).unwrap(), ["ROCKSDB"]);
    }

    #[test]
    fn tail_keeps_the_final_line_break() {
        let file = std::env::temp_dir().join(format!("oa-tail-{}", std::process::id()));
        let text: String = (1..=100).map(|n| format!("line {n}\n")).collect();
        std::fs::write(&file, &text).unwrap();
        let t = tail(&file, 40).unwrap();
        assert!(t.starts_with("line 61\n") && t.ends_with("line 100\n"));
        std::fs::write(&file, "no end").unwrap();
        assert_eq!(tail(&file, 40).unwrap(), "no end");
        std::fs::remove_file(&file).unwrap();
    }
}

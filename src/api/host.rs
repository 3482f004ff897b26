//! The host: what the agent is and knows (`status`, `get-agent-info`, `get-agent-data`, `mysql-error-log-tail`), the MySQL service, custom
//! commands, the hook after a seed.

use super::call::Call;
use super::monitor::{self, HostStatus};
use super::service::Service;
use super::{Api, reply, seed};
use crate::config::Secret;
use crate::error::{Error, OnPath, Result};
use crate::http::Response;
use crate::mysql::info::Schema;
use crate::process::{Output, run_operator_command};
use crate::protocol::wire::{
    AgentData, AgentInfo, Contact, Database, Envelope, MethodOptions, Mount,
};
use crate::seed::Method;
use crate::seed::types::ENGINES;
use crate::sys::Inserted;
use crate::sys::thread::unpoisoned;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The custom command that orchestrator calls at the end of a seed.
const POST_SEED: &str = "post-seed-command";

/// A header of the status page: an orchestrator, the protocol in use with it, and whether it knows this agent.
const CONTACT: &str = "Orchestrator-Agent-Contact";

impl Api {
    /// With a header for each orchestrator, for people: monitoring systems compare the body.
    pub(super) fn status(&self) -> Response {
        let mut response = if self.contacts.is_good(self.config.common.status_bad_seconds) {
            reply::json(&"OK")
        } else {
            Response {
                status: 500,
                ..reply::json(&"BAD")
            }
        };
        let contacts = self.contacts.all();
        let text = |(url, contact): (&String, &Contact)| format!("{url} {}", contact.summary());
        let headers = contacts.iter().map(text);
        response.headers = headers.map(|text| (CONTACT.into(), text)).collect();
        response
    }

    pub(super) fn agent_info(&self) -> Response {
        let token = if self.config.common.expose_token_in_agent_info {
            self.contacts.first_token()
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

    fn collect(&self, status: HostStatus) -> AgentData {
        let HostStatus {
            mysql,
            disk,
            running,
            methods,
        } = status;
        let (num_cpu, mem_total, os_name) = monitor::machine();
        let major = mysql.server.map_or(8, |s| s.version.0);
        // The method of the seed in progress stays in the list, or orchestrator drops the seed.
        let in_use = self.engine.method_in_use();
        let unavailable = methods.iter();
        let unavailable =
            unavailable.filter_map(|(m, state)| Some((m.to_string(), state.clone().err()?)));
        let methods = methods.iter().filter(|(_, state)| state.is_ok());
        let methods = methods.map(|(method, _)| *method).chain(in_use);
        let schemas = mysql.schemas.iter();
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
            databases: schemas.map(|(n, s)| (n.clone(), database(s))).inserted(),
            methods: methods
                .map(|m| (m.to_string(), options(m, major)))
                .collect(),
            agent_commands: self.command_names(),
            num_cpu,
            mem_total,
            os_name,
            unavailable: unavailable.collect(),
            orchestrators: self.contacts.all(),
        }
    }

    /// Names of the custom commands in a fixed order; the hook after a seed is not a command that clients can call.
    fn command_names(&self) -> Option<Vec<String>> {
        let commands = unpoisoned(self.custom_commands.read());
        let names = commands.keys().filter(|n| *n != POST_SEED);
        let names: Vec<String> = names.cloned().collect();
        Some(names).filter(|n| !n.is_empty())
    }

    /// The end of the file named by `log_error`: 40 lines as one string, by the classic protocol 20 in a list.
    pub(super) fn error_log_tail(&self, call: &Call) -> Result<Response> {
        if call.is_classic() {
            return self.error_log_lines();
        }
        let path = self.error_log()?;
        let tail = tail(&path, 40).on(format!("error log {}", path.display()))?;
        Ok(reply::json(&tail))
    }

    /// The file named by `log_error`; known with MySQL down, once it was seen up or if its option files name it.
    pub(super) fn error_log(&self) -> Result<PathBuf> {
        let mysql = self.monitor.mysql();
        let name = mysql.log_error.as_str();
        if name.is_empty() || name == "stderr" {
            let why = if mysql.server.is_none() {
                "MySQL has not answered yet, so the name of its error log is not known"
            } else {
                "log_error names no file: MySQL writes its errors to stderr; set log_error in its my.cnf"
            };
            return Err(Error::permanent(why));
        }
        Ok(Path::new(&mysql.datadir).join(name)) // an absolute name stays as it is
    }

    /// The answer is the host's data after it, because orchestrator stores it; by the classic protocol `true`.
    pub(super) fn stop_mysql(&self, call: &Call) -> Result<Response> {
        let service = Service::of(self);
        if call.is_classic() {
            return reply::slow(call, move || {
                service
                    .stop()
                    .map_err(|e| e.context("mysql.service-stop-command"))?;
                Ok(true)
            });
        }
        service.stop()?;
        Ok(reply::json(&self.collect(self.monitor.after_change())))
    }

    /// The same; by the classic protocol once MySQL accepts connections.
    pub(super) fn start_mysql(&self, call: &Call) -> Result<Response> {
        self.classic.check_start()?;
        let (service, stopping) = (Service::of(self), self.stopping.clone());
        if call.is_classic() {
            let classic = Arc::clone(&self.classic);
            return reply::slow(call, move || {
                service.start_and_wait(&stopping)?;
                classic.check_start()?; // the seed may have been aborted meanwhile
                Ok(true)
            });
        }
        service.start(&stopping)?;
        Ok(reply::json(&self.collect(self.monitor.after_change())))
    }

    pub(super) fn custom_command(&self, call: &Call) -> Result<Response> {
        let name = call.at(0);
        let line = self.command(name).filter(|_| name != POST_SEED);
        let line = line.ok_or_else(|| Error::permanent(format!("{name} : Command not found")))?;
        log::info!("custom command {name} runs by request");
        let (launcher, stopping) = (self.launcher.clone(), self.stopping.clone());
        let limit = self.config.common.command_timeout;
        reply::slow(call, move || {
            let done = run_operator_command(&line, &launcher, limit, &stopping);
            Ok(Envelope::new("OK", &done.and_then(Output::success)?))
        })
    }

    pub(super) fn post_seed(&self, id: &str) -> Result<Response> {
        let id = seed::number(id)?;
        self.engine
            .expect_current(id, "execute post seed command")?;
        Ok(match self.command(POST_SEED) {
            Some(line) => reply::ok_message(&self.run(&line)?),
            None => reply::json(&true),
        })
    }

    fn command(&self, name: &str) -> Option<String> {
        unpoisoned(self.custom_commands.read()).get(name).cloned()
    }

    fn run(&self, line: &str) -> Result<String> {
        let limit = self.config.common.command_timeout;
        run_operator_command(line, &self.launcher, limit, &self.stopping)?.success()
    }
}

fn options(method: Method, mysql_major: u32) -> MethodOptions {
    let engines = method.supported_engines(mysql_major);
    MethodOptions {
        backup_side: method.backup_side().to_string(),
        supported_engines: engines.into_iter().map(String::from).collect(),
        backup_to_datadir: method.backup_to_datadir(),
    }
}

/// Engines outside the ten known names are read as ROCKSDB by orchestrator, and two of a name as a duplicate that refuses the
/// seed: at most one unknown name is sent, and none next to ROCKSDB.
fn database(schema: &Schema) -> Database {
    let known = |e: &String| ENGINES.contains(&e.as_str());
    let (mut engines, unknown): (Vec<String>, Vec<String>) =
        schema.engines.iter().cloned().partition(known);
    if !engines.iter().any(|e| e == "ROCKSDB") {
        engines.extend(unknown.into_iter().next());
    }
    Database {
        engines: Some(engines).filter(|e| !e.is_empty()),
        size: schema.size,
    }
}

/// The last `lines` lines of a file, read from its end, at most 1 MiB.
pub(super) fn tail(path: &Path, lines: usize) -> std::io::Result<String> {
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

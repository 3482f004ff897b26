//! Binary and relay logs: where they are, their contents by range, and applying a relay log of another replica.

mod apply;
mod encoded;
mod tool;

use super::call::Call;
use super::{Api, path, reply};
use crate::error::{Error, OnPath, Result};
use crate::http::{Body, Response};
use crate::mysql::binlog_file::{Range, written_by};
use crate::mysql::logs::{self, Index, Kind, Places};
use crate::mysql::{Endpoint, connect};
use crate::process::Launcher;
use crate::sys::thread::lock;
use apply::Apply;
use encoded::Encoder;
use serde::Serialize;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tool::ToolOutput;

/// For the server's answer about the places of its logs.
const QUERY_LIMIT: Duration = Duration::from_secs(5);

/// What these endpoints remember between calls.
#[derive(Default)]
pub(crate) struct Logs {
    /// The server's last answer, for when it is down.
    places: Mutex<Option<Places>>,
    /// Locked while a relay log is applied.
    applying: Arc<Mutex<()>>,
}

/// As orchestrator's BinlogCoordinates.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct End {
    log_file: String,
    log_pos: u64,
    /// 0 binary log, 1 relay log
    r#type: u8,
}

impl Api {
    pub(super) fn relay_log_index(&self) -> Result<Response> {
        let indexes = self.indexes(Kind::Relay)?;
        let first = indexes.first().map(|index| &index.path);
        Ok(reply::json(&first))
    }

    /// `null` if there is none, as the Go agents answer.
    pub(super) fn relay_log_files(&self) -> Result<Response> {
        let indexes = self.indexes(Kind::Relay)?;
        let logs: Vec<PathBuf> = indexes.into_iter().flat_map(|i| i.logs).collect();
        Ok(reply::json(&Some(logs).filter(|l| !l.is_empty())))
    }

    /// The end of the last relay log of the first channel that has any.
    pub(super) fn relay_log_end(&self) -> Result<Response> {
        let indexes = self.indexes(Kind::Relay)?;
        let Some(last) = indexes.iter().find_map(|index| index.logs.last()) else {
            let index = indexes.first().map(|i| i.path.display().to_string());
            let index = index.unwrap_or_default();
            return Err(Error::permanent(format!("{index} names no relay log")));
        };
        Ok(reply::json(&End {
            log_file: last.display().to_string(),
            log_pos: last.metadata().on(last)?.len(),
            r#type: 1,
        }))
    }

    /// From `start` of `log` to the last complete event of its channel; `start` 0 means from the beginning of `log`.
    pub(super) fn relay_log_tail(&self, log: &str, start: &str) -> Result<Response> {
        let start = position("startPosition", start)?;
        let indexes = self.indexes(Kind::Relay)?;
        let logs = logs::from(&indexes, log).ok_or_else(|| not_listed(log, &indexes))?;
        Ok(streamed(Range::open(logs, start, None)?))
    }

    /// What mysqlbinlog prints of the logs `binlog`, from `start` of the first to `stop` of the last.
    pub(super) fn binlog_text(&self, call: &Call) -> Result<Response> {
        let (files, start, stop) = self.requested(&call.request.query)?;
        Range::open(&files, start, stop)?; // checks the positions, which mysqlbinlog trusts
        let server = written_by(&files[0])?;
        let program = Launcher::default().find(server.flavour.binlog_tools())?;
        let mut cmd = Launcher::default().command(&program);
        cmd.arg("--no-defaults");
        for (option, value) in [("start", start), ("stop", stop)] {
            cmd.args(value.map(|n| format!("--{option}-position={n}")));
        }
        cmd.args(&files);
        let limit = self.config.common.command_timeout;
        let tool = ToolOutput::start(cmd, "mysqlbinlog", None, &self.stopping, limit)?;
        Ok(streamed(tool.begun()?))
    }

    /// The same events as one log.
    pub(super) fn binlog_bytes(&self, call: &Call) -> Result<Response> {
        let (files, start, stop) = self.requested(&call.request.query)?;
        Ok(streamed(Range::open(&files, start, stop)?))
    }

    pub(super) fn apply_relay_log(&self, call: &Call) -> Result<Response> {
        let apply = Apply::new(self, &call.request.body)?;
        reply::slow(call, move || apply.run().map(|()| "OK"))
    }

    /// The files of the parameters `binlog`, which the server's own indexes must name, and the positions; 0 counts as none.
    fn requested(&self, query: &str) -> Result<(Vec<PathBuf>, Option<u64>, Option<u64>)> {
        let given = |name: &str| {
            let text = path::parameter(query, name).filter(|t| !t.is_empty());
            position(name, text.as_deref().unwrap_or("0"))
        };
        let (start, stop) = (given("start")?, given("stop")?);
        let names = path::parameters(query, "binlog");
        if names.is_empty() {
            let text = "No binlog files provided in MySQLBinlogContents: name them by binlog=FILE";
            return Err(Error::permanent(text));
        }
        let mut indexes = Vec::new();
        let mut why = None;
        for kind in [Kind::Binary, Kind::Relay] {
            match self.indexes(kind) {
                Ok(found) => indexes.extend(found),
                Err(e) => why = why.or(Some(e)),
            }
        }
        if let Some(e) = why.filter(|_| indexes.is_empty()) {
            return Err(e);
        }
        let file = |name: String| {
            let logs = logs::from(&indexes, &name);
            let first = logs.and_then(<[PathBuf]>::first).cloned();
            first.ok_or_else(|| not_listed(&name, &indexes))
        };
        let files: Result<Vec<PathBuf>> = names.into_iter().map(file).collect();
        Ok((files?, start, stop))
    }

    fn indexes(&self, kind: Kind) -> Result<Vec<Index>> {
        let datadir = self.monitor.mysql().datadir;
        logs::indexes(kind, self.places().as_ref(), Path::new(&datadir))
    }

    /// As the server says, or has said last.
    fn places(&self) -> Option<Places> {
        let server = Endpoint::local(&self.config.mysql);
        let asked = connect(&server, QUERY_LIMIT).and_then(|mut conn| Places::query(&mut conn));
        let mut last = lock(&self.logs.places);
        match asked {
            Ok(places) => *last = Some(places),
            Err(e) => log::debug!("places of the logs: {e}"),
        }
        last.clone()
    }
}

/// `None` for 0, which stands for no position.
fn position(name: &str, text: &str) -> Result<Option<u64>> {
    let number = text.parse::<u64>();
    let number =
        number.map_err(|e| Error::permanent(format!("Cannot parse {name}: {text:?}: {e}")))?;
    Ok(Some(number).filter(|n| *n != 0))
}

fn not_listed(log: &str, indexes: &[Index]) -> Error {
    let indexes = indexes.iter().map(|i| i.path.display().to_string());
    let indexes = indexes.collect::<Vec<_>>().join(", ");
    Error::permanent(format!(
        "No binlog files provided in MySQLBinlogContents: {log:?} is not in {indexes}"
    ))
}

fn streamed(plain: impl Read + Send + 'static) -> Response {
    let reader = Box::new(Encoder::new(plain));
    Response {
        body: Body::Reader {
            reader,
            length: None,
        },
        ..reply::json(&())
    }
}

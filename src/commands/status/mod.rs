//! The `status` command: what the agent on this host is doing, in a few lines or as JSON. Asks the agent over its own port,
//! MySQL itself, and the record of seeds; changes nothing. Neither the token nor a password is ever printed.

pub mod client;
mod table;

use crate::config::{self, Config, Secret};
use crate::datadir;
use crate::datadir::Journals;
use crate::error::{Error, Result};
use crate::mysql::{Endpoint, Server, connect};
use crate::protocol::Contact;
use crate::seed::record::{Load, Seed, Seeds};
use crate::seed::{Stage, Status};
use crate::sys::disk;
use crate::sys::host::rfc3339;
use client::Client;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

/// For each question to the agent and to MySQL.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Report {
    agent: AgentState,
    #[serde(rename = "MySQL")]
    mysql: MysqlState,
    disks: Vec<Disk>,
    seed: Option<SeedState>,
    /// A swap of the data directory that has not come to its end; null if there is none.
    unfinished_swap: Option<SwapState>,
    /// Old data of earlier seeds.
    old_data: Vec<OldData>,
    /// What could not be known, and why.
    notes: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct AgentState {
    answers: bool,
    address: String,
    hostname: String,
    /// `OK`, or `BAD` without a registration or contact to orchestrator for `status-bad-seconds`; null if unknown.
    orchestrator: Option<String>,
    /// How the agent stands with each orchestrator, by URL; empty if unknown.
    orchestrators: BTreeMap<String, Contact>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct MysqlState {
    answers: bool,
    address: String,
    version: String,
    /// What `service-status-command` says to the agent; null if unknown.
    running: Option<bool>,
    error: String,
}

/// Sizes in bytes.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Disk {
    what: &'static str,
    path: String,
    free: u64,
    total: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct SeedState {
    /// `agent`, or `record` for the file seeds.json.
    origin: &'static str,
    #[serde(rename = "SeedID")]
    seed_id: i64,
    method: String,
    side: String,
    stage: String,
    status: String,
    details: String,
    /// RFC 3339, of the last change of status.
    timestamp: String,
    progress: Option<Progress>,
    /// The target's data are incomplete; null if the record cannot be read.
    load_incomplete: Option<bool>,
    /// In words what has become of them; null if they are complete or nothing is known.
    incomplete: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct SwapState {
    #[serde(rename = "SeedID")]
    seed_id: i64,
    /// How far it is.
    step: String,
    /// What that means for MySQL, and what to do.
    reason: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct OldData {
    path: String,
    bytes: u64,
}

/// Bytes; `Total` 0 = unknown (agent-api-v2 2.7, our addition).
#[derive(Serialize, Deserialize, Clone, Copy)]
#[serde(rename_all = "PascalCase")]
struct Progress {
    bytes: u64,
    total: u64,
}

/// Looks and prints. Exit code 0 if the agent answers, otherwise 1.
pub fn run(file: &Path, json: bool) -> ExitCode {
    let config = match config::load(file) {
        Ok(loaded) => loaded.config,
        Err(e) => return failed(&e.to_string()),
    };
    let report = look(&config);
    let text = if json {
        match serde_json::to_string_pretty(&report) {
            Ok(text) => text + "\n",
            Err(e) => return failed(&e.to_string()),
        }
    } else {
        table::table(&report)
    };
    if let Err(e) = std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes()) {
        return failed(&format!("standard output: {e}"));
    }
    if report.agent.answers {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn failed(text: &str) -> ExitCode {
    eprintln!("orchestrator-agent: {text}");
    ExitCode::FAILURE
}

fn look(config: &Config) -> Report {
    let mut notes = Vec::new();
    let (mysql, datadir) = mysql(config);
    let recorded = record(config, &mut notes);
    let mut report = Report {
        agent: AgentState {
            answers: false,
            address: String::new(),
            hostname: String::new(),
            orchestrator: None,
            orchestrators: BTreeMap::new(),
        },
        mysql,
        disks: disks(config, &datadir, &mut notes),
        seed: recorded.as_ref().map(of_record),
        unfinished_swap: swap(config, &mut notes),
        old_data: old_data(config),
        notes,
    };
    if let Err(e) = ask(config, recorded.as_ref(), &mut report) {
        report.notes.push(e.to_string());
    }
    if report.seed.as_ref().is_some_and(|s| s.origin == "record") {
        let state_dir = config.common.state_dir.display();
        let note = format!("the seed is shown as the record in {state_dir} has it");
        report.notes.push(note);
        let running = |s: &SeedState| s.status == Status::Running.as_str();
        if !report.agent.answers && report.seed.as_ref().is_some_and(running) {
            let note = "this stage was at work when the agent last wrote the record: if the agent has ended, it was interrupted";
            report.notes.push(note.into());
        }
    }
    report
}

/// MySQL as it answers this process, and its datadir.
fn mysql(config: &Config) -> (MysqlState, String) {
    let endpoint = Endpoint::local(&config.mysql);
    let asked = connect(&endpoint, PATIENCE).and_then(|mut conn| {
        let server = Server::ask(&mut conn)?;
        let datadir = crate::mysql::info::global(&mut conn, "datadir")?;
        Ok((server, datadir.unwrap_or_default()))
    });
    let mut state = MysqlState {
        answers: asked.is_ok(),
        address: endpoint.name(),
        version: String::new(),
        running: None,
        error: String::new(),
    };
    match asked {
        Ok((server, datadir)) => {
            state.version = format!("{} {}", server.flavour, server.version);
            (state, datadir)
        }
        Err(e) => {
            state.error = e.to_string();
            (state, config.mysql.datadir.clone())
        }
    }
}

fn disks(config: &Config, datadir: &str, notes: &mut Vec<String>) -> Vec<Disk> {
    let places = [
        ("datadir", Path::new(datadir)),
        ("backup-dir", config.common.backup_dir.as_path()),
    ];
    let mut found = Vec::new();
    for (what, path) in places {
        if path.as_os_str().is_empty() {
            continue;
        }
        match disk::space(path) {
            Ok(space) => found.push(Disk {
                what,
                path: path.display().to_string(),
                free: space.available,
                total: space.total,
            }),
            Err(e) => notes.push(format!("{what} {}: {e}", path.display())),
        }
    }
    found
}

/// The current seed of the record; the daemon's own reader would mend the file, this one only looks.
fn record(config: &Config, notes: &mut Vec<String>) -> Option<Seed> {
    for dir in state_dirs(config) {
        let path = dir.join("seeds.json");
        let read = std::fs::read(&path).map_err(|e| (e.kind(), e.to_string()));
        let parsed = read.and_then(|text| {
            serde_json::from_slice::<Seeds>(&text)
                .map_err(|e| (ErrorKind::InvalidData, e.to_string()))
        });
        match parsed {
            Ok(seeds) => return seeds.current().cloned(),
            Err((ErrorKind::NotFound, _)) => {}
            Err((_, e)) => notes.push(format!("the record {} cannot be read: {e}", path.display())),
        }
    }
    None
}

fn state_dirs(config: &Config) -> [PathBuf; 2] {
    let other = config.common.backup_dir.join(".orchestrator-agent-state");
    [config.common.state_dir.clone(), other]
}

fn swap(config: &Config, notes: &mut Vec<String>) -> Option<SwapState> {
    for dir in state_dirs(config) {
        match datadir::unfinished(&Journals::new(&dir)) {
            Ok(None) => {}
            Ok(Some(journal)) => {
                return Some(SwapState {
                    seed_id: journal.seed,
                    step: format!("{:?}", journal.phase),
                    reason: journal.reason().unwrap_or_default(),
                });
            }
            Err(e) => notes.push(e.to_string()),
        }
    }
    None
}

fn old_data(config: &Config) -> Vec<OldData> {
    let of = |(path, bytes): (PathBuf, u64)| OldData {
        path: path.display().to_string(),
        bytes,
    };
    let kept = datadir::kept(&datadir::staging_roots(config));
    kept.into_iter().map(of).collect()
}

fn of_record(seed: &Seed) -> SeedState {
    let stage = seed.stages.get(&seed.stage);
    let changed = stage.map_or(0, |s| s.changed);
    SeedState {
        origin: "record",
        seed_id: seed.id,
        method: seed.method.to_string(),
        side: seed.side.to_string(),
        stage: seed.stage.to_string(),
        status: stage.map(|s| s.status.to_string()).unwrap_or_default(),
        details: stage.map(|s| s.details.clone()).unwrap_or_default(),
        timestamp: rfc3339(UNIX_EPOCH + Duration::from_nanos(changed)),
        progress: None,
        load_incomplete: Some(seed.load == Load::Incomplete),
        incomplete: seed.incomplete(),
    }
}

/// Fills in what the agent says: to everybody first, then to those who know the token.
fn ask(config: &Config, recorded: Option<&Seed>, report: &mut Report) -> Result<()> {
    let client = Client::new(config)?;
    report.agent.address = client.at.clone();
    let (_, info) = client.get("/api/get-agent-info", None)?;
    let info: Value = serde_json::from_str(&info)
        .map_err(|e| Error::permanent(format!("{} is no agent: {e}", client.at)))?;
    let (Some(hostname), Some(port)) = (info["Hostname"].as_str(), info["MySQLPort"].as_u64())
    else {
        return Err(Error::permanent(format!("{} is no agent", client.at)));
    };
    report.agent.answers = true;
    report.agent.hostname = hostname.into();
    if port != u64::from(config.mysql.port) {
        report.notes.push(format!(
            "this agent is that of the MySQL on port {port}: it runs with another configuration"
        ));
    }
    let (_, word) = client.get(&config.common.status_endpoint, None)?;
    report.agent.orchestrator = serde_json::from_str(&word).ok();
    let hint = &config.common.token_hint_file;
    if hint.is_empty() {
        return Err(Error::permanent(
            "common.token-hint-file is not set: the agent itself was not asked for its seed",
        ));
    }
    let token = std::fs::read_to_string(hint).map_err(|e| {
        let text = format!(
            "the agent itself was not asked for its seed: common.token-hint-file = \"{hint}\""
        );
        Error::io(text, &e)
    })?;
    with_token(&client, &Secret::new(token.trim()), recorded, report)
}

fn with_token(
    client: &Client,
    token: &Secret,
    recorded: Option<&Seed>,
    report: &mut Report,
) -> Result<()> {
    let active = client.json("/api/active-seed", token)?;
    let id = active["SeedID"].as_i64().unwrap_or_default();
    let text = |v: &Value| v.as_str().unwrap_or_default().to_string();
    if active["StagesDetails"].is_null() {
        report.seed = None; // there was none yet
    } else {
        let stage = text(&active["Stage"]);
        let number = Stage::parse(&stage).map_or(0, Stage::number);
        let details = &active["StagesDetails"][number.to_string()];
        let recorded = recorded.filter(|s| s.id == id);
        report.seed = Some(SeedState {
            origin: "agent",
            seed_id: id,
            method: text(&active["Method"]),
            side: text(&active["Side"]),
            status: text(&details["Status"]),
            details: text(&details["Details"]),
            timestamp: text(&details["Timestamp"]),
            progress: None,
            load_incomplete: recorded.map(|s| s.load == Load::Incomplete),
            incomplete: recorded.and_then(Seed::incomplete),
            stage,
        });
    }
    // This call keeps the seed from being taken for given up, so it is made only while a stage is at work.
    if let Some(seed) = &mut report.seed
        && seed.status == Status::Running.as_str()
    {
        let path = format!("/api/seed-stage-state/{id}/{}", seed.stage);
        let state = client.json(&path, token)?;
        seed.details = text(&state["Details"]);
        seed.progress = serde_json::from_value(state["Progress"].clone()).ok();
    }
    let data = client.json("/api/get-agent-data", token)?;
    report.mysql.running = data["MySQLRunning"].as_bool();
    let contacts = serde_json::from_value(data["Orchestrators"].clone());
    report.agent.orchestrators = contacts.unwrap_or_default(); // an agent of another version
    Ok(())
}

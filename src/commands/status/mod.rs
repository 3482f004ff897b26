//! The `status` command: what the agent on this host is doing, in a few lines or as JSON. It queries the agent over its own port,
//! MySQL itself, and the record of seeds; changes nothing. Neither the token nor a password is ever printed.

mod report;

use crate::config::{self, Config, Secret};
use crate::datadir::{self, Journals};
use crate::error::{Error, OnPath, Result};
use crate::mysql::{Endpoint, Server, connect, info};
use crate::protocol::agent::{Access, AgentClient};
use crate::protocol::http_client::{AgentTransport, Basic, Limits};
use crate::seed::Status;
use crate::seed::record::{Load, Seed, Seeds};
use crate::sys::disk;
use crate::sys::host::rfc3339;
use crate::tls::{self, Files};
use report::{AgentState, Disk, MysqlState, OldData, Report, SeedState, SwapState};
use std::io::{ErrorKind, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

/// For each call to the agent, and each query.
const AGENT_ANSWERS: Duration = Duration::from_secs(5);

/// Looks and prints. Exit code 0 if the agent answers, otherwise 1.
pub(crate) fn run(file: Option<&Path>, json: bool) -> ExitCode {
    match print(file, json) {
        Ok(true) => return ExitCode::SUCCESS,
        Ok(false) => {}
        Err(e) => eprintln!("orchestrator-agent: {e}"),
    }
    ExitCode::FAILURE
}

fn print(file: Option<&Path>, json: bool) -> Result<bool> {
    let report = look(&config::load(file)?.config);
    let text = if json {
        let text = serde_json::to_string_pretty(&report);
        text.map_err(|e| Error::permanent(e.to_string()))? + "\n"
    } else {
        report.table()
    };
    let written = std::io::stdout().write_all(text.as_bytes());
    written.on("standard output")?;
    Ok(report.agent.answers)
}

fn look(config: &Config) -> Report {
    let mut notes = Vec::new();
    let (mysql, datadir) = mysql(config);
    let recorded = record(config, &mut notes);
    let mut report = Report {
        agent: AgentState::default(),
        mysql,
        disks: disks(config, &datadir, &mut notes),
        seed: recorded.as_ref().map(of_record),
        unfinished_swap: swap(config, &mut notes),
        old_data: old_data(config),
        notes,
    };
    if let Err(e) = query_agent(config, recorded.as_ref(), &mut report) {
        report.notes.push(e.to_string());
    }
    if let Some(seed) = report.seed.as_ref().filter(|s| s.origin == "record") {
        let state_dir = config.common.state_dir.display();
        let note = format!("the seed is shown as the record in {state_dir} has it");
        report.notes.push(note);
        if !report.agent.answers && seed.status == Status::Running.to_string() {
            let note = "this stage was at work when the agent last wrote the record: if the agent has ended, it was interrupted";
            report.notes.push(note.into());
        }
    }
    report
}

/// MySQL as it answers this process, and its datadir.
fn mysql(config: &Config) -> (MysqlState, String) {
    let endpoint = Endpoint::local(&config.mysql);
    if config.mysql.user.is_empty() {
        let state = MysqlState {
            address: endpoint.name(),
            error: "it was not queried: [mysql] has no account".into(),
            ..MysqlState::default()
        };
        return (state, config.mysql.datadir.clone());
    }
    let answered = connect(&endpoint, AGENT_ANSWERS).and_then(|mut conn| {
        let datadir = info::global(&mut conn, "datadir")?.unwrap_or_default();
        Ok((Server::ask(&mut conn)?, datadir))
    });
    let mut state = MysqlState {
        answers: answered.is_ok(),
        address: endpoint.name(),
        ..MysqlState::default()
    };
    match answered {
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
    let mut found = Vec::new();
    let backup_dir = config.common.backup_dir.as_path();
    for (what, path) in [("datadir", Path::new(datadir)), ("backup-dir", backup_dir)] {
        let name = path.display().to_string();
        match disk::space(path) {
            _ if name.is_empty() => {}
            Ok(space) => found.push(Disk {
                what,
                path: name,
                free: space.available,
                total: space.total,
            }),
            Err(e) => notes.push(format!("{what} {name}: {e}")),
        }
    }
    found
}

/// The current seed of the record; the daemon's own reader would repair the file, this one changes nothing.
fn record(config: &Config, notes: &mut Vec<String>) -> Option<Seed> {
    for dir in state_dirs(config) {
        let path = dir.join("seeds.json");
        let read = std::fs::read(&path);
        match read.and_then(|text| Ok(serde_json::from_slice::<Seeds>(&text)?)) {
            Ok(seeds) => return seeds.current().cloned(),
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => notes.push(format!("the record {} cannot be read: {e}", path.display())),
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
    let kept = datadir::kept(&datadir::staging_roots(config)).into_iter();
    let of = |(path, bytes): (PathBuf, u64)| OldData {
        path: path.display().to_string(),
        bytes,
    };
    kept.map(of).collect()
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
        load_incomplete: Some(seed.load == Load::Partial),
        incomplete: seed.incomplete(),
    }
}

/// Adds what the agent reports: first what it reports without the token, then the rest.
fn query_agent(config: &Config, recorded: Option<&Seed>, report: &mut Report) -> Result<()> {
    let agent = local(config, AGENT_ANSWERS)?;
    report.agent.address = agent.address();
    let info = agent
        .info()
        .map_err(|e| e.context("no agent answers (common.port)"))?;
    report.agent.answers = true;
    report.agent.hostname = info.hostname;
    if info.mysql_port != config.mysql.port {
        report.notes.push(format!(
            "this agent is that of the MySQL on port {}: it runs with another configuration",
            info.mysql_port
        ));
    }
    let (_, word) = agent.get(&config.common.status_endpoint, &Secret::default())?;
    report.agent.orchestrator = serde_json::from_slice(word.as_bytes()).ok();
    if config.common.token_hint_file.is_empty() {
        return Err(Error::permanent(
            "common.token-hint-file is not set: the agent was not asked for its seed",
        ));
    }
    let active = agent.active_seed()?;
    let stages = active.stages_details.unwrap_or_default();
    let recorded = recorded.filter(|s| s.id == active.seed_id);
    // Without stages there was no seed yet.
    report.seed = stages.get(&active.stage.number()).map(|state| SeedState {
        origin: "agent",
        seed_id: active.seed_id,
        method: active.method.to_string(),
        side: active.side.to_string(),
        stage: active.stage.to_string(),
        status: state.status.to_string(),
        details: state.details.clone(),
        timestamp: state.timestamp.clone(),
        ..recorded.map(of_record).unwrap_or_default()
    });
    // This call counts as a call of the seed's controller, so it is made only while a stage is running.
    if let Some(seed) = &mut report.seed
        && seed.status == Status::Running.to_string()
    {
        let state = agent.stage_state(active.seed_id, active.stage)?;
        (seed.details, seed.progress) = (state.details, state.progress);
    }
    let data = agent.data()?;
    report.mysql.running = Some(data.mysql_running);
    report.agent.orchestrators = data.orchestrators;
    Ok(())
}

/// A client for the agent on this host, at the address on which the daemon listens. Over HTTPS its certificate is not verified,
/// because it is issued for the host's name; the agent's own certificate is sent, for `use-mutual-tls`.
pub(crate) fn local(config: &Config, limit: Duration) -> Result<AgentClient> {
    let common = &config.common;
    let ip = match common.listen_ip()? {
        all if all.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        ip => ip,
    };
    let files = Files {
        skip_verify: true,
        ..Files::of(common)
    };
    let tls = common.use_ssl.then(|| tls::outgoing(&files)).transpose()?;
    let basic = Basic::of(common);
    let access = Access::File {
        setting: "common.token-hint-file".into(),
        path: common.token_hint_file.clone().into(),
    };
    let limits = Limits {
        connect: limit,
        total: limit,
    };
    let (host, port) = (ip.to_string(), Some(common.port));
    let transport = AgentTransport { tls, basic };
    Ok(AgentClient::new(
        "agent",
        (&host, port),
        access,
        &transport,
        limits,
    ))
}

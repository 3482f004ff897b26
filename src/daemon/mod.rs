//! The daemon: in which order it starts, what belongs to whom, and how it stops.

use crate::api::{Api, Parts, Token, is_slow};
use crate::config::{self, Config};
use crate::datadir;
use crate::datadir::{Journals, Recovered};
use crate::error::{Error, Result};
use crate::gate::{self, Gate};
use crate::methods;
use crate::methods::Enabled;
use crate::process::{Cancel, Credentials};
use crate::protocol::contact::Contacts;
use crate::protocol::heartbeat::{Heartbeat, Intervals};
use crate::protocol::orchestrator::Client;
use crate::protocol::wire::AgentInfo;
use crate::seed::applier::Applier;
use crate::seed::engine::Engine;
use crate::seed::record::Store;
use crate::sys::host;
use crate::sys::limits;
use crate::sys::signal;
use crate::sys::signal::Order;
use crate::sys::thread::{spawn, spawn_with_stack};
use crate::tls;
use std::fs::{DirBuilder, File};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub mod logging;
mod reload;

/// How long a stage may take to end when the agent is stopped (DESIGN P4).
const STAGE_STOP: Duration = Duration::from_secs(9);
/// How long requests at work may take to end when the agent is stopped.
const GATE_STOP: Duration = Duration::from_millis(800);
/// How long the state directory may still be locked by an agent that has just ended: a child that it was about to start holds
/// the lock as well, until its exec.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
/// Pause between two attempts to put settings back that an interrupted seed had changed.
const SETTLE_PAUSE: Duration = Duration::from_secs(5);

/// Runs the daemon until it is told to stop.
///
/// # Errors
/// What keeps it from starting, with the setting.
pub fn serve(file: &Path) -> Result<()> {
    // Before any other thread exists, so that all inherit it.
    signal::block().map_err(|e| Error::io("cannot block signals", &e))?;
    let loaded = config::load(file)?;
    let config = Arc::new(loaded.config);
    let log = logging::start(&config.logging)?;
    log::info!("orchestrator-agent {} starts", crate::commands::VERSION);
    match limits::raise_open_files() {
        Ok(before) => {
            log::debug!("open files: {before:?}, the soft limit is raised to the hard one")
        }
        Err(e) => log::warn!("the limit of open files (LimitNOFILE) cannot be raised: {e}"),
    }
    for warning in &loaded.warnings {
        log::warn!("configuration: {warning}");
    }
    let state_dir = state_dir(&config)?;
    let config = Arc::new(Config {
        common: config::Common {
            state_dir,
            ..config.common.clone()
        },
        ..(*config).clone()
    });
    let _lock = lock(&config.common.state_dir)?;
    Credentials::sweep(&config.common.state_dir);

    let Enabled { methods, left_out } = methods::enabled(&config);
    let engine = Engine::open(
        Store::new(&config.common.state_dir),
        methods.clone(),
        config.common.seed_orphan_timeout,
    )?;
    let unstarted = recover(&config, &engine);
    let applier = Arc::new(Applier::open(&config.common.state_dir, &config.mysql));
    let token = Token::generate()?;
    if !config.common.token_hint_file.is_empty()
        && let Err(e) = token.write_hint(&config.common.token_hint_file)
    {
        log::error!("{e}");
    }
    let hostname = hostname(&config);
    let contacts = Arc::new(Contacts::default());
    let stopping = Cancel::default();
    let api = Arc::new(Api::new(Parts {
        config: Arc::clone(&config),
        hostname: hostname.clone(),
        token: token.clone(),
        engine: engine.clone(),
        applier: Arc::clone(&applier),
        methods,
        left_out,
        contacts: Arc::clone(&contacts),
        stopping: stopping.clone(),
    }));
    let handler = Arc::clone(&api);
    let gate = Gate::open(
        gate_settings(&config)?,
        Arc::new(move |request| handler.answer(request)),
        is_slow,
    )?;
    for address in gate.local_addrs() {
        log::info!("listening on {address} as {hostname}");
    }
    start_settling(
        engine.clone(),
        applier,
        Arc::clone(&config),
        stopping.clone(),
    )?;
    datadir::resume(datadir::staging_roots(&config), datadir::last_seen(&config));
    if let Some(recovered) = unstarted {
        start_mysql_again(Arc::clone(&config), engine.clone(), recovered)?;
    }
    let heartbeats = start_heartbeat(&config, &hostname, &token, &contacts, &api)?;
    let mut live = reload::Live {
        file: file.to_path_buf(),
        log,
        api: Arc::clone(&api),
        heartbeats,
        started: loaded.values,
        logging: config.logging.clone(),
        gate: &gate,
        common: config.common.clone(),
    };

    loop {
        match signal::wait().map_err(|e| Error::io("cannot wait for signals", &e))? {
            Order::Stop => break,
            Order::Reload => live.reload(),
        }
    }
    log::info!("stopping");
    stopping.cancel("the agent is stopping");
    engine.stop(STAGE_STOP);
    drop(live);
    gate.close(GATE_STOP);
    log::info!("stopped");
    Ok(())
}

/// Rolls back a swap of the data directory in which an agent was killed, before anybody can ask for anything, and adds to the
/// seed's record what has become of the data. A failure keeps the marker, and with it MySQL from being started through this
/// agent, but must not keep the agent from telling of it. What is left to do: start MySQL.
fn recover(config: &Arc<Config>, engine: &Engine) -> Option<Recovered> {
    let journals = Journals::new(&config.common.state_dir);
    if let Err(e) = journals.rescue(&datadir::staging_roots(config)) {
        log::error!("{e}");
    }
    match datadir::recover_at_start(&journals, &datadir::Host::at_start(config)) {
        Ok(found) => {
            let found = found?;
            log::warn!("{}", found.text);
            engine.recovered(found.seed, Some(found.data), &found.text);
            Some(found).filter(|f| f.start.is_some())
        }
        Err(e) => {
            log::error!("{e}; MySQL is not started through this agent until that is mended");
            if let Ok(Some(journal)) = journals.read() {
                engine.recovered(journal.seed, None, &e.to_string());
            }
            None
        }
    }
}

/// Crash recovery may take hours, so nobody waits for it.
fn start_mysql_again(config: Arc<Config>, engine: Engine, recovered: Recovered) -> Result<()> {
    let body = move || {
        let Recovered {
            seed,
            start: Some(facts),
            ..
        } = recovered
        else {
            return;
        };
        let journals = Journals::new(&config.common.state_dir);
        let host = datadir::Host::at_start(&config);
        match datadir::start_again(&journals, &facts, &host) {
            Ok(()) => log::info!("seed {seed}: MySQL runs on the old data again"),
            Err(e) => {
                log::error!("seed {seed}: {e}");
                engine.recovered(seed, None, &format!("MySQL was not started: {e}"));
            }
        }
    };
    spawn("start-mysql", body).map(drop)
}

/// `state-dir`, or a directory in `backup-dir` where the default place cannot be used.
fn state_dir(config: &Config) -> Result<std::path::PathBuf> {
    let usable = |dir: &Path| -> std::io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let probe = dir.join(".probe");
        std::fs::write(&probe, b"")?;
        std::fs::remove_file(probe)
    };
    let wanted = &config.common.state_dir;
    let other = config.common.backup_dir.join(".orchestrator-agent-state");
    let record = |dir: &Path| dir.join("seeds.json").exists();
    let Err(e) = usable(wanted) else {
        if !record(&other) || record(wanted) {
            return Ok(wanted.clone());
        }
        log::warn!(
            "the record of earlier seeds is in {}: going on there; to use common.state-dir, move seeds.json to {} while the \
             agent is stopped",
            other.display(),
            wanted.display()
        );
        return usable(&other)
            .map(|()| other.clone())
            .map_err(|e| Error::io(other.display(), &e));
    };
    let refused = || {
        Error::io(
            format!("common.state-dir = \"{}\" cannot be used", wanted.display()),
            &e,
        )
    };
    // Where there is a record, starting without it would forget what earlier seeds left to do.
    if record(wanted) || usable(&other).is_err() {
        return Err(refused());
    }
    log::warn!(
        "common.state-dir = \"{}\": {e}; using {}",
        wanted.display(),
        other.display()
    );
    Ok(other)
}

/// Two agents on one state directory would fight for its record.
fn lock(dir: &Path) -> Result<File> {
    let path = dir.join("lock");
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|e| Error::io(path.display(), &e))?;
    let begin = Instant::now();
    while file.try_lock().is_err() {
        if begin.elapsed() > LOCK_PATIENCE {
            return Err(Error::permanent(format!(
                "another agent runs with common.state-dir = \"{}\": stop it, or give this one its own",
                dir.display()
            )));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(file)
}

/// The name that orchestrator knows this host by: `hostname`, else what `hostname -f` says, else the kernel's name (1.1).
fn hostname(config: &Config) -> String {
    if !config.common.hostname.is_empty() {
        return config.common.hostname.clone();
    }
    let launcher = crate::process::Launcher::default();
    let full = crate::process::run_operator_command(
        "hostname -f",
        &launcher,
        Duration::from_secs(5),
        &Cancel::default(),
    );
    match full.and_then(crate::process::Output::success) {
        Ok(name) if !name.trim().is_empty() => name.trim().to_string(),
        _ => host::kernel_hostname(),
    }
}

fn gate_settings(config: &Config) -> Result<gate::Settings> {
    let c = &config.common;
    let address = c.listen_ip()?;
    Ok(gate::Settings {
        listen: vec![SocketAddr::new(address, c.port)],
        max_connections: c.max_connections,
        max_per_address: c.max_connections_per_address,
        free_strikes: c.max_failed_tokens,
        socket_dir: c.state_dir.clone(),
        allowed: c.allowed_clients.clone(),
        tls: tls::Server::new(c)?,
        limits: gate::Limits {
            head: c.max_head_size,
            body: c.max_body_size,
            ..gate::Limits::default()
        },
    })
}

/// Sessions that a killed agent's tools have left in servers are ended, and settings of MySQL that an interrupted load changed
/// are put back, as soon as MySQL answers.
fn start_settling(
    engine: Engine,
    applier: Arc<Applier>,
    config: Arc<Config>,
    stopping: Cancel,
) -> Result<()> {
    let body = move || {
        let mut said_of_sessions = false;
        let mut said = false;
        loop {
            let errors = engine.end_sessions(|sessions| sessions.end(&config.mysql));
            for e in &errors {
                if !said_of_sessions {
                    log::warn!(
                        "sessions that an interrupted seed may have left are not ended yet: {e}"
                    );
                }
            }
            said_of_sessions = !errors.is_empty();
            let errors = engine.restore_pending();
            for e in &errors {
                if !said {
                    log::warn!(
                        "settings of MySQL that an interrupted seed changed are not restored yet: {e}"
                    );
                }
            }
            said = !errors.is_empty();
            if let Err(e) = applier.settle(engine.current().map(|s| s.id)) {
                log::warn!("the applier of replication is not restored yet: {e}");
            }
            if !stopping.sleep(SETTLE_PAUSE) {
                return;
            }
        }
    };
    spawn_with_stack("settle", 512 << 10, body).map(drop)
}

/// The heartbeat begins once this host was examined completely, because orchestrator calls back during the registration and stores
/// what it then gets.
fn start_heartbeat(
    config: &Config,
    hostname: &str,
    token: &Token,
    contacts: &Arc<Contacts>,
    api: &Arc<Api>,
) -> Result<Heartbeats> {
    let who = AgentInfo {
        hostname: hostname.to_string(),
        port: config.common.port,
        token: config::Secret::new(token.reveal()),
        mysql_port: config.mysql.port,
    };
    let api = Arc::clone(api);
    let first = move || api.watch().first_look(Duration::from_secs(20));
    let orchestrators = config.orchestrator.clone();
    let (clients, intervals) = heartbeat_of(&orchestrators, config)?;
    let heartbeat = Heartbeat::start(clients, who, intervals, Arc::clone(contacts), first)?;
    Ok(Heartbeats {
        orchestrators,
        heartbeat,
    })
}

/// What a reload changes of the heartbeat; the orchestrators stay.
fn heartbeat_of(
    orchestrators: &config::Orchestrator,
    config: &Config,
) -> Result<(Vec<Client>, Intervals)> {
    let c = &config.common;
    let intervals = Intervals {
        ping: c.poll_interval,
        register: c.resubmit_agent_interval,
    };
    let client = |url: &String| {
        let tls = if url.starts_with("https:") {
            Some(tls::outgoing(&tls::Files::of(c))?)
        } else {
            None
        };
        let port = orchestrators.agents_port;
        Ok(Client::new(url, port, c.http_timeout, tls))
    };
    let clients: Result<Vec<Client>> = orchestrators.urls.iter().map(client).collect();
    Ok((clients?, intervals))
}

/// The heartbeat and its orchestrators, which do not change while it runs.
struct Heartbeats {
    orchestrators: config::Orchestrator,
    heartbeat: Heartbeat,
}

impl Heartbeats {
    fn change(&self, config: &Config) {
        match heartbeat_of(&self.orchestrators, config) {
            Ok((clients, intervals)) => self.heartbeat.change(clients, intervals),
            Err(e) => log::error!("SIGHUP: {e}; calls to orchestrator go on as before"),
        }
    }
}

//! The daemon: in which order it starts, and how it stops.

use crate::api::{self, Api, HostMonitor, Logs, Trees, Volumes};
use crate::classic::Classic;
use crate::config::{AllowList, Config};
use crate::datadir;
use crate::error::{OnPath, Result};
use crate::http::{Limits, Server, Settings};
use crate::methods;
use crate::process::{Cancel, Credentials, Launcher, host_name};
use crate::protocol::contacts::Contacts;
use crate::protocol::http_client::Basic;
use crate::seed::applier::Applier;
use crate::seed::engine::Engine;
use crate::seed::record::Store;
use crate::sys::limits;
use crate::sys::signal::{self, Order};
use crate::tls;
use std::net::SocketAddr;
use std::sync::{Arc, RwLock};
use std::time::Duration;

pub(crate) mod logging;
mod options;
mod recovery;
mod reload;
mod state_dir;

pub(crate) use options::Options;

/// How long a stage may take to end when the agent is stopped.
const STAGE_STOP: Duration = Duration::from_secs(9);
/// How long requests at work may take to end when the agent is stopped.
const REQUEST_STOP: Duration = Duration::from_millis(800);

/// Runs the daemon until SIGTERM or SIGINT. Errors are what keeps it from starting, with the setting.
pub(crate) fn serve(options: Options) -> Result<()> {
    // Before any other thread exists, so that all inherit it.
    signal::block().on("cannot block signals")?;
    let mut loaded = options.load()?;
    let log = logging::start(&loaded.config.logging)?;
    log::info!("orchestrator-agent {} starts", crate::VERSION);
    match limits::raise_open_files() {
        Ok(before) => {
            log::debug!("open files: {before:?}, the soft limit is raised to the hard one")
        }
        Err(e) => log::warn!("the limit of open files (LimitNOFILE) cannot be raised: {e}"),
    }
    log::info!("configuration: {}", loaded.file);
    if options.stack {
        log::debug!("-stack has no effect");
    }
    for warning in &loaded.warnings {
        log::warn!("configuration: {warning}");
    }
    if loaded.config.mysql.user.is_empty() {
        log::warn!(
            "mysql.user is empty: only operators' commands are run, and no built-in seed method is offered"
        );
    }
    let state_dir = state_dir::find(&loaded.config)?;
    state_dir::create_backup_dir(&loaded.config.common)?;
    loaded.config.common.state_dir = state_dir;
    let config = Arc::new(loaded.config);
    let _lock = state_dir::lock(&config.common.state_dir)?;
    Credentials::remove_left(&config.common.state_dir);
    let (api, server) = start(&config)?;
    let mut live = reload::Live {
        options,
        log,
        heartbeat: reload::start_heartbeat(&api)?,
        started: loaded.values,
        logging: config.logging.clone(),
        api: Arc::clone(&api),
        server: &server,
    };
    loop {
        match signal::wait().on("cannot wait for signals")? {
            Order::Stop => break,
            Order::Reload => live.reload(),
        }
    }
    log::info!("stopping");
    api.stopping.cancel("the agent is stopping");
    api.engine.stop(STAGE_STOP);
    drop(live);
    server.close(REQUEST_STOP);
    log::info!("stopped");
    Ok(())
}

/// The order counts: tools of a killed agent are ended, and a swap is rolled back, before the first call; orchestrator is called
/// once this agent answers.
fn start(config: &Arc<Config>) -> Result<(Arc<Api>, Server)> {
    let common = &config.common;
    let methods = methods::enabled(config);
    let store = Store::new(&common.state_dir);
    let engine = Engine::open(store, methods.clone(), common.seed_orphan_timeout)?;
    let recovered = recovery::recover(config, &engine);
    let contacts = Contacts::new(&config.orchestrator)?;
    if !common.token_hint_file.is_empty()
        && let Err(e) = api::write_hint(&contacts.first_token(), &common.token_hint_file)
    {
        log::error!("{e}");
    }
    let hostname = host_name(&common.hostname);
    let stopping = Cancel::default();
    let api = Arc::new(Api {
        custom_commands: RwLock::new(config.custom_commands.clone()),
        classic: Classic::new(config, &engine, &hostname),
        volumes: Volumes::new(config, &hostname, &stopping)?,
        trees: Trees::default(),
        hostname,
        basic: Basic::of(common),
        monitor: HostMonitor::new(config, &engine, methods, &stopping),
        logs: Logs::default(),
        engine,
        applier: Applier::open(&common.state_dir, &config.mysql),
        contacts,
        launcher: Launcher::new(common),
        stopping,
        config: Arc::clone(config),
    });
    let router = Arc::clone(&api);
    let server = Server::open(
        server_settings(config)?,
        Arc::new(move |request| router.plan(request)),
    )?;
    for address in server.local_addrs() {
        log::info!("listening on {address} as {}", api.hostname);
    }
    recovery::start_restoring(Arc::clone(&api))?;
    datadir::resume_cleanup(datadir::staging_roots(config), datadir::last_seen(config));
    if let Some(recovered) = recovered {
        recovery::start_mysql_again(Arc::clone(&api), recovered)?;
    }
    Ok((api, server))
}

fn server_settings(config: &Config) -> Result<Settings> {
    let c = &config.common;
    let address = c.listen_ip()?;
    let allowed = AllowList::parse(&c.allowed_clients)?;
    Ok(Settings {
        listen: vec![SocketAddr::new(address, c.port)],
        max_connections: c.max_connections,
        max_per_address: c.max_connections_per_address,
        socket_dir: c.state_dir.clone(),
        spool_dir: c.backup_dir.clone(),
        allowed: Box::new(move |address| allowed.contains(address)),
        tls: tls::Server::new(c)?,
        limits: Limits {
            head: c.max_head_size,
            body: c.max_body_size,
            failed_token_delay: c.failed_token_delay,
            ..Limits::default()
        },
    })
}

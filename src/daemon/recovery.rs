//! What an agent that was killed, or a seed that was interrupted, has left to do.

use crate::api::Api;
use crate::config::Config;
use crate::datadir::{self, Journals, Recovered};
use crate::error::{Error, Result};
use crate::seed::engine::Engine;
use crate::sys::thread::{spawn, spawn_with_stack};
use std::sync::Arc;
use std::time::Duration;

/// Pause between two attempts to restore what an interrupted seed has changed.
const RESTORE_PAUSE: Duration = Duration::from_secs(5);

/// Rolls back a swap of the data directory in which an agent was killed, before the first call, and adds to the
/// seed's record what has become of the data. A failure keeps the marker, and with it MySQL from being started through this
/// agent, but must not keep the agent from reporting it. What is left to do: start MySQL.
pub(super) fn recover(config: &Arc<Config>, engine: &Engine) -> Option<Recovered> {
    datadir::end_service_command(&config.common);
    let journals = Journals::new(&config.common.state_dir);
    if let Err(e) = journals.rescue(&datadir::staging_roots(config)) {
        log::error!("{e}");
    }
    match datadir::recover_at_start(&journals, &datadir::Host::at_start(config)) {
        Ok(found) => {
            let found = found?;
            log::warn!("{}", found.text);
            engine.recovered(found.seed, Some(found.data.into()), &found.text);
            Some(found)
        }
        Err(e) => {
            log::error!("{e}; MySQL is not started through this agent until that is corrected");
            if let Ok(Some(journal)) = journals.read() {
                engine.recovered(journal.seed, None, &e.to_string());
            }
            None
        }
    }
}

/// Crash recovery may take hours, so nothing waits for it.
pub(super) fn start_mysql_again(api: Arc<Api>, recovered: Recovered) -> Result<()> {
    let (seed, Some(info)) = (recovered.seed, recovered.start) else {
        return Ok(());
    };
    let body = move || {
        let journals = Journals::new(&api.config.common.state_dir);
        let host = datadir::Host::at_start(&api.config);
        match datadir::start_again(&journals, &info, &host) {
            Ok(()) => log::info!("seed {seed}: MySQL runs on the old data again"),
            Err(e) => {
                log::error!("seed {seed}: {e}");
                let text = format!("MySQL was not started: {e}");
                api.engine.recovered(seed, None, &text);
            }
        }
    };
    spawn("start-mysql", body).map(drop)
}

/// Sessions that a killed agent's tools have left in servers are ended, and settings of MySQL that an interrupted load changed
/// are restored, as soon as MySQL answers.
pub(super) fn start_restoring(api: Arc<Api>) -> Result<()> {
    let body = move || {
        let engine = &api.engine;
        let (mut sessions, mut settings) = (Failures::default(), Failures::default());
        loop {
            sessions.log(
                "sessions that an interrupted seed may have left are not ended yet",
                &engine.end_sessions(|sessions| sessions.end(&api.config.mysql)),
            );
            settings.log(
                "settings of MySQL that an interrupted seed changed are not restored yet",
                &engine.restore_pending(),
            );
            let current = engine.current().map(|s| s.id);
            if let Err(e) = api.applier.restore_expired(current) {
                log::warn!("the replication applier is not in its previous state yet: {e}");
            }
            if !api.stopping.sleep(RESTORE_PAUSE) {
                return;
            }
        }
    };
    spawn_with_stack("restore", 512 << 10, body).map(drop)
}

/// Logs the errors of a repeated attempt once, until it has succeeded.
#[derive(Default)]
struct Failures {
    logged: bool,
}

impl Failures {
    fn log(&mut self, what: &str, errors: &[Error]) {
        if !self.logged {
            errors.iter().for_each(|e| log::warn!("{what}: {e}"));
        }
        self.logged = !errors.is_empty();
    }
}

//! The HTTP API of protocol v2: the table of endpoints, authentication, replies, and one file for each group of
//! endpoints.

mod applier;
mod auth;
mod info;
mod monitor;
mod path;
mod reply;
mod routes;
mod seed;
mod service;

use crate::config::Config;
use crate::process::{Cancel, Launcher};
use crate::protocol::contact::Contacts;
use crate::protocol::http_client::Basic;
use crate::seed::Method;
use crate::seed::applier::Applier;
use crate::seed::engine::Engine;
use crate::seed::stage::SeedMethod;
use crate::sys::thread::unpoisoned;
use std::collections::BTreeMap;
use std::sync::{Arc, RwLock, RwLockReadGuard};

pub(crate) use auth::Token;
pub(crate) use monitor::HostMonitor;

/// All that the endpoints work with.
pub(crate) struct Api {
    config: Arc<Config>,
    /// Those of the latest reading of the configuration.
    commands: RwLock<BTreeMap<String, String>>,
    hostname: String,
    token: Token,
    basic: Option<Basic>,
    engine: Engine,
    applier: Arc<Applier>,
    monitor: HostMonitor,
    contacts: Arc<Contacts>,
    launcher: Launcher,
    /// Ends operators' commands when the agent stops.
    stopping: Cancel,
}

/// What [`Api::new`] is made of.
pub(crate) struct Parts {
    pub(crate) config: Arc<Config>,
    /// The name under which the agent registers.
    pub(crate) hostname: String,
    /// The token of this process.
    pub(crate) token: Token,
    pub(crate) engine: Engine,
    /// The applier of the local replica.
    pub(crate) applier: Arc<Applier>,
    /// Methods that are enabled and built.
    pub(crate) methods: Vec<Arc<dyn SeedMethod>>,
    /// Methods that are enabled and left out, with reasons.
    pub(crate) left_out: Vec<(Method, String)>,
    /// The contact with each orchestrator.
    pub(crate) contacts: Arc<Contacts>,
    /// Cancelled when the agent stops.
    pub(crate) stopping: Cancel,
}

impl Api {
    /// Replaces the custom commands; those that run go on.
    pub(crate) fn set_custom_commands(&self, commands: BTreeMap<String, String>) {
        *unpoisoned(self.commands.write()) = commands;
    }

    fn custom_commands(&self) -> RwLockReadGuard<'_, BTreeMap<String, String>> {
        unpoisoned(self.commands.read())
    }

    /// Starts nothing.
    pub(crate) fn new(parts: Parts) -> Self {
        let launcher = Launcher::new(&parts.config.common);
        let monitor = HostMonitor::new(
            &parts.config,
            parts.engine.clone(),
            parts.methods,
            parts.left_out,
        );
        Self {
            commands: RwLock::new(parts.config.custom_commands.clone()),
            basic: Basic::of(&parts.config.common),
            config: parts.config,
            hostname: parts.hostname,
            token: parts.token,
            engine: parts.engine,
            applier: parts.applier,
            monitor,
            contacts: parts.contacts,
            launcher,
            stopping: parts.stopping,
        }
    }

    pub(crate) fn monitor(&self) -> &HostMonitor {
        &self.monitor
    }
}

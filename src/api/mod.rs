//! The HTTP API of both protocols: the table of endpoints, authentication, replies, and one file for each group of
//! endpoints.

mod auth;
mod call;
mod classic;
mod classic_seed;
mod host;
mod logs;
mod monitor;
mod path;
mod probed;
mod reply;
mod routes;
mod seed;
mod service;
mod volumes;

use crate::classic::Classic;
use crate::config::Config;
use crate::process::{Cancel, Launcher};
use crate::protocol::contacts::Contacts;
use crate::protocol::http_client::Basic;
use crate::seed::applier::Applier;
use crate::seed::engine::Engine;
use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

pub(crate) use auth::write_hint;
pub(crate) use classic::Trees;
pub(crate) use logs::Logs;
pub(crate) use monitor::HostMonitor;
pub(crate) use volumes::Volumes;

/// All that the endpoints work with.
pub(crate) struct Api {
    pub(crate) config: Arc<Config>,
    /// Those of the latest reading of the configuration.
    pub(crate) custom_commands: RwLock<BTreeMap<String, String>>,
    /// The name under which the agent registers.
    pub(crate) hostname: String,
    pub(crate) basic: Option<Basic>,
    pub(crate) engine: Arc<Engine>,
    pub(crate) classic: Arc<Classic>,
    /// Of the local replica.
    pub(crate) applier: Applier,
    pub(crate) monitor: HostMonitor,
    pub(crate) volumes: Volumes,
    pub(crate) trees: Trees,
    pub(crate) logs: Logs,
    pub(crate) contacts: Contacts,
    pub(crate) launcher: Launcher,
    /// Ends operators' commands and the restoring of settings when the agent stops.
    pub(crate) stopping: Cancel,
}

//! The HTTP API of protocol v2: routing, authentication, replies. One file a group of endpoints.

mod applier;
mod auth;
mod info;
mod monitor;
mod path;
mod reply;
mod seed;
mod service;

use crate::config::Config;
use crate::gate::{Door, Request, Response};
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

pub use auth::Token;
pub(crate) use monitor::HostMonitor;

/// All that the endpoints work with.
pub struct Api {
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
pub struct Parts {
    /// The configuration.
    pub config: Arc<Config>,
    /// The name under which the agent registers.
    pub hostname: String,
    /// The token of this process.
    pub token: Token,
    /// The seed engine.
    pub engine: Engine,
    /// The applier of the local replica.
    pub applier: Arc<Applier>,
    /// Methods that are enabled and built.
    pub methods: Vec<Arc<dyn SeedMethod>>,
    /// Methods that are enabled and left out, with reasons.
    pub left_out: Vec<(Method, String)>,
    /// The contact with each orchestrator.
    pub contacts: Arc<Contacts>,
    /// Cancelled when the agent stops.
    pub stopping: Cancel,
}

impl Api {
    /// Replaces the custom commands; those that run go on.
    pub fn set_custom_commands(&self, commands: BTreeMap<String, String>) {
        *unpoisoned(self.commands.write()) = commands;
    }

    fn custom_commands(&self) -> RwLockReadGuard<'_, BTreeMap<String, String>> {
        unpoisoned(self.commands.read())
    }

    /// Starts nothing.
    pub fn new(parts: Parts) -> Self {
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

    /// Answers one request.
    pub fn answer(&self, request: &Request) -> Response {
        if self
            .basic
            .as_ref()
            .is_some_and(|b| !auth::has_credentials(b, request))
        {
            return reply::unauthorized();
        }
        let Some(path) = path::decode(&request.path) else {
            return reply::not_found();
        };
        let segments = path::segments(&path);
        // Without a valid certificate nothing is open but this very path (D24), and that only where it is meant to be.
        let outside = request.door == Door::StatusOnly;
        if outside && self.config.common.status_ou_verify {
            return reply::text(401, "Invalid OU\n");
        }
        if path == self.config.common.status_endpoint
            || path.strip_suffix('/') == Some(&self.config.common.status_endpoint)
        {
            return if request.method == "GET" {
                self.status()
            } else {
                reply::not_found()
            };
        }
        if outside {
            return reply::text(401, "Invalid OU\n");
        }
        let ["api", words @ ..] = segments.as_slice() else {
            return reply::not_found();
        };
        let Some(endpoint) = Endpoint::of(&request.method, words) else {
            return reply::not_found();
        };
        if !matches!(endpoint, Endpoint::AgentInfo)
            && !self
                .token
                .allows(&self.config.common.token_http_header, request)
        {
            return reply::invalid_token();
        }
        self.perform(endpoint, request)
            .unwrap_or_else(|e| reply::error(&e.to_string()))
    }

    fn perform(&self, endpoint: Endpoint, request: &Request) -> crate::error::Result<Response> {
        match endpoint {
            Endpoint::AgentInfo => Ok(self.agent_info()),
            Endpoint::AgentData => Ok(self.agent_data()),
            Endpoint::ActiveSeed => Ok(self.active_seed()),
            Endpoint::ErrorLogTail => self.error_log_tail(),
            Endpoint::Service(start) => self.service(start),
            Endpoint::CustomCommand(name) => self.custom_command(name),
            Endpoint::PostSeed(id) => self.post_seed(id),
            Endpoint::Prepare(id, method, side) => self.prepare(id, method, side),
            Endpoint::Backup(id, method, host, port) => self.backup(id, method, host, port),
            Endpoint::Restore(id, method) => self.restore(id, method),
            Endpoint::Cleanup(id, method, side) => self.cleanup(id, method, side),
            Endpoint::Metadata(id, method) => self.metadata(id, method),
            Endpoint::StageState(id, stage) => self.stage_state(id, stage),
            Endpoint::Abort(id, stage) => self.abort(id, stage),
            Endpoint::HoldApplier(id) => self.hold_applier(id),
            Endpoint::ReleaseApplier(id) => self.release_applier(id),
            Endpoint::NotYet(what) => {
                log::debug!("{} asked for", request.path);
                Err(crate::error::Error::permanent(format!(
                    "{what} is not part of this version yet"
                )))
            }
        }
    }
}

/// The endpoints with their path parameters (agent-api-v2 section 2). A wrong method on a known path is no endpoint (0.1).
enum Endpoint<'a> {
    AgentInfo,
    AgentData,
    ActiveSeed,
    ErrorLogTail,
    /// true: start, false: stop
    Service(bool),
    CustomCommand(&'a str),
    PostSeed(&'a str),
    Prepare(&'a str, &'a str, &'a str),
    Backup(&'a str, &'a str, &'a str, &'a str),
    Restore(&'a str, &'a str),
    Cleanup(&'a str, &'a str, &'a str),
    Metadata(&'a str, &'a str),
    StageState(&'a str, &'a str),
    Abort(&'a str, &'a str),
    HoldApplier(&'a str),
    ReleaseApplier(&'a str),
    NotYet(&'static str),
}

impl<'a> Endpoint<'a> {
    fn of(method: &str, words: &[&'a str]) -> Option<Self> {
        Some(match (method, words) {
            ("GET", ["get-agent-info"]) => Self::AgentInfo,
            ("GET", ["get-agent-data"]) => Self::AgentData,
            ("GET", ["active-seed"]) => Self::ActiveSeed,
            ("GET", ["mysql-error-log-tail"]) => Self::ErrorLogTail,
            ("GET", ["mysql-start"]) => Self::Service(true),
            ("GET", ["mysql-stop"]) => Self::Service(false),
            ("GET", ["custom-commands", name]) => Self::CustomCommand(name),
            ("GET", ["post-seed-cmd", id]) => Self::PostSeed(id),
            ("GET", ["prepare", id, m, side]) => Self::Prepare(id, m, side),
            ("GET", ["backup", id, m, host, port]) => Self::Backup(id, m, host, port),
            ("GET", ["restore", id, m]) => Self::Restore(id, m),
            ("GET", ["cleanup", id, m, side]) => Self::Cleanup(id, m, side),
            ("GET", ["get-metadata", id, m]) => Self::Metadata(id, m),
            ("GET", ["seed-stage-state", id, stage]) => Self::StageState(id, stage),
            ("GET", ["abort-seed-stage", id, stage]) => Self::Abort(id, stage),
            ("GET", ["hold-applier", id]) => Self::HoldApplier(id),
            ("GET", ["release-applier", id]) => Self::ReleaseApplier(id),
            ("GET", ["mountlv" | "removelv" | "umount" | "create-snapshot"]) => Self::NotYet("LVM"),
            (
                "GET",
                [
                    "mysql-relay-log-index-file"
                    | "mysql-relay-log-files"
                    | "mysql-relay-log-end-coordinates"
                    | "mysql-binlog-contents"
                    | "mysql-binlog-binary-contents",
                ],
            )
            | ("GET", ["mysql-relaylog-contents-tail", _, _])
            | ("POST", ["apply-relaylog-contents"]) => Self::NotYet("moving binary and relay logs"),
            _ => return None,
        })
    }
}

/// True for requests whose work is an operator's command or the reading of a file, which may take long: they do not run on the
/// workers that answer all others.
pub fn is_slow(request: &Request) -> bool {
    let Some(path) = path::decode(&request.path) else {
        return false;
    };
    matches!(
        path::segments(&path).as_slice(),
        [
            "api",
            "mysql-start"
                | "mysql-stop"
                | "custom-commands"
                | "post-seed-cmd"
                | "mysql-error-log-tail"
                | "hold-applier"
                | "release-applier",
            ..
        ]
    )
}

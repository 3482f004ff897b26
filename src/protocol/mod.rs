//! The agent's protocol: its JSON, and the calls to agents and to orchestrators.

pub(crate) mod agent;
pub(crate) mod contacts;
pub(crate) mod heartbeat;
pub(crate) mod http_client;
pub(crate) mod orchestrator;
pub(crate) mod wire;

pub(crate) use orchestrator::base;

//! Agent that sits beside mysqld, tells *orchestrator* about its host, and builds new replicas ("seeds").
//!
//! # The map of the house
//!
//! | room | what is in it |
//! |---|---|
//! | [`cli`] | arguments, usage text, exit codes |
//! | [`agent`] | the daemon: start order, orderly stop |
//! | [`config`] | TOML to one typed, validated configuration |
//! | [`gate`] | the network door: accept loop, cap, deadlines, request guard; tiny_http behind it |
//! | [`api`] | routing, authentication, replies; one file a group of endpoints |
//! | [`orchestrator`] | registration, ping, the heartbeat thread |
//! | [`seed`] | vocabulary, the engine, the record on disk, the methods, coordinates |
//! | [`conduct`] | the `seed` command: a whole seed without an orchestrator |
//! | [`check`] | the `check-config` command: is this host ready for the agent? |
//! | [`status`] | the `status` command: what the local daemon is doing |
//! | [`process`] | running tools and operators' commands |
//! | [`stream`] | the seed stream: a copy on its way from host to host |
//! | [`tls`] | certificates, keys, and who is believed |
//! | [`mysql`] | connection, server flavour and version, queries |
//! | [`host`] | disk use, memory, names, processes |
//! | [`system`] | the only unsafe and libc code |
//! | [`error`], [`logging`] | used by all |
//!
//! Arrows point down only: {`api`, `conduct`, `check`, `status`} to `seed` to {`stream`, `process`, `mysql`, `host`} to `system`;
//! {`gate`, `stream`, `orchestrator`} to `tls` and `system`; `config` is read by all and knows nobody.
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used))]

pub mod agent;
pub mod api;
pub mod check;
pub mod cli;
pub mod conduct;
pub mod config;
pub mod error;
pub mod gate;
pub mod host;
pub mod logging;
pub mod mysql;
pub mod orchestrator;
pub mod process;
pub mod seed;
pub mod status;
pub mod stream;
#[allow(unsafe_code)]
pub mod system;
pub mod tls;

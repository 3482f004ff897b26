//! Agent that runs next to mysqld, reports its host to *orchestrator*, and builds new replicas ("seeds").
//!
//! A module imports only from modules below it in this table (`tests/it/structure/numbers.rs` checks it).
//!
//! | module | what is in it |
//! |---|---|
//! | [`commands`] | command line and usage text; the commands `seed`, `check-config` and `status` |
//! | [`daemon`] | start order, orderly stop, reload, logging |
//! | [`api`] | the endpoints: authentication, routes, replies |
//! | [`protocol`] | what orchestrator is sent: registration, ping, the heartbeat thread |
//! | `classic` | seeds of the classic protocol, driven through the engine |
//! | [`methods`] | the seed methods: what each does at each stage |
//! | `contents` | what servers hold that not every method can copy |
//! | [`seed`] | the engine that runs the stages, and the record on disk |
//! | [`compatibility`] | may this target become a replica of this source, by this kind of copy |
//! | [`datadir`] | staging, trial start, swap, rollback and cleanup of a data directory |
//! | [`coordinates`] | parsers of the tools' metadata, GTID sets |
//! | [`stream`] | the seed stream: a copy on its way from host to host |
//! | [`http`] | the network front: connections, limits, TLS; tiny_http behind it |
//! | [`mysql`] | connection, server family and version, queries, replication |
//! | [`process`] | tools and operators' commands |
//! | [`tls`] | certificates, keys, verification of peers |
//! | [`config`] | TOML to one typed, validated configuration |
//! | [`sys`] | the only unsafe and libc code; disks, memory, processes |
//! | [`error`] | the error type |
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used))]

pub mod api;
mod classic;
pub mod commands;
pub mod compatibility;
pub mod config;
mod contents;
pub mod coordinates;
pub mod daemon;
pub mod datadir;
pub mod error;
pub mod http;
pub mod methods;
pub mod mysql;
pub mod process;
pub mod protocol;
pub mod seed;
pub mod stream;
#[allow(unsafe_code)]
pub mod sys;
pub mod tls;

#[cfg(fuzzing)]
#[path = "../tests/fuzz/inside.rs"]
pub mod fuzz;

/// The version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

//! Whole seeds between real servers.
#[path = "../support/mod.rs"]
mod support;
#[path = "../security/witness.rs"]
mod witness;

mod bare;

mod by_command;
mod by_command_mysql;
mod by_http;
mod by_http_mysql;
mod clone;
mod content;
mod content_mysql;
mod contents;
mod definitions;
mod differences;
mod identity;
mod json;
mod large;
mod mydumper;
mod mysql56;
mod profile;
mod replication;
mod row_mode;
mod secrets;
mod situations;
mod source_locks;
mod storage;
mod target_state;
mod values;
mod verify;
mod xtrabackup;
mod xtrabackup_mysql;

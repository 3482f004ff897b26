//! Whole seeds between real servers.
#[path = "../support/mod.rs"]
mod support;

mod by_command;
mod by_http;
mod content;
mod differences;
mod target_state;

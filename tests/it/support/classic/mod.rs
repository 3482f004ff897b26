//! The server's side of the classic protocol, as orchestrator 3.2.6 and its forks have it, and two hosts under it.

pub mod go_client;
pub mod hosts;
pub mod orchestrator;
pub mod seed;

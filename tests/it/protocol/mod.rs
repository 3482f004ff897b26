//! What an orchestrator, an operator's script or a monitoring system sees of the agent: the wire, word by word.

mod access;
mod bare_root;
mod check;
mod classic_config;
mod commands;
mod data;
mod https;
mod logs;
mod orchestrator;
mod outgoing;
mod registration;
mod reload;
mod routes;
mod service;
mod stages;
mod startup;
mod status;
mod tokens;

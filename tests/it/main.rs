//! All tests against real servers and real agents, in one program; a module for each purpose.

mod classic;
mod fault;
mod performance;
mod protocol;
mod security;
mod seed;
mod structure;
mod support;
mod swap;

//! What goes wrong, and what a user then sees: the error's text, the data, the daemon, and the next seed.

mod abort;
mod bad_source;
mod bad_target;
mod bad_tools;
mod clone;
mod disk_full;
mod killed;
mod moments;
mod mydumper;
mod physical;
mod reasons;
mod repeat;
mod stopped;
mod takeover;

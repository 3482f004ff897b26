//! The target's data directory: the only code that renames or deletes MySQL data (DESIGN 4). Old data are never given up before
//! the new ones are whole and have been *seen to start*.
//!
//! # How a physical method uses it
//!
//! | stage | call | what it does |
//! |---|---|---|
//! | Prepare | [`inspect`] | asks MySQL, or its settings when it is down; refuses what a copy cannot follow; [`Facts`] go to the record |
//! | | [`room`] | two copies, the wipe, or a refusal (`mysql.datadir-swap`) |
//! | | [`Staged::make`] | an empty staging directory; [`wipe`] first where two copies do not fit |
//! | Backup | [`Staged::new_dir`] | what is received goes here; [`Staged::disk_used`] while it does |
//! | | [`Helper`] | a private server that makes the copy by CLONE |
//! | Restore | [`Facts::accepts`] | where the source's facts are known |
//! | | [`proof_start`] | a private server on the copy; gives the [`Proven`] that [`swap`] wants |
//! | | [`swap`] | stop, swap, start; back again after any failure |
//! | Cleanup | [`keep_old`], [`sweep()`] | by `mysql.keep-old-data` |
//!
//! [`Journals::rescue`] and [`recover_at_start`] come before the gate opens, [`start_again`] after it; [`mysql_start_refused`]
//! before any start of MySQL. All of it works on [`Surroundings`]: [`Host`] is the real one.
//!
//! # What protects the data
//!
//! - [`journal`]: every rename is in a durable journal before it is done, so that a kill at any moment is rolled back.
//! - The guard ([`swap`]): while names change, no server can start.
//! - [`stopped`]: MySQL is *proven* to be gone, and its lock is held meanwhile.
//! - [`origin`]: what comes from where, in one table with reasons.

mod facts;
mod helper;
mod inspect;
pub mod journal;
mod leftover;
pub mod origin;
mod owner;
mod program;
mod proof;
mod refuse;
mod service;
mod staging;
pub mod stopped;
mod swap;
mod sweep;
mod tidy;
mod undo;

pub use facts::{Facts, Outside, Variables};
pub use helper::Helper;
pub use inspect::{datadir_of_settings, examine, inspect, last_seen, staging_root, staging_roots};
pub use journal::{Journal, Journals, Phase};
pub use leftover::end as end_leftovers;
pub use proof::{Proven, proof_start, proof_start_of_clone};
pub use service::{Host, Surroundings, start_and_wait};
pub use staging::{Room, Staged, room};
pub use swap::{swap, wipe};
pub use sweep::{in_background, kept, resume, sweep};
pub use tidy::{discard_new, discard_old, keep_old};
pub use undo::{Recovered, mysql_start_refused, recover_at_start, start_again, unfinished};

/// Names of our directories in a data directory, on MySQL and on MariaDB: to be left out of copies, disk use and schema lists.
pub const STAGING_NAMES: [&str; 2] = [".orchestrator-agent", "#sql-orchestrator-agent"];

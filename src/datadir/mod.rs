//! The target's data directory: the only code that renames or deletes MySQL data. The old data are not given up before the new ones
//! are complete and a server has been started on them.
//!
//! # How a physical method uses it
//!
//! | stage | call | what it does |
//! |---|---|---|
//! | Prepare | [`inspect`] | queries MySQL, or reads its settings when it is down; refuses what a copy cannot follow; [`DatadirInfo`] goes to the record |
//! | | [`swap_mode`] | two copies, the wipe, or a refusal (`mysql.datadir-swap`) |
//! | | [`Staged::make`] | an empty staging directory; [`wipe`] first where two copies do not fit |
//! | Backup | [`Staged::new_dir`] | what is received goes here; [`Staged::disk_used`] while it does |
//! | | [`CloneServer`] | a private server that makes the copy by CLONE |
//! | | [`LoadServer`] | a private server that executes a dump |
//! | Restore | [`trial_start`] | a private server on the copy; returns the [`VerifiedCopy`] that [`swap`] requires |
//! | | [`swap`] | stop, swap, start; rolled back after any failure |
//! | Cleanup | [`keep_old`], [`clean_up`] | by `mysql.keep-old-data` |
//!
//! [`end_service_command`], [`Journals::rescue`] and [`recover_at_start`] come before the agent answers any request, [`start_again`] after it;
//! [`mysql_start_refused`] before any start of MySQL. All of it works on an [`Environment`]; [`Host`] is the real one.
//!
//! # What protects the data
//!
//! - [`journal`]: every rename is in a durable journal before it is done, so that a kill at any moment is rolled back.
//! - The guard ([`swap`]): while names change, no server can start.
//! - [`environment`]: MySQL is verified to be gone, and its lock is held meanwhile.
//! - [`file_policy`]: what is kept, taken and dropped, in one table with reasons.

mod cleanup;
mod environment;
mod file_policy;
mod info;
mod inspect;
pub mod journal;
mod load_server;
mod note;
mod owner;
mod private_server;
mod rollback;
mod service_command;
mod staging;
mod swap;

pub(crate) use cleanup::{SwapMode, delete_new, delete_old, keep_old, resume_cleanup, swap_mode};
pub use cleanup::{clean_up, kept};
pub use environment::{Environment, Host, Task};
pub(crate) use environment::{is_in_use, start_and_wait};
pub use info::{DatadirInfo, LogsElsewhere};
pub use inspect::{Role, examine, inspect, staging_roots};
pub(crate) use inspect::{datadir_of_settings, settings_when_down, take_note};
pub use journal::Journals;
pub(crate) use load_server::LoadServer;
pub(crate) use note::{LastRole, last_role, last_seen, note_replicas};
pub(crate) use private_server::{CloneServer, end_leftovers, trial_start_of_clone};
pub use private_server::{VerifiedCopy, trial_start};
pub(crate) use rollback::{DataNow, unfinished};
pub use rollback::{Recovered, mysql_start_refused, recover_at_start, start_again};
pub(crate) use service_command::end_service_command;
pub use staging::{STAGING_NAMES, Staged};
pub use swap::{swap, wipe};

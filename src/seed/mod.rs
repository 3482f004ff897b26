//! Seeds: the engine that runs one stage in its own thread, and the record on disk.
//!
//! The life of a seed: [`engine`] takes a start call and writes [`record`]; a thread gets a [`stage::Context`] and runs the stage of a
//! [`stage::SeedMethod`].

pub(crate) mod applier;
pub(crate) mod engine;
pub(crate) mod private;
pub(crate) mod record;
pub(crate) mod sessions;
pub(crate) mod source_lock;
pub(crate) mod stage;
pub(crate) mod types;

pub(crate) use types::{Method, Side, Stage, Status};

//! Seeds: the vocabulary, the engine that runs one stage in its own thread, the record on disk, and what each method does.
//!
//! The life of a seed: [`engine`] takes a start call and writes [`record`]; a thread gets a [`context`] and runs the method
//! of [`methods`]; [`coordinates`] are read out of what the tools wrote.

pub mod applier;
pub mod engine;
pub mod record;
pub mod sessions;
pub mod source_lock;
pub mod stage;
pub mod types;

pub use types::{Method, Side, Stage, Status};

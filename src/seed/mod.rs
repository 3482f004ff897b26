//! Seeds: the vocabulary, the engine that runs one stage in its own thread, the record on disk, and what each method does.
//!
//! The life of a seed: [`engine`] takes a start call and writes [`record`]; a thread gets a [`context`] and runs the method
//! of [`methods`]; [`coordinates`] are read out of what the tools wrote.

pub mod applier;
pub mod context;
pub mod coordinates;
pub mod datadir;
pub mod engine;
pub mod methods;
pub mod record;
pub mod sessions;
pub mod source_lock;
pub mod vocabulary;

pub use vocabulary::{Method, Side, Stage, Status};

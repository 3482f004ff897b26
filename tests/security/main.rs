//! What nobody must see, and what nobody can break from outside.
#[path = "../performance/built.rs"]
mod built;
#[path = "../protocol/lone.rs"]
mod lone;
#[path = "../support/mod.rs"]
mod support;
#[path = "../protocol/wire.rs"]
mod wire;

mod hostile;
mod secrets;
mod seed_port;
mod storm;
mod witness;

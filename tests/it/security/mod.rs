//! What nobody must see, and what nobody can break from outside.

mod hostile;
mod secrets;
mod seed_port;
mod storm;

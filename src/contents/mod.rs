//! What servers hold that not every method can copy or that would stop a load: found by queries, before anything of the target is
//! changed.

mod binlog;
mod create_table;
mod extensions;
pub(crate) mod finding;
pub(crate) mod foreign_keys;
mod kinds;
pub(crate) mod name_conflicts;
pub(crate) mod pair_settings;
pub(crate) mod row_mode;
pub(crate) mod source;
mod system_objects;
pub(crate) mod target;
pub(crate) mod values;
pub(crate) mod xa;

pub(crate) use binlog::warnings;
pub(crate) use finding::{Outcome, physical_methods, refuse};
pub(crate) use kinds::inspect;
pub(crate) use source::{Source, largest_memory_table};
pub(crate) use target::Target;

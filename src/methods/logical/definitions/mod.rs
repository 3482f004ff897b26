//! The source's definitions while a dump was made, and their comparison with what its load has made.

pub(crate) mod check;
mod compare;
mod created;
#[cfg(test)]
mod fixture;
pub(crate) mod kept;
mod normal;
pub(crate) mod prepare;

//! The source's definitions while a dump was made, and their comparison with what its load has made.

pub(crate) mod check;
mod compare;
#[cfg(test)]
mod fixture;
pub(crate) mod kept;
pub(crate) mod prepare;

//! Running tools and operators' commands: argument vectors, sudo, pipes, stderr tails, credentials files, and the end of a
//! whole process tree. No shell is ever put around a tool; operators' own commands are given to `/bin/sh -c`.

mod cancel;
mod command;
mod credentials;
mod launch;
mod orphans;
mod pipe;
mod running;
mod sudo;

pub use cancel::Cancel;
pub use command::{Output, has_grammar, run_operator_command};
pub use credentials::{Credentials, Login, SessionInit};
pub use launch::{Launcher, set_environment};
pub(crate) use orphans::end_orphans;
pub use pipe::{Job, feed_from, run, save_to};
pub use running::{Exit, Running, set_priority, signal_group};
pub use sudo::version_text;

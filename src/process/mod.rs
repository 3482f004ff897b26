//! Running tools and operators' commands: argument vectors, sudo, pipes, stderr tails, credentials files, and the end of a
//! whole process tree. No shell is ever put around a tool; operators' own commands are given to a shell.

mod cancel;
mod command;
mod credentials;
mod launch;
mod pipe;
mod running;
mod sudo;

pub use cancel::Cancel;
pub(crate) use command::{
    Output, has_grammar, host_name, run_known_command, run_operator_command, run_to_end,
};
pub(crate) use credentials::{Credentials, Login, SessionInit, check_sudo_user};
pub(crate) use launch::{Launcher, program_name, set_environment};
pub(crate) use pipe::{Job, feed_from, run, save_to};
pub use running::Running;
pub(crate) use running::{Exit, end_orphans, set_priority, signal_group};
pub(crate) use sudo::version_text;

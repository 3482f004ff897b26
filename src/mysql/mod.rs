//! The MySQL or MariaDB server: connecting, what it is, and what it is asked.

pub mod applier;
pub mod catalogue;
pub mod channel;
pub mod clone;
mod connect;
pub mod control;
pub mod grants;
mod identity;
pub mod info;
pub mod locks;
pub mod messages;
mod plugins;
pub mod profile;
mod replication;
mod restore;
mod server;

pub use connect::{Endpoint, READABLE, answers, cause, connect, connect_plain, failure, timed_out};
pub use identity::{Fingerprint, Identity, Session, one_server};
pub use plugins::old_logins;
pub use replication::{Source, Start};
pub use restore::{PendingRestore, Restore};
pub use server::{Flavour, Server, Version, client_tools, dump_tools};

/// A string as a literal for statements that take no parameters (CHANGE MASTER, ALTER EVENT). Only right in a session
/// whose sql_mode has no NO_BACKSLASH_ESCAPES; [`connect()`] sees to that.
pub fn quote_text(s: &str) -> String {
    let mut out = String::with_capacity(s.len() + 2);
    out.push('\'');
    for c in s.chars() {
        match c {
            '\'' => out.push_str("''"),
            '\\' => out.push_str("\\\\"),
            '\0' => out.push_str("\\0"),
            c => out.push(c),
        }
    }
    out.push('\'');
    out
}

/// A name in backticks.
pub fn quote_name(s: &str) -> String {
    format!("`{}`", s.replace('`', "``"))
}

/// `user@host` as the server prints it, quoted again; the host is what follows the last `@`.
pub fn quote_account(account: &str) -> String {
    let (user, host) = account.rsplit_once('@').unwrap_or((account, "%"));
    format!("{}@{}", quote_name(user), quote_name(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_leaves_nothing_open() {
        assert_eq!(quote_text(r"a'b\c"), r"'a''b\\c'");
        assert_eq!(quote_name("a`b"), "`a``b`");
        assert_eq!(quote_account("a@b@localhost"), "`a@b`@`localhost`");
    }
}

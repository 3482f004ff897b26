//! The MySQL or MariaDB server: connections, family and version, queries and statements.

pub(crate) mod applier;
pub(crate) mod binlog_file;
pub mod catalogue;
pub(crate) mod channel;
pub(crate) mod clone;
mod connect;
pub(crate) mod control;
pub(crate) mod grants;
mod identity;
pub mod info;
pub(crate) mod logs;
pub(crate) mod messages;
pub mod profile;
pub(crate) mod query;
pub(crate) mod replica;
mod replication;
mod restore;
mod server;
mod session;
pub(crate) mod settings;

pub use connect::{Endpoint, connect};
pub(crate) use connect::{READABLE, answers, cause, connect_plain, failure};
pub use identity::{Fingerprint, Identity, one_server};
pub(crate) use replication::{Source, Start};
pub use restore::PendingRestore;
pub(crate) use restore::Restore;
pub(crate) use server::old_logins;
pub use server::{Flavour, Server, Version};
pub use session::Session;

/// A string as a literal for statements that take no parameters (CHANGE MASTER, ALTER EVENT). Only right in a session
/// whose sql_mode has no NO_BACKSLASH_ESCAPES; [`connect()`] sees to that.
pub(crate) fn quote_text(s: &str) -> String {
    let escaped = s.replace('\\', r"\\").replace('\0', r"\0");
    format!("'{}'", escaped.replace('\'', "''"))
}

/// A name in backticks.
pub(crate) fn quote_name(s: &str) -> String {
    format!("`{}`", s.replace('`', "``"))
}

/// `user@host` as the server prints it, quoted again; the host is what follows the last `@`.
pub(crate) fn quote_account(account: &str) -> String {
    let (user, host) = account.rsplit_once('@').unwrap_or((account, "%"));
    format!("{}@{}", quote_name(user), quote_name(host))
}

/// How a table gets back into the data directory. ALTER TABLE keeps the directory: MySQL 9.7 leaves it out with ALGORITHM=COPY and
/// this mode, MariaDB 10.11 hides it then, but keeps it. CREATE TABLE ... LIKE leaves it out on both.
macro_rules! move_back {
    () => {
        "move the tables back into its data directory (MySQL: SET SESSION sql_mode = 'NO_DIR_IN_CREATE', then ALTER TABLE ... FORCE, \
         ALGORITHM=COPY; MariaDB: CREATE TABLE copy LIKE table, which leaves out the directory and foreign keys, INSERT ... SELECT, \
         and RENAME TABLE)"
    };
}
pub(crate) use move_back;
/// The same for the checks of the physical methods.
pub(crate) const MOVE_BACK: &str = concat!("on the server that has them, ", move_back!());

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

//! The agent's account after a copy, whose accounts are those of the source.

use crate::error::{Error, Result};
use crate::mysql::info;
use mysql::Conn;

/// True if an account for host pattern `pattern` would be used for a login over the loopback interface.
fn loopback(pattern: &str) -> bool {
    let p = pattern.to_ascii_lowercase();
    matches!(p.as_str(), "%" | "localhost" | "127.0.0.1" | "::1" | "")
        || p.strip_suffix('%')
            .is_some_and(|head| "127.0.0.1".starts_with(head))
        || p.starts_with("127.0.0.")
}

/// After the load the source's accounts are the target's: the agent's must be among them, with this password, for a login
/// from the target's own host.
///
/// # Errors
/// Permanent: it is not, with the remedy. If a query fails.
pub(crate) fn check_account(user: &str, conn: &mut Conn) -> Result<()> {
    let accounts = info::accounts(conn, user)?;
    let here = info::current_account_host(conn)?;
    let used = accounts.iter().find(|a| a.host == here);
    let local: Vec<_> = accounts.iter().filter(|a| loopback(&a.host)).collect();
    if local.is_empty() {
        return Err(Error::permanent(format!(
            "the source has no account '{user}' that can log in from localhost or 127.0.0.1 (only {}), and its accounts \
             will be the target's: create '{user}'@'localhost' or '{user}'@'%' on the source",
            accounts
                .iter()
                .map(|a| format!("'{user}'@'{}'", a.host))
                .collect::<Vec<_>>()
                .join(", ")
        )));
    }
    // Hashes of one plugin without salt tell whether the passwords agree; salted ones do not tell.
    let tells = |a: &str| a.starts_with("mysql_native_password:") || a.starts_with("ed25519:");
    if let Some(used) = used
        && tells(&used.authentication)
        && let Some(other) = local
            .iter()
            .find(|a| tells(&a.authentication) && a.authentication != used.authentication)
    {
        return Err(Error::permanent(format!(
            "on the source '{user}'@'{}' has another password than '{user}'@'{here}', with which the agent logs in: after \
             the load the agent could not log in to the target; give both the same password",
            other.host
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_accounts_serve_the_loopback() {
        for yes in [
            "%",
            "localhost",
            "127.0.0.1",
            "127.%",
            "127.0.0.0/255.0.0.0",
            "::1",
            "",
        ] {
            assert!(loopback(yes), "{yes}");
        }
        for no in ["10.%", "db1", "192.168.1.7", "%.example.com"] {
            assert!(!loopback(no), "{no}");
        }
    }
}

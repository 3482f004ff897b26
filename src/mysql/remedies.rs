//! What an operator does about an error of the server. Numbers and meanings: MySQL's Server Error Message Reference and MariaDB's Error
//! Code Reference; those marked * are MariaDB's own.

/// The remedy of error `code` for the agent's account `user`; `None` where the server's own message says it all.
pub(super) fn remedy(code: u16, user: &str) -> Option<String> {
    let of_account = |what: &str| Some(format!("{what} (account of mysql.user = \"{user}\")"));
    match code {
        1040 => Some("raise max_connections there, or end connections that are not used".into()),
        1129 => Some(
            "this host was blocked there after too many broken connections (max_connect_errors): FLUSH HOSTS, or TRUNCATE \
             performance_schema.host_cache"
                .into(),
        ),
        1130 => Some(format!(
            "no account there is for this host: CREATE USER '{user}'@'HOST', HOST as the message shows it"
        )),
        1203 | 1226 => of_account("raise max_user_connections there, or ALTER USER ... WITH MAX_USER_CONNECTIONS 0"),
        1251 | 1524 => of_account(
            "the account's authentication plugin is not available: ALTER USER ... IDENTIFIED WITH a plugin that the server has loaded",
        ),
        1290 => Some(
            "the server runs with the option that the message names; of read_only: give the account READ_ONLY ADMIN, SUPER or \
             CONNECTION_ADMIN, or set it to OFF"
                .into(),
        ),
        1698 => of_account(
            "the account logs in without a password, by unix_socket or auth_socket: ALTER USER ... IDENTIFIED BY a password",
        ),
        1820 | 1862 => of_account("its password has expired: ALTER USER ... IDENTIFIED BY a new one, and set mysql.password to it"),
        3118 | 4151 => of_account("ALTER USER ... ACCOUNT UNLOCK"), // 4151*
        3955 => of_account("too many wrong passwords (FAILED_LOGIN_ATTEMPTS): correct mysql.password, then ALTER USER ... ACCOUNT UNLOCK"),
        4150 => of_account("too many wrong passwords (max_password_errors): correct mysql.password, then FLUSH PRIVILEGES"), // *
        1021 | 1114 => Some("make room on the server's file systems of datadir and tmpdir".into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::remedy;

    #[test]
    fn an_account_is_named_where_it_is_the_cause() {
        for code in [1130, 1226, 1698, 1820, 1862, 3118, 3955, 4150, 4151] {
            assert!(
                remedy(code, "agent").is_some_and(|r| r.contains("agent")),
                "{code}"
            );
        }
        assert!(remedy(1040, "agent").is_some_and(|r| r.contains("max_connections")));
        assert_eq!(remedy(1064, "agent"), None);
    }
}

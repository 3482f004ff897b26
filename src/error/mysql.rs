//! Errors of a MySQL server and of the connection to it, with what an operator does about them. Numbers and meanings: MySQL's Server
//! Error Message Reference and MariaDB's Error Code Reference; those marked * are MariaDB's own.

use std::fmt;

/// ER_SECURE_TRANSPORT_REQUIRED: require_secure_transport is ON, and the connection is by TCP without TLS.
pub(crate) const TLS_REQUIRED: u16 = 3159;

/// What a server has answered, or why it has not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MysqlError {
    /// Which server, as an address or in words; empty where the text around it says that.
    pub(crate) server: String,
    pub(crate) tcp: bool,
    /// The account that logs in; empty in an open session.
    pub(crate) user: String,
    /// What the statement is for, or its first words; empty if there was none.
    pub(crate) purpose: String,
    pub(crate) cause: Cause,
    /// How messages name user and password.
    pub(crate) login: LoginOptions,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Cause {
    Server {
        code: u16,
        /// SQLSTATE
        state: String,
        message: String,
        /// The server has ended the session because `init_connect` failed.
        init_connect: bool,
    },
    #[default]
    Timeout,
    /// No connection, or it has broken; the driver's words.
    Unreachable(String),
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum LoginOptions {
    /// The section `[mysql]` of the agent's configuration.
    #[default]
    Agent,
    /// The command line of `seed`.
    SeedCommand,
}

impl MysqlError {
    pub(crate) fn code(&self) -> Option<u16> {
        match self.cause {
            Cause::Server { code, .. } => Some(code),
            Cause::Timeout | Cause::Unreachable(_) => None,
        }
    }

    /// True for a server that cannot be reached, has too many connections, or gave up waiting for a lock.
    pub(super) fn is_transient(&self) -> bool {
        self.code()
            .is_none_or(|code| matches!(code, 1040 | 1203 | 1205 | 1213 | 1226))
    }

    fn account(&self) -> String {
        match self.login {
            LoginOptions::Agent => format!("mysql.user = \"{}\"", self.user),
            LoginOptions::SeedCommand => format!("--mysql-user {}", self.user),
        }
    }

    /// What is said to the one who configures the agent, or to the one who has called `seed`.
    fn either(&self, agent: &'static str, seed: &'static str) -> &'static str {
        match self.login {
            LoginOptions::Agent => agent,
            LoginOptions::SeedCommand => seed,
        }
    }

    fn password(&self) -> &'static str {
        self.either("mysql.password", "--mysql-password-file")
    }

    /// The remedy of error `code`; `None` where the server's own message says it all.
    fn remedy(&self, code: u16) -> Option<String> {
        let (user, password) = (&self.user, self.password());
        let of_account = |what: &str| Some(format!("{what} (account of {})", self.account()));
        match code {
            1040 => Some("raise max_connections there, or end connections that are not used".into()),
            1129 => Some(
                "this host was blocked there after too many broken connections (max_connect_errors): FLUSH HOSTS, or TRUNCATE \
                 performance_schema.host_cache"
                    .into(),
            ),
            1130 => Some(format!(
                "no account there matches this host: CREATE USER '{user}'@'HOST', HOST as the message shows it"
            )),
            1203 | 1226 => of_account("raise max_user_connections there, or ALTER USER ... WITH MAX_USER_CONNECTIONS 0"),
            1251 | 1524 => of_account(
                "the account's authentication plugin is not available: ALTER USER ... IDENTIFIED WITH a plugin that the server has loaded",
            ),
            1290 => Some(
                "the server runs with the option that the message names; for read_only: give the account READ_ONLY ADMIN, SUPER or \
                 CONNECTION_ADMIN, or set it to OFF"
                    .into(),
            ),
            1698 => of_account(
                "the account logs in without a password, by unix_socket or auth_socket: ALTER USER ... IDENTIFIED BY a password",
            ),
            1820 | 1862 => of_account(&format!(
                "its password has expired: ALTER USER ... IDENTIFIED BY a new one, and set {password} to it"
            )),
            3118 | 4151 => of_account("ALTER USER ... ACCOUNT UNLOCK"), // 4151*
            3955 => of_account(&format!(
                "too many wrong passwords (FAILED_LOGIN_ATTEMPTS): correct {password}, then ALTER USER ... ACCOUNT UNLOCK"
            )),
            4150 => of_account(&format!(
                "too many wrong passwords (max_password_errors): correct {password}, then FLUSH PRIVILEGES" // *
            )),
            1021 | 1114 => Some("make room on the server's file systems of datadir and tmpdir".into()),
            1044 | 1045 | 1142 | 1143 | 1227 | 1370 => Some(self.grants(code)),
            TLS_REQUIRED => Some(format!(
                "the agent and `seed` connect without TLS: {}set require_secure_transport = OFF on a server that they reach by TCP, with \
                 REQUIRE SSL for the accounts that must use TLS",
                self.either("use mysql.socket for the local server, and ", "")
            )),
            _ => None,
        }
    }

    fn grants(&self, code: u16) -> String {
        if self.user.is_empty() {
            let user = self.either("mysql.user", "--mysql-user");
            return format!("check the grants of {user}");
        }
        // MariaDB 10.11 has no other error for a connection without TLS.
        let tls = if code == 1045 && self.tcp {
            ", and that neither the account (REQUIRE SSL) nor the server (require_secure_transport = ON) demands TLS, which this \
             connection does not use"
        } else {
            ""
        };
        format!(
            "check {}, {} and this account's grants{tls}",
            self.account(),
            self.password()
        )
    }
}

impl fmt::Display for MysqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.purpose.is_empty() {
            write!(f, "{}: ", self.purpose)?;
        }
        match (self.server.as_str(), self.code()) {
            ("", Some(_)) => {}
            ("", None) => f.write_str("MySQL: ")?,
            (server, _) => write!(f, "MySQL at {server}: ")?,
        }
        match &self.cause {
            Cause::Server {
                code,
                state,
                message,
                init_connect,
            } => {
                write!(f, "ERROR {code} ({state}): {message}")?;
                if *init_connect {
                    return write!(
                        f,
                        "; the server's init_connect fails for account \"{}\", which skips it with the privilege CONNECTION_ADMIN \
                         (MariaDB: CONNECTION ADMIN, in old versions of both: SUPER)",
                        self.user
                    );
                }
                match self.remedy(*code) {
                    Some(remedy) => write!(f, "; {remedy}"),
                    None => Ok(()),
                }
            }
            Cause::Timeout => f.write_str("no answer in time"),
            Cause::Unreachable(text) => {
                let agent = "check mysql.host, mysql.port, mysql.socket";
                let and = self.either(agent, "can be reached from here");
                write!(f, "{text}; check that it is running and {and}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: u16) -> MysqlError {
        MysqlError {
            server: "db1:3306".into(),
            user: "agent".into(),
            cause: Cause::Server {
                code,
                state: "HY000".into(),
                message: "no".into(),
                init_connect: false,
            },
            ..MysqlError::default()
        }
    }

    #[test]
    fn an_account_is_named_where_it_is_the_cause() {
        for code in [
            1044, 1045, 1130, 1226, 1698, 1820, 1862, 3118, 3955, 4150, 4151,
        ] {
            let e = error(code);
            let remedy = e.remedy(code).unwrap();
            assert!(remedy.contains("agent"), "{code}");
            let e = MysqlError {
                login: LoginOptions::SeedCommand,
                ..e
            };
            let remedy = e.remedy(code).unwrap();
            assert!(
                !remedy.contains("mysql.user") && !remedy.contains("mysql.password"),
                "{remedy}"
            );
        }
        let remedy = error(1040).remedy(1040).unwrap();
        assert!(remedy.contains("max_connections"));
        assert_eq!(error(1064).remedy(1064), None);
    }

    #[test]
    fn tls_is_named_for_connections_that_could_have_it() {
        let of = |code, tcp| MysqlError { tcp, ..error(code) }.to_string();
        assert!(of(1045, true).contains("demands TLS"));
        assert!(!of(1045, false).contains("demands TLS") && !of(1044, true).contains("TLS"));
    }
}

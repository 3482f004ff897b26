//! The account by which the target will replicate, as the source knows it: that it exists, may replicate, and whether it
//! demands TLS.

use super::findings::Findings;
use crate::commands::seed::options::{Login, Options};
use crate::commands::seed::plan::Plan;
use crate::commands::seed::sql::{Db, grants_one};
use crate::error::Result;
use crate::mysql::{Flavour, Version, quote_account, quote_name, quote_text};

/// SHOW GRANTS' word for it.
const PRIVILEGE: [&str; 1] = ["REPLICATION SLAVE"];

/// One row of mysql.user.
struct Account {
    host: String,
    replicates: bool,
    /// Empty, `ANY`, `X509` or `SPECIFIED`.
    tls: String,
}

/// Also decides whether the target replicates by TLS. With `--connect-to` another server has the account.
pub(super) fn check(o: &Options, source: &mut Db, plan: &mut Plan, f: &mut Findings) {
    if o.connect_to.is_some() {
        return;
    }
    if let Some(login) = &o.replication
        && let Err(e) = account(login, source, plan, f)
    {
        f.warn(format!("the replication account cannot be checked: {e}"));
    }
    if plan.tls {
        match serves_tls(source) {
            Ok(true) => {}
            Ok(false) => f.problem(
                "the target cannot replicate by TLS: the source's server has no certificate; set ssl_cert and ssl_key in its \
                 my.cnf and restart it",
            ),
            Err(e) => f.warn(format!("whether the source serves TLS is not known: {e}")),
        }
    }
}

fn account(login: &Login, source: &mut Db, plan: &mut Plan, f: &mut Findings) -> Result<()> {
    let user = &login.user;
    if login.password.reveal().chars().any(|c| c.len_utf8() > 3) {
        f.problem(
            "--replication-password-file: the password has a character of 4 bytes in UTF-8, and a server stores and sends \
             replication passwords in utf8mb3, which has none; give the account another password",
        );
    }
    let found = accounts(source, user)?;
    let by_itself = found.iter().any(|a| a.replicates);
    if found.is_empty() {
        f.problem(format!(
            "--replication-user {user}: the source has no such account; create it with GRANT REPLICATION SLAVE ON *.*"
        ));
    } else if !by_itself && !by_role(source, user, &found)? {
        f.problem(format!(
            "--replication-user {user}: the source has it without REPLICATION SLAVE, and no role that is active at its login \
             has it; grant it with GRANT REPLICATION SLAVE ON *.*"
        ));
    }
    let demands = |tls: &str| found.iter().any(|a| a.tls == tls);
    let certificate = demands("X509") || demands("SPECIFIED");
    if !plan.tls && (certificate || demands("ANY")) {
        plan.tls = true;
        f.ok(format!(
            "the target replicates by TLS: --replication-user {user} is an account with REQUIRE {}",
            if certificate { "X509" } else { "SSL" }
        ));
    }
    if certificate && !plan.settings.iter().any(|s| s.name() == "SSL_CERT") {
        let word = source.server.source_word();
        f.problem(format!(
            "--replication-user {user} must show a certificate (REQUIRE X509, ISSUER or SUBJECT), and the target's channel has \
             none: take an account with REQUIRE SSL, or use --no-connect and connect the target by hand with {word}_SSL_CERT and \
             {word}_SSL_KEY"
        ));
    }
    Ok(())
}

fn accounts(source: &mut Db, user: &str) -> Result<Vec<Account>> {
    let rows = source.rows(&format!(
        "SELECT Host, Repl_slave_priv, ssl_type FROM mysql.user WHERE User = {}",
        quote_text(user)
    ))?;
    let account = |row: Vec<String>| {
        let mut row = row.into_iter();
        Some(Account {
            host: row.next()?,
            replicates: row.next()? == "Y",
            tls: row.next()?,
        })
    };
    Ok(rows.into_iter().filter_map(account).collect())
}

/// True if one of the accounts has the privilege from a role that is active when it logs in: a replica sets no role.
fn by_role(source: &mut Db, user: &str, accounts: &[Account]) -> Result<bool> {
    match source.server.flavour {
        Flavour::MariaDb => by_role_on_mariadb(source, user),
        Flavour::MySql if source.server.version < Version(8, 0, 0) => Ok(false),
        Flavour::MySql => {
            for a in accounts {
                if by_role_on_mysql(source, user, &a.host)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
    }
}

/// SHOW GRANTS of a role lists what it has from other roles too. PUBLIC, since 10.11, is granted to all.
fn by_role_on_mariadb(source: &mut Db, user: &str) -> Result<bool> {
    let public = "SELECT Repl_slave_priv FROM mysql.user WHERE User = 'PUBLIC' AND Host = ''";
    if source.server.version >= Version(10, 11, 0) && source.column(public)?.contains(&"Y".into()) {
        return Ok(true);
    }
    let roles = source.column(&format!(
        "SELECT default_role FROM mysql.user WHERE User = {} AND default_role <> ''",
        quote_text(user)
    ))?;
    for role in roles {
        let grants = source.column(&format!("SHOW GRANTS FOR {}", quote_name(&role)))?;
        if grants.iter().any(|g| grants_one(g, &PRIVILEGE)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The default roles; with activate_all_roles_on_login all that are granted, mandatory_roles among them.
fn by_role_on_mysql(source: &mut Db, user: &str, host: &str) -> Result<bool> {
    let account = format!("{}@{}", quote_name(user), quote_name(host));
    let active = if source.global("activate_all_roles_on_login")? == "ON" {
        let grants = source.column(&format!("SHOW GRANTS FOR {account}"))?;
        grants.iter().filter_map(|g| granted_roles(g)).collect()
    } else {
        let roles = source.column(&format!(
            "SELECT CONCAT(DEFAULT_ROLE_USER, '@', DEFAULT_ROLE_HOST) FROM mysql.default_roles WHERE USER = {} AND HOST = {}",
            quote_text(user),
            quote_text(host)
        ))?;
        roles.iter().map(|r| quote_account(r)).collect::<Vec<_>>()
    };
    if active.is_empty() {
        return Ok(false);
    }
    let grants = source.column(&format!(
        "SHOW GRANTS FOR {account} USING {}",
        active.join(", ")
    ))?;
    Ok(grants.iter().any(|g| grants_one(g, &PRIVILEGE)))
}

/// The roles of ``GRANT `a`@`%`,`b`@`%` TO `user`@`%` ``.
fn granted_roles(grant: &str) -> Option<String> {
    let (roles, _) = grant.strip_prefix("GRANT `")?.split_once("` TO `")?;
    Some(format!("`{roles}`"))
}

/// Whether the server has a certificate and a key.
fn serves_tls(source: &mut Db) -> Result<bool> {
    match source.global("have_ssl")?.as_str() {
        "" => {
            let enabled = source.column(
                "SELECT VALUE FROM performance_schema.tls_channel_status WHERE CHANNEL = 'mysql_main' AND PROPERTY = 'Enabled'",
            )?;
            Ok(enabled.iter().any(|v| v == "Yes"))
        }
        have => Ok(have == "YES"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_read_from_grants() {
        assert_eq!(
            granted_roles("GRANT `a`@`%`,`b`@`%` TO `repl`@`%`").unwrap(),
            "`a`@`%`,`b`@`%`"
        );
        assert_eq!(
            granted_roles("GRANT REPLICATION SLAVE ON *.* TO `repl`@`%`"),
            None
        );
    }
}

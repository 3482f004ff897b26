//! What decides whether and how the target can replicate from its source: GTIDs, the options of the channel that it has, the
//! account as the source knows it, and a trial before anything is changed.
//!
//! For the trial the target gets a channel for a moment, of which only the receiving thread is started. It logs in to the source
//! and requests a binary log that does not exist: a source checks login, privilege, TLS and server ids first, and then reports
//! error 1236 (seen on MariaDB 10.11 and MySQL 9.7). Nothing is ever received or applied, not even if the channel were left behind
//! and the server restarted.

use super::Preflight;
use crate::commands::seed::options::{Login, Mode};
use crate::commands::seed::plan::Plan;
use crate::commands::seed::sql::{Db, gives};
use crate::compatibility::gtid_modes_replicate;
use crate::error::{Error, Result, shortened};
use crate::mysql::applier::{Channel, channels};
use crate::mysql::channel::{self, Setting};
use crate::mysql::replica::BINLOG_GONE;
use crate::mysql::{
    Flavour, Server, Source, Start, Version, quote_account, quote_name, quote_text,
};
use std::time::{Duration, Instant};

/// The oldest version with all the statements that are used.
const OLDEST: Version = Version(5, 6, 5);
/// Bytes that MySQL takes of a replication password; more is ERROR 3056, and only after the load.
const PASSWORD: usize = 32;
/// The channel of the trial.
const NAME: &str = "orchestrator_agent_probe";
/// A binary log that no source has.
const NO_LOG: &str = "orchestrator_agent_probe.000001";
/// How long the source may take to answer.
const LIMIT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(50);
/// MariaDB has no two connections to one address (ER_CONNECTION_ALREADY_EXISTS).
const SAME_ADDRESS: u16 = 1934;
/// Options that decide whether a connection comes about; all that begin so.
const OF_THE_CONNECTION: [&str; 7] = [
    "SSL",
    "TLS",
    "BIND",
    "NETWORK_NAMESPACE",
    "PUBLIC_KEY",
    "GET_PUBLIC_KEY",
    "COMPRESSION",
];

impl Preflight<'_> {
    /// GTID modes of two MySQL servers, and what else only they have. Also decides what `--replication auto` means.
    pub(super) fn gtid_modes(&mut self) -> Result<()> {
        let (o, f) = (self.o, &mut self.f);
        for version in [self.source.server.version, self.target.server.version] {
            if version < OLDEST {
                f.problem(format!(
                    "MySQL {version} is too old: 5.6.5 or later is needed"
                ));
            }
        }
        let mut both = |name| -> Result<(String, String)> {
            Ok((self.source.global(name)?, self.target.global(name)?))
        };
        let (source, target) = both("gtid_mode")?;
        self.plan.without_gtid = source != "ON" || target != "ON";
        if !o.connect {
            return Ok(());
        }
        let option = if o.mode == Mode::Gtid {
            "--replication gtid"
        } else {
            "--connect-to"
        };
        if !gtid_modes_replicate(&source, &target) {
            f.problem(format!(
                "gtid_mode is {source} on the source and {target} on the target, which cannot replicate: set gtid_mode = {source} on \
                 the target"
            ));
        } else if self.plan.without_gtid && (o.mode == Mode::Gtid || o.connect_to.is_some()) {
            f.problem(format!(
                "{option} needs gtid_mode = ON on both: the source has {source}, the target {target}"
            ));
        }
        let (source, target) = both("enforce_gtid_consistency")?;
        if source != "ON" && target == "ON" {
            f.warn(format!(
                "enforce_gtid_consistency is {source} on the source and ON on the target: replication stops at a statement that only \
                 the source allows"
            ));
        }
        let login = o.replication.as_ref();
        if login.is_some_and(|l| l.password.reveal().len() > PASSWORD) {
            f.problem(format!(
                "--replication-password-file: the password of a replication account has at most {PASSWORD} bytes on MySQL"
            ));
        }
        Ok(())
    }

    /// What the target's channel has besides its source: it is read here and set again when the copy is connected. Reports what is
    /// kept, and what would make the new replication stop or skip everything.
    pub(super) fn channel(&mut self) -> Result<()> {
        if !self.plan.has_default_channel() {
            return Ok(());
        }
        let columns = self.target.channel_columns()?;
        self.plan.settings = channel::settings(&columns);
        let by_gtid = self.plan.by_gtid(self.o);
        let server = self.target.server;
        let notable = self.plan.settings.iter().filter(|s| s.notable(server));
        let (kept, lost): (Vec<&Setting>, Vec<&Setting>) = notable.partition(|s| s.fits(by_gtid));
        let list = |settings: &[&Setting]| {
            let all = settings.iter().map(|s| s.assignment(server, s.fits(true)));
            all.collect::<Vec<_>>().join(", ")
        };
        if !kept.is_empty() {
            self.f.ok(format!(
                "replication options of the target kept: {}",
                list(&kept)
            ));
        }
        if !lost.is_empty() {
            let how = if by_gtid { "GTID" } else { "position" };
            self.f.warn(format!(
                "replication options of the target not kept, because it starts by {how}: {}",
                list(&lost)
            ));
        }
        let filters = channel::filters(&columns);
        if !filters.is_empty() {
            self.f.warn(format!(
                "the target replicates with filters ({}): the copy brings all data, and what the filters leave out is not replicated \
                 afterwards; filters that are not in its my.cnf are lost when its server restarts, as it does in a physical copy",
                filters.join(", ")
            ));
        }
        self.obstacles()
    }

    fn obstacles(&mut self) -> Result<()> {
        let (source, f) = (&mut self.source, &mut self.f);
        let server = self.target.server;
        let find = |name: &str| self.plan.settings.iter().find(|s| s.name() == name);
        let change = match server.source_word() {
            "SOURCE" => "CHANGE REPLICATION SOURCE TO",
            _ => "CHANGE MASTER TO",
        };
        if let Some(ignored) = find("IGNORE_SERVER_IDS") {
            let id = source.global("server_id")?;
            if ignored.list().contains(&id.as_str()) {
                f.problem(format!(
                    "the target's replication has IGNORE_SERVER_IDS={}, and {id} is the source: it would skip all that the source \
                     writes; change it on the target with {change} IGNORE_SERVER_IDS",
                    ignored.literal()
                ));
            }
        }
        if server.flavour == Flavour::MariaDb {
            let domain = source.global("gtid_domain_id")?;
            let skipped = |name, wanted| {
                let set = find(name)?;
                (set.list().contains(&domain.as_str()) != wanted).then_some((name, set))
            };
            if let Some((name, set)) =
                skipped("DO_DOMAIN_IDS", true).or_else(|| skipped("IGNORE_DOMAIN_IDS", false))
            {
                f.problem(format!(
                    "the target's replication has {name}={}, and the source writes with gtid_domain_id = {domain}: all of it would be \
                     skipped; change it on the target with {change} {name}",
                    set.literal()
                ));
            }
        }
        if let Some(user) = find("PRIVILEGE_CHECKS_USER") {
            let account = user.literal();
            let (name, host) = account.rsplit_once('@').unwrap_or((account, "'%'"));
            let found = source.row(&format!(
                "SELECT 1 FROM mysql.user WHERE User = {name} AND Host = {host}"
            ))?;
            if found.is_empty() {
                f.problem(format!(
                    "the target's replication has PRIVILEGE_CHECKS_USER={account}, and the source, whose accounts the target will \
                     have, has no such account: create it there, or change it on the target with {change} PRIVILEGE_CHECKS_USER = NULL"
                ));
            }
        }
        Ok(())
    }

    /// The account by which the target will replicate, as the source knows it. Also decides whether the target replicates by TLS.
    /// With `--connect-to` another server has the account.
    pub(super) fn account(&mut self) {
        if self.o.connect_to.is_some() {
            return;
        }
        if let Some(login) = &self.o.replication
            && let Err(e) = self.check_account(login)
        {
            let text = format!("the replication account cannot be checked: {e}");
            self.f.warn(text);
        }
        if self.plan.tls {
            match serves_tls(&mut self.source) {
                Ok(true) => {}
                Ok(false) => self.f.problem(
                    "the target cannot replicate by TLS: the source's server has no certificate; set ssl_cert and ssl_key in its \
                     my.cnf and restart it",
                ),
                Err(e) => self.f.warn(format!("whether the source serves TLS is not known: {e}")),
            }
        }
    }

    fn check_account(&mut self, login: &Login) -> Result<()> {
        let (user, f) = (&login.user, &mut self.f);
        if login.password.reveal().chars().any(|c| c.len_utf8() > 3) {
            f.problem(
                "--replication-password-file: the password has a character of 4 bytes in UTF-8, and a server stores and sends \
                 replication passwords in utf8mb3, which has none; give the account another password",
            );
        }
        let found = self.source.rows(&format!(
            "SELECT Host, Repl_slave_priv, ssl_type FROM mysql.user WHERE User = {}",
            quote_text(user)
        ))?;
        let any = |column: usize, value: &str| {
            let mut values = found.iter().filter_map(|row| row.get(column));
            values.any(|v| v == value)
        };
        if found.is_empty() {
            f.problem(format!(
                "--replication-user {user}: the source has no such account; create it with GRANT REPLICATION SLAVE ON *.*"
            ));
        } else if !any(1, "Y") && !by_role(&mut self.source, user, &found)? {
            f.problem(format!(
                "--replication-user {user}: the source has it without REPLICATION SLAVE, and no role that is active at its login \
                 has it; grant it with GRANT REPLICATION SLAVE ON *.*"
            ));
        }
        let certificate = any(2, "X509") || any(2, "SPECIFIED");
        if !self.plan.tls && (certificate || any(2, "ANY")) {
            self.plan.tls = true;
            let demand = if certificate { "X509" } else { "SSL" };
            f.ok(format!(
                "the target replicates by TLS: --replication-user {user} is an account with REQUIRE {demand}"
            ));
        }
        if certificate && !self.plan.settings.iter().any(|s| s.name() == "SSL_CERT") {
            let word = self.source.server.source_word();
            f.problem(format!(
                "--replication-user {user} must show a certificate (REQUIRE X509, ISSUER or SUBJECT), and the target's channel has \
                 none: take an account with REQUIRE SSL, or use --no-connect and connect the target by hand with {word}_SSL_CERT \
                 and {word}_SSL_KEY"
            ));
        }
        Ok(())
    }

    /// The target's channels. One of a trial is not among them; if a seed was killed and left it behind, it is removed.
    pub(super) fn other_channels(&mut self) -> Result<Vec<Channel>> {
        let all = self.target.query(channels)?.into_iter();
        let (own, others): (Vec<_>, Vec<_>) = all.partition(|c| c.name == NAME);
        if !own.is_empty() && !self.o.dry_run {
            remove(&mut self.target)?;
            self.f.ok(format!(
                "removed the replication channel {NAME}, which an interrupted seed left on the target"
            ));
        }
        Ok(others)
    }

    /// The trial with `--replication-user`. What prevents it is a warning, what the source answers may be a problem.
    pub(super) fn try_account(&mut self) {
        let Some(login) = self.o.replication.as_ref().filter(|_| self.o.connect) else {
            return;
        };
        let to = self.plan.replication_source(self.o);
        let (name, user) = (format!("{}:{}", to.0, to.1), &login.user);
        let not_tried = |why: &dyn std::fmt::Display| {
            format!("whether the target can replicate from {name} as {user} was not tested: {why}")
        };
        let target = &mut self.target;
        if matches!(target.logs_passwords(), Ok(true)) && !matches!(target.may("SUPER"), Ok(true)) {
            self.f.warn(format!(
                "general_log is ON on the target, and --mysql-user {} lacks SUPER to keep CHANGE MASTER out of it: the password of \
                 {user} will be written into that log; set general_log = OFF meanwhile",
                self.o.mysql.user
            ));
        }
        if let Err(why) = self.may_try() {
            return self.f.warn(not_tried(&why));
        }
        if self.o.dry_run {
            return self.f.ok(not_tried(&"--dry-run changes nothing"));
        }
        let (f, target) = (&mut self.f, &mut self.target);
        let tried = attempt(target, &self.plan, login, &to);
        let removed = remove(target);
        match tried {
            Ok(Ok(())) => f.ok(format!("the target can replicate from {name} as {user}")),
            Ok(Err(text)) => f.problem(format!(
                "the target cannot replicate from {name} as --replication-user {user}: {text}"
            )),
            // Then the target replicates from there already, and that connection gets the account.
            Err(e) if e.mysql_code() == Some(SAME_ADDRESS) => {
                f.ok(not_tried(&"the target already replicates from there"));
            }
            Err(e) => f.warn(not_tried(&e)),
        }
        if let Err(e) = removed {
            f.problem(format!(
                "the replication channel {NAME} could not be removed from the target: {e}; run {}",
                target.server.reset_replica_all(NAME)
            ));
        }
    }

    /// An error says why it cannot be tried.
    fn may_try(&mut self) -> Result<()> {
        let server = self.target.server;
        if server.flavour == Flavour::MySql && !server.has_channels() {
            return Err(Error::permanent(
                "this server has one replication channel only",
            ));
        }
        if self.o.dry_run || self.may_change_channels()? {
            return Ok(());
        }
        Err(Error::permanent(format!(
            "--mysql-user {} lacks {} or RELOAD on the target",
            self.o.mysql.user,
            server.replica_privilege()
        )))
    }

    /// True if the account may stop, change and reset the target's channels.
    pub(super) fn may_change_channels(&mut self) -> Result<bool> {
        Ok(self.target.may_replicate()? && self.target.may("RELOAD")?)
    }
}

/// True if one of the accounts, whose hosts are the first column, has the privilege from a role that is active when it logs in: a
/// replica sets no role.
fn by_role(source: &mut Db, user: &str, accounts: &[Vec<String>]) -> Result<bool> {
    let mut active = Vec::new();
    match source.server.flavour {
        // PUBLIC, since 10.11, is granted to all. SHOW GRANTS of a role lists what it has from other roles too.
        Flavour::MariaDb => {
            let public = "SELECT 1 FROM mysql.user WHERE User = 'PUBLIC' AND Host = '' AND Repl_slave_priv = 'Y'";
            if source.server.version >= Version(10, 11, 0) && !source.row(public)?.is_empty() {
                return Ok(true);
            }
            let roles = source.column(&format!(
                "SELECT default_role FROM mysql.user WHERE User = {} AND default_role <> ''",
                quote_text(user)
            ))?;
            active.extend(roles.iter().map(|role| quote_name(role)));
        }
        Flavour::MySql if source.server.version < Version(8, 0, 0) => {}
        Flavour::MySql => {
            for host in accounts.iter().filter_map(|row| row.first()) {
                active.extend(active_on_mysql(source, user, host)?);
            }
        }
    }
    for account in active {
        let grants = source.column(&format!("SHOW GRANTS FOR {account}"))?;
        if gives(source.server, &grants, "REPLICATION SLAVE") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The account with its default roles; with activate_all_roles_on_login all that are granted, mandatory_roles among them.
fn active_on_mysql(source: &mut Db, user: &str, host: &str) -> Result<Option<String>> {
    let account = format!("{}@{}", quote_name(user), quote_name(host));
    let roles: Vec<String> = if source.global("activate_all_roles_on_login")? == "ON" {
        let grants = source.column(&format!("SHOW GRANTS FOR {account}"))?;
        grants.iter().filter_map(|g| granted_roles(g)).collect()
    } else {
        let roles = source.column(&format!(
            "SELECT CONCAT(DEFAULT_ROLE_USER, '@', DEFAULT_ROLE_HOST) FROM mysql.default_roles WHERE USER = {} AND HOST = {}",
            quote_text(user),
            quote_text(host)
        ))?;
        roles.iter().map(|r| quote_account(r)).collect()
    };
    Ok((!roles.is_empty()).then(|| format!("{account} USING {}", roles.join(", "))))
}

/// The roles of ``GRANT `a`@`%`,`b`@`%` TO `user`@`%` ``.
fn granted_roles(grant: &str) -> Option<String> {
    let (roles, _) = grant.strip_prefix("GRANT `")?.split_once("` TO `")?;
    Some(format!("`{roles}`"))
}

fn serves_tls(source: &mut Db) -> Result<bool> {
    match source.global("have_ssl")?.as_str() {
        "" => {
            let enabled = source.value(
                "SELECT VALUE FROM performance_schema.tls_channel_status WHERE CHANNEL = 'mysql_main' AND PROPERTY = 'Enabled'",
            )?;
            Ok(enabled == "Yes")
        }
        have => Ok(have == "YES"),
    }
}

/// The outer error prevents the trial; the inner is its result.
fn attempt(
    target: &mut Db,
    plan: &Plan,
    login: &Login,
    to: &(String, u16),
) -> Result<std::result::Result<(), String>> {
    let server = target.server;
    target.run_with_password(&source(server, plan, login, to), Some(login))?;
    target.run(&server.start_receiver(NAME))?;
    let begin = Instant::now();
    loop {
        let channel = target.query(channels)?.into_iter().find(|c| c.name == NAME);
        let channel = channel.ok_or_else(|| Error::permanent("the channel has disappeared"))?;
        match answer(&channel) {
            Some(answer) => return Ok(answer),
            None if begin.elapsed() >= LIMIT => {
                return Ok(Err(format!(
                    "no answer within {} s (Replica_IO_Running: {})",
                    LIMIT.as_secs(),
                    channel.io_state
                )));
            }
            None => std::thread::sleep(PAUSE),
        }
    }
}

/// What the receiving thread reports; `None` while it has no answer.
fn answer(channel: &Channel) -> Option<std::result::Result<(), String>> {
    let (code, text) = &channel.io_error;
    match *code {
        0 => None,
        code if BINLOG_GONE.contains(&code) => Some(Ok(())),
        1045 => Some(Err(format!(
            "Last_IO_Error 1045: {}; the account must exist for the target's address with the password of \
             --replication-password-file",
            shortened(text)
        ))),
        code => Some(Err(format!("Last_IO_Error {code}: {}", shortened(text)))),
    }
}

fn source(server: Server, plan: &Plan, login: &Login, to: &(String, u16)) -> String {
    let decides = |s: &&Setting| OF_THE_CONNECTION.iter().any(|o| s.name().starts_with(o));
    let settings: Vec<Setting> = plan.settings.iter().filter(decides).cloned().collect();
    server.change_source(&Source {
        host: &to.0,
        port: Some(to.1),
        login: Some((&login.user, login.password.reveal())),
        start: Some(Start::Position(NO_LOG, 4)),
        settings: &settings,
        tls: plan.tls,
        channel: NAME,
    })
}

fn remove(target: &mut Db) -> Result<()> {
    if !target.query(channels)?.iter().any(|c| c.name == NAME) {
        return Ok(());
    }
    let server = target.server;
    target.run(&server.stop_replica(NAME))?;
    target.run(&server.reset_replica_all(NAME))
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

    #[test]
    fn what_the_receiving_thread_reports() {
        let c = |code, text: &str| Channel {
            io_error: (code, text.into()),
            ..Channel::default()
        };
        assert_eq!(answer(&c(0, "")), None);
        for code in [1236, 13114] {
            assert_eq!(answer(&c(code, "Could not find first log")), Some(Ok(())));
        }
        let refused = answer(&c(1045, "Access denied for user 'r'@'10.1.2.3'"));
        let text = refused.unwrap().unwrap_err();
        assert!(text.contains("'r'@'10.1.2.3'; the account must"), "{text}");
        let text = answer(&c(2003, "Can't connect")).unwrap().unwrap_err();
        assert_eq!(text, "Last_IO_Error 2003: Can't connect");
    }
}

//! What decides whether and how the target can replicate from its source.

use super::findings::Findings;
use crate::commands::seed::options::{Mode, Options};
use crate::commands::seed::plan::Plan;
use crate::commands::seed::sql::Db;
use crate::compatibility::gtid_modes_replicate;
use crate::error::Result;
use crate::mysql::channel::{self, Setting};
use crate::mysql::{Flavour, Version};

/// The oldest version with all the statements that are used.
const OLDEST: Version = Version(5, 6, 5);
/// Bytes that MySQL takes of a replication password; more is ERROR 3056, and only after the load.
const PASSWORD: usize = 32;

/// GTID modes of two MySQL servers, and what else only they have. Also decides what `--replication auto` means.
pub(super) fn gtid_modes(
    o: &Options,
    source: &mut Db,
    target: &mut Db,
    plan: &mut Plan,
    f: &mut Findings,
) -> Result<()> {
    for db in [&*source, &*target] {
        if db.server.version < OLDEST {
            f.problem(format!(
                "MySQL {} is too old: 5.6.5 or later is needed",
                db.server.version
            ));
        }
    }
    let mut both = |name: &str| -> Result<(String, String)> {
        Ok((source.global(name)?, target.global(name)?))
    };
    let modes = both("gtid_mode")?;
    plan.without_gtid = modes.0 != "ON" || modes.1 != "ON";
    if !o.connect {
        return Ok(());
    }
    if !gtid_modes_replicate(&modes.0, &modes.1) {
        f.problem(format!(
            "gtid_mode is {} on the source and {} on the target, which do not replicate: set gtid_mode = {0} on the target",
            modes.0, modes.1
        ));
    } else if plan.without_gtid && (o.mode == Mode::Gtid || o.connect_to.is_some()) {
        f.problem(format!(
            "{} needs gtid_mode = ON on both: the source has {}, the target {}",
            if o.mode == Mode::Gtid {
                "--replication gtid"
            } else {
                "--connect-to"
            },
            modes.0,
            modes.1
        ));
    }
    let enforce = both("enforce_gtid_consistency")?;
    if enforce.0 != "ON" && enforce.1 == "ON" {
        f.warn(format!(
            "enforce_gtid_consistency is {} on the source and ON on the target: replication stops at a statement that only the \
             source allows",
            enforce.0
        ));
    }
    if let Some(login) = &o.replication
        && login.password.reveal().len() > PASSWORD
    {
        f.problem(format!(
            "--replication-password-file: the password of a replication account has at most {PASSWORD} bytes on MySQL"
        ));
    }
    Ok(())
}

/// What the target's channel has besides its source: it is read here and set again when the copy is connected. Reports what is
/// kept, and what would make the new replication stop or skip everything.
pub(super) fn channel(
    o: &Options,
    source: &mut Db,
    target: &mut Db,
    plan: &mut Plan,
    f: &mut Findings,
) -> Result<()> {
    if !plan.channels.iter().any(|c| c.name.is_empty()) {
        return Ok(());
    }
    let columns = target.channel_columns()?;
    plan.settings = channel::settings(&columns);
    let by_gtid = match o.mode {
        Mode::Gtid => true,
        Mode::Position => false,
        Mode::Auto => !plan.without_gtid,
    };
    let server = target.server;
    let notable = plan.settings.iter().filter(|s| s.notable(server));
    let (kept, lost): (Vec<&Setting>, Vec<&Setting>) = notable.partition(|s| s.fits(by_gtid));
    let list = |settings: &[&Setting]| {
        let all = settings.iter().map(|s| s.assignment(server, s.fits(true)));
        all.collect::<Vec<_>>().join(", ")
    };
    if !kept.is_empty() {
        f.ok(format!("kept of the target's replication: {}", list(&kept)));
    }
    if !lost.is_empty() {
        let how = if by_gtid { "GTID" } else { "position" };
        f.warn(format!(
            "not kept of the target's replication, because it starts by {how}: {}",
            list(&lost)
        ));
    }
    let filters = channel::filters(&columns);
    if !filters.is_empty() {
        f.warn(format!(
            "the target replicates with filters ({}): the copy brings all data, and what the filters leave out is not replicated \
             afterwards; filters that are not in its my.cnf end when its server restarts, as it does in a physical copy",
            filters.join(", ")
        ));
    }
    obstacles(source, target, plan, f)
}

fn obstacles(source: &mut Db, target: &Db, plan: &Plan, f: &mut Findings) -> Result<()> {
    let find = |name: &str| plan.settings.iter().find(|s| s.name() == name);
    let change = match target.server.source_word() {
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
    if target.server.flavour == Flavour::MariaDb {
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
        let found = source.column(&format!(
            "SELECT COUNT(*) FROM mysql.user WHERE User = {name} AND Host = {host}"
        ))?;
        if found.first().is_none_or(|n| n == "0") {
            f.problem(format!(
                "the target's replication has PRIVILEGE_CHECKS_USER={account}, and the source, whose accounts the target will \
                 have, has no such account: create it there, or change it on the target with {change} PRIVILEGE_CHECKS_USER = NULL"
            ));
        }
    }
    Ok(())
}

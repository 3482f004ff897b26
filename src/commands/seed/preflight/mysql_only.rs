//! Checks of what only MySQL servers have: GTID modes.

use super::{Findings, Plan};
use crate::commands::seed::options::{Mode, Options};
use crate::commands::seed::sql::Db;
use crate::compatibility::gtid_modes_replicate;
use crate::error::Result;
use crate::mysql::Version;

/// The oldest version with all the statements that are used.
const OLDEST: Version = Version(5, 6, 5);
/// Bytes that MySQL takes of a replication password; more is ERROR 3056, and only after the load.
const PASSWORD: usize = 32;

/// Also decides what `--replication auto` means.
///
/// # Errors
/// The servers'.
pub(super) fn check(
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
        f.events.warn(&format!(
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

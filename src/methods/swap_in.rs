//! What all physical methods do on the target with a verified copy in the staging directory: the swap, what follows it, and Cleanup.

use super::state::PhysicalState;
use crate::config::{self, Config, DatadirSwap, KeepOldData};
use crate::contents;
use crate::coordinates::Coordinates;
use crate::datadir::{self, DatadirInfo, Host, Journals, Staged, VerifiedCopy};
use crate::error::{Error, Result};
use crate::mysql::{
    Endpoint, Flavour, Server, connect, control, grants, info, query, quote_name, quote_text,
};
use crate::process::Launcher;
use crate::seed::record::{Load, Seed};
use crate::seed::stage::{Context, Prepared};
use crate::seed::types::{Side, Stage, Status};
use mysql::Conn;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// For statements after the swap.
pub(super) const STATEMENT: Duration = Duration::from_secs(600);
/// Settings that a restart of the server forgets, if they were set at run time.
pub(super) const KEPT: [&str; 2] = ["read_only", "super_read_only"];

/// Where the journal of swaps is.
pub(super) fn journals(config: &Config) -> Journals {
    Journals::new(&config.common.state_dir)
}

/// What is left of the Prepare of a source that was checked: what the copy will not have as it is.
pub(super) fn prepared_source(config: &Config, ctx: &Context) -> Result<Prepared> {
    let settings = config.mysql.clone();
    let known = ctx.interruptible(move || Ok(contents::warnings(&settings)))?;
    let text = ["Prepare completed".to_string()].into_iter().chain(known);
    Ok(text.collect::<Vec<_>>().join(", ").into())
}

/// That `conn`'s account has what `copy` needs on a server.
pub(super) fn check_privileges(
    conn: &mut Conn,
    server: Server,
    needed: &BTreeSet<String>,
    (who, copy): (&str, &str),
) -> Result<()> {
    let (account, held) = grants::held(conn, server)?;
    let missing = grants::missing(server, needed, &held).join(", ");
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::permanent(format!(
        "mysql.user {account} lacks {missing} on {who}, which {copy} needs, or the target's agent after it: GRANT {missing} ON *.* TO \
         {account}"
    )))
}

/// The commands that stop and start MySQL of a target, by their settings in `[mysql]`.
fn service_commands(mysql: &config::Mysql) -> [(&'static str, &str); 2] {
    [
        ("service-stop-command", &mysql.service_stop_command),
        ("service-start-command", &mysql.service_start_command),
    ]
}

/// That MySQL of a target can be stopped and started.
pub(super) fn check_settings(mysql: &config::Mysql) -> Result<()> {
    match service_commands(mysql)
        .into_iter()
        .find(|(_, line)| line.trim().is_empty())
    {
        None => Ok(()),
        Some((name, _)) => Err(Error::permanent(format!(
            "mysql.{name} is empty: a physical seed stops and starts MySQL on its target by it; set it"
        ))),
    }
}

/// That sudo, where it is used, runs the commands that stop and start MySQL of a target.
pub(super) fn service_permitted(config: &Config) -> Result<()> {
    let launcher = Launcher::new(&config.common);
    service_commands(&config.mysql)
        .into_iter()
        .try_for_each(|(name, line)| {
            let permitted = launcher.permits_line(line);
            permitted.map_err(|e| e.context(format!("mysql.{name}")))
        })
}

/// The data directory and the place of the staged copy, as Prepare has recorded them.
pub(crate) fn staged(seed: &Seed) -> Result<(DatadirInfo, Staged)> {
    let info = seed
        .method_state::<PhysicalState>()?
        .datadir
        .ok_or_else(|| {
            Error::permanent("the record has no data directory for this seed: run a new seed")
        })?;
    let staged = Staged::of(&info, seed.id);
    Ok((*info, staged))
}

/// Deletes the old data, where two copies do not fit. In a classic seed MySQL must still be down. After an error the record says whether they are gone.
pub(super) fn wipe(config: &Arc<Config>, ctx: &Context, info: &DatadirInfo) -> Result<()> {
    let before = ctx.seed()?;
    if before.classic {
        check_stopped(info)?;
    }
    log::warn!(
        "seed {}: {}: the old data are deleted before the new ones are complete",
        ctx.seed_id(),
        why_one_copy(&config.mysql, info)
    );
    ctx.update(Seed::begin_replacing)?;
    let host = Host::of_stage(config, ctx);
    let journals = journals(config);
    let wiped = datadir::wipe(&journals, info, ctx.seed_id(), &host);
    if wiped.is_err() && !journals.data_gone() {
        ctx.update(|seed| (seed.load, seed.left_by) = (before.load, before.left_by))?;
    }
    wiped
}

/// Why the old data are deleted first.
pub(super) fn why_one_copy(mysql: &config::Mysql, info: &DatadirInfo) -> String {
    if mysql.datadir_swap == DatadirSwap::Never {
        return "mysql.datadir-swap = \"never\"".to_string();
    }
    let dir = info.datadir.display();
    format!("two copies do not fit on the file system of {dir}")
}

/// That MySQL of a target is down, as it is in a classic seed.
pub(super) fn check_stopped(info: &DatadirInfo) -> Result<()> {
    if !datadir::is_in_use(info)? {
        return Ok(());
    }
    Err(Error::permanent(format!(
        "a server works in {}: in a seed of the classic protocol MySQL of the target is down; stop it (mysql.service-stop-command), then \
         begin the seed again",
        info.datadir.display()
    )))
}

/// Makes the staging directory of a seed and records the data directory.
pub(super) fn stage(config: &Config, ctx: &Context, info: &DatadirInfo) -> Result<Staged> {
    let journals = journals(config);
    let wiped = journals.data_gone();
    ctx.cancel().check()?;
    let staged = Staged::make(info, ctx.seed_id(), &journals, ctx.cancel())?;
    ctx.update_state(|seed, state: &mut PhysicalState| {
        state.datadir = Some(Box::new(info.clone()));
        if wiped {
            seed.load = Load::Partial; // since an earlier seed
        }
    })?;
    Ok(staged)
}

/// Puts the verified copy in the place of the old data. When it returns Ok MySQL runs on it, with the coordinates' GTID state; its
/// text is for Details. After an error, which may be a login that the new data reject, the old data are as they were, or the record says
/// that they are gone.
pub(super) fn swap_in(
    config: &Arc<Config>,
    ctx: &Context,
    (datadir, staged): (&DatadirInfo, &Staged),
    verified: &VerifiedCopy,
    coordinates: &Coordinates,
) -> Result<String> {
    ctx.hold_before_swap()?;
    let before_it = ctx.seed()?;
    if before_it.classic {
        check_stopped(datadir)?; // it is not stopped here: who has started it may have written to it
    }
    let host = Host::of_stage(config, ctx);
    let before = kept_settings(config);
    ctx.report("Running restore. Swapping the data directory");
    let down = Instant::now();
    let swapped = datadir::swap(&journals(config), datadir, verified, &host);
    if swapped.is_err() && journals(config).data_gone() {
        ctx.update(Seed::begin_replacing)?;
    }
    let login_error = swapped?;
    let down = down.elapsed();
    ctx.update(|seed| seed.load = Load::Complete)?;
    if !login_error.is_empty() {
        return Err(Error::permanent(login_error));
    }
    let mut conn = connect(&Endpoint::local(&config.mysql), STATEMENT)?;
    let emptied = open_memory_tables(&mut conn)?;
    set_gtid_state(&mut conn, datadir.server, coordinates)?;
    for (name, value) in &before {
        let now = info::global(&mut conn, name)?;
        if now.as_ref() != Some(value) {
            let set = format!("SET GLOBAL {name} = {}", quote_text(value));
            control::execute(&mut conn, &set)?;
        }
    }
    if config.mysql.keep_old_data == KeepOldData::No {
        datadir::delete_old(datadir, staged);
    }
    let mut text = if before_it.classic {
        "Stage completed. MySQL runs on the copy".to_string()
    } else if before_it.data_deleted() {
        "Stage completed. MySQL was down since the old data were deleted".to_string()
    } else {
        format!(
            "Stage completed. MySQL was down for {:.1} s",
            down.as_secs_f32()
        )
    };
    for note in [&verified.notes, &emptied] {
        if !note.is_empty() {
            text += &format!(". {note}");
        }
    }
    Ok(text)
}

/// At the first use of a MEMORY table after a start, the server empties it and writes that to its binary log, as a transaction of its
/// own: that happens here, without the log. Returns a note for Details.
fn open_memory_tables(conn: &mut Conn) -> Result<String> {
    let list = format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE ENGINE = 'MEMORY' AND TABLE_SCHEMA NOT IN ({})",
        info::system_schemas()
    );
    let tables: Vec<(String, String)> = query::rows(conn, list)?;
    if tables.is_empty() {
        return Ok(String::new());
    }
    control::binlog_off(conn)?; // a privilege that only this needs here
    let mut names = Vec::new();
    for (schema, table) in &tables {
        let name = format!("{}.{}", quote_name(schema), quote_name(table));
        control::execute(conn, &format!("SELECT 1 FROM {name} LIMIT 0"))?;
        names.push(format!("{schema}.{table}"));
    }
    let more = if names.len() > 10 { " ..." } else { "" };
    names.truncate(10);
    Ok(format!(
        "MEMORY tables are empty, as after a restart: {}{more}",
        names.join(", ")
    ))
}

/// What was set at run time; nothing where MySQL is down.
fn kept_settings(config: &Config) -> Vec<(&'static str, String)> {
    let found = || -> Result<_> {
        let mut conn = connect(&Endpoint::local(&config.mysql), Duration::from_secs(5))?;
        let mut found = Vec::new();
        for name in KEPT {
            found.extend(info::global(&mut conn, name)?.map(|value| (name, value)));
        }
        Ok(found)
    };
    found().unwrap_or_else(|e| {
        log::debug!("read_only of the target is not known: {e}");
        Vec::new()
    })
}

/// Sets the GTID state of a server that now runs on the copy. Its binary logs are new.
pub(super) fn set_gtid_state(
    conn: &mut Conn,
    server: Server,
    coordinates: &Coordinates,
) -> Result<()> {
    match server.flavour {
        Flavour::MariaDb => {
            // In this order: errors 1947 and 1948 otherwise.
            if info::is_on(conn, "log_bin")? {
                control::execute(conn, server.reset_binlog())?;
            }
            let position = coordinates.gtid_slave_pos.as_deref().unwrap_or("");
            let set = format!("SET GLOBAL gtid_slave_pos = {}", quote_text(position));
            control::execute(conn, &set)
        }
        Flavour::MySql => {
            control::execute(conn, server.reset_binlog())?;
            if coordinates.gtid_executed.is_empty() {
                return Ok(());
            }
            let executed = quote_text(&coordinates.gtid_executed);
            control::execute(conn, &format!("SET GLOBAL gtid_purged = {executed}"))
        }
    }
}

/// A Cleanup. On the target: the old data by `mysql.keep-old-data`, and the staging directory. May be repeated.
pub(super) fn cleanup(config: &Config, ctx: &Context, side: Side) -> Result<String> {
    if side == Side::Target {
        ctx.report("Running cleanup");
        clean_up(config, ctx)?;
    }
    Ok("Stage completed".into())
}

fn clean_up(config: &Config, ctx: &Context) -> Result<()> {
    let seed = ctx.seed()?;
    let Ok((info, staged)) = staged(&seed) else {
        return Ok(()); // nothing was made
    };
    if let Some(journal) = datadir::unfinished(&journals(config))? {
        log::warn!("seed {}: {}", seed.id, journal.reason().unwrap_or_default());
        return Ok(());
    }
    // After a swap of a Restore that has failed, the old data may be wanted.
    let failed = seed.status(Stage::Restore) != Some(Status::Completed);
    if seed.load == Load::Complete
        && (failed || config.mysql.keep_old_data == KeepOldData::Forever)
        && staged.old_dir().exists()
    {
        let kept = datadir::keep_old(&info, &staged)?;
        log::info!(
            "seed {}: the old data are kept in {}",
            seed.id,
            kept.display()
        );
    }
    datadir::clean_up(&info, &staged)
}

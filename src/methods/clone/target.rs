//! Backup and Restore on the target: CLONE into the staging directory, by a private server, and the swap; or CLONE in place and the
//! restart.

use super::ClonePlugin;
use super::checks::{self, Donor};
use super::run::{End, Outcome};
use super::settings::{self, Guard, Wanted};
use crate::contents::target_server::TargetServer;
use crate::datadir;
use crate::datadir::{CloneServer, DatadirInfo, Host, Staged, SwapMode};
use crate::error::{Error, Result};
use crate::methods::state::{Cloning, PhysicalState};
use crate::methods::swap_in;
use crate::methods::swap_in::{KEPT, STATEMENT};
use crate::mysql::{Endpoint, Restore, Server, clone, connect, control, info};
use crate::seed::record::{Load, Seed};
use crate::seed::stage::Context;
use mysql::Conn;
use std::time::Duration;

/// For questions and for the way back.
const LOOK: Duration = Duration::from_secs(5);

impl ClonePlugin {
    /// The whole stage. When it returns Ok the copy is whole: in the staging directory, or MySQL restarts with it. After an error
    /// the target's data are as they were, or the record says that they are not.
    pub(super) fn copy(&self, ctx: &Context) -> Result<String> {
        ctx.report("Running backup. Checking the source");
        let seed = ctx.seed()?;
        let peer = seed
            .peer
            .clone()
            .ok_or_else(|| Error::permanent("backup was called without a source"))?;
        let donor = Endpoint::remote(&self.config.mysql, &peer.host, peer.mysql_port);
        let (facts, staged) = swap_in::staged(&seed)?;
        let (this, to) = (self.clone(), donor.clone());
        let known = ctx.interruptible(move || this.check_donor(&to))?;
        if let Some(bytes) = known.bytes {
            ctx.progress().expect(bytes);
        }
        let mut wanted = settings::wanted(&self.config.clone_plugin);
        wanted.push((
            "clone_valid_donor_list",
            format!("{}:{}", donor.host, donor.port),
        ));
        match datadir::swap_mode(&facts, known.bytes, self.config.mysql.datadir_swap)? {
            SwapMode::TwoCopies => self.staged(ctx, (&facts, &staged), (&donor, &known), &wanted),
            SwapMode::Wipe => {
                log::warn!(
                    "seed {}: two copies do not fit on the file system of {}, or mysql.datadir-swap = \"never\": CLONE deletes the old \
                     data first",
                    seed.id,
                    facts.datadir.display()
                );
                self.in_place(ctx, &seed, (&donor, &known), &wanted)
            }
        }
    }

    fn staged(
        &self,
        ctx: &Context,
        (facts, staged): (&DatadirInfo, &Staged),
        (donor, known): (&Endpoint, &Donor),
        wanted: &Wanted,
    ) -> Result<String> {
        ctx.update_state(|_, s: &mut PhysicalState| {
            s.cloning = Some(Cloning {
                in_place: false,
                is_down: false,
            });
        })?;
        let host = Host::of_stage(&self.config, ctx);
        let copied =
            CloneServer::start(facts, staged, &known.libraries, &host).and_then(|helper| {
                let on = helper.endpoint();
                let set =
                    connect(on, STATEMENT).and_then(|mut conn| settings::set(&mut conn, wanted));
                let new = staged.new_dir();
                let copied = set
                    .and_then(|()| known.is_still_at(donor))
                    .and_then(|()| self.run(ctx, on, donor, Some(&new)).end)
                    .and_then(|_| known.is_still_at(donor));
                let stopped = helper.stop(ctx.cancel());
                copied.and(stopped)
            });
        if let Err(e) = copied.and_then(|()| ctx.cancel().check()) {
            datadir::delete_new(staged);
            return Err(e);
        }
        let bytes = crate::sys::disk::usage(&staged.new_dir()).unwrap_or(0);
        ctx.progress().bytes(bytes);
        Ok(format!(
            "Backup completed: {bytes} bytes cloned from {}",
            donor.name()
        ))
    }

    fn in_place(
        &self,
        ctx: &Context,
        seed: &Seed,
        (donor, known): (&Endpoint, &Donor),
        wanted: &Wanted,
    ) -> Result<String> {
        let guard = Guard {
            channels: known.replicates,
            events: self.config.mysql.disable_events_on_target,
        };
        let cloning = |is_down| {
            Some(Cloning {
                in_place: true,
                is_down,
            })
        };
        let set = self.set(ctx, wanted, Some(guard));
        let outcome = match set.and_then(|()| known.is_still_at(donor)) {
            Ok(()) => {
                ctx.report(
                    "Running backup. Two copies do not fit: CLONE deletes the old data first",
                );
                ctx.update_state(|seed, s: &mut PhysicalState| {
                    s.cloning = cloning(false);
                    seed.begin_replacing();
                })?;
                let on = Endpoint::local(&self.config.mysql);
                let mut outcome = self.run(ctx, &on, donor, None);
                if outcome.end.is_ok()
                    && let Err(e) = known.is_still_at(donor)
                {
                    log::error!(
                        "seed {}: the source may be another server than before: {e}",
                        seed.id
                    );
                    outcome.end = Err(e);
                }
                outcome
            }
            Err(end) => Outcome {
                end: Err(end),
                began: false,
            },
        };
        if !outcome.began {
            let was = seed.load;
            ctx.update_state(|seed, s: &mut PhysicalState| (s.cloning, seed.load) = (None, was))?;
        }
        match outcome.end {
            Ok(end) => {
                let is_down = end == End::Down;
                let noted =
                    ctx.update_state(|_, s: &mut PhysicalState| s.cloning = cloning(is_down));
                if let Err(e) = noted.and_then(|()| ctx.cancel().check()) {
                    self.not_left_down(is_down, ctx);
                    return Err(e);
                }
                Ok(format!(
                    "Backup completed: cloned from {}. MySQL {} with the copy",
                    donor.name(),
                    if is_down {
                        "is down and is to be started"
                    } else {
                        "restarts"
                    }
                ))
            }
            Err(e) => {
                if let Err(e) = self.restore_now(ctx) {
                    log::error!("settings of MySQL are not restored yet: {e}");
                }
                Err(if outcome.began {
                    e.noted("CLONE had deleted the old data of this server before")
                        .lasting()
                } else {
                    e
                })
            }
        }
    }

    /// Records what must be restored, then sets what a CLONE wants.
    pub(super) fn set(&self, ctx: &Context, wanted: &Wanted, guard: Option<Guard>) -> Result<()> {
        let mut conn = connect(&Endpoint::local(&self.config.mysql), STATEMENT)?;
        control::binlog_off(&mut conn)?;
        let server = Server::ask(&mut conn)?;
        let mut present = settings::to_restore(&mut conn, wanted)?;
        if let Some(guard) = guard {
            present.extend(guard.to_restore(&mut conn, server)?);
        }
        add_pending(ctx, present)?;
        ctx.cancel().check()?;
        settings::set(&mut conn, wanted)?;
        if let Some(guard) = guard {
            guard.up(&mut conn, server)?;
            // CLONE cannot delete the old data otherwise (1290).
            writable(&mut conn)?;
        }
        Ok(())
    }

    /// Installs the plugin where it is missing, also in a server that takes no statements (1290).
    pub(super) fn install(&self, ctx: &Context) -> Result<()> {
        let mut conn = connect(&Endpoint::local(&self.config.mysql), STATEMENT)?;
        if checks::is_active(&mut conn)? {
            return Ok(());
        }
        control::binlog_off(&mut conn)?;
        add_pending(ctx, settings::read_only(&mut conn)?)?;
        let installed = writable(&mut conn).and_then(|()| checks::install(&mut conn));
        self.restore_now(ctx)?;
        installed
    }

    /// Restores what is pending, now.
    pub(super) fn restore_now(&self, ctx: &Context) -> Result<()> {
        let seed = ctx.seed()?;
        self.restore_pending(&seed)?;
        ctx.update(|s| s.pending_restore.clear())
    }

    /// Ends a CLONE that still runs, keeps the events and channels of a copy in place from running, and restores the settings. May be repeated.
    pub(super) fn restore_pending(&self, seed: &Seed) -> Result<()> {
        if seed.pending_restore.is_empty() {
            return Ok(());
        }
        let mut conn = connect(&Endpoint::local(&self.config.mysql), LOOK)?;
        if let Some(connection) = seed.pending_restore.running_clone() {
            clone::end(&mut conn, connection)?;
        }
        let cloning = seed.method_state::<PhysicalState>()?.cloning;
        if cloning.is_some_and(|c| c.in_place) && seed.load == Load::Incomplete {
            if checks::is_active(&mut conn)? && clone::status(&mut conn)?.state == "In Progress" {
                return Err(Error::transient("MySQL is about to restart with the copy"));
            }
            self.disable_replication(&mut conn)?;
        }
        TargetServer::open(&self.config.mysql)?.restore_settings(seed)
    }

    /// Forgets the source's channels and disables its events. The guards have kept them from starting.
    pub(super) fn disable_replication(&self, conn: &mut Conn) -> Result<usize> {
        let server = Server::ask(conn)?;
        control::binlog_off(conn)?;
        writable(conn)?;
        control::execute(conn, &format!("STOP {}", server.replica()))?;
        control::execute(conn, &format!("RESET {} ALL", server.replica()))?;
        if self.config.mysql.disable_events_on_target {
            control::disable_events(conn, server)
        } else {
            Ok(0)
        }
    }

    /// The whole stage. May be called again after an error. When it returns Ok MySQL runs on the copy and is as it must be for its
    /// replication to be connected.
    pub(super) fn finish(&self, ctx: &Context) -> Result<String> {
        ctx.report("Running restore");
        let seed = ctx.seed()?;
        let (facts, staged) = swap_in::staged(&seed)?;
        match seed.method_state::<PhysicalState>()?.cloning {
            Some(Cloning {
                in_place: false, ..
            }) => {
                let host = Host::of_stage(&self.config, ctx);
                let (proven, coordinates) =
                    datadir::trial_start_of_clone(&facts, &staged, &self.config.mysql, &host)?;
                ctx.update(|s| s.coordinates = Some(coordinates.clone()))?;
                swap_in::swap_in(&self.config, ctx, (&facts, &staged), &proven, &coordinates)
            }
            Some(Cloning { is_down, .. }) => self.restarted(ctx, &facts, is_down),
            None => Err(Error::permanent(
                "no complete copy was made: call prepare again",
            )),
        }
    }
}

/// Adds to what must be restored. What is there already stays.
pub(super) fn add_pending(ctx: &Context, present: Vec<Restore>) -> Result<()> {
    ctx.update(|s| s.pending_restore.extend(present))
}

/// `super_read_only` and `read_only` off; the record knows what they were.
pub(super) fn writable(conn: &mut Conn) -> Result<()> {
    for name in KEPT.into_iter().rev() {
        if info::is_on(conn, name)? {
            control::execute(conn, &format!("SET GLOBAL {name} = OFF"))?;
        }
    }
    Ok(())
}

//! Mysqldump and Mydumper in a classic seed, whose target's server is down: the dump is loaded into a private server in the staging
//! directory, and its data are swapped in as any copy. In every other seed, and on the source, they work as they are.
//!
//! | stage | target |
//! |---|---|
//! | Prepare | checks, staging directory, the private server is initialised and checked as a target |
//! | Backup | the dump, by the method; the private server runs for its checks |
//! | Restore | the load, by the method; trial start and swap |
//! | Cleanup | the dump, old data by `mysql.keep-old-data`, staging directory |

use super::logical::target_server::QUERY_TIMEOUT;
use super::state::{Applied, LogicalState, PhysicalState};
use super::{preflight, swap_in};
use crate::config::Config;
use crate::datadir::{self, DatadirInfo, Host, LoadServer, Role, SwapMode};
use crate::error::{Error, Result};
use crate::mysql::{Endpoint, connect, info};
use crate::process::{Launcher, check_sudo_user};
use crate::seed::private;
use crate::seed::record::Seed;
use crate::seed::stage::{Context, Prepared, Progress, SeedMethod};
use crate::seed::types::{Method, Side, Stage, Status};
use crate::sys::host::memory_available;
use crate::sys::proc::bytes_moved;
use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use std::sync::Arc;
use std::time::Duration;

/// How often it is checked whether the private server works.
const POLL: Duration = Duration::from_secs(5);
/// Bytes that an idle server may read and write meanwhile.
const IDLE: u64 = 64 << 10;

/// A method that loads a dump into the server of `[mysql]`.
type Make = fn(Arc<Config>) -> Arc<dyn SeedMethod>;

/// The method; cheap to clone.
#[derive(Clone)]
pub(super) struct StagedLoad {
    config: Arc<Config>,
    make: Make,
    /// With the server of the configuration.
    direct: Arc<dyn SeedMethod>,
}

impl StagedLoad {
    pub(super) fn new(config: Arc<Config>, make: Make) -> Self {
        Self {
            direct: make(Arc::clone(&config)),
            config,
            make,
        }
    }

    /// The stopped target, as far as it is known without its server. Changes nothing.
    fn inspect(&self) -> Result<DatadirInfo> {
        swap_in::check_settings(&self.config.mysql)?;
        let info = datadir::inspect(&self.config, Role::Target)?;
        swap_in::service_permitted(&self.config)?;
        preflight::outside(&self.config.common.backup_dir, &info.datadir)?;
        swap_in::check_stopped(&info)?;
        check_sudo_user(&Launcher::new(&self.config.common))?;
        refuse_stopwords(&info)?;
        Ok(info)
    }

    fn prepare_staged(&self, ctx: &Context) -> Result<Prepared> {
        ctx.report("Running prepare");
        let this = self.clone();
        let info = ctx.interruptible(move || this.inspect())?;
        let staged = swap_in::stage(&self.config, ctx, &info)?;
        let host = Host::of_stage(&self.config, ctx);
        let server = LoadServer::make(&info, &staged, &self.config.mysql, &host)?;
        let inner = private::context(ctx, |_| Ok(()));
        self.with(server, ctx, &host, |_, method| {
            method.prepare(&inner, Side::Target)
        })
    }

    fn backup_staged(&self, ctx: &Context) -> Result<String> {
        ctx.report("Running backup");
        let (info, staged) = swap_in::staged(&ctx.seed()?)?;
        let host = Host::of_stage(&self.config, ctx);
        let mysql = &self.config.mysql;
        let server = LoadServer::start(&info, &staged, mysql, 0, &host)?;
        let inner = private::context(ctx, |_| Ok(()));
        self.with(server, ctx, &host, |server, method| {
            let text = method.backup(&inner)?;
            let hosts = self.hosts_on_source(ctx)?;
            server.take_hosts(mysql, &hosts)?;
            Ok(text)
        })
    }

    /// For which hosts the source has the agent's account.
    fn hosts_on_source(&self, ctx: &Context) -> Result<Vec<String>> {
        let peer = ctx.seed()?.peer;
        let peer = peer.ok_or_else(|| Error::permanent("backup was called without a source"))?;
        let mysql = &self.config.mysql;
        let source = Endpoint::remote(mysql, &peer.host, peer.mysql_port);
        let user = mysql.user.clone();
        ctx.interruptible(move || {
            let mut conn = connect(&source, QUERY_TIMEOUT)?;
            let accounts = info::accounts(&mut conn, &user)?;
            Ok(accounts.into_iter().map(|a| a.host).collect())
        })
    }

    /// May be called again after an error before the load or behind it. When it returns Ok MySQL runs on the new data. After an error the old data
    /// are as they were, or the record says that they are gone.
    fn restore_staged(&self, ctx: &Context) -> Result<String> {
        ctx.report("Running restore");
        let seed = ctx.seed()?;
        let (info, staged) = swap_in::staged(&seed)?;
        let dumped = seed.status(Stage::Backup) == Some(Status::Completed);
        let coordinates = seed.coordinates.as_ref().filter(|_| dumped);
        let coordinates =
            coordinates.ok_or_else(|| Error::permanent("no dump was made: run a new seed"))?;
        let host = Host::of_stage(&self.config, ctx);
        let mysql = &self.config.mysql;
        let loaded = match seed.method_state::<PhysicalState>()?.applied {
            Applied::Completed => String::new(),
            Applied::Begun => {
                return Err(Error::permanent(
                    "the load of the dump was interrupted, and a second one would not begin with an empty server: run a new seed",
                ));
            }
            Applied::No => {
                let bytes = ctx.state::<LogicalState>()?.source_bytes;
                let room = bytes.saturating_add(info.redo_log());
                // The target's own server is down.
                let pool = bytes.saturating_mul(2).min(memory_available() / 2);
                let server = LoadServer::start(&info, &staged, mysql, pool, &host)?;
                let (this, of) = (self.clone(), info.clone());
                let inner = private::context(ctx, move |ctx| {
                    this.wipe_if_too_small(ctx, &of, room)?;
                    ctx.update_state(|_, s: &mut PhysicalState| s.applied = Applied::Begun)
                });
                let loaded = self.with(server, ctx, &host, |_, method| method.restore(&inner))?;
                ctx.update_state(|_, s: &mut PhysicalState| s.applied = Applied::Completed)?;
                loaded
            }
        };
        let verified = datadir::trial_start(&info, &staged, mysql, &host)?;
        let places = (&info, &staged);
        let swapped = swap_in::swap_in(&self.config, ctx, places, &verified, coordinates)?;
        let notes = loaded.strip_prefix("Stage completed: ").unwrap_or(&loaded);
        Ok(if notes.is_empty() {
            swapped
        } else {
            format!("{swapped}. {notes}")
        })
    }

    /// Deletes the old data where both do not fit, by `mysql.datadir-swap`; the dump is complete on this host, and the server that loads
    /// it runs.
    fn wipe_if_too_small(&self, ctx: &Context, info: &DatadirInfo, bytes: u64) -> Result<()> {
        match datadir::swap_mode(info, Some(bytes), self.config.mysql.datadir_swap)? {
            SwapMode::TwoCopies => Ok(()),
            SwapMode::Wipe => swap_in::wipe(&self.config, ctx, info),
        }
    }

    /// Does `work` with the method on `server`, which is down afterwards: for good, with all of it on the disk, or killed after an
    /// error.
    fn with<T>(
        &self,
        server: LoadServer,
        ctx: &Context,
        host: &Host,
        work: impl FnOnce(&LoadServer, &dyn SeedMethod) -> Result<T>,
    ) -> Result<T> {
        let mut config = Config::clone(&self.config);
        config.mysql.socket = server.socket().to_string();
        let method = (self.make)(Arc::new(config));
        let process = server.process();
        let (over, ended) = bounded::<()>(0);
        std::thread::scope(|scope| {
            scope.spawn(|| touch_while_busy(process, ctx.progress(), ended));
            let done = match work(&server, &*method) {
                Ok(done) => server.stop(host).map(|()| done),
                Err(e) => Err(server.kill(e)),
            };
            drop(over);
            done
        })
    }
}

/// A full-text index has the stopwords of the server that makes it, and a private one cannot have a table for them.
fn refuse_stopwords(info: &DatadirInfo) -> Result<()> {
    let table = &info.stopword_table;
    if table.is_empty() {
        return Ok(());
    }
    Err(Error::permanent(format!(
        "innodb_ft_server_stopword_table = \"{table}\" on this server: a dump for a stopped server is loaded into a new one, whose \
         full-text indexes would have other stopwords; use the method Xtrabackup or ClonePlugin, or remove the setting from its my.cnf and \
         start it once"
    )))
}

/// Building indexes and writing all pages at the end is progress as well, which the bytes of the dump do not show.
fn touch_while_busy(process: u32, progress: &Progress, ended: Receiver<()>) {
    let mut before = 0;
    while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(POLL) {
        let now = bytes_moved(process).unwrap_or(before);
        if now.abs_diff(before) > IDLE {
            progress.touch();
        }
        before = now;
    }
}

impl SeedMethod for StagedLoad {
    fn method(&self) -> Method {
        self.direct.method()
    }

    fn available(&self) -> Result<()> {
        self.direct.available()
    }

    fn permitted(&self) -> Result<()> {
        self.direct.permitted()
    }

    fn prepare(&self, ctx: &Context, side: Side) -> Result<Prepared> {
        if side == Side::Target && ctx.seed()?.classic {
            return self.prepare_staged(ctx);
        }
        self.direct.prepare(ctx, side)
    }

    fn backup(&self, ctx: &Context) -> Result<String> {
        if ctx.seed()?.classic {
            return self.backup_staged(ctx);
        }
        self.direct.backup(ctx)
    }

    fn restore(&self, ctx: &Context) -> Result<String> {
        if ctx.seed()?.classic {
            return self.restore_staged(ctx);
        }
        self.direct.restore(ctx)
    }

    fn cleanup(&self, ctx: &Context, side: Side) -> Result<String> {
        if !ctx.seed()?.classic {
            return self.direct.cleanup(ctx, side);
        }
        // One that fails does not keep the other from its part.
        let staged = swap_in::cleanup(&self.config, ctx, side);
        let dump = self.direct.cleanup(ctx, side);
        if let (Err(_), Err(e)) = (&staged, &dump) {
            log::error!("the dump was not removed: {e}");
        }
        staged.and(dump)
    }

    fn restore_settings(&self, seed: &Seed) -> Result<()> {
        self.direct.restore_settings(seed)
    }
}

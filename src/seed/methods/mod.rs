//! The five seed methods: what each does per stage and side, and nothing else. A method is plain, sequential code; the engine
//! owns repetition, abort, the record and panics.

pub mod children;
pub mod clone_plugin;
pub mod contents;
pub mod definitions;
mod early;
mod logical;
pub mod mydumper;
pub mod mysqldump;
mod operators;
pub mod preflight;
mod reached;
pub mod row_mode;
pub mod server_state;
pub mod settings;
mod swap_in;
pub mod target_server;
pub mod values;
pub mod xtrabackup;

use super::context::Context;
use super::record::Seed;
use super::vocabulary::{Method, Side};
use crate::config::Config;
use crate::error::Result;
use std::sync::Arc;

/// What follows a Prepare that is completed: the work of a target that is sent its copy. It is this host's Backup.
pub type Reception = Box<dyn FnOnce(&Context) -> Result<String> + Send>;

/// A Prepare that is completed.
pub struct Prepared {
    /// The stage's Details.
    pub text: String,
    /// Begins at once, in a thread of its own. Dropped, it gives back what it holds.
    pub reception: Option<Reception>,
}

impl<T: Into<String>> From<T> for Prepared {
    fn from(text: T) -> Self {
        Self {
            text: text.into(),
            reception: None,
        }
    }
}

/// One method. Every stage function may be called again for the same seed after it failed, was aborted, or (Prepare,
/// Cleanup) completed; the text of an Ok becomes the stage's Details. Errors of kind Permanent will not go away by
/// repeating the call.
pub trait SeedMethod: Send + Sync {
    /// Which one it is.
    fn method(&self) -> Method;

    /// Ok if it can be used on this host now. Looks at tools and, where it answers within a second, at the server.
    ///
    /// # Errors
    /// The reason and the remedy.
    fn available(&self) -> Result<()>;

    /// Ok if sudo, where it is used, runs what this method needs. Asked by Prepare and `check-config` only: sudo logs each question.
    ///
    /// # Errors
    /// Permanent, with the command and sudo's message.
    fn permitted(&self) -> Result<()> {
        Ok(())
    }

    /// Checks all that this host can know, and removes what an earlier attempt left. Touches no data of the server.
    ///
    /// # Errors
    /// What is not as it must be, with the remedy.
    fn prepare(&self, ctx: &Context, side: Side) -> Result<Prepared>;

    /// Copies; called on the method's [`Method::backup_side`]. When it returns Ok the copy is whole and durable on this host, or acknowledged by the other one, and its
    /// coordinates are in the record.
    ///
    /// # Errors
    /// The first cause of the failure. Nothing of the target's own data has changed.
    fn backup(&self, ctx: &Context) -> Result<String>;

    /// Makes the copy a running server. When it returns Ok the data are whole and the server is as it must be for its
    /// replication to be connected.
    ///
    /// # Errors
    /// The first cause. The record says whether data are partial.
    fn restore(&self, ctx: &Context) -> Result<String>;

    /// Removes what the seed left on this host.
    ///
    /// # Errors
    /// What could not be removed.
    fn cleanup(&self, ctx: &Context, side: Side) -> Result<String>;

    /// Puts the server's settings back that an interrupted Restore of `seed` changed. May be repeated.
    ///
    /// # Errors
    /// If the server cannot be reached or refuses; it is tried again later.
    fn put_back(&self, seed: &Seed) -> Result<()>;
}

/// The methods that are enabled and built, and the reasons why other enabled ones are left out.
pub struct Enabled {
    /// Those that can be asked.
    pub methods: Vec<Arc<dyn SeedMethod>>,
    /// Those that cannot, with the reason.
    pub left_out: Vec<(Method, String)>,
}

/// By the configuration.
pub fn enabled(config: &Arc<Config>) -> Enabled {
    let mut methods: Vec<Arc<dyn SeedMethod>> = Vec::new();
    let mut left_out = Vec::new();
    if config.mysqldump.enabled {
        methods.push(Arc::new(mysqldump::Mysqldump::new(Arc::clone(config))));
    }
    if config.xtrabackup.enabled {
        methods.push(Arc::new(xtrabackup::Xtrabackup::new(Arc::clone(config))));
    }
    if config.clone_plugin.enabled {
        methods.push(Arc::new(clone_plugin::ClonePlugin::new(Arc::clone(config))));
    }
    if config.mydumper.enabled {
        methods.push(Arc::new(mydumper::Mydumper::new(Arc::clone(config))));
    }
    let not_built = [(Method::LVM, config.lvm.enabled, "lvm")];
    for (method, wanted, section) in not_built {
        if wanted {
            left_out.push((
                method,
                format!("{section}.enabled = true, but this version does not have this method yet"),
            ));
        }
    }
    Enabled { methods, left_out }
}

//! The five seed methods: what each does per stage and side, and nothing else. A method is plain, sequential code; the engine
//! owns repetition, abort, the record and panics.

pub(crate) mod clone;
pub(crate) mod logical;
pub(crate) mod mydumper;
pub(crate) mod mysqldump;
mod operators;
mod preflight;
pub(crate) mod replica;
mod staged_load;
pub(crate) mod state;
mod swap_in;
mod tool_sessions;
pub(crate) mod xtrabackup;

pub(crate) use swap_in::staged;

use crate::config::Config;
use crate::seed::Method;
use crate::seed::stage::SeedMethod;
use staged_load::StagedLoad;
use std::sync::Arc;

/// The methods that are enabled and built.
pub(crate) fn enabled(config: &Arc<Config>) -> Vec<Arc<dyn SeedMethod>> {
    let c = || Arc::clone(config);
    let mut methods: Vec<Arc<dyn SeedMethod>> = Vec::new();
    if config.mysqldump.enabled {
        methods.push(Arc::new(StagedLoad::new(c(), |c| {
            Arc::new(mysqldump::Mysqldump::new(c))
        })));
    }
    if config.xtrabackup.enabled {
        methods.push(Arc::new(xtrabackup::Xtrabackup::new(c())));
    }
    if config.clone_plugin.enabled {
        methods.push(Arc::new(clone::ClonePlugin::new(c())));
    }
    if config.mydumper.enabled {
        methods.push(Arc::new(StagedLoad::new(c(), |c| {
            Arc::new(mydumper::Mydumper::new(c))
        })));
    }
    methods
}

/// The method that is enabled and left out, if there is one, and the reason.
pub(crate) fn left_out(config: &Config) -> Option<(Method, &'static str)> {
    let why = "lvm.enabled = true, but this version does not have this method yet";
    config.lvm.enabled.then_some((Method::LVM, why))
}

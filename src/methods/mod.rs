//! The five seed methods: what each does per stage and side, and nothing else. A method is plain, sequential code; the engine
//! owns repetition, abort, the record and panics.

pub mod clone;
mod logical;
pub mod mydumper;
pub mod mysqldump;
mod operators;
pub(crate) mod preflight;
pub(crate) mod state;
mod swap_in;
mod tool_sessions;
pub mod xtrabackup;

pub(crate) use swap_in::staged;

use crate::config::Config;
use crate::seed::Method;
use crate::seed::stage::SeedMethod;
use std::sync::Arc;

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
        methods.push(Arc::new(clone::ClonePlugin::new(Arc::clone(config))));
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

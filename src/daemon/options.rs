//! What the command line specifies of the daemon's configuration.

use crate::config::{self, Faults, Loaded};
use log::LevelFilter;
use std::path::PathBuf;

pub(crate) struct Options {
    /// Else those in the default places.
    pub(crate) file: Option<PathBuf>,
    /// At least this is logged.
    pub(crate) level: Option<LevelFilter>,
    /// A flag of the Go agents without a meaning here.
    pub(crate) stack: bool,
}

impl Options {
    pub(super) fn load(&self) -> Result<Loaded, Faults> {
        let mut loaded = config::load(self.file.as_deref())?;
        let level = &mut loaded.config.logging.level;
        *level = self.level.map_or(*level, |least| least.max(*level));
        Ok(loaded)
    }
}

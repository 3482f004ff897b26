//! Restore: the dump into the running server.

use super::Mysqldump;
use super::backup::read_header;
use super::load::Load;
use crate::contents::target_server::TargetServer;
use crate::error::{Error, Result};
use crate::methods::logical;
use crate::methods::logical::Loading;
use crate::methods::state::LogicalState;
use crate::seed::stage::Context;

impl Mysqldump {
    /// The whole stage. Until the last check has passed nothing on the server is touched. When it returns Ok the data are
    /// whole, the GTID state is set, and every setting is as before.
    pub(super) fn load(&self, ctx: &Context) -> Result<String> {
        ctx.report("Running restore");
        let seed = ctx.seed()?;
        let state: LogicalState = seed.method_state()?;
        let path = self.dump_file();
        let header = read_header(&path)?;
        let size = std::fs::metadata(&path)
            .map_err(|e| Error::io(path.display(), &e))?
            .len();
        if size != state.dump_bytes || Some(&header.coordinates) != seed.coordinates.as_ref() {
            return Err(Error::permanent(format!(
                "{} is not the dump that Backup made ({size} bytes, not {}): call prepare again",
                path.display(),
                state.dump_bytes
            )));
        }
        let mut target = TargetServer::open(&self.config.mysql)?;
        target.check_role()?;
        ctx.cancel().check()?;

        let what = Loading {
            bytes: size,
            coordinates: &header.coordinates,
        };
        let identity = target.identity(state.target_server.as_ref())?;
        let load = Load::new(ctx, &self.config, &self.launcher, target.server, identity)?;
        load.check()?;
        logical::restore(&self.config, ctx, target, &what, |_| {
            load.run(&path, header.load_from, &state.lenient_tables)?;
            Ok(String::new())
        })
    }
}

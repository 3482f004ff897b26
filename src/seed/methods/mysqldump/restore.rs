//! Restore: the dump into the running server.

use super::Mysqldump;
use super::backup::read_header;
use super::load::Load;
use crate::error::{Error, Result};
use crate::seed::context::Context;
use crate::seed::coordinates::mysqldump::DumpHeader;
use crate::seed::methods::target_server::TargetServer;
use crate::seed::record;
use std::path::Path;

impl Mysqldump {
    /// The whole stage. Until the last check has passed nothing on the server is touched. When it returns Ok the data are
    /// whole, the GTID state is set, and every setting is as before.
    pub(super) fn load(&self, ctx: &Context) -> Result<String> {
        ctx.report("Running restore");
        let seed = ctx.seed()?;
        let path = self.dump_file();
        let header = read_header(&path)?;
        let size = std::fs::metadata(&path)
            .map_err(|e| Error::io(path.display(), &e))?
            .len();
        if size != seed.dump_bytes || Some(&header.coordinates) != seed.coordinates.as_ref() {
            return Err(Error::permanent(format!(
                "{} is not the dump that Backup made ({size} bytes, not {}): call prepare again",
                path.display(),
                seed.dump_bytes
            )));
        }
        let mut target = TargetServer::open(&self.config.mysql)?;
        target.check_role()?;
        ctx.cancel().check()?;

        let result = self.fill(ctx, &mut target, &path, size, &header);
        let whole = result.is_ok();
        let settled = ctx
            .seed()
            .and_then(|s| target.put_back_soon(&s, whole))
            .and_then(|()| ctx.update(|s| s.put_back.clear()));
        if let Err(e) = &settled {
            log::error!("settings of MySQL are not put back yet: {e}");
        }
        let notes = result?;
        settled?;
        TargetServer::prove_login(&self.config.mysql)?;
        Ok(notes)
    }

    fn fill(
        &self,
        ctx: &Context,
        target: &mut TargetServer,
        path: &Path,
        size: u64,
        header: &DumpHeader,
    ) -> Result<String> {
        target.interruptible(ctx, |t| t.begin(ctx))?;
        ctx.report("Running restore. Loading the dump");
        ctx.progress().expect(size);
        let beside = Load::new(ctx, &self.config, &self.launcher, target.server)?
            .run(path, header.load_from)?;
        ctx.progress().bytes(size);
        ctx.cancel().check()?;
        ctx.report("Running restore. Setting accounts and GTID state");
        let of_source = ctx.seed()?.source_schemas;
        let mut notes = vec![format!("Stage completed: {size} bytes loaded")];
        if beside > 0 {
            notes.push(format!("{beside} parts of large tables beside the rest"));
        }
        notes.push(target.interruptible(ctx, |t| t.complete(ctx, &header.coordinates))?);
        ctx.update(|s| s.load = record::Load::Whole)?;
        notes.extend(target.interruptible(ctx, |t| t.extras(&of_source))?);
        notes.retain(|n| !n.is_empty());
        Ok(notes.join(", "))
    }
}

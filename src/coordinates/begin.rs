//! That a copy has the GTID position at which its replication is to begin.

use super::gtid::GtidSet;
use crate::error::{Error, Result, shortened};
use crate::mysql::{Flavour, Server, control, info, query, quote_text};
use mysql::Conn;

/// On MariaDB the position is set here. On MySQL the load has set it, and without it all would be applied a second time. The replica's
/// threads do not run.
pub(crate) fn begin_at(conn: &mut Conn, server: Server, gtid: &str) -> Result<()> {
    if server.flavour == Flavour::MariaDb {
        if info::global(conn, "gtid_slave_pos")?.is_some_and(|now| now == gtid) {
            return Ok(());
        }
        let set = format!("SET GLOBAL gtid_slave_pos = {}", quote_text(gtid));
        return control::execute(conn, &set);
    }
    // Not by SHOW VARIABLES, which cuts long values.
    let executed: Option<String> = query::first(conn, "SELECT @@GLOBAL.gtid_executed")?;
    let executed = GtidSet::parse(&executed.unwrap_or_default())?;
    let missing = GtidSet::parse(gtid)?.minus(&executed);
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::permanent(format!(
        "gtid_executed of the target lacks {} of the copy: another session has reset it, or the load has not set gtid_purged; \
         run a new seed",
        shortened(&missing.to_string())
    )))
}

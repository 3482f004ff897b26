//! A scratch MariaDB 10.11 server.

use super::rig;
use super::server::{Kind, Server};
use std::path::PathBuf;

pub use super::server::{AGENT_PASSWORD, REPL_PASSWORD};

pub struct MariadbKind;

pub type Mariadb = Server<MariadbKind>;

impl Kind for MariadbKind {
    const SCRIPT: &str = "mariadb.sh";
    const TOOLS: &str = "mdb/bin";
    const DUMP: &str = "mariadb-dump";
    const ACCOUNT: &str = "agent-account.sql";
    const REPLICA_STATUS: &str = "SHOW SLAVE STATUS";
    const IO_RUNNING: &str = "Slave_IO_Running";
    const SQL_RUNNING: &str = "Slave_SQL_Running";

    fn rig() -> PathBuf {
        rig()
    }
}

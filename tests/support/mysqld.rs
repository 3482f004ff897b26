//! A scratch MySQL 9.7 server.

use super::rig_mysql;
use super::server::{Kind, Server};
use std::path::PathBuf;

pub struct MysqldKind;

pub type Mysqld = Server<MysqldKind>;

impl Kind for MysqldKind {
    const SCRIPT: &str = "mysql.sh";
    const TOOLS: &str = "my97/bin";
    const DUMP: &str = "mysqldump";
    const ACCOUNT: &str = "agent-account-mysql.sql";
    const REPLICA_STATUS: &str = "SHOW REPLICA STATUS";

    fn rig() -> PathBuf {
        rig_mysql()
    }
}

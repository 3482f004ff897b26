//! Scratch MySQL servers: 9.7, and 5.6 with the clients of 9.7.

use super::server::{Kind, Server};
use super::{rig_mysql, rig_mysql56};
use std::path::PathBuf;

pub struct MysqldKind;

pub type Mysqld = Server<MysqldKind>;

impl Kind for MysqldKind {
    const SCRIPT: &str = "mysql.sh";
    const TOOLS: &str = "my97/bin";
    const DUMP: &str = "mysqldump";
    const ACCOUNT: &str = "agent-account-mysql.sql";
    const REPLICA_STATUS: &str = "SHOW REPLICA STATUS";
    const IO_RUNNING: &str = "Replica_IO_Running";
    const SQL_RUNNING: &str = "Replica_SQL_Running";

    fn rig() -> PathBuf {
        rig_mysql()
    }
}

pub struct Mysql56Kind;

pub type Mysql56 = Server<Mysql56Kind>;

impl Kind for Mysql56Kind {
    const SCRIPT: &str = "mysql56.sh";
    const TOOLS: &str = "my56/bin";
    const DUMP: &str = "mysqldump";
    const ACCOUNT: &str = "agent-account-mysql56.sql";
    const REPLICA_STATUS: &str = "SHOW SLAVE STATUS";
    const IO_RUNNING: &str = "Slave_IO_Running";
    const SQL_RUNNING: &str = "Slave_SQL_Running";

    fn rig() -> PathBuf {
        rig_mysql56()
    }
}

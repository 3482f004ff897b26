//! The running server of a target: what it must be for a load of the source's dump. What a load changes in it is in
//! `methods::logical::target_server`.

use super::source::Source;
use super::target::Target;
use super::{name_conflicts, xa};
use crate::compatibility::{self, ServerInfo};
use crate::config;
use crate::error::{Error, Result};
use crate::mysql::catalogue::Catalogue;
use crate::mysql::{Endpoint, Fingerprint, Identity, Server, connect, info};
use mysql::Conn;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// For statements of a load: FLUSH PRIVILEGES and RESET MASTER may wait for locks, but not for ever.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(600);
/// For queries; enough for a server with thousands of tables.
pub(crate) const QUERY_TIMEOUT: Duration = Duration::from_secs(20);
/// For the login: a server that hangs is found out sooner.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(10);

/// The local server, over a connection that is opened before the load and keeps its privileges while the load replaces
/// the accounts.
pub(crate) struct TargetServer {
    pub(crate) conn: Conn,
    pub(crate) server: Server,
    pub(crate) settings: config::Mysql,
    /// The server's `NOW()` when its load began: what is older then is not of the source.
    pub(crate) began: String,
}

impl TargetServer {
    /// Connects to the local server, to load it.
    pub(crate) fn open(settings: &config::Mysql) -> Result<Self> {
        drop(connect(&Endpoint::local(settings), LOGIN_TIMEOUT)?);
        Self::open_for(settings, STATEMENT_TIMEOUT)
    }

    /// Connects to the local server; each of its answers may take `timeout`.
    pub(crate) fn open_for(settings: &config::Mysql, timeout: Duration) -> Result<Self> {
        let mut conn = connect(&Endpoint::local(settings), timeout)?;
        let server = Server::ask(&mut conn)?;
        Ok(Self {
            conn,
            server,
            settings: settings.clone(),
            began: String::new(),
        })
    }

    pub(crate) fn fingerprint(&mut self) -> Result<Fingerprint> {
        Fingerprint::of(&mut self.conn)
    }

    /// What identifies this server to the tools of a load, when it is the one that Prepare has checked.
    ///
    /// # Errors
    /// Permanent: it is another one. Those of [`Identity::hold`].
    pub(crate) fn identity(&mut self, prepared: Option<&Fingerprint>) -> Result<Arc<Identity>> {
        let endpoint = Endpoint::local(&self.settings);
        let now = self.fingerprint()?;
        if let Some(why) = prepared.and_then(|p| p.differs(&now)) {
            return Err(Error::permanent(format!(
                "MySQL at {} is another server than the one that Prepare checked ({why}), and nothing was changed there: check \
                 that mysql.host, mysql.port and mysql.socket lead to one server only (host name, port forwarder), then call prepare again",
                endpoint.name()
            )));
        }
        let identity = Identity::hold(&endpoint)?;
        identity.verify(&mut self.conn)?;
        Ok(Arc::new(identity))
    }

    /// As [`compatibility::check_target_role`].
    pub(crate) fn check_role(&mut self) -> Result<()> {
        compatibility::check_target_role(&mut self.conn, self.server)
    }

    /// What decides whether it can become a replica of a source.
    pub(crate) fn compatibility(&mut self) -> Result<ServerInfo> {
        ServerInfo::query(&mut self.conn, self.server)
    }

    /// As [`xa::refuse_prepared_on_target`].
    pub(crate) fn check_prepared(&mut self) -> Result<()> {
        xa::refuse_prepared_on_target(&mut self.conn)
    }

    /// Refuses events for a server whose scheduler was disabled at its start: it takes no statement on them (error 1577).
    ///
    /// # Errors
    /// Permanent, with the remedy.
    pub(crate) fn check_events(&mut self, of_source: u64) -> Result<()> {
        let scheduler = info::global(&mut self.conn, "event_scheduler")?.unwrap_or_default();
        if of_source == 0 || !scheduler.eq_ignore_ascii_case("DISABLED") {
            return Ok(());
        }
        Err(Error::permanent(format!(
            "the source has {of_source} events, and this server cannot take them, not even disabled ones, with event_scheduler = \
             DISABLED: set event_scheduler = OFF in its my.cnf and restart it"
        )))
    }

    /// Refuses tables of engines that this server does not have: they would become other engines, or stop the load.
    ///
    /// # Errors
    /// Permanent, with the engines.
    pub(crate) fn check_engines(
        &mut self,
        of_source: &BTreeMap<String, info::Schema>,
    ) -> Result<()> {
        let missing = info::missing_engines(&mut self.conn, of_source)?;
        if missing.is_empty() {
            return Ok(());
        }
        Err(Error::permanent(format!(
            "the source has tables of engines that this server lacks: {}; install them here, or convert the tables",
            missing.into_iter().collect::<Vec<_>>().join(", ")
        )))
    }

    /// Refuses general tablespaces that this server does not have: a dump does not make them (error 3510 in mid-load).
    ///
    /// # Errors
    /// Permanent, with their names.
    pub(crate) fn check_tablespaces(&mut self, of_source: &BTreeSet<String>) -> Result<()> {
        let own = info::general_tablespaces(&mut self.conn, self.server)?;
        let missing: Vec<&str> = of_source.difference(&own).map(String::as_str).collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(Error::permanent(format!(
            "the source has general tablespaces, which a dump does not make: {}; create them here (CREATE TABLESPACE) or move \
             their tables out of them",
            missing.join(", ")
        )))
    }

    /// What it has for a copy of `source`.
    pub(crate) fn contents(&mut self, source: &Source) -> Result<Target> {
        Target::read(&mut self.conn, self.server, source)
    }

    /// Refuses a table of the target by [`name_conflicts::constraint_of_extra_table`].
    ///
    /// # Errors
    /// Permanent, with the table. If a query fails.
    pub(crate) fn check_names(&mut self, of_source: &Catalogue) -> Result<()> {
        let found =
            name_conflicts::constraint_of_extra_table(&mut self.conn, self.server, of_source)?;
        found.map_or(Ok(()), |text| Err(Error::permanent(text)))
    }

    /// Bytes of its own tables.
    pub(crate) fn own_bytes(&mut self) -> Result<u64> {
        let schemas = info::schemas(&mut self.conn, self.server)?;
        Ok(schemas.values().map(|s| s.size).sum())
    }

    /// Values of global variables, empty for unknown ones.
    pub(crate) fn variables<const N: usize>(&mut self, names: [&str; N]) -> Result<[String; N]> {
        let mut values = [const { String::new() }; N];
        for (value, name) in values.iter_mut().zip(names) {
            *value = info::global(&mut self.conn, name)?.unwrap_or_default();
        }
        Ok(values)
    }
}

//! The note in `state-dir` of what was seen last of the server, for a seed that begins while MySQL is down.

use super::info::DatadirInfo;
use super::journal::write_json;
use super::owner;
use crate::config::Config;
use crate::error::Result;
use crate::mysql::{Endpoint, Server, connect, info};
use crate::sys::thread::lock;
use std::sync::Mutex;
use std::time::Duration;

const NAME: &str = "datadir.json";
/// For the connection and each query of [`note_replicas`]: a stop of MySQL waits for it.
const QUERY: Duration = Duration::from_secs(5);
/// A stage and the threads that have seen a change of MySQL may write at once.
static WRITES: Mutex<()> = Mutex::new(());

/// The part in replication that a server had when it was seen last.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct LastRole {
    pub(crate) replicas: Vec<String>,
    /// `Galera cluster node` or `group replication member`; empty outside a cluster.
    pub(crate) cluster: String,
}

#[derive(serde::Serialize, serde::Deserialize)]
pub(super) struct Note {
    seen: owner::Seen,
    #[serde(alias = "facts")]
    pub(super) info: DatadirInfo,
    /// Why it cannot be a target, as it was seen.
    #[serde(default)]
    pub(super) refused: Option<String>,
    #[serde(default)]
    role: LastRole,
}

/// The server's part in replication remains as it is in the note.
pub(super) fn write_note(
    config: &Config,
    info: DatadirInfo,
    refused: Option<String>,
) -> Result<DatadirInfo> {
    let _one = lock(&WRITES);
    let seen = owner::Seen::now(&info.datadir, &config.mysql)?;
    let before = read_note(config).filter(|note| note.seen.differs(&seen).is_none());
    let note = Note {
        seen,
        info,
        refused,
        role: before.map(|note| note.role).unwrap_or_default(),
    };
    write_json(&config.common.state_dir.join(NAME), &note)?;
    Ok(note.info)
}

pub(super) fn read_note(config: &Config) -> Option<Note> {
    let text = std::fs::read(config.common.state_dir.join(NAME)).ok()?;
    serde_json::from_slice(&text).ok()
}

/// What was seen last of the server of `[mysql]` on this host; `None` without a note that this version can parse.
pub(crate) fn last_seen(config: &Config) -> Option<DatadirInfo> {
    valid_note(config).map(|note| note.info)
}

pub(super) fn valid_note(config: &Config) -> Option<Note> {
    let note = read_note(config)?;
    let now = owner::Seen::now(&note.info.datadir, &config.mysql).ok()?;
    if let Some(why) = note.seen.differs(&now) {
        let path = config.common.state_dir.join(NAME);
        log::warn!("{} is not used: {why}", path.display());
        return None;
    }
    Some(note)
}

/// Refreshes the replicas and the cluster of the server that runs, in the note that there is, for the agent that finds it stopped after
/// a restart of its own.
pub(crate) fn note_replicas(config: &Config) -> Result<()> {
    // Queried under the lock: of two lists the later one is written last.
    let _one = lock(&WRITES);
    let mut conn = connect(&Endpoint::local(&config.mysql), QUERY)?;
    let server = Server::ask(&mut conn)?;
    let cluster = info::cluster(&mut conn, server)?;
    let role = LastRole {
        replicas: info::replicas(&mut conn)?,
        cluster: cluster.unwrap_or_default().into(),
    };
    write_role(config, role)
}

fn write_role(config: &Config, role: LastRole) -> Result<()> {
    match valid_note(config) {
        Some(note) if note.role != role => {
            let path = config.common.state_dir.join(NAME);
            write_json(&path, &Note { role, ..note })
        }
        _ => Ok(()),
    }
}

/// Of the server of `[mysql]` on this host, as noted; of one without a note as if it had none.
pub(crate) fn last_role(config: &Config) -> LastRole {
    valid_note(config).map(|note| note.role).unwrap_or_default()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::path::{Path, PathBuf};

    /// Makes a data directory and a state directory below `d`. Returns the first, and a configuration with the second.
    pub(in crate::datadir) fn host(d: &Path) -> (PathBuf, Config) {
        let (datadir, state) = (d.join("data"), d.join("state"));
        std::fs::create_dir_all(&datadir).unwrap();
        std::fs::create_dir_all(&state).unwrap();
        let text = format!(
            "[common]\nbackup-dir = \"/b\"\nstate-dir = {state:?}\n[orchestrator]\nurl = \"http://127.0.0.1\"\n\
             [mysql]\nuser = \"u\"\npassword = \"p\"\n"
        );
        (datadir, crate::config::parse(&text).unwrap().config)
    }

    #[test]
    fn replicas_remain_noted_until_they_are_seen_again() {
        let d = std::env::temp_dir().join(format!("oa-replicas-{}", std::process::id()));
        let (datadir, config) = host(&d);
        let info = || DatadirInfo {
            datadir: datadir.clone(),
            ..DatadirInfo::for_test()
        };
        let role = LastRole {
            replicas: vec!["db2:38158".into()],
            cluster: "group replication member".into(),
        };
        write_role(&config, role.clone()).unwrap();
        assert_eq!(last_role(&config), LastRole::default(), "no note");
        write_note(&config, info(), None).unwrap();
        assert_eq!(last_role(&config), LastRole::default());
        write_role(&config, role.clone()).unwrap();
        write_note(&config, info(), Some("reason".into())).unwrap();
        assert_eq!(last_role(&config), role);
        let note = valid_note(&config).unwrap();
        assert_eq!(
            (note.info, note.refused.as_deref()),
            (info(), Some("reason"))
        );
        // A note of an earlier version has no such list.
        let file = config.common.state_dir.join(NAME);
        let mut old: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        assert!(old.as_object_mut().unwrap().remove("role").is_some());
        std::fs::write(&file, old.to_string()).unwrap();
        assert_eq!(last_role(&config), LastRole::default());
        assert_eq!(last_seen(&config), Some(info()));
        // What was noted of another directory is not this one's.
        write_role(&config, role).unwrap();
        std::fs::rename(&datadir, d.join("before")).unwrap();
        std::fs::create_dir(&datadir).unwrap();
        assert_eq!(last_role(&config), LastRole::default());
        write_note(&config, info(), None).unwrap();
        assert_eq!(last_role(&config), LastRole::default());
        std::fs::remove_dir_all(&d).unwrap();
    }
}

//! The note in `state-dir` of what was seen last of the server, for a seed that begins while MySQL is down.

use super::info::DatadirInfo;
use super::journal::write_json;
use super::owner;
use crate::config::Config;
use crate::error::Result;
use crate::sys::thread::lock;
use std::sync::Mutex;

const NAME: &str = "datadir.json";

#[derive(serde::Serialize, serde::Deserialize)]
pub(super) struct Note {
    seen: owner::Seen,
    #[serde(alias = "facts")]
    pub(super) info: DatadirInfo,
    /// Why it cannot be a target, as it was seen.
    #[serde(default)]
    pub(super) refused: Option<String>,
}

pub(super) fn write_note(
    config: &Config,
    info: DatadirInfo,
    refused: Option<String>,
) -> Result<DatadirInfo> {
    let note = Note {
        seen: owner::Seen::now(&info.datadir, &config.mysql)?,
        info,
        refused,
    };
    // A stage and the thread that has seen MySQL come up may write at once.
    static WRITES: Mutex<()> = Mutex::new(());
    let _one = lock(&WRITES);
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

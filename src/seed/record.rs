//! What is known of the last few seeds, in memory and on disk. The file is replaced atomically, so that an agent killed at any
//! instant finds either the state before or the state after.

use super::sessions::{Sessions, Tool};
pub(crate) use super::types::{Load, Peer};
use super::types::{Method, Run, Side, Stage, Status, nanos};
use crate::coordinates::Coordinates;
use crate::error::{Error, OnPath, Result};
use crate::mysql::PendingRestore;
use crate::sys::file::{if_there, replace_durable};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// How many seeds are remembered, so that late questions get a truthful answer.
const KEPT: usize = 8;
/// Longest text of a stage, in bytes: orchestrator's column takes 65,535.
const DETAILS_LIMIT: usize = 4000;

/// One stage of a seed. Times are in nanoseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StageRecord {
    pub(crate) status: Status,
    /// Short ASCII text.
    pub(crate) details: String,
    pub(crate) started: u64,
    pub(crate) changed: u64,
    /// Which run of the engine wrote it, to refuse late reports of an older one.
    #[serde(default)]
    pub(crate) run: u64,
    /// Bytes that a completed stage has copied; 0 where it counts none.
    #[serde(default)]
    pub(crate) bytes: u64,
}

/// The seed that has left the data of this host incomplete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct LeftBy {
    #[serde(rename = "SeedID")]
    pub(crate) seed_id: i64,
    pub(crate) method: Method,
    /// The old data were deleted, although the method loads a dump: in a classic seed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) data_deleted: bool,
}

/// One seed as this host knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seed {
    pub(crate) id: i64,
    pub(crate) method: Method,
    /// This host's part.
    pub(crate) side: Side,
    pub(crate) stages: BTreeMap<Stage, StageRecord>,
    pub(crate) stage: Stage,
    /// A seed of the classic protocol: MySQL of the target is down, its data are replaced by the swap, whatever the method, and the
    /// swap waits for `post-copy`.
    #[serde(default)]
    pub(crate) classic: bool,
    /// True once its controller aborted it or a new seed took its place.
    pub(crate) given_up: bool,
    /// The other host, known from Backup on.
    pub(crate) peer: Option<Peer>,
    /// The source's coordinates, known when Backup is done.
    pub(crate) coordinates: Option<Coordinates>,
    /// The longest time that the source's writes were held up by this copy, in milliseconds; `None` where it is not known.
    #[serde(default)]
    pub(crate) source_lock_ms: Option<u64>,
    /// State of the target's data.
    pub(crate) load: Load,
    /// Where `load` was incomplete before this seed: the seed that has left it so. `None` once this seed has begun to replace
    /// the data itself.
    #[serde(default)]
    pub(crate) left_by: Option<LeftBy>,
    /// What was changed in the server for the seed and must be restored.
    #[serde(default, alias = "put_back")]
    pub(crate) pending_restore: PendingRestore,
    pub(crate) tools: Vec<Tool>,
    /// What the method must remember between its stages; the method reads and writes it as a type of its own.
    #[serde(flatten)]
    method_state: serde_json::Map<String, Value>,
}

impl Seed {
    pub(crate) fn new(id: i64, method: Method, side: Side) -> Self {
        Self {
            id,
            method,
            side,
            stages: BTreeMap::new(),
            stage: Stage::Prepare,
            classic: false,
            given_up: false,
            peer: None,
            coordinates: None,
            source_lock_ms: None,
            load: Load::Unchanged,
            left_by: None,
            pending_restore: PendingRestore::default(),
            tools: Vec::new(),
            method_state: serde_json::Map::new(),
        }
    }

    /// What the method remembers; a permanent error if the record was written by something else.
    pub(crate) fn method_state<T: DeserializeOwned>(&self) -> Result<T> {
        let read = serde_json::to_vec(&self.method_state);
        read.and_then(|text| serde_json::from_slice(&text))
            .map_err(|e| {
                Error::permanent(format!("the record of seed {} is damaged: {e}", self.id))
            })
    }

    /// Remembers `state`, a structure, for the later stages.
    pub(crate) fn set_method_state(&mut self, state: &impl Serialize) -> Result<()> {
        match serde_json::to_value(state) {
            Ok(Value::Object(state)) => self.method_state.extend(state),
            other => return Err(Error::permanent(format!("state of a method: {other:?}"))),
        }
        Ok(())
    }

    /// `None` for a stage that was never started.
    pub(crate) fn status(&self, stage: Stage) -> Option<Status> {
        self.stages.get(&stage).map(|s| s.status)
    }

    /// The stage of `run`, unless a later run has taken its place.
    pub(super) fn record_of(&mut self, run: Run) -> Option<&mut StageRecord> {
        let record = self.stages.get_mut(&run.stage);
        record.filter(|r| r.run == run.number)
    }

    /// This seed begins to replace the target's data.
    pub(crate) fn begin_replacing(&mut self) {
        (self.load, self.left_by) = (Load::Partial, None);
    }

    /// True if this seed, or the one that has left the data incomplete, has deleted the target's old data, as a physical method does.
    pub(crate) fn data_deleted(&self) -> bool {
        let by = self.left_by.map_or(self.method, |l| l.method);
        let of_dump = self.left_by.map_or(self.classic, |l| l.data_deleted);
        self.load == Load::Partial && (by.backup_to_datadir() || of_dump)
    }

    /// The state of the target's data if they are incomplete: to follow an article, which may begin a sentence.
    fn incomplete_data(&self) -> Option<String> {
        if self.load != Load::Partial {
            return None;
        }
        let state = if self.data_deleted() {
            "old data were deleted and the new ones are not complete"
        } else {
            "data in MySQL are partial"
        };
        let since = self.left_by.map(
            |LeftBy {
                 seed_id, method, ..
             }| { format!(" since seed {seed_id} by {method} was interrupted") },
        );
        Some(format!("{state}{}", since.unwrap_or_default()))
    }

    /// The state of the target's data if they are incomplete.
    pub(crate) fn incomplete(&self) -> Option<String> {
        self.incomplete_data().map(|state| format!("the {state}"))
    }

    /// True if a target holds its place for a next stage: something is prepared, and the controller may go on.
    pub(crate) fn waits(&self) -> bool {
        self.side == Side::Target
            && !self.given_up
            && self.status(self.stage) == Some(Status::Completed)
            && self.stage != Stage::Cleanup
    }

    /// How the seed stands on this host. A target is Running until it is cleaned up, has failed or was given up; a source, which
    /// holds nothing between its stages and is not told what happens elsewhere, is as its last stage.
    pub(crate) fn overall(&self) -> Status {
        let last = self.status(self.stage);
        match (self.side, last) {
            (_, Some(Status::Error)) => Status::Error,
            (_, Some(Status::Completed)) if self.stage == Stage::Cleanup => Status::Completed,
            (_, Some(Status::Completed)) if self.given_up => Status::Error,
            (Side::Source, Some(Status::Completed)) => Status::Completed,
            _ => Status::Running,
        }
    }

    /// True for a target whose Restore or Cleanup has ended, well or badly.
    pub(crate) fn is_over(&self) -> bool {
        self.stage >= Stage::Restore && self.status(self.stage) != Some(Status::Running)
    }

    /// True while the disk use of this host, its target, measures the seed's progress: from the end of Prepare, which
    /// deletes what earlier seeds left, to the end of Cleanup.
    pub(crate) fn is_growing(&self) -> bool {
        let status = self.status(self.stage);
        self.side == Side::Target
            && !self.given_up
            && match self.stage {
                Stage::Prepare => status == Some(Status::Completed),
                Stage::Cleanup => status == Some(Status::Running),
                _ => matches!(status, Some(Status::Running | Status::Completed)),
            }
    }

    pub(crate) fn set(&mut self, stage: Stage, status: Status, details: &str) -> &mut StageRecord {
        let now = nanos(SystemTime::now());
        let record = self.stages.entry(stage).or_insert_with(|| StageRecord {
            status,
            details: String::new(),
            started: now,
            changed: now,
            run: 0,
            bytes: 0,
        });
        record.status = status;
        record.details = short_ascii(details);
        record.changed = now;
        record
    }
}

/// Printable ASCII and line breaks only, at most [`DETAILS_LIMIT`] bytes; of a longer text the beginning and the end.
pub(crate) fn short_ascii(text: &str) -> String {
    let shown = |c: char| c.is_ascii_graphic() || c == ' ' || c == '\n';
    let clean = text.trim_end().replace(|c: char| !shown(c), "?");
    if clean.len() <= DETAILS_LIMIT {
        return clean;
    }
    let half = DETAILS_LIMIT / 2 - 5;
    format!("{} ... {}", &clean[..half], &clean[clean.len() - half..])
}

/// The seeds, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seeds {
    #[serde(rename = "seeds")]
    pub(super) all: Vec<Seed>,
    /// What tools of an agent that was killed may have left in servers.
    #[serde(default)]
    pub(crate) sessions: Vec<Sessions>,
}

impl Seeds {
    pub(crate) fn current(&self) -> Option<&Seed> {
        self.all.last()
    }

    pub(crate) fn get(&self, id: i64) -> Option<&Seed> {
        self.all.iter().rev().find(|s| s.id == id)
    }

    pub(crate) fn get_mut(&mut self, id: i64) -> Option<&mut Seed> {
        self.all.iter_mut().rev().find(|s| s.id == id)
    }

    /// Makes `seed` the current one, in place of an older one with its number. Settings of the server that an older
    /// seed has not restored yet go over to it, so that they are not lost, and what the last seed left partial stays partial.
    pub(crate) fn make_current(&mut self, mut seed: Seed) {
        if let Some(last) = self.current().filter(|s| s.load == Load::Partial) {
            seed.load = Load::Partial;
            seed.left_by = last.left_by.or(Some(LeftBy {
                seed_id: last.id,
                method: last.method,
                data_deleted: last.classic,
            }));
        }
        for old in &mut self.all {
            seed.pending_restore.extend(old.pending_restore.take());
        }
        self.all.retain(|s| s.id != seed.id);
        self.all.push(seed);
        let excess = self.all.len().saturating_sub(KEPT);
        self.all.drain(..excess);
    }
}

/// The file `seeds.json` in `state-dir`.
pub(crate) struct Store {
    path: PathBuf,
    /// Version of what it holds.
    written: u64,
    /// A slow disk: it takes each record before that is written.
    #[cfg(test)]
    pub(super) disk: Option<crossbeam_channel::Sender<String>>,
}

impl Store {
    pub(crate) fn new(dir: &Path) -> Self {
        Self {
            path: dir.join("seeds.json"),
            written: 0,
            #[cfg(test)]
            disk: None,
        }
    }

    /// Reads the record; stages that were at work when the agent ended become Error. A file that cannot be understood is
    /// moved to `seeds.json.unreadable` and reported in the log.
    pub(crate) fn load(&self) -> Result<Seeds> {
        let path = &self.path;
        let Some(text) = if_there(std::fs::read(path)).on(path)? else {
            return Ok(Seeds::default());
        };
        let mut seeds: Seeds = match serde_json::from_slice(&text) {
            Ok(s) => s,
            Err(e) => {
                let aside = path.with_extension("json.unreadable");
                log::error!(
                    "{}: {e}; kept as {}, earlier seeds are forgotten",
                    path.display(),
                    aside.display()
                );
                std::fs::rename(path, &aside).on(path)?;
                Seeds::default()
            }
        };
        for seed in &mut seeds.all {
            let note = incomplete_note(seed, None);
            for stage in Stage::ALL {
                if seed.status(*stage) == Some(Status::Running) {
                    let text =
                        format!("{stage} was interrupted: the agent ended while it ran{note}");
                    seed.set(*stage, Status::Error, &text);
                }
            }
        }
        Ok(seeds)
    }

    /// Writes the record durably; after an error the old one is intact. `version` orders writers: a state older than the one written
    /// is dropped.
    pub(crate) fn save(&mut self, seeds: &Seeds, version: u64) -> Result<()> {
        if version < self.written {
            return Ok(());
        }
        let text =
            serde_json::to_vec(seeds).map_err(|e| Error::permanent(format!("record: {e}")))?;
        #[cfg(test)]
        if let Some(disk) = &self.disk {
            let _ = disk.send(String::from_utf8_lossy(&text).into_owned()); // the test is over: fine
        }
        replace_durable(&self.path, 0o600, &text)
            .map_err(|e| e.context("record of the seeds (common.state-dir)"))?;
        self.written = version;
        Ok(())
    }
}

/// What to add to the error's text of a stage when the target's data are incomplete, by this seed or still by an earlier one. A new
/// seed does not help where it would fail again by the same `cause`.
pub(crate) fn incomplete_note(seed: &Seed, cause: Option<&Error>) -> String {
    let Some(state) = seed.incomplete_data() else {
        return String::new();
    };
    let advice = if cause.is_some_and(Error::is_permanent) {
        "correct the cause of this error, then run a new seed"
    } else {
        "run a new seed"
    };
    let article = seed.left_by.map_or("The", |_| "As before this seed, the");
    format!(". {article} {state}: do not use them; {advice}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mysql::Restore;

    fn dir(name: &str) -> PathBuf {
        let d = std::env::temp_dir().join(format!("oa-record-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&d).unwrap();
        d
    }

    #[test]
    fn a_running_stage_is_an_error_after_a_restart() {
        let d = dir("restart");
        let mut store = Store::new(&d);
        let mut seeds = store.load().unwrap();
        let mut seed = Seed::new(7, Method::Mysqldump, Side::Target);
        seed.set(Stage::Prepare, Status::Completed, "ok");
        seed.set(Stage::Restore, Status::Running, "loading");
        seed.load = Load::Partial;
        seeds.make_current(seed);
        store.save(&seeds, 1).unwrap();
        let again = Store::new(&d).load().unwrap();
        let seed = again.get(7).unwrap();
        assert_eq!(seed.status(Stage::Prepare), Some(Status::Completed));
        let restore = &seed.stages[&Stage::Restore];
        assert_eq!(restore.status, Status::Error);
        assert!(restore.details.contains("interrupted") && restore.details.contains("partial"));
        store.save(&Seeds::default(), 0).unwrap();
        assert!(
            Store::new(&d).load().unwrap().get(7).is_some(),
            "an older state does not replace a newer one"
        );
        std::fs::write(d.join("seeds.json"), "{").unwrap();
        assert!(Store::new(&d).load().unwrap().current().is_none());
        assert!(d.join("seeds.json.unreadable").exists());
        std::fs::remove_dir_all(&d).unwrap();
    }

    #[test]
    fn keeps_the_last_few_and_hands_on_what_is_pending() {
        let mut seeds = Seeds::default();
        let mut first = Seed::new(1, Method::Mysqldump, Side::Target);
        first.pending_restore.extend([Restore::Global {
            name: "event_scheduler".into(),
            value: "ON".into(),
        }]);
        seeds.make_current(first);
        for id in 2..=20 {
            seeds.make_current(Seed::new(id, Method::Mysqldump, Side::Target));
        }
        assert_eq!(seeds.all.len(), KEPT);
        let pending = &seeds.current().unwrap().pending_restore;
        assert_eq!(pending.global("event_scheduler"), Some("ON"));
        assert!(seeds.get(1).is_none() && seeds.get(20).is_some());
    }

    #[test]
    fn the_state_of_the_data_names_the_seed_that_left_it() {
        let mut seeds = Seeds::default();
        let mut first = Seed::new(11, Method::Mysqldump, Side::Target);
        assert_eq!(incomplete_note(&first, Some(&Error::permanent("x"))), "");
        first.begin_replacing();
        assert_eq!(
            incomplete_note(&first, Some(&Error::permanent("x"))),
            ". The data in MySQL are partial: do not use them; correct the cause of this error, then run a new seed"
        );
        assert_eq!(
            incomplete_note(&first, Some(&Error::transient("x"))),
            ". The data in MySQL are partial: do not use them; run a new seed"
        );
        seeds.make_current(first);
        seeds.make_current(Seed::new(12, Method::Mydumper, Side::Target));
        seeds.make_current(Seed::new(13, Method::Xtrabackup, Side::Target));
        let third = seeds.get_mut(13).unwrap();
        assert_eq!(
            incomplete_note(third, None),
            ". As before this seed, the data in MySQL are partial since seed 11 by Mysqldump was interrupted: do not use them; run \
             a new seed"
        );
        third.begin_replacing();
        assert!(incomplete_note(third, None).starts_with(". The old data were deleted"));
        // A record of a version without the key.
        let mut old = serde_json::to_value(&*third).unwrap();
        old.as_object_mut().unwrap().remove("left_by");
        assert_eq!(serde_json::from_value::<Seed>(old).unwrap().left_by, None);
    }

    #[test]
    fn the_record_of_an_agent_that_wrote_texts_is_read() {
        let d = dir("texts");
        let mut seed = Seed::new(7, Method::ClonePlugin, Side::Target);
        seed.set(Stage::Restore, Status::Running, "loading");
        let mut old = serde_json::to_value(&seed).unwrap();
        let keys = old.as_object_mut().unwrap();
        keys.remove("pending_restore");
        keys.insert(
            "put_back".into(),
            serde_json::json!({"read_only": "OFF", "persisted event_scheduler": "", "running clone": "17"}),
        );
        let file = serde_json::json!({"seeds": [old], "sessions": []});
        std::fs::write(d.join("seeds.json"), file.to_string()).unwrap();
        let read = Store::new(&d).load().unwrap();
        let pending = &read.get(7).unwrap().pending_restore;
        assert_eq!(
            (pending.running_clone(), pending.global("read_only")),
            (Some(17), Some("OFF"))
        );
        assert_eq!(pending.iter().count(), 3);
        Store::new(&d).save(&read, 1).unwrap();
        assert_eq!(Store::new(&d).load().unwrap(), read);
        std::fs::remove_dir_all(&d).unwrap();
    }

    #[test]
    fn details_are_short_ascii() {
        assert_eq!(
            short_ascii("Fehler: \u{00fc}ber\tall\n"),
            "Fehler: ?ber?all"
        );
        let long = short_ascii(&"x".repeat(100_000));
        assert!(long.len() <= DETAILS_LIMIT && long.contains(" ... "));
    }
}

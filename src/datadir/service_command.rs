//! The service command at work, as a file in `state-dir`. When the agent is killed its command runs on, and would start MySQL later, perhaps while
//! names change in the data directory.

use super::journal::write_json;
use crate::config::Common;
use crate::error::{OnPath, Result};
use crate::process::{Running, end_orphans};
use crate::sys::file::{if_there, remove_if_there};
use crate::sys::proc::ProcessId;
use std::path::PathBuf;

const NAME: &str = "service-command.json";

pub(super) struct CommandNote(PathBuf);

impl CommandNote {
    pub(super) fn of(common: &Common) -> Self {
        Self(common.state_dir.join(NAME))
    }

    /// The command has started. Without the file it cannot be ended after a kill of the agent, which is no reason not to run it.
    pub(super) fn write(&self, command: &Running) {
        let Some(id) = command.id() else {
            return; // it has ended already
        };
        if let Err(e) = write_json(&self.0, &id) {
            log::warn!("the service command is not noted: {e}");
        }
    }

    fn read(&self) -> Result<Option<ProcessId>> {
        let json = if_there(std::fs::read(&self.0)).on(&self.0)?;
        let id = json.map(|json| serde_json::from_slice(&json).map_err(std::io::Error::other));
        id.transpose().on(&self.0)
    }

    /// The command has ended. What it has started is a service.
    pub(super) fn remove(&self) {
        if let Err(e) = remove_if_there(&self.0) {
            log::warn!("{e}");
        }
    }
}

/// Ends the service command of an agent that was killed, with its children, if it is still at work: for the agent's start, before anything
/// is rolled back. One that has ended by itself is left alone, with the server that it may have started.
pub(crate) fn end_service_command(common: &Common) {
    let note = CommandNote::of(common);
    match note.read() {
        Ok(Some(id)) if ProcessId::of(id.pid).as_ref() == Some(&id) => {
            log::warn!("a service command of an agent that was killed is still at work: ending it");
            end_orphans(&id);
        }
        Ok(_) => {}
        Err(e) => log::error!("it is not known whether a service command is still at work: {e}"),
    }
    note.remove();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::datadir::{Environment, Host};
    use crate::process::Cancel;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    #[test]
    fn a_command_that_outlives_its_agent_is_ended() {
        let dir = std::env::temp_dir().join(format!("oa-service-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (begun, done) = (dir.join("begun"), dir.join("done"));
        let mut config = Config::default();
        config.common.state_dir = dir.clone();
        config.mysql.service_start_command = format!(
            "touch '{}'; sleep 30; touch '{}'",
            begun.display(),
            done.display()
        );
        config.mysql.service_stop_command = "sleep 30 & true".into();
        let config = Arc::new(config);
        let note = dir.join(NAME);
        let host = Host::at_start(&config);
        std::thread::scope(|scope| {
            let start = scope.spawn(|| host.start(&Cancel::default()));
            let begin = Instant::now();
            while !(begun.exists() && note.exists()) {
                assert!(begin.elapsed() < Duration::from_secs(10));
                std::thread::sleep(Duration::from_millis(10));
            }
            end_service_command(&config.common);
            assert!(start.join().unwrap().is_err());
        });
        assert!(!done.exists() && !note.exists());
        // One that has ended leaves nothing, and what it has started runs on.
        host.stop(&Cancel::default()).unwrap();
        assert!(!note.exists());
        end_service_command(&config.common);
        std::fs::write(&note, "{").unwrap();
        end_service_command(&config.common);
        assert!(!note.exists());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

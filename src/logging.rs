//! The log: standard output and, where configured, a file opened for appending with mode 0640.

use crate::config::Logging;
use crate::error::{Error, Result};
use simplelog::{CombinedLogger, ConfigBuilder, SharedLogger, WriteLogger};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Arc, Mutex, PoisonError};

/// The log file, to be opened anew after logrotate has moved it.
#[derive(Clone)]
pub struct Log {
    /// `None`: standard output only.
    file: Option<(String, Arc<Mutex<File>>)>,
}

impl Log {
    /// Opens the file again under its name; lines go to the old one until the new one is open.
    ///
    /// # Errors
    /// `Unable to open log file`; the old one stays in use.
    pub fn reopen(&self) -> Result<()> {
        let Some((name, current)) = &self.file else {
            return Ok(());
        };
        let fresh = open(name)?;
        *current.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }
}

struct Target(Arc<Mutex<File>>);

impl Write for Target {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .flush()
    }
}

fn open(name: &str) -> Result<File> {
    let opened = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o640)
        .open(name);
    opened.map_err(|e| {
        Error::io(
            format!("Unable to open log file: logging.file = \"{name}\""),
            &e,
        )
    })
}

/// Starts logging. Call it once.
///
/// # Errors
/// `Unable to open log file` (agent-api-v2 section 5), with name and cause.
pub fn start(settings: &Logging) -> Result<Log> {
    // Only our own words: a library's debug lines may hold a URL with a token.
    let config = ConfigBuilder::new()
        .set_time_format_rfc3339()
        .add_filter_allow_str("orchestrator_agent")
        .build();
    let mut logs: Vec<Box<dyn SharedLogger>> = vec![WriteLogger::new(
        settings.level,
        config.clone(),
        io::stdout(),
    )];
    let mut log = Log { file: None };
    if !settings.file.is_empty() {
        let file = Arc::new(Mutex::new(open(&settings.file)?));
        logs.push(WriteLogger::new(
            settings.level,
            config,
            Target(Arc::clone(&file)),
        ));
        log.file = Some((settings.file.clone(), file));
    }
    CombinedLogger::init(logs)
        .map_err(|e| Error::permanent(format!("cannot start the log: {e}")))?;
    Ok(log)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_rotation_lines_go_to_the_new_file() {
        let name = std::env::temp_dir().join(format!("oa-log-{}", std::process::id()));
        let name = name.to_str().unwrap().to_string();
        let file = Arc::new(Mutex::new(open(&name).unwrap()));
        let log = Log {
            file: Some((name.clone(), Arc::clone(&file))),
        };
        let mut target = Target(file);
        target.write_all(b"one\n").unwrap();
        std::fs::rename(&name, format!("{name}.1")).unwrap();
        target.write_all(b"two\n").unwrap();
        log.reopen().unwrap();
        target.write_all(b"three\n").unwrap();
        assert_eq!(
            std::fs::read_to_string(format!("{name}.1")).unwrap(),
            "one\ntwo\n"
        );
        assert_eq!(std::fs::read_to_string(&name).unwrap(), "three\n");
        for n in [name.clone(), format!("{name}.1")] {
            std::fs::remove_file(n).unwrap();
        }
        let e = start(&Logging {
            file: "/no/dir/log".into(),
            level: log::LevelFilter::Info,
            format: crate::config::LogFormat::Text,
        });
        assert!(
            e.err()
                .unwrap()
                .to_string()
                .starts_with("Unable to open log file")
        );
    }
}

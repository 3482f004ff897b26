//! The log: standard output and, where configured, a file opened for appending with mode 0640.

use crate::config::Logging;
use crate::error::{Error, OnPath, Result};
use crate::sys::thread::lock;
use log::LevelFilter;
use simplelog::{CombinedLogger, ConfigBuilder, SharedLogger, WriteLogger};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Arc, Mutex};

/// The log file, to be opened again after logrotate has moved it.
#[derive(Clone)]
pub(crate) struct Log(Arc<Mutex<Option<File>>>);

impl Log {
    /// Opens the file under its name, and sets the level; lines go to the old file until the new one is open, and after an error.
    /// Without a name they go to standard output only.
    pub(crate) fn set(&self, settings: &Logging) -> Result<()> {
        let name = Some(settings.file.as_str()).filter(|n| !n.is_empty());
        let fresh = name.map(open).transpose()?;
        *lock(&self.0) = fresh;
        log::set_max_level(settings.level);
        Ok(())
    }
}

struct Target(Log);

impl Target {
    fn with<T>(&self, none: T, work: impl FnOnce(&mut File) -> io::Result<T>) -> io::Result<T> {
        let mut file = lock(&self.0.0);
        file.as_mut().map_or(Ok(none), work)
    }
}

impl Write for Target {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.with(buf.len(), |f| f.write(buf))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.with((), Write::flush)
    }
}

fn open(name: &str) -> Result<File> {
    let mut options = OpenOptions::new();
    let opened = options.create(true).append(true).mode(0o640).open(name);
    // As the Go agent writes it.
    opened.on(format!(
        "Unable to open log file: logging.file = \"{name}\""
    ))
}

/// Starts logging. Call it once.
pub(crate) fn start(settings: &Logging) -> Result<Log> {
    // Only messages of this program: a library's debug lines may hold a URL with a token.
    let config = ConfigBuilder::new()
        .set_time_format_rfc3339()
        .add_filter_allow_str("orchestrator_agent")
        .build();
    let log = Log(Arc::default());
    log.set(settings)?;
    // The level is not theirs: it may change.
    let logs: Vec<Box<dyn SharedLogger>> = vec![
        WriteLogger::new(LevelFilter::Trace, config.clone(), io::stdout()),
        WriteLogger::new(LevelFilter::Trace, config, Target(log.clone())),
    ];
    CombinedLogger::init(logs)
        .map_err(|e| Error::permanent(format!("cannot start the log: {e}")))?;
    log::set_max_level(settings.level);
    Ok(log)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_rotation_lines_go_to_the_new_file() {
        let name = std::env::temp_dir().join(format!("oa-log-{}", std::process::id()));
        let name = name.to_str().unwrap().to_string();
        let settings = |file: &str| Logging {
            file: file.into(),
            level: LevelFilter::Info,
            format: crate::config::LogFormat::Text,
        };
        let log = Log(Arc::default());
        let mut target = Target(log.clone());
        target.write_all(b"nowhere\n").unwrap();
        log.set(&settings(&name)).unwrap();
        target.write_all(b"one\n").unwrap();
        std::fs::rename(&name, format!("{name}.1")).unwrap();
        target.write_all(b"two\n").unwrap();
        log.set(&settings(&name)).unwrap();
        target.write_all(b"three\n").unwrap();
        assert!(log.set(&settings("/no/dir/log")).is_err());
        target.write_all(b"four\n").unwrap();
        assert_eq!(
            std::fs::read_to_string(format!("{name}.1")).unwrap(),
            "one\ntwo\n"
        );
        assert_eq!(std::fs::read_to_string(&name).unwrap(), "three\nfour\n");
        for n in [name.clone(), format!("{name}.1")] {
            std::fs::remove_file(n).unwrap();
        }
        let e = start(&settings("/no/dir/log"));
        assert!(
            e.err()
                .unwrap()
                .to_string()
                .starts_with("Unable to open log file")
        );
    }
}

//! A private server without data that makes a copy by CLONE. The target's own server refuses to CLONE into a directory inside its
//! data directory (error 3632; links are followed), which is where copies are staged; this one's is elsewhere.

use super::facts::Facts;
use super::leftover;
use super::proof::{arguments, shut_down, with_log, works_in};
use super::service::Surroundings;
use super::staging::{Staged, make_dir};
use super::tidy;
use crate::config::Secret;
use crate::error::{Error, Result};
use crate::mysql::{Endpoint, connect};
use crate::process::{Cancel, Running};
use crossbeam_channel::select;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// For each of its first answers.
const GREETING: Duration = Duration::from_secs(10);

/// The server; killed when [`Helper::stop`] was not called, at the latest by the next agent.
pub struct Helper {
    server: Running,
    endpoint: Endpoint,
    dir: PathBuf,
    /// Keeps the path of the socket short.
    _work: File,
}

impl Helper {
    /// Makes an empty server in the staging directory, with `libraries` of plugins, and starts it: without network of its own and
    /// without a binary log. The copy may go to [`Staged::new_dir`], which is removed here. May be repeated.
    ///
    /// # Errors
    /// With the end of the server's error log; cancelled.
    pub fn start(
        facts: &Facts,
        staged: &Staged,
        libraries: &[String],
        outside: &dyn Surroundings,
    ) -> Result<Self> {
        let dir = staged.dir.join("helper");
        let (data, work) = (dir.join("data"), dir.join("work"));
        leftover::end(&facts.staging)?;
        tidy::remove_tree(&dir)?;
        for place in [&dir, &work, &work.join("tmp")] {
            make_dir(place, facts)?;
        }
        let begin = |more: &[String]| {
            let mut command = outside.program(facts);
            command
                .args(arguments(facts, &data, &work))
                .args(more)
                .current_dir(&work)
                .stdin(Stdio::null())
                .stdout(Stdio::null());
            let server = Running::start(&mut command, "the private server")?;
            outside.adopt(&server)?;
            Ok::<Running, Error>(server)
        };
        outside.report("Making a private server that clones");
        let made = begin(&["--initialize-insecure".into()])?;
        select! {
            recv(made.exited()) -> _ => made.finish()?.check().map_err(|e| failed(&work, &e))?,
            recv(outside.cancel().signal()) -> _ => {
                made.end()?;
                return Err(Error::cancelled());
            }
        }
        tidy::remove_tree(&staged.new_dir())?;
        let load: Vec<String> = libraries
            .iter()
            .map(|l| format!("--plugin-load-add={l}"))
            .collect();
        let server = begin(&load)?;
        match reach(&data, &work, &server, outside.cancel()) {
            Ok((endpoint, place)) => Ok(Self {
                server,
                endpoint,
                dir,
                _work: place,
            }),
            Err(e) => {
                server.end()?;
                Err(e)
            }
        }
    }

    /// Its account that may do all.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Ends it in good order, at once when cancelled, and removes its directory.
    ///
    /// # Errors
    /// If it does not end; what cannot be removed.
    pub fn stop(self, cancel: &Cancel) -> Result<()> {
        match shut_down(self.server, cancel) {
            Err(e) if !e.is_cancelled() => return Err(e),
            _ => {} // how it ends is of no interest
        }
        tidy::remove_tree(&self.dir)
    }
}

fn failed(work: &Path, e: &Error) -> Error {
    with_log(work, "a private server for the CLONE does not start", e)
}

/// Waits until it answers.
fn reach(data: &Path, work: &Path, server: &Running, cancel: &Cancel) -> Result<(Endpoint, File)> {
    let place = File::open(work).map_err(|e| Error::io(work.display(), &e))?;
    let endpoint = Endpoint {
        host: String::new(),
        port: 0,
        socket: format!("/proc/self/fd/{}/sock", place.as_raw_fd()),
        user: "root".into(),
        password: Secret::new(""),
    };
    loop {
        if let Ok(mut conn) = connect(&endpoint, GREETING) {
            works_in(&mut conn, data)?;
            return Ok((endpoint, place));
        }
        select! {
            recv(server.exited()) -> _ => {
                return Err(failed(work, &Error::permanent("it ended before it answered")));
            }
            recv(cancel.signal()) -> _ => return Err(Error::cancelled()),
            default(Duration::from_millis(100)) => {}
        }
    }
}

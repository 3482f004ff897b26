//! Watches the whole machine while something runs: command lines and environments of all processes, and the files below some
//! directories.

use std::collections::BTreeSet;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

#[derive(Default, Debug)]
pub struct Seen {
    /// Where a secret was: `process NAME: argument`, `process NAME: environment`.
    pub leaks: BTreeSet<String>,
    /// Command lines of tools, blanks between the arguments.
    pub tools: BTreeSet<String>,
    /// Option files that held the password, each with the modes of file and directory.
    pub option_files: BTreeSet<(PathBuf, u32, u32)>,
    /// The dump, a file or a directory, with its mode.
    pub dumps: BTreeSet<(PathBuf, u32)>,
    /// Other files that a stranger can read, or that hold a secret.
    pub bad_files: BTreeSet<String>,
}

pub struct Witness {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    thread: JoinHandle<Seen>,
}

impl Witness {
    /// `dirs`: those of the agents.
    pub fn start(secrets: Vec<String>, dirs: Vec<PathBuf>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let rounds = Arc::new(AtomicU64::new(0));
        let (told, count) = (Arc::clone(&stop), Arc::clone(&rounds));
        let thread = std::thread::spawn(move || {
            let mut seen = Seen::default();
            while !told.load(Ordering::Relaxed) {
                processes(&secrets, &mut seen);
                for dir in &dirs {
                    files(dir, &secrets, &mut seen);
                }
                count.fetch_add(1, Ordering::Relaxed);
            }
            seen
        });
        Self {
            stop,
            rounds,
            thread,
        }
    }

    /// How many times it has looked.
    pub fn rounds(&self) -> u64 {
        self.rounds.load(Ordering::Relaxed)
    }

    pub fn stop(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        let rounds = self.rounds();
        let seen = self.thread.join().expect("the witness lives");
        println!(
            "the witness looked {rounds} times, saw {} command lines of tools, {} option files",
            seen.tools.len(),
            seen.option_files.len()
        );
        assert!(rounds > 20, "too few looks: {rounds}");
        seen
    }
}

fn processes(secrets: &[String], seen: &mut Seen) {
    let me = std::process::id();
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|n| n.parse::<u32>().ok())
        else {
            continue;
        };
        if pid == me {
            continue;
        }
        let line = text(&entry.path().join("cmdline")).replace('\0', " ");
        let environment = text(&entry.path().join("environ"));
        if line.contains("--defaults-extra-file=") || line.contains("--defaults-file=") {
            seen.tools.insert(line.clone());
        }
        for secret in secrets {
            for (what, all) in [("argument", &line), ("environment", &environment)] {
                if all.contains(secret.as_str()) {
                    let name = line.split(' ').next().unwrap_or_default();
                    seen.leaks.insert(format!("process {name}: {what}"));
                }
            }
        }
    }
}

fn text(path: &Path) -> String {
    std::fs::read(path)
        .map(|b| String::from_utf8_lossy(&b).into_owned())
        .unwrap_or_default() // it may have ended meanwhile
}

fn mode(path: &Path) -> Option<u32> {
    std::fs::metadata(path)
        .ok()
        .map(|m| m.permissions().mode() & 0o777)
}

/// `agent.conf` is the test's own, `token` the hint with the token in it, `stdout` the log.
fn files(dir: &Path, secrets: &[String], seen: &mut Seen) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() {
            if name == "orchestrator_agent_backup" {
                seen.dumps
                    .extend(mode(&path).map(|bits| (path.clone(), bits)));
            }
            files(&path, secrets, seen);
            continue;
        }
        let Some(bits) = mode(&path) else { continue };
        if name == "agent.conf" || !path.is_file() {
            continue;
        }
        let mut content = Vec::new();
        let opened = std::fs::File::open(&path).map(|f| f.take(4 << 20).read_to_end(&mut content));
        let content = String::from_utf8_lossy(&content);
        if opened.is_err() {
            continue; // gone meanwhile
        }
        let secret = secrets.iter().any(|s| content.contains(s.as_str()));
        if path.extension().is_some_and(|e| e == "cnf") {
            let above = path.parent().and_then(mode).unwrap_or(0o777);
            seen.option_files.insert((path, bits, above));
        } else if name == "orchestrator_agent_backup.sql" {
            seen.dumps.insert((path.clone(), bits));
            if secret {
                seen.bad_files
                    .insert(format!("{} holds a secret", path.display()));
            }
        } else if name == "token" || name == "token.new" {
            if bits != 0o600 {
                seen.bad_files
                    .insert(format!("{} has mode {bits:o}", path.display()));
            }
        } else if secret {
            seen.bad_files
                .insert(format!("{} holds a secret", path.display()));
        }
    }
}

//! What all integration tests share: real servers, real agents, an orchestrator's registration endpoint, and a player
//! that drives a seed over HTTP as orchestrator does.
#![allow(dead_code, missing_docs, unused_imports)]

pub mod agent;
pub mod built;
pub mod certificates;
pub mod classic;
pub mod fake;
pub mod forwarder;
pub mod keyring;
pub mod lone;
pub mod mariadb;
pub mod mysqld;
pub mod orchestrator;
pub mod pair;
pub mod player;
pub mod registry;
pub mod schema;
pub mod server;
pub mod sudo;
pub mod tmpfs;
pub mod wire;
pub mod witness;
pub mod writer;

use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The project's own directory.
pub fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The binary under test.
pub fn binary() -> &'static str {
    env!("CARGO_BIN_EXE_orchestrator-agent")
}

/// Whether a matrix of faults makes a clean seed after row `n` of `rows`: after the last one, and after each with EVERY_ROW=1, as
/// `make test-all` sets it.
pub fn clean_seed_now(n: usize, rows: usize) -> bool {
    n + 1 == rows || std::env::var_os("EVERY_ROW").is_some()
}

/// Where MariaDB's servers and tools are, fetched at the first call.
pub fn rig() -> PathBuf {
    static FETCH: Once = Once::new();
    fetched("mariadb", &FETCH)
}

/// The same with MySQL 5.6's.
pub fn rig_mysql56() -> PathBuf {
    static FETCH: Once = Once::new();
    fetched("mysql56", &FETCH)
}

/// The same with MySQL's.
pub fn rig_mysql() -> PathBuf {
    static FETCH: Once = Once::new();
    fetched("mysql", &FETCH)
}

/// The same with a sudo.
pub fn rig_sudo() -> PathBuf {
    static FETCH: Once = Once::new();
    fetched("sudo", &FETCH)
}

fn fetched(kind: &str, fetch: &Once) -> PathBuf {
    let dir = std::env::var_os("RIG").map_or_else(|| project().join("target/rig"), PathBuf::from);
    fetch.call_once(|| {
        let status = std::process::Command::new(project().join("tests/rig/fetch.sh"))
            .arg(kind)
            .env("RIG", &dir)
            .status()
            .expect("tests/rig/fetch.sh runs");
        assert!(
            status.success(),
            "tests/rig/fetch.sh {kind} failed: see above"
        );
    });
    dir
}

/// PATH on which the tools of MariaDB's rig come first.
pub fn tool_path() -> String {
    path_with(&rig().join("mdb/bin"))
}

/// PATH on which `first` comes first.
pub fn path_with(first: &Path) -> String {
    format!(
        "{}:{}",
        first.display(),
        std::env::var("PATH").unwrap_or_default()
    )
}

/// A fresh directory below target/, short enough for unix sockets, removed when dropped (kept after a failure).
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = project().join(format!("target/t/{name}-{}-{n}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir); // of an earlier process with the same number, which failed
        std::fs::create_dir_all(&dir).expect("scratch directory");
        Self(dir)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

/// A TCP port that is free on `address` now, below those that the kernel gives to clients, so that none takes it meanwhile;
/// never the same one twice in a process.
pub fn free_port(address: &str) -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let begin = std::process::id().wrapping_mul(61);
    let ports = std::iter::repeat_with(|| {
        begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000 + 20_000
    });
    let mut ports = ports
        .take(12_000)
        .map(|p| u16::try_from(p).expect("below 32000"));
    ports
        .find(|p| std::net::TcpListener::bind((address, *p)).is_ok())
        .expect("a free port")
}

/// Waits until `probe` gives something; panics with `what` after `limit`.
pub fn wait_for<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(begin.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Each answer within a second.
pub fn assert_prompt(took: Vec<Duration>) {
    let longest = took.into_iter().max();
    assert!(longest < Some(Duration::from_secs(1)), "{longest:?}");
}

/// Waits until `dir` has no entry whose name is `ours`: the deletion goes on in the background.
pub fn nothing_left(dir: &Path, ours: impl Fn(&str) -> bool) {
    wait_for("nothing is left", Duration::from_secs(60), || {
        let entries = std::fs::read_dir(dir).expect("directory").flatten();
        let mut names = entries.map(|e| e.file_name().to_string_lossy().into_owned());
        (!names.any(|n| ours(&n))).then_some(())
    });
}

/// Processes whose command line contains `needle`.
pub fn processes_with(needle: &str) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|n| n.parse::<u32>().ok())
        else {
            continue;
        };
        let bytes = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&bytes).replace('\0', " ");
        if line.contains(needle) && pid != std::process::id() {
            found.push((pid, line));
        }
    }
    found
}

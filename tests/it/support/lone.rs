//! An agent with a configuration made line by line and, unless a test says otherwise, no MySQL beside it: for what must work
//! without one, and for what must keep the agent from starting.
#![allow(dead_code)]

use super::wire::{self, Answer};
use super::{Scratch, binary, free_port, tool_path, wait_for};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

pub struct Lone {
    pub dir: PathBuf,
    pub port: u16,
    /// The program; the one under test if a test does not say otherwise.
    pub program: PathBuf,
    pub path: String,
    lines: Vec<(String, String)>,
    child: Option<Child>,
    _scratch: Scratch,
}

impl Lone {
    /// Not started. MySQL and the orchestrator are on a closed port.
    pub fn new() -> Self {
        let scratch = Scratch::new("lone");
        let dir = scratch.0.clone();
        std::fs::create_dir_all(dir.join("backup")).expect("backup-dir");
        let port = free_port("127.0.0.1");
        let mut lone = Self {
            port,
            program: binary().into(),
            path: tool_path(),
            lines: Vec::new(),
            child: None,
            dir,
            _scratch: scratch,
        };
        let (backup, state, hint) = (
            lone.quoted("backup"),
            lone.quoted("state"),
            lone.quoted("token"),
        );
        lone.with("common", format!("port = {port}"))
            .with("common", "listen-address = \"127.0.0.1\"")
            .with("common", "hostname = \"db7.test\"")
            .with("common", format!("backup-dir = {backup}"))
            .with("common", format!("state-dir = {state}"))
            .with("common", format!("token-hint-file = {hint}"))
            .with("common", "http-timeout = \"2s\"")
            .with("orchestrator", "url = \"http://127.0.0.1\"")
            .with("orchestrator", "agents-port = 1")
            .with("logging", "file = \"\"")
            .with("logging", "level = \"debug\"")
            .with("mysql", "port = 1")
            .with("mysql", "user = \"agent\"")
            .with("mysql", "password = \"lone-s3cret-pw\"")
            .with("mysql", "service-status-command = \"false\"")
            .with("mysql", "service-start-command = \"true\"")
            .with("mysql", "service-stop-command = \"true\"");
        lone
    }

    fn quoted(&self, name: &str) -> String {
        format!("{:?}", self.dir.join(name))
    }

    /// Sets a key, in place of the one that is there.
    pub fn with(&mut self, section: &str, line: impl Into<String>) -> &mut Self {
        let line = line.into();
        self.without(section, key(&line));
        self.lines.push((section.to_string(), line));
        self
    }

    pub fn without(&mut self, section: &str, name: &str) -> &mut Self {
        self.lines.retain(|(s, l)| s != section || key(l) != name);
        self
    }

    pub fn file(&self) -> PathBuf {
        self.dir.join("agent.conf")
    }

    pub fn write(&self) {
        let mut sections: Vec<&str> = self.lines.iter().map(|(s, _)| s.as_str()).collect();
        sections.sort_unstable();
        sections.dedup();
        let mut text = String::new();
        for section in sections {
            writeln!(text, "[{section}]").expect("string");
            for (_, line) in self.lines.iter().filter(|(s, _)| s == section) {
                writeln!(text, "{line}").expect("string");
            }
        }
        std::fs::write(self.file(), text).expect("configuration");
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg("--config")
            .arg(self.file())
            .env("PATH", &self.path)
            .stdin(Stdio::null());
        command
    }

    /// Starts it; it need not answer yet.
    pub fn launch(&mut self) {
        self.write();
        let out = std::fs::File::create(self.dir.join("stdout")).expect("log");
        let mut command = self.command();
        command.stdout(out.try_clone().expect("log")).stderr(out);
        self.child = Some(command.spawn().expect("the agent starts"));
    }

    /// Starts it and waits until it answers.
    pub fn start(mut self) -> Self {
        self.launch();
        self.wait_ready();
        self
    }

    /// Looks at the log: a connect to a port on which nobody listens yet may meet itself.
    pub fn wait_ready(&mut self) {
        wait_for("the agent listens", Duration::from_secs(20), || {
            if let Some(end) = self.alive() {
                panic!("the agent ended with {end}: {}", self.log());
            }
            self.log().contains("listening on").then_some(())
        });
    }

    /// Runs it to its end, which must come by itself: exit code, standard output, standard error.
    pub fn refused(&self) -> (Option<i32>, String, String) {
        self.write();
        end_of(self.command())
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("running").id()
    }

    pub fn alive(&mut self) -> Option<ExitStatus> {
        self.child
            .as_mut()
            .expect("started")
            .try_wait()
            .expect("wait")
    }

    pub fn token(&self) -> String {
        std::fs::read_to_string(self.dir.join("token")).expect("token-hint-file")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("stdout")).unwrap_or_default()
    }

    pub fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)]) -> Answer {
        wire::ask("127.0.0.1", self.port, method, target, headers)
    }

    /// GET without a token.
    pub fn get(&self, target: &str) -> Answer {
        self.ask("GET", target, &[])
    }

    /// GET with the token.
    pub fn call(&self, target: &str) -> Answer {
        let joint = if target.contains('?') { '&' } else { '?' };
        self.get(&format!("{target}{joint}token={}", self.token()))
    }

    /// GET with the token that must answer 200 with JSON.
    pub fn json(&self, target: &str) -> serde_json::Value {
        let answer = self.call(target);
        assert_eq!(
            (answer.status, answer.header("Content-Type")),
            (200, wire::JSON),
            "{target}: {}",
            answer.body
        );
        serde_json::from_str(&answer.body)
            .unwrap_or_else(|e| panic!("{target}: {e}: {}", answer.body))
    }
}

impl Drop for Lone {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of the lone agent ---\n{}", self.log());
        }
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn key(line: &str) -> &str {
    line.split('=').next().unwrap_or_default().trim()
}

/// Runs a command that must end by itself within 10 s: exit code, standard output, standard error.
pub fn end_of(mut command: Command) -> (Option<i32>, String, String) {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let begin = std::time::Instant::now();
    while child.try_wait().expect("wait").is_none() {
        if begin.elapsed() > Duration::from_secs(10) {
            let _ = child.kill();
            let out = child.wait_with_output().expect("output");
            panic!(
                "{command:?} goes on: {}",
                String::from_utf8_lossy(&out.stdout)
            );
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let out = child.wait_with_output().expect("output");
    let text = |b: Vec<u8>| String::from_utf8_lossy(&b).into_owned();
    (out.status.code(), text(out.stdout), text(out.stderr))
}

/// Numbers of entries in /proc/PID/fd and /proc/PID/task.
pub fn descriptors_and_threads(pid: u32) -> (usize, usize) {
    let count = |what: &str| {
        std::fs::read_dir(Path::new("/proc").join(pid.to_string()).join(what))
            .expect("alive")
            .count()
    };
    (count("fd"), count("task"))
}

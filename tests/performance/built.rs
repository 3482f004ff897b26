//! The optimized program, made if need be: static where the musl target is installed, else the host's.

use super::support::project;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

pub const MUSL: &str = "x86_64-unknown-linux-musl";

#[derive(Clone)]
pub struct Program {
    pub path: PathBuf,
    #[allow(dead_code)] // not all tests ask
    pub is_static: bool,
}

/// cargo finds out itself whether anything is to be done.
pub fn program() -> Program {
    static PROGRAM: OnceLock<Program> = OnceLock::new();
    PROGRAM.get_or_init(build).clone()
}

fn build() -> Program {
    let libdir = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", MUSL])
        .output()
        .expect("rustc");
    let is_static = libdir.status.success()
        && PathBuf::from(String::from_utf8_lossy(&libdir.stdout).trim()).is_dir();
    let goal = if is_static { "static" } else { "build" };
    eprintln!("make {goal}: the first time this takes some minutes");
    let mut make = Command::new("make");
    make.arg(goal).current_dir(project());
    // What `cargo test` has set for this process would make crates build anew that look at it.
    for (name, _) in std::env::vars().filter(|(n, _)| n.starts_with("CARGO_")) {
        if name != "CARGO_HOME" {
            make.env_remove(name);
        }
    }
    let made = make.output().expect("make");
    assert!(
        made.status.success(),
        "make {goal}: {}",
        String::from_utf8_lossy(&made.stderr)
    );
    let below = if is_static {
        format!("{MUSL}/release")
    } else {
        "release".into()
    };
    Program {
        path: project()
            .join("target")
            .join(below)
            .join("orchestrator-agent"),
        is_static,
    }
}

//! The optimized static program, made if need be; the musl target is added by rustup.

use super::project;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

const MUSL: &str = "x86_64-unknown-linux-musl";

/// cargo finds out itself whether anything is to be done.
pub fn program() -> PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(build).clone()
}

fn build() -> PathBuf {
    eprintln!("make static: the first time this takes some minutes");
    let mut make = Command::new("make");
    make.arg("static").current_dir(project());
    // What `cargo test` has set for this process would make crates build anew that look at it.
    for (name, _) in std::env::vars().filter(|(n, _)| n.starts_with("CARGO_")) {
        if name != "CARGO_HOME" {
            make.env_remove(name);
        }
    }
    let made = make.output().expect("make");
    assert!(
        made.status.success(),
        "make static: {}",
        String::from_utf8_lossy(&made.stderr)
    );
    project()
        .join("target")
        .join(MUSL)
        .join("release/orchestrator-agent")
}

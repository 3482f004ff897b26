//! Picks the command; everything else is in the library.
fn main() -> std::process::ExitCode {
    orchestrator_agent::commands::main()
}

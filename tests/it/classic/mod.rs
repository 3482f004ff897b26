//! What an orchestrator of the classic protocol sees of the agent.

mod answers;
mod information;
mod loads;
mod never_seen;

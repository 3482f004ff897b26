//! What an orchestrator of the classic protocol, 3.2.6 or one of its forks, sees of the agent, and seeds under it.

mod answers;
mod ends;
mod information;
mod loads;
mod never_seen;
mod pages;
mod seeds;
mod steps;

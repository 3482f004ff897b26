//! The data directory of a target with real servers of both families: what is staged harms no server, the trial start, the swap, its
//! way back from every step, and what is refused. A copy of a stopped server's data directory stands in for one that
//! was received and prepared.

mod complete;
mod daemon;
mod killed;
mod owner;
mod places;
mod refused;
mod rig;
mod started;

mod wiped;

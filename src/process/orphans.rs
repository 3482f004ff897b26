//! Tools that an agent left behind when it was killed.

use super::signal_group;
use crate::sys::proc::ProcessId;
use crate::sys::process::Signal;
use std::time::{Duration, Instant};

/// Ends the process group of such a tool: TERM, after two seconds KILL.
pub(crate) fn end_orphans(tool: &ProcessId) {
    let Ok(pgid) = i32::try_from(tool.pid) else {
        return;
    };
    let begin = Instant::now();
    let mut signal = Signal::Term;
    while !tool.group_alive().is_empty() {
        log::warn!("ending process group {pgid}, which an agent that was killed had started");
        if let Err(e) = signal_group(pgid, signal) {
            log::error!("cannot end process group {pgid}: {e}");
            return;
        }
        if begin.elapsed() > Duration::from_secs(2) {
            signal = Signal::Kill;
        }
        if begin.elapsed() > Duration::from_secs(6) {
            log::error!("process group {pgid} does not end");
            return;
        }
        std::thread::sleep(Duration::from_millis(if signal == Signal::Kill {
            50
        } else {
            250
        }));
    }
}

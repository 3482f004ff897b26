//! The report for a terminal.

use super::report::Report;
use crate::sys::host::human_bytes;

/// A few lines, each with a word in front.
pub fn table(r: &Report) -> String {
    let mut out = String::new();
    let mut line = |name: &str, text: String| {
        let plain: String = text
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        out += &format!("{name:<11} {}\n", plain.trim());
    };
    let a = &r.agent;
    let contact = match a.orchestrator.as_deref() {
        Some("OK") => ", registered with orchestrator",
        Some("BAD") => ", not registered with orchestrator or without contact to it",
        _ => "",
    };
    line(
        "Agent",
        if a.answers {
            format!("{} answers at {}{contact}", a.hostname, a.address)
        } else {
            format!("does not answer at {}", a.address)
        },
    );
    for (url, contact) in &a.orchestrators {
        let state = if contact.registered {
            "registered"
        } else {
            "not registered"
        };
        if !contact.registered || !contact.error.is_empty() {
            line("", format!("{url}: {state}: {}", contact.error));
        }
    }
    let m = &r.mysql;
    let running = match m.running {
        Some(true) => ", running",
        Some(false) => ", not running by service-status-command",
        None => "",
    };
    line(
        "MySQL",
        if m.answers {
            format!("{} answers at {}{running}", m.version, m.address)
        } else {
            format!("does not answer{running}: {}", m.error)
        },
    );
    for d in &r.disks {
        let (free, total) = (human_bytes(d.free), human_bytes(d.total));
        line(d.what, format!("{}: {free} of {total} free", d.path));
    }
    match &r.seed {
        None => line("Seed", "none known".into()),
        Some(s) => {
            let (id, method, side) = (s.seed_id, &s.method, &s.side);
            line(
                "Seed",
                format!(
                    "{id}, {method}, {side}: {} {} since {}",
                    s.stage, s.status, s.timestamp
                ),
            );
            if !s.details.is_empty() {
                line("", s.details.clone());
            }
            if let Some(p) = s.progress {
                let done = human_bytes(p.bytes);
                line(
                    "Progress",
                    if p.total > 0 {
                        format!("{done} of about {}", human_bytes(p.total))
                    } else {
                        done
                    },
                );
            }
            if let Some(state) = &s.incomplete {
                line(
                    "",
                    format!("{state}: do not use them until a new seed is complete"),
                );
            }
        }
    }
    if let Some(s) = &r.unfinished_swap {
        line(
            "Swap",
            format!("seed {}, unfinished: {}", s.seed_id, s.reason),
        );
    }
    for o in &r.old_data {
        let bytes = human_bytes(o.bytes);
        line("Old data", format!("{bytes} in {}", o.path));
    }
    for note in &r.notes {
        line("Note", note.clone());
    }
    out
}

//! The calls of a classic seed. What they do is in [`crate::classic`].

use super::call::Call;
use super::monitor::HostMonitor;
use super::reply::slow;
use super::{Api, reply};
use crate::classic::{Classic, PREFIX, path_of};
use crate::error::{Error, Result};
use crate::http::Response;
use crate::protocol::wire::{LogicalVolume, Mount};
use crate::seed::Method;
use crate::seed::types::ENGINES;
use crate::sys::Inserted;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The methods that can send a copy of this host now. Those that would not copy all of its engines are not among them.
fn snapshots(classic: &Classic, monitor: &HostMonitor) -> Vec<Method> {
    let host = monitor.now();
    if !host.mysql.answers {
        return Vec::new(); // nothing can be sent while MySQL is down
    }
    let schemas = host.mysql.schemas.values();
    let engines: BTreeSet<&String> = schemas.flat_map(|s| &s.engines).inserted();
    let major = host.mysql.server.map_or(8, |s| s.version.0);
    classic.snapshots(|method| {
        let copied = method.supported_engines(major);
        // Engines without a name on the wire: CLONE copies InnoDB only.
        let unknown = |e: &str| !ENGINES.contains(&e) && method != Method::ClonePlugin;
        let copies = |e: &&String| copied.contains(&e.as_str()) || unknown(e);
        matches!(host.methods.get(&method), Some(Ok(()))) && engines.iter().all(copies)
    })
}

fn mount_state(classic: &Classic, monitor: &HostMonitor) -> Result<Mount> {
    let Some(method) = classic.mounted() else {
        return Ok(Mount {
            path: classic.mount_point().into(),
            mysql_data_path: Some(String::new()),
            mysql_disk_usage: Some(0),
            ..Mount::default()
        });
    };
    let (path, size) = (path_of(method), monitor.datadir_used()?);
    Ok(Mount {
        path: path.clone(),
        device: path.clone(),
        lv_path: path,
        file_system: "virtual".into(),
        is_mounted: true,
        disk_usage: size,
        mysql_data_path: Some(monitor.mysql().datadir),
        mysql_disk_usage: Some(size),
    })
}

impl Api {
    /// The virtual snapshots of this host, the preferred one first: orchestrator mounts the first.
    pub(super) fn lvs_snapshots(&self) -> Response {
        let volume = |method: Method| LogicalVolume {
            name: format!("{method}-of-the-running-server"),
            group_name: "orchestrator-agent".into(),
            path: path_of(method),
            is_snapshot: true,
            snapshot_percent: 0.0,
        };
        let all = snapshots(&self.classic, &self.monitor).into_iter();
        let all: Vec<_> = all.map(volume).collect();
        reply::json(&all)
    }

    pub(super) fn mount(&self) -> Result<Response> {
        mount_state(&self.classic, &self.monitor).map(|m| reply::json(&m))
    }

    pub(super) fn mount_snapshot(&self, call: &Call) -> Result<Response> {
        let lv = call.parameter("lv");
        if lv.is_empty() {
            // The words of the Go agent, by which its users know it.
            return Err(Error::permanent("Empty columeName in MountLV"));
        }
        let (classic, monitor) = (Arc::clone(&self.classic), self.monitor.clone());
        slow(call, move || {
            let named = lv.strip_prefix(PREFIX).and_then(Method::parse);
            if let Some(Err(why)) = named.and_then(|m| monitor.method(m)) {
                return Err(Error::permanent(format!("{lv} cannot be used: {why}")));
            }
            monitor.refresh_size(); // orchestrator compares it with the space of the target
            classic.mount(&lv, &snapshots(&classic, &monitor))?;
            mount_state(&classic, &monitor)
        })
    }

    pub(super) fn unmount_snapshot(&self, call: &Call) -> Result<Response> {
        let (classic, monitor) = (Arc::clone(&self.classic), self.monitor.clone());
        slow(call, move || {
            classic.unmount()?;
            mount_state(&classic, &monitor)
        })
    }

    pub(super) fn delete_datadir(&self, call: &Call) -> Result<Response> {
        let (classic, monitor) = (Arc::clone(&self.classic), self.monitor.clone());
        slow(call, move || {
            classic.check_target(monitor.mysql().replicas)?;
            Ok(true)
        })
    }

    pub(super) fn receive_seed(&self, id: &str) -> Result<Response> {
        self.classic.receive(id)?;
        Ok(reply::json(&true))
    }

    pub(super) fn send_seed(&self, target: &str, id: &str) -> Result<Response> {
        let size = self.monitor.datadir_used().unwrap_or(0);
        self.classic.send(target, id, size)?;
        Ok(reply::json(&true))
    }

    pub(super) fn seed_completed(&self, id: &str) -> Response {
        reply::json(&self.classic.completed(id))
    }

    pub(super) fn seed_succeeded(&self, call: &Call) -> Response {
        reply::json(&self.classic.succeeded(call.at(0), call.signals()))
    }

    pub(super) fn abort_seed(&self, id: &str) -> Result<Response> {
        self.classic.abort(id)?;
        Ok(reply::json(&true))
    }

    pub(super) fn post_copy(&self, call: &Call) -> Result<Response> {
        let classic = Arc::clone(&self.classic);
        slow(call, move || classic.post_copy().map(|()| true))
    }
}

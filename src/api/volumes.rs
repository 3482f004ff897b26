//! The logical volumes of this host, by `lvs`, and the hosts that can be the source of a seed by a snapshot.

use super::probed::{Probed, Wait};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::process::{Cancel, Launcher, Output, run_operator_command, run_to_end};
use crate::protocol::orchestrator::Client;
use crate::protocol::wire::LogicalVolume;
use crate::sys::thread::lock;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// As the Go agent calls it: columns divided by blanks, which none of their values has.
const COLUMNS: [&str; 3] = ["--noheadings", "-o", "lv_name,vg_name,lv_path,snap_percent"];
/// How old a list may be.
const MAX_AGE_OF_VOLUMES: Duration = Duration::from_secs(5);
const MAX_AGE_OF_HOSTS: Duration = Duration::from_secs(30);
/// How long `lvs` may take.
const LIMIT: Duration = Duration::from_secs(30);
/// An old list is better than none: these change seldom.
const OLD: Duration = Duration::from_millis(50);
/// How long an answer waits for the list of volumes or of a command.
const WAIT: Wait = Wait {
    if_old: OLD,
    ..Wait::up_to(LIMIT)
};
/// The same for orchestrator, without which the list is empty.
const ORCHESTRATOR: Wait = Wait {
    if_old: OLD,
    ..Wait::up_to(Duration::from_secs(5))
};

/// Which hosts have snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SnapshotHosts {
    /// In this data centre.
    Local,
    All,
}

/// A list, or why there is none.
type List<T> = std::result::Result<Vec<T>, String>;

/// Lists that are found when a call needs them.
pub(crate) struct Volumes {
    volumes: Arc<Probed<List<LogicalVolume>>>,
    local: Arc<Probed<List<String>>>,
    all: Arc<Probed<List<String>>>,
    /// By orchestrator, for both lists without a command.
    registered: Arc<Probed<Vec<String>>>,
    /// One for each orchestrator.
    clients: Arc<Mutex<Vec<Client>>>,
    config: Arc<Config>,
}

impl Volumes {
    /// `hostname`: the name under which this agent registers. `stopping` ends commands.
    pub(crate) fn new(config: &Arc<Config>, hostname: &str, stopping: &Cancel) -> Result<Self> {
        let of_command = |thread, command: fn(&Config) -> &str| {
            let (config, stopping) = (Arc::clone(config), stopping.clone());
            Probed::new(thread, move |_| {
                lines_of(&config, command(&config), &stopping).map_err(|e| e.to_string())
            })
        };
        let (urls, port) = (&config.orchestrator.urls, config.orchestrator.agents_port);
        let clients = urls.iter();
        let clients = clients.map(|url| Client::configured(url, port, &config.common));
        let clients: Result<Vec<Client>> = clients.collect();
        let clients = Arc::new(Mutex::new(clients?));
        let (called, own) = (Arc::clone(&clients), hostname.to_string());
        let (of_lvs, stopping) = (Arc::clone(config), stopping.clone());
        Ok(Self {
            volumes: Probed::new("probe-lvs", move |_| {
                volumes(&of_lvs, &stopping).map_err(|e| e.to_string())
            }),
            local: of_command("probe-local", |c| {
                &c.lvm.available_local_snapshot_hosts_command
            }),
            all: of_command("probe-hosts", |c| &c.lvm.available_snapshot_hosts_command),
            registered: Probed::new("probe-agents", move |_| {
                let clients = lock(&called).clone();
                registered(&clients, &own)
            }),
            clients,
            config: Arc::clone(config),
        })
    }

    /// From now on with these clients, one for each orchestrator as at the start; `None` keeps the one in use.
    pub(crate) fn change(&self, clients: &[Option<Client>]) {
        for (current, client) in lock(&self.clients).iter_mut().zip(clients) {
            *current = client.clone().unwrap_or_else(|| current.clone());
        }
    }

    /// Empty where there is no LVM.
    pub(super) fn volumes(&self) -> Result<Vec<LogicalVolume>> {
        listed(&self.volumes, MAX_AGE_OF_VOLUMES, "lvs")
    }

    /// By the operator's command. Without one those whose agents have registered with orchestrator, but for this host; empty if it
    /// does not answer.
    pub(super) fn snapshot_hosts(&self, of: SnapshotHosts) -> Result<Vec<String>> {
        let lvm = &self.config.lvm;
        let (command, list, name) = match of {
            SnapshotHosts::Local => (
                &lvm.available_local_snapshot_hosts_command,
                &self.local,
                "lvm.available-local-snapshot-hosts-command",
            ),
            SnapshotHosts::All => (
                &lvm.available_snapshot_hosts_command,
                &self.all,
                "lvm.available-snapshot-hosts-command",
            ),
        };
        if !command.is_empty() {
            return listed(list, MAX_AGE_OF_VOLUMES, name);
        }
        let begin = Instant::now();
        let hosts = (self.registered).soon(MAX_AGE_OF_HOSTS, begin, ORCHESTRATOR);
        Ok(hosts.unwrap_or_default())
    }
}

fn listed<T: Clone + Send + 'static>(
    list: &Arc<Probed<List<T>>>,
    age: Duration,
    name: &str,
) -> Result<Vec<T>> {
    let found = list.soon(age, Instant::now(), WAIT);
    let found = found.ok_or_else(|| {
        Error::transient(format!("{name} has not ended within {}s", LIMIT.as_secs()))
    })?;
    found.map_err(|e| Error::permanent(e).context(name))
}

/// The hosts that any of the orchestrators knows, sorted.
fn registered(clients: &[Client], own: &str) -> Vec<String> {
    let mut all = Vec::new();
    for client in clients {
        match client.hosts() {
            Ok(hosts) => all.extend(hosts),
            Err(e) => log::warn!("hosts for available-snapshots: {e}"),
        }
    }
    all.retain(|host| !host.is_empty() && !host.eq_ignore_ascii_case(own));
    all.sort();
    all.dedup();
    all
}

fn lines_of(config: &Config, command: &str, stopping: &Cancel) -> Result<Vec<String>> {
    let launcher = Launcher::new(&config.common);
    let limit = config.common.command_timeout;
    let out = run_operator_command(command, &launcher, limit, stopping);
    let text = out.and_then(Output::success)?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    Ok(lines.map(str::to_string).collect())
}

fn volumes(config: &Config, stopping: &Cancel) -> Result<Vec<LogicalVolume>> {
    let launcher = Launcher::new(&config.common);
    let Ok(program) = launcher.find(&["lvs"]) else {
        return Ok(Vec::new());
    };
    let mut command = launcher.command(&program);
    command.args(COLUMNS);
    let out = run_to_end(command, "lvs", LIMIT, stopping, |_| {});
    Ok(parse(&out.and_then(Output::success)?))
}

/// A volume without a path, such as a pool, has fewer columns, as has one that is not a snapshot.
fn parse(text: &str) -> Vec<LogicalVolume> {
    let volume = |line: &str| {
        let mut columns = line.split_whitespace();
        let (name, group_name) = (columns.next()?.to_string(), columns.next()?.to_string());
        let rest: Vec<&str> = columns.collect();
        let path = rest.iter().find(|c| c.starts_with('/'));
        let percent = rest.last().and_then(|c| c.parse::<f32>().ok());
        let percent = percent.filter(|p| p.is_finite());
        Some(LogicalVolume {
            name,
            group_name,
            path: path.map(|p| p.to_string()).unwrap_or_default(),
            is_snapshot: percent.is_some(),
            snapshot_percent: percent.unwrap_or_default(),
        })
    };
    text.lines().filter_map(volume).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_of_lvs() {
        let text = "  data vg0 /dev/vg0/data       \n  pool vg0\n\n  snap-1 vg0 /dev/vg0/snap-1 12.34\n odd\n";
        let found = parse(text);
        let names: Vec<_> = found.iter().map(|v| v.name.as_str()).collect();
        assert_eq!(names, ["data", "pool", "snap-1"]);
        assert!(!found[0].is_snapshot && found[1].path.is_empty() && found[2].is_snapshot);
        assert_eq!(
            (found[2].path.as_str(), found[2].snapshot_percent),
            ("/dev/vg0/snap-1", 12.34)
        );
        assert_eq!(parse(""), []);
    }

    #[test]
    fn the_hosts_of_a_command_are_its_lines() {
        let config = Config::default();
        let stopping = Cancel::default();
        let of = |line| lines_of(&config, line, &stopping);
        assert_eq!(of("printf 'a\\n\\n b \\n'").unwrap(), ["a", "b"]);
        assert!(of("true").unwrap().is_empty());
        assert!(
            of("echo no >&2; exit 3")
                .unwrap_err()
                .to_string()
                .contains("no")
        );
    }

    #[test]
    fn a_stop_of_the_agent_ends_the_command_of_a_list() {
        let mut config = Config::default();
        config.lvm.available_snapshot_hosts_command = "sleep 600".into();
        let (stopping, other) = (Cancel::default(), Cancel::default());
        let volumes = Volumes::new(&Arc::new(config), "db1", &stopping).unwrap();
        std::thread::scope(|scope| {
            let begin = Instant::now();
            let list = scope.spawn(|| volumes.snapshot_hosts(SnapshotHosts::All));
            assert!(other.sleep(Duration::from_millis(300)) && !list.is_finished());
            stopping.cancel("the agent is stopping");
            assert!(
                list.join()
                    .unwrap()
                    .unwrap_err()
                    .to_string()
                    .contains("cancelled")
            );
            assert!(begin.elapsed() < LIMIT);
        });
    }

    #[test]
    fn a_reload_changes_the_clients_for_the_hosts() {
        let server = tiny_http::Server::http("127.0.0.1:0").unwrap();
        let port = server.server_addr().to_ip().unwrap().port();
        std::thread::spawn(move || {
            for request in server.incoming_requests() {
                let list = tiny_http::Response::from_string("[\"db2\",\"DB1\"]");
                request.respond(list).unwrap();
            }
        });
        let mut config = Config::default();
        config.orchestrator.urls = vec!["http://127.0.0.1".into(); 2].into();
        config.orchestrator.agents_port = 1; // nothing listens there
        let hosts = |clients: &[Option<Client>]| {
            let config = Arc::new(config.clone());
            let volumes = Volumes::new(&config, "db1", &Cancel::default()).unwrap();
            volumes.change(clients);
            volumes.snapshot_hosts(SnapshotHosts::All).unwrap()
        };
        assert!(hosts(&[None, None]).is_empty());
        let client = Client::new("http://127.0.0.1", port, Duration::from_secs(5), None);
        assert_eq!(hosts(&[None, Some(client)]), ["db2"]);
    }
}

//! Processes by /proc: which are alive, in which group, with which TCP ports.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A process that cannot be mistaken for a later one with the same number: number, start time in clock ticks after
/// boot (field 22 of /proc/PID/stat) and the boot's own id.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct ProcessId {
    /// Process number; also the group's, for the leader of one.
    pub(crate) pid: u32,
    /// Clock ticks from boot to the start of the process.
    pub(crate) start: u64,
    pub(crate) boot: String,
}

impl ProcessId {
    /// The identity of the live process `pid`; `None` if there is none.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        Some(Self {
            pid,
            start: stat(pid)?.start,
            boot: boot_id(),
        })
    }

    /// The members of the group that this process leads or led which are still alive, zombies left out.
    pub(crate) fn group_alive(&self) -> Vec<u32> {
        // A number is not reused while a group has it, so a group whose leader has ended is still ours; if the leader is there with
        // another start time, both numbers belong to other processes.
        if boot_id() != self.boot || stat(self.pid).is_some_and(|s| s.start != self.start) {
            return Vec::new();
        }
        let alive = |s: Stat| s.group == self.pid && s.state != 'Z' && s.start >= self.start;
        pids().filter(|p| stat(*p).is_some_and(alive)).collect()
    }
}

struct Stat {
    state: char,
    group: u32,
    start: u64,
}

fn boot_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    id.unwrap_or_default().trim().to_string()
}

fn stat(pid: u32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses and may hold anything, so count from the last ')'.
    let rest = text.get(text.rfind(')')? + 1..)?;
    let rest: Vec<&str> = rest.split_whitespace().collect();
    Some(Stat {
        state: rest.first()?.chars().next()?,
        group: rest.get(2)?.parse().ok()?,
        start: rest.get(19)?.parse().ok()?,
    })
}

/// Bytes that a process has read and written, of whatever files (proc_pid_io(5)); `None` where that may not be read.
pub(crate) fn bytes_moved(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    let counted = |l: &str| l.split_once(": ").and_then(|(_, n)| n.parse::<u64>().ok());
    Some(text.lines().filter_map(counted).sum())
}

fn pids() -> impl Iterator<Item = u32> {
    let dir = std::fs::read_dir("/proc").into_iter().flatten();
    dir.flatten()
        .filter_map(|e| e.file_name().to_str()?.parse().ok())
}

/// The process groups, but our own, in which a process has an argument that is `wanted`; zombies have none.
pub(crate) fn groups_with(wanted: impl Fn(&[u8]) -> bool) -> Vec<i32> {
    let has = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|b| *b == 0).any(&wanted)
    };
    let own = stat(std::process::id()).map(|s| s.group);
    let groups = pids().filter(has).filter_map(|pid| Some(stat(pid)?.group));
    let others = groups.filter(|g| Some(*g) != own);
    let mut found: Vec<i32> = others.filter_map(|g| i32::try_from(g).ok()).collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// The database servers whose working directory is `dir`: mysqld and mariadbd go into their data directory before they open
/// any file. Needs to be their user or root; what cannot be read is left out.
pub fn servers_in(dir: &Path) -> Vec<u32> {
    servers(dir).0
}

/// The same, and false if there are database servers whose working directory this process may not read.
pub(crate) fn servers(dir: &Path) -> (Vec<u32>, bool) {
    let mut complete = true;
    let Ok(place) = std::fs::metadata(dir) else {
        return (Vec::new(), complete);
    };
    let there = |pid: &u32| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let server = name.starts_with("mysqld") || name.starts_with("mariadbd");
        if !server || name.contains("_safe") {
            return false;
        }
        match std::fs::metadata(format!("/proc/{pid}/cwd")) {
            Ok(m) => (m.dev(), m.ino()) == (place.dev(), place.ino()),
            Err(e) => {
                complete &= e.kind() != std::io::ErrorKind::PermissionDenied;
                false
            }
        }
    };
    let found = pids().filter(there).collect();
    (found, complete)
}

/// Whether process `pid` holds a TCP connection whose other end has port `peer`; `None` if that cannot be read. Also of a process in
/// another network namespace.
pub(crate) fn has_tcp_peer(pid: u32, peer: u16) -> Option<bool> {
    let (sockets, complete) = sockets_of(&[pid]);
    let has = |c: &TcpConnection| c.remote == peer && sockets.contains(&c.inode);
    complete.then(|| tcp_connections(pid).iter().any(has))
}

/// The local TCP ports on which the processes of group `pgid` hold connections. Needs to be their user or root; what
/// cannot be read is left out.
pub(crate) fn group_tcp_ports(pgid: u32) -> HashSet<u16> {
    tcp_ports(&members(pgid)).0
}

/// The same; `None` if a process of the group belongs to another user, so that its connections cannot be read.
pub(crate) fn readable_tcp_ports(pgid: u32) -> Option<HashSet<u16>> {
    let (ports, complete) = tcp_ports(&members(pgid));
    complete.then_some(ports)
}

/// The local TCP ports on which this process holds connections.
pub(crate) fn own_tcp_ports() -> HashSet<u16> {
    tcp_ports(&[std::process::id()]).0
}

fn members(pgid: u32) -> Vec<u32> {
    pids()
        .filter(|p| stat(*p).is_some_and(|s| s.group == pgid))
        .collect()
}

/// Ports, and false if a process could not be read for lack of permission.
fn tcp_ports(members: &[u32]) -> (HashSet<u16>, bool) {
    let (sockets, complete) = sockets_of(members);
    if sockets.is_empty() {
        return (HashSet::new(), complete);
    }
    // Those of the first member that has not ended meanwhile.
    let mut connections = members.iter().map(|pid| tcp_connections(*pid));
    let connections = connections.find(|c| !c.is_empty()).unwrap_or_default();
    let theirs = connections.iter().filter(|c| sockets.contains(&c.inode));
    (theirs.map(|c| c.local).collect(), complete)
}

/// Inode numbers of the sockets that the processes hold, and false if one could not be read for lack of permission.
fn sockets_of(members: &[u32]) -> (HashSet<String>, bool) {
    let mut complete = true;
    let mut sockets = HashSet::new();
    for pid in members {
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd"));
        if let Err(e) = &descriptors {
            complete &= e.kind() != std::io::ErrorKind::PermissionDenied;
        }
        for fd in descriptors.into_iter().flatten().flatten() {
            let link = std::fs::read_link(fd.path()).unwrap_or_default();
            let name = link.to_string_lossy();
            let inode = name
                .strip_prefix("socket:[")
                .and_then(|s| s.strip_suffix(']'));
            sockets.extend(inode.map(String::from));
        }
    }
    (sockets, complete)
}

/// Those of `ports` that are at the other end of an open TCP connection in the network namespace of `pid`; `None` if that cannot be read.
pub(crate) fn tcp_peers(pid: u32, ports: &HashSet<u16>) -> Option<HashSet<u16>> {
    let mut peers = HashSet::new();
    // While other connections end, the kernel's list can lack one.
    for _ in 0..3 {
        let all = tcp_connections(pid);
        if all.is_empty() {
            return None; // the server listens, at least
        }
        let open = all.iter().filter(|c| !c.left).map(|c| c.remote);
        peers.extend(open.filter(|port| ports.contains(port)));
        if peers.len() == ports.len() {
            break;
        }
    }
    Some(peers)
}

struct TcpConnection {
    local: u16,
    remote: u16,
    inode: String,
    /// CLOSE_WAIT (08): the other end has closed it.
    left: bool,
}

/// All TCP sockets in the network namespace of `pid`.
fn tcp_connections(pid: u32) -> Vec<TcpConnection> {
    let port = |address: &str| u16::from_str_radix(address.rsplit(':').next()?, 16).ok();
    // Ended connections (TIME_WAIT, 06), of which busy hosts have thousands, belong to no process.
    let connection = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let (local, remote) = (fields.nth(1)?, fields.next()?);
        let state = fields.next()?;
        let inode = fields.nth(5).filter(|_| state != "06")?.to_string();
        Some(TcpConnection {
            local: port(local)?,
            remote: port(remote)?,
            inode,
            left: state == "08",
        })
    };
    let read = |table| std::fs::read_to_string(format!("/proc/{pid}/net/{table}"));
    let tables = ["tcp", "tcp6"].map(|table| read(table).unwrap_or_default());
    let lines = tables.iter().flat_map(|table| table.lines().skip(1));
    lines.filter_map(connection).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;

    /// Waits until the group has so many processes.
    pub(crate) fn until(id: &ProcessId, good: impl Fn(usize) -> bool) {
        let begin = std::time::Instant::now();
        while !good(id.group_alive().len()) {
            assert!(begin.elapsed() < std::time::Duration::from_secs(10));
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    #[test]
    fn a_group_is_known_by_number_start_and_boot() {
        let mut c = std::process::Command::new("sh")
            .args(["-c", "sleep 60 & wait"])
            .process_group(0)
            .spawn()
            .unwrap();
        let id = ProcessId::of(c.id()).unwrap();
        until(&id, |n| n == 2);
        assert!(
            ProcessId {
                start: id.start + 1,
                ..id.clone()
            }
            .group_alive()
            .is_empty()
        );
        assert!(
            ProcessId {
                boot: "another".into(),
                ..id.clone()
            }
            .group_alive()
            .is_empty()
        );
        c.kill().unwrap(); // the leader only
        c.wait().unwrap();
        until(&id, |n| n == 1); // the leader has gone, its child has not
        crate::sys::process::kill_group(
            i32::try_from(id.pid).unwrap(),
            crate::sys::process::Signal::Kill,
        )
        .unwrap();
    }

    #[test]
    fn a_server_is_known_by_its_name_and_where_it_works() {
        let d = std::env::temp_dir().join(format!("oa-servers-{}", std::process::id()));
        std::fs::create_dir_all(&d).unwrap();
        let start = |program: &str| {
            let file = d.join(program);
            std::fs::copy("/bin/sleep", &file).unwrap();
            let mut c = std::process::Command::new(file);
            c.arg("60").current_dir(&d).spawn().unwrap()
        };
        let mut children = [start("mariadbd"), start("other"), start("mysqld_safe")];
        let begin = std::time::Instant::now();
        while servers_in(&d).is_empty() && begin.elapsed().as_secs() < 10 {}
        assert_eq!(servers_in(&d), [children[0].id()]);
        assert!(servers_in(Path::new("/")).is_empty());
        for c in &mut children {
            c.kill().unwrap();
            c.wait().unwrap();
        }
        std::fs::remove_dir_all(&d).unwrap();
    }

    #[test]
    fn finds_the_ports_of_a_group() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let me = stat(std::process::id()).unwrap().group;
        let port = stream.local_addr().unwrap().port();
        // While other connections end the kernel's list can lack one.
        let begin = std::time::Instant::now();
        while !(group_tcp_ports(me).contains(&port) && own_tcp_ports().contains(&port)) {
            assert!(begin.elapsed().as_secs() < 5, "{port}");
        }
        assert_eq!(has_tcp_peer(std::process::id(), port), Some(false));
        let _accepted = listener.accept().unwrap();
        assert_eq!(has_tcp_peer(std::process::id(), port), Some(true));
        assert!(readable_tcp_ports(me).is_some_and(|p| p.contains(&port)));
    }

    #[test]
    fn a_peer_that_has_closed_its_end_is_none() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let port = peer.local_addr().unwrap().port();
        let mut kept = listener.accept().unwrap().0;
        let ports = HashSet::from([port]);
        let is_there = || tcp_peers(std::process::id(), &ports).unwrap() == ports;
        let until_gone = || {
            let begin = std::time::Instant::now();
            while is_there() {
                assert!(begin.elapsed().as_secs() < 10);
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        };
        assert!(is_there());
        drop(peer);
        until_gone();
        // It answers what comes now by a reset, and the kernel lists the connection no more.
        std::io::Write::write_all(&mut kept, b"event").unwrap();
        std::thread::sleep(std::time::Duration::from_millis(100));
        until_gone();
        assert_eq!(tcp_peers(u32::MAX, &ports), None);
    }
}

//! Socket calls that std does not have: poll(2) on several descriptors, TCP keepalive, and listening on all addresses of both families.

use super::done;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// Waits until one of `fds` can be read (or accepted on, or has failed), or `timeout` has passed; `None` waits for
/// ever. Returns one flag per descriptor, in order; all false means the timeout. A signal does not end the wait.
pub(crate) fn wait_readable(
    fds: &[BorrowedFd<'_>],
    timeout: Option<Duration>,
) -> io::Result<Vec<bool>> {
    wait_for(fds, libc::POLLIN, timeout)
}

/// Waits until `fd` can be written to (or has failed), for at most `timeout`. False means the timeout.
pub(crate) fn wait_writable(fd: BorrowedFd<'_>, timeout: Duration) -> io::Result<bool> {
    wait_for(&[fd], libc::POLLOUT, Some(timeout)).map(|ready| ready == [true])
}

fn wait_for(
    fds: &[BorrowedFd<'_>],
    events: libc::c_short,
    timeout: Option<Duration>,
) -> io::Result<Vec<bool>> {
    let mut polled: Vec<libc::pollfd> = fds
        .iter()
        .map(|fd| libc::pollfd {
            fd: fd.as_raw_fd(),
            events,
            revents: 0,
        })
        .collect();
    let millis = timeout.map_or(-1, |t| i32::try_from(t.as_millis()).unwrap_or(i32::MAX));
    loop {
        // SAFETY: `polled` is a live, writable array of exactly the length passed, and its descriptors are open for
        // the whole call because they are borrowed.
        let n = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, millis) };
        if n >= 0 {
            return Ok(polled.iter().map(|p| p.revents != 0).collect());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// The process that listens on the other end of a unix socket (SO_PEERCRED of unix(7)).
pub(crate) fn peer_process(socket: &std::os::unix::net::UnixStream) -> io::Result<u32> {
    let mut peer = libc::ucred {
        pid: 0,
        uid: 0,
        gid: 0,
    };
    let mut size = std::mem::size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: `peer` is a live, writable place of `size` bytes, and the descriptor is open because it is borrowed.
    let rc = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            std::ptr::from_mut(&mut peer).cast(),
            &mut size,
        )
    };
    done(rc)?;
    u32::try_from(peer.pid).map_err(|_| io::Error::from(ErrorKind::NotFound))
}

/// Listens on `address`, without blocking accepts: a client that is gone between poll and accept must not hold a thread.
/// `[::]` takes IPv4 too: it becomes `0.0.0.0` on a host without IPv6, and where the sysctl net.ipv6.bindv6only is 1
/// there are two sockets, of the same port.
pub(crate) fn listen(address: SocketAddr) -> io::Result<Vec<TcpListener>> {
    let v6_only = || std::fs::read_to_string("/proc/sys/net/ipv6/bindv6only");
    let all = address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let all_v4 = |port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port));
    let listeners = match TcpListener::bind(address) {
        Ok(v6) if all && v6_only().is_ok_and(|v| v.trim() == "1") => {
            let v4 = all_v4(v6.local_addr()?.port())?;
            vec![v6, v4]
        }
        Ok(one) => vec![one],
        Err(e) if all && no_v6(&e) => vec![all_v4(address.port())?],
        Err(e) => return Err(e),
    };
    for listener in &listeners {
        listener.set_nonblocking(true)?;
        lengthen_queue(listener)?;
    }
    Ok(listeners)
}

/// Lets as many connections wait for an accept as the sysctl net.core.somaxconn allows (4096 since Linux 5.4). The 128 of
/// std are full after an instant in which many clients connect, and a client whose SYN was dropped repeats it after a
/// second at the earliest (RFC 6298, 2.1).
fn lengthen_queue(listener: &TcpListener) -> io::Result<()> {
    // SAFETY: the descriptor is open because it is borrowed; listen(2) of a socket that listens only sets the length.
    done(unsafe { libc::listen(listener.as_raw_fd(), i32::MAX) })
}

/// True if an address of IPv6 was refused because the host has none.
fn no_v6(e: &io::Error) -> bool {
    e.kind() == ErrorKind::AddrNotAvailable || e.raw_os_error() == Some(libc::EAFNOSUPPORT)
}

/// Switches TCP keepalive on: a dead host is found after two minutes, by 6 probes that begin after 60 s without traffic.
pub(crate) fn set_keepalive(socket: &TcpStream) -> io::Result<()> {
    let options = [
        (libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1),
        (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, 60),
        (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, 10),
        (libc::IPPROTO_TCP, libc::TCP_KEEPCNT, 6),
    ];
    for (level, name, value) in options {
        set_option(socket, level, name, &value)?;
    }
    Ok(())
}

/// Closing the socket from now on resets the connection: the peer sees an error, never an end (SO_LINGER with no time).
pub(crate) fn reset_on_close(socket: &TcpStream) -> io::Result<()> {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    set_option(socket, libc::SOL_SOCKET, libc::SO_LINGER, &linger)
}

/// Bytes that were written and that the peer's host has not acknowledged (SIOCOUTQ).
pub(crate) fn unsent(socket: &TcpStream) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open because `socket` is borrowed; the pointer is to a live int that the call fills in.
    done(unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) })?;
    Ok(usize::try_from(bytes).unwrap_or_default())
}

/// `T`: the C type of the option, without padding.
fn set_option<T: Copy>(socket: &TcpStream, level: i32, name: i32, value: &T) -> io::Result<()> {
    // SAFETY: the pointer and the length describe `value`, which lives through the call and is only read; the descriptor is open
    // because `socket` is borrowed.
    let rc = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    done(rc)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpListener;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::time::Instant;

    #[test]
    fn tells_which_descriptor_is_readable() {
        let (quiet, _keep) = UnixStream::pair().unwrap();
        let (ready, mut writer) = UnixStream::pair().unwrap();
        writer.write_all(b"x").unwrap();
        let flags = wait_readable(&[quiet.as_fd(), ready.as_fd()], None).unwrap();
        assert_eq!(flags, [false, true]);
    }

    #[test]
    fn returns_all_false_after_the_timeout() {
        let (quiet, _keep) = UnixStream::pair().unwrap();
        let start = Instant::now();
        let flags = wait_readable(&[quiet.as_fd()], Some(Duration::from_millis(30))).unwrap();
        assert_eq!(flags, [false]);
        assert!(start.elapsed() >= Duration::from_millis(29));
    }

    #[test]
    fn a_closed_peer_counts_as_readable() {
        let (end, peer) = UnixStream::pair().unwrap();
        drop(peer);
        assert_eq!(wait_readable(&[end.as_fd()], None).unwrap(), [true]);
    }

    #[test]
    fn hundreds_of_clients_connect_at_once_before_the_first_is_accepted() {
        let listeners = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listeners[0].local_addr().unwrap();
        let limit = Duration::from_millis(900); // less than it takes to repeat a SYN
        let connect =
            |n| TcpStream::connect_timeout(&address, limit).unwrap_or_else(|e| panic!("{n}: {e}"));
        let connected: Vec<_> = (0..300).map(connect).collect();
        assert!(connected.iter().all(|c| c.peer_addr().is_ok()));
    }

    #[test]
    fn what_the_peer_has_no_room_for_is_unsent() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let _peer = listener.accept().unwrap().0;
        assert_eq!(unsent(&socket).unwrap(), 0);
        socket.set_nonblocking(true).unwrap();
        while socket.write(&[7; 65536]).is_ok() {}
        assert!(unsent(&socket).unwrap() > 0);
    }

    #[test]
    fn a_reset_is_no_end() {
        use std::io::Read;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut peer = listener.accept().unwrap().0;
        reset_on_close(&socket).unwrap();
        drop(socket);
        assert!(peer.read(&mut [0]).is_err());
    }

    #[test]
    fn keepalive_is_accepted_by_the_kernel() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        set_keepalive(&socket).unwrap();
    }

    #[test]
    fn the_process_behind_a_unix_socket() {
        let path = std::env::temp_dir().join(format!("oa-peer-{}", std::process::id()));
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
        assert_eq!(peer_process(&stream).unwrap(), std::process::id());
        drop(listener);
        std::fs::remove_file(&path).unwrap();
    }
}

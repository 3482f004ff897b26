//! This host: memory, operating system, host name, mount points, random numbers; and forms for people.

use ring::rand::{SecureRandom, SystemRandom};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Total memory in bytes (`MemTotal` of /proc/meminfo), 0 if it cannot be read.
pub(crate) fn memory_total() -> u64 {
    meminfo("MemTotal:")
}

/// Memory in bytes that programs can have without swapping (`MemAvailable` of /proc/meminfo), 0 if it cannot be read.
pub(crate) fn memory_available() -> u64 {
    meminfo("MemAvailable:")
}

fn meminfo(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text
        .lines()
        .find_map(|l| l.strip_prefix(name)?.strip_suffix("kB"));
    let kib = line.and_then(|kib| kib.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Name of the operating system (`PRETTY_NAME` of os-release(5)), empty if unknown.
pub(crate) fn os_name() -> String {
    let text = std::fs::read_to_string("/etc/os-release");
    let text = text.or_else(|_| std::fs::read_to_string("/usr/lib/os-release"));
    let text = text.unwrap_or_default();
    let value = text.lines().find_map(|l| l.strip_prefix("PRETTY_NAME="));
    let value = value.unwrap_or_default();
    value.trim().trim_matches(['"', '\'']).to_string()
}

pub(crate) fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The kernel's host name (uname(2), which needs no /proc), empty if unknown.
pub fn kernel_hostname() -> String {
    let mut name = std::mem::MaybeUninit::<libc::utsname>::uninit();
    // SAFETY: `name` is a valid place for one struct.
    if unsafe { libc::uname(name.as_mut_ptr()) } != 0 {
        return String::new();
    }
    // SAFETY: uname returned 0, so it filled the struct.
    let name = unsafe { name.assume_init() };
    let bytes = name.nodename.iter().take_while(|c| **c != 0);
    // c_char is signed on some platforms; its bits are the byte's.
    let bytes: Vec<u8> = bytes.map(|c| c.to_ne_bytes()[0]).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A path as a shell expands it: `~/` at its beginning is the home directory of this process's user (HOME, else the password database).
pub(crate) fn expand_home(path: &str) -> String {
    match (path.strip_prefix("~/"), std::env::home_dir()) {
        (Some(rest), Some(home)) => home
            .join(rest.trim_start_matches('/'))
            .display()
            .to_string(),
        _ => path.into(),
    }
}

/// A moment as RFC 3339 in UTC with nanoseconds, trailing zeros trimmed, as Go writes it.
pub fn rfc3339(t: SystemTime) -> String {
    let d = t.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let (secs, nanos) = (d.as_secs(), d.subsec_nanos());
    let (day, rest) = (secs / 86_400, secs % 86_400);
    // Civil date from days since 1970-01-01, after Howard Hinnant's public algorithm for years from 1970 on.
    let z = day + 719_468;
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + u64::from(month <= 2);
    let mut out = format!(
        "{year:04}-{month:02}-{:02}T{:02}:{:02}:{:02}",
        doy - (153 * mp + 2) / 5 + 1,
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    );
    if nanos > 0 {
        out.push_str(format!(".{nanos:09}").trim_end_matches('0'));
    }
    out.push('Z');
    out
}

/// Mount points below `dir`, itself left out (/proc/self/mountinfo).
pub(crate) fn mounts_below(dir: &Path) -> Vec<PathBuf> {
    let text = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    let points = text.split(|b| *b == b'\n').filter_map(mount_point);
    points.filter(|p| p != dir && p.starts_with(dir)).collect()
}

/// The fifth field of a line of mountinfo, in which blanks are written `\040`.
fn mount_point(line: &[u8]) -> Option<PathBuf> {
    let mut rest = line.split(|b| *b == b' ').nth(4)?;
    let mut path = Vec::new();
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|_| *first == b'\\');
        let code = octal.and_then(|o| u8::from_str_radix(std::str::from_utf8(o).ok()?, 8).ok());
        path.push(code.unwrap_or(*first));
        rest = if code.is_some() { &tail[3..] } else { tail };
    }
    Some(std::ffi::OsString::from_vec(path).into())
}

/// Random bytes from the kernel as lower-case hex, `bytes` * 2 digits.
pub(crate) fn random_hex(bytes: usize) -> io::Result<String> {
    let mut buf = vec![0u8; bytes];
    let filled = SystemRandom::new().fill(&mut buf); // by getrandom(2): a directory root without /dev will do
    filled.map_err(|_| io::Error::other("the kernel gives no random numbers"))?;
    Ok(buf.iter().map(|b| format!("{b:02x}")).collect())
}

/// Bytes for people: `1.5 GiB`.
pub(crate) fn human_bytes(n: u64) -> String {
    if n < 1024 {
        return format!("{n} B");
    }
    let mut value = n as f64 / 1024.0;
    for unit in ["KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return format!("{value:.1} {unit}");
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

/// True if it can be a host name or an address: it may become an argument of a tool, and part of a statement.
pub(crate) fn is_host(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || ".-_:".contains(c);
    !text.is_empty() && !text.starts_with('-') && text.chars().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_go_writes_them() {
        let at = |s, n| rfc3339(UNIX_EPOCH + Duration::new(s, n));
        assert_eq!(at(0, 0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_782_400, 0), "2000-02-29T00:00:00Z");
        assert_eq!(at(1_583_506_751, 0), "2020-03-06T14:59:11Z");
        assert_eq!(
            at(1_795_210_252, 846_295_548),
            "2026-11-20T21:30:52.846295548Z"
        );
        assert_eq!(at(4_102_444_799, 500_000_000), "2099-12-31T23:59:59.5Z");
    }

    #[test]
    fn mount_points_are_read() {
        let line =
            br"36 35 98:0 /mnt1 /var/lib/my\040sql/a\134b rw,noatime master:1 - ext3 /dev/root rw";
        assert_eq!(
            mount_point(line),
            Some(PathBuf::from(r"/var/lib/my sql/a\b"))
        );
        assert_eq!(mount_point(b"36 35"), None);
        assert!(mounts_below(Path::new("/")).contains(&PathBuf::from("/proc")));
        assert!(!mounts_below(Path::new("/proc")).contains(&PathBuf::from("/proc")));
    }

    #[test]
    fn a_home_directory_is_expanded_at_the_beginning_only() {
        let home = std::env::home_dir().unwrap();
        let below = home.join("data/mysql").display().to_string();
        for path in ["~/data/mysql", "~//data/mysql"] {
            assert_eq!(expand_home(path), below);
        }
        for path in ["/~/data", "~mysql/data", "/data/mysql", ""] {
            assert_eq!(expand_home(path), path);
        }
    }

    #[test]
    fn the_host_name_is_that_of_proc() {
        let proc = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        assert_eq!(kernel_hostname(), proc.trim());
    }

    #[test]
    fn all_random_bytes_are_filled_and_differ_between_calls() {
        let (a, b) = (random_hex(4096).unwrap(), random_hex(4096).unwrap());
        assert_ne!(a, b);
        assert!(a[8000..].chars().any(|c| c != '0'));
    }

    #[test]
    fn sizes_and_random_values() {
        assert_eq!(human_bytes(1023), "1023 B");
        assert_eq!(human_bytes(1536 * 1024), "1.5 MiB");
        let (a, b) = (random_hex(32).unwrap(), random_hex(32).unwrap());
        assert_eq!(a.len(), 64);
        assert_ne!(a, b);
        assert!(memory_total() > 1 << 20);
        assert!(!os_name().is_empty());
    }
}

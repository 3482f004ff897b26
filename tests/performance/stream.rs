//! The seed stream against socat, in one run: `dd | sender -> loopback -> receiver | cat`, at least 4 GiB each. Called by
//! `make bench`; STREAM_GIB and STREAM_RUNS change size (default 4) and number of runs (default 3). Prints medians as ratios, and the
//! CPU time of all processes. What counts on a machine: cores (the four processes of a transfer share them), memory bandwidth, and
//! AES instructions for TLS.

use orchestrator_agent::config::{Compression, Secret, SocatTls};
use orchestrator_agent::process::Cancel;
use orchestrator_agent::stream::{Listener, Outgoing, Settings};
use orchestrator_agent::sys::pipe;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("receive") => receive(&settings(&args[1], &args[2])?),
        Some("send") => send(settings(&args[1], &args[2])?),
        _ => compare(),
    }
}

fn settings(mode: &str, port: &str) -> Result<Settings, Failure> {
    let certificate = std::env::var("STREAM_PEM").unwrap_or_default();
    let tls = SocatTls {
        use_ssl: mode == "tls",
        ssl_cert_file: certificate.clone(),
        ssl_ca_file: certificate,
        ssl_skip_verify: false,
    };
    Ok(Settings {
        seed: 1,
        method: "Xtrabackup".into(),
        port: port.parse()?,
        listen: [127, 0, 0, 1].into(),
        allowed: Default::default(),
        secret: Secret::default(),
        tls,
        compression: match mode {
            "lz4" => Compression::Lz4,
            "zstd" => Compression::Zstd,
            _ => Compression::None,
        },
        first_byte: Duration::from_secs(60),
        idle: Duration::from_secs(60),
        rate_limit: 0,
        accept_raw: mode == "bare",
    })
}

/// To standard output.
fn receive(settings: &Settings) -> Result<(), Failure> {
    let listener = Listener::bind(settings.clone())?;
    eprintln!("ready");
    let cancel = Cancel::default();
    let mut incoming = listener.accept(&cancel)?;
    incoming.receive(std::io::stdout().lock(), &cancel, |_| {})?;
    incoming.acknowledge()?;
    Ok(())
}

/// From standard input.
fn send(settings: Settings) -> Result<(), Failure> {
    if settings.accept_raw {
        return send_bare(&settings);
    }
    let cancel = Cancel::default();
    let mut out = Outgoing::connect("127.0.0.1", settings, "", &cancel)?;
    out.send(std::io::stdin(), &cancel, |_| {})?;
    out.finish(Ok(()), &cancel)?;
    Ok(())
}

/// What [`Outgoing`] does with a bare stream, without the five seconds in which it waits for a hello.
fn send_bare(settings: &Settings) -> Result<(), Failure> {
    let mut socket = TcpStream::connect(("127.0.0.1", settings.port))?;
    socket.write_all(b"XBSTCK01")?;
    let mut from = std::io::stdin().lock();
    pipe::enlarge(from.as_fd(), 1 << 20)?;
    while std::io::copy(&mut (&mut from).take(16 << 20), &mut socket)? > 0 {}
    Ok(())
}

fn number(name: &str, default: u64) -> u64 {
    let set = std::env::var(name).ok().and_then(|v| v.parse().ok());
    set.unwrap_or(default).max(1)
}

fn compare() -> Result<(), Failure> {
    let (gib, runs) = (number("STREAM_GIB", 4), number("STREAM_RUNS", 3));
    let rig = std::env::var("RIG").map_or_else(
        |_| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/rig"),
        PathBuf::from,
    );
    let fetched = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rig/fetch.sh"))
        .arg("mariadb")
        .env("RIG", &rig)
        .status()?;
    if !fetched.success() {
        return Err("tests/rig/fetch.sh failed".into());
    }
    let pem = std::env::temp_dir().join(format!("stream-bench-{}.pem", std::process::id()));
    certificate(&pem)?;
    let modes = ["socat", "bare", "framed", "tls", "lz4", "zstd"];
    let mut seen: Vec<Vec<(f64, f64)>> = vec![Vec::new(); modes.len()];
    for _ in 0..runs {
        for (mode, seen) in modes.iter().zip(&mut seen) {
            seen.push(transfer(mode, gib, &rig.join("mdb/bin/socat"), &pem)?);
        }
    }
    std::fs::remove_file(&pem)?;
    let median = |of: &[(f64, f64)], by: fn(&(f64, f64)) -> f64| {
        let mut all: Vec<f64> = of.iter().map(by).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    let socat = (median(&seen[0], |s| s.0), median(&seen[0], |s| s.1));
    println!(
        "{gib} GiB of zeros, medians of {runs} runs; wanted: bare 2.2 at half the CPU, framed 1.8, tls 1.2"
    );
    println!(
        "{:>8} {:>8} {:>12} {:>14} {:>12}",
        "", "GiB/s", "x socat", "CPU s/GiB", "x socat"
    );
    for (mode, seen) in modes.iter().zip(&seen) {
        let (rate, cpu) = (median(seen, |s| s.0), median(seen, |s| s.1));
        println!(
            "{mode:>8} {rate:>8.2} {:>12.2} {cpu:>14.2} {:>12.2}",
            rate / socat.0,
            cpu / socat.1
        );
    }
    Ok(())
}

/// A certificate that has signed itself, with its key, as a fleet shares it.
fn certificate(to: &Path) -> Result<(), Failure> {
    let key = rcgen::KeyPair::generate()?;
    let own = rcgen::CertificateParams::new(vec!["fleet".to_string()])?.self_signed(&key)?;
    let mut file = std::fs::File::create(to)?;
    file.write_all((own.pem() + &key.serialize_pem()).as_bytes())?;
    Ok(())
}

/// GiB a second, and CPU seconds of all processes for a GiB.
fn transfer(mode: &str, gib: u64, socat: &Path, pem: &Path) -> Result<(f64, f64), Failure> {
    let port = TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port()
        .to_string();
    let own = std::env::current_exe()?;
    let mut sink = Command::new("cat")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    let into = Stdio::from(sink.stdin.take().ok_or("a pipe")?);
    let mut source = Command::new("dd")
        .args(["if=/dev/zero", "bs=128K", &format!("count={}", gib * 8192)])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let from = Stdio::from(source.stdout.take().ok_or("a pipe")?);
    let before = cpu()?;
    let begin = Instant::now();
    let (mut receiver, mut sender);
    if mode == "socat" {
        receiver = Command::new(socat)
            .args(["-u", &format!("TCP-LISTEN:{port},reuseaddr"), "-"])
            .stdout(into)
            .spawn()?;
        wait_for_port(&port)?;
        sender = Command::new(socat)
            .args(["-u", "-", &format!("TCP:127.0.0.1:{port}")])
            .stdin(from)
            .spawn()?;
    } else {
        let ours = |word: &str| {
            let mut command = Command::new(&own);
            command
                .args([word, mode, &port])
                .env("STREAM_PEM", pem)
                .stderr(Stdio::null());
            command
        };
        receiver = ours("receive").stdout(into).spawn()?;
        wait_for_port(&port)?;
        sender = ours("send").stdin(from).spawn()?;
    }
    ended("sender", &mut sender)?;
    ended("receiver", &mut receiver)?;
    ended("dd", &mut source)?;
    ended("cat", &mut sink)?;
    let took = begin.elapsed().as_secs_f64();
    let used = cpu()? - before;
    Ok((gib as f64 / took, used / gib as f64))
}

fn ended(what: &str, child: &mut Child) -> Result<(), Failure> {
    match child.wait()?.success() {
        true => Ok(()),
        false => Err(format!("the {what} failed").into()),
    }
}

/// Until somebody listens, without connecting: socat takes one connection only.
fn wait_for_port(port: &str) -> Result<(), Failure> {
    let wanted = format!(":{:04X} ", port.parse::<u16>()?);
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(10) {
        let tables = std::fs::read_to_string("/proc/net/tcp")?
            + &std::fs::read_to_string("/proc/net/tcp6").unwrap_or_default();
        if tables
            .lines()
            .any(|l| l.contains(&wanted) && l.contains(" 0A "))
        {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Err("nobody listens".into())
}

/// CPU seconds of the children that have ended (proc(5): cutime and cstime, in ticks of 10 ms).
fn cpu() -> Result<f64, Failure> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let rest = stat.rsplit_once(')').ok_or("stat")?.1;
    let field = |n: usize| {
        rest.split_whitespace()
            .nth(n)
            .and_then(|v| v.parse::<f64>().ok())
    };
    Ok((field(13).ok_or("cutime")? + field(14).ok_or("cstime")?) / 100.0)
}

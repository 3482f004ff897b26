//! The front in HTTPS with real clients: curl and OpenSSL.

use crate::support::certificates::Certificates;
use crate::support::lone::{Lone, end_of};
use crate::support::wait_for;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

const INFO: &str = "/api/get-agent-info";
const STATUS: &str = "/api/status";
/// Nobody has registered it.
const BAD: &str = "500 \"BAD\"";

struct Secure {
    agent: Lone,
    files: Certificates,
}

impl Secure {
    /// Not started.
    fn new(name: &str) -> Self {
        let files = Certificates::make(name);
        let mut agent = Lone::new();
        agent.with("common", "use-ssl = true");
        let this = |agent: &mut Lone, key: &str, file: &str| {
            agent.with("common", format!("{key} = {:?}", files.0.join(file)));
        };
        this(&mut agent, "ssl-cert-file", "a.pem");
        this(&mut agent, "ssl-private-key-file", "a.pem");
        this(&mut agent, "ssl-ca-file", "ca.pem");
        Self { agent, files }
    }

    fn start(mut self, lines: &[&str]) -> Self {
        for line in lines {
            self.agent.with("common", *line);
        }
        self.agent = self.agent.start();
        self
    }

    fn file(&self, name: &str) -> String {
        self.files.0.join(name).display().to_string()
    }

    fn url(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}{path}", self.agent.port)
    }

    /// Exit code and output of curl, which knows the authority.
    fn curl(&self, args: &[&str]) -> (Option<i32>, String) {
        let mut command = Command::new("curl");
        command
            .args(["-sS", "--max-time", "9", "--cacert", &self.file("ca.pem")])
            .args(args);
        let (code, out, err) = end_of(command);
        (code, out + &err)
    }

    /// What a client with this certificate, or none, gets: `STATUS body`, or curl's words.
    fn answer(&self, certificate: &str, path: &str) -> String {
        let (url, file) = (self.url(path), self.file(certificate));
        let mut args = vec!["-w", " %{http_code}", &url];
        if !certificate.is_empty() {
            args.extend(["--cert", &file]);
        }
        let (_, text) = self.curl(&args);
        match text.rsplit_once(' ') {
            Some((body, code)) if code.len() == 3 => format!("{code} {}", body.trim_end()),
            _ => text,
        }
    }

    /// The log once it has these words.
    fn told(&self, words: &str) {
        wait_for(words, Duration::from_secs(10), || {
            self.agent.log().contains(words).then_some(())
        });
    }

    /// A command of the agent's own program.
    fn own(&self, name: &str) -> Command {
        let mut command = Command::new(&self.agent.program);
        command
            .arg(name)
            .arg("--config")
            .arg(self.agent.file())
            .arg("--json")
            .env("PATH", &self.agent.path)
            .stdin(Stdio::null());
        command
    }

    fn openssl(&self, args: &[&str]) -> Command {
        let mut command = Command::new("openssl");
        command
            .args([
                "s_client",
                "-connect",
                &format!("127.0.0.1:{}", self.agent.port),
            ])
            .args(["-CAfile", &self.file("ca.pem")])
            .args(args);
        command
    }
}

#[test]
fn curl_in_all_its_ways() {
    let s = Secure::new("curl").start(&[]);
    let info = s.url(INFO);
    for version in ["--http1.0", "--http1.1", "--http2"] {
        let (_, text) = s.curl(&[version, "-w", " %{http_version} %{http_code}", &info]);
        match version {
            "--http1.0" => assert!(
                text.ends_with(" 1 200") || text.ends_with(" 1.1 200"),
                "{text}"
            ),
            // HTTP/2 is offered and not taken.
            _ => assert!(text.ends_with(" 1.1 200"), "{version}: {text}"),
        }
        assert!(
            text.contains("\"Hostname\":\"db7.test\""),
            "{version}: {text}"
        );
    }
    let (_, text) = s.curl(&["-w", " %{num_connects}", &info, &info]);
    assert!(text.ends_with(" 0"), "the connection is kept: {text}");
    let (_, text) = s.curl(&["-I", &info]);
    assert!(
        text.starts_with("HTTP/1.1 200") && !text.contains("db7"),
        "{text}"
    );
    let body = format!("--data-binary={}", "x".repeat(3000));
    let relay = s.url("/api/apply-relaylog-contents");
    let (_, text) = s.curl(&[
        "-H",
        "Expect: 100-continue",
        &body.replace("--data-binary=", "-dx="),
        &relay,
    ]);
    assert!(text.contains("Invalid token"), "{text}");
    // As Go says it to somebody who speaks HTTP.
    let clear = format!("http://127.0.0.1:{}{INFO}", s.agent.port);
    let (_, text) = s.curl(&["-i", &clear]);
    assert!(
        text.starts_with("HTTP/1.0 400") && text.contains("HTTP request to an HTTPS server"),
        "{text}"
    );
    assert!(
        s.curl(&[&s.url(STATUS)]).1.contains("BAD"),
        "nobody registered it"
    );
}

#[test]
fn versions_of_tls() {
    let s = Secure::new("versions").start(&[]);
    for (args, good) in [
        (vec!["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"], false),
        (vec!["-tls1_2"], true),
        (vec!["-tls1_3"], true),
        (vec!["-tls1_2", "-cipher", "AES128-SHA"], false),
    ] {
        let mut command = s.openssl(&args);
        command
            .args(["-quiet", "-verify_return_error"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("openssl");
        let mut input = child.stdin.take().expect("stdin");
        let _ = input.write_all(format!("GET {INFO} HTTP/1.0\r\n\r\n").as_bytes());
        let out = child.wait_with_output().expect("openssl");
        drop(input);
        let text = String::from_utf8_lossy(&out.stdout);
        assert_eq!(
            text.contains("db7.test"),
            good,
            "{args:?}: {text} {}",
            String::from_utf8_lossy(&out.stderr)
        );
    }
}

/// What opens which door.
#[test]
fn certificates_of_clients() {
    let mutual = [
        "use-mutual-tls = true",
        "ssl-valid-ous = [\"dba\", \"ops\"]",
    ];
    let s = Secure::new("mutual").start(&mutual);
    let refused = "401 Invalid OU";
    for good in ["dba.pem", "both.pem"] {
        assert!(s.answer(good, INFO).starts_with("200 {"), "{good}");
    }
    for bad in ["", "web.pem", "b.pem"] {
        assert_eq!(s.answer(bad, INFO), refused, "{bad}");
        assert_eq!(
            s.answer(bad, "/api/get-agent-data?token=x"),
            refused,
            "{bad}"
        );
        assert_eq!(s.answer(bad, "/nowhere"), refused, "{bad}");
        assert_eq!(s.answer(bad, STATUS), BAD, "{bad}");
        assert_eq!(s.answer(bad, "/api/status/"), BAD, "{bad}");
        // A part of the address is not the address.
        for trick in [
            "/api/get-agent-info?x=/api/status",
            "/api/status/x",
            "/x/api/status",
            "/api/get-agent-info/api/status",
            "/api/status%2f..%2fget-agent-info",
        ] {
            assert_eq!(s.answer(bad, trick), refused, "{bad} {trick}");
        }
    }
    for stranger in ["own.pem", "old.pem"] {
        let text = s.answer(stranger, STATUS);
        assert!(
            text.contains("alert") || text.contains("curl: ("),
            "{stranger}: {text}"
        );
    }
    s.told("TLS: invalid peer certificate");
    // No header stands for a certificate.
    for header in [
        "X-SSL-Client-S-DN: OU=dba",
        "X-Client-OU: dba",
        "Agent-Request-Id: 1",
    ] {
        let (_, text) = s.curl(&["-H", header, &s.url(INFO)]);
        assert_eq!(text.trim_end(), "Invalid OU", "{header}");
    }

    let mut lines = mutual.to_vec();
    lines.extend(["status-ou-verify = true", "status-endpoint = \"/health\""]);
    let s = Secure::new("mutual-all").start(&lines);
    for path in ["/health", "/health/", STATUS] {
        assert_eq!(s.answer("", path), refused, "{path}");
    }
    assert_eq!(s.answer("dba.pem", "/health"), BAD);
    assert_eq!(s.answer("dba.pem", STATUS), BAD, "at both places");
}

/// New connections get the new certificate; those that are open go on.
#[test]
fn a_renewed_certificate() {
    let s = Secure::new("renewed");
    let shown = s.files.0.join("shown.pem");
    std::fs::copy(s.files.0.join("soon.pem"), &shown).expect("copy");
    let line = |key: &str| format!("{key} = {shown:?}");
    let lines = [line("ssl-cert-file"), line("ssl-private-key-file")];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let s = s.start(&lines);
    let serial = || {
        let (_, text, _) = end_of({
            let mut c = s.openssl(&[]);
            c.stdin(Stdio::null());
            c
        });
        let certificate = text.split("-----BEGIN").nth(1).expect("a certificate");
        certificate.split("-----END").next().map(str::to_string)
    };
    let before = serial();
    let mut command = s.openssl(&["-quiet", "-no_ign_eof"]);
    let mut open = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl");
    let mut input = open.stdin.take().expect("stdin");
    let mut output = BufReader::new(open.stdout.take().expect("stdout"));
    let mut ask = || {
        write!(input, "GET {INFO} HTTP/1.1\r\nHost: a\r\n\r\n").expect("open");
        let mut text = String::new();
        while !text.ends_with('}') {
            let buffer = output.fill_buf().expect("open");
            assert!(!buffer.is_empty(), "closed: {text}");
            text.push_str(&String::from_utf8_lossy(buffer));
            let n = buffer.len();
            output.consume(n);
        }
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    };
    ask();
    let hup = |times: usize| {
        let pid = s.agent.pid().to_string();
        assert!(
            Command::new("kill")
                .args(["-HUP", &pid])
                .status()
                .expect("kill")
                .success()
        );
        wait_for("it has read", Duration::from_secs(10), || {
            (s.agent.log().matches("SIGHUP: done").count() == times).then_some(())
        });
    };
    std::fs::copy(s.files.0.join("a.pem"), &shown).expect("copy");
    hup(1);
    ask();
    let after = serial();
    assert_ne!(before, after);
    // A file that cannot be used changes nothing.
    std::fs::write(&shown, "half a file").expect("write");
    hup(2);
    s.told("the certificate in use stays");
    assert_eq!(serial(), after);
    ask();
    let _ = open.kill();
    let _ = open.wait();
}

#[test]
fn settings_that_cannot_work() {
    for (key, file, word) in [
        ("ssl-private-key-file", "b.pem", "do not match"),
        ("ssl-private-key-file", "none.pem", "holds no private key"),
        ("ssl-cert-file", "none.pem", "common.ssl-cert-file"),
        ("ssl-ca-file", "none.pem", "common.ssl-ca-file"),
    ] {
        let mut s = Secure::new("refused");
        let path = s.file(file);
        s.agent
            .with("common", format!("{key} = {path:?}"))
            .with("common", "use-mutual-tls = true")
            .with("common", "ssl-valid-ous = [\"dba\"]");
        let (code, _, err) = s.agent.refused();
        assert!(
            code != Some(0) && err.contains(word) && err.contains(file),
            "{key}: {err}"
        );
    }
    // check-config looks into the future.
    for (file, level, word) in [
        ("soon.pem", "warning", "expires in 8 days"),
        ("old.pem", "error", "has expired"),
    ] {
        let mut s = Secure::new("soon");
        let path = s.file(file);
        for key in ["ssl-cert-file", "ssl-private-key-file"] {
            s.agent.with("common", format!("{key} = {path:?}"));
        }
        s.agent.write();
        let (_, out, _) = end_of(s.own("check-config"));
        let found: serde_json::Value = serde_json::from_str(&out).expect("JSON");
        let all = found["Findings"].as_array().expect("Findings");
        let is = |f: &&serde_json::Value| f["Text"].as_str().is_some_and(|t| t.contains(word));
        let finding = all.iter().find(is).unwrap_or_else(|| panic!("{out}"));
        assert_eq!(
            (finding["Level"].as_str(), finding["Subject"].as_str()),
            (Some(level), Some("common.ssl-cert-file"))
        );
    }
    // The agent's own commands speak HTTPS to it.
    let s = Secure::new("own").start(&[
        "http-auth-user = \"watch\"",
        "http-auth-password = \"s3cret-basic\"",
    ]);
    let (_, out, err) = end_of(s.own("status"));
    let found: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(found["Agent"]["Hostname"], "db7.test", "{out} {err}");
    assert!(!out.contains("s3cret-basic") && !s.agent.log().contains("s3cret-basic"));
}

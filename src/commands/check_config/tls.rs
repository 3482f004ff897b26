//! Certificates: whether they can be used, and until when.

use super::findings::Findings;
use crate::config::{Common, Config, SocatTls};
use crate::tls::{self, der::Certificate};
use std::time::{Duration, SystemTime};

/// A certificate that expires sooner is a finding.
const SOON: Duration = Duration::from_secs(30 * 86_400);

pub(super) fn check(f: &mut Findings, config: &Config) {
    own_certificate(f, &config.common);
    for (used, key, missing) in [
        (
            config.common.use_mutual_tls,
            "common.use-mutual-tls",
            "sends no certificate",
        ),
        (
            !config.common.http_auth_user.is_empty(),
            "common.http-auth-user",
            "sends no Basic credentials",
        ),
    ] {
        if used {
            f.warning(
                key,
                format!("orchestrator {missing} to agents, so it gets a 401 from this one"),
                "use it if something else calls the agent, or a proxy is in front of it",
            );
        }
    }
    let mut urls = config.orchestrator.urls.iter();
    if urls.any(|u| u.starts_with("https:")) {
        orchestrator(f, &config.common);
    }
    stream(f, "xtrabackup", &config.xtrabackup.socat);
    stream(f, "lvm", &config.lvm.socat);
}

fn own_certificate(f: &mut Findings, c: &Common) {
    match tls::Server::new(c) {
        Ok(None) => {}
        Ok(Some(server)) => {
            f.ok("common.use-ssl", "certificate and key match");
            expiry(f, "common.ssl-cert-file", server.not_after);
            if server.valid_units.is_some_and(|units| units.is_empty()) {
                f.error(
                    "common.ssl-valid-ous",
                    "use-mutual-tls = true, and no client has a valid OU: every call is rejected",
                    "set it to the OU values of clients' certificates",
                );
            }
        }
        Err(e) => f.error(
            "common.use-ssl",
            e.to_string(),
            "correct common.ssl-cert-file, ssl-private-key-file and ssl-ca-file (PEM files that the agent's user can read), or set \
             common.use-ssl = false",
        ),
    }
}

fn orchestrator(f: &mut Findings, c: &Common) {
    const KEY: &str = "orchestrator.url";
    match tls::outgoing(&tls::Files::of(c)) {
        Ok(_) if c.ssl_skip_verify => f.warning(
            "common.ssl-skip-verify",
            "any server can claim to be orchestrator, and is then sent this agent's token",
            "set common.ssl-ca-file and common.ssl-skip-verify = false",
        ),
        Ok(_) => f.ok(KEY, "there are authorities to verify https by"),
        Err(e) => f.error(
            KEY,
            e.to_string(),
            "set common.ssl-ca-file to a PEM file with the authority of orchestrator's certificate",
        ),
    }
}

fn stream(f: &mut Findings, section: &str, socat: &SocatTls) {
    if !socat.use_ssl {
        return;
    }
    let key = format!("{section}.socat-ssl-cert-file");
    let read = tls::stream_server(socat).and_then(|_| tls::stream_client(socat));
    let certificates = read.and_then(|_| tls::certificates(&key, socat.ssl_cert_file.as_ref()));
    match certificates.map(|c| Certificate::parse(&c[0])) {
        Ok(certificate) => expiry(f, &key, certificate.map(|c| c.not_after)),
        Err(e) => f.error(
            &key,
            e.to_string(),
            format!("correct the three {section}.socat-ssl files, or set {section}.socat-use-ssl = false"),
        ),
    }
}

fn expiry(f: &mut Findings, key: &str, end: Option<SystemTime>) {
    let Some(end) = end else {
        return f.warning(
            key,
            "the end of its validity cannot be read",
            "`openssl x509 -noout -enddate -in FILE` shows it: renew the certificate before that",
        );
    };
    let date = crate::sys::host::rfc3339(end);
    match end.duration_since(SystemTime::now()) {
        Err(_) => f.error(
            key,
            format!("the certificate has expired on {date}"),
            "renew it, then send the agent a SIGHUP",
        ),
        Ok(left) if left < SOON => f.warning(
            key,
            format!(
                "the certificate expires in {} days, on {date}",
                left.as_secs() / 86_400
            ),
            "renew it, then send the agent a SIGHUP",
        ),
        Ok(_) => f.ok(key, format!("the certificate is valid until {date}")),
    }
}

//! Certificates: can they be used, and how long yet.

use super::findings::Findings;
use crate::config::Config;
use crate::tls::{self, der::Certificate};
use std::time::{Duration, SystemTime};

/// A certificate that ends sooner is a finding.
const SOON: Duration = Duration::from_secs(30 * 86_400);

const UNREAD: &str = "`openssl x509 -noout -enddate -in FILE` tells when: renew it before that";

/// All checks of TLS.
pub fn check(f: &mut Findings, config: &Config) {
    let c = &config.common;
    const SHOWN: &str = "common.ssl-cert-file";
    match tls::Server::new(c) {
        Ok(None) => {}
        Ok(Some(server)) => {
            f.ok("common.use-ssl", "certificate and key fit together");
            match server.not_after {
                Some(end) => expiry(f, SHOWN, end),
                None => f.warning(SHOWN, "when it ends cannot be read", UNREAD),
            }
            if server.valid_units.is_some_and(|units| units.is_empty()) {
                f.error(
                    "common.ssl-valid-ous",
                    "use-mutual-tls = true, and no client has a valid OU: nobody can call this agent",
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
    if c.use_mutual_tls {
        f.warning(
            "common.use-mutual-tls",
            "orchestrator itself shows no certificate to agents, so it gets a 401 from this one",
            "use it where something else calls the agent, or a proxy stands before it",
        );
    }
    if !c.http_auth_user.is_empty() {
        f.warning(
            "common.http-auth-user",
            "orchestrator itself sends no Basic credentials to agents, so it gets a 401 from this one",
            "use it where something else calls the agent, or a proxy stands before it",
        );
    }
    if config
        .orchestrator
        .urls
        .iter()
        .any(|u| u.starts_with("https:"))
    {
        match tls::outgoing(&tls::Files::of(c)) {
            Ok(_) if c.ssl_skip_verify => f.warning(
                "common.ssl-skip-verify",
                "anybody can pose as orchestrator, and is then given this agent's token",
                "set common.ssl-ca-file and common.ssl-skip-verify = false",
            ),
            Ok(_) => f.ok(
                "orchestrator.url",
                "there are authorities to verify https by",
            ),
            Err(e) => f.error(
                "orchestrator.url",
                e.to_string(),
                "set common.ssl-ca-file to a PEM file with the authority of orchestrator's certificate",
            ),
        }
    }
    for (section, socat) in [
        ("xtrabackup", &config.xtrabackup.socat),
        ("lvm", &config.lvm.socat),
    ] {
        if !socat.use_ssl {
            continue;
        }
        let key = format!("{section}.socat-ssl-cert-file");
        let read = tls::stream_server(socat).and_then(|_| tls::stream_client(socat));
        let shown = read.and_then(|_| tls::certificates(&key, socat.ssl_cert_file.as_ref()));
        match shown.map(|c| Certificate::parse(&c[0])) {
            Ok(Some(certificate)) => expiry(f, &key, certificate.not_after),
            Ok(None) => f.warning(&key, "when it ends cannot be read", UNREAD),
            Err(e) => f.error(
                &key,
                e.to_string(),
                format!("correct the three {section}.socat-ssl files, or set {section}.socat-use-ssl = false"),
            ),
        }
    }
}

fn expiry(f: &mut Findings, key: &str, end: SystemTime) {
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

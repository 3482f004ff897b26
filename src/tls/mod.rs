//! TLS: one crypto provider (ring), PEM files, and the settings of the gate, of calls to others and of seed streams.

mod client;
pub mod der;
mod http;
mod pem;
mod server;
mod verify;

pub use client::{Files, outgoing};
pub use http::http_client;
pub use pem::{Bundle, certificates};
pub use server::Server;

use crate::config::SocatTls;
use crate::error::{Error, Result};
use rustls::crypto::CryptoProvider;
use rustls::server::NoServerSessionStorage;
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where distributions keep the certificates of public authorities: Debian, Red Hat, SUSE.
const SYSTEM_ROOTS: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
];

/// The one provider.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The file with the system's authorities.
fn system_roots() -> Option<&'static Path> {
    SYSTEM_ROOTS.iter().map(Path::new).find(|p| p.is_file())
}

/// The file with the authorities: the setting, or the system's.
fn authorities(tls: &SocatTls) -> Result<PathBuf> {
    if !tls.ssl_ca_file.is_empty() {
        return Ok(PathBuf::from(&tls.ssl_ca_file));
    }
    system_roots().map(Path::to_path_buf).ok_or_else(|| {
        Error::permanent(
            "socat-use-ssl = true, but there is nothing to verify the peer's certificate by: set socat-ssl-ca-file, or \
             socat-ssl-skip-verify = true",
        )
    })
}

fn failed(what: &str, e: &rustls::Error) -> Error {
    Error::permanent(format!("{what}: {e}"))
}

/// For the listener of a seed stream: TLS 1.3, no session tickets (a sender that closes with one unread would reset the
/// connection), a verified certificate of the client unless `socat-ssl-skip-verify` is true, as socat wants it.
///
/// # Errors
/// Permanent: a file that cannot be read or does not fit, with the setting.
pub fn stream_server(tls: &SocatTls) -> Result<Arc<ServerConfig>> {
    let bundle = Bundle::read("socat-ssl-cert-file", Path::new(&tls.ssl_cert_file))?;
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(|e| failed("TLS 1.3", &e))?;
    let builder = match tls.ssl_skip_verify {
        true => builder.with_no_client_auth(),
        false => {
            let known = certificates("socat-ssl-ca-file", &authorities(tls)?)?;
            builder.with_client_cert_verifier(verify::clients("socat-ssl-ca-file", known, true)?)
        }
    };
    let mut config = builder
        .with_single_cert(bundle.certificates, bundle.key)
        .map_err(|e| {
            failed(
                &format!("socat-ssl-cert-file = \"{}\"", tls.ssl_cert_file),
                &e,
            )
        })?;
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(config))
}

/// For the sender of a seed stream: TLS 1.3, its own certificate, and a verified one of the listener unless
/// `socat-ssl-skip-verify` is true. A certificate that stands itself in `socat-ssl-ca-file` is good for any name: fleets share
/// one self-signed file.
///
/// # Errors
/// As [`stream_server`].
pub fn stream_client(tls: &SocatTls) -> Result<Arc<ClientConfig>> {
    let bundle = Bundle::read("socat-ssl-cert-file", Path::new(&tls.ssl_cert_file))?;
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(|e| failed("TLS 1.3", &e))?;
    let verifier = match tls.ssl_skip_verify {
        true => verify::any_server(),
        false => verify::servers(
            "socat-ssl-ca-file",
            certificates("socat-ssl-ca-file", &authorities(tls)?)?,
            verify::Names::Any,
        )?,
    };
    let mut config = builder
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(bundle.certificates, bundle.key)
        .map_err(|e| {
            failed(
                &format!("socat-ssl-cert-file = \"{}\"", tls.ssl_cert_file),
                &e,
            )
        })?;
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

//! The server's end: the HTTP front, and the listener of a seed stream.

use super::der::Certificate;
use super::pem::{Identity, SOCAT_AUTHORITIES, certificates, socat_authorities, system_roots};
use super::verify;
use crate::config::{Common, SocatTls};
use crate::error::{Error, Result};
use rustls::pki_types::CertificateDer;
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::ClientCertVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedProtocolVersion};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

const AUTHORITIES: &str = "common.ssl-ca-file";

/// TLS of the HTTP front.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    /// TLS 1.2 and 1.3. It offers HTTP/1.1, so that a client that prefers HTTP/2 gets along.
    pub(crate) config: Arc<ServerConfig>,
    /// `use-mutual-tls`: the OU values of which a client's certificate needs one (`ssl-valid-ous`); `None` admits every client.
    pub(crate) valid_units: Option<Vec<String>>,
    /// When the certificate shown expires, where that can be read.
    pub(crate) not_after: Option<SystemTime>,
}

impl Server {
    /// By `use-ssl`; `None` where it is off. Files are read here, and again after a SIGHUP.
    ///
    /// # Errors
    /// Permanent: a file that cannot be read, a key that is not the certificate's, each with its setting.
    pub(crate) fn new(common: &Common) -> Result<Option<Self>> {
        if !common.use_ssl {
            return Ok(None);
        }
        let identity = Identity::read(
            ("common.ssl-cert-file", &common.ssl_cert_file),
            ("common.ssl-private-key-file", &common.ssl_private_key_file),
        )?;
        let not_after = Certificate::parse(&identity.certificates[0]).map(|c| c.not_after);
        let verifier = if common.use_mutual_tls {
            let file = match common.ssl_ca_file.as_str() {
                "" => system_roots().ok_or_else(|| {
                    Error::permanent(format!(
                        "common.use-mutual-tls = true, but there is nothing to verify clients by: set {AUTHORITIES}"
                    ))
                })?,
                file => Path::new(file),
            };
            // A client without a certificate gets as far as the status endpoint.
            let trusted = certificates(AUTHORITIES, file)?;
            Some(verify::clients(AUTHORITIES, trusted, false)?)
        } else {
            None
        };
        let mut config = config(&[&TLS13, &TLS12], verifier, identity)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec(), b"http/1.0".to_vec()];
        Ok(Some(Self {
            config: Arc::new(config),
            valid_units: common.use_mutual_tls.then(|| common.ssl_valid_ous.clone()),
            not_after,
        }))
    }

    /// True for a client with this verified certificate chain, its own certificate first.
    pub(crate) fn is_valid(&self, chain: Option<&[CertificateDer<'_>]>) -> bool {
        let Some(valid) = &self.valid_units else {
            return true;
        };
        let leaf = chain.and_then(|c| c.first());
        let found = leaf.and_then(|der| Certificate::parse(der));
        found.is_some_and(|c| c.organizational_units.iter().any(|ou| valid.contains(ou)))
    }
}

/// For the listener of a seed stream: TLS 1.3, and a verified certificate of the client unless `socat-ssl-skip-verify` is true, as
/// socat wants it.
///
/// # Errors
/// Permanent: a file that cannot be read or does not fit, with the setting.
pub(crate) fn stream_server(tls: &SocatTls) -> Result<Arc<ServerConfig>> {
    let identity = Identity::of_stream(tls)?;
    let verifier = if tls.ssl_skip_verify {
        None
    } else {
        let trusted = socat_authorities(tls)?;
        Some(verify::clients(SOCAT_AUTHORITIES, trusted, true)?)
    };
    config(&[&TLS13], verifier, identity).map(Arc::new)
}

/// Without sessions and tickets: each connection has the rights of its own certificate, never of an earlier one's, and a sender that
/// closes with a ticket unread would reset its connection.
fn config(
    versions: &[&'static SupportedProtocolVersion],
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    identity: Identity,
) -> Result<ServerConfig> {
    let builder = ServerConfig::builder_with_provider(verify::provider())
        .with_protocol_versions(versions)
        .map_err(|e| Error::permanent(format!("TLS: {e}")))?;
    let builder = match verifier {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(verifier),
    };
    let mut config = identity.install(|chain, key| builder.with_single_cert(chain, key))?;
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

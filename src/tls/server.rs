//! TLS of the gate (agent-api-v2 1.4): which certificate it shows, and who of its clients may do what.

use super::der::Certificate;
use super::{certificates, failed, pem, provider, system_roots, verify};
use crate::config::Common;
use crate::error::{Error, Result};
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::server::NoServerSessionStorage;
use rustls::version::{TLS12, TLS13};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

/// The certificate that the gate shows.
const CERTIFICATE: &str = "common.ssl-cert-file";
/// Its key.
const KEY: &str = "common.ssl-private-key-file";
/// By which those of clients are verified.
const AUTHORITIES: &str = "common.ssl-ca-file";

/// How the gate speaks TLS.
#[derive(Debug, Clone)]
pub struct Server {
    /// TLS 1.2 and 1.3. HTTP/1.1 is what it offers, so a client that would like HTTP/2 gets along.
    pub config: Arc<ServerConfig>,
    /// `use-mutual-tls`: the OU values of which a client's certificate needs one (`ssl-valid-ous`); `None` lets everybody in.
    pub valid_units: Option<Vec<String>>,
    /// When the certificate shown ends, where that can be read.
    pub not_after: Option<SystemTime>,
}

impl Server {
    /// By `use-ssl`; `None` where it is off. Files are read here, and again after a SIGHUP.
    ///
    /// # Errors
    /// Permanent: a file that cannot be read, a key that is not the certificate's, each with its setting.
    pub fn new(common: &Common) -> Result<Option<Self>> {
        if !common.use_ssl {
            return Ok(None);
        }
        let shown = certificates(CERTIFICATE, Path::new(&common.ssl_cert_file))?;
        let key = pem::key(KEY, Path::new(&common.ssl_private_key_file))?;
        let not_after = Certificate::parse(&shown[0]).map(|c| c.not_after);
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(|e| failed("TLS", &e))?;
        let builder = match common.use_mutual_tls {
            false => builder.with_no_client_auth(),
            true => {
                let file = match common.ssl_ca_file.as_str() {
                    "" => system_roots().ok_or_else(|| {
                        Error::permanent(format!(
                            "common.use-mutual-tls = true, but there is nothing to verify clients by: set {AUTHORITIES}"
                        ))
                    })?,
                    file => Path::new(file),
                };
                let known = certificates(AUTHORITIES, file)?;
                // Who shows none is let in as far as the status endpoint.
                builder.with_client_cert_verifier(verify::clients(AUTHORITIES, known, false)?)
            }
        };
        let mut config = builder.with_single_cert(shown, key).map_err(|e| {
            Error::permanent(format!(
                "{CERTIFICATE} = \"{}\" and {KEY} = \"{}\" do not fit together: {e}",
                common.ssl_cert_file, common.ssl_private_key_file
            ))
        })?;
        config.alpn_protocols = vec![b"http/1.1".to_vec(), b"http/1.0".to_vec()];
        // Who may do what is decided by the certificate of each connection, never by an earlier one's.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Some(Self {
            config: Arc::new(config),
            valid_units: common.use_mutual_tls.then(|| common.ssl_valid_ous.clone()),
            not_after,
        }))
    }

    /// True for a client with this verified certificate chain, its own certificate first.
    pub fn is_valid(&self, chain: Option<&[CertificateDer<'_>]>) -> bool {
        let Some(valid) = &self.valid_units else {
            return true;
        };
        let leaf = chain.and_then(|c| c.first());
        let found = leaf.and_then(|der| Certificate::parse(der));
        found.is_some_and(|c| c.organizational_units.iter().any(|ou| valid.contains(ou)))
    }
}

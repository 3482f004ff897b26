//! The client's end: calls to orchestrator and to agents, and the sender of a seed stream.

use super::pem::{Identity, SOCAT_AUTHORITIES, certificates, socat_authorities, system_roots};
use super::verify::{self, Names};
use crate::config::{Common, SocatTls};
use crate::error::{Error, Result};
use rustls::client::Resumption;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::CertificateDer;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, SupportedProtocolVersion};
use std::path::Path;
use std::sync::Arc;

/// What servers are verified by, and the own certificate.
#[derive(Debug, Clone, Copy, Default)]
pub struct Files<'a> {
    /// Authorities besides the system's: the setting, and its value, which may be empty.
    pub authorities: (&'a str, &'a str),
    /// Setting and file of the own certificate, or empty.
    pub certificate: (&'a str, &'a str),
    /// Setting and file of its key.
    pub key: (&'a str, &'a str),
    /// Do not verify the server's certificate (insecure).
    pub skip_verify: bool,
}

impl<'a> Files<'a> {
    /// For calls to orchestrator: the own certificate is shown where both its files are set.
    pub(crate) fn of(common: &'a Common) -> Self {
        Self {
            authorities: ("common.ssl-ca-file", &common.ssl_ca_file),
            certificate: ("common.ssl-cert-file", &common.ssl_cert_file),
            key: ("common.ssl-private-key-file", &common.ssl_private_key_file),
            skip_verify: common.ssl_skip_verify,
        }
    }

    fn trusted(&self) -> Result<Vec<CertificateDer<'static>>> {
        let mut trusted = Vec::new();
        if let Some(file) = system_roots() {
            trusted.extend(certificates("authorities of the system", file)?);
        }
        let (setting, file) = self.authorities;
        if !file.is_empty() {
            trusted.extend(certificates(setting, Path::new(file))?);
        }
        if trusted.is_empty() {
            return Err(Error::permanent(format!(
                "there is nothing to verify an https server by: this host has no package ca-certificates, and {setting} is empty"
            )));
        }
        Ok(trusted)
    }
}

/// For [`super::http_client`]: TLS 1.2 and 1.3. Files are read here. A certificate that is itself in the file of the authorities is
/// trusted too, for the names in it, as Go does: `openssl req -x509` makes one that is an authority.
///
/// # Errors
/// Permanent: a file that cannot be read, or that there is nothing to verify by, with the setting.
pub fn outgoing(files: &Files) -> Result<Arc<ClientConfig>> {
    let verifier = if files.skip_verify {
        verify::unverified_server()
    } else {
        verify::servers(files.authorities.0, files.trusted()?, Names::Own)?
    };
    let has_identity = !files.certificate.1.is_empty() && !files.key.1.is_empty();
    let identity = has_identity.then(|| Identity::read(files.certificate, files.key));
    config(&[&TLS13, &TLS12], verifier, identity.transpose()?)
}

/// For the sender of a seed stream: TLS 1.3, its own certificate, and a verified one of the listener unless
/// `socat-ssl-skip-verify` is true. A certificate that is itself in `socat-ssl-ca-file` is good for any name: fleets share one
/// self-signed file.
///
/// # Errors
/// Permanent: a file that cannot be read or does not fit, with the setting.
pub(crate) fn stream_client(tls: &SocatTls) -> Result<Arc<ClientConfig>> {
    let identity = Identity::of_stream(tls)?;
    let verifier = if tls.ssl_skip_verify {
        verify::unverified_server()
    } else {
        verify::servers(SOCAT_AUTHORITIES, socat_authorities(tls)?, Names::Any)?
    };
    config(&[&TLS13], verifier, Some(identity))
}

fn config(
    versions: &[&'static SupportedProtocolVersion],
    verifier: Arc<dyn ServerCertVerifier>,
    identity: Option<Identity>,
) -> Result<Arc<ClientConfig>> {
    let builder = ClientConfig::builder_with_provider(verify::provider())
        .with_protocol_versions(versions)
        .map_err(|e| Error::permanent(format!("TLS: {e}")))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(own) => own.install(|chain, key| builder.with_client_auth_cert(chain, key))?,
    };
    config.resumption = Resumption::disabled(); // each handshake is verified
    Ok(Arc::new(config))
}

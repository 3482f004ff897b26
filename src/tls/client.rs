//! TLS of calls to others: orchestrator, and the agents that the `seed` command calls.

use super::{certificates, failed, pem, provider, system_roots, verify};
use crate::config::Common;
use crate::error::{Error, Result};
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::version::{TLS12, TLS13};
use std::path::Path;
use std::sync::Arc;

/// Whom to believe, and what to show.
#[derive(Debug, Clone, Copy, Default)]
pub struct Files<'a> {
    /// Authorities beside the system's: the setting, and its value, which may be empty.
    pub authorities: (&'a str, &'a str),
    /// Certificate and key, or empty.
    pub certificate: (&'a str, &'a str),
    /// Its key.
    pub key: (&'a str, &'a str),
    /// Believe anybody.
    pub skip_verify: bool,
}

impl<'a> Files<'a> {
    /// For calls to orchestrator (agent-api-v2 1.4): the own certificate is shown where both its files are set.
    pub fn of(common: &'a Common) -> Self {
        Self {
            authorities: ("common.ssl-ca-file", &common.ssl_ca_file),
            certificate: ("common.ssl-cert-file", &common.ssl_cert_file),
            key: ("common.ssl-private-key-file", &common.ssl_private_key_file),
            skip_verify: common.ssl_skip_verify,
        }
    }
}

/// For [`super::http_client`]: TLS 1.2 and 1.3. Files are read here. A certificate that stands itself in the file of the
/// authorities is believed too, for the names in it, as Go does: `openssl req -x509` makes one that is an authority.
///
/// # Errors
/// Permanent: a file that cannot be read, or that there is nothing to verify by, with the setting.
pub fn outgoing(files: &Files) -> Result<Arc<ClientConfig>> {
    let verifier = match files.skip_verify {
        true => verify::any_server(),
        false => verify::servers(files.authorities.0, known(files)?, verify::Names::Own)?,
    };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|e| failed("TLS", &e))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let ((of_certificate, certificate), (of_key, key)) = (files.certificate, files.key);
    let mut config = if certificate.is_empty() || key.is_empty() {
        builder.with_no_client_auth()
    } else {
        let chain = certificates(of_certificate, Path::new(certificate))?;
        let private = pem::key(of_key, Path::new(key))?;
        builder.with_client_auth_cert(chain, private).map_err(|e| {
            Error::permanent(format!(
                "{of_certificate} = \"{certificate}\" and {of_key} = \"{key}\" do not fit together: {e}"
            ))
        })?
    };
    config.resumption = Resumption::disabled(); // each handshake is verified
    Ok(Arc::new(config))
}

fn known(files: &Files) -> Result<Vec<rustls::pki_types::CertificateDer<'static>>> {
    let mut known = Vec::new();
    if let Some(file) = system_roots() {
        known.extend(certificates("authorities of the system", file)?);
    }
    let (setting, file) = files.authorities;
    if !file.is_empty() {
        known.extend(certificates(setting, Path::new(file))?);
    }
    if known.is_empty() {
        return Err(Error::permanent(format!(
            "there is nothing to verify an https server by: this host has no package ca-certificates, and {setting} is empty"
        )));
    }
    Ok(known)
}

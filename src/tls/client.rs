//! TLS of calls to others: orchestrator, and the agents that the `seed` command calls.

use super::{certificates, pem, provider, system_roots};
use crate::config::Common;
use crate::error::{Error, Result};
use rustls::pki_types::CertificateDer;
use std::path::Path;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

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

/// For an HTTP client. Files are read here.
///
/// # Errors
/// Permanent: a file that cannot be read, or that there is nothing to verify by, with the setting.
pub fn outgoing(files: &Files) -> Result<TlsConfig> {
    let builder = TlsConfig::builder()
        .unversioned_rustls_crypto_provider(provider())
        .disable_verification(files.skip_verify)
        .client_cert(client_certificate(files)?);
    if files.skip_verify {
        return Ok(builder.build());
    }
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
    let roots = RootCerts::from(known.iter().map(certificate));
    Ok(builder.root_certs(roots).build())
}

fn client_certificate(files: &Files) -> Result<Option<ClientCert>> {
    let ((of_certificate, certificate_file), (of_key, key_file)) = (files.certificate, files.key);
    if certificate_file.is_empty() || key_file.is_empty() {
        return Ok(None);
    }
    let chain: Vec<_> = certificates(of_certificate, Path::new(certificate_file))?
        .iter()
        .map(certificate)
        .collect();
    pem::key(of_key, Path::new(key_file))?; // its words are better
    let unusable =
        |e: &dyn std::fmt::Display| Error::permanent(format!("{of_key} = \"{key_file}\": {e}"));
    let text = std::fs::read(key_file).map_err(|e| unusable(&e))?;
    let key = PrivateKey::from_pem(&text).map_err(|e| unusable(&e))?;
    Ok(Some(ClientCert::new_with_certs(&chain, key)))
}

fn certificate(der: &CertificateDer<'_>) -> Certificate<'static> {
    Certificate::from_der(der).to_owned()
}

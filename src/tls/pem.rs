//! PEM files.

use crate::config::SocatTls;
use crate::error::{Error, Result};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::Path;

pub(super) const SOCAT_AUTHORITIES: &str = "socat-ssl-ca-file";

/// Where distributions keep the certificates of public authorities: Debian, Red Hat, SUSE.
const SYSTEM_ROOTS: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
];

/// The file with the system's authorities.
pub(super) fn system_roots() -> Option<&'static Path> {
    SYSTEM_ROOTS.iter().map(Path::new).find(|p| p.is_file())
}

/// The certificates that the peer of a seed stream is verified by: those of the setting, or the system's.
pub(super) fn socat_authorities(tls: &SocatTls) -> Result<Vec<CertificateDer<'static>>> {
    let file = match tls.ssl_ca_file.as_str() {
        "" => system_roots().ok_or_else(|| {
            Error::permanent(
                "socat-use-ssl = true, but there is nothing to verify the peer's certificate by: set socat-ssl-ca-file, or \
                 socat-ssl-skip-verify = true",
            )
        })?,
        file => Path::new(file),
    };
    certificates(SOCAT_AUTHORITIES, file)
}

/// A certificate with its chain, the own one first, and its key.
pub(super) struct Identity {
    pub(crate) certificates: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
    /// The settings and their files, for messages.
    files: String,
}

impl Identity {
    /// From two files, each with its setting.
    pub(crate) fn read(certificate: (&str, &str), key: (&str, &str)) -> Result<Self> {
        let text = |(setting, file): (&str, &str)| format!("{setting} = \"{file}\"");
        Ok(Self {
            certificates: certificates(certificate.0, Path::new(certificate.1))?,
            key: private_key(key.0, Path::new(key.1))?,
            files: format!("{} and {}", text(certificate), text(key)),
        })
    }

    /// From one file, as socat wants it.
    pub(crate) fn of_stream(tls: &SocatTls) -> Result<Self> {
        let both = ("socat-ssl-cert-file", tls.ssl_cert_file.as_str());
        Self::read(both, both)
    }

    /// Gives both to `install`, which fails where they do not fit together.
    pub(crate) fn install<T>(
        self,
        install: impl FnOnce(
            Vec<CertificateDer<'static>>,
            PrivateKeyDer<'static>,
        ) -> std::result::Result<T, rustls::Error>,
    ) -> Result<T> {
        let files = self.files;
        install(self.certificates, self.key)
            .map_err(|e| Error::permanent(format!("{files} do not fit together: {e}")))
    }
}

fn private_key(setting: &str, path: &Path) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_file(path).map_err(|e| {
        Error::permanent(format!(
            "{setting} = \"{}\" holds no private key ({e}): it must be there in PEM form and without a pass phrase",
            path.display()
        ))
    })
}

/// All certificates of a file, at least one. `setting` names it in errors.
///
/// # Errors
/// Permanent: it cannot be read or holds none.
pub(crate) fn certificates(setting: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let refuse =
        |why: String| Error::permanent(format!("{setting} = \"{}\": {why}", path.display()));
    let found = CertificateDer::pem_file_iter(path).map_err(|e| refuse(e.to_string()))?;
    let found: std::result::Result<Vec<_>, _> = found.collect();
    let found = found.map_err(|e| refuse(e.to_string()))?;
    if found.is_empty() {
        return Err(refuse("holds no certificate in PEM form".into()));
    }
    Ok(found)
}

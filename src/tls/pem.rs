//! PEM files.

use crate::error::{Error, Result};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::Path;

/// A certificate with its chain and its key, in one file as socat wants it.
pub struct Bundle {
    /// The own one first.
    pub certificates: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
}

impl Bundle {
    /// Reads both from one file; `setting` names it in errors.
    ///
    /// # Errors
    /// Permanent: what is missing in it.
    pub fn read(setting: &str, path: &Path) -> Result<Self> {
        let certificates = certificates(setting, path)?;
        let key = key(setting, path)?;
        Ok(Self { certificates, key })
    }
}

/// The first private key of a file.
///
/// # Errors
/// Permanent: if it cannot be read or holds none.
pub fn key(setting: &str, path: &Path) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_file(path).map_err(|e| {
        Error::permanent(format!(
            "{setting} = \"{}\" holds no private key ({e}): it must be there in PEM form and without a pass phrase",
            path.display()
        ))
    })
}

/// All certificates of a file, at least one.
///
/// # Errors
/// Permanent: if it cannot be read or holds none.
pub fn certificates(setting: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>> {
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

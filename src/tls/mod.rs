//! TLS: one crypto provider (ring), PEM files, and the sessions of the HTTP front, of calls to others and of seed streams.

pub(crate) mod der;
mod http;
mod verify;

pub use http::http_client;

use crate::config::{Common, SocatTls};
use crate::error::{Error, Result};
use der::Certificate;
use rustls::client::Resumption;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::ClientCertVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ServerConfig, SupportedProtocolVersion};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;
use verify::{AnyServer, Names};

const AUTHORITIES: &str = "common.ssl-ca-file";
const SOCAT_AUTHORITIES: &str = "socat-ssl-ca-file";

/// Where distributions keep the certificates of public authorities: Debian, Red Hat, SUSE.
const SYSTEM_ROOTS: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
];

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
            let missing = "common.use-mutual-tls = true, but there is nothing to verify clients by: set common.ssl-ca-file";
            let trusted = authorities(AUTHORITIES, &common.ssl_ca_file, missing)?;
            // A client without a certificate gets as far as the status endpoint.
            Some(verify::clients(AUTHORITIES, trusted, false)?)
        } else {
            None
        };
        let mut config = server_config(&[&TLS13, &TLS12], verifier, identity)?;
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
pub(crate) fn stream_server(tls: &SocatTls) -> Result<Arc<ServerConfig>> {
    let identity = Identity::of_stream(tls)?;
    let verifier = if tls.ssl_skip_verify {
        None
    } else {
        let trusted = socat_authorities(tls)?;
        Some(verify::clients(SOCAT_AUTHORITIES, trusted, true)?)
    };
    server_config(&[&TLS13], verifier, identity).map(Arc::new)
}

/// Without sessions and tickets: each connection has the rights of its own certificate, never of an earlier one's, and a sender that
/// closes with a ticket unread would reset its connection.
fn server_config(
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
    let config = builder.with_single_cert(identity.certificates, identity.key);
    let mut config = config.map_err(|e| misfit(&identity.files, &e))?;
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

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
            authorities: (AUTHORITIES, &common.ssl_ca_file),
            certificate: ("common.ssl-cert-file", &common.ssl_cert_file),
            key: ("common.ssl-private-key-file", &common.ssl_private_key_file),
            skip_verify: common.ssl_skip_verify,
        }
    }

    fn trusted(&self) -> Result<Vec<CertificateDer<'static>>> {
        let mut trusted = match system_roots() {
            Some(file) => certificates("authorities of the system", file)?,
            None => Vec::new(),
        };
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

/// For [`http_client`]: TLS 1.2 and 1.3. Files are read here. A certificate that is itself in the file of the authorities is
/// trusted too, for the names in it, as Go does: `openssl req -x509` makes one that is an authority.
///
/// # Errors
/// Permanent: a file that cannot be read, or that there is nothing to verify by, with the setting.
pub fn outgoing(files: &Files) -> Result<Arc<ClientConfig>> {
    let verifier = if files.skip_verify {
        Arc::new(AnyServer)
    } else {
        verify::servers(files.authorities.0, files.trusted()?, Names::Own)?
    };
    let has_identity = !files.certificate.1.is_empty() && !files.key.1.is_empty();
    let identity = has_identity.then(|| Identity::read(files.certificate, files.key));
    client_config(&[&TLS13, &TLS12], verifier, identity.transpose()?)
}

/// For the sender of a seed stream: TLS 1.3, its own certificate, and a verified one of the listener unless
/// `socat-ssl-skip-verify` is true. A certificate that is itself in `socat-ssl-ca-file` is good for any name: fleets share one
/// self-signed file.
pub(crate) fn stream_client(tls: &SocatTls) -> Result<Arc<ClientConfig>> {
    let identity = Identity::of_stream(tls)?;
    let verifier = if tls.ssl_skip_verify {
        Arc::new(AnyServer)
    } else {
        verify::servers(SOCAT_AUTHORITIES, socat_authorities(tls)?, Names::Any)?
    };
    client_config(&[&TLS13], verifier, Some(identity))
}

fn client_config(
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
        Some(own) => builder
            .with_client_auth_cert(own.certificates, own.key)
            .map_err(|e| misfit(&own.files, &e))?,
    };
    config.resumption = Resumption::disabled(); // each handshake is verified
    Ok(Arc::new(config))
}

fn system_roots() -> Option<&'static Path> {
    SYSTEM_ROOTS.iter().map(Path::new).find(|p| p.is_file())
}

/// The certificates of a setting's file, or of the system where it is empty. `missing`: the error where there are none.
fn authorities(setting: &str, file: &str, missing: &str) -> Result<Vec<CertificateDer<'static>>> {
    let file = match file {
        "" => system_roots().ok_or_else(|| Error::permanent(missing))?,
        file => Path::new(file),
    };
    certificates(setting, file)
}

/// What the peer of a seed stream is verified by.
fn socat_authorities(tls: &SocatTls) -> Result<Vec<CertificateDer<'static>>> {
    let missing = "socat-use-ssl = true, but there is nothing to verify the peer's certificate by: set socat-ssl-ca-file, or \
                   socat-ssl-skip-verify = true";
    authorities(SOCAT_AUTHORITIES, &tls.ssl_ca_file, missing)
}

/// A certificate with its chain, the own one first, and its key.
struct Identity {
    certificates: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    /// The settings and their files, for messages.
    files: String,
}

impl Identity {
    /// From two files, each with its setting.
    fn read(certificate: (&str, &str), key: (&str, &str)) -> Result<Self> {
        let text = |(setting, file): (&str, &str)| format!("{setting} = \"{file}\"");
        Ok(Self {
            certificates: certificates(certificate.0, Path::new(certificate.1))?,
            key: private_key(key.0, key.1)?,
            files: format!("{} and {}", text(certificate), text(key)),
        })
    }

    /// From one file, as socat wants it.
    fn of_stream(tls: &SocatTls) -> Result<Self> {
        let both = ("socat-ssl-cert-file", tls.ssl_cert_file.as_str());
        Self::read(both, both)
    }
}

fn misfit(files: &str, e: &rustls::Error) -> Error {
    Error::permanent(format!("{files} do not match: {e}"))
}

fn private_key(setting: &str, file: &str) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_file(file).map_err(|e| {
        Error::permanent(format!(
            "{setting} = \"{file}\" holds no private key ({e}): it must be there in PEM form and without a pass phrase"
        ))
    })
}

/// All certificates of a file, at least one.
pub(crate) fn certificates(setting: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let refuse =
        |why: String| Error::permanent(format!("{setting} = \"{}\": {why}", path.display()));
    let found = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>);
    let found = found.map_err(|e| refuse(e.to_string()))?;
    if found.is_empty() {
        return Err(refuse("holds no certificate in PEM form".into()));
    }
    Ok(found)
}

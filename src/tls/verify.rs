//! Which certificates are trusted: those that an authority in the file has signed, and those that are in the file themselves.

use super::der::Certificate;
use crate::error::{Error, Result};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme,
};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// For which names a certificate is good that is itself in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    /// Any: fleets share one file.
    Any,
    /// Those that it holds.
    Own,
}

/// True if `leaf` is itself in the file and has not expired. OpenSSL makes self-signed certificates that are authorities too, which
/// webpki does not accept as a server's or client's own.
fn is_listed(
    trusted: &[CertificateDer<'static>],
    leaf: &CertificateDer<'_>,
    now: UnixTime,
) -> bool {
    let now = UNIX_EPOCH + Duration::from_secs(now.as_secs());
    trusted.iter().any(|k| k == leaf) && Certificate::parse(leaf).is_some_and(|c| now < c.not_after)
}

/// The authorities among `trusted`: webpki takes any certificate for one, and one that is listed for itself must not sign others. One
/// that cannot be read here is left to webpki.
fn roots(trusted: &[CertificateDer<'static>]) -> Option<Arc<RootCertStore>> {
    let mut roots = RootCertStore::empty();
    let signs = |c: &&CertificateDer<'_>| Certificate::parse(c).is_none_or(|c| c.is_authority);
    roots.add_parsable_certificates(trusted.iter().filter(signs).cloned());
    (!roots.is_empty()).then(|| Arc::new(roots))
}

fn unknown() -> rustls::Error {
    CertificateError::UnknownIssuer.into()
}

fn algorithms() -> WebPkiSupportedAlgorithms {
    provider().signature_verification_algorithms
}

/// For a server: a certificate that a client gives must verify; `required`: it must give one.
pub(super) fn clients(
    setting: &str,
    trusted: Vec<CertificateDer<'static>>,
    required: bool,
) -> Result<Arc<dyn ClientCertVerifier>> {
    let build = |roots| WebPkiClientVerifier::builder_with_provider(roots, provider()).build();
    let by_authority = roots(&trusted).map(build).transpose();
    let by_authority = by_authority.map_err(|e| Error::permanent(format!("{setting}: {e}")))?;
    Ok(Arc::new(Clients {
        by_authority,
        trusted,
        required,
    }))
}

pub(super) fn servers(
    setting: &str,
    trusted: Vec<CertificateDer<'static>>,
    names: Names,
) -> Result<Arc<dyn ServerCertVerifier>> {
    let build = |roots| WebPkiServerVerifier::builder_with_provider(roots, provider()).build();
    let by_authority = roots(&trusted).map(build).transpose();
    Ok(Arc::new(Servers {
        by_authority: by_authority.map_err(|e| Error::permanent(format!("{setting}: {e}")))?,
        trusted,
        names,
    }))
}

/// All verifiers leave signatures to two functions with the signature of rustls's own.
macro_rules! signatures {
    ($tls12:path, $tls13:path, $schemes:path) => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
            $tls12(message, cert, dss, &algorithms())
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
            $tls13(message, cert, dss, &algorithms())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            $schemes()
        }
    };
}

fn known_schemes() -> Vec<SignatureScheme> {
    algorithms().supported_schemes()
}

#[derive(Debug)]
struct Clients {
    by_authority: Option<Arc<dyn ClientCertVerifier>>,
    trusted: Vec<CertificateDer<'static>>,
    required: bool,
}

impl ClientCertVerifier for Clients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[] // a client sends what it has
    }

    fn client_auth_mandatory(&self) -> bool {
        self.required
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> std::result::Result<ClientCertVerified, rustls::Error> {
        if is_listed(&self.trusted, leaf, now) {
            return Ok(ClientCertVerified::assertion());
        }
        let by_authority = self.by_authority.as_ref().ok_or_else(unknown)?;
        by_authority.verify_client_cert(leaf, chain, now)
    }

    signatures!(
        verify_tls12_signature,
        verify_tls13_signature,
        known_schemes
    );
}

#[derive(Debug)]
struct Servers {
    by_authority: Option<Arc<WebPkiServerVerifier>>,
    trusted: Vec<CertificateDer<'static>>,
    names: Names,
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        if !is_listed(&self.trusted, leaf, now) {
            let by_authority = self.by_authority.as_ref().ok_or_else(unknown)?;
            return by_authority.verify_server_cert(leaf, chain, name, ocsp, now);
        }
        if self.names == Names::Own {
            verify_server_name(&ParsedCertificate::try_from(leaf)?, name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    signatures!(
        verify_tls12_signature,
        verify_tls13_signature,
        known_schemes
    );
}

/// Accepts every certificate, also one with a key or a signature that ring does not know: without a verified certificate a signature
/// proves nothing.
#[derive(Debug)]
pub(super) struct AnyServer;

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    signatures!(unverified, unverified, all_schemes);
}

fn unverified(
    _: &[u8],
    _: &CertificateDer<'_>,
    _: &DigitallySignedStruct,
    _: &WebPkiSupportedAlgorithms,
) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
    Ok(HandshakeSignatureValid::assertion())
}

fn all_schemes() -> Vec<SignatureScheme> {
    use SignatureScheme as S;
    let mut all = known_schemes();
    all.extend([S::ECDSA_NISTP521_SHA512, S::ED448, S::RSA_PKCS1_SHA1]);
    all
}

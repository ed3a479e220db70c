//! How peers prove who they are: mutual TLS, a shared secret, both, or neither (D81).
//!
//! * TLS: each side shows a certificate of the same authority, whose DNS name is the member's (`n0`).
//! * Secret: each side proves with an HMAC over both sides' nonces that it knows `peerSecret`, without showing it. The
//!   frames that follow are in the clear: a secret keeps strangers out, TLS keeps listeners out too.

use std::sync::Arc;

use ring::hmac;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::model::NodeId;

/// Certificate chain, key and authority, as PEM texts.
#[derive(Clone)]
pub struct PeerTlsFiles {
    pub chain: String,
    pub key: String,
    /// Certificates of the authority that signs all nodes' certificates.
    pub authority: String,
}

/// What a node proves itself with, and asks of its peers. Cheap to clone.
#[derive(Clone, Default)]
pub struct PeerSecurity {
    tls: Option<Arc<PeerTls>>,
    secret: Option<Arc<hmac::Key>>,
}

struct PeerTls {
    acceptor: TlsAcceptor,
    connector: TlsConnector,
}

/// Why there is no TLS between the peers.
#[derive(Debug, thiserror::Error)]
#[error("peerTlsCertPath, peerTlsKeyPath or peerTlsTrustCertPath cannot be used: {0}")]
pub struct UnusableTls(String);

/// Which side of a link speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Dialling,
    Dialled,
}

impl PeerSecurity {
    /// * Errors: the PEM texts hold no usable certificate or key.
    pub fn new(tls: Option<&PeerTlsFiles>, secret: Option<&str>) -> Result<Self, UnusableTls> {
        let tls = tls.map(PeerTls::new).transpose()?.map(Arc::new);
        let secret = secret.map(|secret| Arc::new(hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes())));
        Ok(Self { tls, secret })
    }

    /// Whether a peer proves who it is; otherwise the network is trusted.
    pub fn is_on(&self) -> bool {
        self.tls.is_some() || self.secret.is_some()
    }

    pub(super) fn acceptor(&self) -> Option<&TlsAcceptor> {
        self.tls.as_ref().map(|tls| &tls.acceptor)
    }

    pub(super) fn connector(&self) -> Option<&TlsConnector> {
        self.tls.as_ref().map(|tls| &tls.connector)
    }

    /// The proof of one side over what both have said; empty without a secret.
    pub(super) fn prove(&self, side: Side, said: &[&[u8]]) -> Vec<u8> {
        self.secret
            .as_ref()
            .map_or_else(Vec::new, |secret| hmac::sign(secret, &transcript(side, said)).as_ref().to_vec())
    }

    /// Whether the other side's proof holds. Without a secret of its own a node asks for none.
    pub(super) fn holds(&self, side: Side, said: &[&[u8]], proof: &[u8]) -> bool {
        let Some(secret) = &self.secret else { return true };
        hmac::verify(secret, &transcript(side, said), proof).is_ok()
    }
}

/// What a proof is made over: no two lists of parts give the same bytes.
fn transcript(side: Side, said: &[&[u8]]) -> Vec<u8> {
    let mut bytes = match side {
        Side::Dialling => b"raftmq peer dialling".to_vec(),
        Side::Dialled => b"raftmq peer dialled.".to_vec(),
    };
    for part in said {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}

impl PeerTls {
    fn new(files: &PeerTlsFiles) -> Result<Self, UnusableTls> {
        let unusable = |error: &dyn std::fmt::Display| UnusableTls(error.to_string());
        let certificates = |text: &str| {
            let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
            all.map_err(|error| unusable(&error))
        };
        let chain = certificates(&files.chain)?;
        let key = PrivateKeyDer::from_pem_slice(files.key.as_bytes()).map_err(|error| unusable(&error))?;
        let mut roots = RootCertStore::empty();
        for authority in certificates(&files.authority)? {
            roots.add(authority).map_err(|error| unusable(&error))?;
        }
        let roots = Arc::new(roots);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(|error| unusable(&error))?;
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(&error))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(|error| unusable(&error))?;
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(&error))?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(|error| unusable(&error))?;
        Ok(Self { acceptor: Arc::new(server).into(), connector: Arc::new(client).into() })
    }
}

/// The name that the certificate of a node's member carries.
pub(super) fn name_of(node: u64) -> ServerName<'static> {
    ServerName::try_from(NodeId(node).name().to_string()).expect("letters and digits are a DNS name")
}

/// Whether a certificate that TLS has accepted is this node's.
pub(super) fn is_of(certificate: &CertificateDer<'_>, node: u64) -> bool {
    webpki::EndEntityCert::try_from(certificate)
        .is_ok_and(|certificate| certificate.verify_is_valid_for_subject_name(&name_of(node)).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_holds_for_the_same_secret_side_and_words_only() {
        let own = PeerSecurity::new(None, Some("secret")).unwrap();
        let other = PeerSecurity::new(None, Some("other")).unwrap();
        let none = PeerSecurity::default();
        let said: &[&[u8]] = &[b"ab", b"c"];
        let proof = own.prove(Side::Dialling, said);
        assert!(own.holds(Side::Dialling, said, &proof));
        assert!(none.holds(Side::Dialling, said, &[]));
        assert!(!own.holds(Side::Dialled, said, &proof));
        assert!(!own.holds(Side::Dialling, &[b"a", b"bc"], &proof));
        assert!(!own.holds(Side::Dialling, said, &other.prove(Side::Dialling, said)));
        assert!(!own.holds(Side::Dialling, said, &none.prove(Side::Dialling, said)));
    }
}

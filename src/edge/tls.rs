//! TLS of the client ports: the operator's certificate, or one made at start, which the official
//! clients that use TLS by default accept.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The files hold no usable certificate.
    #[error("TLS certificate or key cannot be used: {0}")]
    Unusable(String),
}

fn unusable(error: impl std::fmt::Display) -> Error {
    Error::Unusable(error.to_string())
}

/// From PEM texts.
pub fn from_pem(chain: &str, key: &str) -> Result<Arc<ServerConfig>, Error> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<_, _>>().map_err(unusable)?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(unusable)?;
    config(chain, key)
}

/// With a certificate made now for these names.
pub fn self_signed(names: Vec<String>) -> Result<Arc<ServerConfig>, Error> {
    let made = rcgen::generate_simple_self_signed(names).map_err(unusable)?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).map_err(unusable)?;
    config(vec![made.cert.der().clone()], key)
}

fn config(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Arc<ServerConfig>, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(unusable)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_made_when_none_is_given() {
        let config = self_signed(vec!["localhost".into(), "127.0.0.1".into()]).unwrap();
        assert_eq!(config.alpn_protocols, [b"h2"]);
    }

    #[test]
    fn unusable_files_are_refused() {
        assert!(from_pem("", "").is_err());
        assert!(from_pem("nonsense", "nonsense").is_err());
    }
}

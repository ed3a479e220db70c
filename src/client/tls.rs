//! TLS towards the nodes: whom to believe, and the connections (`--tls`, `--tls-ca`, `--tls-insecure`).

use std::io;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::Uri;

/// Whose certificates are believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust<'a> {
    /// Those of this system's authorities.
    System,
    /// Those of the authorities in a PEM text.
    Authorities(&'a str),
    /// Any: as RocketMQ's clients do. Whoever is in the middle can read and change everything.
    Anyone,
}

/// How TLS is spoken. Cheap to clone.
#[derive(Clone)]
pub struct Tls(Arc<ClientConfig>);

impl Tls {
    /// * Errors: there are no authorities to believe.
    pub fn new(trust: Trust<'_>) -> Result<Self, String> {
        let provider = Arc::new(ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let mut config = match trust {
            Trust::Anyone => config.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider))),
            Trust::System => {
                let found = rustls_native_certs::load_native_certs();
                config.with_root_certificates(roots(found.certs, "this system has no certificates of authorities")?)
            }
            Trust::Authorities(pem) => {
                let given: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
                let given = given.map_err(|error| error.to_string())?;
                config.with_root_certificates(roots(given, "there is no certificate in it (PEM)")?)
            }
        }
        .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self(Arc::new(config)))
    }

    /// Connects to the host and port of an address.
    pub(super) async fn connect(self, to: Uri) -> io::Result<TokioIo<TlsStream<TcpStream>>> {
        let unusable = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, format!("{to}: {what}"));
        let host = to.host().ok_or_else(|| unusable("no host"))?.trim_matches(['[', ']']);
        let name =
            ServerName::try_from(host.to_owned()).map_err(|_| unusable("no name that a certificate can have"))?;
        let stream = TcpStream::connect((host, to.port_u16().ok_or_else(|| unusable("no port"))?)).await?;
        stream.set_nodelay(true)?;
        Ok(TokioIo::new(TlsConnector::from(self.0).connect(name, stream).await?))
    }
}

fn roots(certificates: Vec<CertificateDer<'static>>, none: &str) -> Result<rustls::RootCertStore, String> {
    let mut roots = rustls::RootCertStore::empty();
    // A system has some that this library does not take.
    let (added, _) = roots.add_parsable_certificates(certificates);
    if added == 0 { Err(none.to_owned()) } else { Ok(roots) }
}

/// Believes any certificate whose key the other end has.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_are_needed_and_said_to_be_missing() {
        assert!(Tls::new(Trust::Anyone).is_ok());
        let said = Tls::new(Trust::Authorities("no certificate")).err().unwrap();
        assert!(said.contains("no certificate in it"), "{said}");
        let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        assert!(Tls::new(Trust::Authorities(&own.cert.pem())).is_ok());
    }
}

//! TLS and plaintext on the client ports (contract §1.1, contract §1.3): four of the official clients speak TLS unless
//! told otherwise, and accept any certificate.

use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use raftmq::proto::v2::Code;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tonic::transport::{Channel, Endpoint};

use crate::harness::{Cluster, Wire, message};

/// Trusts anybody, as the Java, Go, C++ and C# clients do.
#[derive(Debug)]
struct Trusting(Arc<CryptoProvider>);

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A TLS connection to a node.
pub async fn connect(address: String) -> Result<Channel, tonic::transport::Error> {
    let provider = Arc::new(ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let dial = tower::service_fn(move |_| {
        let (connector, address) = (connector.clone(), address.clone());
        async move {
            let stream = tokio::net::TcpStream::connect(address).await?;
            let name = ServerName::try_from("localhost").unwrap();
            Ok::<_, std::io::Error>(TokioIo::new(connector.connect(name, stream).await?))
        }
    });
    Endpoint::from_static("http://localhost").connect_with_connector(dial).await
}

/// What a send over TLS and one in plaintext are answered; `None` where the connection is refused.
async fn sent(cluster: &Cluster, node: usize) -> [Option<Code>; 2] {
    let send = async |wire: Wire| {
        let sent = wire.send(vec![message("t", "id", "b")], Duration::from_secs(3)).await;
        sent.ok().map(|answer| answer.status.unwrap().code())
    };
    let secure = match connect(cluster.address(node)).await {
        Ok(channel) => send(Wire::over(channel, "secure")).await,
        Err(_) => None,
    };
    [secure, send(Wire::connect(&cluster.address(node), "plain")).await]
}

#[test]
fn tls_and_plaintext_are_served_on_one_port_unless_told_otherwise() {
    let mut cluster = Cluster::start();
    cluster.raftmq_ok(&["topic", "create", "t"]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    assert_eq!(runtime.block_on(sent(&cluster, 0)), [Some(Code::Ok), Some(Code::Ok)]);
    for (mode, expected) in [("enforcing", [Some(Code::Ok), None]), ("disabled", [None, Some(Code::Ok)])] {
        cluster.kill(0);
        cluster.start_node_with(0, &[&format!("tls.server.mode={mode}")]);
        // The node answers nobody in plaintext when it enforces TLS, so the others are asked.
        let until = std::time::Instant::now() + Duration::from_secs(10);
        let mut found = runtime.block_on(sent(&cluster, 0));
        while found != expected && std::time::Instant::now() < until {
            std::thread::sleep(Duration::from_millis(100));
            found = runtime.block_on(sent(&cluster, 0));
        }
        assert_eq!(found, expected, "{mode}\n{}", cluster.logs());
    }
}

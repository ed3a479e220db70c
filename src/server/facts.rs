//! What `raftmq check` asks of this process and only its start knows: its settings, and when its certificates end.

use std::path::Path;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::parse_x509_certificate;

use crate::config::Loaded;
use crate::edge::admin::{CertificateFact, ProcessFacts};
use crate::env::disk;
use crate::model::Timestamp;

pub(super) fn facts(loaded: &Loaded) -> ProcessFacts {
    let settings = loaded.effective.iter().map(|set| (set.key.to_owned(), set.value.clone())).collect();
    let of_clients = loaded.config.tls.files.as_ref().map(|(chain, _)| ("clients", chain));
    let of_peers = loaded.config.peer_security.tls.as_ref();
    let of_peers = of_peers.into_iter().flat_map(|tls| [("peers", &tls.certificate), ("peers", &tls.authority)]);
    let certificates = of_clients.into_iter().chain(of_peers).map(|(shown_to, file)| CertificateFact {
        shown_to,
        file: file.clone(),
        ends: first_end(file),
    });
    ProcessFacts { settings, certificates: certificates.collect() }
}

/// When the first of the certificates in a file ends.
fn first_end(file: &Path) -> Result<Timestamp, String> {
    let text = disk::read_text(file).map_err(|error| error.to_string())?;
    let ends = CertificateDer::pem_slice_iter(text.as_bytes()).map(|certificate| {
        let certificate = certificate.map_err(|error| error.to_string())?;
        let (_, parsed) = parse_x509_certificate(&certificate).map_err(|error| error.to_string())?;
        let seconds = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
        Ok(Timestamp(seconds.saturating_mul(1000)))
    });
    let ends: Vec<Timestamp> = ends.collect::<Result<_, String>>()?;
    ends.into_iter().min().ok_or_else(|| "there is no certificate in it".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_chain_is_that_of_its_first_certificate_to_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let signed = |year: i32| {
            let mut wanted = rcgen::CertificateParams::new(vec!["n0".to_owned()]).unwrap();
            wanted.not_after = rcgen::date_time_ymd(year, 1, 1);
            wanted.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
        };
        disk::write_text(file.path(), &[signed(2040), signed(2031)].concat()).unwrap();
        // 2031-01-01.
        assert_eq!(first_end(file.path()), Ok(Timestamp(1_924_992_000_000)));
        disk::write_text(file.path(), "").unwrap();
        assert!(first_end(file.path()).is_err());
    }
}

//! Reads what this node proves itself with to its peers: secret and certificates.

use std::path::Path;

use crate::config::PeerSecurityConfig;
use crate::env::disk;
use crate::node::StartError;
use crate::raft::{PeerSecurity, PeerTlsFiles};

/// A shorter secret can be guessed.
const SECRET_BYTES_MIN: usize = 16;

/// * Errors: a file cannot be read or used.
pub(super) fn peer_security(config: &PeerSecurityConfig) -> Result<PeerSecurity, StartError> {
    let secret = config.secret.as_deref().map(secret).transpose()?;
    let tls = config.tls.as_ref().map(|paths| {
        Ok::<_, StartError>(PeerTlsFiles {
            chain: read(&paths.certificate)?,
            key: read(&paths.key)?,
            authority: read(&paths.authority)?,
        })
    });
    let tls = tls.transpose()?;
    PeerSecurity::new(tls.as_ref(), secret.as_deref()).map_err(|error| StartError::Contradiction(error.to_string()))
}

/// The secret of a file, without the blanks around it.
fn secret(path: &Path) -> Result<String, StartError> {
    let secret = read(path)?.trim().to_owned();
    if secret.len() < SECRET_BYTES_MIN {
        return Err(StartError::Contradiction(format!(
            "peerSecretPath={}: the secret is {} bytes long, at least {SECRET_BYTES_MIN} are needed; make one with \
             `openssl rand -base64 32`",
            path.display(),
            secret.len()
        )));
    }
    Ok(secret)
}

fn read(path: &Path) -> Result<String, StartError> {
    disk::read_text(path).map_err(|error| StartError::Contradiction(format!("{}: {error}", path.display())))
}

//! Who may connect how: TLS from the files of the configuration, or with a certificate of the process's own.

use std::path::Path;

use crate::config::{TlsConfig, TlsMode};
use crate::edge::listener::Security;
use crate::edge::tls;
use crate::env::disk;
use crate::server::Error;

/// Reads certificate and key, or makes them; `host` is one of the names of a certificate that is made.
pub(super) fn security(config: &TlsConfig, host: &str) -> Result<Security, Error> {
    let allows_plaintext = config.mode != TlsMode::Enforcing;
    if config.mode == TlsMode::Disabled {
        return Ok(Security { tls: None, allows_plaintext });
    }
    let made = match &config.files {
        Some((chain, key)) => tls::from_pem(&read(chain)?, &read(key)?),
        None => {
            let names = ["localhost", "127.0.0.1", "::1", host];
            tls::self_signed(names.map(str::to_owned).to_vec())
        }
    };
    Ok(Security { tls: Some(made.map_err(|error| Error::Tls(error.to_string()))?), allows_plaintext })
}

fn read(path: &Path) -> Result<String, Error> {
    disk::read_text(path).map_err(|error| Error::Tls(format!("{}: {error}", path.display())))
}

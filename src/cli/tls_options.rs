//! Options and variables of the environment that make a command speak TLS.

use std::io;
use std::path::{Path, PathBuf};

use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::client::{Tls, Trust};

/// How nodes are spoken to.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct TlsOptions {
    /// Speak TLS, believing this system's authorities [env: RAFTMQ_TLS=true]
    #[arg(long, global = true)]
    tls: bool,
    /// Speak TLS, believing the authorities in this PEM file [env: RAFTMQ_TLS_CA]
    #[arg(long, global = true, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// Speak TLS, believing any certificate, as RocketMQ's clients do [env: RAFTMQ_TLS_INSECURE=true]
    #[arg(long, global = true)]
    tls_insecure: bool,
}

impl TlsOptions {
    /// How TLS is spoken, if the options, the environment or `wanted` say so. An option outweighs the environment.
    pub(super) fn read(
        &self,
        wanted: bool,
        variable: impl Fn(&str) -> Option<String>,
        read: impl Fn(&Path) -> io::Result<String>,
    ) -> Result<Option<Tls>, Failure> {
        let is_option = self.tls || self.tls_ca.is_some() || self.tls_insecure;
        let (tls, ca, insecure) = if is_option {
            (self.tls, self.tls_ca.clone(), self.tls_insecure)
        } else {
            let flag = |name: &str| flag(name, variable(name).as_deref());
            (flag("RAFTMQ_TLS")?, variable("RAFTMQ_TLS_CA").map(PathBuf::from), flag("RAFTMQ_TLS_INSECURE")?)
        };
        let usage = |text: String| Failure::new(Exit::Usage, text);
        let pem = match &ca {
            Some(_) if insecure => {
                return Err(usage("--tls-ca and --tls-insecure contradict each other: give one of them".to_owned()));
            }
            Some(file) => Some(read(file).map_err(|error| usage(format!("{}: {error}", file.display())))?),
            None => None,
        };
        let trust = match &pem {
            Some(pem) => Trust::Authorities(pem),
            None if insecure => Trust::Anyone,
            None if tls || wanted => Trust::System,
            None => return Ok(None),
        };
        let place = ca.map(|file| format!("{}: ", file.display())).unwrap_or_default();
        Tls::new(trust).map(Some).map_err(|error| usage(format!("TLS: {place}{error}")).remedy("or:", "--tls-ca FILE"))
    }
}

fn flag(name: &str, value: Option<&str>) -> Result<bool, Failure> {
    match value {
        None | Some("false" | "0") => Ok(false),
        Some("true" | "1") => Ok(true),
        Some(other) => Err(Failure::new(Exit::Usage, format!("{name} is '{other}'; write true or false"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(options: &TlsOptions, wanted: bool) -> Result<bool, String> {
        let missing = |_: &Path| Err(io::Error::from(io::ErrorKind::NotFound));
        options.read(wanted, |_| None, missing).map(|tls| tls.is_some()).map_err(|failure| format!("{failure:?}"))
    }

    #[test]
    fn tls_is_spoken_when_it_is_asked_for_and_contradictions_are_refused() {
        let insecure = TlsOptions { tls_insecure: true, ..TlsOptions::default() };
        assert_eq!((read(&TlsOptions::default(), false), read(&insecure, false)), (Ok(false), Ok(true)));
        let ca = TlsOptions { tls_ca: Some("ca.pem".into()), ..TlsOptions::default() };
        assert!(read(&ca, false).unwrap_err().contains("ca.pem: "));
        let of_environment = |name: &str| (name == "RAFTMQ_TLS_INSECURE").then(|| "yes".to_owned());
        let unclear = TlsOptions::default().read(false, of_environment, |_| Ok(String::new())).err().unwrap();
        assert!(format!("{unclear:?}").contains("RAFTMQ_TLS_INSECURE is 'yes'; write true or false"));
        let both = TlsOptions { tls_insecure: true, ..ca };
        assert!(read(&both, false).unwrap_err().contains("contradict each other"));
    }
}

//! Configuration: RocketMQ's broker properties, read as they are (D21).
//!
//! Every key is in one table ([`KEYS`]): honoured, or accepted without effect with one warning. Any other key, a bad value,
//! a contradiction, or protection, replication or a role that is asked for and not given ends the start, with file, line
//! and remedy.
//!
//! Not here: reading files and the environment (`cli/config`); this folder sees text.

mod broker;
mod characters;
mod demand;
mod host;
mod http;
mod keys;
mod load;
mod logs;
mod members;
mod namesrv;
#[cfg(test)]
mod odd_value_tests;
mod origin;
mod properties;
mod retention;
#[cfg(test)]
mod tests;
mod value;

pub use broker::{BrokerConfig, PeerSecurityConfig, TlsConfig, TlsMode};
pub use demand::Harmless;
pub use http::HttpConfig;
pub use keys::{KEYS, Key, Kind, Status};
pub use load::{ConfigErrors, ENVIRONMENT_PREFIX, Loaded, Sources, load};
pub use logs::{LogConfig, LogFilesConfig, LogFormat};
pub use members::PeerAddress;
pub use namesrv::{LoadedNamesrv, NAMESRV_KEYS, NamesrvConfig, load_namesrv};
pub use origin::{Effective, Origin};
pub use retention::RetentionConfig;

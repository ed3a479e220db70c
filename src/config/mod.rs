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
mod keys;
mod load;
mod members;
mod origin;
mod properties;
mod retention;
#[cfg(test)]
mod tests;
mod value;

pub use broker::{BrokerConfig, LogFormat, PeerSecurityConfig, TlsConfig, TlsMode};
pub use demand::Harmless;
pub use keys::{KEYS, Key, Kind, Status};
pub use load::{ConfigErrors, ENVIRONMENT_PREFIX, Loaded, Sources, load};
pub use members::PeerAddress;
pub use origin::{Effective, Origin};
pub use retention::RetentionConfig;

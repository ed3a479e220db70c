//! What the commands need of the world: the time and something unique.
//!
//! TODO: when `env` has a clock and a generator, take them from there and delete this file.

use crate::model::Timestamp;

/// The wall clock.
#[allow(clippy::disallowed_methods, reason = "until env brings the clock")]
pub fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// A random number; tells this process's client from all others.
pub fn unique() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().1
}

/// The host's name as the shell tells it, or `localhost`.
pub fn host_name() -> String {
    std::env::var("HOSTNAME").ok().filter(|name| !name.is_empty()).unwrap_or_else(|| "localhost".into())
}

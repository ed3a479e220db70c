//! Whether this process may have the memory that a node takes.

use crate::config::BrokerConfig;
use crate::env::process;

/// Beside the memory that is configured: the program, its threads, clients.
const OTHER_BYTES: u64 = 128 << 20;

/// This process may have too little memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this process may have {} MiB of address space (ulimit -v), and needs {} MiB at least: rocksdbMemoryBudget and \
     tailCacheBytes, {} MiB, and 128 MiB; raise the limit (ulimit -v unlimited, LimitAS=infinity), or set these keys lower",
    .limit >> 20, (.configured + OTHER_BYTES) >> 20, .configured >> 20
)]
pub struct TooLittleMemory {
    limit: u64,
    configured: u64,
}

/// Refuses a start that is sure to end for lack of memory, and warns of one that is likely to.
pub(super) fn check(config: &BrokerConfig) -> Result<(), TooLittleMemory> {
    let configured = (config.state_memory_bytes as u64).saturating_add(config.tail_cache_bytes as u64);
    refuse(configured, process::address_space_limit())?;
    if let Some(limit) = process::group_memory_limit().filter(|limit| lacks(configured, *limit)) {
        tracing::warn!(
            "the control group of this process may have {} MiB of memory; with rocksdbMemoryBudget and tailCacheBytes, {} MiB, \
             a node takes some {} MiB, and the kernel kills what takes more: raise the limit, or set these keys lower",
            limit >> 20,
            configured >> 20,
            configured.saturating_add(OTHER_BYTES) >> 20
        );
    }
    Ok(())
}

fn refuse(configured: u64, limit: Option<u64>) -> Result<(), TooLittleMemory> {
    match limit {
        Some(limit) if lacks(configured, limit) => Err(TooLittleMemory { limit, configured }),
        Some(_) | None => Ok(()),
    }
}

fn lacks(configured: u64, limit: u64) -> bool {
    limit < configured.saturating_add(OTHER_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_memory_is_refused_with_limit_need_and_remedy() {
        let configured = 120 << 20;
        assert_eq!(refuse(configured, None), Ok(()));
        assert_eq!(refuse(configured, Some(248 << 20)), Ok(()));
        let text = refuse(configured, Some((248 << 20) - 1)).unwrap_err().to_string();
        for part in ["may have 247 MiB", "needs 248 MiB", "120 MiB", "rocksdbMemoryBudget", "ulimit -v unlimited"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(refuse(u64::MAX, Some(u64::MAX - 1)).is_err());
    }
}

//! The hash that stands for a text in the log and in the state.

/// Hash of a text, never 0: 0 stands for "no text". Hashes are stored, so they never change.
pub fn text_hash(text: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(text.as_bytes()).max(1)
}

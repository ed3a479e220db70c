//! The ordered key-value store under the machine: the trait (`ordered`), walks over it (`pages`), RocksDB, a map for tests, and two caches in
//! front of either.
//!
//! The only part of `store/` that the machine knows, and of that only the trait. `rocks` is the only file of the
//! project that names RocksDB.
//!
//! Not here: what the keys mean (`machine/state/keys`).

mod bounded_values;
pub mod catalog_cache;
#[cfg(test)]
pub(super) mod conformance;
mod facts;
pub mod memory;
mod ordered;
mod pages;
pub mod rocks;
#[cfg(test)]
mod rocks_damage_tests;
pub mod value_cache;

pub use facts::KvFacts;
pub use ordered::{Error, Kv, Result, Space, WriteBatch};
pub use pages::each;

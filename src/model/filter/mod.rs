//! Filters of consumers: tags, and SQL92 conditions over properties.
//!
//! Not here: reading the messages that a filter is applied to (`broker/receive`).

pub mod sql;
pub mod tag;

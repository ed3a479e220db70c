//! Filters of consumers: tags, and SQL92 conditions over properties.
//!
//! Not here: reading the messages that a filter is asked about (`broker/receive/poll`).

pub mod sql;
pub mod tag;

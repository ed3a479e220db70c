//! What operators look at: topics, groups, messages and their deliveries, traffic. Writes nothing.
//!
//! Not here: drawing tables (`cli/`), the wire form of the answers (`edge/admin`).

pub(super) mod message_query;
pub(super) mod overview;
pub(super) mod trace;
pub(super) mod traffic;

//! What operators are shown of a shard: topics, groups, messages and their deliveries, traffic. Writes nothing, and
//! `Inspector` cannot: it holds no proposer.
//!
//! Not here: drawing tables (`cli/`), the wire form of the answers (`edge/admin`), the nodes (`node/status`).

mod inspector;
mod message_query;
mod overview;
mod trace;
mod traffic;

pub use inspector::Inspector;
pub use message_query::{Found, MessageQuery, QueryCursor, StoredMessage};
pub use overview::{GroupDescription, GroupSummary, Position, QueueSummary, TopicSummary};
pub use trace::{Event, EventKind, GroupTrace, Trace};
pub use traffic::Traffic;

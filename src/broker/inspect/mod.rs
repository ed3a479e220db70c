//! What operators are shown of a shard: topics, groups, messages and their deliveries, traffic, statistics. Writes nothing, and
//! `Inspector` cannot: it holds no proposer.
//!
//! Not here: drawing tables (`cli/`), the wire form of the answers (`edge/admin`), the nodes (`node/status`).

mod backlog;
mod counted;
mod counts_page;
mod events;
mod inspector;
mod message_by_place;
mod message_query;
mod overview;
mod statistics;
mod trace;
mod trace_by_id;
mod traffic;

pub use backlog::{Backlog, Backlogs, GroupTraffic, TopicTraffic};
pub use counted::{Flow, Periods};
pub use counts_page::{CountsKey, CountsOf, CountsPage, CountsQuery, CountsRow};
pub use events::{EventPage, EventView};
pub use inspector::Inspector;
pub use message_query::{DeadLetterOrigin, Found, MessageQuery, QueryCursor, StoredMessage};
pub use overview::{GroupDescription, GroupSummary, NamePage, Position, QueueSummary, TopicSummary};
pub use statistics::{MinuteFlows, ShardCounts, Statistics};
pub use trace::{Event, EventKind, GroupTrace, Life, Trace};
pub use traffic::Traffic;

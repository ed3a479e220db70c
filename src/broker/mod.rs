//! Above the log: what a request means, for one shard. Chooses, stamps, plans, waits; everything that changes state
//! becomes a command and goes through `raft/`.
//!
//! One `Broker` per node and shard, shared by all front-end threads. It reads the applied state of its own node and
//! proposes through whoever leads, so every node serves every request (D15). One file per verb; `receive/` is the poll,
//! `background/` what nobody asks for, `inspect/` what people are shown.
//!
//! Not here: wire types and status codes (`edge/`), what a node has once (`node/`, which a shard knows as [`Clients`]
//! only), deciding what is still free (`machine/receive`).

mod ack;
mod answer_room;
mod arrivals;
mod background;
mod budget;
mod caps;
mod clients;
mod dead_letter;
mod deadline;
mod delay;
mod error;
mod events;
mod handle_key;
mod inspect;
mod invisible;
mod key_values;
mod lease_handle;
mod member;
mod member_rules;
mod offset;
#[cfg(debug_assertions)]
mod planted;
mod queue_lock;
mod reader;
mod receive;
mod resend;
mod send;
mod send_back;
mod settings;
mod settled;
mod shard;
mod topics;
mod transaction;
mod trim;
mod write_permission;

pub use ack::Acked;
pub use answer_room::{AnswerRoom, InRoom};
pub use arrivals::Arrivals;
pub use background::Background;
pub use budget::{Budget, Held, NoBytes, Share};
pub use caps::CatalogCount;
pub use clients::{ClientInfo, Clients, GroupConsumer, OrphanedTransaction, Subscription};
pub use deadline::Deadline;
pub use error::Error;
pub use events::ActWords;
pub use inspect::{
    Backlog, Backlogs, CountsKey, CountsOf, CountsPage, CountsQuery, CountsRow, DeadLetterOrigin, Event, EventKind,
    EventPage, EventView, Flow, Found, GroupDescription, GroupSummary, GroupTrace, GroupTraffic, Inspector, Life,
    MessageQuery, MinuteFlows, NamePage, Periods, Position, QueryCursor, QueueSummary, ShardCounts, Statistics,
    StoredMessage, TopicSummary, TopicTraffic, Trace, Traffic,
};
pub use member_rules::{NotAllowed, Voters, check as check_member_change};
pub use offset::{Moved, Pull, Pulled, PulledMessage, ResetTo, Where};
pub use reader::ShardReader;
pub use receive::{Delivery, Receive, Received, UndeliveredLeases};
pub use send::{SendReceipt, Sent, SentToQueue};
pub use send_back::SentBack;
pub use settings::{BrokerSettings, Caps, LogRetention, ReplicaSite};
pub use shard::{Broker, BrokerParts};
pub use topics::{GroupView, TopicView};
pub use trim::{TopicTrim, TrimBefore, TrimCursor, TrimPage};

pub use crate::machine::command::{UpdateGroup, UpdateTopic};
pub use crate::machine::state::events::{NewLeader, Operator};
pub use crate::machine::state::member_changes::{
    ChangeEnd, EndedChange, MemberChange, MemberChangeKind, MemberChanges,
};
pub use crate::model::{ConsumeFrom, GroupSettings};
pub use crate::raft::EntryPlace;

//! The words every layer shares: identities, names, messages, times, limits.
//!
//! Imports nothing of ours. Wire types never reach below `edge/`; these types are what the layers
//! hand to each other instead.
//!
//! Not here: wire conversion (`edge/grpc/convert`), commands of the log (`machine/command`).

pub mod backoff;
pub mod codec;
pub mod filter;
pub mod ids;
pub mod limits;
pub mod message;
pub mod names;
pub mod receipt;
pub mod time;

pub use backoff::Backoff;
pub use filter::tag::{Filter, TagFilter};
pub use ids::{GroupId, LeaseId, LogIndex, MessageRef, NodeId, QueueId, QueueOffset, Term, TopicId};
pub use message::{BodyEncoding, Message, MessageType, TopicType};
pub use names::{GroupName, NameError, TopicName};
pub use receipt::ReceiptHandle;
pub use time::{Millis, Timestamp};

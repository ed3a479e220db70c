//! The types that every layer shares: identities, names, messages, filters, times, limits, and the encoding of the
//! log and the state.
//!
//! Imports no other folder. No wire type is used below `edge/`; these types are used instead.
//!
//! Not here: conversion from and to wire types (`edge/grpc/convert`), commands of the log (`machine/command`).

pub mod backoff;
pub mod codec;
pub mod counts;
pub mod disk_room;
pub mod filter;
pub mod group_settings;
pub mod handle;
pub mod host_port;
pub mod hours_of_day;
pub mod ids;
pub mod limits;
pub mod message;
pub mod message_group;
pub mod names;
pub mod offset_set;
pub mod permission;
pub mod receipt;
pub mod text_hash;
pub mod time;
pub mod transaction;
pub mod units;
pub mod write_permission;

pub use backoff::Backoff;
pub use disk_room::{DiskMark, DiskRoom, NoRoom, RoomState};
pub use filter::tag::{Filter, TagFilter};
pub use group_settings::{ConsumeFrom, GroupSettings};
pub use handle::{HandleKey, HandleKind, NotAHandle};
pub use host_port::HostPort;
pub use hours_of_day::HoursOfDay;
pub use ids::{GroupId, LeaseId, LogIndex, MemberName, MessageRef, NodeId, QueueId, QueueOffset, Term, TopicId};
pub use message::{BodyEncoding, ClassicMarks, Message, MessageType, TopicType};
pub use message_group::MessageGroupHash;
pub use names::{GroupName, NameError, TRACE_TOPIC, TopicName};
pub use offset_set::OffsetSet;
pub use permission::Permission;
pub use receipt::ReceiptHandle;
pub use text_hash::text_hash;
pub use time::{Millis, Timestamp};
pub use transaction::TransactionChecks;
pub use write_permission::Unwritable;

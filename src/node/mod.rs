//! What a process has once, whatever it serves: the sessions of its clients, the routes to all nodes, its settings, and
//! its start and stop. It holds its shard and implements what the shard needs of it (`broker::Clients`).
//!
//! Not here: what a request means (`broker/`), ports and protocols (`edge/`), what makes a process of it (`server/`).

mod all_clients;
mod backup;
mod classic_groups;
mod classic_members;
mod client_list;
mod clients;
mod connections;
mod consumer_ids;
mod consumers;
mod counts;
mod counts_codec;
mod error;
mod group_protocol;
mod heartbeat_clients;
mod heartbeat_producers;
mod leader;
mod members;
mod notice;
mod open;
mod peer_security;
mod portrait_codec;
mod remembered;
mod reset;
mod retention_notice;
mod routes;
mod self_portrait;
mod sessions;
mod settings;
mod start;
mod status;

pub use all_clients::ClientList;
pub use backup::BackupSource;
pub use counts::NodeCounts;
pub use error::StartError;
pub use group_protocol::OtherProtocol;
pub use heartbeat_clients::{ConnectionNumber, HeartbeatClients, HeartbeatConsumer, VersionedSubscription};
pub use heartbeat_producers::{GroupProducer, HeartbeatProducers};
pub use members::{Asked, MemberRequest, MemberSummary, MembersOverview, NotChanged};
pub use notice::{ClientAnswer, ClientQuestion, Notice, OffsetsReset};
pub use open::discard;
pub use portrait_codec::SelfPortrait;
pub use routes::Routes;
pub use sessions::{ClientHeader, KnownClient, SessionSettings, Sessions};
pub use settings::{NodeAddress, NodeSettings};
pub use start::Node;
pub use status::NodeSummary;

pub use crate::raft::{
    CatchingUp, Damage, DayCounts, FollowerMark, NotServed, NotTransferred, ReplicaMeasures, ReplicaStatus, Sight,
};
pub use crate::store::kv::KvFacts;
pub use crate::store::log::record::RecordId as EntryId;

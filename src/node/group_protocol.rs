//! By which protocol a group is consumed: one at a time (D212). Consumers over gRPC lease messages, classic ones commit offsets, and
//! neither would know of the other's.
//!
//! A group is of the protocol of its living consumers. Classic consumers send heartbeats to every node, so a node knows them;
//! those of gRPC are asked for at all nodes, when the first classic one comes.

use crate::broker::{ClientInfo, Deadline, Error};
use crate::model::{GroupName, Timestamp};
use crate::node::Node;
use crate::node::clients::NodeClients;
use crate::node::sessions::LIVING_FOR;

/// A group that is consumed by the other protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "consumer group '{group}' is consumed {how} by client '{}' ({}, {when} {}); a group belongs to one protocol at a time: stop its \
     consumers there, or use another group here",
    .client.client_id, .client.address, .at.utc()
)]
pub struct OtherProtocol {
    group: GroupName,
    /// `over gRPC`, say.
    how: &'static str,
    client: Box<ClientInfo>,
    /// What the time is.
    when: &'static str,
    at: Timestamp,
}

impl Node {
    /// Whether a client may consume a group over gRPC. If not, it is no consumer of the group for others either.
    ///
    /// * Errors: [`OtherProtocol`] while a classic consumer of the group is connected to this node.
    pub fn consumes_over_grpc(&self, group: &GroupName, client_id: &str) -> Result<(), OtherProtocol> {
        let holder = self.heartbeat_clients().first_of(group);
        self.sessions().set_refused(client_id, holder.is_some());
        match holder {
            Some((client, at)) => {
                let (how, when) = ("over the classic protocol", "since");
                Err(OtherProtocol { group: group.clone(), how, client: Box::new(client), when, at })
            }
            None => Ok(()),
        }
    }

    /// Whether classic consumers may consume a group, before the first of them does on this node.
    ///
    /// * Errors: [`OtherProtocol`] while a consumer over gRPC lives on any node.
    pub async fn consumes_over_remoting(&self, group: &GroupName) -> Result<(), OtherProtocol> {
        if self.heartbeat_clients().is_known(group) {
            return Ok(());
        }
        let clients = NodeClients {
            sessions: self.sessions.clone(),
            heartbeat_clients: self.heartbeat_clients.clone(),
            producers: self.heartbeat_producers.clone(),
            replica: self.replica.clone(),
        };
        let now = self.broker().now();
        let mut living = clients.over_grpc(group).await.into_iter();
        match living.find(|(_, consumer)| consumer.seen_at.plus(LIVING_FOR) > now) {
            Some((_, consumer)) => {
                let (how, when) = ("over gRPC", "last seen");
                let (client, at) = (Box::new(consumer.client), consumer.seen_at);
                Err(OtherProtocol { group: group.clone(), how, client, when, at })
            }
            None => Ok(()),
        }
    }

    /// Makes the position of a group that was consumed over gRPC one that classic consumers go on from: what was leased and not
    /// settled is consumed again, with what was settled after it.
    ///
    /// * Errors: as [`crate::broker::Broker::commit_offsets`].
    pub async fn take_over_leases(&self, group: &GroupName) -> Result<(), Error> {
        self.broker().give_up_leases(group, Deadline::NONE).await
    }
}

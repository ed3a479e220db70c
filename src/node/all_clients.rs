//! The clients of the cluster: those of this node by its sessions and heartbeats, the others by asking.

use std::collections::BTreeMap;

use futures_util::future::join_all;

use crate::node::client_list::{of_node, question, read_answer};
use crate::node::{KnownClient, Node};

/// The clients of all nodes that answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientList {
    /// Each with the node that saw it last, by client id.
    pub clients: Vec<(String, KnownClient)>,
    pub left_out: usize,
    /// Nodes that did not say whom they see.
    pub unknown: Vec<String>,
}

impl Node {
    /// All nodes are asked at once; one that does not answer is waited for.
    pub async fn clients(&self) -> ClientList {
        let members = self.replica.members();
        let answers = members.all().map(|member| member.node).map(async |node| {
            if node == self.replica.node() {
                let own = of_node(&self.sessions, &self.heartbeat_clients, &self.heartbeat_producers);
                return (node, Some(own));
            }
            let answer = self.replica.ask(node, question()).await;
            (node, answer.and_then(|answer| read_answer(answer).ok()))
        });
        let mut list = ClientList::default();
        // A classic client may consume and produce for several groups.
        let mut by_id = BTreeMap::<_, (String, KnownClient)>::new();
        for (node, answer) in join_all(answers).await {
            let name = node.name().to_string();
            let Some((clients, left_out)) = answer else {
                list.unknown.push(name);
                continue;
            };
            list.left_out += left_out;
            for client in clients {
                let id = (client.info.client_id.clone(), client.group.clone(), client.producer_group.clone());
                if by_id.get(&id).is_none_or(|(_, known)| known.seen_at < client.seen_at) {
                    by_id.insert(id, (name.clone(), client));
                }
            }
        }
        list.clients = by_id.into_values().collect();
        list
    }
}

//! The clients of the cluster: those of this node by its sessions, the others by asking.

use std::collections::BTreeMap;

use futures_util::future::join_all;

use crate::node::client_list::{CLIENTS_MAX, question, read_answer};
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
                return (node, Some(self.sessions().known(CLIENTS_MAX)));
            }
            let answer = self.replica.ask(node, question()).await;
            (node, answer.and_then(|answer| read_answer(answer).ok()))
        });
        let mut list = ClientList::default();
        let mut by_id: BTreeMap<String, (String, KnownClient)> = BTreeMap::new();
        for (node, answer) in join_all(answers).await {
            let name = node.name().to_string();
            let Some((clients, left_out)) = answer else {
                list.unknown.push(name);
                continue;
            };
            list.left_out += left_out;
            for client in clients {
                let known = by_id.get(&client.info.client_id);
                if known.is_none_or(|(_, known)| known.seen_at < client.seen_at) {
                    by_id.insert(client.info.client_id.clone(), (name.clone(), client));
                }
            }
        }
        list.clients = by_id.into_values().collect();
        list
    }
}

//! Statistics of the cluster: those of the leader, whichever node is asked, as far as it answers.

use crate::broker::{CountsPage, CountsQuery, Error, ShardCounts};
use crate::model::NodeId;
use crate::node::Node;
use crate::node::counts_codec::{question, read_answer};

/// What one node counted.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeCounts {
    pub node: NodeId,
    /// Whether it leads. Otherwise no leader is known, or it does not answer.
    pub leads: bool,
    pub shard: ShardCounts,
    pub page: CountsPage,
}

impl Node {
    /// What the leader counted, or if it does not answer, this node. To read on, `of` names the node that counted before.
    ///
    /// * Errors: [`Error::NoLeader`] if that node does not answer any more; the state cannot be read.
    pub async fn counts(&self, query: &CountsQuery, of: Option<NodeId>) -> Result<NodeCounts, Error> {
        let own = self.replica.node();
        let leader = self.broker().leadership().borrow().leader;
        let asked = of.or(leader).unwrap_or(own);
        if asked != own {
            let answer = self.replica.ask(asked, question(query)).await;
            if let Some((shard, page)) = answer.and_then(|answer| read_answer(answer).ok()) {
                return Ok(NodeCounts { node: asked, leads: leader == Some(asked), shard, page });
            }
            if of.is_some() {
                return Err(Error::NoLeader);
            }
        }
        let (shard, page) = (self.inspector().shard_counts(), self.inspector().counts(query)?);
        Ok(NodeCounts { node: own, leads: leader == Some(own), shard, page })
    }
}

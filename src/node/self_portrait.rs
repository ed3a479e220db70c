//! What nodes say of themselves to each other.

use bytes::Bytes;

use crate::model::MemberName;
use crate::node::portrait_codec::{question, read_answer};
use crate::node::{Node, SelfPortrait};

impl Node {
    /// From now on other nodes are answered with this. The first one stays.
    pub fn set_portrait(&self, portrait: SelfPortrait) {
        let _ = self.portrait.set(portrait);
    }

    /// What another node says of itself; `None` if it does not answer, or is of an older build.
    pub async fn portrait_of(&self, member: MemberName) -> Option<Bytes> {
        let node = self.replica.members().all().map(|one| one.node).find(|node| node.name() == member)?;
        read_answer(&self.replica.ask(node, question()).await?)
    }
}

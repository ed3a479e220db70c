//! Who leads, as an operator or a stop wants it.

use crate::broker::{ActWords, Operator};
use crate::model::MemberName;
use crate::node::Node;
use crate::raft::NotTransferred;

impl Node {
    /// Makes the node of this name the leader; the name of the one that led before.
    ///
    /// * Errors: why it cannot lead.
    pub async fn transfer_leadership(&self, by: &Operator, name: &str) -> Result<Option<String>, NotTransferred> {
        let transferred = self.try_transfer(name).await;
        let said = match &transferred {
            Ok(_) => "ok".to_owned(),
            Err(refused) => format!("refused: {refused}"),
        };
        self.broker().note_done(by, ActWords::new("leader-transfer", name, ""), &said).await;
        transferred
    }

    async fn try_transfer(&self, name: &str) -> Result<Option<String>, NotTransferred> {
        let members = self.replica.members();
        let by_name = MemberName::parse(name).and_then(|name| members.of_name(name));
        let to = by_name.ok_or_else(|| {
            let names: Vec<_> = members.all().map(|member| member.node.name().to_string()).collect();
            NotTransferred::Refused(format!("'{name}' is no node of this cluster; there are {}", names.join(", ")))
        })?;
        let from = self.broker().leadership().borrow().leader;
        self.replica.transfer_leadership(to.node).await?;
        Ok(from.map(|node| node.name().to_string()))
    }

    /// Gives leadership away before a stop, while clients are still served: what they send goes to the next leader.
    pub async fn leave(&self) {
        self.leaving.cancel();
        self.replica.leave().await;
    }
}

//! Where the nodes serve clients, and the change of members that is under way, as the log says it. Before: `node/routes`,
//! `node/members`; after: `machine/member`, `broker/background/members`.

use tokio::time::Instant;

use crate::broker::{ActWords, Broker, Deadline, Error, MemberChangeKind, MemberChanges, Operator};
use crate::machine::Command;
use crate::machine::command::Announce;
use crate::model::NodeId;

impl Broker {
    /// The client address of each node that announced one, as far as this node has applied the log.
    pub fn announced_addresses(&self) -> Result<Vec<(NodeId, String)>, Error> {
        Ok(self.reader.view().members()?)
    }

    /// Announces where a node serves clients: `host:port`.
    ///
    /// * Errors: [`Error::TimedOut`] is an unknown fate; it is safe to repeat.
    pub async fn announce(&self, node: NodeId, address: String) -> Result<(), Error> {
        let command = Command::Announce(Announce { node, address });
        self.propose_repeatable(&command, self.held_until(Deadline::NONE)).await.map(|_| ())
    }

    /// The change of members that is under way, and the last one before.
    ///
    /// * Errors: [`Error::NoLeader`] if this node cannot know in time.
    pub async fn member_changes(&self, until: Instant) -> Result<MemberChanges, Error> {
        self.reader.read_barrier(until).await?;
        self.known_member_changes()
    }

    /// The same, as far as this node has applied the log.
    pub fn known_member_changes(&self) -> Result<MemberChanges, Error> {
        Ok(self.reader.view().member_changes()?)
    }

    /// Begins a change of members, unless one is under way. What there is afterwards, the state says.
    ///
    /// * Errors: [`Error::TimedOut`] is an unknown fate.
    pub async fn begin_member_change(
        &self,
        by: &Operator,
        kind: MemberChangeKind,
        until: Instant,
    ) -> Result<(), Error> {
        let words = change_words(&kind);
        self.propose_act(by, words, Command::BeginMemberChange(kind), until).await.map(|_| ())
    }

    /// Has a change of members undone, if it has not come too far.
    ///
    /// * Errors: [`Error::TimedOut`] is an unknown fate; it is safe to repeat.
    pub async fn cancel_member_change(&self, by: &Operator, number: u64, until: Instant) -> Result<(), Error> {
        let words = ActWords::new("members-cancel", "", format!("change {number}"));
        let command = self.of_operator(by, words, Command::CancelMemberChange { number })?;
        self.propose_repeatable(&command, until).await.map(|_| ())
    }
}

/// What is asked for, for the events.
fn change_words(kind: &MemberChangeKind) -> ActWords {
    match kind {
        MemberChangeKind::Add { name, address } => ActWords::new("members-add", name, format!("at {address}")),
        MemberChangeKind::Replace { old, address } => {
            ActWords::new("members-replace", old.name(), format!("{old} goes, the new one is at {address}"))
        }
        MemberChangeKind::Remove { node } => ActWords::new("members-remove", node.name(), ""),
    }
}

//! Where the nodes serve clients, as the log says it. Before: `node/routes`; after: `machine/member`.

use crate::broker::{Broker, Deadline, Error};
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
}

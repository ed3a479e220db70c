//! How fast a learner is sent the log: by `snapshotRate` a second faster than the log grows (D197).
//!
//! A new replica whose leader has all of the log is sent all of it, by appends. As fast as the link takes them they hold up
//! the syncs of the nodes that acknowledge sends, and nothing depends on a learner yet. Voters are sent everything at once.

use std::sync::Arc;
use std::time::Duration;

use crate::model::NodeId;
use crate::raft::peer::identity::PeerIdentity;
use crate::raft::snapshot::rate::RateLimit;

/// What the log grew by while nothing was sent is not all sent at once later.
const GROWN_MAX: u64 = 8 * 1024 * 1024;
/// As much is booked ahead as may be: it is asked again after this.
const BUSY_PAUSE: Duration = Duration::from_secs(1);

/// The pace of one stream of appends.
pub(in crate::raft) struct LearnerPace {
    identity: PeerIdentity,
    target: NodeId,
    /// Shared with all that is pulled from this node.
    rate: Arc<RateLimit>,
    /// Bytes that had been written to the log when it was looked last.
    written: u64,
    /// What the log grew by and was not sent since.
    grown: u64,
}

impl LearnerPace {
    pub fn new(identity: &PeerIdentity, target: NodeId, rate: Arc<RateLimit>) -> Self {
        let written = identity.log.measures().written_bytes.now();
        Self { identity: identity.clone(), target, rate, written, grown: 0 }
    }

    /// Waits until so many bytes of entries may be sent.
    pub async fn until_due(&mut self, bytes: usize) {
        let owed = self.take_grown(bytes);
        if owed == 0 || self.identity.members.is_voter(self.target) {
            return;
        }
        while !self.rate.take(owed).await {
            tokio::time::sleep(BUSY_PAUSE).await;
        }
    }

    /// What is left of so many bytes without those that the log grew by.
    fn take_grown(&mut self, bytes: usize) -> usize {
        let written = self.identity.log.measures().written_bytes.now();
        self.grown = (self.grown + written - self.written).min(GROWN_MAX);
        self.written = written;
        let of_grown = self.grown.min(bytes as u64);
        self.grown -= of_grown;
        bytes - usize::try_from(of_grown).unwrap_or(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use futures_util::FutureExt;

    use super::*;
    use crate::model::LogIndex;
    use crate::raft::members::{Member, MemberTable, Members};
    use crate::raft::peer::security::PeerSecurity;
    use crate::raft::snapshot::test_replica::TestReplica;

    const LEARNER: NodeId = NodeId(1);

    fn members(is_voter: bool) -> Members {
        let member = Member { node: LEARNER, address: "h1:1".to_owned(), is_voter };
        Members::new(LogIndex(1), [member])
    }

    #[tokio::test]
    async fn a_learner_is_sent_what_is_new_at_once_and_what_is_old_at_the_rate() {
        let (leader, table) = (TestReplica::new(0), MemberTable::new(BTreeMap::new()));
        table.set_own(members(false), Members::default());
        let names = ("c".to_owned(), "g".to_owned());
        let security = PeerSecurity::default();
        let identity = PeerIdentity::new(names, 0, table.clone(), security, leader.log.clone(), false);
        leader.write_upto(100);
        let rate = Arc::new(RateLimit::new(1000));
        let mut pace = LearnerPace::new(&identity, LEARNER, rate.clone());
        // The first one has its time afterwards.
        pace.until_due(5_000).await;
        assert_eq!(pace.until_due(1).now_or_never(), None);
        let before = identity.log.measures().written_bytes.now();
        leader.write_upto(110);
        let grown = usize::try_from(identity.log.measures().written_bytes.now() - before).unwrap();
        assert!(grown > 1000, "{grown}");
        assert_eq!(pace.until_due(grown - 10).now_or_never(), Some(()), "it is new");
        assert_eq!(pace.until_due(11).now_or_never(), None, "ten bytes of it are");
        assert!(!rate.take(0).now_or_never().unwrap_or(false), "what is pulled waits for it too");
        table.set_own(members(true), Members::default());
        assert_eq!(pace.until_due(usize::MAX).now_or_never(), Some(()), "it votes now");
    }
}

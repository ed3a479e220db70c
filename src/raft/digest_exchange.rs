//! Replicas compare their running digests: at equal applied entries they must be equal (P15, D119).
//!
//! Each says its digest with its status, every second; whoever asked compares it with its own at the same entry (`digests`).
//! A replica that differs from a majority, whose digests are equal among themselves, is the one that is wrong: it stops, and
//! its state is made anew at its next start. If nobody can tell who is wrong, all go on and say so.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::model::NodeId;
use crate::raft::digests::Digests;
use crate::raft::error::{Fatal, OnFatal};
use crate::raft::lost_tail::voters;
use crate::raft::state_machine::ShardRaft;
use crate::store::kv::Kv;

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What nobody can decide is said once in so many looks.
const REPORT_LOOKS: u32 = 60;
/// Looks in a row that find this replica wrong before it stops: one that just started says after a moment whom it differs
/// from.
const WRONG_LOOKS: u32 = 3;

/// What it works with.
pub(super) struct DigestExchange {
    pub digests: Digests,
    pub raft: ShardRaft,
    pub node: NodeId,
    pub kv: Arc<dyn Kv>,
    pub on_fatal: OnFatal,
}

impl DigestExchange {
    /// Works until it is dropped; ends with `on_fatal` if this replica is wrong.
    pub async fn run(self) {
        let (mut looks, mut wrong) = (0u32, 0u32);
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let differing = self.digests.differs_from(Instant::now());
            if differing.is_empty() {
                (looks, wrong) = (0, 0);
                continue;
            }
            let voters = voters(&self.raft);
            wrong = if self.digests.is_wrong(&voters, self.node, Instant::now()) { wrong + 1 } else { 0 };
            if wrong >= WRONG_LOOKS {
                self.kv.give_up("its digest differs from those of the other nodes");
                let what = "the state of this node differs from that of a majority: it is made anew at the next start";
                return (self.on_fatal)(Fatal::Failed(what.to_owned()));
            }
            if looks.is_multiple_of(REPORT_LOOKS) {
                let peers: Vec<_> = differing.iter().map(|node| format!("n{node}")).collect();
                tracing::error!(
                    peers = peers.join(", "),
                    "the state of this node differs from that of peers, and not from a majority that agrees: either they are \
                     wrong, or nobody can tell who is"
                );
            }
            looks += 1;
        }
    }
}

//! `preferredLeaderId`: leadership goes back to the node that the operator prefers, once it can lead again (D120).
//!
//! The leader looks, as in DLedger. A node that takes leadership and loses it again must not have the cluster elect for
//! ever: attempts are few, and the pause between them doubles.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::MemberName;
use crate::raft::replica::Replica;

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Looks in a row that must find the preferred node able to lead.
const FIT_LOOKS: u32 = 3;
/// Attempts within [`ATTEMPTS_WITHIN`].
const ATTEMPTS_MAX: usize = 5;
const ATTEMPTS_WITHIN: Duration = Duration::from_secs(60 * 60);
/// After the first attempt; after each further one it is twice as long.
const PAUSE: Duration = Duration::from_secs(10);

/// When leadership was given to the preferred node, newest last.
#[derive(Default)]
struct Attempts(Vec<Instant>);

impl Attempts {
    /// Whether one more is due; it is counted then.
    fn begin(&mut self, now: Instant) -> bool {
        self.0.retain(|at| now.duration_since(*at) < ATTEMPTS_WITHIN);
        let count = self.0.len();
        let is_due = self.0.last().is_none_or(|last| now.duration_since(*last) >= PAUSE * (1 << (count - 1)));
        if count >= ATTEMPTS_MAX || !is_due {
            return false;
        }
        self.0.push(now);
        true
    }
}

/// Runs until it is dropped. Every node looks, and does something while it leads.
pub(super) async fn prefer(replica: Replica, preferred: MemberName) {
    let (mut fit_looks, mut attempts) = (0, Attempts::default());
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let leads = replica.leadership.borrow().is_self;
        // Another replica may have the name by now.
        let preferred = replica.members().of_name(preferred).map(|member| member.node);
        let Some(preferred) = preferred.filter(|_| leads) else {
            fit_looks = 0;
            continue;
        };
        let is_fit = replica.may_lead(preferred).await.is_ok();
        fit_looks = if is_fit { fit_looks + 1 } else { 0 };
        if fit_looks < FIT_LOOKS || !attempts.begin(Instant::now()) {
            continue;
        }
        fit_looks = 0;
        match replica.pass_leadership(preferred).await {
            Ok(()) => tracing::info!(to = %preferred, "leadership given to the node that preferredLeaderId names"),
            Err(error) => tracing::warn!(%error, "leadership is not where preferredLeaderId wants it"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p22_a_preferred_leader_that_does_not_stay_is_tried_a_few_times_with_longer_pauses() {
        let start = Instant::now();
        let mut attempts = Attempts::default();
        let begun: Vec<u64> = (0..3600).filter(|second| attempts.begin(start + Duration::from_secs(*second))).collect();
        assert_eq!(begun, [0, 10, 30, 70, 150]);
        assert!(attempts.begin(start + ATTEMPTS_WITHIN + Duration::from_secs(150)), "an hour later it may try again");
    }
}

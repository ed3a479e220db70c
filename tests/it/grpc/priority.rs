//! Topics of type PRIORITY and MIXED.

use raftmq::proto::v2::Code;

use crate::fixture::calls::{change, code, drain, route, send};
use crate::fixture::cluster::with_cluster;
use crate::fixture::messages::{delayed, delivered, half, ids, message, ordered, system, urgent};
use crate::fixture::wire::POLL;

#[test]
fn priority_topics_deliver_the_highest_first_and_mixed_ones_take_four_types() {
    with_cluster(&[], &[("alarms", "PRIORITY"), ("any", "MIXED")], async |cluster| {
        let [a, c, _] = cluster.wires();
        // A poll plans on what its node has applied; the leader has all that was answered.
        let b = cluster.wire(cluster.wait_for_leader());
        for (id, priority) in [("low", 0), ("top", 7), ("middle", 3), ("above all", 99)] {
            send(&a, urgent("alarms", id, priority)).await;
        }
        let (_, got) = b.receive("g", "alarms", 3, POLL).await.unwrap();
        assert_eq!(ids(&got), ["top", "above all", "middle"]);
        assert_eq!(system(&got[0]).priority, Some(7));
        // What comes back is in line by its priority, too.
        send(&c, urgent("alarms", "lower", 1)).await;
        let (_, handle, _) = delivered(&got[2]);
        assert_eq!(change(&a, "g", "alarms", &handle, 0).await.0, Code::Ok);
        let (_, got) = b.receive("g", "alarms", 16, POLL).await.unwrap();
        assert_eq!(ids(&got), ["middle", "lower", "low"]);

        assert_eq!(code(&a, message("alarms", "x", "plain")).await, Code::MessagePropertyConflictWithType);
        for (message, expected) in [
            (message("any", "plain", "b"), Code::Ok),
            (ordered("any", "m", 1), Code::Ok),
            (delayed("any", "delayed", 1000), Code::Ok),
            (half("any", "half"), Code::Ok),
            (urgent("any", "urgent", 1), Code::MessagePropertyConflictWithType),
        ] {
            assert_eq!(code(&a, message).await, expected);
        }
        let got = drain(std::slice::from_ref(&c), "g", "any", 3).await;
        assert_eq!(got[2].0, "delayed", "the half message is not seen: {got:?}");
        let (_, rows) = route(&c, "any", None).await;
        assert_eq!(rows[0].accept_message_types, [1, 2, 3, 4]);

        cluster.raftmq_ok(&["topic", "update", "alarms", "--permission", "R"]);
        assert_eq!(code(&a, urgent("alarms", "late", 1)).await, Code::Forbidden);
    });
}

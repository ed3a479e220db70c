//! What clients hear of a node that is told to stop (remoting §1.6).

use raftmq::proto::remoting::{Fields, RequestCode, ResponseCode};

use crate::fixture::classic::Classic;
use crate::fixture::cluster::with_cluster;

/// Asks until a node turns away, and gives the code that it does so with.
async fn turned_away(client: &mut Classic) -> i32 {
    loop {
        let opaque = client.put(RequestCode::GetBrokerClusterInfo as i32, false, Fields::default(), b"").await;
        let answer = client.next().await.expect("the node closed the connection without a word").header;
        assert_eq!(answer.opaque, opaque);
        if answer.code != ResponseCode::Success as i32 {
            assert!(answer.remark.as_deref().is_some_and(|why| why.contains("is stopping")), "{answer:?}");
            return answer.code;
        }
    }
}

#[test]
fn a_node_that_stops_turns_requests_away_as_the_version_of_each_client_wants_it() {
    with_cluster(&[], &[], async |mut cluster| {
        let mut newer = Classic::connect(&cluster.address(0)).await;
        let mut older = Classic::connect(&cluster.address(0)).await;
        older.version = 475;
        for client in [&mut newer, &mut older] {
            assert!(client.cluster_info().await.broker_addr_table.contains_key("Test00"));
        }
        cluster.signal(0, "TERM");
        let codes = tokio::join!(turned_away(&mut newer), turned_away(&mut older));
        assert_eq!(codes, (ResponseCode::GoAway as i32, ResponseCode::ServiceNotAvailable as i32));
        assert_eq!(cluster.wait_for_end(0), Some(0), "clients that go on asking do not hold it up");
    });
}

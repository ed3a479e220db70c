//! What a node's configuration lets clients do there, over both protocols: `brokerPermission`, `rejectTransactionMessage`.

use raftmq::proto::remoting::{Fields, Frame, RequestCode, ResponseCode};
use raftmq::proto::v2;
use raftmq::proto::v2::Code;

use super::send::fields;
use crate::fixture::calls::route;
use crate::fixture::classic::Classic;
use crate::fixture::cluster::with_cluster;
use crate::fixture::messages::{half, message};
use crate::fixture::requests::poll;
use crate::fixture::wire::CALL;

async fn pull(client: &mut Classic) -> Frame {
    let mut asked = Fields::default();
    for (name, value) in [("consumerGroup", "g"), ("topic", "t"), ("maxMsgNums", "32"), ("expressionType", "TAG")] {
        asked.put(name, value);
    }
    for (name, value) in [("queueId", 0), ("sysFlag", 4), ("queueOffset", 0), ("commitOffset", 0), ("subVersion", 1)] {
        asked.put(name, value);
    }
    asked.put("suspendTimeoutMillis", 0);
    asked.put("subscription", "*");
    client.ask(RequestCode::PullMessage, asked, b"").await
}

/// Refused, and by which key.
fn is_refused(answer: &Frame, key: &str) -> bool {
    let remark = answer.header.remark.as_deref().unwrap_or_default();
    answer.header.code == ResponseCode::NoPermission as i32 && remark.contains(key)
}

fn is_forbidden(status: &v2::Status, key: &str) -> bool {
    status.code() == Code::Forbidden && status.message.contains(key)
}

#[test]
fn clients_send_to_nodes_that_give_out_nothing_and_receive_from_those_that_take_nothing() {
    for (permission, may_send) in [("2", true), ("4", false)] {
        with_cluster(&[&format!("brokerPermission={permission}")], &[("t", "NORMAL")], async |cluster| {
            let mut client = Classic::connect(&cluster.address(1)).await;
            let sent = client.ask(RequestCode::SendMessageV2, fields("t", 0, ""), b"b").await;
            let pulled = pull(&mut client).await;
            let refused = [&sent, &pulled].map(|answer| is_refused(answer, "brokerPermission"));
            assert_eq!(refused, [!may_send, may_send], "{sent:?} {pulled:?}");
            assert!(may_send || pulled.header.code == ResponseCode::PullNotFound as i32, "{pulled:?}");

            let wire = cluster.wire(2).within(CALL);
            let status = wire.send(vec![message("t", "i", "b")]).await.unwrap().status.unwrap();
            assert_eq!((status.code() == Code::Ok, is_forbidden(&status, "brokerPermission")), (may_send, !may_send));
            let received = wire.receive_with(poll("g", "t"), CALL).await.unwrap().0;
            assert_eq!(is_forbidden(&received, "brokerPermission"), may_send, "{received:?}");

            let expected = if may_send { v2::Permission::Write } else { v2::Permission::Read };
            let rows = route(&wire, "t", None).await.1;
            assert!(!rows.is_empty() && rows.iter().all(|row| row.permission() == expected), "{rows:?}");
            let classic = client.route("t").await.unwrap();
            let of_name = classic.queue_datas.iter().find(|queues| queues.broker_name == "Test00").unwrap();
            assert_eq!(of_name.perm.to_string(), permission);
        });
    }
}

#[test]
fn nodes_that_take_no_transactions_say_so() {
    with_cluster(&["rejectTransactionMessage=true"], &[("t", "MIXED")], async |cluster| {
        let mut client = Classic::connect(&cluster.address(0)).await;
        let properties = "TRAN_MSG\u{1}true\u{2}PGROUP\u{1}producers\u{2}UNIQ_KEY\u{1}i\u{2}";
        let mut asked = fields("t", 0, properties);
        asked.put("f", 4);
        let sent = client.ask(RequestCode::SendMessageV2, asked, b"b").await;
        assert!(is_refused(&sent, "rejectTransactionMessage"), "{sent:?}");
        let wire = cluster.wire(1).within(CALL);
        let status = wire.send(vec![half("t", "i")]).await.unwrap().status.unwrap();
        assert!(is_forbidden(&status, "rejectTransactionMessage"), "{status:?}");
        assert_eq!(wire.send(vec![message("t", "j", "b")]).await.unwrap().status.unwrap().code(), Code::Ok);
    });
}

//! Connections: both protocols on every port, frames that are refused, requests side by side (remoting §1).

use raftmq::proto::remoting::{Fields, Frame, HeaderType, RequestCode, ResponseCode};
use raftmq::proto::v2::Code;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::send::fields;
use crate::fixture::calls::{code, take};
use crate::fixture::classic::Classic;
use crate::fixture::cluster::with_cluster;
use crate::fixture::messages::message;
use crate::fixture::requests::poll;
use crate::fixture::tls;
use crate::fixture::wire::{CALL, Wire};

#[test]
fn every_port_tells_the_protocols_apart_in_plaintext_and_over_tls() {
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        for address in [cluster.address(0), cluster.listen_address(0), cluster.vip_address(0)] {
            let mut plain = Classic::connect(&address).await;
            let mut secure = Classic::over(tls::connect_plainly(&address).await);
            for header_type in [HeaderType::Json, HeaderType::Binary] {
                (plain.header_type, secure.header_type) = (header_type, header_type);
                assert_eq!(plain.cluster_info().await.cluster_addr_table["TestCluster"], ["Test00"]);
                assert_eq!(secure.cluster_info().await.cluster_addr_table["TestCluster"], ["Test00"]);
            }
            let wires =
                [Wire::over(tls::connect(address.clone()).await.unwrap(), "secure"), Wire::connect(&address, "plain")];
            for wire in wires {
                assert_eq!(code(&wire.within(CALL), message("t", "id", "b")).await, Code::Ok);
            }
        }
    });
}

#[test]
fn a_balancer_says_where_a_connection_is_from_in_front_of_every_protocol() {
    const FROM: &[u8] = b"PROXY TCP4 10.9.8.7 10.0.0.1 54321 80\r\n";
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        let address = cluster.listen_address(0);
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(FROM).await.unwrap();
        let secure = tls::connect_behind(&address, FROM).await;
        let sent = [
            Classic::over(stream).ask(RequestCode::SendMessageV2, fields("t", 3, ""), b"a").await,
            Classic::over(secure).ask(RequestCode::SendMessageV2, fields("t", 3, ""), b"b").await,
        ];
        assert_eq!(sent.map(|answer| answer.header.code), [0, 0]);
        let wires = cluster.wires_within(CALL);
        for message in take(&wires[..1], &poll("g", "t"), 2).await {
            assert!(message.system_properties.unwrap().born_host.starts_with("10.9.8.7"));
        }
        let mut broken = TcpStream::connect(&address).await.unwrap();
        broken.write_all(b"PROXY TCP4\r\n").await.unwrap();
        assert_eq!(Classic::over(broken).next().await, None);
    });
}

#[test]
fn a_malformed_frame_ends_its_connection_without_an_answer_and_no_other() {
    with_cluster(&[], &[], async |cluster| {
        let mut other = Classic::connect(&cluster.address(0)).await;
        other.cluster_info().await;
        for bytes in [
            // A frame beyond the limit, one too short for its own parts, a header longer than the frame, an unknown type, and
            // headers that are none.
            &[1, 0, 0, 1, 0][..],
            &[0, 0, 0, 3, 0],
            &[0, 0, 0, 4, 0, 0, 0, 1],
            &[0, 0, 0, 4, 7, 0, 0, 0],
            b"\0\0\0\x06\0\0\0\x02{]",
            b"\0\0\0\x06\x01\0\0\x02{}",
        ] {
            let mut bad = Classic::connect(&cluster.address(0)).await;
            bad.put_bytes(bytes).await;
            assert_eq!(bad.next().await, None, "{bytes:?}");
        }
        other.cluster_info().await;
    });
}

#[test]
fn requests_are_answered_by_number_and_one_way_ones_never() {
    with_cluster(&[], &[], async |cluster| {
        let mut client = Classic::connect(&cluster.address(0)).await;
        for (number, name) in [(9999, ""), (200_050, "POP_MESSAGE"), (103, "REGISTER_BROKER")] {
            client.put(number, true, Fields::default(), b"").await;
            let opaque = client.put(number, false, Fields::default(), b"").await;
            let Frame { header, body, .. } = client.answer_to(opaque).await;
            assert_eq!((header.code, body.len()), (ResponseCode::RequestCodeNotSupported as i32, 0));
            let remark = header.remark.unwrap();
            assert!(remark.contains(&number.to_string()) && remark.contains(name), "{remark}");
        }
        let missing = client.ask(RequestCode::GetRouteInfoByTopic, Fields::default(), b"").await;
        assert_eq!(missing.header.code, ResponseCode::InvalidParameter as i32);
        assert_eq!(missing.header.remark.as_deref(), Some("the field 'topic' is missing"));
        // Many at once, by bytes that arrive in any parts.
        let mut open = std::collections::BTreeSet::new();
        for _ in 0..200 {
            open.insert(client.put(RequestCode::GetBrokerClusterInfo as i32, false, Fields::default(), b"").await);
        }
        while !open.is_empty() {
            let answer = client.next().await.unwrap();
            assert!(open.remove(&answer.header.opaque), "{answer:?}");
        }
    });
}

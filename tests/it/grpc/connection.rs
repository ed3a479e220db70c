//! Connections: pings, headers of any language, health and reflection.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use raftmq::proto::v2;
use raftmq::proto::v2::Code;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tonic::transport::Endpoint;

use crate::fixture::calls::{heartbeat, send, told};
use crate::fixture::cluster::with_cluster;
use crate::fixture::messages::message;
use crate::fixture::telemetry::{LANGUAGES, answer_to, publishing, settings};
use crate::fixture::wire::{CALL, SOON, Wire};

/// What went over the connections of a relay, as bytes of each way.
#[derive(Default)]
struct Passed {
    connections: usize,
    up: Vec<u8>,
    down: Vec<u8>,
}

/// Takes connections and passes their bytes on to a node, for as long as it is polled.
async fn relay(listener: TcpListener, node: String, passed: Arc<Mutex<Passed>>) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let server = TcpStream::connect(&node).await.unwrap();
        passed.lock().unwrap().connections += 1;
        let ((client_read, client_write), (server_read, server_write)) = (client.into_split(), server.into_split());
        let (up, down) = (passed.clone(), passed.clone());
        tokio::spawn(pass(client_read, server_write, move |bytes| up.lock().unwrap().up.extend(bytes)));
        tokio::spawn(pass(server_read, client_write, move |bytes| down.lock().unwrap().down.extend(bytes)));
    }
}

async fn pass(mut from: tokio::net::tcp::OwnedReadHalf, mut to: tokio::net::tcp::OwnedWriteHalf, keep: impl Fn(&[u8])) {
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        keep(&bytes[..count]);
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

/// Type and flags of the HTTP/2 frames in these bytes (RFC 9113 §4.1).
fn frames(mut bytes: &[u8]) -> Vec<(u8, u8)> {
    let mut frames = Vec::new();
    while let [a, b, c, kind, flags, _, _, _, _, rest @ ..] = bytes {
        frames.push((*kind, *flags));
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        bytes = rest.get(length..).unwrap_or_default();
    }
    frames
}

#[test]
fn c25_15_pings_without_calls_are_answered_and_keep_the_connection() {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const PING: u8 = 6;
    const GOAWAY: u8 = 7;
    const ACK: u8 = 1;
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let passed = Arc::new(Mutex::new(Passed::default()));
        let relaying = tokio::spawn(relay(listener, cluster.address(0), passed.clone()));
        // Far more often than any client does, so that a server that counts them against it is soon found out.
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .unwrap()
            .http2_keep_alive_interval(Duration::from_secs(1))
            .keep_alive_timeout(SOON)
            .keep_alive_while_idle(true);
        let wire = Wire::over(endpoint.connect().await.unwrap(), "pinging").within(CALL);
        assert_eq!(heartbeat(&wire, v2::ClientType::Producer, None).await.unwrap(), Code::Ok);
        tokio::time::sleep(Duration::from_secs(8)).await;
        {
            let passed = passed.lock().unwrap();
            let (up, down) = (frames(passed.up.strip_prefix(PREFACE).unwrap()), frames(&passed.down));
            let count = |frames: &[(u8, u8)], frame| frames.iter().filter(|other| **other == frame).count();
            let pings = count(&up, (PING, 0));
            assert!(pings >= 4, "the client does ping: {up:?}");
            assert!(count(&down, (PING, ACK)) >= pings - 1, "each is answered, but the last may be under way");
            assert!(!down.iter().any(|(kind, _)| *kind == GOAWAY), "{down:?}");
        }
        send(&wire, message("t", "m", "m")).await;
        assert_eq!(passed.lock().unwrap().connections, 1, "it is still the first connection");
        relaying.abort();
    });
}

#[test]
fn c25_15_any_language_and_any_date_are_taken() {
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        let wires = cluster.wires_within(CALL);
        let wire = &wires[0];
        let dates = ["20240229T235959Z", "2024-02-29T23:59:59.123456789+05:30", "yesterday", ""];
        for language in LANGUAGES.into_iter().chain([""]) {
            for date in dates {
                // Nobody checks who calls yet: the header is passed over, whole or not.
                for signature in ["MQv2-HMAC-SHA1 Credential=, SignedHeaders=x-mq-date-time, Signature=00", "nonsense"]
                {
                    let marked = |metadata: &mut tonic::metadata::MetadataMap| {
                        for (name, value) in [
                            ("x-mq-language", language),
                            ("x-mq-date-time", date),
                            ("authorization", signature),
                            ("x-mq-protocol", "v9"),
                            ("x-mq-client-version", ""),
                        ] {
                            metadata.insert(name, value.parse().unwrap());
                        }
                    };
                    let beat = v2::HeartbeatRequest { group: None, client_type: v2::ClientType::Producer.into() };
                    let mut request = wire.request(beat);
                    marked(request.metadata_mut());
                    let answer = wire.raw().heartbeat(request).await.unwrap().into_inner();
                    assert_eq!(told(answer.status), Code::Ok, "{language} {date} {signature}");
                    let mut request = wire.request(v2::SendMessageRequest { messages: vec![message("t", "m", "m")] });
                    marked(request.metadata_mut());
                    let answer = wire.raw().send_message(request).await.unwrap().into_inner();
                    assert_eq!(told(answer.status), Code::Ok, "{language} {date} {signature}");
                }
            }
            let sent = settings(v2::ClientType::Producer, publishing(&["t"]));
            answer_to(wire, language, &sent).await;
        }
    });
}

#[test]
fn a_node_with_a_leader_reports_itself_healthy_and_describes_its_services() {
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", cluster.address(0))).unwrap();
        let channel = channel.connect().await.unwrap();
        let mut health = tonic_health::pb::health_client::HealthClient::new(channel.clone());
        let service = "apache.rocketmq.v2.MessagingService".to_owned();
        let answer = health.check(tonic_health::pb::HealthCheckRequest { service }).await.unwrap().into_inner();
        assert_eq!(answer.status(), tonic_health::pb::health_check_response::ServingStatus::Serving);

        use tonic_reflection::pb::v1 as reflection;
        let mut describe = reflection::server_reflection_client::ServerReflectionClient::new(channel);
        let ask = reflection::ServerReflectionRequest {
            host: String::new(),
            message_request: Some(reflection::server_reflection_request::MessageRequest::ListServices(String::new())),
        };
        let mut answers = describe.server_reflection_info(tokio_stream::once(ask)).await.unwrap().into_inner();
        let answer = format!("{:?}", answers.message().await.unwrap().unwrap());
        assert!(answer.contains("apache.rocketmq.v2.MessagingService"), "{answer}");
        assert!(answer.contains("raftmq.admin.v1.Admin"), "{answer}");
    });
}

//! Odd bytes against a running node, over every protocol that a stranger reaches: it answers or refuses, and goes on serving.
//!
//! A short run is part of the tests; `scripts/fuzz.sh` has longer ones. Decoders have targets of their own, beside them.

use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use hyper::body::{Body, Frame};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use odd_bytes::{Answer, Fuzz, Rng};
use prost::Message;
use raftmq::proto::remoting::{FRAME_BYTES_MAX, Frame as ClassicFrame, Header, HeaderType, RequestCode};
use raftmq::proto::v2;

use crate::fixture::cluster::Cluster;
use crate::fixture::messages::{delayed, having, message, ordered, tagged};
use crate::fixture::requests::{by_sql, poll, queue, resource, seconds};

const MESSAGING: &str = "apache.rocketmq.v2.MessagingService";
const ADMIN: &str = "raftmq.admin.v1.Admin";
/// What waits for messages is not waited for.
const ANSWER: Duration = Duration::from_millis(100);

/// One node with a topic of each kind and some messages, and a look at it when it has survived.
fn with_node(test: impl FnOnce(&Cluster)) {
    let mut cluster = Cluster::prepare(&["slowRequestMs=0"]);
    let alone = cluster.peers(&[0]);
    cluster.start_node_with(0, &[&alone]);
    cluster.wait_for_leader();
    for (topic, kind) in [("t", "MIXED"), ("f", "FIFO"), ("d", "DELAY")] {
        cluster.raftmq_ok(&["topic", "create", topic, "--type", kind]);
    }
    cluster.raftmq_ok(&["produce", "t", "--count", "20"]);
    test(&cluster);
    assert!(cluster.is_running(0), "the node ended\n{}", cluster.logs());
    let log = cluster.log_of(0);
    for word in ["panicked", "bug in raftmq"] {
        assert!(!log.contains(word), "{word}: {}", log.lines().find(|line| line.contains(word)).unwrap_or_default());
    }
    cluster.raftmq_ok(&["topic", "create", "after"]);
    cluster.raftmq_ok(&["produce", "after", "--count", "10"]);
    let all = cluster.raftmq_ok(&["-o", "jsonl", "consume", "after", "--group", "after", "--max", "10"]);
    assert_eq!(all.lines().count(), 10, "{}", cluster.logs());
}

/// A body in one piece.
struct Whole(Option<Bytes>);

impl Body for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }
}

async fn connect(address: &str) -> SendRequest<Whole> {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (connection, driving) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(driving);
    connection
}

/// One call with these bytes as its message: the code of gRPC and that of the first status in the answer.
async fn call(connection: &mut SendRequest<Whole>, address: &str, method: &str, bytes: &[u8]) -> Answer {
    let mut body = BytesMut::new();
    body.put_u8(0);
    body.put_u32(bytes.len() as u32);
    body.put_slice(bytes);
    let request = http::Request::post(format!("http://{address}/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("x-mq-client-id", "c")
        .header("x-mq-language", "JAVA")
        .body(Whole(Some(body.freeze())))
        .unwrap();
    let answered = async {
        connection.ready().await.map_err(|error| error.to_string())?;
        let answer = connection.send_request(request).await.map_err(|error| error.to_string())?;
        let (head, mut body) = answer.into_parts();
        let (mut bytes, mut trailers) = (BytesMut::new(), head.headers);
        while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            match frame.map_err(|error| error.to_string())?.into_data() {
                Ok(data) => bytes.put_slice(&data),
                Err(frame) => trailers.extend(frame.into_trailers().unwrap_or_default()),
            }
        }
        let said = |name: &str| trailers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        Ok::<_, String>((said("grpc-status"), said("grpc-message"), bytes))
    };
    match tokio::time::timeout(ANSWER, answered).await {
        Err(_) => Ok("it waits".to_owned()),
        Ok(Err(error)) => Err(error),
        Ok(Ok((code, text, bytes))) => {
            assert!(!text.contains("bug"), "{method}: {text}");
            if code != "0" {
                return Err(format!("{} {text}", "i".repeat(code.parse().unwrap_or_default())));
            }
            // Every answer of this protocol has its status in the first field.
            let status = bytes.get(5..).and_then(|bytes| v2::SendMessageResponse::decode(bytes).ok());
            Ok(status.and_then(|answer| answer.status).map(|status| status.message).unwrap_or_default())
        }
    }
}

/// Calls as the first byte and the bytes of the message.
fn calls() -> (Vec<String>, Vec<Vec<u8>>) {
    let group = || Some(resource("g"));
    let topic = || Some(resource("t"));
    let sends = [
        vec![message("t", "id", "body")],
        vec![tagged("t", "id-2", "tag"), message("t", "id-3", "b")],
        vec![ordered("f", "group", 1)],
        vec![delayed("d", "id-4", 60_000)],
        vec![having("t", "id-5", [("a", "5"), ("b", "x")])],
    ];
    let receive = v2::ReceiveMessageRequest { filter_expression: by_sql("a = 5 OR b IS NULL"), ..poll("g", "t") };
    let entry = v2::AckMessageEntry { message_id: "id".into(), receipt_handle: "AgAB".into(), lite_topic: None };
    let ack = v2::AckMessageRequest { group: group(), topic: topic(), entries: vec![entry] };
    let change = v2::ChangeInvisibleDurationRequest {
        group: group(),
        topic: topic(),
        receipt_handle: "AgAB".into(),
        invisible_duration: Some(seconds(30)),
        message_id: "id".into(),
        ..Default::default()
    };
    let pull =
        v2::PullMessageRequest { group: group(), message_queue: queue("t"), batch_size: 32, ..Default::default() };
    let settings = v2::Settings {
        client_type: Some(v2::ClientType::SimpleConsumer.into()),
        pub_sub: Some(v2::settings::PubSub::Subscription(v2::Subscription { group: group(), ..Default::default() })),
        ..Default::default()
    };
    let telemetry = v2::TelemetryCommand {
        command: Some(v2::telemetry_command::Command::Settings(settings)),
        ..Default::default()
    };
    let end = v2::EndTransactionRequest {
        topic: topic(),
        message_id: "id".into(),
        transaction_id: "AgAB".into(),
        resolution: 1,
        ..Default::default()
    };
    let recall = v2::RecallMessageRequest { topic: topic(), recall_handle: "AgAB".into() };
    let route = v2::QueryRouteRequest { topic: topic(), endpoints: None };
    let assignment = v2::QueryAssignmentRequest { topic: topic(), group: group(), endpoints: None };
    let heartbeat = v2::HeartbeatRequest { group: group(), client_type: v2::ClientType::PushConsumer.into() };
    let mut all: Vec<(String, Vec<u8>)> = Vec::new();
    let mut add = |method: &str, bytes: Vec<u8>| all.push((format!("{MESSAGING}/{method}"), bytes));
    for messages in sends {
        add("SendMessage", v2::SendMessageRequest { messages }.encode_to_vec());
    }
    for (method, bytes) in [
        ("ReceiveMessage", receive.encode_to_vec()),
        ("AckMessage", ack.encode_to_vec()),
        ("ChangeInvisibleDuration", change.encode_to_vec()),
        ("PullMessage", pull.encode_to_vec()),
        ("Telemetry", telemetry.encode_to_vec()),
        ("EndTransaction", end.encode_to_vec()),
        ("RecallMessage", recall.encode_to_vec()),
        ("QueryRoute", route.encode_to_vec()),
        ("QueryAssignment", assignment.encode_to_vec()),
        ("Heartbeat", heartbeat.encode_to_vec()),
        ("NotifyClientTermination", v2::NotifyClientTerminationRequest { group: group() }.encode_to_vec()),
        ("ForwardMessageToDeadLetterQueue", change.encode_to_vec()),
        ("GetOffset", pull.encode_to_vec()),
        ("UpdateOffset", pull.encode_to_vec()),
        ("QueryOffset", pull.encode_to_vec()),
    ] {
        add(method, bytes);
    }
    for method in [
        "Counts",
        "CreateTopic",
        "ListTopics",
        "DescribeTopic",
        "UpdateTopic",
        "CreateGroup",
        "UpdateGroup",
        "ListGroups",
        "ListClients",
        "DescribeGroup",
        "ResetOffset",
        "GetMessage",
        "ResendMessage",
        "FindMessages",
        "TraceMessage",
        "ListDelayed",
        "MoveDelayed",
        "RecallDelayed",
        "ListDeadLetters",
        "Redrive",
        "ClusterStatus",
        "ListMembers",
        "Trim",
        "NodeFacts",
        "ListEvents",
    ] {
        // Most of them begin with a name.
        all.push((format!("{ADMIN}/{method}"), b"\x0a\x01t".to_vec()));
    }
    let methods = all.iter().map(|(method, _)| method.clone()).collect();
    let corpus = (0..).zip(all).map(|(number, (_, bytes))| [vec![number], bytes].concat()).collect();
    (methods, corpus)
}

#[test]
fn fuzz_node_over_grpc() {
    with_node(|cluster| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let address = cluster.address(0);
        let (methods, corpus) = calls();
        let mut connection = runtime.block_on(connect(&address));
        Fuzz::of("node_over_grpc", corpus).words(["t", "g", "%DLQ%g", "%RETRY%g", "f", "d"]).run(|bytes| {
            let Some((number, bytes)) = bytes.split_first() else { return Err("nothing".to_owned()) };
            let method = &methods[usize::from(*number) % methods.len()];
            runtime.block_on(async {
                if connection.is_closed() {
                    connection = connect(&address).await;
                }
                call(&mut connection, &address, method, bytes).await
            })
        });
    });
}

/// A request of each code with the fields that some of them have.
fn requests() -> Vec<Vec<u8>> {
    let fields = [
        ("topic", "t"),
        ("consumerGroup", "g"),
        ("producerGroup", "p"),
        ("group", "g"),
        ("queueId", "0"),
        ("offset", "0"),
        ("queueOffset", "0"),
        ("commitOffset", "0"),
        ("maxMsgNums", "32"),
        ("sysFlag", "0"),
        ("suspendTimeoutMillis", "0"),
        ("subscription", "*"),
        ("subVersion", "0"),
        ("timestamp", "0"),
        ("clientID", "c"),
        ("key", "k"),
        ("maxNum", "32"),
        ("beginTimestamp", "0"),
        ("endTimestamp", "1900000000000"),
        ("properties", "k\u{1}v\u{2}"),
        ("flag", "0"),
        ("bornTimestamp", "1700000000000"),
        ("reconsumeTimes", "0"),
        ("defaultTopic", "TBW102"),
        ("defaultTopicQueueNums", "4"),
        ("commitOrRollback", "8"),
        ("tranStateTableOffset", "0"),
        ("commitLogOffset", "0"),
        ("delayLevel", "3"),
        ("originMsgId", "id"),
        ("msgId", "0A00000100002A9F0000000000000400"),
    ];
    let short = [
        ("a", "p"),
        ("b", "t"),
        ("c", "TBW102"),
        ("d", "4"),
        ("e", "0"),
        ("f", "0"),
        ("g", "1700000000000"),
        ("h", "0"),
        ("i", "UNIQ_KEY\u{1}id-9\u{2}k\u{1}v\u{2}"),
        ("j", "0"),
        ("k", "false"),
        ("l", "16"),
        ("m", "false"),
    ];
    let heartbeat = r#"{"clientID":"c","consumerDataSet":[{"groupName":"g","messageModel":"CLUSTERING","subscriptionDataSet":[{"topic":"t","subString":"*","subVersion":1}]}],"producerDataSet":[{"groupName":"p"}]}"#;
    let locks = r#"{"consumerGroup":"g","clientId":"c","mqSet":[{"topic":"t","brokerName":"Test00","queueId":0}]}"#;
    let codes = (1..1000).filter(|code| RequestCode::of_number(*code).is_some());
    codes
        .flat_map(|code| {
            let body = match code {
                34 => heartbeat,
                41 | 42 => locks,
                _ => "body",
            };
            [HeaderType::Json, HeaderType::Binary].map(|header_type| {
                let fields =
                    if code == 310 || code == 320 { short.into_iter().collect() } else { fields.into_iter().collect() };
                let header = Header::request(code, 7, fields);
                let frame = ClassicFrame { header_type, header, body: Bytes::from_static(body.as_bytes()) };
                frame.encode().unwrap().to_vec()
            })
        })
        .collect()
}

/// Half of the changed frames state lengths that fit.
fn mend_frame(bytes: &mut [u8], rng: &mut Rng) {
    if bytes.len() < 8 {
        return;
    }
    let rest = (bytes.len() - 4) as u32;
    bytes[..4].copy_from_slice(&rest.to_be_bytes());
    bytes[4] &= 1;
    let header = u32::from_be_bytes([0, bytes[5], bytes[6], bytes[7]]);
    if header > rest - 4 {
        let header = rng.below(rest as usize - 3) as u32;
        bytes[5..8].copy_from_slice(&header.to_be_bytes()[1..]);
    }
}

fn classic(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(ANSWER)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// What comes next: the code of an answer, or why there is none.
fn answer_of(stream: &mut TcpStream, read: &mut BytesMut) -> Result<Option<Header>, String> {
    loop {
        match ClassicFrame::take(read, FRAME_BYTES_MAX).expect("the node writes frames") {
            Some(frame) if frame.header.is_response() => return Ok(Some(frame.header)),
            Some(_) => continue,
            None => {}
        }
        let mut bytes = [0; 16 * 1024];
        match stream.read(&mut bytes) {
            Ok(0) => return Err("closed".to_owned()),
            Ok(count) => read.put_slice(&bytes[..count]),
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                return Ok(None);
            }
            Err(error) => return Err(error.kind().to_string()),
        }
    }
}

#[test]
fn fuzz_node_over_remoting() {
    with_node(|cluster| {
        let address = cluster.listen_address(0);
        let mut open = classic(&address);
        let mut read = BytesMut::new();
        let words = ["%RETRY%g", "%DLQ%g", "SQL92", "a > 5", "-1", "\"oneway\"", "9223372036854775807"];
        Fuzz::of("node_over_remoting", requests()).words(words).mend(|bytes, rng| mend_frame(bytes, rng)).run(
            |bytes| {
                let said = match open.write_all(bytes) {
                    // Behind bytes that are no whole frame the node waits for more.
                    Ok(()) => answer_of(&mut open, &mut read),
                    Err(error) => Err(error.kind().to_string()),
                };
                if !matches!(said, Ok(Some(_))) {
                    (open, read) = (classic(&address), BytesMut::new());
                }
                match said? {
                    None => Ok("no answer".to_owned()),
                    Some(Header { code, remark, .. }) => {
                        let remark = remark.unwrap_or_default();
                        assert!(!remark.contains("bug in raftmq"), "{remark}");
                        Ok(format!("{} {remark}", "i".repeat(code.clamp(0, 300) as usize)))
                    }
                }
            },
        );
    });
}

#[test]
fn fuzz_node_over_http() {
    with_node(|cluster| {
        let address = cluster.http_address(0);
        let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let session = crate::fixture::http::get(&address, "/ui/api/session").body;
        let session: serde_json::Value = serde_json::from_str(&session).unwrap();
        let token = session["token"].as_str().unwrap().to_owned();
        let act = |name: &str, body: &str| {
            let length = body.len();
            format!(
                "POST /ui/api/do/{name} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nX-Raftmq-Token: {token}\r\n\
                 Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            )
        };
        let mut corpus =
            ["/", "/livez", "/healthz?verbose&format=json", "/metrics", "/ui/", "/ui/index.html"].map(get).to_vec();
        for read in [
            "overview",
            "topics?limit=50",
            "topic?topic=t",
            "groups?after=a&limit=5",
            "group?group=g",
            "messages?topic=t&queue=0&offset=0",
            "clients",
            "events?limit=10",
            "cluster",
            "dead?group=g",
            "facts?node=n0",
        ] {
            corpus.push(get(&format!("/ui/api/{read}")));
        }
        for name in [
            "topic.create",
            "topic.update",
            "group.create",
            "offset.reset",
            "message.resend",
            "dead.redrive",
            "delayed.move",
        ] {
            corpus.push(act(name, r#"{"topic":"t","group":"g","queues":4,"to":"earliest","dry_run":true}"#));
        }
        let words =
            ["%00", "%", "..", "\r\n", "Transfer-Encoding: chunked\r\n", "\"dry_run\":false", "null", "/ui/api/"];
        Fuzz::of("node_over_http", corpus).words(words).run(|bytes| {
            let mut stream = classic(&address);
            let _ = stream.write_all(bytes);
            let mut answer = Vec::new();
            let mut part = [0; 16 * 1024];
            while let Ok(count @ 1..) = stream.read(&mut part) {
                answer.extend_from_slice(&part[..count]);
                // A stream of samples never ends.
                if answer.len() > 256 * 1024 {
                    break;
                }
            }
            let text = String::from_utf8_lossy(&answer);
            assert!(!text.contains("a bug in raftmq"), "{text}");
            let code = text.split(' ').nth(1).and_then(|code| code.parse::<usize>().ok());
            code.map(|code| "i".repeat(code)).ok_or_else(|| "no answer".to_owned())
        });
    });
}

//! Pulls and offsets (remoting §6).

use std::io::Write;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use raftmq::proto::remoting::{Fields, Frame, RequestCode, ResponseCode, StoredMessage};
use raftmq::proto::v2;

use crate::fixture::calls::send;
use crate::fixture::classic::Classic;
use crate::fixture::cluster::with_cluster;
use crate::fixture::messages::message;
use crate::fixture::wire::CALL;

/// A one-way commit is taken at once; this is for a loaded machine.
const FOLLOWS: Duration = Duration::from_secs(15);
/// Flags of pulls.
const COMMITS: i32 = 1;
const SUSPENDS: i32 = 2;
const SUBSCRIBES: i32 = 4;

fn all(fields: &[(&str, &str)]) -> Fields {
    let mut all = Fields::default();
    for (name, value) in fields {
        all.put(name, value);
    }
    all
}

/// The fields of a pull of queue 0 of topic `t`.
fn pull(flags: i32, offset: i64, wait: u64) -> Fields {
    let mut fields = all(&[
        ("consumerGroup", "g"),
        ("topic", "t"),
        ("queueId", "0"),
        ("maxMsgNums", "32"),
        ("subVersion", "1"),
        ("expressionType", "TAG"),
        ("subscription", "TagA || TagB"),
    ]);
    fields.put("sysFlag", flags);
    fields.put("queueOffset", offset);
    fields.put("commitOffset", if flags & COMMITS == 0 { -1 } else { offset });
    fields.put("suspendTimeoutMillis", wait);
    fields
}

async fn put(client: &mut Classic, tag: &str, body: &str) {
    let properties = format!("UNIQ_KEY\u{1}id-{body}\u{2}TAGS\u{1}{tag}\u{2}KEYS\u{1}k1 k2\u{2}colour\u{1}red\u{2}");
    let fields = all(&[
        ("a", "p"),
        ("b", "t"),
        ("c", "TBW102"),
        ("d", "4"),
        ("e", "0"),
        ("f", "0"),
        ("g", "1700000000000"),
        ("h", "-7"),
        ("i", &properties),
        ("j", "2"),
    ]);
    let answer = client.ask(RequestCode::SendMessageV2, fields, body.as_bytes()).await;
    assert_eq!(answer.header.code, 0, "{answer:?}");
}

/// Code, next offset, ends of the queue, and messages of an answer to a pull.
fn pulled(answer: Frame) -> (i32, [i64; 3], Vec<StoredMessage>) {
    let fields = &answer.header.fields;
    assert_eq!(fields.text("suggestWhichBrokerId"), Ok("0"), "{answer:?}");
    let numbers = ["nextBeginOffset", "minOffset", "maxOffset"].map(|name| fields.number(name).unwrap());
    (answer.header.code, numbers, StoredMessage::read_all(answer.body).unwrap())
}

fn bodies(messages: &[StoredMessage]) -> Vec<&[u8]> {
    messages.iter().map(|message| &message.body[..]).collect()
}

async fn offset(client: &mut Classic, code: RequestCode, more: &[(&str, &str)]) -> Result<i64, i32> {
    let mut fields = all(&[("consumerGroup", "g"), ("topic", "t"), ("queueId", "0")]);
    for (name, value) in more {
        fields.put(name, value);
    }
    let answer = client.ask(code, fields, b"").await;
    if answer.header.code != 0 {
        return Err(answer.header.code);
    }
    Ok(answer.header.fields.number("offset").unwrap())
}

/// The node that is asked has applied all that was answered before, which a pull does not wait for.
async fn catch_up(client: &mut Classic) {
    offset(client, RequestCode::GetMaxOffset, &[]).await.unwrap();
}

#[test]
fn a_pull_says_where_it_is_in_the_queue_and_gives_what_was_sent() {
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        for node in [0, 1] {
            let mut client = Classic::connect(&cluster.address(node)).await;
            client.wait_for_host(&cluster.listen_address(0)).await;
            if node == 0 {
                let empty = client.ask(RequestCode::PullMessage, pull(SUBSCRIBES, 0, 0), b"").await;
                assert_eq!(pulled(empty), (ResponseCode::PullNotFound as i32, [0, 0, 0], Vec::new()));
                for (tag, body) in [("TagA", "a"), ("TagC", "c"), ("TagB", "b"), ("TagC", "d")] {
                    put(&mut client, tag, body).await;
                }
            }
            catch_up(&mut client).await;
            let (code, numbers, messages) =
                pulled(client.ask(RequestCode::PullMessage, pull(SUBSCRIBES, 0, 0), b"").await);
            assert_eq!((code, numbers, bodies(&messages)), (0, [4, 0, 4], vec![&b"a"[..], b"b"]));
            let first = &messages[0];
            assert_eq!(
                (first.topic.as_str(), first.queue, first.queue_offset, messages[1].queue_offset),
                ("t", 0, 0, 2)
            );
            assert_eq!((first.flag, first.reconsume_times, first.born_at), (-7, 2, 1_700_000_000_000));
            assert_eq!(
                (first.born_host.ip().to_string().as_str(), first.store_host.to_string()),
                ("127.0.0.1", cluster.listen_address(0))
            );
            assert_eq!(
                first.properties,
                "colour\u{1}red\u{2}TAGS\u{1}TagA\u{2}KEYS\u{1}k1 k2\u{2}UNIQ_KEY\u{1}id-a\u{2}MSG_REGION\u{1}DefaultRegion\u{2}"
            );
            for (offset, code, next) in [
                (1, ResponseCode::Success, 4),
                (3, ResponseCode::PullRetryImmediately, 4),
                (4, ResponseCode::PullNotFound, 4),
                (5, ResponseCode::PullOffsetMoved, 4),
            ] {
                let (found, numbers, _) =
                    pulled(client.ask(RequestCode::LitePullMessage, pull(SUBSCRIBES, offset, 0), b"").await);
                assert_eq!((found, numbers), (code as i32, [next, 0, 4]), "from {offset}");
            }
            for (name, value, code) in [
                ("topic", "missing", ResponseCode::TopicNotExist),
                ("queueId", "8", ResponseCode::InvalidParameter),
                ("queueId", "-1", ResponseCode::InvalidParameter),
                ("queueOffset", "-1", ResponseCode::InvalidParameter),
                ("expressionType", "SQL93", ResponseCode::SubscriptionParseFailed),
                ("sysFlag", "8", ResponseCode::SubscriptionParseFailed),
            ] {
                let mut fields = pull(SUBSCRIBES, 0, 0);
                fields.put(name, value);
                let answer = client.ask(RequestCode::PullMessage, fields, b"").await;
                assert_eq!((answer.header.code, answer.header.remark.is_some()), (code as i32, true), "{name}={value}");
            }
        }
    });
}

#[test]
fn what_grpc_sends_is_pulled_and_compressed_bodies_are_read_by_both() {
    with_cluster(&[], &[], async |cluster| {
        cluster.raftmq_ok(&["topic", "create", "t", "--queues", "1"]);
        let mut client = Classic::connect(&cluster.address(0)).await;
        let wire = &cluster.wires_within(CALL)[0];
        let mut packed = message("t", "packed", "");
        // gzip of "body".
        packed.body =
            vec![31, 139, 8, 0, 0, 0, 0, 0, 2, 3, 75, 202, 79, 169, 4, 0, 178, 11, 168, 219, 4, 0, 0, 0].into();
        packed.system_properties.as_mut().unwrap().set_body_encoding(v2::Encoding::Gzip);
        send(wire, packed).await;
        send(wire, message("t", "plain", "plain")).await;
        let zlib = [120, 156, 75, 202, 79, 169, 4, 0, 4, 26, 1, 175];
        let fields =
            all(&[("a", "p"), ("b", "t"), ("d", "1"), ("e", "0"), ("f", "1"), ("g", "1"), ("h", "0"), ("i", "")]);
        assert_eq!(client.ask(RequestCode::SendMessageV2, fields, &zlib).await.header.code, 0);
        catch_up(&mut client).await;
        let mut fields = pull(SUBSCRIBES, 0, 0);
        fields.put("subscription", "*");
        let (_, numbers, messages) = pulled(client.ask(RequestCode::PullMessage, fields, b"").await);
        assert_eq!((numbers, bodies(&messages)), ([3, 0, 3], vec![&b"body"[..], b"plain", &zlib]));
        let flags: Vec<_> = messages.iter().map(|message| message.system_flags).collect();
        assert_eq!((flags, messages[1].properties.contains("UNIQ_KEY\u{1}plain")), (vec![0, 0, 1], true));
    });
}

#[test]
fn p20_bodies_that_become_large_are_pulled_a_few_at_a_time() {
    const MESSAGES: i64 = 8;
    const UNPACKED: usize = 12 * 1024 * 1024;
    with_cluster(&[], &[], async |cluster| {
        cluster.raftmq_ok(&["topic", "create", "t", "--queues", "1"]);
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&vec![b'x'; UNPACKED]).unwrap();
        let gzip = encoder.finish().unwrap();
        let wire = &cluster.wires_within(CALL)[0];
        for number in 0..MESSAGES {
            let mut packed = message("t", &format!("packed-{number}"), "");
            packed.body = gzip.clone().into();
            packed.system_properties.as_mut().unwrap().set_body_encoding(v2::Encoding::Gzip);
            send(wire, packed).await;
        }
        let mut client = Classic::connect(&cluster.address(0)).await;
        let mut fields = pull(SUBSCRIBES | SUSPENDS, 0, 15_000);
        fields.put("subscription", "*");
        let mut next = 0;
        while next < MESSAGES {
            fields.put("queueOffset", next);
            let (code, numbers, messages) = pulled(client.ask(RequestCode::PullMessage, fields.clone(), b"").await);
            assert_eq!((code, numbers[0], messages.len()), (0, next + 1, 1), "from {next}");
            assert!(messages[0].body == vec![b'x'; UNPACKED] && messages[0].system_flags == 0);
            next += 1;
        }
    });
}

#[test]
fn a_pull_that_waits_is_answered_when_a_message_arrives_and_needs_a_heartbeat_before() {
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        let mut consumer = Classic::connect(&cluster.address(1)).await;
        let mut producer = Classic::connect(&cluster.address(2)).await;
        let unknown = consumer.ask(RequestCode::PullMessage, pull(SUSPENDS, 0, 15_000), b"").await;
        assert_eq!(unknown.header.code, ResponseCode::SubscriptionNotExist as i32);
        assert_eq!(consumer.heartbeat("c@1", "g", "t").await, 0);
        let mut newer = pull(SUSPENDS, 0, 15_000);
        newer.put("subVersion", 2);
        let answer = consumer.ask(RequestCode::PullMessage, newer, b"").await;
        assert_eq!(answer.header.code, ResponseCode::SubscriptionNotLatest as i32);
        // Many wait side by side, and what comes meanwhile is answered.
        let mut waiting = Vec::new();
        for _ in 0..100 {
            waiting.push(consumer.put(RequestCode::PullMessage as i32, false, pull(SUSPENDS, 0, 15_000), b"").await);
        }
        assert_eq!(consumer.consumers("g").await, ["c@1"]);
        put(&mut producer, "TagA", "a").await;
        for _ in &waiting {
            let answer = loop {
                let frame = consumer.next().await.unwrap();
                if frame.header.is_response() {
                    break frame;
                }
            };
            assert!(waiting.contains(&answer.header.opaque));
            let (code, numbers, messages) = pulled(answer);
            assert_eq!((code, numbers, bodies(&messages)), (0, [1, 0, 1], vec![&b"a"[..]]));
        }
        let nothing = consumer.ask(RequestCode::PullMessage, pull(SUSPENDS, 1, 100), b"").await;
        assert_eq!(pulled(nothing).0, ResponseCode::PullNotFound as i32);
    });
}

#[test]
fn consumers_that_another_node_knows_are_in_their_group_and_pull_on_every_node() {
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        let mut nodes = Vec::new();
        for node in 0..3 {
            nodes.push(Classic::connect(&cluster.address(node)).await);
        }
        assert_eq!(nodes[0].heartbeat("a@1", "g", "t").await, 0);
        assert_eq!(nodes[1].heartbeat("b@1", "g", "t").await, 0);
        for client in &mut nodes {
            assert_eq!(client.consumers("g").await, ["a@1", "b@1"]);
        }
        // A client that finds a node again after its restart, before its next heartbeat.
        for _ in 0..2 {
            let answer = nodes[2].ask(RequestCode::PullMessage, pull(SUSPENDS, 0, 0), b"").await;
            assert_eq!(answer.header.code, ResponseCode::PullNotFound as i32, "{answer:?}");
        }
        let mut newer = pull(SUSPENDS, 0, 0);
        newer.put("subVersion", 2);
        let answer = nodes[2].ask(RequestCode::PullMessage, newer, b"").await;
        assert_eq!(answer.header.code, ResponseCode::SubscriptionNotLatest as i32);
        nodes[1] = Classic::connect(&cluster.address(1)).await;
        let until = Instant::now() + FOLLOWS;
        while nodes[2].consumers("g").await != ["a@1"] {
            assert!(Instant::now() < until, "one is gone\n{}", cluster.logs());
        }
    });
}

#[test]
fn offsets_are_kept_as_clients_say_them_backwards_too() {
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        let mut client = Classic::connect(&cluster.address(1)).await;
        let mut other = Classic::connect(&cluster.address(2)).await;
        for body in ["a", "b", "c"] {
            put(&mut client, "TagA", body).await;
        }
        let query = RequestCode::QueryConsumerOffset;
        assert_eq!(offset(&mut client, query, &[]).await, Ok(0), "a group that is new, in a queue that is whole");
        let none = offset(&mut client, query, &[("setZeroIfNotFound", "false")]).await;
        assert_eq!(none, Err(ResponseCode::QueryNotFound as i32));
        assert_eq!(offset(&mut client, RequestCode::GetMinOffset, &[]).await, Ok(0));
        assert_eq!(offset(&mut client, RequestCode::GetMaxOffset, &[]).await, Ok(3));
        let search = RequestCode::SearchOffsetByTimestamp;
        assert_eq!(offset(&mut client, search, &[("timestamp", "0")]).await, Ok(0));
        assert_eq!(offset(&mut client, search, &[("timestamp", "9999999999999")]).await, Ok(3));
        let last = [("timestamp", "9999999999999"), ("boundaryType", "UPPER")];
        assert_eq!(offset(&mut client, search, &last).await, Ok(2));
        // One-way as Java, with an answer as Go, and on a pull.
        for (how, to) in [("one-way", 3), ("answered", 1), ("pull", 2)] {
            let text = to.to_string();
            let fields = all(&[("consumerGroup", "g"), ("topic", "t"), ("queueId", "0"), ("commitOffset", &text)]);
            match how {
                "one-way" => drop(client.put(RequestCode::UpdateConsumerOffset as i32, true, fields, b"").await),
                "answered" => {
                    assert_eq!(client.ask(RequestCode::UpdateConsumerOffset, fields, b"").await.header.code, 0)
                }
                _ => drop(client.ask(RequestCode::PullMessage, pull(COMMITS | SUBSCRIBES, to, 0), b"").await),
            }
            let until = Instant::now() + FOLLOWS;
            while offset(&mut client, query, &[]).await != Ok(to) {
                assert!(Instant::now() < until, "{how}: not {to}\n{}", cluster.logs());
            }
            // What was answered is in the log: the death of the node that took it does not have it go back.
            assert_eq!(offset(&mut other, query, &[]).await, Ok(to), "{how}: on the other node");
        }
        assert_eq!(
            offset(&mut client, RequestCode::GetMaxOffset, &[("topic", "missing")]).await,
            Err(ResponseCode::TopicNotExist as i32)
        );
        assert_eq!(
            offset(&mut client, RequestCode::UpdateConsumerOffset, &[("commitOffset", "-1")]).await,
            Err(ResponseCode::InvalidParameter as i32)
        );
    });
}

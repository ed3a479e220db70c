//! The wire contract through a real cluster: codes, order of items, leases. Names give the section of
//! the contract or the promise they guard.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use raftmq::proto::v2;
use raftmq::proto::v2::Code;

use crate::fixture::calls::*;
use crate::fixture::cluster::{Cluster, with_cluster};
use crate::fixture::messages::*;
use crate::fixture::requests::*;
use crate::fixture::wire::{POLL, SOON, Wire};

#[test]
fn sends_are_answered_as_the_contract_says() {
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        let wire = cluster.wire(1);
        let sent = wire.send((0..12).map(|n| message("t", &format!("id{n}"), "b")).collect()).await.unwrap();
        assert_eq!(sent.status.unwrap().code(), Code::Ok);
        let ids: Vec<_> = sent.entries.iter().map(|entry| entry.message_id.clone()).collect();
        assert_eq!(ids, (0..12).map(|n| format!("id{n}")).collect::<Vec<_>>());
        assert!(sent.entries.iter().all(|entry| entry.status.as_ref().unwrap().code() == Code::Ok));

        let code = async |messages| wire.send(messages).await.unwrap().status.unwrap().code();
        assert_eq!(code(vec![]).await, Code::MessageCorrupted);
        assert_eq!(code(vec![message("nope", "i", "b")]).await, Code::TopicNotFound);
        assert_eq!(code(vec![message("t", "i", "")]).await, Code::MessageBodyEmpty);
        assert_eq!(code(vec![message("rmq_sys_x", "i", "b")]).await, Code::IllegalTopic);
        assert_eq!(code(vec![message("t", "i", &"b".repeat(4 * 1024 * 1024))]).await, Code::Ok);
        assert_eq!(code(vec![message("t", "i", &"b".repeat(4 * 1024 * 1024 + 1))]).await, Code::MessageBodyTooLarge);
        let mut fifo = message("t", "i", "b");
        fifo.system_properties.as_mut().unwrap().message_group = Some("g".into());
        assert_eq!(code(vec![fifo]).await, Code::MessagePropertyConflictWithType);

        let nobody = Wire::connect(&cluster.address(0), "");
        let sent = nobody.send(vec![message("t", "i", "b")]).await.unwrap();
        assert_eq!(sent.status.unwrap().code(), Code::ClientIdRequired);
    });
}

#[test]
fn every_node_and_both_ports_serve_everything() {
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        for node in 0..3 {
            let id = format!("from {node}");
            send(&cluster.wire(node), message("t", &id, &id)).await;
        }
        let other_port = Wire::connect(&cluster.listen_address(0), "c");
        send(&other_port, message("t", "from the other port", "from the other port")).await;
        let mut ids = Vec::new();
        for node in [2, 0, 1] {
            let wire = cluster.wire(node);
            let (_, messages) = wire.receive("g", "t", 2, POLL).await.unwrap();
            for message in &messages {
                let (id, handle, attempt) = delivered(message);
                assert_eq!(attempt, 1);
                let acked = wire.ack("g", "t", vec![(id.clone(), handle)]).await.unwrap();
                assert_eq!(acked.status.unwrap().code(), Code::Ok);
                ids.push(id);
            }
            if ids.len() == 4 {
                break;
            }
        }
        ids.sort();
        assert_eq!(ids, ["from 0", "from 1", "from 2", "from the other port"]);
    });
}

#[test]
fn deliveries_carry_what_clients_need() {
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        let wire = cluster.wire(0);
        let mut sent = message("t", "id", "hi");
        sent.user_properties.insert("p".into(), "v".into());
        let system = sent.system_properties.as_mut().unwrap();
        system.tag = Some("tag".into());
        system.keys = vec!["a b".into(), "c".into()];
        wire.send(vec![sent]).await.unwrap();
        let (status, messages) = wire.receive("g", "t", 32, POLL).await.unwrap();
        assert_eq!(status.code(), Code::Ok);
        let system = messages[0].system_properties.clone().unwrap();
        assert_eq!(system.body_digest.unwrap().checksum, "49F68A5C8493EC2C0BF489821C21FC3B");
        assert_eq!(system.body_encoding, i32::from(v2::Encoding::Identity));
        assert_eq!(system.keys, ["a", "b", "c"]);
        assert_eq!(system.tag.as_deref(), Some("tag"));
        assert!(system.born_timestamp.is_some() && system.store_timestamp.is_some());
        assert_eq!((system.queue_offset, system.delivery_attempt), (Some(0), Some(1)));
        assert_eq!(messages[0].user_properties["p"], "v");
    });
}

#[test]
fn p7_p8_leases_end_come_again_and_are_settled_once() {
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        let wire = cluster.wire(0);
        send(&wire, message("t", "a", "a")).await;
        let (_, first) = wire.receive("g", "t", 1, POLL).await.unwrap();
        let leased = Instant::now();
        let (id, old, _) = delivered(&first[0]);
        // Held by the lease: nobody else gets it.
        let (status, none) = wire.receive("g", "t", 1, POLL).await.unwrap();
        assert_eq!((status.code(), none.len()), (Code::MessageNotFound, 0));
        // Back within half a second of the end of its ten seconds, in an open poll, as attempt 2.
        let (_, again) = wire.receive("g", "t", 1, Duration::from_secs(10)).await.unwrap();
        let back = leased.elapsed();
        let (_, new, attempt) = delivered(&again[0]);
        assert_eq!(attempt, 2);
        assert!(back >= Duration::from_millis(9_900), "P8: back after {back:?}");
        assert_ne!(old, new);
        let code = async |handle: &str| {
            let answer = wire.ack("g", "t", vec![(id.clone(), handle.to_owned())]).await.unwrap();
            let status = answer.entries[0].status.clone().unwrap();
            assert!(status.code() == Code::Ok || status.message.contains("INVALID_RECEIPT_HANDLE"));
            status.code()
        };
        assert_eq!(code(&old).await, Code::InvalidReceiptHandle);
        assert_eq!(code("nonsense").await, Code::InvalidReceiptHandle);
        assert_eq!(code(&new).await, Code::Ok);
        assert_eq!(code(&new).await, Code::Ok);
    });
}

#[test]
fn a_change_of_invisible_time_ends_the_old_handle() {
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        let wire = cluster.wire(2);
        send(&wire, message("t", "a", "a")).await;
        let (_, messages) = wire.receive("g", "t", 1, POLL).await.unwrap();
        let (id, old, _) = delivered(&messages[0]);
        let changed = wire.change_invisible("g", "t", &old, 30).await.unwrap();
        assert_eq!(changed.status.unwrap().code(), Code::Ok);
        let new = changed.receipt_handle;
        let refused = wire.change_invisible("g", "t", &old, 30).await.unwrap();
        assert_eq!(refused.status.unwrap().code(), Code::InvalidReceiptHandle);
        assert_eq!(refused.receipt_handle, old, "the handle that was sent is echoed");
        let refused = wire.change_invisible("g", "t", &new, 43_201).await.unwrap();
        let status = refused.status.unwrap();
        assert_eq!(status.code(), Code::IllegalInvisibleTime);
        assert!(status.message.contains("the invisibleTime is too large"));
        // Visible at once, as the next attempt; an open poll sees it.
        let poll = wire.clone();
        let polling = tokio::spawn(async move { poll.receive("g", "t", 1, POLL).await.unwrap() });
        tokio::time::sleep(Duration::from_millis(200)).await;
        let changed = wire.change_invisible("g", "t", &new, 0).await.unwrap();
        assert_eq!(changed.status.unwrap().code(), Code::Ok);
        let asked = Instant::now();
        let (_, again) = polling.await.unwrap();
        assert!(asked.elapsed() < Duration::from_secs(2));
        let (_, handle, attempt) = delivered(&again[0]);
        assert_eq!(attempt, 2);
        let acked = wire.ack("g", "t", vec![(id, handle)]).await.unwrap();
        assert_eq!(acked.status.unwrap().code(), Code::Ok);
    });
}

#[test]
fn polls_wait_wake_and_filter() {
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        let (sender, receiver) = (cluster.wire(0), cluster.wire(1));
        let request = |expression: &str, invisible| v2::ReceiveMessageRequest {
            filter_expression: by_tag(expression),
            batch_size: 100_000,
            invisible_duration: Some(seconds(invisible)),
            ..poll("g", "t")
        };
        let (status, _) = receiver.receive_with(request("*", 9), SOON).await.unwrap();
        assert_eq!(status.code(), Code::IllegalInvisibleTime);
        let started = Instant::now();
        let (status, _) = receiver.receive_with(request("*", 10), Duration::from_secs(8)).await.unwrap();
        assert_eq!(status.code(), Code::MessageNotFound);
        assert!(started.elapsed() >= Duration::from_secs(5), "an empty poll lasts its time");
        let polling =
            tokio::spawn(async move { receiver.receive_with(request("b || c", 10), Duration::from_secs(8)).await });
        tokio::time::sleep(Duration::from_millis(300)).await;
        for tag in ["a", "b"] {
            sender.send(vec![tagged("t", tag, tag)]).await.unwrap();
        }
        let sent = Instant::now();
        let (_, messages) = polling.await.unwrap().unwrap();
        assert!(sent.elapsed() < Duration::from_secs(1), "a new message wakes the poll");
        assert_eq!(messages.iter().map(|message| delivered(message).0).collect::<Vec<_>>(), ["b"]);
    });
}

#[test]
fn routes_name_every_node_with_one_address_each() {
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        let wire = cluster.wire(0);
        let until = Instant::now() + Duration::from_secs(10);
        let rows = loop {
            let port = cluster.address(0).rsplit_once(':').unwrap().1.parse().unwrap();
            let dialled = endpoints(v2::AddressScheme::IPv4, &[("127.0.0.1", port)]);
            let (code, rows) = route(&wire, "t", Some(dialled)).await;
            assert_eq!(code, Code::Ok);
            // The other nodes' addresses are learnt in the first second.
            if rows.len() == 24 || Instant::now() > until {
                break rows;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        assert_eq!(rows.len(), 24);
        let mut names = std::collections::BTreeMap::new();
        for row in rows {
            let broker = row.broker.clone().unwrap();
            let addresses = broker.endpoints.unwrap().addresses;
            assert_eq!((broker.id, addresses.len(), row.permission()), (0, 1, v2::Permission::ReadWrite));
            assert_eq!(row.accept_message_types, [i32::from(v2::MessageType::Normal)]);
            names.entry((broker.name, addresses[0].port)).or_insert_with(Vec::new).push(row.id);
        }
        assert_eq!(names.len(), 3);
        assert!(names.values().all(|ids| *ids == (0..8).collect::<Vec<_>>()), "{names:?}");
        assert_eq!(route(&wire, "nope", None).await.0, Code::TopicNotFound);
    });
}

#[test]
fn telemetry_answers_settings_every_time_and_refuses_bad_ones() {
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        let wire = cluster.wire(1);
        let settings = |group: &str, property: &str| v2::TelemetryCommand {
            status: None,
            command: Some(v2::telemetry_command::Command::Settings(v2::Settings {
                client_type: Some(v2::ClientType::SimpleConsumer.into()),
                client_properties: BTreeMap::from([(property.to_owned(), "value".to_owned())]),
                pub_sub: Some(v2::settings::PubSub::Subscription(v2::Subscription {
                    group: Some(resource(group)),
                    ..Default::default()
                })),
                ..Default::default()
            })),
        };
        let open = async || {
            let (send, commands) = tokio::sync::mpsc::channel(4);
            let commands = tokio_stream::wrappers::ReceiverStream::new(commands);
            let answers = wire.raw().telemetry(wire.within(Duration::from_secs(60)).request(commands)).await;
            (send, answers.unwrap().into_inner())
        };
        let (send, mut answers) = open().await;
        for _ in 0..2 {
            send.send(settings("g", "zone")).await.unwrap();
            let answer = answers.message().await.unwrap().unwrap();
            assert_eq!(answer.status.unwrap().code(), Code::Ok);
            assert!(matches!(answer.command, Some(v2::telemetry_command::Command::Settings(_))));
        }
        assert!(cluster.raftmq_ok(&["group", "list"]).contains('g'), "the group came into being");
        for bad in [settings("CID_RMQ_SYS_x", "zone"), settings("g", "rocketmq.zone")] {
            let (send, mut answers) = open().await;
            send.send(bad).await.unwrap();
            let error = answers.message().await.unwrap_err();
            assert_eq!(error.code(), tonic::Code::InvalidArgument);
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

#[test]
fn p8_a_poll_that_was_given_up_gives_its_messages_back() {
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        for round in 0..3 {
            let topic = format!("t{round}");
            cluster.raftmq_ok(&["topic", "create", &topic]);
            cluster.raftmq_ok(&["produce", &topic, "--count", "1"]);
            // The group has its position before: what is left to do is the grant.
            cluster.raftmq_ok(&["consume", &topic, "--group", "g", "--max", "1"]);
            cluster.raftmq_ok(&["produce", &topic, "--count", "1"]);
            let leader = cluster.wait_for_leader();
            let wire = cluster.wire(leader);
            // The poll of a push client: its lease would be renewed for hours.
            let request = push_poll("g", &topic);
            // The grant is in the leader's log and cannot be committed when its client gives up.
            let followers = [(leader + 1) % 3, (leader + 2) % 3];
            followers.iter().for_each(|follower| cluster.signal(*follower, "STOP"));
            let poll = wire.receive_with(request, Duration::from_secs(9));
            let given_up = tokio::time::timeout(Duration::from_millis(150), poll).await;
            // The connection tells the node; what follows blocks this thread.
            tokio::time::sleep(Duration::from_millis(30)).await;
            followers.iter().for_each(|follower| cluster.signal(*follower, "CONT"));
            assert!(given_up.is_err(), "round {round}: a majority was stopped and a lease was granted");
            cluster.wait_for_leader();
            let (_, messages) = wire.receive("g", &topic, 1, POLL).await.unwrap();
            assert_eq!(messages.len(), 1, "round {round}: held for nobody\n{}", cluster.logs());
        }
    });
}

#[test]
fn polls_of_one_group_share_what_came_back() {
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        let wire = cluster.wire(0);
        wire.send((0..8).map(|n| message("t", &format!("m{n}"), "b")).collect()).await.unwrap();
        let (_, messages) = wire.receive("g", "t", 8, POLL).await.unwrap();
        assert_eq!(messages.len(), 8);
        // All of them come back at once; polls for one message each wait for them, on one node.
        let polls = (0..8).map(|_| wire.receive("g", "t", 1, Duration::from_secs(15)));
        let waiting = futures_util::future::join_all(polls);
        let back = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            for (_, handle, _) in messages.iter().map(delivered) {
                let changed = wire.change_invisible("g", "t", &handle, 0).await.unwrap();
                assert_eq!(changed.status.unwrap().code(), Code::Ok);
            }
            Instant::now()
        };
        let (polled, returned_at) = tokio::join!(waiting, back);
        let took = returned_at.elapsed();
        let ids: std::collections::BTreeSet<_> =
            polled.into_iter().map(|polled| delivered(&polled.unwrap().1[0]).0).collect();
        assert_eq!(ids.len(), 8, "each poll gets one, none twice");
        assert!(took < Duration::from_secs(3), "a poll slept beside messages for {took:?}");
    });
}

#[test]
fn verbs_that_are_not_served_say_so_and_bad_requests_are_told_why() {
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        let wire = cluster.wire(2);
        let lite = wire.request(v2::SyncLiteSubscriptionRequest::default());
        let code = wire.raw().sync_lite_subscription(lite).await.unwrap().into_inner().status.unwrap().code();
        assert_eq!(code, Code::NotImplemented);
        let nobody = Wire::connect(&cluster.address(2), "");
        let offset = nobody.request(v2::QueryOffsetRequest::default());
        let code = nobody.raw().query_offset(offset).await.unwrap().into_inner().status.unwrap().code();
        assert_eq!(code, Code::ClientIdRequired);

        for bad in [by_sql("a >"), by_tag(&"x".repeat(4097))] {
            let request = v2::ReceiveMessageRequest { filter_expression: bad, batch_size: 1, ..poll("g", "t") };
            let (status, _) = wire.receive_with(request, POLL + SOON).await.unwrap();
            assert_eq!(status.code(), Code::IllegalFilterExpression);
        }

        let long = Wire::connect(&cluster.address(2), &"c".repeat(256));
        let sent = long.send(vec![message("t", "i", "b")]).await.unwrap().status.unwrap();
        assert_eq!(sent.code(), Code::BadRequest);
        assert!(sent.message.contains("x-mq-client-id of 256 bytes is longer than 255"), "{}", sent.message);

        let mut late = message("t", "i", "b");
        let born = prost_types::Timestamp { seconds: 1_764_000_000_000, nanos: 0 };
        late.system_properties.as_mut().unwrap().born_timestamp = Some(born);
        let sent = wire.send(vec![late]).await.unwrap().status.unwrap();
        assert_eq!((sent.code(), sent.message.contains("milliseconds")), (Code::BadRequest, true), "{}", sent.message);
    });
}

#[test]
fn assignments_are_the_same_from_every_node_also_while_one_is_down() {
    let mut cluster = Cluster::start();
    cluster.raftmq_ok(&["topic", "create", "t"]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first_answer = |cluster: &Cluster, node: usize| {
        let _entered = runtime.enter();
        let wire = cluster.wire(node);
        let request =
            v2::QueryAssignmentRequest { topic: Some(resource("t")), group: Some(resource("g")), ..Default::default() };
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            let answer = runtime.block_on(wire.raw().query_assignment(wire.request(request.clone())));
            if let Ok(answer) = answer.map(tonic::Response::into_inner) {
                break answer;
            }
            assert!(Instant::now() < until, "n{node} does not answer\n{}", cluster.logs());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let assigned = |cluster: &Cluster, node: usize| {
        let broker = |row: v2::Assignment| row.message_queue.unwrap().broker.unwrap();
        let brokers = first_answer(cluster, node).assignments.into_iter().map(broker);
        brokers.map(|broker| (broker.name, broker.endpoints)).collect::<Vec<_>>()
    };
    let eventually = |cluster: &Cluster, what: &str, is_so: &dyn Fn() -> bool| {
        let until = Instant::now() + Duration::from_secs(10);
        while !is_so() {
            assert!(Instant::now() < until, "{what}\n{}", cluster.logs());
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    eventually(&cluster, "the nodes learn of each other", &|| (0..3).all(|node| assigned(&cluster, node).len() == 3));
    let all = assigned(&cluster, 0);
    assert!(assigned(&cluster, 1) == all && assigned(&cluster, 2) == all);
    // n0 moves while n1 is down; what n1 knew of it is not told before n1 has caught up.
    cluster.kill(1);
    cluster.kill(0);
    cluster.start_node_with(0, &["brokerIP1=localhost"]);
    eventually(&cluster, "n2 hears of the move", &|| !assigned(&cluster, 2).is_empty() && assigned(&cluster, 2) != all);
    let moved = assigned(&cluster, 2);
    cluster.kill(0);
    cluster.kill(2);
    cluster.start_node(1);
    assert_eq!(first_answer(&cluster, 1).status.unwrap().code(), Code::HaNotAvailable);
    cluster.start_node(2);
    eventually(&cluster, "n1 hears of the move", &|| !assigned(&cluster, 1).is_empty());
    assert_eq!(assigned(&cluster, 1), moved);
}

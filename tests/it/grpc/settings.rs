//! What clients tell of themselves on their streams, and what they are told.

use std::collections::BTreeMap;
use std::time::Duration;

use raftmq::proto::v2;
use raftmq::proto::v2::Code;
use raftmq::proto::v2::retry_policy::Strategy;
use raftmq::proto::v2::settings::PubSub;

use crate::fixture::cluster::with_cluster;
use crate::fixture::messages::MIB_4;
use crate::fixture::requests::{by_tag, millis, resource, seconds};
use crate::fixture::telemetry::{BACKOFF, LANGUAGES, answer_to, publishing, settings, subscribed};
use crate::fixture::wire::CALL;

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

fn exponential(millis_initial: i64, seconds_max: i64) -> Strategy {
    let (initial, max) = (Some(millis(millis_initial)), Some(seconds(seconds_max)));
    Strategy::ExponentialBackoff(v2::ExponentialBackoff { initial, max, multiplier: 2.0 })
}

fn strategy(settings: &v2::Settings) -> Strategy {
    settings.backoff_policy.clone().unwrap().strategy.unwrap()
}

#[test]
fn c25_02_settings_are_answered_in_full_and_what_the_client_said_is_echoed() {
    with_cluster(&[], &[("t", "NORMAL"), ("steps", "FIFO")], async |cluster| {
        let wires = cluster.wires_within(CALL);
        cluster.raftmq_ok(&["group", "create", "Some-Namespace%orderly", "--orderly"]);
        cluster.raftmq_ok(&["group", "create", "Some-Namespace%patient", "--retries", "4"]);
        let metric = Some(v2::Metric { on: false, endpoints: None });
        let foreign = v2::Resource { resource_namespace: "Some-Namespace".into(), name: "t".into() };

        let mut sent = settings(v2::ClientType::Producer, publishing(&[]));
        // As clients say it before they have heard from the server.
        sent.backoff_policy = Some(v2::RetryPolicy { max_attempts: 3, strategy: Some(exponential(0, 0)) });
        sent.pub_sub = Some(PubSub::Publishing(v2::Publishing { topics: vec![foreign.clone()], ..Default::default() }));
        let expected = v2::Settings {
            backoff_policy: Some(v2::RetryPolicy { max_attempts: 3, strategy: Some(exponential(10, 1)) }),
            metric: metric.clone(),
            pub_sub: Some(PubSub::Publishing(v2::Publishing {
                topics: vec![foreign.clone()],
                max_body_size: MIB_4 as i32,
                validate_message_type: true,
            })),
            ..sent.clone()
        };
        for wire in &wires {
            assert_eq!(answer_to(wire, "JAVA", &sent).await, expected);
        }

        let list = Strategy::CustomizedBackoff(v2::CustomizedBackoff { next: BACKOFF.map(seconds).to_vec() });
        let cases = [("unknown", "t", 17, false), ("patient", "t", 5, false), ("orderly", "t", 17, true)];
        for kind in [v2::ClientType::PushConsumer, v2::ClientType::SimpleConsumer] {
            for (group, topic, max_attempts, fifo) in cases {
                let PubSub::Subscription(mut subscription) = subscribed(group, topic, by_tag("a || b")) else {
                    unreachable!()
                };
                subscription.group.as_mut().unwrap().resource_namespace = "Some-Namespace".into();
                subscription.subscriptions[0].topic = Some(foreign.clone());
                let sent = settings(kind, PubSub::Subscription(subscription.clone()));
                let expected = v2::Settings {
                    backoff_policy: Some(v2::RetryPolicy { max_attempts, strategy: Some(list.clone()) }),
                    metric: metric.clone(),
                    pub_sub: Some(PubSub::Subscription(v2::Subscription {
                        fifo: Some(fifo),
                        receive_batch_size: Some(32),
                        long_polling_timeout: Some(seconds(20)),
                        ..subscription
                    })),
                    ..sent.clone()
                };
                assert_eq!(answer_to(&wires[0], "PYTHON", &sent).await, expected, "{group}");
            }
        }
    });
}

#[test]
fn c25_03_producers_get_exponential_backoff_whatever_their_language() {
    with_cluster(&[], &[("t", "NORMAL")], async |cluster| {
        let wires = cluster.wires_within(CALL);
        for language in LANGUAGES {
            for topics in [&["t"][..], &[]] {
                let sent = settings(v2::ClientType::Producer, publishing(topics));
                let heard = answer_to(&wires[0], language, &sent).await;
                assert_eq!(strategy(&heard), exponential(10, 1), "{language}");
            }
            // Push consumers: Node knows no list, Python nothing else (contract §6.4).
            let sent = settings(v2::ClientType::PushConsumer, subscribed("g", "t", by_tag("a || b")));
            let heard = strategy(&answer_to(&wires[1], language, &sent).await);
            if language == "HTTP" {
                assert_eq!(heard, exponential(5000, 7200));
            } else {
                assert!(matches!(heard, Strategy::CustomizedBackoff(list) if list.next.len() == 18), "{language}");
            }
        }
    });
}

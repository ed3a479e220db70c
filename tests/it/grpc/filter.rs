//! Filters by tag and by SQL: what is delivered, and that the rest is passed over for good.

use futures_util::future;
use raftmq::proto::v2;
use raftmq::proto::v2::Code;

use crate::fixture::calls::{nothing, refused, send, take};
use crate::fixture::cluster::with_cluster;
use crate::fixture::messages::{having, ids, message, numbered, ordered, sorted, tagged};
use crate::fixture::requests::{by_sql, by_tag, poll, seconds};
use crate::fixture::telemetry::{settings, subscribed, telemetry};
use crate::fixture::wire::{CALL, POLL, SOON};

#[test]
fn c24_filter_chooses_by_exact_tag_and_by_sql_also_in_order() {
    with_cluster(&[], &[("t", "NORMAL"), ("steps", "FIFO")], async |cluster| {
        let wires = cluster.wires_within(CALL);
        // As Java hashes them, "Aa" and "BB" are equal.
        for tag in ["a", "b", "B", "Aa", "BB", "*"] {
            send(&wires[0], tagged("t", tag, tag)).await;
        }
        send(&wires[0], message("t", "untagged", "m")).await;
        for number in 1..=6 {
            let mut step = ordered("steps", "x", number);
            let colour = if number % 2 == 0 { "red" } else { "blue" };
            step.user_properties =
                having("", "", [("colour", colour), ("number", &number.to_string())]).user_properties;
            send(&wires[1], step).await;
        }

        let all: &[&str] = &["*", "Aa", "B", "BB", "a", "b", "untagged"];
        let steps: &[&str] = &["x1", "x2", "x3", "x4", "x5", "x6"];
        let cases: [(&str, Option<v2::FilterExpression>, &[&str]); 13] = [
            ("t", None, all),
            ("t", by_tag("*"), all),
            ("t", by_tag(""), all),
            ("t", by_tag("a || b"), &["a", "b"]),
            ("t", by_tag(" b||Aa  "), &["Aa", "b"]),
            ("t", by_tag("Aa"), &["Aa"]),
            ("t", by_tag("b ||"), &["b"]),
            ("t", by_tag("nobody's"), &[]),
            ("steps", None, steps),
            ("steps", by_sql("number >= 2 AND colour = 'red'"), &["x2", "x4", "x6"]),
            ("steps", by_sql("number BETWEEN 3 AND 4"), &["x3", "x4"]),
            ("steps", by_sql("missing = 'v'"), &[]),
            ("steps", by_sql("missing IS NULL"), steps),
        ];
        let read = async |(number, (topic, expression, expected)): (usize, (&str, _, &[&str]))| {
            let group = format!("g{number}");
            let request = v2::ReceiveMessageRequest { filter_expression: expression, ..poll(&group, topic) };
            let got = ids(&take(&wires[number % 3..][..1], &request, expected.len()).await);
            // In order where there is one; queues have none among each other.
            let got = if topic == "t" { sorted(got) } else { got };
            assert_eq!(got, expected, "{:?}", request.filter_expression);
            nothing(&wires[0], request).await;
            // What did not match was passed over for this group and does not wait for another filter.
            if !expected.is_empty() {
                nothing(&wires[0], poll(&group, topic)).await;
            }
        };
        future::join_all(cases.into_iter().enumerate().map(read)).await;

        let bad = v2::ReceiveMessageRequest { filter_expression: by_sql("number >"), ..poll("g", "steps") };
        assert_eq!(refused(&wires[0], bad).await.code(), Code::IllegalFilterExpression);
    });
}

#[test]
fn sql_filters_choose_by_properties_and_pass_over_the_rest() {
    // Two thirds of what is sent are on the disk only.
    with_cluster(&["tailCacheBytes=1MiB"], &[("t", "NORMAL")], async |cluster| {
        let [a, b, _] = cluster.wires();
        let large = |number| v2::Message { body: vec![b'x'; 1024].into(), ..numbered("t", number) };
        for from in (0..3000).step_by(100) {
            let sent = a.send((from..from + 100).map(large).collect()).await.unwrap();
            assert_eq!(sent.status.unwrap().code(), Code::Ok);
        }
        let chosen = |group: &str, condition: &str| v2::ReceiveMessageRequest {
            filter_expression: by_sql(condition),
            batch_size: 16,
            ..poll(group, "t")
        };
        let condition = "number BETWEEN 2990 AND 2992 AND missing IS NULL";
        let mut got = Vec::new();
        while got.len() < 3 {
            // Longer than the polls that follow.
            let request = v2::ReceiveMessageRequest { invisible_duration: Some(seconds(60)), ..chosen("g", condition) };
            let (status, messages) = b.receive_with(request, POLL + SOON).await.unwrap();
            assert_eq!(status.code(), Code::Ok, "{got:?}");
            got.extend(ids(&messages));
        }
        got.sort();
        assert_eq!(got, ["m2990", "m2991", "m2992"]);
        // What was passed over is settled for this group, and for no other.
        for condition in [condition, "TRUE"] {
            let (status, _) = b.receive_with(chosen("g", condition), POLL + SOON).await.unwrap();
            assert_eq!(status.code(), Code::MessageNotFound);
        }
        let (_, messages) = a.receive_with(chosen("h", "number < 2"), POLL + SOON).await.unwrap();
        assert!(!messages.is_empty());

        let (status, _) = a.receive_with(chosen("h", "number >"), POLL + SOON).await.unwrap();
        assert_eq!(status.code(), Code::IllegalFilterExpression);
        assert!(status.message.contains("at character 9"), "{}", status.message);
        let bad = settings(v2::ClientType::SimpleConsumer, subscribed("h", "t", by_sql("number >")));
        let mut told = telemetry(&a, "RUST", &bad, 1).await;
        let refused = tokio::time::timeout(CALL, told.message()).await.expect("an answer").unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
        assert!(refused.message().contains("ILLEGAL_FILTER_EXPRESSION"), "{refused}");
    });
}

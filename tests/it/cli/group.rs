//! Groups as an operator sees and changes them.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use raftmq::proto::v2::retry_policy::Strategy;

use crate::fixture::calls::{drain, send};
use crate::fixture::cluster::{BINARY, Cluster, with_cluster};
use crate::fixture::messages::{message, tagged};
use crate::fixture::telemetry::consumer;

#[test]
fn a_group_is_described_from_any_node_changed_and_deleted() {
    with_cluster(&[], &[("t", "NORMAL")], async |mut cluster| {
        let [a, b, _] = cluster.wires();
        send(&a, message("t", "before", "body")).await;
        cluster.raftmq_ok(&["group", "create", "g", "--consume-from", "last", "--backoff", "2s,7s"]);
        let (settings, _one) = consumer(&a, "g", "t", "x || y").await;
        let policy = settings.backoff_policy.unwrap();
        let Some(Strategy::CustomizedBackoff(list)) = policy.strategy else { panic!("{policy:?}") };
        assert_eq!(list.next.iter().map(|step| step.seconds).collect::<Vec<_>>(), [2, 7]);
        let (_, _other) = consumer(&b, "g", "t", "z").await;

        // The third node has no client of its own.
        let third = cluster.address(2);
        let describe = || -> serde_json::Value {
            let mut asking = Command::new(BINARY);
            let answer = asking.args(["-n", &third, "-o", "json", "group", "describe", "g"]).output().unwrap();
            serde_json::from_slice(&answer.stdout).unwrap()
        };
        let members = |described: &serde_json::Value| -> Vec<_> {
            described["members"].as_array().unwrap().iter().map(|member| member["client_id"].clone()).collect()
        };
        // A node that takes more than half a second is left out.
        let mut described = describe();
        for _ in 0..20 {
            if members(&described).len() == 2 {
                break;
            }
            described = describe();
        }
        assert_eq!(members(&described), ["client-0", "client-1"]);
        let odd = described["inconsistencies"][0].as_str().unwrap();
        assert!(odd.contains("tags x || y (client-0) against tags z (client-1)"), "{odd}");
        let group = &described["group"];
        assert_eq!((&group["lag"], &group["oldest_unsettled_at_ms"]), (&0.into(), &serde_json::Value::Null));

        send(&b, tagged("t", "after", "x")).await;
        let group = cluster.json(&["group", "describe", "g"])["group"].clone();
        assert_eq!(group["lag"], 1);
        assert!(group["oldest_unsettled_at_ms"].as_u64().unwrap() > 0);
        assert_eq!(drain(std::slice::from_ref(&a), "g", "t", 1).await[0].0, "after", "it began at the end");

        cluster.raftmq_ok(&["group", "update", "g", "--retries", "1", "--backoff", "default"]);
        let (settings, _again) = consumer(&b, "g", "t", "z").await;
        let policy = settings.backoff_policy.unwrap();
        let Some(Strategy::CustomizedBackoff(list)) = policy.strategy else { panic!("{policy:?}") };
        assert_eq!((policy.max_attempts, list.next.len()), (2, 18));

        cluster.raftmq_ok(&["group", "delete", "g", "--yes"]);
        assert!(!cluster.raftmq(&["group", "describe", "g"]).status.success());
        // Under its name there is another one now, with nothing behind it.
        assert_eq!(drain(std::slice::from_ref(&b), "g", "t", 2).await.len(), 2);

        the_command_line_is_a_member_while_it_consumes(&cluster);
        a_cluster_is_checked_and_a_stopped_node_is_named_and_fills_no_log(&mut cluster);
    });
}

fn the_command_line_is_a_member_while_it_consumes(cluster: &Cluster) {
    let mut consume = Command::new(BINARY);
    consume.args(["-n", &cluster.endpoints(), "consume", "t", "--group", "shell", "--filter", "x"]);
    let mut consuming = consume.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let members = || {
        let output = cluster.raftmq(&["-o", "json", "group", "describe", "shell"]);
        let described: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        described["members"].as_array().cloned().unwrap_or_default()
    };
    eventually("it is a member", cluster, || members().len() == 1);
    let member = members().remove(0);
    assert_eq!((&member["language"], &member["subscriptions"][0]), (&"RUST".into(), &"t TAG x".into()), "{member}");
    let interrupted = Command::new("kill").args(["-INT", &consuming.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    consuming.wait().unwrap();
    eventually("it has left", cluster, || members().is_empty());

    let rows = cluster.raftmq_ok(&["-o", "jsonl", "consume", "t", "--group", "fresh", "--max", "1"]);
    let row: serde_json::Value = serde_json::from_str(&rows).unwrap();
    assert!(
        row["stored_at_ms"].as_u64().unwrap() > 0 && row["born_at_ms"].is_u64() && row["born_host"].is_string(),
        "{row}"
    );
    assert!((0..3).any(|node| row["broker"] == cluster.address(node)), "{row}");
    assert_eq!(row["type"], "NORMAL", "{row}");
}

fn a_cluster_is_checked_and_a_stopped_node_is_named_and_fills_no_log(cluster: &mut Cluster) {
    let check = |cluster: &Cluster| {
        let output = cluster.raftmq(&["-o", "json", "check"]);
        (output.status.code(), serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap())
    };
    let verdict = |found: &serde_json::Value, about: &str, node: Option<&str>| {
        let findings = found["findings"].as_array().unwrap().iter();
        let mut of = findings.filter(|finding| finding["about"] == about && finding["node"].as_str() == node);
        of.next().map(|finding| finding["verdict"].as_str().unwrap().to_owned())
    };
    let (code, found) = check(cluster);
    assert_eq!((code, &found["healthy"]), (Some(0), &true.into()), "{found}");
    for about in ["nodes", "quorum", "versions", "lag", "configuration"] {
        assert_eq!(verdict(&found, about, None).as_deref(), Some("ok"), "{about}: {found}");
    }
    let levels = cluster.json(&["debug", "log-level"]);
    assert_eq!(levels["nodes"].as_array().unwrap().len(), 3, "{levels}");

    let leader = cluster.wait_for_leader();
    let gone = (leader + 1) % 3;
    let before = cluster.log_of(leader).lines().count();
    cluster.kill(gone);
    let name = format!("n{gone}");
    let (code, found) = check(cluster);
    assert_eq!((code, &found["healthy"]), (Some(5), &false.into()), "{found}");
    assert_eq!(verdict(&found, "nodes", Some(&name)).as_deref(), Some("fail"), "{found}");
    assert_eq!(verdict(&found, "quorum", None).as_deref(), Some("warn"), "{found}");
    let text = String::from_utf8(cluster.raftmq(&["check"]).stdout).unwrap();
    assert!(text.contains(&format!("FAIL  {name} does not answer")) && text.contains("do: start it"), "{text}");
    // A heartbeat goes to it twenty times a second.
    std::thread::sleep(Duration::from_secs(2));
    let log = cluster.log_of(leader);
    let since: Vec<&str> = log.lines().skip(before).collect();
    assert!(
        since.iter().any(|line| line.contains("cannot send a member what it lacks") && line.contains(&name)),
        "{since:#?}"
    );
    assert!(since.len() <= 3, "one line, and then one a minute: {since:#?}");

    // Back, with a setting that the others have not, and a certificate.
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let files = ["cert", "key"].map(|name| format!("{}.{name}", cluster.folder_of(gone)));
    std::fs::write(&files[0], made.cert.pem()).unwrap();
    std::fs::write(&files[1], made.signing_key.serialize_pem()).unwrap();
    let tls = [format!("tls.server.certPath={}", files[0]), format!("tls.server.keyPath={}", files[1])];
    cluster.start_node_with(gone, &["transactionTimeOut=7s", &tls[0], &tls[1]]);
    cluster.wait_until_serving(gone);
    eventually("all answer", cluster, || cluster.raftmq(&["check"]).status.success());
    let (_, found) = check(cluster);
    assert_eq!(verdict(&found, "certificates", None).as_deref(), Some("ok"), "{found}");
    let differs = found.to_string();
    assert!(differs.contains("transactionTimeOut differs: ") && differs.contains(&format!("{name} 7s")), "{found}");
}

fn eventually(what: &str, cluster: &Cluster, is_so: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < until, "not in time: {what}\n{}", cluster.logs());
        std::thread::sleep(Duration::from_millis(50));
    }
}

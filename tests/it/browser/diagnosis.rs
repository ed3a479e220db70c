//! Why a group does not get on: the page says the cause and the remedy, and what mends it is done there.

use std::time::Duration;

use raftmq::proto::v2;
use raftmq::proto::v2::Code;
use serde_json::json;

use super::Dashboard;
use super::acts::{close, dialog_with};
use crate::fixture::calls::{ack, change, receive, send};
use crate::fixture::cluster::Cluster;
use crate::fixture::messages::{delivered, ids, message};
use crate::fixture::requests::{poll, push_poll, seconds};
use crate::fixture::telemetry::consumer;
use crate::fixture::wire::Wire;

/// Waits until one of the problems says all of this.
fn says(dashboard: &mut Dashboard, words: &[&str]) {
    let problem = format!(
        "[...document.querySelectorAll('main .problems li')].some((item) =>
            {}.every((word) => item.textContent.includes(word)))",
        json!(words)
    );
    dashboard.browser.wait_for(&format!("a problem says {words:?}"), &problem);
}

fn is_fine(dashboard: &mut Dashboard) {
    dashboard.browser.wait_for("no problem is left", "!!document.querySelector('main section .fine')");
}

/// Whether a problem links to a page.
fn leads_to(dashboard: &mut Dashboard, path: &str) {
    let found = format!("!!document.querySelector('main .problems a[href=\"#/{path}\"]')");
    dashboard.browser.wait_for(&format!("a problem leads to {path}"), &found);
}

/// Does what a problem offers, as the dialog has it filled in; the text of the dialog.
fn mend(dashboard: &mut Dashboard, button: &str, command: &str, confirm: Option<&str>) -> String {
    dashboard.click("main .problems button", button);
    let text = dialog_with(dashboard, command);
    dashboard.browser.wait_for("it was looked at what it would do", "!!document.querySelector('dialog pre')");
    if let Some(name) = confirm {
        dashboard.fill("confirm", name);
    }
    dashboard.browser.eval("document.querySelector('dialog button[type=submit]').click()");
    dialog_with(dashboard, "Done");
    close(dashboard);
    text
}

/// The clock of the browser is so many minutes ahead from now on.
fn minutes_later(dashboard: &mut Dashboard, minutes: u32) {
    let later = format!("(() => {{ const now = Date.now; Date.now = () => now() + {minutes} * 60000; }})()");
    dashboard.browser.eval(&later);
}

pub async fn each_cause_is_said_and_mended_there(dashboard: &mut Dashboard, cluster: &Cluster) {
    cluster.raftmq_ok(&["topic", "create", "work", "--queues", "1"]);
    let wire = cluster.wire(0);
    for body in ["first", "second", "third"] {
        send(&wire, message("work", body, body)).await;
    }
    nobody_consumes(dashboard, cluster).await;
    a_filter_lets_nothing_through(dashboard, cluster, &wire).await;
    a_consumer_is_stuck(dashboard, cluster).await;
    one_message_fails_again_and_again(dashboard, cluster, &wire).await;
    dashboard.is_well("diagnosis");
}

/// A group without a topic, one whose topic does not exist, and one whose consumers are gone.
async fn nobody_consumes(dashboard: &mut Dashboard, cluster: &Cluster) {
    let wire = &Wire::connect(&cluster.address(0), "lonely-1");
    cluster.raftmq_ok(&["group", "create", "lonely"]);
    dashboard.go("group/lonely");
    says(
        dashboard,
        &[
            "No consumer of this group has asked for messages yet, so it is in no topic (0 connected)",
            "exactly the group name lonely",
        ],
    );
    leads_to(dashboard, "clients");
    let (_, stream) = consumer(wire, "lonely", "nowhere", "*").await;
    says(dashboard, &["A consumer subscribes to topic nowhere, which does not exist"]);
    mend(dashboard, "Create topic", "topic create nowhere", None);
    cluster.raftmq_ok(&["topic", "describe", "nowhere"]);
    // It says again what it wants, as clients do.
    let (_, again) = consumer(wire, "lonely", "nowhere", "*").await;
    is_fine(dashboard);
    drop((stream, again));

    cluster.raftmq_ok(&["consume", "work", "--group", "gone", "--max", "1", "-q"]);
    dashboard.go("group/gone");
    says(dashboard, &["2 messages wait in work, and no consumer of this group is connected", "Start a consumer"]);
    let text =
        mend(dashboard, "Pass over what waits in work", "group reset-offset gone work --to latest", Some("gone"));
    assert!(text.contains("Passed over2"), "{text}");
    is_fine(dashboard);
}

async fn a_filter_lets_nothing_through(dashboard: &mut Dashboard, cluster: &Cluster, wire: &Wire) {
    cluster.raftmq_ok(&["group", "create", "picky", "--filter", "region = 'moon'"]);
    // A poll passes over what there is, and waits for more.
    let waits = v2::ReceiveMessageRequest { long_polling_timeout: Some(seconds(20)), ..poll("picky", "work") };
    let mut waiting = Box::pin(receive(wire, waits));
    let passed = async {
        while cluster.json(&["group", "describe", "picky"])["positions"][0]["group_offset"] != 3 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        () = passed => {}
        got = &mut waiting => panic!("{:?}", ids(&got)),
    }
    dashboard.go("group/picky");
    says(dashboard, &["3 messages came into topic work, and the filter let none of them through: region = 'moon'"]);
    leads_to(dashboard, "messages/work");
    dashboard.click("main .problems button", "Change the filter");
    dashboard.fill("filter", "");
    dialog_with(dashboard, "--filter ''");
    dashboard.browser.eval("document.querySelector('dialog button[type=submit]').click()");
    dialog_with(dashboard, "Done");
    close(dashboard);
    is_fine(dashboard);
    dashboard.click("main button", "Reset offsets");
    dashboard.fill("to", "earliest");
    dialog_with(dashboard, "group reset-offset picky work --to earliest");
    dashboard.fill("confirm", "picky");
    dashboard.browser.eval("document.querySelector('dialog button[type=submit]').click()");
    dialog_with(dashboard, "Done");
    close(dashboard);
    // By its old filter the poll that waits would pass over them once more.
    let (late, got) = tokio::join!(waiting, receive(wire, poll("picky", "work")));
    assert_eq!((ids(&late), ids(&got)), (vec![], ["first", "second", "third"].map(str::to_owned).to_vec()));
    ack(wire, "picky", "work", &got).await;
}

/// It took messages and never acknowledges; taken back, another one gets them at once.
async fn a_consumer_is_stuck(dashboard: &mut Dashboard, cluster: &Cluster) {
    let [one, other] = &[0, 1].map(|node| Wire::connect(&cluster.address(node), &format!("slow-{node}")));
    cluster.raftmq_ok(&["group", "create", "slow", "--consume-from", "first"]);
    let (_, stream) = consumer(one, "slow", "work", "*").await;
    let held = receive(one, push_poll("slow", "work")).await;
    assert_eq!(ids(&held), ["first", "second", "third"]);
    ack(one, "slow", "work", &held[..1]).await;
    dashboard.go("group/slow");
    is_fine(dashboard);
    minutes_later(dashboard, 2);
    says(dashboard, &["2 messages are with consumers that do not finish: the oldest waits for 2 min", "slow-0"]);
    dashboard.picture("group", None);
    let text = mend(dashboard, "Take back what is held of work", "reset-offset slow work --to unsettled", Some("slow"));
    assert!(text.contains("Delivered again2"), "{text}");
    let got = receive(other, poll("slow", "work")).await;
    assert_eq!(ids(&got), ["second", "third"], "what was acknowledged does not come again");
    ack(other, "slow", "work", &got).await;
    is_fine(dashboard);
    drop(stream);
    dashboard.speak("en");
}

/// Its attempts rise; it is let die, looked at, and delivered again.
async fn one_message_fails_again_and_again(dashboard: &mut Dashboard, cluster: &Cluster, wire: &Wire) {
    cluster.raftmq_ok(&["group", "create", "fails", "--consume-from", "first"]);
    let fail = async |failed: &v2::Message| {
        let (_, handle, _) = delivered(failed);
        assert_eq!(change(wire, "fails", "work", &handle, 0).await.0, Code::Ok);
    };
    let first = receive(wire, poll("fails", "work")).await;
    ack(wire, "fails", "work", &[first[0].clone(), first[2].clone()]).await;
    fail(&first[1]).await;
    for attempt in 2..=3 {
        let again = receive(wire, poll("fails", "work")).await;
        assert_eq!((again.len(), delivered(&again[0]).2), (1, attempt));
        if attempt < 3 {
            fail(&again[0]).await;
            continue;
        }
        dashboard.go("group/fails");
        says(dashboard, &["topic work, queue 0, offset 1 was delivered 3 times; after 17 it is set aside"]);
        leads_to(dashboard, "message/work/0/1");
        let text = mend(dashboard, "Let it become a dead letter", "group update fails --retries 2", None);
        assert!(text.contains("put 16 back afterwards"), "{text}");
        fail(&again[0]).await;
    }
    says(dashboard, &["Group fails has 1 dead letter", "mend the consumer"]);
    leads_to(dashboard, "dead/fails");
    dashboard.go("dead/fails");
    dashboard.click("main button", "Deliver all again");
    dialog_with(dashboard, "dlq redrive fails --all");
    dashboard.browser.eval("document.querySelector('dialog button[type=submit]').click()");
    dialog_with(dashboard, "Done");
    close(dashboard);
    let got = receive(wire, poll("fails", "work")).await;
    assert_eq!(ids(&got), ["second"]);
    ack(wire, "fails", "work", &got).await;
    dashboard.go("group/fails");
    is_fine(dashboard);
    dashboard.go("message/work/0/1");
    dashboard.picture("message", None);
}

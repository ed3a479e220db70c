//! What the dashboard does, through its dialogs: it asks first, says the command that does the same, and it is an event.

use serde_json::{Value, json};

use super::Dashboard;
use crate::fixture::cluster::Cluster;

const TOOL: &str = concat!("dashboard/", env!("CARGO_PKG_VERSION"));

/// The text of the dialog once it holds this.
pub fn dialog_with(dashboard: &mut Dashboard, text: &str) -> String {
    let shown = format!("document.querySelector('dialog[open]')?.textContent.includes({})", json!(text));
    dashboard.browser.wait_for(&format!("the dialog says '{text}'"), &shown);
    dashboard.browser.eval("document.querySelector('dialog').textContent").as_str().unwrap().to_owned()
}

pub fn close(dashboard: &mut Dashboard) {
    dashboard.click("dialog button", "Close");
    dashboard.browser.wait_for("the dialog is closed", "!document.querySelector('dialog[open]')");
}

fn event(cluster: &Cluster, what: &str) -> Value {
    let events = cluster.json(&["cluster", "events"]);
    let found = events["events"].as_array().unwrap().iter().rev().find(|event| event["what"] == what).cloned();
    found.unwrap_or_else(|| panic!("no {what} in {events:#}"))
}

pub fn a_group_is_reset_and_a_dead_letter_redriven(dashboard: &mut Dashboard, cluster: &Cluster) {
    let lag = || cluster.json(&["group", "describe", "audit"])["group"]["lag"].as_u64().unwrap();
    let before = lag();
    dashboard.go("group/audit");
    dashboard.click("main button", "Reset offsets");
    dashboard.fill("to", "earliest");
    let text = dialog_with(dashboard, "--to earliest");
    assert!(text.contains("group reset-offset audit orders --to earliest"), "{text}");
    assert_eq!(lag(), before, "it was only asked for");
    let is_off = "document.querySelector('dialog button[type=submit]').disabled";
    assert_eq!(dashboard.browser.eval(is_off), true, "the name of the group is not typed yet");
    dashboard.fill("confirm", "audit");
    dashboard.click("dialog button", "Reset offsets");
    dialog_with(dashboard, "Done");
    assert!(lag() > before, "{before}");
    close(dashboard);
    let noted = event(cluster, "offset-reset");
    assert_eq!((&noted["on"], &noted["by"]["tool"]), (&"audit".into(), &TOOL.into()), "{noted}");
    assert_eq!(noted["by"]["address"], "127.0.0.1", "{noted}");

    let redriven = || {
        let listed = cluster.json(&["group", "dlq", "list", "billing"]);
        let all = listed["messages"].as_array().unwrap().clone();
        all.iter().filter(|dead| !dead["origin"]["redriven_at_ms"].is_null()).count()
    };
    assert_eq!(redriven(), 0);
    dashboard.go("dead/billing");
    dashboard.click("main td button", "Deliver again");
    let text = dialog_with(dashboard, "dlq redrive billing");
    assert!(text.contains("--offset 0"), "{text}");
    dashboard.click("dialog button", "Deliver again");
    dialog_with(dashboard, "Done");
    close(dashboard);
    assert_eq!(redriven(), 1);
    let noted = event(cluster, "redrive");
    assert_eq!((&noted["on"], &noted["result"]), (&"billing".into(), &"ok, 1".into()), "{noted}");
    dashboard.is_well("acts");
}

pub fn a_message_is_sent_again(dashboard: &mut Dashboard, cluster: &Cluster) {
    let orders = || cluster.json(&["topic", "describe", "orders"])["topic"]["messages"].as_u64().unwrap();
    let before = orders();
    let found = &cluster.json(&["message", "find", "orders", "--id", "order-1"])["messages"][0];
    let (queue, offset) = (&found["queue"], &found["offset"]);
    dashboard.go(&format!("message/orders/{queue}/{offset}"));
    dashboard.click("main button", "Send again");
    let text = dialog_with(dashboard, &format!("message resend orders {queue} {offset}"));
    assert!(text.contains("order-42") && text.contains("billing"), "{text}");
    assert_eq!(orders(), before, "it was only asked for");
    dashboard.click("dialog button", "Send again");
    dialog_with(dashboard, "Done");
    close(dashboard);
    assert_eq!(orders(), before + 1);
    let both = cluster.json(&["message", "find", "orders", "--key", "order-42"]);
    let both = both["messages"].as_array().unwrap();
    assert_eq!(both.len(), 2, "{both:#?}");
    for same in ["body", "keys", "properties", "tag", "type"] {
        assert_eq!(both[0][same], both[1][same], "{same}");
    }
    assert_ne!(both[0]["message_id"], both[1]["message_id"]);
    let noted = event(cluster, "message-resend");
    assert_eq!((&noted["on"], &noted["by"]["tool"]), (&"orders".into(), &TOOL.into()), "{noted}");
    assert_eq!(noted["detail"], format!("{queue}/{offset}, order-1"));
    // Each row of a search has it too.
    dashboard.go("messages/orders");
    dashboard.click("main td button", "Send again");
    dialog_with(dashboard, "message resend orders");
    close(dashboard);
    dashboard.is_well("resend");
}

pub fn members_are_asked_about_and_settings_of_each_node_shown(dashboard: &mut Dashboard) {
    dashboard.go("cluster");
    dashboard.click("main button", "Add a member");
    dashboard.fill("address", "127.0.0.1:9");
    let text = dialog_with(dashboard, "cluster add n3 --peer 127.0.0.1:9");
    assert!(text.contains("votes then"), "{text}");
    close(dashboard);
    dashboard.click("main td button", "Replace");
    let text = dialog_with(dashboard, "cluster replace n0 --yes");
    assert!(text.contains("Replica that goesn0"), "{text}");
    let is_off = "document.querySelector('dialog button[type=submit]').disabled";
    assert_eq!(dashboard.browser.eval(is_off), true, "the name of the member is not typed yet");
    close(dashboard);
    for node in ["n0", "n1", "n2"] {
        dashboard.go(&format!("config/{node}"));
        let own = format!("document.querySelector('main').textContent.includes('dLegerSelfId{node}')");
        dashboard.browser.wait_for(&format!("the settings are those of {node}"), &own);
    }
    dashboard.is_well("members and settings");
}

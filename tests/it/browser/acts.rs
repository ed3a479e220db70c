//! What the dashboard does, through its dialogs: it asks first, says the command that does the same, and it is an event.

use serde_json::Value;

use super::Dashboard;
use crate::fixture::cluster::Cluster;

const TOOL: &str = concat!("dashboard/", env!("CARGO_PKG_VERSION"));

/// The text of the dialog once it holds this.
fn dialog_with(dashboard: &mut Dashboard, text: &str) -> String {
    let shown = format!("document.querySelector('dialog[open]')?.textContent.includes('{text}')");
    dashboard.browser.wait_for(&format!("the dialog says '{text}'"), &shown);
    dashboard.browser.eval("document.querySelector('dialog').textContent").as_str().unwrap().to_owned()
}

fn close(dashboard: &mut Dashboard) {
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
    dashboard.picture("reset");
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

//! The dashboard without a mouse: every page and an action by keys alone, and what has the focus is seen.

use serde_json::json;

use super::Dashboard;
use crate::fixture::cluster::Cluster;

/// More than any page has.
const TABS_MAX: usize = 120;

/// Presses Tab until what has the focus is this; each step on the way is seen.
fn tab_to(dashboard: &mut Dashboard, what: &str, is_it: &str) {
    for _ in 0..TABS_MAX {
        dashboard.browser.press("Tab");
        let seen = "(() => {
            const style = getComputedStyle(document.activeElement);
            return document.activeElement === document.body || (style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0);
        })()";
        let focused = dashboard.browser.eval("document.activeElement.outerHTML.slice(0, 200)");
        assert_eq!(dashboard.browser.eval(seen), true, "it is not seen that it has the focus: {focused}");
        if dashboard.browser.eval(&format!("((it) => {is_it})(document.activeElement)")) == true {
            return;
        }
    }
    panic!("{TABS_MAX} tabs do not lead to {what}");
}

pub fn every_page_and_an_action_without_a_mouse(dashboard: &mut Dashboard, cluster: &Cluster) {
    dashboard.go("overview");
    let keys =
        dashboard.browser.eval("[...document.querySelectorAll('#nav a')].map((link) => [link.hash, link.title])");
    let keys: Vec<(String, String)> = serde_json::from_value(keys).unwrap();
    for (hash, title) in &keys {
        for key in title.split(' ') {
            dashboard.browser.press(key);
        }
        dashboard.browser.wait_for(&format!("{title} leads to {hash}"), &format!("location.hash === {}", json!(hash)));
        dashboard.ready();
    }
    // The same by the links.
    for (hash, _) in keys.iter().filter(|(hash, _)| hash != "#/overview") {
        dashboard.browser.eval("document.activeElement.blur()");
        tab_to(
            dashboard,
            hash,
            &format!("it.hash === {} && it.closest('nav')", json!(hash)).replace("&& it", "&& !!it"),
        );
        dashboard.browser.press("Enter");
        dashboard.browser.wait_for(&format!("the link leads to {hash}"), &format!("location.hash === {}", json!(hash)));
        dashboard.ready();
    }
    dashboard.browser.press("?");
    dashboard.browser.wait_for("the keys are shown", "!!document.querySelector('dialog[open]')");
    dashboard.browser.press("Escape");
    dashboard.browser.wait_for("Escape closes it", "!document.querySelector('dialog[open]')");

    dashboard.go("topics");
    tab_to(dashboard, "the button for a topic", "it.nodeName === 'BUTTON' && it.textContent === 'Create topic'");
    dashboard.browser.press("Enter");
    dashboard.browser.wait_for("the dialog is open", "!!document.querySelector('dialog[open]')");
    if dashboard.browser.eval("document.activeElement.name") != "topic" {
        tab_to(dashboard, "the name", "it.name === 'topic'");
    }
    dashboard.browser.write("by-keys");
    let is_on = "document.querySelector('dialog button[type=submit]').disabled === false";
    dashboard.browser.wait_for("it was looked at what it would do", is_on);
    tab_to(dashboard, "the button that does it", "it.type === 'submit'");
    dashboard.browser.press("Enter");
    dashboard.browser.wait_for("it is done", "!!document.querySelector('dialog .badge.good')");
    dashboard.browser.press("Escape");
    dashboard
        .browser
        .wait_for("the topic is in the list", "document.querySelector('main').textContent.includes('by-keys')");
    cluster.raftmq_ok(&["topic", "describe", "by-keys"]);
    // A dialog may look at what it would do before everything is typed, and be refused.
    let faults = dashboard.browser.faults();
    assert!(faults.iter().all(|fault| fault.starts_with("400: ") && fault.contains("/api/do/")), "{faults:#?}");
}

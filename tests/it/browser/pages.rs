//! Every page: its looks, its texts, its numbers.

use serde_json::{Value, json};

use super::{Dashboard, LONG, MARKUP};
use crate::fixture::cluster::Cluster;

const CHECKS: &str = include_str!("checks.js");
/// A wide window and a phone.
const WIDTHS: [u32; 2] = [1280, 390];

/// The pages of the head, and one about each kind of thing.
fn all(dashboard: &mut Dashboard) -> Vec<String> {
    let found = dashboard.browser.eval("[...document.querySelectorAll('#nav a')].map((link) => link.hash.slice(2))");
    let mut pages: Vec<String> = serde_json::from_value(found).unwrap();
    assert!(pages.len() >= 10, "{pages:?}");
    let things = ["topic/orders", "group/billing", "message/orders/0/0", "messages/orders", "dead/billing"];
    pages.extend(things.map(str::to_owned));
    pages.extend(["delayed/reminders".to_owned(), format!("topic/{LONG}")]);
    pages
}

/// What the checks would not find, the test below could not either.
pub fn the_checks_find_what_is_wrong(dashboard: &mut Dashboard) {
    for (wrong, tag, style, text) in [
        ("contrast 1.", "p", "color: rgb(250 250 250); background: white", "pale"),
        ("contrast 2.", "p", "opacity: 0.4; color: black; background: white", "faint"),
        ("a text that is missing", "p", "", "column.node"),
        ("no text for people", "p", "", "NaN messages"),
        ("beyond the edge", "p", "width: 3000px", "wide"),
        ("nothing says what this is for", "button", "", ""),
    ] {
        // The page takes no HTML from anybody.
        dashboard.browser.eval(&format!(
            "(() => {{
                const wrong = document.createElement('{tag}');
                wrong.style.cssText = '{style}';
                wrong.textContent = '{text}';
                document.querySelector('main').after(wrong);
            }})()"
        ));
        let found = dashboard.browser.eval(CHECKS).to_string();
        assert!(found.contains(wrong), "{wrong}: {found}");
        dashboard.browser.eval("document.querySelector('main').nextElementSibling.remove()");
    }
    assert_eq!(dashboard.browser.eval(CHECKS), json!([]));
    dashboard.browser.eval("console.error('planted'); fetch('nowhere').then(() => {})");
    let faults = dashboard.browser.faults();
    assert!(faults.iter().any(|fault| fault.contains("planted")), "{faults:?}");
    assert!(faults.iter().any(|fault| fault.starts_with("404: ")), "{faults:?}");
}

pub fn each_is_right_in_both_languages_wide_and_narrow_light_and_dark(dashboard: &mut Dashboard) {
    for language in ["en", "zh"] {
        dashboard.speak(language);
        for page in all(dashboard) {
            dashboard.go(&page);
            for (width, scheme) in
                WIDTHS.into_iter().zip(["light", "dark"]).chain(WIDTHS.into_iter().zip(["dark", "light"]))
            {
                dashboard.browser.size(width, 900);
                dashboard.browser.scheme(scheme);
                let faults = dashboard.browser.eval(CHECKS);
                assert_eq!(faults, json!([]), "{page} in {language}, {width} wide, {scheme}: {faults:#}");
            }
            let heading = dashboard.browser.eval("document.querySelector('main h1').textContent");
            let is_chinese =
                heading.as_str().unwrap().chars().any(|letter| ('\u{4e00}'..='\u{9fff}').contains(&letter));
            // A message is headed by its id, in both.
            assert!(is_chinese == (language == "zh") || page.starts_with("message/"), "{page}: {heading}");
            dashboard.is_well(&format!("{page} in {language}"));
        }
    }
    dashboard.browser.size(1280, 900);
    dashboard.browser.scheme("light");
    dashboard.speak("en");
    dashboard.picture("overview", None);
}

pub fn what_a_message_holds_is_shown_as_text(dashboard: &mut Dashboard) {
    // The first message is in one of the queues.
    let place = dashboard.browser.eval(
        "fetch('api/messages?topic=orders&id=markup').then((answer) => answer.json())
            .then(({ messages: [found] }) => `message/orders/${found.queue}/${found.offset}`)",
    );
    for page in [place.as_str().unwrap(), "messages/orders", "dead/billing"] {
        dashboard.go(page);
        let markup = json!(MARKUP);
        let shown = format!("document.querySelector('main').textContent.includes({markup})");
        dashboard.browser.wait_for("the markup is there as text", &shown);
        let made = "document.querySelectorAll('main img, main script, main b').length";
        assert_eq!(dashboard.browser.eval(made), 0, "{page}: what a message holds became part of the page");
        assert_eq!(dashboard.browser.eval("typeof window.ran"), "undefined", "{page}: it ran");
    }
    dashboard.is_well("messages");
}

pub fn numbers_are_those_of_the_commands(dashboard: &mut Dashboard, cluster: &Cluster) {
    let grouped = |value: &Value| {
        let digits = value.as_u64().unwrap_or_else(|| panic!("{value} is no number")).to_string();
        assert!(digits.len() < 4, "{digits} would have a separator");
        digits
    };
    dashboard.go("topics");
    let topics = cluster.json(&["topic", "list"]);
    for topic in topics["topics"].as_array().unwrap() {
        let name = topic["topic"].as_str().unwrap();
        let expected = grouped(&topic["messages"]);
        dashboard
            .browser
            .wait_for("the topic is listed", &format!("document.body.textContent.includes({})", json!(name)));
        assert_eq!(dashboard.cell(name, "Messages"), expected.as_str(), "{name}");
        assert_eq!(dashboard.cell(name, "Queues"), grouped(&topic["queues"]).as_str(), "{name}");
    }
    dashboard.go("groups");
    let groups = cluster.json(&["group", "list"]);
    for group in groups["groups"].as_array().unwrap() {
        let name = group["group"].as_str().unwrap();
        for (column, key) in [("Lag", "lag"), ("Dead", "dead")] {
            assert_eq!(dashboard.cell(name, column), grouped(&group[key]).as_str(), "{column} of {name}");
        }
    }
    dashboard.go("cluster");
    let status = cluster.json(&["cluster", "status"]);
    for node in status["nodes"].as_array().unwrap() {
        let name = node["node"].as_str().unwrap();
        assert_eq!(dashboard.cell(name, "Term"), grouped(&node["term"]).as_str());
        assert_eq!(dashboard.cell(name, "PID"), node["process_id"].to_string().as_str(), "{name}");
        assert_eq!(dashboard.cell(name, "Address"), node["address"]);
    }
    // What happens meanwhile is seen without loading the page again.
    dashboard.go("topic/orders");
    let before = cluster.json(&["topic", "describe", "orders"])["topic"]["messages"].as_u64().unwrap();
    cluster.raftmq_ok(&["produce", "orders", "one more"]);
    let sum = "[...document.querySelectorAll('main dl.facts div')].some((fact) => fact.textContent.includes";
    dashboard.browser.wait_for("one more message is seen", &format!("{sum}('{}'))", before + 1));
    dashboard.is_well("numbers");
}

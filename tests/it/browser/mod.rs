//! The dashboard in a real browser: Debian's Chromium, one for all cases, in front of three nodes.
//!
//! With `RAFTMQ_PICTURES=FOLDER` it also makes the pictures of the README there.

mod acts;
mod diagnosis;
mod failover;
mod keyboard;
mod pages;

use std::path::PathBuf;

use raftmq::proto::v2::Code;
use serde_json::{Value, json};

use crate::fixture::browser::Browser;
use crate::fixture::calls::{forward, receive, send};
use crate::fixture::cluster::Cluster;
use crate::fixture::messages::{delayed, delivered, keyed, message};
use crate::fixture::requests::poll;

/// Longer than a phone is wide.
const LONG: &str =
    "a-topic-whose-name-somebody-made-as-long-as-names-of-topics-may-be-and-perhaps-even-a-little-longer-than-that";
const MARKUP: &str = r#"<img src=nowhere onerror="window.ran=1"><script>window.ran=1</script><b>bold</b>"#;

/// The browser before a node's dashboard.
struct Dashboard {
    browser: Browser,
    address: String,
    pictures: Option<PathBuf>,
}

impl Dashboard {
    fn open(cluster: &Cluster, node: usize) -> Self {
        let pictures = std::env::var_os("RAFTMQ_PICTURES").map(PathBuf::from);
        let mut dashboard = Self { browser: Browser::start(), address: String::new(), pictures };
        dashboard.look_at(cluster, node);
        dashboard
    }

    /// From now on another node's.
    fn look_at(&mut self, cluster: &Cluster, node: usize) {
        self.address = format!("http://{}/ui/", cluster.http_address(node));
        self.browser.size(1280, 900);
        self.browser.load(&self.address);
        self.ready();
    }

    /// In that language, from the beginning.
    fn speak(&mut self, language: &str) {
        self.browser.eval(&format!("localStorage.setItem('language', '{language}')"));
        self.browser.load(&self.address);
        self.ready();
    }

    /// Goes to a page, as a link does.
    fn go(&mut self, path: &str) {
        let go = format!(
            "new Promise((done) => {{
                if (location.hash === {hash}) return done();
                addEventListener('hashchange', done, {{ once: true }});
                location.hash = {hash};
            }}).then(() => true)",
            hash = json!(format!("#/{path}"))
        );
        self.browser.eval(&go);
        self.ready();
    }

    /// Waits until the page has more than its heading, and what it asked for.
    fn ready(&mut self) {
        self.browser.wait_for("the page has come", "document.querySelectorAll('main > *').length > 1");
        self.browser.settle();
    }

    /// The cell of a row in a column, in the first table that has such a column; both by their texts.
    fn cell(&mut self, row: &str, column: &str) -> Value {
        self.browser.eval(&format!(
            "(() => {{
                for (const table of document.querySelectorAll('main table')) {{
                    const at = [...table.querySelectorAll('th')].findIndex((head) => head.textContent === {column});
                    const rows = [...table.querySelectorAll('tbody tr')];
                    const row = at >= 0 && rows.find((row) => row.cells[0].textContent === {row});
                    if (row) return row.cells[at].textContent;
                }}
                return null;
            }})()",
            row = json!(row),
            column = json!(column)
        ))
    }

    /// Clicks what has exactly this text.
    fn click(&mut self, selector: &str, text: &str) {
        let found = format!(
            "[...document.querySelectorAll({})].find((it) => it.textContent.trim() === {} && !it.disabled)",
            json!(selector),
            json!(text)
        );
        self.browser.wait_for(&format!("{selector} '{text}' can be clicked"), &format!("!!{found}"));
        self.browser.eval(&format!("{found}.click()"));
    }

    /// Writes into a field of the dialog, or chooses there.
    fn fill(&mut self, field: &str, value: &str) {
        let filled = self.browser.eval(&format!(
            "(() => {{
                const field = document.querySelector('dialog [name={field}]');
                if (!field) return false;
                field.value = {};
                field.dispatchEvent(new Event(field.nodeName === 'SELECT' ? 'change' : 'input', {{ bubbles: true }}));
                return true;
            }})()",
            json!(value)
        ));
        assert_eq!(filled, true, "the dialog has no field {field}");
    }

    /// Nothing went wrong since the last time.
    fn is_well(&mut self, where_: &str) {
        let faults = self.browser.faults();
        assert!(faults.is_empty(), "{where_}: {faults:#?}");
    }

    /// One of the README's, if they are made; from this heading on, or from the top.
    fn picture(&mut self, name: &str, heading: Option<&str>) {
        let Some(folder) = self.pictures.clone() else { return };
        std::fs::create_dir_all(&folder).unwrap();
        self.browser.size(1100, 720);
        let to = format!(
            "(() => {{
                const heading = [...document.querySelectorAll('main h2')].find((it) => it.textContent === {});
                scrollTo(0, heading ? heading.getBoundingClientRect().top + scrollY - 60 : 0);
            }})()",
            json!(heading)
        );
        self.browser.eval(&to);
        self.browser.picture(&folder.join(format!("{name}.png")));
        self.browser.size(1280, 900);
    }
}

/// Topics, groups and messages of every kind that the pages show.
async fn fill(cluster: &Cluster) {
    for (name, kind) in [("orders", "NORMAL"), ("reminders", "DELAY"), (LONG, "NORMAL")] {
        cluster.raftmq_ok(&["topic", "create", name, "--type", kind, "--queues", "2"]);
    }
    cluster.raftmq_ok(&["group", "create", "billing", "--consume-from", "first"]);
    let wire = cluster.wire(0);
    send(&wire, message("orders", "markup", MARKUP)).await;
    send(&wire, keyed("orders", "order-1", &["order-42", MARKUP])).await;
    cluster.raftmq_ok(&["produce", "orders", "--count", "28", "-q"]);
    send(&wire, delayed("reminders", "later", 3_600_000)).await;
    // Two are dead, some are in flight, the rest waits.
    let received = receive(&wire, poll("billing", "orders")).await;
    for dead in received.iter().take(2) {
        let (_, handle, _) = delivered(dead);
        assert_eq!(forward(&wire, "billing", "orders", &handle).await, Code::Ok);
    }
    cluster.raftmq_ok(&["consume", "orders", "--group", "audit", "--max", "30", "-q"]);
}

#[test]
fn d184_the_dashboard_works_in_a_browser() {
    let mut cluster = Cluster::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(fill(&cluster));
    let follower = (cluster.wait_for_leader() + 1) % 3;
    let mut dashboard = Dashboard::open(&cluster, follower);
    pages::the_checks_find_what_is_wrong(&mut dashboard);
    pages::each_is_right_in_both_languages_wide_and_narrow_light_and_dark(&mut dashboard);
    pages::what_a_message_holds_is_shown_as_text(&mut dashboard);
    pages::numbers_are_those_of_the_commands(&mut dashboard, &cluster);
    acts::a_group_is_reset_and_a_dead_letter_redriven(&mut dashboard, &cluster);
    acts::a_message_is_sent_again(&mut dashboard, &cluster);
    acts::members_are_asked_about_and_settings_of_each_node_shown(&mut dashboard);
    runtime.block_on(diagnosis::each_cause_is_said_and_mended_there(&mut dashboard, &cluster));
    keyboard::every_page_and_an_action_without_a_mouse(&mut dashboard, &cluster);
    failover::a_killed_leader_is_in_the_timeline(&mut dashboard, &mut cluster);
}

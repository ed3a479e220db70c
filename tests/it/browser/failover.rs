//! A leader that is killed, as somebody sees it who looks at another node.

use super::Dashboard;
use crate::fixture::cluster::Cluster;

pub fn a_killed_leader_is_in_the_timeline(dashboard: &mut Dashboard, cluster: &mut Cluster) {
    let leader = cluster.wait_for_leader();
    let looked_at = (leader + 1) % 3;
    dashboard.look_at(cluster, looked_at);
    dashboard.go("cluster");
    let row = |node: usize, term: u64| {
        format!(
            "[...document.querySelectorAll('main table')].some((table) => table.querySelectorAll('th').length < 8
                && [...table.querySelectorAll('tbody tr')].some((row) => {{
                    const cells = [...row.cells].map((cell) => cell.textContent);
                    return cells.includes('n{node}') && cells.includes('{term}');
                }}))"
        )
    };
    let term = |cluster: &Cluster, node: usize| {
        let status = cluster.json(&["cluster", "status"]);
        let nodes = status["nodes"].as_array().unwrap().clone();
        let of = nodes.iter().find(|row| row["node"] == format!("n{node}")).unwrap();
        of["term"].as_u64().unwrap()
    };
    let before = term(cluster, leader);
    dashboard.browser.wait_for("the leader is in the timeline", &row(leader, before));
    dashboard.is_well("before the kill");

    cluster.kill(leader);
    let next = cluster.wait_for_leader();
    assert_ne!(next, leader);
    let after = term(cluster, next);
    assert!(after > before);
    dashboard.browser.wait_for("the new leader is in the timeline", &row(next, after));
    let head = "!!document.querySelector('#head .badge.warn, #head .badge.bad')";
    dashboard.browser.wait_for("the head says that something is wrong", head);
    dashboard.picture("failover", Some("Failover timeline"));
    // The newest change of leader is among those of the log, though it was noted a moment later.
    let newest = format!(
        "[...document.querySelectorAll('main tbody tr')].some((row) => row.textContent.includes('n{next} leads term {after}'))"
    );
    dashboard.browser.wait_for("the change of leader is noted on the page that was open", &newest);
    dashboard.go("group/billing");
    let problem =
        format!("document.querySelector('main .problems').textContent.includes('Node n{leader} does not answer')");
    dashboard.browser.wait_for("a group says that a node is down", &problem);
    let way = "!!document.querySelector('main .problems a[href=\"#/cluster\"]')";
    dashboard.browser.wait_for("and leads to where that is seen", way);
    // And as an event of the log, with how long nobody led.
    dashboard.go("events");
    let noted = format!(
        "[...document.querySelectorAll('main tbody tr')].some(({{ textContent: text }}) =>
            text.includes('n{next} leads term {after}, n{leader} before') && text.includes('without a leader'))"
    );
    dashboard.browser.wait_for("the change of leader is an event with its gap", &noted);
    // While nobody leads, a request may be refused; nothing else goes wrong.
    let faults = dashboard.browser.faults();
    assert!(faults.iter().all(|fault| fault.starts_with("503: ")), "{faults:#?}");
}

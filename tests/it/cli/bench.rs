//! Measurements: checked, printed and drawn.

use crate::fixture::cluster::Cluster;

#[test]
fn measurements_are_checked_printed_and_drawn() {
    let cluster = Cluster::start();
    cluster.raftmq_ok(&["topic", "create", "bench"]);
    let short = ["--in-flight", "8", "--duration", "500ms", "--warm-up", "100ms", "--connections", "2"];
    let bench = |what: &str| {
        let arguments = [&["-o", "json", "bench", what][..], &short].concat();
        let text = cluster.raftmq_ok(&arguments);
        let report: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(report["messages"].as_u64().unwrap() > 0, "{text}");
        (text, report)
    };
    let (ours, report) = bench("send");
    assert_eq!(report["server_processes"], 3);
    assert!(report["checked"].as_u64() >= report["messages"].as_u64(), "every message came back: {ours}");
    let (null, _) = bench("null");
    for load in [&["send", "--batch", "4"][..], &["receive", "--count", "500"], &["e2e"]] {
        let arguments =
            [&["-o", "json", "bench"][..], load, &["--protocol", "remoting", "--group", "classic"], &short].concat();
        let report: serde_json::Value = serde_json::from_str(&cluster.raftmq_ok(&arguments)).unwrap();
        assert!(report["messages"].as_u64() > Some(0) && report["settings"]["protocol"] == "remoting", "{report}");
        // What a consumer got last, and did not commit, comes again and is none of the run.
        let sent = if load[0] == "receive" { 500 } else { report["messages"].as_u64().unwrap() };
        assert!(report["checked"].as_u64() >= Some(sent), "every message came back: {report}");
    }
    // What lies before the messages of a run is received first, and is none of its mistakes.
    cluster.raftmq_ok(&["bench", "send", "--in-flight", "16", "--batch", "32", "--duration", "1s", "--no-check"]);
    bench("e2e");
    let compare = ["bench", "compare", &cluster.endpoints(), "null", "--pairs", "1", "--pause-b"];
    let compared = cluster.json(&[&compare[..], &short].concat());
    assert!(compared["ratios"][0]["ratio"].as_f64() > Some(0.0), "it goes on after it stood still: {compared}");
    let nobody = ["bench", "compare", &cluster.endpoints(), "127.0.0.1:1", "--pairs", "1", "--pause-b"];
    let refused = cluster.raftmq(&[&nobody[..], &short].concat());
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("addresses to be paused"), "{said}");
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        format!("{name}<&>={}", path.display())
    };
    let picture = cluster.raftmq_ok(&["bench", "picture", &file("ours", &ours), &file("null", &null)]);
    assert!(picture.starts_with("<svg") && picture.ends_with("</svg>\n") && picture.contains("null&lt;&amp;&gt;"));
    let raw = cluster.json(&["bench", "raw", "--duration", "200ms"]);
    assert!(raw["syncs_per_second"].as_f64().unwrap() > 1.0 && raw["latency"]["p50_us"].as_u64().unwrap() > 1);
    let failed = cluster.raftmq(&["bench", "picture", "nowhere"]);
    assert_eq!(failed.status.code(), Some(2));
    let leader = cluster.address(cluster.wait_for_leader());
    let times = ["--rate", "50", "--before", "1s", "--after", "2s", "--settle", "14s"];
    let death = cluster.json(&[&["bench", "failover", "--kill", &leader][..], &times].concat());
    assert!(death["acknowledged"].as_u64() >= Some(50) && death["settled_before"].as_u64() >= Some(1), "{death}");
    assert!(death["gap_ms"].as_f64() > Some(10.0) && !death["failures"].as_object().unwrap().is_empty(), "{death}");
    assert_eq!((&death["lost"], &death["came_again"]), (&0.into(), &0.into()), "P1 P7: {death}");
}

//! Who is answered, and what every answer says to browsers.

use crate::fixture::cluster::{Cluster, free_ports};
use crate::fixture::http::{ask, get};
use crate::fixture::node::Node;

/// One request with these lines after the first.
fn with(address: &str, first: &str, lines: &[&str]) -> (u16, String, String) {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    let answer = ask(address, &format!("{first} HTTP/1.1\r\n{lines}Connection: close\r\n\r\n"));
    (answer.code, answer.head.to_lowercase(), answer.body)
}

#[test]
fn the_pages_come_with_a_policy_and_only_from_an_address_that_is_this_node_s() {
    let cluster = Cluster::start();
    let address = cluster.http_address(0);
    for (path, kind) in [
        ("/ui/", "text/html"),
        ("/ui/main.js", "text/javascript"),
        ("/ui/style.css", "text/css"),
        ("/ui/texts/zh.json", "application/json"),
        ("/ui/pages/overview.js", "text/javascript"),
        ("/ui/api/session", "application/json"),
    ] {
        let answer = get(&address, path);
        let head = answer.head.to_lowercase();
        assert_eq!(answer.code, 200, "{path}");
        assert!(head.contains(&format!("content-type: {kind}")), "{path}: {head}");
        for line in [
            "content-security-policy: default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; \
             frame-ancestors 'none'",
            "x-frame-options: deny",
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
            "cross-origin-resource-policy: same-origin",
        ] {
            assert!(head.contains(line), "{path} lacks {line}: {head}");
        }
        assert!(!head.contains("access-control-"), "{path}: no page of others may read it");
    }
    let moved = get(&address, "/ui");
    assert_eq!((moved.code, moved.head.to_lowercase().contains("location: /ui/")), (308, true));
    for path in ["/ui/nothing.js", "/ui/../Cargo.toml", "/ui/%2e%2e/assets.rs", "/ui/api/nothing", "/ui/pages/"] {
        assert_eq!(get(&address, path).code, 404, "{path}");
    }
    assert_eq!(with(&address, "DELETE /ui/", &["Host: localhost"]).0, 405);
    assert_eq!(with(&address, "GET /ui/api/do/topic.delete", &["Host: localhost"]).0, 405);

    // DNS rebinding: the page of a stranger whose name leads here.
    let (code, _, body) = with(&address, "GET /ui/api/session", &["Host: evil.example"]);
    assert_eq!((code, body.contains("'evil.example' is no name")), (403, true), "{body}");
    for proxied in ["X-Forwarded-For: 10.0.0.7", "Forwarded: for=10.0.0.7"] {
        let (code, _, body) = with(&address, "GET /ui/api/cluster", &["Host: localhost", proxied]);
        assert_eq!((code, body.contains("adminOpen=true")), (403, true), "{body}");
    }
}

#[test]
fn a_node_says_aloud_whom_its_dashboard_answers() {
    let said = |more: &[&str], line: &str| {
        let ports = free_ports("127.0.0.1", 4);
        let settings = [
            "bindAddress=127.0.0.1".to_owned(),
            format!("grpcServerPort={}", ports[0]),
            format!("listenPort={}", ports[1]),
            format!("dLegerPeers=n0-127.0.0.1:{}", ports[2]),
            format!("metricsPromExporterPort={}", ports[3]),
        ];
        let more = more.iter().map(|setting| (*setting).to_owned());
        let mut node = Node::start(&settings.into_iter().chain(more).collect::<Vec<_>>());
        node.wait_for(line);
        node.wait_for("ready");
        with(
            &format!("127.0.0.1:{}", ports[3]),
            "GET /ui/api/session",
            &["Host: localhost", "X-Forwarded-For: 10.0.0.7"],
        )
        .0
    };
    assert_eq!(said(&[], "has the dashboard, for this machine only"), 403);
    assert_eq!(said(&["adminOpen=true"], "may see and change this cluster"), 200);
}

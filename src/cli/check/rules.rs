//! The rules of `raftmq check`: what the nodes say, judged. Asks nobody.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::Timestamp;
use crate::proto::admin::{ClusterStatusResponse, Group, Node, NodeFactsResponse};

use crate::cli::check::finding::Finding;
use crate::cli::render::{bytes, grouped, rough};

/// A clock that is off by more is called wrong, by the node too.
const CLOCK_WRONG_MS: u64 = 500;
/// What a follower may lack while messages come.
const BEHIND_MAX: u64 = 10_000;
/// What a node with many connections and a long log may need.
const OPEN_FILES_WANTED: u64 = 16 * 1024;
/// So much of the limit may be in use, in percent.
const OPEN_FILES_USED_MAX: u64 = 80;
/// A certificate is to be renewed so long before it ends.
const RENEW_BEFORE_MS: u64 = 30 * 24 * 3600 * 1000;
/// Messages that have waited so long for a group without members.
const WAITING_MAX_MS: u64 = 60_000;

/// Keys that each node may have a value of its own for.
const OWN_KEYS: [&str; 22] = [
    "brokerIP1",
    "listenPort",
    "grpcServerPort",
    "bindAddress",
    "dLegerPeers",
    "dLegerSelfId",
    "storePathRootDir",
    "tls.server.certPath",
    "tls.server.keyPath",
    "peerSecretPath",
    "peerTlsCertPath",
    "peerTlsKeyPath",
    "peerTlsTrustCertPath",
    "logLevel",
    "logFormat",
    "logHome",
    "logFileSize",
    "logFilesKept",
    "isolateLogEnable",
    "metricsPromExporterPort",
    "metricsPromExporterHost",
    "metricsLabel",
];

/// What a node said of itself, or why it did not.
pub struct Asked {
    pub node: String,
    pub facts: Result<NodeFactsResponse, String>,
}

/// All that is found, in the order in which one would look.
pub fn findings(status: &ClusterStatusResponse, asked: &[Asked], groups: &[Group], now: Timestamp) -> Vec<Finding> {
    let mut found = members(status);
    found.extend(versions(&status.nodes));
    found.extend(clocks(&status.nodes));
    found.extend(disks(&status.nodes));
    found.extend(logs(&status.nodes));
    found.extend(facts(asked, now));
    found.extend(configuration(status, asked));
    found.extend(self::groups(groups, now));
    found
}

fn is_out_of_reach(node: &Node) -> bool {
    node.term.is_none()
}

/// Who answers, who leads, and what would happen if one more failed.
fn members(status: &ClusterStatusResponse) -> Vec<Finding> {
    let mut found = Vec::new();
    let nodes = &status.nodes;
    for node in nodes.iter().filter(|node| is_out_of_reach(node)) {
        found.push(
            match node.role.as_str() {
                "unreachable" => Finding::fail(
                    "nodes",
                    format!("does not answer (it was at {})", node.address),
                    "start it; the end of its log says why it stopped, or check the network between the nodes",
                ),
                role => Finding::fail(
                    "nodes",
                    format!("is kept out by the others: {role}"),
                    format!("raftmq cluster replace {}, if its disk is gone or was put back from a copy", node.node),
                ),
            }
            .of(&node.node),
        );
    }
    let answer: Vec<&Node> = nodes.iter().filter(|node| !is_out_of_reach(node)).collect();
    match &status.leader {
        Some(leader) => {
            let term = nodes.iter().find(|node| node.node == *leader).and_then(|node| node.term).unwrap_or_default();
            let text = format!("{} of {} nodes answer, {leader} leads in term {term}", answer.len(), nodes.len());
            found.insert(0, Finding::ok("nodes", text));
        }
        None => found.push(Finding::fail(
            "quorum",
            "there is no leader: nothing can be sent or received",
            "more than half of the nodes have to run and to reach each other",
        )),
    }
    let is_voter = |node: &&Node| node.role != "learner";
    let voters = nodes.iter().filter(is_voter).count();
    let there = answer.iter().filter(|node| is_voter(node)).count();
    let spare = there.saturating_sub(voters / 2 + 1);
    found.push(match (voters, spare) {
        (1, _) => Finding::warn(
            "quorum",
            "there is one node: nothing is replicated",
            "for more: raftmq cluster add n1 --peer HOST:PORT",
        ),
        (_, 0) => Finding::warn("quorum", "one more failure stops the group", "bring back the nodes that are missing"),
        (_, spare) => Finding::ok("quorum", format!("{spare} more may fail and the group goes on")),
    });
    found
}

fn versions(nodes: &[Node]) -> Vec<Finding> {
    let of: BTreeMap<&str, &str> =
        nodes.iter().filter(|node| !node.version.is_empty()).map(|node| (&*node.node, &*node.version)).collect();
    let different: BTreeSet<&str> = of.values().copied().collect();
    vec![match different.len() {
        0 => return Vec::new(),
        1 => Finding::ok("versions", format!("all run version {}", different.into_iter().collect::<String>())),
        _ => {
            let each: Vec<String> = of.iter().map(|(node, version)| format!("{node} {version}")).collect();
            let text = format!("versions differ: {}", each.join(", "));
            Finding::warn("versions", text, "finish the upgrade, one node after the other")
        }
    }]
}

fn clocks(nodes: &[Node]) -> Vec<Finding> {
    let answer: Vec<&Node> = nodes.iter().filter(|node| !is_out_of_reach(node)).collect();
    let offsets: Vec<(&str, i64)> =
        answer.iter().filter_map(|node| Some((&*node.node, node.clock_offset_ms?))).collect();
    let synchronise = "have all nodes keep their clocks by NTP (chronyc tracking, timedatectl)";
    let mut found: Vec<Finding> = offsets
        .iter()
        .filter(|(_, offset)| offset.unsigned_abs() > CLOCK_WRONG_MS)
        .map(|(node, offset)| {
            Finding::fail("clocks", format!("has a clock that is {offset} ms ahead of the others'"), synchronise)
                .of(node)
        })
        .collect();
    if offsets.len() < answer.len() && nodes.len() > 1 {
        let text = "no majority of the nodes agrees on the time of day yet";
        found.push(Finding::warn("clocks", text, format!("ask again in a minute; {synchronise}")));
    } else if let Some(widest) = offsets.iter().map(|(_, offset)| offset.unsigned_abs()).max()
        && found.is_empty()
    {
        found.push(Finding::ok("clocks", format!("clocks within {widest} ms")));
    }
    found
}

fn disks(nodes: &[Node]) -> Vec<Finding> {
    let mut found = Vec::new();
    for node in nodes {
        let Some(disk) = &node.disk else { continue };
        let free = format!("{} free of {} ({} % used)", bytes(disk.free), bytes(disk.total), disk.used_percent);
        let make_room = "give the file system room, or keep messages for less: raftmq topic update TOPIC --retention, \
                         fileReservedTime, raftmq cluster trim";
        let finding = match disk.state.as_str() {
            "full" => {
                Finding::fail("disks", format!("has a full disk and takes nothing into its log: {free}"), make_room)
            }
            "hard" => {
                let text = format!("has less free than diskHardMark ({}): {free}", bytes(disk.hard_mark));
                Finding::fail("disks", text, make_room)
            }
            "soft" => {
                let text = format!("has less free than diskSoftMark ({}): {free}", bytes(disk.soft_mark));
                Finding::warn("disks", text, make_room)
            }
            _ => continue,
        };
        found.push(finding.of(&node.node));
    }
    for node in nodes.iter().filter(|node| node.slow_disk) {
        let text = "has a slow disk: what it is to sync takes too long";
        found.push(
            Finding::warn("disks", text, "see what else uses the disk (iostat -x 1), or replace it").of(&node.node),
        );
    }
    let most = nodes.iter().filter_map(|node| Some(node.disk.as_ref()?.used_percent)).max();
    if let Some(most) = most
        && found.is_empty()
    {
        found.push(Finding::ok("disks", format!("disks have room, the fullest is used by {most} %")));
    }
    found
}

/// What each node has of the replicated log.
fn logs(nodes: &[Node]) -> Vec<Finding> {
    let mut found = Vec::new();
    for node in nodes {
        let damage = node.damage.unwrap_or_default();
        if damage.lacks_tail {
            let text = "lost the end of its log and does not vote until it has it again";
            found.push(
                Finding::warn("logs", text, "keep the other nodes running until it has caught up").of(&node.node),
            );
        }
        if damage.damaged_segments > 0 {
            let text = format!("has {} damaged segments, which it repairs from the others", damage.damaged_segments);
            found.push(Finding::warn("logs", text, "look at its disk (smartctl -a, dmesg)").of(&node.node));
        }
        if let Some(pull) = &node.catching_up {
            let text = if pull.waits_for.is_empty() {
                "catches up by a snapshot".to_owned()
            } else {
                format!("cannot catch up: {}", pull.waits_for)
            };
            found.push(Finding::warn("lag", text, "raftmq cluster status shows how far it is").of(&node.node));
        } else if let Some(behind) = node.behind.filter(|behind| *behind > BEHIND_MAX) {
            let text = format!("is {} entries behind", grouped(behind));
            found.push(
                Finding::warn("lag", text, "look at its disk, its CPU and the network to the leader").of(&node.node),
            );
        }
    }
    let behind = nodes.iter().filter_map(|node| node.behind).max();
    if let Some(behind) = behind
        && !found.iter().any(|finding| finding.about == "lag")
    {
        found.push(Finding::ok("lag", format!("nobody who answers is more than {} entries behind", grouped(behind))));
    }
    found
}

/// Limits, certificates and the log file of each process.
fn facts(asked: &[Asked], now: Timestamp) -> Vec<Finding> {
    let mut found = Vec::new();
    let (mut files_max, mut ends) = (Vec::new(), Vec::new());
    for Asked { node, facts } in asked {
        let facts = match facts {
            Ok(facts) => facts,
            Err(why) => {
                let text = format!("does not say how its process is: {why}");
                found.push(
                    Finding::warn("limits", text, "reach its client port from here, or install this build there")
                        .of(node),
                );
                continue;
            }
        };
        let (open, most) = (facts.open_files, facts.open_files_max);
        let raise = format!("raise the limit to {OPEN_FILES_WANTED} (ulimit -n, LimitNOFILE=) and restart the node");
        if open.saturating_mul(100) > most.saturating_mul(OPEN_FILES_USED_MAX) {
            found.push(Finding::fail("limits", format!("has {open} files open of {most}"), raise).of(node));
        } else if most < OPEN_FILES_WANTED {
            found.push(Finding::warn("limits", format!("may open {most} files only, {open} are open"), raise).of(node));
        } else {
            files_max.push(most);
        }
        if !facts.log_file_error.is_empty() {
            let file = facts.log_file.as_deref().unwrap_or_default();
            let text = format!("cannot write its log file {file}: {}", facts.log_file_error);
            found.push(Finding::warn("limits", text, "make room there or set another logHome").of(node));
        }
        for certificate in &facts.certificates {
            let shown = format!("the certificate for {} in {}", certificate.shown_to, certificate.file);
            let renew = "put a new one there and restart the node";
            if !certificate.error.is_empty() {
                let text = format!("cannot read {shown}: {}", certificate.error);
                found.push(Finding::fail("certificates", text, renew).of(node));
                continue;
            }
            let left = certificate.not_after_ms.saturating_sub(now.0);
            let ends_in = rough(Timestamp(certificate.not_after_ms).since(now));
            match left {
                0 => {
                    found.push(Finding::fail("certificates", format!("shows {shown}, which has ended"), renew).of(node))
                }
                1..RENEW_BEFORE_MS => {
                    let text = format!("shows {shown}, which ends in {ends_in}");
                    found.push(Finding::warn("certificates", text, renew).of(node));
                }
                _ => ends.push((certificate.not_after_ms, ends_in)),
            }
        }
    }
    if let Some(least) = files_max.iter().min()
        && files_max.len() == asked.len()
    {
        found.push(Finding::ok("limits", format!("each node may open {least} files or more")));
    }
    if let Some((_, ends_in)) = ends.iter().min()
        && !found.iter().any(|finding| finding.about == "certificates")
    {
        found.push(Finding::ok("certificates", format!("the first certificate to end does so in {ends_in}")));
    }
    found
}

/// Keys that should be the same everywhere, because any node may lead.
fn configuration(status: &ClusterStatusResponse, asked: &[Asked]) -> Vec<Finding> {
    let mut values: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
    let known = asked.iter().filter_map(|asked| Some((&*asked.node, asked.facts.as_ref().ok()?)));
    for (node, facts) in known.clone() {
        for setting in facts.settings.iter().filter(|setting| !OWN_KEYS.contains(&&*setting.key)) {
            values.entry(&setting.key).or_default().insert(node, &setting.value);
        }
    }
    let nodes = known.count();
    let mut found = Vec::new();
    for (key, of_nodes) in values {
        let different: BTreeSet<&str> = of_nodes.values().copied().collect();
        // A build that does not know a key has no value for it.
        if different.len() > 1 {
            let each: Vec<String> = of_nodes.iter().map(|(node, value)| format!("{node} {value}")).collect();
            let text = format!("{key} differs: {}", each.join(", "));
            let remedy = "give all nodes the same value and restart those that have another, one after the other";
            found.push(Finding::warn("configuration", text, remedy));
        }
    }
    if let Some(difference) = &status.difference {
        let text = format!("dLegerPeers of the node that answered is older than the group: {difference}");
        found.push(Finding::warn("configuration", text, "write the members of now into its file, for the next reader"));
    }
    if found.is_empty() && nodes > 1 {
        found.push(Finding::ok("configuration", format!("{nodes} nodes have the same settings")));
    }
    found
}

/// Groups that nobody consumes for, though messages wait.
fn groups(groups: &[Group], now: Timestamp) -> Vec<Finding> {
    let mut found = Vec::new();
    for group in groups {
        let waited = group.oldest_unsettled_at_ms.map(|at| now.since(Timestamp(at)));
        if let Some(waited) = waited.filter(|waited| waited.0 > WAITING_MAX_MS)
            && group.members == 0
            && group.lag > 0
        {
            let text = format!(
                "group {}: {} messages wait, the oldest for {}, and no consumer is there",
                group.name,
                grouped(group.lag),
                rough(waited)
            );
            found.push(Finding::warn(
                "groups",
                text,
                format!("start its consumers; raftmq group describe {}", group.name),
            ));
        }
        if group.dead > 0 {
            let text = format!("group {}: {} dead letters", group.name, grouped(group.dead));
            found.push(Finding::warn("groups", text, format!("raftmq group dlq list {}", group.name)));
        }
    }
    if found.is_empty() && !groups.is_empty() {
        found.push(Finding::ok("groups", format!("{} groups, none is left alone", grouped(groups.len() as u64))));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::check::finding::Verdict;
    use crate::proto::admin::{Certificate, DiskRoom, Setting};

    const NOW: Timestamp = Timestamp(1_795_824_000_000);

    fn node(name: &str, role: &str) -> Node {
        let disk = DiskRoom { total: 100 << 30, free: 60 << 30, used_percent: 40, ..Default::default() };
        Node {
            node: name.into(),
            role: role.into(),
            version: "0.1.0".into(),
            term: Some(7),
            behind: Some(0),
            clock_offset_ms: Some(3),
            disk: Some(DiskRoom { state: "ok".into(), ..disk }),
            ..Default::default()
        }
    }

    fn down(name: &str) -> Node {
        Node { node: name.into(), role: "unreachable".into(), address: "h:1".into(), ..Default::default() }
    }

    fn three() -> ClusterStatusResponse {
        let nodes = vec![node("n0", "leader"), node("n1", "follower"), node("n2", "follower")];
        ClusterStatusResponse { nodes, leader: Some("n0".into()), ..Default::default() }
    }

    fn asked(name: &str, flush: &str) -> Asked {
        let set = |key: &str, value: &str| Setting { key: key.into(), value: value.into() };
        let facts = NodeFactsResponse {
            open_files: 100,
            open_files_max: 65_536,
            settings: vec![set("flushDiskType", flush), set("listenPort", name)],
            ..Default::default()
        };
        Asked { node: name.into(), facts: Ok(facts) }
    }

    fn all() -> Vec<Asked> {
        ["n0", "n1", "n2"].map(|name| asked(name, "SYNC_FLUSH")).into()
    }

    fn worst(found: &[Finding], about: &str) -> Verdict {
        found.iter().filter(|finding| finding.about == about).map(|finding| finding.verdict).max().unwrap()
    }

    #[test]
    fn a_healthy_cluster_has_nothing_but_ok() {
        let found = findings(&three(), &all(), &[Group { name: "g".into(), ..Default::default() }], NOW);
        assert!(found.iter().all(|finding| finding.verdict == Verdict::Ok && finding.remedy.is_none()), "{found:#?}");
        assert_eq!(found[0].to_text(), "ok    3 of 3 nodes answer, n0 leads in term 7\n");
        let about: Vec<&str> = found.iter().map(|finding| finding.about).collect();
        assert_eq!(
            about,
            ["nodes", "quorum", "versions", "clocks", "disks", "lag", "limits", "configuration", "groups"]
        );
    }

    #[test]
    fn a_node_that_is_down_fails_and_leaves_no_spare() {
        let mut status = three();
        status.nodes[2] = down("n2");
        let found = findings(&status, &all()[..2], &[], NOW);
        assert_eq!((worst(&found, "nodes"), worst(&found, "quorum")), (Verdict::Fail, Verdict::Warn));
        let text: String = found.iter().map(Finding::to_text).collect();
        assert!(text.contains("FAIL  n2 does not answer (it was at h:1)\n        do: start it"), "{text}");
        status.nodes[1] = down("n1");
        status.leader = None;
        assert_eq!(worst(&findings(&status, &[], &[], NOW), "quorum"), Verdict::Fail);
    }

    #[test]
    fn clocks_disks_and_logs_are_judged() {
        let mut status = three();
        status.nodes[1].clock_offset_ms = Some(-900);
        status.nodes[1].behind = Some(BEHIND_MAX + 1);
        status.nodes[2].disk.as_mut().unwrap().state = "hard".into();
        status.nodes[2].version = "0.2.0".into();
        let found = findings(&status, &all(), &[], NOW);
        let verdicts = ["clocks", "lag", "disks", "versions"].map(|about| worst(&found, about));
        assert_eq!(verdicts, [Verdict::Fail, Verdict::Warn, Verdict::Fail, Verdict::Warn]);
        status.nodes[2].disk.as_mut().unwrap().state = "soft".into();
        status.nodes[1].clock_offset_ms = None;
        let found = findings(&status, &all(), &[], NOW);
        assert_eq!((worst(&found, "disks"), worst(&found, "clocks")), (Verdict::Warn, Verdict::Warn));
    }

    #[test]
    fn limits_certificates_and_differences_are_judged() {
        let mut asked = all();
        let facts = asked[0].facts.as_mut().unwrap();
        facts.open_files_max = 1024;
        let certificate = |not_after_ms, error: &str| Certificate {
            shown_to: "clients".into(),
            file: "/tls.pem".into(),
            not_after_ms,
            error: error.into(),
        };
        facts.certificates = vec![certificate(NOW.0 + RENEW_BEFORE_MS - 1, "")];
        let found = findings(&three(), &asked, &[], NOW);
        assert_eq!((worst(&found, "limits"), worst(&found, "certificates")), (Verdict::Warn, Verdict::Warn));
        let facts = asked[0].facts.as_mut().unwrap();
        facts.open_files = 1000;
        for ended in [certificate(NOW.0, ""), certificate(0, "gone")] {
            asked[0].facts.as_mut().unwrap().certificates = vec![ended];
            let found = findings(&three(), &asked, &[], NOW);
            assert_eq!((worst(&found, "limits"), worst(&found, "certificates")), (Verdict::Fail, Verdict::Fail));
        }
        asked[1] = self::asked("n1", "ASYNC_FLUSH");
        asked[2].facts = Err("unknown request".into());
        let found = findings(&three(), &asked, &[], NOW);
        assert_eq!(worst(&found, "configuration"), Verdict::Warn);
        let text: String = found.iter().map(Finding::to_text).collect();
        assert!(text.contains("flushDiskType differs: n0 SYNC_FLUSH, n1 ASYNC_FLUSH"), "{text}");
        assert!(!text.contains("listenPort") && text.contains("n2 does not say"), "{text}");
    }

    #[test]
    fn a_group_without_consumers_is_named_once_messages_have_waited() {
        let group = |waited: u64, members| Group {
            name: "billing".into(),
            lag: 5,
            members,
            oldest_unsettled_at_ms: Some(NOW.0 - waited),
            ..Default::default()
        };
        let of = |group| groups(&[group], NOW)[0].verdict;
        assert_eq!(of(group(WAITING_MAX_MS + 1, 0)), Verdict::Warn);
        assert_eq!(of(group(WAITING_MAX_MS, 0)), Verdict::Ok);
        assert_eq!(of(group(WAITING_MAX_MS * 2, 1)), Verdict::Ok);
        assert_eq!(of(Group { dead: 1, ..group(0, 1) }), Verdict::Warn);
    }
}

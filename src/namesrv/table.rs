//! What brokers said of themselves, and what follows from it. Memory only: whoever starts anew is told all within seconds.
//!
//! A group is shown as its leader sees it: of the reports that hold, the one of the highest term, which its leader makes,
//! says which nodes answer and which topics there are. Of the nodes that answer, those count whose own report holds (D200).
//!
//! Bounded: nodes, topics of a report, and how long a report holds.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::model::limits::NODE_NAME_BYTES_MAX;
use crate::model::{MemberName, Unwritable};
use crate::namesrv::route::{Group, REPLY_QUEUES, RETRY_PREFIX, RETRY_QUEUES, is_reply_topic};
use crate::proto::remoting::registration::NodeReport;
use crate::proto::remoting::route_data::{ClusterInfo, RouteData};

/// Nodes of all groups together.
pub const NODES_MAX: usize = 1024;
/// Topics of one report.
pub const REPORT_TOPICS_MAX: usize = 50_000;
/// A report holds so long, if its connection does; brokers report every thirty seconds (RocketMQ: the same).
pub const REPORT_HOLDS: Duration = Duration::from_secs(120);

/// A connection, by a number that is never used again.
pub type ConnectionNumber = u64;

/// The reports that hold.
#[derive(Default)]
pub struct Table {
    /// `orderMessageEnable`: routes say what tools said of the order of topics.
    pub shows_order: bool,
    groups: BTreeMap<GroupKey, BTreeMap<MemberName, Held>>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct GroupKey {
    cluster: String,
    broker_name: String,
}

/// A group with the addresses of its nodes, the host's first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupAddresses {
    pub broker_name: String,
    pub nodes: Vec<String>,
}

struct Held {
    report: NodeReport,
    answering: Vec<MemberName>,
    unwritable: Unwritable,
    connection: ConnectionNumber,
    at: Instant,
}

/// A report that is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    #[error("'{0}' is no member's name, such as n0")]
    Member(String),
    #[error("{what} of {bytes} bytes; 1 to {max} are taken")]
    Name { what: &'static str, bytes: usize, max: usize },
    #[error("{0} topics; a name server takes {REPORT_TOPICS_MAX} of a group at most: delete topics that nobody uses")]
    Topics(usize),
    #[error("{NODES_MAX} nodes are known already, which is the most a name server takes: give this one another")]
    Nodes,
}

impl Table {
    /// Takes a report; one that a node made before does not hold any more.
    ///
    /// * Errors: nothing changed.
    pub fn report(&mut self, report: NodeReport, connection: ConnectionNumber, now: Instant) -> Result<(), NotTaken> {
        let member = |name: &str| MemberName::parse(name).ok_or_else(|| NotTaken::Member(shown(name)));
        let own = member(&report.member)?;
        let answering = report.answering.iter().map(|name| member(name)).collect::<Result<Vec<_>, _>>()?;
        for (what, text) in [
            ("the cluster's name", &report.cluster),
            ("the broker's name", &report.broker_name),
            ("the address", &report.address),
        ] {
            if !(1..=NODE_NAME_BYTES_MAX).contains(&text.len()) {
                return Err(NotTaken::Name { what, bytes: text.len(), max: NODE_NAME_BYTES_MAX });
            }
        }
        if report.topics.len() > REPORT_TOPICS_MAX {
            return Err(NotTaken::Topics(report.topics.len()));
        }
        let key = GroupKey { cluster: report.cluster.clone(), broker_name: report.broker_name.clone() };
        let is_known = self.groups.get(&key).is_some_and(|nodes| nodes.contains_key(&own));
        if !is_known && self.nodes_count() >= NODES_MAX {
            return Err(NotTaken::Nodes);
        }
        let members = report.unwritable.iter().map(|name| member(name)).collect::<Result<_, _>>()?;
        let unwritable = Unwritable { group: report.group_is_unwritable, members };
        self.groups.entry(key).or_default().insert(own, Held { report, answering, unwritable, connection, at: now });
        Ok(())
    }

    /// Forgets what was reported of a node.
    pub fn unregister(&mut self, cluster: &str, address: &str) {
        self.keep(|held| held.report.cluster != cluster || held.report.address != address);
    }

    /// Forgets what was reported over a connection that ended; which nodes that were.
    pub fn connection_ended(&mut self, connection: ConnectionNumber) -> Vec<String> {
        self.keep(|held| held.connection != connection)
    }

    /// Forgets what was not said anew in time; which nodes that were.
    pub fn expire(&mut self, now: Instant) -> Vec<String> {
        self.keep(|held| now.saturating_duration_since(held.at) < REPORT_HOLDS)
    }

    fn keep(&mut self, holds: impl Fn(&Held) -> bool) -> Vec<String> {
        let mut gone = Vec::new();
        for nodes in self.groups.values_mut() {
            nodes.retain(|member, held| {
                let holds = holds(held);
                if !holds {
                    gone.push(format!("{}-{member}", held.report.broker_name));
                }
                holds
            });
        }
        self.groups.retain(|_, nodes| !nodes.is_empty());
        gone
    }

    pub fn nodes_count(&self) -> usize {
        self.groups.values().map(BTreeMap::len).sum()
    }

    /// Each group with the report that says what it has.
    fn groups(&self) -> impl Iterator<Item = (Group<'_>, &NodeReport)> {
        self.groups.iter().filter_map(|(key, nodes)| {
            let (member, view) = nodes
                .iter()
                .max_by_key(|(member, held)| (held.report.term, held.report.leads, std::cmp::Reverse(**member)))?;
            let answers = |node: &&MemberName| *node == member || view.answering.contains(node);
            let nodes = nodes.iter().filter(|(node, _)| answers(node));
            let nodes = nodes.map(|(node, held)| (*node, held.report.address.clone())).collect();
            let unwritable = view.unwritable.clone();
            Some((Group { cluster: &key.cluster, broker_name: &key.broker_name, nodes, unwritable }, &view.report))
        })
    }

    /// Where a topic is; `None` if nobody has it.
    pub fn route(&self, topic: &str) -> Option<RouteData> {
        let mut route = RouteData::default();
        for (group, report) in self.groups() {
            if let Some(queues) = report.topics.get(topic) {
                group.add_to_route(&mut route, *queues);
                // Tools write the same to all groups.
                route.order_topic_conf = route.order_topic_conf.or_else(|| report.ordered_topics.get(topic).cloned());
            }
        }
        route.order_topic_conf = route.order_topic_conf.filter(|_| self.shows_order);
        if route.broker_datas.is_empty() {
            for (group, _) in self.groups() {
                if topic.starts_with(RETRY_PREFIX) {
                    group.add_to_route(&mut route, RETRY_QUEUES);
                } else if is_reply_topic(topic, group.cluster) {
                    group.add_to_route(&mut route, REPLY_QUEUES);
                }
            }
        }
        (!route.broker_datas.is_empty()).then_some(route)
    }

    /// All groups with their addresses.
    pub fn addresses(&self) -> Vec<GroupAddresses> {
        let addresses = |(mut group, _): (Group<'_>, &NodeReport)| {
            group.nodes.sort();
            let nodes = group.nodes.into_iter().map(|(_, address)| address).collect();
            GroupAddresses { broker_name: group.broker_name.to_owned(), nodes }
        };
        self.groups().map(addresses).collect()
    }

    /// All groups with their nodes.
    pub fn clusters(&self) -> ClusterInfo {
        let mut info = ClusterInfo::default();
        self.groups().for_each(|(group, _)| group.add_to_cluster(&mut info));
        info
    }

    /// The topics of a cluster, or of all.
    pub fn topics(&self, cluster: Option<&str>) -> Vec<String> {
        let groups = self.groups().filter(|(group, _)| cluster.is_none_or(|cluster| group.cluster == cluster));
        let names: std::collections::BTreeSet<_> = groups.flat_map(|(_, report)| report.topics.keys()).collect();
        names.into_iter().cloned().collect()
    }

    /// The names of clusters and brokers, which are topics for RocketMQ's tools, and the address of one broker.
    pub fn system_names(&self) -> (Vec<String>, Option<String>) {
        let mut names = std::collections::BTreeSet::new();
        let mut address = None;
        for (group, _) in self.groups() {
            names.extend([group.cluster.to_owned(), group.broker_name.to_owned()]);
            let host = group.host();
            let own = group.nodes.into_iter().find(|(node, _)| Some(*node) == host).map(|(_, own)| own);
            address = address.or(own);
        }
        (names.into_iter().collect(), address)
    }
}

/// A text from outside, short enough for a message.
fn shown(text: &str) -> String {
    text.chars().take(32).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::remoting::registration::TopicQueues;

    fn report(group: &str, member: u32, term: u64, leads: bool, answering: &[u32]) -> NodeReport {
        let topics =
            BTreeMap::from([(format!("of-{group}"), TopicQueues { count: 4, perm: 6, all_names_read: false })]);
        NodeReport {
            cluster: "C".into(),
            broker_name: group.into(),
            member: format!("n{member}"),
            address: format!("10.0.0.{member}:10911"),
            term,
            leads,
            answering: answering.iter().map(|name| format!("n{name}")).collect(),
            topics,
            ..NodeReport::default()
        }
    }

    fn names(table: &Table, topic: &str) -> Vec<String> {
        let mut names: Vec<_> = table
            .route(topic)
            .into_iter()
            .flat_map(|route| route.queue_datas)
            .map(|queues| queues.broker_name)
            .collect();
        names.sort();
        names
    }

    fn of_three() -> Table {
        let mut table = Table::default();
        for member in [0, 1, 2] {
            table.report(report("b", member, 5, member == 0, &[0, 1, 2]), member.into(), Instant::now()).unwrap();
        }
        table
    }

    #[test]
    fn a_group_is_what_its_leader_sees_and_what_reports_itself() {
        let mut table = of_three();
        assert_eq!(names(&table, "of-b"), ["b", "b-n1", "b-n2"]);
        // n0 is cut off from the others, leads in its old term, and still reaches this name server.
        table.report(report("b", 1, 6, true, &[1, 2]), 1, Instant::now()).unwrap();
        assert_eq!(names(&table, "of-b"), ["b", "b-n2"]);
        table.report(report("b", 0, 5, true, &[0]), 0, Instant::now()).unwrap();
        assert_eq!(names(&table, "of-b"), ["b", "b-n2"]);
        assert_eq!(table.route("of-b").unwrap().broker_datas[0].broker_addrs[&0], "10.0.0.1:10911");
    }

    #[test]
    fn the_host_moves_with_the_end_of_its_connection_and_not_with_a_change_of_the_leader() {
        let mut table = of_three();
        table.report(report("b", 2, 6, true, &[0, 1, 2]), 2, Instant::now()).unwrap();
        assert_eq!(names(&table, "of-b"), ["b", "b-n1", "b-n2"]);
        assert_eq!(table.connection_ended(0), ["b-n0"]);
        assert_eq!(names(&table, "of-b"), ["b", "b-n2"]);
        let (_, master) = table.clusters().broker_addr_table["b"].broker_addrs.clone().pop_first().unwrap();
        assert_eq!(master, "10.0.0.1:10911");
        // An older connection of a node that reports over a newer one says nothing.
        table.report(report("b", 1, 6, false, &[1, 2]), 7, Instant::now()).unwrap();
        assert!(table.connection_ended(1).is_empty());
        table.unregister("C", "10.0.0.1:10911");
        assert_eq!(names(&table, "of-b"), ["b"]);
    }

    #[test]
    fn what_the_leader_says_of_write_permissions_and_order_is_in_routes() {
        let mut table = of_three();
        let mut said = report("b", 0, 5, true, &[0, 1, 2]);
        said.unwritable = vec!["n2".into()];
        said.ordered_topics = BTreeMap::from([("of-b".into(), "b:4".into()), ("other".into(), "b:1".into())]);
        table.report(said.clone(), 0, Instant::now()).unwrap();
        assert_eq!(names(&table, "of-b"), ["b", "b-n1"]);
        assert_eq!(table.route("of-b").unwrap().order_topic_conf, None);
        table.shows_order = true;
        assert_eq!(table.route("of-b").unwrap().order_topic_conf.as_deref(), Some("b:4"));
        said.group_is_unwritable = true;
        table.report(said.clone(), 0, Instant::now()).unwrap();
        let queues = table.route("of-b").unwrap().queue_datas;
        assert_eq!(queues.iter().map(|queues| (&queues.broker_name[..], queues.perm)).collect::<Vec<_>>(), [("b", 4)]);
        assert_eq!(table.addresses().len(), 1);
        assert_eq!(table.addresses()[0].nodes[0], "10.0.0.0:10911");
        said.unwritable = vec!["2".into()];
        assert!(table.report(said, 0, Instant::now()).is_err());
    }

    #[test]
    fn a_report_holds_two_minutes() {
        let mut table = of_three();
        let soon = Instant::now() + REPORT_HOLDS - Duration::from_secs(60);
        table.report(report("b", 1, 5, false, &[0, 1, 2]), 1, soon).unwrap();
        assert!(table.expire(soon).is_empty());
        assert_eq!(table.expire(soon + Duration::from_secs(60)), ["b-n0", "b-n2"]);
        assert_eq!((names(&table, "of-b"), table.nodes_count()), (vec!["b".to_owned()], 1));
    }

    #[test]
    fn two_groups_of_a_cluster_are_one_route_and_one_list() {
        let mut table = of_three();
        table.report(report("a", 0, 1, true, &[0]), 9, Instant::now()).unwrap();
        let both = report("a", 0, 1, true, &[0]);
        let topics = BTreeMap::from([("of-b".to_owned(), TopicQueues { count: 2, perm: 6, all_names_read: false })]);
        table.report(NodeReport { topics, ..both }, 9, Instant::now()).unwrap();
        assert_eq!(names(&table, "of-b"), ["a", "b", "b-n1", "b-n2"]);
        assert_eq!(table.clusters().cluster_addr_table["C"], ["a", "b"]);
        assert_eq!((table.topics(None), table.topics(Some("D"))), (vec!["of-b".to_owned()], Vec::new()));
        assert_eq!(names(&table, "%RETRY%g"), ["a", "b", "b-n1", "b-n2"]);
        assert_eq!(names(&table, "C_REPLY_TOPIC"), ["a", "b", "b-n1", "b-n2"]);
        assert_eq!((names(&table, "missing"), names(&table, "D_REPLY_TOPIC")), (Vec::new(), Vec::new()));
        let system = (["C", "a", "b"].map(str::to_owned).to_vec(), Some("10.0.0.0:10911".to_owned()));
        assert_eq!(table.system_names(), system);
    }

    #[test]
    fn what_is_reported_has_bounds() {
        let mut table = Table::default();
        let mut take = |report: NodeReport| table.report(report, 0, Instant::now()).map_err(|error| error.to_string());
        let mut many = report("b", 0, 1, true, &[0]);
        many.topics = (0..=REPORT_TOPICS_MAX).map(|number| (number.to_string(), TopicQueues::default())).collect();
        assert!(take(many.clone()).unwrap_err().starts_with("50001 topics; a name server takes 50000"));
        many.topics.pop_first();
        assert_eq!(take(many), Ok(()));
        assert_eq!(
            take(NodeReport { member: "0".into(), ..report("b", 0, 1, true, &[]) }),
            Err("'0' is no member's name, such as n0".into())
        );
        let nameless = NodeReport { cluster: String::new(), ..report("b", 0, 1, true, &[]) };
        assert_eq!(take(nameless), Err("the cluster's name of 0 bytes; 1 to 255 are taken".into()));
        for number in 1..NODES_MAX {
            take(report("b", u32::try_from(number).unwrap(), 1, false, &[])).unwrap();
        }
        let beyond = take(report("c", 0, 1, false, &[])).unwrap_err();
        assert!(beyond.starts_with("1024 nodes are known already"), "{beyond}");
        assert_eq!(take(report("b", 5, 2, false, &[])), Ok(()), "of one that is known");
    }
}

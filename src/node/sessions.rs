//! The clients of this node, by client id: who they are, what they said in their settings, when they were
//! last seen.
//!
//! Nothing depends on a session being known: any request renews or makes one (contract §6.5). They
//! decide whose leases are renewed and what `group describe` shows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::broker::{ClientInfo, GroupConsumer, OrphanedTransaction, Subscription};
use crate::env::clock::Clock;
use crate::model::limits::{SESSION_SILENT_MAX, SESSIONS_MAX};
use crate::model::{GroupName, Millis, Timestamp, TopicName, text_hash};
use crate::node::connections::Connections;

/// Subscriptions remembered of one client; more are served, and not shown.
const SUBSCRIPTIONS_KEPT: usize = 64;
/// Most consumers of a group that one node names.
const CONSUMERS_NAMED_MAX: usize = 1024;
/// Bytes of the texts of all sessions.
const SESSIONS_BYTES_MAX: usize = 32 * 1024 * 1024;
/// What a session takes beside its texts, one that had a stream once more, and a text of its settings beside its own bytes.
const SESSION_COST: usize = 512;
const STREAM_COST: usize = 640;
const TEXT_COST: usize = 32;
/// One part in so many of a host's sessions is forgotten at once.
const FORGOTTEN_PART: usize = 100;
/// Orphaned transactions that a stream has not taken yet.
const ORPHANS_MAX: usize = 64;

/// A client counts as living this long after its last request. Heartbeats come every 10 s, from the
/// Rust client every 30 s.
pub(super) const LIVING_FOR: Millis = Millis::from_secs(35);

/// What the headers of one request say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClientHeader<'a> {
    pub client_id: &'a str,
    pub language: &'a str,
    pub version: &'a str,
    /// Where it connects from.
    pub address: &'a str,
}

impl<'a> ClientHeader<'a> {
    /// As an earlier request said.
    pub fn of(info: &'a ClientInfo) -> Self {
        let ClientInfo { client_id, language, version, address } = info;
        Self { client_id, language, version, address }
    }

    fn to_info(self) -> ClientInfo {
        let Self { client_id, language, version, address } = self;
        let [client_id, language, version, address] = [client_id, language, version, address].map(str::to_owned);
        ClientInfo { client_id, language, version, address }
    }
}

/// What a client's settings say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionSettings {
    /// Its group, if it consumes.
    pub group: Option<GroupName>,
    /// The topics it publishes to.
    pub topics: Vec<TopicName>,
    /// What it consumes.
    pub subscriptions: Vec<Subscription>,
    /// Its request timeout.
    pub request_timeout: Option<Millis>,
}

/// A client that a node sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownClient {
    pub info: ClientInfo,
    pub seen_at: Timestamp,
    /// Of a consumer.
    pub group: Option<GroupName>,
    /// What it said it publishes to.
    pub topics: Vec<TopicName>,
    pub subscriptions: Vec<Subscription>,
    /// Of a producer that says so.
    pub producer_group: Option<GroupName>,
}

#[derive(Debug, Clone)]
struct Session {
    info: Arc<ClientInfo>,
    settings: Option<SessionSettings>,
    /// By the monotonic clock.
    seen_at: Duration,
    /// Its newest stream, if it has one here.
    orphans: Option<mpsc::Sender<Box<OrphanedTransaction>>>,
    connections: Connections,
    /// What it counts, and for which host.
    weight: Weight,
    /// Whether it may not consume its group now, which another protocol has.
    is_refused: bool,
}

impl Session {
    fn silent_for(&self, now: Duration) -> Millis {
        now.saturating_sub(self.seen_at).into()
    }
}

/// Bytes of a session's texts, and the host of its client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Weight {
    bytes: usize,
    host: String,
}

impl Session {
    fn weight(&self) -> Weight {
        let ClientInfo { client_id, language, version, address } = &*self.info;
        // The id is a key as well.
        let texts = 2 * client_id.len() + language.len() + version.len() + address.len();
        let settings = self.settings.as_ref().map_or(0, |settings| {
            let topics: usize = settings.topics.iter().map(|topic| topic.as_str().len() + TEXT_COST).sum();
            let subscriptions = settings.subscriptions.iter();
            let subscriptions =
                subscriptions.map(|one| one.topic.as_str().len() + one.expression.len() + 2 * TEXT_COST);
            topics + subscriptions.sum::<usize>()
        });
        let host = address.rsplit_once(':').map_or("", |(host, _)| host);
        let stream = if self.orphans.is_some() { STREAM_COST } else { 0 };
        Weight { bytes: SESSION_COST + stream + texts + settings, host: host.to_owned() }
    }

    /// Whether the client has a stream open here, as every official one has.
    fn listens(&self) -> bool {
        self.orphans.as_ref().is_some_and(|orphans| !orphans.is_closed())
    }
}

/// All sessions, and what they count.
#[derive(Default)]
struct Known {
    by_client: BTreeMap<String, Session>,
    bytes: usize,
    by_host: BTreeMap<String, usize>,
}

impl Known {
    fn insert(&mut self, session: Session) {
        self.add(&session.weight);
        if let Some(before) = self.by_client.insert(session.info.client_id.clone(), session) {
            self.subtract(&before.weight);
        }
    }

    fn remove(&mut self, client_id: &str) {
        if let Some(gone) = self.by_client.remove(client_id) {
            self.subtract(&gone.weight);
        }
    }

    /// Counts a session anew whose texts have changed.
    fn weigh(&mut self, client_id: &str) {
        let Some(session) = self.by_client.get_mut(client_id) else { return };
        let now = session.weight();
        let before = std::mem::replace(&mut session.weight, now.clone());
        self.subtract(&before);
        self.add(&now);
    }

    fn add(&mut self, weight: &Weight) {
        self.bytes += weight.bytes;
        *self.by_host.entry(weight.host.clone()).or_default() += weight.bytes;
    }

    fn subtract(&mut self, weight: &Weight) {
        self.bytes -= weight.bytes;
        if let Some(bytes) = self.by_host.get_mut(&weight.host) {
            *bytes -= weight.bytes;
            if *bytes == 0 {
                self.by_host.remove(&weight.host);
            }
        }
    }

    /// Makes room for new clients, which must get sessions: the host whose clients count most gives up those without a
    /// stream, then those that were silent for longest, many at a time.
    fn make_room(&mut self) {
        while self.by_client.len() >= SESSIONS_MAX || self.bytes > SESSIONS_BYTES_MAX {
            let Some((host, _)) = self.by_host.iter().max_by_key(|(_, bytes)| **bytes) else { return };
            let of_host = self.by_client.iter().filter(|(_, session)| session.weight.host == *host);
            let mut goes: Vec<_> =
                of_host.map(|(id, session)| (session.listens(), session.seen_at, id.clone())).collect();
            let count = goes.len().div_ceil(FORGOTTEN_PART);
            goes.select_nth_unstable(count.saturating_sub(1));
            for (_, _, id) in goes.into_iter().take(count) {
                self.remove(&id);
            }
        }
    }
}

/// The clients of this node.
pub struct Sessions {
    clock: Arc<dyn Clock>,
    /// Whether a session was ever refused: else none has to be looked for with each request.
    has_refused: AtomicBool,
    known: Mutex<Known>,
}

impl Sessions {
    /// `clock` gives the cluster's time of day, to be shown; how long a client is silent is monotonic time.
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, has_refused: AtomicBool::new(false), known: Mutex::default() }
    }

    /// Notes a request of a client, and makes its session if it has none.
    pub fn seen(&self, header: ClientHeader<'_>) -> Arc<ClientInfo> {
        let seen_at = self.clock.mono();
        let mut known = self.known.lock();
        if let Some(session) = known.by_client.get_mut(header.client_id) {
            session.seen_at = seen_at;
            if ClientHeader::of(&session.info) != header {
                session.info = Arc::new(header.to_info());
                known.weigh(header.client_id);
            }
            return known.by_client[header.client_id].info.clone();
        }
        known.make_room();
        let info = Arc::new(header.to_info());
        let connections = Connections::new(header.address);
        let (settings, orphans, weight, is_refused) = (None, None, Weight::default(), false);
        let session = Session { info: info.clone(), settings, seen_at, orphans, connections, weight, is_refused };
        let weight = session.weight();
        known.insert(Session { weight, ..session });
        info
    }

    /// Stores the settings of a known client.
    pub fn settings(&self, client_id: &str, mut settings: SessionSettings) {
        settings.subscriptions.truncate(SUBSCRIPTIONS_KEPT);
        let mut known = self.known.lock();
        if let Some(session) = known.by_client.get_mut(client_id) {
            session.settings = Some(settings);
            known.weigh(client_id);
            known.make_room();
        }
    }

    /// A known client may not consume its group now, or may again.
    pub(super) fn set_refused(&self, client_id: &str, is_refused: bool) {
        if is_refused {
            self.has_refused.store(true, Ordering::Relaxed);
        } else if !self.has_refused.load(Ordering::Relaxed) {
            return;
        }
        if let Some(session) = self.known.lock().by_client.get_mut(client_id) {
            session.is_refused = is_refused;
        }
    }

    /// A known client opened a stream: transactions that it is asked about go there from now on. [`Self::stream_ended`]
    /// follows.
    pub fn listen(&self, client: &ClientInfo) -> mpsc::Receiver<Box<OrphanedTransaction>> {
        // A channel has memory for half of them from the start: boxed ones take little.
        let (orphans, asked) = mpsc::channel(ORPHANS_MAX);
        let mut known = self.known.lock();
        if let Some(session) = known.by_client.get_mut(&client.client_id) {
            session.orphans = Some(orphans);
            session.connections.opened(&client.address);
            known.weigh(&client.client_id);
        }
        asked
    }

    /// A stream of a client ended.
    pub fn stream_ended(&self, client: &ClientInfo) {
        if let Some(session) = self.known.lock().by_client.get_mut(&client.client_id) {
            session.connections.ended(&client.address);
        }
    }

    /// Asks a living producer of the topic, another one at every `turn`; false if there is none on this node.
    pub(super) fn ask_producer(&self, transaction: &OrphanedTransaction, turn: u64) -> bool {
        let now = self.clock.mono();
        let known = self.known.lock();
        let sessions = &known.by_client;
        let streams = sessions.values().filter_map(|session| {
            let publishes =
                session.settings.as_ref().is_some_and(|settings| settings.topics.contains(&transaction.topic));
            let lives = session.silent_for(now) < LIVING_FOR;
            session.orphans.as_ref().filter(|_| publishes && lives)
        });
        let streams: Vec<_> = streams.collect();
        let first = usize::try_from(turn % streams.len().max(1) as u64).unwrap_or(0);
        let (before, from) = streams.split_at(first);
        from.iter().chain(before).any(|stream| stream.try_send(Box::new(transaction.clone())).is_ok())
    }

    /// Forgets a client that left; false if it says so from another connection than its session's.
    pub(super) fn ended(&self, client: &ClientInfo) -> bool {
        let mut known = self.known.lock();
        let is_its_own =
            known.by_client.get(&client.client_id).is_some_and(|session| session.connections.own(&client.address));
        if is_its_own {
            known.remove(&client.client_id);
        }
        is_its_own
    }

    /// The request timeout the client stated.
    pub fn request_timeout(&self, client_id: &str) -> Option<Millis> {
        self.known.lock().by_client.get(client_id)?.settings.as_ref()?.request_timeout
    }

    pub(super) fn is_alive(&self, client_id: &str) -> bool {
        let now = self.clock.mono();
        self.known.lock().by_client.get(client_id).is_some_and(|session| session.silent_for(now) < LIVING_FOR)
    }

    /// Forgets clients that were silent for too long.
    pub(super) fn expire(&self) {
        let now = self.clock.mono();
        let mut known = self.known.lock();
        let silent = known.by_client.iter().filter(|(_, session)| session.silent_for(now) >= SESSION_SILENT_MAX);
        let silent: Vec<String> = silent.map(|(id, _)| id.clone()).collect();
        silent.iter().for_each(|id| known.remove(id));
    }

    /// Shows each living client, with its group if it named one.
    pub fn each_living(&self, mut show: impl FnMut(&ClientInfo, Option<&GroupName>)) {
        let now = self.clock.mono();
        let known = self.known.lock();
        let sessions = &known.by_client;
        for session in sessions.values().filter(|session| session.silent_for(now) < LIVING_FOR) {
            show(&session.info, session.settings.as_ref().and_then(|settings| settings.group.as_ref()));
        }
    }

    /// Clients of this node that live, by id: at most so many, and how many more there are.
    pub(super) fn known(&self, limit: usize) -> (Vec<KnownClient>, usize) {
        let (mono, wall) = (self.clock.mono(), self.clock.wall());
        let known = self.known.lock();
        let sessions = &known.by_client;
        let living = sessions.values().filter(|session| session.silent_for(mono) < LIVING_FOR);
        let count = living.clone().count();
        let client = |session: &Session| {
            let settings = session.settings.as_ref();
            KnownClient {
                info: ClientInfo::clone(&session.info),
                seen_at: Timestamp(wall.0.saturating_sub(session.silent_for(mono).0)),
                group: settings.and_then(|settings| settings.group.clone()),
                topics: settings.map(|settings| settings.topics.clone()).unwrap_or_default(),
                subscriptions: settings.map(|settings| settings.subscriptions.clone()).unwrap_or_default(),
                producer_group: None,
            }
        };
        (living.take(limit).map(client).collect(), count.saturating_sub(limit))
    }

    /// Hashes of the ids of the consumers of each group.
    pub(super) fn consumer_ids(&self) -> BTreeMap<GroupName, Vec<u64>> {
        let mut ids: BTreeMap<GroupName, Vec<u64>> = BTreeMap::new();
        for session in self.known.lock().by_client.values().filter(|session| !session.is_refused) {
            if let Some(group) = session.settings.as_ref().and_then(|settings| settings.group.clone()) {
                ids.entry(group).or_default().push(text_hash(&session.info.client_id));
            }
        }
        ids
    }

    /// The consumers of a group on this node.
    pub fn consumers(&self, group: &GroupName) -> Vec<GroupConsumer> {
        let (mono, wall) = (self.clock.mono(), self.clock.wall());
        let known = self.known.lock();
        let sessions = &known.by_client;
        let consumers = sessions.values().filter(|session| !session.is_refused).filter_map(|session| {
            let settings = session.settings.as_ref().filter(|settings| settings.group.as_ref() == Some(group))?;
            let subscriptions = settings.subscriptions.clone();
            let seen_at = Timestamp(wall.0.saturating_sub(session.silent_for(mono).0));
            Some(GroupConsumer { client: ClientInfo::clone(&session.info), seen_at, subscriptions })
        });
        consumers.take(CONSUMERS_NAMED_MAX).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::clock::ManualClock;

    #[test]
    fn a_client_lives_while_it_is_seen_and_is_forgotten_later() {
        let clock = Arc::new(ManualClock::new(Timestamp(1_000_000)));
        let sessions = Sessions::new(clock.clone());
        let header = ClientHeader { client_id: "c", ..ClientHeader::default() };
        sessions.seen(header);
        assert!(sessions.is_alive("c"));
        clock.advance(LIVING_FOR);
        assert!(!sessions.is_alive("c"));
        sessions.seen(header);
        assert!(sessions.is_alive("c"));
        clock.advance(SESSION_SILENT_MAX);
        sessions.expire();
        sessions.settings("c", settings());
        assert_eq!(sessions.request_timeout("c"), None);
    }

    /// A node whose time of day was set an hour ahead.
    struct Jumped(ManualClock);

    impl Clock for Jumped {
        fn wall(&self) -> Timestamp {
            self.0.wall().plus(Millis::from_secs(3600))
        }

        fn mono(&self) -> Duration {
            self.0.mono()
        }
    }

    #[test]
    fn p21_a_client_lives_by_monotonic_time_whatever_the_time_of_day_does() {
        let mut sessions = Sessions::new(Arc::new(ManualClock::new(Timestamp(1_000_000))));
        sessions.seen(ClientHeader { client_id: "c", ..ClientHeader::default() });
        sessions.settings("c", settings());
        sessions.clock = Arc::new(Jumped(ManualClock::new(Timestamp(1_000_000))));
        sessions.expire();
        assert!(sessions.is_alive("c"));
        let group = GroupName::parse("g").unwrap();
        assert_eq!(sessions.consumers(&group)[0].seen_at, Timestamp(4_600_000), "shown by the clock of the cluster");
    }

    /// What all sessions count, by the sums and counted anew.
    fn weighed(sessions: &Sessions) -> usize {
        let known = sessions.known.lock();
        assert_eq!(known.bytes, known.by_client.values().map(|session| session.weight().bytes).sum::<usize>());
        assert_eq!(known.bytes, known.by_host.values().sum::<usize>());
        known.bytes
    }

    #[test]
    fn p20_invented_clients_with_long_settings_take_no_more_than_there_is_and_push_out_their_own_kind() {
        let clock = Arc::new(ManualClock::new(Timestamp(0)));
        let sessions = Sessions::new(clock.clone());
        let seen = |id: &str, address: &str| {
            sessions.seen(ClientHeader { client_id: id, address, ..ClientHeader::default() });
        };
        seen("quiet", "10.0.0.1:5");
        seen("listens", "10.0.0.2:5");
        let _stream = sessions.listen(&ClientInfo { client_id: "listens".into(), ..ClientInfo::default() });
        let topics: Vec<_> = (0..1024).map(|number| TopicName::parse(&format!("{number:0127}")).unwrap()).collect();
        for number in 0..1000 {
            clock.advance(Millis(1));
            let id = format!("invented-{number:04}");
            seen(&id, "10.0.0.2:6");
            sessions.settings(&id, SessionSettings { topics: topics.clone(), ..settings() });
            assert!(number % 50 != 0 || weighed(&sessions) <= SESSIONS_BYTES_MAX, "{number}");
        }
        let is_known = |id: &str| sessions.known.lock().by_client.contains_key(id);
        assert!(is_known("quiet"), "from another host");
        assert!(is_known("listens"), "with a stream");
        assert!(is_known("invented-0999") && !is_known("invented-0000"));
        assert!(sessions.known.lock().by_client.len() > 100);
        // When they have gone, nothing is left of them.
        clock.advance(SESSION_SILENT_MAX);
        sessions.expire();
        assert_eq!(weighed(&sessions), 0);
    }

    #[test]
    fn p20_many_clients_without_settings_make_room_for_new_ones() {
        let clock = Arc::new(ManualClock::new(Timestamp(0)));
        let sessions = Sessions::new(clock.clone());
        for number in 0..SESSIONS_MAX + 10 {
            let id = number.to_string();
            sessions.seen(ClientHeader { client_id: &id, address: "10.0.0.1:5", ..ClientHeader::default() });
            clock.advance(Millis(1));
        }
        let known = sessions.known.lock();
        assert!(known.by_client.len() <= SESSIONS_MAX && known.bytes <= SESSIONS_BYTES_MAX);
        assert!(!known.by_client.contains_key("0") && known.by_client.contains_key(&(SESSIONS_MAX + 9).to_string()));
    }

    #[test]
    fn a_client_that_said_goodbye_is_no_consumer() {
        let sessions = Sessions::new(Arc::new(ManualClock::new(Timestamp(0))));
        sessions.seen(ClientHeader { client_id: "c", ..ClientHeader::default() });
        sessions.settings("c", settings());
        let group = GroupName::parse("g").unwrap();
        assert_eq!(sessions.consumers(&group).len(), 1);
        assert_eq!(sessions.request_timeout("c"), Some(Millis(3000)));
        let client =
            |address: &str| ClientInfo { client_id: "c".into(), address: address.into(), ..ClientInfo::default() };
        assert!(!sessions.ended(&client("elsewhere")));
        assert_eq!(sessions.consumers(&group).len(), 1);
        assert!(sessions.ended(&client("")));
        assert!(sessions.consumers(&group).is_empty());
    }

    fn settings() -> SessionSettings {
        SessionSettings {
            group: Some(GroupName::parse("g").unwrap()),
            topics: Vec::new(),
            subscriptions: vec![Subscription {
                topic: TopicName::parse("t").unwrap(),
                is_sql: true,
                expression: "a > 1".into(),
            }],
            request_timeout: Some(Millis(3000)),
        }
    }
}

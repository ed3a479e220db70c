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
    orphans: Option<mpsc::Sender<OrphanedTransaction>>,
    connections: Connections,
    /// Whether it may not consume its group now, which another protocol has.
    is_refused: bool,
}

impl Session {
    fn silent_for(&self, now: Duration) -> Millis {
        now.saturating_sub(self.seen_at).into()
    }
}

/// The clients of this node.
pub struct Sessions {
    clock: Arc<dyn Clock>,
    /// Whether a session was ever refused: else none has to be looked for with each request.
    has_refused: AtomicBool,
    by_client: Mutex<BTreeMap<String, Session>>,
}

impl Sessions {
    /// `clock` gives the cluster's time of day, to be shown; how long a client is silent is monotonic time.
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, has_refused: AtomicBool::new(false), by_client: Mutex::default() }
    }

    /// Notes a request of a client, and makes its session if it has none.
    pub fn seen(&self, header: ClientHeader<'_>) -> Arc<ClientInfo> {
        let seen_at = self.clock.mono();
        let mut sessions = self.by_client.lock();
        if let Some(session) = sessions.get_mut(header.client_id) {
            session.seen_at = seen_at;
            if ClientHeader::of(&session.info) != header {
                session.info = Arc::new(header.to_info());
            }
            return session.info.clone();
        }
        if sessions.len() >= SESSIONS_MAX {
            // Those that were silent for longest make room, many at a time: a new client must get a session.
            let mut seen: Vec<Duration> = sessions.values().map(|session| session.seen_at).collect();
            let (_, oldest, _) = seen.select_nth_unstable(SESSIONS_MAX / 100);
            let (oldest, mut left) = (*oldest, SESSIONS_MAX / 100);
            sessions.retain(|_, session| {
                let goes = session.seen_at <= oldest && left > 0;
                left -= usize::from(goes);
                !goes
            });
        }
        let info = Arc::new(header.to_info());
        let connections = Connections::new(header.address);
        let (settings, orphans, is_refused) = (None, None, false);
        let session = Session { info: info.clone(), settings, seen_at, orphans, connections, is_refused };
        sessions.insert(info.client_id.clone(), session);
        info
    }

    /// Stores the settings of a known client.
    pub fn settings(&self, client_id: &str, mut settings: SessionSettings) {
        settings.subscriptions.truncate(SUBSCRIPTIONS_KEPT);
        if let Some(session) = self.by_client.lock().get_mut(client_id) {
            session.settings = Some(settings);
        }
    }

    /// A known client may not consume its group now, or may again.
    pub(super) fn set_refused(&self, client_id: &str, is_refused: bool) {
        if is_refused {
            self.has_refused.store(true, Ordering::Relaxed);
        } else if !self.has_refused.load(Ordering::Relaxed) {
            return;
        }
        if let Some(session) = self.by_client.lock().get_mut(client_id) {
            session.is_refused = is_refused;
        }
    }

    /// A known client opened a stream: transactions that it is asked about go there from now on. [`Self::stream_ended`]
    /// follows.
    pub fn listen(&self, client: &ClientInfo) -> mpsc::Receiver<OrphanedTransaction> {
        let (orphans, asked) = mpsc::channel(ORPHANS_MAX);
        if let Some(session) = self.by_client.lock().get_mut(&client.client_id) {
            session.orphans = Some(orphans);
            session.connections.opened(&client.address);
        }
        asked
    }

    /// A stream of a client ended.
    pub fn stream_ended(&self, client: &ClientInfo) {
        if let Some(session) = self.by_client.lock().get_mut(&client.client_id) {
            session.connections.ended(&client.address);
        }
    }

    /// Asks a living producer of the topic, another one at every `turn`; false if there is none on this node.
    pub(super) fn ask_producer(&self, transaction: &OrphanedTransaction, turn: u64) -> bool {
        let now = self.clock.mono();
        let sessions = self.by_client.lock();
        let streams = sessions.values().filter_map(|session| {
            let publishes =
                session.settings.as_ref().is_some_and(|settings| settings.topics.contains(&transaction.topic));
            let lives = session.silent_for(now) < LIVING_FOR;
            session.orphans.as_ref().filter(|_| publishes && lives)
        });
        let streams: Vec<_> = streams.collect();
        let first = usize::try_from(turn % streams.len().max(1) as u64).unwrap_or(0);
        let (before, from) = streams.split_at(first);
        from.iter().chain(before).any(|stream| stream.try_send(transaction.clone()).is_ok())
    }

    /// Forgets a client that left; false if it says so from another connection than its session's.
    pub(super) fn ended(&self, client: &ClientInfo) -> bool {
        let mut sessions = self.by_client.lock();
        let is_its_own =
            sessions.get(&client.client_id).is_some_and(|session| session.connections.own(&client.address));
        if is_its_own {
            sessions.remove(&client.client_id);
        }
        is_its_own
    }

    /// The request timeout the client stated.
    pub fn request_timeout(&self, client_id: &str) -> Option<Millis> {
        self.by_client.lock().get(client_id)?.settings.as_ref()?.request_timeout
    }

    pub(super) fn is_alive(&self, client_id: &str) -> bool {
        let now = self.clock.mono();
        self.by_client.lock().get(client_id).is_some_and(|session| session.silent_for(now) < LIVING_FOR)
    }

    /// Forgets clients that were silent for too long.
    pub(super) fn expire(&self) {
        let now = self.clock.mono();
        self.by_client.lock().retain(|_, session| session.silent_for(now) < SESSION_SILENT_MAX);
    }

    /// Shows each living client, with its group if it named one.
    pub fn each_living(&self, mut show: impl FnMut(&ClientInfo, Option<&GroupName>)) {
        let now = self.clock.mono();
        let sessions = self.by_client.lock();
        for session in sessions.values().filter(|session| session.silent_for(now) < LIVING_FOR) {
            show(&session.info, session.settings.as_ref().and_then(|settings| settings.group.as_ref()));
        }
    }

    /// Clients of this node that live, by id: at most so many, and how many more there are.
    pub(super) fn known(&self, limit: usize) -> (Vec<KnownClient>, usize) {
        let (mono, wall) = (self.clock.mono(), self.clock.wall());
        let sessions = self.by_client.lock();
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
        for session in self.by_client.lock().values().filter(|session| !session.is_refused) {
            if let Some(group) = session.settings.as_ref().and_then(|settings| settings.group.clone()) {
                ids.entry(group).or_default().push(text_hash(&session.info.client_id));
            }
        }
        ids
    }

    /// The consumers of a group on this node.
    pub fn consumers(&self, group: &GroupName) -> Vec<GroupConsumer> {
        let (mono, wall) = (self.clock.mono(), self.clock.wall());
        let sessions = self.by_client.lock();
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

//! Caps on what clients can have made: topics, groups and subscriptions, which come into being by use, and a topic's queues.
//! Looked at before a command is proposed (D240).
//!
//! What is under way on all nodes at once may go past a cap; nothing is made for good beyond it.

use parking_lot::Mutex;

use crate::broker::{Caps, Error};
use crate::machine::state::view::View;
use crate::machine::{CatalogSize, Effects};
use crate::store::kv::Kv;

/// How many there are in the state that this node has applied.
#[derive(Debug, Default)]
pub struct CatalogCount(Mutex<CatalogSize>);

impl CatalogCount {
    /// Counts what the state has, to which nothing may be applied meanwhile.
    pub fn of(state: &dyn Kv) -> Result<Self, Error> {
        Ok(Self(Mutex::new(View::new(state).catalog_size()?)))
    }

    /// Notes what an applied entry did.
    pub fn note(&self, effects: &Effects) {
        let CatalogSize { topics, groups, subscriptions } = effects.catalog_grown;
        if effects.catalog_grown != CatalogSize::default() {
            let mut size = self.0.lock();
            size.topics += topics;
            size.groups += groups;
            size.subscriptions += subscriptions;
        }
    }

    /// Refuses what would go past a cap.
    pub(super) fn check(&self, more: CatalogSize, caps: &Caps) -> Result<(), Error> {
        let there = *self.0.lock();
        let check = |what, there: i64, more: i64, cap: u64, key, remedy| {
            let there = u64::try_from(there).unwrap_or_default();
            if more <= 0 || there + more.unsigned_abs() <= cap {
                return Ok(());
            }
            Err(Error::Capped(format!(
                "there are {there} {what} and {key}={cap} allows no {more} more; {remedy}, or set {key} higher on every node"
            )))
        };
        let topics = "delete topics that nobody needs (raftmq topic delete)";
        let groups = "delete groups that nobody needs (raftmq group delete)";
        check("topics", there.topics, more.topics, caps.topics, "topicsMax", topics)?;
        check("groups", there.groups, more.groups, caps.groups, "groupsMax", groups)?;
        let (count, more) = (there.subscriptions, more.subscriptions);
        check("subscriptions of groups to topics", count, more, caps.subscriptions, "subscriptionsMax", groups)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPS: Caps = Caps { topics: 3, groups: 2, subscriptions: 5, topic_queues: 8 };

    fn size(topics: i64, groups: i64, subscriptions: i64) -> CatalogSize {
        CatalogSize { topics, groups, subscriptions }
    }

    #[test]
    fn p20_what_would_go_past_a_cap_is_refused_with_value_limit_and_key() {
        let count = CatalogCount(Mutex::new(size(2, 0, 0)));
        let refused = |more| count.check(more, &CAPS).map_err(|error| error.to_string());
        assert_eq!(refused(size(1, 2, 5)), Ok(()));
        let text = refused(size(2, 0, 0)).unwrap_err();
        assert!(text.starts_with("there are 2 topics and topicsMax=3 allows no 2 more; delete topics"), "{text}");
        let grown = Effects { catalog_grown: size(1, 2, 5), ..Effects::default() };
        count.note(&grown);
        for (more, key) in
            [(size(1, 0, 0), "topicsMax=3"), (size(0, 1, 0), "groupsMax=2"), (size(0, 0, 1), "subscriptionsMax=5")]
        {
            assert!(count.check(more, &CAPS).unwrap_err().to_string().contains(key));
        }
        // What is there already is used on, also beyond a cap that was lowered.
        assert_eq!(refused(size(0, 0, 0)), Ok(()));
        count.note(&Effects { catalog_grown: size(-1, -1, -1), ..Effects::default() });
        assert_eq!(refused(size(1, 1, 1)), Ok(()));
    }
}

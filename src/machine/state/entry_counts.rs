//! What an entry did, in numbers, for the statistics above the log. Not part of the state.
//!
//! Hot path. One addition for each command or run; an entry is about few topics and groups, mostly about one.

use crate::model::counts::{GroupCounts, TopicCounts};
use crate::model::{GroupId, TopicId};

/// Counts of one entry. Both lists are in the order of their keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EntryCounts {
    topics: Vec<(TopicId, TopicCounts)>,
    groups: Vec<((TopicId, GroupId), GroupCounts)>,
}

impl EntryCounts {
    /// Counts of one topic alone.
    #[cfg(test)]
    pub fn of(topic: TopicId, counts: TopicCounts) -> Self {
        Self { topics: vec![(topic, counts)], groups: Vec::new() }
    }

    pub fn topics(&self) -> &[(TopicId, TopicCounts)] {
        &self.topics
    }

    pub fn groups(&self) -> &[((TopicId, GroupId), GroupCounts)] {
        &self.groups
    }

    /// Whether there is nothing to count.
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty() && self.groups.is_empty()
    }

    /// The counts of a topic, to be added to.
    pub(in crate::machine) fn of_topic(&mut self, topic: TopicId) -> &mut TopicCounts {
        of(&mut self.topics, topic)
    }

    /// The counts of a group in a topic, to be added to.
    pub(in crate::machine) fn of_group(&mut self, topic: TopicId, group: GroupId) -> &mut GroupCounts {
        of(&mut self.groups, (topic, group))
    }
}

fn of<Key: Ord, Counts: Default>(list: &mut Vec<(Key, Counts)>, key: Key) -> &mut Counts {
    let at = match list.binary_search_by(|(known, _)| known.cmp(&key)) {
        Ok(at) => at,
        Err(at) => {
            list.insert(at, (key, Counts::default()));
            at
        }
    };
    &mut list[at].1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_topic_and_group_has_one_row_whatever_the_order() {
        let mut counts = EntryCounts::default();
        assert!(counts.is_empty());
        for topic in [3, 1, 3, 2, 1] {
            counts.of_topic(TopicId(topic)).messages += 1;
            counts.of_group(TopicId(topic), GroupId(9)).acked += 2;
        }
        let topics: Vec<_> = counts.topics().iter().map(|(topic, counts)| (topic.0, counts.messages)).collect();
        assert_eq!(topics, [(1, 2), (2, 1), (3, 2)]);
        let groups: Vec<_> = counts.groups().iter().map(|((topic, _), counts)| (topic.0, counts.acked)).collect();
        assert_eq!(groups, [(1, 4), (2, 2), (3, 4)]);
    }
}

//! Queues that a client wants to lock, or gives up, and offsets of queues: bodies in JSON.
//!
//! Source: remoting §6.5.

use serde::{Deserialize, Serialize};

/// A queue as clients name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageQueue {
    pub topic: String,
    #[serde(rename = "brokerName", default)]
    pub broker_name: String,
    #[serde(rename = "queueId")]
    pub queue: u32,
}

/// Asks for locks, or gives them up.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct QueueLocks {
    #[serde(rename = "consumerGroup")]
    pub group: String,
    #[serde(rename = "clientId")]
    pub client_id: String,
    #[serde(rename = "mqSet", default)]
    pub queues: Vec<MessageQueue>,
}

/// The queues that are locked for the client now.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LockedQueues {
    #[serde(rename = "lockOKMQSet")]
    pub queues: Vec<MessageQueue>,
}

/// The offsets of queues, as a client reads them. Queues are keys of an object, which is no JSON; C++ reads a list.
pub fn offset_table(offsets: impl Iterator<Item = (MessageQueue, u64)>, as_list: bool) -> String {
    let text = |queue: &MessageQueue| serde_json::to_string(queue).expect("a queue is two texts and a number");
    let entry = |(queue, offset): (MessageQueue, u64)| {
        let mut queue = text(&queue);
        if as_list {
            queue.pop();
            format!("{queue},\"offset\":{offset}}}")
        } else {
            format!("{queue}:{offset}")
        }
    };
    let entries: Vec<_> = offsets.map(entry).collect();
    let (begin, end) = if as_list { ('[', ']') } else { ('{', '}') };
    format!("{{\"offsetTable\":{begin}{}{end}}}", entries.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_written_as_each_client_reads_them() {
        let queue = |queue| MessageQueue { topic: "T".into(), broker_name: "b0".into(), queue };
        let table = |as_list| offset_table([(queue(0), 3), (queue(1), 4)].into_iter(), as_list);
        let java = r#"{"offsetTable":{{"topic":"T","brokerName":"b0","queueId":0}:3,{"topic":"T","brokerName":"b0","queueId":1}:4}}"#;
        let cpp = r#"{"offsetTable":[{"topic":"T","brokerName":"b0","queueId":0,"offset":3},{"topic":"T","brokerName":"b0","queueId":1,"offset":4}]}"#;
        assert_eq!([table(false), table(true)], [java, cpp]);
    }

    #[test]
    fn a_request_for_locks_is_read_and_its_answer_names_the_queues_the_same_way() {
        let text = r#"{"clientId":"c","consumerGroup":"g","mqSet":[{"brokerName":"b0","queueId":3,"topic":"T"}],"onlyThisBroker":false}"#;
        let asked: QueueLocks = serde_json::from_str(text).unwrap();
        assert_eq!((asked.group.as_str(), asked.client_id.as_str()), ("g", "c"));
        let answer = serde_json::to_string(&LockedQueues { queues: asked.queues }).unwrap();
        assert_eq!(answer, r#"{"lockOKMQSet":[{"topic":"T","brokerName":"b0","queueId":3}]}"#);
    }
}

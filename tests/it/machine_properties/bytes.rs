//! What is read from the log and from clients: any bytes, and commands that were written.

use bytes::Bytes;
use proptest::prelude::*;
use raftmq::machine::command::{
    Ack, BackTo, CarriedReference, Carry, Change, Command, Decide, LockQueues, QueuePlacement, Recall, SendBack,
    SendToQueue, SetKeyValue, SetWritePermission, Trim, UnlockQueues,
};
use raftmq::machine::outcome::Outcome;
use raftmq::machine::{Batch, Proposal};
use raftmq::model::{
    GroupId, HandleKey, LeaseId, LogIndex, MemberName, Message, MessageGroupHash, MessageRef, Millis, QueueId,
    QueueOffset, ReceiptHandle, Timestamp,
};

use super::TOPIC;

fn to_queue(queue: u32, placement: QueuePlacement) -> Command {
    Command::SendToQueue(SendToQueue { topic: TOPIC, queue: QueueId(queue), tag_hashes: vec![0, u64::MAX], placement })
}

fn back(group: u32, to: BackTo) -> Command {
    Command::SendBack(SendBack { group: GroupId(group), tag_hash: u64::MAX, to })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic_a_decoder(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let bytes = Bytes::from(bytes);
        // Whatever comes of it, it comes without a panic.
        let _ = (Batch::decode(bytes.clone()), Command::decode(bytes.clone()), Outcome::decode(bytes.clone()));
        let _ = (Message::decode(bytes.clone()), Proposal::decode(bytes), ReceiptHandle::parse(&text, &HandleKey::new([0; 16])));
    }

    #[test]
    fn commands_survive_the_log(group in any::<u32>(), lease in any::<u64>(), offset in any::<u64>(), millis in any::<u64>()) {
        let handle = ReceiptHandle {
            group: GroupId(group),
            topic: TOPIC,
            queue: QueueId(group ^ 1),
            offset: QueueOffset(offset),
            lease: LeaseId(lease),
        };
        let message = MessageRef { index: LogIndex(offset), slot: group };
        for command in [
            Command::Ack(Ack { handles: vec![handle, handle] }),
            Command::Change(Change { handle, invisible_for: Millis(millis) }),
            Command::Tick,
            Command::Clock { shift: Millis(millis) },
            Command::DeadLetter { handle },
            Command::ReturnUnread { handle },
            Command::Trim(Trim { topic: TOPIC, queue: QueueId(group), before: Timestamp(millis) }),
            Command::Carry(Carry {
                references: vec![
                    CarriedReference::Delayed { topic: TOPIC, due_at: Timestamp(millis), message, index: LogIndex(lease) },
                    CarriedReference::Half { topic: TOPIC, message, index: LogIndex(lease) },
                    CarriedReference::Run {
                        topic: TOPIC,
                        queue: QueueId(group),
                        first: QueueOffset(offset),
                        count: group,
                        index: LogIndex(lease),
                    },
                ],
            }),
            to_queue(group, QueuePlacement::Now),
            to_queue(group, QueuePlacement::DeliverAt(vec![Timestamp(millis), Timestamp(offset)])),
            to_queue(group, QueuePlacement::Fifo(vec![MessageGroupHash(lease), MessageGroupHash(offset)])),
            back(group, BackTo::Retry(Timestamp(millis))),
            back(group, BackTo::DeadLetter),
            back(group, BackTo::Redriven(QueueOffset(offset))),
            Command::LockQueues(LockQueues {
                group: GroupId(group),
                client: offset.to_string(),
                queues: vec![(TOPIC, QueueId(group)), (TOPIC, QueueId(0))],
                locked_for: Millis(millis),
            }),
            Command::UnlockQueues(UnlockQueues {
                group: GroupId(group),
                client: String::new(),
                queues: vec![(TOPIC, QueueId(group))],
            }),
            Command::SetKeyValue(SetKeyValue {
                namespace: group.to_string(),
                key: offset.to_string(),
                value: (lease % 2 == 0).then(|| millis.to_string()),
            }),
            Command::SetWritePermission(SetWritePermission {
                of: (lease % 2 == 0).then_some(MemberName(group)),
                may_write: millis % 2 == 0,
            }),
            Command::Recall(Recall { topic: TOPIC, at: Timestamp(millis), message }),
            Command::Decide(Decide { topic: TOPIC, message, commit: lease % 2 == 0 }),
        ] {
            prop_assert_eq!(Command::decode(command.encode()).unwrap(), command);
        }
    }
}

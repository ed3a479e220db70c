//! Producers: sends on a schedule. One in ten is delayed, of these one in five is recalled; one in ten is a half message.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::drill::clients::{ANSWER_WITHIN, Clients, duration, failure, hash, outcome, request, resource};
use crate::drill::history::{Event, OperationKind, Phase};
use crate::env::clock;
use crate::proto::v2;
use crate::proto::v2::Code;

/// Most sends in flight; beyond it the schedule waits.
const SENDS_MAX: usize = 4096;
/// Shortest and longest delay of a message.
const DELAY_MIN: Duration = Duration::from_millis(500);
pub(super) const DELAY_MAX: Duration = Duration::from_millis(3500);
/// A half message asks for a question about it after this.
const ASK_AFTER: Duration = Duration::from_secs(1);

/// What is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Delayed,
    Half,
}

impl Clients {
    /// Sends `rate` messages a second, nodes taking turns, until `end`, and waits for the last answers.
    pub async fn produce(&self, rate: u32, end: CancellationToken) {
        let started = Instant::now();
        let free: Arc<Mutex<Vec<u32>>> = Arc::default();
        let mut producers = 0;
        let mut sends = JoinSet::new();
        for number in 0u64.. {
            let at = started + Duration::from_micros(number * 1_000_000 / u64::from(rate));
            if end.run_until_cancelled(tokio::time::sleep_until(at)).await.is_none() {
                break;
            }
            while sends.try_join_next().is_some() {}
            if sends.len() >= SENDS_MAX {
                sends.join_next().await;
            }
            // A producer has one send in flight; while it waits for the answer, another one keeps the schedule.
            let producer = free.lock().pop().unwrap_or_else(|| {
                producers += 1;
                producers - 1
            });
            let (own, free) = (self.clone(), free.clone());
            sends.spawn_local(async move {
                let _open = own.gate.open().await;
                own.send(&format!("prod-{producer}"), number).await;
                free.lock().push(producer);
            });
        }
        while sends.join_next().await.is_some() {}
    }

    /// Sends one message, and decides or recalls it.
    async fn send(&self, producer: &str, number: u64) {
        let turn = number as usize;
        let node = self.node(turn);
        let mid = format!("01D{:013X}{:016X}", hash(producer.as_bytes()) >> 12, number);
        let body = format!("{mid}/{}", "x".repeat((number % 7 * 150) as usize));
        let draw = hash(mid.as_bytes());
        let kind = match draw % 20 {
            0 | 1 => Kind::Delayed,
            2 | 3 => Kind::Half,
            _ => Kind::Plain,
        };
        let mut system = v2::SystemProperties { message_id: mid.clone(), ..Default::default() };
        let mut due = None;
        match kind {
            Kind::Plain => {}
            Kind::Delayed => {
                let spread = (DELAY_MAX - DELAY_MIN).as_millis() as u64;
                let delay = DELAY_MIN.as_millis() as u64 + (draw >> 8) % spread;
                let (wall, now) = (clock::wall(), self.recorder.now());
                system.delivery_timestamp = Some(timestamp(wall.0 + delay));
                due = Some(now + delay * 1000);
            }
            Kind::Half => {
                system.message_type = v2::MessageType::Transaction.into();
                system.orphaned_transaction_recovery_duration = Some(duration(ASK_AFTER));
            }
        }
        let f = if kind == Kind::Half { OperationKind::SendTxn } else { OperationKind::Send };
        let asked = self.recorder.record(Event {
            node: Some(node.name.clone()),
            mid: Some(mid.clone()),
            h: Some(hash(body.as_bytes())),
            due,
            ..Event::new(producer, Phase::Inv, f)
        });
        let message = v2::Message {
            topic: Some(resource(&self.topic)),
            user_properties: Default::default(),
            system_properties: Some(system),
            body: body.into(),
        };
        let call = request(v2::SendMessageRequest { messages: vec![message] }, producer, ANSWER_WITHIN);
        let (ph, code, entry) = match node.messaging.clone().send_message(call).await {
            Ok(answer) => {
                let mut answer = answer.into_inner();
                let code = answer.status.as_ref().map_or(Code::Unspecified, |status| status.code());
                match code {
                    Code::Ok => (Phase::Ok, Some(code as i32), answer.entries.pop()),
                    code => (failure(code), Some(code as i32), None),
                }
            }
            // A transport error says nothing about whether the message is stored.
            Err(_) => (Phase::Info, None, None),
        };
        // What is in no queue yet has no offset.
        let offset = entry.as_ref().filter(|_| kind == Kind::Plain).and_then(|entry| u64::try_from(entry.offset).ok());
        self.recorder.record(Event { of: Some(asked), code, off: offset, ..Event::new(producer, ph, f) });
        let Some(entry) = entry else { return };
        match kind {
            Kind::Half => self.after_half(producer, turn + 1, &mid, &entry.transaction_id).await,
            Kind::Delayed if (draw >> 32).is_multiple_of(5) => {
                self.recall(producer, turn + 1, &mid, entry.recall_handle).await
            }
            Kind::Delayed | Kind::Plain => {}
        }
    }

    async fn recall(&self, producer: &str, turn: usize, mid: &str, recall_handle: String) {
        let node = self.node(turn);
        let head = |ph| Event { mid: Some(mid.to_owned()), ..Event::new(producer, ph, OperationKind::Recall) };
        let asked = self.recorder.record(Event { node: Some(node.name.clone()), ..head(Phase::Inv) });
        let recall = v2::RecallMessageRequest { topic: Some(resource(&self.topic)), recall_handle };
        let answer = node.messaging.clone().recall_message(request(recall, producer, ANSWER_WITHIN)).await;
        let code = answer.map(|answer| answer.into_inner().status.map_or(Code::Unspecified, |status| status.code()));
        let (ph, code) = outcome(code);
        self.recorder.record(Event { of: Some(asked), code, ..head(ph) });
    }
}

fn timestamp(millis: u64) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: i64::try_from(millis / 1000).unwrap_or(i64::MAX),
        nanos: (millis % 1000) as i32 * 1_000_000,
    }
}

//! Producers: sends on a schedule.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::drill::clients::{ANSWER_WITHIN, Clients, failure, hash, request, resource};
use crate::drill::history::{Event, OperationKind, Phase};
use crate::proto::v2;
use crate::proto::v2::Code;

/// Most sends in flight; beyond it the schedule waits.
const SENDS_MAX: usize = 4096;

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
                own.send(&format!("prod-{producer}"), number).await;
                free.lock().push(producer);
            });
        }
        while sends.join_next().await.is_some() {}
    }

    async fn send(&self, producer: &str, number: u64) {
        let node = &self.nodes[number as usize % self.nodes.len()];
        let mid = format!("01D{:013X}{:016X}", hash(producer.as_bytes()) >> 12, number);
        let body = format!("{mid}/{}", "x".repeat((number % 7 * 150) as usize));
        let asked = self.recorder.record(Event {
            node: Some(node.name.clone()),
            mid: Some(mid.clone()),
            h: Some(hash(body.as_bytes())),
            ..Event::new(producer, Phase::Inv, OperationKind::Send)
        });
        let message = v2::Message {
            topic: Some(resource(&self.topic)),
            user_properties: BTreeMap::new(),
            system_properties: Some(v2::SystemProperties { message_id: mid, ..Default::default() }),
            body: body.into(),
        };
        let call = request(v2::SendMessageRequest { messages: vec![message] }, producer, ANSWER_WITHIN);
        let (ph, code, off) = match node.messaging.clone().send_message(call).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                let code = answer.status.as_ref().map_or(Code::Unspecified, |status| status.code());
                let off = answer.entries.first().and_then(|entry| u64::try_from(entry.offset).ok());
                match code {
                    Code::Ok => (Phase::Ok, Some(code as i32), off),
                    code => (failure(code), Some(code as i32), None),
                }
            }
            // A transport error says nothing about whether the message is stored.
            Err(_) => (Phase::Info, None, None),
        };
        self.recorder.record(Event { of: Some(asked), code, off, ..Event::new(producer, ph, OperationKind::Send) });
    }
}

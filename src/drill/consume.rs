//! Consumers: polls, and what becomes of each message.

use std::cell::RefCell;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::drill::clients::{ANSWER_WITHIN, Clients, Node, duration, got, hash, outcome, poll, request, resource};
use crate::drill::history::{Event, OperationKind, Phase};
use crate::proto::v2;
use crate::proto::v2::Code;

/// Shortest lease the protocol allows.
const LEASE: Duration = Duration::from_secs(10);
const CONSUMERS_PER_NODE: usize = 2;
/// Pause of a consumer whose poll failed.
const PAUSE: Duration = Duration::from_millis(50);

impl Clients {
    /// Receives and settles until `end`.
    pub async fn consume(&self, end: CancellationToken) {
        let mut tasks = JoinSet::new();
        for number in 0..self.nodes.len() * CONSUMERS_PER_NODE {
            let (own, end) = (self.clone(), end.clone());
            tasks.spawn_local(async move { own.consumer(number, end).await });
        }
        while tasks.join_next().await.is_some() {}
    }

    async fn consumer(&self, number: usize, end: CancellationToken) {
        let name = format!("cons-{number}");
        let late = RefCell::new(JoinSet::new());
        while !end.is_cancelled() {
            let _open = self.gate.open().await;
            let node = self.node(number);
            let asked = self.recorder.record(Event {
                node: Some(node.name.clone()),
                group: Some(self.group.to_string()),
                inv_ms: Some(LEASE.as_millis() as u64),
                ..Event::new(&name, Phase::Inv, OperationKind::Recv)
            });
            let polled = poll(node, &name, &self.topic, &self.group, LEASE).await;
            let event = |ph, msgs| Event { of: Some(asked), msgs, ..Event::new(&name, ph, OperationKind::Recv) };
            match polled {
                Ok((messages, true)) => {
                    self.recorder.record(event(Phase::Ok, messages.iter().map(got).collect()));
                    join_all(messages.into_iter().map(|message| self.settle(node, &name, message, &late))).await;
                    while late.borrow_mut().try_join_next().is_some() {}
                }
                // A stream that broke may have brought some of its messages.
                Ok((messages, false)) => {
                    self.recorder.record(event(Phase::Info, messages.iter().map(got).collect()));
                    tokio::time::sleep(PAUSE).await;
                }
                Err(ph) => {
                    self.recorder.record(event(ph, Vec::new()));
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        let mut late = late.into_inner();
        while late.join_next().await.is_some() {}
    }

    /// Most messages are acked at once; some are given back, some left to their lease, some acked late. Redeliveries are
    /// acked, but for those of messages that no consumer ever takes.
    async fn settle(&self, node: &Node, name: &str, message: v2::Message, late: &RefCell<JoinSet<()>>) {
        let got = got(&message);
        let handle = message.system_properties.and_then(|system| system.receipt_handle).unwrap_or_default();
        match hash(got.mid.as_bytes()) % 100 {
            0..5 if got.att == 1 => self.give_back(node, name, got.mid, handle).await,
            5..8 if got.att == 1 => {}
            8..16 if got.att == 1 => {
                let (own, node, name) = (self.clone(), node.clone(), name.to_owned());
                late.borrow_mut().spawn_local(async move {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    let _open = own.gate.open().await;
                    own.ack(&node, &name, got.mid, handle).await;
                });
            }
            // Given back until it is a dead letter.
            16 => self.give_back(node, name, got.mid, handle).await,
            _ => self.ack(node, name, got.mid, handle).await,
        }
    }

    async fn ack(&self, node: &Node, name: &str, mid: String, receipt_handle: String) {
        let head =
            |ph, f| Event { group: Some(self.group.to_string()), mid: Some(mid.clone()), ..Event::new(name, ph, f) };
        let asked =
            self.recorder.record(Event { node: Some(node.name.clone()), ..head(Phase::Inv, OperationKind::Ack) });
        let entry = v2::AckMessageEntry { message_id: mid.clone(), receipt_handle, lite_topic: None };
        let ack = v2::AckMessageRequest {
            group: Some(resource(&self.group)),
            topic: Some(resource(&self.topic)),
            entries: vec![entry],
        };
        let answer = node.messaging.clone().ack_message(request(ack, name, ANSWER_WITHIN)).await;
        let code = answer.map(|answer| answer.into_inner().status.map_or(Code::Unspecified, |status| status.code()));
        let event = outcome(code);
        self.recorder.record(Event { of: Some(asked), code: event.1, ..head(event.0, OperationKind::Ack) });
    }

    async fn give_back(&self, node: &Node, name: &str, mid: String, receipt_handle: String) {
        let head = |ph| Event {
            group: Some(self.group.to_string()),
            mid: Some(mid.clone()),
            ..Event::new(name, ph, OperationKind::Renew)
        };
        let asked =
            self.recorder.record(Event { node: Some(node.name.clone()), inv_ms: Some(1000), ..head(Phase::Inv) });
        let change = v2::ChangeInvisibleDurationRequest {
            group: Some(resource(&self.group)),
            topic: Some(resource(&self.topic)),
            receipt_handle,
            invisible_duration: Some(duration(Duration::from_secs(1))),
            message_id: mid.clone(),
            ..Default::default()
        };
        let answer = node.messaging.clone().change_invisible_duration(request(change, name, ANSWER_WITHIN)).await;
        let code = answer.map(|answer| answer.into_inner().status.map_or(Code::Unspecified, |status| status.code()));
        let event = outcome(code);
        self.recorder.record(Event { of: Some(asked), code: event.1, ..head(event.0) });
    }
}

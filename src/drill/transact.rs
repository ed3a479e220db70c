//! Transactions: most half messages are committed, some rolled back, and some left open until a producer is asked about
//! them.
//!
//! What becomes of a half message depends on its id alone, so whoever is asked says the same. No decision is tried again:
//! one whose answer was lost is asked about, too.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::drill::clients::{ANSWER_WITHIN, Clients, Node, hash, outcome, request, resource};
use crate::drill::history::{Event, OperationKind, Phase};
use crate::proto::v2;
use crate::proto::v2::Code;
use crate::proto::v2::settings::PubSub;
use crate::proto::v2::telemetry_command::Command;

/// Longest life of one stream of questions.
const STREAM_WITHIN: Duration = Duration::from_secs(3600);
const RECONNECT_AFTER: Duration = Duration::from_millis(200);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Whether a half message of this id is to be committed.
fn is_committed(mid: &str) -> bool {
    (hash(mid.as_bytes()) >> 16) % 10 < 6
}

/// Whether its producer says nothing until it is asked.
fn is_left_open(mid: &str) -> bool {
    (hash(mid.as_bytes()) >> 24) % 10 < 2
}

/// Whether it tries the other decision once the first was answered `OK`; it must be refused.
fn is_tried_twice(mid: &str) -> bool {
    (hash(mid.as_bytes()) >> 40).is_multiple_of(10)
}

impl Clients {
    /// What a producer does with a half message that was acknowledged.
    pub(super) async fn after_half(&self, producer: &str, turn: usize, mid: &str, transaction_id: &str) {
        if is_left_open(mid) {
            self.open.lock().insert(mid.to_owned());
            return;
        }
        let node = self.node(turn);
        let commit = is_committed(mid);
        if self.end_transaction(node, producer, mid, transaction_id, commit).await == Phase::Ok && is_tried_twice(mid) {
            self.end_transaction(node, producer, mid, transaction_id, !commit).await;
        }
    }

    async fn end_transaction(&self, node: &Node, who: &str, mid: &str, transaction_id: &str, commit: bool) -> Phase {
        let head = |ph| Event {
            mid: Some(mid.to_owned()),
            commit: Some(commit),
            ..Event::new(who, ph, OperationKind::EndTxn)
        };
        let asked = self.recorder.record(Event { node: Some(node.name.clone()), ..head(Phase::Inv) });
        let resolution = if commit { v2::TransactionResolution::Commit } else { v2::TransactionResolution::Rollback };
        let end = v2::EndTransactionRequest {
            topic: Some(resource(&self.topic)),
            message_id: mid.to_owned(),
            transaction_id: transaction_id.to_owned(),
            resolution: resolution.into(),
            ..Default::default()
        };
        let answer = node.messaging.clone().end_transaction(request(end, who, ANSWER_WITHIN)).await;
        let code = answer.map(|answer| answer.into_inner().status.map_or(Code::Unspecified, |status| status.code()));
        let (ph, code) = outcome(code);
        self.recorder.record(Event { of: Some(asked), code, ..head(ph) });
        ph
    }

    /// Answers questions about half messages through every node, until `end`.
    pub async fn answer_questions(&self, end: CancellationToken) {
        let mut listeners = JoinSet::new();
        for node in self.nodes.clone() {
            let (own, end) = (self.clone(), end.clone());
            listeners.spawn_local(async move {
                let who = format!("asked-{}", node.name);
                while end.run_until_cancelled(own.answer_on(&node, &who)).await.is_some() {
                    tokio::time::sleep(RECONNECT_AFTER).await;
                }
            });
        }
        while listeners.join_next().await.is_some() {}
        self.recorder.record(Event::new("asked", Phase::Info, OperationKind::TxnCheck));
    }

    /// Until the stream breaks.
    async fn answer_on(&self, node: &Node, who: &str) {
        let publishing = v2::Publishing { topics: vec![resource(&self.topic)], ..Default::default() };
        let settings = v2::Settings {
            client_type: Some(v2::ClientType::Producer.into()),
            pub_sub: Some(PubSub::Publishing(publishing)),
            ..Default::default()
        };
        let command = v2::TelemetryCommand { status: None, command: Some(Command::Settings(settings)) };
        let call = request(stream::iter([command]).chain(stream::pending()), who, STREAM_WITHIN);
        let Ok(answer) = node.messaging.clone().telemetry(call).await else { return };
        let mut commands = answer.into_inner();
        let mut answers = JoinSet::new();
        while let Ok(Some(command)) = commands.message().await {
            while answers.try_join_next().is_some() {}
            let Some(Command::RecoverOrphanedTransactionCommand(question)) = command.command else { continue };
            let mid = question.message.and_then(|message| message.system_properties).unwrap_or_default().message_id;
            let event = Event {
                node: Some(node.name.clone()),
                mid: Some(mid.clone()),
                ..Event::new(who, Phase::Info, OperationKind::TxnCheck)
            };
            self.recorder.record(event);
            self.open.lock().remove(&mid);
            let (own, node, who) = (self.clone(), node.clone(), who.to_owned());
            answers.spawn_local(async move {
                let _open = own.gate.open().await;
                let commit = is_committed(&mid);
                own.end_transaction(&node, &who, &mid, &question.transaction_id, commit).await;
            });
        }
    }

    /// Waits until there was a question about every half message that was left open, or for too long.
    pub async fn wait_for_questions(&self, within: Duration) {
        let until = Instant::now() + within;
        while Instant::now() < until && !self.open.lock().is_empty() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

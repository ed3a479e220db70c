//! What a connection says to its clients unasked: that the consumers of a group changed, that its offsets were reset, questions
//! of tools that only they can answer, and about transactions that were not ended.

use std::collections::BTreeMap;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::edge::remoting::context::Connection;
use crate::edge::remoting::transaction;
use crate::edge::remoting::writing::Written;
use crate::node::{ClientAnswer, Notice, OffsetsReset};
use crate::proto::remoting::queue_data::{MessageQueue, offset_table};
use crate::proto::remoting::{Fields, Frame, Header, HeaderType, RequestCode};

/// Questions of a connection that are not answered yet.
const OPEN_MAX: usize = 64;
/// Clients of this language read lists only.
const READS_LISTS: &str = "CPP";

/// One connection's.
pub(super) struct Notices {
    /// As the client wrote last.
    pub header_type: HeaderType,
    /// Of the queues that clients know.
    broker_name: String,
    opaque: i32,
    open: BTreeMap<i32, oneshot::Sender<ClientAnswer>>,
}

impl Notices {
    pub fn new(broker_name: &str) -> Self {
        Self { header_type: HeaderType::Json, broker_name: broker_name.to_owned(), opaque: 0, open: BTreeMap::new() }
    }

    /// Says it. A client that does not take its answers misses it.
    pub async fn put(&mut self, answers: &mpsc::Sender<Written>, connection: &Connection, notice: Notice) {
        self.opaque = self.opaque.wrapping_add(1);
        let opaque = self.opaque;
        let mut room = None;
        let (header, body) = match notice {
            Notice::ConsumersChanged(group) => {
                let fields = [("consumerGroup", group)].into_iter().collect();
                (Header::oneway(RequestCode::NotifyConsumerIdsChanged as i32, opaque, fields), Bytes::new())
            }
            Notice::OffsetsReset { reset, client } => {
                let body = self.reset_body(&reset, client.language == READS_LISTS);
                let mut fields: Fields =
                    [("topic", reset.topic.as_str()), ("group", reset.group.as_str())].into_iter().collect();
                fields.put("timestamp", reset.at.0);
                fields.put("isForce", true);
                (Header::oneway(RequestCode::ResetConsumerClientOffset as i32, opaque, fields), body)
            }
            Notice::Orphan(orphan) => match transaction::question(connection, *orphan).await {
                Ok((fields, body, of_body)) => {
                    room = Some(of_body);
                    (Header::oneway(RequestCode::CheckTransactionState as i32, opaque, fields), body)
                }
                Err(refused) => {
                    tracing::error!(text = refused.text, "a producer cannot be asked about its transaction");
                    return;
                }
            },
            Notice::Question(question) => {
                self.open.retain(|_, answer| !answer.is_closed());
                if self.open.len() >= OPEN_MAX {
                    return;
                }
                self.open.insert(opaque, question.answer);
                let mut fields = Fields::default();
                question.fields.iter().for_each(|(name, value)| fields.put(name, value));
                (Header::request(question.code, opaque, fields), question.body)
            }
        };
        let frame = Frame { header_type: self.header_type, header, body };
        if let Ok(head) = frame.head() {
            let _ = answers.try_send(Written { head, body: frame.body, held: None, room });
        }
    }

    /// A client answers; what nobody asked, or nobody waits for any more, is passed over.
    pub fn answered(&mut self, frame: Frame) {
        if let Some(asker) = self.open.remove(&frame.header.opaque) {
            let (code, remark) = (frame.header.code, frame.header.remark);
            let _ = asker.send(ClientAnswer { code, remark, body: frame.body });
        }
    }

    fn reset_body(&self, reset: &OffsetsReset, as_list: bool) -> Bytes {
        let queue =
            |queue| MessageQueue { topic: reset.topic.to_string(), broker_name: self.broker_name.clone(), queue };
        let offsets = reset.offsets.iter().map(|(id, offset)| (queue(id.0), offset.0));
        offset_table(offsets, as_list).into()
    }
}

//! END_TRANSACTION, and CHECK_TRANSACTION_STATE, which asks a producer (remoting §5.1). After: `broker/transaction`.
//!
//! Two numbers name a half message, here and in the answer to its send: where it is stored, and the id of its topic. Any node
//! can read them.

use bytes::{Bytes, BytesMut};

use crate::broker::{Deadline, InRoom, OrphanedTransaction};
use crate::edge::remoting::answer::Answer;
use crate::edge::remoting::codes::Refused;
use crate::edge::remoting::context::{Connection, Remoting, Request};
use crate::edge::remoting::delivered::{Place, stored, unwritable};
use crate::edge::remoting::message::HALF;
use crate::edge::remoting::physical_offset::{message_at, physical_offset};
use crate::edge::rules;
use crate::model::{QueueId, QueueOffset, TopicId};
use crate::proto::remoting::sys_flag::{TRANSACTION_COMMIT, TRANSACTION_ROLLBACK};
use crate::proto::remoting::{Fields, OffsetId, ResponseCode};

/// What a producer finds the id of the transaction by.
const TRANSACTION_ID: &str = "__transactionId__";

pub(super) async fn end(remoting: &Remoting, request: &Request) -> Result<Answer, Refused> {
    let fields = &request.header.fields;
    let group = rules::names::group("", fields.text("producerGroup")?)?;
    let commit = match fields.number::<i32>("commitOrRollback")? {
        TRANSACTION_COMMIT => true,
        TRANSACTION_ROLLBACK => false,
        // The producer does not know either: it is asked again later.
        0 => return Ok(Answer::done()),
        other => {
            let text = format!("commitOrRollback is 8 (commit), 12 (roll back) or 0 (unknown), not {other}");
            return Err(Refused::new(ResponseCode::InvalidParameter, text));
        }
    };
    let offset: i64 = fields.number("commitLogOffset")?;
    let message = message_at(offset).ok_or_else(|| {
        Refused::new(ResponseCode::InvalidParameter, format!("the commit log offset {offset} is below 0"))
    })?;
    let topic = TopicId(fields.number("tranStateTableOffset")?);
    remoting.broker.end_transaction_of_group((topic, message), &group, commit, Deadline::NONE).await?;
    Ok(Answer::done())
}

/// A question to a producer: the fields and the body of its request, and the room that this has.
pub(super) async fn question(
    connection: &Connection,
    orphan: OrphanedTransaction,
) -> Result<(Fields, Bytes, InRoom), Refused> {
    let remoting = &connection.remoting;
    let mut room = connection.room_of_one().await;
    let mut orphan = remoting.unpacking.unpack(vec![orphan], usize::MAX, &mut room).await?;
    let OrphanedTransaction { topic, topic_id, queue, message, at, stored_at } = &orphan.remove(0);
    let store_host = remoting.store_host.now(remoting.node.routes());
    let place = Place {
        topic,
        queue: queue.unwrap_or(QueueId(0)),
        offset: QueueOffset(topic_id.0.into()),
        stored_at: *stored_at,
        at: *at,
        store_host,
    };
    let id = message.message_id.as_str();
    let mut body = BytesMut::new();
    stored(message, place, &[(HALF, "true"), (TRANSACTION_ID, id)])?.put(&mut body).map_err(unwritable)?;
    let physical_offset = physical_offset(*at);
    let mut fields = Fields::default();
    fields.put("topic", topic);
    fields.put("tranStateTableOffset", topic_id.0);
    fields.put("commitLogOffset", physical_offset);
    fields.put("msgId", id);
    fields.put("transactionId", id);
    fields.put("offsetMsgId", OffsetId { store_host, physical_offset });
    Ok((fields, body.freeze(), room))
}

//! The same message once more, for an operator. Before: `edge/admin/messages`; after: `broker/send`.

use crate::broker::{ActWords, Broker, Deadline, Error, Operator, Sent, StoredMessage};
use crate::env::rng::random_u64;
use crate::model::{Message, MessageType, TopicName};

impl Broker {
    /// Stores a message again in its topic: the same body, properties, keys, tag, message group and priority, under a new id,
    /// due at once. It is an event, noted afterwards.
    ///
    /// * Errors: [`Error::Invalid`] for a dead letter, which is redriven, and for a message of a transaction where the topic takes
    ///   no others. [`Error::TimedOut`] if it may be stored.
    pub async fn resend(&self, by: &Operator, stored: StoredMessage) -> Result<(String, Sent), Error> {
        let StoredMessage { topic, place, message, .. } = stored;
        let from = place.map(|(queue, offset)| format!("{queue}/{offset}, ")).unwrap_or_default();
        let words = ActWords::new("message-resend", &topic, format!("{from}{}", message.message_id));
        let accepts = self.find_topic_now(&topic, Deadline::NONE).await?.topic_type;
        let message = self.again(&topic, message, |got| accepts.accepts(got))?;
        let (id, got) = (message.message_id.clone(), message.message_type);
        let (sent, _) = self.send(topic, got, vec![message], Deadline::NONE).await?;
        let sent = sent.into_iter().next().ok_or(Error::TimedOut)?;
        self.note_done(by, words, &format!("ok, {}{id}", words_of(&sent))).await;
        Ok((id, sent))
    }

    fn again(&self, topic: &TopicName, of: Message, accepts: impl Fn(MessageType) -> bool) -> Result<Message, Error> {
        if topic.is_dead_letters() {
            return Err(Error::Invalid(
                "a dead letter is delivered again by a redrive: raftmq group dlq redrive".into(),
            ));
        }
        let now = self.now();
        let message_type = match of.message_type {
            MessageType::Transaction if accepts(MessageType::Normal) => MessageType::Normal,
            MessageType::Transaction => {
                let text =
                    format!("topic '{topic}' takes messages of transactions only: let the producer send it again");
                return Err(Error::Invalid(text));
            }
            other => other,
        };
        Ok(Message {
            message_id: format!("{:016X}{:016X}", random_u64(), random_u64()),
            message_type,
            born_at: now,
            delivery_at: of.delivery_at.filter(|_| message_type == MessageType::Delay).map(|_| now),
            trace_context: None,
            recovery_after: None,
            classic: None,
            ..of
        })
    }
}

/// Where it is, for the events.
fn words_of(sent: &Sent) -> String {
    match sent {
        Sent::Stored { queue, offset } => format!("{queue}/{offset}, "),
        Sent::Delayed { .. } | Sent::Half(_) => String::new(),
    }
}

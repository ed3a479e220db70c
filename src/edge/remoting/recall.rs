//! RECALL_MESSAGE (remoting §5.2): a delayed message is taken back before its time. After: `broker/delay`.

use crate::broker::{Deadline, Error};
use crate::edge::recall_handle::RecallHandle;
use crate::edge::remoting::answer::Answer;
use crate::edge::remoting::codes::Refused;
use crate::edge::remoting::context::{Remoting, Request};
use crate::edge::rules;
use crate::proto::remoting::ResponseCode;

pub(super) async fn recall(remoting: &Remoting, request: &Request) -> Result<Answer, Refused> {
    let fields = &request.header.fields;
    let topic = rules::names::topic("", fields.text("topic")?)?;
    let illegal = |text: String| Refused::new(ResponseCode::IllegalOperation, text);
    let key = remoting.broker.handle_key(Deadline::NONE).await?;
    let handle = RecallHandle::parse(&topic, fields.text("recallHandle")?, &key).map_err(illegal)?;
    match remoting.broker.recall(topic, handle.delivery_at, handle.message, Deadline::NONE).await {
        Ok(()) => Ok(Answer::done().and("msgId", handle.message_id)),
        // Of a topic of another type: its classic messages may be delayed, and this one does not wait.
        Err(Error::NotWaiting | Error::TypeMismatch { .. }) => Err(illegal(Error::NotWaiting.to_string())),
        Err(error) => Err(error.into()),
    }
}

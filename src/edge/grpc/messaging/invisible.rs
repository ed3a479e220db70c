//! ChangeInvisibleDuration (contract §15). After: `broker/invisible`.

use tonic::Request;

use crate::broker::Error;
use crate::edge::grpc::codes::{Refused, bad_group, bad_topic, ok};
use crate::edge::grpc::messaging::{Messaging, name};
use crate::edge::grpc::validate::millis;
use crate::model::limits::INVISIBLE_MAX;
use crate::model::{GroupName, ReceiptHandle, TopicName};
use crate::proto::v2;
use crate::proto::v2::Code;

pub(super) async fn change(
    edge: &Messaging,
    request: Request<v2::ChangeInvisibleDurationRequest>,
) -> v2::ChangeInvisibleDurationResponse {
    let sent = request.get_ref().receipt_handle.clone();
    match try_change(edge, request).await {
        Ok(handle) => v2::ChangeInvisibleDurationResponse { status: Some(ok()), receipt_handle: handle.to_text() },
        // Some clients store the reply's handle before they look at the status.
        Err(refused) => v2::ChangeInvisibleDurationResponse { status: Some(refused.status()), receipt_handle: sent },
    }
}

async fn try_change(
    edge: &Messaging,
    request: Request<v2::ChangeInvisibleDurationRequest>,
) -> Result<ReceiptHandle, Refused> {
    let mut caller = edge.caller(&request)?;
    let request = request.into_inner();
    let topic = TopicName::parse(name(request.topic.as_ref())).map_err(|error| bad_topic(&error))?;
    let group = GroupName::parse(name(request.group.as_ref())).map_err(|error| bad_group(&error))?;
    let length = request.invisible_duration.unwrap_or_default();
    if length.seconds < 0 || length.nanos < 0 {
        return Err(Refused::new(Code::IllegalInvisibleTime, "the invisibleTime is too small: it is below 0"));
    }
    let invisible = millis(&length);
    if invisible > INVISIBLE_MAX {
        let text = format!("the invisibleTime is too large: {invisible} is above {INVISIBLE_MAX}");
        return Err(Refused::new(Code::IllegalInvisibleTime, text));
    }
    // The C++ simple consumer gives the new invisible time as the deadline: 0 would be over already.
    caller.timeout = caller.timeout.filter(|timeout| timeout.as_millis() > u128::from(invisible.0));
    let handle = ReceiptHandle::parse(&request.receipt_handle).ok_or(Error::LeaseEnded)?;
    Ok(edge.broker.change_invisible(group, topic, handle, invisible, caller.deadline()).await?)
}

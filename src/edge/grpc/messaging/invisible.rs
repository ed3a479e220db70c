//! ChangeInvisibleDuration (contract §15). After: `broker/invisible`.

use tonic::Request;

use crate::broker::Error;
use crate::edge::grpc::codes::{Refused, ok};
use crate::edge::grpc::convert;
use crate::edge::grpc::messaging::context::Messaging;
use crate::edge::rules;
use crate::model::ReceiptHandle;
use crate::proto::v2;
use crate::proto::v2::Code;

pub(super) async fn change(
    edge: &Messaging,
    request: Request<v2::ChangeInvisibleDurationRequest>,
) -> v2::ChangeInvisibleDurationResponse {
    let old_handle = request.get_ref().receipt_handle.clone();
    match try_change(edge, request).await {
        Ok(receipt_handle) => v2::ChangeInvisibleDurationResponse { status: Some(ok()), receipt_handle },
        // Some clients store the reply's handle before they look at the status.
        Err(refused) => {
            v2::ChangeInvisibleDurationResponse { status: Some(refused.status()), receipt_handle: old_handle }
        }
    }
}

async fn try_change(edge: &Messaging, request: Request<v2::ChangeInvisibleDurationRequest>) -> Result<String, Refused> {
    let mut caller = edge.caller(&request)?;
    let request = request.into_inner();
    let topic = caller.topic(request.topic.as_ref())?;
    let group = caller.group(request.group.as_ref())?;
    let length = request.invisible_duration.unwrap_or_default();
    if length.seconds < 0 || length.nanos < 0 {
        return Err(Refused::new(Code::IllegalInvisibleTime, "the invisibleTime is too small: it is below 0"));
    }
    let invisible = rules::consume::changed_invisible_for(convert::millis(&length))?;
    // The C++ simple consumer gives the new invisible time as the deadline: a time of 0 would have passed already.
    caller.timeout = caller.timeout.filter(|timeout| timeout.as_millis() > u128::from(invisible.0));
    let key = edge.broker.handle_key(caller.deadline()).await?;
    let handle = ReceiptHandle::parse(&request.receipt_handle, &key).map_err(Error::from)?;
    let changed = edge.broker.change_invisible(group, topic, handle, invisible, caller.deadline()).await?;
    Ok(changed.to_text(&key))
}

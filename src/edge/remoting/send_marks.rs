//! What answers to sends, and messages, say of the broker.

use crate::edge::remoting::context::RemotingSettings;
use crate::proto::remoting::Fields;

pub(super) const REGION: &str = "MSG_REGION";
pub(super) const THE_REGION: &str = "DefaultRegion";
pub(super) const TRACE_ON: &str = "TRACE_ON";

/// Java's own traces read these: without TRACE_ON a producer writes none.
pub(super) fn put(fields: &mut Fields, settings: &RemotingSettings) {
    fields.put(REGION, THE_REGION);
    fields.put(TRACE_ON, settings.traces);
}

/// What a message says beside its own: a consumer writes traces unless it is told not to.
pub(super) fn of_message(settings: &RemotingSettings) -> &'static [(&'static str, &'static str)] {
    if settings.traces { &[] } else { &[(TRACE_ON, "false")] }
}

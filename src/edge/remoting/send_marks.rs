//! What every answer to a send says of the broker.

use crate::proto::remoting::Fields;

/// Java's own traces read these.
pub(super) fn put(fields: &mut Fields) {
    fields.put("MSG_REGION", "DefaultRegion");
    fields.put("TRACE_ON", "true");
}

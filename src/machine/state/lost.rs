//! What retention took from a group before it had consumed it: counted when the group comes to where it was.

use crate::machine::state::failure::Failure;
use crate::machine::state::keys;
use crate::machine::state::stage::Stage;
use crate::model::{GroupId, QueueId, TopicId};
use crate::store::kv::Space;

/// As many messages of a queue were trimmed before the group could consume them.
pub(in crate::machine) fn note(
    stage: &mut Stage<'_>,
    topic: TopicId,
    group: GroupId,
    queue: QueueId,
    count: u64,
) -> Result<(), Failure> {
    if count > 0 {
        let key = keys::lost(topic, group, queue);
        let before = stage.number(Space::Cursor, &key)?;
        stage.put_number(Space::Cursor, key, before + count);
    }
    Ok(())
}

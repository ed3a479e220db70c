//! Whether the end of the log is an older version of itself, as a start finds it (D165).
//!
//! The last segment has no next one that names it. But a cut notes in `meta` where it was and which entry it left, and the first
//! entries that come then are noted once they are durable: every older version differs from what `meta` knows, or ends
//! before it. What is put back and was never cut is only shorter: the state beside the log, and the peers, show that (D82).

use crate::model::LogIndex;
use crate::store::Error;
use crate::store::log::footer::LastRecord;
use crate::store::log::meta::Meta;
use crate::store::log::record::RecordId;
use crate::store::log::scan::Scan;
use crate::store::log::sealed_files::{Opened, SealedFiles};

/// Which of the last two segments is an older version of itself.
pub(in crate::store) enum OlderOfTwo {
    /// The last but one.
    Before,
    /// The last, or both.
    Last,
}

/// Compares the last segment with the one before it. `known` is an entry that was durable after the last cut: no version from
/// before that cut has it.
pub(in crate::store) fn older_of_two(
    files: &SealedFiles,
    before: &Opened,
    sealed_firsts: &[LogIndex],
    last: &Scan,
    known: Option<RecordId>,
) -> Result<Option<OlderOfTwo>, Error> {
    let Opened { file, footer, .. } = before;
    let first = footer.places.first();
    let found = known.and_then(|known| Some((footer.places.id_of(known.index)?, known)));
    let own = footer.last_record(&**file, &files.path(first))?;
    if own == LastRecord::Other || found.is_some_and(|(found, known)| found != known) {
        // Without anything after it, it is judged as the last one.
        return Ok(Some(if last.first.is_some() { OlderOfTwo::Before } else { OlderOfTwo::Last }));
    }
    if last.first.is_some() {
        let LastRecord::Is(own) = own else { return Ok(None) };
        if last.before.is_none_or(|named| named.is(own)) {
            return Ok(None);
        }
        let is_known = known.is_some_and(|known| last.places.id_of(known.index) == Some(known));
        return Ok(Some(if is_known { OlderOfTwo::Before } else { OlderOfTwo::Last }));
    }
    // Nothing follows it: it is known by what it follows.
    let [.., previous, _] = sealed_firsts else { return Ok(None) };
    let (Ok(Some(named)), Ok(Opened { file, footer, .. })) =
        (files.named_by(first), files.open_alone(*previous, first))
    else {
        return Ok(None);
    };
    let previous = footer.last_record(&*file, &files.path(*previous))?;
    let is_other = matches!(previous, LastRecord::Is(previous) if !named.is(previous));
    Ok(is_other.then_some(OlderOfTwo::Last))
}

/// Where in the last segment, which ends before `end`, the entries begin that may be older ones: an entry that is known to have
/// come after the last cut would say so, and that is not there.
pub(in crate::store) fn unproven_from(meta: &Meta, first: LogIndex, end: LogIndex) -> Option<LogIndex> {
    let (from, known) = (meta.anew_from()?, meta.durable_id()?.index);
    // In a later segment each entry follows one that came after the cut.
    (from >= first && from < end && known >= end).then_some(from)
}

//! Polls, leases and acks: filters, invisible times, how long a poll may wait, how much one ack may hold.

use std::sync::Arc;

use crate::edge::rules::{Invalid, InvalidKind};
use crate::model::filter::sql::SqlFilter;
use crate::model::limits::{
    ACK_ENTRIES_MAX, FILTER_BYTES_MAX, INVISIBLE_MAX, INVISIBLE_MIN, POLL_MARGIN, POLL_MAX, POLL_MIN,
};
use crate::model::{Filter, Millis, TagFilter};

/// The request timeout of a client that never gave its own.
const REQUEST_TIMEOUT: Millis = Millis::from_secs(3);

/// What decides how long a poll waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PollTimes {
    /// What the request asks for.
    pub asked: Option<Millis>,
    /// The request timeout in the client's settings.
    pub request_timeout: Option<Millis>,
    /// Time until the caller's deadline.
    pub left: Option<Millis>,
}

pub fn tag_filter(expression: &str) -> Result<Filter, Invalid> {
    filter_length(expression)?;
    Ok(Filter::Tags(TagFilter::parse(expression)))
}

pub fn sql_filter(expression: &str) -> Result<Filter, Invalid> {
    filter_length(expression)?;
    match SqlFilter::parse(expression) {
        Ok(condition) => Ok(Filter::Sql(Arc::new(condition))),
        Err(error) => {
            Err(Invalid::new(InvalidKind::Filter, format!("the SQL filter expression '{expression}': {error}")))
        }
    }
}

fn filter_length(expression: &str) -> Result<(), Invalid> {
    let bytes = expression.len();
    if bytes > FILTER_BYTES_MAX {
        let text = format!("the filter expression of {bytes} bytes is longer than {FILTER_BYTES_MAX}");
        return Err(Invalid::new(InvalidKind::Filter, text));
    }
    Ok(())
}

/// The invisible time of a receive.
pub fn invisible_for(length: Millis) -> Result<Millis, Invalid> {
    if length < INVISIBLE_MIN {
        let text = format!("the invisibleTime is too small: {length} is below {INVISIBLE_MIN}");
        return Err(Invalid::new(InvalidKind::InvisibleTime, text));
    }
    changed_invisible_for(length)
}

/// The invisible time that a lease is changed to; 0 gives the message back.
pub fn changed_invisible_for(length: Millis) -> Result<Millis, Invalid> {
    if length > INVISIBLE_MAX {
        let text = format!("the invisibleTime is too large: {length} is above {INVISIBLE_MAX}");
        return Err(Invalid::new(InvalidKind::InvisibleTime, text));
    }
    Ok(length)
}

/// How long a poll waits (contract §13.3).
///
/// It ends half a second before the caller's deadline: a later answer would make messages invisible for a client that
/// has given up already.
pub fn poll_wait(times: PollTimes) -> Result<Millis, Invalid> {
    let PollTimes { asked, request_timeout, left } = times;
    let half_timeout = Millis(request_timeout.unwrap_or(REQUEST_TIMEOUT).0 / 2);
    let wait = asked.or_else(|| left.map(|left| Millis(left.0.saturating_sub(half_timeout.0))));
    let wait = wait.unwrap_or(POLL_MAX).clamp(POLL_MIN, POLL_MAX);
    let Some(left) = left else { return Ok(wait) };
    if wait > left && left < POLL_MIN {
        let text = format!("the deadline leaves {left} for a poll, less than {POLL_MIN}; give the call more time");
        return Err(Invalid::new(InvalidKind::PollTime, text));
    }
    Ok(wait.min(Millis(left.0.saturating_sub(POLL_MARGIN.0))))
}

/// Refuses an ack without entries, and one with too many.
pub fn ack_entries(count: usize) -> Result<(), Invalid> {
    if count == 0 {
        return Err(Invalid::new(InvalidKind::NoAckEntry, "the request holds no entry"));
    }
    if count > ACK_ENTRIES_MAX {
        let text = format!("{count} entries in one request are more than {ACK_ENTRIES_MAX}; send several requests");
        return Err(Invalid::new(InvalidKind::Value, text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polls_are_clamped_and_end_before_the_deadline() {
        let poll = |asked: Option<u64>, left: Option<u64>| {
            let times = PollTimes { asked: asked.map(Millis), request_timeout: None, left: left.map(Millis) };
            poll_wait(times).map(|wait| wait.0).map_err(|invalid| invalid.kind)
        };
        assert_eq!(poll(None, None), Ok(20_000));
        assert_eq!(poll(Some(1_000), None), Ok(5_000));
        assert_eq!(poll(Some(30_000), Some(33_000)), Ok(20_000));
        assert_eq!(poll(Some(20_000), Some(20_000)), Ok(19_500));
        assert_eq!(poll(Some(8_000), Some(8_000)), Ok(7_500));
        assert_eq!(poll(None, Some(13_000)), Ok(11_500));
        assert_eq!(poll(Some(5_000), Some(4_999)), Err(InvalidKind::PollTime));
        assert_eq!(poll(Some(6_000), Some(5_000)), Ok(4_500));
    }
}

//! Requests that took long: a line each, with where their time went (`slowRequestMs`).
//!
//! Hot path. A request pays one look at the clock, a batch one more.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::machine::{Command, Proposal};
use crate::raft::propose::waiting::Reply;

/// So many lines in so long; what is left out is counted.
const LINES_MAX: u32 = 5;
const WINDOW: Duration = Duration::from_secs(10);

/// What a request is, in what little is kept of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    at: Instant,
    kind: &'static str,
    messages: usize,
}

impl Asked {
    pub fn of(proposals: &[Proposal], at: Instant) -> Self {
        let kind = proposals.first().map_or("nothing", |first| Command::kind(&first.command));
        Self { at, kind, messages: proposals.iter().map(|proposal| proposal.messages.len()).sum() }
    }
}

/// Says which requests are slow, but not often.
pub(super) struct SlowRequests {
    /// `None`: nobody asked.
    after: Option<Duration>,
    said: Mutex<Said>,
}

struct Said {
    since: Instant,
    lines: u32,
    left_out: u64,
}

impl SlowRequests {
    pub fn new(after: Option<Duration>) -> Self {
        Self { after, said: Mutex::new(Said { since: Instant::now(), lines: 0, left_out: 0 }) }
    }

    /// Looks at a request that ends now; without a reply it was not answered in time.
    pub fn look(&self, asked: Asked, reply: Option<&Reply>) {
        let Some(after) = self.after else { return };
        let took = asked.at.elapsed();
        if took >= after
            && let Some(left_out) = self.may_say(Instant::now())
        {
            say(asked, took, reply, left_out);
        }
    }

    /// How many were left out since the last line, if there may be one.
    fn may_say(&self, now: Instant) -> Option<u64> {
        let mut said = self.said.lock();
        if now.saturating_duration_since(said.since) >= WINDOW {
            (said.since, said.lines) = (now, 0);
        }
        if said.lines == LINES_MAX {
            said.left_out += 1;
            return None;
        }
        said.lines += 1;
        Some(std::mem::take(&mut said.left_out))
    }
}

fn say(Asked { at, kind, messages }: Asked, took: Duration, reply: Option<&Reply>, left_out: u64) {
    let left_out = (left_out > 0).then_some(left_out);
    let Some(reply) = reply else {
        return tracing::warn!(kind, messages, ?took, left_out, "a request was not answered in time");
    };
    let Ok(times) = reply.as_ref().map(|applied| applied.times) else {
        let why = reply.as_ref().err().map(ToString::to_string);
        return tracing::warn!(kind, messages, ?took, why, left_out, "a request was slow, and refused");
    };
    let since = |from: Instant, to: Instant| to.saturating_duration_since(from);
    let handed_on = times.handed_on.unwrap_or(at);
    let queued = since(at, handed_on);
    match times.applying {
        Some(applying) => tracing::warn!(
            kind,
            messages,
            ?took,
            ?queued,
            committed = ?since(handed_on, applying.committed),
            synced_here = ?since(applying.committed, applying.durable),
            applied = ?since(applying.durable, applying.done),
            answered = ?since(applying.done, at + took),
            left_out,
            "a request was slow"
        ),
        None => tracing::warn!(
            kind,
            messages,
            ?took,
            ?queued,
            at_the_leader = ?since(handed_on, at + took),
            left_out,
            "a request was slow"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_a_few_lines_in_ten_seconds_and_the_rest_is_counted() {
        let slow = SlowRequests::new(Some(Duration::from_millis(500)));
        let now = Instant::now();
        let said = |at: Instant| (0..8).filter_map(|_| slow.may_say(at)).collect::<Vec<_>>();
        assert_eq!(said(now), [0; 5]);
        assert_eq!(said(now + WINDOW), [3, 0, 0, 0, 0]);
    }
}

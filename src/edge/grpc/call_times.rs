//! How long each call took, by the code of its answer.
//!
//! Hot path: one observation per request. A pair of call and code takes memory when it first comes.

use std::sync::OnceLock;
use std::time::Duration;

use crate::metrics::{Histogram, HistogramCounts};
use crate::proto::v2;
use crate::proto::v2::Code;

/// In microseconds: RocketMQ's, and some between and below them.
const BOUNDS: &[u64] =
    &[250, 500, 1_000, 3_000, 5_000, 7_000, 10_000, 20_000, 50_000, 100_000, 300_000, 1_000_000, 2_000_000, 3_000_000];
/// RocketMQ's codes are in this range.
const CODES: std::ops::Range<i32> = 0..70_000;

/// The calls of RocketMQ's service that end with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    QueryRoute,
    Heartbeat,
    SendMessage,
    QueryAssignment,
    ReceiveMessage,
    AckMessage,
    ForwardMessageToDeadLetterQueue,
    PullMessage,
    UpdateOffset,
    GetOffset,
    QueryOffset,
    EndTransaction,
    NotifyClientTermination,
    ChangeInvisibleDuration,
    RecallMessage,
    SyncLiteSubscription,
}

impl Call {
    const ALL: [Self; 16] = [
        Self::QueryRoute,
        Self::Heartbeat,
        Self::SendMessage,
        Self::QueryAssignment,
        Self::ReceiveMessage,
        Self::AckMessage,
        Self::ForwardMessageToDeadLetterQueue,
        Self::PullMessage,
        Self::UpdateOffset,
        Self::GetOffset,
        Self::QueryOffset,
        Self::EndTransaction,
        Self::NotifyClientTermination,
        Self::ChangeInvisibleDuration,
        Self::RecallMessage,
        Self::SyncLiteSubscription,
    ];

    /// As RocketMQ names requests in metrics.
    fn name(self) -> &'static str {
        match self {
            Self::QueryRoute => "query_route",
            Self::Heartbeat => "heartbeat",
            Self::SendMessage => "send_message",
            Self::QueryAssignment => "query_assignment",
            Self::ReceiveMessage => "receive_message",
            Self::AckMessage => "ack_message",
            Self::ForwardMessageToDeadLetterQueue => "forward_message_to_dead_letter_queue",
            Self::PullMessage => "pull_message",
            Self::UpdateOffset => "update_offset",
            Self::GetOffset => "get_offset",
            Self::QueryOffset => "query_offset",
            Self::EndTransaction => "end_transaction",
            Self::NotifyClientTermination => "notify_client_termination",
            Self::ChangeInvisibleDuration => "change_invisible_duration",
            Self::RecallMessage => "recall_message",
            Self::SyncLiteSubscription => "sync_lite_subscription",
        }
    }

    /// Whether it may wait for messages.
    fn is_long_polling(self) -> bool {
        matches!(self, Self::ReceiveMessage | Self::PullMessage)
    }
}

/// All codes, `OK` first.
fn codes() -> &'static [Code] {
    static CODES_KNOWN: OnceLock<Vec<Code>> = OnceLock::new();
    CODES_KNOWN.get_or_init(|| {
        let others = CODES.filter_map(|number| Code::try_from(number).ok()).filter(|code| *code != Code::Ok);
        std::iter::once(Code::Ok).chain(others).collect()
    })
}

type ByCode = Box<[OnceLock<Box<Histogram>>]>;

/// Since the process started. Shared by all threads that serve clients.
#[derive(Debug)]
pub struct CallTimes {
    by_call: [ByCode; Call::ALL.len()],
}

impl Default for CallTimes {
    fn default() -> Self {
        Self { by_call: std::array::from_fn(|_| codes().iter().map(|_| OnceLock::new()).collect()) }
    }
}

/// One pair of call and code, as it was.
#[derive(Debug, Clone)]
pub struct CallTime {
    /// In RocketMQ's words for metrics: `send_message`, `topic_not_found`.
    pub call: &'static str,
    pub code: String,
    pub is_long_polling: bool,
    /// In microseconds.
    pub times: HistogramCounts,
}

impl CallTimes {
    /// A call was answered with this code.
    pub(super) fn note(&self, call: Call, code: i32, took: Duration) {
        let at = match code {
            code if code == Code::Ok as i32 => 0,
            code => codes().iter().position(|known| *known as i32 == code).unwrap_or(0),
        };
        let times = self.by_call[call as usize][at].get_or_init(|| Box::new(Histogram::new(BOUNDS)));
        times.observe_time(took);
    }

    /// All pairs that came so far.
    pub fn all(&self) -> Vec<CallTime> {
        let of = |call: Call| {
            let by_code = codes().iter().zip(&self.by_call[call as usize]);
            by_code.filter_map(move |(code, times)| {
                let times = times.get()?.counts();
                let code = code.as_str_name().to_lowercase();
                Some(CallTime { call: call.name(), code, is_long_polling: call.is_long_polling(), times })
            })
        };
        Call::ALL.into_iter().flat_map(of).collect()
    }
}

/// An answer that says how it went.
pub(super) trait Coded {
    fn status(&self) -> Option<&v2::Status>;

    /// Without a status nothing went wrong.
    fn code(&self) -> i32 {
        self.status().map_or(Code::Ok as i32, |status| status.code)
    }
}

/// With what is added to the answer.
impl<T: Coded, Addition> Coded for (T, Addition) {
    fn status(&self) -> Option<&v2::Status> {
        self.0.status()
    }
}

macro_rules! coded {
    ($($answer:ident),*) => {
        $(impl Coded for v2::$answer {
            fn status(&self) -> Option<&v2::Status> {
                self.status.as_ref()
            }
        })*
    };
}

coded!(
    QueryRouteResponse,
    HeartbeatResponse,
    SendMessageResponse,
    QueryAssignmentResponse,
    AckMessageResponse,
    ForwardMessageToDeadLetterQueueResponse,
    UpdateOffsetResponse,
    GetOffsetResponse,
    QueryOffsetResponse,
    EndTransactionResponse,
    NotifyClientTerminationResponse,
    ChangeInvisibleDurationResponse,
    RecallMessageResponse,
    SyncLiteSubscriptionResponse
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pair_of_call_and_code_that_came_is_there_once() {
        for (number, call) in Call::ALL.into_iter().enumerate() {
            assert_eq!(call as usize, number, "{call:?}");
        }
        let times = CallTimes::default();
        assert!(times.all().is_empty());
        let ms = Duration::from_millis;
        times.note(Call::SendMessage, Code::Ok as i32, ms(2));
        times.note(Call::SendMessage, Code::Ok as i32, ms(2));
        times.note(Call::SendMessage, Code::TooManyRequests as i32, ms(1));
        times.note(Call::ReceiveMessage, Code::MessageNotFound as i32, ms(20_000));
        let found: Vec<_> =
            times.all().into_iter().map(|one| (one.call, one.code, one.is_long_polling, one.times.count())).collect();
        let expected = [
            ("send_message", "ok", false, 2),
            ("send_message", "too_many_requests", false, 1),
            ("receive_message", "message_not_found", true, 1),
        ];
        assert_eq!(found, expected.map(|(call, code, polls, count)| (call, code.to_owned(), polls, count)));
    }
}

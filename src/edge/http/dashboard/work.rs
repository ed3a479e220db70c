//! How long this node worked for an answer, without what it waited for: pages ask the seldomer, the more they cost.

use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Response};
use tokio::time::Instant;

use crate::edge::http::page::Page;

/// Microseconds. Pages read it (`ui/api.js`).
const WORKED: HeaderName = HeaderName::from_static("x-raftmq-worked-us");

/// The output of a future, and for how long it ran.
pub(super) async fn timed<F: Future>(work: F) -> (F::Output, Duration) {
    timed_by(Instant::now, work).await
}

async fn timed_by<F: Future>(now: impl Fn() -> Instant, work: F) -> (F::Output, Duration) {
    let mut work = pin!(work);
    let mut worked = Duration::ZERO;
    let output = poll_fn(|context| {
        let began = now();
        let polled = work.as_mut().poll(context);
        worked += now() - began;
        polled
    })
    .await;
    (output, worked)
}

pub(super) fn note(response: &mut Response<Page>, worked: Duration) {
    let micros = u64::try_from(worked.as_micros()).unwrap_or(u64::MAX);
    response.headers_mut().insert(WORKED, HeaderValue::from(micros));
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures_util::FutureExt;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn what_is_waited_for_is_no_work() {
        let time = Cell::new(Instant::now());
        let pass = |seconds| time.set(time.get() + Duration::from_secs(seconds));
        let (come, waited_for) = oneshot::channel();
        let mut work = pin!(timed_by(|| time.get(), async {
            pass(3);
            let number = waited_for.await.unwrap();
            pass(4);
            number
        }));
        assert_eq!(work.as_mut().now_or_never(), None);
        pass(60);
        come.send(5).unwrap();
        assert_eq!(work.await, (5, Duration::from_secs(7)));
    }
}

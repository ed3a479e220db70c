//! Panics: one in the middle of a client's work fails that work alone, any other ends the process.
//!
//! A thread or task that the node needs and that is gone is noticed by nobody: the log's writer gone, a leader would go on
//! beating and acknowledge nothing. So the hook ends the process before the stack unwinds, unless the work that panicked
//! is marked as a client's (D74).

use std::cell::Cell;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::pin::pin;
use std::task::Poll;

thread_local! {
    static IS_CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// Contained work panicked; the log has what and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Panicked;

/// From now on, `end` is told of every panic outside of contained work, on the thread that panicked. It must end the
/// process.
pub fn end_on_panic(end: fn(&str)) {
    std::panic::set_hook(Box::new(move |panic| {
        let text = describe(panic);
        if IS_CONTAINED.get() {
            tracing::error!("a client's request was given up, which is a bug in raftmq: {text}");
        } else {
            end(&text);
        }
    }));
}

fn describe(panic: &PanicHookInfo<'_>) -> String {
    let thread = std::thread::current();
    let at = panic.location().map_or_else(String::new, ToString::to_string);
    let why = panic.payload_as_str().unwrap_or("without words").replace('\n', " ");
    format!("thread '{}' panicked at {at}: {why}", thread.name().unwrap_or("without name"))
}

/// Runs work whose panic ends nothing else.
pub fn contain<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    let before = IS_CONTAINED.replace(true);
    // What the work shares with others is behind locks that do not poison, and is left as the panic found it.
    let result = catch_unwind(AssertUnwindSafe(work));
    IS_CONTAINED.set(before);
    result.map_err(|_| Panicked)
}

/// [`contain`] for work that waits. What it spawns is not contained.
pub async fn contained<T>(work: impl Future<Output = T>) -> Result<T, Panicked> {
    let mut work = pin!(work);
    poll_fn(|context| match contain(|| work.as_mut().poll(context)) {
        Ok(polled) => polled.map(Ok),
        Err(panicked) => Poll::Ready(Err(panicked)),
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_panics_is_an_error_and_others_go_on() {
        assert_eq!(contained(async { 1 }).await, Ok(1));
        let late = async {
            tokio::task::yield_now().await;
            panic!("a panic of this test");
        };
        assert_eq!(contained(late).await, Err::<(), _>(Panicked));
        assert!(!IS_CONTAINED.get(), "the thread goes on as it was");
        assert_eq!(contain(|| contain(|| IS_CONTAINED.get())), Ok(Ok(true)));
        assert_eq!(contain(|| (contain(|| ()), IS_CONTAINED.get())), Ok((Ok(()), true)), "the outer one holds on");
    }
}

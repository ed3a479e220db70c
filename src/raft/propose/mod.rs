//! The way into the log: commands of many callers are gathered into batches, and each caller gets its own answer.
//!
//! `proposer` puts commands into the `queue` as `waiting`; the task in `gather` takes them out when a batch is worth its
//! cost (`batching`) and hands the batch to the `sink`: on the leader it becomes one entry, on a follower one frame to
//! the leader (`raft/peer/forward`). Answers go back by thread (`replies`).
//!
//! Not here: what the commands mean (`machine/`), sending frames (`raft/peer`).

mod batching;
mod gather;
pub(super) mod proposer;
mod queue;
mod replies;
mod sink;
mod slow;
mod waiting;

//! The way into the log: commands of many callers are gathered into batches, and each caller gets its own answer.
//!
//! On the leader a batch becomes one entry; on a follower it goes to the leader as one frame (`raft/peer/forward`).
//!
//! Not here: what the commands mean (`machine/`), sending frames (`raft/peer`).

pub(super) mod batching;
pub(super) mod proposer;
pub(super) mod queue;
pub(super) mod replies;

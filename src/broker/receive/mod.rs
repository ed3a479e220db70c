//! A poll: plan what it could get, grant leases through the log, read the messages, deliver.
//!
//! ```text
//! poll ──> plan ──> grant ──> delivery ──> the edge; lease_guard until the connection has taken all
//!  ^ ^      │ │ Planning::NeedsRead: filter_check reads the message, and the plan is made anew
//!  │ └──────┼─┘
//!  └────────┘ nothing to plan: wait for an arrival, until the poll is over
//! ```
//!
//! A plan reads `window`s of the applied view and keeps what it found from this node's other polls (`reservations`).
//! It is a guess: `machine/receive` decides, and a grant that got nothing lets the poll plan again. A poll of an orderly
//! group that names an attempt begins with `grant`'s `repeat` instead of a plan. `turns` bounds what polls look at before Raft has
//! its turn.
//!
//! Not here: leasing what is still free (`machine/receive`), reading the log (`store/log`), renewing leases
//! (`broker/background/renewals`).

pub(super) mod bodies;
mod delivery;
pub(super) mod filter_check;
mod grant;
mod lease_guard;
mod plan;
#[cfg(test)]
mod plan_tests;
mod poll;
pub(super) mod reservations;
mod target;
#[cfg(test)]
mod turn_tests;
pub(super) mod turns;
#[cfg(test)]
mod unreadable_tests;
mod window;

pub use delivery::{Delivery, Received};
pub use lease_guard::UndeliveredLeases;
pub use target::Receive;

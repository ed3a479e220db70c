//! Receives below the log: leases those planned messages that are still free. Before: `broker/receive`.
//!
//! Hot path. A candidate that was leased or settled since the plan was made is left out, so an outdated plan makes the
//! answer shorter and never leases one message twice at once (D11, P8). A group that wants every message, in no
//! order, gets the next messages of the queue instead: plans of several nodes do not take each other's messages.
//!
//! `grant` goes through the candidates; `redelivery`, `fresh` and `next_in_line` lease their messages, each with
//! `delivery`. `repeat` is for polls whose answer was lost.
//!
//! Not here: making the plan and filtering (`broker/receive`).

mod delivery;
mod fresh;
mod grant;
mod next_in_line;
mod redelivery;
mod repeat;

pub(super) use grant::apply;
pub(super) use repeat::repeat;

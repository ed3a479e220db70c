//! The checker: whether a history keeps the promises, from the history alone.
//!
//! Each rule is a sort and a few maps. What cannot be decided is reported as unknown: a run that met no fault, or whose
//! audit is missing, proves nothing (rule V).
//!
//! Source: docs/promises.md, "Rules of the drill"; C6 is linearizability of an append-only log in the order that the audit
//! shows.
//!
//! Not here: how a history comes about (`drill/run`), and what people read of the findings (`drill/report`).

mod checker;
mod dead_letter_rules;
mod delay_rules;
mod delivery_rules;
mod excuses;
mod history_index;
mod log_rules;
mod replica_rules;
mod service_rules;
#[cfg(test)]
mod tests;
mod transaction_rules;
mod verdict;

pub use checker::check;
pub use verdict::{Checked, Demands, Finding, Rule, Seen, Verdict};

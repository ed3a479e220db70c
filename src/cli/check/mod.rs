//! `raftmq check`: what is wrong with a cluster, or soon will be, and what to do about it.

mod finding;
mod rules;
mod run;

pub use run::{Args, run};

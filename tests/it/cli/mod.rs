//! The binary as people use it.

mod bench;
mod group;
mod log;
mod message;
mod retention;
mod session;
mod start;

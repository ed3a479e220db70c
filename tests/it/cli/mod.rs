//! The binary as people use it.

mod bench;
mod group;
mod message;
mod retention;
mod session;
mod start;

//! Integration tests: one binary, one module for each subject.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "tests touch the outside world themselves")]

#[path = "../fixture/mod.rs"]
mod fixture;

mod cli;
mod clients;
mod cluster;
mod contract;
mod drill;
mod golden;
mod kinds;
mod machine_properties;
mod messaging;
mod proto;
mod tidy;
mod tls;
mod unary;

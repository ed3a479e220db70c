//! Integration tests, in one binary that is linked once.
//!
//! What clients see: `grpc`, one file for each verb or subject, `unary` byte by byte, `remoting` the classic protocol, `clients` with the official ones.
//! Nodes that die: `cluster`, and `drill`, which knows only what clients asked and heard. The port for peers: `peers`. Commands: `cli`. HTTP: `metrics` and `dashboard`, which `browser` looks at with Chromium. The machine
//! without a cluster: `golden` scripts and `machine_properties`. The sources themselves: `tidy` and `proto`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "tests touch the outside world themselves")]

#[path = "../fixture/mod.rs"]
mod fixture;

mod browser;
mod cli;
mod clients;
mod cluster;
mod dashboard;
mod drill;
mod golden;
mod grpc;
mod machine_properties;
mod metrics;
mod odd_input;
mod peers;
mod proto;
mod readme;
mod remoting;
mod steps;
mod tidy;
mod unary;

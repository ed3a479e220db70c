//! `apache.rocketmq.v2.MessagingService`: one file per verb, each with the requests that are about it.
//!
//! Application failures travel in the response's status with gRPC OK (contract §4.1): gRPC errors make the official
//! clients isolate the endpoint and hide the reason.
//!
//! Not here: limits and checks (`edge/rules`), conversion of messages (`edge/grpc/incoming`, `outgoing`), and what a
//! request does (`broker/`).

mod ack;
mod context;
mod dead_letter;
mod delay;
mod invisible;
mod offset;
mod receive;
mod route;
mod send;
mod service;
mod session;
mod transaction;

pub use context::{EdgeSettings, Messaging};

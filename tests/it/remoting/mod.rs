//! The classic protocol, frame by frame, through real clusters: one file for each subject (docs/remoting-contract.md).

mod both;
mod clients;
mod consume;
mod frames;
mod key_values;
mod later;
mod leaving;
mod locks;
mod name_server;
mod one_protocol;
mod permission;
mod producers;
mod retry;
mod route;
mod send;
mod tools;
mod traces;

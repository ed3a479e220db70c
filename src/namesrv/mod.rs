//! The name server: a process of its own that brokers report to and classic clients ask where topics are. It keeps nothing:
//! every broker says all of itself when it connects, again every half minute, and whenever it changes (D200). What tools
//! want kept, the brokers keep (`forward`).
//!
//! Every broker answers the same questions on its own ports, over the routes of [`route`]; a small cluster needs no name
//! server.
//!
//! Source: remoting §3, remoting §9.
//!
//! Not here: who reports (`edge/remoting/reporter`), the process (`server/name_server`).

mod answers;
mod connection;
mod forward;
pub mod route;
mod server;
mod table;

pub use server::NameServer;
pub use table::REPORT_TOPICS_MAX;

//! What listens: the gRPC front end. Wire values become model types here or the request ends with a
//! code; below there is nothing left to check.
//!
//! Every node serves every request (D15). Connections are spread over current-thread runtimes, one per
//! core the front end may use (D22).
//!
//! Not here: authentication, HTTP pages and metrics, message kinds other than NORMAL.

pub mod admin;
mod authority;
mod convert;
pub mod listener;
pub mod messaging;
mod status;
pub mod tls;
mod validate;

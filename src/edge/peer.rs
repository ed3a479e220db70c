//! The client's end of a connection.

use std::sync::Arc;

use crate::broker::Share;

/// Where a connection comes from; an extension of each of its requests.
#[derive(Debug, Clone)]
pub struct RemoteAddress {
    /// Address and port.
    pub text: Arc<str>,
    /// For what its answers hold, if it is a client's.
    pub answers: Option<Share>,
}

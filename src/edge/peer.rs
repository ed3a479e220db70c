//! The client's end of a connection.

use std::sync::Arc;

/// Address and port that a connection comes from; an extension of each of its requests.
#[derive(Debug, Clone)]
pub struct RemoteAddress(pub Arc<str>);

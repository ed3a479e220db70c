//! What listens: the gRPC front end. Wire values become model types here or the request ends with a
//! code; below there is nothing left to check.
//!
//! Every node serves every request (D15). Connections are spread over current-thread runtimes, one per
//! core the front end may use (D22), or are served by Raft's thread (D43).
//!
//! Not here: authentication, HTTP pages and metrics.

pub mod admin;
pub mod grpc;
pub mod listener;
mod recall_handle;
pub mod tls;

/// Decodes a send request and checks it as the service does; how many messages it holds. For measurements.
pub fn check_send(request: bytes::Bytes) -> Result<usize, String> {
    use prost::Message as _;
    let request = crate::proto::v2::SendMessageRequest::decode(request).map_err(|error| error.to_string())?;
    let rules = grpc::validate::Rules {
        body_bytes_max: crate::model::limits::BODY_BYTES_MAX,
        delay_max: crate::model::Millis(0),
        now: crate::model::Timestamp(0),
    };
    grpc::validate::send(request, rules, "peer").map(|checked| checked.messages.len()).map_err(|refused| refused.text)
}

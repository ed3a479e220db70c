//! The level of this process's log. Calls `logging`.

use std::time::Duration;

use tonic::Status;

use crate::broker::{ActWords, Operator};
use crate::logging;
use crate::logging::LevelNow;
use crate::model::Millis;
use crate::node::Node;
use crate::proto::admin as wire;

/// A level for longer than this is a matter of the configuration.
const FOR_MAX: Duration = Duration::from_secs(24 * 3600);

pub(super) async fn log_level(
    node: &Node,
    by: &Operator,
    request: wire::LogLevelRequest,
) -> Result<wire::LogLevelResponse, Status> {
    let lasts = request.for_ms.map(Duration::from_millis);
    if lasts.is_some_and(|lasts| lasts.is_zero() || lasts > FOR_MAX) {
        return Err(Status::invalid_argument("a level lasts from 1ms to 24h, or without an end until the node ends"));
    }
    let now = match request.level {
        None => logging::level(),
        Some(text) => {
            let level = text.parse().map_err(|_| {
                Status::invalid_argument(format!("'{text}' is no level: error, warn, info, debug or trace"))
            })?;
            let now = logging::set_level(level, lasts);
            if now.is_ok() {
                let lasts =
                    lasts.map_or_else(String::new, |lasts| format!(" for {}", Millis::from(lasts).in_one_unit()));
                let words = ActWords::new("log-level", node.settings().name, format!("{text}{lasts}"));
                node.broker().note_done(by, words, "ok").await;
            }
            now
        }
    };
    let LevelNow { level, configured, falls_back_in } =
        now.map_err(|error| Status::failed_precondition(error.to_string()))?;
    let name = |level: tracing::Level| level.as_str().to_lowercase();
    Ok(wire::LogLevelResponse {
        node: node.settings().name.to_string(),
        level: name(level),
        configured: name(configured),
        falls_back_in_ms: falls_back_in.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
    })
}

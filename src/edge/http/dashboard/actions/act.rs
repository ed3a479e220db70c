//! Which action is done by which file, and its answer.

use http::StatusCode;
use serde_json::{Value, json};

use crate::edge::http::dashboard::actions::given::Given;
use crate::edge::http::dashboard::actions::{cluster, groups, members, messages, topics};
use crate::edge::http::dashboard::refused::Refused;
use crate::edge::http::dashboard::site::Site;

/// Does an action, or with `dry_run` says what it would do.
pub(in crate::edge::http::dashboard) async fn act(site: &Site, name: &str, given: &Given) -> Result<Value, Refused> {
    let done = match name {
        "topic.create" => topics::create(site, given).await?,
        "topic.update" => topics::update(site, given).await?,
        "topic.delete" => topics::delete(site, given).await?,
        "group.create" => groups::create(site, given).await?,
        "group.update" => groups::update(site, given).await?,
        "group.delete" => groups::delete(site, given).await?,
        "offset.reset" => groups::reset_offset(site, given).await?,
        "dead.redrive" => messages::redrive(site, given).await?,
        "message.resend" => messages::resend(site, given).await?,
        "delayed.recall" => messages::recall(site, given).await?,
        "delayed.move" => messages::move_delayed(site, given).await?,
        "leader.transfer" => cluster::transfer_leader(site, given).await?,
        "member.add" => members::add(site, given).await?,
        "member.replace" => members::replace(site, given).await?,
        "member.remove" => members::remove(site, given).await?,
        "member.cancel" => members::cancel(site, given).await?,
        _ => return Err(Refused::new(StatusCode::NOT_FOUND, format!("there is nothing to do called {name}"))),
    };
    let command = done.command.text();
    if !given.is_trial() {
        tracing::info!(peer = %given.peer(), command, "done from the dashboard");
    }
    let facts: Vec<Value> = done.facts.into_iter().map(|(name, value)| json!([name, value])).collect();
    Ok(json!({ "dry_run": given.is_trial(), "command": command, "facts": facts, "document": done.document }))
}

//! Consumer groups: create, update, delete, reset offsets.

use http::StatusCode;
use serde_json::{Value, json};
use tonic::{Code, Request};

use crate::documents;
use crate::edge::http::dashboard::actions::command_line::CommandLine;
use crate::edge::http::dashboard::actions::done::Done;
use crate::edge::http::dashboard::actions::given::Given;
use crate::edge::http::dashboard::refused::Refused;
use crate::edge::http::dashboard::site::Site;
use crate::proto::admin as wire;
use crate::proto::admin::admin_server::Admin;
use crate::proto::admin::reset_offset_request::To;

pub(super) async fn create(site: &Site, given: &Given) -> Result<Done, Refused> {
    let name = given.text("group")?;
    let (retries, orderly) = (given.small_if_any("retries")?, given.flag("orderly"));
    let (backoff, filter) = (given.text_if_any("backoff")?, given.text_if_any("filter")?);
    let consume_from = given.text_if_any("consume_from")?;
    let mut command = CommandLine::of(site, &["group", "create", name]).option("--retries", retries);
    if orderly {
        command = command.word("--orderly");
    }
    let command =
        command.option("--backoff", backoff).option("--consume-from", consume_from).option("--filter", filter);
    let facts = vec![
        ("group", json!(name)),
        ("retries", json!(retries)),
        ("orderly", json!(orderly)),
        ("backoff", json!(backoff)),
        ("consume_from", json!(consume_from)),
        ("filter", json!(filter)),
    ];
    if given.is_trial() {
        return match describe(site, name).await {
            Ok(_) => Err(Refused::new(StatusCode::CONFLICT, format!("group {name} exists"))),
            Err(status) if status.code() == Code::NotFound => Ok(Done { command, facts, document: Value::Null }),
            Err(status) => Err(status.into()),
        };
    }
    let request = wire::CreateGroupRequest {
        name: name.to_owned(),
        retries_max: retries,
        orderly,
        backoff: backoff.unwrap_or_default().to_owned(),
        consume_from: consume_from.unwrap_or_default().to_owned(),
        filter: filter.map(str::to_owned),
    };
    let created = site.admin.create_group(given.request(request)).await?.into_inner();
    let document = json!({ "schema": "raftmq.group.created.v1", "group": created.group.map(documents::groups::row) });
    Ok(Done { command, facts, document })
}

pub(super) async fn update(site: &Site, given: &Given) -> Result<Done, Refused> {
    let name = given.text("group")?;
    let (retries, backoff) = (given.small_if_any("retries")?, given.text_if_any("backoff")?);
    // An empty one takes the filter away.
    let filter = if given.flag("sets_filter") { Some(given.text_if_any("filter")?.unwrap_or_default()) } else { None };
    if retries.is_none() && backoff.is_none() && filter.is_none() {
        return Err(Refused::request("nothing is to be changed"));
    }
    let command = CommandLine::of(site, &["group", "update", name])
        .option("--retries", retries)
        .option("--backoff", backoff)
        .option("--filter", filter);
    let now = describe(site, name).await?.group.unwrap_or_default();
    let mut facts = vec![("group", json!(name))];
    if let Some(retries) = retries {
        facts.push(("retries", json!(format!("{} → {retries}", now.retries_max))));
    }
    if let Some(backoff) = backoff {
        facts.push(("backoff", json!(format!("{} → {backoff}", now.backoff))));
    }
    if let Some(filter) = filter {
        facts.push(("filter", json!(format!("'{}' → '{filter}'", now.filter))));
    }
    let mut document = Value::Null;
    if !given.is_trial() {
        let request = wire::UpdateGroupRequest {
            name: name.to_owned(),
            retries_max: retries,
            backoff: backoff.unwrap_or_default().to_owned(),
            consume_from: String::new(),
            filter: filter.map(str::to_owned),
        };
        let changed = site.admin.update_group(given.request(request)).await?.into_inner();
        document = json!({ "schema": "raftmq.group.changed.v1", "group": changed.group.map(documents::groups::row) });
    }
    Ok(Done { command, facts, document })
}

pub(super) async fn delete(site: &Site, given: &Given) -> Result<Done, Refused> {
    let name = given.text("group")?;
    let command = CommandLine::of(site, &["group", "delete", name, "--yes"]);
    let described = describe(site, name).await?;
    let mut topics: Vec<String> = described.positions.into_iter().map(|position| position.topic).collect();
    topics.sort();
    topics.dedup();
    let group = described.group.unwrap_or_default();
    let members: Vec<String> = described.members.into_iter().map(|member| member.client_id).collect();
    let facts = vec![
        ("group", json!(name)),
        ("topics", json!(topics)),
        ("lag", json!(group.lag)),
        ("in_flight", json!(group.in_flight)),
        ("members", json!(members)),
    ];
    let mut document = Value::Null;
    if !given.is_trial() {
        site.admin.delete_group(given.request(wire::DeleteGroupRequest { name: name.to_owned() })).await?;
        document = json!({ "schema": "raftmq.group.deleted.v1", "group": name });
    }
    Ok(Done { command, facts, document })
}

pub(super) async fn reset_offset(site: &Site, given: &Given) -> Result<Done, Refused> {
    let (group, topic) = (given.text("group")?, given.text("topic")?);
    let command = CommandLine::of(site, &["group", "reset-offset", group, topic]);
    let (to, command) = match given.text("to")? {
        "earliest" => (To::Earliest(true), command.option("--to", Some("earliest"))),
        "latest" => (To::Latest(true), command.option("--to", Some("latest"))),
        "unsettled" => (To::Unsettled(true), command.option("--to", Some("unsettled"))),
        "time" => {
            let at = given.number("value")?;
            (To::TimestampMs(at), command.option("--to-time", Some(at)))
        }
        "offset" => {
            let offset = given.number("value")?;
            (To::Offset(offset), command.option("--to-offset", Some(offset)))
        }
        other => {
            return Err(Refused::request(format!("'{other}' is none of earliest, latest, unsettled, time and offset")));
        }
    };
    let request = wire::ResetOffsetRequest {
        group: group.to_owned(),
        topic: topic.to_owned(),
        to: Some(to),
        dry_run: given.is_trial(),
    };
    let moved = site.admin.reset_offset(given.request(request)).await?.into_inner().positions;
    let again: u64 = moved.iter().map(|position| position.from.saturating_sub(position.to)).sum();
    let passed_over: u64 = moved.iter().map(|position| position.to.saturating_sub(position.from)).sum();
    let facts = vec![
        ("group", json!(group)),
        ("topic", json!(topic)),
        ("delivered_again", json!(again)),
        ("passed_over", json!(passed_over)),
    ];
    Ok(Done { command, facts, document: documents::groups::moved(moved) })
}

async fn describe(site: &Site, name: &str) -> Result<wire::DescribeGroupResponse, tonic::Status> {
    let request = wire::DescribeGroupRequest { name: name.to_owned() };
    Ok(site.admin.describe_group(Request::new(request)).await?.into_inner())
}

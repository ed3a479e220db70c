//! Topics: create, update, delete.

use http::StatusCode;
use serde_json::{Value, json};
use tonic::{Code, Request};

use crate::documents;
use crate::edge::http::dashboard::actions::command_line::CommandLine;
use crate::edge::http::dashboard::actions::done::Done;
use crate::edge::http::dashboard::actions::given::Given;
use crate::edge::http::dashboard::refused::Refused;
use crate::edge::http::dashboard::site::Site;
use crate::model::Millis;
use crate::proto::admin as wire;
use crate::proto::admin::admin_server::Admin;

pub(super) async fn create(site: &Site, given: &Given) -> Result<Done, Refused> {
    let request = wire::CreateTopicRequest {
        name: given.text("topic")?.to_owned(),
        r#type: given.text_if_any("type")?.unwrap_or("NORMAL").to_owned(),
        queues: given.small_if_any("queues")?.unwrap_or(0),
        retention_ms: given.number_if_any("retention_ms")?.unwrap_or(0),
    };
    let queues = Some(request.queues).filter(|queues| *queues > 0);
    let retention = Some(request.retention_ms).filter(|kept_for| *kept_for > 0).map(|ms| Millis(ms).in_one_unit());
    let command = CommandLine::of(site, &["topic", "create", &request.name, "--type", &request.r#type])
        .option("--queues", queues)
        .option("--retention", retention.as_ref());
    let facts = vec![
        ("topic", json!(request.name)),
        ("type", json!(request.r#type)),
        ("queues", json!(queues)),
        ("retention", json!(retention)),
    ];
    if given.is_trial() {
        let asked = wire::DescribeTopicRequest { name: request.name.clone() };
        match site.admin.describe_topic(Request::new(asked)).await {
            Err(status) if status.code() == Code::NotFound => {}
            Err(status) => return Err(status.into()),
            Ok(_) => return Err(Refused::new(StatusCode::CONFLICT, format!("topic {} exists", request.name))),
        }
        return Ok(Done { command, facts, document: Value::Null });
    }
    let created = site.admin.create_topic(given.request(request)).await?.into_inner();
    let document = json!({ "schema": "raftmq.topic.created.v1", "topic": created.topic.map(documents::topics::row) });
    Ok(Done { command, facts, document })
}

pub(super) async fn update(site: &Site, given: &Given) -> Result<Done, Refused> {
    let request = wire::UpdateTopicRequest {
        name: given.text("topic")?.to_owned(),
        r#type: given.text_if_any("type")?.unwrap_or_default().to_owned(),
        queues: given.small_if_any("queues")?.unwrap_or(0),
        permission: given.small_if_any("permission")?.unwrap_or(0),
        retention_ms: given.number_if_any("retention_ms")?,
    };
    let topic_type = Some(&request.r#type).filter(|name| !name.is_empty());
    let queues = Some(request.queues).filter(|queues| *queues > 0);
    let permission = Some(request.permission).filter(|bits| *bits > 0);
    let retention = request.retention_ms.map(retention);
    let command = CommandLine::of(site, &["topic", "update", &request.name])
        .option("--type", topic_type)
        .option("--queues", queues)
        .option("--permission", permission)
        .option("--retention", retention.as_ref());
    if topic_type.is_none() && queues.is_none() && permission.is_none() && retention.is_none() {
        return Err(Refused::request("nothing is to be changed"));
    }
    let now = documents::topics::row(one(site, &request.name).await?);
    let mut facts = vec![("topic", json!(request.name))];
    let mut change = |name, from: String, to: Option<String>| {
        if let Some(to) = to {
            facts.push((name, json!(format!("{from} → {to}"))));
        }
    };
    change("type", now.r#type.clone(), topic_type.cloned());
    change("queues", now.queues.to_string(), queues.map(|queues| queues.to_string()));
    let letters = |bits| match bits {
        4 => "R".to_owned(),
        2 => "W".to_owned(),
        6 => "RW".to_owned(),
        other => format!("{other}"),
    };
    change("permission", now.permission.to_owned(), permission.map(letters));
    change("retention", retention_of(now.retention_ms), retention);
    let mut document = Value::Null;
    if !given.is_trial() {
        let changed = site.admin.update_topic(given.request(request)).await?.into_inner();
        document = json!({ "schema": "raftmq.topic.changed.v1", "topic": changed.topic.map(documents::topics::row) });
    }
    Ok(Done { command, facts, document })
}

pub(super) async fn delete(site: &Site, given: &Given) -> Result<Done, Refused> {
    let name = given.text("topic")?;
    let command = CommandLine::of(site, &["topic", "delete", name, "--yes"]);
    let asked = wire::DescribeTopicRequest { name: name.to_owned() };
    let described = site.admin.describe_topic(Request::new(asked)).await?.into_inner();
    let topic = described.topic.unwrap_or_default();
    let mut groups: Vec<String> = described.positions.into_iter().map(|position| position.group).collect();
    groups.sort();
    groups.dedup();
    let facts = vec![
        ("topic", json!(name)),
        ("messages", json!(topic.messages)),
        ("lag", json!(topic.lag_max)),
        ("groups", json!(groups)),
    ];
    let mut document = Value::Null;
    if !given.is_trial() {
        site.admin.delete_topic(given.request(wire::DeleteTopicRequest { name: name.to_owned() })).await?;
        document = json!({ "schema": "raftmq.topic.deleted.v1", "topic": name });
    }
    Ok(Done { command, facts, document })
}

async fn one(site: &Site, name: &str) -> Result<wire::Topic, Refused> {
    let asked = wire::DescribeTopicRequest { name: name.to_owned() };
    Ok(site.admin.describe_topic(Request::new(asked)).await?.into_inner().topic.unwrap_or_default())
}

/// As the command reads it; 0 stands for as long as the log.
fn retention(kept_for: u64) -> String {
    if kept_for == 0 { "default".to_owned() } else { Millis(kept_for).in_one_unit() }
}

fn retention_of(kept_for: Option<u64>) -> String {
    retention(kept_for.unwrap_or(0))
}

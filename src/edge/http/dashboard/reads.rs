//! What the pages read: each name an answer of the admin service, as a document.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use serde_json::{Value, json};
use tonic::Request;

use crate::documents;
use crate::edge::http::dashboard::overview;
use crate::edge::http::dashboard::query::Query;
use crate::edge::http::dashboard::refused::Refused;
use crate::edge::http::dashboard::site::Site;
use crate::edge::http::tables::Tables;
use crate::proto::admin as wire;
use crate::proto::admin::admin_server::Admin;

/// Rows of one answer.
const ROWS_MAX: u32 = 200;
const ROWS: u32 = 50;
/// Bytes of a body that are shown in a list, and of one message alone.
const LISTED_BYTES: usize = 256;
const SHOWN_BYTES: usize = 64 * 1024;
/// Seconds that the log is looked through for one message.
const TRACE_SECONDS: u32 = 5;
const TRACE_SECONDS_MAX: u32 = 30;

pub(super) async fn read(site: &Arc<Site>, tables: &Arc<Tables>, name: &str, query: &Query) -> Result<Value, Refused> {
    let admin = &site.admin;
    Ok(match name {
        "overview" => overview::overview(site, tables).await?,
        "cluster" => documents::cluster::document(site.cluster_status().await?),
        "members" => {
            let listed = admin.list_members(Request::new(wire::ListMembersRequest {})).await?;
            documents::members::document(listed.get_ref())
        }
        "topics" => {
            let (contains, skip, limit) = page(query)?;
            let request = wire::ListTopicsRequest { contains, skip, limit };
            let listed = admin.list_topics(Request::new(request)).await?.into_inner();
            with(documents::topics::list(listed.topics), "total", json!(listed.total))
        }
        "topic" => {
            let request = wire::DescribeTopicRequest { name: query.text("name").to_owned() };
            documents::topics::one(admin.describe_topic(Request::new(request)).await?.into_inner())
        }
        "groups" => {
            let (contains, skip, limit) = page(query)?;
            let request = wire::ListGroupsRequest { contains, skip, limit };
            let listed = admin.list_groups(Request::new(request)).await?.into_inner();
            with(documents::groups::list(listed.groups), "total", json!(listed.total))
        }
        "group" => {
            let request = wire::DescribeGroupRequest { name: query.text("name").to_owned() };
            documents::groups::one(admin.describe_group(Request::new(request)).await?.into_inner())
        }
        "counts" => {
            let (topic, group) = (query.text("topic").to_owned(), query.text("group").to_owned());
            if topic.is_empty() && group.is_empty() {
                return Err(Refused::request("counts are read of one topic or of one group"));
            }
            let request = wire::CountsRequest { topic, group, ..Default::default() };
            let counts = admin.counts(Request::new(request)).await?.into_inner();
            let source = documents::counts::Source::of(&counts);
            let (topics, groups) = documents::counts::rows(counts);
            documents::counts::document(&source, &topics, &groups)
        }
        "clients" => {
            let request = Request::new(wire::ListClientsRequest {});
            documents::clients::document(admin.list_clients(request).await?.into_inner())
        }
        "message" => {
            let request = wire::GetMessageRequest {
                topic: query.text("topic").to_owned(),
                queue: query.queue("queue")?,
                offset: query.number("offset")?.unwrap_or_default(),
            };
            let found = admin.get_message(Request::new(request)).await?.into_inner().message;
            messages(found.into_iter().collect(), SHOWN_BYTES)
        }
        "messages" => {
            let cursor = URL_SAFE_NO_PAD.decode(query.text("cursor"));
            let request = wire::FindMessagesRequest {
                topic: query.text("topic").to_owned(),
                message_id: query.text("id").to_owned(),
                key: query.text("key").to_owned(),
                from_ms: query.number("from_ms")?.unwrap_or_default(),
                to_ms: query.number("to_ms")?.unwrap_or_default(),
                limit: query.count("limit", ROWS, ROWS_MAX)?,
                cursor: cursor.map_err(|_| Refused::request("the cursor is not one that was given here"))?.into(),
            };
            let found = admin.find_messages(Request::new(request)).await?.into_inner();
            let list = messages(found.messages, LISTED_BYTES);
            let list = with(list, "searched", json!(found.searched));
            with(list, "cursor", json!(URL_SAFE_NO_PAD.encode(found.cursor)))
        }
        "trace" => {
            let request = wire::TraceMessageRequest {
                topic: query.text("topic").to_owned(),
                message_id: query.text("id").to_owned(),
                queue: query.queue("queue")?,
                offset: query.number("offset")?.unwrap_or_default(),
                seconds: query.count("seconds", TRACE_SECONDS, TRACE_SECONDS_MAX)?,
            };
            let trace = admin.trace_message(Request::new(request)).await?.into_inner();
            let (searched_to, log_end) = (trace.searched_to, trace.log_end);
            let message = trace.message.clone();
            let document = documents::trace::document(&documents::trace::rows(trace));
            let document = with(document, "searched_to", json!(searched_to));
            let document = with(document, "log_end", json!(log_end));
            with(document, "stored", messages(message.into_iter().collect(), SHOWN_BYTES)["messages"][0].take())
        }
        "delayed" => {
            let request = wire::ListDelayedRequest {
                topic: query.text("topic").to_owned(),
                from_ms: query.number("from_ms")?.unwrap_or_default(),
                limit: query.count("limit", ROWS, ROWS_MAX)?,
            };
            messages(admin.list_delayed(Request::new(request)).await?.into_inner().messages, LISTED_BYTES)
        }
        "dead" => {
            let request = wire::ListDeadLettersRequest {
                group: query.text("group").to_owned(),
                from_offset: query.number("from")?.unwrap_or_default(),
                limit: query.count("limit", ROWS, ROWS_MAX)?,
            };
            let listed = admin.list_dead_letters(Request::new(request)).await?.into_inner();
            let list = with(messages(listed.messages, LISTED_BYTES), "next", json!(listed.next_offset));
            with(list, "end", json!(listed.end_offset))
        }
        "events" => {
            let request = wire::ListEventsRequest {
                before: query.number("before")?.unwrap_or_default(),
                since_ms: query.number("since_ms")?.unwrap_or_default(),
                limit: query.count("limit", ROWS, ROWS_MAX)?,
            };
            let listed = admin.list_events(Request::new(request)).await?.into_inner();
            // The newest first, as a page shows them.
            let rows: Vec<_> = listed.events.into_iter().map(documents::events::row).collect();
            let before = Some(listed.before).filter(|before| *before > 0);
            json!({
                "schema": documents::events::SCHEMA,
                "events": rows,
                "before": before,
                "may_be_old": listed.may_be_old,
            })
        }
        "facts" => {
            let request = wire::NodeFactsRequest { node: query.text("node").to_owned() };
            let facts = admin.node_facts(Request::new(request)).await?.into_inner();
            let settings = facts.settings.iter().map(|set| json!({ "key": set.key, "value": set.value }));
            let certificate = |shown: &wire::Certificate| json!({ "shown_to": shown.shown_to, "file": shown.file, "not_after_ms": shown.not_after_ms, "error": shown.error });
            json!({
                "node": facts.node,
                "version": facts.version,
                "open_files": facts.open_files,
                "open_files_max": facts.open_files_max,
                "log_file": facts.log_file,
                "settings": settings.collect::<Vec<_>>(),
                "certificates": facts.certificates.iter().map(certificate).collect::<Vec<_>>(),
            })
        }
        _ => return Err(Refused::new(StatusCode::NOT_FOUND, format!("there is nothing to read called {name}"))),
    })
}

/// Which rows of a list by name.
fn page(query: &Query) -> Result<(String, u32, u32), Refused> {
    let skip = u32::try_from(query.number("skip")?.unwrap_or_default()).unwrap_or(u32::MAX);
    Ok((query.text("contains").to_owned(), skip, query.count("limit", ROWS, ROWS_MAX)?))
}

fn with(mut document: Value, name: &str, value: Value) -> Value {
    document[name] = value;
    document
}

/// As the commands print them, with no more of each body than is shown.
fn messages(mut messages: Vec<wire::StoredMessage>, bytes_max: usize) -> Value {
    let whole: Vec<usize> = messages.iter().map(|message| message.body.len()).collect();
    messages.iter_mut().for_each(|message| message.body.truncate(bytes_max));
    let mut document = documents::messages::list(messages);
    for (at, bytes) in whole.into_iter().enumerate() {
        document["messages"][at]["body_bytes"] = json!(bytes);
    }
    document
}

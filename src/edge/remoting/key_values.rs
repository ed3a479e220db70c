//! Key-values that tools keep in name servers (remoting §3.1). After: `broker/key_values`.

use std::collections::BTreeMap;

use crate::broker::Deadline;
use crate::edge::remoting::answer::Answer;
use crate::edge::remoting::codes::Refused;
use crate::edge::remoting::context::{Connection, Remoting, Request};
use crate::proto::remoting::ResponseCode;
use crate::proto::remoting::key_value_table::KeyValueTable;

/// PUT_KV_CONFIG.
pub(super) async fn put(connection: &Connection, request: &Request) -> Result<Answer, Refused> {
    set(connection, request, Some(request.header.fields.text("value")?)).await
}

/// DELETE_KV_CONFIG; also of one that is not there.
pub(super) async fn delete(connection: &Connection, request: &Request) -> Result<Answer, Refused> {
    set(connection, request, None).await
}

async fn set(connection: &Connection, request: &Request, value: Option<&str>) -> Result<Answer, Refused> {
    let fields = &request.header.fields;
    let (namespace, key) = (fields.text("namespace")?, fields.text("key")?);
    let broker = &connection.remoting.broker;
    broker.set_key_value(&connection.operator(), namespace, key, value, Deadline::NONE).await?;
    Ok(Answer::done())
}

/// GET_KV_CONFIG.
pub(super) async fn get(remoting: &Remoting, request: &Request) -> Result<Answer, Refused> {
    let fields = &request.header.fields;
    let (namespace, key) = (fields.text("namespace")?, fields.text("key")?);
    match remoting.broker.key_value(namespace, key, Deadline::NONE).await? {
        Some(value) => Ok(Answer::done().and("value", value)),
        None => Err(none(format!("there is no key '{key}' in namespace '{namespace}'"))),
    }
}

/// GET_KVLIST_BY_NAMESPACE.
pub(super) async fn list(remoting: &Remoting, request: &Request) -> Result<Answer, Refused> {
    let namespace = request.header.fields.text("namespace")?;
    let table: BTreeMap<_, _> = remoting.broker.key_values(namespace, Deadline::NONE).await?.into_iter().collect();
    if table.is_empty() {
        return Err(none(format!("there is no key in namespace '{namespace}'")));
    }
    Ok(Answer::json(&KeyValueTable { table }))
}

fn none(text: String) -> Refused {
    Refused::new(ResponseCode::QueryNotFound, text)
}

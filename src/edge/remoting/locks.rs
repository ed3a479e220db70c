//! Locks of queues for consumers that consume in order (remoting §6.5). After: `broker/queue_lock`.

use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::broker::Deadline;
use crate::edge::remoting::answer::Answer;
use crate::edge::remoting::codes::Refused;
use crate::edge::remoting::context::{Remoting, Request};
use crate::edge::rules;
use crate::model::limits::LOCKED_QUEUES_MAX;
use crate::model::{GroupName, QueueId, TopicName};
use crate::proto::remoting::ResponseCode;
use crate::proto::remoting::queue_data::{LockedQueues, MessageQueue, QueueLocks};

/// Clients wait for a second, and close the connection of an answer that is late.
const ANSWERED_IN: Duration = Duration::from_millis(900);

/// What is asked for, and its queues by names that were checked.
struct Asked {
    group: GroupName,
    client_id: String,
    queues: Vec<(TopicName, QueueId)>,
    named: Vec<MessageQueue>,
}

/// Locks those queues that no other client of the group has.
pub(super) async fn lock(remoting: &Remoting, request: &Request) -> Result<Answer, Refused> {
    let Asked { group, client_id, queues, named } = read(request)?;
    let deadline = Deadline::at(Instant::now() + ANSWERED_IN);
    let locked = remoting.broker.lock_queues(&group, &client_id, &queues, deadline).await?;
    let queues = named.into_iter().zip(locked).filter(|(_, locked)| *locked).map(|(queue, _)| queue).collect();
    Ok(Answer::json(&LockedQueues { queues }))
}

/// Gives locks up, once what the client committed before is in the log: who has the queue next begins there.
pub(super) async fn unlock(remoting: &Remoting, request: &Request) -> Result<Answer, Refused> {
    let Asked { group, client_id, queues, .. } = read(request)?;
    remoting.commits.settle(&remoting.broker).await;
    remoting.broker.unlock_queues(&group, &client_id, &queues, Deadline::NONE).await?;
    Ok(Answer::done())
}

fn read(request: &Request) -> Result<Asked, Refused> {
    let QueueLocks { group, client_id, queues: named } = body(request, "queues to lock")?;
    let group = rules::names::group("", &group)?;
    rules::client::id("client id", &client_id)?;
    rules::client::text("client id", &client_id)?;
    if named.len() > LOCKED_QUEUES_MAX {
        let text = format!("{} queues at once are more than {LOCKED_QUEUES_MAX}; use several requests", named.len());
        return Err(Refused::new(ResponseCode::InvalidParameter, text));
    }
    let queue = |named: &MessageQueue| Ok((rules::names::topic("", &named.topic)?, QueueId(named.queue)));
    let queues = named.iter().map(queue).collect::<Result<_, Refused>>()?;
    Ok(Asked { group, client_id, queues, named })
}

/// The body of a request.
pub(super) fn body<T: DeserializeOwned>(request: &Request, what: &str) -> Result<T, Refused> {
    let wrong =
        |error| Refused::new(ResponseCode::InvalidParameter, format!("the body ({what}) cannot be read: {error}"));
    serde_json::from_slice(&request.body).map_err(wrong)
}

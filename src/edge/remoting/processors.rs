//! Has each request answered by the processor of its code.

use crate::broker::Where;
use crate::edge::remoting::answer::Answer;
use crate::edge::remoting::codes::Refused;
use crate::edge::remoting::context::{Connection, Request};
use crate::edge::remoting::{
    clients, key_values, locks, offsets, producers, pull, queries, recall, reply, route, send, send_back, tools,
    transaction, write_permission,
};
use crate::env::panic::{Panicked, contained};
use crate::proto::remoting::{RequestCode, ResponseCode};

/// The answer to a request. If its processor panics, it alone fails (D74).
pub(super) async fn answer(connection: &Connection, request: Request) -> Answer {
    let answered = contained(process(connection, &request)).await;
    let answered = answered.unwrap_or_else(|Panicked| {
        Err(Refused::new(ResponseCode::SystemError, "a bug in raftmq; the node's log says more"))
    });
    answered.unwrap_or_else(Answer::from)
}

async fn process(connection: &Connection, request: &Request) -> Result<Answer, Refused> {
    let Some(code) = RequestCode::of_number(request.header.code) else {
        return Err(unsupported(format!("request type {} not supported", request.header.code)));
    };
    match code {
        RequestCode::GetRouteInfoByTopic => route::of_topic(&connection.remoting, request).await,
        RequestCode::GetBrokerClusterInfo => route::cluster(&connection.remoting),
        RequestCode::GetAllTopicListFromNameserver => route::topics(&connection.remoting),
        RequestCode::GetTopicsByCluster => route::topics_of_cluster(&connection.remoting, request),
        RequestCode::GetSystemTopicListFromNs => route::system_names(&connection.remoting),
        RequestCode::GetUnitTopicList
        | RequestCode::GetHasUnitSubTopicList
        | RequestCode::GetHasUnitSubUnunitTopicList => Ok(route::no_topics()),
        // Who deletes a topic says so to the brokers first, and its route goes with it.
        RequestCode::DeleteTopicInNamesrv => Ok(Answer::done()),
        RequestCode::PutKvConfig => key_values::put(connection, request).await,
        RequestCode::GetKvConfig => key_values::get(&connection.remoting, request).await,
        RequestCode::DeleteKvConfig => key_values::delete(connection, request).await,
        RequestCode::GetKvlistByNamespace => key_values::list(&connection.remoting, request).await,
        RequestCode::WipeWritePermOfBroker => write_permission::wipe(connection, request).await,
        RequestCode::AddWritePermOfBroker => write_permission::add(connection, request).await,
        RequestCode::SendMessage | RequestCode::SendMessageV2 | RequestCode::SendBatchMessage => {
            send::send(connection, request, code).await
        }
        RequestCode::ConsumerSendMsgBack => send_back::send_back(&connection.remoting, request).await,
        RequestCode::PullMessage | RequestCode::LitePullMessage => pull::pull(connection, request).await,
        RequestCode::QueryConsumerOffset => offsets::of_group(&connection.remoting, request).await,
        RequestCode::UpdateConsumerOffset => offsets::commit(&connection.remoting, request),
        RequestCode::GetMinOffset => offsets::end(&connection.remoting, request, Where::Beginning).await,
        RequestCode::GetMaxOffset => offsets::end(&connection.remoting, request, Where::End).await,
        RequestCode::SearchOffsetByTimestamp => offsets::at_time(&connection.remoting, request).await,
        RequestCode::LockBatchMq => locks::lock(&connection.remoting, request).await,
        RequestCode::UnlockBatchMq => locks::unlock(&connection.remoting, request).await,
        RequestCode::InvokeBrokerToResetOffset => tools::reset(connection, request).await,
        RequestCode::GetConsumerRunningInfo => tools::running_info(&connection.remoting, request).await,
        RequestCode::ConsumeMessageDirectly => tools::consume_directly(connection, request).await,
        RequestCode::SendReplyMessage | RequestCode::SendReplyMessageV2 => {
            reply::reply(connection, request, code).await
        }
        RequestCode::RecallMessage => recall::recall(&connection.remoting, request).await,
        RequestCode::GetProducerConnectionList => producers::of_group(&connection.remoting, request),
        RequestCode::GetAllProducerInfo => Ok(producers::all(&connection.remoting)),
        RequestCode::CheckClientConfig => clients::check_filter(request),
        RequestCode::HeartBeat => clients::heartbeat(connection, request).await,
        RequestCode::UnregisterClient => clients::unregister(connection, request).await,
        RequestCode::QueryMessage => queries::query(connection, request).await,
        RequestCode::ViewMessageById => queries::view(connection, request).await,
        RequestCode::EndTransaction => transaction::end(&connection.remoting, request).await,
        RequestCode::GetConsumerListByGroup => clients::list(&connection.remoting, request).await,
        _ => Err(unsupported(not_served(code))),
    }
}

/// Why a request that RocketMQ has is not served.
fn not_served(code: RequestCode) -> String {
    let why = match code {
        RequestCode::InvokeBrokerToGetConsumerStatus => {
            "ask each client for what it knows (GET_CONSUMER_RUNNING_INFO, mqadmin consumerStatus): positions are in it"
        }
        RequestCode::GetConsumerStatusFromClient
        | RequestCode::ResetConsumerClientOffset
        | RequestCode::NotifyConsumerIdsChanged
        | RequestCode::CheckTransactionState
        | RequestCode::PushReplyMessageToClient => "brokers ask it of clients",
        RequestCode::RegisterBroker | RequestCode::UnregisterBroker => {
            "a node is no name server for brokers: start raftmq namesrv"
        }
        RequestCode::UpdateNamesrvConfig => {
            "nothing of a name server is changed while it runs; start it with another file"
        }
        _ => "not supported yet",
    };
    format!("request type {} ({}): {why}", code as i32, code.name())
}

fn unsupported(text: String) -> Refused {
    Refused::new(ResponseCode::RequestCodeNotSupported, text)
}

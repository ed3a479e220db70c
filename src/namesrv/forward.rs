//! What a name server does not keep: key-values and write permissions are in the brokers' replicated state, so that they survive
//! whatever is started anew. A request for them goes to every group that it is about, and the answers become one (D226).
//!
//! A group is asked at its host, and at another node if that does not answer or cannot serve. Bounded: how long all of it
//! takes; every request may be repeated.
//!
//! Source: remoting §3.1.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use crate::namesrv::answers::Answer;
use crate::namesrv::route::member_of;
use crate::namesrv::table::GroupAddresses;
use crate::proto::remoting::key_value_table::KeyValueTable;
use crate::proto::remoting::{FRAME_BYTES_MAX, Fields, Frame, Header, RequestCode, ResponseCode};

/// Tools wait five seconds.
const ALL_WITHIN: Duration = Duration::from_millis(4500);
/// One that is gone must not cost the time of the others.
const DIAL_TIMEOUT: Duration = Duration::from_millis(500);
/// As long as a node waits for a leader, and a little.
const NODE_WITHIN: Duration = Duration::from_secs(3);

/// Whether a request is for the brokers.
pub(super) fn is_forwarded(code: i32) -> bool {
    matches!(
        RequestCode::of_number(code),
        Some(
            RequestCode::PutKvConfig
                | RequestCode::GetKvConfig
                | RequestCode::DeleteKvConfig
                | RequestCode::GetKvlistByNamespace
                | RequestCode::WipeWritePermOfBroker
                | RequestCode::AddWritePermOfBroker
        )
    )
}

/// What the groups answer.
pub(super) async fn answer(groups: &[GroupAddresses], asked: &Header) -> Answer {
    let Some(code) = RequestCode::of_number(asked.code).filter(|code| is_forwarded(*code as i32)) else {
        return Answer::refused(ResponseCode::RequestCodeNotSupported, "not a request for the brokers");
    };
    if groups.is_empty() {
        let text = "no broker reports to this name server, and it keeps nothing itself: set namesrvAddr on the brokers";
        return Answer::refused(ResponseCode::ServiceNotAvailable, text);
    }
    let until = Instant::now() + ALL_WITHIN;
    match code {
        RequestCode::GetKvConfig => first_of(groups, asked, until).await,
        RequestCode::GetKvlistByNamespace => together(groups, asked, until).await,
        RequestCode::WipeWritePermOfBroker => counted(groups, asked, "wipeTopicCount", until).await,
        RequestCode::AddWritePermOfBroker => counted(groups, asked, "addTopicCount", until).await,
        _ => at_all(groups, asked, until).await,
    }
}

/// Done when every group has done it.
async fn at_all(groups: &[GroupAddresses], asked: &Header, until: Instant) -> Answer {
    for group in groups {
        match ask(group, asked, until).await {
            Ok(done) if is_done(&done) => {}
            Ok(refused) => return refusal(refused.header),
            Err(unanswered) => return unanswered,
        }
    }
    Answer::done()
}

/// What a group has that has it.
async fn first_of(groups: &[GroupAddresses], asked: &Header, until: Instant) -> Answer {
    let mut last = None;
    for group in groups {
        match ask(group, asked, until).await {
            Ok(found) if is_done(&found) => return Answer::with(found.header.fields),
            Ok(none) if none.header.code == ResponseCode::QueryNotFound as i32 => last = last.or(Some(none.header)),
            Ok(refused) => return refusal(refused.header),
            Err(unanswered) => return unanswered,
        }
    }
    refusal(last.expect("there is a group, and it answered"))
}

/// What all groups have.
async fn together(groups: &[GroupAddresses], asked: &Header, until: Instant) -> Answer {
    let (mut all, mut last) = (KeyValueTable::default(), None);
    for group in groups {
        match ask(group, asked, until).await {
            Ok(found) if is_done(&found) => match serde_json::from_slice::<KeyValueTable>(&found.body) {
                Ok(own) => all.table.extend(own.table),
                Err(error) => {
                    let text = format!("the answer of group '{}' cannot be read: {error}", group.broker_name);
                    return Answer::refused(ResponseCode::SystemError, text);
                }
            },
            Ok(none) if none.header.code == ResponseCode::QueryNotFound as i32 => last = Some(none.header),
            Ok(refused) => return refusal(refused.header),
            Err(unanswered) => return unanswered,
        }
    }
    match last {
        Some(none) if all.table.is_empty() => refusal(none),
        _ => Answer::json(&all),
    }
}

/// Done by the groups that have the broker name; how many topics that changed, in all of them.
async fn counted(groups: &[GroupAddresses], asked: &Header, count: &'static str, until: Instant) -> Answer {
    let name = match asked.fields.text("brokerName") {
        Ok(name) => name,
        Err(missing) => return missing.into(),
    };
    let (mut topics, mut is_known) = (0, false);
    for group in groups.iter().filter(|group| member_of(&group.broker_name, name).is_some()) {
        match ask(group, asked, until).await {
            Ok(done) if is_done(&done) => {
                is_known = true;
                topics += done.header.fields.number::<u64>(count).unwrap_or(0);
            }
            Ok(refused) => return refusal(refused.header),
            Err(unanswered) => return unanswered,
        }
    }
    if !is_known {
        let known: Vec<_> = groups.iter().map(|group| group.broker_name.as_str()).collect();
        let text = format!("no broker '{name}' reports to this name server; these groups do: {}", known.join(", "));
        return Answer::refused(ResponseCode::BrokerNotExist, text);
    }
    let mut fields = Fields::default();
    fields.put(count, topics);
    Answer::with(fields)
}

fn is_done(answer: &Frame) -> bool {
    answer.header.code == ResponseCode::Success as i32
}

/// A refusal as the group said it.
fn refusal(header: Header) -> Answer {
    Answer::passed_on(header.code, header.remark)
}

/// Asks the nodes of a group in turn, until one answers that can.
async fn ask(group: &GroupAddresses, asked: &Header, until: Instant) -> Result<Frame, Answer> {
    let mut why = "none of its nodes is known".to_owned();
    for address in &group.nodes {
        match timeout_at(until.min(Instant::now() + NODE_WITHIN), ask_node(address, asked)).await {
            Ok(Ok(answer)) if answer.header.code != ResponseCode::ServiceNotAvailable as i32 => return Ok(answer),
            Ok(Ok(answer)) => why = format!("{address}: {}", answer.header.remark.unwrap_or_default()),
            Ok(Err(error)) => why = format!("{address}: {error}"),
            Err(_) => why = format!("{address}: no answer in time"),
        }
    }
    let text = format!("the brokers of group '{}' keep this, and none of them answered: {why}", group.broker_name);
    Err(Answer::refused(ResponseCode::ServiceNotAvailable, text))
}

async fn ask_node(address: &str, asked: &Header) -> io::Result<Frame> {
    let mut stream = timeout(DIAL_TIMEOUT, TcpStream::connect(address)).await??;
    let header = Header::request(asked.code, 1, asked.fields.clone());
    let frame = Frame { header_type: crate::proto::remoting::HeaderType::Json, header, body: bytes::Bytes::new() };
    stream.write_all(&frame.encode().map_err(io::Error::other)?).await?;
    let mut read = BytesMut::new();
    loop {
        let malformed = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        if let Some(frame) = Frame::take(&mut read, FRAME_BYTES_MAX).map_err(malformed)? {
            return Ok(frame);
        }
        if stream.read_buf(&mut read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

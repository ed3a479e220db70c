//! What a name server answers: one function for each request, over the table.
//!
//! What is not about where things are is refused by name: a client whose broker is not known sends its requests here.
//!
//! Source: remoting §3.

use bytes::Bytes;
use serde::Serialize;
use tokio::time::Instant;

use crate::namesrv::table::{ConnectionNumber, Table};
use crate::proto::remoting::registration::{Registration, TopicList};
use crate::proto::remoting::{BadField, Fields, Header, NAME_SERVER_MARK, RequestCode, ResponseCode};

/// What a request is answered.
#[derive(Debug)]
pub(super) struct Answer {
    code: i32,
    fields: Fields,
    remark: Option<String>,
    pub body: Bytes,
}

impl Answer {
    pub fn done() -> Self {
        Self::with(Fields::default())
    }

    pub fn with(fields: Fields) -> Self {
        Self { code: ResponseCode::Success as i32, fields, remark: None, body: Bytes::new() }
    }

    /// As a broker answered it.
    pub fn passed_on(code: i32, remark: Option<String>) -> Self {
        Self { code, remark, ..Self::done() }
    }

    pub fn json(body: &impl Serialize) -> Self {
        let body = serde_json::to_vec(body).expect("bodies are plain structs with keys of texts and numbers");
        Self { body: body.into(), ..Self::done() }
    }

    fn marked(mut self) -> Self {
        self.fields.put(NAME_SERVER_MARK, env!("CARGO_PKG_VERSION"));
        self
    }

    pub fn refused(code: ResponseCode, why: impl Into<String>) -> Self {
        Self { code: code as i32, remark: Some(why.into()), ..Self::done() }
    }

    /// Its header, for a request.
    pub fn header(&mut self, opaque: i32) -> Header {
        let mut header = Header::answer(opaque, ResponseCode::Success, std::mem::take(&mut self.fields));
        header.code = self.code;
        header.remark = self.remark.take();
        header
    }
}

impl From<BadField> for Answer {
    fn from(field: BadField) -> Self {
        Self::refused(ResponseCode::InvalidParameter, field.to_string())
    }
}

/// A request, its connection, and the name server's own settings as text.
pub(super) struct Asked<'a> {
    pub header: &'a Header,
    pub body: &'a [u8],
    pub connection: ConnectionNumber,
    pub settings: &'a str,
}

pub(super) fn answer(table: &mut Table, asked: &Asked<'_>) -> Answer {
    let number = asked.header.code;
    let Some(code) = RequestCode::of_number(number) else {
        return Answer::refused(ResponseCode::RequestCodeNotSupported, format!("request type {number} not supported"));
    };
    match code {
        RequestCode::GetRouteInfoByTopic => route(table, &asked.header.fields),
        RequestCode::GetBrokerClusterInfo => Answer::json(&table.clusters()).marked(),
        RequestCode::GetAllTopicListFromNameserver => topics(table.topics(None)),
        RequestCode::GetTopicsByCluster => match asked.header.fields.text("cluster") {
            Ok(cluster) => topics(table.topics(Some(cluster))),
            Err(missing) => missing.into(),
        },
        RequestCode::GetSystemTopicListFromNs => {
            let (topic_list, broker_addr) = table.system_names();
            Answer::json(&TopicList { topic_list, broker_addr })
        }
        RequestCode::GetUnitTopicList
        | RequestCode::GetHasUnitSubTopicList
        | RequestCode::GetHasUnitSubUnunitTopicList => topics(Vec::new()),
        // Reports of the brokers say which topics there are.
        RequestCode::DeleteTopicInNamesrv => Answer::done(),
        RequestCode::GetNamesrvConfig => Answer { body: asked.settings.to_owned().into(), ..Answer::done() },
        RequestCode::RegisterBroker => register(table, asked),
        RequestCode::UnregisterBroker => unregister(table, &asked.header.fields),
        _ => Answer::refused(
            ResponseCode::RequestCodeNotSupported,
            format!("request type {number} ({}) is not served by raftmq's name servers", code.name()),
        ),
    }
}

fn topics(topic_list: Vec<String>) -> Answer {
    Answer::json(&TopicList { topic_list, broker_addr: None })
}

fn route(table: &Table, fields: &Fields) -> Answer {
    let topic = match fields.text("topic") {
        Ok(topic) => topic,
        Err(missing) => return missing.into(),
    };
    match table.route(topic) {
        Some(route) => Answer::json(&route),
        None => Answer::refused(
            ResponseCode::TopicNotExist,
            format!("no broker that reports to this name server has the topic '{topic}'"),
        ),
    }
}

fn register(table: &mut Table, asked: &Asked<'_>) -> Answer {
    let registration: Registration = match serde_json::from_slice(asked.body) {
        Ok(registration) => registration,
        Err(error) => {
            return Answer::refused(ResponseCode::InvalidParameter, format!("the report cannot be read: {error}"));
        }
    };
    let Some(report) = registration.raftmq else {
        let why = "raftmq's name servers take reports of raftmq's brokers only; let RocketMQ's brokers have a name server of \
                   RocketMQ, to which raftmq's may report as well (namesrvAddr)";
        return Answer::refused(ResponseCode::RequestCodeNotSupported, why);
    };
    let node = format!("{}-{}", report.broker_name, report.member);
    match table.report(report, asked.connection, Instant::now()) {
        Ok(()) => Answer::done().marked(),
        Err(error) => {
            tracing::warn!(node, %error, "a report was not taken");
            Answer::refused(ResponseCode::InvalidParameter, error.to_string())
        }
    }
}

fn unregister(table: &mut Table, fields: &Fields) -> Answer {
    match (fields.text("clusterName"), fields.text("brokerAddr")) {
        (Ok(cluster), Ok(address)) => {
            table.unregister(cluster, address);
            Answer::done()
        }
        (Err(missing), _) | (_, Err(missing)) => missing.into(),
    }
}

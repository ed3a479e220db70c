//! What clients say of themselves in heartbeats, and the list of a group's clients: bodies in JSON.
//!
//! Clients differ: C++ sends enums as numbers, versions as texts, and may leave lists out; Go sends other names for the type
//! of a consumer, which nothing here depends on. What is not named here is passed over.
//!
//! Source: remoting §6.3.

use serde::de::{Deserializer, Error};
use serde::{Deserialize, Serialize};

/// A heartbeat. One client may have several groups.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct HeartbeatData {
    #[serde(rename = "clientID")]
    pub client_id: String,
    #[serde(rename = "consumerDataSet", default, deserialize_with = "or_default")]
    pub consumers: Vec<ConsumerData>,
    #[serde(rename = "producerDataSet", default, deserialize_with = "or_default")]
    pub producers: Vec<ProducerData>,
}

/// A producer of a group.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ProducerData {
    #[serde(rename = "groupName")]
    pub group: String,
}

/// A consumer of a group.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ConsumerData {
    #[serde(rename = "groupName")]
    pub group: String,
    #[serde(rename = "messageModel", default, deserialize_with = "is_broadcasting")]
    pub is_broadcasting: bool,
    /// Where it begins in a queue without an offset: at the first message, or where others begin.
    #[serde(rename = "consumeFromWhere", default, deserialize_with = "begins_first")]
    pub begins_first: bool,
    #[serde(rename = "subscriptionDataSet", default, deserialize_with = "or_default")]
    pub subscriptions: Vec<SubscriptionData>,
}

/// What a consumer wants of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct SubscriptionData {
    pub topic: String,
    /// Tags, or a condition.
    #[serde(rename = "subString", default, deserialize_with = "or_default")]
    pub expression: String,
    /// `TAG` unless it says otherwise.
    #[serde(rename = "expressionType", default, deserialize_with = "or_default")]
    pub expression_type: String,
    /// Grows with every change.
    #[serde(rename = "subVersion", default, deserialize_with = "number")]
    pub version: i64,
}

/// A filter that a consumer asks about before it starts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct FilterCheck {
    #[serde(rename = "subscriptionData")]
    pub subscription: SubscriptionData,
}

/// The clients of a group, by id.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ConsumerList {
    #[serde(rename = "consumerIdList")]
    pub client_ids: Vec<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum TextOrNumber {
    Number(i64),
    Text(String),
}

/// `null` is not given.
fn or_default<'de, T: Deserialize<'de> + Default, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn is_broadcasting<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    match Option::<TextOrNumber>::deserialize(deserializer)? {
        None | Some(TextOrNumber::Number(1)) => Ok(false),
        Some(TextOrNumber::Number(0)) => Ok(true),
        Some(TextOrNumber::Text(text)) if text == "CLUSTERING" => Ok(false),
        Some(TextOrNumber::Text(text)) if text == "BROADCASTING" => Ok(true),
        Some(TextOrNumber::Number(other)) => Err(D::Error::custom(format!("the message model {other} is unknown"))),
        Some(TextOrNumber::Text(other)) => Err(D::Error::custom(format!("the message model {other:?} is unknown"))),
    }
}

fn begins_first<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(match Option::<TextOrNumber>::deserialize(deserializer)? {
        None => false,
        Some(TextOrNumber::Number(number)) => number == 4,
        Some(TextOrNumber::Text(text)) => text == "CONSUME_FROM_FIRST_OFFSET",
    })
}

fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    match Option::<TextOrNumber>::deserialize(deserializer)? {
        None => Ok(0),
        Some(TextOrNumber::Number(number)) => Ok(number),
        Some(TextOrNumber::Text(text)) => text.parse().map_err(|_| D::Error::custom(format!("{text:?} is no number"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heartbeats_of_java_and_cpp_mean_the_same() {
        let java = r#"{"clientID":"c@1","consumerDataSet":[{"consumeFromWhere":"CONSUME_FROM_LAST_OFFSET","consumeType":"CONSUME_PASSIVELY","groupName":"g","messageModel":"CLUSTERING","subscriptionDataSet":[{"classFilterMode":false,"codeSet":[2598919,2598920],"expressionType":"TAG","subString":"TagA || TagB","subVersion":1795887311444,"tagsSet":["TagA","TagB"],"topic":"T"}],"unitMode":false}],"heartbeatFingerprint":0,"producerDataSet":[{"groupName":"pg"}],"withoutSub":false}"#;
        let cpp = r#"{"clientID":"c@1","consumerDataSet":[{"consumeFromWhere":0,"consumeType":1,"groupName":"g","messageModel":1,"subscriptionDataSet":[{"codeSet":["1"],"expressionType":null,"subString":"TagA || TagB","subVersion":"1795887311444","topic":"T"}]}],"producerDataSet":null}"#;
        let of = |text| serde_json::from_str::<HeartbeatData>(text).unwrap();
        let subscription = SubscriptionData {
            topic: "T".into(),
            expression: "TagA || TagB".into(),
            expression_type: "TAG".into(),
            version: 1_795_887_311_444,
        };
        let consumer = ConsumerData {
            group: "g".into(),
            is_broadcasting: false,
            begins_first: false,
            subscriptions: vec![subscription],
        };
        let producers = vec![ProducerData { group: "pg".into() }];
        let mut expected = HeartbeatData { client_id: "c@1".into(), consumers: vec![consumer], producers };
        assert_eq!(of(java), expected);
        expected.producers.clear();
        expected.consumers[0].subscriptions[0].expression_type.clear();
        assert_eq!(of(cpp), expected);
        assert_eq!(of(r#"{"clientID":"c","consumerDataSet":null}"#).consumers, []);
        for (from, begins_first) in
            [("4", true), ("\"CONSUME_FROM_FIRST_OFFSET\"", true), ("5", false), ("null", false)]
        {
            let text =
                format!(r#"{{"clientID":"c","consumerDataSet":[{{"groupName":"g","consumeFromWhere":{from}}}]}}"#);
            let beat = serde_json::from_str::<HeartbeatData>(&text).unwrap();
            assert_eq!(beat.consumers[0].begins_first, begins_first, "{from}");
        }
        let broadcasting = |model: &str| {
            let text = format!(r#"{{"clientID":"c","consumerDataSet":[{{"groupName":"g","messageModel":{model}}}]}}"#);
            serde_json::from_str::<HeartbeatData>(&text).map(|beat| beat.consumers[0].is_broadcasting).ok()
        };
        let answers = ["0", "\"BROADCASTING\"", "1", "null", "2", "\"x\"", "[]"].map(broadcasting);
        assert_eq!(answers, [Some(true), Some(true), Some(false), Some(false), None, None, None]);
    }

    #[test]
    fn fuzz_remoting_bodies_in_json() {
        use crate::proto::remoting::registration::Registration;
        let corpus = [
            r#"{"clientID":"c@1","consumerDataSet":[{"groupName":"g","messageModel":"CLUSTERING","consumeFromWhere":"CONSUME_FROM_FIRST_OFFSET","subscriptionDataSet":[{"topic":"t","subString":"*","expressionType":"TAG","subVersion":17}]}],"producerDataSet":[{"groupName":"p"}]}"#,
            r#"{"clientID":"c","consumerDataSet":[{"groupName":"g","messageModel":1,"consumeFromWhere":2}],"producerDataSet":null}"#,
            r#"{"topicConfigSerializeWrapper":{"dataVersion":{"counter":1},"topicConfigTable":{"t":{"topicName":"t","perm":6}}},"raftmq":{"cluster":"C","member":"n0"}}"#,
        ];
        odd_bytes::Fuzz::of("remoting_bodies_in_json", corpus).words(["null", "[]", "{}", "1e999", "\"\""]).run(
            |bytes| {
                let heartbeat = serde_json::from_slice::<HeartbeatData>(bytes);
                let report = serde_json::from_slice::<Registration>(bytes);
                match (heartbeat, report) {
                    (Ok(heartbeat), _) => Ok(format!("{} consumers", heartbeat.consumers.len())),
                    (_, Ok(report)) => Ok(format!("report {}", report.raftmq.is_some())),
                    (Err(error), Err(_)) => Err(error.to_string()),
                }
            },
        );
    }
}

//! Names of topics and groups in requests.

use crate::edge::rules::{Invalid, InvalidKind};
use crate::model::{GroupName, TopicName};

pub fn topic(text: &str) -> Result<TopicName, Invalid> {
    TopicName::parse(text).map_err(|error| Invalid::new(InvalidKind::TopicName, error.to_string()))
}

pub fn group(text: &str) -> Result<GroupName, Invalid> {
    GroupName::parse(text).map_err(|error| Invalid::new(InvalidKind::GroupName, error.to_string()))
}

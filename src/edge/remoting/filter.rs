//! What a subscription wants, by its type and its text.

use crate::edge::remoting::codes::Refused;
use crate::edge::rules;
use crate::model::Filter;
use crate::proto::remoting::ResponseCode;

/// The filter, and whether it is a condition in SQL.
pub(super) fn parse(expression_type: &str, expression: &str) -> Result<(Filter, bool), Refused> {
    match expression_type {
        "" | "TAG" => Ok((rules::consume::tag_filter(expression)?, false)),
        "SQL92" => Ok((rules::consume::sql_filter(expression)?, true)),
        other => {
            let text = format!("the expression type {other:?} is neither TAG nor SQL92");
            Err(Refused::new(ResponseCode::SubscriptionParseFailed, text))
        }
    }
}

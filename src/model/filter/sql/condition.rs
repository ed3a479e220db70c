//! A condition, and whether it is TRUE, FALSE or unknown for a message.

use crate::model::filter::sql::number::Number;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Value(Value),
    Property(String),
    Not(Box<Node>),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    Compare(Box<Node>, Relation, Box<Node>),
    IsNull(Box<Node>),
    Between(Box<Node>, Box<Node>, Box<Node>),
    In(Box<Node>, Vec<String>),
    Text(Box<Node>, TextTest, String),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Bool(bool),
    Number(Number),
    Text(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relation {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TextTest {
    Contains,
    StartsWith,
    EndsWith,
}

pub(super) type Lookup<'p, 'a> = &'p dyn Fn(&str) -> Option<&'a str>;

/// A value while it is evaluated.
#[derive(Clone, Copy)]
enum Found<'v> {
    Bool(bool),
    Number(Number),
    Text(&'v str),
}

fn value<'v>(node: &'v Node, property: Lookup<'_, 'v>) -> Option<Found<'v>> {
    Some(match node {
        Node::Value(Value::Bool(value)) => Found::Bool(*value),
        Node::Value(Value::Number(value)) => Found::Number(*value),
        Node::Value(Value::Text(value)) => Found::Text(value),
        Node::Property(name) => Found::Text(property(name)?),
        other => Found::Bool(truth(other, property)?),
    })
}

pub(super) fn truth<'v>(node: &'v Node, property: Lookup<'_, 'v>) -> Option<bool> {
    match node {
        Node::Not(inner) => truth(inner, property).map(|value| !value),
        Node::And(left, right) => match (truth(left, property), truth(right, property)) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (Some(true), Some(true)) => Some(true),
            _ => None,
        },
        Node::Or(left, right) => match (truth(left, property), truth(right, property)) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (Some(false), Some(false)) => Some(false),
            _ => None,
        },
        Node::Compare(left, relation, right) => compare(value(left, property)?, *relation, value(right, property)?),
        Node::IsNull(inner) => Some(value(inner, property).is_none()),
        Node::Between(inner, low, high) => {
            let (inner, low, high) = (value(inner, property)?, value(low, property)?, value(high, property)?);
            let above = compare(inner, Relation::GreaterOrEqual, low)?;
            Some(above && compare(inner, Relation::LessOrEqual, high)?)
        }
        Node::In(inner, texts) => match value(inner, property)? {
            Found::Text(text) => Some(texts.iter().any(|one| one == text)),
            Found::Bool(_) | Found::Number(_) => None,
        },
        Node::Text(inner, test, part) => match value(inner, property)? {
            Found::Text(text) => Some(match test {
                TextTest::Contains => text.contains(part.as_str()),
                TextTest::StartsWith => text.starts_with(part.as_str()),
                TextTest::EndsWith => text.ends_with(part.as_str()),
            }),
            Found::Bool(_) | Found::Number(_) => None,
        },
        Node::Value(_) | Node::Property(_) => as_bool(value(node, property)?),
    }
}

fn as_bool(found: Found<'_>) -> Option<bool> {
    match found {
        Found::Bool(value) => Some(value),
        Found::Text(text) if text.eq_ignore_ascii_case("true") => Some(true),
        Found::Text(text) if text.eq_ignore_ascii_case("false") => Some(false),
        Found::Text(_) | Found::Number(_) => None,
    }
}

fn as_number(found: Found<'_>) -> Option<Number> {
    match found {
        Found::Number(value) => Some(value),
        Found::Text(text) => Number::read(text.trim()),
        Found::Bool(_) => None,
    }
}

fn compare(left: Found<'_>, relation: Relation, right: Found<'_>) -> Option<bool> {
    let ordering = match (left, right) {
        (Found::Bool(_), _) | (_, Found::Bool(_)) => as_bool(left)?.partial_cmp(&as_bool(right)?)?,
        (Found::Number(_), _) | (_, Found::Number(_)) => as_number(left)?.compare(as_number(right)?)?,
        // Two texts are equal or not; which is larger is for numbers.
        (Found::Text(left), Found::Text(right)) => match relation {
            Relation::Equal | Relation::NotEqual => left.cmp(right),
            _ => as_number(Found::Text(left))?.compare(as_number(Found::Text(right))?)?,
        },
    };
    Some(match relation {
        Relation::Equal => ordering.is_eq(),
        Relation::NotEqual => ordering.is_ne(),
        Relation::Less => ordering.is_lt(),
        Relation::LessOrEqual => ordering.is_le(),
        Relation::Greater => ordering.is_gt(),
        Relation::GreaterOrEqual => ordering.is_ge(),
    })
}

//! From tokens to a condition, within bounds of depth and size.

use crate::model::filter::sql::condition::{Node, Relation, TextTest, Value};
use crate::model::filter::sql::number::Number;
use crate::model::filter::sql::tokens::{Token, shown};
use crate::model::filter::sql::wrong::Wrong;

/// Deepest nesting.
pub(super) const DEPTH_MAX: usize = 64;
/// Most operators and values.
pub(super) const NODES_MAX: usize = 1024;

/// What becomes of a number in a condition that does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TooLarge {
    Refused,
    Rounded,
}

pub(super) struct Parser {
    tokens: Vec<(usize, Token)>,
    next: usize,
    depth: usize,
    nodes: usize,
    end: usize,
    too_large: TooLarge,
}

impl Parser {
    /// Of a text of so many bytes.
    pub(super) fn new(tokens: Vec<(usize, Token)>, end: usize, too_large: TooLarge) -> Self {
        Self { tokens, next: 0, depth: 0, nodes: 0, end, too_large }
    }

    pub(super) fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next).map(|(_, token)| token)
    }

    pub(super) fn error(&self, what: impl Into<String>) -> Wrong {
        Wrong { what: what.into(), at: self.tokens.get(self.next).map_or(self.end, |(at, _)| *at) }
    }

    fn sign(&mut self, wanted: &str) -> bool {
        let is_it = matches!(self.peek(), Some(Token::Sign(sign)) if *sign == wanted);
        self.next += usize::from(is_it);
        is_it
    }

    fn word(&mut self, wanted: &str) -> bool {
        let is_it = matches!(self.peek(), Some(Token::Word(word)) if word.eq_ignore_ascii_case(wanted));
        self.next += usize::from(is_it);
        is_it
    }

    fn expect(&mut self, sign: &str) -> Result<(), Wrong> {
        if self.sign(sign) { Ok(()) } else { Err(self.error(format!("'{sign}' is missing"))) }
    }

    fn node(&mut self, node: Node) -> Result<Node, Wrong> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(self.error(format!("more than {NODES_MAX} operators and values")));
        }
        Ok(node)
    }

    fn deeper<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T, Wrong>) -> Result<T, Wrong> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.error(format!("nested deeper than {DEPTH_MAX}")));
        }
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    pub(super) fn or(&mut self) -> Result<Node, Wrong> {
        let mut left = self.and()?;
        while self.word("or") {
            let right = self.and()?;
            left = self.node(Node::Or(Box::new(left), Box::new(right)))?;
        }
        Ok(left)
    }

    fn and(&mut self) -> Result<Node, Wrong> {
        let mut left = self.not()?;
        while self.word("and") {
            let right = self.not()?;
            left = self.node(Node::And(Box::new(left), Box::new(right)))?;
        }
        Ok(left)
    }

    fn not(&mut self) -> Result<Node, Wrong> {
        if self.word("not") {
            let inner = self.deeper(Self::not)?;
            return self.node(Node::Not(Box::new(inner)));
        }
        self.predicate()
    }

    fn predicate(&mut self) -> Result<Node, Wrong> {
        let left = self.operand()?;
        if self.word("is") {
            let is_not = self.word("not");
            if !self.word("null") {
                return Err(self.error("NULL is missing"));
            }
            return self.negated(is_not, Node::IsNull(Box::new(left)));
        }
        let is_not = self.word("not");
        if self.word("between") {
            let low = self.number_or_property()?;
            if !self.word("and") {
                return Err(self.error("the AND of a BETWEEN is missing"));
            }
            let high = self.number_or_property()?;
            return self.negated(is_not, Node::Between(Box::new(left), Box::new(low), Box::new(high)));
        }
        if self.word("in") {
            self.expect("(")?;
            let mut texts = vec![self.text()?];
            while self.sign(",") {
                texts.push(self.text()?);
            }
            self.expect(")")?;
            self.nodes += texts.len();
            return self.negated(is_not, Node::In(Box::new(left), texts));
        }
        for (word, test) in
            [("contains", TextTest::Contains), ("startswith", TextTest::StartsWith), ("endswith", TextTest::EndsWith)]
        {
            if self.word(word) {
                let part = self.text()?;
                return self.negated(is_not, Node::Text(Box::new(left), test, part));
            }
        }
        if is_not {
            return Err(self.error("BETWEEN, IN, CONTAINS, STARTSWITH or ENDSWITH is missing after NOT"));
        }
        for (sign, relation) in [
            ("=", Relation::Equal),
            ("<>", Relation::NotEqual),
            ("<=", Relation::LessOrEqual),
            (">=", Relation::GreaterOrEqual),
            ("<", Relation::Less),
            (">", Relation::Greater),
        ] {
            if self.sign(sign) {
                let is_equality = matches!(relation, Relation::Equal | Relation::NotEqual);
                let right = if is_equality { self.operand()? } else { self.number_or_property()? };
                return self.node(Node::Compare(Box::new(left), relation, Box::new(right)));
            }
        }
        Ok(left)
    }

    fn negated(&mut self, is_not: bool, node: Node) -> Result<Node, Wrong> {
        let node = self.node(node)?;
        if is_not { self.node(Node::Not(Box::new(node))) } else { Ok(node) }
    }

    fn number_or_property(&mut self) -> Result<Node, Wrong> {
        match self.operand()? {
            Node::Value(Value::Text(text)) => {
                Err(self.error(format!("'{}' is a text; only numbers are larger or smaller", shown(&text))))
            }
            operand => Ok(operand),
        }
    }

    /// The value of the number that is the next token, with the sign before it.
    fn number(&self, text: &str) -> Result<Number, Wrong> {
        let Some(number) = Number::read(text) else { return Err(self.error(format!("'{text}' is not a number"))) };
        match number {
            _ if self.too_large == TooLarge::Rounded => Ok(number),
            Number::Decimal(_) if is_whole(text) => {
                let (least, most) = (i64::MIN, i64::MAX);
                Err(self.error(format!("'{text}' does not fit into 64 bits: whole numbers are {least} to {most}")))
            }
            Number::Decimal(value) if value.is_infinite() => Err(self.error(format!("'{text}' is too large"))),
            _ => Ok(number),
        }
    }

    fn text(&mut self) -> Result<String, Wrong> {
        match self.peek() {
            Some(Token::Text(text)) => {
                let text = text.clone();
                self.next += 1;
                Ok(text)
            }
            _ => Err(self.error("a text in single quotes is missing")),
        }
    }

    fn operand(&mut self) -> Result<Node, Wrong> {
        if self.sign("(") {
            let inner = self.deeper(Self::or)?;
            self.expect(")")?;
            return Ok(inner);
        }
        let sign = if self.sign("-") { Some("-") } else { self.sign("+").then_some("+") };
        let node = match (self.peek(), sign) {
            (Some(Token::Number(digits)), sign) => {
                let text = format!("{}{digits}", sign.unwrap_or_default());
                Node::Value(Value::Number(self.number(&text)?))
            }
            (Some(Token::Text(text)), None) => Node::Value(Value::Text(text.clone())),
            (Some(Token::Word(word)), None) if word.eq_ignore_ascii_case("true") => Node::Value(Value::Bool(true)),
            (Some(Token::Word(word)), None) if word.eq_ignore_ascii_case("false") => Node::Value(Value::Bool(false)),
            (Some(Token::Word(word)), None) if !is_reserved(word) => Node::Property(word.clone()),
            _ => return Err(self.error("a property, a number or a text is missing")),
        };
        self.next += 1;
        self.node(node)
    }
}

/// Whether a number is written as a whole one.
fn is_whole(text: &str) -> bool {
    text.trim_start_matches(['-', '+']).bytes().all(|byte| byte.is_ascii_digit())
}

fn is_reserved(word: &str) -> bool {
    ["and", "or", "not", "is", "null", "between", "in", "contains", "startswith", "endswith"]
        .iter()
        .any(|reserved| word.eq_ignore_ascii_case(reserved))
}

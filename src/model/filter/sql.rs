//! The SQL92 filter of a subscription: a condition over a message's user properties.
//!
//! * Source: contract §13.5, contract §26, and RocketMQ's grammar: `AND`, `OR`, `NOT`, `=`, `<>`, `<`, `<=`, `>`, `>=`,
//!   `[NOT] BETWEEN … AND …`, `[NOT] IN (…)`, `IS [NOT] NULL`, `[NOT] CONTAINS|STARTSWITH|ENDSWITH`, texts in single quotes,
//!   numbers, `TRUE`, `FALSE`. `TAGS` is the message's tag.
//! * A property that is missing is NULL, and a comparison with NULL is NULL: only TRUE matches.
//! * Properties are texts. Compared with a number or a truth value they are read as one, and are NULL if they are none.
//! * Whole numbers have 64 bits and compare exactly, also with decimals; decimals are 64-bit floating-point numbers
//!   (RocketMQ: `long` and `double`).
//!
//! Bounded by `DEPTH_MAX` and `NODES_MAX`; the caller bounds the text.

use std::cmp::Ordering;
use std::fmt;
use std::iter::Peekable;
use std::str::CharIndices;

/// Deepest nesting.
const DEPTH_MAX: usize = 64;
/// Most operators and values.
const NODES_MAX: usize = 1024;

/// Why a text is no condition, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at character {character}: {what}")]
pub struct SqlError {
    what: String,
    /// Counted from 1, as an editor shows it.
    character: usize,
}

/// The same while the text is read.
struct Wrong {
    what: String,
    /// Bytes before it.
    at: usize,
}

impl Wrong {
    fn in_text(self, text: &str) -> SqlError {
        let before = text.get(..self.at).unwrap_or(text);
        SqlError { what: self.what, character: before.chars().count() + 1 }
    }
}

/// A compiled condition.
#[derive(Debug, Clone, PartialEq)]
pub struct SqlFilter(Node);

#[derive(Debug, Clone, PartialEq)]
enum Node {
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
enum Value {
    Bool(bool),
    Number(Number),
    Text(String),
}

/// A number of a condition or of a property.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Number {
    /// Written without a fraction, and within 64 bits.
    Whole(i64),
    Decimal(f64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TextTest {
    Contains,
    StartsWith,
    EndsWith,
}

/// What becomes of a number in a condition that does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TooLarge {
    Refused,
    Rounded,
}

impl SqlFilter {
    /// Compiles a condition.
    pub fn parse(text: &str) -> Result<Self, SqlError> {
        Self::compile(text, TooLarge::Refused)
    }

    /// Compiles a condition that was checked when it was stored, maybe by an older build, which took any number.
    pub fn parse_stored(text: &str) -> Result<Self, SqlError> {
        Self::compile(text, TooLarge::Rounded)
    }

    fn compile(text: &str, too_large: TooLarge) -> Result<Self, SqlError> {
        let compile = || {
            let tokens = tokens(text)?;
            let mut parser = Parser { tokens, next: 0, depth: 0, nodes: 0, end: text.len(), too_large };
            let node = parser.or()?;
            match parser.peek() {
                None => Ok(Self(node)),
                Some(token) => Err(parser.error(not_expected(token))),
            }
        };
        compile().map_err(|wrong: Wrong| wrong.in_text(text))
    }

    /// Whether the condition is TRUE for a message with these properties.
    pub fn matches<'a>(&'a self, property: &dyn Fn(&str) -> Option<&'a str>) -> bool {
        truth(&self.0, property) == Some(true)
    }
}

type Lookup<'p, 'a> = &'p dyn Fn(&str) -> Option<&'a str>;

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

fn truth<'v>(node: &'v Node, property: Lookup<'_, 'v>) -> Option<bool> {
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

impl Number {
    /// A number beyond 64 bits becomes a decimal, which is rounded and still on the right side of every whole number.
    fn read(text: &str) -> Option<Self> {
        match whole(text) {
            Some(value) => Some(Self::Whole(value)),
            None => text.parse().ok().map(Self::Decimal),
        }
    }

    /// `None` if one of them is not a number (NaN).
    fn compare(self, other: Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Whole(left), Self::Whole(right)) => Some(left.cmp(&right)),
            (Self::Decimal(left), Self::Decimal(right)) => left.partial_cmp(&right),
            (Self::Whole(left), Self::Decimal(right)) => compare_mixed(left, right),
            (Self::Decimal(left), Self::Whole(right)) => compare_mixed(right, left).map(Ordering::reverse),
        }
    }
}

/// A whole number of 64 bits, also one that is written with zeros after the point.
fn whole(text: &str) -> Option<i64> {
    let digits = match text.split_once('.') {
        Some((digits, fraction)) if fraction.bytes().all(|byte| byte == b'0') => digits,
        Some(_) => return None,
        None => text,
    };
    digits.parse().ok()
}

/// Compares exactly: as decimals, whole numbers of more than 53 bits would be rounded to their neighbours.
fn compare_mixed(whole: i64, decimal: f64) -> Option<Ordering> {
    /// 2^63, the first whole number that is no i64.
    const END: f64 = 9_223_372_036_854_775_808.0;
    if decimal.is_nan() {
        return None;
    }
    if decimal >= END {
        return Some(Ordering::Less);
    }
    if decimal < -END {
        return Some(Ordering::Greater);
    }
    let floor = decimal.floor();
    // Within the bounds of an i64. Where the whole parts are equal, a fraction makes the decimal the larger one.
    let fraction = if decimal > floor { Ordering::Less } else { Ordering::Equal };
    Some(whole.cmp(&(floor as i64)).then(fraction))
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

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word(String),
    Text(String),
    /// Its digits; a sign before them is a token of its own.
    Number(String),
    Sign(&'static str),
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(text) | Self::Number(text) => write!(f, "'{text}'"),
            Self::Sign(sign) => write!(f, "'{sign}'"),
            Self::Text(text) => write!(f, "the text '{text}'"),
        }
    }
}

fn tokens(text: &str) -> Result<Vec<(usize, Token)>, Wrong> {
    let mut tokens = Vec::new();
    let mut chars = text.char_indices().peekable();
    while let Some((at, first)) = chars.next() {
        let token = match first {
            _ if first.is_whitespace() => continue,
            '\'' => Token::Text(quoted(&mut chars, at)?),
            '(' => Token::Sign("("),
            ')' => Token::Sign(")"),
            ',' => Token::Sign(","),
            '=' => Token::Sign("="),
            '<' if next_is(&mut chars, '>') => Token::Sign("<>"),
            '<' if next_is(&mut chars, '=') => Token::Sign("<="),
            '<' => Token::Sign("<"),
            '>' if next_is(&mut chars, '=') => Token::Sign(">="),
            '>' => Token::Sign(">"),
            '-' => Token::Sign("-"),
            '+' => Token::Sign("+"),
            _ if first.is_ascii_digit() || first == '.' => Token::Number(number(text, &mut chars, at)?),
            _ if first.is_alphabetic() || first == '_' || first == '$' => {
                let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | '.');
                let mut end = at + first.len_utf8();
                while let Some((_, c)) = chars.next_if(|(_, c)| is_part(*c)) {
                    end += c.len_utf8();
                }
                Token::Word(text[at..end].to_owned())
            }
            _ => return Err(Wrong { what: means_nothing(first, chars.peek().map(|(_, next)| *next)), at }),
        };
        tokens.push((at, token));
    }
    Ok(tokens)
}

/// What to write instead of a character that other dialects know, or that only looks like one of these.
fn means_nothing(character: char, next: Option<char>) -> String {
    let instead = match (character, next) {
        ('!', Some('=')) => return "'!=' means nothing: write '<>'".to_owned(),
        ('&', Some('&')) => return "'&&' means nothing: write AND".to_owned(),
        ('|', Some('|')) => return "'||' means nothing: write OR".to_owned(),
        ('!', _) => "write NOT",
        ('"' | '`' | '‘' | '’' | '“' | '”' | '＇', _) => {
            "texts are in single quotes ('x'), and names of properties in none"
        }
        ('（', _) => "write '('",
        ('）', _) => "write ')'",
        ('，', _) => "write ','",
        ('＝', _) => "write '='",
        ('＜', _) => "write '<'",
        ('＞', _) => "write '>'",
        ('*' | '/' | '%', _) => NO_ARITHMETIC,
        _ => return format!("'{}' means nothing", character.escape_debug()),
    };
    format!("'{character}' means nothing: {instead}")
}

const NO_ARITHMETIC: &str = "there is no arithmetic, only comparisons of properties and values";

/// What to say of a token that comes after a whole condition.
fn not_expected(token: &Token) -> String {
    let hint = match token {
        Token::Sign("+" | "-") => NO_ARITHMETIC,
        Token::Sign(")") => "no '(' is open",
        Token::Word(word) if ["like", "rlike", "regexp"].iter().any(|other| word.eq_ignore_ascii_case(other)) => {
            "write CONTAINS, STARTSWITH or ENDSWITH"
        }
        _ => "conditions are joined by AND or OR",
    };
    format!("{token} is not expected: {hint}")
}

fn next_is(chars: &mut Peekable<CharIndices<'_>>, wanted: char) -> bool {
    chars.next_if(|(_, c)| *c == wanted).is_some()
}

/// A text whose opening quote has been read; a quote inside is written twice.
fn quoted(chars: &mut Peekable<CharIndices<'_>>, at: usize) -> Result<String, Wrong> {
    let mut text = String::new();
    while let Some((_, c)) = chars.next() {
        if c != '\'' {
            text.push(c);
        } else if next_is(chars, '\'') {
            text.push('\'');
        } else {
            return Ok(text);
        }
    }
    Err(Wrong { what: "a text that does not end".to_owned(), at })
}

fn number(text: &str, chars: &mut Peekable<CharIndices<'_>>, at: usize) -> Result<String, Wrong> {
    let mut end = at + 1;
    let mut last = ' ';
    while let Some((_, c)) = chars.next_if(|(_, c)| {
        c.is_ascii_alphanumeric() || *c == '.' || (matches!(c, '+' | '-') && matches!(last, 'e' | 'E'))
    }) {
        last = c;
        end += 1;
    }
    // Java's suffix of a long.
    let digits = text[at..end].trim_end_matches(['l', 'L']);
    match digits.parse::<f64>() {
        Ok(_) => Ok(digits.to_owned()),
        Err(_) => Err(Wrong { what: format!("'{}' is not a number", &text[at..end]), at }),
    }
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    next: usize,
    depth: usize,
    nodes: usize,
    end: usize,
    too_large: TooLarge,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next).map(|(_, token)| token)
    }

    fn error(&self, what: impl Into<String>) -> Wrong {
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

    fn or(&mut self) -> Result<Node, Wrong> {
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
                Err(self.error(format!("'{text}' is a text; only numbers are larger or smaller")))
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(text: &str) -> bool {
        let property = |name: &str| match name {
            "a" => Some("5"),
            "b" => Some("hello"),
            "yes" => Some("true"),
            "quote" => Some("it's"),
            "TAGS" => Some("TagA"),
            _ => None,
        };
        SqlFilter::parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).matches(&property)
    }

    #[test]
    fn conditions_match_as_rocketmq_has_them() {
        for text in [
            "a = 5",
            "a=5.0 AND b = 'hello'",
            "a > 4 and a >= 5 and a < 6 and a <= 5 and a <> 6",
            "a BETWEEN 1 AND 5",
            "a NOT BETWEEN 6 AND 9",
            "b IN ('x', 'hello')",
            "b not in ('x')",
            "missing IS NULL",
            "a IS NOT NULL",
            "NOT (a = 6)",
            "a = 6 OR b = 'hello'",
            "a = 6 OR a = 7 OR (b = 'hello' AND NOT a = 1)",
            "yes = TRUE",
            "yes",
            "TRUE",
            "b CONTAINS 'ell'",
            "b STARTSWITH 'he' AND b ENDSWITH 'lo' AND b NOT CONTAINS 'x'",
            "quote = 'it''s'",
            "a > -1 AND a > +1 AND a < 1e3 AND a = 5L",
            "TAGS is not null and TAGS in ('TagA', 'TagB')",
            "missing = 'x' OR a = 5",
        ] {
            assert!(matches(text), "{text}");
        }
    }

    #[test]
    fn what_is_missing_or_no_number_is_null_and_null_never_matches() {
        for text in [
            "missing = 'x'",
            "missing <> 'x'",
            "NOT (missing = 'x')",
            "missing > 1",
            "missing BETWEEN 1 AND 2",
            "missing NOT IN ('x')",
            "b > 1",
            "b = 5",
            "NOT b = 5",
            "missing = 'x' AND a = 5",
            "b",
            "a",
            "FALSE",
            "B = 'hello'",
        ] {
            assert!(!matches(text), "{text}");
        }
    }

    #[test]
    fn what_is_no_condition_says_where() {
        for (text, what) in [
            ("", "at character 1: a property, a number or a text is missing"),
            ("a = ", "at character 5: a property, a number or a text is missing"),
            ("a = 'x", "at character 5: a text that does not end"),
            ("a > 'x'", "only numbers are larger or smaller"),
            ("a IN (1)", "at character 7: a text in single quotes is missing"),
            ("a BETWEEN 1", "the AND of a BETWEEN is missing"),
            ("(a = 1", "at character 7: ')' is missing"),
            ("a = 1 b", "at character 7: 'b' is not expected: conditions are joined by AND or OR"),
            ("a = 'x' 'y z'", "at character 9: the text 'y z' is not expected: conditions are joined by AND or OR"),
            ("a != 1", "at character 3: '!=' means nothing: write '<>'"),
            ("a LIKE 'x'", "at character 3: 'LIKE' is not expected: write CONTAINS, STARTSWITH or ENDSWITH"),
            ("a-b = 1", "'-' is not expected: there is no arithmetic, only comparisons of properties and values"),
            ("a * 2 = 1", "'*' means nothing: there is no arithmetic"),
            ("地区 = '华东' AND ) b", "at character 15: a property, a number or a text is missing"),
            ("地区 = '华东') b", "at character 10: ')' is not expected: no '(' is open"),
            ("地区 ＝ '华东'", "at character 4: '＝' means nothing: write '='"),
            (
                "a = \"x\"",
                "at character 5: '\"' means nothing: texts are in single quotes ('x'), and names of properties in none",
            ),
            ("a = 1 && b = 2", "at character 7: '&&' means nothing: write AND"),
            ("a = 1 || b = 2", "'||' means nothing: write OR"),
            ("a \u{7}", "at character 3: '\\u{7}' means nothing"),
            ("a ; b", "at character 3: ';' means nothing"),
            ("a = 1x2", "'1x2' is not a number"),
            ("and = 1", "a property, a number or a text is missing"),
            (
                "a = 9223372036854775808",
                "at character 5: '9223372036854775808' does not fit into 64 bits: whole numbers are -9223372036854775808 to \
                 9223372036854775807",
            ),
            ("a > -9223372036854775809", "'-9223372036854775809' does not fit into 64 bits"),
            ("a BETWEEN 1 AND 99999999999999999999L", "'99999999999999999999' does not fit into 64 bits"),
            ("a < 1e999", "at character 5: '1e999' is too large"),
        ] {
            let error = SqlFilter::parse(text).unwrap_err().to_string();
            assert!(error.contains(what), "{text}: {error}");
        }
    }

    #[test]
    fn depth_and_length_are_bounded() {
        let deep = format!("{}a = 1{}", "(".repeat(DEPTH_MAX + 1), ")".repeat(DEPTH_MAX + 1));
        assert!(SqlFilter::parse(&deep).unwrap_err().to_string().contains("nested deeper than 64"));
        let nots = format!("{}a", "NOT ".repeat(DEPTH_MAX + 1));
        assert!(SqlFilter::parse(&nots).is_err());
        let long = vec!["a"; NODES_MAX].join(" OR ");
        assert!(SqlFilter::parse(&long).unwrap_err().to_string().contains("more than 1024"));
        assert!(SqlFilter::parse(&vec!["a"; 500].join(" OR ")).is_ok());
    }

    /// Whether the condition is TRUE for these values of `a` and `b`.
    fn matches_with(condition: &str, a: &str, b: &str) -> bool {
        let property = |name: &str| match name {
            "a" => Some(a),
            "b" => Some(b),
            _ => None,
        };
        SqlFilter::parse(condition).unwrap_or_else(|error| panic!("{condition}: {error}")).matches(&property)
    }

    #[test]
    fn whole_numbers_of_64_bits_are_not_rounded() {
        for (condition, value, expected) in [
            ("a = 9007199254740993", "9007199254740993", true),
            ("a = 9007199254740993", "9007199254740992", false),
            ("a = 9007199254740993", "9007199254740993.0", true),
            ("a <> 9007199254740993", "9007199254740992", true),
            ("a = 1234567890123456789", "1234567890123456788", false),
            ("a = 1234567890123456789L", "1234567890123456789", true),
            ("a > 9223372036854775806", "9223372036854775807", true),
            ("a >= -9223372036854775808", "-9223372036854775808", true),
            ("a < -9223372036854775807", "-9223372036854775808", true),
            ("a BETWEEN 9007199254740993 AND 9007199254740993", "9007199254740992", false),
            // Beyond 64 bits a property is still a number.
            ("a > 9223372036854775807", "9223372036854775808", true),
            ("a < -9223372036854775808", "-99999999999999999999", true),
            ("a = 9223372036854775807", "9223372036854775808", false),
            // Whole numbers with decimals.
            ("a > 4503599627370495.5", "4503599627370496", true),
            ("a < 2251799813685248.5", "2251799813685248", true),
            ("a = 9007199254740992e0", "9007199254740993", false),
            ("a > -0.5 AND a < 0.5 AND a = -0.0", "0", true),
            ("a < 1e300 AND a > -1e300", "9223372036854775807", true),
            ("a = 5", "+5", true),
            ("a = 5", "NaN", false),
        ] {
            assert_eq!(matches_with(condition, value, "x"), expected, "{condition} for {value}");
        }
    }

    #[test]
    fn a_stored_condition_of_an_older_build_still_compiles() {
        let condition = "a < 99999999999999999999 AND a < 1e999";
        assert!(SqlFilter::parse(condition).is_err());
        let one = |name: &str| (name == "a").then_some("1");
        assert!(SqlFilter::parse_stored(condition).unwrap().matches(&one));
    }

    /// A number in quarters, and as it is written.
    type Quarters = (i128, String);

    fn a_whole_number() -> impl Strategy<Value = Quarters> {
        let near = |middle: i64| (-3..=3i64).prop_map(move |by| middle.saturating_add(by));
        let two_to_53 = 1i64 << 53;
        prop_oneof![any::<i64>(), near(0), near(two_to_53), near(-two_to_53), near(i64::MAX), near(i64::MIN)]
            .prop_map(|value| (i128::from(value) * 4, value.to_string()))
    }

    /// Small enough for a decimal to be exact.
    fn a_decimal() -> impl Strategy<Value = Quarters> {
        let limit = 1i64 << 52;
        prop_oneof![-limit..=limit, -9..=9i64, limit - 9..=limit, -limit..=9 - limit].prop_map(|quarters| {
            let (sign, size) = (if quarters < 0 { "-" } else { "" }, quarters.unsigned_abs());
            (i128::from(quarters), format!("{sign}{}.{:02}", size / 4, size % 4 * 25))
        })
    }

    fn a_number() -> impl Strategy<Value = Quarters> {
        prop_oneof![a_whole_number(), a_decimal()]
    }

    proptest! {
        #[test]
        fn numbers_compare_as_in_exact_arithmetic(
            (left, a) in a_number(),
            (right, b) in a_number(),
            (low, from) in a_number(),
        ) {
            let relations = [
                ("=", left == right),
                ("<>", left != right),
                ("<", left < right),
                ("<=", left <= right),
                (">", left > right),
                (">=", left >= right),
            ];
            for (sign, expected) in relations {
                prop_assert_eq!(matches_with(&format!("a {sign} {b}"), &a, &b), expected, "'{}' {} {}", a, sign, b);
                prop_assert_eq!(matches_with(&format!("{a} {sign} b"), &a, &b), expected, "{} {} '{}'", a, sign, b);
                // Two properties are equal as texts.
                let is_order = !matches!(sign, "=" | "<>");
                prop_assert!(!is_order || matches_with(&format!("a {sign} b"), &a, &b) == expected, "{a} {sign} {b}");
            }
            let between = matches_with(&format!("a BETWEEN {from} AND {b}"), &a, &b);
            prop_assert_eq!(between, low <= left && left <= right, "{} between {} and {}", a, from, b);
        }
    }
}

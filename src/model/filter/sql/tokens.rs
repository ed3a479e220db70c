//! The words, signs, texts and numbers of a condition, each with where it begins.

use std::fmt;
use std::iter::Peekable;
use std::str::CharIndices;

use crate::model::filter::sql::wrong::Wrong;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
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
            Self::Text(text) => write!(f, "the text '{}'", shown(text)),
        }
    }
}

/// A text of a condition as it is shown: control characters by their codes, which a terminal would obey.
pub(super) fn shown(text: &str) -> String {
    let shown = |letter: char| if letter.is_control() { letter.escape_debug().to_string() } else { letter.to_string() };
    text.chars().map(shown).collect()
}

pub(super) fn tokens(text: &str) -> Result<Vec<(usize, Token)>, Wrong> {
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
pub(super) fn not_expected(token: &Token) -> String {
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

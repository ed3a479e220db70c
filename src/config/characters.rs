//! Characters that look like others, or like nothing: files copied from web pages and typed with Chinese keyboards have
//! them, and nobody sees why they are refused unless they are named.

use std::fmt::Write as _;

/// Longest value that a complaint repeats, in characters.
const SHOWN_MAX: usize = 100;
const BYTE_ORDER_MARK: char = '\u{feff}';

/// What a character is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sight {
    /// It is seen as what it is.
    Plain,
    /// It looks like a blank, and counts as one.
    Blank,
    /// Nobody sees it.
    Invisible,
}

fn sight(letter: char) -> Sight {
    match letter {
        '\t' | '\u{c}' | ' ' => Sight::Plain,
        '\u{ad}'
        | '\u{34f}'
        | '\u{61c}'
        | '\u{115f}'
        | '\u{1160}'
        | '\u{17b4}'
        | '\u{17b5}'
        | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}'
        | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e0fff}' => Sight::Invisible,
        _ if letter.is_control() => Sight::Invisible,
        // The braille blank is no white space to Unicode, but it is to the eye.
        '\u{2800}' => Sight::Blank,
        _ if letter.is_whitespace() => Sight::Blank,
        _ => Sight::Plain,
    }
}

/// How a character is written in complaints: itself where it can be seen, and its code point.
pub(super) fn named(letter: char) -> String {
    let code = format!("U+{:04X}", u32::from(letter));
    match (letter, sight(letter)) {
        ('\u{a0}' | '\u{202f}', _) => format!("a no-break space ({code})"),
        ('\u{3000}', _) => format!("a full-width space ({code})"),
        ('\u{200b}', _) => format!("a zero-width space ({code})"),
        (BYTE_ORDER_MARK, _) => format!("a byte order mark ({code})"),
        (_, Sight::Blank) => format!("an unusual space ({code})"),
        (_, Sight::Invisible) => format!("an invisible character ({code})"),
        (_, Sight::Plain) if letter.is_control() => format!("a control character ({code})"),
        (_, Sight::Plain) => format!("'{letter}' ({code})"),
    }
}

/// A name or value as complaints repeat it: one line, not too long, with everything in it to be seen.
pub(super) fn shown(text: &str) -> String {
    let mut shown = String::new();
    for letter in text.chars().take(SHOWN_MAX) {
        match sight(letter) {
            Sight::Plain if letter != '\t' && letter != '\u{c}' => shown.push(letter),
            _ => shown.extend(letter.escape_unicode()),
        }
    }
    let count = text.chars().count();
    if count > SHOWN_MAX {
        // Writing to a string does not fail.
        let _ = write!(shown, "… ({count} characters)");
    }
    shown
}

/// A setting as complaints repeat it; a secret stays one.
pub(super) fn setting(key: &str, value: &str) -> String {
    let value = if key.ends_with("Password") { "***".to_owned() } else { shown(value) };
    format!("{}={value}", shown(key))
}

/// A text without what cannot be seen. Blanks of other kinds are blanks, and where they were is noted.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Cleaned {
    pub text: String,
    /// Line and column, from 1, of each character that was taken as a blank.
    pub blanks: Vec<(usize, usize, char)>,
    /// The same of each that cannot be seen and was left out.
    pub invisible: Vec<(usize, usize, char)>,
    /// A line at the very end says that it goes on.
    pub ends_open: Option<usize>,
}

impl Cleaned {
    fn push(&mut self, line: usize, text: &str) {
        for (at, letter) in text.chars().enumerate() {
            match sight(letter) {
                Sight::Plain => self.text.push(letter),
                Sight::Blank => {
                    self.text.push(' ');
                    self.blanks.push((line, at + 1, letter));
                }
                Sight::Invisible => self.invisible.push((line, at + 1, letter)),
            }
        }
    }
}

/// Cleans the settings of a property file; its comments may hold anything.
pub(super) fn clean_file(text: &str) -> Cleaned {
    // Some editors begin every file with it.
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut cleaned = Cleaned::default();
    let mut goes_on = false;
    for (line, text) in (1..).zip(text.split('\n')) {
        if line > 1 {
            cleaned.text.push('\n');
        }
        if !goes_on && text.trim_start().starts_with(['#', '!']) {
            cleaned.text.push_str(text.trim_start());
            continue;
        }
        cleaned.push(line, text);
        let backslashes = cleaned.text.len() - cleaned.text.trim_end_matches('\\').len();
        goes_on = !backslashes.is_multiple_of(2);
        cleaned.ends_open = goes_on.then_some(line);
    }
    cleaned
}

/// Cleans a value that is no part of a file.
pub(super) fn clean_value(text: &str) -> Cleaned {
    let mut cleaned = Cleaned::default();
    cleaned.push(1, text);
    cleaned
}

/// What is wrong with the characters of a value, if anything; `is_ascii` if nothing else can be meant.
pub(super) fn fault(value: &str, is_ascii: bool) -> Option<String> {
    let find =
        |wanted: fn(char) -> bool| value.chars().position(wanted).zip(value.chars().find(|letter| wanted(*letter)));
    if let Some((at, letter)) = find(|letter| letter.is_control() && letter != '\t') {
        return Some(format!("has {} as character {}; remove it", named(letter), at + 1));
    }
    let (first, last) = (value.chars().next()?, value.chars().next_back()?);
    let is_in_quotes = value.len() > 1 && first == last && ['"', '\''].contains(&first);
    let quote = [(first, 1), (last, value.chars().count())].into_iter().find(|(letter, _)| is_typographic(*letter));
    if let Some((letter, at)) = quote.or(is_in_quotes.then_some((first, 1))) {
        return Some(format!("has {} as character {at}; a value stands without quotes", named(letter)));
    }
    let (at, letter) = find(|letter| !letter.is_ascii()).filter(|_| is_ascii)?;
    let remedy = match look_alike(letter) {
        Some(meant) => format!("write '{meant}'"),
        None => "only ASCII characters can be meant here".to_owned(),
    };
    Some(format!("has {} as character {}; {remedy}", named(letter), at + 1))
}

/// What is wrong with the characters of a key, all of which are ASCII.
pub(super) fn fault_of_key(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("there is no key before the '='; write KEY=VALUE".to_owned());
    }
    let at = name.chars().position(|letter| !letter.is_ascii())?;
    let letter = name.chars().nth(at)?;
    let remedy = match look_alike(letter) {
        Some(meant) => format!("write '{meant}'"),
        None if is_typographic(letter) => "a key stands without quotes".to_owned(),
        None => "no key has it".to_owned(),
    };
    Some(format!("key '{}' has {} as character {}; {remedy}", shown(name), named(letter), at + 1))
}

fn is_typographic(letter: char) -> bool {
    matches!(letter, '\u{2018}'..='\u{201f}' | '\u{2039}' | '\u{203a}' | '«' | '»' | '\u{300c}'..='\u{300f}' | '＂' | '＇')
}

/// The ASCII character that one is easily taken for.
fn look_alike(letter: char) -> Option<char> {
    match letter {
        '＂' | '＇' => None,
        // The full-width forms have ASCII's order.
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(letter) - 0xfee0),
        '\u{37e}' | '\u{fe54}' => Some(';'),
        '\u{3001}' | '\u{fe50}' | '\u{fe51}' | '\u{ff64}' | '\u{60c}' => Some(','),
        '\u{61b}' => Some(';'),
        '\u{2236}' | '\u{a789}' | '\u{fe55}' | '\u{fe13}' => Some(':'),
        '\u{3002}' | '\u{ff61}' | '\u{fe52}' | '\u{2024}' => Some('.'),
        '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{fe58}' | '\u{fe63}' => Some('-'),
        '\u{2215}' | '\u{2044}' => Some('/'),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_of_other_kinds_are_blanks_and_what_nobody_sees_is_named_by_place() {
        let cleaned =
            clean_file("\u{feff}# a\u{200b}\u{a0}\na\u{a0}=\u{3000}b\n\u{a0}# c\nd=e\u{200b}f\r\ng=\u{feff}h");
        assert_eq!(cleaned.text, "# a\u{200b}\u{a0}\na = b\n# c\nd=ef\ng=h");
        assert_eq!(cleaned.blanks, [(2, 2, '\u{a0}'), (2, 4, '\u{3000}')]);
        assert_eq!(cleaned.invisible, [(4, 4, '\u{200b}'), (5, 3, '\u{feff}')]);
    }

    #[test]
    fn a_line_that_goes_on_is_no_comment_and_may_not_be_the_last() {
        let cleaned = clean_file("a=b\\\n#\u{200b}c\nd=e\\");
        assert_eq!((cleaned.text.as_str(), cleaned.ends_open), ("a=b\\\n#c\nd=e\\", Some(3)));
        assert_eq!(clean_file("a=b\\\n").ends_open, None);
        assert_eq!(clean_file("a=b\\\\").ends_open, None);
    }

    #[test]
    fn look_alikes_quotes_and_control_characters_are_named() {
        let found = |value: &str| fault(value, true).unwrap_or_default();
        assert_eq!(found("a；b"), "has '；' (U+FF1B) as character 2; write ';'");
        assert_eq!(found("a，b"), "has '，' (U+FF0C) as character 2; write ','");
        assert_eq!(found("４"), "has '４' (U+FF14) as character 1; write '4'");
        assert_eq!(found("n0–h"), "has '–' (U+2013) as character 3; write '-'");
        assert_eq!(found("节点"), "has '节' (U+8282) as character 1; only ASCII characters can be meant here");
        assert_eq!(found("“a”"), "has '“' (U+201C) as character 1; a value stands without quotes");
        assert_eq!(found("a”"), "has '”' (U+201D) as character 2; a value stands without quotes");
        assert_eq!(found("\"a\""), "has '\"' (U+0022) as character 1; a value stands without quotes");
        assert_eq!(found("a\0"), "has an invisible character (U+0000) as character 2; remove it");
        assert_eq!(found("a b;c"), "");
        assert_eq!(fault("/data/节点’s", false), None);
        assert_eq!(fault("", true), None);
    }

    #[test]
    fn what_is_shown_is_one_short_line() {
        assert_eq!(shown("a\u{200b}\nb"), "a\\u{200b}\\u{a}b");
        assert_eq!(shown(&"x".repeat(10_000)), format!("{}… (10000 characters)", "x".repeat(100)));
    }
}

//! Names and headers: words that have a better one, headers of files and folders, work that was meant to be finished.

use super::tokens::{Token, module_of};

/// Words that have a better one in docs/words.md; they may not be part of a name we define.
pub const BANNED: [&str; 32] = [
    "aside",
    "bell",
    "bells",
    "buried",
    "bury",
    "ground",
    "heard",
    "helper",
    "helpers",
    "hot",
    "intake",
    "journal",
    "lane",
    "lazy",
    "manager",
    "managers",
    "mended",
    "outlet",
    "partition",
    "partitions",
    "pieces",
    "plant",
    "reign",
    "rung",
    "subscriber",
    "subscribers",
    "told",
    "ttl",
    "util",
    "utils",
    "visibility",
    "wal",
];

/// Keywords after which a name is defined.
const DEFINERS: [&str; 10] = ["fn", "struct", "enum", "union", "trait", "type", "mod", "const", "static", "let"];

/// Splits `RocksManager2` and `rocks_manager` into lower-case words.
pub fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut previous_is_lower = false;
    for letter in name.chars() {
        if letter == '_' || (letter.is_uppercase() && previous_is_lower) {
            words.push(String::new());
        }
        if letter.is_alphabetic() {
            words.last_mut().unwrap().extend(letter.to_lowercase());
        }
        previous_is_lower = letter.is_lowercase();
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Names that the file defines with a word that has a better one.
pub fn name_faults(path: &str, tokens: &[Token]) -> Vec<String> {
    let mut faults = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let Token::Word(definer) = token else { continue };
        if !DEFINERS.contains(&definer.as_str()) {
            continue;
        }
        let skipped = usize::from(tokens.get(at + 1) == Some(&Token::Word("mut".into())));
        let Some(Token::Word(name)) = tokens.get(at + 1 + skipped) else { continue };
        if let Some(word) = words(name).iter().find(|word| BANNED.contains(&word.as_str())) {
            faults.push(format!("{path}: `{definer} {name}` uses the word \"{word}\"; docs/words.md has a better one"));
        }
    }
    let file_words = module_of(path).iter().flat_map(|part| words(part)).collect::<Vec<_>>();
    if let Some(word) = file_words.iter().find(|word| BANNED.contains(&word.as_str())) {
        faults.push(format!("{path}: the file name uses the word \"{word}\"; docs/words.md has a better one"));
    }
    faults
}

/// The header line, and work that was meant to be finished.
pub fn text_faults(path: &str, source: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let header = source.lines().next().unwrap_or_default();
    if !header.starts_with("//!") || header.trim_start_matches("//!").trim().is_empty() {
        faults.push(format!("{path}: the first line must be a `//!` header that says what the file is"));
    }
    if source.contains("FIXME") {
        faults.push(format!("{path}: holds a FIXME"));
    }
    faults
}

/// Folders without a `mod.rs`, which is where the header of a folder is.
pub fn folder_faults<'a>(paths: impl Iterator<Item = &'a String> + Clone) -> Vec<String> {
    let mut folders: Vec<&str> =
        paths.clone().filter_map(|path| path.rsplit_once('/')).map(|(folder, _)| folder).collect();
    folders.sort_unstable();
    folders.dedup();
    folders.retain(|folder| !paths.clone().any(|path| *path == format!("{folder}/mod.rs")));
    folders.into_iter().map(|folder| format!("{folder}/: has no mod.rs with the folder's header")).collect()
}

/// What stands in a `mod.rs` beside its text and its list.
pub fn list_faults(path: &str, tokens: &[Token]) -> Vec<String> {
    if !path.ends_with("/mod.rs") {
        return Vec::new();
    }
    let definers = ["fn", "struct", "enum", "trait", "impl", "const", "static", "type", "macro_rules"];
    let found = tokens.iter().find_map(|token| match token {
        Token::Word(word) if definers.contains(&word.as_str()) => Some(word),
        _ => None,
    });
    found
        .map(|word| format!("{path}: holds a `{word}`; a mod.rs is the folder's text and its list"))
        .into_iter()
        .collect()
}

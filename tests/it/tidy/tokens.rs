//! A source file as tokens, and the paths that it names.
//!
//! Sources are read by syn, so comments and strings never count, and macro bodies do.

use syn::buffer::{Cursor, TokenBuffer};

/// One token of a source file; literals and lifetimes are `Other`.
#[derive(Debug, Clone, PartialEq)]
pub enum Token {
    Word(String),
    Punct(char),
    Open,
    Close,
    Other,
}

/// Splits a source file into tokens, groups included.
pub fn tokens(source: &str) -> Result<Vec<Token>, String> {
    let buffer = TokenBuffer::new2(source.parse().map_err(|error| format!("cannot be read as Rust: {error}"))?);
    let mut found = Vec::new();
    flatten(buffer.begin(), &mut found);
    Ok(found)
}

pub fn flatten(mut cursor: Cursor, found: &mut Vec<Token>) {
    while !cursor.eof() {
        cursor = if let Some((inside, _, _, next)) = cursor.any_group() {
            found.push(Token::Open);
            flatten(inside, found);
            found.push(Token::Close);
            next
        } else if let Some((word, next)) = cursor.ident() {
            found.push(Token::Word(word.to_string().trim_start_matches("r#").to_string()));
            next
        } else if let Some((punct, next)) = cursor.punct() {
            found.push(Token::Punct(punct.as_char()));
            next
        } else {
            found.push(Token::Other);
            let Some((_, next)) = cursor.token_tree() else { return };
            next
        };
    }
}

/// True when a `::` starts at `at`.
pub fn is_path_separator(tokens: &[Token], at: usize) -> bool {
    tokens.get(at) == Some(&Token::Punct(':')) && tokens.get(at + 1) == Some(&Token::Punct(':'))
}

/// The modules of a file, from its path below `src/`: `raft/log/mod.rs` is `[raft, log]`.
pub fn module_of(path: &str) -> Vec<String> {
    let mut module: Vec<String> = path.trim_end_matches(".rs").split('/').map(str::to_string).collect();
    if module.last().is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str())) {
        module.pop();
    }
    module
}

/// Every path from the crate's root that the file names, by `crate::` or by enough `super::`.
pub fn imports(path: &str, tokens: &[Token]) -> Vec<Vec<String>> {
    let mut module = module_of(path);
    let mut found = Vec::new();
    let mut depth = 0;
    // Depths at which inline modules began, so that `super` in them is counted from the right place.
    let mut inline = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at] {
            Token::Open => depth += 1,
            Token::Close => {
                depth -= 1;
                if inline.last() == Some(&depth) {
                    inline.pop();
                    module.pop();
                }
            }
            Token::Word(word) if word == "mod" => {
                if let (Some(Token::Word(name)), Some(Token::Open)) = (tokens.get(at + 1), tokens.get(at + 2)) {
                    inline.push(depth);
                    module.push(name.clone());
                }
            }
            Token::Word(word) if (word == "crate" || word == "super") && is_path_separator(tokens, at + 1) => {
                let mut base = if word == "crate" { Vec::new() } else { module.clone() };
                while matches!(&tokens[at], Token::Word(word) if word == "super") && is_path_separator(tokens, at + 1) {
                    base.pop();
                    at += 3;
                }
                if word == "crate" {
                    at += 3;
                }
                leaves(tokens, at, &base, &mut found);
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// Adds the paths that begin at `at`, one for each branch of a `{…}` group.
pub fn leaves(tokens: &[Token], mut at: usize, base: &[String], found: &mut Vec<Vec<String>>) -> usize {
    let mut path = base.to_vec();
    loop {
        match tokens.get(at) {
            Some(Token::Word(word)) => {
                if word != "self" {
                    path.push(word.clone());
                }
                if !is_path_separator(tokens, at + 1) {
                    found.push(path);
                    return at + 1;
                }
                at += 3;
            }
            Some(Token::Open) => {
                at += 1;
                while !matches!(tokens.get(at), Some(Token::Close) | None) {
                    at = match tokens[at] {
                        Token::Word(_) | Token::Open => leaves(tokens, at, &path, found),
                        _ => at + 1,
                    };
                    // `as name` renames; it is not a path.
                    if tokens.get(at) == Some(&Token::Word("as".into())) {
                        at += 2;
                    }
                }
                return at + 1;
            }
            _ => {
                // A star, a turbofish, or a macro's own pattern: what came before is what is named.
                found.push(path);
                return at + 1;
            }
        }
    }
}

/// The tokens without `#[cfg(test)] mod tests { … }`: what is imported only for tests makes no circle.
pub fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let is_tests = matches!(&tokens[at], Token::Word(word) if word == "mod")
            && matches!(tokens.get(at + 1), Some(Token::Word(name)) if name.ends_with("tests"))
            && tokens.get(at + 2) == Some(&Token::Open);
        if is_tests {
            at += 2;
            let mut depth = 0;
            loop {
                match tokens.get(at) {
                    Some(Token::Open) => depth += 1,
                    Some(Token::Close) => depth -= 1,
                    _ => {}
                }
                at += 1;
                if depth == 0 || at >= tokens.len() {
                    break;
                }
            }
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

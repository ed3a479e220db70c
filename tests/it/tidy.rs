//! House rules that the compiler does not know: layers, words and file headers of `src/`.
//!
//! Sources are read as tokens (by syn), so comments and strings never count, and macro bodies do.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use syn::buffer::{Cursor, TokenBuffer};

/// Who may import what: a folder of `src/` and the paths below `crate` that it may name.
///
/// A new arrow is a design change: say why in the commit.
const LAYERS: [(&str, &[&str]); 18] = [
    ("cli", &["bench", "drill", "server", "namesrv", "client", "config", "env", "model", "logging", "proto"]),
    ("server", &["edge", "node", "raft", "config", "env", "model", "proto"]),
    ("edge", &["node", "broker", "model", "config", "proto", "metrics"]),
    ("node", &["broker", "raft", "machine", "store", "config", "env", "model"]),
    ("broker", &["raft", "machine", "store::kv", "namesrv::reporter", "env", "model", "metrics"]),
    ("raft", &["machine", "store", "env", "model", "metrics"]),
    ("machine", &["store::kv", "model"]),
    ("store", &["env", "model", "metrics"]),
    ("bench", &["client", "env", "model", "proto"]),
    ("drill", &["client", "env", "model", "proto"]),
    ("namesrv", &["env", "config", "model", "proto"]),
    ("client", &["model", "proto"]),
    ("config", &["model"]),
    ("env", &["model"]),
    ("metrics", &["model"]),
    ("logging", &["model"]),
    ("proto", &["model"]),
    ("model", &[]),
];

/// Words that have a better one in docs/words.md; they may not be part of a name we define.
const BANNED: [&str; 14] = [
    "manager",
    "managers",
    "helper",
    "helpers",
    "util",
    "utils",
    "partition",
    "partitions",
    "wal",
    "journal",
    "ttl",
    "subscriber",
    "subscribers",
    "visibility",
];

/// Keywords after which a name is defined.
const DEFINERS: [&str; 10] = ["fn", "struct", "enum", "union", "trait", "type", "mod", "const", "static", "let"];

/// One token of a source file; literals and lifetimes are `Other`.
#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word(String),
    Punct(char),
    Open,
    Close,
    Other,
}

/// Splits a source file into tokens, groups included.
fn tokens(source: &str) -> Result<Vec<Token>, String> {
    let buffer = TokenBuffer::new2(source.parse().map_err(|error| format!("cannot be read as Rust: {error}"))?);
    let mut found = Vec::new();
    flatten(buffer.begin(), &mut found);
    Ok(found)
}

fn flatten(mut cursor: Cursor, found: &mut Vec<Token>) {
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
fn is_path_separator(tokens: &[Token], at: usize) -> bool {
    tokens.get(at) == Some(&Token::Punct(':')) && tokens.get(at + 1) == Some(&Token::Punct(':'))
}

/// The modules of a file, from its path below `src/`: `raft/log/mod.rs` is `[raft, log]`.
fn module_of(path: &str) -> Vec<String> {
    let mut module: Vec<String> = path.trim_end_matches(".rs").split('/').map(str::to_string).collect();
    if module.last().is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str())) {
        module.pop();
    }
    module
}

/// Every path from the crate's root that the file names, by `crate::` or by enough `super::`.
fn imports(path: &str, tokens: &[Token]) -> Vec<Vec<String>> {
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
fn leaves(tokens: &[Token], mut at: usize, base: &[String], found: &mut Vec<Vec<String>>) -> usize {
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

/// Imports against the layer table, and libraries outside the folder that owns them.
fn layer_faults(path: &str, tokens: &[Token]) -> Vec<String> {
    let mut faults = Vec::new();
    for library in tokens.iter().filter_map(|token| if let Token::Word(word) = token { Some(word) } else { None }) {
        if (library == "openraft" || library.starts_with("openraft_")) && !path.starts_with("raft/") {
            faults.push(format!("{path}: names {library}, which only raft/ may"));
        }
        if library == "rocksdb" && path != "store/kv/rocks.rs" {
            faults.push(format!("{path}: names rocksdb, which only store/kv/rocks.rs may"));
        }
    }
    let module = module_of(path);
    // `lib.rs` and `main.rs` put the layers together.
    let Some(folder) = module.first() else { return faults };
    let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| name == folder) else {
        faults.push(format!("{path}: folder {folder} is not in the layer table of tests/it/tidy.rs"));
        return faults;
    };
    let speaks_to_peers = folder == "raft" && module.iter().any(|part| part == "peer");
    for import in imports(path, tokens) {
        let Some(target) = import.first() else { continue };
        // Items at the root, such as a macro, belong to no layer.
        if target == folder || !LAYERS.iter().any(|(name, _)| name == target) {
            continue;
        }
        let whole = import.join("::");
        let is_allowed = |prefix: &&str| whole == **prefix || whole.starts_with(&format!("{prefix}::"));
        if !(allowed.iter().any(is_allowed) || speaks_to_peers && target == "proto") {
            faults.push(format!("{path}: {folder} may not import crate::{whole}"));
        }
    }
    faults
}

/// Splits `RocksManager2` and `rocks_manager` into lower-case words.
fn words(name: &str) -> Vec<String> {
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
fn name_faults(path: &str, tokens: &[Token]) -> Vec<String> {
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
fn text_faults(path: &str, source: &str) -> Vec<String> {
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
fn folder_faults<'a>(paths: impl Iterator<Item = &'a String> + Clone) -> Vec<String> {
    let mut folders: Vec<&str> =
        paths.clone().filter_map(|path| path.rsplit_once('/')).map(|(folder, _)| folder).collect();
    folders.sort_unstable();
    folders.dedup();
    folders.retain(|folder| !paths.clone().any(|path| *path == format!("{folder}/mod.rs")));
    folders.into_iter().map(|folder| format!("{folder}/: has no mod.rs with the folder's header")).collect()
}

/// All faults of a set of files, by path below `src/`.
fn faults(files: &BTreeMap<String, String>) -> Vec<String> {
    let mut faults = folder_faults(files.keys());
    for (path, source) in files {
        faults.extend(text_faults(path, source));
        match tokens(source) {
            Ok(tokens) => {
                faults.extend(layer_faults(path, &tokens));
                faults.extend(name_faults(path, &tokens));
            }
            Err(error) => faults.push(format!("{path}: {error}")),
        }
    }
    faults
}

/// Reads every hand-written source file below `folder` into `files`.
fn read_sources(src: &Path, folder: &Path, files: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(src).unwrap().to_str().unwrap().to_string();
        if path.is_dir() {
            if name != "proto/generated" {
                read_sources(src, &path, files);
            }
        } else if name.ends_with(".rs") {
            files.insert(name, fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn sources_keep_the_house_rules() {
    let src = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = BTreeMap::new();
    read_sources(&src, &src, &mut files);
    assert!(files.len() > 5, "only {} files found: the reader is broken", files.len());
    let faults = faults(&files);
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

/// Faults of one file in an otherwise tidy tree.
fn faults_of(path: &str, body: &str) -> Vec<String> {
    let mut files = BTreeMap::from([(path.to_string(), format!("//! A planted file.\n{body}"))]);
    if let Some((folder, _)) = path.rsplit_once('/') {
        files.entry(format!("{folder}/mod.rs")).or_insert("//! A folder.".into());
    }
    faults(&files)
}

#[test]
fn an_import_outside_the_layer_table_is_found() {
    for (path, body) in [
        ("edge/send.rs", "use crate::raft::Node;"),
        ("edge/send.rs", "use crate::{model::Topic, store::Log};"),
        ("machine/send.rs", "use crate::store::rocks::Rocks;"),
        ("machine/send.rs", "use crate::store::{kv::Kv, log::Log};"),
        ("machine/send.rs", "use crate::store;"),
        ("machine/send.rs", "fn f() { crate::broker::go(); }"),
        ("machine/send.rs", "fn f() { assert!(crate::env::now() > 0); }"),
        ("machine/send.rs", "use super::super::broker::Broker;"),
        ("machine/deep/send.rs", "use super::super::super::broker::Broker;"),
        ("machine/send.rs", "mod tests { use super::super::super::broker::Broker; }"),
        ("machine/mod.rs", "use super::broker::Broker;"),
        ("raft/node.rs", "use crate::proto::peer::Vote;"),
        ("broker/send.rs", "use crate::namesrv::table::Table;"),
        ("model/names.rs", "use crate::env::Clock;"),
        ("nowhere/file.rs", ""),
    ] {
        assert_eq!(faults_of(path, body).len(), if path.starts_with("nowhere") { 2 } else { 1 }, "{path}: {body}");
    }
}

#[test]
fn an_import_of_the_layer_table_passes() {
    for (path, body) in [
        ("machine/send.rs", "use crate::{model::{Topic as T, Name}, store::kv::{self, Kv}};"),
        ("machine/send.rs", "use crate::store::kv;"),
        ("machine/deep/send.rs", "use super::super::Stage;"),
        ("machine/send.rs", "mod tests { use super::*; use super::super::Stage; }"),
        ("machine/send.rs", "// use crate::broker::Broker;\npub(crate) const S: &str = \"crate::broker::Broker\";"),
        ("raft/peer/server.rs", "use crate::proto::peer::Vote; use openraft::Raft;"),
        ("broker/mod.rs", "use crate::namesrv::reporter::Reporter;"),
        ("store/kv/rocks.rs", "use rocksdb::DB;"),
        ("main.rs", "use raftmq::cli;"),
        ("lib.rs", "pub use crate::broker::Broker;"),
    ] {
        assert_eq!(faults_of(path, body), Vec::<String>::new(), "{path}: {body}");
    }
}

#[test]
fn a_library_outside_its_folder_is_found() {
    assert_eq!(faults_of("broker/mod.rs", "use openraft::Raft;").len(), 1);
    assert_eq!(faults_of("machine/mod.rs", "use openraft_macros::since;").len(), 1);
    assert_eq!(faults_of("store/log.rs", "fn f() { rocksdb::DB::open_default(p); }").len(), 1);
}

#[test]
fn a_banned_name_is_found_where_it_is_defined() {
    for body in [
        "struct TopicManager;",
        "enum Partition { A }",
        "fn flush_wal() {}",
        "mod utils {}",
        "fn f() { let mut ttl = 1; }",
        "const TTL: u32 = 1;",
    ] {
        assert_eq!(faults_of("model/x.rs", body).len(), 1, "{body}");
    }
    assert_eq!(faults_of("model/string_utils.rs", "").len(), 1);
    for body in ["use tracing_subscriber::fmt;", "fn walk() {}", "fn f() { x.partition_point(g); }", "// the wal"] {
        assert_eq!(faults_of("model/x.rs", body), Vec::<String>::new(), "{body}");
    }
}

#[test]
fn a_file_or_folder_without_header_is_found() {
    let of = |path: &str, source: &str| faults(&BTreeMap::from([(path.to_string(), source.to_string())]));
    assert_eq!(of("lib.rs", "pub mod model;").len(), 1);
    assert_eq!(of("lib.rs", "//!\npub mod model;").len(), 1);
    assert_eq!(of("model/mod.rs", "/// Words.\npub struct Word;").len(), 1);
    assert_eq!(of("model/names.rs", "//! Names.").len(), 1, "model/mod.rs is missing");
    assert!(of("model/mod.rs", "//! Words.").is_empty());
}

#[test]
fn unfinished_work_is_found() {
    assert_eq!(faults_of("model/x.rs", "// FIXME: later").len(), 1);
    assert_eq!(faults_of("model/x.rs", "fn broken( {").len(), 1, "not Rust at all");
}

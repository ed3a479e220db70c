//! Who may import whom: the table of layers, libraries that one folder owns, and circles of files.

use std::collections::{BTreeMap, BTreeSet};

use super::tokens::{Token, imports, is_path_separator, leaves, module_of, without_tests};

/// Who may import what: a folder of `src/` and the paths below `crate` that it may name.
///
/// A new arrow is a design change: say why in the commit.
pub const LAYERS: [(&str, &[&str]); 20] = [
    (
        "cli",
        &["backup", "bench", "drill", "server", "client", "config", "documents", "env", "model", "logging", "proto"],
    ),
    ("server", &["edge", "namesrv", "node", "raft", "config", "env", "model", "proto"]),
    ("edge", &["namesrv", "node", "broker", "documents", "env", "metrics", "model", "logging", "proto"]),
    ("namesrv", &["model", "proto"]),
    ("node", &["broker", "raft", "store", "config", "env", "model"]),
    ("broker", &["raft", "machine", "store::kv", "env", "model"]),
    ("raft", &["machine", "store", "env", "metrics", "model"]),
    ("machine", &["store::kv", "model"]),
    ("store", &["env", "metrics", "model"]),
    ("backup", &["raft", "store", "env", "model"]),
    ("bench", &["client", "env", "model", "proto"]),
    ("drill", &["client", "env", "proto"]),
    ("client", &["model", "proto"]),
    ("documents", &["proto"]),
    ("config", &["model"]),
    ("env", &["model"]),
    ("logging", &["env"]),
    ("metrics", &[]),
    ("proto", &[]),
    ("model", &[]),
];

/// A rule of one room inside a layer.
struct Room {
    folder: &'static str,
    never: &'static [&'static str],
    but: &'static [&'static str],
    why: &'static str,
}

const ROOMS: [Room; 3] = [
    Room { folder: "machine/state/", never: &["machine"], but: &["machine::state"], why: "state knows no command" },
    Room { folder: "machine/", never: &["store::kv::rocks"], but: &[], why: "the machine knows the trait only" },
    Room { folder: "edge/rules/", never: &["proto", "edge"], but: &["edge::rules"], why: "rules know no protocol" },
];

/// Imports against the layer table, and libraries outside the folder that owns them.
pub fn layer_faults(path: &str, tokens: &[Token]) -> Vec<String> {
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
    let speaks_to_peers = path.starts_with("raft/peer/");
    for room in &ROOMS {
        if path.starts_with(room.folder) {
            for import in imports(path, tokens) {
                let whole = import.join("::");
                let is_in = |prefix: &&str| whole == **prefix || whole.starts_with(&format!("{prefix}::"));
                // `pub(in crate::machine)` names the folder itself, which is no import.
                let is_folder = room.folder.starts_with(&format!("{whole}/"));
                if !is_folder && room.never.iter().any(is_in) && !room.but.iter().any(is_in) {
                    faults.push(format!("{path}: may not import crate::{whole}: {}", room.why));
                }
            }
        }
    }
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

/// Arrows of the table that no file uses: the table is the drawing, so it shows only what exists.
pub fn unused_arrows(files: &BTreeMap<String, Vec<Token>>) -> Vec<String> {
    let mut used = BTreeSet::new();
    for (path, tokens) in files {
        let Some(folder) = module_of(path).first().cloned() else { continue };
        for import in imports(path, tokens) {
            used.insert((folder.clone(), import.join("::")));
        }
    }
    let mut faults = Vec::new();
    for (folder, allowed) in LAYERS {
        for target in allowed {
            let is_it = |import: &str| import == *target || import.starts_with(&format!("{target}::"));
            if !used.iter().any(|(from, import)| from == folder && is_it(import)) {
                faults.push(format!("LAYERS: nothing in {folder}/ imports {target}"));
            }
        }
    }
    faults
}

/// The names that a `mod.rs` hands on: name to path.
fn handed_on(path: &str, tokens: &[Token]) -> BTreeMap<String, Vec<String>> {
    let module = module_of(path);
    let mut names = BTreeMap::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at] != Token::Word("use".into()) {
            at += 1;
            continue;
        }
        let mut found = Vec::new();
        let is_absolute = tokens.get(at + 1) == Some(&Token::Word("crate".into())) && is_path_separator(tokens, at + 2);
        let (start, base) = if is_absolute { (at + 4, Vec::new()) } else { (at + 1, module.clone()) };
        at = leaves(tokens, start, &base, &mut found).max(at + 1);
        for path in found {
            names.insert(path.last().cloned().unwrap_or_default(), path);
        }
    }
    names
}

/// The graph of files: who imports an item that stands in whom. A `mod.rs` only lists and hands on, so it is no part.
pub fn graph(files: &BTreeMap<String, Vec<Token>>) -> BTreeMap<String, BTreeSet<String>> {
    let by_module: BTreeMap<Vec<String>, &String> = files.keys().map(|path| (module_of(path), path)).collect();
    let handed: BTreeMap<&String, BTreeMap<String, Vec<String>>> =
        files.iter().filter(|(path, _)| is_list(path)).map(|(path, tokens)| (path, handed_on(path, tokens))).collect();
    let file_of = |import: &[String]| {
        let mut import = import.to_vec();
        for _ in 0..8 {
            let (length, path) =
                (0..=import.len()).rev().find_map(|length| Some((length, *by_module.get(&import[..length])?)))?;
            let Some(next) = handed.get(path).and_then(|names| names.get(import.get(length)?)) else {
                return Some(path.clone());
            };
            import = next.iter().chain(&import[length + 1..]).cloned().collect();
        }
        None
    };
    let mut graph = BTreeMap::new();
    for (path, tokens) in files.iter().filter(|(path, _)| !is_list(path) && !is_test(path)) {
        let targets: BTreeSet<String> = imports(path, &without_tests(tokens))
            .iter()
            .filter_map(|import| file_of(import))
            .filter(|target| target != path && !is_list(target) && !is_test(target))
            .collect();
        graph.insert(path.clone(), targets);
    }
    graph
}

fn is_list(path: &str) -> bool {
    path.ends_with("/mod.rs") || path == "lib.rs" || path == "main.rs"
}

fn is_test(path: &str) -> bool {
    path.ends_with("tests.rs") || path.ends_with("_test.rs") || path.ends_with("conformance.rs")
}

/// Files that import each other, directly or by way of others.
pub fn circles(files: &BTreeMap<String, Vec<Token>>) -> Vec<String> {
    let graph = graph(files);
    let reach = |from: &String| {
        let mut seen = BTreeSet::new();
        let mut open: Vec<&String> = graph[from].iter().collect();
        while let Some(next) = open.pop() {
            if seen.insert(next) {
                open.extend(graph.get(next).into_iter().flatten());
            }
        }
        seen
    };
    let reached: BTreeMap<&String, BTreeSet<&String>> = graph.keys().map(|path| (path, reach(path))).collect();
    let mut faults = Vec::new();
    for (path, targets) in &graph {
        for target in targets {
            if path < target && graph[target].contains(path) {
                faults.push(format!("{path} and {target} import each other"));
            } else if reached[target].contains(path) && !graph[target].contains(path) {
                faults.push(format!("{path} imports {target}, which by way of others imports it"));
            }
        }
    }
    faults
}

//! House rules that the compiler does not know: layers, circles, words, citations and the map of `src/`.

mod layers;
mod map;
mod references;
mod tokens;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use layers::{circles, layer_faults, unused_arrows};
use references::{Law, missing_guards};
use tokens::{Token, tokens};
use words::{folder_faults, list_faults, name_faults, text_faults};

/// All faults of a set of files, by path below `src/`.
fn faults(files: &BTreeMap<String, String>) -> Vec<String> {
    let mut faults = folder_faults(files.keys());
    for (path, source) in files {
        faults.extend(text_faults(path, source));
        match tokens(source) {
            Ok(tokens) => {
                faults.extend(layer_faults(path, &tokens));
                faults.extend(name_faults(path, &tokens));
                faults.extend(list_faults(path, &tokens));
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

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn text_of(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn sources() -> BTreeMap<String, String> {
    let src = root().join("src");
    let mut files = BTreeMap::new();
    read_sources(&src, &src, &mut files);
    assert!(files.len() > 5, "only {} files found: the reader is broken", files.len());
    files
}

fn none(faults: &[String]) {
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn sources_keep_the_house_rules() {
    none(&faults(&sources()));
}

#[test]
fn no_files_import_each_other_and_the_table_shows_only_arrows_that_exist() {
    let files: BTreeMap<String, Vec<Token>> =
        sources().iter().map(|(path, source)| (path.clone(), tokens(source).unwrap())).collect();
    let mut faults = circles(&files);
    faults.extend(unused_arrows(&files));
    none(&faults);
}

#[test]
fn what_the_code_cites_stands_in_the_repository() {
    let promises = text_of("docs/promises.md");
    let (contract, remoting) = (text_of("docs/wire-contract.md"), text_of("docs/remoting-contract.md"));
    let law = Law::read(&promises, &text_of("docs/decisions.md"), &contract, &remoting);
    let mut faults = Vec::new();
    let mut names = BTreeSet::new();
    for folder in ["src", "tests", "benches", "crates"] {
        let mut files = BTreeMap::new();
        read_sources(&root(), &root().join(folder), &mut files);
        for (path, source) in files {
            // This folder's own planted faults lead nowhere on purpose.
            if !path.starts_with("tests/it/tidy/") {
                faults.extend(law.faults(&path, &source));
            }
            names.extend(source.split("fn ").skip(1).map(|rest| {
                rest.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect::<String>()
            }));
        }
    }
    faults.extend(missing_guards(&promises, &names));
    none(&faults);
}

#[test]
fn the_architecture_names_only_what_is_there() {
    let map = text_of("ARCHITECTURE.md");
    assert!(map.split_whitespace().count() <= 1_800, "ARCHITECTURE.md is a map, not a book");
    let is_path = |code: &&str| {
        code.contains('/') && code.chars().all(|letter| letter.is_alphanumeric() || "_/.".contains(letter))
    };
    let exists = |path: &str| {
        ["", "src/", "tests/"]
            .iter()
            .any(|from| root().join(from).join(path).exists() || root().join(format!("{from}{path}.rs")).exists())
    };
    let gone: Vec<String> = map
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(is_path)
        .filter(|path| !exists(path))
        .map(|path| format!("ARCHITECTURE.md: {path}"))
        .collect();
    none(&gone);
    for folder in
        fs::read_dir(root().join("src")).unwrap().map(|entry| entry.unwrap()).filter(|entry| entry.path().is_dir())
    {
        let name = folder.file_name().into_string().unwrap();
        assert!(map.contains(&format!("`{name}`")), "ARCHITECTURE.md does not say what src/{name} is");
    }
}

#[test]
fn the_map_has_every_file_with_its_line() {
    let (path, wanted) = (root().join("docs/files.md"), map::files(&sources()));
    if std::env::var_os("UPDATE_MAP").is_some() {
        fs::write(&path, &wanted).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == wanted,
        "docs/files.md is not what the headers say; UPDATE_MAP=1 cargo test --test it tidy writes it"
    );
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
        ("machine/send.rs", "use crate::store::kv::rocks::Rocks;"),
        ("machine/state/lease.rs", "use crate::machine::send;"),
        ("edge/rules/topic.rs", "use crate::edge::grpc::codes;"),
        ("machine/send.rs", "use crate::store::{kv::Kv, log::Log};"),
        ("machine/send.rs", "use crate::store;"),
        ("machine/send.rs", "fn f() { crate::broker::go(); }"),
        ("machine/send.rs", "fn f() { assert!(crate::env::now() > 0); }"),
        ("machine/send.rs", "use super::super::broker::Broker;"),
        ("machine/deep/send.rs", "use super::super::super::broker::Broker;"),
        ("machine/send.rs", "mod tests { use super::super::super::broker::Broker; }"),
        ("machine/mod.rs", "use super::broker::Broker;"),
        ("raft/node.rs", "use crate::proto::peer::Vote;"),
        ("broker/send.rs", "use crate::node::Routes;"),
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
        ("broker/mod.rs", "use crate::store::kv::Kv;"),
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
        "fn put_aside() {}",
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
    assert_eq!(of("model/mod.rs", "/// Words.\nmod word;").len(), 1);
    assert_eq!(of("model/names.rs", "//! Names.").len(), 1, "model/mod.rs is missing");
    assert!(of("model/mod.rs", "//! Words.").is_empty());
}

#[test]
fn a_mod_rs_that_is_more_than_a_list_is_found() {
    assert_eq!(faults_of("model/mod.rs", "pub struct Word;").len(), 1);
    assert_eq!(faults_of("model/mod.rs", "mod a;\npub use a::Word;"), Vec::<String>::new());
}

/// The circles of a set of files, each with one line.
fn circles_of(files: &[(&str, &str)]) -> Vec<String> {
    circles(&files.iter().map(|(path, source)| (path.to_string(), tokens(source).unwrap())).collect())
}

#[test]
fn files_that_import_each_other_are_found() {
    let a = ("model/a.rs", "use crate::model::b::B; pub struct A;");
    assert_eq!(circles_of(&[a, ("model/b.rs", "use super::a::A; pub struct B;")]).len(), 1);
    let list = ("model/mod.rs", "mod a; mod b; pub use a::A;");
    assert_eq!(circles_of(&[list, a, ("model/b.rs", "use crate::model::A; pub struct B;")]).len(), 1, "by a mod.rs");
    let c = ("model/c.rs", "use crate::model::a; fn f() { a::A; }");
    assert_eq!(circles_of(&[a, ("model/b.rs", "use crate::model::c::f; pub struct B;"), c]).len(), 3, "of three");
    assert!(
        circles_of(&[a, ("model/b.rs", "pub struct B;\n#[cfg(test)] mod tests { use crate::model::a::A; }")])
            .is_empty()
    );
}

#[test]
fn unfinished_work_is_found() {
    assert_eq!(faults_of("model/x.rs", "// FIXME: later").len(), 1);
    assert_eq!(faults_of("model/x.rs", "fn broken( {").len(), 1, "not Rust at all");
}

//! What the pages are made of: files that are there, texts in both languages, nothing that reads text as HTML.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Where the pages are.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/edge/http/dashboard/ui")
}

/// Every file below a folder, by its path.
fn files(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                found.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    found
}

fn texts(files: &BTreeMap<String, String>, language: &str) -> BTreeMap<String, String> {
    serde_json::from_str(&files[&format!("texts/{language}.json")]).unwrap()
}

/// The texts in single quotes of a script: `t('page.topics')`.
fn quoted(script: &str) -> impl Iterator<Item = &str> {
    script.split('\'').skip(1)
}

/// Whether a word looks like the key of a text.
fn is_key(word: &str) -> bool {
    let parts: Vec<&str> = word.split('.').collect();
    parts.len() == 2
        && parts.iter().all(|part| !part.is_empty() && part.chars().all(|letter| letter.is_ascii_alphabetic()))
}

/// The names in braces of a text; what follows one are words for one and for many: `{lag|message|messages}`.
fn values(text: &str) -> BTreeSet<&str> {
    let braces = text.split('{').skip(1).filter_map(|rest| Some(rest.split_once('}')?.0));
    braces.map(|inside| inside.split('|').next().unwrap()).collect()
}

#[test]
fn every_text_is_there_in_both_languages_with_the_same_values_and_is_used() {
    let files = files(&folder());
    let (english, chinese) = (texts(&files, "en"), texts(&files, "zh"));
    let keys = |table: &BTreeMap<String, String>| table.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(keys(&english), keys(&chinese));
    for (key, text) in &english {
        assert!(!text.is_empty() && !chinese[key].is_empty(), "{key}");
        assert_eq!(values(text), values(&chinese[key]), "{key}");
    }
    let scripts = || files.iter().filter(|(name, _)| name.ends_with(".js"));
    let used: BTreeSet<&str> = scripts().flat_map(|(_, script)| quoted(script)).collect();
    let unused: Vec<&String> = english.keys().filter(|key| !used.contains(key.as_str())).collect();
    assert!(unused.is_empty(), "texts that no page shows: {unused:?}");
    let sections: BTreeSet<&str> = english.keys().filter_map(|key| Some(key.split_once('.')?.0)).collect();
    for (name, script) in scripts() {
        // What an action is called is no text.
        let is_action = |word: &str| script.contains(&format!("action: '{word}'"));
        let is_shown = |word: &&str| is_key(word) && sections.contains(word.split('.').next().unwrap());
        let missing: Vec<&str> =
            quoted(script).filter(is_shown).filter(|word| !is_action(word) && !english.contains_key(*word)).collect();
        assert!(missing.is_empty(), "{name} shows texts that there are not: {missing:?}");
    }
}

#[test]
fn nothing_of_a_message_can_become_part_of_the_page() {
    for (name, source) in files(&folder()) {
        for banned in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "DOMParser",
            "eval(",
            "new Function",
            " style=",
        ] {
            assert!(!source.contains(banned), "{name} has {banned}");
        }
        // Nothing comes from elsewhere, and nothing is written into the page that the policy would refuse.
        for (at, _) in source.match_indices("://") {
            let is_name_space = source[..at].ends_with("http") && source[at..].starts_with("://www.w3.org/2000/svg");
            assert!(is_name_space, "{name} names another host: {}", &source[at.saturating_sub(20)..at + 20]);
        }
    }
}

#[test]
fn every_file_is_served_and_every_import_exists() {
    let files = files(&folder());
    let served = fs::read_to_string(folder().join("../assets.rs")).unwrap();
    for (name, source) in &files {
        assert!(served.contains(&format!("\"{name}\":")), "assets.rs does not name {name}");
        let imports = source.lines().filter_map(|line| line.strip_prefix("import ")?.split('\'').nth(1));
        for import in imports {
            let base = Path::new(name).parent().unwrap().join(import);
            let mut parts: Vec<&str> = Vec::new();
            for part in base.to_str().unwrap().split('/') {
                match part {
                    "." | "" => {}
                    ".." => drop(parts.pop()),
                    other => parts.push(other),
                }
            }
            assert!(files.contains_key(&parts.join("/")), "{name} imports {import}");
        }
    }
}

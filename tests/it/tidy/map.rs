//! The map of the sources: docs/files.md has every file with the first sentence of its header.

use std::collections::BTreeMap;
use std::fmt::Write;

/// The text that docs/files.md must have.
pub fn files(sources: &BTreeMap<String, String>) -> String {
    let mut text = String::from(
        "# Files\n\nEvery source file with the first sentence of its header; `UPDATE_MAP=1 cargo test --test it tidy` writes it anew.\n\
         The folders and the way of a message through them: [ARCHITECTURE.md](../ARCHITECTURE.md).\n",
    );
    let mut folders: BTreeMap<&str, Vec<(&str, &String)>> = BTreeMap::new();
    for (path, source) in sources {
        let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
        folders.entry(folder).or_default().push((file, source));
    }
    for (folder, files) in folders {
        let name = if folder.is_empty() { "src".to_string() } else { format!("src/{folder}") };
        let of_folder = files.iter().find(|(file, _)| *file == "mod.rs").map(|(_, source)| sentence(source));
        writeln!(text, "\n## {name}\n").unwrap();
        if let Some(of_folder) = of_folder {
            writeln!(text, "{of_folder}\n").unwrap();
        }
        writeln!(text, "| file | is |\n|---|---|").unwrap();
        for (file, source) in files.into_iter().filter(|(file, _)| *file != "mod.rs") {
            writeln!(text, "| `{}` | {} |", file.trim_end_matches(".rs"), sentence(source)).unwrap();
        }
    }
    text
}

/// The first sentence of a header.
fn sentence(source: &str) -> String {
    let header: Vec<&str> = source
        .lines()
        .take_while(|line| line.starts_with("//!"))
        .map(|line| line.trim_start_matches("//!").trim())
        .collect();
    let paragraph = header.split(|line| line.is_empty()).next().unwrap_or_default().join(" ");
    let end = paragraph
        .match_indices(". ")
        .map(|(at, _)| at + 1)
        .find(|at| !is_short(&paragraph[..*at]))
        .unwrap_or(paragraph.len());
    paragraph[..end].replace('|', "\\|").replace("[`crate::", "[`").replace("[`", "`").replace("`]", "`")
}

/// An abbreviation ends no sentence.
fn is_short(text: &str) -> bool {
    ["e.g.", "i.e.", "vs."].iter().any(|short| text.ends_with(short))
}

#[test]
fn a_header_s_first_sentence_is_its_line() {
    let sources = BTreeMap::from([
        ("raft/mod.rs".to_string(), "//! Agreement. The rest.\n//!\n//! More.".to_string()),
        ("raft/replica.rs".to_string(), "//! One node's copy\n//! of a shard: its log. Hot path.".to_string()),
    ]);
    let text = files(&sources);
    assert!(text.ends_with("## src/raft\n\nAgreement.\n\n| file | is |\n|---|---|\n| `replica` | One node's copy of a shard: its log. |\n"), "{text}");
}

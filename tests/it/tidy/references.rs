//! Citations: every promise, decision and section that the code names stands in a document of the repository, and every
//! test that docs/promises.md names exists.

use std::collections::BTreeSet;

/// The documents that are cited.
pub struct Law {
    /// `P1`, from docs/promises.md.
    promises: BTreeSet<u32>,
    /// `D1`, from docs/decisions.md.
    decisions: BTreeSet<u32>,
    /// `§13.2`, from docs/wire-contract.md.
    sections: BTreeSet<String>,
    /// The same from docs/remoting-contract.md.
    remoting_sections: BTreeSet<String>,
}

/// Sources outside the repository that have sections of their own: published papers and RFCs.
const PUBLISHED: [&str; 3] = ["Raft", "Raft thesis", "RFC"];

impl Law {
    /// Reads the headings and first table cells of the four documents.
    pub fn read(promises: &str, decisions: &str, contract: &str, remoting: &str) -> Self {
        Self {
            promises: headings(promises, 'P'),
            decisions: headings(decisions, 'D'),
            sections: sections(contract),
            remoting_sections: sections(remoting),
        }
    }

    /// What a file cites that stands nowhere.
    pub fn faults(&self, path: &str, source: &str) -> Vec<String> {
        let mut faults = Vec::new();
        for (number, line) in (1..).zip(source.lines()) {
            let mut fault = |text: String| faults.push(format!("{path}:{number}: {text}"));
            if let Some(comment) = line.find("//").map(|at| &line[at..]) {
                for word in comment.split(|letter: char| !letter.is_alphanumeric() && letter != '_') {
                    match numbered(word) {
                        Some(('P', number)) if !self.promises.contains(&number) => {
                            fault(format!("P{number} is not in docs/promises.md"));
                        }
                        Some(('D', number)) if !self.decisions.contains(&number) => {
                            fault(format!("D{number} is not in docs/decisions.md"));
                        }
                        _ => {}
                    }
                }
                for outside in ["../shared", "design notes", "style guide", "reliability.md", "house.md"] {
                    if comment.contains(outside) {
                        fault(format!("\"{outside}\" leads out of the repository"));
                    }
                }
            }
            for (at, _) in line.match_indices('§') {
                let section: String = line[at + '§'.len_utf8()..]
                    .chars()
                    .take_while(|letter| letter.is_ascii_digit() || *letter == '.')
                    .collect();
                let section = section.trim_end_matches('.');
                let before = line[..at].trim_end();
                if before.to_lowercase().ends_with("contract") {
                    if !self.sections.contains(section) {
                        fault(format!("§{section} is not in docs/wire-contract.md"));
                    }
                } else if before.to_lowercase().ends_with("remoting") {
                    if !self.remoting_sections.contains(section) {
                        fault(format!("§{section} is not in docs/remoting-contract.md"));
                    }
                } else if !PUBLISHED.iter().any(|name| cites(before, name)) {
                    fault(format!("§{section} of what? \"contract §{section}\" is docs/wire-contract.md"));
                }
            }
        }
        faults
    }
}

/// The numbers of a document's headings.
fn sections(document: &str) -> BTreeSet<String> {
    let headings = document.lines().filter(|line| line.starts_with('#'));
    let numbers = headings.filter_map(|line| line.trim_start_matches('#').trim().strip_prefix('§'));
    let numbers = numbers.filter_map(|line| line.split_whitespace().next());
    numbers.map(|number| number.trim_end_matches('.').to_string()).collect()
}

/// Whether the text ends with a published source: `Raft`, `Raft thesis`, `RFC 9113`, or a further section of one.
fn cites(before: &str, name: &str) -> bool {
    let before = before.trim_end_matches([',', ' ']);
    let tail = before.rsplit(['(', ';', ':']).next().unwrap_or(before);
    tail.contains(name)
}

/// `P12` as its letter and its number.
fn numbered(word: &str) -> Option<(char, u32)> {
    let letter = word.chars().next().filter(|letter| matches!(letter, 'P' | 'D'))?;
    let digits = &word[1..];
    let is_number = !digits.is_empty() && digits.len() <= 2 && digits.chars().all(|digit| digit.is_ascii_digit());
    is_number.then(|| (letter, digits.parse().unwrap()))
}

/// The numbers that a document gives a heading or a table row of their own.
fn headings(document: &str, letter: char) -> BTreeSet<u32> {
    document
        .lines()
        .filter(|line| line.starts_with('#') || line.starts_with('|'))
        .filter_map(|line| {
            let first = line.trim_start_matches(['#', '|', ' ']);
            let word = first.split(|letter: char| !letter.is_alphanumeric()).next()?;
            numbered(word).filter(|(found, _)| *found == letter).map(|(_, number)| number)
        })
        .collect()
}

/// Tests that docs/promises.md names and that are not there; `names` are all functions of `src/` and `tests/`.
pub fn missing_guards(promises: &str, names: &BTreeSet<String>) -> Vec<String> {
    let mut faults = Vec::new();
    for code in promises.split('`').skip(1).step_by(2) {
        let Some((place, name)) = code.split_once(": ") else { continue };
        let is_guard = (place.starts_with("tests/") || place.starts_with("src/")) && !name.contains(['<', ' ', '.']);
        if is_guard && name != "f" && !names.contains(name) {
            faults.push(format!("docs/promises.md: there is no function {name}"));
        }
    }
    faults
}

#[test]
fn a_citation_that_leads_nowhere_is_found() {
    let law = Law::read(
        "## P1\n## P2 Title\n",
        "### D1 Title\n| D23 | text |\n",
        "## §4 Title\n### §4.1 Sub\n",
        "## §5 Title\n",
    );
    for good in [
        "// (P1, D1, D23)",
        "// contract §4.1",
        "// contract §4.",
        "// remoting §5",
        "// Raft §5.3",
        "// RFC 9113 §4.1, §5",
        "let P9 = 1;",
    ] {
        assert_eq!(law.faults("a.rs", good), Vec::<String>::new(), "{good}");
    }
    for bad in
        ["// (P3)", "// D2", "// contract §4.2", "// remoting §4", "// §4", "// see the style guide", "/// D24, P1"]
    {
        assert_eq!(law.faults("a.rs", bad).len(), 1, "{bad}");
    }
}

#[test]
fn a_guard_that_does_not_exist_is_found() {
    let names = BTreeSet::from(["p1_is_kept".to_string()]);
    assert_eq!(missing_guards("- `tests/it: p1_is_kept`, `tests/it: p1_is_gone`", &names).len(), 1);
}

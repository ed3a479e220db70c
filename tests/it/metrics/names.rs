//! The names of all metrics with their types and labels, as a file: boards and alerts of users depend on them.

use std::collections::{BTreeMap, BTreeSet};

use crate::fixture::http::ask;

const FILE: &str = "tests/it/metrics/names.txt";
/// Those of every metric, which are not repeated in the file.
const OF_ALL: [&str; 4] = ["cluster", "node_type", "node_id", "peer_id"];

/// What a node shows, as Prometheus asks for it.
pub fn scrape(address: &str) -> String {
    let accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
    let answer = ask(address, &request);
    assert_eq!(answer.code, 200, "{}", answer.body);
    assert!(answer.head.contains("application/openmetrics-text; version=1.0.0"), "{}", answer.head);
    assert!(answer.body.ends_with("# EOF\n"));
    answer.body
}

/// The value of the metric with these labels, or the sum of several; `None` without any.
pub fn sum(text: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let is_meant = |line: &&str| {
        line.split('{').next() == Some(name)
            && labels.iter().all(|(label, value)| line.contains(&format!("{label}=\"{value}\"")))
    };
    let values: Vec<f64> =
        text.lines().filter(is_meant).map(|line| line.rsplit_once(' ').unwrap().1.parse().unwrap()).collect();
    (!values.is_empty()).then(|| values.iter().sum())
}

/// One line for each family: name, type, labels.
fn families(text: &str) -> BTreeSet<String> {
    let mut types = BTreeMap::new();
    let mut labels: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in text.lines() {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            let (name, kind) = family.split_once(' ').unwrap();
            assert!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} is there twice");
        } else if !line.starts_with('#') {
            let (name, rest) = line.split_once('{').unwrap_or_else(|| panic!("without labels: {line}"));
            let suffixes = ["_total", "_bucket", "_sum", "_count", ""];
            let family = suffixes.iter().find_map(|suffix| {
                let family = name.strip_suffix(suffix)?;
                let is_it = match types.get(family)?.as_str() {
                    "counter" => *suffix == "_total",
                    "histogram" => suffix.len() > 1 && *suffix != "_total",
                    _ => suffix.is_empty(),
                };
                is_it.then_some(family)
            });
            let family = family.unwrap_or_else(|| panic!("no family of {line}"));
            let of_line = rest.split("=\"").filter_map(|part| part.rsplit([',', '{', '"']).next()).map(str::to_owned);
            let mut of_line: BTreeSet<String> = of_line.collect();
            of_line.retain(|label| label.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_'));
            of_line.remove("");
            for label in OF_ALL {
                assert!(of_line.remove(label), "{line} lacks {label}");
            }
            of_line.remove("le");
            labels.entry(family.to_owned()).or_default().extend(of_line);
        }
    }
    let line = |(name, kind): (&String, &String)| {
        let labels = labels.get(name).map(|labels| labels.iter().cloned().collect::<Vec<_>>().join(" "));
        format!("{name} {kind} {}", labels.unwrap_or_else(|| panic!("{name} has no samples"))).trim_end().to_owned()
    };
    types.iter().map(line).collect()
}

/// All names that the nodes show together are those of the file.
pub fn are_those_of_the_file(scrapes: &[String]) {
    let all: BTreeSet<String> = scrapes.iter().flat_map(|text| families(text)).collect();
    let found: String = all.iter().map(|line| format!("{line}\n")).collect();
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &found).unwrap();
    }
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == known, "the names of metrics are not those of {FILE} (UPDATE_GOLDEN=1 writes it):\n{found}");
}

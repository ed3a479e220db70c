//! The official clients, unmodified, against a real cluster: `tests/clients/` has a program for each
//! language and the exact versions. Python and Node must be there; Java and Go are skipped, aloud, where
//! their tools are missing.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::fixture::cluster::Cluster;

const RUN_TIMEOUT: Duration = Duration::from_secs(150);
/// What a `setup.sh` ends with when a tool is missing.
const TOOL_MISSING: i32 = 3;

fn tell(text: &str) {
    std::io::stderr().write_all(text.as_bytes()).unwrap();
}

/// Runs a script of a language and returns its exit code and stdout; ends it when it takes too long.
fn run(language: &str, script: &str, args: &[&str], limit: Duration) -> (Option<i32>, String) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(language);
    let out = tempfile::NamedTempFile::new().unwrap();
    let mut command = Command::new(folder.join(script));
    command.args(args).stdin(Stdio::null()).stdout(out.reopen().unwrap());
    let mut child = command.spawn().unwrap();
    let until = Instant::now() + limit;
    let code = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status.code();
        }
        if Instant::now() > until {
            child.kill().unwrap();
            child.wait().unwrap();
            break None;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    (code, std::fs::read_to_string(out.path()).unwrap())
}

fn client(language: &str, is_required: bool) {
    let (code, text) = run(language, "setup.sh", &[], Duration::from_secs(600));
    tell(&text);
    if code == Some(TOOL_MISSING) && !is_required {
        return tell(&format!("SKIPPED: the {language} client: its tools are missing\n"));
    }
    assert_eq!(code, Some(0), "set-up of the {language} client");
    // Half messages nobody ended are asked about soon.
    let cluster = Cluster::start_with(&["transactionTimeOut=1000", "transactionCheckInterval=2000"]);
    let topic = format!("clients-{language}");
    let kinds = [
        ("", "NORMAL"),
        ("-filter", "NORMAL"),
        ("-priority", "PRIORITY"),
        ("-delay", "DELAY"),
        ("-fifo", "FIFO"),
        ("-transaction", "TRANSACTION"),
        ("-dead", "NORMAL"),
    ];
    for (suffix, kind) in kinds {
        cluster.raftmq_ok(&["topic", "create", &format!("{topic}{suffix}"), "--type", kind]);
    }
    cluster.raftmq_ok(&["group", "create", &format!("{language}-dead"), "--retries", "1"]);
    cluster.raftmq_ok(&["group", "create", &format!("{language}-fifo"), "--orderly"]);
    let args = ["--endpoints", &cluster.endpoints(), "--topic", &topic, "--group", language];
    let (code, text) = run(language, "run.sh", &args, RUN_TIMEOUT);
    tell(&text);
    assert_eq!(code, Some(0), "{language}: {text}\n{}", cluster.logs());
    let cases = [
        "producer",
        "simple",
        "change-invisible",
        "push",
        "filter-tag",
        "filter-sql",
        "priority",
        "delay",
        "recall",
        "fifo",
        "transaction",
        "dead-letter",
    ];
    // The published Node client sends a message with a priority as a NORMAL one.
    for case in cases.into_iter().filter(|case| language != "node" || *case != "priority") {
        assert!(text.contains(&format!("PASS {language} {case}")), "{language} {case} is missing: {text}");
    }
}

#[test]
fn python_client() {
    client("python", true);
}

#[test]
fn node_client() {
    client("node", true);
}

#[test]
fn java_client() {
    client("java", false);
}

#[test]
fn go_client() {
    client("go", false);
}

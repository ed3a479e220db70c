//! The official clients, unmodified, against a real cluster: `tests/clients/` has a program for each
//! language and the exact versions. Python and Node must be there; Java and Go are skipped, aloud, where
//! their tools are missing.
//!
//! A client that passes prints nothing: what the programs and their libraries say is kept for a failure.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::fixture::cluster::Cluster;
use crate::fixture::name_server::NameServer;
use crate::fixture::turn;

const SETUP_TIMEOUT: Duration = Duration::from_secs(600);
const RUN_TIMEOUT: Duration = Duration::from_secs(150);
/// What a `setup.sh` ends with when a tool is missing.
const TOOL_MISSING: i32 = 3;

/// Says it at once: the test runner does not capture it.
fn tell(text: &str) {
    std::io::stderr().write_all(text.as_bytes()).unwrap();
}

/// A script that ended, or was ended; then it has no exit code.
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ended {
    /// Everything it said, for a failure.
    fn said(&self) -> String {
        format!("--- stdout\n{}\n--- stderr\n{}", self.stdout, self.stderr)
    }

    /// Panics unless it passed. What it said comes last: the nodes' logs are long, and a CI shows the end.
    fn must_pass(&self, name: &str, cluster: &Cluster) {
        assert!(
            self.code == Some(0),
            "{}\n{}\n{name}: ended with {:?} within {RUN_TIMEOUT:?}",
            cluster.logs(),
            self.said(),
            self.code
        );
    }
}

/// Runs a script of a language; ends it when it takes too long.
fn run(language: &str, script: &str, args: &[&str], limit: Duration) -> Ended {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(language);
    // Files, not pipes: what nobody reads meanwhile must not stop a program that says much.
    let [stdout, stderr] = [(); 2].map(|()| tempfile::NamedTempFile::new().unwrap());
    let mut command = Command::new(folder.join(script));
    command.args(args).stdin(Stdio::null()).stdout(stdout.reopen().unwrap()).stderr(stderr.reopen().unwrap());
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
    let [stdout, stderr] =
        [stdout, stderr].map(|file| String::from_utf8_lossy(&std::fs::read(file.path()).unwrap()).into_owned());
    Ended { code, stdout, stderr }
}

fn client(language: &str, is_required: bool) {
    let setup = run(language, "setup.sh", &[], SETUP_TIMEOUT);
    // A line when it installed something; else nothing.
    tell(&setup.stdout);
    if setup.code == Some(TOOL_MISSING) && !is_required {
        return tell(&format!("SKIPPED: the {language} client: its tools are missing\n"));
    }
    assert_eq!(setup.code, Some(0), "set-up of the {language} client\n{}", setup.said());
    let _turn = turn::take();
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
    let ended = run(language, "run.sh", &args, RUN_TIMEOUT);
    ended.must_pass(language, &cluster);
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
        let line = format!("PASS {language} {case}");
        assert!(ended.stdout.contains(&line), "{language} {case} is missing\n{}", ended.said());
    }
}

/// A classic client, in each of these versions; each must pass these cases.
fn classic_client(language: &str, versions: &[&str], cases: &[&str]) {
    let setup = run(language, "setup.sh", &[], SETUP_TIMEOUT);
    tell(&setup.stdout);
    if setup.code == Some(TOOL_MISSING) {
        return tell(&format!("SKIPPED: the {language} client: its tools are missing\n"));
    }
    assert_eq!(setup.code, Some(0), "set-up of the {language} client\n{}", setup.said());
    let _turn = turn::take();
    let name_server = NameServer::start();
    // Half messages nobody ended are asked about soon.
    let reports = format!("namesrvAddr={}", name_server.address());
    let cluster = Cluster::start_with(&[&reports, "transactionTimeOut=1000", "transactionCheckInterval=2000"]);
    for (place, version) in versions.iter().enumerate() {
        let name = format!("{language}-{}", version.replace('.', "-"));
        if language == "classic-node" {
            // It does not ask for the default topic: its topics are made before.
            cluster.raftmq_ok(&["topic", "create", &name]);
        }
        // A topic whose first messages are gone: where a new group begins there is what its consumers say.
        let old = format!("{name}-old");
        cluster.raftmq_ok(&["topic", "create", &old, "--queues", "1"]);
        cluster.raftmq_ok(&["produce", &old, "--count", "1"]);
        cluster.raftmq_ok(&["cluster", "trim", "--topic", &old, "--before", "0s", "--yes"]);
        // The first one takes the nodes for name servers, which they are.
        let addresses = if place == 0 { cluster.endpoints() } else { name_server.address() };
        let args = [version, "--endpoints", &addresses, "--topic", &name, "--group", &name];
        let ended = run(language, "run.sh", &args, RUN_TIMEOUT);
        ended.must_pass(&name, &cluster);
        for case in cases {
            let line = format!("PASS {language} {case}");
            assert!(ended.stdout.contains(&line), "{name} {case} is missing\n{}", ended.said());
        }
    }
}

#[test]
fn classic_java_client() {
    let cases = [
        "sync",
        "compressed",
        "async",
        "oneway",
        "batch",
        "selector",
        "push",
        "waits",
        "tags",
        "offsets",
        "rebalance",
        "retry",
        "dead-letter",
        "orderly",
        "orderly-rebalance",
        "broadcast",
        "lite-pull",
        "lite-assign",
        "from-first",
        "from-time",
        "from-last",
        "compressions",
        "delay",
        "transaction",
        "check-back",
        "traces",
    ];
    // 5.3.3 is between them and can do no more than 5.5.0; `run.sh 5.3.3` has the program run with it.
    classic_client("classic-java", &["4.9.8", "5.5.0"], &cases);
}

#[test]
fn classic_go_client() {
    let cases =
        ["sync", "compressed", "async", "oneway", "batch", "push", "delay", "tags", "transaction", "check-back"];
    classic_client("classic-go", &["2.1.2"], &cases);
}

#[test]
fn classic_python_client() {
    let cases = ["sync", "compressed", "oneway", "batch", "selector", "push", "delay"];
    classic_client("classic-python", &["0.4.4"], &cases);
}

#[test]
fn classic_node_client() {
    classic_client("classic-node", &["3.12.0"], &["sync", "compressed", "push", "tags", "delay"]);
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

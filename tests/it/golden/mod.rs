//! Golden scripts: commands in, outcomes and state out. `UPDATE_GOLDEN=1` rewrites what is expected;
//! the diff is read in review.
//!
//! A script is read line by line: a command, and below it, indented, what it prints. Lines with `#` are comments, and a
//! blank line means nothing. The commands are in `script`.

mod script;
mod show;

use std::fmt::Write;
use std::path::PathBuf;

use raftmq::machine::command::{Ack, Command};
use raftmq::machine::outcome::Outcome;
use raftmq::model::{GroupId, HandleKey, LeaseId, QueueId, QueueOffset, ReceiptHandle, TopicId};

use crate::fixture::machine::{Machine, content};
use script::Script;

/// What a command printed is indented by this; nothing else of a script is.
const INDENT: &str = "    ";

/// Runs a script; the same text with what its commands print now.
fn replay(text: &str) -> String {
    let mut script = Script::default();
    let mut out = String::new();
    // What was expected is printed anew.
    for line in text.lines().filter(|line| !line.starts_with(INDENT)) {
        writeln!(out, "{line}").unwrap();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut printed = String::new();
        script.run(line, &mut printed);
        for line in printed.lines() {
            writeln!(out, "{INDENT}{line}").unwrap();
        }
    }
    // Another replica, which applies the same log from its beginning, arrives at the same state (P15).
    let state = |machine: &Machine| (machine.view().digest().unwrap(), content(&machine.kv));
    let first = state(&script.machine);
    script.machine.crash();
    assert_eq!(state(&script.machine), first, "P15: another state on another replica");
    out
}

/// The first line in which they differ, by its number, as it is expected and as it is printed.
fn first_difference(expected: &str, printed: &str) -> String {
    let (mut expected, mut printed) = (expected.lines(), printed.lines());
    for number in 1.. {
        let lines = (expected.next(), printed.next());
        if lines.0 != lines.1 || lines == (None, None) {
            let [expected, printed] = [lines.0, lines.1].map(|line| line.unwrap_or("the end of the script"));
            return format!("{number}: expected {expected:?}, printed {printed:?}");
        }
    }
    unreachable!("one of them ends")
}

#[test]
fn golden_scripts() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 8, "the scripts are not where they should be");
    let mut wrong = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap();
        let found = replay(&text);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &found).unwrap();
        } else if found != text {
            wrong.push(format!("{}:{}\n{found}", path.display(), first_difference(&text, &found)));
        }
    }
    assert!(wrong.is_empty(), "UPDATE_GOLDEN=1 rewrites them\n{}", wrong.join("\n"));
}

#[test]
fn the_first_handle_key_of_a_cluster_stays() {
    let mut machine = Machine::default();
    assert_eq!(machine.view().handle_key().unwrap(), None);
    let keys = [1, 2].map(|byte| HandleKey::new([byte; 16]));
    for key in keys {
        let command = Command::SetHandleKey(key);
        assert_eq!(Command::decode(command.encode()), Ok(command.clone()));
        assert_eq!(machine.apply(&command), Outcome::Done);
        assert_eq!(machine.view().handle_key().unwrap(), Some(keys[0]));
    }
}

/// The lease a handle names is of no use for another message.
#[test]
fn a_made_up_handle_settles_nothing() {
    let mut machine = Machine::default();
    let handle = ReceiptHandle {
        group: GroupId(1),
        topic: TopicId(1),
        queue: QueueId(0),
        offset: QueueOffset(0),
        lease: LeaseId(7),
    };
    assert_eq!(machine.apply(&Command::Ack(Ack { handles: vec![handle] })), Outcome::Acked(vec![false]));
}

//! The README's commands, run as they stand against the cluster they start.
//!
//! In a network of its own, because they use the script's ports. What takes minutes runs with smaller numbers, and what a
//! test of its own runs is only looked up: both are listed here, so that a new command is never left out.

use std::path::Path;
use std::process::Command;

use crate::fixture::cluster::BINARY;

/// How a command runs here instead.
const SHORTER: [(&str, &str); 4] = [
    // Beside many other tests a leader is lost for a moment now and then; then the status says so and exits with 5.
    ("scripts/fast-try.sh status", "timeout 20 bash -c 'until scripts/fast-try.sh status; do sleep 0.5; done'"),
    ("raftmq bench send --in-flight 64", "raftmq bench send --in-flight 8 --duration 500ms --warm-up 100ms"),
    (
        "raftmq bench compare '127.0.0.1:8081;127.0.0.1:8082;127.0.0.1:8083' null --pairs 9",
        "raftmq bench compare '127.0.0.1:8081;127.0.0.1:8082;127.0.0.1:8083' null --pairs 1 --duration 300ms --warm-up 100ms",
    ),
    ("scripts/fast-try.sh kill leader", "scripts/fast-try.sh kill leader && scripts/fast-try.sh start"),
];

/// Commands that another test runs.
const RUN_ELSEWHERE: [(&str, &str); 8] = [
    ("raftmq backup", "p2_p7_p12_a_backup_of_a_running_cluster_starts_as_a_group_of_its_own_and_grows"),
    ("raftmq drill restore-backup", "p2_p7_p12_a_backup_of_a_running_cluster_starts_as_a_group_of_its_own_and_grows"),
    ("raftmq drill upgrade", "p22_a_build_that_does_not_know_a_command_is_never_handed_it"),
    ("raftmq drill kill-leader --start", "the_readme_s_script_starts_kills_restarts_and_leaves_nothing"),
    ("raftmq drill kill-leader --rounds 10", "p8_a_lease_in_the_leader_s_memory_is_found"),
    ("raftmq drill quick", "a_quick_drill_keeps_every_promise"),
    // The gate itself.
    ("scripts/test.sh", "readme_commands_run"),
    ("cargo build --profile dist", "readme_commands_run"),
];

/// The commands in code blocks and in the table of the script, in order, without prompt and remark.
fn commands(readme: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut language = None;
    for line in readme.lines() {
        if let Some(of_block) = line.strip_prefix("```") {
            language = if language.is_some() { None } else { Some(of_block.to_owned()) };
            continue;
        }
        let text = match &language {
            Some(language) if language.is_empty() => line.strip_prefix("$ ").unwrap_or(line),
            None if line.starts_with("| `scripts/") => line.split('`').nth(1).unwrap_or_default(),
            _ => continue,
        };
        let text = text.split("    #").next().unwrap_or_default().split("  #").next().unwrap_or_default().trim();
        if text.starts_with("raftmq ") || text.starts_with("scripts/") || text.starts_with("export ") {
            found.push(text.to_owned());
        }
    }
    found
}

#[test]
fn readme_commands_run() {
    let can_isolate = Command::new("unshare").args(["-n", "true"]).output().is_ok_and(|output| output.status.success());
    if !can_isolate {
        return eprintln!("SKIPPED: the README's commands: no network namespace can be made without root");
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let commands = commands(&std::fs::read_to_string(root.join("README.md")).unwrap());
    assert!(commands.len() > 30, "only {} commands found: {commands:?}", commands.len());
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(BINARY, folder.path().join("raftmq")).unwrap();
    let tests: String = ["drill.rs", "cli/session.rs", "cluster/backup.rs", "cluster/upgrade.rs", "readme.rs"]
        .map(|file| std::fs::read_to_string(root.join("tests/it").join(file)).unwrap())
        .concat();
    let mut script = String::from("ip link set lo up\ntrap 'scripts/fast-try.sh stop >/dev/null 2>&1' EXIT\n");
    let (mut at_last, mut has_stopped) = (Vec::new(), false);
    for command in &commands {
        if let Some((_, test)) = RUN_ELSEWHERE.iter().find(|(start, _)| command.starts_with(start)) {
            assert!(tests.contains(&format!("fn {test}()")), "{command}: there is no test {test}");
            continue;
        }
        let shorter = SHORTER.iter().find(|(long, _)| long == command).map_or(command.as_str(), |(_, short)| short);
        // The table of the script stands before the session that needs its cluster.
        if shorter.ends_with(" stop") || shorter.ends_with(" clean") {
            at_last.push(shorter);
            has_stopped = true;
            continue;
        }
        script.push_str(&format!("echo '+' {}\n{shorter} || exit 9\n", quoted(command)));
    }
    assert!(has_stopped, "the README says how to stop");
    for command in at_last {
        script.push_str(&format!("echo '+' {}\n{command} || exit 9\n", quoted(command)));
    }
    script.push_str("echo all done\n");
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let output = Command::new("unshare")
        .args(["-n", "bash", "-c", &script])
        .current_dir(root)
        .env("PATH", path)
        .env("HOME", folder.path())
        .env("RAFTMQ_DATA", folder.path().join("data"))
        .env("RAFTMQ_BIN", BINARY)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.ends_with("all done\n"), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
}

/// In single quotes for a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
